//! What the reactor of the model test works on: a guest's memory, disks and a pool, all of plain bytes, and what must come
//! of each request.

use super::plan::{
    BUFFERS, DEVICES, HEADS, LAYOUTS, MEMORY_AT, MEMORY_BYTES, POOL_AT, SECTORS, WINDOW, limits_of,
};
use super::turn::Turn;
use crate::bench_of::piece;
use palisade_block::limits::{BOUNCE_BYTES, SEGMENTS_PER_SLOT};
use palisade_block::*;
use palisade_words::{Lba, MemoryId, Sectors, SlotIndex};
use std::collections::{BTreeMap, VecDeque};

/// A request from its asking to its answer.
#[derive(Clone, Debug)]
pub struct Asked {
    pub queue: usize,
    pub op: Op,
    pub lba: u64,
    pub sectors: u64,
    pub segments: Vec<Segment>,
    /// It must be answered with an error, and reach no device.
    pub unfit: bool,
    /// The same, because its volume was taken away before.
    pub revoked: bool,
    /// When it was taken: the event and the time.
    pub taken: Option<(u64, u64)>,
    /// The layout its operations went by, and which of its sectors have been carried out by that.
    pub layout: Option<usize>,
    pub covered: Vec<bool>,
    /// The layout that it was found to fit when it was taken.
    pub fits: usize,
    /// One of its operations has failed.
    pub failed: bool,
    /// It had when its volume was held: it may be sent again, and then the fault is forgotten.
    pub may_forget: bool,
    /// The event at which its last operation ended.
    pub ended: u64,
}

/// An operation that a device has.
#[derive(Clone, Debug)]
pub struct Pending {
    pub slot: SlotIndex,
    pub device: usize,
    pub op: Op,
    /// First sector on the volume.
    pub lba: u64,
    pub sectors: u64,
    pub segments: Vec<Segment>,
    pub begun: u64,
    pub since: u64,
    pub cancelled: bool,
}

#[derive(Clone, Default, Debug)]
pub struct Disk {
    pub busy: bool,
    /// What it had no room for, and what it would have counted as by way of a buffer.
    pub refused: Vec<(SlotIndex, u64)>,
    pub at_once: bool,
    /// The next operation with data fails so.
    pub fault: Option<Fault>,
    /// The event at which the last flush began that has ended.
    pub flushed: u64,
    pub finished: u64,
    pub faults: BTreeMap<usize, u64>,
}

#[derive(Debug)]
pub struct World {
    /// By address, and what it must hold at last.
    pub memory: Vec<u8>,
    pub memory_due: Vec<u8>,
    /// The volume, wherever it lies, and what it must hold; `None` for what nobody can know.
    pub media: Vec<u8>,
    pub media_due: Vec<Option<u8>>,
    pub heads: Vec<Option<Asked>>,
    pub waiting: [VecDeque<u16>; 2],
    pub backlog: [usize; 2],
    pub stopping: [bool; 2],
    /// Sources that notify.
    pub armed: [bool; 2],
    /// The event at which a queue's volume was taken away.
    pub revoked: [Option<u64>; 2],
    /// Answers that the guest has not been shown.
    pub unseen: [bool; 2],
    pub disks: Vec<Disk>,
    pub pending: Vec<Pending>,
    pub ended: Vec<(SlotIndex, Result<(), Fault>)>,
    pub free: Vec<Segment>,
    pub layout: usize,
    /// The layout that is agreed on and not known to be in use.
    pub next_layout: Option<usize>,
    /// A change is announced, and not decided on.
    pub suspended: bool,
    /// What is parked may be sent again.
    pub releasing: bool,
    pub write_through: bool,
    /// A count of all that happens.
    pub event: u64,
    /// What happened in the turn that is under way, or the last.
    pub turn: Turn,
    pub now: u64,
    // What the counters must say.
    pub answered: [[u64; 3]; Op::KINDS],
    pub bytes: [u64; Op::KINDS],
    pub latency: [u64; Op::KINDS],
    pub refused: u64,
    pub bounced: u64,
    pub faults: BTreeMap<usize, u64>,
}

