//! What this node has now: open devices, routes in use, sockets on offer, and what is under way.
//!
//! One lock guards it ([`lock`]). It is held for moments only, never while anything waits: slow work (opening a disk,
//! writing a superblock, asking the door) is done on threads of its own, which come back with an event. Who only looks
//! does not depend on that.

pub mod left;
pub mod lock;
pub mod refused;

use crate::clearing::ClearProgress;
use crate::sight::Sight;
use left::{GivenUp, Left};
use palisade_block::mailbox::{AttachmentSettings, Pace};
use palisade_block::stats::{AttachmentStats, DeviceStats};
use palisade_block::{Nanos, Whom};
use palisade_model::{Attachment, Cluster, Kind, Limits};
use palisade_reconcile::{Action, Observed, Step};
use palisade_sys::Opened;
use palisade_words::{AttachmentIndex, DeviceIndex, Generation, Name, ReactorIndex, Uuid, VolumeIndex};
use refused::LastRead;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// Everything the node has.
#[derive(Clone, Debug, Default)]
pub struct Plant {
    /// What the planner is shown.
    pub observed: Observed,
    /// Open disks.
    pub disks: BTreeMap<Name, OpenDisk>,
    /// What was last read of disks that may not be used and are closed for that.
    pub refused: BTreeMap<Name, LastRead>,
    /// Media that an operator has just decided about, open and locked since before he was shown what they carry: the next step
    /// on the disk takes them over, so that nobody comes in between.
    pub decided: BTreeMap<Name, Arc<Opened>>,
    /// Volumes with a number.
    pub volumes: BTreeMap<Name, VolumeIndex>,
    /// Attachments with a number.
    pub attachments: BTreeMap<Name, Offered>,
    /// Sessions of attachments that are gone: whoever is connected gets nothing but errors.
    pub left: BTreeMap<AttachmentIndex, Left>,
    /// How far the clearings under way have come, by volume.
    pub clearings: BTreeMap<Name, Arc<ClearProgress>>,
    /// Steps begun and not yet finished.
    pub under_way: BTreeMap<Action, UnderWay>,
    /// Steps that have come to an end so far, well or not. Each end may be what another step has waited for.
    pub ended: u64,
    /// The generation that the cluster had when this daemon started: it has itself looked at the medium of each disk
    /// that was added later.
    pub started: Generation,
    /// Disks whose superblock an operator has just told to be written anew.
    pub renewed: BTreeSet<Uuid>,
}

/// An open disk.
#[derive(Clone, Debug)]
pub struct OpenDisk {
    /// Its number on all reactors.
    pub index: DeviceIndex,
    /// The open device.
    pub opened: Arc<Opened>,
    /// Counters, one set for each reactor.
    pub stats: Vec<Arc<DeviceStats>>,
    /// Reactors on which its operations are past their deadline.
    pub stalled_on: BTreeSet<ReactorIndex>,
    /// What was last seen of its medium.
    pub sight: Sight,
    /// What is not as it should be with its superblock, until it was written anew.
    pub superblock_damage: Vec<String>,
    /// Which volumes each side knows, where its medium is an older copy.
    pub sides: Option<String>,
    /// What takes its place when all reactors have let go of it.
    pub returning: Option<Returning>,
    /// What was to take its place when it was given up: closed with it, and not before, as closing can take long.
    pub unused: Option<Arc<Opened>>,
}

/// A descriptor that takes the place of a dead one.
#[derive(Clone, Debug)]
pub struct Returning {
    /// It.
    pub opened: Arc<Opened>,
    /// Reactors that have yet to let go of the dead one.
    pub awaited: BTreeSet<ReactorIndex>,
}

/// An attachment that is, or is about to be, on offer.
#[derive(Clone, Debug)]
pub struct Offered {
    /// Its number.
    pub index: AttachmentIndex,
    /// The number of its volume.
    pub volume: VolumeIndex,
    /// Counters, one set for each reactor.
    pub stats: Vec<Arc<AttachmentStats>>,
    /// How fast it may go, shared by its reactors.
    pub pace: Pace,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether writes are made stable before they are answered.
    pub write_through: bool,
    /// The reactor of its first queue; the others follow round about.
    pub first_reactor: usize,
    /// Queues that run, and where.
    pub running: BTreeMap<u16, ReactorIndex>,
    /// Bytes of the connected guest's memory.
    pub memory_bytes: u64,
    /// It was taken away for good, and how far the door has come with that.
    pub given_up: Option<GivenUp>,
    /// What its guest has made of its write cache is forgotten when it has been taken away.
    pub forgets: bool,
}

