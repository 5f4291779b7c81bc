//! Between the nodes: messages that are lost, late, twice there, or stopped in one direction.
//!
//! What is asked and what is answered are messages of their own. An answer that comes when nobody waits for it any more is
//! dropped: who asks gives each question a place of its own for its answer, as who drops a connection that has timed out.

use crate::raft::cluster::Raft;
use crate::raft::history::History;
use crate::raft::oneshot::Once;
use crate::raft::runtime::Virtual;
use crate::raft::sleep::{Moment, Sleep};
use crate::raft::tasks::{TaskGroup, Tasks, locked};
use crate::rng::Rng;
use openraft::async_runtime::{Oneshot, OneshotSender};
use openraft::base::BoxFuture;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{AsyncRuntime, EmptyNode, OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use palisade_consensus::raft::{Peers, Shown, Shows, VoterId, Voting};
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Types = Voting<Virtual>;
type Rpc<T> = Result<T, RPCError<Types>>;

/// What carries messages: no node, so it goes on when nodes end.
const CARRIER: TaskGroup = TaskGroup(1_000);

/// How messages fare.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// How many of a thousand are lost.
    pub lost_permille: u64,
    /// How many of a thousand come twice.
    pub twice_permille: u64,
    /// How many of a thousand are very late.
    pub late_permille: u64,
}

impl Weather {
    /// Nothing goes wrong.
    pub const CALM: Weather = Weather {
        lost_permille: 0,
        twice_permille: 0,
        late_permille: 0,
    };
}

/// How long a message takes, in nanoseconds: the shortest and longest time.
const TAKES_NS: (u64, u64) = (50_000, 4_000_000);
/// The same when it is very late.
const TAKES_LATE_NS: (u64, u64) = (20_000_000, 900_000_000);

/// The network.
#[derive(Clone, Debug)]
pub struct Network(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: Rng,
    weather: Weather,
    /// From where nothing comes to where.
    stopped: BTreeSet<(usize, usize)>,
    nodes: Vec<Option<RunningVoter>>,
}

/// A node that runs: what it is asked, what it shows of itself, and what it remembers of the others.
#[derive(Clone)]
pub struct RunningVoter {
    /// Its Raft.
    pub raft: Raft,
    /// What it shows.
    pub shows: Shows<Virtual>,
    /// What it remembers.
    pub peers: Peers,
}

