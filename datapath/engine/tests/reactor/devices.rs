//! Devices come, go, hang and come back.

use crate::bench_of::*;
use palisade_block::mailbox::{Notice, ReactorChange, ReactorCommand};
use palisade_block::stats::DeviceStats;
use palisade_block::*;
use palisade_words::{
    AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, PinnedId, QueueId, Sectors, VolumeIndex,
};
use std::sync::Arc;

#[test]
fn a_dropped_device_fails_its_own_requests_only() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.reactor.apply(ReactorChange::CloseDevice {
        device: DeviceIndex(0),
    });
    guest.ask(2, Op::Read, 0, 1, data(1));
    guest.ask(3, Op::Read, 500, 1, data(1));
    bed.turn();
    assert_eq!(guest.answers(), [(2, Status::IoErr)]);
    assert!(bed.notices().is_empty(), "request 1 is still on the device");
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers().len(), 3);
    assert!(matches!(
        bed.notices()[..],
        [Notice::DeviceClosed {
            device: DeviceIndex(0)
        }]
    ));
}

#[test]
fn a_stalled_operation_is_reported_asked_back_once_and_reported_again_when_it_moves() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.now = 2000;
    bed.turn();
    bed.now = 2100;
    bed.turn();
    let slot = bed.devices().seen[0].slot;
    assert_eq!(bed.devices().cancelled, [slot]);
    let notices = bed.notices();
    assert!(
        matches!(
            notices[..],
            [Notice::DeviceStalled {
                device: DeviceIndex(0),
                ..
            }]
        ),
        "{notices:?}"
    );
    guest.ask(2, Op::Read, 500, 1, data(1));
    bed.turn();
    assert_eq!(bed.devices().seen.len(), 2, "the other device goes on");
    bed.finish_all(Err(Fault::TimedOut));
    bed.turn();
    bed.now = 2300;
    bed.turn();
    assert!(matches!(
        bed.notices()[..],
        [Notice::DeviceStalled { oldest: Nanos(0), .. }]
    ));
    assert_eq!(guest.answers(), [(1, Status::IoErr), (2, Status::IoErr)]);
}

/// Which devices are told as idle.
fn idle(bed: &mut Bed) -> Vec<u16> {
    let told = bed.notices().into_iter().map(|notice| match notice {
        Notice::DeviceClosed { device } => device.0,
        other => unreachable!("{other:?}"),
    });
    told.collect()
}

fn add(bed: &mut Bed, device: u16) -> Arc<DeviceStats> {
    let stats = Arc::default();
    bed.reactor.apply(ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(device),
        stats: Arc::clone(&stats),
        deadline: Nanos(1000),
    });
    stats
}

#[test]
fn a_device_with_nothing_to_do_is_idle_as_soon_as_it_is_dropped_also_one_never_heard_of() {
    let mut bed = Bed::new(16, 2);
    for device in [1, 9, 0, 1] {
        bed.reactor.apply(ReactorChange::CloseDevice {
            device: DeviceIndex(device),
        });
        assert_eq!(idle(&mut bed), [device]);
    }
}

#[test]
fn a_device_that_was_dropped_serves_again_when_it_has_come_back() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.reactor.apply(ReactorChange::CloseDevice {
        device: DeviceIndex(0),
    });
    assert_eq!(idle(&mut bed), [0]);
    let stats = add(&mut bed, 0);
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    assert_eq!(idle(&mut bed), []);
    assert_eq!((stats.finished.get(), stats.in_flight.get()), (1, 0));
}

#[test]
fn a_device_is_let_go_of_once_nothing_is_in_flight_on_it() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    assert_eq!(
        std::mem::take(&mut bed.devices().hands.done),
        ["open 0", "open 1"]
    );
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    let device = DeviceIndex(0);
    bed.reactor.apply(ReactorChange::GrowDevice { device });
    bed.reactor.apply(ReactorChange::CloseDevice { device });
    assert_eq!(idle(&mut bed), []);
    assert_eq!(bed.devices().hands.done, ["grow 0"], "it reads");
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(idle(&mut bed), [0]);
    assert_eq!(bed.devices().hands.done, ["grow 0", "close 0"]);
}

#[test]
fn a_device_that_cannot_be_used_is_told_and_gets_nothing() {
    let mut bed = Bed::new(16, 2);
    bed.reactor.apply(ReactorChange::CloseDevice {
        device: DeviceIndex(0),
    });
    assert_eq!(idle(&mut bed), [0]);
    bed.devices().hands.opens_nothing = true;
    add(&mut bed, 0);
    assert!(matches!(
        bed.notices()[..],
        [Notice::DeviceUnusable {
            device: DeviceIndex(0),
            ..
        }]
    ));
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
    assert!(bed.devices().seen.is_empty());
}

#[test]
fn pinned_memory_goes_to_the_devices_and_each_removal_gives_back_what_was_there() {
    let mut bed = Bed::new(16, 2);
    let (id, of, pinned) = (PinnedId(3), Whom::Attachment(AttachmentIndex(1)), 7);
    bed.reactor.apply(ReactorCommand::AddMemory { id, of, pinned });
    assert_eq!(bed.devices().hands.pinned[&id], pinned);
    for _ in 0..2 {
        bed.reactor.apply(ReactorCommand::RemoveMemory { id, of });
    }
    let back = bed.notices().into_iter().map(|notice| match notice {
        Notice::MemoryReleased { id, pinned } => (id, pinned),
        other => unreachable!("{other:?}"),
    });
    assert_eq!(back.collect::<Vec<_>>(), [(id, Some(pinned)), (id, None)]);
}

