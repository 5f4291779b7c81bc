//! A reactor that sleeps is woken by completions, and operations can be taken back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Devices, Fault, Io, Lba, MemoryId, Op, Sectors, SlotIndex, Started};
use palisade_sys::{LocalDevices, LocalSettings, Sleeper};
use rig::{Buffer, DEVICE, MIB, Rig};
use std::time::{Duration, Instant};

const RING: usize = 42;

fn io<'a>(slot: u32, op: Op, bytes: u64, segments: &'a [palisade_block::Segment]) -> Io<'a> {
    Io {
        device: DEVICE,
        slot: SlotIndex(slot),
        op,
        lba: Lba(0),
        sectors: Sectors(bytes / 512),
        durable: false,
        alone: false,
        memory: MemoryId(0),
        segments,
    }
}

#[test]
fn a_sleeping_reactor_is_woken_by_every_completion() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, 4 * MIB, 4096);
    let mut rig = Rig::new(opened);
    assert!(
        rig.devices.abilities().deferred,
        "the kernel of this test defers task work: the case that is hard"
    );
    let mut sleeper = Sleeper::new(8).unwrap();
    sleeper.add(rig.devices.wakeup_fd(), RING).unwrap();
    let buffer = Buffer::new(1 << 20);
    let segments = [buffer.segment(0, 1 << 20)];
    let (mut slept, mut woken) = (0, 0);
    for round in 0..300u64 {
        let op = [Op::Write, Op::Flush, Op::Read, Op::WriteZeroes { unmap: false }][(round % 4) as usize];
        let bytes = if op == Op::Flush { 0 } else { MIB >> (round % 5) };
        let mut cut = segments;
        cut[0].bytes = bytes as usize;
        assert_eq!(rig.devices.start(io(7, op, bytes, &cut)), Started::Pending);
        rig.devices.submit();
        let mut done = 0;
        while done == 0 {
            if !rig.devices.arm_wakeup() {
                slept += 1;
                let start = Instant::now();
                woken += sleeper
                    .wait(Some(Duration::from_secs(5)))
                    .unwrap()
                    .filter(|&token| token == RING)
                    .count();
                assert!(
                    start.elapsed() < Duration::from_secs(4),
                    "round {round} was not woken"
                );
            }
            rig.devices.disarm_wakeup();
            rig.devices.submit();
            done += rig.devices.reap(|_, result| assert_eq!(result, Ok(())));
        }
    }
    assert!(slept > 0 && woken == slept, "{woken} of {slept}");
    // Nobody is woken who has not asked for it.
    assert_eq!(rig.devices.start(io(7, Op::Flush, 0, &[])), Started::Pending);
    rig.devices.submit();
    assert_eq!(sleeper.wait(Some(Duration::from_millis(50))).unwrap().count(), 0);
    assert!(rig.devices.arm_wakeup(), "what completed before is told at once");
}

#[test]
fn operations_are_taken_back_and_every_one_is_answered_once() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, 512 * MIB, 4096);
    let settings = LocalSettings {
        slots: 256,
        in_flight_max: 256,
        submission_entries: 512,
    };
    let mut devices = LocalDevices::new(settings).unwrap();
    devices.add_device(DEVICE, opened).unwrap();
    // Changes of a file's allocation are done one after the other by a worker, so that the later ones still wait.
    for slot in 0..200 {
        assert_eq!(
            devices.start(io(slot, Op::WriteZeroes { unmap: slot % 2 == 0 }, 512 * MIB, &[])),
            Started::Pending
        );
    }
    (0..200).for_each(|slot| devices.cancel(SlotIndex(slot)));
    devices.cancel(SlotIndex(0));
    devices.cancel(SlotIndex(255));
    let mut answers = vec![Vec::new(); 256];
    rig::until(|| {
        devices.submit();
        devices.reap(|slot, result| answers[slot.usize()].push(result));
        devices.in_flight() == 0
    });
    assert!(answers[..200].iter().all(|answers| answers.len() == 1));
    assert!(answers[200..].iter().all(|answers| answers.is_empty()));
    let taken_back = answers
        .iter()
        .flatten()
        .filter(|&&answer| answer == Err(Fault::TimedOut))
        .count();
    assert!(taken_back > 0);
    assert!(
        answers
            .iter()
            .flatten()
            .all(|&answer| matches!(answer, Ok(()) | Err(Fault::TimedOut)))
    );
}

#[test]
fn dropping_waits_for_what_is_in_flight() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, 4 * MIB, 4096);
    let mut rig = Rig::new(opened);
    let mut buffer = Buffer::new(1 << 20);
    buffer.fill(0, 1 << 20, 5);
    let segments = [buffer.segment(0, 1 << 20)];
    assert_eq!(
        rig.devices.start(io(1, Op::Write, MIB, &segments)),
        Started::Pending
    );
    rig.devices.submit();
    drop(rig);
    let written = std::fs::read(path).unwrap();
    assert_eq!(&written[..1 << 20], &buffer.slice()[..1 << 20]);
}
