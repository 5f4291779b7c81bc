//! Guests of all nodes, and what they may see: each sector is a register, whichever node it is read and written by.

use super::node::{NodeSource, attachment, queue};
use crate::door::{Answered, Asked, Door, PlainDoor, RequestKind};
use crate::finding::{Findings, Invariant};
use crate::history::{Emptying, History, Impossible, Outcome, Tick};
use crate::rng::Rng;
use crate::source::{Fuse, SimSource};
use crate::stamp::{self, SECTOR};
use palisade_block::mailbox::ReactorCommand;
use palisade_block::{Nanos, Op};
use palisade_memory::GuestMemory;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What lies in a guest's memory where nothing should be written.
const UNUSED: u8 = 0xc3;

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    op: Op,
    pub(super) volume: usize,
    lba: u64,
    sectors: u64,
    /// The stamp of what it writes.
    number: u64,
    begun: Tick,
    room: usize,
    /// It goes to another node: whatever it changes is stable then.
    is_forwarded: bool,
    /// The disk has lost its power since.
    is_of_before: bool,
}

/// A guest.
pub(super) struct Guest {
    pub(super) number: usize,
    pub(super) node: usize,
    pub(super) volume: usize,
    /// Its volume's disk is at another node.
    is_remote: bool,
    pub(super) memory: Arc<GuestMemory>,
    door: PlainDoor,
    rooms: Vec<usize>,
    room_bytes: u64,
    pub(super) pending: BTreeMap<u16, Pending>,
    pub(super) is_leaving: bool,
    /// Its monitor has taken its memory away.
    pub(super) is_gone: bool,
}

/// What all guests know together.
pub(super) struct Registers {
    tick: Tick,
    writes: u64,
    histories: Vec<History>,
    findings: Findings,
    /// Requests whose guest died with its node: who asked, and what; they may be carried out yet.
    pub(super) dead: Vec<(usize, Pending)>,
    /// Disks that have failed for good at some time.
    pub(super) has_failed: Vec<bool>,
    pub(super) answered: u64,
}

impl Pending {
    fn empties(&self) -> bool {
        self.op.is_range()
    }

    fn overlaps(&self, volume: usize, lba: u64, sectors: u64) -> bool {
        self.volume == volume && self.lba < lba + sectors && lba < self.lba + self.sectors
    }
}

impl Guest {
    pub(super) fn new(
        number: usize,
        (node, volume, home): (usize, usize, usize),
        sectors_max: u64,
        depth: usize,
        findings: &Findings,
    ) -> Guest {
        let room_bytes = sectors_max * SECTOR as u64;
        let Ok(memory) = GuestMemory::anonymous(&[(0, room_bytes * depth as u64)]) else {
            unreachable!("there is no memory for a guest");
        };
        Guest {
            number,
            node,
            volume,
            is_remote: home != node,
            door: PlainDoor::new(depth as u16, Arc::clone(&memory), findings.clone()),
            memory,
            rooms: (0..depth).collect(),
            room_bytes,
            pending: BTreeMap::new(),
            is_leaving: false,
            is_gone: false,
        }
    }

    /// As the reactor gets it.
    pub(super) fn command<D: palisade_block::Devices>(&mut self) -> ReactorCommand<NodeSource, D> {
        let source = SimSource::new(self.door.source(), Fuse::default(), None, Rc::new(Cell::new(0)));
        ReactorCommand::AddQueue {
            queue: queue(self.number),
            settings: attachment(Some(self.volume)),
            source: NodeSource::Guest(source),
            kick: None,
        }
    }

    fn address(&self, room: usize) -> u64 {
        room as u64 * self.room_bytes
    }

    /// Asks for something; true when the device side wants to be told.
    pub(super) fn ask(
        &mut self,
        registers: &mut Registers,
        all: &[Pending],
        sectors: u64,
        rng: &mut Rng,
    ) -> bool {
        if self.rooms.is_empty() || self.is_leaving {
            return false;
        }
        let longest = self.room_bytes / SECTOR as u64;
        let length = match rng.below(24) {
            0 => rng.between(1, longest),
            _ => rng.between(1, 12).min(longest),
        };
        let hot = if rng.one_in(5) { sectors } else { 40.min(sectors) };
        let lba = rng.below(hot.saturating_sub(length) + 1);
        let op = match rng.below(40) {
            0..17 => Op::Read,
            17..36 => Op::Write,
            36 => Op::Flush,
            37 => Op::Discard,
            _ => Op::WriteZeroes { unmap: rng.one_in(2) },
        };
        let mut others = all
            .iter()
            .filter(|other| other.overlaps(self.volume, lba, length));
        // Of two changes of one sector that are under way at once, a fault that heals may have the first carried out once more
        // behind the second: nobody is promised anything about their order.
        if others.any(|other| other.empties() || op.is_range() || other.op.changes() && op.changes()) {
            return false;
        }
        let (lba, length) = if op == Op::Flush { (0, 0) } else { (lba, length) };
        let Some(room) = self.rooms.pop() else {
            return false;
        };
        let begun = registers.next();
        registers.writes += 1;
        let pending = Pending {
            op,
            volume: self.volume,
            lba,
            sectors: length,
            number: registers.writes,
            begun,
            room,
            is_forwarded: self.is_remote,
            is_of_before: false,
        };
        self.fill(&pending);
        registers.begin(&pending, begun);
        let asked = Asked {
            kind: RequestKind::Block(op),
            lba,
            sectors: length,
            data: match op.moves_data() {
                true => pieces(self.address(room), length * SECTOR as u64, rng),
                false => Vec::new(),
            },
        };
        let Some(key) = self.door.ask(&asked) else {
            unreachable!("a guest has as many requests as its queue has places");
        };
        self.pending.insert(key, pending);
        self.door.show();
        true
    }

