//! Damage stays where it is (invariant 11): what a hung device holds is booked on it, not on its neighbours.

use crate::bench_of::*;
use palisade_block::mailbox::{ReactorChange, ReactorCommand};
use palisade_block::*;
use palisade_engine::ReactorConfig;
use palisade_words::{AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors, VolumeIndex};
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
        sectors: Sectors(500),
        device: DeviceIndex(device),
        lba: Lba(0),
    };
    bed.reactor.apply(ReactorChange::Resume {
        volume,
        route: Route::new(mapping_of(generation, Epoch(1)), vec![run]).expect("one run"),
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
    let guest = bed.attach(queue, |settings| settings.volume = Some(NEIGHBOUR));
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

/// Beside guests whose disk hangs, and which find no slot in any turn, the queues of a healthy disk share what is left: whoever
/// found none comes before those that did.
#[test]
fn queues_of_a_healthy_device_take_turns_beside_those_of_a_hung_one() {
    for (hung, healthy) in [(1, 3), (2, 3), (1, 5), (3, 3)] {
        let mut bed = Bed::new(8, 2);
        one_device(&mut bed, NEIGHBOUR, 0);
        one_device(&mut bed, VolumeIndex(2), 1);
        let mut queues = Vec::new();
        for queue in 0..hung + healthy {
            // One of the healthy device, one of the hung one, and so on.
            let volume = match queue % 2 == 1 && queue < 2 * hung {
                true => VolumeIndex(2),
                false => NEIGHBOUR,
            };
            let queue = bed.attach(QueueId { queue, ..QUEUE }, |settings| {
                settings.volume = Some(volume)
            });
            (0..200).for_each(|head| queue.ask(head, Op::Read, 0, 1, data(1)));
            queues.push((volume, queue));
        }
        run_first_device(&mut bed, 100);
        let answered = queues.iter().filter(|(volume, _)| *volume == NEIGHBOUR);
        let answered: Vec<usize> = answered.map(|(_, queue)| queue.answers().len()).collect();
        let (least, most) = (answered.iter().min(), answered.iter().max());
        let (least, most) = least.zip(most).expect("queues");
        assert!(*least > 0 && most <= &(2 * least), "{hung} hung: {answered:?}");
        bed.reactor.abandon();
    }
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
            .map(|queue| {
                bed.attach(QueueId { queue, ..QUEUE }, |settings| {
                    settings.volume = Some(NEIGHBOUR)
                })
            })
            .collect();
        let id = QueueId { queue: 99, ..QUEUE };
        let other = bed.attach(id, |settings| settings.volume = Some(VolumeIndex(2)));
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
    let of_guest: Arc<stats::AttachmentStats> = Arc::default();
    let guest = bed.attach(QUEUE, |settings| settings.stats = Arc::clone(&of_guest));
    for (head, fault) in (0..).zip(Fault::ALL) {
        // Also the one that has refused the node is given another try.
        bed.reactor.apply(ReactorCommand::AddDevice {
            opened: (),
            device: DeviceIndex(0),
            stats: Arc::clone(&stats),
            deadline: Nanos(1000),
        });
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
    bed.reactor.apply(ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(0),
        stats: Arc::default(),
        deadline: Nanos(1000),
    });
}

/// The same where the second device has no room instead of taking its time.
#[test]
fn what_finds_a_device_busy_is_booked_on_it() {
    let mut bed = Bed::new(4, 2);
    one_device(&mut bed, NEIGHBOUR, 0);
    bed.devices().busy_device = Some(1);
    for queue in 0..3 {
        let guest = bed.attach(QueueId { queue, ..QUEUE }, |_| {});
        guest.ask(0, Op::Write, 499, 2, data(2));
    }
    run_first_device(&mut bed, 2);
    assert_eq!(bed.reactor.in_flight(), 3);
    assert!(neighbour_is_served(&mut bed));
    bed.reactor.abandon();
}

/// What is booked anew is booked on the device that is late: others of its guests get no more than their share.
#[test]
fn requests_that_a_hung_device_keeps_leave_no_slots_to_its_other_guests() {
    let (mut bed, queues) = bed();
    for queue in &queues {
        (0..16).for_each(|head| queue.ask(head, Op::Write, 499, 2, data(2)));
    }
    run_first_device(&mut bed, 8);
    bed.now += 1000;
    run_first_device(&mut bed, 2);
    let hung = VolumeIndex(2);
    one_device(&mut bed, hung, 1);
    let guest = bed.attach(QueueId { queue: 9, ..QUEUE }, |settings| {
        settings.volume = Some(hung)
    });
    guest.ask(7, Op::Read, 0, 1, data(1));
    let held = bed.reactor.in_flight();
    run_first_device(&mut bed, 2);
    assert_eq!(bed.reactor.in_flight(), held, "of {SLOTS} slots");
    assert_eq!(guest.0.borrow().waiting.len(), 1);
    bed.reactor.abandon();
}

/// A queue of a volume that asks for that many long reads at a sector.
fn long_reads(bed: &mut Bed, queue: u16, volume: VolumeIndex, count: u16, lba: u64) -> Script {
    let guest = bed.attach(QueueId { queue, ..QUEUE }, |settings| {
        settings.volume = Some(volume)
    });
    for head in 0..count {
        let segments = (0..200).map(|at| piece(0x20_0000 + at * 512, 512));
        guest.ask(head, Op::Read, lba, 200, segments.collect());
    }
    guest
}

#[test]
fn a_device_has_its_share_of_the_lists_whatever_short_requests_end() {
    let config = ReactorConfig {
        slots: 64,
        parts: 64,
        long: 8,
        watch_every: Nanos(10),
    };
    let mut bed = Bed::of(config, 2);
    let other = VolumeIndex(2);
    one_device(&mut bed, NEIGHBOUR, 0);
    one_device(&mut bed, other, 1);
    let short = bed.attach(QUEUE, |_| {});
    let of_other = long_reads(&mut bed, 9, other, 1, 0);
    // One queue has four of the seven that are left, the next two, and the last one is not for this device any more.
    let guests =
        [(1, 4), (2, 2), (3, 1)].map(|(queue, count)| long_reads(&mut bed, queue, NEIGHBOUR, count, 0));
    let waiting = |guests: &[Script; 3]| guests.each_ref().map(|guest| guest.0.borrow().waiting.len());
    for _ in 0..4 {
        bed.turn();
    }
    assert_eq!(of_other.0.borrow().waiting.len(), 0);
    assert_eq!(waiting(&guests), [0, 0, 1]);
    // Some are answered, and some booked on the second device when it is late with them.
    let long = std::mem::take(&mut bed.devices().seen);
    for head in 0..4 {
        short.ask(head, Op::Read, 0, 1, data(1));
        short.ask(10 + head, Op::Write, 499, 2, data(2));
    }
    run_first_device(&mut bed, 3);
    assert_eq!(short.answers(), [0, 1, 2, 3].map(|head| (head, Status::Ok)));
    bed.now += 1000;
    run_first_device(&mut bed, 3);
    assert_eq!(waiting(&guests), [0, 0, 1]);
    // What ends gives its list back.
    let ended = long.iter().map(|io| (io.slot, Ok(())));
    bed.devices().finished.extend(ended);
    run_first_device(&mut bed, 3);
    assert_eq!(waiting(&guests), [0, 0, 0]);
    bed.reactor.abandon();
}

/// Long requests over both devices are booked on the first until it is known that the second keeps them.
#[test]
fn lists_that_a_hung_device_keeps_count_with_it() {
    let hung = VolumeIndex(2);
    for (is_late, volume, is_taken) in [
        (false, NEIGHBOUR, false),
        (false, hung, true),
        (true, NEIGHBOUR, true),
        (true, hung, false),
    ] {
        let (mut bed, _) = bed();
        one_device(&mut bed, hung, 1);
        for count in [2, 1] {
            let over_both = long_reads(&mut bed, 10 + count, VOLUME, count, 400);
            run_first_device(&mut bed, 2);
            assert_eq!(over_both.0.borrow().waiting.len(), 0);
        }
        bed.now += if is_late { 1000 } else { 0 };
        run_first_device(&mut bed, 2);
        let guest = long_reads(&mut bed, 20, volume, 1, 0);
        bed.turn();
        assert_eq!(
            guest.0.borrow().waiting.is_empty(),
            is_taken,
            "{is_late}, {volume:?}"
        );
        bed.reactor.abandon();
    }
}

#[test]
fn a_device_that_hangs_leaves_parts_to_others() {
    let (mut bed, queues) = bed();
    bed.devices().limits[0].io_bytes_max = 8 * 512;
    bed.reactor.apply(ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(0),
        stats: Arc::default(),
        deadline: Nanos(1000),
    });
    queues[0].ask(1, Op::Read, 0, 400, data(400));
    for _ in 0..3 {
        bed.turn();
    }
    assert_eq!(bed.devices().seen.len(), 6, "three quarters of the eight parts");
    queues[1].ask(2, Op::WriteZeroes { unmap: false }, 700, 8, vec![]);
    bed.devices().unsupported = vec![Op::WriteZeroes { unmap: false }];
    for _ in 0..2 {
        bed.turn();
    }
    let last = bed.devices().seen.last().map(|io| (io.device, io.op));
    assert_eq!(last, Some((1, Op::Write)));
    bed.reactor.abandon();
}
