//! What a node has now.

use crate::backoff::Failure;
use crate::plan::unusable;
use crate::refused::Refused;
use crate::step::{Action, Step};
use palisade_model::{Attachment, Cluster, Disk, Extent, Kind, SuperblockState};
use palisade_words::{Epoch, Generation, Name, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// What a node has now. Empty when the daemon starts; [`Observed::record`] and [`Observed::record_failure`] keep it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observed {
    /// The time in ms on any clock that does not go back. Set it before each plan.
    pub now_ms: u64,
    /// The latest generation that steps were taken for. A plan towards an earlier one is empty.
    pub generation: Generation,
    /// Open disks.
    pub disks: BTreeMap<Name, ObservedDisk>,
    /// Disks whose medium may not be used, as it was when it was last read. They are closed between two looks at it. Kept
    /// until the disk is used.
    pub refused: BTreeMap<Name, Refused>,
    /// Disks whose medium an operator decides about at this moment: it is open and locked for that by who carries out the
    /// decision, and nobody else opens it.
    pub deciding: BTreeSet<Name>,
    /// Disks that leave and have been let go, by their permanent id; true once the cluster has been told.
    pub released: BTreeMap<Uuid, bool>,
    /// Routes in use, by volume.
    pub routes: BTreeMap<Name, ObservedRoute>,
    /// Volumes whose space is being cleared, from the beginning of that until its end.
    pub clearings: BTreeMap<Name, ObservedClearing>,
    /// Sockets offered, by attachment.
    pub sockets: BTreeMap<Name, ObservedSocket>,
    /// Steps whose last try failed.
    pub failures: BTreeMap<Action, Failure>,
    /// Steps begun and not yet at their end. While one is under way on a disk, no other is planned for it: what the
    /// first leaves on the medium is not known before.
    pub under_way: BTreeSet<Action>,
}

/// An open disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObservedDisk {
    /// The disk as it was agreed when it was opened, last grown or last written to.
    pub disk: Disk,
    /// The node's number for the open device.
    pub device: u16,
    /// What its superblock says.
    pub superblock: SuperblockState,
    /// The generation of the disk for which that was found out.
    pub looked_for: Generation,
    /// A write of its superblock was begun, so that something of it may be on the medium.
    pub touched: bool,
    /// The cluster has been told that the first superblock is on the medium.
    pub confirmed: bool,
    /// Nothing of the disk's superblock is on the medium any more: it was erased.
    pub erased: bool,
}

/// A route in use on all reactors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObservedRoute {
    /// Permanent id of its volume.
    pub uuid: Uuid,
    /// The node's number for the volume.
    pub index: u16,
    /// The generation at which what guests may use of the volume last changed.
    pub generation: Generation,
    /// How much of the volume guests may use by it, in sectors.
    pub sectors: u64,
    /// Where it leads.
    pub extents: Vec<Extent>,
    /// The node that reaches these: another one is asked.
    pub reached_by: Name,
    /// The other nodes that are served by it, each with whether it may change the volume.
    pub askers: BTreeMap<Name, bool>,
    /// The membership under which it was said last.
    pub epoch: Epoch,
}

/// Space that is being cleared: nobody may use it until that has ended, whatever is agreed on meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObservedClearing {
    /// Permanent id of the volume.
    pub uuid: Uuid,
    /// The volume's sector at which it begins.
    pub start: u64,
    /// Where zeros are being written.
    pub extents: Vec<Extent>,
    /// Whether it has been told to end.
    pub stopping: bool,
}

/// A socket on offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObservedSocket {
    /// The settings in force.
    pub attachment: Attachment,
    /// The size that the guest has been told, in sectors.
    pub sectors: u64,
}

