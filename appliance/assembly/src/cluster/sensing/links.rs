//! The connections over which heartbeats go: one for each address of each other node. Of two nodes the one with the lower id
//! connects; heartbeats go both ways over it. Its number is that of the address among those of the node that is called.
//!
//! A connection over which nothing came for as long as a node needs to be found dead is given up and made anew: what a cut network
//! holds back would come much later than the first word after it.

use super::{Sensing, called};
use crate::cluster::Way;
use crate::cluster::way::HANDSHAKE_WAIT;
use palisade_membership::LeaseTimes;
use palisade_model::Cluster;
use palisade_model::limits::ADDRESSES_PER_NODE_MAX;
use palisade_trust::Caller;
use palisade_wire::{HEARING_PLACES_MAX, HEARING_ROW_BYTES, HEARTBEAT_HEAD_BYTES, Heartbeat};
use palisade_words::{LinkIndex, Uuid};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};

/// Heartbeats that wait to leave by one link: who is behind by more is told nothing by older ones.
const FRAMES_MAX: usize = 4;

/// Before an address is tried again that did not answer, or whose connection ended sooner than this.
const PAUSE: Duration = Duration::from_millis(200);

/// Callers whose handshakes are made in a second, at most: each takes some 1 ms, of a thread that runs before others. All nodes of a
/// group have called again within seconds after a restart.
const CALLERS_PER_SECOND: u32 = 100;

/// What comes to the thread.
#[derive(Debug)]
pub(super) enum Event {
    /// Somebody has connected, and holds a place until he has shown who he is.
    Caller(TcpStream, OwnedSemaphorePermit),
    /// A link that this node has made can be used.
    Opened(Uuid, Opening),
    /// A heartbeat has come, of the node that its connection is with.
    Heard(Box<Arrived>),
    /// A connection has ended, or could not be made.
    Ended {
        peer: Uuid,
        link: LinkIndex,
        connection: u64,
    },
    /// The thread is to end.
    Stop,
}

/// A connection over which heartbeats can be sent from now on.
#[derive(Debug)]
pub(super) struct Opening {
    link: LinkIndex,
    connection: u64,
    frames: Sender<Vec<u8>>,
}

/// A heartbeat, and with the first of a caller the way back.
#[derive(Debug)]
pub(super) struct Arrived {
    pub heartbeat: Heartbeat,
    opens: Option<Opening>,
}

/// All connections of the thread.
#[derive(Debug)]
pub(super) struct Links {
    me: Uuid,
    open: BTreeMap<(Uuid, LinkIndex), Opening>,
    /// Connections of ours that are being made or are in use, each to which address.
    made: BTreeMap<(Uuid, LinkIndex), SocketAddr>,
    /// One has ended since the last look at who is to be called.
    has_lost: bool,
    callers: Callers,
    last: u64,
    ends: Ends,
}

/// What each connection has.
#[derive(Clone, Debug)]
struct Ends {
    way: Arc<Way>,
    exchange: Exchange,
}

/// What it takes to exchange heartbeats by a connection that there is.
#[derive(Clone, Debug)]
struct Exchange {
    events: Sender<Event>,
    sensing: Arc<Sensing>,
    times: LeaseTimes,
}

impl Links {
    pub fn new(
        me: Uuid,
        way: Arc<Way>,
        events: Sender<Event>,
        sensing: Arc<Sensing>,
        times: LeaseTimes,
    ) -> Links {
        Links {
            me,
            open: BTreeMap::new(),
            made: BTreeMap::new(),
            has_lost: false,
            callers: Callers::default(),
            last: 0,
            ends: Ends {
                way,
                exchange: Exchange {
                    events,
                    sensing,
                    times,
                },
            },
        }
    }

    /// Takes what has come; a heartbeat is handed back.
    pub fn take(&mut self, event: Event) -> Option<Box<Arrived>> {
        match event {
            Event::Heard(arrived) => return Some(arrived),
            Event::Caller(socket, place) => match self.callers.may_come(Instant::now()) {
                true => {
                    self.last += 1;
                    tokio::spawn(self.ends.clone().taken(socket, place, self.me, self.last));
                }
                false => {
                    let counters = &self.ends.exchange.sensing.counters;
                    counters.turned_away.fetch_add(1, Ordering::Relaxed);
                }
            },
            Event::Opened(peer, opening) => self.open_with(peer, opening),
            Event::Ended {
                peer,
                link,
                connection,
            } => {
                let at = (peer, link);
                if self
                    .open
                    .get(&at)
                    .is_some_and(|open| open.connection == connection)
                {
                    self.open.remove(&at);
                }
                if self.calls(peer) {
                    self.made.remove(&at);
                    self.has_lost = true;
                }
            }
            Event::Stop => {}
        }
        None
    }

