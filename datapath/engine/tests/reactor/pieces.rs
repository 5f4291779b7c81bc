//! Where requests are cut: at what a bounce buffer holds, at what a device takes, at whole blocks, after what one turn may
//! move; and who of those that wait for a part or a buffer has a turn when.

use crate::bench_of::*;
use palisade_block::limits::BOUNCE_BYTES;
use palisade_block::stats::AttachmentStats;
use palisade_block::*;
use palisade_words::{QueueId, Sectors, VolumeIndex};
use std::sync::Arc;

/// Sectors of a bounce buffer.
const BUFFER: u64 = BOUNCE_BYTES as u64 / 512;
const LARGE: u64 = 1 << 16;

/// A bed whose first device is large and as it is told, and has the volume to itself.
fn large(buffers: usize, change: impl FnOnce(&mut DeviceLimits)) -> (Bed, Script) {
    let mut bed = Bed::new(256, buffers);
    let limits = &mut bed.devices().limits[0];
    limits.sectors = Sectors(LARGE);
    change(limits);
    bed.give_device(VOLUME, 0, Nanos(1000));
    let guest = bed.attach(QUEUE, |_| {});
    (bed, guest)
}

/// What was started since, as first sector, sectors and whether by way of a buffer; it ends well.
fn started(bed: &mut Bed) -> Vec<(u64, u64, bool)> {
    let seen = &bed.devices().seen;
    let started = seen.iter().map(|io| (io.lba, io.sectors, io.pooled)).collect();
    bed.finish_all(Ok(()));
    started
}

/// Turns until there is an answer. All that was started.
fn run(bed: &mut Bed, guest: &Script) -> Vec<(u64, u64, bool)> {
    let before = guest.answers().len();
    let mut all = Vec::new();
    for _ in 0..100 {
        bed.turn();
        all.extend(started(bed));
        if guest.answers().len() > before {
            break;
        }
    }
    assert_eq!(guest.answers().len(), before + 1);
    all
}

fn odd(sectors: u64) -> Vec<Segment> {
    vec![piece(0x10_0001, (sectors * 512) as usize)]
}

#[test]
fn a_piece_by_way_of_the_pool_holds_no_more_than_a_buffer() {
    let (mut bed, guest) = large(4, |_| {});
    let zero = Op::WriteZeroes { unmap: false };
    bed.devices().unsupported = vec![zero];
    for (head, op, lba, sectors) in [
        (1, Op::Read, 8, 2 * BUFFER + 100),
        (2, Op::Write, 16, BUFFER + 1),
        (3, zero, 24, 2 * BUFFER),
        (4, zero, 32, BUFFER - 1),
    ] {
        let segments = if op.moves_data() { odd(sectors) } else { vec![] };
        guest.ask(head, op, lba, sectors, segments);
        let mut due = Vec::new();
        if op == zero {
            due.push((lba, sectors, false));
        }
        for from in (0..sectors).step_by(BUFFER as usize) {
            due.push((lba + from, BUFFER.min(sectors - from), true));
        }
        assert_eq!(run(&mut bed, &guest), due, "{op:?}");
        assert_eq!(guest.answers().last(), Some(&(head, Status::Ok)));
    }
    assert_eq!(bed.pool.0.borrow().free.len(), 4);
}

#[test]
fn zeroes_that_are_written_are_no_longer_than_the_device_takes() {
    let (mut bed, guest) = large(4, |limits| limits.io_bytes_max = 64 << 10);
    let zero = Op::WriteZeroes { unmap: true };
    bed.devices().unsupported = vec![zero];
    guest.ask(1, zero, 0, 300, vec![]);
    let all = run(&mut bed, &guest);
    assert_eq!(
        all,
        [(0, 300, false), (0, 128, true), (128, 128, true), (256, 44, true)]
    );
}

#[test]
fn what_is_as_long_as_the_device_takes_goes_as_it_is() {
    for (sectors, pieces) in [(128, 1), (129, 2), (256, 2)] {
        let (mut bed, guest) = large(4, |limits| limits.io_bytes_max = 64 << 10);
        guest.ask(1, Op::Read, 0, sectors, data(sectors));
        assert_eq!(run(&mut bed, &guest).len(), pieces, "{sectors}");
    }
}

/// A device that takes any memory: what has many short segments ends at a whole block, or goes through the pool where not
/// even one block fits a list.
#[test]
fn a_list_that_is_full_ends_at_a_whole_block() {
    let bytewise = |limits: &mut DeviceLimits| {
        (limits.memory_alignment, limits.length_alignment) = (1, 1);
        limits.block_bytes = 4096;
    };
    // 160 segments of 128 bytes are 20480 bytes, 5 blocks; of 50 bytes 8000, 1 block; of 16 bytes 2560, none: then a
    // block goes through the pool.
    for (bytes, pieces) in [
        (128, vec![(0, 40, false), (40, 24, false)]),
        (50, vec![(0, 8, false), (8, 8, false), (16, 8, false)]),
        (16, vec![(0, 8, true), (8, 8, true)]),
    ] {
        let (mut bed, guest) = large(4, bytewise);
        let sectors: u64 = pieces.iter().map(|piece| piece.1).sum();
        let mut left = sectors as usize * 512;
        let mut segments = Vec::new();
        while left > 0 {
            let length = left.min(bytes);
            segments.push(piece(0x20_0000 + segments.len() * 256, length));
            left -= length;
        }
        guest.ask(1, Op::Write, 0, sectors, segments);
        assert_eq!(run(&mut bed, &guest), pieces, "segments of {bytes} bytes");
    }
}

