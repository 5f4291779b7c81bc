//! Discards that take long, on a device that does one thing at a time: how long a neighbour waits, and what it costs who asks
//! where they are quick.

use crate::bench_of::*;
use crate::ranges::{ask, guest, unknown};
use palisade_block::mailbox::ReactorCommand;
use palisade_block::stats::{AttachmentStats, DeviceStats};
use palisade_block::*;
use palisade_words::{DeviceIndex, SlotIndex, VolumeIndex};
use std::collections::VecDeque;
use std::sync::Arc;

const MS: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

/// What each operation takes by itself.
const EACH_NS: u64 = 100_000;

/// A file system with one lock: who comes first has it first, and a range takes time for each piece of space in it.
struct Locked {
    bed: Bed,
    queue: VecDeque<(SlotIndex, u64)>,
    /// What the first of them has left.
    ends: Option<u64>,
    /// Time for a MiB that begins at this one.
    range_ns: fn(u64) -> u64,
    /// Ranges: how long each took, and how many were there at once.
    ranges: Vec<u64>,
    most: usize,
}

impl Locked {
    fn new(kind: DeviceKind, range_ns: fn(u64) -> u64) -> Locked {
        Locked {
            bed: unknown(kind),
            queue: VecDeque::new(),
            ends: None,
            range_ns,
            ranges: Vec::new(),
            most: 0,
        }
    }

    /// One turn at a moment that is not before the last; when something happens next.
    fn turn(&mut self, now: u64) -> u64 {
        while let Some(ends) = self.ends.filter(|&ends| ends <= now) {
            let (slot, _) = self.queue.pop_front().expect("it is under way");
            self.bed.devices().finished.push_back((slot, Ok(())));
            self.ends = self.queue.front().map(|(_, takes)| ends + takes);
        }
        self.bed.now = now;
        self.bed.turn();
        for seen in std::mem::take(&mut self.bed.devices().seen) {
            let bytes = |sectors: u64| sectors * 512;
            let mut takes = EACH_NS;
            if seen.op == Op::Discard {
                for mib in bytes(seen.lba) / MIB..bytes(seen.lba + seen.sectors).div_ceil(MIB) {
                    let from = bytes(seen.lba).max(mib * MIB);
                    let to = bytes(seen.lba + seen.sectors).min((mib + 1) * MIB);
                    takes += (self.range_ns)(mib) * (to - from) / MIB;
                }
                self.ranges.push(takes);
            }
            self.queue.push_back((seen.slot, takes));
            if self.ends.is_none() {
                self.ends = Some(now + takes);
            }
        }
        self.most = self.most.max(self.queue.len());
        let due = self.bed.reactor.due().map_or(u64::MAX, |due| due.0);
        self.ends.unwrap_or(u64::MAX).min(due).max(now + 1)
    }

    /// Lets the first of its guests discard so much while another writes every 5 ms. How long that took, and each wait.
    fn run(&mut self, requests: &[(u64, u64)]) -> (u64, Vec<u64>) {
        let hungry = guest(&mut self.bed, 0, 0, 0);
        let neighbour = guest(&mut self.bed, 1, 0, 0);
        let (mut now, mut lasted, mut waits, mut asked) = (1, 0, Vec::new(), None::<u64>);
        let mut next_write = 1;
        for (head, (mib, mibs)) in (0..).zip(requests) {
            ask(&hungry, head, Op::Discard, mib * MIB / 512, mibs * MIB / 512);
            while hungry.answers().len() <= usize::from(head) {
                if asked.is_none() && now >= next_write {
                    neighbour.ask(0, Op::Write, 0, 8, data(8));
                    asked = Some(now);
                }
                lasted = now;
                let next = self.turn(now);
                if let Some(at) = asked
                    && neighbour.answers().len() > waits.len()
                {
                    waits.push(now - at);
                    next_write = now + 5 * MS;
                    asked = None;
                }
                now = match asked {
                    None => next.min(next_write.max(now + 1)),
                    Some(_) => next,
                };
                assert!(now < 3_000_000 * MS, "it must come to an end");
            }
        }
        while self.bed.reactor.in_flight() > 0 {
            now = self.turn(now);
        }
        (lasted, waits)
    }
}

fn longest(waits: &[u64]) -> u64 {
    waits.iter().copied().max().unwrap_or(0)
}

/// 128 pieces of space in each MiB, of 1.5 ms.
const FRAGMENTED: fn(u64) -> u64 = |_| 192 * MS;

