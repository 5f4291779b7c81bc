//! Each rule of a chain by itself: a request in good order, framed in any way, with one fault that no other rule would
//! find. Beside it the quick way, which must leave such chains to the general one.

use super::oracle::{BYTES, DATA, RING, SIZE, SPLIT, TABLES, encode, well_formed};
use crate::chain::{self, Malformed, Unusable};
use crate::split::LastChain;
use palisade_block::SegmentList;
use palisade_memory::{Descriptor, GuestMemory, MemoryView, SplitRing};
use proptest::prelude::*;

const NEXT: u16 = Descriptor::NEXT;
const WRITE: u16 = Descriptor::WRITE;
const INDIRECT: u16 = Descriptor::INDIRECT;

/// What is seen of a chain: the fault, and whether the quick way takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    fault: Result<Option<Malformed>, Unusable>,
    quick: bool,
}

/// The same for one that is refused, as each with a fault must be.
fn refused(fault: Malformed) -> Seen {
    Seen {
        fault: Ok(Some(fault)),
        quick: false,
    }
}

fn seen(ring: &[Descriptor], table: &[Descriptor], head: u16, offered: bool) -> Seen {
    let memory = GuestMemory::anonymous(&[(0, SPLIT), (SPLIT, BYTES - SPLIT)]).unwrap();
    assert!(memory.write(RING.descriptors, &encode(ring)));
    assert!(memory.write(TABLES, &encode(table)));
    let view = MemoryView::new(memory.clone());
    let ring = SplitRing::new(memory, SIZE, RING).unwrap();
    let mut segments = SegmentList::default();
    let mut last = LastChain::default();
    let quick = chain::collect_usual(&ring, &view, head, offered, &mut segments, &mut last).is_some();
    let general = chain::collect_any(&ring, &view, head, offered, &mut segments, u32::MAX);
    Seen {
        fault: general.sorted.map(|sorted| sorted.fault),
        quick,
    }
}

/// A chain in the ring's own table.
fn direct(chain: &[Descriptor]) -> Seen {
    seen(chain, &[], 0, true)
}

/// A table of `entries`, behind which more of the chain may lie.
fn in_table(chain: &[Descriptor], bytes: usize) -> Seen {
    seen(&[to_table(bytes, 0)], chain, 0, true)
}

fn to_table(bytes: usize, flags: u16) -> Descriptor {
    Descriptor {
        address: TABLES,
        bytes: bytes as u32,
        flags: INDIRECT | flags,
        next: 1,
    }
}

/// An empty buffer: it adds nothing to a request.
fn empty(flags: u16, next: u16) -> Descriptor {
    Descriptor {
        address: DATA,
        bytes: 0,
        flags,
        next,
    }
}

/// The chain goes on behind its status byte.
fn followed_by(chain: &[Descriptor], more: Descriptor) -> Vec<Descriptor> {
    let mut chain = chain.to_vec();
    let last = chain.len() - 1;
    chain[last].flags |= NEXT;
    chain[last].next = chain.len() as u16;
    chain.push(more);
    chain
}

