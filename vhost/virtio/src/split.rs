//! The indices and notifications of a split ring (virtio 1.3, 2.7). A packed ring would offer the same methods:
//! `take`, `put`, `publish`, `arm`, `disarm`.

use crate::blk::features::Features;
use palisade_memory::{DirtyLog, MemoryView, SplitRing};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`: the driver wants no notification.
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`: we want no notification.
const NO_NOTIFY: u16 = 1;

/// How many chains ahead of the one being worked on a header is fetched.
const HEADER_AHEAD: u16 = 2;
/// The same for an indirect table, which must have come when the header is fetched.
const TABLE_AHEAD: u16 = 4;
/// The same for a chain's first descriptor, which must have come when the table is fetched.
const DESCRIPTOR_AHEAD: u16 = 6;

/// Entries that are shown to the driver together: as many as a cache line of the used ring holds. A driver that polls
/// works on them while we work on the next ones; one that waits for notifications gets one a turn all the same.
pub(crate) const SHOWN_AT_ONCE: u16 = 8;

/// Why a ring cannot be followed any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// The available index has moved further than the ring has free entries.
    AvailJumped {
        /// The index found.
        avail_idx: u16,
        /// The next entry to be taken.
        next_avail: u16,
    },
    /// An available entry names a descriptor outside the table.
    HeadOutside {
        /// The entry.
        head: u16,
    },
    /// The file behind the guest's memory or its dirty log has shrunk under us.
    MemoryLost,
    /// It has its length, and there was no page for an access to the ring or to what stands in it.
    NoPage,
}

impl Broken {
    /// As one number that is not 0.
    pub(crate) fn encode(self) -> u64 {
        match self {
            Broken::AvailJumped {
                avail_idx,
                next_avail,
            } => 1 << 32 | u64::from(avail_idx) << 16 | u64::from(next_avail),
            Broken::HeadOutside { head } => 2 << 32 | u64::from(head),
            Broken::MemoryLost => 3 << 32,
            Broken::NoPage => 4 << 32,
        }
    }

    /// From that number.
    pub(crate) fn decode(code: u64) -> Option<Broken> {
        let (high, low) = ((code >> 16) as u16, code as u16);
        match code >> 32 {
            1 => Some(Broken::AvailJumped {
                avail_idx: high,
                next_avail: low,
            }),
            2 => Some(Broken::HeadOutside { head: low }),
            3 => Some(Broken::MemoryLost),
            4 => Some(Broken::NoPage),
            _ => None,
        }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::AvailJumped {
                avail_idx,
                next_avail,
            } => {
                write!(f, "the available index jumped from {next_avail} to {avail_idx}")
            }
            Broken::HeadOutside { head } => {
                write!(f, "available entry {head} lies outside the descriptor table")
            }
            Broken::MemoryLost => write!(f, "the file behind the guest's memory has shrunk"),
            Broken::NoPage => write!(
                f,
                "there was no page for the guest's memory, whose file has its length: the tmpfs that it lies on is full, the \
                 host has no hugepage left, or a page is broken"
            ),
        }
    }
}

/// Where the chain lay that was taken last: a guess at where the next one lies.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct LastChain {
    /// Its head.
    pub(crate) head: u16,
    /// Guest address of its header.
    pub(crate) header: u64,
    /// Guest address of its indirect table.
    pub(crate) table: Option<u64>,
}

/// Marks the used ring's pages in a migration's dirty log.
#[derive(Debug)]
pub(crate) struct UsedLog {
    /// The log.
    pub(crate) log: Arc<DirtyLog>,
    /// Guest address of the used ring (`log_guest_addr`).
    pub(crate) at: u64,
}

/// A split ring and how far we have come in it.
#[derive(Debug)]
pub(crate) struct SplitQueue {
    pub(crate) ring: SplitRing,
    /// The next available entry to be taken.
    next_avail: u16,
    /// The available index as last read: entries before it may be taken without another look.
    avail_seen: u16,
    /// The next used entry to be written.
    used_next: u16,
    /// The used index the driver sees.
    used_shown: u16,
    /// The used index up to which it has been decided whether to notify.
    used_published: u16,
    event_idx: bool,
    notify_on_empty: bool,
    /// The driver has been asked to kick: with EVENT_IDX for this entry and none before, else for all.
    armed_for: Option<u16>,
    used_log: Option<UsedLog>,
}

