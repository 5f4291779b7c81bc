//! What has gone wrong between voters, counted; the latest of each kind in a sentence for an operator.

use crate::raft::voter_id::VoterId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How often something went wrong with a voter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FrameCounts {
    /// Frames that could not be read, or said what is not true: damaged, of another version, of another cluster, or claiming
    /// to be another's.
    pub bad_frames: u64,
    /// Questions that were not answered in time; each has cost a connection.
    pub timed_out: u64,
    /// What did not count, because the voter showed less than before.
    pub not_counted: u64,
    /// What it has refused of this node, because this node showed less than before.
    pub refused: u64,
    /// Connections that were refused because there were too many.
    pub too_many: u64,
    /// Why the latest of these was.
    pub latest: Option<String>,
}

/// The counts of all voters. Its clones are the same counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<VoterId, FrameCounts>>>);

impl Counts {
    pub(crate) fn of(&self, voter: VoterId) -> FrameCounts {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&voter).cloned().unwrap_or_default()
    }

    pub(crate) fn bad_frame(&self, voter: VoterId, why: String) {
        self.note(voter, why, |counts| &mut counts.bad_frames);
    }

    pub(crate) fn timed_out(&self, voter: VoterId, why: String) {
        self.note(voter, why, |counts| &mut counts.timed_out);
    }

    pub(crate) fn not_counted(&self, voter: VoterId, why: String) {
        self.note(voter, why, |counts| &mut counts.not_counted);
    }

    pub(crate) fn refused(&self, voter: VoterId, why: String) {
        self.note(voter, why, |counts| &mut counts.refused);
    }

    pub(crate) fn too_many(&self, voter: VoterId, why: String) {
        self.note(voter, why, |counts| &mut counts.too_many);
    }

    /// A line goes to the log for the first of a kind, and for each that doubles their number: a peer must not fill it.
    fn note(&self, voter: VoterId, why: String, of: impl Fn(&mut FrameCounts) -> &mut u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = all.entry(voter).or_default();
        let count = of(counts);
        *count += 1;
        if count.is_power_of_two() {
            log::warn!("agreement: node={voter} times={count}: {why}");
        }
        counts.latest = Some(why);
    }
}