impl ObservedSocket {
    /// The attachment that it belongs to, if `node` is still to offer that. `None`: it was given up for good, and what has its
    /// name by now is another one. One that is withdrawn for the sake of its disk is wanted all the while.
    pub fn wanted<'a>(&self, wanted: &'a Cluster, node: &Name, name: &Name) -> Option<&'a Attachment> {
        let attachment = wanted.attachments.get(name)?;
        (attachment.node == *node && attachment.created == self.attachment.created).then_some(attachment)
    }
}

/// What came out of a step that opened something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StepOutcome {
    /// The node's number for the device or volume. Of interest after `OpenDisk` and `SetRoute`.
    pub index: u16,
    /// What is on the disk. Of interest after `OpenDisk`, `ExamineSuperblock` and `WriteSuperblock`: what was read back
    /// once it was written, or what forbade that.
    pub superblock: SuperblockState,
}

impl Observed {
    /// Notes that a step has been begun that does not end at once.
    pub fn begin(&mut self, step: &Step) {
        if let Action::WriteSuperblock { disk } = &step.action
            && let Some(open) = self.disks.get_mut(disk)
        {
            open.touched = true;
        }
        self.under_way.insert(step.action.clone());
    }

    /// Notes that a step of a plan made from `wanted` has been done.
    pub fn record(&mut self, wanted: &Cluster, step: &Step, opened: StepOutcome) {
        self.failures.remove(&step.action);
        self.under_way.remove(&step.action);
        self.generation = self.generation.max(wanted.generation);
        self.refused
            .retain(|name, refused| refused.is_of(wanted.disks.get(name)));
        match &step.action {
            Action::WithdrawSocket { attachment } => {
                self.sockets.remove(attachment);
            }
            Action::ClearRoute { volume } => {
                self.routes.remove(volume);
            }
            Action::EraseSuperblock { disk } => {
                if let Some(open) = self.disks.get_mut(disk) {
                    open.superblock = SuperblockState::Missing;
                    open.touched = false;
                    open.erased = true;
                }
            }
            Action::CloseDisk { disk } => {
                self.released
                    .retain(|uuid, _| wanted.disks.values().any(|disk| disk.uuid == *uuid));
                if let Some(open) = self.disks.remove(disk) {
                    self.record_close(wanted, disk, open);
                }
                let erase = Action::EraseSuperblock { disk: disk.clone() };
                let examine = Action::ExamineSuperblock { disk: disk.clone() };
                for over in [erase, examine] {
                    self.failures.remove(&over);
                }
            }
            Action::ReleaseDisk { disk } => {
                self.refused.remove(disk);
                if let Some(disk) = wanted.disks.get(disk) {
                    self.released.insert(disk.uuid, true);
                }
            }
            Action::OpenDisk { disk } => self.record_open(wanted, disk, opened),
            Action::GrowDisk { disk } => {
                if let (Some(open), Some(wanted)) = (self.disks.get_mut(disk), wanted.disks.get(disk)) {
                    open.disk = wanted.clone();
                }
            }
            Action::WriteSuperblock { disk } => {
                if let Some(open) = self.disks.get_mut(disk) {
                    open.superblock = opened.superblock;
                    open.looked_for = step.generation;
                    if let Some(wanted) = wanted.disks.get(disk) {
                        open.disk = wanted.clone();
                    }
                }
                self.is_used_again(disk, opened.superblock);
            }
            Action::ExamineSuperblock { disk } => {
                if let Some(open) = self.disks.get_mut(disk) {
                    open.superblock = opened.superblock;
                    open.looked_for = step.generation;
                }
                self.is_used_again(disk, opened.superblock);
            }
            Action::ConfirmSuperblock { disk } => {
                if let Some(open) = self.disks.get_mut(disk) {
                    open.confirmed = true;
                }
            }
            Action::ClearVolume { volume } => {
                self.clearings.remove(volume);
            }
            Action::StopClearing { volume } => {
                if let Some(clearing) = self.clearings.get_mut(volume) {
                    clearing.stopping = true;
                }
            }
            Action::SetRoute { volume } => self.record_route(wanted, volume, opened),
            Action::ResizeVolume { attachment } => {
                if let Some(socket) = self.sockets.get_mut(attachment)
                    && let Some(route) = self.routes.get(&socket.attachment.volume)
                {
                    socket.sectors = route.sectors;
                }
            }
            Action::OfferSocket { attachment } | Action::ReopenSocket { attachment } => {
                self.record_socket(wanted, attachment);
            }
            Action::ChangeSocketPermissions { attachment } => {
                if let Some((now, wanted)) = self.both(wanted, attachment) {
                    now.owner.clone_from(&wanted.owner);
                    now.group.clone_from(&wanted.group);
                    now.mode = wanted.mode;
                }
            }
            Action::ChangeLimits { attachment } => {
                if let Some((now, wanted)) = self.both(wanted, attachment) {
                    now.limits = wanted.limits;
                }
            }
        }
    }

