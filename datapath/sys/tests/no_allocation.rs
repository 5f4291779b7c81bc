//! Starting, submitting and reaping allocate nothing, whatever the operation.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Devices, Io, Nanos, Op, Pool, Segment, Started};
use palisade_sys::counting_allocator::{CountingAllocator, counted};
use palisade_sys::device::DeviceMedium;
use palisade_sys::{HugePool, MemoryRegistration};
use palisade_words::{Lba, PinnedId, Sectors, SlotIndex};
use rig::{Buffer, DEVICE, MIB, Rig};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn the_way_of_an_operation_allocates_nothing() {
    let directory = rig::directory();
    let (_, file) = rig::open_file(&directory, 4 * MIB, 4096);
    let buffer = Buffer::new(4 << 20);
    let registration = Arc::new(MemoryRegistration::prepare(buffer.0.lease()));
    let list = [buffer.segment(0, 4096), buffer.segment(8192, 4096)];
    let memory_device = rig::open(DeviceMedium::Memory { bytes: 4 * MIB }, 4096);
    let mut pool = HugePool::new(4).unwrap();
    for opened in [file, memory_device] {
        let mut rig = Rig::new(opened);
        rig.on(&buffer);
        for pinned in [false, true] {
            if pinned {
                rig.devices.add_memory(PinnedId(1), Arc::clone(&registration));
            }
            let allocations = rounds(&mut rig, &mut pool, &buffer, &list);
            assert_eq!(allocations, 0);
        }
    }
    assert_eq!(counted(|| drop(vec![0u8; 100])).1, 1, "the counter counts");
}

fn rounds(rig: &mut Rig, pool: &mut HugePool, buffer: &Buffer, list: &[Segment; 2]) -> u64 {
    let ((), allocations) = counted(|| {
        for round in 0..200u32 {
            one_round(rig, list, round);
            let bounce = pool.take().unwrap();
            pool.gather(buffer.0.lease(), list, 512, bounce, 4096);
            pool.scatter(bounce, buffer.0.lease(), list, 512, 4096);
            pool.give(bounce);
        }
    });
    allocations
}

fn one_round(rig: &mut Rig, list: &[Segment], round: u32) {
    let ops = [
        Op::Write,
        Op::Read,
        Op::Flush,
        Op::Discard,
        Op::WriteZeroes { unmap: false },
    ];
    let mut pending = 0;
    for (slot, op) in ops.into_iter().enumerate() {
        let segments = match round % 2 {
            0 => list,
            _ => &list[..1],
        };
        let bytes = if op == Op::Flush { 0 } else { rig::sum(segments) };
        let io = Io {
            device: DEVICE,
            slot: SlotIndex(slot as u32),
            mapping: &rig::MAPPING,
            deadline: Nanos(u64::MAX),
            op,
            lba: Lba(u64::from(round) * 16),
            sectors: Sectors(bytes / 512),
            durable: round.is_multiple_of(3),
            alone: false,
            memory: rig.memory,
            segments: if op.moves_data() { segments } else { &[] },
        };
        pending += usize::from(rig.devices.start(io) == Started::Pending);
    }
    rig.devices.cancel(SlotIndex(4));
    while pending > 0 {
        rig.devices.submit();
        pending -= rig.devices.reap(|_, _| {});
        if pending > 0 {
            rig.devices.pause();
        }
    }
}
