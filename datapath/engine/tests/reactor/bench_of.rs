//! A workbench for one reactor: a scripted source, devices that do as they are told, a small pool.

mod pool;
mod values;

use palisade_block::mailbox::{AttachmentSettings, Notice, ReactorChange, ReactorCommand};
use palisade_block::stats::{DeviceStats, ReactorStats};
use palisade_block::*;
use palisade_engine::{Reactor, ReactorConfig};
use palisade_words::{
    AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, MemoryId, PinnedId, QueueId, Sectors, SlotIndex,
    VolumeIndex,
};
pub use pool::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};
pub use values::*;

/// Memory that all guests and pools of the tests lie in.
pub static MEMORY: LazyLock<Lease> =
    LazyLock::new(|| Lease::of_words((0..9 << 17).map(|_| AtomicU64::new(0)).collect()));

/// A piece of it: its address counts from the first multiple of 1 MiB in it.
pub fn piece(address: usize, bytes: usize) -> Segment {
    let first = MEMORY.regions()[0].address().next_multiple_of(1 << 20);
    MEMORY
        .segment(first + address, bytes)
        .expect("it lies in the memory of the tests")
}

/// What the guest's side of a queue holds.
#[derive(Debug, Default)]
pub struct Ring {
    pub waiting: VecDeque<(u16, Op, u64, u64, Vec<Segment>)>,
    pub answers: Vec<(u16, Status)>,
    /// What devices have met of those answered.
    pub faults: Vec<Option<Fault>>,
    pub visible: usize,
    pub publications: usize,
    /// Of those waiting, the first few were taken from the ring before.
    pub backlog: usize,
    /// What is never answered comes again.
    pub remembers: bool,
    /// Another queue, and how many of its answers could be seen each time something was taken from this one.
    pub watched: Option<Script>,
    pub seen_of_watched: Vec<usize>,
    /// How often something was asked for.
    pub pulls: usize,
    /// It notifies; and how often it was told that it is polled again.
    pub armed: bool,
    pub disarms: usize,
    /// How often the devices have been given what they took, now and at each publication.
    pub submits: Rc<Cell<usize>>,
    pub submits_before: Vec<usize>,
    /// Its memory, if it has one of its own.
    pub lease: Option<Lease>,
    /// What it answers by itself when it is taken: heads, and the descriptors followed for each.
    pub by_itself: BTreeMap<u16, u32>,
    /// The same of requests: the descriptors of their chains.
    pub chains: BTreeMap<u16, u32>,
    /// What may be followed of a chain, what has been since the last question, and each walk.
    pub may_follow: Option<u32>,
    pub followed: u32,
    pub walks: Vec<u32>,
    /// A clock, and how far each touch of the ring moves it on.
    pub touch: Option<(Rc<Cell<u64>>, u64)>,
    /// The same for each publication.
    pub publication: Option<(Rc<Cell<u64>>, u64)>,
    /// It changes what waits while the list for it is fetched: head and what it is then.
    pub changes_to: Option<(u16, Op, u64, u64, Vec<Segment>)>,
    /// Of a source that carries many volumes: of which each head is, and which it has turned to.
    pub of: BTreeMap<u16, VolumeIndex>,
    pub turned_to: Option<VolumeIndex>,
}

#[derive(Clone, Debug, Default)]
pub struct Script(pub Rc<RefCell<Ring>>);

impl Script {
    pub fn ask(&self, head: u16, op: Op, lba: u64, sectors: u64, segments: Vec<Segment>) {
        self.0
            .borrow_mut()
            .waiting
            .push_back((head, op, lba, sectors, segments));
    }

    /// The ring is touched.
    fn touch(&self) {
        if let Some((now, takes)) = &self.0.borrow().touch {
            now.set(now.get() + takes);
        }
    }

    /// Brings the first request of the volume it has turned to before all others; false when there is none.
    fn brings(&self) -> bool {
        let mut ring = self.0.borrow_mut();
        let Ring {
            of,
            turned_to,
            waiting,
            ..
        } = &mut *ring;
        let first = waiting
            .iter()
            .position(|asked| of.get(&asked.0) == turned_to.as_ref());
        let first = first.and_then(|first| waiting.remove(first));
        first.map(|asked| waiting.push_front(asked)).is_some()
    }

