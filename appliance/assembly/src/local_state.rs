//! The state of this node behind one lock ([`lock`]): what its control machine knows, and what has been opened and begun for it.
//!
//! The lock is held for moments only, never while anything waits: slow work (opening a disk, writing a superblock, asking the
//! door) is done on threads of its own, which come back with a message. Who only looks does not depend on that.

pub mod lock;

use crate::clearing::ClearProgress;
use crate::effects::acknowledgements::Acknowledgements;
use crate::sight::Sight;
use palisade_block::stats::DeviceStats;
use palisade_control::Control;
#[cfg(test)]
use palisade_control::NodeState;
use palisade_sys::Opened;
use palisade_words::{DeviceIndex, Name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What this node knows and has.
#[derive(Clone, Debug)]
pub struct LocalState {
    /// What it knows and has begun. Changed by events, and by what the door does.
    pub control: Control,
    /// The devices of the disks that are open.
    pub disks: BTreeMap<Name, OpenDisk>,
    /// Media that an operator has just decided about, open and locked since before he was shown what they carry: the next step
    /// on the disk takes them over, so that nobody comes in between.
    pub decided: BTreeMap<Name, Arc<Opened>>,
    /// How far the clearings under way have come, by volume.
    pub clearings: BTreeMap<Name, Arc<ClearProgress>>,
    /// What reactors were told and have not acknowledged.
    pub acknowledgements: Acknowledgements,
}

/// The device of an open disk.
#[derive(Clone, Debug)]
pub struct OpenDisk {
    /// Its number on all reactors.
    pub index: DeviceIndex,
    /// The open device.
    pub opened: Arc<Opened>,
    /// Counters, one set for each reactor.
    pub stats: Vec<Arc<DeviceStats>>,
    /// What was last seen of its medium.
    pub sight: Sight,
    /// What takes its place when all reactors have let go of it. One that is closed first is closed with it, as closing can
    /// take long.
    pub replacement: Option<Arc<Opened>>,
}

impl LocalState {
    /// Of a node that has opened nothing.
    pub fn new(control: Control) -> LocalState {
        LocalState {
            control,
            disks: BTreeMap::new(),
            decided: BTreeMap::new(),
            clearings: BTreeMap::new(),
            acknowledgements: Acknowledgements::default(),
        }
    }

    /// The open disk whose device has a number.
    pub fn device(&self, index: DeviceIndex) -> Option<&OpenDisk> {
        self.disks.values().find(|open| open.index == index)
    }
}

#[cfg(test)]
impl LocalState {
    /// For tests: a node that knows this, and has no reactors.
    pub fn knowing(state: NodeState) -> LocalState {
        LocalState::new(Control::in_state(node(), 0, state))
    }

    /// For tests: what this node knows is changed by hand.
    pub fn learns(&mut self, change: impl FnOnce(&mut NodeState)) {
        let mut state = NodeState::clone(&self.control);
        change(&mut state);
        self.control = Control::in_state(node(), 0, state);
    }
}

#[cfg(test)]
fn node() -> Name {
    Name::new("n1").unwrap_or_else(|error| unreachable!("{error}"))
}
