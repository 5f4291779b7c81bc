//! Whether a reactor may sleep, whom it asks to wake it, and when it wakes by itself.

use crate::bench_of::*;
use palisade_block::mailbox::{Notice, Pace, ReactorCommand};
use palisade_block::*;
use palisade_engine::ReactorConfig;
use palisade_words::QueueId;

const OTHER: QueueId = QueueId { queue: 1, ..QUEUE };

/// A bed whose watch looks so seldom that what else is due comes first.
fn seldom_watched(slots: u32) -> Bed {
    let config = ReactorConfig {
        slots,
        parts: 8,
        long: 4,
        watch_every: Nanos::from_secs(1),
    };
    Bed::of(config, 2)
}

#[test]
fn sources_notify_while_it_sleeps_and_are_told_once_that_they_are_polled_again() {
    let mut bed = Bed::new(16, 2);
    let script = Script::default();
    script.0.borrow_mut().armed = true;
    let queues = [bed.serve(QUEUE, script, |_| {}), bed.attach(OTHER, |_| {})];
    let told = || [0, 1].map(|at| (queues[at].0.borrow().armed, queues[at].0.borrow().disarms));
    assert_eq!(told(), [(false, 1); 2], "who comes is polled");
    bed.reactor.disarm();
    assert_eq!(told(), [(false, 1); 2], "nobody was asked to notify");
    for sleeps in 1..=3 {
        assert!(!bed.reactor.arm());
        assert_eq!(told(), [(true, 1); 2], "one sleep follows the other");
        assert_eq!(bed.stats.sleeps.get(), sleeps);
    }
    bed.reactor.disarm();
    bed.reactor.disarm();
    assert_eq!(told(), [(false, 2); 2]);
}

#[test]
fn work_of_any_queue_keeps_it_awake() {
    for working in 0..2 {
        let mut bed = Bed::new(16, 2);
        let queues = [bed.attach(QUEUE, |_| {}), bed.attach(OTHER, |_| {})];
        assert!(!bed.reactor.arm());
        queues[working].ask(1, Op::Read, 0, 1, data(1));
        assert!(bed.reactor.arm());
        bed.turn();
        assert!(!bed.reactor.arm(), "it has been taken");
        bed.reactor.abandon();
    }
}

#[test]
fn nobody_stays_awake_for_a_queue_whose_route_drains() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.route(2, 0);
    guest.ask(2, Op::Read, 0, 1, data(1));
    assert!(!bed.reactor.arm(), "the end of request 1 wakes it");
    bed.finish_all(Ok(()));
    bed.turn();
    guest.ask(3, Op::Read, 0, 1, data(1));
    assert!(bed.reactor.arm());
    bed.reactor.abandon();
}

#[test]
fn nobody_stays_awake_for_the_ring_of_a_queue_that_stops() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    guest.ask(2, Op::Read, 0, 1, data(1));
    assert!(!bed.reactor.arm());
    guest.0.borrow_mut().backlog = 1;
    assert!(bed.reactor.arm(), "what it has taken it hands over");
    bed.reactor.abandon();
}

#[test]
fn a_limit_is_due_when_it_ends_and_not_from_then_on() {
    let mut bed = seldom_watched(16);
    bed.devices().at_once = Some(Ok(()));
    let pace = |iops| Pace {
        iops,
        ..Pace::default()
    };
    let slow = bed.attach(QUEUE, |settings| settings.pace = pace(1000));
    let fast = bed.attach(OTHER, |settings| settings.pace = pace(2000));
    assert_eq!(bed.reactor.due(), None);
    bed.now = 5_000_000;
    for guest in [&slow, &fast] {
        guest.ask(1, Op::Read, 0, 1, data(1));
    }
    bed.turn();
    assert_eq!(bed.reactor.due(), Some(Nanos(5_500_001)), "whichever ends first");
    bed.now = 5_500_000;
    bed.turn();
    assert_eq!(bed.reactor.due(), Some(Nanos(6_000_001)));
    slow.ask(2, Op::Read, 0, 1, data(1));
    assert!(!bed.reactor.arm());
    slow.0.borrow_mut().waiting.clear();
    bed.now = 6_000_000;
    bed.turn();
    assert_eq!(bed.reactor.due(), None);
    slow.ask(2, Op::Read, 0, 1, data(1));
    assert!(bed.reactor.arm(), "its time has come");
}

#[test]
fn the_watch_is_due_while_anything_is_in_flight() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    assert_eq!(bed.reactor.due(), None);
    bed.turn();
    assert_eq!(bed.reactor.due(), None, "nothing is in flight");
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(bed.reactor.due(), Some(Nanos(11)), "it looked in the first turn");
    bed.now = 9;
    bed.turn();
    assert_eq!(bed.reactor.due(), Some(Nanos(11)));
    bed.turn();
    assert_eq!(
        bed.reactor.due(),
        Some(Nanos(21)),
        "it has looked when it was due"
    );
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(bed.reactor.due(), None);
}

#[test]
fn a_device_told_as_stalled_is_looked_at_until_it_is_told_as_well() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.now = 1999;
    bed.turn();
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(
        (bed.reactor.in_flight(), bed.reactor.due()),
        (0, Some(Nanos(2010)))
    );
    bed.now = 2009;
    bed.turn();
    assert_eq!(bed.reactor.due(), None);
    let told = bed.notices().into_iter().map(|notice| match notice {
        Notice::DeviceStalled { device, oldest } => (device.0, oldest.0),
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), [(0, 1999), (0, 0)]);
}

#[test]
fn what_is_held_up_is_tried_again_within_a_millisecond() {
    // One for which its device has no room, and one for which there is no buffer.
    for (busy, segments) in [(true, data(1)), (false, vec![piece(0x10_0001, 512)])] {
        let mut bed = seldom_watched(16);
        bed.devices().busy = busy;
        let buffers = std::mem::take(&mut bed.pool.0.borrow_mut().free);
        let guest = bed.attach(QUEUE, |_| {});
        assert!(!bed.reactor.is_held_up());
        guest.ask(1, Op::Read, 0, 1, segments);
        // Not by `bed.turn`, which would miss the buffers.
        bed.now += 1;
        bed.reactor.turn(Nanos(bed.now));
        assert!(bed.reactor.is_held_up());
        assert_eq!(bed.reactor.due(), Some(Nanos(1_000_001)));
        bed.devices().busy = false;
        bed.pool.0.borrow_mut().free = buffers;
        assert_eq!(bed.turn(), 1);
        assert!(!bed.reactor.is_held_up());
        bed.reactor.abandon();
    }
}

/// Finish, take, submit once, notify once.
#[test]
fn devices_are_given_what_they_took_before_a_lone_guest_is_notified() {
    let mut bed = Bed::new(16, 2);
    bed.devices().at_once = Some(Ok(()));
    let guest = bed.attach(QUEUE, |_| {});
    guest.0.borrow_mut().submits = bed.devices().submits.clone();
    for turn in 1..=3 {
        guest.ask(turn, Op::Read, 0, 1, data(1));
        bed.turn();
    }
    assert_eq!(guest.0.borrow().submits_before, [1, 2, 3]);
}