    fn fill(&self, pending: &Pending) {
        if self.is_gone {
            return;
        }
        let mut data = vec![UNUSED; (pending.sectors as usize) * SECTOR];
        if pending.op == Op::Write {
            for (at, sector) in (pending.lba..).zip(data.chunks_exact_mut(SECTOR)) {
                stamp::fill(sector, stamp::place(pending.volume as u16, at), pending.number);
            }
        }
        self.memory.write(self.address(pending.room), &data);
    }

    /// Takes the answers that are there.
    pub(super) fn take_answers(&mut self, registers: &mut Registers, now: Nanos) {
        let mut answers = Vec::new();
        self.door.answers(&mut answers);
        for Answered { key, status } in answers {
            let Some(pending) = self.pending.remove(&key) else {
                registers.find(
                    Invariant::OneAnswer,
                    now,
                    format!("request {key} is answered twice"),
                );
                continue;
            };
            self.judge(registers, &pending, status, now);
            // From here on nothing of it may change.
            let unused = vec![UNUSED; (pending.sectors as usize) * SECTOR];
            self.memory.write(self.address(pending.room), &unused);
            self.rooms.push(pending.room);
        }
    }

    fn judge(&mut self, registers: &mut Registers, pending: &Pending, status: u8, now: Nanos) {
        registers.answered += 1;
        let is_done = status == 0;
        if !is_done && !registers.has_failed[pending.volume] && !self.is_gone {
            let what = format!(
                "guest {} hears of a fault that is nobody's: {pending:?}",
                self.number
            );
            registers.find(Invariant::Isolation, now, what);
        }
        if pending.op == Op::Read && is_done && !self.is_gone && !pending.is_of_before {
            let mut data = vec![0; (pending.sectors as usize) * SECTOR];
            self.memory.read(self.address(pending.room), &mut data);
            registers.read(pending, &data, now);
        } else if pending.op != Op::Read {
            registers.end(pending, is_done, now);
        }
        if pending.op == Op::Write && !self.is_gone {
            let mut data = vec![0; (pending.sectors as usize) * SECTOR];
            self.memory.read(self.address(pending.room), &mut data);
            let sound = (pending.lba..)
                .zip(data.chunks_exact(SECTOR))
                .all(|(at, sector)| {
                    let place = stamp::place(pending.volume as u16, at);
                    stamp::read(sector, place) == stamp::Content::Write(pending.number)
                });
            if !sound {
                let what = format!("what guest {} writes was changed: {pending:?}", self.number);
                registers.find(Invariant::ForeignBytes, now, what);
            }
        }
    }

    /// The reactor has let go of the queue: what it has not taken from it is not done.
    pub(super) fn withdraw(&mut self, registers: &mut Registers, now: Nanos) {
        for key in self.door.untaken() {
            if let Some(pending) = self.pending.remove(&key)
                && pending.op.changes()
            {
                registers.end(&pending, false, now);
            }
        }
    }

    /// Memory that is of no request has not been written to.
    pub(super) fn look_at_unused(&self, registers: &mut Registers, now: Nanos) {
        if self.is_gone {
            return;
        }
        let mut data = vec![0; (16 * SECTOR).min(self.room_bytes as usize)];
        for room in &self.rooms {
            self.memory.read(self.address(*room), &mut data);
            let is_new = data.iter().all(|byte| *byte == 0);
            if !is_new && data.iter().any(|byte| *byte != UNUSED && *byte != 0) {
                let what = format!(
                    "memory of guest {} is written to of which no request is",
                    self.number
                );
                return registers.find(Invariant::ForeignBytes, now, what);
            }
        }
    }
}

/// Some buffers in a row.
fn pieces(address: u64, bytes: u64, rng: &mut Rng) -> Vec<(u64, u32)> {
    let mut list = Vec::new();
    let mut at = 0;
    while at < bytes {
        let rest = bytes - at;
        let piece = if list.len() < 6 && rng.one_in(3) {
            512 * rng.between(1, 4)
        } else {
            rest
        };
        list.push((address + at, piece.min(rest) as u32));
        at += piece.min(rest);
    }
    list
}

