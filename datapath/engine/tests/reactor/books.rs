//! What is in the books of operations in flight and what is not, and what is charged to whom.

use crate::bench_of::*;
use crate::ranges::{ask, guest, unknown};
use crate::rations::limited;
use palisade_block::limits::{
    FLIGHT_BYTES_EACH, FLIGHT_BYTES_SHARED, LARGE_BYTES_MIN, PIECE_BYTES_MAX, RANGE_TOLD,
};
use palisade_block::mailbox::ReactorCommand;
use palisade_block::stats::{AttachmentStats, DeviceStats};
use palisade_block::*;
use palisade_engine::{RETRY_AFTER, ReactorConfig};
use palisade_words::{DeviceIndex, Sectors};
use std::sync::Arc;

const DEVICE: u64 = 1 << 24;
const PIECE: u64 = PIECE_BYTES_MAX as u64;
const NEVER: Nanos = Nanos(u64::MAX / 2);

/// A bed with room for much, whose volume is on the first device alone, which is large and takes so much at once.
fn bed(io_bytes_max: u32) -> Bed {
    let config = ReactorConfig {
        slots: 1024,
        parts: 256,
        long: 16,
        watch_every: NEVER,
    };
    let mut bed = Bed::of(config, 2);
    let limits = &mut bed.devices().limits[0];
    (limits.sectors, limits.io_bytes_max) = (Sectors(DEVICE), io_bytes_max);
    bed.give_device(VOLUME, 0, NEVER);
    bed
}

fn turns(bed: &mut Bed, count: usize) {
    for _ in 0..count {
        bed.turn();
    }
}

/// Queues of one attachment that ask for so much as often, and what is in flight or tried of it after some turns.
fn taken(bed: &mut Bed, queues: u16, requests: u16, sectors: u64) -> u32 {
    for queue in 0..queues {
        let guest = bed.attach(id(0, queue), |_| {});
        (0..requests).for_each(|head| guest.ask(head, Op::Write, 0, sectors, data(sectors)));
    }
    turns(bed, 100);
    bed.reactor.in_flight()
}

/// It is in the books although its device has no room for it yet.
#[test]
fn large_operations_are_booked_and_others_are_not_whether_their_device_takes_them_or_not() {
    let most = (FLIGHT_BYTES_EACH / LARGE_BYTES_MIN) as u32;
    for busy in [false, true] {
        let mut bed = bed(PIECE_BYTES_MAX);
        bed.devices().busy = busy;
        let asked = most + 64;
        let sectors = LARGE_BYTES_MIN / 512;
        assert_eq!(taken(&mut bed, 8, asked as u16 / 8, sectors), asked);
        bed.reactor.abandon();
        let mut bed = self::bed(PIECE_BYTES_MAX);
        bed.devices().busy = busy;
        let large = (FLIGHT_BYTES_EACH / PIECE) as u32;
        assert_eq!(taken(&mut bed, 8, 8, PIECE / 512), large, "busy: {busy}");
        bed.reactor.abandon();
    }
}

/// The first after which a piece of the longest has no room is the last.
#[test]
fn a_batch_ends_with_its_attachments_share_in_flight_and_no_sooner() {
    let mut bed = bed(PIECE_BYTES_MAX);
    let sectors = LARGE_BYTES_MIN / 512 + 1;
    let guest = bed.attach(QUEUE, |_| {});
    (0..400).for_each(|head| guest.ask(head, Op::Write, 0, sectors, data(sectors)));
    assert_eq!(bed.turn(), 7, "each counts for five of 32");
    turns(&mut bed, 60);
    let last = (FLIGHT_BYTES_EACH - PIECE) / (sectors * 512) + 1;
    assert_eq!(u64::from(bed.reactor.in_flight()), last);
    bed.reactor.abandon();
}

/// Its own requests are all begun, so nothing of it rests.
#[test]
fn a_queue_whose_pieces_fill_the_share_of_its_attachment_is_asked_for_nothing() {
    let mut bed = bed(PIECE_BYTES_MAX / 2);
    let pieces = FLIGHT_BYTES_EACH / PIECE;
    let mut guests = Vec::new();
    for queue in 0..pieces as u16 {
        let guest = bed.attach(id(0, queue), |_| {});
        guest.ask(1, Op::Write, 0, PIECE / 512, data(PIECE / 512));
        bed.turn();
        guests.push(guest);
    }
    assert_eq!(bed.devices().seen.len() as u64, 2 * pieces);
    assert!(!bed.reactor.is_held_up());
    guests
        .iter()
        .for_each(|guest| guest.ask(2, Op::Read, 0, 8, data(8)));
    turns(&mut bed, 3);
    let left = guests.iter().map(|guest| guest.0.borrow().waiting.len());
    assert!(left.eq(guests.iter().map(|_| 1)));
    bed.finish_all(Ok(()));
    turns(&mut bed, 2);
    assert!(guests.iter().all(|guest| guest.0.borrow().waiting.is_empty()));
    bed.reactor.abandon();
}

