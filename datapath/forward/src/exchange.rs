//! Between a session, which stands below the engine, and the source that gives its requests to the engine. Both are of one reactor
//! and run on its thread; the engine owns both and knows of neither that they belong together.

use crossbeam::queue::ArrayQueue;
use palisade_block::{Fault, Lease, Op, Segment, Status};
use palisade_words::{Lba, Sectors, VolumeIndex};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A request of another node that was judged well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenRequest {
    /// By which it is answered.
    pub(crate) index: u32,
    /// Between which two losses of the session it came.
    pub(crate) era: u32,
    pub(crate) volume: VolumeIndex,
    pub(crate) op: Op,
    pub(crate) lba: Lba,
    pub(crate) sectors: Sectors,
    /// Where its data lies or goes; empty if it has none.
    pub(crate) data: Segment,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GivenEnd {
    /// The engine has answered it.
    Answered(Status, Option<Fault>),
    /// Its session was lost before the engine had it: nothing was done.
    Dropped,
}

/// Both ways.
#[derive(Debug)]
pub struct Exchange {
    pub(crate) given: ArrayQueue<GivenRequest>,
    pub(crate) ended: ArrayQueue<(u32, GivenEnd)>,
    era: AtomicU32,
    lease: Lease,
}

impl Exchange {
    /// For so many requests at most, whose data lies in this memory.
    pub fn new(requests: u32, lease: Lease) -> Exchange {
        let requests = requests.max(1) as usize;
        Exchange {
            given: ArrayQueue::new(requests),
            ended: ArrayQueue::new(requests),
            era: AtomicU32::new(0),
            lease,
        }
    }

    /// How many it has room for.
    pub fn capacity(&self) -> usize {
        self.given.capacity()
    }

    /// The memory of its requests' data.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Between which losses of the session we are.
    pub(crate) fn era(&self) -> u32 {
        self.era.load(Relaxed)
    }

    /// The session is lost: what the engine has not taken by now it does not get.
    pub(crate) fn next_era(&self) {
        self.era.fetch_add(1, Relaxed);
    }
}