    /// Follows the chain of a head, if it may be followed to its end.
    fn follows(&self, head: u16) -> bool {
        let mut ring = self.0.borrow_mut();
        let chain = ring.by_itself.get(&head).or(ring.chains.get(&head)).copied();
        let Some(chain) = chain.filter(|&chain| chain > 0) else {
            return true;
        };
        let may_follow = ring.may_follow.expect("the reactor says how far");
        let followed = chain.min(may_follow);
        ring.followed = ring.followed.saturating_add(followed);
        ring.walks.push(followed);
        chain <= may_follow
    }

    pub fn answers(&self) -> Vec<(u16, Status)> {
        let ring = self.0.borrow();
        ring.answers[..ring.visible].to_vec()
    }
}

impl Source for Script {
    fn lease(&self) -> Lease {
        self.0.borrow().lease.clone().unwrap_or_else(|| MEMORY.clone())
    }

    fn has_more(&self) -> bool {
        !self.0.borrow().waiting.is_empty()
    }

    fn turn_to(&mut self, mut may_serve: impl FnMut(VolumeIndex) -> bool) -> Option<VolumeIndex> {
        let mut ring = self.0.borrow_mut();
        let mut volumes = ring.waiting.iter().map(|asked| ring.of[&asked.0]);
        let turned_to = volumes.find(|volume| may_serve(*volume));
        ring.turned_to = turned_to;
        turned_to
    }

    fn pull(&mut self, segments: &mut SegmentList) -> Pulled {
        self.touch();
        self.0.borrow_mut().pulls += 1;
        let watched = self.0.borrow().watched.clone();
        if let Some(other) = watched {
            let visible = other.answers().len();
            self.0.borrow_mut().seen_of_watched.push(visible);
        }
        if !self.brings() {
            return Pulled::Empty;
        }
        let Some((head, op, lba, sectors, data)) = self.0.borrow_mut().waiting.pop_front() else {
            return Pulled::Empty;
        };
        let left = self.0.borrow().backlog.saturating_sub(1);
        segments.clear();
        if !self.follows(head) {
            let mut ring = self.0.borrow_mut();
            ring.waiting.push_front((head, op, lba, sectors, data));
            ring.backlog = ring.backlog.max(1);
            return Pulled::Later;
        }
        if !data.iter().all(|&segment| segments.push(segment)) {
            segments.clear();
            let mut ring = self.0.borrow_mut();
            ring.waiting.push_front((head, op, lba, sectors, data));
            ring.backlog = ring.backlog.max(1);
            if let Some(other) = ring.changes_to.take() {
                ring.waiting[0] = other;
            }
            return Pulled::NoRoom;
        }
        self.0.borrow_mut().backlog = left;
        if self.0.borrow().by_itself.contains_key(&head) {
            self.0.borrow_mut().answers.push((head, Status::Unsupp));
            return Pulled::Answered;
        }
        let token = Token::new(head.into(), 0);
        Pulled::Request(Request {
            token,
            op,
            lba: Lba(lba),
            sectors: Sectors(sectors),
        })
    }

    fn may_follow(&mut self, descriptors: u32) {
        self.0.borrow_mut().may_follow = Some(descriptors);
    }

    fn followed(&mut self) -> u32 {
        std::mem::take(&mut self.0.borrow_mut().followed)
    }

    fn finish(&mut self, answer: Answer<'_>) {
        self.touch();
        self.0
            .borrow_mut()
            .answers
            .push((answer.token.key() as u16, answer.status));
        self.0.borrow_mut().faults.push(answer.fault);
        answer.token.spend();
    }

    fn publish(&mut self) {
        let mut ring = self.0.borrow_mut();
        if let Some((now, takes)) = &ring.publication {
            now.set(now.get() + takes);
        }
        ring.visible = ring.answers.len();
        ring.publications += 1;
        let submits = ring.submits.get();
        ring.submits_before.push(submits);
    }

    fn backlog(&self) -> usize {
        self.0.borrow().backlog
    }

    fn remembers(&self) -> bool {
        self.0.borrow().remembers
    }

    fn arm(&mut self) -> bool {
        self.touch();
        self.0.borrow_mut().armed = true;
        self.has_more()
    }

    fn disarm(&mut self) {
        self.touch();
        let mut ring = self.0.borrow_mut();
        ring.armed = false;
        ring.disarms += 1;
    }
}

/// One operation as the device saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub slot: SlotIndex,
    pub mapping: MappingId,
    pub deadline: Nanos,
    pub device: u16,
    pub op: Op,
    pub lba: u64,
    pub sectors: u64,
    pub durable: bool,
    pub pooled: bool,
    pub segments: Vec<Segment>,
}