impl Registers {
    pub(super) fn new(volumes: usize, sectors: u64, findings: &Findings) -> Registers {
        Registers {
            tick: 0,
            writes: 0,
            histories: (0..volumes).map(|_| History::new(sectors)).collect(),
            findings: findings.clone(),
            dead: Vec::new(),
            has_failed: vec![false; volumes],
            answered: 0,
        }
    }

    fn next(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    pub(super) fn find(&mut self, invariant: Invariant, now: Nanos, what: String) {
        self.findings.add(invariant, now, what);
    }

    fn begin(&mut self, pending: &Pending, at: Tick) {
        let history = &mut self.histories[pending.volume];
        for lba in pending.lba..pending.lba + pending.sectors {
            match pending.op {
                Op::Write => history.write_begins(lba, pending.number, at),
                Op::Discard | Op::WriteZeroes { .. } => history.emptying_begins(lba),
                Op::Read | Op::Flush => {}
            }
        }
    }

    /// A change is answered, or is known not to be carried out any more.
    fn end(&mut self, pending: &Pending, is_done: bool, now: Nanos) {
        let at = self.next();
        let outcome = match is_done {
            true => Outcome::Done {
                // A discard leaves what was there, or zeroes, whenever. A disk's own zeroes are stable after a flush.
                durable: match pending.op {
                    Op::Discard => false,
                    Op::WriteZeroes { .. } => pending.is_forwarded,
                    Op::Read | Op::Write | Op::Flush => true,
                },
            },
            false => Outcome::Failed,
        };
        let history = &mut self.histories[pending.volume];
        for lba in pending.lba..pending.lba + pending.sectors {
            let ended = match pending.op {
                Op::Write => history.write_ends(lba, pending.number, at, outcome),
                Op::Discard => {
                    history.emptying_ends(lba, Emptying::Discard, at, outcome);
                    Ok(())
                }
                Op::WriteZeroes { .. } => {
                    history.emptying_ends(lba, Emptying::Zero, at, outcome);
                    Ok(())
                }
                Op::Read | Op::Flush => Ok(()),
            };
            if let Err(impossible) = ended {
                return self.impossible(pending.volume, &impossible, now);
            }
        }
    }

    fn read(&mut self, pending: &Pending, data: &[u8], now: Nanos) {
        let at = self.next();
        for (lba, sector) in (pending.lba..).zip(data.chunks_exact(SECTOR)) {
            let seen = stamp::read(sector, stamp::place(pending.volume as u16, lba));
            if let Err(impossible) = self.histories[pending.volume].read(lba, seen, pending.begun, at) {
                return self.impossible(pending.volume, &impossible, now);
            }
        }
    }

    fn impossible(&mut self, volume: usize, impossible: &Impossible, now: Nanos) {
        self.find(
            Invariant::WriteKept,
            now,
            format!("volume {volume}: {impossible}"),
        );
    }

    /// A node has died, with its guests.
    pub(super) fn die(&mut self, guest: Guest) {
        let node = guest.node;
        let changes = guest.pending.into_values().filter(|pending| pending.op.changes());
        self.dead.extend(changes.map(|pending| (node, pending)));
    }

    /// What guests of a dead run of a node had asked of these volumes is not carried out any more.
    pub(super) fn bury(&mut self, node: usize, of: impl Fn(usize) -> bool, now: Nanos) {
        let is_over = |entry: &(usize, Pending)| entry.0 == node && of(entry.1.volume);
        let (over, rest) = std::mem::take(&mut self.dead).into_iter().partition(is_over);
        self.dead = rest;
        let over: Vec<(usize, Pending)> = over;
        for (_, pending) in &over {
            self.end(pending, false, now);
        }
    }

    /// The disk of a volume has lost its power: of what was asked by the dead nothing is left, what the living ask may come again.
    pub(super) fn power_cut(&mut self, volume: usize, guests: &mut [Guest]) {
        let at = self.next();
        self.dead.retain(|(_, pending)| pending.volume != volume);
        self.histories[volume].power_cut(at);
        for pending in guests.iter_mut().flat_map(|guest| guest.pending.values_mut()) {
            if pending.volume == volume {
                pending.is_of_before = true;
                let pending = pending.clone();
                self.begin(&pending, at);
            }
        }
    }

    /// What lies on a disk at the end, when nothing is in flight.
    pub(super) fn look_at(&mut self, volume: usize, data: &[u8], now: Nanos) {
        let at = self.next();
        for (lba, sector) in (0..).zip(data.chunks_exact(SECTOR)) {
            let seen = stamp::read(sector, stamp::place(volume as u16, lba));
            let possible = self.histories[volume].possible(lba, at);
            if !possible.contains(&seen) {
                let what =
                    format!("volume {volume}: sector {lba} holds {seen:?}, and {possible:?} were possible");
                return self.find(Invariant::WriteKept, now, what);
            }
        }
    }
}
