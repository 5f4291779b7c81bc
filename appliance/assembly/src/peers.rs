//! The sessions of this node's reactors with other nodes: which there are, in which places, and what each reactor is told of them.
//!
//! Each reactor asks another node by a session of its own, which is served there by the reactor of the same number, or, where there
//! are fewer, by the one of the remainder. A session that asks begins when the node is first asked for a volume; one that is asked,
//! when the other node makes its first link.
//!
//! Nothing is decided here: who is asked for what, the control machine says ([`Effect`](palisade_control::Effect)); what becomes of
//! a session, it says itself.

mod dialer;
pub mod greeting;

use crate::message::ControlMessage;
use crate::node_source::NodeSource;
use crate::shared::Shared;
use dialer::Dialer;
use palisade_block::mailbox::{AttachmentSettings, Pace, ReactorCommand};
use palisade_block::stats::AttachmentStats;
use palisade_block::{DeviceKind, DeviceLimits, Lease};
use palisade_forward::{
    Exchange, NodeDevice, PAYLOAD_BUFFER_BYTES, PeerOrder, PeerReport, RemoteDisk, SESSIONS_MAX, ServedQueue,
    SessionEnd, SessionPlace,
};
use palisade_model::Cluster;
use palisade_port::{Ends, LINKS_MAX, SessionSettings};
use palisade_sys::{HugeMemory, SocketConnection};
use palisade_wire::{Hello, LinkRefusal, VolumeKey};
use palisade_words::limits::ATTACHMENTS_MAX;
use palisade_words::{
    AttachmentIndex, DeviceIndex, Epoch, FeatureLevel, Generation, Incarnation, Name, QueueId, ReactorIndex,
    Sectors, Uuid, VolumeIndex,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How sessions are made. As many requests of 128 KiB may be on their way as fill a link of 100 Gbit/s for half a millisecond.
const SETTINGS: SessionSettings = SessionSettings {
    streams: 4,
    window: 16,
    messages: 64,
    ..SessionSettings::DEFAULT
};

/// Requests of another node that one session may have here. A stream's numbers may run ahead by twice its window, and what is
/// answered may still be on its way out while the next is there.
const SERVED_MAX: u32 = 4 * SETTINGS.streams as u32 * SETTINGS.window as u32;

/// Buffers of a session that asks: one for each message.
const ASKING_BUFFERS: usize = SETTINGS.messages as usize;

/// Buffers of one that is asked: for what comes and for what goes out, and one for each link that may be lost while something comes.
const SERVING_BUFFERS: usize =
    2 * (SETTINGS.streams as usize * SETTINGS.window as usize) + LINKS_MAX as usize;

/// The sessions, and who makes links for them.
#[derive(Debug, Default)]
pub struct PeerSessions {
    sessions: Mutex<Sessions>,
    dialer: Dialer,
}

#[derive(Debug, Default)]
struct Sessions {
    /// Places in use, by reactor.
    used: BTreeMap<ReactorIndex, BTreeSet<u16>>,
    /// Sessions that ask, by the other node, one for each reactor.
    asking: BTreeMap<Uuid, Vec<SessionPlace>>,
    /// Sessions that are asked, by the other node and its reactor.
    serving: BTreeMap<(Uuid, ReactorIndex), Place>,
    /// What other nodes are served.
    served: BTreeMap<VolumeKey, Served>,
    /// The membership that reactors were told of last.
    epoch: Epoch,
    /// They were told that what earlier runs have submitted has landed.
    have_landed: bool,
}

/// A session's place on a reactor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    /// The reactor.
    pub reactor: ReactorIndex,
    /// The place there.
    pub session: SessionPlace,
}

/// A volume that other nodes are served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Served {
    /// Its permanent id.
    pub uuid: Uuid,
    /// Its number.
    pub volume: VolumeIndex,
    /// By which configuration all nodes call its mapping.
    pub revision: Generation,
    /// The membership under which that is valid.
    pub epoch: Epoch,
    /// Who asks for it, and whether they may change it.
    pub askers: BTreeMap<Uuid, bool>,
}

