//! The cluster database as one file, to keep elsewhere and to restore from.
//!
//! ```text
//!   palisade state backup, format 2, CRC-32C 1f3a09c4        of everything that follows
//!   {"taken_unix_s":...,"cluster":{...}}                     the cluster as a whole, with its lineage
//! ```
//!
//! It holds what the disks are called, which volumes lie where, and how they are attached; no data, no token. What was
//! changed after it was taken is not in it: pooled disks that have gone on since are recognised by their lineage, and left
//! alone. A disk given whole carries nothing that tells, and is held until an operator has looked ([`Held`]).

use crate::agreement::Agreement;
use crate::identity::{self, IDENTITY};
use crate::log_file::LogFile;
use crate::record::{Snapshot, crc32c};
use crate::state_file::StateFile;
use crate::store::{self, Store};
use crate::store_error::StoreError;
use crate::unread::unread;
use palisade_model::{BrokenRule, Cluster, Command, Held, Node, check};
use palisade_sys::stable_file;
use palisade_words::{FeatureLevel, Name};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The latest format: nodes say what they are. As much as a backup needs is written, so that programs of before read what
/// they can understand.
const FORMAT: u32 = 2;
const FORMAT_OF_SILENT_NODES: u32 = 1;
const MAGIC: &str = "palisade state backup, format ";
const SUM: &str = ", CRC-32C ";

/// Longest file that is taken for a backup: a cluster with as much of everything as there may be takes half of it.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The mark of a restore that is under way, beside the files that it makes.
const UNFINISHED: &str = "restoring";

/// A backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Backup {
    /// When it was taken, in seconds since 1970.
    pub taken_unix_s: u64,
    /// The cluster.
    pub cluster: Cluster,
}

/// What a restore has brought back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The backup; its cluster as it was restored, which holds clearings and disks.
    pub backup: Backup,
    /// Files of the database that it made.
    pub files: [PathBuf; 2],
}

/// Why a backup cannot be taken, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file system failed.
    #[error("{path} cannot be {tried}: {source}")]
    Io {
        /// On which file or directory.
        path: PathBuf,
        /// What was tried, as "written".
        tried: &'static str,
        /// How.
        source: io::Error,
    },
    /// A backup writes over nothing.
    #[error("{path} is there already, and a backup writes over nothing: name another file, or move it away")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// What was named as a state directory is none.
    #[error("{path} {why}: name the state directory of the daemon (`state_dir` in its configuration)")]
    NoDatabase {
        /// Which.
        path: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// The file is no backup, or a damaged one.
    #[error(
        "{path} is no sound backup of a cluster database: {reason}. Nothing has been changed; take another backup"
    )]
    NotSound {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file was written by a later version.
    #[error(
        "{path} is a backup of a later version: {reason}. Nothing has been changed; restore it with the version that took \
         it, or a later one"
    )]
    TooNew {
        /// Which.
        path: PathBuf,
        /// What says so.
        reason: String,
    },
    /// The cluster in the backup is not in order.
    #[error("the cluster in {path} is not in order: {broken}. Nothing has been changed; take another backup")]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is not.
        #[source]
        broken: BrokenRule,
    },
    /// There is a database in the directory.
    #[error(
        "there is a database already ({path}), and a restore writes over none: move the directory away, or name \
         an empty one"
    )]
    Occupied {
        /// The file that was found.
        path: PathBuf,
    },
    /// The database cannot be read or made.
    #[error("{0}")]
    Store(#[source] Box<StoreError>),
}

impl Backup {
    /// Of a cluster, now. Its tokens are left out: one that is used up would let somebody in again after a restore.
    pub fn of(mut cluster: Cluster) -> Backup {
        cluster.tokens.clear();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Backup {
            taken_unix_s: since.map_or(0, |since| since.as_secs()),
            cluster,
        }
    }

