//! What goes wrong while guests work, and how it ends.

use crate::daemon::Daemon;
use crate::disk::Conduct;
use crate::plan::Chaos;
use crate::vm::Phase;
use crate::world::{Later, World, command_of};
use palisade_block::limits::{RANGE_GRACE, RANGE_PAUSE_MAX};
use palisade_block::mailbox::{ReactorChange, ReactorCommand};
use palisade_block::{Fault, Nanos};
use palisade_words::{DeviceIndex, Generation, Sectors, VolumeIndex};

impl World {
    /// Something goes wrong.
    pub(crate) fn strike(&mut self, event: Chaos) {
        match event {
            Chaos::Kill => {
                // In the middle of a turn if one comes soon, between two turns otherwise.
                if let (Some(daemon), true) = (&self.daemon, self.rng.one_in(2)) {
                    daemon.fuse.light(self.rng.below(60) as u32);
                }
                self.later(20_000, 200_000, Later::Die);
            }
            Chaos::Restart => self.drain(),
            Chaos::PowerCut => self.power_cut(),
            Chaos::Hang => self.afflict(|conduct, rng| {
                conduct.hangs = true;
                conduct.cancellable = rng.one_in(2);
                conduct.busy_permille = if rng.one_in(2) { 0 } else { 300 };
            }),
            Chaos::Fail => self.afflict(|conduct, rng| {
                conduct.fail_permille = rng.between(20, 1000);
                conduct.fault = [Fault::Media, Fault::NoSpace, Fault::Gone][rng.index(3)];
            }),
            Chaos::Unreachable => self.afflict(|conduct, rng| {
                conduct.fail_permille = rng.between(100, 1000);
                conduct.fault = [Fault::Unreachable, Fault::Gone, Fault::TimedOut][rng.index(3)];
            }),
            Chaos::Unheard => self.afflict(|conduct, rng| {
                conduct.loses_permille = rng.between(20, 600);
                conduct.cancellable = rng.one_in(2);
            }),
            Chaos::Fenced => self.afflict(|conduct, _| {
                (conduct.fail_permille, conduct.fault) = (1000, Fault::Fenced);
            }),
            Chaos::Slow => self.afflict(|conduct, _| conduct.latency_ns = (500_000, 3_000_000)),
            Chaos::Gone => {
                let disk = self.rng.index(self.plan.disks.len());
                self.make_ill(disk);
                let mut array = self.array.borrow_mut();
                if let Some(disk) = array.disks.get_mut(disk) {
                    disk.gone = true;
                }
                // The kernel gives back what it had for a disk that is no more, even if it hung before.
                array.resume_hung();
            }
            Chaos::Reset => {
                let index = self.rng.index(self.vms.len());
                self.reset(index);
            }
            Chaos::Reroute => {
                let index = self.rng.index(self.vms.len());
                self.reroute(index);
            }
            Chaos::Remap => {
                let index = self.rng.index(self.vms.len());
                self.begin_remap(index);
            }
            Chaos::Grow => self.grow(),
            Chaos::TakeAway => {
                let index = self.rng.index(self.vms.len());
                self.take_away(index);
            }
            Chaos::WriteCache => {
                let index = self.rng.index(self.vms.len());
                if let (Some(vm), Some(daemon)) = (self.vms.get_mut(index), &mut self.daemon) {
                    vm.switch_write_cache(daemon, self.plan.setup.reactors);
                }
            }
        }
    }

    /// Something that was planned happens.
    pub(crate) fn happens(&mut self, later: Later) {
        match later {
            Later::Heal(disk) => self.heal(disk),
            Later::Start if self.daemon.is_none() => self.start_daemon(),
            Later::Start => {}
            Later::Die => self.die(),
            Later::GiveOn(index) => self.give_on(index),
            Later::Hear(said) => self.hear(said),
            Later::Mend(index) => self.mend(index),
            Later::Decide(index, generation) => self.decide(index, generation),
        }
    }

