//! `palisade preflight`: this machine beside a profile. It needs no daemon.

use crate::args::Preflight;
use crate::failure::Failure;
use crate::show::Output;
use palisade_preflight::{
    Applied, Finding, Machine, Profile, Severity, apply, preflight, render, render_applied,
};
use std::path::Path;

/// Shows each difference; with `--apply` sets what it may first. Fails while something is missing that must be there.
pub fn preflight_command(out: Output, args: &Preflight) -> Result<(), Failure> {
    let root = Path::new("/");
    let profile = Profile::named(&args.profile)
        .map_err(|error| Failure::Profile {
            name: args.profile.clone(),
            why: error.to_string(),
        })?
        .for_reactors(args.cores.iter().copied());
    let mut findings = preflight(&profile, &Machine::here());
    let applied = match args.apply {
        true => {
            let applied = apply(&findings, root);
            findings = preflight(&profile, &Machine::here());
            Some(applied)
        }
        false => None,
    };
    show(out, &profile, applied.as_deref(), &findings)?;
    match findings.iter().any(|finding| finding.severity == Severity::Must) {
        true => Err(Failure::Unwell),
        false => Ok(()),
    }
}

fn show(
    out: Output,
    profile: &Profile,
    applied: Option<&[Applied]>,
    findings: &[Finding],
) -> std::io::Result<()> {
    if out.json {
        return out.value(&serde_json::json!({
            "profile": profile.name,
            "applied": applied,
            "findings": findings,
        }));
    }
    if let Some(applied) = applied {
        out.line(render_applied(applied))?;
    }
    out.line(render(profile, findings).trim_end())
}
