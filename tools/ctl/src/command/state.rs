//! `palisade state ...`: the cluster database as a file.

use crate::args::State;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, Output};
use palisade_api::{StateBackup, routes, size};
use palisade_consensus::{Backup, BackupError, Difference, StoreError, cluster_of, rehearse_restore};
use palisade_model::Cluster;
use std::iter;
use std::path::Path;

/// Does what the command says.
pub fn run(client: &Client, out: Output, command: State) -> Result<(), Failure> {
    match command {
        State::Backup { file, state_dir } => {
            let backup = match state_dir {
                Some(directory) => Backup::of_directory(&directory).map_err(|error| Failure::State {
                    remedy: is_in_use(&error).then(|| {
                        "leave --state-dir out: the daemon that runs gives its backup itself".into()
                    }),
                    error: Box::new(error),
                })?,
                None => {
                    let answer: StateBackup =
                        client.typed(&client.get(&routes::at_node(routes::STATE_BACKUP, routes::SELF))?)?;
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
        } => rehearse(client, out, &file, &state_dir),
        State::Restore { file, state_dir, .. } => {
            let backup = Backup::read(&file).map_err(failed)?;
            let restored = backup
                .restore(&state_dir)
                .map_err(|error| refused(error, &state_dir))?;
            let start = "Start the daemon on this directory. What was changed after the backup was taken is not in it: pooled \
                         disks that have gone on since are recognised, nothing is written to them, and `palisade disk \
                         adopt` shows what each side knows.";
            let token = note_of_token(&state_dir);
            let held = held_back(&restored.backup);
            let more = token.iter().chain(held.iter()).map(String::as_str);
            let lines: Vec<&str> = iter::once(start).chain(more).collect();
            told(out, &restored.backup, &state_dir, &lines)
        }
    }
}

/// What becomes of the token of REST, which is no part of a backup.
fn note_of_token(state_dir: &Path) -> Option<String> {
    let token = state_dir.join("admin.token");
    (!token.exists()).then(|| {
        format!(
            "The token of REST is not in a backup: unless admin.token_file names one elsewhere, the daemon makes a new one at its \
             start, in {}. Give that to clients that ask over TCP: they are refused with the one of before. Or put a copy of \
             that one there first, owned by root, mode 0600.",
            token.display()
        )
    })
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
        "held_clearings": backup.held_clearings(),
        "held_disks": backup.held_disks().into_iter().map(|(disk, _)| disk).collect::<Vec<_>>(),
    })
}

/// What waits, once restored, for a decision.
fn held_back(backup: &Backup) -> Vec<String> {
    held_disks(backup)
        .into_iter()
        .chain(held_clearings(backup))
        .collect()
}

/// Which disks are not opened, once restored, before somebody has decided.
fn held_disks(backup: &Backup) -> Option<String> {
    let disks: Vec<String> = backup
        .held_disks()
        .into_iter()
        .map(|(disk, volumes)| {
            let volumes: Vec<String> = volumes.iter().map(ToString::to_string).collect();
            match volumes.is_empty() {
                true => format!("{disk} (no volume)"),
                false => format!("{disk} ({})", volumes.join(", ")),
            }
        })
        .collect();
    (!disks.is_empty()).then(|| {
        format!(
            "Held: disks that were given whole, each with the volumes that the backup has on it: {}. Such a disk keeps no record, \
             so nothing tells whether it was given to somebody else since the backup was taken. None of them is opened and no \
             guest is served from it before you have decided for each: if the volumes of the backup are those of today, \
             `palisade disk confirm ID --yes`; if not, take them off it first (`palisade attachment delete ID`, `palisade volume \
             delete ID --no-clear`), create those of today with what lies there (`palisade volume create ID SIZE --disk ID --clear \
             never`), and confirm it then. A volume that is created without that is cleared before a guest sees it.",
            disks.join(", ")
        )
    })
}

