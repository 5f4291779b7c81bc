//! One virtqueue of one virtio-blk disk, as the engine's source of requests.

use crate::blk::SERIAL_BYTES;
use crate::blk::features::Features;
use crate::blk::request::{Parsed, Refusal, Rules};
use crate::chain::{self, Collected, Malformed, Parts, Sorted, Unusable};
use crate::owed::Owed;
use crate::split::{Broken, LastChain, SplitQueue, UsedLog};
use crate::stats::QueueStats;
use palisade_block::{Answer, Lease, Pulled, Request, SegmentList, Source, Status};
use palisade_memory::{
    DirtyLog, GuestMemory, InflightQueue, MemoryView, RingAddresses, RingError, SplitRing,
};
use std::sync::Arc;

/// Tells the driver that used entries are waiting. The front-end's is an eventfd, the simulator's a flag.
pub trait Notify {
    /// Notifies. Never blocks.
    fn notify(&mut self);

    /// Tells whoever set the ring up that it cannot be followed any further. Never blocks.
    fn broken(&mut self) {}
}

/// Everything a queue is made from.
#[derive(Debug)]
pub struct QueueSetup {
    /// The guest's memory. When it changes the queue is made anew, from [`BlkQueue::next_avail`].
    pub memory: Arc<GuestMemory>,
    /// Entries of the ring.
    pub size: u16,
    /// Guest addresses of the ring. SET_VRING_ADDR gives the front-end's addresses: translate them by
    /// [`RingAddresses::from_user`].
    pub ring: RingAddresses,
    /// The next available entry (SET_VRING_BASE). With an in-flight region it is not used: the region and the used
    /// ring know better after a crash.
    pub base: u16,
    /// What the guest has negotiated.
    pub features: Features,
    /// Where requests in flight are noted, if the front-end keeps a region for us.
    pub inflight: Option<InflightQueue>,
    /// The device id for GET_ID, padded with zeroes.
    pub serial: [u8; SERIAL_BYTES],
    /// Whether requests that change the volume are accepted.
    pub writable: bool,
    /// The volume's logical block in bytes: a power of two of at least 512.
    pub block_bytes: u32,
    /// The log of a running migration.
    pub dirty_log: Option<Arc<DirtyLog>>,
    /// Guest address under which used-ring writes are logged (`log_guest_addr`, with VHOST_VRING_F_LOG).
    pub log_used_at: Option<u64>,
    /// Where the queue counts.
    pub stats: Arc<QueueStats>,
}

/// Why a queue cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SetupError {
    /// The ring is not usable.
    #[error("the ring is not usable")]
    Ring(#[source] RingError),
    /// The logical block is not a power of two of at least 512.
    #[error("a logical block of {block_bytes} bytes: must be a power of two of at least 512")]
    BlockBytes {
        /// What was given.
        block_bytes: u32,
    },
    /// The in-flight region tracks fewer entries than the ring has.
    #[error("the in-flight region tracks {entries} entries, the ring has {size}")]
    InflightTooSmall {
        /// Entries tracked.
        entries: u16,
        /// Entries of the ring.
        size: u16,
    },
}

/// One virtqueue.
#[derive(Debug)]
pub struct BlkQueue<N> {
    split: SplitQueue,
    view: MemoryView,
    rules: Rules,
    inflight: Option<InflightQueue>,
    dirty_log: Option<Arc<DirtyLog>>,
    /// Heads found in flight, the oldest last, and one that was taken and is too long for the list that was passed, or to
    /// be followed then: all are handed over before the ring is looked at again.
    resubmit: Vec<u16>,
    broken: Option<Broken>,
    last: LastChain,
    /// Descriptors that may be followed for one chain.
    may_follow: u32,
    /// Those that were, since this was last asked.
    followed: u32,
    notify: N,
    stats: Arc<QueueStats>,
    serial: [u8; SERIAL_BYTES],
}

