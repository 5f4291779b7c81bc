//! Our reader beside rust-vmm's `virtio-queue`: the same bytes, the same chains.
//!
//! Where the two part on purpose the bytes are left out here and tested elsewhere: INDIRECT with NEXT (the oracle goes
//! on), indirect tables that lie across two regions (ours goes on), and chains of more than 4 GiB (the oracle ends
//! without a word, we answer with an error). Of a chain that never ends properly the oracle says nothing; we answer it
//! if a writable byte was met.

use super::rig::all_features;
use crate::Features;
use crate::blk::kind;
use crate::blk::request::{Parsed, Rules};
use crate::chain;
use crate::driver::BlkHeader;
use crate::split::LastChain;
use palisade_block::limits::SEGMENTS_PER_SLOT;
use palisade_block::{Op, SegmentList};
use palisade_memory::{Descriptor, GuestMemory, MemoryView, RingAddresses, SplitRing};
use palisade_words::{Lba, Sectors};
use proptest::prelude::*;
use std::sync::Arc;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub(super) const SIZE: u16 = 8;
pub(super) const BYTES: u64 = 0x1_0000;
/// The second region, next to the first.
pub(super) const SPLIT: u64 = 0x8000;
pub(super) const RING: RingAddresses = RingAddresses {
    descriptors: 0,
    avail: 0x100,
    used: 0x200,
};
pub(super) const TABLES: u64 = 0x400;
const HEADERS: u64 = 0x1000;
pub(super) const DATA: u64 = 0x2000;

/// A piece of guest memory.
type Piece = (u64, u64);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    /// Returned with length 0.
    Lost,
    /// Answered with an error.
    Refused,
    /// Handed over, with the data buffers joined where they touch.
    Request(Op, Lba, Sectors, Vec<Piece>, u64),
}

fn descriptor() -> impl Strategy<Value = Descriptor> {
    let address = prop_oneof![
        4 => (0..8u64).prop_map(|at| HEADERS + 16 * at),
        4 => (0..8u64).prop_map(|at| DATA + 512 * at),
        2 => (0..4u64).prop_map(|at| TABLES + 128 * at),
        1 => Just(SPLIT - 512),
        1 => Just(BYTES - 1),
        1 => Just(BYTES),
        1 => Just(u64::MAX - 255),
    ];
    let bytes = prop_oneof![
        4 => Just(16u32), 3 => Just(1u32), 4 => Just(512u32), 2 => Just(1024u32), 1 => Just(0u32), 1 => Just(513u32),
        1 => Just(8u32), 1 => Just(128u32), 1 => Just(1u32 << 27),
    ];
    let flags = prop_oneof![
        3 => Just(0u16), 6 => Just(1u16), 6 => Just(3u16), 3 => Just(2u16), 1 => Just(4u16), 1 => Just(6u16),
    ];
    (address, bytes, flags, 0..10u16).prop_map(|(address, bytes, flags, next)| {
        let across = flags & Descriptor::INDIRECT != 0 && address == SPLIT - 512;
        Descriptor {
            address: if across { TABLES } else { address },
            bytes,
            flags,
            next,
        }
    })
}

/// Tables of eight, the descriptors in a row more often than not.
pub(super) fn table() -> impl Strategy<Value = Vec<Descriptor>> {
    (prop::collection::vec(descriptor(), 8), any::<bool>()).prop_map(|(mut table, in_a_row)| {
        for (index, descriptor) in (0u16..).zip(&mut table) {
            if in_a_row {
                descriptor.next = index + 1;
            }
        }
        table
    })
}