impl PeerSessions {
    /// Has all reactors ask another node, as this device.
    pub fn use_peer(&self, shared: &Shared, node: &Name, device: DeviceIndex) {
        let cluster = shared.cluster();
        let Some(peer) = cluster.nodes.get(node).map(|node| node.uuid) else {
            return;
        };
        let Some(run) = shared.incarnation.get() else {
            // The machine asks nobody before that.
            log::error!(
                "node {node} cannot be asked by a node that does not know in which of its runs it is"
            );
            return;
        };
        let places = self.asking(shared, (&cluster, *run), peer);
        for (reactor, session) in shared.reactors.iter().zip(places) {
            reactor.send(ReactorCommand::AddDevice {
                device,
                opened: NodeDevice::Remote(RemoteDisk {
                    session,
                    limits: LIMITS,
                }),
                stats: Arc::default(),
                deadline: shared.settings.stall,
            });
        }
    }

    /// Has all reactors serve other nodes a volume by this mapping, and no others.
    pub fn serve(&self, shared: &Shared, now: Served) {
        let mut sessions = self.lock();
        let key = VolumeKey::of(now.uuid);
        let sessions = &mut *sessions;
        if let Some(other) = sessions.served.get(&key).filter(|other| other.uuid != now.uuid) {
            log::error!(
                "volumes {} and {} cannot be told apart between nodes: neither is served to others",
                other.uuid,
                now.uuid
            );
            for place in sessions.serving.values() {
                stop_serving(shared, *place, key, now.volume);
            }
            sessions.served.remove(&key);
            return;
        }
        for ((peer, _), place) in &sessions.serving {
            match now.askers.get(peer) {
                Some(may_change) => serve(shared, *place, key, &now, *may_change),
                None => stop_serving(shared, *place, key, now.volume),
            }
        }
        match now.askers.is_empty() {
            true => drop(sessions.served.remove(&key)),
            false => drop(sessions.served.insert(key, now)),
        }
    }

    /// Takes over what has become of the node and of the cluster. `has_all_disks`: each disk that this node may have written to in
    /// an earlier run is open, or gone. A disk is opened when nothing that was submitted to it before can land any more, which its
    /// lock tells: what an earlier process has begun holds that until it is over.
    pub fn look(&self, shared: &Shared, epoch: Epoch, has_all_disks: bool) {
        let mut sessions = self.lock();
        let tell_all = |order: fn(Epoch) -> PeerOrder<SocketConnection>| {
            for reactor in &shared.reactors {
                reactor.send(ReactorCommand::Peers(order(epoch)));
            }
        };
        if sessions.epoch != epoch {
            sessions.epoch = epoch;
            tell_all(PeerOrder::Epoch);
        }
        if has_all_disks && !std::mem::replace(&mut sessions.have_landed, true) {
            tell_all(|_| PeerOrder::EarlierRunsLanded);
        }
    }

    /// Another node has made a link, and has proved that it is `peer`.
    ///
    /// # Errors
    /// It may not, and why: to be told to it.
    pub fn accepted(
        &self,
        shared: &Shared,
        peer: Uuid,
        hello: &Hello,
        connection: SocketConnection,
    ) -> Result<(), LinkRefusal> {
        let cluster = shared.cluster();
        if hello.cluster != cluster.id {
            return Err(LinkRefusal::OtherCluster);
        }
        let own = cluster.nodes.get(&shared.name).map(|node| node.uuid);
        if hello.node != peer || Some(hello.peer) != own {
            return Err(LinkRefusal::OtherNode);
        }
        let is_member = |node: Uuid| cluster.node_by_id(node).is_some_and(|(_, node)| node.is_active());
        if !is_member(peer) {
            let epoch = cluster.epoch;
            return Err(LinkRefusal::NotAMember { epoch });
        }
        // The others tell this node's runs apart by a number that it does not have yet.
        let Some(run) = shared.incarnation.get() else {
            return Err(LinkRefusal::Draining);
        };
        let place = self.serving(shared, (&cluster, *run), peer, hello.asking_reactor)?;
        tell(
            shared,
            place,
            PeerOrder::Accepted {
                session: place.session,
                hello: *hello,
                connection,
            },
        );
        Ok(())
    }

