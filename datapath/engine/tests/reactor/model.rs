//! A reactor beside a volume of plain bytes. Whatever is asked, in whatever order devices answer, fail, are full or late,
//! and whatever changes meanwhile: each request is answered once and truly (invariant 1), data is where it belongs, no
//! request straddles two routes (7), nothing reaches a volume that was taken away, and all books balance after each turn.

mod plan;
mod sides;
mod steps;
mod turn;
mod world;

use crate::bench_of::mapping_of;
use palisade_block::mailbox::{AttachmentSettings, Notice, ReactorChange, ReactorCommand};
use palisade_block::stats::{AttachmentStats, Count, DeviceStats, ReactorStats};
use palisade_block::*;
use palisade_engine::{Reactor, ReactorConfig};
use palisade_words::{AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors, VolumeIndex};
use plan::{DEADLINE, DEVICES, HEADS, LAYOUTS, WINDOW};
use proptest::prelude::*;
use sides::Of;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use steps::{FAULTS, LENGTHS, OPS, Step, steps};
use turn::Turn;
use world::World;

struct Model {
    world: Rc<RefCell<World>>,
    reactor: Reactor<Of, Of, Of>,
    counts: Arc<AttachmentStats>,
    devices: Vec<Arc<DeviceStats>>,
    stats: Arc<ReactorStats>,
    generation: u64,
    /// The change announced, and whether another was before it of which nobody knows what came.
    announced: Option<(u64, bool)>,
    /// The route that was told last.
    agreed: u64,
    /// The change given up last.
    cancelled: u64,
    /// Commands that change nothing.
    stale: u64,
    stalled: [bool; DEVICES],
    stalls: [u64; DEVICES],
    /// Queues that the reactor has, or has not given back yet.
    served: [bool; 2],
    /// Revocations that have not been acknowledged.
    revoking: usize,
    turns: (u64, u64),
}

impl Model {
    fn new(write_through: bool) -> Model {
        let world = Rc::new(RefCell::new(World::new(write_through)));
        let config = ReactorConfig {
            slots: 6,
            parts: 4,
            long: 2,
            watch_every: Nanos(10),
        };
        let of = || Of(Rc::clone(&world), 0);
        let stats = Arc::new(ReactorStats::default());
        let mut model = Model {
            reactor: Reactor::new(config, of(), of(), Arc::clone(&stats)),
            world: Rc::clone(&world),
            counts: Arc::default(),
            devices: (0..DEVICES).map(|_| Arc::default()).collect(),
            stats,
            generation: 0,
            announced: None,
            agreed: 0,
            cancelled: 0,
            stale: 0,
            stalled: [false; DEVICES],
            stalls: [0; DEVICES],
            served: [false; 2],
            revoking: 0,
            turns: (0, 0),
        };
        for (device, stats) in (0..).zip(&model.devices) {
            model.reactor.apply(ReactorCommand::AddDevice {
                opened: (),
                device: DeviceIndex(device),
                stats: Arc::clone(stats),
                deadline: Nanos(DEADLINE),
            });
        }
        model.route(0);
        model.turn();
        (0..2).for_each(|queue| model.serve(queue));
        model
    }

    fn serve(&mut self, queue: usize) {
        self.served[queue] = true;
        let mut world = self.world.borrow_mut();
        // As whoever served it before may have left it.
        (world.stopping[queue], world.armed[queue]) = (false, true);
        let write_through = world.write_through;
        let revoked = world.revoked[queue].is_some();
        drop(world);
        self.reactor.apply(ReactorCommand::AddQueue {
            kick: None,
            queue: id(queue),
            settings: AttachmentSettings {
                volume: Some(VolumeIndex(0)),
                revoked,
                read_only: false,
                write_through,
                pace: Default::default(),
                stats: Arc::clone(&self.counts),
            },
            source: Of(Rc::clone(&self.world), queue),
        });
    }

    fn route(&mut self, layout: usize) {
        self.generation += 1;
        (self.announced, self.agreed) = (None, self.generation);
        {
            let mut world = self.world.borrow_mut();
            world.hold();
            (world.suspended, world.releasing) = (false, true);
            world.next_layout = Some(layout);
        }
        self.resume(layout, self.generation, 2);
        self.hear();
    }