#[test]
fn guests_of_the_same_disk_whose_requests_are_all_in_pieces_share_it() {
    let mut bed = bed(PIECE_BYTES_MAX);
    let guests = [0, 1].map(|attachment| bed.attach(id(attachment, 0), |_| {}));
    let sectors = 32 << 11;
    for (lba, guest) in [0, 1 << 23].into_iter().zip(&guests) {
        guest.ask(1, Op::Read, lba, sectors, data(sectors));
    }
    turns(&mut bed, 40);
    for of_first in [true, false] {
        let seen = &bed.devices().seen;
        let own = seen.iter().filter(|io| (io.lba < 1 << 23) == of_first);
        assert_eq!(own.map(|io| io.sectors * 512).sum::<u64>(), FLIGHT_BYTES_SHARED);
    }
    bed.reactor.abandon();
}

/// Answered at once, so that nothing is in flight that would hold it back.
#[test]
fn nothing_is_taken_beside_a_request_that_rests_with_nothing_in_flight() {
    let mut bed = bed(PIECE_BYTES_MAX);
    bed.devices().at_once = Some(Ok(()));
    let guest = bed.attach(QUEUE, |_| {});
    let sectors = 4 << 11;
    guest.ask(1, Op::Read, 0, sectors, data(sectors));
    guest.ask(2, Op::Read, 0, 8, data(8));
    bed.turn();
    assert_eq!(bed.stats.slots_short.get(), 0, "its batch ends with it");
    for _ in 0..2 {
        bed.turn();
        assert_eq!(guest.0.borrow().waiting.len(), 1);
    }
    turns(&mut bed, 2);
    assert_eq!(guest.answers(), [(1, Status::Ok), (2, Status::Ok)]);
}

#[test]
fn a_wait_for_a_limit_within_a_request_is_counted_once() {
    let mut bed = bed(PIECE_BYTES_MAX);
    bed.devices().at_once = Some(Ok(()));
    let (guest, stats) = limited(&mut bed);
    guest.ask(1, Op::Read, 0, 8 << 11, data(8 << 11));
    bed.turn();
    let mut counts = Vec::new();
    for _ in 0..3 {
        turns(&mut bed, 10);
        counts.push(stats.throttled.get());
        bed.now = bed.reactor.due().expect("its limit").0 - 1;
    }
    assert_eq!(counts, [1, 2, 3]);
    bed.reactor.abandon();
}

/// More than one turn looks at. What got nothing, because a turn was full, comes first in the next.
#[test]
fn many_requests_in_pieces_have_their_turns_one_after_the_other() {
    let mut bed = bed(PIECE_BYTES_MAX);
    bed.devices().at_once = Some(Ok(()));
    let count = 70;
    let guests: Vec<_> = (0..count).map(|queue| bed.attach(id(0, queue), |_| {})).collect();
    for (number, guest) in (0..).zip(&guests) {
        guest.ask(1, Op::Read, number << 16, 16 << 11, data(16 << 11));
    }
    turns(&mut bed, 20);
    bed.devices().seen.clear();
    let mut begun = vec![0u32; usize::from(count)];
    for _ in 0..100 {
        bed.turn();
        for io in bed.devices().seen.drain(..) {
            begun[(io.lba >> 16) as usize] += 1;
        }
        let (least, most) = (begun.iter().min(), begun.iter().max());
        assert!(most <= least.map(|least| least + 1).as_ref(), "{begun:?}");
    }
    bed.reactor.abandon();
}

#[test]
fn a_turn_is_due_for_those_that_rest_when_there_are_more_than_one_looks_at() {
    for (count, more) in [(64, false), (65, true)] {
        let mut bed = bed(PIECE_BYTES_MAX);
        let sectors = 32 << 11;
        for queue in 0..count {
            let guest = bed.attach(id(0, queue), |_| {});
            guest.ask(1, Op::Read, 0, sectors, data(sectors));
        }
        turns(&mut bed, 60);
        assert_eq!(bed.reactor.in_flight(), u32::from(count));
        let soon = Nanos(bed.now).after(RETRY_AFTER);
        let due = bed.reactor.due().expect("the watch");
        assert_eq!(due == soon, more, "{count} rest, {due:?}");
        bed.reactor.abandon();
    }
}