/// Entries `0..` of the ring's own table.
fn ring(descriptors: &[Descriptor]) -> Vec<Descriptor> {
    let mut ring = descriptors.to_vec();
    ring.resize(usize::from(SIZE), empty(0, 0));
    ring
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Index `SIZE` is no other name of index 0.
    #[test]
    fn a_next_outside_the_table(good in well_formed(), which: prop::sample::Index) {
        let len = good.len();
        // Behind the status byte, where a fault can be told.
        let mut turned = vec![empty(WRITE, 0)];
        turned.extend(good.iter().map(|&one| Descriptor { next: one.next + 1, ..one }));
        turned[len].flags |= NEXT;
        turned[len].next = 0;
        prop_assert_eq!(seen(&turned, &[], 1, true).fault, Ok(None));
        for next in [SIZE, 2 * SIZE] {
            turned[len].next = next;
            prop_assert_eq!(seen(&turned, &[], 1, true), refused(Malformed::NextOutside), "{}", next);
        }
        let on = followed_by(&good, empty(WRITE, 0));
        prop_assert_eq!(in_table(&on, 16 * on.len()).fault, Ok(None));
        prop_assert_eq!(in_table(&on, 16 * len), refused(Malformed::NextOutside));
        // Before it, at any place: the quick way leaves it alone, too.
        let size = usize::from(SIZE);
        let place = 1 + which.index(len - 1);
        let mut turned = ring(&[]);
        for (at, one) in good.iter().enumerate() {
            let next = (at + 1 + size - place) % size;
            turned[(at + size - place) % size] = Descriptor { next: next as u16, ..*one };
        }
        let head = SIZE - place as u16;
        prop_assert_eq!(seen(&turned, &[], head, true), direct(&good));
        turned[size - 1].next = SIZE;
        let outside = seen(&turned, &[], head, true);
        prop_assert!(!outside.quick && outside.fault != Ok(None), "{:?}", outside);
        let outside = in_table(&good, 16 * place);
        prop_assert!(!outside.quick && outside.fault != Ok(None), "{:?}", outside);
    }

    /// Empty buffers add nothing to a request that is whole; they have to end all the same.
    #[test]
    fn a_circle_behind_a_request(good in well_formed()) {
        let own = good.len() as u16;
        let circle = followed_by(&good, empty(WRITE | NEXT, own));
        prop_assert_eq!(direct(&circle), refused(Malformed::TooLong));
        prop_assert_eq!(in_table(&circle, 16 * circle.len()), refused(Malformed::TooLong));
    }

    #[test]
    fn tables_where_none_may_be(good in well_formed(), which: prop::sample::Index) {
        let whole = 16 * good.len();
        prop_assert_eq!(in_table(&good, whole).fault, Ok(None));
        // Not offered.
        let alone = ring(&[to_table(whole, 0)]);
        prop_assert_eq!(seen(&alone, &good, 0, false), refused(Malformed::Indirect));
        // Not the last of its chain.
        let on = ring(&[to_table(whole, NEXT), empty(WRITE, 0)]);
        prop_assert_eq!(seen(&on, &good, 0, true), refused(Malformed::Indirect));
        // Of a length that is no number of entries, behind the last that is used.
        for more in 1..16 {
            prop_assert_eq!(in_table(&good, whole + more), refused(Malformed::Indirect), "{}", more);
        }
        // Of none.
        for bytes in [0, 15] {
            let behind = followed_by(&good, to_table(bytes, 0));
            prop_assert_eq!(direct(&behind), refused(Malformed::Indirect), "{}", bytes);
        }
        // In another table: behind the status byte, and at any place before it.
        let nested = followed_by(&good, to_table(whole, 0));
        prop_assert_eq!(in_table(&nested, 16 * nested.len()), refused(Malformed::Indirect));
        let mut nested = good.clone();
        let place = which.index(good.len());
        nested.insert(place, to_table(whole, NEXT));
        for (next, one) in (1..).zip(&mut nested) {
            one.next = next;
        }
        prop_assert_eq!(in_table(&nested, 16 * nested.len()), refused(Malformed::Indirect));
    }

    #[test]
    fn buffers_in_no_order_or_outside(good in well_formed(), which: prop::sample::Index) {
        let readable = followed_by(&good, empty(0, 0));
        prop_assert_eq!(direct(&readable), refused(Malformed::Order));
        prop_assert_eq!(in_table(&readable, 16 * readable.len()), refused(Malformed::Order));
        let data: Vec<usize> = (0..good.len()).filter(|&at| good[at].bytes >= 512).collect();
        let mut outside = good.clone();
        outside[data[which.index(data.len())]].address = BYTES - 511;
        prop_assert_eq!(direct(&outside), refused(Malformed::Outside));
        prop_assert_eq!(in_table(&outside, 16 * good.len()), refused(Malformed::Outside));
    }
}
