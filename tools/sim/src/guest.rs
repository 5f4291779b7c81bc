//! A well-behaved guest: it asks for random things, keeps account of every request, and looks closely at every
//! answer. It trusts nobody: not the data, not the status, not that the bytes beside its buffers are left alone.

use crate::door::{Answered, Asked, Door, RequestKind};
use crate::finding::{Findings, Invariant};
use crate::history::Tick;
use crate::rng::{Rng, RunHash};
use crate::stamp::{self, SECTOR};
use crate::watch::{Ended, VolumeWatch};
use palisade_block::{Nanos, Op, Status};
use palisade_memory::GuestMemory;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What lies in a buffer's slot beside the data.
const GUARD: u8 = 0x5A;
/// What lies in a read buffer before it is read.
const UNREAD: u8 = 0xC3;

/// How a guest behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Habits {
    /// Queues it uses.
    pub queues: u16,
    /// Entries of each.
    pub queue_size: u16,
    /// Requests in flight in each.
    pub depth: usize,
    /// Longest request in sectors.
    pub sectors_max: u64,
    /// Most buffers of one request. More than a slot has places for make a long request of it.
    pub pieces_max: u64,
    /// Sectors at the start of the volume that it prefers, so that requests meet.
    pub hot_sectors: u64,
    /// Chance of buffers of any address and length, in a thousandth.
    pub misaligned_permille: u64,
    /// Chance of a request that must be refused, in a thousandth.
    pub foolish_permille: u64,
    /// Weights of read, write, flush, discard, write-zeroes and get-id.
    pub weights: [u64; 6],
    /// Its volume may only be read.
    pub read_only: bool,
}

impl Habits {
    /// Buffers that a request has in an everyday guest at most.
    const FEW_PIECES: u64 = 8;

    /// An everyday guest.
    pub const EVERYDAY: Habits = Habits {
        queues: 1,
        queue_size: 64,
        depth: 12,
        sectors_max: 32,
        pieces_max: Habits::FEW_PIECES,
        hot_sectors: 64,
        misaligned_permille: 150,
        foolish_permille: 10,
        weights: [40, 40, 8, 4, 6, 2],
        read_only: false,
    };
}

/// Where the buffers of a guest begin in its memory; rings lie below.
pub const BUFFERS_AT: u64 = 0x40_0000;

/// A request in flight.
#[derive(Debug)]
struct Pending {
    asked: Asked,
    slot: usize,
    number: u64,
    begun: Tick,
    since: Nanos,
    /// It must be refused, and no checker hears of it.
    foolish: bool,
}

/// One guest.
pub struct Guest {
    /// Its name in reports.
    pub name: u16,
    /// How it behaves.
    pub habits: Habits,
    /// Its memory.
    pub memory: Arc<GuestMemory>,
    /// Its queues.
    pub doors: Vec<Box<dyn Door>>,
    /// Requests it still wants to make.
    pub left: u64,
    /// Requests made in all.
    pub asked: u64,
    pending: Vec<BTreeMap<u16, Pending>>,
    slots_free: Vec<usize>,
    slot_bytes: u64,
    watch: Rc<RefCell<VolumeWatch>>,
    rng: Rng,
    findings: Findings,
    ticks: Rc<Cell<u64>>,
    sweep: Option<u64>,
    /// Hash of all answers.
    pub hash: RunHash,
}

impl Guest {
    /// Bytes of memory a guest of these habits needs.
    pub fn memory_bytes(habits: &Habits) -> u64 {
        BUFFERS_AT + Guest::slot_bytes(habits) * (habits.depth * usize::from(habits.queues)) as u64
    }

