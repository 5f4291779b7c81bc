//! The door for nodes: one TCP port at each address of this node. What a connection is for is looked at first, since those for data
//! are encrypted by the kernel and go to a reactor, and those for heartbeats to the thread that senses who is there.

use crate::cluster::join;
use crate::cluster::way::{HANDSHAKE_WAIT, Way, relayed};
use crate::peers::greeting;
use crate::shared::Shared;
use palisade_consensus::raft::VoterId;
use palisade_trust::kernel::handshake;
use palisade_trust::{Acceptor, Caller, HandshakeSide, KernelHandshake, Purpose};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often it is looked whether the addresses are still this node's.
const LOOK: Duration = Duration::from_millis(500);

/// Connections that are making their handshake at once: who says nothing holds a place for seconds at most.
const SHAKING_HANDS_MAX: usize = 64;

/// Where the door stands open, or why it does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing(Arc<Mutex<Where>>);

#[derive(Debug, Default)]
struct Where {
    open: Vec<SocketAddr>,
    wrong: Option<String>,
}

impl Standing {
    /// The addresses at which it is open.
    pub fn open(&self) -> Vec<SocketAddr> {
        self.lock().open.clone()
    }

    /// Why it is not open at all of them, in a sentence.
    pub fn wrong(&self) -> Option<String> {
        self.lock().wrong.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Where> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, open: Vec<SocketAddr>, wrong: Option<String>) {
        let mut now = self.lock();
        if let Some(wrong) = wrong.as_ref().filter(|wrong| now.wrong.as_ref() != Some(wrong)) {
            log::warn!("{wrong}");
        }
        *now = Where { open, wrong };
    }
}

/// Keeps the door open at the addresses that this node has in the cluster, whatever becomes of them.
pub(super) async fn run(shared: Weak<Shared>, way: Arc<Way>, standing: Standing) {
    let mut open: Vec<(SocketAddr, tokio::task::JoinHandle<()>)> = Vec::new();
    let shaking = Arc::new(Semaphore::new(SHAKING_HANDS_MAX));
    loop {
        let wanted = match shared.upgrade() {
            Some(shared) => addresses(&shared),
            None => break,
        };
        open.retain(|(address, task)| {
            let stays = wanted.contains(address) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        let mut wrong = None;
        for address in wanted {
            if open.iter().any(|(known, _)| *known == address) {
                continue;
            }
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    log::info!("other nodes reach this one at {address}");
                    let (shared, way) = (Weak::clone(&shared), Arc::clone(&way));
                    let task = tokio::spawn(accept(listener, shared, way, Arc::clone(&shaking)));
                    open.push((address, task));
                }
                Err(error) => {
                    wrong = Some(format!("other nodes cannot reach this one at {address}: {error}"));
                }
            }
        }
        standing.set(open.iter().map(|(address, _)| *address).collect(), wrong);
        tokio::time::sleep(LOOK).await;
    }
    open.iter().for_each(|(_, task)| task.abort());
}

/// Where this node is reached. One that has just joined has not heard of it from the cluster yet.
fn addresses(shared: &Shared) -> Vec<SocketAddr> {
    let cluster = shared.cluster();
    let agreed = cluster.nodes.get(&shared.name).map(|node| node.addresses.clone());
    agreed.unwrap_or_else(|| shared.first_addresses.clone())
}

async fn accept(listener: TcpListener, shared: Weak<Shared>, way: Arc<Way>, shaking: Arc<Semaphore>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or a caller that has gone again.
                log::debug!("a node could not come in: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&shaking).acquire_owned().await else {
            return;
        };
        let (shared, way) = (Weak::clone(&shared), Arc::clone(&way));
        tokio::spawn(async move {
            let taken = take(stream, shared, way, place).await;
            if let Err(error) = taken {
                log::debug!("a connection of another node came to nothing: {error}");
            }
        });
    }
}

/// `place` is one of those for callers that have not shown yet who they are.
async fn take(
    stream: TcpStream,
    shared: Weak<Shared>,
    way: Arc<Way>,
    place: OwnedSemaphorePermit,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let offered = palisade_trust::offered(&stream, HANDSHAKE_WAIT).await?;
    match (offered, shared.upgrade()) {
        (Some(Purpose::Port), Some(shared)) => {
            return take_for_data(stream, shared, way.acceptor().clone()).await;
        }
        // A thread of its own takes them, handshake and all, which is not kept waiting by data.
        (Some(Purpose::Heartbeat), Some(shared)) => {
            let site = shared.site.get();
            let stream = stream.into_std()?;
            if let Some(site) = site {
                site.sensing().called(stream, place);
            }
            return Ok(());
        }
        (Some(Purpose::Port | Purpose::Heartbeat), None) => return Ok(()),
        _ => {}
    }
    let accepted = way.acceptor().accept(stream, HANDSHAKE_WAIT).await;
    let accepted = accepted.map_err(io::Error::other)?;
    match (accepted.purpose, accepted.caller) {
        (Purpose::Raft, Caller::Node(peer, _)) => {
            if let Some(member) = way.member() {
                member.serve(Box::new(accepted.stream), VoterId(peer.node));
            }
            Ok(())
        }
        (Purpose::Join, caller) => match shared.upgrade() {
            Some(shared) => join::answer(accepted.stream, caller, &shared).await,
            None => Ok(()),
        },
        // It is not offered, so nobody agrees on it.
        _ => Ok(()),
    }
}

/// A link for data: the kernel encrypts it, and a reactor has it then. Where it cannot, this program does.
async fn take_for_data(stream: TcpStream, shared: Arc<Shared>, acceptor: Acceptor) -> io::Result<()> {
    let socket = stream.into_std()?;
    socket.set_nonblocking(false)?;
    let (for_kernel, told) = (Arc::clone(&shared), acceptor.clone());
    let Some(socket) = blocking(move || take_by_kernel(socket, &for_kernel, &told)).await? else {
        return Ok(());
    };
    socket.set_nonblocking(true)?;
    let accepted = acceptor
        .accept(TcpStream::from_std(socket)?, HANDSHAKE_WAIT)
        .await;
    let accepted = accepted.map_err(io::Error::other)?;
    let Caller::Node(peer, _) = accepted.caller else {
        return Ok(());
    };
    let link = relayed(accepted.stream)?;
    blocking(move || greeting::take(&shared, peer.node, link)).await
}

/// Does what blocks on a thread that may.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(what).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The socket comes back where the kernel has no TLS of its own.
fn take_by_kernel(
    socket: std::net::TcpStream,
    shared: &Arc<Shared>,
    acceptor: &Acceptor,
) -> io::Result<Option<std::net::TcpStream>> {
    let side = HandshakeSide::Accept(acceptor);
    match handshake(socket, side, Purpose::Port, HANDSHAKE_WAIT).map_err(io::Error::other)? {
        KernelHandshake::Done(link) => {
            greeting::take(shared, link.peer.node, link.socket.into()).map(|()| None)
        }
        KernelHandshake::Absent(socket) => Ok(Some(socket)),
    }
}