impl SplitQueue {
    /// Goes on at available entry `next_avail`, and where the used ring stands.
    pub(crate) fn new(
        ring: SplitRing,
        next_avail: u16,
        features: Features,
        used_log: Option<UsedLog>,
    ) -> SplitQueue {
        let used_idx = ring.used_idx();
        SplitQueue {
            ring,
            next_avail,
            avail_seen: next_avail,
            used_next: used_idx,
            used_shown: used_idx,
            used_published: used_idx,
            event_idx: features.contains(Features::EVENT_IDX),
            notify_on_empty: features.contains(Features::NOTIFY_ON_EMPTY),
            armed_for: None,
            used_log,
        }
    }

    /// The next available entry to be taken.
    pub(crate) fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// Whether there is something to take, or something wrong with the ring to be found.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.next_avail != self.avail_seen || self.ring.avail_idx() != self.avail_seen
    }

    /// The next chain's head, below the ring's size. When the ring had been empty, `last` tells what to ask the
    /// processor for.
    #[inline]
    pub(crate) fn take(&mut self, last: &LastChain, view: &MemoryView) -> Result<Option<u16>, Broken> {
        if self.next_avail == self.avail_seen {
            if !self.look()? {
                return Ok(None);
            }
            self.look_again(last, view);
        }
        let head = self.ring.avail_entry(self.next_avail);
        if head >= self.ring.size() {
            return Err(Broken::HeadOutside { head });
        }
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(head))
    }

    /// Asks the processor for what the next chains need, while this one is worked on. Header, table and descriptor were
    /// last written on the guest's core, and fetching such a line takes longer than all the rest of a short request.
    /// Each is asked for when what says where it lies has come. The header's line is asked for to be written: the status
    /// byte lies behind the header in nearly all drivers.
    #[inline]
    pub(crate) fn look_ahead(&self, view: &MemoryView) {
        let left = self.avail_seen.wrapping_sub(self.next_avail);
        let entry = |ahead| self.ring.avail_entry(self.next_avail.wrapping_add(ahead));
        // What is read here is a hint and nothing more: the chain is read and checked again when it is taken.
        if left > DESCRIPTOR_AHEAD {
            self.ring.prefetch_descriptor(entry(DESCRIPTOR_AHEAD));
        }
        if left > TABLE_AHEAD {
            let first = self.ring.descriptor(entry(TABLE_AHEAD));
            if first.is_indirect() {
                view.prefetch(first.address);
            }
        }
        if left > HEADER_AHEAD {
            let mut first = self.ring.descriptor(entry(HEADER_AHEAD));
            if first.is_indirect() {
                let table = view.indirect(first.address, first.bytes);
                match table.and_then(|table| table.descriptor(0)) {
                    Some(in_table) => first = in_table,
                    None => return,
                }
            }
            view.prefetch_for_write(first.address);
        }
    }

    /// The same when the ring had been empty: there was no time to ask for anything, and the first chain's entry,
    /// descriptor and header would have to come one after the other. A driver that has one request in flight mostly
    /// uses the chain again that it got back last, so that one is asked for at once.
    #[inline]
    pub(crate) fn look_again(&self, last: &LastChain, view: &MemoryView) {
        self.ring.prefetch_descriptor(last.head);
        view.prefetch_for_write(last.header);
        if let Some(table) = last.table {
            view.prefetch(table);
        }
        self.ring.prefetch_used(self.used_next);
    }

    /// Writes a used entry, not yet visible.
    #[inline]
    pub(crate) fn put(&mut self, head: u16, bytes: u32) {
        self.ring.put_used(self.used_next, head, bytes);
        if let Some(used_log) = &self.used_log {
            let position = u64::from(self.used_next & (self.ring.size() - 1));
            used_log.log.mark(used_log.at.wrapping_add(4 + 8 * position), 8);
        }
        self.used_next = self.used_next.wrapping_add(1);
    }

    /// Whether so many entries wait to be seen that a driver which polls should see them now.
    #[inline]
    pub(crate) fn has_enough_to_show(&self) -> bool {
        self.used_next.wrapping_sub(self.used_shown) >= SHOWN_AT_ONCE
    }

    /// Makes all entries visible, and leaves notifying to `publish`. The used index.
    #[inline]
    pub(crate) fn show(&mut self) -> u16 {
        self.used_shown = self.used_next;
        self.ring.set_used_idx(self.used_next);
        if let Some(used_log) = &self.used_log {
            used_log.log.mark(used_log.at, 4);
        }
        self.used_next
    }

    /// Makes all entries visible. The used index if there were any since the last time.
    #[inline]
    pub(crate) fn publish(&mut self) -> Option<Published> {
        if self.used_next == self.used_published {
            return None;
        }
        let before = self.used_published;
        self.used_published = self.used_next;
        if self.used_shown != self.used_next {
            self.show();
        }
        Some(Published {
            before,
            used_idx: self.used_next,
        })
    }

    /// Whether the driver wants to be told of what has been published.
    #[inline]
    pub(crate) fn wants_notification(&self, published: Published) -> bool {
        // The driver writes its event index, then reads the used index; we wrote the used index, now read its event index.
        // Without a full fence on both sides each could miss the other's store (virtio 1.3, 2.7.7.2).
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            event_passed(self.ring.used_event(), published.used_idx, published.before)
        } else {
            self.ring.avail_flags() & NO_INTERRUPT == 0
        };
        wanted || (self.notify_on_empty && self.ring.avail_idx() == self.next_avail)
    }

    /// Asks the driver for a notification of the next available entry. True when there are some already.
    ///
    /// What has been asked for already is not asked for again: a kick has come since, or will, if there are entries that
    /// this look does not find.
    pub(crate) fn arm(&mut self) -> Result<bool, Broken> {
        let asked = match self.event_idx {
            true => self.armed_for == Some(self.next_avail),
            false => self.armed_for.is_some(),
        };
        if !asked {
            if self.event_idx {
                self.ring.set_avail_event(self.next_avail);
            } else {
                self.ring.set_used_flags(0);
            }
            self.armed_for = Some(self.next_avail);
            self.log_notification_area();
            fence(Ordering::SeqCst);
        }
        if self.next_avail != self.avail_seen {
            return Ok(true);
        }
        self.look()
    }

    /// Asks the driver for silence. With EVENT_IDX the event is put behind us, out of reach for 65535 entries.
    pub(crate) fn disarm(&mut self) {
        if self.event_idx {
            self.ring.set_avail_event(self.next_avail.wrapping_sub(1));
        } else {
            self.ring.set_used_flags(NO_NOTIFY);
        }
        self.armed_for = None;
        self.log_notification_area();
    }

    /// What has become of memory that is lost.
    #[cold]
    fn loss(&self) -> Broken {
        let log_shrunk = |used_log: &UsedLog| used_log.log.has_shrunk();
        match self.ring.memory().has_shrunk() || self.used_log.as_ref().is_some_and(log_shrunk) {
            true => Broken::MemoryLost,
            false => Broken::NoPage,
        }
    }

    /// Reads the available index. True when there is something to take.
    #[inline]
    fn look(&mut self) -> Result<bool, Broken> {
        let avail_idx = self.ring.avail_idx();
        let log_lost = |used_log: &UsedLog| used_log.log.is_lost();
        if self.ring.memory().is_lost() || self.used_log.as_ref().is_some_and(log_lost) {
            return Err(self.loss());
        }
        // A driver has no more entries than the ring: what it offers and what we owe it fit the ring together.
        let size = self.ring.size();
        let jumped =
            avail_idx.wrapping_sub(self.next_avail) > size || avail_idx.wrapping_sub(self.used_shown) > size;
        if jumped {
            return Err(Broken::AvailJumped {
                avail_idx,
                next_avail: self.next_avail,
            });
        }
        self.avail_seen = avail_idx;
        Ok(avail_idx != self.next_avail)
    }

    fn log_notification_area(&self) {
        if let Some(used_log) = &self.used_log {
            let at = if self.event_idx {
                4 + 8 * u64::from(self.ring.size())
            } else {
                0
            };
            used_log.log.mark(used_log.at.wrapping_add(at), 2);
        }
    }
}

/// What one `publish` has made visible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Published {
    /// The used index before.
    pub(crate) before: u16,
    /// The used index now.
    pub(crate) used_idx: u16,
}

/// `vring_need_event` (virtio 1.3, 2.7.10): whether moving the index from `before` to `now` passed `event`.
#[inline]
pub(crate) fn event_passed(event: u16, now: u16, before: u16) -> bool {
    now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
}