    fn resume(&mut self, layout: usize, generation: u64, epoch: u64) {
        let generation = Generation(generation);
        let runs = LAYOUTS[layout].map(|(volume, sectors, device, lba)| Run {
            volume: Lba(volume),
            sectors: Sectors(sectors),
            device: DeviceIndex(device),
            lba: Lba(lba),
        });
        let route =
            Route::new(mapping_of(generation, Epoch(epoch)), runs.to_vec()).expect("runs without a gap");
        self.reactor.apply(ReactorChange::Resume {
            volume: VolumeIndex(0),
            route,
        });
    }

    fn suspend(&mut self, generation: u64) {
        {
            let mut world = self.world.borrow_mut();
            world.hold();
            world.suspended = true;
        }
        let (volume, generation) = (VolumeIndex(0), Generation(generation));
        let command = ReactorChange::Suspend { volume, generation };
        self.reactor.apply(command);
        self.hear();
    }

    fn cancel(&mut self, generation: u64) {
        let (volume, generation) = (VolumeIndex(0), Generation(generation));
        self.reactor.apply(ReactorChange::Cancel { volume, generation });
        self.hear();
    }

    /// Changes, announced, decided on, given up, or told late.
    fn change(&mut self, step: &Step) {
        match (step, self.announced) {
            (Step::Suspend, Some((generation, _))) if self.cancelled < generation => self.suspend(generation),
            (Step::Suspend, None) => {
                self.generation += 1;
                self.announced = Some((self.generation, false));
                self.suspend(self.generation);
            }
            (Step::Overtake, Some(_)) => {
                self.generation += 1;
                self.announced = Some((self.generation, true));
                self.suspend(self.generation);
            }
            (Step::Cancel, Some((generation, is_known))) => {
                if !is_known {
                    self.announced = None;
                    let mut world = self.world.borrow_mut();
                    (world.suspended, world.releasing) = (false, true);
                }
                self.cancelled = generation;
                self.cancel(generation);
            }
            // What is in force may be said again where the change after it was given up.
            (Step::Stale(0), _) if self.cancelled != self.generation => {
                self.told_late(|model| model.resume(1, model.generation - 1, 2))
            }
            (Step::Stale(1), _) => self.told_late(|model| model.suspend_late()),
            (Step::Stale(2), _) if self.cancelled != self.generation - 1 => {
                self.told_late(|model| model.cancel(model.generation - 1))
            }
            (Step::Stale(3), _) => self.told_late(|model| model.resume(1, model.generation + 1, 1)),
            _ => {}
        }
    }

    fn suspend_late(&mut self) {
        let (volume, generation) = (VolumeIndex(0), Generation(self.generation - 1));
        self.reactor.apply(ReactorChange::Suspend { volume, generation });
    }

    fn told_late(&mut self, tell: impl FnOnce(&mut Model)) {
        self.stale += 1;
        tell(self);
        self.hear();
        assert_eq!(self.stats.stale_commands.get(), self.stale);
    }

    fn step(&mut self, step: &Step) {
        let mut world = self.world.borrow_mut();
        match *step {
            // Reads and writes are the most.
            Step::Ask(head, queue, op, range, (offset, gap, lengths)) => {
                let op = OPS[op.checked_sub(4).unwrap_or(op % 2)];
                world.ask(head, queue, op, range, (offset, gap, LENGTHS[lengths]));
            }
            Step::End(which, fault) => world.end(which, fault.map(|fault| FAULTS[fault])),
            Step::EndAll => (0..world.pending.len()).for_each(|_| world.end(0, None)),
            Step::Busy(device, busy) => world.disks[device].busy = busy,
            Step::AtOnce(device, at_once) => world.disks[device].at_once = at_once,
            Step::Fail(device, fault) if world.disks[device].at_once => {
                world.disks[device].fault = Some(FAULTS[fault]);
            }
            Step::Fail(..) => {}
            Step::Suspend | Step::Cancel | Step::Overtake | Step::Stale(_) => {
                drop(world);
                self.change(step);
            }
            Step::Turn | Step::Sleep | Step::Late | Step::Route | Step::Stop(_) | Step::Revoke => {
                drop(world);
                self.reactor_step(step);
            }
        }
    }

