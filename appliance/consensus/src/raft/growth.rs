//! The database of a single node becomes what the first voter of a cluster has (issue 10, rule 9).
//!
//! ```text
//!   log.redb, state.redb           a single node
//!     voter-peers.json, voter-state.redb        all that was agreed on; nobody takes them for anything yet
//!     voter.json                                the mark: from here on the single database is opened by nobody
//!     voter-log.redb                            from here on there is a voter
//!     single-log.redb, single-state.redb        the old files, under names that no version opens
//! ```
//!
//! Each step is on stable storage before the next begins, and leaves what can be gone on from: before the mark a single node that
//! starts again finds its database as it was; behind it [`finish`] does what is left. The entry that the voter begins with has the
//! number of the last command of the single node, in term 0, in which nobody was elected.

use crate::database_file::DatabaseFile;
use crate::places::{LOG, STATE};
use crate::raft::files::VoterFiles;
use crate::raft::log_database::LogDatabase;
use crate::raft::peers;
use crate::raft::record::{AppliedRecord, MembersRecord, PlaceRecord, StateRecord};
use crate::raft::state_database::StateDatabase;
use crate::raft::voter_error::VoterError;
use crate::raft::voter_id::VoterId;
use crate::record::digest;
use crate::store::{GROWN, Store};
use crate::store_error::StoreError;
use palisade_model::Cluster;
use palisade_sys::stable_file;
use palisade_words::{Incarnation, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The format of the mark.
const FORMAT: u32 = 1;

/// What the old files are called afterwards.
const OLD_FILES: [(&str, &str); 2] = [(LOG, "single-log.redb"), (STATE, "single-state.redb")];

/// What stands in the mark.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    format: u32,
    /// The node that the voter is.
    node: Uuid,
}

