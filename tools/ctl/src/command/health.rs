//! `palisade health`.

use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, Output};
use palisade_api::{Health, Overall, routes};

/// Shows what is wrong, and fails when something is.
pub fn health(client: &Client, out: Output) -> Result<(), Failure> {
    let value = client.get(routes::HEALTH)?;
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
        out.line(format!("  remedy: {}", finding.remedy))?;
    }
    Ok(())
}
