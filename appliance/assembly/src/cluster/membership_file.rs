//! `membership.json` in the state directory of a node that is one of several: of which cluster it is, and by which id and name. It
//! is written last when a node becomes one, so that what was cut off before leaves a node alone, and read first at each start.

use palisade_sys::stable_file;
use palisade_words::{Name, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The file.
pub const MEMBERSHIP: &str = "membership.json";

const FORMAT: u32 = 1;

/// What stands in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembershipFile {
    format: u32,
    /// The cluster.
    pub cluster: Uuid,
    /// This node.
    pub node: Uuid,
    /// Its name, as it was let in.
    pub name: Name,
    /// Where other nodes were reached when this was written: what counts is what was agreed on, once it is known.
    pub nodes: BTreeMap<Uuid, Vec<SocketAddr>>,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MembershipFileError {
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
    /// It is none.
    #[error("{path} does not say of which cluster this node is ({reason}): bring it back as it was")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl MembershipFile {
    /// Of a node.
    pub fn new(
        cluster: Uuid,
        node: Uuid,
        name: Name,
        nodes: BTreeMap<Uuid, Vec<SocketAddr>>,
    ) -> MembershipFile {
        MembershipFile {
            format: FORMAT,
            cluster,
            node,
            name,
            nodes,
        }
    }

    /// That of a state directory; `None` where the node is alone.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(directory: &Path) -> Result<Option<MembershipFile>, MembershipFileError> {
        let path = directory.join(MEMBERSHIP);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let tried = "read";
                return Err(MembershipFileError::Io { path, tried, source });
            }
        };
        let damaged = |reason: String| MembershipFileError::Damaged {
            path: path.clone(),
            reason,
        };
        let read: MembershipFile = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        match read.format {
            FORMAT => Ok(Some(read)),
            format => Err(damaged(format!(
                "it is of format {format}, and this program knows format {FORMAT}"
            ))),
        }
    }

    /// Writes it; stable when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), MembershipFileError> {
        let path = directory.join(MEMBERSHIP);
        let failed = |source| MembershipFileError::Io {
            path: path.clone(),
            tried: "written",
            source,
        };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        stable_file::replace(&path, &directory.join("membership.json.new"), &text).map_err(failed)
    }
}
