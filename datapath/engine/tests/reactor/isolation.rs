//! Damage stays where it is (invariant 11): what a hung device holds is booked on it, not on its neighbours.

use crate::bench_of::*;
use palisade_block::mailbox::Command;
use palisade_block::*;
use std::sync::Arc;

const SLOTS: u32 = 16;
/// On the first device alone.
const NEIGHBOUR: VolumeIndex = VolumeIndex(1);

/// A bed with a second volume, and three queues of the guest whose volume lies on both devices.
fn bed() -> (Bed, Vec<Script>) {
    let mut bed = Bed::new(SLOTS, 2);
    one_device(&mut bed, NEIGHBOUR, 0);
    let queues = (0..3).map(|queue| bed.attach(QueueId { queue, ..QUEUE }, |_| {}));
    let queues = queues.collect();
    (bed, queues)
}

/// Gives a volume a route on one device alone.
fn one_device(bed: &mut Bed, volume: VolumeIndex, device: u16) {
    let generation = Generation(1);
    let run = Run {
        volume: Lba(0),
        sectors: Sectors(50),
        device: DeviceIndex(device),
        lba: Lba(0),
    };
    bed.reactor.apply(Command::SetRoute {
        volume,
        route: Some(Route::new(generation, Epoch(1), vec![run]).expect("one run")),
        generation,
    });
}

/// Turns until the devices have nothing more to do, the second of which finishes nothing.
fn run_first_device(bed: &mut Bed, turns: usize) {
    for _ in 0..turns {
        bed.turn();
        let devices = bed.devices();
        let (first, hung): (Vec<_>, Vec<_>) = std::mem::take(&mut devices.seen)
            .into_iter()
            .partition(|seen| seen.device == 0);
        devices.seen = hung;
        let done = first.into_iter().map(|seen| (seen.slot, Ok(())));
        devices.finished.extend(done);
    }
}

/// Whether the guest on the first device gets an answer.
fn neighbour_is_served(bed: &mut Bed) -> bool {
    let queue = QueueId {
        attachment: AttachmentIndex(9),
        queue: 0,
    };
    let guest = bed.attach(queue, |settings| settings.volume = NEIGHBOUR);
    guest.ask(7, Op::Read, 0, 1, data(1));
    run_first_device(bed, 4);
    guest.answers() == [(7, Status::Ok)]
}

#[test]
fn requests_over_a_hung_device_and_a_healthy_one_count_with_the_hung_one() {
    let (mut bed, queues) = bed();
    for queue in &queues {
        (0..16).for_each(|head| queue.ask(head, Op::Write, 499, 2, data(2)));
    }
    run_first_device(&mut bed, 8);
    bed.now += 1000;
    run_first_device(&mut bed, 2);
    assert!(bed.reactor.in_flight() > SLOTS / 2);
    assert!(neighbour_is_served(&mut bed));
    bed.reactor.abandon();
}

#[test]
fn two_queues_that_share_one_slot_take_turns_whatever_the_rhythm_of_sleep() {
    // Two slots, one of which is kept for the other device.
    let mut bed = Bed::new(2, 2);
    let queues: Vec<Script> = (0..2)
        .map(|queue| bed.attach(QueueId { queue, ..QUEUE }, |_| {}))
        .collect();
    for queue in &queues {
        (0..8).for_each(|head| queue.ask(head, Op::Read, 0, 1, data(1)));
    }
    for _ in 0..8 {
        // A turn with work and one without, as before every sleep.
        bed.turn();
        bed.turn();
        bed.finish_all(Ok(()));
    }
    bed.turn();
    for queue in &queues {
        assert_eq!(queue.answers().len(), 4);
    }
    bed.reactor.abandon();
}

/// Hungry queues of one device and few slots, beside a queue of another device that always finds one: whoever got
/// nothing comes first in the next turn.
#[test]
fn hungry_queues_share_few_slots() {
    for (slots, hungry) in [(2, 2), (2, 3), (4, 5), (8, 7), (16, 5)] {
        let mut bed = Bed::new(slots, 2);
        one_device(&mut bed, NEIGHBOUR, 0);
        one_device(&mut bed, VolumeIndex(2), 1);
        let queues: Vec<Script> = (0..hungry)
            .map(|queue| bed.attach(QueueId { queue, ..QUEUE }, |settings| settings.volume = NEIGHBOUR))
            .collect();
        let id = QueueId { queue: 99, ..QUEUE };
        let other = bed.attach(id, |settings| settings.volume = VolumeIndex(2));
        for head in 0..200 {
            queues
                .iter()
                .for_each(|queue| queue.ask(head, Op::Read, 0, 1, data(1)));
            other.ask(head, Op::Read, 0, 1, data(1));
        }
        for _ in 0..60 {
            bed.turn();
            bed.finish_all(Ok(()));
        }
        bed.turn();
        assert!(other.answers().len() >= 50, "{}", other.answers().len());
        let answered: Vec<usize> = queues.iter().map(|queue| queue.answers().len()).collect();
        let (least, most) = (answered.iter().min(), answered.iter().max());
        let (least, most) = least.zip(most).expect("queues");
        assert!(*least > 0 && most <= &(2 * least), "{slots} slots: {answered:?}");
        bed.reactor.abandon();
    }
}