#[test]
fn a_reactor_that_is_told_to_end_finishes_what_is_in_flight() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert!(!bed.reactor.has_ended());
    bed.reactor.apply(ReactorCommand::Stop);
    assert!(!bed.reactor.has_ended(), "it reads");
    bed.finish_all(Ok(()));
    bed.turn();
    assert!(bed.reactor.has_ended());
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}

#[test]
fn numbers_of_devices_volumes_and_queues_may_begin_anywhere() {
    let mut bed = Bed::new(16, 2);
    bed.devices().limits = vec![limits(1000); 20];
    let stats = add(&mut bed, 19);
    let (volume, generation) = (VolumeIndex(30), Generation(1));
    let run = Run {
        volume: Lba(0),
        sectors: Sectors(500),
        device: DeviceIndex(19),
        lba: Lba(0),
    };
    bed.reactor.apply(ReactorChange::Resume {
        volume,
        route: Route::new(mapping_of(generation, Epoch(1)), vec![run]).expect("one run"),
    });
    let guest = bed.attach(QueueId { queue: 40, ..QUEUE }, |settings| {
        settings.volume = Some(volume)
    });
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(stats.in_flight.get(), 1);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}

/// To the nanosecond: it is late when it is as old as the deadline says.
#[test]
fn an_operation_is_late_from_its_deadline_on() {
    let mut bed = Bed::new(16, 2);
    let stats = add(&mut bed, 0);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    for (now, oldest, cancelled) in [(990, 989, 0), (1000, 999, 0), (1010, 1009, 1)] {
        bed.now = now - 1;
        bed.turn();
        assert_eq!(
            (stats.oldest_ns.get(), bed.devices().cancelled.len()),
            (oldest, cancelled)
        );
    }
    assert_eq!(stats.stalls.get(), 1);
    bed.reactor.abandon();

    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.now = 1000;
    bed.turn();
    assert_eq!(bed.devices().cancelled.len(), 1);
    let notices = bed.notices();
    let [Notice::DeviceStalled { device, oldest }] = notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!((device, oldest), (DeviceIndex(0), Nanos(1000)));
    bed.reactor.abandon();
}

#[test]
fn the_age_told_is_that_of_the_oldest_in_whatever_slot_it_is() {
    let mut bed = Bed::new(16, 2);
    let stats = add(&mut bed, 0);
    let guest = bed.attach(QUEUE, |_| {});
    let ask = |bed: &mut Bed, now: u64| {
        bed.now = now - 1;
        guest.ask(1, Op::Read, 0, 1, data(1));
        bed.turn();
    };
    ask(&mut bed, 100);
    ask(&mut bed, 200);
    // The first goes; what comes in its slot is younger than what is in the second.
    let first = bed.devices().seen[0].slot;
    bed.devices().finished.push_back((first, Ok(())));
    ask(&mut bed, 300);
    assert_eq!(bed.devices().seen[2].slot, first);
    bed.now = 399;
    bed.turn();
    assert_eq!(stats.oldest_ns.get(), 200);
    bed.finish_all(Ok(()));
    bed.reactor.abandon();
}

fn fenced(bed: &mut Bed) -> Vec<u16> {
    let told = bed.notices().into_iter().map(|notice| match notice {
        Notice::DeviceFenced { device } => device.0,
        other => unreachable!("{other:?}"),
    });
    told.collect()
}

#[test]
fn a_device_that_refuses_the_node_gets_nothing_more_until_it_is_added_again() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    (1..4).for_each(|head| guest.ask(head, Op::Write, 0, 1, data(1)));
    bed.turn();
    bed.finish_all(Err(Fault::Fenced));
    bed.turn();
    assert_eq!(fenced(&mut bed), [0], "once, whatever it refuses");
    assert_eq!(bed.stats.fenced_devices.get(), 1);
    // As it is, in pieces, and to the other.
    guest.ask(4, Op::Read, 0, 1, data(1));
    guest.ask(5, Op::Read, 490, 20, data(20));
    guest.ask(6, Op::Read, 500, 1, data(1));
    bed.turn();
    assert!(bed.devices().seen.iter().all(|io| io.device == 1));
    bed.finish_all(Ok(()));
    bed.turn();
    let failed = guest
        .answers()
        .iter()
        .filter(|(_, status)| *status == Status::IoErr)
        .count();
    assert_eq!((failed, guest.answers().len()), (5, 6));
    assert_eq!((fenced(&mut bed).len(), bed.stats.fenced_devices.get()), (0, 1));
    // It is given another try when it comes again.
    bed.reactor.apply(ReactorChange::CloseDevice {
        device: DeviceIndex(0),
    });
    assert_eq!(idle(&mut bed), [0]);
    add(&mut bed, 0);
    guest.ask(7, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers()[6], (7, Status::Ok));
}

/// What found it busy before is not tried any more.
#[test]
fn what_waits_for_a_device_that_refuses_the_node_ends() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Write, 0, 1, data(1));
    bed.turn();
    bed.devices().busy = true;
    guest.ask(2, Op::Write, 8, 1, data(1));
    bed.turn();
    bed.finish_all(Err(Fault::Fenced));
    let before = bed.devices().steps.borrow().len();
    bed.turn();
    assert_eq!(bed.devices().steps.borrow().len(), before);
    assert_eq!(guest.answers(), [(1, Status::IoErr), (2, Status::IoErr)]);
}
