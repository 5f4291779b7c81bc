//! `palisade state ...`: the cluster database as a file.

use crate::args::State;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, Output};
use palisade_api::{StateBackup, routes};
use palisade_consensus::{Backup, BackupError};
use std::path::Path;

/// Does what the command says.
pub fn run(client: &Client, out: Output, command: State) -> Result<(), Failure> {
    match command {
        State::Backup { file, state_dir } => {
            let backup = match state_dir {
                Some(directory) => Backup::of_directory(&directory).map_err(failed)?,
                None => {
                    let answer: StateBackup = client.typed(&client.get(routes::STATE_BACKUP)?)?;
                    Backup::from_text(&answer.file, &file).map_err(failed)?
                }
            };
            backup.write(&file).map_err(failed)?;
            told(out, &backup, &file, &[])
        }
        State::Restore { file, state_dir } => {
            let backup = Backup::read(&file).map_err(failed)?;
            let restored = backup.restore(&state_dir).map_err(failed)?;
            told(
                out,
                &restored.backup,
                &state_dir,
                &[
                    "Start the daemon on this directory. What was changed after the backup was taken is not in it: disks \
                     that have gone on since are recognised, nothing is written to them, and `palisade disk adopt` shows \
                     what each side knows.",
                ],
            )
        }
    }
}

fn told(out: Output, backup: &Backup, place: &Path, more: &[&str]) -> Result<(), Failure> {
    let cluster = &backup.cluster;
    if out.json {
        let value = serde_json::json!({
            "path": place.display().to_string(),
            "taken_unix_s": backup.taken_unix_s,
            "generation": cluster.generation.0,
            "lineage": cluster.lineage.to_string(),
        });
        return Ok(out.value(&value)?);
    }
    out.facts(vec![
        ("Written to", place.display().to_string()),
        ("Taken", show::moment(backup.taken_unix_s.saturating_mul(1000))),
        ("Cluster", cluster.id.to_string()),
        (
            "Generation",
            format!("{} ({})", cluster.generation, cluster.lineage),
        ),
        (
            "Holds",
            format!(
                "{} disks, {} volumes, {} attachments",
                cluster.disks.len(),
                cluster.volumes.len(),
                cluster.attachments.len()
            ),
        ),
    ])?;
    for line in more {
        out.line(line)?;
    }
    Ok(())
}

fn failed(error: BackupError) -> Failure {
    Failure::State(Box::new(error))
}
