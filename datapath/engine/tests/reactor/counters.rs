//! What is counted: work under way, and each wait once.

use crate::bench_of::*;
use palisade_block::*;
use palisade_words::{DeviceIndex, QueueId};
use std::sync::Arc;

#[test]
fn counters_say_what_happened() {
    let mut bed = Bed::new(16, 1);
    let device: Arc<stats::DeviceStats> = Default::default();
    bed.reactor.apply(mailbox::ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(0),
        stats: device.clone(),
        deadline: Nanos(1000),
    });
    let counts: Arc<stats::AttachmentStats> = Default::default();
    let guest = bed.attach(QUEUE, |settings| settings.stats = counts.clone());
    let odd = vec![piece(0x10_0001, 512)];
    guest.ask(1, Op::Read, 0, 4, data(4));
    guest.ask(2, Op::Write, 8, 1, odd);
    guest.ask(3, Op::Write, 5000, 1, data(1));
    bed.turn();
    assert_eq!((counts.in_flight.get(), device.in_flight.get()), (2, 2));
    assert_eq!((counts.bounced.get(), counts.refused.get()), (1, 1));
    assert_eq!(bed.stats.buffers_used.get(), 1);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(bed.stats.buffers_used.get(), 0);
    assert_eq!((counts.in_flight.get(), device.in_flight.get()), (0, 0));
    assert_eq!(device.finished.get(), 2);
    assert_eq!(guest.answers().len(), 3);
}

#[test]
fn requests_in_flight_are_those_of_all_queues_of_the_attachment() {
    let mut bed = Bed::new(16, 1);
    let counts: [Arc<stats::AttachmentStats>; 2] = Default::default();
    let queues = [0, 1].map(|queue| {
        let id = QueueId { queue, ..QUEUE };
        bed.attach(id, |settings| settings.stats = counts[0].clone())
    });
    (0..3).for_each(|head| queues[0].ask(head, Op::Read, 0, 1, data(1)));
    queues[1].ask(9, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(counts[0].in_flight.get(), 4);
    // One of the queues goes, the other's requests are still there.
    let slot = bed.devices().seen.pop().expect("the last one").slot;
    bed.devices().finished.push_back((slot, Ok(())));
    bed.turn();
    bed.reactor.apply(mailbox::ReactorCommand::StopQueue {
        queue: QueueId { queue: 1, ..QUEUE },
    });
    assert_eq!((bed.notices().len(), counts[0].in_flight.get()), (1, 3));
    // Counted elsewhere from now on, and with them those that are under way.
    bed.reactor.apply(mailbox::ReactorChange::SetAttachment {
        attachment: QUEUE.attachment,
        settings: mailbox::AttachmentSettings {
            volume: Some(VOLUME),
            revoked: false,
            read_only: false,
            write_through: false,
            pace: Default::default(),
            stats: counts[1].clone(),
        },
    });
    assert_eq!([0, 3], [0, 1].map(|at| counts[at].in_flight.get()));
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!([0, 0], [0, 1].map(|at| counts[at].in_flight.get()));
}

#[test]
fn a_wait_for_a_limit_is_counted_once() {
    let mut bed = Bed::new(16, 2);
    bed.devices().at_once = Some(Ok(()));
    let counts: Arc<stats::AttachmentStats> = Arc::default();
    let guest = bed.attach(QUEUE, |settings| {
        settings.stats = counts.clone();
        settings.pace.iops = 1000;
    });
    bed.now = 5_000_000;
    (0..5).for_each(|head| guest.ask(head, Op::Read, 0, 1, data(1)));
    for (turns, answered, throttled) in [(1, 1, 1), (3, 1, 1), (1, 2, 2), (3, 2, 2)] {
        if answered > guest.answers().len() {
            bed.now += 1_000_000;
        }
        for _ in 0..turns {
            bed.turn();
        }
        assert_eq!(
            (guest.answers().len(), counts.throttled.get()),
            (answered, throttled)
        );
    }
}

/// At the limit, never held back by it.
#[test]
fn who_asks_as_fast_as_it_may_waits_for_nothing() {
    let mut bed = Bed::new(16, 2);
    bed.devices().at_once = Some(Ok(()));
    let counts: Arc<stats::AttachmentStats> = Arc::default();
    let guest = bed.attach(QUEUE, |settings| {
        settings.stats = counts.clone();
        settings.pace.iops = 1000;
    });
    for head in 0..5 {
        bed.now += 1_000_000;
        guest.ask(head, Op::Read, 0, 1, data(1));
        bed.turn();
        bed.turn();
        assert_eq!(
            (guest.answers().len(), counts.throttled.get()),
            (usize::from(head) + 1, 0)
        );
    }
    guest.ask(5, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!((guest.answers().len(), counts.throttled.get()), (5, 1));
}

#[test]
fn turns_in_which_a_queue_finds_no_slot_are_counted() {
    // Of two slots one is kept for the other device.
    let mut bed = Bed::new(2, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(0, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!((bed.stats.slots_short.get(), bed.stats.slots_used.get()), (0, 1));
    guest.ask(1, Op::Read, 0, 1, data(1));
    for turns in 1..4 {
        bed.turn();
        assert_eq!(bed.stats.slots_short.get(), turns);
    }
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!((bed.stats.slots_short.get(), bed.stats.slots_used.get()), (3, 1));
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(bed.stats.slots_used.get(), 0);
}

#[test]
fn a_wait_for_a_buffer_is_counted_once() {
    let mut bed = Bed::new(16, 1);
    let guest = bed.attach(QUEUE, |_| {});
    let odd = || vec![piece(0x10_0001, 512)];
    (0..3).for_each(|head| guest.ask(head, Op::Read, 0, 1, odd()));
    for answered in 0..3 {
        for _ in 0..3 {
            bed.turn();
        }
        assert_eq!((guest.answers().len(), bed.stats.pool_short.get()), (answered, 2));
        bed.finish_all(Ok(()));
    }
    bed.turn();
    assert_eq!(bed.stats.buffers_used.get(), 0);
}