/// Where an address of the tests' memory lies in it.
pub fn place(segment: Segment) -> std::ops::Range<usize> {
    let at = segment.address() - piece(0, 1).address();
    at..at + segment.bytes()
}

/// A byte that tells who wrote it.
fn mark(head: u16, event: u64, at: usize) -> u8 {
    (u64::from(head) * 37 + event * 101 + at as u64 * 7 + (at as u64 >> 8) * 11) as u8
}

impl World {
    pub fn new(write_through: bool) -> World {
        let memory: Vec<u8> = vec![0xa5; POOL_AT + BUFFERS * BOUNCE_BYTES];
        let media: Vec<u8> = (0..SECTORS as usize * 512).map(|at| mark(99, 1, at)).collect();
        World {
            memory_due: memory.clone(),
            memory,
            media_due: media.iter().copied().map(Some).collect(),
            media,
            heads: vec![None; usize::from(HEADS)],
            waiting: Default::default(),
            backlog: [0; 2],
            stopping: [false; 2],
            armed: [false; 2],
            revoked: [None; 2],
            unseen: [false; 2],
            disks: vec![Disk::default(); DEVICES],
            pending: Vec::new(),
            ended: Vec::new(),
            free: (0..BUFFERS)
                .map(|i| piece(POOL_AT + i * BOUNCE_BYTES, BOUNCE_BYTES))
                .collect(),
            layout: 0,
            next_layout: None,
            suspended: false,
            releasing: false,
            write_through,
            event: 1,
            turn: Turn::default(),
            now: 0,
            answered: Default::default(),
            bytes: Default::default(),
            latency: Default::default(),
            refused: 0,
            bounced: 0,
            faults: BTreeMap::new(),
        }
    }

    fn tick(&mut self) -> u64 {
        self.event += 1;
        self.event
    }

    /// Asks, if the head is free: segments of the lengths of a pattern, from an offset, with gaps or without.
    pub fn ask(
        &mut self,
        head: u16,
        queue: usize,
        op: Op,
        (at, sectors): (u64, u64),
        (offset, gap, lengths): (usize, usize, &[usize]),
    ) {
        if self.heads[usize::from(head)].is_some() {
            return;
        }
        let event = self.tick();
        let (lba, sectors) = match op {
            Op::Flush => (0, 0),
            _ => (u64::from(head) * WINDOW + at, sectors),
        };
        let mut segments = Vec::new();
        let mut next = MEMORY_AT + usize::from(head) * MEMORY_BYTES + offset;
        let mut left = if op.moves_data() {
            sectors as usize * 512
        } else {
            0
        };
        let count = left * lengths.len() / lengths.iter().sum::<usize>() + lengths.len();
        let gap = if offset + left + count * gap <= MEMORY_BYTES {
            gap
        } else {
            0
        };
        for &length in lengths.iter().cycle() {
            if left == 0 {
                break;
            }
            let bytes = length.min(left);
            segments.push(piece(next, bytes));
            next += bytes + gap;
            left -= bytes;
        }
        assert!(next <= MEMORY_AT + (usize::from(head) + 1) * MEMORY_BYTES);
        for at in segments.iter().flat_map(|segment| place(*segment)) {
            let byte = if op == Op::Write {
                mark(head, event, at)
            } else {
                0xee
            };
            (self.memory[at], self.memory_due[at]) = (byte, byte);
        }
        self.heads[usize::from(head)] = Some(Asked {
            queue,
            op,
            lba,
            sectors,
            segments,
            unfit: false,
            revoked: false,
            taken: None,
            layout: None,
            covered: vec![false; sectors as usize],
            fits: 0,
            failed: false,
            may_forget: false,
            ended: 0,
        });
        self.waiting[queue].push_back(head);
    }

