//! One block operation in flight, and the token by which it is answered exactly once (invariant 1).

use crate::lease::Segment;
use crate::limits::{SEGMENTS_LONG_MAX, SEGMENTS_PER_SLOT};
use palisade_words::{Lba, Sectors};

/// What is to be done with a range of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Device to memory.
    Read,
    /// Memory to device.
    Write,
    /// Everything acknowledged before is on stable storage when this is answered (virtio 1.3, 5.2.6.2).
    Flush,
    /// The range's content is no longer wanted.
    Discard,
    /// The range reads as zeroes afterwards.
    WriteZeroes {
        /// The range may be deallocated.
        unmap: bool,
    },
}

impl Op {
    /// How many kinds there are, for tables of counters.
    pub const KINDS: usize = 5;

    /// The kind as a position in a table of counters.
    pub fn kind(self) -> usize {
        match self {
            Op::Read => 0,
            Op::Write => 1,
            Op::Flush => 2,
            Op::Discard => 3,
            Op::WriteZeroes { .. } => 4,
        }
    }

    /// Names of the kinds, in the order of [`Op::kind`]; also the label values of metrics.
    pub const NAMES: [&'static str; Op::KINDS] = ["read", "write", "flush", "discard", "write_zeroes"];

    /// Whether the operation changes the volume.
    pub fn changes(self) -> bool {
        matches!(self, Op::Write | Op::Discard | Op::WriteZeroes { .. })
    }

    /// Whether the operation moves data between memory and device.
    pub fn moves_data(self) -> bool {
        matches!(self, Op::Read | Op::Write)
    }

    /// Whether it gives a range of the device back, or makes zeroes of it.
    pub fn is_range(self) -> bool {
        matches!(self, Op::Discard | Op::WriteZeroes { .. })
    }
}

/// The segments of one request, in a place that is allocated once and used again.
///
/// It has room for [`SEGMENTS_PER_SLOT`]; for the time of a longer request it is lent a [`LongList`], and then all of
/// that request's segments lie in there.
#[derive(Clone, Debug)]
pub struct SegmentList {
    len: usize,
    bytes: u64,
    long: Option<LongList>,
    items: [Segment; SEGMENTS_PER_SLOT],
}

/// Room for the segments of one long request, up to [`SEGMENTS_LONG_MAX`]. Its memory is touched only as far as it is
/// used, so that many can be kept ready.
#[derive(Clone, Debug)]
pub struct LongList(Vec<Segment>);

impl Default for LongList {
    /// Allocates all the room it will ever have.
    fn default() -> Self {
        LongList(Vec::with_capacity(SEGMENTS_LONG_MAX))
    }
}

impl Default for SegmentList {
    fn default() -> Self {
        SegmentList {
            len: 0,
            bytes: 0,
            long: None,
            items: [Segment::EMPTY; SEGMENTS_PER_SLOT],
        }
    }
}

impl SegmentList {
    /// Forgets all segments.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
        self.bytes = 0;
    }

    /// Adds a segment, if one of the list's own places is free; false when none is, though it may have been lent more.
    #[inline]
    pub fn push_own(&mut self, segment: Segment) -> bool {
        let Some(place) = self.items.get_mut(self.len) else {
            return false;
        };
        *place = segment;
        self.len += 1;
        self.bytes += segment.bytes() as u64;
        true
    }

    /// Adds a segment; false when there is no room.
    #[inline]
    pub fn push(&mut self, segment: Segment) -> bool {
        self.push_own(segment) || self.push_long(segment)
    }

    /// Adds a segment behind those that have a place of their own.
    #[cold]
    fn push_long(&mut self, segment: Segment) -> bool {
        let Some(LongList(long)) = &mut self.long else {
            return false;
        };
        if self.len == SEGMENTS_PER_SLOT {
            long.clear();
            long.extend_from_slice(&self.items);
        }
        let fits = long.len() < SEGMENTS_LONG_MAX;
        if fits {
            long.push(segment);
            self.len += 1;
            self.bytes += segment.bytes() as u64;
        }
        fits
    }

