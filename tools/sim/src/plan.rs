//! What a run is made of. A scenario is a function from a seed to a plan.

use crate::daemon::Setup;
use crate::devices::Tampering;
use crate::disk::{Conduct, Lie};
use crate::guest::Habits;
use crate::source::Meddling;
use palisade_block::Nanos;
use palisade_engine::{IdlePolicy, RETRY_AFTER};

/// A disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskPlan {
    /// Logical block, 512 or 4096 bytes.
    pub block_bytes: u32,
    /// What addresses must be multiples of.
    pub memory_alignment: u32,
    /// What lengths of segments must be multiples of.
    pub length_alignment: u32,
    /// Most bytes in one operation.
    pub io_bytes_max: u32,
    /// Whether discard is offered.
    pub discard: bool,
    /// Whether write-zeroes is offered.
    pub write_zeroes: bool,
    /// Whether it offers write-zeroes and then refuses.
    pub zeroes_refused: bool,
    /// Whether it answers inside `start`.
    pub synchronous: bool,
    /// How it behaves when healthy.
    pub conduct: Conduct,
}

/// A guest and its volume.
#[derive(Clone, Debug)]
pub struct GuestPlan {
    /// How it behaves.
    pub habits: Habits,
    /// Size of its volume in sectors.
    pub sectors: u64,
    /// The disks its volume lies on, a run on each.
    pub disks: Vec<usize>,
    /// Requests it makes.
    pub requests: u64,
    /// Its writes are stable when they are answered.
    pub write_through: bool,
    /// Requests a second it may make; 0 for no limit.
    pub iops: u64,
    /// Faults that may heal are not its business: somebody decides about them.
    pub parks_faults: bool,
    /// It is out to do harm.
    pub hostile: bool,
}

/// Something that goes wrong, or is done to the system, while guests work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chaos {
    /// `kill -9` of the daemon, and a new one.
    Kill,
    /// The daemon drains, stops, and a new one starts.
    Restart,
    /// The machine loses power.
    PowerCut,
    /// A disk completes nothing for a while.
    Hang,
    /// A disk fails operations for a while.
    Fail,
    /// The way to a disk is lost for a while.
    Unreachable,
    /// Answers of the node that a disk is behind are lost for a while.
    Unheard,
    /// A disk refuses the node, until its reservation is had again.
    Fenced,
    /// A disk is slow for a while.
    Slow,
    /// A disk is gone for good.
    Gone,
    /// A guest resets its device or is replaced by another.
    Reset,
    /// A volume gets a new route.
    Reroute,
    /// The mapping of a volume changes, by words that are lost and late.
    Remap,
    /// A volume grows.
    Grow,
    /// A guest switches its write cache.
    WriteCache,
    /// A guest's volume is taken away while it is connected, and is its successor's later.
    TakeAway,
}

/// A deliberate fault, to prove that the checkers can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Break {
    /// Between the engine and the guests.
    Source(Meddling),
    /// Between the engine and the disks.
    Devices(Tampering),
    /// In the disks.
    Disks(Lie),
    /// At a restart the record of what was in flight is lost.
    ForgetInflight,
    /// Kicks are not delivered.
    LoseKicks,
    /// Each queue keeps its attachment's limit by itself.
    LimitEachQueue,
    /// A node takes steps for a change that is not in the log yet.
    EffectsBeforeTheLog,
    /// A change is acknowledged that is not in the log.
    AcknowledgesUnlogged,
    /// A medium that the node may not use stays open and locked.
    KeepsRefused,
    /// What voters sync is not kept when their power goes off.
    VotersNeverSync,
}

/// Everything about one run but its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The process.
    pub setup: Setup,
    /// Disks.
    pub disks: Vec<DiskPlan>,
    /// Guests.
    pub guests: Vec<GuestPlan>,
    /// What happens, in this order.
    pub chaos: Vec<Chaos>,
    /// One in so many steps brings the next event.
    pub chaos_every: u64,
    /// Real rings, or plain lists.
    pub rings: bool,
    /// The lists of all guests come through one source of each reactor, as from other nodes.
    pub by_port: bool,
    /// Age at which an operation counts as stalled.
    pub deadline: Nanos,
    /// A deliberate fault.
    pub broken: Option<Break>,
}

impl Plan {
    /// How long all that guests may have in flight takes to pass through the scarcest of slots, parts and buffers, half
    /// of which may be kept for idle disks, when every piece takes as long as the slowest healthy disk and rests when it
    /// is refused.
    pub fn queueing_ns_max(&self) -> u64 {
        let bytes_max = self.disks.iter().map(|disk| u64::from(disk.io_bytes_max)).min();
        let latency_ns = self.disks.iter().map(|disk| disk.conduct.latency_ns.1).max();
        let pieces = |guest: &GuestPlan| {
            let in_flight = guest.habits.depth as u64 * u64::from(guest.habits.queues);
            in_flight * (guest.habits.sectors_max * 512).div_ceil(bytes_max.unwrap_or(512))
        };
        let all: u64 = self.guests.iter().map(pieces).sum();
        let scarcest = u64::from(self.setup.config.slots)
            .min(u64::from(self.setup.config.parts))
            .min(self.setup.buffers as u64);
        let in_turn = all.div_ceil((scarcest / 2).max(1));
        in_turn * latency_ns.unwrap_or(0) + self.resting_ns_max(in_turn)
    }

    /// Requests that guests may have in flight.
    pub fn requests_in_flight_max(&self) -> usize {
        let in_flight = |guest: &GuestPlan| guest.habits.depth * usize::from(guest.habits.queues);
        self.guests.iter().map(in_flight).sum()
    }

    /// Whether discards and write-zeroes that pause may keep everything else from a guest: they may have all credits of its lane
    /// in a port, or all the slots that its queue may hold, which are as many as are left free.
    pub fn ranges_may_block_others(&self) -> bool {
        self.by_port || (self.setup.config.slots as usize) < 2 * self.requests_in_flight_max()
    }

    /// How long pieces rest that go to a device one after the other, each of which may find it busy, several times. Where
    /// nothing is in flight no completion wakes a reactor that sleeps, and it tries again after [`RETRY_AFTER`]; one that
    /// polls does so in its next turn.
    ///
    /// With the chance p of "busy" at each try, n pieces are refused n p / (1 - p) times on average. That they are refused
    /// twice as often and 50 times more, for which the wait of who finds no queue has room, happens less than once in 10^16
    /// waits at p = 0.3, for any n.
    fn resting_ns_max(&self, pieces: u64) -> u64 {
        if self.setup.idle == IdlePolicy::AlwaysPoll {
            return 0;
        }
        let busy = self.disks.iter().map(|disk| disk.conduct.busy_permille).max();
        let busy = busy.unwrap_or(0).min(999);
        (2 * pieces * busy).div_ceil(1000 - busy) * RETRY_AFTER.0
    }
}
