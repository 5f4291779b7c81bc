//! What is checked while a run goes on and when it has come to rest: waits have a bound and an owner (12), damage
//! stays where it is (11), nothing is left behind.

use crate::daemon::Daemon;
use crate::finding::Invariant;
use crate::vm::{Phase, Vm};
use crate::world::World;
use palisade_block::Nanos;
use palisade_words::{DeviceIndex, Lba, Sectors};

/// Longest wait of a request whose disks are all well, in ns: hundreds of the slowest healthy operations. Where slots,
/// parts or buffers are scarce, the time in which all that is in flight passes through them comes on top.
const WAIT_NS_MAX: u64 = 60_000_000;

impl World {
    /// Looks at the oldest requests of every guest.
    pub(crate) fn check_waits(&self) {
        let Some(daemon) = self.daemon() else { return };
        let running = self
            .vms
            .iter()
            .filter(|vm| vm.phase == Phase::Running && !vm.is_paced());
        for vm in running {
            for is_range in [false, true] {
                self.check_wait(daemon, vm, is_range);
            }
        }
    }

    fn check_wait(&self, daemon: &Daemon, vm: &Vm, is_range: bool) {
        let reactors = self.plan.setup.reactors;
        let wait_ns_max = WAIT_NS_MAX + self.plan.queueing_ns_max();
        let Some(since) = vm.guest.oldest(is_range) else {
            return;
        };
        let disks = vm.disks();
        let pauses = disks.iter().filter_map(|disk| self.pauses.get(*disk));
        // Ranges that pause keep nothing else from a queue, while there is room for both.
        let waits_for_ranges = is_range || self.plan.ranges_may_block_others();
        let paused = pauses.filter(|_| waits_for_ranges).max();
        let paused = paused.copied().unwrap_or_default();
        let age = self.now.since(since.max(self.disturbed).max(paused));
        let ill: Vec<usize> = disks
            .iter()
            .copied()
            .filter(|disk| self.ill[*disk].is_some())
            .collect();
        if ill.is_empty() {
            // Where no reactor has anything in flight it is not somebody else's damage that keeps it: it is lost.
            let (invariant, why) = match daemon.in_flight() {
                0 => (Invariant::OneAnswer, "and no reactor has it"),
                _ => (Invariant::Isolation, "although its disks are well"),
            };
            if age.0 > wait_ns_max && !self.draining {
                self.late(invariant, vm, is_range, age, why);
            }
            return;
        }
        let bound = self.plan.deadline.0 + 4 * self.plan.setup.config.watch_every.0 + wait_ns_max;
        let hung = |disk: &usize| self.array.borrow().disks[*disk].conduct.hangs;
        // A disk that gives back what it is asked for moves for a moment each time, until the next is late.
        let reported = |disk: &usize| {
            (0..reactors).any(|at| {
                let key = (at, DeviceIndex(*disk as u16));
                let moved = daemon.moved_at.get(&key);
                daemon.stalled.contains(&key) || moved.is_some_and(|at| self.now.since(*at).0 < bound)
            })
        };
        if age.0 > bound && ill.iter().all(hung) && !ill.iter().any(reported) {
            let why = "and no disk is reported as stalled";
            self.late(Invariant::BoundedWaiting, vm, is_range, age, why);
        }
    }

    /// Nobody goes faster than his limit allows, over however many queues and reactors.
    pub(crate) fn check_limits(&self) {
        for vm in self.vms.iter().filter(|vm| vm.is_paced()) {
            let (taken, allowed) = vm.taken_and_allowed(self.now);
            if taken > allowed {
                let what = format!(
                    "{taken} requests of guest {} were taken, where its limit allows {allowed}",
                    vm.number
                );
                self.findings.add(Invariant::DataPath, self.now, what);
            }
        }
    }

    /// After the last answer: everything is given back, and nothing was touched that is nobody's.
    pub(crate) fn check_rest(&self) {
        let wrong = |what: String| self.findings.add(Invariant::BoundedWaiting, self.now, what);
        let Some(daemon) = self.daemon() else { return };
        if daemon.in_flight() > 0 {
            wrong(format!(
                "{} slots are in use though nobody waits",
                daemon.in_flight()
            ));
        }
        let buffers = daemon.buffers_out();
        if buffers > 0 {
            wrong(format!("{buffers} bounce buffers were never given back"));
        }
        if let Some((reactor, device)) = daemon.stalled.iter().next() {
            wrong(format!("reactor {reactor} still reports {device:?} as stalled"));
        }
        let array = self.array.borrow();
        for reactor in 0..self.plan.setup.reactors {
            if array.in_flight(reactor) > 0 {
                wrong(format!(
                    "reactor {reactor} has operations in flight that nobody waits for"
                ));
            }
        }
        if self.plan.broken.is_some() {
            return;
        }
        self.check_places_left(&array);
        for &(disk, lba, sectors) in &self.gaps {
            let gap = array.disks[disk].medium.read(Lba(lba), Sectors(sectors));
            if gap.iter().any(|byte| *byte != 0) {
                let what = format!("disk {disk}: sectors from {lba} on belong to no volume and were written");
                self.findings.add(Invariant::ForeignBytes, self.now, what);
            }
        }
    }

    /// Who waits for what, for a report.
    pub(crate) fn waiting(&self) -> String {
        let mut parts: Vec<String> = self
            .vms
            .iter()
            .filter(|vm| !vm.is_done())
            .map(|vm| {
                let guest = &vm.guest;
                let (flight, left, phase) = (guest.in_flight(), guest.left, vm.phase);
                format!(
                    "guest {} ({phase:?}) has {flight} in flight and {left} to go",
                    vm.number
                )
            })
            .collect();
        parts.push(format!("{} events to come", self.events.len()));
        parts.join(", ")
    }

    fn late(&self, invariant: Invariant, vm: &Vm, is_range: bool, age: Nanos, why: &str) {
        let request = vm.guest.oldest_request(is_range);
        let what = format!(
            "guest {} has waited {} us for a {request}, {why}",
            vm.number,
            age.0 / 1000
        );
        self.findings.add(invariant, self.now, what);
    }
}