    /// Whether a range does not fit by a layout: it lies behind the end, or is not of whole blocks where it begins, or where
    /// one of its pieces lies.
    fn is_unfit(&self, asked: &Asked, layout: usize) -> bool {
        let (from, to) = (asked.lba, asked.lba + asked.sectors);
        if asked.op == Op::Flush {
            return false;
        }
        let blocks = |device: u16| u64::from(limits_of(usize::from(device)).block_bytes) / 512;
        let runs = || LAYOUTS[layout].into_iter();
        let holding = runs().find(|(at, length, ..)| (*at..at + length).contains(&from));
        let first = holding
            .is_some_and(|(_, _, device, _)| from % blocks(device) + asked.sectors % blocks(device) != 0);
        let piece = runs().any(|(at, length, device, _)| {
            let (from, to) = (from.max(at), to.min(at + length));
            from < to && (from % blocks(device) + to % blocks(device)) != 0
        });
        to > SECTORS || first || piece
    }

    /// What a queue takes next; false when there is nothing, `None` when it needs a longer list.
    pub fn take(&mut self, queue: usize, list: &mut SegmentList) -> Option<Option<Request>> {
        let Some(&head) = self.waiting[queue].front() else {
            return Some(None);
        };
        assert!(!self.armed[queue], "it is polled, and notifies");
        assert!(
            !self.stopping[queue] || self.backlog[queue] > 0,
            "a queue that stops takes no more"
        );
        let revoked = self.revoked[queue].is_some();
        if !revoked {
            self.may_start();
        }
        list.clear();
        let asked = self.heads[usize::from(head)]
            .clone()
            .expect("what waits was asked for");
        if !asked.segments.iter().all(|segment| list.push(*segment)) {
            list.clear();
            self.backlog[queue] = 1;
            return None;
        }
        self.backlog[queue] = 0;
        self.waiting[queue].pop_front();
        let fits = self.next_layout.unwrap_or(self.layout);
        let unfit = self.is_unfit(&asked, fits);
        let taken = Some((self.tick(), self.now));
        self.turn.done += 1;
        self.heads[usize::from(head)] = Some(Asked {
            taken,
            fits,
            unfit: unfit && !revoked,
            revoked,
            ..asked.clone()
        });
        let token = Token::new(head.into(), 0);
        Some(Some(Request {
            token,
            op: asked.op,
            lba: Lba(asked.lba),
            sectors: Sectors(asked.sectors),
        }))
    }

    /// An answer: once, true, and after all that it promises.
    pub fn answer(&mut self, queue: usize, answer: Answer<'_>) {
        let head = answer.token.key() as u16;
        self.turn.answered += 1;
        let mut asked = self.heads[usize::from(head)].take().expect("answered once");
        asked.failed &= !(asked.may_forget && answer.status == Status::Ok);
        answer.token.spend();
        let (_, since) = asked.taken.expect("taken before it is answered");
        assert_eq!(asked.queue, queue);
        // Of what was in pieces when the volume was taken away the rest is not begun.
        let cut_short = self.revoked[queue].is_some() && answer.status == Status::IoErr;
        // It was parked, and does not fit the layout that it is sent by then.
        let layout = self.next_layout.unwrap_or(self.layout);
        let unfit_later = !(asked.unfit || asked.revoked || asked.failed || cut_short)
            && answer.status == Status::IoErr
            && asked.fits != layout
            && self.is_unfit(&asked, layout);
        let good = !asked.unfit && !asked.revoked && !asked.failed && !cut_short && !unfit_later;
        let status = if good { Status::Ok } else { Status::IoErr };
        assert_eq!(answer.status, status, "{asked:?}");
        assert!(
            self.pending
                .iter()
                .all(|pending| self.owner(pending.op, pending.lba) != Some(head)),
            "{asked:?}"
        );
        let dirtied: &[Segment] = if asked.op == Op::Read {
            &asked.segments
        } else {
            &[]
        };
        assert_eq!(answer.dirtied, dirtied);
        let range = (asked.lba * 512) as usize..((asked.lba + asked.sectors) * 512) as usize;
        if asked.unfit || asked.revoked {
            assert_eq!(asked.layout, None, "{asked:?} reached a device");
            self.refused += u64::from(asked.unfit);
        } else {
            self.refused += u64::from(unfit_later);
            let all_done = asked.covered.iter().all(|done| *done);
            assert!(
                !good || asked.op == Op::Discard || all_done,
                "it is not done by one route: {asked:?}"
            );
            let due = self.media_due.get_mut(range).expect("it fits");
            let memory = || asked.segments.iter().flat_map(|segment| place(*segment));
            match asked.op {
                Op::Write => due
                    .iter_mut()
                    .zip(memory())
                    .for_each(|(due, at)| *due = good.then(|| self.memory[at])),
                Op::Discard => due.fill(None),
                Op::WriteZeroes { .. } => due.fill(good.then_some(0)),
                Op::Read => due.iter().zip(memory()).for_each(|(due, at)| {
                    self.memory_due[at] = due.filter(|_| good).unwrap_or(self.memory[at]);
                }),
                Op::Flush => {}
            }
        }
        let flushed = self.disks.iter().map(|disk| disk.flushed).min().expect("disks");
        match asked.op {
            Op::Flush if good => assert!(flushed > asked.taken.expect("taken").0, "a disk was left out"),
            Op::Discard | Op::WriteZeroes { .. } if good && self.write_through => {
                assert!(flushed > asked.ended)
            }
            _ => {}
        }
        let kind = asked.op.kind();
        self.answered[kind][status as usize] += 1;
        self.bytes[kind] += if good { asked.sectors * 512 } else { 0 };
        self.latency[kind] += self.now - since;
    }