/// Which volumes are not cleared, once restored, before somebody has decided.
fn held_clearings(backup: &Backup) -> Option<String> {
    let names: Vec<String> = backup.held_clearings().iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| {
        format!(
            "Held: the clearing of {}. When the backup was taken, their space on disks that were given whole was still to be \
             cleared; since then it may have been, and guests may have written there, which such a disk keeps no record of. So \
             nothing of them is cleared or served before you have decided for each: `palisade volume set ID --clear never` keeps \
             what lies there as the volume's data, `palisade volume set ID --clear-held` zeroes it. One that is being deleted is \
             let go with what lies there by `palisade volume delete ID --no-clear`.",
            names.join(", ")
        )
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

/// What there is where a restore is to go.
enum Present {
    /// No database, and nothing that tells of one.
    Nothing,
    /// No database; there was one of this cluster.
    Vanished(String),
    /// A database that nobody uses.
    Database(Box<Backup>),
    /// One that cannot be read.
    Unreadable(String),
    /// One that a daemon uses: who, of which cluster, and what is in it where that daemon is the one that is asked.
    InUse {
        holder: String,
        cluster: Option<String>,
        backup: Option<Box<Backup>>,
    },
}

impl Present {
    fn of(client: &Client, state_dir: &Path, verdict: &Result<(), BackupError>) -> Present {
        let cluster = cluster_of(state_dir);
        match verdict {
            Err(BackupError::Occupied { .. }) => match Backup::of_directory(state_dir) {
                Ok(backup) => Present::Database(Box::new(backup)),
                Err(error) => Present::Unreadable(error.to_string()),
            },
            Err(BackupError::Store(error)) => match &**error {
                StoreError::InUse { holder, .. } => Present::InUse {
                    holder: holder
                        .clone()
                        .unwrap_or_else(|| "a process that is not to be seen".into()),
                    backup: cluster.as_ref().and_then(|id| running(client, id)).map(Box::new),
                    cluster,
                },
                other => Present::Unreadable(other.to_string()),
            },
            _ => cluster.map_or(Present::Nothing, Present::Vanished),
        }
    }

    fn backup(&self) -> Option<&Backup> {
        match self {
            Present::Database(backup) => Some(backup),
            Present::InUse { backup, .. } => backup.as_deref(),
            Present::Nothing | Present::Vanished(_) | Present::Unreadable(_) => None,
        }
    }

    /// In words, beside what would be restored.
    fn told(&self, restored: &Cluster) -> String {
        let whose = |id: &str| match *id == restored.id.to_string() {
            true => "the same cluster",
            false => "another cluster",
        };
        let known = |present: &Cluster| {
            let (id, generation, lineage) = (present.id, present.generation, present.lineage);
            format!(
                "{}, {id}, generation {generation} ({lineage})",
                whose(&id.to_string())
            )
        };
        match self {
            Present::Nothing => "no database".to_owned(),
            Present::Vanished(id) => format!("no database; there was one of {}, {id}", whose(id)),
            Present::Database(present) => known(&present.cluster),
            Present::Unreadable(why) => format!("a database that cannot be read: {why}"),
            Present::InUse {
                holder,
                cluster,
                backup,
            } => {
                let what = match (backup, cluster) {
                    (Some(backup), _) => known(&backup.cluster),
                    (None, Some(id)) => format!("{}, {id}", whose(id)),
                    (None, None) => "a database".to_owned(),
                };
                format!("{what}; in use by a daemon that runs ({holder})")
            }
        }
    }
}

/// What the daemon that is asked has, if it is the one with the database of this cluster.
fn running(client: &Client, cluster: &str) -> Option<Backup> {
    let answer: StateBackup = client
        .typed(
            &client
                .get(&routes::at_node(routes::STATE_BACKUP, routes::SELF))
                .ok()?,
        )
        .ok()?;
    let backup = Backup::from_text(&answer.file, Path::new("what the daemon gave")).ok()?;
    Some(backup).filter(|backup| backup.cluster.id.to_string() == cluster)
}

/// Shows what a restore would bring, beside what is there, and ends as it would. Nothing is changed.
fn rehearse(client: &Client, out: Output, file: &Path, state_dir: &Path) -> Result<(), Failure> {
    let backup = Backup::read(file).map_err(failed)?;
    let verdict = rehearse_restore(state_dir);
    let present = Present::of(client, state_dir, &verdict);
    let verdict = verdict.map_err(|error| refused(error, state_dir));
    let difference = present
        .backup()
        .map(|there| Difference::between(&backup.cluster, &there.cluster));
    if out.json {
        let mut value = as_value(&backup, state_dir);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("there_now".to_owned(), present.told(&backup.cluster).into());
            if let Some(difference) = &difference {
                fields.insert(
                    "difference".to_owned(),
                    serde_json::json!({
                        "only_in_backup": difference.only_in_backup,
                        "only_in_database": difference.only_in_database,
                        "changed": difference.changed,
                    }),
                );
            }
        }
        out.value(&value)?;
        return verdict;
    }
    let mut facts = vec![
        ("Would be written to", state_dir.display().to_string()),
        ("There now", present.told(&backup.cluster)),
    ];
    facts.extend(held(&backup));
    if let Some(difference) = &difference {
        facts.push(("Only in the file", show::list(&difference.only_in_backup)));
        facts.push(("Only there now", show::list(&difference.only_in_database)));
        facts.push(("In both, changed", show::list(&difference.changed)));
    }
    out.facts(facts)?;
    for held in held_back(&backup) {
        out.line(&held)?;
    }
    out.line("Nothing was changed.")?;
    verdict
}

fn is_in_use(error: &BackupError) -> bool {
    matches!(error, BackupError::Store(error) if matches!(**error, StoreError::InUse { .. }))
}

/// Of a restore that cannot be; what to do so that it can, and nothing is lost.
fn refused(error: BackupError, state_dir: &Path) -> Failure {
    let remedy = is_in_use(&error).then(|| {
        format!(
            "the daemon has to be stopped before (systemctl stop palisaded), and its database stays what it is: keep it by moving \
             {} elsewhere, restore, and start the daemon again",
            state_dir.display()
        )
    });
    Failure::State {
        error: Box::new(error),
        remedy,
    }
}

fn failed(error: BackupError) -> Failure {
    Failure::State {
        error: Box::new(error),
        remedy: None,
    }
}