    /// A guest about to use a volume.
    pub fn new(
        name: u16,
        habits: Habits,
        memory: Arc<GuestMemory>,
        doors: Vec<Box<dyn Door>>,
        watch: Rc<RefCell<VolumeWatch>>,
        (rng, findings, ticks): (Rng, Findings, Rc<Cell<u64>>),
    ) -> Guest {
        let slots = habits.depth * usize::from(habits.queues);
        Guest {
            name,
            habits,
            memory,
            pending: doors.iter().map(|_| BTreeMap::new()).collect(),
            doors,
            left: 0,
            asked: 0,
            slots_free: (0..slots).rev().collect(),
            slot_bytes: Guest::slot_bytes(&habits),
            watch,
            rng,
            findings,
            ticks,
            sweep: None,
            hash: RunHash::default(),
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.pending.iter().map(BTreeMap::len).sum()
    }

    /// Since when its oldest request has been waiting that is a discard or write-zeroes, or the oldest one that is neither.
    pub fn oldest(&self, is_range: bool) -> Option<Nanos> {
        self.asked(is_range).map(|(_, pending)| pending.since).min()
    }

    /// The same request in words.
    pub fn oldest_request(&self, is_range: bool) -> String {
        let oldest = self.asked(is_range).min_by_key(|(_, pending)| pending.since);
        oldest.map_or_else(String::new, |(queue, pending)| {
            let Asked {
                kind, lba, sectors, ..
            } = &pending.asked;
            format!("{kind:?} of {sectors} sectors at {lba} in queue {queue}")
        })
    }

    fn asked(&self, is_range: bool) -> impl Iterator<Item = (usize, &Pending)> {
        let queues = self.pending.iter().enumerate();
        let all = queues.flat_map(|(queue, by)| by.values().map(move |one| (queue, one)));
        all.filter(move |(_, pending)| pending.asked.kind.is_range() == is_range)
    }

    /// Reads the whole volume next, once.
    pub fn begin_sweep(&mut self) {
        self.sweep = Some(0);
    }

    /// Whether it has nothing more to do.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.in_flight() == 0 && self.sweep.is_none()
    }

    /// Does a little: looks for answers, or asks. Gives the queues that want a kick, and whether anything was done.
    pub fn act(&mut self, now: Nanos, kicks: &mut Vec<u16>) -> bool {
        let queue = self.rng.index(self.doors.len());
        if self.rng.one_in(2) {
            self.look(queue, now)
        } else {
            self.ask_some(queue, now, kicks)
        }
    }

    /// Loses power: nothing is in flight any more, and the checkers have been told already.
    pub fn lose_power(&mut self) {
        self.pending.iter_mut().for_each(BTreeMap::clear);
    }

    /// Forgets everything in flight, as when the guest dies or resets its device: no answer will be seen. What it
    /// wrote may have happened.
    pub fn forget(&mut self, now: Nanos) {
        let at = self.tick();
        for pending in self
            .pending
            .iter_mut()
            .flat_map(std::mem::take)
            .map(|(_, pending)| pending)
        {
            self.slots_free.push(pending.slot);
            let RequestKind::Block(op) = pending.asked.kind else {
                continue;
            };
            if !pending.foolish {
                self.watch.borrow_mut().ends(&Ended {
                    op,
                    lba: pending.asked.lba,
                    sectors: pending.asked.sectors,
                    number: pending.number,
                    begun: pending.begun,
                    at,
                    status: None,
                    data: &[],
                    now,
                });
            }
        }
    }

    fn look(&mut self, queue: usize, now: Nanos) -> bool {
        let mut found = Vec::new();
        if let Some(door) = self.doors.get_mut(queue) {
            door.answers(&mut found);
        }
        for answered in &found {
            self.hash
                .add([now.0, queue as u64, answered.key.into(), answered.status.into()]);
            match self
                .pending
                .get_mut(queue)
                .and_then(|by| by.remove(&answered.key))
            {
                Some(pending) => self.examine(&pending, *answered, now),
                None => {
                    let what = format!(
                        "guest {}: {answered:?} in queue {queue}, which was not asked",
                        self.name
                    );
                    self.findings.add(Invariant::OneAnswer, now, what);
                }
            }
        }
        !found.is_empty()
    }

    fn ask_some(&mut self, queue: usize, now: Nanos, kicks: &mut Vec<u16>) -> bool {
        let burst = if self.rng.one_in(3) {
            self.habits.depth
        } else {
            1 + self.rng.index(3)
        };
        let mut asked = 0;
        while asked < burst
            && self
                .pending
                .get(queue)
                .is_some_and(|by| by.len() < self.habits.depth)
        {
            let made = if self.sweep.is_some() {
                self.sweep_on(queue, now)
            } else {
                self.ask(queue, now)
            };
            if !made {
                break;
            }
            asked += 1;
        }
        if asked > 0 && self.doors.get_mut(queue).is_some_and(|door| door.show()) {
            kicks.push(queue as u16);
        }
        asked > 0
    }