/// A request as a driver makes it, framed at random.
pub(super) fn well_formed() -> impl Strategy<Value = Vec<Descriptor>> {
    let header = prop_oneof![Just(vec![16u32]), Just(vec![4, 12]), Just(vec![1, 15])];
    let data = prop::collection::vec((0..8u64, 1..3u32), 1..4);
    (header, data, any::<bool>(), 0..8u64).prop_map(|(header, data, write, which)| {
        let mut at = HEADERS + 16 * which;
        let mut table = Vec::new();
        for bytes in header {
            table.push(Descriptor {
                address: at,
                bytes,
                flags: 1,
                next: 0,
            });
            at += u64::from(bytes);
        }
        for (block, blocks) in data {
            let flags = if write { 3 } else { 1 };
            table.push(Descriptor {
                address: DATA + 512 * block,
                bytes: 512 * blocks,
                flags,
                next: 0,
            });
        }
        table.push(Descriptor {
            address: DATA + 0x4000,
            bytes: 1,
            flags: 2,
            next: 0,
        });
        for (index, descriptor) in (1u16..).zip(&mut table) {
            descriptor.next = index;
        }
        table
    })
}

pub(super) fn encode(table: &[Descriptor]) -> Vec<u8> {
    let words = table.iter().map(
        |&Descriptor {
             address,
             bytes,
             flags,
             next,
         }| {
            let rest = u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48;
            (u128::from(address) | u128::from(rest) << 64).to_le_bytes()
        },
    );
    words.flatten().collect()
}

fn join(pieces: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for (at, bytes) in pieces.into_iter().filter(|piece| piece.1 > 0) {
        match joined.last_mut() {
            Some(last) if last.0 + last.1 == at => last.1 += bytes,
            _ => joined.push((at, bytes)),
        }
    }
    joined
}

/// What we make of the chain at `head`.
fn ours(memory: &Arc<GuestMemory>, head: u16) -> Seen {
    let view = MemoryView::new(Arc::clone(memory));
    let ring = SplitRing::new(Arc::clone(memory), SIZE, RING).unwrap();
    let mut segments = SegmentList::default();
    let mut last = LastChain::default();
    let usual = chain::collect_usual(&ring, &view, head, true, &mut segments, &mut last);
    let parts = match usual {
        Some(parts) => parts,
        None => match chain::collect_any(&ring, &view, head, true, &mut segments, u32::MAX).sorted {
            Ok(sorted) if sorted.fault.is_some() => return Seen::Refused,
            Ok(sorted) => sorted.parts,
            Err(_) => return Seen::Lost,
        },
    };
    let rules = Rules {
        features: all_features().without(Features::DISCARD),
        writable: true,
        block_bytes: 512,
    };
    match rules.parse(parts, &view, &mut segments) {
        Ok(Parsed::Block { op, lba, sectors, .. }) => {
            let pieces = segments.as_slice().iter();
            let pieces = pieces.map(|piece| {
                (
                    memory.host_to_guest(piece.address()).unwrap(),
                    piece.bytes() as u64,
                )
            });
            Seen::Request(
                op,
                lba,
                sectors,
                join(pieces),
                memory.host_to_guest(parts.reply).unwrap(),
            )
        }
        Ok(Parsed::Id) => panic!("no such header"),
        Err(_) => Seen::Refused,
    }
}