    fn reactor_step(&mut self, step: &Step) {
        match *step {
            Step::Late => {
                self.world.borrow_mut().now += 2 * DEADLINE;
                self.turn();
                let world = self.world.borrow();
                let late = |pending: &&world::Pending| world.now - pending.since >= DEADLINE;
                assert!(world.pending.iter().filter(late).all(|pending| pending.cancelled));
                for (device, stats) in self.devices.iter().enumerate() {
                    let of = world.pending.iter().filter(|pending| pending.device == device);
                    let oldest = of.map(|pending| world.now - pending.since).max();
                    assert_eq!(stats.oldest_ns.get(), oldest.unwrap_or(0));
                    assert_eq!(
                        self.stalled[device],
                        oldest.is_some_and(|oldest| oldest >= DEADLINE)
                    );
                }
            }
            Step::Route => {
                let layout = self.generation as usize % LAYOUTS.len();
                self.route(layout);
            }
            Step::Stop(queue) if self.served[queue] => {
                self.world.borrow_mut().stopping[queue] = true;
                self.reactor.apply(ReactorCommand::StopQueue { queue: id(queue) });
                self.hear();
            }
            Step::Stop(queue) => self.serve(queue),
            Step::Sleep => self.sleep(),
            Step::Revoke => {
                {
                    let mut world = self.world.borrow_mut();
                    world.event += 1;
                    world.releasing = true;
                    world.revoked[1] = world.revoked[1].or(Some(world.event));
                }
                self.revoking += 1;
                let attachment = id(1).attachment;
                self.reactor.apply(ReactorChange::Revoke { attachment });
                self.hear();
            }
            _ => self.turn(),
        }
    }

    /// Nobody sleeps over work, nor stays awake for nothing; whatever is under way is looked at again.
    fn sleep(&mut self) {
        let wakes = !self.world.borrow().ended.is_empty() || self.reactor.is_held_up();
        let awake = self.reactor.arm();
        let watched = self.reactor.in_flight() > 0 || self.stalled.contains(&true);
        assert_eq!(self.reactor.due().is_some(), watched);
        self.reactor.disarm();
        let done = self.work();
        assert!(done == 0 || awake || wakes, "it sleeps over work");
        // That the next request is long, and there is no list for it, is known only after it was looked at.
        assert!(
            done > 0 || !awake || !self.reactor.arm(),
            "it is awake for nothing"
        );
        self.reactor.disarm();
    }

    fn turn(&mut self) {
        self.work();
    }

    /// A turn: how much it did.
    fn work(&mut self) -> usize {
        let now = {
            let mut world = self.world.borrow_mut();
            world.now += 1;
            world.turn = Turn::default();
            world.now
        };
        let sent_again = match self.world.borrow().releasing {
            true => self.world.borrow().taken(),
            false => 0,
        };
        let is_in_use = self.world.borrow().next_layout.is_none();
        let work = self.reactor.turn(Nanos(now));
        self.reactor.check();
        {
            let mut world = self.world.borrow_mut();
            let failed = world.heads.iter().flatten().filter(|asked| asked.failed).count();
            world.turn.hold_against(work, failed, sent_again);
            world.releasing &= !is_in_use;
        }
        self.turns.0 += 1;
        self.turns.1 += u64::from(work > 0);
        self.hear();
        self.check(work > 0);
        work
    }

    fn hear(&mut self) {
        while let Some(notice) = self.reactor.next_notice() {
            self.heed(notice);
        }
    }