    /// Gives it room for a long request. What it holds stays.
    pub fn lend(&mut self, long: LongList) {
        self.long = Some(long);
    }

    /// Takes the room back that was lent. A list that holds more than it has places of its own is empty afterwards.
    pub fn take_back(&mut self) -> Option<LongList> {
        if self.is_long() {
            self.clear();
        }
        self.long.take()
    }

    /// Whether one more segment can be added.
    pub fn has_room(&self) -> bool {
        let places = match self.long {
            Some(_) => SEGMENTS_LONG_MAX,
            None => SEGMENTS_PER_SLOT,
        };
        self.len < places
    }

    /// Whether it has been lent room for a long request.
    pub fn is_lent(&self) -> bool {
        self.long.is_some()
    }

    /// Whether it holds more segments than it has places of its own.
    #[inline]
    pub fn is_long(&self) -> bool {
        self.len > SEGMENTS_PER_SLOT
    }

    /// Shortens it to its first `bytes` bytes, if it has more.
    pub fn truncate(&mut self, bytes: u64) {
        while self.bytes > bytes {
            let surplus = (self.bytes - bytes) as usize;
            let Some(last) = self.items.get_mut(self.len.wrapping_sub(1)) else {
                // Only lists of parts are shortened, and those are never long.
                return self.clear();
            };
            if last.bytes() > surplus {
                *last = last.first(last.bytes() - surplus);
                self.bytes = bytes;
            } else {
                self.bytes -= last.bytes() as u64;
                self.len -= 1;
            }
        }
    }

    /// The segments in order.
    #[inline]
    pub fn as_slice(&self) -> &[Segment] {
        match self.items.get(..self.len) {
            Some(items) => items,
            None => self.long_slice(),
        }
    }

    /// The segments of a list that [is not long](SegmentList::is_long): to be read where nothing long comes by.
    #[inline]
    pub fn own_slice(&self) -> &[Segment] {
        debug_assert!(!self.is_long(), "{} segments", self.len);
        self.items.get(..self.len).unwrap_or(&[])
    }

    #[cold]
    fn long_slice(&self) -> &[Segment] {
        self.long.as_ref().map_or(&[], |LongList(long)| long)
    }

    /// The sum of the segments' lengths in bytes.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many segments there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The right and the duty to answer one request. It is made by the [`Source`](crate::Source) that handed the
/// request over and is given back to it once; in a debug build dropping one stops the program.
///
/// What its two words say is the source's own affair: the head of a descriptor chain and where its answer goes, or the
/// number of a request in a peer's session. Whoever carries it looks at neither.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "every request is answered exactly once"]
pub struct Token {
    /// The first word lies here in halves: a ring's source has two small numbers in it, and to put them together and
    /// take them apart again would cost a request five instructions.
    low: u32,
    high: u32,
    note: u64,
}

impl Token {
    /// For a request that has been taken: the source's name for it, and what else the source wants to know of it when
    /// it is answered.
    #[inline]
    pub fn new(key: u64, note: u64) -> Token {
        Token::of_halves((key as u32, (key >> 32) as u32), note)
    }

    /// The same where the name is of two numbers, the lower half first.
    #[inline]
    pub fn of_halves((low, high): (u32, u32), note: u64) -> Token {
        Token { low, high, note }
    }

    /// The source's name for the request.
    #[inline]
    pub fn key(&self) -> u64 {
        u64::from(self.low) | u64::from(self.high) << 32
    }

    /// The two halves of that, the lower first.
    #[inline]
    pub fn halves(&self) -> (u32, u32) {
        (self.low, self.high)
    }

    /// What else the source wanted to know of it.
    #[inline]
    pub fn note(&self) -> u64 {
        self.note
    }

    /// Ends the token's life on purpose: the answer has been given.
    #[inline]
    pub fn spend(self) {
        std::mem::forget(self);
    }
}

#[cfg(debug_assertions)]
impl Drop for Token {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking(),
            "request {} was dropped without an answer",
            self.key()
        );
    }
}

