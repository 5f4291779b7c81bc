//! What the machine is told.

use crate::disk::SuperblockLook;
use crate::task::TaskId;
use palisade_block::{Fault, Nanos};
use palisade_reconcile::SuperblockState;
use palisade_words::{DeviceIndex, Name, ReactorIndex, VolumeIndex};

/// Something has happened that may call for steps. Each may come late, and those that carry a [`TaskId`] twice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeEvent {
    /// The cluster was changed, or it is [`due`](crate::Control::due) by the clock.
    Changed,
    /// Work outside has come to its end.
    Finished {
        /// Which.
        task: TaskId,
        /// What came of it, or why nothing did, in a sentence for an operator.
        result: Result<TaskEnd, String>,
    },
    /// A reactor has done its part of what all were told.
    Acknowledged {
        /// What.
        task: TaskId,
        /// Which reactor.
        reactor: ReactorIndex,
    },
    /// A reactor has not done what it was told, as it was older than what the reactor knows.
    Refused {
        /// What.
        task: TaskId,
        /// Which reactor.
        reactor: ReactorIndex,
    },
    /// An operation of a device is past its deadline on a reactor, or no longer is.
    DeviceStalled {
        /// On which reactor.
        reactor: ReactorIndex,
        /// Of which device.
        device: DeviceIndex,
        /// Age of its oldest operation; zero when it moves again.
        oldest: Nanos,
    },
    /// A device has refused this node: a reactor gives it nothing more before it is told again to use it.
    DeviceFenced {
        /// Which reactor.
        reactor: ReactorIndex,
        /// Which device.
        device: DeviceIndex,
    },
    /// A reactor could not take a device into use: requests to it fail there.
    DeviceUnusable {
        /// Which reactor.
        reactor: ReactorIndex,
        /// Which device.
        device: DeviceIndex,
        /// Why, in words.
        error: String,
    },
    /// Requests of a volume are parked on a reactor, which answers none of them before somebody has decided.
    Parked {
        /// On which reactor.
        reactor: ReactorIndex,
        /// Of which volume.
        volume: VolumeIndex,
        /// By which device.
        device: DeviceIndex,
        /// By which fault of it.
        fault: Fault,
    },
    /// Another node answers again, after it had not for a while.
    PeerUp {
        /// Which.
        node: Name,
    },
    /// A disk whose device had gone could be opened again. Whoever tells this holds the new descriptor until
    /// [`Effect::HoldReplacement`](crate::Effect::HoldReplacement), or drops it.
    DeviceBack {
        /// Which disk.
        disk: Name,
        /// Its device's number.
        device: DeviceIndex,
        /// What its superblock says.
        superblock: SuperblockState,
    },
    /// The superblock of an open disk was looked at, as is done now and then.
    Looked {
        /// Which disk.
        disk: Name,
        /// Its device's number.
        device: DeviceIndex,
        /// What was known of it before the look.
        known: SuperblockState,
        /// What it says, or why it could not be read.
        found: Result<SuperblockLook, String>,
    },
    /// The door has taken away the socket of an attachment that was given up, and a virtual machine is still connected.
    GivenUp {
        /// Which, by the task that has offered it.
        offering: TaskId,
    },
    /// The door has let an attachment go: nothing is left of it there.
    Detached {
        /// Which, by the task that has offered it.
        offering: TaskId,
    },
}

/// What came of work that was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskEnd {
    /// Nothing to take over but that it is done.
    Done,
    /// A disk is open. Whoever tells this holds the device until [`Effect::OpenDevice`](crate::Effect::OpenDevice), or
    /// drops it.
    Opened {
        /// What its superblock says.
        look: SuperblockLook,
        /// Whether what is open is the disk's medium as it is agreed on at this moment, and not only as it was when the work
        /// began.
        is_agreed: bool,
    },
    /// A superblock was looked at, or written.
    Looked(SuperblockLook),
}