    /// What a reactor tells of its sessions.
    pub fn report(&self, shared: &Arc<Shared>, reactor: ReactorIndex, report: PeerReport) {
        match report {
            PeerReport::Dial { session, link } => {
                let place = Place { reactor, session };
                match self.peer_at(place) {
                    Some(peer) => self.dialer.dial(shared, peer, place, link),
                    None => tell(shared, place, PeerOrder::DialFailed { session, link }),
                }
            }
            PeerReport::Up { session } => {
                let place = Place { reactor, session };
                let Some(node) = self.peer_at(place).and_then(|peer| name_of(shared, peer)) else {
                    return;
                };
                log::info!("reactor {}: node {node} is asked and answers", reactor.0);
                shared.send(ControlMessage::PeerUp(node));
            }
            PeerReport::Down {
                session,
                cause,
                waiting,
            } => {
                let peer = self.peer_at(Place { reactor, session });
                let node = peer.and_then(|peer| name_of(shared, peer));
                log::warn!(
                    "reactor {}: the session with node {} is down ({cause:?}), {waiting} requests wait for it",
                    reactor.0,
                    node.as_ref().map_or("of before", Name::as_str)
                );
            }
            PeerReport::Unsettled { unsettled, .. } => log::warn!(
                "reactor {}: {unsettled} changes may still be carried out by a node that does not answer for them, and wait for \
                 the proof that they are not",
                reactor.0
            ),
            PeerReport::LinkCut { link, cause, .. } => {
                log::debug!("reactor {}: link {} was given up: {cause:?}", reactor.0, link.0);
            }
            PeerReport::LinkBroken { link, end, .. } => {
                log::debug!("reactor {}: link {} has broken: {end}", reactor.0, link.0);
            }
            PeerReport::LinkRefused { refusal, .. } => {
                log::warn!(
                    "reactor {}: a link of another node was refused: {refusal}",
                    reactor.0
                );
            }
            PeerReport::Ended { session } => {
                let mut sessions = self.lock();
                if let Some(used) = sessions.used.get_mut(&reactor) {
                    used.remove(&session.0);
                }
            }
        }
    }

    /// The node at the other end of a session.
    fn peer_at(&self, place: Place) -> Option<Uuid> {
        let sessions = self.lock();
        let is_here = |places: &Vec<SessionPlace>| places.get(place.reactor.usize()) == Some(&place.session);
        let asked = sessions.asking.iter().find(|(_, places)| is_here(places));
        let asking = sessions.serving.iter().find(|(_, known)| **known == place);
        asked
            .map(|(peer, _)| *peer)
            .or_else(|| asking.map(|((peer, _), _)| *peer))
    }

    /// The sessions by which a node is asked, one for each reactor; they begin now if there are none.
    fn asking(
        &self,
        shared: &Shared,
        (cluster, run): (&Cluster, Incarnation),
        peer: Uuid,
    ) -> Vec<SessionPlace> {
        let mut sessions = self.lock();
        if let Some(places) = sessions.asking.get(&peer) {
            return places.clone();
        }
        let mut places = Vec::new();
        for index in (0..shared.reactors.len() as u16).map(ReactorIndex) {
            let begun = buffers(ASKING_BUFFERS).ok().and_then(|lease| {
                let session = sessions.take_place(index)?;
                let place = Place {
                    reactor: index,
                    session,
                };
                let ends = ends(shared, (cluster, run), peer, index);
                begin(shared, place, ends, SessionEnd::Asking(lease));
                Some(session)
            });
            let Some(session) = begun else {
                log::error!(
                    "reactor {}: there is no room for a session with another node",
                    index.0
                );
                return places;
            };
            places.push(session);
        }
        sessions.asking.insert(peer, places.clone());
        places
    }

