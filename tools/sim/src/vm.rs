//! A guest with everything the appliance keeps for it: its volume, its attachment, its queues.

use crate::daemon::Daemon;
use crate::door::{Door, PlainDoor, PlainSource};
use crate::finding::Findings;
use crate::guest::{BUFFERS_AT, Guest};
use crate::hostile::HostileDoor;
use crate::plan::{Break, Chaos, GuestPlan, Plan};
use crate::ring_door::{RingDoor, RingPlan};
use crate::rng::Rng;
use crate::source::{AnySource, Fuse, Meddling, SimSource};
use crate::watch::VolumeWatch;
use crate::world::World;
use palisade_block::mailbox::{AttachmentSettings, Pace};
use palisade_block::stats::AttachmentStats;
use palisade_block::{MappingId, Nanos, Run};
use palisade_memory::{GuestMemory, InflightRegion};
use palisade_virtio::driver::DriverOptions;
use palisade_words::{AttachmentIndex, Epoch, Generation, Lba, QueueId, Uuid, VolumeIndex};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

/// Where a VM is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Its queues are served.
    Running,
    /// It has gone; its queues are being given back.
    Stopping,
}

/// One VM.
pub struct Vm {
    /// The number of guest, volume and attachment.
    pub number: u16,
    /// The guest that is there now.
    pub guest: Guest,
    /// Where its volume lies.
    pub runs: Vec<Run>,
    /// For each run another place on its disk, to which it may move.
    pub elsewhere: Vec<Lba>,
    /// The generation of its route.
    pub generation: u64,
    /// How often it has moved.
    pub moves: u64,
    /// Queues that reactors hold.
    pub running: u16,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its volume has been taken away from the guest that is there now.
    pub revoked: bool,
    /// Requests that were taken from its queues until then: what it asks for afterwards is refused, and no limit holds it back.
    taken_before: u64,
    /// Reactors that have let go of it.
    pub let_go: BTreeSet<u16>,
    /// Requests made by guests that were here before.
    pub requests: u64,
    /// What the checkers know of its volume.
    pub watch: Rc<RefCell<VolumeWatch>>,
    /// After a power cut the next guest reads everything first.
    pub sweep_first: bool,
    /// Its volume has grown once.
    pub grown: bool,
    /// It will hear of its larger volume once all reactors have the route of this generation.
    pub grow_at: Option<u64>,
    plan: GuestPlan,
    block_bytes: u32,
    pace: Pace,
    limit_each_queue: bool,
    /// Its requests come from another node.
    by_port: bool,
    /// Requests that its queues have given to reactors.
    taken: Rc<Cell<u64>>,
    rng: Rng,
    lives: u16,
    findings: Findings,
    ticks: Rc<Cell<u64>>,
    hostile: Vec<HostileDoor>,
}

impl Vm {
    /// A VM of the world, not yet attached.
    pub fn new(world: &World, number: u16, (runs, elsewhere): (Vec<Run>, Vec<Lba>), rng: &Rng) -> Vm {
        let plan = world.plan.guests[usize::from(number)].clone();
        let disk = plan.disks.first().and_then(|disk| world.plan.disks.get(*disk));
        let block_bytes = disk.map_or(512, |disk| disk.block_bytes);
        let mut watch = VolumeWatch::new(number, plan.sectors, block_bytes, world.findings.clone());
        watch.write_through_since = plan.write_through.then_some(0);
        let repeats = [Chaos::Kill, Chaos::Reroute, Chaos::Remap, Chaos::Grow];
        watch.racing_writes = !repeats.iter().any(|chaos| world.plan.chaos.contains(chaos));
        let watch = Rc::new(RefCell::new(watch));
        let rng = rng.split(&format!("vm {number}"));
        let burst = Nanos::from_millis(2);
        let pace = Pace {
            iops: plan.iops,
            bytes_per_second: 0,
            burst,
            ..Pace::default()
        };
        let (findings, ticks) = (world.findings.clone(), Rc::clone(&world.ticks));
        let mut maker = rng.split("life 0");
        let (guest, hostile) = settle(
            number,
            &plan,
            &world.plan,
            block_bytes,
            &watch,
            (&mut maker, &findings, &ticks),
        );
        let mut vm = Vm {
            number,
            guest,
            runs,
            elsewhere,
            generation: 1,
            moves: 0,
            running: 0,
            phase: Phase::Running,
            revoked: false,
            taken_before: 0,
            let_go: BTreeSet::new(),
            requests: 0,
            watch,
            sweep_first: false,
            grown: false,
            grow_at: None,
            plan,
            block_bytes,
            pace,
            by_port: world.plan.by_port,
            limit_each_queue: world.plan.broken == Some(Break::LimitEachQueue),
            taken: Rc::default(),
            rng,
            lives: 0,
            findings,
            ticks,
            hostile,
        };
        vm.guest.left = vm.plan.requests;
        vm
    }

