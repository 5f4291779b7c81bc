//! What the control loop is told: the control machine's events, with what comes along that is no value.

use crate::reactor_thread::ReactorNotice;
use palisade_control::{SuperblockLook, TaskId};
use palisade_reconcile::SuperblockState;
use palisade_sys::Opened;
use palisade_words::{AttachmentIndex, DeviceIndex, Name, ReactorIndex};
use std::sync::Arc;

/// Something has happened that may call for steps.
#[derive(Debug)]
pub enum ControlMessage {
    /// The cluster was changed.
    Changed,
    /// A reactor tells something.
    Notice(ReactorIndex, Box<ReactorNotice>),
    /// Work that was begun has come to its end.
    Finished {
        /// Which.
        task: TaskId,
        /// What came of it, or why nothing did.
        result: Result<Done, String>,
    },
    /// A disk whose device had gone could be opened again.
    CameBack {
        /// Which.
        disk: Name,
        /// Its number.
        device: DeviceIndex,
        /// The new descriptor, checked as at the first opening.
        opened: Arc<Opened>,
        /// What its superblock says.
        superblock: SuperblockState,
    },
    /// The superblock of an open disk was looked at, as is done now and then.
    Looked {
        /// Which disk.
        disk: Name,
        /// Its number.
        device: DeviceIndex,
        /// What was known of it before the look.
        known: SuperblockState,
        /// What it says, or why it could not be read.
        found: Result<SuperblockLook, String>,
    },
    /// Another node answers again that is asked for volumes.
    PeerUp(Name),
    /// The door has taken an attachment's socket away, and a virtual machine is still connected.
    GivenUp(AttachmentIndex),
    /// The door has let an attachment go.
    Detached(AttachmentIndex),
    /// End the thread.
    Stop,
}

/// What work has brought.
#[derive(Debug)]
pub enum Done {
    /// A disk is open.
    Opened {
        /// The device.
        opened: Arc<Opened>,
        /// What its superblock says.
        look: SuperblockLook,
    },
    /// A superblock was looked at, or written.
    Looked(SuperblockLook),
    /// Nothing to take over but that it is done.
    Plain,
}
