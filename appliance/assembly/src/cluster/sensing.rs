//! Who is there: heartbeats over every link, judged by this node's [`Sensor`]; the leader proposes what follows from it.
//!
//! ```text
//!   links (a connection each) -- heartbeats --> Sensor -- evict --> the agreement, where this node leads
//!                                                 '--- heard again, for long enough (Returns) --> take back
//! ```
//!
//! All of it is done by one thread that runs before those that have no such claim, so that a machine that is busy with data is
//! not taken for a dead one. It waits for nothing but its links and the time; what is proposed is brought to the agreement by
//! another thread.

mod links;

use crate::cluster::Way;
use crate::last_run::boot_id;
use crate::shared::Shared;
use links::{Event, Links};
use palisade_block::Nanos;
use palisade_consensus::raft::{ClusterMember, MemberRole, MemberStanding};
use palisade_membership::{
    HeartbeatRefusal, LeaseTimes, LogPosition, PeerState, Returns, SensedMembers, Sensor, SensorIdentity,
    VoterSets,
};
use palisade_model::{Cluster, Command, EVICTION, EvictNodes, Membership, Node, ReadmitNode};
use palisade_sys::affinity;
use palisade_sys::clock::boot_time;
use palisade_words::{Incarnation, LinkIndex, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Heartbeats and connections that wait to be looked at. More make their senders wait.
const EVENTS_MAX: usize = 256;

/// How often it is looked whether this node knows its own run: before that it is nobody to the others.
const BEGINS: Duration = Duration::from_millis(20);

/// Heartbeats of a run that counts for nothing may be late, for a moment. Who still sends them after so long is a copy.
const COPY_AFTER: Nanos = Nanos::from_secs(3);

/// A copy that has sent none for so long is gone.
const COPY_GONE: Nanos = Nanos::from_secs(10);

/// Weight of a member: ties go to the side that has more of it. All have the same until an operator can say otherwise.
const WEIGHT: u32 = 1;

/// The sensing of a node, for those who ask what it has found.
#[derive(Debug)]
pub(crate) struct Sensing {
    events: Sender<Event>,
    taken: Mutex<Option<Receiver<Event>>>,
    seen: Mutex<Sensed>,
    counters: Counters,
    stops: AtomicBool,
}

/// What heartbeats have come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sensed {
    /// This node has been there for long enough to say whom it does not hear.
    pub is_settled: bool,
    /// The others stay together without this node.
    pub is_left_out: bool,
    /// All other nodes.
    pub peers: BTreeMap<Uuid, SensedPeer>,
    /// Nodes that are there as two runs at once, each with what was said to the one that counts for nothing.
    pub copied: BTreeMap<Uuid, String>,
}

/// What is known of another node.
#[derive(Clone, Debug)]
pub(crate) struct SensedPeer {
    /// How it seems to be.
    pub state: PeerState,
    /// When it was last heard (CLOCK_BOOTTIME).
    pub heard: Option<Nanos>,
    /// Links over which there is a connection now.
    pub connected: Vec<LinkIndex>,
}

/// Counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Heartbeats that were taken.
    pub heard: AtomicU64,
    /// Heartbeats that counted for nothing: of an earlier run, of a copy, late.
    pub refused: AtomicU64,
    /// Bytes that were no heartbeat, or named another sender or link than their connection: it was closed.
    pub nonsense: AtomicU64,
    /// Connections that were closed before anybody looked who it was: more came than the thread may be kept busy with.
    pub turned_away: AtomicU64,
    /// Heartbeats that were not sent, as earlier ones had not left yet.
    pub held_up: AtomicU64,
}

impl Sensing {
    /// It begins with [`Sensing::start`].
    pub(super) fn new() -> Arc<Sensing> {
        let (events, taken) = channel(EVENTS_MAX);
        Arc::new(Sensing {
            events,
            taken: Mutex::new(Some(taken)),
            seen: Mutex::default(),
            counters: Counters::default(),
            stops: AtomicBool::new(false),
        })
    }

