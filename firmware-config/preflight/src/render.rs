//! Findings as text for a terminal.

use std::fmt::Write;

use crate::apply::Applied;
use crate::finding::{PreflightFinding, Severity};
use crate::profile::Profile;

/// What was found, each difference with its reason and its remedy, and a closing line.
pub fn render(profile: &Profile, findings: &[PreflightFinding]) -> String {
    let mut text = format!("profile {}: {}\n", profile.name, profile.about);
    for finding in findings {
        let weight = match finding.severity {
            Severity::Must => "must  ",
            Severity::Should => "should",
        };
        line(
            &mut text,
            &format!(
                "\n{weight}  {}: {}, wanted {}",
                finding.what, finding.found, finding.wanted
            ),
        );
        line(&mut text, &format!("        why:    {}", finding.why));
        line(&mut text, &format!("        remedy: {}", finding.remedy));
        if !finding.apply.is_empty() {
            line(&mut text, "        --apply does this for you");
        }
    }
    let musts = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Must)
        .count();
    // What the daemon cannot do without it says itself when it starts; it may run already.
    let closing = match (findings.len(), musts) {
        (0, _) => "\nthe machine is as the profile wants it".to_owned(),
        (1, 0) => "\n1 difference; this profile does not insist on it".to_owned(),
        (1, _) => "\n1 difference, and this profile insists on it".to_owned(),
        (all, 0) => format!("\n{all} differences; this profile insists on none of them"),
        (all, musts) => format!("\n{all} differences; this profile insists on {musts} of them (must)"),
    };
    line(&mut text, &closing);
    text
}

/// What was set, a line each.
pub fn render_applied(applied: &[Applied]) -> String {
    let mut text = String::new();
    for one in applied {
        let end = match &one.now {
            Ok(_) if one.took() => format!("is {} now", one.wanted),
            Ok(now) => format!("was asked for {} and gave {now}", one.wanted),
            Err(reason) => format!("could not be set to {}: {reason}", one.wanted),
        };
        line(&mut text, &format!("{}: {} {end}", one.check, one.file));
    }
    if applied.is_empty() {
        line(&mut text, "nothing to set while running");
    }
    text
}

fn line(text: &mut String, words: &str) {
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{words}");
}