    /// The process ends, in whatever state it is; a new one follows.
    pub(crate) fn die(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        daemon.kill();
        self.end_moves();
        self.end_remaps();
        self.refused.clear();
        self.draining = false;
        self.later(100_000, 5_000_000, Later::Start);
    }

    /// Everybody is well again.
    pub(crate) fn heal_all(&mut self) {
        for disk in 0..self.plan.disks.len() {
            self.heal(disk);
        }
    }

    fn drain(&mut self) {
        let reactors = self.plan.setup.reactors;
        let Some(daemon) = &mut self.daemon else { return };
        if self.draining || self.vms.iter().any(|vm| vm.phase == Phase::Stopping) {
            return;
        }
        self.draining = true;
        for (reactor, queue) in self.vms.iter().flat_map(|vm| vm.queue_ids(reactors)) {
            daemon.tell(reactor, ReactorCommand::StopQueue { queue });
        }
    }

    fn power_cut(&mut self) {
        self.ticks.set(self.ticks.get() + 1);
        for vm in &mut self.vms {
            vm.watch.borrow_mut().power_cut(self.ticks.get());
            vm.guest.lose_power();
            vm.phase = Phase::Stopping;
        }
        self.array.borrow_mut().power_cut();
        self.die();
        // The machine comes up and looks at everything first.
        for vm in &mut self.vms {
            vm.sweep_first = true;
        }
    }

    pub(crate) fn reset(&mut self, index: usize) {
        let reactors = self.plan.setup.reactors;
        let (Some(daemon), Some(vm)) = (&mut self.daemon, self.vms.get_mut(index)) else {
            return;
        };
        if vm.phase == Phase::Stopping || self.draining {
            return;
        }
        vm.phase = Phase::Stopping;
        for (reactor, queue) in vm.queue_ids(reactors) {
            daemon.tell(reactor, ReactorCommand::StopQueue { queue });
        }
        self.disturbed = self.now;
    }

    fn reroute(&mut self, index: usize) {
        if self.is_remapped(index) {
            return;
        }
        // Now and then the same route again, or anew while the content still moves.
        if !self.rng.one_in(4) {
            self.begin_move(index);
        }
        let Some(vm) = self.vms.get_mut(index) else {
            return;
        };
        vm.generation += 1;
        self.announce(index);
    }

    fn grow(&mut self) {
        let index = self.rng.index(self.vms.len());
        if self.is_remapped(index) {
            return;
        }
        let Some(vm) = self.vms.get_mut(index) else {
            return;
        };
        let Some(last) = vm.runs.last_mut().filter(|_| !vm.grown) else {
            return;
        };
        last.sectors = Sectors(last.sectors.0 + 64);
        vm.grown = true;
        vm.generation += 1;
        self.announce(index);
        // The guest hears of it once the reactors have it: those that have not yet may refuse the new sectors.
        if let Some(vm) = self.vms.get_mut(index) {
            vm.grow_at = Some(vm.generation);
        }
    }

    /// Tells all reactors of a VM's route.
    fn announce(&mut self, index: usize) {
        let (Some(daemon), Some(vm)) = (&mut self.daemon, self.vms.get(index)) else {
            return;
        };
        for reactor in 0..self.plan.setup.reactors {
            daemon.tell(reactor, command_of(vm, vm.generation, self.epoch, false));
        }
        self.disturbed = self.now;
    }

    /// Requests of volumes are parked by faults: somebody looks after that.
    pub(crate) fn look_after_parked(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        for number in std::mem::take(&mut daemon.parked) {
            self.later(100_000, 3_000_000, Later::Mend(usize::from(number)));
        }
    }

