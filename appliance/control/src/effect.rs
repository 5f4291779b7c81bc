//! What is to be done outside, as values.

use crate::task::TaskId;
use palisade_block::Whom;
use palisade_block::mailbox::ReactorChange;
use palisade_model::{Cluster, Command, Disk, Extent, Kind};
use palisade_reconcile::{Step, SuperblockState};
use palisade_words::{
    AttachmentIndex, DeviceIndex, Epoch, Generation, Name, ReactorIndex, Sectors, Uuid, VolumeIndex,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something to be done outside. None may wait: what takes a while comes back as an event.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Begin work that may take long; [`NodeEvent::Finished`](crate::NodeEvent::Finished) when it has ended.
    Start {
        /// Its name.
        task: TaskId,
        /// The cluster that it is to be done with.
        cluster: Arc<Cluster>,
        /// What is to be done.
        work: Work,
    },
    /// Tell a reactor.
    Tell {
        /// Which.
        reactor: ReactorIndex,
        /// What it acknowledges when it has done it ([`NodeEvent::Acknowledged`](crate::NodeEvent::Acknowledged)); `None`
        /// for what is just told.
        task: Option<TaskId>,
        /// What.
        change: ReactorChange,
    },
    /// All reactors use a device from now on, which none of them acknowledges.
    UseDevice {
        /// Which.
        device: DeviceIndex,
    },
    /// All reactors ask another node as a device from now on, which none of them acknowledges.
    UsePeer {
        /// Which node.
        node: Name,
        /// Its number as a device.
        device: DeviceIndex,
    },
    /// All reactors give the engine what these nodes ask of a volume from now on, by the mapping that they were told of before,
    /// and nothing that others ask.
    Serve {
        /// The volume's permanent id.
        uuid: Uuid,
        /// Its number.
        volume: VolumeIndex,
        /// By which configuration all nodes call the mapping.
        revision: Generation,
        /// The membership under which it is valid.
        epoch: Epoch,
        /// Who asks, each with whether it may change the volume. Nobody: the volume is none of other nodes' business any more.
        askers: BTreeMap<Name, bool>,
    },
    /// Tell the door.
    TellDoor(DoorChange),
    /// The device that work has just brought is this disk's from now on.
    OpenDevice {
        /// Which disk.
        disk: Name,
        /// Its number.
        device: DeviceIndex,
        /// Whether it is opened for a look only: its medium may not be used, and it is closed again.
        for_a_look: bool,
    },
    /// Keep the descriptor that has just come back beside the disk's dead one.
    HoldReplacement {
        /// Which disk.
        disk: Name,
    },
    /// The descriptor that was kept takes the place of the dead one, which nobody uses any more.
    ReplaceDevice {
        /// Which disk.
        disk: Name,
    },
    /// Look at the superblock of an open disk again before long.
    LookSoon {
        /// Which disk.
        disk: Name,
    },
    /// Ask a clearing that is under way for its end, which comes with the piece under way.
    StopClearing {
        /// Of which volume.
        volume: Name,
    },
    /// What is wrong with something is over, as it is gone itself.
    ClearFindings {
        /// Of what kind it was.
        kind: Kind,
        /// Its name.
        name: Name,
        /// It stays, and so does what follows from its state: only what somebody has raised is over.
        stays: bool,
    },
    /// Work out at once which findings follow from the present state, so that none is over before it is told.
    DeriveFindings,
    /// Tell whoever reads the log.
    Log(LogEntry),
}

/// What the door is told of an attachment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DoorChange {
    /// Drain it, end its session, and take its socket away: [`NodeEvent::Detached`](crate::NodeEvent::Detached).
    Detach {
        /// Which.
        attachment: AttachmentIndex,
    },
    /// Take its socket away and leave its session to whoever is connected:
    /// [`NodeEvent::GivenUp`](crate::NodeEvent::GivenUp) while somebody is, and
    /// [`NodeEvent::Detached`](crate::NodeEvent::Detached) in the end.
    GiveUp {
        /// Which.
        attachment: AttachmentIndex,
    },
    /// Tell its guest that the volume has another size.
    Resize {
        /// Which.
        attachment: AttachmentIndex,
        /// The new size.
        sectors: Sectors,
    },
}

