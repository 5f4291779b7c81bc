//! All disks of the simulated machine, and the operations in flight on them. Several reactors share them, each
//! through its own [`SimDevices`](crate::devices::SimDevices).

mod inspection;
mod late;
mod relocation;

use crate::clock::Agenda;
use crate::devices::Tampering;
use crate::disk::{Conduct, FlushMark, Lie, Medium};
use crate::finding::{Findings, Invariant};
use crate::memory::Memories;
use crate::rng::{Rng, RunHash};
use palisade_block::{DeviceLimits, Fault, Io, Lease, Nanos, Op, Segment, Started};
use palisade_memory::GuestMemory;
use palisade_words::{DeviceIndex, Lba, MemoryId, Sectors, SlotIndex};
use std::collections::{BTreeMap, VecDeque};

/// A disk in the array.
#[derive(Debug)]
pub struct Disk {
    /// Its content.
    pub medium: Medium,
    /// What it says of itself.
    pub limits: DeviceLimits,
    /// How it behaves at present.
    pub conduct: Conduct,
    /// Offers write-zeroes and refuses it when asked, as some file systems do.
    pub zeroes_refused: bool,
    /// Answers inside `start`, as memory does.
    pub synchronous: bool,
    /// No such device any more.
    pub gone: bool,
}

/// An operation in flight.
#[derive(Debug)]
struct Operation {
    reactor: u16,
    device: usize,
    slot: SlotIndex,
    op: Op,
    lba: Lba,
    sectors: Sectors,
    durable: bool,
    memory: MemoryId,
    segments: Vec<Segment>,
    mark: FlushMark,
    submitted: bool,
    deadline: Nanos,
    /// It has been carried out behind the way to the disk, and the answer was lost: it is not carried out again.
    unheard: Option<Result<(), Fault>>,
    /// It is answered with a lost way, and carried out later.
    comes_late: bool,
}

/// A stretch of a disk whose content is moving to another place on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moving {
    /// The disk.
    pub device: DeviceIndex,
    /// Where the content is.
    pub from: Lba,
    /// Where it will be.
    pub to: Lba,
    /// How long it is.
    pub sectors: Sectors,
}

/// A place of a volume that was taken away, and the reactor that uses it no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The reactor.
    pub reactor: u16,
    /// The volume.
    pub volume: u16,
    /// The disk.
    pub device: DeviceIndex,
    /// Where it begins.
    pub lba: Lba,
    /// How long it is.
    pub sectors: Sectors,
}

/// What lies in a place that belongs to no volume at present: whoever reads it does not take it for zeroes, and whoever
/// writes there is found out.
pub const POISON: u8 = 0x5e;

/// The array.
#[derive(Debug)]
pub struct Array {
    /// The present moment.
    pub now: Nanos,
    /// The disks by number.
    pub disks: Vec<Disk>,
    /// Registered memory.
    pub memories: Memories,
    /// A deliberate fault.
    pub tampering: Option<Tampering>,
    /// Hash of everything that happened on the disks.
    pub hash: RunHash,
    findings: Findings,
    rng: Rng,
    operations: BTreeMap<u64, Operation>,
    hung: Vec<u64>,
    /// What lands and nobody waits for.
    late: BTreeMap<u64, late::Late>,
    moving: Vec<Moving>,
    /// Places that a reactor has said to use no more.
    left: Vec<(u16, Moving)>,
    /// Places of volumes that a reactor has said to leave alone until the change of their mapping is decided on.
    suspended: Vec<Taken>,
    /// Reactors that a disk has refused, and that have said so: they start nothing there.
    fenced: Vec<(u16, usize)>,
    /// Places of volumes that were taken away, of which a reactor has said that it has let go.
    taken: Vec<Taken>,
    agenda: Agenda<u64>,
    finished: Vec<VecDeque<(SlotIndex, Result<(), Fault>)>>,
    count: u64,
}