impl fmt::Debug for RunningVoter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningVoter")
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl Network {
    /// Of so many nodes, none of which runs.
    pub fn new(nodes: usize, rng: Rng) -> Network {
        Network(Arc::new(Mutex::new(State {
            rng,
            weather: Weather::CALM,
            stopped: BTreeSet::new(),
            nodes: vec![None; nodes],
        })))
    }

    /// From now on messages fare so.
    pub fn set_weather(&self, weather: Weather) {
        locked(&self.0).weather = weather;
    }

    /// Stops everything from one node to another.
    pub fn stop(&self, from: usize, to: usize) {
        locked(&self.0).stopped.insert((from, to));
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        locked(&self.0).stopped.clear();
    }

    /// A node runs, or has ended.
    pub fn set_node(&self, node: usize, voter: Option<RunningVoter>) {
        let before = std::mem::replace(&mut locked(&self.0).nodes[node], voter);
        drop(before);
    }

    /// A node that runs.
    pub fn node(&self, node: usize) -> Option<Raft> {
        self.voter(node).map(|voter| voter.raft)
    }

    /// The same with what it remembers. Of a node that the cluster knows of and that is not there nothing runs.
    pub fn voter(&self, node: usize) -> Option<RunningVoter> {
        locked(&self.0).nodes.get(node).cloned().flatten()
    }

    /// How long a message that is sent now takes; none when it is lost.
    fn takes(&self, from: usize, to: usize) -> Option<Duration> {
        let mut state = locked(&self.0);
        let weather = state.weather;
        if state.stopped.contains(&(from, to)) || state.rng.permille(weather.lost_permille) {
            return None;
        }
        let (shortest, longest) = match state.rng.permille(weather.late_permille) {
            true => TAKES_LATE_NS,
            false => TAKES_NS,
        };
        Some(Duration::from_nanos(state.rng.between(shortest, longest)))
    }

    fn is_stopped(&self, from: usize, to: usize) -> bool {
        locked(&self.0).stopped.contains(&(from, to))
    }

    fn comes_twice(&self) -> bool {
        let mut state = locked(&self.0);
        let permille = state.weather.twice_permille;
        state.rng.permille(permille)
    }

    /// Asks a node something, and waits for its answer for so long. None when no answer has come.
    pub async fn ask<Q, A, F>(
        &self,
        way: (usize, usize),
        question: Q,
        within: Duration,
        answer: F,
    ) -> Option<A>
    where
        Q: Clone + Send + 'static,
        A: Send + 'static,
        F: Fn(Raft, Q) -> BoxFuture<'static, Option<A>> + Clone + Send + 'static,
    {
        let (from, to) = way;
        let (sender, receiver) = Once::channel();
        // Kept here as well: nobody hears that a message is lost.
        let place = Arc::new(Mutex::new(Some(sender)));
        // What a client asks comes once: it is asked over a connection.
        let is_node = from < locked(&self.0).nodes.len() - 1;
        for _ in 0..1 + usize::from(is_node && self.comes_twice()) {
            let (network, place, question, answer) =
                (self.clone(), Arc::clone(&place), question.clone(), answer.clone());
            let message = async move {
                let Some(takes) = network.takes(from, to) else {
                    return;
                };
                Virtual::sleep(takes).await;
                if network.is_stopped(from, to) {
                    return;
                }
                let Some(raft) = network.node(to) else { return };
                let work = async move {
                    let Some(answer) = answer(raft, question).await else {
                        return;
                    };
                    let back = async move {
                        let Some(takes) = network.takes(to, from) else {
                            return;
                        };
                        Virtual::sleep(takes).await;
                        if network.is_stopped(to, from) {
                            return;
                        }
                        let sender = locked(&place).take();
                        if let Some(sender) = sender {
                            // Who has asked may have given up.
                            let _ = sender.send(answer);
                        }
                    };
                    Tasks::current().spawn_in(CARRIER, Box::pin(back));
                };
                Tasks::current().spawn_in(group_of(to), Box::pin(work));
            };
            Tasks::current().spawn_in(CARRIER, Box::pin(message));
        }
        let until = Sleep::until(Moment(Tasks::current().now_ns()) + within);
        let answered = crate::raft::sleep::Timeout::new(receiver, until).await;
        drop(place);
        answered.ok()?.ok()
    }
}

/// To which group the tasks of a node belong.
pub fn group_of(node: usize) -> TaskGroup {
    TaskGroup(1 + node as u32)
}

/// The id of a node.
pub fn id_of(node: usize) -> VoterId {
    VoterId(palisade_words::Uuid(100 + node as u128))
}

/// The node of an id.
pub fn node_of(id: VoterId) -> usize {
    (id.0.0 - 100) as usize
}

/// Makes connections for a node.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Whose they are.
    pub node: usize,
    /// Over what.
    pub network: Network,
    /// What the connection hears.
    pub history: Arc<Mutex<History>>,
}

/// From one node to another.
#[derive(Debug)]
pub struct VoterConnection {
    dialer: Dialer,
    to: usize,
}

impl RaftNetworkFactory<Types> for Dialer {
    type Network = VoterConnection;

    async fn new_client(&mut self, target: VoterId, _: &EmptyNode) -> VoterConnection {
        VoterConnection {
            dialer: self.clone(),
            to: node_of(target),
        }
    }
}

impl VoterConnection {
    async fn ask<Q, A, F>(
        &self,
        kind: RPCTypes,
        question: Q,
        within: Duration,
        answer: F,
    ) -> Result<A, Timeout<Types>>
    where
        Q: Clone + Send + 'static,
        A: Send + 'static,
        F: Fn(Raft, Q) -> BoxFuture<'static, Option<A>> + Clone + Send + 'static,
    {
        let way = (self.dialer.node, self.to);
        let answered = self.counted(way, kind, question, within, answer).await;
        answered.ok_or_else(|| Timeout {
            action: kind,
            id: id_of(self.dialer.node),
            target: id_of(self.to),
            timeout: within,
        })
    }

