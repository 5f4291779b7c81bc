//! The list of scenarios, in the order they run. The lab's own check comes first: when it fails, nothing below says
//! anything about our daemon.

mod peer_qsd;

use crate::failure::Outcome;
use crate::lab::{Depth, Lab};

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// The least depth at which it runs.
    pub depth: Depth,
    /// Does it.
    pub run: fn(&Lab) -> Outcome,
}

impl Scenario {
    /// Whether a run of `depth` includes it.
    pub fn runs_at(&self, depth: Depth) -> bool {
        self.depth == Depth::Quick || depth == Depth::Full
    }
}

/// All of them.
pub static ALL: &[Scenario] = &[Scenario {
    name: "peer_qsd",
    about: "the lab itself: a guest works on qemu-storage-daemon, and the lab notices when a block is wrong",
    depth: Depth::Quick,
    run: peer_qsd::run,
}];

/// Says what a scenario does at this moment.
pub fn step(what: impl AsRef<str>) {
    println!("  - {}", what.as_ref());
}