impl<N: Notify> BlkQueue<N> {
    /// Checks everything and takes up what a process before us left in flight. If the ring has been in use, the
    /// driver is notified once: the process before us may have ended between a used entry and its notification.
    pub fn new(setup: QueueSetup, notify: N) -> Result<BlkQueue<N>, SetupError> {
        let QueueSetup {
            memory,
            size,
            features,
            block_bytes,
            mut inflight,
            dirty_log,
            ..
        } = setup;
        if !block_bytes.is_power_of_two() || block_bytes < 512 {
            return Err(SetupError::BlockBytes { block_bytes });
        }
        if let Some(entries) = inflight.as_ref().map(InflightQueue::entries)
            && entries < size
        {
            return Err(SetupError::InflightTooSmall { entries, size });
        }
        let view = MemoryView::new(Arc::clone(&memory));
        let ring = SplitRing::new(memory, size, setup.ring).map_err(SetupError::Ring)?;
        let used_idx = ring.used_idx();
        let (mut resubmit, next_avail) = match &mut inflight {
            Some(inflight) => {
                let heads = inflight.recover(used_idx, size);
                let next_avail = used_idx.wrapping_add(heads.len() as u16);
                (heads, next_avail)
            }
            None => (Vec::new(), setup.base),
        };
        resubmit.reverse();
        // The place of a head that has to wait for room; one popped makes a place, one from the ring needs this one.
        resubmit.reserve(1);
        setup.stats.resubmitted.add(resubmit.len() as u64);
        setup.stats.set_broken(None);
        let used_log = dirty_log
            .clone()
            .zip(setup.log_used_at)
            .map(|(log, at)| UsedLog { log, at });
        let mut queue = BlkQueue {
            split: SplitQueue::new(ring, next_avail, features, used_log),
            view,
            rules: Rules {
                features,
                writable: setup.writable,
                block_bytes,
            },
            inflight,
            dirty_log,
            resubmit,
            broken: None,
            last: LastChain::default(),
            may_follow: u32::MAX,
            followed: 0,
            notify,
            stats: setup.stats,
            serial: setup.serial,
        };
        if used_idx != 0 || queue.inflight.is_some() {
            queue.notify.notify();
            queue.stats.notified.add(1);
        }
        Ok(queue)
    }

    /// The next available entry: what GET_VRING_BASE answers once everything taken has been answered and
    /// [`BlkQueue::resubmissions_left`] is 0.
    pub fn next_avail(&self) -> u16 {
        self.split.next_avail()
    }

    /// Requests that have been taken from the ring and not been handed over yet: found in flight, or too long for the
    /// list that was passed or to be followed. They come first in `pull`; a queue is stopped only when there are none left, since
    /// `next_avail` lies behind them.
    pub fn resubmissions_left(&self) -> usize {
        self.resubmit.len()
    }

    /// Why nothing more is taken from the ring, if so. Requests taken before can still be answered.
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<QueueStats> {
        &self.stats
    }

    /// Takes the queue apart, once everything taken has been answered, to be made anew with other memory or features.
    pub fn into_parts(self) -> (N, Option<InflightQueue>) {
        (self.notify, self.inflight)
    }

    /// The next chain, those found in flight first.
    #[inline]
    fn take(&mut self) -> Option<u16> {
        if let Some(head) = self.resubmit.pop() {
            // Marked in the in-flight region already, and counted into `next_avail`.
            return Some(head);
        }
        if self.broken.is_some() {
            return None;
        }
        match self.split.take(&self.last, &self.view) {
            Ok(Some(head)) => {
                if let Some(inflight) = &mut self.inflight {
                    inflight.begin(head);
                }
                Some(head)
            }
            Ok(None) => None,
            Err(broken) => {
                self.break_off(broken);
                None
            }
        }
    }

    /// As [`BlkQueue::complete`], for requests that never reach the engine.
    #[cold]
    fn complete_here(&mut self, head: u16, reply: usize, status: Status, bytes: u32) {
        self.complete(head, reply, status, bytes);
    }