    /// When its disks are well the volume has its route again; now and then somebody decides that nobody heals it.
    fn mend(&mut self, index: usize) {
        let Some(vm) = self.vms.get(index) else { return };
        let is_ill = vm
            .disks()
            .iter()
            .any(|disk| self.ill.get(*disk).is_some_and(Option::is_some));
        let fails = self.rng.one_in(8);
        if self.is_remapped(index) || (is_ill && !fails) {
            return self.later(100_000, 3_000_000, Later::Mend(index));
        }
        if fails {
            vm.watch.borrow_mut().may_fail = true;
            let (volume, generation) = (VolumeIndex(vm.number), Generation(vm.generation));
            let Some(daemon) = &mut self.daemon else { return };
            let reactors = 0..self.plan.setup.reactors;
            reactors.for_each(|reactor| daemon.tell(reactor, ReactorChange::Fail { volume, generation }));
            self.disturbed = self.now;
            return;
        }
        self.take_again();
        if let Some(vm) = self.vms.get_mut(index) {
            vm.generation += 1;
        }
        self.announce(index);
    }

    /// Notes which disks have refused a reactor, and gives it those again that it has let go of for that.
    pub(crate) fn note_fenced(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        for (reactor, device) in std::mem::take(&mut daemon.fenced) {
            self.array.borrow_mut().fence(reactor, device);
            self.refused.push((reactor, device));
        }
        for (reactor, device) in std::mem::take(&mut daemon.idle) {
            self.array.borrow_mut().admit(reactor, device);
            let (stats, deadline) = (Default::default(), self.plan.deadline);
            let add = ReactorCommand::AddDevice {
                opened: (),
                device,
                stats,
                deadline,
            };
            daemon.tell(reactor, add);
        }
    }

    /// Disks that are well and have refused a reactor are given to it again: the reservation is had.
    fn take_again(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let ill = &self.ill;
        let is_well = |device: DeviceIndex| ill.get(device.usize()).is_some_and(Option::is_none);
        for (reactor, device) in self.refused.extract_if(.., |(_, device)| is_well(*device)) {
            daemon.tell(reactor, ReactorChange::CloseDevice { device });
        }
    }

    fn afflict(&mut self, how: impl FnOnce(&mut Conduct, &mut crate::rng::Rng)) {
        let disk = self.rng.index(self.plan.disks.len());
        self.make_ill(disk);
        let mut conduct = self.healthy(disk);
        how(&mut conduct, &mut self.rng);
        if let Some(disk) = self.array.borrow_mut().disks.get_mut(disk) {
            disk.conduct = conduct;
        }
        self.later(1_000_000, 120_000_000, Later::Heal(disk));
    }

    fn make_ill(&mut self, disk: usize) {
        if let Some(ill) = self.ill.get_mut(disk) {
            ill.get_or_insert(self.now);
        }
        for vm in self.vms.iter().filter(|vm| vm.disks().contains(&disk)) {
            // From here on errors are allowed: requests in flight when the disk is healed may still carry one.
            vm.watch.borrow_mut().may_fail |= !vm.parks_faults();
        }
    }

    fn heal(&mut self, disk: usize) {
        let conduct = self.healthy(disk);
        let mut array = self.array.borrow_mut();
        let Some(place) = array.disks.get_mut(disk) else {
            return;
        };
        if place.gone {
            return;
        }
        place.conduct = conduct;
        array.resume_hung();
        if let (Some(ill), Some(pause)) = (self.ill.get_mut(disk), self.pauses.get_mut(disk)) {
            let lasted = ill.take().map_or(Nanos(0), |since| self.now.since(since));
            // What the disk had all that time comes back now; then each reactor pauses, and gives turns to those who wait.
            // A disk that was made ill twice is healed twice: the second time ends no pause of the first.
            let until = self.now.after(lasted.min(RANGE_PAUSE_MAX)).after(RANGE_GRACE);
            *pause = until.max(*pause);
        }
        self.disturbed = self.now;
    }

    pub(crate) fn later(&mut self, from_ns: u64, to_ns: u64, what: Later) {
        let at = self.now.after(Nanos(self.rng.between(from_ns, to_ns)));
        self.agenda.plan(at, what);
    }

    /// The process, for a look.
    pub(crate) fn daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref()
    }
}
