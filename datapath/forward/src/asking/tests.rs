//! What becomes of operations, answered or not.

use super::*;
use palisade_block::{Lease, MappingId, Nanos};
use palisade_words::{DeviceIndex, Generation, Lba, Sectors, Uuid};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

struct Bench {
    operations: Operations,
    arena: Arena,
    ended: Ended,
}

const MAY_LAND: Completion = Completion::Nack { may_land: true };
const NEVER_SENT: Completion = Completion::Nack { may_land: false };

impl Bench {
    fn new() -> Bench {
        let words = PAYLOAD_WORDS * 4;
        let lease = Lease::of_words((0..words).map(|_| AtomicU64::new(0)).collect::<Arc<[_]>>());
        Bench {
            operations: Operations::new(4),
            arena: Arena::new(&lease, MemoryId(1)),
            ended: Vec::new(),
        }
    }

    fn begin(&mut self, slot: u32, op: Op) -> u64 {
        let mapping = MappingId::new(Uuid(1), Generation(1), Epoch(1));
        let io = Io {
            device: DeviceIndex(0),
            slot: SlotIndex(slot),
            mapping: &mapping,
            deadline: Nanos(0),
            op,
            lba: Lba(0),
            sectors: Sectors(8),
            durable: false,
            alone: false,
            memory: MemoryId(3),
            segments: &[],
        };
        let buffer = (op == Op::Write).then(|| self.arena.take().unwrap());
        self.operations.begin(&io, asking(&io).unwrap(), buffer).unwrap()
    }

    fn complete(&mut self, key: u64, completion: Completion) {
        self.operations
            .complete(key, completion, &mut self.arena, &mut self.ended);
        assert_eq!(self.operations.check(), Ok(self.arena.used()));
    }

    fn answer(&mut self, key: u64, result: ForwardedResult, payload_bytes: u32) {
        let words = result.encode();
        self.complete(key, Completion::Answered { words, payload_bytes });
    }

    fn ended(&mut self) -> Vec<(u32, Result<(), Fault>)> {
        self.ended
            .drain(..)
            .map(|(slot, result)| (slot.0, result))
            .collect()
    }
}

const PAYLOAD_WORDS: usize = crate::arena::PAYLOAD_BUFFER_BYTES as usize / 8;

#[test]
fn an_answer_that_says_nothing_of_a_change_is_none() {
    for result in [
        ForwardedResult::Gone,
        ForwardedResult::TimedOut,
        ForwardedResult::Unreachable,
    ] {
        let mut bench = Bench::new();
        let (write, read) = (bench.begin(1, Op::Write), bench.begin(2, Op::Read));
        bench.answer(write, result, 0);
        bench.answer(read, result, 0);
        assert_eq!(bench.ended(), [(2, Err(Fault::Unreachable))], "{result:?}");
        assert_eq!(bench.operations.unsettled(), 1);
        bench.operations.nothing_lands(&mut bench.ended);
        assert_eq!(bench.ended(), [(1, Err(Fault::Unreachable))]);
        assert!(bench.operations.are_none());
    }
}

#[test]
fn an_answer_with_other_data_than_was_asked_for_is_none() {
    let mut bench = Bench::new();
    let (read, write) = (bench.begin(1, Op::Read), bench.begin(2, Op::Write));
    bench.answer(read, ForwardedResult::Done, 512);
    bench.answer(write, ForwardedResult::Done, 512);
    assert_eq!(bench.ended(), [(1, Err(Fault::Unreachable))]);
    assert_eq!(bench.operations.unsettled(), 1);
}

#[test]
fn what_a_lost_session_gives_back_is_kept_and_asked_again_when_it_is_up() {
    let mut bench = Bench::new();
    let (write, read) = (bench.begin(1, Op::Write), bench.begin(2, Op::Read));
    bench.complete(write, MAY_LAND);
    bench.complete(read, NEVER_SENT);
    assert_eq!((bench.ended(), bench.operations.kept()), (vec![], 2));
    assert!(bench.operations.are_in(MemoryId(3)), "the read is still to come");
    bench.operations.up(&mut bench.ended);
    let mut from = 0;
    let again: Vec<u64> = std::iter::from_fn(|| bench.operations.next_kept(&mut from))
        .map(|kept| kept.0)
        .collect();
    assert_eq!(again, [write, read]);
    assert!(bench.operations.data(write).is_some(), "its data is still there");
    bench.answer(write, ForwardedResult::Done, 0);
    bench.answer(read, ForwardedResult::Done, 4096);
    assert_eq!(bench.ended(), [(1, Ok(())), (2, Ok(()))]);
}

#[test]
fn what_is_given_back_ends_unless_it_may_land() {
    let mut bench = Bench::new();
    let keys = [(1, Op::Write), (2, Op::Write), (3, Op::Read)].map(|(slot, op)| bench.begin(slot, op));
    bench.complete(keys[0], MAY_LAND);
    bench.complete(keys[1], NEVER_SENT);
    bench.operations.give_back(&mut bench.arena, &mut bench.ended);
    bench.complete(keys[2], MAY_LAND);
    let ends = [(2, Err(Fault::Unreachable)), (3, Err(Fault::Unreachable))];
    assert_eq!((bench.ended(), bench.operations.unsettled()), (ends.to_vec(), 1));
    bench.operations.up(&mut bench.ended);
    assert_eq!(bench.ended(), [(1, Err(Fault::Unreachable))]);
}

#[test]
fn a_read_that_is_taken_back_has_no_place_for_its_answer_and_a_change_is_not_taken_back() {
    let mut bench = Bench::new();
    let (write, read) = (bench.begin(1, Op::Write), bench.begin(2, Op::Read));
    assert!(bench.operations.landing(read).is_some());
    let take_back = |bench: &mut Bench, slot| {
        bench
            .operations
            .take_back(SlotIndex(slot), &mut bench.arena, &mut bench.ended)
    };
    assert_eq!(take_back(&mut bench, 1), None);
    assert_eq!(take_back(&mut bench, 2), Some(read));
    assert_eq!(bench.ended(), [(2, Err(Fault::TimedOut))]);
    assert!(bench.operations.landing(read).is_none() && !bench.operations.are_in(MemoryId(3)));
    bench.answer(read, ForwardedResult::Done, 4096);
    assert_eq!(bench.ended(), [], "it has ended");
    bench.answer(write, ForwardedResult::Done, 0);
    assert!(bench.operations.are_none());
}

#[test]
fn what_the_guest_has_no_memory_for_is_its_own_fault() {
    let mut bench = Bench::new();
    let read = bench.begin(1, Op::Read);
    bench.operations.landed(read, Err(Fault::GuestMemory));
    bench.answer(read, ForwardedResult::Done, 4096);
    assert_eq!(bench.ended(), [(1, Err(Fault::GuestMemory))]);
}
