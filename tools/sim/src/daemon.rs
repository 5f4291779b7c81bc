//! The simulated process: reactors of the very engine the daemon runs, over simulated disks and guests. It can be
//! killed between two turns or in the middle of one.

use crate::array::Array;
use crate::devices::SimDevices;
use crate::finding::{Findings, Invariant};
use crate::mappings::Mappings;
use crate::pool::SimPool;
use crate::source::{Fuse, Killed, SimSource};
use palisade_block::Nanos;
use palisade_block::mailbox::{Notice, ReactorCommand};
use palisade_block::stats::ReactorStats;
use palisade_engine::idle::Next;
use palisade_engine::{Idle, IdlePolicy, Reactor, ReactorConfig};
use palisade_sys::counting_allocator::counted;
use palisade_words::{AttachmentIndex, DeviceIndex, QueueId};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

/// How the process is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Reactors.
    pub reactors: u16,
    /// Sizes of their tables.
    pub config: ReactorConfig,
    /// Bounce buffers of each.
    pub buffers: usize,
    /// When they sleep.
    pub idle: IdlePolicy,
}

/// A reactor, and what its thread would keep beside it.
struct Core {
    mappings: Rc<RefCell<Mappings>>,
    buffers_out: Rc<Cell<usize>>,
    reactor: Reactor<SimSource, SimDevices, SimPool>,
    idle: Idle,
    asleep: bool,
    kicked: bool,
}

/// What a turn of a core came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turned {
    /// There was something to do.
    Worked,
    /// There was nothing to do, or it sleeps.
    Idle,
    /// The process is dead.
    Dead,
}

/// The process.
pub struct Daemon {
    cores: Vec<Core>,
    /// Where the process dies in the middle of a turn.
    pub fuse: Fuse,
    /// Devices reported as stalled, by reactor.
    pub stalled: BTreeSet<(u16, DeviceIndex)>,
    /// When a device was last reported as moving again, by reactor.
    pub moved_at: BTreeMap<(u16, DeviceIndex), Nanos>,
    /// The generation of the route in use, by reactor and volume.
    pub routes: BTreeMap<(u16, u16), u64>,
    /// Reactors that have let go of an attachment's volume since last asked.
    pub revoked: Vec<(u16, AttachmentIndex)>,
    /// Volumes that reactors have called suspended for a change, and changes that they have given up, since last asked: reactor,
    /// volume and generation.
    pub suspended: Vec<(u16, u16, u64)>,
    /// The latter.
    pub cancelled: Vec<(u16, u16, u64)>,
    /// Volumes of which requests are parked by a fault, since last asked.
    pub parked: Vec<u16>,
    /// Devices that a reactor has let go of, since last asked.
    pub idle: Vec<(u16, DeviceIndex)>,
    /// Devices that have refused a reactor, since last asked.
    pub fenced: Vec<(u16, DeviceIndex)>,
    /// Queues given back since last asked.
    pub stopped: Vec<QueueId>,
    array: Rc<RefCell<Array>>,
    findings: Findings,
}

impl Daemon {
    /// Starts the process.
    pub fn start(setup: &Setup, array: &Rc<RefCell<Array>>, findings: &Findings, now: Nanos) -> Daemon {
        let cores = (0..setup.reactors).map(|number| {
            let mappings = Rc::new(RefCell::new(Mappings::new(number, findings.clone())));
            let devices = SimDevices::new(number, Rc::clone(array), Rc::clone(&mappings));
            let pool = SimPool::new(setup.buffers, Rc::clone(array), findings.clone());
            Core {
                mappings,
                buffers_out: pool.out(),
                reactor: Reactor::new(setup.config, devices, pool, Arc::new(ReactorStats::default())),
                idle: Idle::new(setup.idle, now),
                asleep: false,
                kicked: false,
            }
        });
        Daemon {
            cores: cores.collect(),
            fuse: Fuse::default(),
            stalled: BTreeSet::new(),
            moved_at: BTreeMap::new(),
            routes: BTreeMap::new(),
            revoked: Vec::new(),
            suspended: Vec::new(),
            cancelled: Vec::new(),
            parked: Vec::new(),
            idle: Vec::new(),
            fenced: Vec::new(),
            stopped: Vec::new(),
            array: Rc::clone(array),
            findings: findings.clone(),
        }
    }

    /// Tells a reactor of a change.
    pub fn tell(&mut self, reactor: u16, command: impl Into<ReactorCommand<SimSource, SimDevices>>) {
        if let Some(core) = self.cores.get_mut(reactor as usize) {
            let command = command.into();
            core.mappings.borrow_mut().told(&command);
            core.reactor.apply(command);
            core.kicked = true;
        }
    }

    /// A guest has kicked a queue of this reactor.
    pub fn kick(&mut self, reactor: u16) {
        if let Some(core) = self.cores.get_mut(reactor as usize) {
            core.kicked = true;
        }
    }