/// Devices that remember and obey.
#[derive(Debug)]
pub struct Obedient {
    pub limits: Vec<DeviceLimits>,
    /// What reactors were told of devices and pinned memory, in short, and what can be opened.
    pub hands: Hands,
    pub seen: Vec<Seen>,
    pub finished: VecDeque<(SlotIndex, Result<(), Fault>)>,
    pub cancelled: Vec<SlotIndex>,
    pub busy: bool,
    /// This one alone has no room.
    pub busy_device: Option<u16>,
    /// It wants to hear of operations beforehand.
    pub fetches: bool,
    /// Answer at once with this; otherwise operations stay until the test finishes them.
    pub at_once: Option<Result<(), Fault>>,
    pub unsupported: Vec<Op>,
    /// Sectors that were announced, and started, in their order.
    pub steps: RefCell<Vec<(&'static str, u64)>>,
    /// Memory held, with its users.
    pub kept: Vec<(MemoryId, Lease, u32)>,
    pub submits: Rc<Cell<usize>>,
    /// Of an attachment: the clock, and how far it moves on when something of the attachment is submitted.
    pub slow_pages: Option<(u16, Rc<Cell<u64>>, u64)>,
    /// Whose the operations are that will be started, in their order; and whose those are that wait for submission.
    pub whose: Vec<u16>,
    pub unsubmitted: Vec<u16>,
    /// Memory whose pages are touched for the first time.
    pub fresh: Option<Fresh>,
    /// A clock, and how far it moves on each time when it is asked for what has ended.
    pub reap_takes: Option<(Rc<Cell<u64>>, u64)>,
}

/// What is done between two turns.
#[derive(Debug, Default)]
pub struct Hands {
    pub done: Vec<String>,
    pub opens_nothing: bool,
    /// Pinned memory by its number.
    pub pinned: BTreeMap<PinnedId, u32>,
}

/// Pages that have to be found and cleared when they are touched.
#[derive(Debug)]
pub struct Fresh {
    pub memory: Lease,
    pub now: Rc<Cell<u64>>,
    /// What each segment takes.
    pub takes: u64,
    /// They are touched by a submission, and else by whoever starts an operation.
    pub by_submission: bool,
    /// Segments to be submitted.
    pub waiting: u64,
}

impl Fresh {
    fn touch(&self, segments: u64) {
        self.now.set(self.now.get() + segments * self.takes);
    }
}

impl Devices for Obedient {
    type Opened = ();
    type Pinned = u32;
    type Kick = ();
    type Order = Infallible;
    type Report = Infallible;