impl Moving {
    /// Whether an operation is on the old place.
    fn has(&self, operation: &Operation) -> bool {
        let (start, end) = (self.from.0, self.from.0 + self.sectors.0);
        let same = operation.device == self.device.usize() && operation.op != Op::Flush;
        same && operation.lba.0 < end && start < operation.lba.0 + operation.sectors.0
    }

    fn new_place(&self) -> std::ops::Range<u64> {
        self.to.0..self.to.0 + self.sectors.0
    }
}

impl Taken {
    fn has(&self, operation: &Operation) -> bool {
        let (start, end) = (self.lba.0, self.lba.0 + self.sectors.0);
        let same = operation.device == self.device.usize() && operation.op != Op::Flush;
        same && operation.lba.0 < end && start < operation.lba.0 + operation.sectors.0
    }
}

impl Array {
    /// An empty array.
    pub fn new(rng: Rng, findings: Findings) -> Array {
        Array {
            now: Nanos(0),
            disks: Vec::new(),
            memories: Memories::default(),
            tampering: None,
            hash: RunHash::default(),
            findings,
            rng,
            operations: BTreeMap::new(),
            hung: Vec::new(),
            late: BTreeMap::new(),
            moving: Vec::new(),
            left: Vec::new(),
            suspended: Vec::new(),
            fenced: Vec::new(),
            taken: Vec::new(),
            agenda: Agenda::default(),
            finished: Vec::new(),
            count: 0,
        }
    }

    /// When the next operation completes.
    pub fn next_at(&self) -> Option<Nanos> {
        self.agenda.next_at()
    }

    /// Whether completions wait to be reaped by a reactor.
    pub fn has_finished(&self, reactor: u16) -> bool {
        self.finished
            .get(reactor as usize)
            .is_some_and(|list| !list.is_empty())
    }

    /// Lets time pass: everything due by `now` completes.
    pub fn advance(&mut self, now: Nanos) {
        self.now = now;
        while let Some(id) = self.agenda.due(now) {
            if self.land(id) {
                continue;
            }
            let Some(operation) = self.operations.get(&id) else {
                continue;
            };
            if self
                .disks
                .get(operation.device)
                .is_some_and(|disk| disk.conduct.hangs && !disk.gone)
            {
                self.hung.push(id);
                continue;
            }
            self.complete(id);
        }
    }

    /// The disks behave again; what hung goes on, and what was not heard of is asked for.
    pub fn resume_hung(&mut self) {
        let unheard = self.operations.iter().filter(|(_, one)| one.unheard.is_some());
        let unheard: Vec<u64> = unheard.map(|(id, _)| *id).collect();
        for id in std::mem::take(&mut self.hung).into_iter().chain(unheard) {
            let at = self.now.after(Nanos(self.rng.between(1_000, 200_000)));
            self.agenda.plan(at, id);
        }
    }

    /// A reactor dies with the process: what it had in flight is over, done or not, before anybody takes its place.
    pub fn abandon(&mut self, reactor: u16) {
        let mut ids: Vec<u64> = self.of_reactor(reactor).collect();
        self.rng.shuffle(&mut ids);
        for id in ids {
            let Some(operation) = self.operations.remove(&id) else {
                continue;
            };
            if operation.submitted && self.rng.one_in(2) {
                let _ = self.carry_out(&operation);
            }
        }
        if let Some(list) = self.finished.get_mut(reactor as usize) {
            list.clear();
        }
    }

    /// The power goes: in-flight writes are done in part or not at all, then each disk keeps what it must and what
    /// it likes.
    pub fn power_cut(&mut self) {
        for (_, operation) in std::mem::take(&mut self.operations) {
            if operation.submitted && operation.op.changes() {
                let _ = self.torn(&operation);
            }
        }
        self.finished.iter_mut().for_each(VecDeque::clear);
        self.hung.clear();
        self.late.clear();
        self.agenda = Agenda::default();
        for disk in &mut self.disks {
            disk.medium.power_cut(&mut self.rng);
        }
    }

