//! What stands above the engine: something that hands requests over and takes their answers. In the daemon a
//! virtqueue; later also the serving end of a data port.

use crate::device::Fault;
use crate::lease::{Lease, Segment};
use crate::request::{Request, SegmentList, Status, Token};
use palisade_words::VolumeIndex;

/// What a source had to give.
#[derive(Debug)]
pub enum Pulled {
    /// Nothing now.
    Empty,
    /// A request. Its data segments are in the list that was passed.
    Request(Request),
    /// The source took something from its ring and answered it itself (malformed, unsupported, or the device id).
    /// It counts as work, and `publish` must follow.
    Answered,
    /// The next request has more segments than the list has room for. It is handed over, first of all, when a list is
    /// passed that has been lent a [`LongList`](crate::LongList), and is part of the backlog until then.
    NoRoom,
    /// The next request has more descriptors than [may be followed](Source::may_follow) now. It is handed over, first of
    /// all, when they may, and is part of the backlog until then.
    Later,
}

/// One answer, given once.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The token of the request.
    pub token: Token,
    /// What the guest is told.
    pub status: Status,
    /// What a device has met, if that is why the answer is an error. A guest is told the status alone; another node is told
    /// this, as it may know another way.
    pub fault: Option<Fault>,
    /// Memory that was written for the guest, to be marked in a migration's dirty log. Empty for other requests
    /// than reads; given also when a read failed, as some of it may have been written.
    pub dirtied: &'a [Segment],
}

/// A source of requests, owned by one reactor.
pub trait Source {
    /// The memory in which the data buffers of all its requests lie, the same as long as it lives.
    fn lease(&self) -> Lease;

    /// Whether `pull` may have something to give. One look and no more: most sources have nothing most of the time. It
    /// may say yes for nothing, and must not say no for something.
    fn has_more(&self) -> bool {
        true
    }

    /// Turns to one of its volumes, from which on `pull` gives requests of that one alone: one of which it has requests, and
    /// which `may_serve` says may be served now. `None` when there is none. What it does not turn to is not taken: it is left
    /// with the source as with a ring, so that one volume never waits for another. Those that wait are turned to in turn.
    ///
    /// Asked of a source that carries many volumes, which is one whose attachment has none of its own
    /// ([`volume`](crate::mailbox::AttachmentSettings::volume)).
    fn turn_to(&mut self, may_serve: impl FnMut(VolumeIndex) -> bool) -> Option<VolumeIndex> {
        let _ = may_serve;
        None
    }

    /// Takes the next request, filling `segments` (cleared first by the source) with its data buffers.
    fn pull(&mut self, segments: &mut SegmentList) -> Pulled;

    /// How many descriptors `pull` may follow for one request from now on. Without it there is no bound but the source's
    /// own. Requests of the usual shape, which have as few as a slot has places for segments, need not be counted.
    fn may_follow(&mut self, descriptors: u32) {
        let _ = descriptors;
    }

    /// Descriptors that `pull` has followed since this was last asked, of requests that have not the usual shape, whatever
    /// came of them: work that a turn counts, as a guest can make it long.
    fn followed(&mut self) -> u32 {
        0
    }

    /// Takes an answer. The guest need not see it before `publish`.
    fn finish(&mut self, answer: Answer<'_>);

    /// Makes all answers since the last call visible and notifies once, if notification is wanted.
    fn publish(&mut self);

    /// Requests that have been taken from the ring, before this source was made or for want of room, and are handed
    /// over first: it is given back only when there are none left, as its place in the ring lies behind them.
    fn backlog(&self) -> usize {
        0
    }

    /// Whether a request that is never answered is handed over again by a later source of the same ring: it is noted where
    /// this process and its end do not matter.
    fn remembers(&self) -> bool {
        false
    }

    /// Asks to be notified of new requests. True when there are some already, so that sleeping would miss them.
    fn arm(&mut self) -> bool;

    /// Asks not to be notified: somebody polls.
    fn disarm(&mut self);
}