/// What follows from the descriptors that the oracle finds, by the letter of the standard.
fn theirs(memory: &GuestMemoryMmap, head: u16) -> Seen {
    let mut queue = Queue::new(SIZE).unwrap();
    queue
        .try_set_desc_table_address(GuestAddress(RING.descriptors))
        .unwrap();
    queue
        .try_set_avail_ring_address(GuestAddress(RING.avail))
        .unwrap();
    queue.try_set_used_ring_address(GuestAddress(RING.used)).unwrap();
    queue.set_ready(true);
    memory.write_obj(head, GuestAddress(RING.avail + 4)).unwrap();
    memory.write_obj(1u16, GuestAddress(RING.avail + 2)).unwrap();
    let chain: Vec<_> = queue.pop_descriptor_chain(memory).unwrap().collect();
    // The oracle's iterator ends silently on a malformed chain; a whole one ends without NEXT.
    if chain.last().is_none_or(|last| last.has_next()) {
        return Seen::Lost;
    }
    let mapped = |at: u64, bytes: u64| at.checked_add(bytes).is_some_and(|end| end <= BYTES);
    let mut readable = Vec::new();
    let mut writable = Vec::new();
    let mut good = true;
    for descriptor in &chain {
        let piece = (descriptor.addr().0, u64::from(descriptor.len()));
        if descriptor.is_write_only() {
            writable.extend((piece.1 > 0).then_some(piece));
        } else {
            good &= writable.is_empty();
            readable.push(piece);
        }
    }
    let Some((at, bytes)) = writable.pop() else {
        return Seen::Lost;
    };
    let Some(status) = at.checked_add(bytes - 1).filter(|&at| mapped(at, 1)) else {
        return Seen::Lost;
    };
    writable.push((at, bytes - 1));
    let pieces = readable.iter().chain(&writable);
    good &= pieces.clone().all(|&(at, bytes)| bytes == 0 || mapped(at, bytes));
    if !good {
        return Seen::Refused;
    }
    let mut header = Vec::new();
    for piece in &mut readable {
        let take = piece.1.min(16 - header.len() as u64);
        let mut bytes = vec![0; take as usize];
        memory.read_slice(&mut bytes, GuestAddress(piece.0)).unwrap();
        header.extend(bytes);
        *piece = (piece.0 + take, piece.1 - take);
    }
    let Ok(header) = <[u8; 16]>::try_from(header) else {
        return Seen::Refused;
    };
    let header = u128::from_le_bytes(header);
    let (request, sector) = (header as u32, (header >> 64) as u64);
    if request > kind::OUT {
        return Seen::Refused;
    }
    let (out, into) = (join(readable), join(writable));
    let (op, data, other) = if request == kind::IN {
        (Op::Read, into, out)
    } else {
        (Op::Write, out, into)
    };
    let bytes: u64 = data.iter().map(|piece| piece.1).sum();
    if !other.is_empty() || bytes == 0 || !bytes.is_multiple_of(512) {
        return Seen::Refused;
    }
    assert!(data.len() < SEGMENTS_PER_SLOT);
    Seen::Request(op, Lba(sector), Sectors(bytes / 512), data, status)
}

fn both(ring: &[Descriptor], tables: &[Vec<Descriptor>], head: u16) -> (Seen, Seen) {
    let ours_memory = GuestMemory::anonymous(&[(0, SPLIT), (SPLIT, BYTES - SPLIT)]).unwrap();
    let split = [
        (GuestAddress(0), SPLIT as usize),
        (GuestAddress(SPLIT), (BYTES - SPLIT) as usize),
    ];
    let theirs_memory = GuestMemoryMmap::<()>::from_ranges(&split).unwrap();
    let write = |at: u64, bytes: &[u8]| {
        assert!(ours_memory.write(at, bytes));
        theirs_memory.write_slice(bytes, GuestAddress(at)).unwrap();
    };
    write(RING.descriptors, &encode(ring));
    for (index, table) in (0u64..).zip(tables) {
        write(TABLES + 128 * index, &encode(table));
    }
    for index in 0..9u64 {
        let kind = if index % 2 == 0 { kind::IN } else { kind::OUT };
        write(HEADERS + 16 * index, &BlkHeader { kind, sector: index }.encode());
    }
    (ours(&ours_memory, head), theirs(&theirs_memory, head))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chain_means_the_same(
        ring in table(), tables in prop::collection::vec(table(), 4), head in 0..SIZE, good in well_formed(), use_good: u8,
    ) {
        let mut tables = tables;
        let mut ring = ring;
        match use_good % 4 {
            0 => ring[..good.len()].copy_from_slice(&good),
            1 => {
                tables[0][..good.len()].copy_from_slice(&good);
                ring[usize::from(head)] = Descriptor { address: TABLES, bytes: 128, flags: 4, next: 0 };
            }
            _ => {}
        }
        let head = if use_good % 4 == 0 { 0 } else { head };
        let (ours, theirs) = both(&ring, &tables, head);
        if use_good % 4 == 0 {
            prop_assert_ne!(&ours, &Seen::Lost);
        }
        if theirs == Seen::Lost {
            prop_assert!(matches!(ours, Seen::Lost | Seen::Refused), "{:?}", ours);
        } else {
            prop_assert_eq!(ours, theirs);
        }
    }
}