    fn ask(&mut self, queue: usize, now: Nanos) -> bool {
        if self.left == 0 {
            return false;
        }
        let [read, write, flush, discard, zeroes, get_id] = self.habits.weights;
        let mut draw = self.rng.below(read + write + flush + discard + zeroes + get_id);
        let mut falls = |weight: u64| {
            let hit = draw < weight;
            draw = draw.wrapping_sub(weight);
            hit
        };
        let kind = if falls(read) {
            RequestKind::Block(Op::Read)
        } else if falls(write) {
            RequestKind::Block(Op::Write)
        } else if falls(flush) {
            RequestKind::Block(Op::Flush)
        } else if falls(discard) {
            RequestKind::Block(Op::Discard)
        } else if falls(zeroes) {
            RequestKind::Block(Op::WriteZeroes {
                unmap: self.rng.one_in(2),
            })
        } else {
            RequestKind::GetId
        };
        let made = match kind {
            RequestKind::Block(op) if op != Op::Flush => self.ask_range(queue, op, now),
            kind => self.put(queue, kind, (0, 0), false, now),
        };
        if made {
            self.left -= 1;
        }
        made
    }

    fn ask_range(&mut self, queue: usize, op: Op, now: Nanos) -> bool {
        let (volume, block) = {
            let watch = self.watch.borrow();
            (watch.sectors(), u64::from(watch.block_bytes) / SECTOR as u64)
        };
        let blocks_max = (self.habits.sectors_max / block).max(1);
        let blocks = if self.rng.one_in(3) {
            self.rng.between(1, blocks_max)
        } else {
            self.rng.between(1, blocks_max.min(4))
        };
        let sectors = (blocks * block).min(volume);
        let within = if self.rng.one_in(4) {
            volume
        } else {
            self.habits.hot_sectors.min(volume)
        };
        let lba = self.rng.below(within.saturating_sub(sectors) / block + 1) * block;
        if self.rng.permille(self.habits.foolish_permille) {
            let lba = match self.rng.below(4) {
                0 => volume,
                1 => volume - sectors + block,
                2 => u64::MAX - self.rng.below(3) * block,
                _ if block > 1 => 1,
                _ => 1 << 55,
            };
            return self.put(queue, RequestKind::Block(op), (lba, sectors), true, now);
        }
        if !self.watch.borrow().admits(op, lba, sectors) {
            return false;
        }
        let refused = self.habits.read_only && op.changes();
        self.put(queue, RequestKind::Block(op), (lba, sectors), refused, now)
    }

    fn sweep_on(&mut self, queue: usize, now: Nanos) -> bool {
        let Some(at) = self.sweep else { return false };
        let volume = self.watch.borrow().sectors();
        let sectors = self.habits.sectors_max.max(8).min(volume - at);
        if !self.watch.borrow().admits(Op::Read, at, sectors) {
            return false;
        }
        let made = self.put(queue, RequestKind::Block(Op::Read), (at, sectors), false, now);
        if made {
            self.sweep = (at + sectors < volume).then_some(at + sectors);
        }
        made
    }

    fn put(
        &mut self,
        queue: usize,
        kind: RequestKind,
        (lba, sectors): (u64, u64),
        foolish: bool,
        now: Nanos,
    ) -> bool {
        let Some(&slot) = self.slots_free.last() else {
            return false;
        };
        let bytes = match kind {
            RequestKind::Block(op) if op.moves_data() => sectors * SECTOR as u64,
            RequestKind::GetId => 20,
            RequestKind::Block(_) => 0,
        };
        let number = self.tick();
        let data = self.lay_out(slot, bytes);
        let asked = Asked {
            kind,
            lba,
            sectors,
            data,
        };
        self.fill(&asked, slot, number);
        let Some(key) = self.doors.get_mut(queue).and_then(|door| door.ask(&asked)) else {
            return false;
        };
        self.slots_free.pop();
        self.asked += 1;
        if let (RequestKind::Block(op), false) = (kind, foolish) {
            self.watch.borrow_mut().begins(op, lba, sectors, number, number);
        }
        let pending = Pending {
            asked,
            slot,
            number,
            begun: number,
            since: now,
            foolish,
        };
        if self
            .pending
            .get_mut(queue)
            .and_then(|by| by.insert(key, pending))
            .is_some()
        {
            let what = format!(
                "guest {}: descriptor {key} of queue {queue} came back too early",
                self.name
            );
            self.findings.add(Invariant::OneAnswer, now, what);
        }
        true
    }