    /// Another guest takes over the volume, with memory and queues of its own.
    pub fn replace(&mut self, world: &Plan, now: Nanos) {
        self.guest.forget(now);
        self.requests += self.guest.asked;
        let left = self.guest.left;
        self.lives += 1;
        let mut maker = self.rng.split(&format!("life {}", self.lives));
        let shared = (&mut maker, &self.findings, &self.ticks);
        let (guest, hostile) = settle(
            self.number,
            &self.plan,
            world,
            self.block_bytes,
            &self.watch,
            shared,
        );
        let hash = self.guest.hash;
        self.guest = guest;
        self.guest.hash = hash;
        self.guest.left = left;
        self.hostile = hostile;
        self.phase = Phase::Running;
        if std::mem::take(&mut self.revoked) {
            self.taken.set(self.taken_before);
        }
        self.let_go.clear();
        self.watch.borrow_mut().given();
        self.running = 0;
        if std::mem::take(&mut self.sweep_first) && !self.is_hostile() {
            self.guest.begin_sweep();
        }
    }

    /// Does a little. True when something was done.
    pub fn act(&mut self, now: Nanos, kicks: &mut Vec<u16>) -> bool {
        if !self.is_hostile() {
            return self.guest.act(now, kicks);
        }
        if self.guest.left == 0 {
            return false;
        }
        self.guest.left -= 1;
        for (queue, door) in (0..).zip(&mut self.hostile) {
            if door.harm() {
                kicks.push(queue);
            }
        }
        true
    }

    /// What the mapping of its volume is called, in a configuration and a membership.
    pub fn mapping(&self, generation: Generation, epoch: Epoch) -> MappingId {
        let mapping = MappingId::new(Uuid(u128::from(self.number) + 1), generation, epoch);
        match self.by_port {
            true => mapping.forwarded(),
            false => mapping,
        }
    }

    /// Whether faults that may heal wait for a decision.
    pub fn parks_faults(&self) -> bool {
        self.plan.parks_faults
    }

    /// Whether it is out to do harm.
    pub fn is_hostile(&self) -> bool {
        self.plan.hostile
    }

    /// Whether it has nothing more to do.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Running
            && if self.is_hostile() {
                self.guest.left == 0
            } else {
                self.guest.is_done()
            }
    }

    /// Its volume is taken away.
    pub fn revoke(&mut self) {
        self.revoked = true;
        self.taken_before = self.taken.get();
        self.watch.borrow_mut().taken_away = true;
    }

    /// Whether its requests may have to wait for its own limit.
    pub fn is_paced(&self) -> bool {
        self.plan.iops > 0
    }

    /// Requests that were taken from its queues while they led to a volume, and how many its limit allows by now: what the
    /// rate and the burst give, and what each queue may draw ahead. The backlog of a queue that stops is not held back; it is
    /// charged, so that it counts once.
    pub fn taken_and_allowed(&self, now: Nanos) -> (u64, u64) {
        let worth = |time: Nanos| (u128::from(self.plan.iops) * u128::from(time.0) / 1_000_000_000) as u64;
        let habits = self.plan.habits;
        let ahead = u64::from(habits.queues) * (worth(Nanos::from_micros(50)) + 1);
        let backlog = u64::from(habits.queues) * habits.depth as u64;
        let taken = match self.revoked {
            true => self.taken_before,
            false => self.taken.get(),
        };
        (taken, worth(now) + worth(self.pace.burst) + ahead + backlog + 1)
    }

    /// The disks its volume lies on.
    pub fn disks(&self) -> &[usize] {
        &self.plan.disks
    }

    /// The reactor that serves a queue.
    pub fn reactor_of(&self, queue: u16, reactors: u16) -> u16 {
        (self.number + queue) % reactors
    }

    /// The names of its queues with their reactors.
    pub fn queue_ids(&self, reactors: u16) -> Vec<(u16, QueueId)> {
        let name = |queue| QueueId {
            attachment: AttachmentIndex(self.number),
            queue,
        };
        (0..self.plan.habits.queues)
            .map(|queue| (self.reactor_of(queue, reactors), name(queue)))
            .collect()
    }

    /// What reactors must know of its attachment.
    pub fn settings(&self) -> AttachmentSettings {
        AttachmentSettings {
            volume: Some(VolumeIndex(self.number)),
            revoked: self.revoked,
            read_only: self.plan.habits.read_only,
            write_through: self.plan.write_through,
            pace: self.pace.clone(),
            stats: Arc::new(AttachmentStats::default()),
        }
    }

    /// Switches the write cache of its attachment.
    pub fn switch_write_cache(&mut self, daemon: &mut Daemon, reactors: u16) {
        self.plan.write_through = !self.plan.write_through;
        for reactor in 0..reactors {
            daemon.tell(
                reactor,
                palisade_block::mailbox::ReactorChange::SetAttachment {
                    attachment: AttachmentIndex(self.number),
                    settings: self.settings(),
                },
            );
        }
        self.ticks.set(self.ticks.get() + 1);
        self.watch.borrow_mut().write_through_since = self.plan.write_through.then(|| self.ticks.get());
    }

    /// The device side of every queue, with its reactor, as it goes into a port.
    pub fn lanes(&mut self, reactors: u16) -> Vec<(u16, VolumeIndex, PlainSource)> {
        let ids = self.queue_ids(reactors);
        self.running = ids.len() as u16;
        let of = VolumeIndex(self.number);
        let lanes = ids.iter().zip(&mut self.guest.doors);
        let lanes = lanes.filter_map(|((reactor, _), door)| match door.source() {
            AnySource::Plain(source) => Some((*reactor, of, source)),
            _ => None,
        });
        lanes.collect()
    }

    /// The most bytes that one of its requests has.
    pub fn request_bytes_max(&self) -> u64 {
        self.plan.habits.sectors_max * 512
    }

    /// The device side of every queue, as a daemon makes it at its start.
    pub fn queues(
        &mut self,
        reactors: u16,
        fuse: &Fuse,
        meddling: Option<(Meddling, Rng)>,
    ) -> Vec<(u16, QueueId, AttachmentSettings, SimSource)> {
        let ids = self.queue_ids(reactors);
        self.running = ids.len() as u16;
        let settings = self.settings();
        let mut queues = Vec::new();
        for (index, (reactor, id)) in ids.into_iter().enumerate() {
            let source = match self.hostile.get_mut(index) {
                Some(door) => door.source(),
                None => self.guest.doors[index].source(),
            };
            let source = SimSource::new(source, fuse.clone(), meddling.clone(), Rc::clone(&self.taken));
            let mut settings = settings.clone();
            if self.limit_each_queue {
                settings.pace.next_request_ns = Arc::default();
            }
            queues.push((reactor, id, settings, source));
        }
        queues
    }
}