#[test]
fn no_queue_is_served_twice_in_a_row() {
    let mut bed = Bed::new(16, 2);
    bed.devices().at_once = Some(Ok(()));
    let queues: Vec<Script> = (0..3)
        .map(|queue| bed.attach(QueueId { queue, ..QUEUE }, |_| {}))
        .collect();
    for (number, queue) in (0u64..).zip(&queues) {
        (0..200).for_each(|head| queue.ask(head, Op::Read, number, 1, data(1)));
    }
    for _ in 0..5 {
        bed.turn();
    }
    let steps = bed.devices().steps.take();
    let mut batches: Vec<u64> = steps.iter().map(|step| step.1).collect();
    assert!(batches.len() > 200);
    // Each batch is of one queue, told by its sector.
    batches.dedup();
    let order = [100, 101, 102].into_iter().cycle().take(15);
    assert_eq!(batches, order.collect::<Vec<_>>());
}

#[test]
fn flushes_that_a_hung_device_holds_count_with_it() {
    let (mut bed, queues) = bed();
    for queue in &queues {
        (0..16).for_each(|head| queue.ask(head, Op::Flush, 0, 0, Vec::new()));
    }
    run_first_device(&mut bed, 8);
    bed.now += 1000;
    run_first_device(&mut bed, 2);
    assert!(neighbour_is_served(&mut bed));
    bed.reactor.abandon();
}

#[test]
fn what_a_guest_does_to_itself_is_not_counted_with_the_disk() {
    let mut bed = Bed::new(SLOTS, 2);
    let stats: Arc<stats::DeviceStats> = Arc::default();
    bed.reactor.apply(Command::AddDevice {
        device: DeviceIndex(0),
        stats: Arc::clone(&stats),
        deadline: Nanos(1000),
    });
    let of_guest: Arc<stats::AttachmentStats> = Arc::default();
    let guest = bed.attach(QUEUE, |settings| settings.stats = Arc::clone(&of_guest));
    for (head, fault) in (0..).zip(Fault::ALL) {
        let odd = vec![piece(0x10_0001, 512)];
        // As it is, and by way of a bounce buffer.
        for segments in [data(1), odd] {
            guest.ask(head, Op::Read, 0, 1, segments);
            bed.turn();
            bed.finish_all(Err(fault));
            bed.turn();
            assert_ne!(guest.answers(), [(head, Status::Ok)]);
        }
        let at_disk = stats.faults[fault.kind()].get();
        assert_eq!(
            at_disk,
            if fault.origin() == Origin::Guest { 0 } else { 2 },
            "{fault:?}"
        );
        assert_eq!(of_guest.faults[fault.kind()].get(), 2, "{fault:?}");
    }
}

/// Few requests over both devices: there are parts for all of them, so none has been booked anew for want of one, and only
/// the watch sees that it is the second device that keeps them.
#[test]
fn the_watch_books_requests_on_the_device_that_keeps_them() {
    let mut bed = Bed::new(4, 2);
    one_device(&mut bed, NEIGHBOUR, 0);
    for queue in 0..3 {
        let guest = bed.attach(QueueId { queue, ..QUEUE }, |_| {});
        guest.ask(0, Op::Write, 499, 2, data(2));
    }
    run_first_device(&mut bed, 8);
    assert_eq!(bed.reactor.in_flight(), 3);
    assert!(
        !neighbour_is_served(&mut bed),
        "before the deadline nobody knows which of the two is late"
    );
    bed.now += 1000;
    run_first_device(&mut bed, 4);
    assert!(neighbour_is_served(&mut bed));
    bed.reactor.abandon();
}

#[test]
#[should_panic(expected = "in the place of one that has operations in flight")]
fn a_device_does_not_come_in_the_place_of_one_that_is_at_work() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.reactor.apply(Command::AddDevice {
        device: DeviceIndex(0),
        stats: Arc::default(),
        deadline: Nanos(1000),
    });
}