    /// Content begins to move: until it has, both places are one, as reactors take the new route at their own time.
    pub fn begin_move(&mut self, moving: Moving) {
        let back = |left: &(u16, Moving)| left.1.device == moving.device && left.1.from == moving.to;
        self.left.retain(|left| !back(left));
        self.moving.push(moving);
    }

    /// A reactor says that it uses the old place no more: nothing of it may be in flight there, now or later.
    pub fn leave(&mut self, reactor: u16, moving: Moving) {
        let old = |operation: &&Operation| operation.reactor == reactor && moving.has(operation);
        if let Some(late) = self.operations.values().find(old) {
            let what = format!(
                "reactor {reactor} has taken a new route while its {:?} at {} is in flight under the old one",
                late.op, late.lba.0
            );
            self.findings.add(Invariant::OneGeneration, self.now, what);
        }
        self.left.push((reactor, moving));
    }

    /// A reactor says that a volume is at rest: it has nothing in flight there, and starts nothing.
    pub fn suspend(&mut self, place: Taken) {
        let on_it = |operation: &&Operation| operation.reactor == place.reactor && place.has(operation);
        if let Some(late) = self.operations.values().find(on_it) {
            let what = format!(
                "reactor {} calls volume {} suspended while its {:?} at {} is in flight",
                place.reactor, place.volume, late.op, late.lba.0
            );
            self.findings.add(Invariant::OneGeneration, self.now, what);
        }
        self.suspended.push(place);
    }

    /// It has been told what was decided.
    pub fn resume(&mut self, reactor: u16, volume: u16) {
        self.suspended
            .retain(|place| place.reactor != reactor || place.volume != volume);
    }

    /// A reactor says that a disk has refused it.
    pub fn fence(&mut self, reactor: u16, device: DeviceIndex) {
        if self.fenced.contains(&(reactor, device.usize())) {
            self.offence(format!("reactor {reactor} tells twice of {device:?}"));
        }
        self.fenced.push((reactor, device.usize()));
    }

    /// A reactor is given a disk again.
    pub fn admit(&mut self, reactor: u16, device: DeviceIndex) {
        self.fenced.retain(|one| *one != (reactor, device.usize()));
    }

    /// There are no reactors any more that could have said anything.
    pub fn resume_all(&mut self) {
        self.suspended.clear();
        self.fenced.clear();
    }

    /// A reactor has let go of a place of a volume that was taken away.
    pub fn take(&mut self, taken: Taken) {
        self.taken.push(taken);
    }

    /// A volume has a guest again.
    pub fn give(&mut self, volume: u16) {
        self.taken.retain(|taken| taken.volume != volume);
    }

    /// A new process knows nothing of places that were left before.
    pub fn forget_left(&mut self) {
        self.left.clear();
    }

    /// Where the content of a place is at present.
    fn place(&self, device: usize, lba: Lba) -> Lba {
        let here = |moving: &&Moving| moving.device.usize() == device && moving.new_place().contains(&lba.0);
        let moving = self.moving.iter().find(here);
        moving.map_or(lba, |moving| Lba(moving.from.0 + (lba.0 - moving.to.0)))
    }

    /// A reactor keeps memory. What is nobody's goes by a number under which nothing is found.
    pub fn keep(&mut self, reactor: u16, lease: &Lease) -> MemoryId {
        self.memories.keep(reactor, lease).unwrap_or_else(|| {
            self.offence(format!(
                "reactor {reactor} keeps memory that is nobody's: {lease:?}"
            ));
            MemoryId(u16::MAX - 1)
        })
    }

    /// A reactor keeps the memory of its pool.
    pub fn keep_pool(&mut self, reactor: u16, lease: &Lease) {
        if self.memories.keep_as(reactor, MemoryId::POOL, lease).is_none() {
            self.offence(format!(
                "the pool of reactor {reactor} is not made of known memory"
            ));
        }
    }

