//! The files of a voter: its log, its state, and what it remembers of its peers.

use crate::database_file::{DatabaseFile, InDirectory};
use crate::raft::peers::{PEERS_FILE, Peers};
use crate::raft::voter::{self, LOG_FILE, STATE_FILE};
use crate::raft::voter_error::VoterError;
use crate::raft::voter_id::VoterId;
use std::path::Path;

/// The files of a voter, wherever they lie.
#[derive(Clone, Debug)]
pub struct VoterFiles<F> {
    /// What it has promised, and the entries that are not dropped.
    pub log: F,
    /// The cluster as a whole.
    pub state: F,
    /// What its peers have shown, and which of its runs was the latest.
    pub peers: F,
}

impl VoterFiles<InDirectory> {
    /// Under their names in a directory.
    pub fn in_directory(directory: &Path) -> VoterFiles<InDirectory> {
        let [log, state, peers] =
            [LOG_FILE, STATE_FILE, PEERS_FILE].map(|name| InDirectory::at(directory.join(name)));
        VoterFiles { log, state, peers }
    }
}

impl<F: DatabaseFile> VoterFiles<F> {
    /// Makes those of a new voter. The log comes last: a making that was cut off before is begun again.
    ///
    /// # Errors
    /// A voter has been here, or they cannot be written.
    pub fn create(&self, id: VoterId) -> Result<(), VoterError> {
        if !self.log.exists() {
            Peers::create(id, &self.peers)?;
        }
        voter::create(id, &self.log, &self.state)
    }
}
