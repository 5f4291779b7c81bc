//! Where a reactor's requests come from: guests' rings, and other nodes.

use crate::reactor_thread::GuestQueue;
use palisade_block::{Answer, Lease, Pulled, SegmentList, Source};
use palisade_forward::ServedQueue;
use palisade_words::VolumeIndex;

/// A source of requests. Nearly all are guests', so these come first, and nothing is between them and the engine but one look
/// at which of the two it is.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a guest's queue is the common one and is asked at every turn: no pointer on its way"
)]
pub enum NodeSource {
    /// A guest's virtqueue.
    Guest(GuestQueue),
    /// What another node asks.
    Peer(Box<ServedQueue>),
}

macro_rules! either {
    ($it:expr, $source:ident => $does:expr) => {
        match $it {
            NodeSource::Guest($source) => $does,
            NodeSource::Peer($source) => $does,
        }
    };
}

impl Source for NodeSource {
    fn lease(&self) -> Lease {
        either!(self, source => source.lease())
    }

    #[inline(always)]
    fn has_more(&self) -> bool {
        either!(self, source => source.has_more())
    }

    fn turn_to(&mut self, may_serve: impl FnMut(VolumeIndex) -> bool) -> Option<VolumeIndex> {
        either!(self, source => source.turn_to(may_serve))
    }

    #[inline(always)]
    fn pull(&mut self, segments: &mut SegmentList) -> Pulled {
        either!(self, source => source.pull(segments))
    }

    #[inline(always)]
    fn may_follow(&mut self, descriptors: u32) {
        either!(self, source => source.may_follow(descriptors))
    }

    #[inline(always)]
    fn followed(&mut self) -> u32 {
        either!(self, source => source.followed())
    }

    #[inline(always)]
    fn finish(&mut self, answer: Answer<'_>) {
        either!(self, source => source.finish(answer))
    }

    #[inline(always)]
    fn publish(&mut self) {
        either!(self, source => source.publish())
    }

    fn backlog(&self) -> usize {
        either!(self, source => source.backlog())
    }

    fn remembers(&self) -> bool {
        either!(self, source => source.remembers())
    }

    fn arm(&mut self) -> bool {
        either!(self, source => source.arm())
    }

    fn disarm(&mut self) {
        either!(self, source => source.disarm())
    }
}