    /// A reactor lets go of memory. Whoever is the last to do so must have nothing in flight on it.
    pub fn let_go(&mut self, reactor: u16, memory: MemoryId) {
        let on_it = |operation: &Operation| {
            operation.reactor == reactor && operation.memory == memory && operation.op.moves_data()
        };
        let mut in_flight = self.operations.values().filter(|operation| on_it(operation));
        if self.memories.is_last_user(reactor, memory)
            && let Some(operation) = in_flight.next()
        {
            self.offence(format!(
                "reactor {reactor} lets go of {memory:?} with {:?} in flight on it",
                operation.slot
            ));
        }
        if !self.memories.let_go(reactor, memory) {
            self.offence(format!(
                "reactor {reactor} lets go of {memory:?}, which it does not keep"
            ));
        }
    }

    /// All queues of a guest have been given back: its memory goes.
    pub fn forget_memory(&mut self, memory: &GuestMemory) {
        if !self.memories.forget(memory) {
            self.offence("a guest's memory is kept though its queues have been given back".into());
        }
    }

    /// Takes an operation from a reactor.
    pub fn start(&mut self, reactor: u16, io: &Io<'_>) -> (Started, Option<u64>) {
        let Some(disk) = self.disks.get(io.device.usize()) else {
            self.offence(format!(
                "an operation for {:?}, which was never opened",
                io.device
            ));
            return (Started::Done(Err(Fault::Gone)), None);
        };
        if disk.gone {
            return (Started::Done(Err(Fault::Gone)), None);
        }
        if self.rng.permille(disk.conduct.busy_permille) {
            return (Started::Busy, None);
        }
        let (synchronous, limits) = (disk.synchronous, disk.limits);
        let comes_late = io.op.changes() && self.rng.permille(disk.conduct.late_permille);
        let mark = disk.medium.flush_begin();
        self.inspect(reactor, io, &limits);
        let mut segments = io.segments.to_vec();
        if self.tampering == Some(Tampering::SwapSegments) && segments.len() > 1 {
            segments.swap(0, 1);
        }
        let operation = Operation {
            reactor,
            device: io.device.usize(),
            slot: io.slot,
            op: io.op,
            lba: io.lba,
            sectors: io.sectors,
            durable: io.durable && self.tampering != Some(Tampering::ForgetDurable),
            memory: io.memory,
            segments,
            mark,
            submitted: false,
            deadline: io.deadline,
            unheard: None,
            comes_late,
        };
        let left = |left: &&(u16, Moving)| left.0 == reactor && left.1.has(&operation);
        if let Some((_, moving)) = self.left.iter().find(left) {
            let what = format!(
                "reactor {reactor} goes on at {}, which it has left",
                moving.from.0
            );
            self.findings.add(Invariant::OneGeneration, self.now, what);
        }
        let taken = |taken: &&Taken| taken.reactor == reactor && taken.has(&operation);
        if let Some(taken) = self.taken.iter().find(taken) {
            let what = format!(
                "reactor {reactor} reaches volume {}, which was taken away",
                taken.volume
            );
            self.findings.add(Invariant::OneGeneration, self.now, what);
        }
        let suspended = |place: &&Taken| place.reactor == reactor && place.has(&operation);
        if let Some(place) = self.suspended.iter().find(suspended) {
            let what = format!(
                "reactor {reactor} goes on with volume {}, which it has called suspended",
                place.volume
            );
            self.findings.add(Invariant::OneGeneration, self.now, what);
        }
        if self.fenced.contains(&(reactor, operation.device)) {
            self.offence(format!(
                "reactor {reactor} goes on with {:?}, which has refused it",
                io.device
            ));
        }
        if synchronous {
            return (Started::Done(self.carry_out(&operation)), None);
        }
        self.count += 1;
        self.operations.insert(self.count, operation);
        (Started::Pending, Some(self.count))
    }

    /// The kernel has it.
    pub fn submit(&mut self, id: u64) {
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        operation.submitted = true;
        let (low, high) = self
            .disks
            .get(operation.device)
            .map_or((1, 1), |disk| disk.conduct.latency_ns);
        if self.tampering == Some(Tampering::LoseCompletion) && self.rng.one_in(50) {
            return;
        }
        let at = self.now.after(Nanos(self.rng.between(low, high)));
        self.agenda.plan(at, id);
    }