/// Discards of a kernel device move nothing, so a turn has as much for others.
#[test]
fn discards_take_nothing_of_a_turn() {
    let mut bed = unknown(DeviceKind::Block);
    bed.devices().at_once = Some(Ok(()));
    let reader = |bed: &mut Bed, number: u16| {
        let reader = guest(bed, number, 0, 0);
        reader.ask(1, Op::Read, 0, 2 << 11, data(2 << 11));
    };
    reader(&mut bed, 1);
    let discarding = guest(&mut bed, 0, 0, 0);
    reader(&mut bed, 2);
    ask(&discarding, 0, Op::Discard, 0, 1 << 18);
    bed.turn();
    assert_eq!(discarding.answers().len(), 1);
    let reads = |bed: &mut Bed| {
        let seen = bed.devices().seen.drain(..);
        seen.filter(|io| io.op == Op::Read)
            .map(|io| io.sectors)
            .sum::<u64>()
    };
    assert_eq!(reads(&mut bed), 2 << 11, "a turn's share of each");
    bed.reactor.abandon();
}

/// What failed tells nothing of how long a piece should be, whatever it took.
#[test]
fn a_discard_that_fails_is_no_reason_to_go_slowly() {
    let mut bed = unknown(DeviceKind::File);
    let script = guest(&mut bed, 0, 0, 0);
    ask(&script, 0, Op::Discard, 0, 1 << 11);
    bed.turn();
    bed.now += 450_000_000;
    bed.finish_all(Err(Fault::Media));
    bed.turn();
    assert_eq!(script.answers(), [(0, Status::IoErr)]);
    ask(&script, 1, Op::Discard, 0, 1 << 11);
    bed.turn();
    let begun: Vec<_> = bed.devices().seen.iter().map(|io| io.sectors).collect();
    assert_eq!(begun, [1 << 11]);
    bed.reactor.abandon();
}

/// A device that is replaced by a counted one; its discards.
fn counted(bed: &mut Bed) -> (Script, Arc<DeviceStats>, Arc<AttachmentStats>) {
    let stats = Arc::new(DeviceStats::default());
    bed.reactor.apply(ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(0),
        stats: Arc::clone(&stats),
        deadline: NEVER,
    });
    let counts: Arc<AttachmentStats> = Arc::default();
    let of_guest = Arc::clone(&counts);
    let script = bed.attach(id(3, 0), |settings| settings.stats = of_guest);
    (script, stats, counts)
}

#[test]
fn a_slow_discard_is_told_from_a_tenth_of_a_second_on() {
    for (took, told) in [(RANGE_TOLD.0 - 1, 0), (RANGE_TOLD.0, 1)] {
        let mut bed = unknown(DeviceKind::File);
        let (script, stats, _) = counted(&mut bed);
        ask(&script, 0, Op::Discard, 0, 8);
        bed.turn();
        bed.now += took - 1;
        bed.finish_all(Ok(()));
        bed.turn();
        assert_eq!(stats.slow_ranges.seen.get(), told, "{took} ns, when it ends");
        // And by the watch, while it lasts.
        let mut bed = Bed::new(16, 2);
        let (script, stats, _) = counted(&mut bed);
        ask(&script, 0, Op::Discard, 0, 8);
        bed.turn();
        bed.now += took - 1;
        bed.turn();
        let seen = &stats.slow_ranges;
        assert_eq!(seen.seen.get(), told, "{took} ns, while it lasts");
        if told == 1 {
            assert_eq!((seen.of.get(), seen.last_ns.get()), (3, took));
        }
        bed.reactor.abandon();
    }
}

/// Nobody knows what one took that was never on its device for longer than a call.
#[test]
fn a_discard_that_waited_for_its_device_takes_what_it_waited() {
    let mut bed = unknown(DeviceKind::File);
    let (script, _, counts) = counted(&mut bed);
    ask(&script, 0, Op::Discard, 0, 8);
    bed.turn();
    bed.finish_all(Ok(()));
    bed.turn();
    let before = counts.ranges_ns.get();
    bed.now += 1_000_000_000;
    bed.devices().busy = true;
    ask(&script, 1, Op::Discard, 0, 8);
    bed.turn();
    bed.devices().busy = false;
    bed.devices().at_once = Some(Ok(()));
    bed.turn();
    assert_eq!(script.answers().len(), 2);
    assert_eq!(counts.ranges_ns.get() - before, 1, "from one turn to the next");
}

/// Each operation is asked back once, also where another in the same slot was before.
#[test]
fn an_operation_in_a_slot_whose_last_one_was_asked_back_is_asked_back_too() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    let mut slots = Vec::new();
    for head in 0..2 {
        guest.ask(head, Op::Read, 0, 1, data(1));
        bed.turn();
        slots.extend(bed.devices().seen.iter().map(|io| io.slot));
        bed.now += 2000;
        bed.turn();
        bed.finish_all(Err(Fault::Media));
        bed.turn();
    }
    assert_eq!(slots[0], slots[1], "the same slot");
    assert_eq!(bed.devices().cancelled, slots);
}
