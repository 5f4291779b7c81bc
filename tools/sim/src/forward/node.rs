//! One node: a reactor of the daemon's engine over disks of its own and sessions with all other nodes, a run at a time.

use super::hands::{Hands, REACTOR};
use super::network::{Network, SimConnection};
use crate::array::Array;
use crate::finding::{Findings, Invariant};
use crate::pool::SimPool;
use crate::rng::Rng;
use crate::source::SimSource;
use palisade_block::mailbox::{AttachmentSettings, Notice, Pace, ReactorChange, ReactorCommand};
use palisade_block::stats::{AttachmentStats, DeviceStats, ReactorStats};
use palisade_block::{
    Answer, DeviceKind, DeviceLimits, Lease, MappingId, Nanos, Pulled, Route, Run, SegmentList, Source,
};
use palisade_engine::idle::Next;
use palisade_engine::{Idle, IdlePolicy, Reactor, ReactorConfig};
use palisade_forward::{
    Exchange, NodeDevice, PAYLOAD_BUFFER_BYTES, PeerDevices, PeerOrder, PeerReport, RemoteDisk, ServedQueue,
    SessionEnd, SessionPlace, SessionStanding,
};
use palisade_memory::GuestMemory;
use palisade_port::{Ends, SessionSettings};
use palisade_sys::counting_allocator::counted;
use palisade_wire::StartNumber;
use palisade_wire::VolumeKey;
use palisade_words::{
    AttachmentIndex, DeviceIndex, Epoch, FeatureLevel, Generation, Incarnation, Lba, QueueId, ReactorIndex,
    Sectors, Uuid, VolumeIndex,
};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

/// What a reactor takes requests from.
#[derive(Debug)]
pub(super) enum NodeSource {
    Guest(SimSource),
    Served(ServedQueue),
}

pub(super) type NodeReactor = Reactor<NodeSource, PeerDevices<Hands>, SimPool>;
pub(super) type NodeCommand = ReactorCommand<NodeSource, PeerDevices<Hands>>;
pub(super) type NodeNotice = Notice<NodeSource, PeerDevices<Hands>>;

/// Volumes that are served to other nodes go by numbers of their own.
pub(super) const SERVED: u16 = 8;

/// The session by which a node asks another.
pub(super) fn asking(peer: usize) -> SessionPlace {
    SessionPlace(2 * peer as u16)
}

/// The session by which it is asked.
pub(super) fn serving(peer: usize) -> SessionPlace {
    SessionPlace(2 * peer as u16 + 1)
}

/// A volume as all nodes know it.
pub(super) fn uuid(volume: usize) -> Uuid {
    Uuid(0x1000 + volume as u128)
}

/// What is fixed for a seed.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) nodes: usize,
    /// The node at which each volume's disk is.
    pub(super) homes: Vec<usize>,
    pub(super) sectors: u64,
    pub(super) settings: SessionSettings,
    pub(super) asked_buffers: u64,
    pub(super) served_buffers: u64,
    pub(super) requests: u32,
    pub(super) io_bytes_max: u32,
    /// The way to a disk may heal, and its own node waits for that.
    pub(super) served_parks: bool,
    pub(super) idle: IdlePolicy,
    pub(super) deadline: Nanos,
}

/// The mapping of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mapped {
    pub(super) generation: u64,
    pub(super) epoch: u64,
    /// Where on its disk it begins.
    pub(super) at: u64,
}

/// A run of a node.
pub(super) struct Core {
    pub(super) reactor: NodeReactor,
    idle: Idle,
    is_asleep: bool,
    pub(super) is_kicked: bool,
    memories: Vec<Arc<GuestMemory>>,
}

/// A node.
pub(super) struct Node {
    pub(super) number: usize,
    pub(super) array: Rc<RefCell<Array>>,
    pub(super) core: Option<Core>,
    pub(super) incarnation: u64,
    pub(super) starts_at: Nanos,
}

