//! A reactor that sleeps is woken by completions, and operations can be taken back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Devices, Fault, Io, Nanos, Op, Started};
use palisade_sys::{EventFd, LocalDevices, LocalSettings};
use palisade_words::{Lba, MemoryId, Sectors, SlotIndex};
use rig::{Buffer, DEVICE, MIB, Rig};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So long no sleep of these tests may last: whoever sleeps longer was not woken.
const TOO_LONG: Duration = Duration::from_secs(4);

/// The devices of one reactor that sleeps in its ring, and of one that sleeps in epoll as on an older kernel.
fn both() -> [LocalDevices; 2] {
    [true, false].map(|deferred| {
        let settings = LocalSettings {
            slots: 64,
            in_flight_max: 64,
            submission_entries: 16,
            deferred,
        };
        let devices = LocalDevices::new(settings).unwrap();
        assert_eq!(
            devices.abilities().deferred,
            deferred,
            "the kernel of this test defers task work: the case that is hard"
        );
        devices
    })
}

/// Sleeps unless there is something to do.
fn sleep(devices: &mut LocalDevices) {
    if !devices.arm_wakeup() {
        let start = Instant::now();
        devices.sleep(Some(2 * TOO_LONG)).unwrap();
        assert!(start.elapsed() < TOO_LONG, "nobody woke the sleeper");
    }
    devices.disarm_wakeup();
}

/// Sleeps until a sleep of a tenth of a second lasts that long: what comes late, and the kernel's own workers, end
/// some before it, but not without end.
fn comes_to_rest(devices: &mut LocalDevices, early_most: u32) {
    for _ in 0..=early_most {
        settle(devices);
        let start = Instant::now();
        assert!(!devices.arm_wakeup());
        devices.sleep(Some(Duration::from_millis(100))).unwrap();
        devices.disarm_wakeup();
        if start.elapsed() >= Duration::from_millis(90) {
            return;
        }
    }
    panic!("each of {early_most} sleeps was ended by nothing");
}

/// Takes what came; what sleeps have told of is behind us then.
fn settle(devices: &mut LocalDevices) {
    devices.submit();
    devices.reap(|_, result| assert_eq!(result, Ok(())));
}

fn io<'a>(slot: u32, op: Op, bytes: u64, segments: &'a [palisade_block::Segment]) -> Io<'a> {
    Io {
        device: DEVICE,
        slot: SlotIndex(slot),
        mapping: &rig::MAPPING,
        deadline: Nanos(u64::MAX),
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
    let buffer = Buffer::new(1 << 20);
    let segments = [buffer.segment(0, 1 << 20)];
    for mut devices in both() {
        devices.add_device(DEVICE, Arc::clone(&opened)).unwrap();
        devices.keep(buffer.0.lease());
        for round in 0..300u64 {
            let op = [Op::Write, Op::Flush, Op::Read, Op::WriteZeroes { unmap: false }][(round % 4) as usize];
            let bytes = if op == Op::Flush { 0 } else { MIB >> (round % 5) };
            let cut = [segments[0].first(bytes as usize)];
            // Each second operation is handed over by the sleep itself.
            if round % 8 >= 4 {
                devices.hold();
            }
            assert_eq!(devices.start(io(7, op, bytes, &cut)), Started::Pending);
            devices.submit();
            let mut done = 0;
            while done == 0 {
                sleep(&mut devices);
                devices.submit();
                done += devices.reap(|_, result| assert_eq!(result, Ok(())));
            }
        }
        comes_to_rest(&mut devices, 10);
        // A completion from before the sleep is told at once.
        assert_eq!(devices.start(io(7, Op::Flush, 0, &[])), Started::Pending);
        devices.submit();
        std::thread::sleep(Duration::from_millis(50));
        sleep(&mut devices);
        settle(&mut devices);
        assert_eq!(devices.in_flight(), 0);
    }
}

#[test]
fn what_is_held_is_handed_over_by_the_second_submission() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, 4 * MIB, 4096);
    for mut devices in both() {
        devices.add_device(DEVICE, Arc::clone(&opened)).unwrap();
        devices.hold();
        assert_eq!(devices.start(io(1, Op::Flush, 0, &[])), Started::Pending);
        devices.submit();
        devices.hold();
        assert_eq!(devices.start(io(2, Op::Flush, 0, &[])), Started::Pending);
        rig::until(|| {
            settle(&mut devices);
            devices.in_flight() == 0
        });
    }
}

/// Who means to sleep after each turn and never does, as others always have something for it to do.
#[test]
fn completions_come_to_who_never_gets_to_sleep() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, 4 * MIB, 4096);
    let buffer = Buffer::new(1 << 20);
    let segments = [buffer.segment(0, 4096)];
    for mut devices in both() {
        devices.add_device(DEVICE, Arc::clone(&opened)).unwrap();
        devices.keep(buffer.0.lease());
        for round in 0..20 {
            let op = [Op::Write, Op::Read][round % 2];
            devices.hold();
            assert_eq!(devices.start(io(7, op, 4096, &segments)), Started::Pending);
            rig::until(|| {
                settle(&mut devices);
                devices.hold();
                devices.in_flight() == 0
            });
        }
    }
}

