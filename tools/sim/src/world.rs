//! One run: disks, a daemon, guests, a clock, and what goes wrong. Every choice comes from the seed.

use crate::clock::Agenda;
use crate::daemon::{Daemon, Turned};
use crate::disk::{Conduct, Medium};
use crate::finding::{Finding, Findings, Invariant};
use crate::moves::Move;
use crate::plan::{Break, Chaos, Plan};
use crate::rack::{Disk, Rack};
use crate::rng::{Rng, RunHash};
use crate::taking;
use crate::tenant::{Phase, Tenant};
use palisade_block::mailbox::Command;
use palisade_block::stats::DeviceStats;
use palisade_block::{DeviceKind, DeviceLimits, Nanos, Route, Run};
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, Sectors, VolumeIndex};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// Steps after which a run that has not come to rest never will.
const STEPS_MAX: u64 = 4_000_000;
/// Sectors between two volumes' runs on one disk, that nobody may touch.
const GAP: u64 = 64;
/// Room behind each run for growth.
pub(crate) const SPARE: u64 = 128;

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Hash over everything that happened.
    pub hash: RunHash,
    /// What must not have happened.
    pub findings: Vec<Finding>,
    /// Steps taken.
    pub steps: u64,
    /// Requests guests made.
    pub requests: u64,
    /// Virtual time that passed.
    pub time: Nanos,
}

/// Things that happen later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Later {
    /// A disk behaves again.
    Heal(usize),
    /// The process, or the machine, starts again.
    Start,
    /// The process dies now, if it has not died in the middle of a turn.
    Die,
    /// A volume that was taken away gets its next guest.
    GiveOn(usize),
}

/// The world.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Nanos,
    pub(crate) rack: Rc<RefCell<Rack>>,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) agenda: Agenda<Later>,
    pub(crate) findings: Findings,
    pub(crate) ticks: Rc<Cell<u64>>,
    pub(crate) events: Vec<Chaos>,
    /// Since when each disk behaves badly, if it does.
    pub(crate) ill: Vec<Option<Nanos>>,
    /// Until when each disk may get no discard: after a slow one there is a pause as long.
    pub(crate) pauses: Vec<Nanos>,
    /// When the daemon, a disk or a guest was last disturbed: waits are counted from here.
    pub(crate) disturbed: Nanos,
    pub(crate) draining: bool,
    /// Volumes whose content moves to another place.
    pub(crate) moves: Vec<Move>,
    /// Disk areas of no volume.
    pub(crate) gaps: Vec<(usize, u64, u64)>,
    pub(crate) hash: RunHash,
    kicks: Vec<u16>,
    steps: u64,
}

/// Runs a plan with a seed.
pub fn run(plan: &Plan, seed: u64) -> Outcome {
    let mut world = World::new(plan.clone(), seed);
    world.play();
    world.end()
}

impl World {
    fn new(plan: Plan, seed: u64) -> World {
        let rng = Rng::new(seed);
        let findings = Findings::default();
        let mut rack = Rack::new(rng.split("rack"), findings.clone());
        if let Some(Break::Devices(tampering)) = plan.broken {
            rack.tampering = Some(tampering);
        }
        let mut world = World {
            rng: rng.split("world"),
            now: Nanos(1),
            rack: Rc::new(RefCell::new(rack)),
            daemon: None,
            tenants: Vec::new(),
            agenda: Agenda::default(),
            findings,
            ticks: Rc::new(Cell::new(0)),
            events: plan.chaos.iter().rev().copied().collect(),
            ill: vec![None; plan.disks.len()],
            pauses: vec![Nanos(0); plan.disks.len()],
            disturbed: Nanos(0),
            draining: false,
            moves: Vec::new(),
            gaps: Vec::new(),
            hash: RunHash::default(),
            kicks: Vec::new(),
            steps: 0,
            plan,
        };
        let routes = world.lay_out();
        for (number, places) in (0..).zip(routes) {
            let tenant = Tenant::new(&world, number, places, &rng);
            world.tenants.push(tenant);
        }
        world.poison_elsewhere();
        world.start_daemon();
        world
    }