/// A parsed request: direction, lengths and descriptors have been checked by the source, the range by the engine.
#[derive(Debug)]
pub struct Request {
    /// By which it is answered.
    pub token: Token,
    /// What is to be done.
    pub op: Op,
    /// First sector on the volume.
    pub lba: Lba,
    /// Length; for reads and writes it equals the bytes of the segments. Zero for a flush.
    pub sectors: Sectors,
}

/// The answer a guest gets (virtio 1.3, 5.2.6: the status byte).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// `VIRTIO_BLK_S_OK`
    Ok = 0,
    /// `VIRTIO_BLK_S_IOERR`
    IoErr = 1,
    /// `VIRTIO_BLK_S_UNSUPP`
    Unsupp = 2,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Lease;
    use std::sync::LazyLock;
    use std::sync::atomic::AtomicU64;

    /// Different ones for different numbers below some tens of thousands.
    fn segment(number: usize) -> Segment {
        static LEASE: LazyLock<Lease> =
            LazyLock::new(|| Lease::of_words((0..8 << 10).map(|_| AtomicU64::new(0)).collect()));
        let whole = LEASE.regions()[0];
        whole.part(number, 1 + number % 7).unwrap()
    }

    #[test]
    fn a_token_says_its_words_whole_and_in_halves() {
        let token = Token::new(0x0123_4567_89ab_cdef, 7);
        assert_eq!(token.halves(), (0x89ab_cdef, 0x0123_4567));
        assert_eq!((token.key(), token.note()), (0x0123_4567_89ab_cdef, 7));
        token.spend();
        let token = Token::of_halves((3, 1), u64::MAX);
        assert_eq!((token.key(), token.note()), (3 | 1 << 32, u64::MAX));
        token.spend();
    }

    #[test]
    fn a_list_takes_more_than_its_own_places_only_with_room_that_was_lent() {
        let mut list = SegmentList::default();
        let all: Vec<_> = (0..SEGMENTS_LONG_MAX).map(segment).collect();
        let taken = all.iter().filter(|&&segment| list.push(segment)).count();
        assert_eq!(taken, SEGMENTS_PER_SLOT);
        assert_eq!(list.as_slice(), &all[..SEGMENTS_PER_SLOT]);
        assert!(!list.is_long() && list.take_back().is_none());

        list.lend(LongList::default());
        assert_eq!(list.as_slice(), &all[..SEGMENTS_PER_SLOT], "what it held stays");
        assert!(all[SEGMENTS_PER_SLOT..].iter().all(|&segment| list.push(segment)));
        assert!(!list.push(segment(0)), "no allocation beyond the room lent");
        assert_eq!(list.as_slice(), &all[..]);
        assert_eq!(
            list.bytes(),
            all.iter().map(|segment| segment.bytes() as u64).sum()
        );

        let room = list.take_back().unwrap();
        assert!(list.is_empty() && list.as_slice().is_empty());
        list.push(segment(3));
        assert_eq!(list.as_slice(), [segment(3)]);
        list.lend(room);
        list.clear();
        assert!(all[..200].iter().all(|&segment| list.push(segment)));
        assert_eq!(
            list.as_slice(),
            &all[..200],
            "nothing is left of the request before"
        );
    }

    #[test]
    fn a_list_is_shortened_to_a_number_of_bytes() {
        for bytes in [0, 1, 2, 3, 6, 7, 20, 21, 1000] {
            let mut list = SegmentList::default();
            (0..6).for_each(|number| assert!(list.push(segment(number))));
            list.truncate(bytes);
            let sum: usize = list.as_slice().iter().map(|segment| segment.bytes()).sum();
            assert_eq!(sum as u64, list.bytes());
            assert_eq!(list.bytes(), bytes.min(21));
            assert!(list.as_slice().iter().all(|segment| segment.bytes() > 0));
        }
    }
}
