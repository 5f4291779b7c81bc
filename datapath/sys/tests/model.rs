//! A file under random operations behaves as an array of bytes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Op, Segment};
use palisade_sys::MemoryRegistration;
use palisade_words::PinnedId;
use proptest::prelude::*;
use rig::{Buffer, Rig};
use std::sync::Arc;

const BLOCKS: usize = 64;
/// Data goes out of the first part of the buffer and comes back into the second.
const BACK: usize = 1 << 20;

#[derive(Clone, Debug)]
struct Step {
    kind: u8,
    block: usize,
    blocks: usize,
    cuts: Vec<usize>,
    seed: u8,
    durable: bool,
    pinned: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..BLOCKS).prop_flat_map(|block| (Just(block), 1..=(BLOCKS - block).min(24)));
    let cuts = prop::collection::vec(1..8usize, 0..12);
    (0..7u8, range, cuts, any::<u8>(), any::<bool>(), any::<bool>()).prop_map(
        |(kind, (block, blocks), cuts, seed, durable, pinned)| Step {
            kind,
            block,
            blocks,
            cuts,
            seed,
            durable,
            pinned,
        },
    )
}

/// Cuts `bytes` into segments with gaps between them; places of data in the buffer, in order.
fn segments(buffer: &Buffer, start: usize, bytes: usize, block: usize, cuts: &[usize]) -> Vec<Segment> {
    let (mut list, mut left, mut at) = (Vec::new(), bytes, start);
    for cut in cuts {
        let piece = cut * block;
        if piece >= left {
            break;
        }
        list.push(buffer.segment(at, piece));
        at += piece + block;
        left -= piece;
    }
    list.push(buffer.segment(at, left));
    list
}

fn bytes_of(buffer: &mut Buffer, list: &[Segment]) -> Vec<u8> {
    let base = buffer.0.segment().address();
    let slice = buffer.slice();
    list.iter()
        .flat_map(|segment| slice[segment.address() - base..][..segment.bytes()].to_vec())
        .collect()
}

fn check(block: usize, steps: Vec<Step>) {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, (BLOCKS * block) as u64, block as u32);
    let mut rig = Rig::new(opened);
    let mut buffer = Buffer::new(2 << 20);
    rig.on(&buffer);
    let registration = Arc::new(MemoryRegistration::prepare(buffer.0.lease()));
    let (mut model, mut was_pinned) = (vec![0u8; BLOCKS * block], false);
    for step in steps {
        let (at, bytes) = (step.block * block, step.blocks * block);
        match step.pinned {
            true if was_pinned => {}
            true => drop(rig.devices.add_memory(PinnedId(1), Arc::clone(&registration))),
            false => drop(rig.devices.remove_memory(PinnedId(1))),
        }
        was_pinned = step.pinned;
        rig.durable = step.durable;
        let range = at..at + bytes;
        match step.kind {
            0 | 1 => {
                buffer.fill(0, BACK, step.seed);
                let list = segments(&buffer, 0, bytes, block, &step.cuts);
                rig.write(at as u64, &list).unwrap();
                model[range].copy_from_slice(&bytes_of(&mut buffer, &list));
            }
            2 | 3 => {
                let list = segments(&buffer, BACK, bytes, block, &step.cuts);
                rig.read(at as u64, &list).unwrap();
                assert_eq!(bytes_of(&mut buffer, &list), model[range]);
            }
            4 => rig.run(Op::Flush, 0, 0, &[]).unwrap(),
            kind => {
                let op = if kind == 5 {
                    Op::Discard
                } else {
                    Op::WriteZeroes {
                        unmap: step.seed % 2 == 0,
                    }
                };
                rig.run(op, at as u64, bytes as u64, &[]).unwrap();
                model[range].fill(0);
            }
        }
    }
    drop(rig);
    assert_eq!(std::fs::read(path).unwrap(), model);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_is_an_array_of_bytes(large in any::<bool>(), steps in prop::collection::vec(step(), 1..60)) {
        check(if large { 4096 } else { 512 }, steps);
    }
}