#[test]
fn one_turn_moves_no_more_than_its_share_of_a_long_request() {
    // 1 MiB, in one piece whatever the device takes, or two; and what the last piece leads beyond it.
    for (io_bytes_max, turns) in [
        (64 << 20, vec![2048, 2048, 2048, 1856]),
        (1 << 20, vec![2048, 2048, 2048, 1856]),
        (1 << 19, vec![2048, 2048, 2048, 1856]),
        (3 << 18, vec![3072, 3072, 1856]),
    ] {
        let (mut bed, guest) = large(4, |limits| limits.io_bytes_max = io_bytes_max);
        bed.devices().at_once = Some(Ok(()));
        guest.ask(1, Op::Read, 0, 8_000, data(8_000));
        let mut moved = Vec::new();
        while guest.answers().is_empty() {
            assert_eq!(bed.turn(), 1);
            moved.push(started(&mut bed).iter().map(|io| io.1).sum::<u64>());
            bed.devices().finished.clear();
        }
        assert_eq!(moved, turns);
    }
}

#[test]
fn a_lack_of_buffers_is_counted_once_for_each_piece_that_waits() {
    let (mut bed, guest) = large(1, |_| {});
    for head in 1..=3 {
        guest.ask(head, Op::Write, 0, 2 * BUFFER, odd(2 * BUFFER));
    }
    let mut counted = Vec::new();
    for _ in 0..7 {
        for _ in 0..4 {
            bed.turn();
        }
        counted.push((started(&mut bed).len(), bed.stats.pool_short.get()));
    }
    // The first has one and lacks the next, the others lack their first, and the next when they have had that.
    assert_eq!(counted, [(1, 3), (1, 3), (1, 4), (1, 5), (1, 5), (1, 5), (0, 5)]);
    assert_eq!(guest.answers().len(), 3);
}

#[test]
fn pieces_that_are_bounced_are_counted_and_written_zeroes_are_not() {
    let (mut bed, _) = large(4, |_| {});
    let zero = Op::WriteZeroes { unmap: false };
    bed.devices().unsupported = vec![zero];
    let counts: Arc<AttachmentStats> = Arc::default();
    let id = QueueId { queue: 1, ..QUEUE };
    let guest = bed.attach(id, |settings| settings.stats = Arc::clone(&counts));
    guest.ask(1, zero, 0, 8, vec![]);
    guest.ask(2, Op::Read, 0, 8, odd(8));
    guest.ask(3, Op::Read, 0, 8, data(8));
    bed.turn();
    assert_eq!(counts.bounced.get(), 1);
    assert_eq!(bed.stats.buffers_used.get(), 2);
    // That the device cannot do it is no fault of anybody's.
    assert!(counts.faults.iter().all(|count| count.get() == 0));
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!((guest.answers().len(), bed.stats.buffers_used.get()), (3, 0));
}

#[test]
fn what_a_device_does_not_offer_is_told_the_guest() {
    let (mut bed, guest) = large(4, |_| {});
    for (head, op, segments, status) in [
        (1, Op::Read, data(8), Status::Unsupp),
        (2, Op::Write, odd(8), Status::Unsupp),
        (3, Op::Flush, vec![], Status::Unsupp),
        (4, Op::Discard, vec![], Status::Ok),
    ] {
        guest.ask(head, op, 0, if op == Op::Flush { 0 } else { 8 }, segments);
        bed.turn();
        bed.finish_all(Err(Fault::Unsupported));
        bed.turn();
        assert_eq!(guest.answers().last(), Some(&(head, status)), "{op:?}");
    }
}

/// The places of the operations that were started, or tried, in the turns before.
fn tried(bed: &mut Bed) -> Vec<u64> {
    bed.devices().steps.take().iter().map(|step| step.1).collect()
}

#[test]
fn some_of_those_whose_device_is_busy_are_tried_in_each_turn() {
    let (mut bed, guest) = large(4, |_| {});
    bed.devices().busy = true;
    // One at a time: what finds its device busy ends a batch, and the next goes on with those behind it.
    (0..40).for_each(|head| guest.ask(head, Op::Read, u64::from(head), 1, data(1)));
    bed.turn();
    bed.turn();
    tried(&mut bed);
    let all: Vec<u64> = (0..40).collect();
    let mut order = all.clone();
    for _ in 0..4 {
        assert_eq!(bed.turn(), 0, "nothing has moved");
        assert_eq!(tried(&mut bed), order[..32], "32 in vain are enough");
        order.rotate_left(32);
    }
    // Then it has room: all of them go, and that is work.
    bed.devices().busy = false;
    assert_eq!(bed.turn(), 40);
    assert_eq!(tried(&mut bed), order);
    assert!(!bed.reactor.is_held_up());
    // The same where they are answered at once.
    bed.finish_all(Ok(()));
    assert_eq!(bed.turn(), 40);
    assert_eq!(guest.answers().len(), 40);
}