/// Why the database of a single node does not become a voter's. Nothing of it is lost, and the same may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum GrowthError {
    /// The database of the single node cannot be used.
    #[error("{0}")]
    Single(#[source] Box<StoreError>),
    /// The files of the voter cannot be used.
    #[error("{0}")]
    Voter(#[from] VoterError),
    /// A file cannot be written or renamed.
    #[error("{path} cannot be {tried}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        tried: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The database does not know the node.
    #[error(
        "the database in {path} is of a cluster without node {node}: a voter of that name would vote in it for nobody"
    )]
    Stranger {
        /// The directory.
        path: PathBuf,
        /// The node.
        node: VoterId,
    },
    /// Another node has begun to become a voter here.
    #[error(
        "{path} says that node {found} is the voter of this directory, and this is node {node}. Nothing has been changed; bring \
             back the identity of that node, or name the directory of this one"
    )]
    OtherNode {
        /// The mark.
        path: PathBuf,
        /// The node that it names.
        found: Uuid,
        /// The one that asks.
        node: VoterId,
    },
    /// The mark cannot be read.
    #[error("{path} does not say whose voter is here: {why}. Bring it back as it was")]
    Mark {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl From<StoreError> for GrowthError {
    fn from(error: StoreError) -> GrowthError {
        GrowthError::Single(Box::new(error))
    }
}

/// Makes the database of a single node in a directory the files of the first voter, all of it. What was begun and cut off before
/// is gone on with; what is done already is left as it is. The directory must be used by nobody.
///
/// # Errors
/// The database is not in order or not of this node, or a file cannot be written. The same call goes on later.
pub fn grow(directory: &Path, node: VoterId) -> Result<(), GrowthError> {
    for step in STEPS {
        step(directory, node)?;
    }
    Ok(())
}

/// Goes on with what [`grow`] has begun, from its mark on. Without a mark nothing is done.
///
/// # Errors
/// As of [`grow`].
pub(crate) fn finish(directory: &Path, node: VoterId) -> Result<(), GrowthError> {
    match marked(directory)? {
        Some(_) => grow(directory, node),
        None => Ok(()),
    }
}

/// One step: on stable storage when it returns, or done before.
type Step = fn(&Path, VoterId) -> Result<(), GrowthError>;

const STEPS: [Step; 5] = [keep_peers, keep_state, mark, keep_log, put_away];

fn keep_peers(directory: &Path, node: VoterId) -> Result<(), GrowthError> {
    let files = VoterFiles::in_directory(directory);
    if files.log.exists() {
        return Ok(());
    }
    let (_, cluster) = single(directory, node)?;
    let known = cluster
        .node_by_id(node.0)
        .map_or(Incarnation(0), |(_, node)| node.incarnation);
    Ok(peers::replace(node, &files.peers, known)?)
}

fn keep_state(directory: &Path, node: VoterId) -> Result<(), GrowthError> {
    let files = VoterFiles::in_directory(directory);
    if files.log.exists() {
        return Ok(());
    }
    let (place, cluster) = single(directory, node)?;
    let unwritten = |error| VoterError::damaged(files.state.path(), error);
    let digest = digest(&cluster).map_err(unwritten)?;
    let applied = AppliedRecord {
        place,
        generation: cluster.generation,
        lineage: cluster.lineage,
        digest,
    };
    let state = StateRecord {
        place: Some(place),
        members_since: Some(place),
        members: MembersRecord {
            voters: vec![BTreeSet::from([node.0])],
            learners: BTreeSet::new(),
        },
        digest,
        cluster,
    };
    Ok(StateDatabase::create_with(
        &files.state,
        node.0,
        &state,
        Some(&applied),
    )?)
}

fn mark(directory: &Path, node: VoterId) -> Result<(), GrowthError> {
    let path = directory.join(GROWN);
    match marked(directory)? {
        Some(found) if found == node.0 => return Ok(()),
        Some(found) => return Err(GrowthError::OtherNode { path, found, node }),
        None => {}
    }
    let mark = Mark {
        format: FORMAT,
        node: node.0,
    };
    let text = serde_json::to_string(&mark).map_err(io::Error::from);
    let written = text.and_then(|text| {
        stable_file::replace(&path, &path.with_extension("new"), format!("{text}\n").as_bytes())
    });
    written.map_err(io_on(&path, "written"))
}

fn keep_log(directory: &Path, node: VoterId) -> Result<(), GrowthError> {
    let files = VoterFiles::in_directory(directory);
    if files.log.exists() {
        return Ok(());
    }
    let (place, _) = single(directory, node)?;
    Ok(LogDatabase::create_after(&files.log, node.0, Some(place))?)
}

/// The old files get names that no version opens.
pub(crate) fn put_away(directory: &Path, _: VoterId) -> Result<(), GrowthError> {
    for (old, new) in OLD_FILES {
        let (old, new) = (directory.join(old), directory.join(new));
        if old.exists() {
            fs::rename(&old, &new).map_err(io_on(&old, "renamed"))?;
        }
    }
    let synced = File::open(directory).and_then(|folder| folder.sync_all());
    synced.map_err(io_on(directory, "made stable"))
}

/// All that the single node has agreed on with itself, and the number of its last command.
fn single(directory: &Path, node: VoterId) -> Result<(PlaceRecord, Cluster), GrowthError> {
    let store = Store::open_to_grow(directory)?;
    let (index, cluster) = store.reached();
    if cluster.is_initialised() && cluster.node_by_id(node.0).is_none() {
        let path = directory.into();
        return Err(GrowthError::Stranger { path, node });
    }
    Ok((PlaceRecord { term: 0, index }, cluster))
}

/// The node that a mark names, if there is a mark.
fn marked(directory: &Path) -> Result<Option<Uuid>, GrowthError> {
    let path = directory.join(GROWN);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_on(&path, "read")(source)),
    };
    let mark: Result<Mark, _> = serde_json::from_slice(&text);
    let bad = |why: String| GrowthError::Mark {
        path: path.clone(),
        why,
    };
    match mark.map_err(|error| bad(error.to_string()))? {
        Mark { format, .. } if format != FORMAT => Err(bad(format!("its format is {format}"))),
        Mark { node, .. } => Ok(Some(node)),
    }
}

fn io_on(path: &Path, tried: &'static str) -> impl FnOnce(io::Error) -> GrowthError {
    let path = path.to_owned();
    move |source| GrowthError::Io { path, tried, source }
}

#[cfg(test)]
mod tests;