    /// Notes that a volume's space is being cleared from now on, until its step is recorded as done or failed. To be
    /// called before the first zero is written. What is to be cleared is given back: what is not known to be clear by
    /// `wanted`, the very cluster that the step was planned from. `None`: there is nothing.
    pub fn begin_clearing(&mut self, wanted: &Cluster, volume: &Name) -> Option<&ObservedClearing> {
        let found = wanted.volumes.get(volume)?;
        let clearing = ObservedClearing {
            uuid: found.uuid,
            start: found.clearing?.cleared,
            extents: found.uncleared_extents(),
            stopping: false,
        };
        self.clearings.insert(volume.clone(), clearing);
        self.clearings.get(volume)
    }

    /// Notes that a step has failed, and why, in a sentence for an operator. It comes again in a plan at
    /// [`Failure::retry_at_ms`].
    pub fn record_failure(&mut self, step: &Step, reason: String) {
        if let Action::ClearVolume { volume } = &step.action {
            self.clearings.remove(volume);
        }
        self.under_way.remove(&step.action);
        let before = self.failures.get(&step.action);
        let failure = Failure::after(before, step.generation, reason, self.now_ms);
        self.failures.insert(step.action.clone(), failure);
    }

    /// When a plan may hold more than the present one although nothing else has changed, on the clock of
    /// [`Observed::now_ms`]: the moment at which the next of the failed steps is no longer held back, or the medium of a
    /// refused disk is to be looked at again. `None`: time alone changes nothing. Later than `now_ms`, so a failure whose step
    /// is no longer wanted calls for one more look at most.
    pub fn next_retry_ms(&self) -> Option<u64> {
        let retries = self.failures.values().map(|failure| failure.retry_at_ms);
        let looks = self.refused.values().map(|refused| refused.look_at_ms);
        retries.chain(looks).filter(|&due| due > self.now_ms).min()
    }

    /// What a disk's medium carried when it was last read, open or refused.
    pub fn last_read(&self, name: &Name) -> Option<SuperblockState> {
        let open = self.disks.get(name).map(|open| open.superblock);
        open.or_else(|| Some(self.refused.get(name)?.superblock))
    }

    /// Has a disk that is not open looked at in the next plan, whatever it is held back by: an operator has done something
    /// that concerns it.
    pub fn look_again(&mut self, name: &Name) {
        if let Some(refused) = self.refused.get_mut(name) {
            (refused.look_at_ms, refused.looks) = (0, 0);
        }
        let open = Action::OpenDisk { disk: name.clone() };
        if let Some(failure) = self.failures.get_mut(&open) {
            failure.retry_at_ms = 0;
        }
    }

    /// Whether a step of this disk, whichever, failed when it was last tried, or its medium may not be used.
    pub fn has_failed(&self, disk: &Name) -> bool {
        let mut failed = self.failures.keys();
        failed.any(|action| action.target() == (Kind::Disk, disk)) || self.refused.contains_key(disk)
    }