#[test]
fn no_kick_is_lost_while_completions_come() {
    const KICKS: u64 = 20_000;
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, 4 * MIB, 4096);
    let buffer = Buffer::new(1 << 20);
    let segments = [buffer.segment(0, 4096)];
    for mut devices in both() {
        devices.add_device(DEVICE, Arc::clone(&opened)).unwrap();
        devices.keep(buffer.0.lease());
        let (kick, rung) = (EventFd::new().unwrap(), Arc::new(AtomicU64::new(0)));
        let (waker, ordered) = (devices.waker(), Arc::new(AtomicU64::new(0)));
        devices.listen(kick.as_raw_fd()).unwrap();
        let seen = Arc::new(AtomicU64::new(0));
        let guest = {
            let (kick, rung, ordered, seen) = (
                kick.try_clone().unwrap(),
                Arc::clone(&rung),
                Arc::clone(&ordered),
                Arc::clone(&seen),
            );
            std::thread::spawn(move || {
                let mut random = 1u64;
                for count in 1..=KICKS {
                    // Every other one by the waker, and each after the one before it has been seen, so that one which
                    // is lost is not made good by the next.
                    match count % 2 {
                        0 => {
                            rung.store(count, Ordering::Relaxed);
                            kick.signal().unwrap();
                        }
                        _ => {
                            ordered.store(count, Ordering::Relaxed);
                            waker.wake().unwrap();
                        }
                    }
                    while seen.load(Ordering::Relaxed) < count {
                        std::thread::yield_now();
                    }
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (0..random >> 54).for_each(|_| std::hint::spin_loop());
                }
            })
        };
        let mut operations = 0u64;
        while seen.load(Ordering::Relaxed) < KICKS {
            // Sleeps with an operation in flight and without one by turns, and the operation held or not.
            if devices.in_flight() == 0 && !operations.is_multiple_of(3) {
                if operations.is_multiple_of(2) {
                    devices.hold();
                }
                assert_eq!(devices.start(io(7, Op::Read, 4096, &segments)), Started::Pending);
            }
            operations += 1;
            settle(&mut devices);
            let last = rung.load(Ordering::Relaxed).max(ordered.load(Ordering::Relaxed));
            if last > seen.load(Ordering::Relaxed) {
                seen.store(last, Ordering::Relaxed);
                continue;
            }
            sleep(&mut devices);
        }
        guest.join().unwrap();
        rig::until(|| {
            settle(&mut devices);
            devices.in_flight() == 0
        });
    }
}

#[test]
fn who_is_no_longer_listened_to_wakes_nobody_and_a_new_one_does() {
    for mut devices in both() {
        let kicks: Vec<_> = (0..100).map(|_| EventFd::new().unwrap()).collect();
        for kick in &kicks {
            devices.listen(kick.as_raw_fd()).unwrap();
        }
        assert!(devices.listen(kicks[0].as_raw_fd()).is_err(), "listened to twice");
        // More of them than the submission queue has entries: all are watched all the same.
        for kick in kicks.iter().chain(&kicks) {
            kick.signal().unwrap();
            sleep(&mut devices);
            settle(&mut devices);
        }
        // Each signal ends one sleep; the epoll may tell of many in one, and of the rest in the next.
        comes_to_rest(&mut devices, 200);
        let (gone, stay) = kicks.split_at(50);
        for kick in gone {
            devices.stop_listening(kick.as_raw_fd()).unwrap();
        }
        assert!(devices.stop_listening(gone[0].as_raw_fd()).is_err());
        settle(&mut devices);
        gone.iter().for_each(|kick| kick.signal().unwrap());
        // The end of each of the 50 polls may end a sleep; the signals do not.
        comes_to_rest(&mut devices, 50);
        assert_eq!(devices.in_flight(), 0);
        stay[7].signal().unwrap();
        sleep(&mut devices);
        settle(&mut devices);
        devices.listen(gone[3].as_raw_fd()).unwrap();
        gone[3].signal().unwrap();
        sleep(&mut devices);
    }
}

#[test]
fn operations_are_taken_back_and_every_one_is_answered_once() {
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, 512 * MIB, 4096);
    let settings = LocalSettings {
        slots: 256,
        in_flight_max: 256,
        submission_entries: 512,
        ..LocalSettings::default()
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
    rig.on(&buffer);
    buffer.fill(0, 1 << 20, 5);
    let segments = [buffer.segment(0, 1 << 20)];
    assert_eq!(
        rig.devices.start(io(1, Op::Write, MIB, &segments)),
        Started::Pending
    );
    rig.devices.submit();
    drop(rig);
    // It was carried out or taken back, by how fast kernel and device are; what counts is that nothing moves any more,
    // whatever becomes of its memory.
    let written = std::fs::read(&path).unwrap();
    buffer.fill(0, 1 << 20, 6);
    std::thread::sleep(Duration::from_millis(200));
    assert!(
        std::fs::read(&path).unwrap() == written,
        "it went on behind our back"
    );
}

#[test]
fn others_see_that_something_has_come_for_who_does_not_wake() {
    let kick = EventFd::new().unwrap();
    for mut devices in both() {
        devices.listen(kick.as_raw_fd()).unwrap();
        comes_to_rest(&mut devices, 10);
        let pending = devices.pending();
        assert!(!pending.has_come(), "nothing has come yet");
        assert!(!devices.arm_wakeup());
        // This thread is the one that should wake, and does something else.
        kick.signal().unwrap();
        let seen = std::thread::spawn({
            let pending = pending.clone();
            move || pending.has_come()
        });
        assert!(seen.join().unwrap(), "a kick has come");
        sleep(&mut devices);
        settle(&mut devices);
        comes_to_rest(&mut devices, 10);
        assert!(!pending.has_come(), "it was taken");
        devices.waker().wake().unwrap();
        assert!(pending.has_come(), "so is what wakes");
        sleep(&mut devices);
        devices.stop_listening(kick.as_raw_fd()).unwrap();
        drop(devices);
        assert!(!pending.has_come(), "nobody sleeps any more");
        kick.drain().unwrap();
    }
}
