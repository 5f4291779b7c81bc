//! What a node knows and has begun. Everybody may look at it; only [events](crate::NodeEvent), what the door does and what an
//! operator decides change it.

use crate::attachment::Offered;
use crate::disk::DiskState;
use crate::last_read::LastRead;
use crate::left::Left;
use crate::peers::AskedAgain;
use crate::task::{TaskId, UnderWay};
use palisade_block::{Fault, Whom};
use palisade_model::Kind;
use palisade_reconcile::{Action, Observed};
use palisade_words::{AttachmentIndex, DeviceIndex, Generation, Name, ReactorIndex, Uuid, VolumeIndex};
use std::collections::{BTreeMap, BTreeSet};

/// What a node knows and has begun.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    /// What the planner is shown.
    pub observed: Observed,
    /// Open disks.
    pub disks: BTreeMap<Name, DiskState>,
    /// What was last read of disks that may not be used and are closed for that.
    pub refused: BTreeMap<Name, LastRead>,
    /// Other nodes that are asked for what they reach, as devices.
    pub peers: BTreeMap<Name, DeviceIndex>,
    /// When parked requests of volumes are sent again that other nodes are asked for.
    pub again: BTreeMap<VolumeIndex, AskedAgain>,
    /// Other nodes are not asked for anything yet.
    pub asks_nobody: bool,
    /// Volumes with a number.
    pub volumes: BTreeMap<Name, VolumeIndex>,
    /// Of which volumes requests are parked by a fault, and where: the first device that has parked some, and its fault.
    pub parked: BTreeMap<(VolumeIndex, ReactorIndex), (DeviceIndex, Fault)>,
    /// Attachments with a number.
    pub attachments: BTreeMap<Name, Offered>,
    /// Sessions of attachments that are gone: whoever is connected gets nothing but errors.
    pub left: BTreeMap<AttachmentIndex, Left>,
    /// Steps begun and not yet finished.
    pub under_way: BTreeMap<Action, UnderWay>,
    /// Steps that have come to an end so far, well or not. Each end may be what another step has waited for.
    pub ended: u64,
    /// Ends and acknowledgements of what was not under way. None is expected of parts that keep to the rules.
    pub strays: u64,
    /// The generation that the cluster had when this process started: it has itself looked at the medium of each disk that
    /// was added later.
    pub started: Generation,
    /// Disks whose superblock an operator has just told to be written anew.
    pub renewed: BTreeSet<Uuid>,
}

impl NodeState {
    /// The attachment of a number.
    pub fn attachment_of(&self, index: AttachmentIndex) -> Option<(&Name, &Offered)> {
        self.attachments
            .iter()
            .find(|(_, offered)| offered.index == index)
    }

    /// The task that has offered what has this number now, or was left of it.
    pub fn offering_of(&self, index: AttachmentIndex) -> Option<TaskId> {
        let left = self.left.get(&index).map(|left| &left.offered);
        let offered = left.or_else(|| Some(self.attachment_of(index)?.1));
        offered.map(|offered| offered.offering)
    }

    /// What there is of a number's attachment, or was left of it.
    pub fn offered_of_mut(&mut self, index: AttachmentIndex) -> Option<&mut Offered> {
        if let Some(left) = self.left.get_mut(&index) {
            return Some(&mut left.offered);
        }
        self.attachments
            .values_mut()
            .find(|offered| offered.index == index)
    }

    /// All that hold a number.
    pub fn all_offered(&self) -> impl Iterator<Item = &Offered> {
        let left = self.left.values().map(|left| &left.offered);
        self.attachments.values().chain(left)
    }

    /// For whom a step is.
    pub fn whom(&self, action: &Action) -> Whom {
        let (kind, name) = action.target();
        let of_kind = match kind {
            Kind::Attachment => self
                .attachments
                .get(name)
                .map(|offered| Whom::Attachment(offered.index)),
            Kind::Disk => self.disks.get(name).map(|open| Whom::Device(open.index)),
            Kind::Volume | Kind::Node | Kind::Token => None,
        };
        of_kind.unwrap_or_default()
    }