/// A step that takes a while.
#[derive(Clone, Debug)]
pub struct UnderWay {
    /// The step.
    pub step: Step,
    /// The cluster it was planned from.
    pub wanted: Arc<Cluster>,
    /// Reactors that have yet to acknowledge.
    pub awaited: BTreeSet<ReactorIndex>,
    /// What is reported when all have.
    pub index: u16,
    /// When it began.
    pub since: Instant,
}

impl Plant {
    /// The attachment of a number.
    pub fn attachment_of(&self, index: AttachmentIndex) -> Option<(&Name, &Offered)> {
        self.attachments
            .iter()
            .find(|(_, offered)| offered.index == index)
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
        let name = action.target().1;
        let attachment = self
            .attachments
            .get(name)
            .map(|offered| Whom::Attachment(offered.index));
        let disk = self.disks.get(name).map(|open| Whom::Device(open.index));
        let of_kind = match action.target().0 {
            Kind::Attachment => attachment,
            Kind::Disk => disk,
            Kind::Volume | Kind::Node => None,
        };
        of_kind.unwrap_or_default()
    }

    /// The lowest device number not in use.
    pub fn free_device(&self) -> DeviceIndex {
        DeviceIndex(lowest_free(self.disks.values().map(|disk| disk.index.0)))
    }

    /// The lowest attachment number not in use.
    pub fn free_attachment(&self) -> AttachmentIndex {
        AttachmentIndex(lowest_free(self.all_offered().map(|offered| offered.index.0)))
    }

    /// The number of a volume, a new one if it has none yet.
    pub fn volume_index(&mut self, volume: &Name) -> VolumeIndex {
        if let Some(&index) = self.volumes.get(volume) {
            return index;
        }
        let index = VolumeIndex(lowest_free(self.volumes.values().map(|index| index.0)));
        self.volumes.insert(volume.clone(), index);
        index
    }

    /// The reactor with the fewest queues, for the first queue of a new attachment.
    pub fn least_loaded(&self, reactors: usize) -> usize {
        let mut load = vec![0u32; reactors.max(1)];
        for offered in self.all_offered() {
            for reactor in offered.running.values() {
                if let Some(load) = load.get_mut(reactor.usize()) {
                    *load += 1;
                }
            }
            // One that has no guest yet will want its place, too.
            if let Some(load) = load
                .get_mut(offered.first_reactor)
                .filter(|_| offered.running.is_empty())
            {
                *load += 1;
            }
        }
        load.iter()
            .enumerate()
            .min_by_key(|(_, load)| **load)
            .map_or(0, |(index, _)| index)
    }
}

impl Offered {
    /// What a reactor is told of it.
    pub fn settings(&self, reactor: ReactorIndex) -> AttachmentSettings {
        AttachmentSettings {
            volume: self.volume,
            revoked: self.given_up.is_some(),
            read_only: self.read_only,
            write_through: self.write_through,
            pace: self.pace.clone(),
            stats: self.stats.get(reactor.usize()).cloned().unwrap_or_default(),
        }
    }

    /// A new one, before its socket appears.
    pub fn new(
        index: AttachmentIndex,
        volume: VolumeIndex,
        wanted: &Attachment,
        reactors: usize,
        first_reactor: usize,
    ) -> Offered {
        Offered {
            index,
            volume,
            stats: (0..reactors).map(|_| Arc::default()).collect(),
            pace: pace(&wanted.limits, Pace::default()),
            read_only: wanted.read_only,
            write_through: !wanted.write_cache,
            first_reactor,
            running: BTreeMap::new(),
            memory_bytes: 0,
            given_up: None,
            forgets: false,
        }
    }
}

/// Limits as reactors keep them, on the words of the pace before.
pub fn pace(limits: &Limits, before: Pace) -> Pace {
    Pace {
        iops: limits.iops,
        bytes_per_second: limits.bytes_per_second,
        burst: Nanos::from_millis(u64::from(limits.burst_ms)),
        ..before
    }
}

fn lowest_free(used: impl Iterator<Item = u16>) -> u16 {
    let used: BTreeSet<u16> = used.collect();
    (0..u16::MAX)
        .find(|index| !used.contains(index))
        .unwrap_or(u16::MAX)
}