    /// A heartbeat counts: if it was the first of a caller, the way back is open.
    pub fn opened(&mut self, arrived: Arrived) {
        if let Some(opening) = arrived.opens {
            self.open_with(arrived.heartbeat.node, opening);
        }
    }

    fn open_with(&mut self, peer: Uuid, opening: Opening) {
        // The one of before ends when nobody has anything to send by it.
        self.open.insert((peer, opening.link), opening);
    }

    /// Whether one of those that this node makes has ended since it was last looked at.
    pub fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Connects to who has come, and lets go of who has left, or is elsewhere.
    pub fn follow(&mut self, cluster: &Cluster) {
        let me = self.me;
        self.has_lost = false;
        let made = &self.made;
        self.open.retain(|(peer, link), open| {
            let is_link = link.0 < between(cluster, me, *peer) && !open.frames.is_closed();
            let address = cluster
                .node_by_id(*peer)
                .and_then(|(_, node)| node.addresses.get(usize::from(link.0)));
            let is_there = made.get(&(*peer, *link)).is_none_or(|made| Some(made) == address);
            is_link && is_there
        });
        for node in cluster.nodes.values().filter(|node| me < node.uuid) {
            let addresses = node.addresses.iter().take(ADDRESSES_PER_NODE_MAX);
            for (link, address) in (0..).map(LinkIndex).zip(addresses) {
                if let Entry::Vacant(made) = self.made.entry((node.uuid, link)) {
                    made.insert(*address);
                    self.last += 1;
                    let made = self.ends.clone().made(node.uuid, link, *address, self.last);
                    tokio::spawn(made);
                }
            }
        }
    }

    /// Links that can be used.
    pub fn open(&self) -> impl Iterator<Item = (Uuid, LinkIndex, &Sender<Vec<u8>>)> {
        self.open
            .iter()
            .map(|((peer, link), open)| (*peer, *link, &open.frames))
    }

    /// Those to one node.
    pub fn connected(&self, node: Uuid) -> Vec<LinkIndex> {
        let to = self.open.keys().filter(|(peer, _)| *peer == node);
        to.map(|(_, link)| *link).collect()
    }

    /// Whether it is this node that connects to the other.
    fn calls(&self, peer: Uuid) -> bool {
        self.me < peer
    }
}

impl Ends {
    /// Connects, and goes on until that ends.
    async fn made(self, peer: Uuid, link: LinkIndex, address: SocketAddr, connection: u64) {
        let begun = Instant::now();
        match self.way.connect_for_heartbeats(peer, address).await {
            Ok(stream) => {
                let ended = self.exchange.run(stream, peer, Some(link), connection).await;
                log::debug!("heartbeats with node {peer} at {address}: {ended}");
            }
            Err(error) => log::debug!("heartbeats cannot reach node {peer} at {address}: {error}"),
        }
        // One that was good until now is made anew at once: the others wait for heartbeats.
        if begun.elapsed() < PAUSE {
            sleep(PAUSE).await;
        }
        self.exchange.ended(peer, link, connection).await;
    }

    /// Finds out who has connected, and goes on until that ends.
    async fn taken(self, socket: TcpStream, place: OwnedSemaphorePermit, me: Uuid, connection: u64) {
        let accepted = async {
            socket.set_nonblocking(true)?;
            let stream = tokio::net::TcpStream::from_std(socket)?;
            let accepted = self.way.acceptor().accept(stream, HANDSHAKE_WAIT).await;
            accepted.map_err(io::Error::other)
        };
        let (peer, stream) = match accepted.await {
            Ok(accepted) => match accepted.caller {
                Caller::Node(peer, _) => (peer.node, accepted.stream),
                // It has no certificate, and is let in for another purpose only.
                Caller::Joiner => return,
            },
            Err(error) => return log::debug!("heartbeats of another node came to nothing: {error}"),
        };
        drop(place);
        if peer >= me {
            let error = io::Error::other("of two nodes the one with the lower id connects");
            return self.exchange.refuse(peer, &error);
        }
        let ended = self.exchange.run(stream, peer, None, connection).await;
        log::debug!("heartbeats with node {peer}: {ended}");
    }
}