    /// Starts the thread, once.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(
        self: &Arc<Sensing>,
        shared: &Arc<Shared>,
        member: &Arc<ClusterMember>,
        way: &Arc<Way>,
    ) -> std::io::Result<()> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(events) = taken else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .thread_name("palisade-sense")
            .build()?;
        let (sensing, shared) = (Arc::clone(self), Arc::downgrade(shared));
        let (member, way) = (Arc::downgrade(member), Arc::clone(way));
        std::thread::Builder::new()
            .name("palisade-sense".into())
            .spawn(move || {
                if let Err(error) = affinity::run_first() {
                    log::warn!(
                        "heartbeats have no claim to a processor before others ({error}): on a machine that is very busy this node may be \
                         taken for a dead one; LimitRTPRIO=1 in its unit, or CAP_SYS_NICE, gives it"
                    );
                }
                runtime.block_on(run(sensing, shared, member, way, events));
                runtime.shutdown_background();
            })?;
        Ok(())
    }

    /// Somebody has connected to exchange heartbeats. Nothing is read of it yet; `place` is held until it has shown who it is.
    pub(super) fn called(&self, caller: TcpStream, place: OwnedSemaphorePermit) {
        if self.events.try_send(Event::Caller(caller, place)).is_err() {
            self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What heartbeats have come to.
    pub fn seen(&self) -> Sensed {
        self.lock().clone()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Ends the thread soon.
    pub(super) fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
        // Who has much to look at sees it at its next round.
        let _ = self.events.try_send(Event::Stop);
    }

    fn is_stopping(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Sensed> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(
    sensing: Arc<Sensing>,
    shared: Weak<Shared>,
    member: Weak<ClusterMember>,
    way: Arc<Way>,
    mut events: Receiver<Event>,
) {
    let Some(me) = begun(&sensing, &shared, &mut events).await else {
        return;
    };
    let times = LeaseTimes::default();
    if let Err(error) = times.check() {
        log::error!("nobody is sensed: {error}");
        return;
    }
    let mut room = {
        let (Some(shared), Some(member)) = (shared.upgrade(), member.upgrade()) else {
            return;
        };
        let members = members(&shared.cluster(), &member.standing());
        Room {
            me,
            times,
            sensor: Sensor::new(me, times, members, boot_time()),
            returns: Returns::default(),
            links: Links::new(me.node, way, sensing.events.clone(), Arc::clone(&sensing), times),
            copies: BTreeMap::new(),
            proposing: Arc::default(),
            patience: Nanos(0),
        }
    };
    while !sensing.is_stopping() {
        let due = room.sensor.next().since(boot_time());
        let event = tokio::time::timeout(due.duration(), events.recv()).await;
        let (Some(shared), Some(member)) = (shared.upgrade(), member.upgrade()) else {
            return;
        };
        match event {
            Ok(None | Some(Event::Stop)) => return,
            Ok(Some(event)) => room.take(&sensing, event),
            Err(_) => {}
        }
        room.go_on(&sensing, &shared, &member);
    }
}

/// Waits until this node knows in which of its runs it is, and all nodes can send heartbeats: nobody is held to what was not asked
/// of him.
async fn begun(
    sensing: &Sensing,
    shared: &Weak<Shared>,
    events: &mut Receiver<Event>,
) -> Option<SensorIdentity> {
    loop {
        let shared = shared.upgrade().filter(|_| !sensing.is_stopping())?;
        let cluster = shared.cluster();
        let own = cluster.nodes.get(&shared.name).map(|node| node.uuid);
        let is_on = cluster.feature_level >= EVICTION;
        if let (Some(node), Some(incarnation), true) = (own, shared.incarnation.get(), is_on) {
            return Some(SensorIdentity {
                node,
                incarnation: *incarnation,
                boot: boot(),
                nonce: shared.start_number.get(),
            });
        }
        drop(shared);
        // Who calls meanwhile calls again.
        let _ = tokio::time::timeout(BEGINS, events.recv()).await;
    }
}

/// Which run of this machine it is; nil where the kernel does not tell.
fn boot() -> Uuid {
    let parsed = uuid::Uuid::parse_str(&boot_id());
    Uuid(parsed.map(|id| id.as_u128()).unwrap_or_default())
}

/// The members and voters, as this node knows them.
fn members(cluster: &Cluster, standing: &MemberStanding) -> SensedMembers {
    let at = standing.voters_since.unwrap_or_default();
    let at = LogPosition {
        term: at.0,
        index: at.1,
    };
    let ids = |set: &BTreeSet<palisade_consensus::raft::VoterId>| set.iter().map(|voter| voter.0).collect();
    let voters = match &standing.voters[..] {
        [] => VoterSets::uniform(at, BTreeSet::new()),
        [all] => VoterSets::uniform(at, ids(all)),
        [before, after, ..] => VoterSets::joint(at, ids(before), ids(after)),
    };
    let active = cluster.nodes.values().filter(|node| node.is_active());
    SensedMembers {
        epoch: cluster.epoch,
        weights: active.map(|node| (node.uuid, WEIGHT)).collect(),
        voters,
    }
}

/// Another run of a node than the one that counts.
struct Copy {
    first: Nanos,
    last: Nanos,
    refusal: HeartbeatRefusal,
}

/// Of two nodes the one that is called by the other: by its addresses links are numbered.
pub(crate) fn called<'a>(one: &'a Node, other: &'a Node) -> &'a Node {
    if one.uuid < other.uuid { other } else { one }
}

/// What the thread has.
struct Room {
    me: SensorIdentity,
    times: LeaseTimes,
    sensor: Sensor,
    returns: Returns,
    links: Links,
    copies: BTreeMap<Uuid, Copy>,
    /// Something is on its way to the agreement.
    proposing: Arc<AtomicBool>,
    /// Nothing is proposed before: what was proposed last may have been refused, and would be again.
    patience: Nanos,
}

impl Room {
    fn take(&mut self, sensing: &Sensing, event: Event) {
        let Some(arrived) = self.links.take(event) else {
            return;
        };
        let (counter, refused) = match self.sensor.heard(&arrived.heartbeat, boot_time()) {
            Ok(_) => {
                self.links.opened(*arrived);
                (&sensing.counters.heard, None)
            }
            // A link of a run that counts for nothing takes no other's place.
            Err(refusal) => {
                self.note_copy(arrived.heartbeat.node, refusal);
                (&sensing.counters.refused, Some(refusal))
            }
        };
        let count = counter.fetch_add(1, Ordering::Relaxed);
        // The first, and then ever fewer: it goes on for as long as somebody does that.
        if let Some(refusal) = refused.filter(|_| (count + 1).is_power_of_two()) {
            log::warn!(
                "a heartbeat counts for nothing (the {}. of these): {refusal}",
                count + 1
            );
        }
    }

    fn note_copy(&mut self, node: Uuid, refusal: HeartbeatRefusal) {
        if let HeartbeatRefusal::Twice { .. } | HeartbeatRefusal::EarlierRun { .. } = refusal {
            let now = boot_time();
            let copy = self.copies.entry(node).or_insert(Copy {
                first: now,
                last: now,
                refusal,
            });
            (copy.last, copy.refusal) = (now, refusal);
        }
    }

    fn go_on(&mut self, sensing: &Sensing, shared: &Arc<Shared>, member: &ClusterMember) {
        let now = boot_time();
        if self.sensor.beats(now) {
            let (cluster, standing) = (shared.cluster(), member.standing());
            self.sensor.members_are(members(&cluster, &standing));
            let evicted = |node: &&Node| node.membership == Membership::Evicted;
            let evicted = cluster.nodes.values().filter(evicted).map(|node| node.uuid);
            self.returns.evicted_are(&evicted.collect(), now);
            self.links.follow(&cluster);
            self.sensor
                .configured_are(&cluster.nodes.values().map(|node| node.uuid).collect());
            for node in cluster.nodes.values() {
                let links = links::between(&cluster, self.me.node, node.uuid);
                self.sensor.links_are(node.uuid, links);
            }
            self.beat(sensing, now);
            self.take_back(shared, &cluster, &standing, now);
            self.copies.retain(|_, copy| now.since(copy.last) < COPY_GONE);
            *sensing.lock() = self.sensed(&cluster, now);
        } else if self.links.has_lost() {
            self.links.follow(&shared.cluster());
        }
        let Some(evict) = self.sensor.proposal(now) else {
            return;
        };
        let (cluster, standing) = (shared.cluster(), member.standing());
        if evict.epoch == cluster.epoch && self.proposes(&cluster, &standing, &evict.nodes) {
            let command = EvictNodes {
                epoch: evict.epoch,
                nodes: evict.nodes,
            };
            self.propose(shared, Command::EvictNodes(command), now);
        }
    }

    /// Whether it is for this node to propose a change of the membership: it leads, or the one that does is no member, or among those
    /// that are to be evicted. Of several that propose the same the first is right.
    fn proposes(&self, cluster: &Cluster, standing: &MemberStanding, evicts: &BTreeSet<Uuid>) -> bool {
        let is_active = |node: Uuid| cluster.node_by_id(node).is_some_and(|(_, node)| node.is_active());
        let cannot = |leader: Uuid| evicts.contains(&leader) || !is_active(leader);
        let is_led_by_one_that_cannot = standing.leader.is_some_and(|leader| cannot(leader.0));
        standing.role == MemberRole::Leader || is_active(self.me.node) && is_led_by_one_that_cannot
    }

    fn beat(&self, sensing: &Sensing, now: Nanos) {
        for (node, link, frames) in self.links.open() {
            let heartbeat = self.sensor.heartbeat(node, link, now);
            if let Err(TrySendError::Full(_)) = frames.try_send(heartbeat.encode()) {
                sensing.counters.held_up.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn take_back(&mut self, shared: &Arc<Shared>, cluster: &Cluster, standing: &MemberStanding, now: Nanos) {
        if !self.sensor.is_settled(now) || !self.proposes(cluster, standing, &BTreeSet::new()) {
            return;
        }
        let heard = |node| {
            let since = self.sensor.unbroken_since(node, now);
            let is_one_way = matches!(self.sensor.state(node, now), PeerState::OneWay { .. });
            since.filter(|_| !is_one_way)
        };
        let due = self.returns.due(&self.times, heard, now);
        // A run that the cluster has not heard of yet is none that it would take back.
        let heard = |node: Uuid| Some((node, self.sensor.run_of(node)?));
        let is_known = |(node, run): &(Uuid, Incarnation)| {
            let known = cluster.node_by_id(*node);
            known.is_some_and(|(_, known)| known.incarnation == *run)
        };
        let Some((node, incarnation)) = due.into_iter().filter_map(heard).find(is_known) else {
            return;
        };
        let epoch = cluster.epoch;
        let command = ReadmitNode {
            epoch,
            node,
            incarnation,
        };
        self.propose(shared, Command::ReadmitNode(command), now);
    }

    /// Brings a change to the agreement, one at a time. What comes of it is seen in the cluster; who is refused judges anew.
    fn propose(&mut self, shared: &Arc<Shared>, command: Command, now: Nanos) {
        if now < self.patience || self.proposing.swap(true, Ordering::Relaxed) {
            return;
        }
        self.patience = now.after(self.times.heartbeat_every());
        let (shared, proposing) = (Arc::clone(shared), Arc::clone(&self.proposing));
        tokio::task::spawn_blocking(move || {
            let names = named(&shared.cluster(), &command);
            match (shared.propose(command.clone()), &command) {
                (Ok(_), Command::EvictNodes(_)) => {
                    log::warn!("{names}: evicted, as not heard by those who stay");
                }
                (Ok(_), _) => log::info!("{names}: taken back, as heard again"),
                (Err(error), _) => log::info!("{names}: the membership stays as it is: {error}"),
            }
            proposing.store(false, Ordering::Relaxed);
        });
    }

    fn sensed(&self, cluster: &Cluster, now: Nanos) -> Sensed {
        // A program of before sends none, and nothing can be said of it.
        let sends = |node: &&Node| node.feature_level >= EVICTION;
        let others = cluster.nodes.values().filter(|node| node.uuid != self.me.node);
        let others = others.filter(sends);
        let peer = |node: Uuid| SensedPeer {
            state: self.sensor.state(node, now),
            heard: self.sensor.last_heard(node),
            connected: self.links.connected(node),
        };
        Sensed {
            is_settled: self.sensor.is_settled(now),
            is_left_out: self.sensor.is_left_out(now),
            peers: others.map(|node| (node.uuid, peer(node.uuid))).collect(),
            copied: self
                .copies
                .iter()
                .filter(|(_, copy)| copy.last.since(copy.first) >= COPY_AFTER)
                .map(|(node, copy)| (*node, copy.refusal.to_string()))
                .collect(),
        }
    }
}

/// The nodes that a change of the membership is about.
fn named(cluster: &Cluster, command: &Command) -> String {
    let ids: Vec<Uuid> = match command {
        Command::EvictNodes(evict) => evict.nodes.iter().copied().collect(),
        Command::ReadmitNode(readmit) => vec![readmit.node],
        _ => Vec::new(),
    };
    let names = ids.iter().map(|id| match cluster.node_by_id(*id) {
        Some((name, _)) => format!("node {name}"),
        None => format!("node {id}"),
    });
    names.collect::<Vec<_>>().join(", ")
}
