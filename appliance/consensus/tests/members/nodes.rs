//! Members in one process, over TCP on the loopback interface: each listens, and says who it is with the first 16 bytes, which an
//! appliance's certificate says otherwise.

use palisade_consensus::Agreement;
use palisade_consensus::raft::network::transport::Dialing;
use palisade_consensus::raft::{
    ClusterMember, MemberError, MemberRole, MemberSettings, MemberStanding, VoterDial, VoterId, VoterStream,
};
use palisade_model::*;
use palisade_words::{FeatureLevel, Name, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const CLUSTER: Uuid = Uuid(1);

/// How long something may take that is to come about by itself: the machine may have much else to do.
pub const SOON: Duration = Duration::from_secs(20);

/// Where everybody is, and who cannot reach whom.
#[derive(Clone, Debug, Default)]
pub struct Wires(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    addresses: BTreeMap<VoterId, SocketAddr>,
    cut: BTreeSet<VoterId>,
}

impl Wires {
    fn address(&self, from: VoterId, to: VoterId) -> io::Result<SocketAddr> {
        let state = self.0.lock().expect("nobody panics with it");
        match state.cut.contains(&from) != state.cut.contains(&to) {
            true => Err(io::ErrorKind::NetworkUnreachable.into()),
            false => state
                .addresses
                .get(&to)
                .copied()
                .ok_or_else(|| io::ErrorKind::ConnectionRefused.into()),
        }
    }

    fn is_cut(&self, from: VoterId, to: VoterId) -> bool {
        self.address(from, to).is_err()
    }
}

#[derive(Clone, Debug)]
struct Dialer {
    me: VoterId,
    wires: Wires,
}

impl VoterDial for Dialer {
    fn connect(&self, voter: VoterId) -> Dialing {
        let (me, wires) = (self.me, self.wires.clone());
        Box::pin(async move {
            let mut stream = TcpStream::connect(wires.address(me, voter)?).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&me.0.0.to_le_bytes()).await?;
            Ok(Box::new(stream) as Box<dyn VoterStream>)
        })
    }
}

/// A node, whether it runs or not.
pub struct Node {
    pub home: TempDir,
    pub member: Option<Arc<ClusterMember>>,
    listens: Option<tokio::runtime::Runtime>,
}

/// All nodes.
pub struct Members {
    pub nodes: Vec<Node>,
    pub wires: Wires,
    runs: AtomicU64,
}

pub fn id(number: usize) -> VoterId {
    VoterId(Uuid(number as u128 + 100))
}

pub fn name(number: usize) -> Name {
    Name::new(format!("n{number}")).expect("a good name")
}

impl Members {
    /// So many nodes with new files, none of which runs.
    pub fn of(count: usize) -> Members {
        let node = |number| {
            let home = tempfile::tempdir().expect("a directory can be made");
            ClusterMember::create(home.path(), id(number)).expect("the files of a member can be made");
            Node {
                home,
                member: None,
                listens: None,
            }
        };
        Members {
            nodes: (0..count).map(node).collect(),
            wires: Wires::default(),
            runs: AtomicU64::new(1),
        }
    }

    /// So many members, all of which vote.
    pub fn formed(count: usize) -> Members {
        let mut all = Members::of(count);
        (0..count).for_each(|number| all.start(number));
        all.found();
        (1..count).for_each(|number| all.join(number));
        all.await_voters(&(0..count).collect::<Vec<_>>());
        all
    }

    /// The first node begins the cluster.
    pub fn found(&self) {
        self.member(0).begin().expect("it can begin");
        self.ask(
            0,
            Command::InitCluster(InitCluster {
                id: CLUSTER,
                node: name(0),
                node_uuid: id(0).0,
            }),
        );
        self.starts(0);
        let to = FEATURE_LEVEL;
        self.ask(0, Command::RaiseFeatureLevel(RaiseFeatureLevel { to }));
    }

    /// A node says that it has started.
    pub fn starts(&self, number: usize) {
        let started = NodeStarted {
            node: id(number).0,
            incarnation: self.member(number).incarnation(),
            feature_level: FeatureLevel(FEATURE_LEVEL.0),
        };
        self.ask(number, Command::NodeStarted(started));
    }

    /// A node comes into the cluster, and is to vote.
    pub fn join(&self, number: usize) {
        self.ask(
            0,
            Command::AddNode(AddNode {
                name: name(number),
                uuid: id(number).0,
                addresses: Vec::new(),
                failure_domain: None,
            }),
        );
        eventually("the joiner is told of the cluster", || {
            self.member(number).cluster().node_by_id(id(number).0).is_some()
        });
        self.starts(number);
        self.vote(number, NodeRole::Voter);
    }

    pub fn vote(&self, number: usize, role: NodeRole) {
        self.ask(
            0,
            Command::ChangeNode(ChangeNode {
                name: name(number),
                addresses: None,
                failure_domain: None,
                role: Some(role),
                expected: None,
            }),
        );
    }

    /// Asks a node, again and again, until it is done.
    pub fn ask(&self, number: usize, command: Command) -> Outcome {
        let until = Instant::now() + SOON;
        loop {
            match self.member(number).propose(command.clone()) {
                Ok(outcome) => return outcome,
                Err(error) => assert!(
                    Instant::now() < until,
                    "{command:?}: {error}; {:?}",
                    self.standings()
                ),
            }
        }
    }

    pub fn start(&mut self, number: usize) {
        let settings = self.settings(number);
        self.start_with(number, settings);
    }

    pub fn settings(&self, number: usize) -> MemberSettings {
        let run = Uuid(u128::from(self.runs.fetch_add(1, Ordering::Relaxed)));
        MemberSettings {
            propose_within: Duration::from_secs(2),
            ..MemberSettings::of(id(number), CLUSTER, run)
        }
    }

