//! Whose turn it is: who waits for something that others hold, who for its own limit, and who is held up by neither.

use crate::bench_of::*;
use palisade_block::mailbox::Pace;
use palisade_block::*;
use palisade_words::QueueId;

const LONG: u64 = 200;

fn queue(bed: &mut Bed, queue: u16) -> Script {
    bed.attach(QueueId { queue, ..QUEUE }, |_| {})
}

fn ask_long(guest: &Script, head: u16) {
    let segments = (0..LONG as usize).map(|at| piece(0x20_0000 + at * 512, 512));
    guest.ask(head, Op::Read, 0, LONG, segments.collect());
}

/// A limit is nobody else's doing: who waits for it is not the first in line.
#[test]
fn who_waits_for_its_limit_does_not_change_the_order_of_others() {
    let mut bed = Bed::new(16, 2);
    bed.devices().at_once = Some(Ok(()));
    bed.now = 5_000_000_000;
    let first = queue(&mut bed, 0);
    let limited = bed.attach(QueueId { queue: 1, ..QUEUE }, |settings| {
        settings.pace = Pace {
            iops: 1,
            ..Pace::default()
        };
    });
    let last = queue(&mut bed, 2);
    (0..2).for_each(|head| limited.ask(head, Op::Read, 99, 1, data(1)));
    last.ask(0, Op::Read, 2, 1, data(1));
    bed.turn();
    bed.devices().steps.take();
    for head in 0..200 {
        first.ask(head, Op::Read, 0, 1, data(1));
        last.ask(head, Op::Read, 2, 1, data(1));
    }
    for _ in 0..4 {
        bed.turn();
    }
    let steps = bed.devices().steps.take();
    let batches: Vec<(u64, bool)> = steps
        .chunks(32)
        .map(|batch| (batch[0].1, batch.iter().all(|step| step.1 == batch[0].1)))
        .collect();
    let due: Vec<(u64, bool)> = [(100, true), (102, true)].into_iter().cycle().take(8).collect();
    assert_eq!(batches, due);
}

/// A turn begins behind who was served last, and with who was short of a slot before all others.
#[test]
fn who_was_served_comes_behind_who_was_not() {
    // Two slots, one of which is kept for the other device.
    let mut bed = Bed::new(2, 2);
    let queues = [0, 1, 2].map(|number| queue(&mut bed, number));
    let ask = |asked: &[usize]| {
        for &of in asked {
            queues[of].ask(0, Op::Read, of as u64, 1, data(1));
        }
    };
    let mut served = Vec::new();
    for asked in [&[0][..], &[0, 1], &[2], &[], &[1, 2], &[], &[]] {
        ask(asked);
        bed.turn();
        bed.finish_all(Ok(()));
        served.extend(bed.devices().steps.take().iter().map(|step| step.1 - 100));
    }
    assert_eq!(served, [0, 1, 0, 2, 1, 2]);
}

/// Who finds that there is no list for it has got nothing, and is the first in the next turn.
#[test]
fn who_found_no_list_is_the_first_in_the_next_turn() {
    let mut bed = Bed::new(64, 2);
    let first = queue(&mut bed, 0);
    let long = queue(&mut bed, 1);
    let last = queue(&mut bed, 2);
    (0..2).for_each(|head| ask_long(&long, head));
    last.ask(0, Op::Read, 2, 1, data(1));
    bed.turn();
    assert_eq!(bed.reactor.in_flight(), 3);
    ask_long(&long, 2);
    let ask = |head| {
        first.ask(head, Op::Read, 1, 1, data(1));
        last.ask(head, Op::Read, 2, 1, data(1));
    };
    ask(1);
    bed.devices().steps.take();
    bed.turn();
    bed.finish_all(Ok(()));
    ask(2);
    bed.turn();
    let order: Vec<u64> = bed.devices().steps.take().iter().map(|step| step.1).collect();
    assert_eq!(order, [101, 102, 100, 260, 101, 102]);
    bed.reactor.abandon();
}

#[test]
fn short_requests_behind_long_ones_are_not_held_up_by_a_lack_of_lists() {
    let mut bed = Bed::new(64, 2);
    let guest = queue(&mut bed, 0);
    (0..2).for_each(|head| ask_long(&guest, head));
    bed.turn();
    guest.ask(2, Op::Read, 0, 1, data(1));
    assert_eq!(
        bed.turn(),
        1,
        "its two lists are all it may have, and it wants no more"
    );
    assert_eq!(bed.reactor.in_flight(), 3);
    bed.reactor.abandon();
}
