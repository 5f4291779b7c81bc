//! How this node reaches others, and proves who is at each end.

use crate::cluster::membership_file::MembershipFile;
use palisade_consensus::Agreement;
use palisade_consensus::raft::{ClusterMember, Dialing, VoterDial, VoterId, VoterStream};
use palisade_trust::kernel::handshake;
use palisade_trust::{Acceptor, Connector, HandshakeSide, KernelHandshake, Purpose, Roster};
use palisade_words::Uuid;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::runtime::Handle;

/// How long one address of a node is tried.
const CONNECT_WAIT: Duration = Duration::from_millis(500);

/// How long a handshake may take.
pub(crate) const HANDSHAKE_WAIT: Duration = Duration::from_secs(2);

/// Bytes that are on their way at once where this program encrypts, in each direction.
const RELAYED_BYTES: usize = 256 << 10;

/// The way to other nodes, and from them.
#[derive(Debug)]
pub(crate) struct Way {
    connector: Connector,
    acceptor: Acceptor,
    roster: Arc<Roster>,
    /// Where nodes were reached when this one became one of several.
    first: BTreeMap<Uuid, Vec<SocketAddr>>,
    member: OnceLock<Weak<ClusterMember>>,
    /// Where connections are secured that the kernel does not.
    threads: OnceLock<Handle>,
}

impl Way {
    pub(super) fn new(
        file: &MembershipFile,
        connector: Connector,
        acceptor: Acceptor,
        roster: Arc<Roster>,
    ) -> Way {
        Way {
            connector,
            acceptor,
            roster,
            first: file.nodes.clone(),
            member: OnceLock::new(),
            threads: OnceLock::new(),
        }
    }

    pub(super) fn set_member(&self, member: &Arc<ClusterMember>) {
        // It is started once.
        let _ = self.member.set(Arc::downgrade(member));
    }

    pub(super) fn set_threads(&self, threads: Handle) {
        // They are made once.
        let _ = self.threads.set(threads);
    }

    fn threads(&self) -> io::Result<&Handle> {
        let threads = self.threads.get();
        threads.ok_or_else(|| io::Error::other("the threads for other nodes have not begun"))
    }

    /// This node's part of the agreement, while there is one.
    pub fn member(&self) -> Option<Arc<ClusterMember>> {
        self.member.get()?.upgrade()
    }

    /// Which nodes there are, by which keys.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Who takes connections.
    pub fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    /// Where a node is reached: as it was agreed on, or, before this node has heard of that, as it was told when it joined.
    fn addresses(&self, node: Uuid) -> Vec<SocketAddr> {
        let agreed = self.member().and_then(|member| {
            let cluster = member.cluster();
            cluster.node_by_id(node).map(|(_, node)| node.addresses.clone())
        });
        let known = agreed.filter(|addresses| !addresses.is_empty());
        known.unwrap_or_else(|| self.first.get(&node).cloned().unwrap_or_default())
    }

    async fn connect_for_raft(&self, voter: VoterId) -> io::Result<Box<dyn VoterStream>> {
        let mut last = io::Error::other(format!("no address of node {voter} is known"));
        for address in self.addresses(voter.0) {
            let stream = match reach(address, CONNECT_WAIT).await {
                Ok(stream) => stream,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let secured = self
                .connector
                .connect(stream, voter.0, Purpose::Raft, HANDSHAKE_WAIT)
                .await;
            match secured {
                Ok((stream, _)) => return Ok(Box::new(stream)),
                Err(error) => last = io::Error::other(error),
            }
        }
        Err(last)
    }

    /// Makes a connection for heartbeats to a node at one of its addresses, from the thread that sends them.
    ///
    /// # Errors
    /// Nobody answers there, or it is not that node.
    pub(super) async fn connect_for_heartbeats(
        &self,
        peer: Uuid,
        address: SocketAddr,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + 'static + use<>> {
        let stream = reach(address, CONNECT_WAIT).await?;
        let secured = self
            .connector
            .connect(stream, peer, Purpose::Heartbeat, HANDSHAKE_WAIT)
            .await;
        Ok(secured.map_err(io::Error::other)?.0)
    }

    /// Makes a connection for data to a node at one of its addresses: authenticated at both ends, and encrypted. Blocks, to connect
    /// for so long at most.
    ///
    /// # Errors
    /// Nobody answers there, or it is not that node.
    pub fn connect_for_data(&self, peer: Uuid, address: SocketAddr, within: Duration) -> io::Result<OwnedFd> {
        let socket = TcpStream::connect_timeout(&address, within)?;
        socket.set_nodelay(true)?;
        let side = HandshakeSide::Connect(&self.connector, peer);
        match handshake(socket, side, Purpose::Port, HANDSHAKE_WAIT).map_err(io::Error::other)? {
            KernelHandshake::Done(link) => Ok(link.socket.into()),
            KernelHandshake::Absent(socket) => {
                let connector = self.connector.clone();
                let secured = async move {
                    socket.set_nonblocking(true)?;
                    let stream = tokio::net::TcpStream::from_std(socket)?;
                    let secured = connector
                        .connect(stream, peer, Purpose::Port, HANDSHAKE_WAIT)
                        .await;
                    let (stream, _) = secured.map_err(io::Error::other)?;
                    relayed(stream)
                };
                // On a thread of its own, which waits for nothing else.
                self.threads()?.block_on(secured)
            }
        }
    }
}

/// A connection to an address, made within a time.
pub(super) async fn reach(address: SocketAddr, within: Duration) -> io::Result<tokio::net::TcpStream> {
    let connecting = tokio::net::TcpStream::connect(address);
    let connected = tokio::time::timeout(within, connecting).await;
    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes connections to other voters.
#[derive(Debug)]
pub(super) struct Dial(pub(super) Arc<Way>);

impl VoterDial for Dial {
    fn connect(&self, voter: VoterId) -> Dialing {
        let way = Arc::clone(&self.0);
        Box::pin(async move { way.connect_for_raft(voter).await })
    }
}

/// Where the kernel has no TLS of its own, this program encrypts: a reactor has one end of a pair of sockets, and what comes by the
/// other goes on in TLS, and back. It costs two more copies, and a thread's turn on each way.
pub(super) fn relayed<S>(mut secured: S) -> io::Result<OwnedFd>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (of_reactor, of_relay) = std::os::unix::net::UnixStream::pair()?;
    of_relay.set_nonblocking(true)?;
    let mut inner = tokio::net::UnixStream::from_std(of_relay)?;
    tokio::spawn(async move {
        let bytes = RELAYED_BYTES;
        let ended = copy_bidirectional_with_sizes(&mut secured, &mut inner, bytes, bytes).await;
        if let Err(error) = ended {
            log::debug!("a link to another node has ended: {error}");
        }
    });
    Ok(of_reactor.into())
}