    /// Cuts a buffer into pieces inside a slot, with guard bytes between.
    fn lay_out(&mut self, slot: usize, bytes: u64) -> Vec<(u64, u32)> {
        let misaligned = self.rng.permille(self.habits.misaligned_permille);
        let unit = if misaligned { 1 } else { SECTOR as u64 };
        let pieces = if self.rng.one_in(2) {
            1
        } else {
            self.rng.between(1, self.habits.pieces_max)
        };
        let many = pieces > Habits::FEW_PIECES;
        let mut at = BUFFERS_AT + slot as u64 * self.slot_bytes;
        let mut left = bytes;
        let mut data = Vec::new();
        while left > 0 {
            at += if misaligned {
                self.rng.between(1, 100)
            } else {
                SECTOR as u64 * self.rng.between(1, 2)
            };
            let pieces_left = pieces.saturating_sub(data.len() as u64).max(1);
            let piece = if pieces_left == 1 {
                left
            } else if many {
                // About as long as each other, or few of them would take all.
                self.rng.between(1, 2 * left.div_ceil(unit * pieces_left)) * unit
            } else {
                self.rng.between(1, left.div_ceil(unit)) * unit
            };
            let piece = piece.min(left);
            data.push((at, piece as u32));
            at += piece;
            left -= piece;
        }
        data
    }

    /// Fills guards and data of a request.
    fn fill(&mut self, asked: &Asked, slot: usize, number: u64) {
        let Some(&(last, bytes)) = asked.data.last() else {
            return;
        };
        let start = BUFFERS_AT + slot as u64 * self.slot_bytes;
        let span = (last + u64::from(bytes) + 64 - start).min(self.slot_bytes);
        let mut image = vec![GUARD; span as usize];
        let mut content = self.content(asked, number);
        for &(at, bytes) in &asked.data {
            let rest = content.split_off(bytes as usize);
            let from = (at - start) as usize;
            image[from..from + bytes as usize].copy_from_slice(&content);
            content = rest;
        }
        self.write_memory(start, &image);
    }

    /// What a request's buffers hold before it is made.
    fn content(&self, asked: &Asked, number: u64) -> Vec<u8> {
        let bytes = asked.data.iter().map(|(_, bytes)| *bytes as usize).sum();
        let mut content = vec![UNREAD; bytes];
        if asked.kind == RequestKind::Block(Op::Write) {
            let volume = self.watch.borrow().volume;
            for (index, sector) in (0..).zip(content.chunks_exact_mut(SECTOR)) {
                stamp::fill(
                    sector,
                    stamp::place(volume, asked.lba.wrapping_add(index)),
                    number,
                );
            }
        }
        content
    }