    /// Whether a step is under way on a disk, or is about to be because its medium may not be used: what is open now is not
    /// for long. Space of it that is being cleared is such a step: were it decided about the disk meanwhile, what the clearing
    /// has done before would be told of the volume afterwards.
    pub fn is_on_the_move(&self, disk: &Name) -> bool {
        let mut steps = self.under_way.iter();
        if steps.any(|action| action.target() == (Kind::Disk, disk)) || self.deciding.contains(disk) {
            return true;
        }
        let leads_there = |extents: &[Extent]| extents.iter().any(|extent| extent.disk == *disk);
        self.disks.get(disk).is_some_and(|open| {
            let is_ours = open.disk.is_its_own(open.superblock);
            let routes = self.routes.values().any(|route| leads_there(&route.extents));
            let clears = self.clearings.values().any(|one| leads_there(&one.extents));
            clears || !is_ours && !routes
        })
    }

    /// Whether a step is held back by an earlier failure of the same step.
    pub(crate) fn holds_back(&self, step: &Step) -> Option<&Failure> {
        let failure = self.failures.get(&step.action)?;
        (failure.generation == step.generation && failure.retry_at_ms > self.now_ms).then_some(failure)
    }

    fn record_open(&mut self, wanted: &Cluster, name: &Name, opened: StepOutcome) {
        let Some(disk) = wanted.disks.get(name) else {
            return;
        };
        let open = ObservedDisk {
            disk: disk.clone(),
            device: opened.index,
            superblock: opened.superblock,
            looked_for: disk.superblock_generation(),
            touched: false,
            confirmed: false,
            erased: false,
        };
        self.disks.insert(name.clone(), open);
        match disk.has_superblock() {
            true => self.is_used_again(name, opened.superblock),
            // One that is found refused again is looked at less often than before.
            false if unusable(wanted, name, disk, opened.superblock).is_none() => {
                self.refused.remove(name);
            }
            false => {}
        }
    }

    /// Forgets that a disk was refused, if what is on its medium now is its own.
    fn is_used_again(&mut self, name: &Name, found: SuperblockState) {
        if matches!(found, SuperblockState::Ours { .. }) {
            self.refused.remove(name);
        }
    }

    fn record_close(&mut self, wanted: &Cluster, name: &Name, open: ObservedDisk) {
        let before = self.refused.remove(name);
        let Some(stays) = wanted.disks.get(name).filter(|disk| disk.uuid == open.disk.uuid) else {
            return;
        };
        if stays.leaving {
            self.released.insert(stays.uuid, false);
        } else if unusable(wanted, name, stays, open.superblock).is_some() {
            let refused = Refused::after(before.as_ref(), stays, &open, self.now_ms);
            self.refused.insert(name.clone(), refused);
        }
    }

    fn record_route(&mut self, wanted: &Cluster, name: &Name, opened: StepOutcome) {
        let (Some(volume), Some(reached_by)) = (wanted.volumes.get(name), wanted.node_of(name)) else {
            return;
        };
        let route = ObservedRoute {
            uuid: volume.uuid,
            index: opened.index,
            generation: volume.route_generation(),
            sectors: volume.usable_sectors(),
            extents: volume.usable_extents(),
            reached_by: reached_by.clone(),
            askers: wanted.askers_of(name),
            epoch: wanted.epoch,
        };
        self.routes.insert(name.clone(), route);
    }

    fn record_socket(&mut self, wanted: &Cluster, name: &Name) {
        let Some(attachment) = wanted.attachments.get(name) else {
            return;
        };
        let sectors = self
            .routes
            .get(&attachment.volume)
            .map_or(0, |route| route.sectors);
        let socket = ObservedSocket {
            attachment: attachment.clone(),
            sectors,
        };
        self.sockets.insert(name.clone(), socket);
    }

    /// An attachment's settings in force, and as wanted.
    fn both<'a>(
        &'a mut self,
        wanted: &'a Cluster,
        name: &Name,
    ) -> Option<(&'a mut Attachment, &'a Attachment)> {
        let now = &mut self.sockets.get_mut(name)?.attachment;
        Some((now, wanted.attachments.get(name)?))
    }
}
