//! What becomes of requests of another node, an honest one or not.

use super::*;
use crate::arena::PAYLOAD_BUFFER_BYTES;
use palisade_block::{Fault, Lease, Status};
use palisade_wire::{ForwardedOp, ForwardedRequest};
use palisade_words::{Lba, MemoryId, Sectors};
use std::sync::atomic::AtomicU64;

const KEY: VolumeKey = VolumeKey(7);

struct Bench {
    serving: Serving,
    exchange: Arc<Exchange>,
    arena: Arena,
    answers: Vec<MessageAnswer>,
    now: Nanos,
    sequence: u64,
}

impl Bench {
    /// With places for so many requests, buffers, and buffers that reads may have.
    fn new(places: u32, buffers: usize, reads: usize) -> Bench {
        let words = buffers * (PAYLOAD_BUFFER_BYTES as usize / 8);
        let lease = Lease::of_words((0..words).map(|_| AtomicU64::new(0)).collect());
        let exchange = Arc::new(Exchange::new(places, lease.clone()));
        let mut bench = Bench {
            serving: Serving::new(Arc::clone(&exchange), reads),
            exchange,
            arena: Arena::new(&lease, MemoryId(0)),
            answers: Vec::new(),
            now: Nanos(0),
            sequence: 0,
        };
        bench.serve(5, 10, 1);
        bench
    }

    fn does(&mut self, what: impl FnOnce(&mut Serving, &mut Means<'_>)) {
        let (arena, answers) = (&mut self.arena, &mut self.answers);
        let now = self.now;
        what(&mut self.serving, &mut Means { arena, answers, now });
        let used = self.serving.check().unwrap();
        assert_eq!(used, self.arena.used());
    }

    fn serve(&mut self, volume: u16, generation: u64, epoch: u64) {
        let served = ServedVolume {
            volume: VolumeIndex(volume),
            generation: Generation(generation),
            epoch: Epoch(epoch),
            may_change: true,
        };
        self.does(|serving, means| serving.serve(KEY, served, means));
    }

    fn ask(&mut self, op: ForwardedOp, generation: u32, epoch: u64) {
        let request = ForwardedRequest {
            op,
            volume: KEY,
            generation,
            lba: Lba(0),
            sectors: Sectors(8),
        };
        let buffer = (op == ForwardedOp::Write).then(|| self.arena.take().unwrap());
        self.sequence += 1;
        let message = Delivered {
            round: 1,
            stream: StreamIndex(0),
            sequence: self.sequence,
            words: request.encode().unwrap(),
            epoch: Epoch(epoch),
            buffer,
            bytes: if buffer.is_some() { 4096 } else { 0 },
        };
        self.does(|serving, means| serving.deliver(message, means));
    }

    /// What was answered since this was last asked.
    fn said(&mut self) -> Vec<ForwardedResult> {
        let answers = self.answers.drain(..);
        answers
            .map(|answer| ForwardedResult::decode(&answer.words).unwrap())
            .collect()
    }

    /// Numbers of those that the engine gets.
    fn given(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.exchange.given.pop())
            .map(|given| given.index)
            .collect()
    }

    fn ends(&mut self, index: u32, fault: Option<Fault>) {
        let status = if fault.is_some() {
            Status::IoErr
        } else {
            Status::Ok
        };
        self.exchange
            .ended
            .push((index, GivenEnd::Answered(status, fault)))
            .unwrap();
        self.does(Serving::take_ends);
    }
}

#[test]
fn a_request_is_carried_out_under_the_mapping_that_it_names_or_not_at_all() {
    let mut bench = Bench::new(8, 4, 2);
    bench.ask(ForwardedOp::Write, 9, 1);
    assert_eq!(bench.said(), [ForwardedResult::Stale]);
    bench.ask(ForwardedOp::Write, 10, 0);
    assert_eq!(
        bench.said(),
        [ForwardedResult::Stale],
        "of a membership that is over"
    );
    bench.ask(ForwardedOp::Write, 11, 1);
    bench.ask(ForwardedOp::Read, 10, 2);
    assert_eq!(
        (bench.said(), bench.given().len(), bench.serving.held()),
        (vec![], 0, 2)
    );
    bench.serve(5, 9, 1);
    assert_eq!(bench.serving.counters().stale_orders, 1);
    bench.ask(ForwardedOp::Read, 10, 1);
    assert_eq!(bench.given().len(), 1, "an older order has changed nothing");
    bench.serve(5, 11, 1);
    assert_eq!(
        (bench.said(), bench.given().len()),
        (vec![], 1),
        "the read names a newer membership"
    );
    bench.serve(5, 11, 2);
    assert_eq!(bench.said(), [ForwardedResult::Stale]);
}