    /// Of the database in a directory that no daemon uses. The directory is left as it is.
    ///
    /// # Errors
    /// [`BackupError::NoDatabase`]; [`BackupError::Store`]: it is in use, or not in order.
    pub fn of_directory(directory: &Path) -> Result<Backup, BackupError> {
        let none = |why| BackupError::NoDatabase {
            path: directory.into(),
            why,
        };
        match fs::metadata(directory) {
            Ok(about) if about.is_dir() => {}
            Ok(_) => return Err(none("is no directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none("is not there")),
            Err(error) => return Err(io_on(directory, "looked at")(error)),
        }
        let (log, state) = (directory.join("log.redb"), directory.join("state.redb"));
        if !log.exists() {
            // The lock remembers a database that has vanished, which the store tells of.
            if !state.exists() && !directory.join("lock").exists() {
                return Err(none("holds no cluster database"));
            }
            let missing = StoreError::Missing { path: log };
            return Err(BackupError::Store(Box::new(missing)));
        }
        let store = Store::open(directory).map_err(|error| BackupError::Store(Box::new(error)))?;
        Ok(Backup::of(Cluster::clone(&store.cluster())))
    }

    /// As text, to keep.
    pub fn to_text(&self) -> String {
        // A cluster has names and numbers only, which JSON always holds.
        let body = serde_json::to_string(self).unwrap_or_default() + "\n";
        format!(
            "{MAGIC}{}{SUM}{:08x}\n{body}",
            self.format(),
            crc32c(body.as_bytes())
        )
    }

    /// The least format that can say this.
    fn format(&self) -> u32 {
        let Cluster {
            feature_level, nodes, ..
        } = &self.cluster;
        let is_silent = |node: &Node| {
            Node {
                revision: node.revision,
                ..Node::of(node.uuid, node.created)
            } == *node
        };
        match *feature_level == FeatureLevel(0) && nodes.values().all(is_silent) {
            true => FORMAT_OF_SILENT_NODES,
            false => FORMAT,
        }
    }

    /// From text; the name is for errors.
    ///
    /// # Errors
    /// [`BackupError::NotSound`], [`BackupError::TooNew`], [`BackupError::Broken`].
    pub fn from_text(text: &str, path: &Path) -> Result<Backup, BackupError> {
        let not_sound = |reason: String| BackupError::NotSound {
            path: path.into(),
            reason,
        };
        let too_new = |reason: String| BackupError::TooNew {
            path: path.into(),
            reason,
        };
        let cut_short = || not_sound("it is cut short".into());
        let Some(rest) = text.strip_prefix(MAGIC) else {
            return Err(match MAGIC.starts_with(text) {
                true if text.is_empty() => not_sound("it is empty".into()),
                true => cut_short(),
                false => not_sound(format!("it does not begin with {MAGIC:?}, as every backup does")),
            });
        };
        let (head, body) = rest.split_once('\n').ok_or_else(cut_short)?;
        let (format, sum) = head.split_once(SUM).ok_or_else(|| {
            not_sound(format!(
                "its first line does not say {SUM:?}, as that of every backup does"
            ))
        })?;
        let known = FORMAT_OF_SILENT_NODES..=FORMAT;
        let is_number = format.bytes().all(|byte| byte.is_ascii_digit()) && !format.is_empty();
        let is_known = format.parse().is_ok_and(|format| known.contains(&format));
        if is_number && !is_known {
            return Err(too_new(format!(
                "it is of format {format}, this program knows formats up to {FORMAT}"
            )));
        }
        if !body.ends_with('\n') {
            return Err(cut_short());
        }
        if !is_known || u32::from_str_radix(sum.trim(), 16) != Ok(crc32c(body.as_bytes())) {
            return Err(not_sound(
                "its checksum is wrong: it was damaged or changed".into(),
            ));
        }
        let written: Value = serde_json::from_str(body).map_err(|error| not_sound(error.to_string()))?;
        let backup = Backup::deserialize(&written)
            // The checksum says that it is as it was written.
            .map_err(|error| {
                too_new(format!(
                    "it is as it was written, and says what cannot be read ({error})"
                ))
            })?;
        // What is not read would be gone after a restore, and nobody would know.
        let read = serde_json::to_value(&backup).map_err(|error| not_sound(error.to_string()))?;
        if let Some(unknown) = unread(&written, &read) {
            return Err(too_new(format!(
                "this program does not know what {unknown} in it is"
            )));
        }
        match check(&backup.cluster) {
            Ok(()) if backup.cluster.is_initialised() => Ok(backup),
            Ok(()) => Err(not_sound("it is of a cluster that was never begun".into())),
            Err(broken) => Err(BackupError::Broken {
                path: path.into(),
                broken,
            }),
        }
    }

    /// Writes it to a file, which is there wholly or not at all, and stable. One that is there is not written over.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), BackupError> {
        write_file(path, &self.to_text())
    }

    /// Reads it from a file.
    ///
    /// # Errors
    /// [`BackupError::Io`], [`BackupError::NotSound`], [`BackupError::TooNew`], [`BackupError::Broken`].
    pub fn read(path: &Path) -> Result<Backup, BackupError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(io_on(path, "read"))?;
        let not_sound = |reason: &str| BackupError::NotSound {
            path: path.into(),
            reason: reason.to_owned(),
        };
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(not_sound("it is longer than any backup"));
        }
        let text = String::from_utf8(bytes).map_err(|_| not_sound("it is no text"))?;
        Backup::from_text(&text, path)
    }

    /// The cluster as a database goes on from it that is made of the backup. Disks without a superblock cannot tell that it is a
    /// copy, so they are held, and nothing on them is cleared before an operator has decided.
    pub fn held(&self) -> Cluster {
        let held = Held {
            taken_unix_s: Some(self.taken_unix_s),
        };
        let commands = [Command::HoldClearings, Command::HoldDisks(held)];
        commands.iter().fold(self.cluster.clone(), |cluster, command| {
            match cluster.apply(command) {
                Ok((next, _)) => next,
                Err(_) => cluster,
            }
        })
    }

    /// The volumes whose clearing is held in [`Backup::held`].
    pub fn held_clearings(&self) -> Vec<Name> {
        let cluster = self.held();
        let volumes = cluster.volumes.iter();
        let held = volumes.filter(|(_, volume)| volume.is_clearing_held());
        held.map(|(name, _)| name.clone()).collect()
    }

    /// The disks that are held there, each with the volumes that lie on it as far as the backup knows.
    pub fn held_disks(&self) -> Vec<(Name, Vec<Name>)> {
        let cluster = self.held();
        let held = cluster.disks.iter().filter(|(_, disk)| disk.held.is_some());
        held.map(|(name, _)| (name.clone(), cluster.volumes_on(name)))
            .collect()
    }

    /// Makes a database of it in a directory that has none, with clearings and disks held ([`Backup::held`]). Cut off
    /// anywhere, it is begun again with the same file.
    ///
    /// # Errors
    /// [`BackupError::Occupied`]: there is a database. Others: it could not be made.
    pub fn restore(mut self, directory: &Path) -> Result<Restored, BackupError> {
        let in_store = |error| BackupError::Store(Box::new(error));
        refuse_no_directory(directory)?;
        store::make_private(directory).map_err(io_on(directory, "made"))?;
        let _lock = store::lock(&directory.join("lock")).map_err(in_store)?;
        let files = files_in(directory);
        let mark = directory.join(UNFINISHED);
        // Made by the restore that was cut off.
        for file in leftovers(directory)? {
            fs::remove_file(&file).map_err(io_on(&file, "removed"))?;
        }
        File::create(&mark)
            .and_then(|file| file.sync_all())
            .map_err(io_on(&mark, "made"))?;
        sync(directory)?;
        self.cluster = self.held();
        let snapshot = Snapshot {
            index: 1,
            cluster: self.cluster.clone(),
        };
        let [log, state] = &files;
        LogFile::create(log, snapshot.index).map_err(in_store)?;
        StateFile::create(state, Some(&snapshot)).map_err(in_store)?;
        // Whoever's directory it was, it is that of what is restored.
        let own = directory.join(IDENTITY);
        identity::remove(directory).map_err(io_on(&own, "removed"))?;
        sync(directory)?;
        fs::remove_file(&mark).map_err(io_on(&mark, "removed"))?;
        sync(directory)?;
        Ok(Restored { backup: self, files })
    }
}

