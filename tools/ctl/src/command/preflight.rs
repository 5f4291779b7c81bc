//! `palisade preflight`: this machine beside a profile. It needs no daemon.

use crate::args::Preflight;
use crate::failure::Failure;
use crate::show::Output;
use palisade_preflight::{
    Applied, CpuSet, Machine, PreflightFinding, Profile, Severity, apply, preflight, render, render_applied,
};
use std::path::Path;

/// Shows each difference; with `--apply` sets what it may first. Fails while something is missing that must be there.
pub fn preflight_command(out: Output, args: &Preflight) -> Result<(), Failure> {
    let root = Path::new("/");
    let machine = Machine::here();
    let cores = args.cores.clone().unwrap_or_default();
    refuse_absent(&cores, machine.online.as_ref())?;
    let profile = Profile::named(&args.profile)
        .map_err(|error| Failure::Profile {
            name: args.profile.clone(),
            why: error.to_string(),
        })?
        .for_reactors(cores.iter());
    let mut findings = preflight(&profile, &machine);
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

/// Refuses cores that are not there: whatever was said of them would be about another machine.
fn refuse_absent(cores: &CpuSet, online: Option<&CpuSet>) -> Result<(), Failure> {
    let Some(online) = online else { return Ok(()) };
    let absent = cores.without(online);
    match absent.is_empty() {
        true => Ok(()),
        false => Err(Failure::Words {
            what: format!("this machine has no core {absent}, or it is offline: its cores are {online}"),
            remedy: "name cores that are there with --cores (lscpu shows them)",
        }),
    }
}

fn show(
    out: Output,
    profile: &Profile,
    applied: Option<&[Applied]>,
    findings: &[PreflightFinding],
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