    fn heed(&mut self, notice: Notice<Of, Of>) {
        let mut world = self.world.borrow_mut();
        match notice {
            Notice::RouteInUse { generation, .. } => {
                assert!(generation.0 <= self.generation);
                // One may have been replaced by a newer one before it came into use.
                if generation.0 == self.agreed
                    && let Some(layout) = world.next_layout.take()
                {
                    world.layout = layout;
                }
            }
            Notice::Suspended { generation, .. } => {
                let announced = self.announced.map(|(generation, _)| generation);
                assert_eq!(announced, Some(generation.0), "of another change");
                assert!(world.pending.is_empty(), "devices have something of it");
                assert_eq!(self.stats.parked.get(), world.taken() as u64);
            }
            Notice::Cancelled { .. } => assert!(self.announced.is_none()),
            Notice::Stale { epoch, .. } => assert!(epoch >= Epoch(2)),
            Notice::DeviceFenced { .. } => unreachable!("no device refuses the node"),
            Notice::Parked { .. } => unreachable!("no route lets faults wait"),
            Notice::VolumeEnded { .. } => unreachable!("the volume never ends"),
            Notice::QueueStopped { queue, source } => {
                let (number, Of(..)) = (usize::from(queue.queue), source.expect("it was served"));
                let mine = |asked: &&world::Asked| asked.queue == number && asked.taken.is_some();
                assert_eq!(
                    world.heads.iter().flatten().filter(mine).count(),
                    0,
                    "given back too soon"
                );
                assert_eq!(world.backlog[number], 0);
                self.served[number] = false;
            }
            Notice::DeviceStalled { device, oldest } => {
                let stalled = &mut self.stalled[device.usize()];
                *stalled = !*stalled;
                assert_eq!(*stalled, oldest > Nanos(0), "the same is told twice");
                self.stalls[device.usize()] += u64::from(*stalled);
            }
            Notice::Revoked { attachment } => {
                assert_eq!(attachment, id(1).attachment);
                self.revoking = self.revoking.checked_sub(1).expect("told once each");
                let mine = |asked: &&world::Asked| asked.queue == 1 && asked.taken.is_some();
                assert_eq!(
                    world.heads.iter().flatten().filter(mine).count(),
                    0,
                    "told too soon"
                );
            }
            Notice::DeviceClosed { .. } => unreachable!("no device is closed"),
            Notice::DeviceUnusable { .. } => unreachable!("each can be opened"),
            Notice::MemoryReleased { .. } => unreachable!("none is pinned"),
            Notice::QueueStalled { .. } => unreachable!("no steps are timed"),
        }
    }

    /// What is under way, as the reactor counts it and as it is.
    fn check(&self, worked: bool) {
        let world = self.world.borrow();
        let taken = world
            .heads
            .iter()
            .flatten()
            .filter(|asked| asked.taken.is_some())
            .count() as u64;
        assert_eq!(u64::from(self.reactor.in_flight()), taken);
        let is_held = world.suspended || world.next_layout.is_some();
        assert!(
            is_held || self.stats.parked.get() == 0,
            "forgotten where it is parked"
        );
        assert_eq!(self.counts.in_flight.get(), taken);
        if worked {
            assert_eq!(self.stats.slots_used.get(), taken);
        }
        for (device, stats) in self.devices.iter().enumerate() {
            let pending = world
                .pending
                .iter()
                .filter(|pending| pending.device == device)
                .count();
            assert_eq!(stats.in_flight.get(), pending as u64);
        }
        assert_eq!(
            self.stats.buffers_used.get(),
            (plan::BUFFERS - world.free.len()) as u64
        );
        let of_revoked = |asked: &world::Asked| asked.queue == 1 && asked.taken.is_some();
        assert!(
            self.revoking == 0 || world.heads.iter().flatten().any(of_revoked),
            "what has come to rest is told in the same turn"
        );
        assert_eq!(world.unseen, [false; 2], "answers that nobody was shown");
        assert_eq!((self.stats.turns.get(), self.stats.busy_turns.get()), self.turns);
    }

    /// Devices answer all, without a fault, until nothing is under way.
    fn drain(&mut self) {
        if self.announced.is_some() {
            self.route(self.generation as usize % LAYOUTS.len());
        }
        for disk in &mut self.world.borrow_mut().disks {
            (disk.busy, disk.fault) = (false, None);
        }
        for _ in 0..2000 {
            for queue in 0..2 {
                if !self.served[queue] {
                    self.serve(queue);
                }
            }
            self.turn();
            let mut world = self.world.borrow_mut();
            (0..world.pending.len()).for_each(|_| world.end(0, None));
            let idle = world.heads.iter().all(Option::is_none) && world.ended.is_empty();
            if idle && !world.stopping.contains(&true) {
                break;
            }
        }
        let world = self.world.borrow();
        assert_eq!(self.revoking, 0);
        assert!(
            world.heads.iter().all(Option::is_none),
            "left unanswered: {:?}",
            world.heads
        );
    }