    fn open(&mut self, device: DeviceIndex, (): ()) -> io::Result<()> {
        if self.hands.opens_nothing {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        self.hands.done.push(format!("open {}", device.0));
        Ok(())
    }

    fn close(&mut self, device: DeviceIndex) {
        self.hands.done.push(format!("close {}", device.0));
    }

    fn grow(&mut self, device: DeviceIndex) {
        self.hands.done.push(format!("grow {}", device.0));
    }

    fn pin(&mut self, id: PinnedId, pinned: u32) {
        self.hands.pinned.insert(id, pinned);
    }

    fn unpin(&mut self, id: PinnedId) -> Option<u32> {
        self.hands.pinned.remove(&id)
    }

    fn order(&mut self, order: Infallible) {
        match order {}
    }

    fn next_report(&mut self) -> Option<Infallible> {
        None
    }

    fn keep(&mut self, lease: &Lease) -> MemoryId {
        let guest = |memory: MemoryId, kept: &Lease| memory != MemoryId::POOL && kept.is(lease);
        if let Some((memory, _, users)) = self.kept.iter_mut().find(|(id, kept, _)| guest(*id, kept)) {
            *users += 1;
            return *memory;
        }
        let free = |number: &u16| self.kept.iter().all(|(memory, ..)| memory.0 != *number);
        let memory = MemoryId((0..).find(free).expect("there are enough numbers"));
        self.kept.push((memory, lease.clone(), 1));
        memory
    }

    fn keep_pool(&mut self, lease: &Lease) {
        self.kept.push((MemoryId::POOL, lease.clone(), 1));
    }

    fn let_go(&mut self, memory: MemoryId) {
        let place = self.kept.iter().position(|(held, ..)| *held == memory);
        let place = place.expect("what is let go of was held");
        self.kept[place].2 -= 1;
        if self.kept[place].2 == 0 {
            self.kept.remove(place);
        }
    }

    fn looks_ahead(&self, _: DeviceIndex) -> bool {
        self.fetches
    }

    fn expect(&self, _: DeviceIndex, lba: Lba, _: Sectors) {
        self.steps.borrow_mut().push(("expect", lba.0));
    }

    fn start(&mut self, io: Io<'_>) -> Started {
        let step = if io.alone { "start alone" } else { "start" };
        self.steps.borrow_mut().push((step, io.lba.0));
        if self.busy || self.busy_device == Some(io.device.0) {
            return Started::Busy;
        }
        if !self.whose.is_empty() {
            self.unsubmitted.push(self.whose.remove(0));
        }
        let held = self.kept.iter().find(|(held, ..)| *held == io.memory);
        let (_, lease, _) = held.expect("operations are on memory that is held");
        assert!(lease.holds_all(io.segments), "{io:?}");
        self.seen.push(Seen {
            slot: io.slot,
            mapping: *io.mapping,
            deadline: io.deadline,
            device: io.device.0,
            op: io.op,
            lba: io.lba.0,
            sectors: io.sectors.0,
            durable: io.durable,
            pooled: io.memory == MemoryId::POOL,
            segments: io.segments.to_vec(),
        });
        if let Some(fresh) = self.fresh.as_mut().filter(|fresh| lease.is(&fresh.memory)) {
            match fresh.by_submission {
                true => fresh.waiting += io.segments.len() as u64,
                false => fresh.touch(io.segments.len() as u64),
            }
        }
        if self.unsupported.contains(&io.op) {
            return Started::Done(Err(Fault::Unsupported));
        }
        self.at_once.map_or(Started::Pending, Started::Done)
    }

    fn submit(&mut self) {
        self.submits.set(self.submits.get() + 1);
        let submitted = std::mem::take(&mut self.unsubmitted);
        if let Some(fresh) = &mut self.fresh {
            let segments = std::mem::take(&mut fresh.waiting);
            fresh.touch(segments);
        }
        if let Some((slow, now, takes)) = &self.slow_pages
            && submitted.contains(slow)
        {
            now.set(now.get() + takes);
        }
    }

    fn reap(&mut self, mut done: impl FnMut(SlotIndex, Result<(), Fault>)) -> usize {
        if let Some((now, takes)) = &self.reap_takes {
            now.set(now.get() + takes);
        }
        let count = self.finished.len();
        self.finished
            .drain(..)
            .for_each(|(slot, result)| done(slot, result));
        count
    }

    fn cancel(&mut self, slot: SlotIndex) {
        self.cancelled.push(slot);
    }

    fn limits(&self, device: DeviceIndex) -> Option<DeviceLimits> {
        self.limits.get(device.usize()).copied()
    }
}

pub type Bench = Reactor<Script, Obedient, BuffersRef>;

pub fn limits(sectors: u64) -> DeviceLimits {
    DeviceLimits {
        kind: DeviceKind::File,
        sectors: Sectors(sectors),
        block_bytes: 512,
        memory_alignment: 4,
        length_alignment: 512,
        io_bytes_max: 1 << 20,
        discard_granularity: 4096,
        discard: true,
        write_zeroes: true,
        read_only: false,
    }
}

pub struct Bed {
    pub reactor: Bench,
    pub pool: BuffersRef,
    pub stats: Arc<ReactorStats>,
    pub now: u64,
}

pub const QUEUE: QueueId = QueueId {
    attachment: AttachmentIndex(0),
    queue: 0,
};
pub const VOLUME: VolumeIndex = VolumeIndex(0);

impl Bed {
    /// Two devices of 1000 sectors, volume 0 over sectors 100..600 of the first and 0..500 of the second.
    pub fn new(slots: u32, buffers: usize) -> Bed {
        let config = ReactorConfig {
            slots,
            parts: 8,
            long: 4,
            watch_every: Nanos(10),
        };
        Bed::of(config, buffers)
    }

    /// Takes a device into use as it is now, whose operations have so long, and gives the whole of it to a volume.
    pub fn give_device(&mut self, volume: VolumeIndex, device: u16, deadline: Nanos) {
        self.reactor.apply(ReactorCommand::AddDevice {
            opened: (),
            device: DeviceIndex(device),
            stats: Arc::new(DeviceStats::default()),
            deadline,
        });
        self.give_run(volume, device);
    }