    fn examine(&mut self, pending: &Pending, answered: Answered, now: Nanos) {
        self.slots_free.push(pending.slot);
        let data = self.gather(pending, now);
        let status = match answered.status {
            0 => Some(Status::Ok),
            1 => Some(Status::IoErr),
            2 => Some(Status::Unsupp),
            other => {
                self.wrong(
                    Invariant::OneAnswer,
                    now,
                    pending,
                    &format!("has the status byte {other}"),
                );
                Some(Status::IoErr)
            }
        };
        if pending.asked.kind == RequestKind::Block(Op::Write)
            && data != self.content(&pending.asked, pending.number)
        {
            self.wrong(Invariant::ForeignBytes, now, pending, "had its data changed");
        }
        let RequestKind::Block(op) = pending.asked.kind else {
            if status != Some(Status::Ok) {
                self.wrong(Invariant::OneAnswer, now, pending, "failed");
            }
            return;
        };
        if pending.foolish {
            if status == Some(Status::Ok) {
                self.wrong(Invariant::ForeignBytes, now, pending, "should have been refused");
            }
            return;
        }
        let emptying = matches!(op, Op::Discard | Op::WriteZeroes { .. });
        let (may_fail, taken_since) = {
            let watch = self.watch.borrow();
            (watch.may_fail || watch.taken_away, watch.taken_since)
        };
        if status == Some(Status::Ok) && taken_since.is_some_and(|since| pending.begun >= since) {
            self.wrong(
                Invariant::ForeignBytes,
                now,
                pending,
                "was carried out on a volume that was taken away",
            );
        }
        let tolerated = may_fail || (emptying && status == Some(Status::Unsupp));
        if status != Some(Status::Ok) && !tolerated {
            let what = format!("was answered {status:?} though no disk fails");
            self.wrong(Invariant::Isolation, now, pending, &what);
        }
        let at = self.tick();
        self.watch.borrow_mut().ends(&Ended {
            op,
            lba: pending.asked.lba,
            sectors: pending.asked.sectors,
            number: pending.number,
            begun: pending.begun,
            at,
            status,
            data: &data,
            now,
        });
    }

    /// A request's data, after a look at the guards around it.
    fn gather(&self, pending: &Pending, now: Nanos) -> Vec<u8> {
        let Some(&(last, bytes)) = pending.asked.data.last() else {
            return Vec::new();
        };
        let start = BUFFERS_AT + pending.slot as u64 * self.slot_bytes;
        let span = (last + u64::from(bytes) + 64 - start).min(self.slot_bytes);
        let mut image = vec![0; span as usize];
        self.read_memory(start, &mut image);
        let mut data = Vec::new();
        let mut guard_from = 0;
        let mut harmed = false;
        for &(at, bytes) in &pending.asked.data {
            let from = (at - start) as usize;
            harmed |= image[guard_from..from].iter().any(|byte| *byte != GUARD);
            guard_from = from + bytes as usize;
            data.extend_from_slice(&image[from..guard_from]);
        }
        harmed |= image[guard_from..].iter().any(|byte| *byte != GUARD);
        if harmed {
            self.wrong(
                Invariant::ForeignBytes,
                now,
                pending,
                "changed memory beside its buffers",
            );
        }
        data
    }

    /// Writes the guest's memory, across the borders of its regions.
    fn write_memory(&self, at: u64, from: &[u8]) {
        for (at, range) in self.pieces(at, from.len()) {
            let _ = self.memory.write(at, &from[range]);
        }
    }

    /// Reads the guest's memory, across the borders of its regions.
    fn read_memory(&self, at: u64, to: &mut [u8]) {
        for (at, range) in self.pieces(at, to.len()) {
            let _ = self.memory.read(at, &mut to[range]);
        }
    }

    /// A range of guest memory, cut at the borders of regions.
    fn pieces(&self, at: u64, bytes: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
        self.memory.regions().filter_map(move |region| {
            let start = at.max(region.guest_address);
            let end = (at + bytes as u64).min(region.guest_address + region.bytes);
            (start < end).then(|| (start, (start - at) as usize..(end - at) as usize))
        })
    }

    fn wrong(&self, invariant: Invariant, now: Nanos, pending: &Pending, what: &str) {
        let Asked {
            kind, lba, sectors, ..
        } = &pending.asked;
        let text = format!(
            "guest {}: {kind:?} of {sectors} sectors at {lba} {what}",
            self.name
        );
        self.findings.add(invariant, now, text);
    }

    fn tick(&self) -> Tick {
        self.ticks.set(self.ticks.get() + 1);
        self.ticks.get()
    }

    fn slot_bytes(habits: &Habits) -> u64 {
        // Room for the data, and for the gaps between the pieces.
        let gaps = (habits.pieces_max + 2) * 2 * SECTOR as u64;
        (habits.sectors_max.max(8) * SECTOR as u64 + gaps + 64).next_multiple_of(4096)
    }
}
