//! The quick way for the usual shape of a chain beside the general one: what the first takes, the second takes as well,
//! and understands the same. And what nearly all drivers send goes the quick way.

use super::oracle::{BYTES, DATA, RING, SIZE, SPLIT, TABLES, encode, table, well_formed};
use crate::chain::{self, Parts};
use crate::split::LastChain;
use palisade_block::SegmentList;
use palisade_memory::{Descriptor, GuestMemory, MemoryView, SplitRing};
use proptest::prelude::*;

/// Address and bytes of each segment.
type Pieces = Vec<(usize, usize)>;

/// What either way makes of the chain at `head`; the general one when it has no fault.
fn both_ways(ring: &[Descriptor], indirect: &[Descriptor], head: u16) -> [Option<(Parts, Pieces)>; 2] {
    let memory = GuestMemory::anonymous(&[(0, SPLIT), (SPLIT, BYTES - SPLIT)]).unwrap();
    assert!(memory.write(RING.descriptors, &encode(ring)));
    assert!(memory.write(TABLES, &encode(indirect)));
    let view = MemoryView::new(memory.clone());
    let ring = SplitRing::new(memory, SIZE, RING).unwrap();
    let mut segments = SegmentList::default();
    let pieces = |segments: &SegmentList| -> Pieces {
        let all = segments.as_slice().iter();
        all.map(|piece| (piece.address(), piece.bytes())).collect()
    };
    let mut last = LastChain::default();
    let quick = chain::collect_usual(&ring, &view, head, true, &mut segments, &mut last);
    let quick = quick.map(|parts| (parts, pieces(&segments)));
    let general = chain::collect_any(&ring, &view, head, true, &mut segments, u32::MAX)
        .sorted
        .ok();
    let general = general.filter(|sorted| sorted.fault.is_none());
    let general = general.map(|sorted| (sorted.parts, pieces(&segments)));
    [quick, general]
}

/// A descriptor that leads to an indirect table of `entries`.
fn to_table(entries: usize) -> Descriptor {
    Descriptor {
        address: TABLES,
        bytes: 16 * entries as u32,
        flags: Descriptor::INDIRECT,
        next: 0,
    }
}

/// The ring and the indirect table that carry a chain, directly or not.
fn placed(chain: &[Descriptor], indirect: bool) -> (Vec<Descriptor>, Vec<Descriptor>) {
    let nothing = Descriptor {
        address: 0,
        bytes: 0,
        flags: 0,
        next: 0,
    };
    let (mut ring, mut table) = (vec![nothing; usize::from(SIZE)], vec![nothing; usize::from(SIZE)]);
    if indirect {
        ring[0] = to_table(chain.len());
        table[..chain.len()].copy_from_slice(chain);
    } else {
        ring[..chain.len()].copy_from_slice(chain);
    }
    (ring, table)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_quick_way_takes_the_general_one_understands_the_same(
        good in well_formed(), at: prop::sample::Index, twist in 0..5u8, bit in 0..3u16, indirect: bool, other in table(),
        bytes in prop_oneof![Just(0u32), Just(1), Just(2), Just(15), Just(17), Just(512)],
    ) {
        let mut chain = good;
        let place = at.index(chain.len());
        match twist {
            0 => chain[place].flags ^= 1 << bit,
            1 => chain[place].bytes = bytes,
            2 => chain[place].next = (place as u16 + bit) % SIZE,
            3 => chain[place] = other[place % other.len()],
            _ => {}
        }
        let (ring, table) = placed(&chain, indirect);
        if let [Some(quick), general] = both_ways(&ring, &table, 0) {
            prop_assert_eq!(Some(quick), general);
        }
    }
}

#[test]
fn what_nearly_all_drivers_send_goes_the_quick_way() {
    let of = |address, bytes, flags| Descriptor {
        address,
        bytes,
        flags,
        next: 0,
    };
    for (flags, buffers) in [(1, 0), (1, 1), (1, 4), (3, 1), (3, 4)] {
        let mut chain = vec![of(0x1000, 16, 1)];
        chain.extend((0..buffers).map(|number| of(DATA + 1024 * number, 512, flags)));
        chain.push(of(DATA + 0x4000, 1, 2));
        for (next, descriptor) in (1..).zip(&mut chain) {
            descriptor.next = next;
        }
        for indirect in [false, true] {
            let (ring, table) = placed(&chain, indirect);
            let [quick, general] = both_ways(&ring, &table, 0);
            let (parts, pieces) = quick.clone().unwrap();
            assert_eq!(quick, general);
            assert_eq!(pieces.len() as u64, buffers);
            assert_eq!(parts.readable_segments, if flags == 1 { pieces.len() } else { 0 });
        }
    }
}

#[test]
fn an_empty_buffer_that_leads_to_itself_ends() {
    let chain = [
        Descriptor {
            address: 0x1000,
            bytes: 16,
            flags: 1,
            next: 1,
        },
        Descriptor {
            address: DATA,
            bytes: 0,
            flags: 1,
            next: 1,
        },
    ];
    for indirect in [false, true] {
        let (ring, table) = placed(&chain, indirect);
        assert_eq!(both_ways(&ring, &table, 0), [None, None]);
    }
}