#[test]
fn two_volumes_with_one_key_are_served_neither() {
    let mut bench = Bench::new(8, 4, 2);
    bench.serve(6, 10, 1);
    bench.ask(ForwardedOp::Read, 10, 1);
    assert_eq!(bench.said(), [ForwardedResult::NotServed]);
    bench.does(|serving, means| serving.stop(KEY, VolumeIndex(5), means));
    bench.ask(ForwardedOp::Read, 10, 1);
    let given = bench.exchange.given.pop().unwrap();
    assert_eq!(given.volume, VolumeIndex(6));
}

#[test]
fn what_names_an_unknown_mapping_waits_for_so_long_and_no_more_than_half_of_the_places() {
    let mut bench = Bench::new(4, 4, 2);
    for _ in 0..3 {
        bench.ask(ForwardedOp::Read, 11, 1);
    }
    assert_eq!(
        bench.said(),
        [ForwardedResult::Stale],
        "the third is one too many"
    );
    assert_eq!(bench.serving.next_look(), Some(EARLY_HELD_FOR));
    bench.now = EARLY_HELD_FOR;
    bench.does(Serving::tick);
    assert_eq!(bench.said(), [ForwardedResult::Stale; 2]);
    assert_eq!(
        (bench.serving.held(), bench.serving.counters().early_given_up),
        (0, 3)
    );
    assert!(bench.serving.is_idle());
}

#[test]
fn reads_leave_buffers_for_what_comes_with_messages_and_wait_for_one() {
    let mut bench = Bench::new(8, 3, 1);
    bench.ask(ForwardedOp::Read, 10, 1);
    bench.ask(ForwardedOp::Read, 10, 1);
    let first = bench.given();
    assert_eq!(
        (first.len(), bench.arena.used()),
        (1, 1),
        "one read has one, the other waits"
    );
    bench.ends(first[0], Some(Fault::Media));
    assert_eq!(bench.said(), [ForwardedResult::Media]);
    assert_eq!(bench.given().len(), 1, "it has the buffer of the other");
}

/// It is not only another read that gives a buffer back.
#[test]
fn a_read_gets_the_buffer_of_a_write() {
    let mut bench = Bench::new(8, 2, 2);
    bench.ask(ForwardedOp::Write, 10, 1);
    bench.ask(ForwardedOp::Write, 10, 1);
    bench.ask(ForwardedOp::Read, 10, 1);
    let writes = bench.given();
    assert_eq!(writes.len(), 2);
    bench.ends(writes[0], None);
    assert_eq!(
        (bench.said(), bench.given().len()),
        (vec![ForwardedResult::Done], 1)
    );
}

#[test]
fn more_than_there_are_places_for_is_answered_and_keeps_no_buffer() {
    let mut bench = Bench::new(2, 4, 2);
    for _ in 0..3 {
        bench.ask(ForwardedOp::Write, 10, 1);
    }
    assert_eq!(bench.said(), [ForwardedResult::NotServed]);
    assert_eq!((bench.given().len(), bench.arena.used()), (2, 2));
    assert_eq!(bench.serving.counters().beyond, 1);
}

#[test]
fn a_change_that_may_land_is_a_doubt_until_it_is_proved_that_it_does_not() {
    let mut bench = Bench::new(8, 4, 2);
    bench.ask(ForwardedOp::Write, 10, 1);
    let index = bench.given()[0];
    bench.ends(index, Some(Fault::Unreachable));
    assert_eq!(
        bench.said(),
        [ForwardedResult::Unreachable],
        "who asks is told at once"
    );
    assert!(bench.serving.is_doubtful());
    // A read that fails leaves none, and neither does what has failed for good.
    bench.does(Serving::nothing_lands);
    bench.ask(ForwardedOp::Read, 10, 1);
    let index = bench.given()[0];
    bench.ends(index, Some(Fault::Unreachable));
    bench.ask(ForwardedOp::Write, 10, 1);
    let index = bench.given()[0];
    bench.ends(index, Some(Fault::Media));
    assert!(!bench.serving.is_doubtful());
}

#[test]
fn one_that_ends_so_after_its_session_was_lost_is_not_answered_before_that() {
    let mut bench = Bench::new(8, 4, 2);
    bench.ask(ForwardedOp::Write, 10, 1);
    let index = bench.given()[0];
    bench.does(Serving::session_lost);
    bench.ends(index, Some(Fault::TimedOut));
    assert_eq!(bench.said(), []);
    assert!(bench.serving.is_doubtful() && !bench.serving.is_idle());
    bench.does(Serving::nothing_lands);
    assert_eq!(bench.said().len(), 1);
    assert!(!bench.serving.is_doubtful() && bench.serving.is_idle());
}

#[test]
fn what_waits_when_the_session_is_lost_is_not_done() {
    let mut bench = Bench::new(8, 2, 1);
    bench.ask(ForwardedOp::Write, 11, 1);
    bench.ask(ForwardedOp::Read, 10, 1);
    bench.ask(ForwardedOp::Read, 10, 1);
    bench.does(Serving::session_lost);
    assert_eq!(bench.said(), [ForwardedResult::NotServed; 2]);
    assert_eq!(bench.given().len(), 1);
}