    /// Nothing is under way: what the counters say, and what lies in memory and on the media.
    fn settle(&self) {
        let world = self.world.borrow();
        let values = |counts: &[Count]| counts.iter().map(Count::get).collect::<Vec<_>>();
        for kind in 0..Op::KINDS {
            assert_eq!(
                values(&self.counts.answered[kind]),
                world.answered[kind],
                "{}",
                Op::NAMES[kind]
            );
            assert_eq!(
                self.counts.latency[kind].sum_ns(),
                world.latency[kind],
                "{}",
                Op::NAMES[kind]
            );
        }
        assert_eq!(values(&self.counts.bytes), world.bytes);
        assert_eq!(self.counts.refused.get(), world.refused);
        assert_eq!(self.counts.bounced.get(), world.bounced);
        assert_eq!(by_kind(&self.counts.faults), nonzero(&world.faults));
        for ((disk, stats), stalls) in world.disks.iter().zip(&self.devices).zip(self.stalls) {
            assert_eq!(stats.finished.get(), disk.finished);
            assert_eq!(by_kind(&stats.faults), nonzero(&disk.faults));
            assert_eq!(stats.stalls.get(), stalls);
        }
        let wrong = |(at, (is, due)): (usize, (&u8, &Option<u8>))| due.filter(|due| due != is).map(|_| at);
        let media = world.media.iter().zip(&world.media_due).enumerate();
        assert_eq!(media.filter_map(wrong).next(), None, "on the media");
        let guest = ..world.memory.len() - plan::BUFFERS * limits::BOUNCE_BYTES;
        assert!(
            world.memory[guest] == world.memory_due[guest],
            "in the guest's memory"
        );
    }

    /// How much the reactor lets requests have that nobody answers, by device: short of slots, parts, buffers and lists.
    fn hoard(&mut self, lengths: &[usize]) -> Vec<usize> {
        {
            let mut world = self.world.borrow_mut();
            for (head, at) in (0..HEADS).zip([0u64, 8].into_iter().cycle()) {
                let op = if head % 2 == 0 { Op::Write } else { Op::Read };
                world.ask(head, 0, op, (at, WINDOW - at), (0, 0, lengths));
            }
            world.disks.iter_mut().for_each(|disk| disk.at_once = false);
        }
        (0..4).for_each(|_| self.turn());
        let world = self.world.borrow();
        let of = |device| {
            world
                .pending
                .iter()
                .filter(|pending| pending.device == device)
                .count()
        };
        (0..DEVICES).map(of).collect()
    }
}

fn id(queue: usize) -> QueueId {
    QueueId {
        attachment: AttachmentIndex(queue as u16),
        queue: queue as u16,
    }
}

fn by_kind(counts: &[Count]) -> BTreeMap<usize, u64> {
    nonzero(&counts.iter().map(Count::get).enumerate().collect())
}

fn nonzero(counts: &BTreeMap<usize, u64>) -> BTreeMap<usize, u64> {
    counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| (*kind, *count))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_request_is_answered_once_and_truly(write_through: bool, steps in steps()) {
        let mut model = Model::new(write_through);
        for step in &steps {
            model.step(step);
        }
        model.drain();
        model.settle();
        // Whatever came before, as much may be had as at the first: nothing is still booked on anybody.
        if model.world.borrow().layout != 0 {
            model.route(0);
            model.turn();
        }
        for (lengths, at_first) in HOARDED.iter() {
            prop_assert_eq!(&model.hoard(lengths), at_first, "{:?}", lengths);
            model.drain();
            model.settle();
        }
    }
}

/// What a reactor gives away that has served nobody yet, with requests of such segments.
static HOARDED: LazyLock<Vec<(&[usize], Vec<usize>)>> = LazyLock::new(|| {
    let of = |lengths: &'static [usize]| {
        let mut model = Model::new(false);
        let had = model.hoard(lengths);
        model.drain();
        (lengths, had)
    };
    [&[33][..], &[512], &[WINDOW as usize * 512]].map(of).to_vec()
});