    /// Asks, and shows what the asker has promised; so does the answer. Who shows less than before is not answered, or its answer
    /// does not count.
    async fn counted<Q, A, F>(
        &self,
        way: (usize, usize),
        kind: RPCTypes,
        question: Q,
        within: Duration,
        answer: F,
    ) -> Option<A>
    where
        Q: Clone + Send + 'static,
        A: Send + 'static,
        F: Fn(Raft, Q) -> BoxFuture<'static, Option<A>> + Clone + Send + 'static,
    {
        let (from, to) = way;
        let me = self.dialer.network.voter(from)?;
        let told = match kind == RPCTypes::AppendEntries {
            true => me.peers.told().1,
            false => Vec::new(),
        };
        let (network, history) = (self.dialer.network.clone(), Arc::clone(&self.dialer.history));
        let answer = move |raft: Raft, (question, shown, told): (Q, Shown, Vec<(VoterId, Shown)>)| {
            let (network, history, answer) = (network.clone(), Arc::clone(&history), answer.clone());
            let answered = async move {
                let asked = network.voter(to)?;
                let counts = asked.peers.meets::<Virtual>(id_of(from), shown).await.is_ok();
                locked(&history).counted(to, from, shown, counts);
                if !counts {
                    return None;
                }
                asked.peers.hears::<Virtual>(told).await.ok()?;
                let answer = answer(raft, question).await?;
                Some((answer, asked.shows.now()))
            };
            let answered: BoxFuture<'static, _> = Box::pin(answered);
            answered
        };
        let question = (question, me.shows.now(), told);
        let asked = self.dialer.network.ask(way, question, within, answer).await;
        let (answer, shown) = asked?;
        let counts = me.peers.meets::<Virtual>(id_of(to), shown).await.is_ok();
        locked(&self.dialer.history).counted(from, to, shown, counts);
        counts.then_some(answer)
    }
}

impl RaftNetworkV2<Types> for VoterConnection {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<Types>> {
        let leader = rpc.vote.leader_id;
        locked(&self.dialer.history).leads(leader.term, leader.voted_for);
        let answer = |raft: Raft, rpc| -> BoxFuture<'static, _> {
            Box::pin(async move { raft.append_entries(rpc).await.ok() })
        };
        Ok(self
            .ask(RPCTypes::AppendEntries, rpc, option.hard_ttl(), answer)
            .await?)
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Rpc<VoteResponse<Types>> {
        let (to, history) = (self.to, Arc::clone(&self.dialer.history));
        let answer = move |raft: Raft, rpc| -> BoxFuture<'static, _> {
            let history = Arc::clone(&history);
            Box::pin(async move {
                let answer = raft.vote(rpc).await.ok()?;
                let promise = answer.vote.leader_id;
                locked(&history).promises(to, promise.term, promise.voted_for);
                Some(answer)
            })
        };
        Ok(self.ask(RPCTypes::Vote, rpc, option.hard_ttl(), answer).await?)
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Rpc<VoteResponse<Types>> {
        let answer = |raft: Raft, rpc| -> BoxFuture<'static, _> {
            Box::pin(async move { raft.pre_vote(rpc).await.ok() })
        };
        Ok(self.ask(RPCTypes::Vote, rpc, option.hard_ttl(), answer).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, Vec<u8>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let answer = |raft: Raft, (vote, snapshot)| -> BoxFuture<'static, _> {
            Box::pin(async move { raft.install_full_snapshot(vote, snapshot).await.ok() })
        };
        let asked = self.ask(
            RPCTypes::InstallSnapshot,
            (vote, snapshot),
            option.hard_ttl(),
            answer,
        );
        match Virtual::select2(asked, cancel).await {
            openraft::async_runtime::Select2::First(answered) => Ok(answered?),
            openraft::async_runtime::Select2::Second(closed) => Err(closed.into()),
        }
    }
}