/// Makes a guest, its memory and its queues.
fn settle(
    number: u16,
    plan: &GuestPlan,
    world: &Plan,
    block_bytes: u32,
    watch: &Rc<RefCell<VolumeWatch>>,
    (rng, findings, ticks): (&mut Rng, &Findings, &Rc<Cell<u64>>),
) -> (Guest, Vec<HostileDoor>) {
    let habits = plan.habits;
    let options = DriverOptions {
        size: habits.queue_size,
        event_idx: rng.one_in(2),
        indirect: rng.one_in(2),
    };
    let interrupts = rng.one_in(2);
    let bytes = Guest::memory_bytes(&habits);
    let memory = memory_of(bytes, BUFFERS_AT);
    let mut doors: Vec<Box<dyn Door>> = Vec::new();
    let mut hostile = Vec::new();
    let stride = options.bytes().next_multiple_of(4096);
    assert!(
        stride * u64::from(habits.queues) <= BUFFERS_AT,
        "rings lie below the buffers"
    );
    let region = InflightRegion::create(habits.queues, habits.queue_size);
    let Ok((inflight, _)) = region else {
        unreachable!("an in-flight region for {habits:?}")
    };
    for queue in 0..habits.queues {
        if !world.rings {
            doors.push(Box::new(PlainDoor::new(
                habits.queue_size,
                Arc::clone(&memory),
                findings.clone(),
            )));
            continue;
        }
        let ring_plan = RingPlan {
            options,
            at: u64::from(queue) * stride,
            queue,
            inflight: inflight.clone(),
            writable: !habits.read_only,
            block_bytes,
            interrupts,
            forget_inflight: world.broken == Some(Break::ForgetInflight),
        };
        let at = ring_plan.at;
        let Some(ring) = RingDoor::new(Arc::clone(&memory), ring_plan, findings.clone()) else {
            unreachable!("a ring in fresh memory")
        };
        if plan.hostile {
            let rng = rng.split(&format!("hostile {queue}"));
            hostile.push(HostileDoor::new(ring, Arc::clone(&memory), options, at, rng));
        } else {
            doors.push(Box::new(ring));
        }
    }
    let own = (rng.split("guest"), findings.clone(), Rc::clone(ticks));
    (
        Guest::new(number, habits, memory, doors, Rc::clone(watch), own),
        hostile,
    )
}

/// Memory in two regions that touch, so that buffers cross the border between them.
fn memory_of(bytes: u64, border: u64) -> Arc<GuestMemory> {
    let second = (bytes - border) / 2 / 4096 * 4096;
    let regions = [(0, border + second), (border + second, bytes - border - second)];
    match GuestMemory::anonymous(&regions) {
        Ok(memory) => memory,
        Err(error) => unreachable!("memory for a guest: {error}"),
    }
}