    /// Writes the status byte and the used entry.
    #[inline(always)]
    fn complete(&mut self, head: u16, reply: usize, status: Status, bytes: u32) {
        // The address was translated by this queue's own view; the check is for tokens that were not ours.
        let written = self.view.write_u8(reply, status as u8);
        debug_assert!(
            written,
            "the status byte of request {head} is not in guest memory"
        );
        if let Some(log) = &self.dirty_log {
            log.mark_host(self.view.memory(), reply, 1);
        }
        self.put(head, bytes);
    }

    #[inline]
    fn put(&mut self, head: u16, bytes: u32) {
        self.split.put(head, bytes);
        if let Some(inflight) = &mut self.inflight {
            inflight.finish(head);
        }
        self.stats.returned.add(1);
        if self.split.has_enough_to_show() {
            let used_idx = self.split.show();
            if let Some(inflight) = &mut self.inflight {
                inflight.publish(used_idx);
            }
        }
    }

    /// Makes a request of the parts of a chain, or answers it.
    #[inline(always)]
    fn sort_out(&mut self, head: u16, parts: Parts, segments: &mut SegmentList) -> Pulled {
        self.stats.taken.add(1);
        match self.rules.parse(parts, &self.view, segments) {
            Ok(Parsed::Block {
                op,
                lba,
                sectors,
                bytes_in,
            }) => {
                let reply = parts.reply;
                let token = Owed {
                    head,
                    bytes_in,
                    reply,
                }
                .token();
                return Pulled::Request(Request {
                    token,
                    op,
                    lba,
                    sectors,
                });
            }
            Ok(Parsed::Id) => self.answer_id(head, parts.reply, segments),
            Err(refusal) => self.refuse(head, parts.reply, refusal),
        }
        segments.clear();
        Pulled::Answered
    }

    /// Takes a chain that has not the usual shape.
    #[cold]
    #[inline(never)]
    fn pull_any(&mut self, head: u16, indirect: bool, segments: &mut SegmentList) -> Pulled {
        let (ring, view) = (&self.split.ring, &self.view);
        let Collected { sorted, followed } =
            chain::collect_any(ring, view, head, indirect, segments, self.may_follow);
        self.followed = self.followed.saturating_add(followed);
        self.stats.followed.add(followed.into());
        match sorted {
            Ok(Sorted { parts, fault: None }) => return self.sort_out(head, parts, segments),
            Ok(Sorted {
                parts,
                fault: Some(fault),
            }) => {
                self.stats.taken.add(1);
                self.count_length(fault);
                self.refuse(head, parts.reply, fault.into());
            }
            Err(Unusable::NoStatus { fault }) => {
                self.stats.taken.add(1);
                if let Some(fault) = fault {
                    self.count_length(fault);
                }
                self.give_back(head);
            }
            Err(unusable @ (Unusable::NoRoom | Unusable::Later)) => {
                self.resubmit.push(head);
                segments.clear();
                return match unusable {
                    Unusable::Later => Pulled::Later,
                    _ => Pulled::NoRoom,
                };
            }
        }
        segments.clear();
        Pulled::Answered
    }

    /// Counts a chain that is refused for its length.
    fn count_length(&mut self, fault: Malformed) {
        self.stats.too_long.add(u64::from(fault == Malformed::TooLong));
    }

    /// Answers a request that is not one.
    #[cold]
    fn refuse(&mut self, head: u16, reply: usize, refusal: Refusal) {
        let (count, status) = match refusal {
            Refusal::Malformed | Refusal::TooLong => (&self.stats.malformed, Status::IoErr),
            Refusal::ReadOnly => (&self.stats.refused_writes, Status::IoErr),
            Refusal::Unsupported => (&self.stats.unsupported, Status::Unsupp),
        };
        count.add(1);
        self.complete_here(head, reply, status, 1);
    }

    /// Returns a chain that has no status byte.
    #[cold]
    fn give_back(&mut self, head: u16) {
        self.stats.malformed.add(1);
        self.stats.unanswerable.add(1);
        self.put(head, 0);
    }