    pub fn start_with(&mut self, number: usize, settings: MemberSettings) {
        let (me, wires) = (id(number), self.wires.clone());
        let dial: Arc<dyn VoterDial> = Arc::new(Dialer {
            me,
            wires: wires.clone(),
        });
        // The threads of a member that was dropped may have its files for a moment longer.
        let path: PathBuf = self.nodes[number].home.path().into();
        let until = Instant::now() + SOON;
        let member = loop {
            match ClusterMember::start(&path, settings.clone(), Arc::clone(&dial)) {
                Ok(member) => break Arc::new(member),
                Err(error) if is_in_use(&error) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20))
                }
                Err(error) => panic!("node {number} does not start: {error}"),
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be had");
        let served = Arc::downgrade(&member);
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port can be had");
        let address = listener.local_addr().expect("it has one");
        wires
            .0
            .lock()
            .expect("nobody panics with it")
            .addresses
            .insert(me, address);
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut from = [0; 16];
                if stream.read_exact(&mut from).await.is_err() {
                    continue;
                }
                let from = VoterId(Uuid(u128::from_le_bytes(from)));
                let Some(member) = served.upgrade() else { return };
                if !wires.is_cut(from, me) {
                    let cut = Severed {
                        stream,
                        wires: wires.clone(),
                        ends: (from, me),
                    };
                    member.serve(Box::new(cut), from);
                }
            }
        });
        self.nodes[number].member = Some(member);
        self.nodes[number].listens = Some(runtime);
    }

    /// Ends a node where it is.
    pub fn kill(&mut self, number: usize) {
        self.ends(number);
        self.nodes[number].member = None;
    }

    /// Stops a node in good order.
    pub fn stop(&mut self, number: usize) {
        self.ends(number);
        let member = self.nodes[number].member.take().expect("it runs");
        Arc::into_inner(member).expect("nobody else has it").stop();
    }

    fn ends(&mut self, number: usize) {
        let me = id(number);
        self.wires
            .0
            .lock()
            .expect("nobody panics with it")
            .addresses
            .remove(&me);
        if let Some(listens) = self.nodes[number].listens.take() {
            listens.shutdown_timeout(Duration::from_secs(1));
        }
    }

    /// From now on these reach each other, and all others each other, but not these those.
    pub fn cut(&self, some: &[usize]) {
        let mut state = self.wires.0.lock().expect("nobody panics with it");
        state.cut = some.iter().map(|number| id(*number)).collect();
    }

    pub fn member(&self, number: usize) -> &ClusterMember {
        self.nodes[number].member.as_ref().expect("it runs")
    }

    /// Waits for a leader among these.
    pub fn leader(&self, among: &[usize]) -> usize {
        let mut found = None;
        eventually("somebody leads", || {
            found = among.iter().copied().find(|number| {
                let standing = self.member(*number).standing();
                standing.role == MemberRole::Leader && standing.has_majority
            });
            found.is_some()
        });
        found.expect("it was found")
    }

    /// How all that run stand.
    pub fn standings(&self) -> Vec<MemberStanding> {
        let running = self.nodes.iter().filter_map(|node| node.member.as_ref());
        running.map(|member| member.standing()).collect()
    }

    /// Waits until these vote, and nobody else, as all of them see it.
    pub fn await_voters(&self, voters: &[usize]) {
        let wanted: BTreeSet<VoterId> = voters.iter().map(|number| id(*number)).collect();
        eventually(&format!("{voters:?} vote"), || {
            // While there are two sets, one that goes may be missed in neither.
            let sets = |number: &usize| self.member(*number).standing().voters;
            voters.iter().all(|number| sets(number) == [wanted.clone()])
        });
    }

    pub fn voters(&self, number: usize) -> BTreeSet<VoterId> {
        let members = self.member(number).standing().members;
        members
            .iter()
            .filter(|peer| peer.votes)
            .map(|peer| peer.id)
            .collect()
    }

    /// Waits until all of these have one cluster, of at least a generation.
    pub fn await_same(&self, numbers: &[usize]) {
        eventually("all have the same cluster", || {
            let first = self.member(numbers[0]).cluster();
            numbers
                .iter()
                .all(|number| self.member(*number).cluster() == first)
        });
    }
}

/// A change of the cluster that leaves something to be seen: nodes that have not come yet.
pub fn change(number: u64) -> Command {
    Command::AddNode(AddNode {
        name: Name::new(format!("later{number}")).expect("a good name"),
        uuid: Uuid(10_000 + u128::from(number)),
        addresses: Vec::new(),
        failure_domain: None,
    })
}

pub fn undo(number: u64) -> Command {
    Command::RemoveNode(RemoveNode {
        name: Name::new(format!("later{number}")).expect("a good name"),
        expected: None,
    })
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_in_use(error: &MemberError) -> bool {
    let text = error.to_string();
    text.contains("is locked") || text.contains("another daemon")
}

/// A connection that is at its end once its ends are cut off from each other.
struct Severed {
    stream: TcpStream,
    wires: Wires,
    ends: (VoterId, VoterId),
}

impl tokio::io::AsyncRead for Severed {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        out: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let polled = std::pin::Pin::new(&mut self.stream).poll_read(context, out);
        match polled.is_ready() && self.wires.is_cut(self.ends.0, self.ends.1) {
            true => std::task::Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            false => polled,
        }
    }
}

impl tokio::io::AsyncWrite for Severed {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        match self.wires.is_cut(self.ends.0, self.ends.1) {
            true => std::task::Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            false => std::pin::Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