#[test]
fn what_waited_for_its_device_and_is_done_at_once_is_answered() {
    let (mut bed, guest) = large(4, |_| {});
    bed.devices().busy = true;
    (0..3).for_each(|head| guest.ask(head, Op::Write, u64::from(head), 1, data(1)));
    bed.turn();
    bed.devices().busy = false;
    bed.devices().at_once = Some(Ok(()));
    assert_eq!(bed.turn(), 3);
    assert_eq!(guest.answers(), [0, 1, 2].map(|head| (head, Status::Ok)));
}

/// A device that hangs holds its share of the buffers, and many wait for more of it. Behind all of them stands a guest of
/// another device: the first 32 keep their places, of the others 32 are tried in each turn.
#[test]
fn those_behind_many_that_wait_have_a_turn() {
    let (mut bed, guest) = large(4, |_| {});
    let other = VolumeIndex(1);
    bed.give_run(other, 1);
    // More than one queue may have in flight.
    let second = bed.attach(QueueId { queue: 1, ..QUEUE }, |_| {});
    for head in 0..48 {
        guest.ask(head, Op::Read, u64::from(head), 1, odd(1));
        second.ask(head, Op::Read, 100 + u64::from(head), 1, odd(1));
    }
    for _ in 0..4 {
        bed.turn();
    }
    let held = bed.devices().seen.len();
    assert_eq!(held, 3, "one buffer is kept for the other device");
    let waiting = bed.reactor.in_flight() as usize - held;
    assert!((65..96).contains(&waiting), "{waiting}");
    let third = QueueId { queue: 2, ..QUEUE };
    let third = bed.attach(third, |settings| settings.volume = Some(other));
    third.ask(1, Op::Read, 7, 1, odd(1));
    assert_eq!(bed.turn(), 1, "it is taken and waits behind the others");
    assert_eq!((bed.turn(), bed.devices().seen.len()), (0, 3));
    assert_eq!((bed.turn(), bed.devices().seen.len()), (1, 4));
    // Nobody is left behind.
    for _ in 0..50 {
        bed.finish_all(Ok(()));
        bed.turn();
    }
    assert_eq!([&guest, &second].map(|queue| queue.answers().len()), [48, 48]);
    assert_eq!(third.answers(), [(1, Status::Ok)]);
}

#[test]
fn what_has_failed_is_answered_with_its_last_piece_however_many_wait() {
    let (mut bed, guest) = large(4, |_| {});
    guest.ask(1, Op::Read, 0, 20 * BUFFER, odd(20 * BUFFER));
    bed.turn();
    let others: Vec<Script> = (1..4)
        .map(|queue| bed.attach(QueueId { queue, ..QUEUE }, |_| {}))
        .collect();
    for head in 0..40 {
        others
            .iter()
            .for_each(|other| other.ask(head, Op::Read, 0, 1, odd(1)));
    }
    for _ in 0..4 {
        bed.turn();
    }
    // It has three of the buffers, and the next one it gets brings it to the end of the line.
    assert_eq!(bed.devices().seen.len(), 3);
    assert_eq!(bed.reactor.in_flight(), 121);
    let end = |bed: &mut Bed, result| {
        let slot = bed.devices().seen.remove(0).slot;
        bed.devices().finished.push_back((slot, result));
    };
    end(&mut bed, Ok(()));
    bed.turn();
    assert_eq!(bed.devices().seen.last().map(|io| io.lba), Some(3 * BUFFER));
    end(&mut bed, Err(Fault::Media));
    end(&mut bed, Ok(()));
    end(&mut bed, Ok(()));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
    bed.reactor.abandon();
}

#[test]
fn a_copy_that_meets_no_page_is_an_error_of_its_request_and_of_no_disk() {
    for op in [Op::Read, Op::Write] {
        let mut bed = Bed::new(16, 2);
        let stats: Arc<AttachmentStats> = Arc::default();
        let counted = Arc::clone(&stats);
        let guest = bed.attach(QUEUE, |settings| settings.stats = counted);
        let misaligned = vec![piece(0x10_0002, 512)];
        bed.pool.0.borrow_mut().lacks_pages = true;
        guest.ask(1, op, 0, 1, misaligned.clone());
        bed.turn();
        bed.finish_all(Ok(()));
        bed.turn();
        assert_eq!(guest.answers(), [(1, Status::IoErr)], "{op:?}");
        assert_eq!(stats.faults[Fault::GuestMemory.kind()].get(), 1);
        assert_eq!(bed.pool.0.borrow().free.len(), 2, "the buffer is back");
        bed.pool.0.borrow_mut().lacks_pages = false;
        guest.ask(2, op, 0, 1, misaligned);
        bed.turn();
        bed.finish_all(Ok(()));
        bed.turn();
        assert_eq!(guest.answers().last(), Some(&(2, Status::Ok)), "{op:?}");
        assert_eq!(bed.reactor.in_flight(), 0);
    }
}
