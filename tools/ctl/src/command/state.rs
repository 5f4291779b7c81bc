//! `palisade state ...`: the cluster database as a file.

use crate::args::State;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, Output};
use palisade_api::{StateBackup, routes, size};
use palisade_consensus::{Backup, BackupError, Difference, rehearse_restore};
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
        State::Restore {
            file,
            state_dir,
            dry_run: true,
        } => rehearse(out, &file, &state_dir),
        State::Restore { file, state_dir, .. } => {
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
    if out.json {
        return Ok(out.value(&as_value(backup, place))?);
    }
    let mut facts = vec![("Written to", place.display().to_string())];
    facts.extend(held(backup));
    out.facts(facts)?;
    for line in more {
        out.line(line)?;
    }
    Ok(())
}

fn as_value(backup: &Backup, place: &Path) -> serde_json::Value {
    serde_json::json!({
        "path": place.display().to_string(),
        "taken_unix_s": backup.taken_unix_s,
        "generation": backup.cluster.generation.0,
        "lineage": backup.cluster.lineage.to_string(),
    })
}

/// What a backup holds.
fn held(backup: &Backup) -> Vec<(&'static str, String)> {
    let cluster = &backup.cluster;
    let counted = |number: usize, one: &str| size::counted(number as u64, one);
    vec![
        ("Taken", show::moment(backup.taken_unix_s.saturating_mul(1000))),
        ("Cluster", cluster.id.to_string()),
        (
            "Generation",
            format!("{} ({})", cluster.generation, cluster.lineage),
        ),
        (
            "Holds",
            format!(
                "{}, {}, {}",
                counted(cluster.disks.len(), "disk"),
                counted(cluster.volumes.len(), "volume"),
                counted(cluster.attachments.len(), "attachment")
            ),
        ),
    ]
}

/// Shows what a restore would bring, beside what is there, and ends as it would. Nothing is changed.
fn rehearse(out: Output, file: &Path, state_dir: &Path) -> Result<(), Failure> {
    let backup = Backup::read(file).map_err(failed)?;
    let verdict = rehearse_restore(state_dir);
    let present = match &verdict {
        Err(BackupError::Occupied { .. }) => Some(Backup::of_directory(state_dir)),
        _ => None,
    };
    let difference = match &present {
        Some(Ok(present)) => Some(Difference::between(&backup.cluster, &present.cluster)),
        _ => None,
    };
    if out.json {
        let mut value = as_value(&backup, state_dir);
        if let (Some(fields), Some(difference)) = (value.as_object_mut(), &difference) {
            fields.insert(
                "difference".to_owned(),
                serde_json::json!({
                    "only_in_backup": difference.only_in_backup,
                    "only_in_database": difference.only_in_database,
                    "changed": difference.changed,
                }),
            );
        }
        out.value(&value)?;
        return verdict.map_err(failed);
    }
    let mut facts = vec![("Would be written to", state_dir.display().to_string())];
    facts.extend(held(&backup));
    match (&present, &difference) {
        (Some(Ok(present)), Some(difference)) => {
            let cluster = &present.cluster;
            let is_same = match cluster.id == backup.cluster.id {
                true => "the same cluster",
                false => "another cluster",
            };
            let (id, generation, lineage) = (cluster.id, cluster.generation, cluster.lineage);
            let now = format!("{is_same}, {id}, generation {generation} ({lineage})");
            facts.push(("There now", now));
            facts.push(("Only in the file", show::list(&difference.only_in_backup)));
            facts.push(("Only there now", show::list(&difference.only_in_database)));
            facts.push(("In both, changed", show::list(&difference.changed)));
        }
        (Some(Err(error)), _) => {
            facts.push(("There now", format!("a database that cannot be read: {error}")))
        }
        _ => facts.push(("There now", "no database".to_owned())),
    }
    out.facts(facts)?;
    verdict.map_err(failed)?;
    Ok(out.line("Nothing was changed.")?)
}

fn failed(error: BackupError) -> Failure {
    Failure::State(Box::new(error))
}
