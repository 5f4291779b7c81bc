//! Open disks.

use crate::task::TaskId;
use palisade_reconcile::SuperblockState;
use palisade_words::{DeviceIndex, ReactorIndex};
use std::collections::{BTreeMap, BTreeSet};

/// An open disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DiskState {
    /// The number of its device on all reactors.
    pub index: DeviceIndex,
    /// Reactors on which its operations are past their deadline.
    pub stalled_on: BTreeSet<ReactorIndex>,
    /// Reactors that give it nothing more, since it has refused this node.
    pub fenced_on: BTreeSet<ReactorIndex>,
    /// Reactors that could not take it into use, and why: requests to it fail there.
    pub unusable_on: BTreeMap<ReactorIndex, String>,
    /// What the last look at the superblock has shown that was not believed yet: it is, when it is seen twice.
    pub doubt: Option<SuperblockState>,
    /// What is not as it should be with its superblock, until it was written anew.
    pub superblock_damage: Vec<String>,
    /// Which volumes each side knows, where its medium is an older copy.
    pub sides: Option<String>,
    /// Its device had gone, and another descriptor takes the place of the dead one when all reactors have let go of that.
    pub returning: Option<Returning>,
}

/// A dead device that is being let go for another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Returning {
    /// What the reactors acknowledge.
    pub task: TaskId,
    /// Reactors that have yet to let go of the dead one.
    pub awaited: BTreeSet<ReactorIndex>,
}

/// What a look at a disk's superblock has brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SuperblockLook {
    /// What it says, as the planner takes it.
    pub superblock: SuperblockState,
    /// What is not as it should be, in words. Empty on a healthy disk.
    pub damage: Vec<String>,
    /// What was not as it should be, in words, and has just been written anew.
    pub mended: Vec<String>,
    /// What is told with the finding, in words: which volumes each side knows of a medium that is an older copy, and what may
    /// be lost of one that has lost an end, and whose the superblock is on a disk that is given whole.
    pub sides: Option<String>,
}