    /// Lets a reactor take its turn, if it is awake or has a reason to wake.
    pub fn turn(&mut self, reactor: u16, now: Nanos) -> Turned {
        let Some(core) = self.cores.get_mut(reactor as usize) else {
            return Turned::Idle;
        };
        if core.asleep {
            let due = core.reactor.due().is_some_and(|at| at <= now);
            if !core.kicked && !due && !self.array.borrow().has_finished(reactor) {
                return Turned::Idle;
            }
            core.asleep = false;
        }
        core.kicked = false;
        IN_TURN.set(true);
        let (turned, allocations) = counted(|| catch_unwind(AssertUnwindSafe(|| core.reactor.turn(now))));
        // Whatever it has done, all that is in flight is booked as it is.
        let check = |work| catch_unwind(AssertUnwindSafe(|| core.reactor.check())).map(|()| work);
        let turned = turned.and_then(check);
        IN_TURN.set(false);
        let work = match turned {
            Ok(work) => work,
            Err(payload) => {
                if !payload.is::<Killed>() {
                    let what = format!("reactor {reactor} stopped: {}", words_of(&*payload));
                    self.findings.add(Invariant::DataPath, now, what);
                }
                return Turned::Dead;
            }
        };
        if allocations > 0 {
            let what = format!("a turn of reactor {reactor} allocated {allocations} times");
            self.findings.add(Invariant::DataPath, now, what);
        }
        // As the reactor's thread does it: sources stay armed from one sleep to the next.
        if core.idle.after_turn(work, core.reactor.in_flight() > 0, now) == Next::Sleep {
            core.asleep = !core.reactor.arm();
        } else {
            core.reactor.disarm();
        }
        let mut notices = 0;
        while let Some(notice) = core.reactor.next_notice() {
            notices += 1;
            match notice {
                Notice::QueueStopped { queue, .. } => self.stopped.push(queue),
                Notice::DeviceStalled {
                    device,
                    oldest: Nanos(0),
                } => {
                    self.stalled.remove(&(reactor, device));
                    self.moved_at.insert((reactor, device), now);
                }
                Notice::DeviceStalled { device, .. } => {
                    self.stalled.insert((reactor, device));
                }
                Notice::RouteInUse { volume, generation } => {
                    core.mappings.borrow_mut().is_in_use(volume, generation);
                    self.routes.insert((reactor, volume.0), generation.0);
                }
                Notice::VolumeEnded { volume, .. } => drop(self.routes.remove(&(reactor, volume.0))),
                Notice::Revoked { attachment } => self.revoked.push((reactor, attachment)),
                // Its steps are not timed: no page of a simulated guest makes anybody wait.
                Notice::DeviceFenced { device } => self.fenced.push((reactor, device)),
                Notice::DeviceClosed { device } => self.idle.push((reactor, device)),
                // Its devices can always be opened, and no page of a simulated guest is pinned.
                Notice::DeviceUnusable { .. } | Notice::MemoryReleased { .. } => {}
                Notice::QueueStalled { .. } => {}
                Notice::Suspended { volume, generation } => {
                    self.suspended.push((reactor, volume.0, generation.0));
                }
                Notice::Cancelled { volume, generation } => {
                    self.cancelled.push((reactor, volume.0, generation.0));
                }
                Notice::Parked { volume, .. } => self.parked.push(volume.0),
                // Who is late changes nothing; that is seen on the disks.
                Notice::Stale { .. } => {}
            }
        }
        if work + notices > 0 {
            Turned::Worked
        } else {
            Turned::Idle
        }
    }

    /// When the next reactor has something to do by itself.
    pub fn due(&self) -> Option<Nanos> {
        self.cores.iter().filter_map(|core| core.reactor.due()).min()
    }

    /// Requests in flight in all reactors.
    pub fn in_flight(&self) -> u32 {
        self.cores.iter().map(|core| core.reactor.in_flight()).sum()
    }

    /// Bounce buffers in use in all reactors.
    pub fn buffers_out(&self) -> usize {
        self.cores.iter().map(|core| core.buffers_out.get()).sum()
    }

    /// Ends the process as `kill -9` does. What the disks have in flight is over when this returns.
    pub fn kill(self) {
        for (number, core) in (0..).zip(self.cores) {
            core.reactor.abandon();
            let mut array = self.array.borrow_mut();
            array.abandon(number);
            array.memories.forget_reactor(number);
        }
    }
}

thread_local! {
    static IN_TURN: Cell<bool> = const { Cell::new(false) };
}

/// A panic inside of a turn becomes a finding; keeps the runtime from printing it as well.
pub fn report_panics_as_findings() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !IN_TURN.get() {
            print(panic);
        }
    }));
}

/// The message of a panic.
fn words_of(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}
