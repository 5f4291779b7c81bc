//! Which node of the cluster a state directory belongs to.
//!
//! The cluster database says the same on every node, so it cannot say on which one it lies. `identity.json` beside it does: it
//! holds the node's permanent id and nothing that changes. It is made once, before the node comes into a cluster, and is no
//! part of a backup: a restore takes it away, since what is restored decides whose directory it is from then on.

use palisade_model::Cluster;
use palisade_sys::stable_file;
use palisade_words::{Name, Uuid};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The file in the state directory.
pub const IDENTITY: &str = "identity.json";

/// The format that is written, and the latest that is known.
const FORMAT: u32 = 1;

/// More than such a file is long, in bytes.
const BYTES_MAX: u64 = 4096;

/// A node's own id, as its state directory has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeIdentity {
    node: Uuid,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    node: Uuid,
}

/// The part of it that every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Why it is not clear which node this is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("{path} cannot be {tried}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        tried: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// It is not such a file.
    #[error(
        "{path} does not say which node this is: {reason}. Bring it back as it was; in a cluster of one node it may be moved away \
         instead, and is made anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of a later format.
    #[error("{path} is of format {format}, this program knows formats up to {FORMAT}: start a later version")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// There is no file, and several nodes that it could be.
    #[error(
        "{path} is missing, and nothing else says which of the cluster's {nodes} nodes this is: bring it back"
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// How many nodes there are.
        nodes: usize,
    },
    /// The node that it names is none of the cluster's.
    #[error(
        "{path} says that this is node {node}, and the database beside it is of a cluster without that node: its nodes are \
         {known}. Bring back this node's own database. Only if this machine is to be the node of the database from now on, and \
         nothing runs as that node elsewhere, move {path} away"
    )]
    Stranger {
        /// The file.
        path: PathBuf,
        /// The node that it names.
        node: Uuid,
        /// The nodes of the cluster, by name and id.
        known: String,
    },
}

impl NodeIdentity {
    /// The identity of a state directory whose database has been opened and says `cluster`. One that has none gets that of the
    /// cluster's only node, as directories of versions before 2026-12 have to; before there is a cluster, a new one. Stable
    /// when this returns.
    ///
    /// # Errors
    /// It is not clear which node this is; nothing has been changed.
    pub fn of(
        directory: &Path,
        cluster: &Cluster,
        fresh: impl FnOnce() -> Uuid,
    ) -> Result<NodeIdentity, IdentityError> {
        let path = directory.join(IDENTITY);
        if let Some(identity) = read(&path)? {
            return match identity.name_in(cluster).is_some() || !cluster.is_initialised() {
                true => Ok(identity),
                false => Err(IdentityError::Stranger {
                    path,
                    node: identity.node,
                    known: known(cluster),
                }),
            };
        }
        let mut nodes = cluster.nodes.values();
        let node = match (nodes.next(), nodes.next()) {
            (None, _) => fresh(),
            (Some(only), None) => only.uuid,
            (Some(_), Some(_)) => {
                let nodes = cluster.nodes.len();
                return Err(IdentityError::Missing { path, nodes });
            }
        };
        write(&path, node)?;
        Ok(NodeIdentity { node })
    }

    /// The node's permanent id.
    pub fn node(&self) -> Uuid {
        self.node
    }

    /// What the cluster calls it, if it is in the cluster.
    pub fn name_in<'a>(&self, cluster: &'a Cluster) -> Option<&'a Name> {
        let mut nodes = cluster.nodes.iter();
        nodes
            .find(|(_, node)| node.uuid == self.node)
            .map(|(name, _)| name)
    }
}

/// Takes the identity of a directory away, if it has one: another database will say whose it is.
///
/// # Errors
/// What the file system says.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(IDENTITY)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Option<NodeIdentity>, IdentityError> {
    let io_error = |source| IdentityError::Io {
        path: path.into(),
        tried: "read",
        source,
    };
    let damaged = |reason: String| IdentityError::Damaged {
        path: path.into(),
        reason,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
        // To open a FIFO waits for its other end.
        Ok(about) if !about.is_file() => return Err(damaged("it is no file".into())),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io_error)?;
    file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(io_error)?;
    // Whose fields this version does not know is told apart from what is damaged.
    if let Ok(Format { format }) = serde_json::from_slice(&bytes)
        && format > FORMAT
    {
        return Err(IdentityError::TooNew {
            path: path.into(),
            format,
        });
    }
    let written: Written = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if written.format != FORMAT || written.node.is_nil() {
        return Err(damaged(format!(
            "format {}, node {}",
            written.format, written.node
        )));
    }
    Ok(Some(NodeIdentity { node: written.node }))
}

/// Written beside it and renamed, so that a crash leaves a whole one or none.
fn write(path: &Path, node: Uuid) -> Result<(), IdentityError> {
    let io_error = |source| IdentityError::Io {
        path: path.into(),
        tried: "written",
        source,
    };
    let text = serde_json::to_string(&Written { format: FORMAT, node });
    let text = text.map_err(|error| io_error(io::Error::other(error)))?;
    let beside = path.with_extension("new");
    stable_file::replace(path, &beside, format!("{text}\n").as_bytes()).map_err(io_error)
}

/// The nodes of a cluster in words.
fn known(cluster: &Cluster) -> String {
    let nodes = cluster.nodes.iter();
    let words: Vec<String> = nodes
        .map(|(name, node)| format!("{name} ({})", node.uuid))
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests;