    /// Asks for an operation to be taken back.
    pub fn cancel(&mut self, reactor: u16, slot: SlotIndex) {
        let found = self
            .operations
            .iter()
            .find(|(_, op)| op.reactor == reactor && op.slot == slot);
        let Some((&id, operation)) = found else { return };
        let willing = self
            .disks
            .get(operation.device)
            .is_none_or(|disk| disk.conduct.cancellable);
        if willing && operation.submitted {
            self.operations.remove(&id);
            self.hung.retain(|hung| *hung != id);
            self.finish(reactor, slot, Err(Fault::TimedOut));
        }
    }

    /// Gives some or all of a reactor's completions, in any order.
    pub fn reap(&mut self, reactor: u16) -> Vec<(SlotIndex, Result<(), Fault>)> {
        let Some(list) = self.finished.get_mut(reactor as usize) else {
            return Vec::new();
        };
        let count = if self.rng.one_in(4) {
            self.rng.index(list.len() + 1)
        } else {
            list.len()
        };
        let mut batch: Vec<_> = list.drain(..count).collect();
        self.rng.shuffle(&mut batch);
        batch
    }

    /// Operations of a reactor that have not been completed.
    pub fn in_flight(&self, reactor: u16) -> usize {
        self.of_reactor(reactor).count()
    }