impl Exchange {
    /// Sends and takes heartbeats until one end has gone. Which link it is, who was called hears with the first.
    async fn run<S>(&self, stream: S, peer: Uuid, link: Option<LinkIndex>, connection: u64) -> io::Error
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reads, writes) = tokio::io::split(stream);
        let (frames, leave) = channel(FRAMES_MAX);
        let mut opening = Some(|link| Opening {
            link,
            connection,
            frames,
        });
        if let Some(link) = link
            && let Some(opening) = opening.take()
        {
            // Nobody takes it when the thread has ended.
            let _ = self.events.send(Event::Opened(peer, opening(link))).await;
        }
        let mut known = link;
        let silent = self.times.detection.duration();
        let read = async {
            loop {
                let heartbeat = match timeout(silent, next(&mut reads)).await {
                    Ok(Ok(heartbeat)) => heartbeat,
                    Ok(Err(error)) => {
                        if error.kind() == io::ErrorKind::InvalidData {
                            self.refuse(peer, &error);
                        }
                        return error;
                    }
                    Err(_) => return io::Error::other("nothing came for too long"),
                };
                if let Err(error) = fits(&heartbeat, peer, known) {
                    self.refuse(peer, &error);
                    return error;
                }
                known = Some(heartbeat.link);
                let opens = opening.take().map(|opening| opening(heartbeat.link));
                let arrived = Box::new(Arrived { heartbeat, opens });
                if self.events.send(Event::Heard(arrived)).await.is_err() {
                    return io::Error::other("this node stops");
                }
            }
        };
        let ended = tokio::select! {
            ended = read => ended,
            error = send(writes, leave, silent) => error,
        };
        if let (None, Some(known)) = (link, known) {
            self.ended(peer, known, connection).await;
        }
        ended
    }

    fn refuse(&self, peer: Uuid, error: &io::Error) {
        let count = self.sensing.counters.nonsense.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            log::warn!(
                "a connection for heartbeats of node {peer} was closed (the {count}. of these): {error}"
            );
        }
    }

    async fn ended(&self, peer: Uuid, link: LinkIndex, connection: u64) {
        let _ = self
            .events
            .send(Event::Ended {
                peer,
                link,
                connection,
            })
            .await;
    }
}

/// How many callers have come in this second.
#[derive(Debug, Default)]
struct Callers {
    since: Option<Instant>,
    count: u32,
}

impl Callers {
    fn may_come(&mut self, now: Instant) -> bool {
        if self
            .since
            .is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1))
        {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count <= CALLERS_PER_SECOND
    }
}

/// How many links there are between two nodes: as many as the one has addresses that is called.
pub(super) fn between(cluster: &Cluster, one: Uuid, other: Uuid) -> u8 {
    match (cluster.node_by_id(one), cluster.node_by_id(other)) {
        (Some((_, one)), Some((_, other))) => {
            called(one, other).addresses.len().min(ADDRESSES_PER_NODE_MAX) as u8
        }
        _ => 0,
    }
}

/// Whether a heartbeat is of the node at the other end, and of this link.
fn fits(heartbeat: &Heartbeat, peer: Uuid, link: Option<LinkIndex>) -> io::Result<()> {
    let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if heartbeat.node != peer {
        return wrong(format!("it says to be of node {}", heartbeat.node));
    }
    if usize::from(heartbeat.link.0) >= ADDRESSES_PER_NODE_MAX {
        return wrong(format!(
            "it names link {}, and there are none of that number",
            heartbeat.link.0
        ));
    }
    match link.filter(|link| *link != heartbeat.link) {
        Some(link) => wrong(format!("it names link {} on link {}", heartbeat.link.0, link.0)),
        None => Ok(()),
    }
}

/// The next heartbeat of a stream. What is none is `InvalidData`.
async fn next(reads: &mut (impl AsyncRead + Unpin)) -> io::Result<Heartbeat> {
    let mut bytes = vec![0; HEARTBEAT_HEAD_BYTES];
    reads.read_exact(&mut bytes).await?;
    let rows = bytes.get(1).copied().map_or(0, usize::from);
    if rows > HEARING_PLACES_MAX {
        let what = format!("it says to have {rows} rows, and there are {HEARING_PLACES_MAX} at most");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    bytes.resize(HEARTBEAT_HEAD_BYTES + rows * HEARING_ROW_BYTES, 0);
    let rest = bytes.get_mut(HEARTBEAT_HEAD_BYTES..).unwrap_or_default();
    reads.read_exact(rest).await?;
    Heartbeat::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Sends what is to be sent, until that takes too long or there is nobody left who has anything.
async fn send(
    mut writes: impl AsyncWrite + Unpin,
    mut leave: Receiver<Vec<u8>>,
    within: Duration,
) -> io::Error {
    while let Some(frame) = leave.recv().await {
        let sent = async {
            writes.write_all(&frame).await?;
            writes.flush().await
        };
        match timeout(within, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(_) => return io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    io::Error::other("another connection has taken its place")
}

#[cfg(test)]
mod tests;