#[test]
fn a_neighbour_waits_for_one_piece_and_has_the_lock_for_half_of_the_time() {
    for kind in [DeviceKind::File, DeviceKind::Block] {
        let mut locked = Locked::new(kind, FRAGMENTED);
        let (lasted, waits) = locked.run(&[(0, 256)]);
        assert!(longest(&waits) <= 193 * MS + EACH_NS, "{}", longest(&waits));
        let long = waits.iter().filter(|&&wait| wait > 50 * MS).count();
        assert_eq!(long, 1, "the first piece, of which nobody knew");
        // Both of them one operation at most, and a range is under way for half of the time at most.
        assert_eq!(locked.most, 2);
        let taken: u64 = locked.ranges.iter().rev().skip(1).sum();
        assert!(taken * 2 <= lasted && taken * 3 > lasted, "{taken} of {lasted}");
    }
}

#[test]
fn who_leads_up_to_it_with_what_goes_quickly_takes_one_neighbour_by_surprise() {
    let mut locked = Locked::new(DeviceKind::File, |mib| if mib % 64 < 32 { 0 } else { 192 * MS });
    let requests: Vec<_> = (0..4).map(|one| (64 * one, 64)).collect();
    let (_, waits) = locked.run(&requests);
    assert!(
        longest(&waits) <= 8 * 192 * MS + 2 * EACH_NS,
        "{}",
        longest(&waits)
    );
    let over_half_a_second = waits.iter().filter(|&&wait| wait > 500 * MS).count();
    assert_eq!(over_half_a_second, 1);
}

#[test]
fn where_it_is_quick_two_gibibytes_cost_no_more_than_the_longest_pieces_would() {
    // A tenth of a millisecond for each, or what a busy machine takes.
    for (kind, mib, each) in [
        (DeviceKind::Block, 32, 0),
        (DeviceKind::Block, 32, MS / 20),
        (DeviceKind::File, 8, 0),
    ] {
        let range_ns: fn(u64) -> u64 = match each {
            0 => |_| 0,
            _ => |_| MS / 20,
        };
        let mut locked = Locked::new(kind, range_ns);
        let (lasted, waits) = locked.run(&[(0, 2048)]);
        let at_best = 2048 / mib * EACH_NS + 2048 * each;
        assert!(lasted <= at_best * 5 / 4 + MS, "{lasted} of {at_best}");
        assert!(longest(&waits) <= 8 * MS, "{}", longest(&waits));
        assert!(
            locked.ranges.len() as u64 <= 2048 / mib + 8,
            "{}",
            locked.ranges.len()
        );
    }
}

#[test]
fn who_waits_for_a_pause_asleep_wakes_when_it_is_over() {
    let mut locked = Locked::new(DeviceKind::File, FRAGMENTED);
    let hungry = guest(&mut locked.bed, 0, 0, 0);
    ask(&hungry, 0, Op::Discard, 0, 4 * MIB / 512);
    let ended = locked.turn(1);
    assert_eq!(ended, 1 + EACH_NS + 192 * MS);
    let took = ended - 1;
    // It takes the end for what it is a nanosecond later, as its clock is.
    let wakes = locked.turn(ended);
    assert!(locked.queue.is_empty());
    assert!((ended + took..=ended + took + 4).contains(&wakes), "{wakes}");
    locked.turn(wakes);
    assert_eq!(locked.queue.len(), 1);
    locked.bed.reactor.abandon();
}

#[test]
fn whose_they_are_is_told_while_they_last_and_when_they_have_ended() {
    let mut locked = Locked::new(DeviceKind::File, FRAGMENTED);
    let stats = Arc::new(DeviceStats::default());
    let counts = Arc::new(AttachmentStats::default());
    locked.bed.reactor.apply(ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(0),
        stats: Arc::clone(&stats),
        deadline: Nanos(u64::MAX / 2),
    });
    let hungry = locked.bed.attach(id(3, 0), |settings| {
        settings.volume = Some(VolumeIndex(0));
        settings.stats = Arc::clone(&counts);
    });
    ask(&hungry, 0, Op::Discard, 0, MIB / 512);
    let ended = locked.turn(1);
    assert_eq!((stats.slow_ranges.seen.get(), counts.ranges_ns.get()), (0, 0));
    locked.turn(ended);
    let seen = &stats.slow_ranges;
    assert_eq!((seen.seen.get(), seen.of.get()), (1, 3));
    assert_eq!(
        (seen.last_ns.get(), counts.ranges_ns.get()),
        (ended - 1, ended - 1)
    );
    assert_eq!(hungry.answers(), [(0, Status::Ok)]);
}