    fn of_reactor(&self, reactor: u16) -> impl Iterator<Item = u64> + '_ {
        self.operations
            .iter()
            .filter(move |(_, operation)| operation.reactor == reactor)
            .map(|(id, _)| *id)
    }

    fn complete(&mut self, id: u64) {
        let Some(mut operation) = self.operations.remove(&id) else {
            return;
        };
        if operation.unheard.is_none() && operation.comes_late {
            self.land_later(id, &operation, false);
            return self.finish(operation.reactor, operation.slot, Err(Fault::Unreachable));
        }
        let result = match operation.unheard {
            // Nobody knows whether it was.
            Some(_) if self.now >= operation.deadline => Err(Fault::Unreachable),
            // It is asked once more: what was carried out is not again.
            Some(_) if operation.op == Op::Read => self.carry_out(&operation),
            Some(result) => result,
            None if self.loses(&operation) => {
                // Data that was read comes with the answer.
                let result = match operation.op {
                    Op::Read => Err(Fault::Unreachable),
                    _ => self.carry_out(&operation),
                };
                operation.unheard = Some(result);
                self.agenda.plan(operation.deadline, id);
                self.operations.insert(id, operation);
                return;
            }
            None => self.carry_out(&operation),
        };
        self.finish(operation.reactor, operation.slot, result);
    }

    /// Whether the answer to an operation does not come.
    fn loses(&mut self, operation: &Operation) -> bool {
        let conduct = self.disks.get(operation.device).map(|disk| disk.conduct);
        let permille = conduct.map_or(0, |conduct| conduct.loses_permille);
        permille > 0 && self.rng.permille(permille)
    }

    fn finish(&mut self, reactor: u16, slot: SlotIndex, result: Result<(), Fault>) {
        let index = reactor as usize;
        if self.finished.len() <= index {
            self.finished.resize_with(index + 1, VecDeque::new);
        }
        if let Some(list) = self.finished.get_mut(index) {
            list.push_back((slot, result));
        }
    }

    /// Does the work of one operation, or some of it and a fault.
    fn carry_out(&mut self, operation: &Operation) -> Result<(), Fault> {
        let words = [
            self.now.0,
            operation.device as u64,
            operation.op.kind() as u64,
            operation.lba.0,
        ];
        self.hash.add(words);
        let Some(disk) = self.disks.get(operation.device) else {
            return Err(Fault::Gone);
        };
        if disk.gone {
            return Err(Fault::Gone);
        }
        if self.rng.permille(disk.conduct.fail_permille) {
            let fault = disk.conduct.fault;
            if operation.op.changes() {
                self.torn(operation)?;
            }
            return Err(fault);
        }
        match operation.op {
            Op::Read => self.read(operation),
            Op::Flush => {
                self.flush(operation);
                Ok(())
            }
            Op::Write => {
                let data = self.data_of(operation)?;
                self.put(operation, &data, |_| true);
                Ok(())
            }
            Op::Discard if !disk.limits.discard => Err(Fault::Unsupported),
            Op::WriteZeroes { .. } if disk.zeroes_refused || !disk.limits.write_zeroes => {
                Err(Fault::Unsupported)
            }
            Op::WriteZeroes { .. } => {
                self.put(operation, &vec![0; operation.sectors.bytes() as usize], |_| true);
                Ok(())
            }
            Op::Discard => {
                let zeroes = self.rng.one_in(2);
                self.put(operation, &vec![0; operation.sectors.bytes() as usize], |_| {
                    zeroes
                });
                Ok(())
            }
        }
    }

    /// Does some blocks of a write.
    fn torn(&mut self, operation: &Operation) -> Result<(), Fault> {
        let data = match operation.op {
            Op::Write => self.data_of(operation)?,
            _ => vec![0; operation.sectors.bytes() as usize],
        };
        self.put(operation, &data, |rng| rng.one_in(2));
        Ok(())
    }

    fn read(&mut self, operation: &Operation) -> Result<(), Fault> {
        let Some(disk) = self.disks.get(operation.device) else {
            return Err(Fault::Gone);
        };
        let place = self.place(operation.device, operation.lba);
        let mut data = disk.medium.read(place, operation.sectors).to_vec();
        if disk.conduct.lie == Some(Lie::BitTurned) && self.rng.one_in(20) {
            let at = self.rng.index(data.len());
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << self.rng.below(8);
            }
        }
        let put = self
            .memories
            .scatter(operation.reactor, operation.memory, &data, &operation.segments);
        put.map_err(|segment| self.outside(operation, segment))
    }

    fn data_of(&mut self, operation: &Operation) -> Result<Vec<u8>, Fault> {
        let mut data = vec![0; operation.sectors.bytes() as usize];
        let got = self.memories.gather(
            operation.reactor,
            operation.memory,
            &operation.segments,
            &mut data,
        );
        got.map_err(|segment| self.outside(operation, segment))?;
        Ok(data)
    }

    fn put(&mut self, operation: &Operation, data: &[u8], mut keep: impl FnMut(&mut Rng) -> bool) {
        let place = self.place(operation.device, operation.lba);
        let Some(disk) = self.disks.get_mut(operation.device) else {
            return;
        };
        let rng = &mut self.rng;
        let (mut lba, mut durable) = (place, operation.durable);
        match disk.conduct.lie {
            Some(Lie::FlushDoesNothing) => durable = false,
            Some(Lie::WriteLost) if rng.one_in(10) => return,
            Some(Lie::WriteMisplaced) if rng.one_in(10) => {
                let block = Sectors::from_bytes(disk.medium.block_bytes() as u64);
                lba = Lba(lba.0 + block.0);
                if !disk.medium.takes(lba, operation.sectors) {
                    return;
                }
            }
            _ => {}
        }
        disk.medium.write(lba, data, durable, || keep(rng));
    }

    fn flush(&mut self, operation: &Operation) {
        let Some(disk) = self.disks.get_mut(operation.device) else {
            return;
        };
        if disk.conduct.lie != Some(Lie::FlushDoesNothing) {
            disk.medium.flush_end(operation.mark);
        }
    }

    fn outside(&self, operation: &Operation, segment: Segment) -> Fault {
        let what = format!(
            "{:?} of {:?} reached {segment:?} outside {:?}",
            operation.op, operation.slot, operation.memory
        );
        self.findings.add(Invariant::ForeignBytes, self.now, what);
        Fault::Media
    }

    fn offence(&self, what: String) {
        self.findings.add(Invariant::DataPath, self.now, what);
    }

    /// The disk of a number.
    pub fn disk_mut(&mut self, device: DeviceIndex) -> Option<&mut Disk> {
        self.disks.get_mut(device.usize())
    }
}