    /// What is not as it should be with the superblocks of disks, open or refused.
    pub fn superblock_damage(&self) -> impl Iterator<Item = (&Name, &[String])> {
        let open = self
            .disks
            .iter()
            .map(|(name, open)| (name, &open.superblock_damage[..]));
        let closed = self
            .refused
            .iter()
            .filter(|(name, _)| !self.disks.contains_key(*name));
        let all = open.chain(closed.map(|(name, last)| (name, &last.damage[..])));
        all.filter(|(_, damage)| !damage.is_empty())
    }

    /// Which volumes each side knows, where the medium of a disk is an older copy.
    pub fn sides(&self, disk: &Name) -> Option<&String> {
        match self.disks.get(disk) {
            Some(open) => open.sides.as_ref(),
            None => self.refused.get(disk)?.sides.as_ref(),
        }
    }

    /// Whether operations of a disk's device are past their deadline, on whichever reactor.
    pub fn has_stalled(&self, disk: &Name) -> bool {
        let open = self.disks.get(disk);
        open.is_some_and(|open| !open.stalled_on.is_empty())
    }

    /// Whether a disk has refused this node, on whichever reactor, and gets nothing more there.
    pub fn is_fenced(&self, disk: &Name) -> bool {
        let open = self.disks.get(disk);
        open.is_some_and(|open| !open.fenced_on.is_empty())
    }

    /// Reactors that could not take a disk into use, and why.
    pub fn unusable_on(&self, disk: &Name) -> impl Iterator<Item = (ReactorIndex, &str)> {
        let open = self.disks.get(disk).into_iter();
        open.flat_map(|open| &open.unusable_on)
            .map(|(reactor, why)| (*reactor, why.as_str()))
    }

    /// By what requests of a volume are parked: the disk, if it still is open here, and its fault.
    pub fn parked_by(&self, volume: VolumeIndex) -> Option<(Option<&Name>, Fault)> {
        let mut parked = self.parked.iter();
        let (_, (device, fault)) = parked.find(|((parked, _), _)| *parked == volume)?;
        let mut disks = self.disks.iter();
        let disk = disks.find(|(_, open)| open.index == *device);
        Some((disk.map(|(name, _)| name), *fault))
    }

    /// The lowest device number not in use.
    pub(crate) fn free_device(&self) -> DeviceIndex {
        DeviceIndex(lowest_free(self.disks.values().map(|disk| disk.index.0)))
    }

    /// The lowest attachment number not in use.
    pub(crate) fn free_attachment(&self) -> AttachmentIndex {
        AttachmentIndex(lowest_free(self.all_offered().map(|offered| offered.index.0)))
    }

    /// The number of a volume, a new one if it has none yet.
    pub(crate) fn volume_index(&mut self, volume: &Name) -> VolumeIndex {
        if let Some(&index) = self.volumes.get(volume) {
            return index;
        }
        let index = VolumeIndex(lowest_free(self.volumes.values().map(|index| index.0)));
        self.volumes.insert(volume.clone(), index);
        index
    }

    /// The reactor with the fewest queues, for the first queue of a new attachment.
    pub(crate) fn least_loaded(&self, reactors: usize) -> usize {
        let mut load = vec![0u32; reactors.max(1)];
        let mut add = |reactor: usize| {
            if let Some(load) = load.get_mut(reactor) {
                *load += 1;
            }
        };
        for offered in self.all_offered() {
            offered.running.values().for_each(|reactor| add(reactor.usize()));
            // One that has no guest yet will want its place, too.
            if offered.running.is_empty() {
                add(offered.first_reactor);
            }
        }
        let least = load.iter().enumerate().min_by_key(|(_, load)| **load);
        least.map_or(0, |(index, _)| index)
    }
}

fn lowest_free(used: impl Iterator<Item = u16>) -> u16 {
    let used: BTreeSet<u16> = used.collect();
    (0..u16::MAX)
        .find(|index| !used.contains(index))
        .unwrap_or(u16::MAX)
}
