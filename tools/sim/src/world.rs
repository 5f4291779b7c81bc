//! One run: disks, a daemon, guests, a clock, and what goes wrong. Every choice comes from the seed.

use crate::array::{Array, Disk};
use crate::clock::Agenda;
use crate::daemon::{Daemon, Turned};
use crate::disk::{Conduct, Medium};
use crate::finding::{Finding, Findings, Invariant};
use crate::moves::Move;
use crate::plan::{Break, Chaos, Plan};
use crate::port::PortSource;
use crate::remap::{Remap, Said};
use crate::rng::{Rng, RunHash};
use crate::source::{AnySource, SimSource};
use crate::taking;
use crate::vm::{Phase, Vm};
use palisade_block::mailbox::{AttachmentSettings, ReactorChange, ReactorCommand};
use palisade_block::stats::DeviceStats;
use palisade_block::{DeviceKind, DeviceLimits, Nanos, Route, Run};
use palisade_words::{AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors, VolumeIndex};
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
    /// A reactor is told something of a volume's mapping.
    Hear(Said),
    /// Somebody looks after requests of a volume that are parked by faults.
    Mend(usize),
    /// It is time to decide on a change of a volume's mapping, or to say again what was decided.
    Decide(usize, u64),
}

/// The world.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Nanos,
    pub(crate) array: Rc<RefCell<Array>>,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) vms: Vec<Vm>,
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
    /// Changes of volumes' mappings that are under way.
    pub(crate) remaps: Vec<Remap>,
    /// Reactors that disks have refused.
    pub(crate) refused: Vec<(u16, DeviceIndex)>,
    /// The membership.
    pub(crate) epoch: u64,
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
        let mut array = Array::new(rng.split("array"), findings.clone());
        if let Some(Break::Devices(tampering)) = plan.broken {
            array.tampering = Some(tampering);
        }
        let mut world = World {
            rng: rng.split("world"),
            now: Nanos(1),
            array: Rc::new(RefCell::new(array)),
            daemon: None,
            vms: Vec::new(),
            agenda: Agenda::default(),
            findings,
            ticks: Rc::new(Cell::new(0)),
            events: plan.chaos.iter().rev().copied().collect(),
            ill: vec![None; plan.disks.len()],
            pauses: vec![Nanos(0); plan.disks.len()],
            disturbed: Nanos(0),
            draining: false,
            moves: Vec::new(),
            remaps: Vec::new(),
            refused: Vec::new(),
            epoch: 1,
            gaps: Vec::new(),
            hash: RunHash::default(),
            kicks: Vec::new(),
            steps: 0,
            plan,
        };
        let routes = world.lay_out();
        for (number, places) in (0..).zip(routes) {
            let vm = Vm::new(&world, number, places, &rng);
            world.vms.push(vm);
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
            self.array.borrow_mut().disks.push(Disk {
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
        let mut daemon = Daemon::start(&self.plan.setup, &self.array, &self.findings, self.now);
        for reactor in 0..self.plan.setup.reactors {
            for disk in 0..self.plan.disks.len() {
                daemon.tell(
                    reactor,
                    ReactorCommand::AddDevice {
                        opened: (),
                        device: DeviceIndex(disk as u16),
                        stats: Arc::new(DeviceStats::default()),
                        deadline: self.plan.deadline,
                    },
                );
            }
            for vm in &self.vms {
                daemon.tell(reactor, command_of(vm, vm.generation, self.epoch, false));
            }
        }
        self.disturbed = self.now;
        self.daemon = Some(daemon);
        if self.plan.by_port {
            return self.attach_ports();
        }
        for index in 0..self.vms.len() {
            self.attach(index);
        }
    }

    /// Gives each reactor one source that carries the queues of all VMs there.
    fn attach_ports(&mut self) {
        let reactors = self.plan.setup.reactors;
        let mut queues: Vec<Vec<_>> = (0..reactors).map(|_| Vec::new()).collect();
        for vm in &mut self.vms {
            self.array.borrow_mut().memories.learn(&vm.guest.memory);
            for (reactor, volume, source) in vm.lanes(reactors) {
                queues[usize::from(reactor)].push((volume, source));
            }
            vm.phase = Phase::Running;
        }
        let Some(daemon) = &mut self.daemon else { return };
        let bytes_max = self.vms.iter().map(Vm::request_bytes_max).max();
        let attachment = AttachmentIndex(self.vms.len() as u16);
        for (reactor, queues) in (0..).zip(queues) {
            let port = PortSource::new(queues, bytes_max.unwrap_or(4096), &self.array);
            let source = AnySource::Port(Box::new(port));
            daemon.tell(
                reactor,
                ReactorCommand::AddQueue {
                    kick: None,
                    queue: QueueId {
                        attachment,
                        queue: reactor,
                    },
                    settings: AttachmentSettings {
                        volume: None,
                        revoked: false,
                        read_only: false,
                        write_through: true,
                        pace: Default::default(),
                        stats: Arc::default(),
                    },
                    source: SimSource::new(source, daemon.fuse.clone(), None, Rc::default()),
                },
            );
        }
    }

    /// Gives a VM's queues to the reactors.
    pub(crate) fn attach(&mut self, index: usize) {
        let (Some(daemon), Some(vm)) = (&mut self.daemon, self.vms.get_mut(index)) else {
            return;
        };
        if vm.phase == Phase::Stopping {
            vm.replace(&self.plan, self.now);
        }
        self.array.borrow_mut().give(vm.number);
        if vm.revoked {
            // In a new process, whose reactors are told so with the queues.
            (0..self.plan.setup.reactors).for_each(|reactor| taking::let_go(vm, reactor, &self.array));
            taking::all_let_go(vm, &self.ticks);
        }
        self.array.borrow_mut().memories.learn(&vm.guest.memory);
        let meddling = match self.plan.broken {
            Some(Break::Source(meddling)) => Some((meddling, self.rng.split("meddling"))),
            _ => None,
        };
        for (reactor, queue, settings, source) in vm.queues(self.plan.setup.reactors, &daemon.fuse, meddling)
        {
            daemon.tell(
                reactor,
                ReactorCommand::AddQueue {
                    kick: None,
                    queue,
                    settings,
                    source,
                },
            );
        }
        vm.phase = Phase::Running;
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
            if idle > 8 * (self.vms.len() as u64 + u64::from(self.plan.setup.reactors)) {
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
                    self.vms.iter_mut().for_each(|vm| vm.guest.begin_sweep());
                    continue;
                }
                self.skip();
            }
        }
    }

    /// One step of one actor. True when something was done.
    fn step(&mut self) -> bool {
        self.now = self.now.after(Nanos(self.rng.between(100, 1500)));
        self.array.borrow_mut().advance(self.now);
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
        let actor = self.rng.index(reactors + self.vms.len());
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
                self.go_on_remapping();
                self.note_fenced();
                self.look_after_parked();
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
        let Some(vm) = self.vms.get_mut(index) else {
            return false;
        };
        if vm.phase == Phase::Stopping {
            return false;
        }
        let worked = vm.act(self.now, &mut self.kicks);
        for queue in self.kicks.drain(..) {
            let lost = self.plan.broken == Some(Break::LoseKicks) && self.rng.one_in(8);
            if let (Some(daemon), false) = (&mut self.daemon, lost) {
                daemon.kick(vm.reactor_of(queue, self.plan.setup.reactors));
            }
        }
        worked
    }

    /// Lets guests know of larger volumes once every reactor has the new route.
    fn tell_of_growth(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        for vm in &mut self.vms {
            let Some(generation) = vm.grow_at else {
                continue;
            };
            let known = |reactor| {
                daemon
                    .routes
                    .get(&(reactor, vm.number))
                    .is_some_and(|at| *at >= generation)
            };
            if (0..self.plan.setup.reactors).all(known) {
                vm.grow_at = None;
                let sectors = vm.runs.iter().map(|run| run.sectors.0).sum();
                vm.watch.borrow_mut().grow(sectors);
            }
        }
    }

    /// A queue of a VM has been given back.
    fn stopped(&mut self, index: usize) {
        let Some(vm) = self.vms.get_mut(index) else {
            return;
        };
        vm.running -= 1;
        if vm.running > 0 {
            return;
        }
        // Nothing may reach the guest's memory from here on.
        self.array.borrow_mut().forget_memory(&vm.guest.memory);
        if self.draining {
            if self.vms.iter().all(|vm| vm.running == 0) {
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
            && self.vms.iter().all(Vm::is_done)
    }

    /// Nobody has anything to do now: on to the next moment at which somebody has.
    fn skip(&mut self) {
        let due = self.daemon.as_ref().and_then(Daemon::due);
        let disk = self.array.borrow().next_at();
        let next = [due, disk, self.agenda.next_at()].into_iter().flatten().min();
        let soon = self.now.after(Nanos::from_millis(1));
        self.now = next.unwrap_or(soon).clamp(self.now, soon);
    }

    fn end(mut self) -> Outcome {
        if !self.findings.any() {
            self.check_rest();
        }
        let mut hash = self.hash;
        hash.add([self.array.borrow().hash.0, self.now.0, self.ticks.get()]);
        self.vms.iter().for_each(|vm| hash.add([vm.guest.hash.0]));
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
        Outcome {
            hash,
            findings: self.findings.list(),
            steps: self.steps,
            requests: self.vms.iter().map(|vm| vm.requests + vm.guest.asked).sum(),
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

/// The command that takes the route of a VM's volume into use, at its present places or at those where it is not. Runs that
/// make no route end it.
pub(crate) fn command_of(vm: &Vm, generation: u64, epoch: u64, is_elsewhere: bool) -> ReactorChange {
    let (volume, generation) = (VolumeIndex(vm.number), Generation(generation));
    let mut runs = vm.runs.clone();
    if is_elsewhere {
        let places = runs.iter_mut().zip(&vm.elsewhere);
        places.for_each(|(run, elsewhere)| run.lba = *elsewhere);
    }
    match Route::new(vm.mapping(generation, Epoch(epoch)), runs) {
        Ok(route) if vm.parks_faults() => ReactorChange::Resume {
            volume,
            route: route.parking_faults(),
        },
        Ok(route) => ReactorChange::Resume { volume, route },
        Err(_) => ReactorChange::EndVolume { volume, generation },
    }
}