impl Layout {
    /// The route of a volume at a node; for what others have forwarded, at its home.
    pub(super) fn route(&self, node: usize, volume: usize, mapped: &Mapped, is_served: bool) -> Route {
        let id = MappingId::new(uuid(volume), Generation(mapped.generation), Epoch(mapped.epoch));
        let run = Run {
            volume: Lba(0),
            sectors: Sectors(self.sectors),
            device: DeviceIndex(volume as u16),
            lba: Lba(if self.homes[volume] == node { mapped.at } else { 0 }),
        };
        let id = if is_served { id.forwarded() } else { id };
        let Ok(route) = Route::new(id, vec![run]) else {
            unreachable!("a run that begins at sector 0 makes a route")
        };
        match is_served && !self.served_parks {
            true => route,
            false => route.parking_faults(),
        }
    }

    /// Other nodes than this one.
    pub(super) fn peers(&self, node: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.nodes).filter(move |peer| *peer != node)
    }

    pub(super) fn serve(&self, peer: usize, volume: usize, mapped: &Mapped) -> PeerOrder<SimConnection> {
        PeerOrder::Serve {
            session: serving(peer),
            key: VolumeKey::of(uuid(volume)),
            volume: VolumeIndex(SERVED + volume as u16),
            generation: Generation(mapped.generation),
            epoch: Epoch(mapped.epoch),
            may_change: true,
        }
    }
}

/// A queue's settings. All of them write through: what a guest hears of is on stable storage.
pub(super) fn attachment(volume: Option<usize>) -> AttachmentSettings {
    AttachmentSettings {
        volume: volume.map(|volume| VolumeIndex(volume as u16)),
        revoked: false,
        read_only: false,
        write_through: true,
        pace: Pace::default(),
        stats: Arc::new(AttachmentStats::default()),
    }
}

/// The queue of what another node asks, or of a guest.
pub(super) fn queue(attachment: usize) -> QueueId {
    QueueId {
        attachment: AttachmentIndex(attachment as u16),
        queue: 0,
    }
}

impl Node {
    /// Starts a run of it.
    pub(super) fn start(
        &mut self,
        layout: &Layout,
        volumes: &[Mapped],
        network: &Rc<RefCell<Network>>,
        gone: &Rc<RefCell<Vec<Lease>>>,
        findings: &Findings,
        (rng, now): (&Rng, Nanos),
    ) {
        self.incarnation += 1;
        let name = format!("hands {} {}", self.number, self.incarnation);
        let hands = Hands::new(&self.array, network, gone, findings, rng.split(&name));
        let pool = SimPool::new(8, Rc::clone(&self.array), findings.clone());
        let config = ReactorConfig {
            slots: 96,
            parts: 64,
            long: 4,
            watch_every: Nanos::from_millis(1),
        };
        let devices = PeerDevices::new(hands);
        let reactor = Reactor::new(config, devices, pool, Arc::new(ReactorStats::default()));
        let mut core = Core {
            reactor,
            idle: Idle::new(layout.idle, now),
            is_asleep: false,
            is_kicked: true,
            memories: Vec::new(),
        };
        let epoch = volumes.iter().map(|mapped| mapped.epoch).max().unwrap_or(0);
        core.tell(ReactorCommand::Peers(PeerOrder::Epoch(Epoch(epoch))));
        // A node starts once what its last run had submitted has landed.
        core.tell(ReactorCommand::Peers(PeerOrder::EarlierRunsLanded));
        for peer in layout.peers(self.number) {
            self.begin(&mut core, layout, peer);
        }
        for (volume, mapped) in volumes.iter().enumerate() {
            self.give_volume(&mut core, layout, volume, mapped);
        }
        self.core = Some(core);
    }

    /// A number that no other start has.
    fn drawn(&self) -> StartNumber {
        let number = self.incarnation * 100 + self.number as u64 + 1;
        match StartNumber::new(number) {
            Some(drawn) => drawn,
            None => unreachable!("{number} is not 0"),
        }
    }