    /// Nothing is begun while a change is to be decided on, nor by another layout before all has come back.
    fn may_start(&mut self) {
        assert!(!self.suspended, "it goes on before anything is decided");
        let is_drained = self.pending.is_empty() && self.ended.is_empty();
        if let Some(next) = self.next_layout.take() {
            assert!(is_drained, "the old route has not been drained");
            self.layout = next;
        }
    }

    /// The volume is held: what found its device busy is taken back.
    pub fn hold(&mut self) {
        let refused = self.disks.iter_mut().flat_map(|disk| disk.refused.drain(..));
        self.bounced += refused.map(|(_, bounced)| bounced).sum::<u64>();
        for asked in self.heads.iter_mut().flatten() {
            asked.may_forget |= asked.failed;
        }
    }

    /// Requests that the reactor has.
    pub fn taken(&self) -> usize {
        let taken = |asked: &&Asked| asked.taken.is_some();
        self.heads.iter().flatten().filter(taken).count()
    }

    /// Whose operation it is; nobody's for a flush.
    fn owner(&self, op: Op, lba: u64) -> Option<u16> {
        (op != Op::Flush).then_some((lba / WINDOW) as u16)
    }

    pub fn start(&mut self, io: &Io<'_>) -> Started {
        let (device, limits) = (io.device.usize(), limits_of(io.device.usize()));
        let bytes: u64 = io.segments.iter().map(|segment| segment.bytes() as u64).sum();
        let data = if io.op.moves_data() { io.sectors.bytes() } else { 0 };
        assert_eq!(bytes, data, "{io:?}");
        assert!(
            data <= limits.io_bytes_max.into() && io.segments.len() <= SEGMENTS_PER_SLOT,
            "{io:?}"
        );
        let mask = u64::from(limits.block_bytes) / 512 - 1;
        assert_eq!((io.lba.0 | io.sectors.0) & mask, 0, "{io:?}");
        for segment in io.segments {
            let units = (limits.memory_alignment as usize, limits.length_alignment as usize);
            assert!(
                segment.address().is_multiple_of(units.0) && segment.bytes().is_multiple_of(units.1),
                "{io:?}"
            );
            assert_eq!(place(*segment).start >= POOL_AT, io.memory == MemoryId::POOL);
        }
        assert_eq!(io.durable, self.write_through && io.op == Op::Write);
        self.may_start();
        let mut lba = 0;
        if io.op != Op::Flush {
            let by = |layout: usize| {
                let runs = LAYOUTS[layout].into_iter();
                let mut on = runs.filter(|(_, length, on, at)| {
                    *on == io.device.0 && (*at..at + length).contains(&io.lba.0)
                });
                on.next()
                    .map(|(volume, length, _, at)| (layout, volume + io.lba.0 - at, at + length))
            };
            let (layout, volume, end) = by(0).or(by(1)).expect("it lies in the volume");
            assert!(io.lba.0 + io.sectors.0 <= end, "over the end of a run: {io:?}");
            assert_eq!(layout, self.layout, "no such route was agreed on");
            lba = volume;
        }
        let disk = &mut self.disks[device];
        let before = disk.refused.iter().position(|(slot, _)| *slot == io.slot);
        self.turn.handed_over += usize::from(before.is_none());
        if disk.busy {
            if before.is_none() {
                let head = (lba / WINDOW) as usize;
                let op = self
                    .heads
                    .get(head)
                    .and_then(Option::as_ref)
                    .map(|asked| asked.op);
                let zeroes = matches!(op, Some(Op::WriteZeroes { .. }));
                let bounced = u64::from(io.memory == MemoryId::POOL && !zeroes);
                disk.refused.push((io.slot, bounced));
            }
            return Started::Busy;
        }
        if let Some(before) = before {
            disk.refused.remove(before);
            self.turn.done += 1;
        }
        let begun = self.tick();
        if let Some(head) = self.owner(io.op, lba) {
            let asked = self.heads[usize::from(head)]
                .as_mut()
                .expect("an operation for nobody");
            if asked.layout.replace(self.layout) != Some(self.layout) {
                asked.covered.fill(false);
            }
            let zeroes = matches!(asked.op, Op::WriteZeroes { .. });
            self.bounced += u64::from(io.memory == MemoryId::POOL && !zeroes);
        }
        let pending = Pending {
            slot: io.slot,
            device,
            op: io.op,
            lba,
            sectors: io.sectors.0,
            segments: io.segments.to_vec(),
            begun,
            since: self.now,
            cancelled: false,
        };
        match self.disks[device].at_once {
            true => Started::Done(self.carry_out(&pending, None)),
            false => {
                self.pending.push(pending);
                Started::Pending
            }
        }
    }