    /// Writes the device id, as much of it as there is room for.
    #[cold]
    fn answer_id(&mut self, head: u16, reply: usize, segments: &SegmentList) {
        self.stats.get_id.add(1);
        let mut left = self.serial.as_slice();
        for segment in segments.as_slice() {
            let (here, rest) = left.split_at(segment.bytes().min(left.len()));
            self.view.write_host(segment.address(), here);
            if let Some(log) = &self.dirty_log {
                log.mark_host(self.view.memory(), segment.address(), here.len());
            }
            left = rest;
        }
        let written = self.serial.len() - left.len();
        self.complete_here(head, reply, Status::Ok, written as u32 + 1);
    }

    #[cold]
    fn break_off(&mut self, broken: Broken) {
        self.broken = Some(broken);
        self.stats.set_broken(Some(broken));
        self.notify.broken();
    }
}

impl<N: Notify> Source for BlkQueue<N> {
    fn remembers(&self) -> bool {
        self.inflight.is_some()
    }

    fn lease(&self) -> Lease {
        self.view.memory().lease().clone()
    }

    #[inline]
    fn has_more(&self) -> bool {
        (self.split.has_more() && self.broken.is_none()) || !self.resubmit.is_empty()
    }

    #[inline]
    fn pull(&mut self, segments: &mut SegmentList) -> Pulled {
        let Some(head) = self.take() else {
            segments.clear();
            return Pulled::Empty;
        };
        self.split.look_ahead(&self.view);
        let indirect = self.rules.features.contains(Features::INDIRECT_DESC);
        let (ring, view) = (&self.split.ring, &self.view);
        match chain::collect_usual(ring, view, head, indirect, segments, &mut self.last) {
            Some(parts) => self.sort_out(head, parts, segments),
            // Field by field, so that what the usual parts give stays in registers and needs no place in memory to meet
            // this.
            None => match self.pull_any(head, indirect, segments) {
                Pulled::Request(Request {
                    token,
                    op,
                    lba,
                    sectors,
                }) => {
                    let Owed { bytes_in, reply, .. } = Owed::of(&token);
                    token.spend();
                    Pulled::Request(Request {
                        token: Owed {
                            head,
                            bytes_in,
                            reply,
                        }
                        .token(),
                        op,
                        lba,
                        sectors,
                    })
                }
                Pulled::Answered => Pulled::Answered,
                Pulled::NoRoom => Pulled::NoRoom,
                Pulled::Later => Pulled::Later,
                Pulled::Empty => Pulled::Empty,
            },
        }
    }

    #[inline]
    fn may_follow(&mut self, descriptors: u32) {
        self.may_follow = descriptors;
    }

    #[inline]
    fn followed(&mut self) -> u32 {
        match self.followed {
            0 => 0,
            _ => std::mem::take(&mut self.followed),
        }
    }

    #[inline(always)]
    fn finish(&mut self, answer: Answer<'_>) {
        let Answer {
            token,
            status,
            dirtied,
            fault: _,
        } = answer;
        if let Some(log) = &self.dirty_log {
            log.mark_segments(self.view.memory(), dirtied);
        }
        // The length counts what was surely written (virtio 1.3, 2.7.8.2); after an error that is the status.
        let Owed {
            head,
            bytes_in,
            reply,
        } = Owed::of(&token);
        let data = if status == Status::Ok { bytes_in } else { 0 };
        self.complete(head, reply, status, data + 1);
        token.spend();
    }

    #[inline]
    fn publish(&mut self) {
        let Some(published) = self.split.publish() else {
            return;
        };
        if let Some(inflight) = &mut self.inflight {
            inflight.publish(published.used_idx);
        }
        if self.split.wants_notification(published) {
            self.notify.notify();
            self.stats.notified.add(1);
        } else {
            self.stats.suppressed.add(1);
        }
    }

    fn arm(&mut self) -> bool {
        if !self.resubmit.is_empty() {
            return true;
        }
        if self.broken.is_some() {
            return false;
        }
        match self.split.arm() {
            Ok(pending) => pending,
            Err(broken) => {
                self.break_off(broken);
                false
            }
        }
    }

    fn backlog(&self) -> usize {
        self.resubmit.len()
    }

    fn disarm(&mut self) {
        self.split.disarm();
    }
}
