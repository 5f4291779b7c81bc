//! Attachments that are, or are about to be, on offer.

use crate::task::TaskId;
use palisade_block::Nanos;
use palisade_block::mailbox::{AttachmentSettings, Pace};
use palisade_block::stats::AttachmentStats;
use palisade_model::{Attachment, Limits};
use palisade_words::{AttachmentIndex, ReactorIndex, VolumeIndex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An attachment that is, or is about to be, on offer. Its counters and the words of its pace are shared with the reactors;
/// nothing is decided by them here.
#[derive(Clone, Debug)]
pub struct Offered {
    /// Its number.
    pub index: AttachmentIndex,
    /// The task by which it was offered. The number may be another's later; this never is.
    pub offering: TaskId,
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
    /// Whether a virtual machine is connected.
    pub connected: bool,
    /// It was taken away for good, and how far the door has come with that.
    pub given_up: Option<GivenUp>,
    /// What its guest has made of its write cache is forgotten when it has been taken away.
    pub forgets: bool,
}

/// How far the door has come with an attachment that was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GivenUp {
    /// It has been told.
    Told,
    /// Socket and name are free; a virtual machine is still connected.
    Left,
    /// Nothing is left of it.
    Gone,
}

impl Offered {
    /// A new one, before its socket appears.
    pub fn new(
        (index, offering): (AttachmentIndex, TaskId),
        volume: VolumeIndex,
        wanted: &Attachment,
        reactors: usize,
        first_reactor: usize,
    ) -> Offered {
        Offered {
            index,
            offering,
            volume,
            stats: (0..reactors).map(|_| Arc::default()).collect(),
            pace: pace(&wanted.limits, Pace::default()),
            read_only: wanted.read_only,
            write_through: !wanted.write_cache,
            first_reactor,
            running: BTreeMap::new(),
            memory_bytes: 0,
            connected: false,
            given_up: None,
            forgets: false,
        }
    }

    /// What a reactor is told of it.
    pub fn settings(&self, reactor: ReactorIndex) -> AttachmentSettings {
        AttachmentSettings {
            volume: Some(self.volume),
            revoked: self.given_up.is_some(),
            read_only: self.read_only,
            write_through: self.write_through,
            pace: self.pace.clone(),
            stats: self.stats.get(reactor.usize()).cloned().unwrap_or_default(),
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