    /// Does what an operation says, or fails.
    pub fn carry_out(&mut self, pending: &Pending, fault: Option<Fault>) -> Result<(), Fault> {
        let Pending { device, op, lba, .. } = *pending;
        let event = self.tick();
        let disk = &mut self.disks[device];
        disk.finished += 1;
        let able = limits_of(device).write_zeroes || !matches!(op, Op::Discard | Op::WriteZeroes { .. });
        let Some(head) = (op != Op::Flush).then_some((lba / WINDOW) as usize) else {
            disk.flushed = disk.flushed.max(pending.begun);
            return Ok(());
        };
        let asked = self.heads[head].as_mut().expect("an operation for nobody");
        asked.ended = event;
        if !able {
            return Err(Fault::Unsupported);
        }
        if let Some(fault) = fault.or(disk.fault.take()) {
            asked.failed = true;
            *self.faults.entry(fault.kind()).or_default() += 1;
            *disk.faults.entry(fault.kind()).or_default() += u64::from(fault.origin() != Origin::Guest);
            return Err(fault);
        }
        let first = (lba - asked.lba) as usize;
        asked.covered[first..first + pending.sectors as usize].fill(true);
        let media = (lba * 512) as usize..((lba + pending.sectors) * 512) as usize;
        let memory = pending.segments.iter().flat_map(|segment| place(*segment));
        match op {
            Op::Write => media
                .zip(memory)
                .for_each(|(to, from)| self.media[to] = self.memory[from]),
            Op::Read => media
                .zip(memory)
                .for_each(|(from, to)| self.memory[to] = self.media[from]),
            Op::Discard => self.media[media].fill(0xdd),
            Op::WriteZeroes { .. } => self.media[media].fill(0),
            Op::Flush => {}
        }
        Ok(())
    }

    /// A device ends one of its operations.
    pub fn end(&mut self, which: usize, fault: Option<Fault>) {
        if !self.pending.is_empty() {
            let pending = self.pending.remove(which % self.pending.len());
            let result = self.carry_out(&pending, fault);
            self.ended.push((pending.slot, result));
        }
    }
}