    fn begin(&self, core: &mut Core, layout: &Layout, peer: usize) {
        let ends = Ends {
            cluster: Uuid(1),
            node: Uuid(10 + self.number as u128),
            peer: Uuid(10 + peer as u128),
            incarnation: Incarnation(self.incarnation),
            start: self.drawn(),
            feature_level: FeatureLevel(0),
            asking_reactor: ReactorIndex(0),
            serving_reactor: ReactorIndex(0),
        };
        let asked = self.buffers(core, layout.asked_buffers);
        let served = self.buffers(core, layout.served_buffers);
        let exchange = Arc::new(Exchange::new(layout.requests, served));
        let source = NodeSource::Served(ServedQueue::new(Arc::clone(&exchange)));
        for (session, end) in [
            (asking(peer), SessionEnd::Asking(asked)),
            (serving(peer), SessionEnd::Serving(exchange)),
        ] {
            let settings = layout.settings;
            core.tell(ReactorCommand::Peers(PeerOrder::Begin {
                session,
                ends,
                settings,
                end,
            }));
        }
        core.tell(ReactorCommand::AddQueue {
            queue: queue(100 + peer),
            settings: attachment(None),
            source,
            kick: None,
        });
    }

    fn buffers(&self, core: &mut Core, count: u64) -> Lease {
        let bytes = count * u64::from(PAYLOAD_BUFFER_BYTES);
        let Ok(memory) = GuestMemory::anonymous(&[(0, bytes)]) else {
            unreachable!("there is no memory for {count} buffers");
        };
        self.array.borrow_mut().memories.learn(&memory);
        let lease = memory.lease().clone();
        core.memories.push(memory);
        lease
    }

    fn give_volume(&self, core: &mut Core, layout: &Layout, volume: usize, mapped: &Mapped) {
        let home = layout.homes[volume];
        let opened = match home == self.number {
            true => NodeDevice::Local(()),
            false => NodeDevice::Remote(RemoteDisk {
                session: asking(home),
                limits: DeviceLimits {
                    kind: DeviceKind::Peer,
                    sectors: Sectors(layout.sectors),
                    block_bytes: 512,
                    memory_alignment: 1,
                    length_alignment: 1,
                    io_bytes_max: layout.io_bytes_max,
                    discard_granularity: 512,
                    discard: true,
                    write_zeroes: false,
                    read_only: false,
                },
            }),
        };
        core.tell(ReactorCommand::AddDevice {
            device: DeviceIndex(volume as u16),
            opened,
            stats: Arc::new(DeviceStats::default()),
            deadline: layout.deadline,
        });
        let route = layout.route(self.number, volume, mapped, false);
        let number = VolumeIndex(volume as u16);
        core.tell(
            ReactorChange::Resume {
                volume: number,
                route,
            }
            .into(),
        );
        if home == self.number {
            let route = layout.route(self.number, volume, mapped, true);
            let number = VolumeIndex(SERVED + volume as u16);
            core.tell(
                ReactorChange::Resume {
                    volume: number,
                    route,
                }
                .into(),
            );
            for peer in layout.peers(self.number) {
                core.tell(ReactorCommand::Peers(layout.serve(peer, volume, mapped)));
            }
        }
    }

    /// The process ends at once; the disks go on with what they have, or the power is cut.
    pub(super) fn crash(&mut self, cuts_power: bool, now: Nanos) {
        let Some(core) = self.core.take() else { return };
        let devices = core.reactor.abandon();
        devices.into_inner().drop_all(now);
        let mut array = self.array.borrow_mut();
        match cuts_power {
            true => array.power_cut(),
            false => array.orphan(REACTOR),
        }
        array.memories.forget_reactor(REACTOR);
        for memory in &core.memories {
            array.memories.forget(memory);
        }
    }

    /// How a session is.
    pub(super) fn standing(&self, session: SessionPlace) -> Option<SessionStanding> {
        self.core.as_ref()?.reactor.devices().standing(session)
    }