/// Says whether [`Backup::restore`] would make a database in a directory, which is left as it is.
///
/// # Errors
/// Why it would not.
pub fn rehearse_restore(directory: &Path) -> Result<(), BackupError> {
    refuse_no_directory(directory)?;
    // The lock is asked for only where one is: asking makes the file.
    let lock = directory.join("lock");
    if lock.exists() {
        store::lock(&lock).map_err(|error| BackupError::Store(Box::new(error)))?;
    }
    leftovers(directory).map(drop)
}

/// Refuses what is something else than a directory, and what would lie in such a thing.
fn refuse_no_directory(directory: &Path) -> Result<(), BackupError> {
    let there = directory.ancestors().find(|path| path.symlink_metadata().is_ok());
    match there {
        Some(path) if !path.is_dir() => Err(BackupError::NoDatabase {
            path: path.into(),
            why: "is no directory",
        }),
        _ => Ok(()),
    }
}

fn files_in(directory: &Path) -> [PathBuf; 2] {
    ["log.redb", "state.redb"].map(|file| directory.join(file))
}

/// What a restore that was cut off has left in a directory, and the next one begins by removing.
fn leftovers(directory: &Path) -> Result<Vec<PathBuf>, BackupError> {
    // What a voter has promised must not be forgotten: nothing is put back in its place.
    if let Some(path) = store::voter_in(directory) {
        return Err(BackupError::Occupied { path });
    }
    let present: Vec<PathBuf> = files_in(directory)
        .into_iter()
        .filter(|file| file.exists())
        .collect();
    match (present.first(), unfinished(directory)) {
        (Some(path), None) => Err(BackupError::Occupied { path: path.clone() }),
        _ => Ok(present),
    }
}

/// The mark of a restore in a directory that has not come to its end.
pub(crate) fn unfinished(directory: &Path) -> Option<PathBuf> {
    Some(directory.join(UNFINISHED)).filter(|mark| mark.exists())
}

/// Writes a new file, wholly or not at all.
pub fn write_file(path: &Path, text: &str) -> Result<(), BackupError> {
    let exists = || BackupError::Exists { path: path.into() };
    if path.exists() {
        return Err(exists());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // What was asked for is the file, and not what is made beside it on the way.
    stable_file::write_beside(&beside, text.as_bytes()).map_err(io_on(path, "written"))?;
    if path.exists() {
        let _ = fs::remove_file(&beside);
        return Err(exists());
    }
    stable_file::put_in_place(&beside, path).map_err(io_on(path, "written"))
}

fn sync(directory: &Path) -> Result<(), BackupError> {
    File::open(directory)
        .and_then(|folder| folder.sync_all())
        .map_err(io_on(directory, "made stable"))
}

fn io_on(path: &Path, tried: &'static str) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { path, tried, source }
}