    /// The session by which a reactor of another node is served; it begins now if there is none.
    fn serving(
        &self,
        shared: &Shared,
        (cluster, run): (&Cluster, Incarnation),
        peer: Uuid,
        asking: ReactorIndex,
    ) -> Result<Place, LinkRefusal> {
        let mut sessions = self.lock();
        if let Some(place) = sessions.serving.get(&(peer, asking)) {
            return Ok(*place);
        }
        let count = shared.reactors.len().max(1) as u16;
        let reactor = ReactorIndex(asking.0 % count);
        let lease = buffers(SERVING_BUFFERS).map_err(|_| LinkRefusal::Draining)?;
        let session = sessions.take_place(reactor).ok_or(LinkRefusal::NoSuchPlace)?;
        let place = Place { reactor, session };
        let exchange = Arc::new(Exchange::new(SERVED_MAX, lease));
        begin(
            shared,
            place,
            ends(shared, (cluster, run), peer, asking),
            SessionEnd::Serving(Arc::clone(&exchange)),
        );
        add_queue(shared, place, exchange);
        for (key, served) in &sessions.served {
            if let Some(may_change) = served.askers.get(&peer) {
                serve(shared, place, *key, served, *may_change);
            }
        }
        sessions.serving.insert((peer, asking), place);
        Ok(place)
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    fn take_place(&mut self, reactor: ReactorIndex) -> Option<SessionPlace> {
        let used = self.used.entry(reactor).or_default();
        let free = (0..SESSIONS_MAX).find(|place| !used.contains(place))?;
        used.insert(free);
        Some(SessionPlace(free))
    }
}

/// What a node can that is asked for its disks: the sum of what any of them may be asked.
const LIMITS: DeviceLimits = DeviceLimits {
    kind: DeviceKind::Peer,
    sectors: Sectors(palisade_wire::FORWARDED_LBA_END),
    block_bytes: 512,
    memory_alignment: 1,
    length_alignment: 1,
    io_bytes_max: PAYLOAD_BUFFER_BYTES,
    discard_granularity: 4096,
    discard: true,
    write_zeroes: false,
    read_only: false,
};

fn buffers(count: usize) -> io::Result<Lease> {
    let memory = HugeMemory::new(count * PAYLOAD_BUFFER_BYTES as usize)?;
    Ok(memory.lease().clone())
}

fn ends(
    shared: &Shared,
    (cluster, incarnation): (&Cluster, Incarnation),
    peer: Uuid,
    reactor: ReactorIndex,
) -> Ends {
    let own = cluster.nodes.get(&shared.name);
    Ends {
        cluster: cluster.id,
        node: own.map(|node| node.uuid).unwrap_or_default(),
        peer,
        start: shared.start_number,
        incarnation,
        feature_level: FeatureLevel(palisade_model::FEATURE_LEVEL.0),
        asking_reactor: reactor,
        // By the same number at both ends, whatever reactor serves it there.
        serving_reactor: reactor,
    }
}

fn begin(shared: &Shared, place: Place, ends: Ends, end: SessionEnd) {
    let order = PeerOrder::Begin {
        session: place.session,
        ends,
        settings: SETTINGS,
        end,
    };
    tell(shared, place, order);
}

/// What comes by a session is given to the engine as by one more queue. Each change is made stable before it is answered.
fn add_queue(shared: &Shared, place: Place, exchange: Arc<Exchange>) {
    let Some(reactor) = shared.reactors.get(place.reactor.usize()) else {
        return;
    };
    reactor.send(ReactorCommand::AddQueue {
        queue: QueueId {
            // Behind those of guests.
            attachment: AttachmentIndex(ATTACHMENTS_MAX as u16 + place.session.0),
            queue: 0,
        },
        settings: AttachmentSettings {
            volume: None,
            revoked: false,
            read_only: false,
            write_through: true,
            pace: Pace::default(),
            stats: Arc::new(AttachmentStats::default()),
        },
        source: NodeSource::Peer(Box::new(ServedQueue::new(exchange))),
        kick: None,
    });
}

fn serve(shared: &Shared, place: Place, key: VolumeKey, served: &Served, may_change: bool) {
    tell(
        shared,
        place,
        PeerOrder::Serve {
            session: place.session,
            key,
            volume: served.volume,
            generation: served.revision,
            epoch: served.epoch,
            may_change,
        },
    );
}

fn stop_serving(shared: &Shared, place: Place, key: VolumeKey, volume: VolumeIndex) {
    let session = place.session;
    tell(shared, place, PeerOrder::StopServing { session, key, volume });
}

/// Gives a reactor an order about its sessions.
pub(crate) fn tell(shared: &Shared, place: Place, order: PeerOrder<SocketConnection>) {
    if let Some(reactor) = shared.reactors.get(place.reactor.usize()) {
        reactor.send(ReactorCommand::Peers(order));
    }
}

fn name_of(shared: &Shared, peer: Uuid) -> Option<Name> {
    let cluster = shared.cluster();
    cluster.node_by_id(peer).map(|(name, _)| name.clone())
}