    /// Lets it take a turn, and gives what it has to tell.
    pub(super) fn turn(&mut self, findings: &Findings, now: Nanos, tell: &mut Vec<NodeNotice>) {
        let number = self.number;
        let Some(core) = &mut self.core else { return };
        if core.is_asleep {
            let due = core.reactor.due().is_some_and(|at| at <= now);
            let has_finished = self.array.borrow().has_finished(REACTOR);
            if !core.is_kicked && !due && !has_finished && !core.reactor.devices().inner().is_ready(now) {
                return;
            }
            core.is_asleep = false;
        }
        core.is_kicked = false;
        let (turned, allocations) = counted(|| catch_unwind(AssertUnwindSafe(|| core.reactor.turn(now))));
        let checked =
            turned.and_then(|work| catch_unwind(AssertUnwindSafe(|| core.reactor.check())).map(|()| work));
        let work = match checked {
            Ok(work) => work,
            Err(panic) => {
                let words = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                let what = format!("node {number} stopped: {}", words.unwrap_or("without a word"));
                return findings.add(Invariant::DataPath, now, what);
            }
        };
        if let Err(what) = core.reactor.devices().check() {
            findings.add(Invariant::DataPath, now, format!("node {number}: {what}"));
        }
        let before = tell.len();
        while let Some(notice) = core.reactor.next_notice() {
            tell.push(notice);
        }
        // A session that goes down gives back what it has, which takes what it takes.
        let goes_down = |notice: &NodeNotice| {
            matches!(
                notice,
                Notice::Peers(PeerReport::Down { .. } | PeerReport::Ended { .. })
            )
        };
        if allocations > 0 && !tell[before..].iter().any(goes_down) {
            let what = format!("a turn of node {number} allocated {allocations} times");
            findings.add(Invariant::DataPath, now, what);
        }
        let in_flight = core.reactor.in_flight() > 0;
        match core.idle.after_turn(work, in_flight, now) {
            Next::Sleep => core.is_asleep = !core.reactor.arm(),
            Next::Turn => core.reactor.disarm(),
        }
    }
}

impl Core {
    /// Gives the reactor an order.
    pub(super) fn tell(&mut self, command: NodeCommand) {
        self.reactor.apply(command);
        self.is_kicked = true;
    }
}

impl Source for NodeSource {
    fn lease(&self) -> Lease {
        match self {
            NodeSource::Guest(source) => source.lease(),
            NodeSource::Served(source) => source.lease(),
        }
    }

    fn has_more(&self) -> bool {
        match self {
            NodeSource::Guest(source) => source.has_more(),
            NodeSource::Served(source) => source.has_more(),
        }
    }

    fn turn_to(&mut self, may_serve: impl FnMut(VolumeIndex) -> bool) -> Option<VolumeIndex> {
        match self {
            NodeSource::Guest(source) => source.turn_to(may_serve),
            NodeSource::Served(source) => source.turn_to(may_serve),
        }
    }

    fn pull(&mut self, segments: &mut SegmentList) -> Pulled {
        match self {
            NodeSource::Guest(source) => source.pull(segments),
            NodeSource::Served(source) => source.pull(segments),
        }
    }

    fn finish(&mut self, answer: Answer<'_>) {
        match self {
            NodeSource::Guest(source) => source.finish(answer),
            NodeSource::Served(source) => source.finish(answer),
        }
    }

    fn publish(&mut self) {
        match self {
            NodeSource::Guest(source) => source.publish(),
            NodeSource::Served(source) => source.publish(),
        }
    }

    fn backlog(&self) -> usize {
        match self {
            NodeSource::Guest(source) => source.backlog(),
            NodeSource::Served(source) => source.backlog(),
        }
    }

    fn arm(&mut self) -> bool {
        match self {
            NodeSource::Guest(source) => source.arm(),
            NodeSource::Served(source) => source.arm(),
        }
    }

    fn disarm(&mut self) {
        match self {
            NodeSource::Guest(source) => source.disarm(),
            NodeSource::Served(source) => source.disarm(),
        }
    }
}