    /// Gives the whole of a device to a volume.
    pub fn give_run(&mut self, volume: VolumeIndex, device: u16) {
        let run = Run {
            volume: Lba(0),
            sectors: self.devices().limits[usize::from(device)].sectors,
            device: DeviceIndex(device),
            lba: Lba(0),
        };
        let route = Route::new(mapping_of(Generation(2), Epoch(1)), vec![run]);
        self.resume(volume, route.expect("one run"));
        self.notices();
    }

    pub fn of(config: ReactorConfig, buffers: usize) -> Bed {
        let free = (0..buffers)
            .map(|i| piece((i + 1) << 20, limits::BOUNCE_BYTES))
            .collect();
        let pool = BuffersRef(Rc::new(RefCell::new(Buffers {
            free,
            gathered: 0,
            scattered: 0,
            lacks_pages: false,
            fresh: None,
        })));
        let devices = Obedient {
            limits: vec![limits(1000), limits(1000)],
            seen: Vec::new(),
            finished: VecDeque::new(),
            cancelled: Vec::new(),
            busy: false,
            busy_device: None,
            at_once: None,
            fetches: false,
            unsupported: Vec::new(),
            steps: RefCell::default(),
            kept: Vec::new(),
            submits: Rc::default(),
            slow_pages: None,
            whose: Vec::new(),
            unsubmitted: Vec::new(),
            fresh: None,
            hands: Hands::default(),
            reap_takes: None,
        };
        let stats = Arc::new(ReactorStats::default());
        let mut reactor = Reactor::new(config, devices, pool.clone(), Arc::clone(&stats));
        for device in 0..2 {
            reactor.apply(ReactorCommand::AddDevice {
                opened: (),
                device: DeviceIndex(device),
                stats: Arc::new(DeviceStats::default()),
                deadline: Nanos(1000),
            });
        }
        let mut bed = Bed {
            reactor,
            pool,
            stats,
            now: 0,
        };
        bed.route(1, 100);
        assert!(matches!(
            bed.notices()[..],
            [Notice::RouteInUse {
                generation: Generation(1),
                ..
            }]
        ));
        bed
    }

    pub fn route(&mut self, generation: u64, first: u64) {
        self.resume(VOLUME, two_runs(generation, first));
    }

    pub fn resume(&mut self, volume: VolumeIndex, route: Route) {
        self.reactor.apply(ReactorChange::Resume { volume, route });
    }

    pub fn attach(&mut self, queue: QueueId, change: impl FnOnce(&mut AttachmentSettings)) -> Script {
        self.serve(queue, Script::default(), change)
    }

    /// The same with memory of the guest's own.
    pub fn attach_with(&mut self, queue: QueueId, lease: &Lease) -> Script {
        let script = Script::default();
        script.0.borrow_mut().lease = Some(lease.clone());
        self.serve(queue, script, |_| {})
    }

    pub fn serve(
        &mut self,
        queue: QueueId,
        script: Script,
        change: impl FnOnce(&mut AttachmentSettings),
    ) -> Script {
        let mut settings = AttachmentSettings {
            volume: Some(VOLUME),
            revoked: false,
            read_only: false,
            write_through: false,
            pace: Default::default(),
            stats: Arc::default(),
        };
        change(&mut settings);
        self.reactor.apply(ReactorCommand::AddQueue {
            kick: None,
            queue,
            settings,
            source: script.clone(),
        });
        script
    }

    pub fn turn(&mut self) -> usize {
        self.now += 1;
        let work = self.reactor.turn(Nanos(self.now));
        self.reactor.check();
        work
    }

    pub fn devices(&mut self) -> &mut Obedient {
        self.reactor.devices_mut()
    }

    /// Finishes every operation seen since the last call that it has kept.
    pub fn finish_all(&mut self, result: Result<(), Fault>) {
        let devices = self.devices();
        for seen in std::mem::take(&mut devices.seen) {
            if devices.unsupported.contains(&seen.op) {
                continue;
            }
            devices.finished.push_back((seen.slot, result));
        }
    }

    /// Asks for a change of the volume's mapping to be prepared.
    pub fn suspend(&mut self, generation: u64) {
        self.reactor.apply(ReactorChange::Suspend {
            volume: VOLUME,
            generation: Generation(generation),
        });
    }

    /// Gives such a change up.
    pub fn cancel(&mut self, generation: u64) {
        self.reactor.apply(ReactorChange::Cancel {
            volume: VOLUME,
            generation: Generation(generation),
        });
    }

    pub fn notices(&mut self) -> Vec<Notice<Script, Obedient>> {
        std::iter::from_fn(|| self.reactor.next_notice()).collect()
    }
}