    /// Makes the disks, and gives each guest's volume its runs, with another place for each.
    fn lay_out(&mut self) -> Vec<(Vec<Run>, Vec<Lba>)> {
        let mut ends = vec![0; self.plan.disks.len()];
        let mut routes = Vec::new();
        for guest in &self.plan.guests {
            let count = guest.disks.len() as u64;
            let part = (guest.sectors / count).next_multiple_of(8);
            let mut volume = 0;
            let (mut runs, mut elsewhere) = (Vec::new(), Vec::new());
            for &disk in &guest.disks {
                let sectors = part.min(guest.sectors - volume);
                if sectors == 0 {
                    continue;
                }
                if let Some(end) = ends.get_mut(disk) {
                    self.gaps.push((disk, *end, GAP));
                    let lba = Lba(*end + GAP);
                    let device = DeviceIndex(disk as u16);
                    runs.push(Run {
                        volume: Lba(volume),
                        sectors: Sectors(sectors),
                        device,
                        lba,
                    });
                    *end = lba.0 + sectors + SPARE;
                    self.gaps.push((disk, *end, GAP));
                    elsewhere.push(Lba(*end + GAP));
                    *end += GAP + sectors + SPARE;
                }
                volume += sectors;
            }
            routes.push((runs, elsewhere));
        }
        for (plan, end) in self.plan.disks.iter().zip(ends) {
            let sectors = Sectors(end + GAP);
            let mut conduct = plan.conduct;
            if let Some(Break::Disks(lie)) = self.plan.broken {
                conduct.lie = Some(lie);
            }
            self.rack.borrow_mut().disks.push(Disk {
                medium: Medium::new(sectors, plan.block_bytes),
                limits: DeviceLimits {
                    kind: if plan.synchronous {
                        DeviceKind::Memory
                    } else {
                        DeviceKind::File
                    },
                    sectors,
                    block_bytes: plan.block_bytes,
                    memory_alignment: plan.memory_alignment,
                    length_alignment: plan.length_alignment,
                    io_bytes_max: plan.io_bytes_max,
                    discard_granularity: plan.block_bytes,
                    discard: plan.discard,
                    write_zeroes: plan.write_zeroes,
                    read_only: false,
                },
                conduct,
                zeroes_refused: plan.zeroes_refused,
                synchronous: plan.synchronous,
                gone: false,
            });
        }
        routes
    }

    /// Starts the process on what its predecessor has left.
    pub(crate) fn start_daemon(&mut self) {
        let mut daemon = Daemon::start(&self.plan.setup, &self.rack, &self.findings, self.now);
        for reactor in 0..self.plan.setup.reactors {
            for disk in 0..self.plan.disks.len() {
                daemon.tell(
                    reactor,
                    Command::AddDevice {
                        device: DeviceIndex(disk as u16),
                        stats: Arc::new(DeviceStats::default()),
                        deadline: self.plan.deadline,
                    },
                );
            }
            for tenant in &self.tenants {
                daemon.tell(
                    reactor,
                    Command::SetRoute {
                        volume: VolumeIndex(tenant.number),
                        route: route_of(tenant),
                        generation: Generation(tenant.generation),
                    },
                );
            }
        }
        self.disturbed = self.now;
        self.daemon = Some(daemon);
        for index in 0..self.tenants.len() {
            self.attach(index);
        }
    }

    /// Gives a tenant's queues to the reactors.
    pub(crate) fn attach(&mut self, index: usize) {
        let (Some(daemon), Some(tenant)) = (&mut self.daemon, self.tenants.get_mut(index)) else {
            return;
        };
        if tenant.phase == Phase::Stopping {
            tenant.replace(&self.plan, self.now);
        }
        self.rack.borrow_mut().give(tenant.number);
        if tenant.revoked {
            // In a new process, whose reactors are told so with the queues.
            (0..self.plan.setup.reactors).for_each(|reactor| taking::let_go(tenant, reactor, &self.rack));
            taking::all_let_go(tenant, &self.ticks);
        }
        self.rack.borrow_mut().memories.learn(&tenant.guest.memory);
        let meddling = match self.plan.broken {
            Some(Break::Source(meddling)) => Some((meddling, self.rng.split("meddling"))),
            _ => None,
        };
        for (reactor, queue, settings, source) in
            tenant.queues(self.plan.setup.reactors, &daemon.fuse, meddling)
        {
            daemon.tell(
                reactor,
                Command::AddQueue {
                    queue,
                    settings,
                    source,
                },
            );
        }
        tenant.phase = Phase::Running;
    }