/// Work that may take long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Work {
    /// Open a disk's medium and look whose superblock it carries: [`TaskEnd::Opened`](crate::TaskEnd::Opened).
    OpenDisk {
        /// Which disk.
        disk: Name,
        /// It is to be known soon whether somebody has it locked: the first try, or a look at one that may not be used.
        is_short: bool,
        /// It is a look at one that may not be used, which has been told before.
        is_again: bool,
    },
    /// Take the new size of an open disk's medium.
    GrowDisk {
        /// Which disk.
        disk: Name,
        /// Its device.
        device: DeviceIndex,
        /// What it must have at least.
        sectors: Sectors,
    },
    /// Close a device that no reactor uses any more.
    CloseDevice {
        /// Which disk's.
        disk: Name,
        /// Its device.
        device: DeviceIndex,
        /// The disk's permanent id.
        uuid: Option<Uuid>,
        /// The disk stays in the cluster: what its medium looked like is remembered.
        stays: bool,
    },
    /// Write superblock and extents of a pooled disk, if what is on the medium allows it:
    /// [`TaskEnd::Looked`](crate::TaskEnd::Looked).
    WriteSuperblock {
        /// Which disk.
        disk: Name,
        /// Its device.
        device: DeviceIndex,
        /// This very process has looked at the medium and was told to take it.
        examined: bool,
    },
    /// Look again whose superblock an open disk carries: [`TaskEnd::Looked`](crate::TaskEnd::Looked).
    ExamineSuperblock {
        /// Which disk.
        disk: Name,
        /// Its device.
        device: DeviceIndex,
    },
    /// Erase the superblock of a disk that leaves, or has left, if it is that one.
    EraseSuperblock {
        /// Which disk.
        disk: Name,
        /// Its device.
        device: DeviceIndex,
        /// The disk as it was agreed when it was last written to.
        known: Box<Disk>,
        /// A write of its superblock was begun.
        touched: bool,
    },
    /// Have a command agreed on. One that is refused is done, too: it has been overtaken.
    Propose {
        /// Which.
        command: Box<Command>,
    },
    /// Make space read as zeros, and have that agreed on piece by piece.
    ClearSpace {
        /// Of which volume.
        volume: Name,
        /// Its permanent id.
        uuid: Uuid,
        /// The volume's sector at which it begins.
        start: u64,
        /// Where.
        extents: Vec<Extent>,
    },
    /// Offer a volume to a virtual machine.
    OfferSocket {
        /// As which attachment.
        attachment: Name,
        /// Its number.
        index: AttachmentIndex,
        /// The size that its guest is told.
        sectors: Sectors,
    },
    /// Change owner, group and mode of a socket.
    ChangeSocketPermissions {
        /// Of which attachment.
        attachment: Name,
    },
    /// Forget what the guest of an attachment that is gone has made of its write cache.
    ForgetWriteCache {
        /// Of which attachment.
        attachment: Name,
    },
}

/// What is told to whoever reads the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogEntry {
    /// A step begins.
    Begun {
        /// Which.
        step: Step,
    },
    /// A step is done.
    Done {
        /// Which.
        step: Step,
        /// What is said of it.
        message: String,
    },
    /// A step was a part of a look that has found what was known, and told, before.
    AsBefore {
        /// Which.
        step: Step,
        /// What it has found.
        superblock: SuperblockState,
    },
    /// A superblock was left as it is: the medium is no longer as it was known.
    LeftUndone {
        /// Which step has left it.
        step: Step,
        /// What it has found.
        superblock: SuperblockState,
    },
    /// A step has failed, for another reason than the last time.
    Failed {
        /// Which.
        step: Step,
        /// Why.
        reason: String,
    },
    /// A superblock says something else than before.
    SuperblockChanged {
        /// Of which disk.
        disk: Name,
        /// What was known.
        before: SuperblockState,
        /// What it says.
        now: SuperblockState,
    },
    /// A copy of a superblock is damaged, which was not known before.
    SuperblockDamaged {
        /// Of which disk.
        disk: Name,
        /// How, in words.
        damage: String,
    },
    /// Damaged copies of a superblock were written anew from sound ones.
    SuperblockMended {
        /// Of which disk.
        disk: Name,
        /// What was damaged, in words.
        mended: Vec<String>,
    },
    /// A disk whose device had gone is in use again.
    DeviceReturned {
        /// Which disk.
        disk: Name,
    },
}

impl Effect {
    /// For whom it is.
    pub fn whom(&self) -> Whom {
        match self {
            Effect::Tell { change, .. } => change.whom(),
            Effect::TellDoor(
                DoorChange::Detach { attachment }
                | DoorChange::GiveUp { attachment }
                | DoorChange::Resize { attachment, .. },
            ) => Whom::Attachment(*attachment),
            Effect::OpenDevice { device, .. } | Effect::UseDevice { device } => Whom::Device(*device),
            Effect::Start { work, .. } => work.whom(),
            _ => Whom::Nobody,
        }
    }
}

impl Work {
    fn whom(&self) -> Whom {
        match self {
            Work::GrowDisk { device, .. }
            | Work::CloseDevice { device, .. }
            | Work::WriteSuperblock { device, .. }
            | Work::ExamineSuperblock { device, .. }
            | Work::EraseSuperblock { device, .. } => Whom::Device(*device),
            Work::OfferSocket { index, .. } => Whom::Attachment(*index),
            _ => Whom::Nobody,
        }
    }
}
