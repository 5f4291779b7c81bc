//! What the steward is told.

use crate::orders::Report;
use crate::superblocks::Look;
use palisade_model::Cluster;
use palisade_reconcile::{Step, Superblock};
use palisade_sys::Opened;
use palisade_words::{AttachmentIndex, DeviceIndex, Name};
use std::sync::Arc;

/// Something has happened that may call for steps.
#[derive(Debug)]
pub enum Event {
    /// The cluster was changed.
    Changed,
    /// A reactor reports.
    Report(Box<Report>),
    /// A slow step has come to its end.
    Finished {
        /// Which.
        step: Step,
        /// The cluster it was planned from.
        wanted: Arc<Cluster>,
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
        superblock: Superblock,
    },
    /// The superblock of an open disk was looked at, as is done now and then.
    Looked {
        /// Which disk.
        disk: Name,
        /// Its number.
        device: DeviceIndex,
        /// What was known of it before the look.
        known: Superblock,
        /// What it says, or why it could not be read.
        found: Result<Look, String>,
    },
    /// The door has taken an attachment's socket away, and a virtual machine is still connected.
    GivenUp(AttachmentIndex),
    /// The door has let an attachment go.
    Detached(AttachmentIndex),
    /// End the thread.
    Stop,
}

/// What a slow step brought.
#[derive(Debug)]
pub enum Done {
    /// A disk is open.
    Opened {
        /// The device.
        opened: Arc<Opened>,
        /// What its superblock says.
        look: Look,
    },
    /// A superblock was looked at, or written.
    Looked(Look),
    /// Nothing to take over but that it is done.
    Plain,
}
