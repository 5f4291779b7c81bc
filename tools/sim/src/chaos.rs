//! What goes wrong while guests work, and how it ends.

use crate::daemon::Daemon;
use crate::disk::Conduct;
use crate::plan::Chaos;
use crate::tenant::Phase;
use crate::world::{Later, World, route_of};
use palisade_block::limits::{RANGE_GRACE, RANGE_PAUSE_MAX};
use palisade_block::mailbox::Command;
use palisade_block::{Fault, Nanos};
use palisade_words::{Generation, Sectors, VolumeIndex};

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
            Chaos::Slow => self.afflict(|conduct, _| conduct.latency_ns = (500_000, 3_000_000)),
            Chaos::Gone => {
                let disk = self.rng.index(self.plan.disks.len());
                self.make_ill(disk);
                let mut rack = self.rack.borrow_mut();
                if let Some(disk) = rack.disks.get_mut(disk) {
                    disk.gone = true;
                }
                // The kernel gives back what it had for a disk that is no more, even if it hung before.
                rack.resume_hung();
            }
            Chaos::Reset => {
                let index = self.rng.index(self.tenants.len());
                self.reset(index);
            }
            Chaos::Reroute => {
                let index = self.rng.index(self.tenants.len());
                self.reroute(index);
            }
            Chaos::Grow => self.grow(),
            Chaos::TakeAway => {
                let index = self.rng.index(self.tenants.len());
                self.take_away(index);
            }
            Chaos::WriteCache => {
                let index = self.rng.index(self.tenants.len());
                if let (Some(tenant), Some(daemon)) = (self.tenants.get_mut(index), &mut self.daemon) {
                    tenant.switch_write_cache(daemon, self.plan.setup.reactors);
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
        }
    }

    /// The process ends, in whatever state it is; a new one follows.
    pub(crate) fn die(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        daemon.kill();
        self.end_moves();
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
        if self.draining || self.tenants.iter().any(|tenant| tenant.phase == Phase::Stopping) {
            return;
        }
        self.draining = true;
        for (reactor, queue) in self.tenants.iter().flat_map(|tenant| tenant.queue_ids(reactors)) {
            daemon.tell(reactor, Command::StopQueue { queue });
        }
    }

    fn power_cut(&mut self) {
        self.ticks.set(self.ticks.get() + 1);
        for tenant in &mut self.tenants {
            tenant.watch.borrow_mut().power_cut(self.ticks.get());
            tenant.guest.lose_power();
            tenant.phase = Phase::Stopping;
        }
        self.rack.borrow_mut().power_cut();
        self.die();
        // The machine comes up and looks at everything first.
        for tenant in &mut self.tenants {
            tenant.sweep_first = true;
        }
    }

    pub(crate) fn reset(&mut self, index: usize) {
        let reactors = self.plan.setup.reactors;
        let (Some(daemon), Some(tenant)) = (&mut self.daemon, self.tenants.get_mut(index)) else {
            return;
        };
        if tenant.phase == Phase::Stopping || self.draining {
            return;
        }
        tenant.phase = Phase::Stopping;
        for (reactor, queue) in tenant.queue_ids(reactors) {
            daemon.tell(reactor, Command::StopQueue { queue });
        }
        self.disturbed = self.now;
    }

    fn reroute(&mut self, index: usize) {
        // Now and then the same route again, or anew while the content still moves.
        if !self.rng.one_in(4) {
            self.begin_move(index);
        }
        let Some(tenant) = self.tenants.get_mut(index) else {
            return;
        };
        tenant.generation += 1;
        self.announce(index);
    }

    fn grow(&mut self) {
        let index = self.rng.index(self.tenants.len());
        let Some(tenant) = self.tenants.get_mut(index) else {
            return;
        };
        let Some(last) = tenant.runs.last_mut().filter(|_| !tenant.grown) else {
            return;
        };
        last.sectors = Sectors(last.sectors.0 + 64);
        tenant.grown = true;
        tenant.generation += 1;
        self.announce(index);
        // The guest hears of it once the reactors have it: those that have not yet may refuse the new sectors.
        if let Some(tenant) = self.tenants.get_mut(index) {
            tenant.grow_at = Some(tenant.generation);
        }
    }

    /// Tells all reactors of a tenant's route.
    fn announce(&mut self, index: usize) {
        let (Some(daemon), Some(tenant)) = (&mut self.daemon, self.tenants.get(index)) else {
            return;
        };
        for reactor in 0..self.plan.setup.reactors {
            daemon.tell(
                reactor,
                Command::SetRoute {
                    volume: VolumeIndex(tenant.number),
                    route: route_of(tenant),
                    generation: Generation(tenant.generation),
                },
            );
        }
        self.disturbed = self.now;
    }

    fn afflict(&mut self, how: impl FnOnce(&mut Conduct, &mut crate::rng::Rng)) {
        let disk = self.rng.index(self.plan.disks.len());
        self.make_ill(disk);
        let mut conduct = self.healthy(disk);
        how(&mut conduct, &mut self.rng);
        if let Some(disk) = self.rack.borrow_mut().disks.get_mut(disk) {
            disk.conduct = conduct;
        }
        self.later(1_000_000, 120_000_000, Later::Heal(disk));
    }

    fn make_ill(&mut self, disk: usize) {
        if let Some(ill) = self.ill.get_mut(disk) {
            ill.get_or_insert(self.now);
        }
        for tenant in self
            .tenants
            .iter()
            .filter(|tenant| tenant.disks().contains(&disk))
        {
            // From here on errors are allowed: requests in flight when the disk is healed may still carry one.
            tenant.watch.borrow_mut().may_fail = true;
        }
    }

    fn heal(&mut self, disk: usize) {
        let conduct = self.healthy(disk);
        let mut rack = self.rack.borrow_mut();
        let Some(place) = rack.disks.get_mut(disk) else {
            return;
        };
        if place.gone {
            return;
        }
        place.conduct = conduct;
        rack.resume_hung();
        if let (Some(ill), Some(pause)) = (self.ill.get_mut(disk), self.pauses.get_mut(disk)) {
            let lasted = ill.take().map_or(Nanos(0), |since| self.now.since(since));
            // What the disk had all that time comes back now; then each reactor pauses, and gives turns to those who wait.
            *pause = self.now.after(lasted.min(RANGE_PAUSE_MAX)).after(RANGE_GRACE);
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