    fn play(&mut self) {
        let mut idle = 0;
        let mut swept = false;
        let mut patience = 50;
        while !self.findings.any() {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                let waiting = self.waiting();
                self.findings.add(
                    Invariant::BoundedWaiting,
                    self.now,
                    format!("no rest is in sight: {waiting}"),
                );
                break;
            }
            let worked = self.step();
            idle = if worked { 0 } else { idle + 1 };
            if self.steps.is_multiple_of(64) {
                self.check_waits();
                self.check_limits();
            }
            if idle > 8 * (self.tenants.len() as u64 + u64::from(self.plan.setup.reactors)) {
                idle = 0;
                if self.is_quiet() {
                    if swept {
                        // A reactor that called a disk stalled gets a few looks of its watch to call it well again.
                        if patience == 0
                            || self
                                .daemon
                                .as_ref()
                                .is_none_or(|daemon| daemon.stalled.is_empty())
                        {
                            break;
                        }
                        patience -= 1;
                        self.skip();
                        continue;
                    }
                    swept = true;
                    self.heal_all();
                    self.tenants
                        .iter_mut()
                        .for_each(|tenant| tenant.guest.begin_sweep());
                    continue;
                }
                self.skip();
            }
        }
    }

    /// One step of one actor. True when something was done.
    fn step(&mut self) -> bool {
        self.now = self.now.after(Nanos(self.rng.between(100, 1500)));
        self.rack.borrow_mut().advance(self.now);
        let mut worked = false;
        while let Some(later) = self.agenda.due(self.now) {
            self.happens(later);
            worked = true;
        }
        if !self.events.is_empty()
            && (self.agenda.next_at().is_none() || self.rng.one_in(8))
            && self.rng.one_in(self.plan.chaos_every)
        {
            if let Some(event) = self.events.pop() {
                self.hash.add([self.now.0, event as u64]);
                self.strike(event);
            }
            return true;
        }
        let reactors = usize::from(self.plan.setup.reactors);
        let actor = self.rng.index(reactors + self.tenants.len());
        worked |= if actor < reactors {
            self.turn(actor as u16)
        } else {
            self.act(actor - reactors)
        };
        worked
    }

    fn turn(&mut self, reactor: u16) -> bool {
        let Some(daemon) = &mut self.daemon else {
            return false;
        };
        match daemon.turn(reactor, self.now) {
            Turned::Idle => false,
            Turned::Worked => {
                self.hash
                    .add([self.now.0, reactor.into(), daemon.in_flight().into()]);
                for queue in std::mem::take(&mut daemon.stopped) {
                    self.stopped(usize::from(queue.attachment.0));
                }
                self.tell_of_growth();
                self.go_on_moving();
                self.note_let_go();
                true
            }
            Turned::Dead => {
                self.die();
                true
            }
        }
    }

    fn act(&mut self, index: usize) -> bool {
        let Some(tenant) = self.tenants.get_mut(index) else {
            return false;
        };
        if tenant.phase == Phase::Stopping {
            return false;
        }
        let worked = tenant.act(self.now, &mut self.kicks);
        for queue in self.kicks.drain(..) {
            let lost = self.plan.broken == Some(Break::LoseKicks) && self.rng.one_in(8);
            if let (Some(daemon), false) = (&mut self.daemon, lost) {
                daemon.kick(tenant.reactor_of(queue, self.plan.setup.reactors));
            }
        }
        worked
    }

    /// Lets guests know of larger volumes once every reactor has the new route.
    fn tell_of_growth(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        for tenant in &mut self.tenants {
            let Some(generation) = tenant.grow_at else {
                continue;
            };
            let known = |reactor| {
                daemon
                    .routes
                    .get(&(reactor, tenant.number))
                    .is_some_and(|at| *at >= generation)
            };
            if (0..self.plan.setup.reactors).all(known) {
                tenant.grow_at = None;
                let sectors = tenant.runs.iter().map(|run| run.sectors.0).sum();
                tenant.watch.borrow_mut().grow(sectors);
            }
        }
    }

    /// A queue of a tenant has been given back.
    fn stopped(&mut self, index: usize) {
        let Some(tenant) = self.tenants.get_mut(index) else {
            return;
        };
        tenant.running -= 1;
        if tenant.running > 0 {
            return;
        }
        // Nothing may reach the guest's memory from here on.
        self.rack.borrow_mut().forget_memory(&tenant.guest.memory);
        if self.draining {
            if self.tenants.iter().all(|tenant| tenant.running == 0) {
                self.die();
            }
        } else {
            self.attach(index);
        }
    }

    /// Whether everybody is done and nothing is planned.
    fn is_quiet(&self) -> bool {
        self.events.is_empty()
            && self.agenda.next_at().is_none()
            && self.daemon.is_some()
            && self.tenants.iter().all(Tenant::is_done)
    }

    /// Nobody has anything to do now: on to the next moment at which somebody has.
    fn skip(&mut self) {
        let due = self.daemon.as_ref().and_then(Daemon::due);
        let disk = self.rack.borrow().next_at();
        let next = [due, disk, self.agenda.next_at()].into_iter().flatten().min();
        let soon = self.now.after(Nanos::from_millis(1));
        self.now = next.unwrap_or(soon).clamp(self.now, soon);
    }

    fn end(mut self) -> Outcome {
        if !self.findings.any() {
            self.check_rest();
        }
        let mut hash = self.hash;
        hash.add([self.rack.borrow().hash.0, self.now.0, self.ticks.get()]);
        self.tenants
            .iter()
            .for_each(|tenant| hash.add([tenant.guest.hash.0]));
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
        Outcome {
            hash,
            findings: self.findings.list(),
            steps: self.steps,
            requests: self
                .tenants
                .iter()
                .map(|tenant| tenant.requests + tenant.guest.asked)
                .sum(),
            time: self.now,
        }
    }

    /// A disk's conduct as planned.
    pub(crate) fn healthy(&self, disk: usize) -> Conduct {
        let lie = match self.plan.broken {
            Some(Break::Disks(lie)) => Some(lie),
            _ => None,
        };
        let planned = self
            .plan
            .disks
            .get(disk)
            .map_or(Conduct::HEALTHY, |plan| plan.conduct);
        Conduct { lie, ..planned }
    }
}

/// The route of a tenant's volume.
pub(crate) fn route_of(tenant: &Tenant) -> Option<Route> {
    Route::new(Generation(tenant.generation), Epoch(1), tenant.runs.clone()).ok()
}
