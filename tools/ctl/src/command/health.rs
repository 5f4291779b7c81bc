//! `palisade health`.

use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, Output};
use palisade_api::size::counted;
use palisade_api::{Finding, Health, Overall, routes};

/// Shows what is wrong, and fails when something is.
pub fn health(client: &Client, out: Output) -> Result<(), Failure> {
    let value = client.get(&routes::at_node(routes::HEALTH, routes::SELF))?;
    let health: Health = client.typed(&value)?;
    if out.json {
        out.value(&value)?;
    } else {
        tell(&health, out)?;
    }
    match health.overall {
        Overall::Ok => Ok(()),
        Overall::Degraded | Overall::Failed => Err(Failure::Unwell),
    }
}

fn tell(health: &Health, out: Output) -> std::io::Result<()> {
    out.line(health.sentence())?;
    for finding in &health.findings {
        out.line(format!(
            "\n{} {}: {}",
            show::word(&finding.severity),
            finding.subject,
            finding.message
        ))?;
        if let Some(seen) = seen(finding) {
            out.line(format!("  {seen}"))?;
        }
        out.line(format!("  remedy: {}", finding.remedy))?;
    }
    Ok(())
}

/// How often it was seen by now, where that is counted, and what was seen last.
fn seen(finding: &Finding) -> Option<String> {
    let last = finding.last.as_ref().map(|last| format!("; last: {last}"));
    (finding.count > 1).then(|| {
        format!(
            "seen {}{}",
            counted(finding.count, "time"),
            last.unwrap_or_default()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_api::FindingKind;

    #[test]
    fn how_often_something_was_seen_goes_on_while_its_sentence_stands() {
        let mut finding = Finding::new(
            FindingKind::GuestMemoryLost,
            "attachment/web1",
            "it was not there",
        );
        assert_eq!(seen(&finding), None);
        finding.count = 37;
        assert_eq!(seen(&finding).as_deref(), Some("seen 37 times"));
        finding.last = Some("nor was that".to_owned());
        assert_eq!(
            seen(&finding).as_deref(),
            Some("seen 37 times; last: nor was that")
        );
    }
}
