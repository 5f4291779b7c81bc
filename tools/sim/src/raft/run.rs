//! The scenario: a cluster under faults and under load, which heals when the faults stop.

use crate::finding::{Findings, Invariant};
use crate::plan::Break;
use crate::raft::clients::VoterClient;
use crate::raft::cluster::{Nodes, Raft};
use crate::raft::following::{is_followed, make_voters, some_change};
use crate::raft::forgetting::Forgetting;
use crate::raft::history::{Counts, History};
use crate::raft::network::{Network, Weather, id_of};
use crate::raft::runtime::Virtual;
use crate::raft::tasks::{Tasks, locked};
use crate::rng::{Rng, RunHash};
use openraft::async_runtime::WatchReceiver;
use openraft::base::BoxFuture;
use openraft::{AsyncRuntime, EmptyNode};
use palisade_block::Nanos;
use palisade_consensus::raft::VoterId;
use palisade_consensus::raft::rules::SNAPSHOT_MS;
use palisade_model::Command;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long after the faults a leader must be there, the voters the ones that are wanted, and a new command acknowledged, in
/// nanoseconds. An election takes half a second when nobody disturbs it; two may meet, and whoever waits for a node that was gone
/// asks it again after a while. A voter that is needed may be far behind, and the snapshot for it may have been lost just before,
/// which shows when its time is over.
const HEALS_WITHIN_NS: u64 = 10_000_000_000;

const _: () = assert!(HEALS_WITHIN_NS >= 3 * 1_000_000 * SNAPSHOT_MS);

/// How long after that all nodes must have applied the command, in nanoseconds.
const CATCHES_UP_WITHIN_NS: u64 = 10_000_000_000;

/// How long who votes may take to follow when nothing is in its way, in nanoseconds; when it takes longer it is all asked again.
const FOLLOWS_WITHIN_NS: u64 = 4_000_000_000;

/// How long what blocks takes, in nanoseconds: a commit is two syncs.
const BLOCKING_NS: (u64, u64) = (20_000, 3_000_000);

/// Runs a seed.
pub fn run(mut rng: Rng, broken: Option<Break>, findings: &Findings) -> RunHash {
    let mut runtime = Virtual::seeded(rng.bits());
    play(&mut runtime, rng, broken, findings);
    runtime.tasks().hash()
}

fn play(runtime: &mut Virtual, mut rng: Rng, broken: Option<Break>, findings: &Findings) -> Counts {
    let tasks = Arc::clone(runtime.tasks());
    tasks.set_blocking_ns(BLOCKING_NS.0, BLOCKING_NS.1);
    let count = rng.between(3, 5) as usize;
    let history = Arc::new(Mutex::new(History::new(count)));
    let scene = Scene {
        network: Network::new(count + 1, rng.split("network")),
        history: Arc::clone(&history),
        count,
        syncs: broken != Some(Break::VotersNeverSync),
        follows: rng.split("follows").one_in(2),
    };
    runtime.block_on(scene.play(&mut rng));
    let at = Nanos(tasks.now_ns());
    for what in tasks.take_panics() {
        findings.add(Invariant::Isolation, at, format!("a task panicked: {what}"));
    }
    for (invariant, at_ns, what) in locked(&history).take_findings() {
        findings.add(invariant, Nanos(at_ns), what);
    }
    locked(&history).counts()
}

struct Scene {
    network: Network,
    history: Arc<Mutex<History>>,
    count: usize,
    syncs: bool,
    /// Whether who votes follows the cluster; otherwise an operator says so to Raft.
    follows: bool,
}

impl Scene {
    async fn play(&self, rng: &mut Rng) {
        let nodes = Nodes::new(
            self.count,
            self.network.clone(),
            Arc::clone(&self.history),
            rng,
            self.syncs,
            self.follows,
        );
        (0..self.count).for_each(|node| nodes.start(node));
        let first: BTreeSet<VoterId> = match self.follows {
            true => BTreeSet::from([id_of(0)]),
            false => (0..how_many_voters(self.count, rng)).map(id_of).collect(),
        };
        let clients = (0..rng.between(1, 3)).map(|number| VoterClient {
            number,
            nodes: nodes.clone(),
            network: self.network.clone(),
            history: Arc::clone(&self.history),
        });
        let clients: Vec<VoterClient> = clients.collect();
        self.begin(first).await;
        for client in clients.clone() {
            let asks = rng.between(20, 60);
            Virtual::spawn(
                client
                    .clone()
                    .run(rng.split(&format!("client {}", client.number)), asks),
            );
        }
        let Some(last) = clients.first() else { return };
        let mut forgetting = Forgetting::default();
        self.disturb(&nodes, last, &mut forgetting, rng).await;
        forgetting.end(&nodes, &self.history, rng);
        self.heal(&nodes, last, rng).await;
        self.check(&nodes, rng).await;
    }

    /// The first voters are named once, by the first node.
    async fn begin(&self, voters: BTreeSet<VoterId>) {
        loop {
            Virtual::sleep(Duration::from_millis(10)).await;
            if let Some(raft) = self.network.node(0)
                && raft.initialize(voters.clone()).await.is_ok()
            {
                break;
            }
        }
    }

    async fn disturb(&self, nodes: &Nodes, client: &VoterClient, forgetting: &mut Forgetting, rng: &mut Rng) {
        // From when on somebody starts a node that does not run, in nanoseconds.
        let mut down_until_ns = vec![0; self.count];
        // Half of all clusters have one fault at a time, and mostly a majority that goes on with another leader.
        let one_at_a_time = rng.one_in(2);
        for _ in 0..rng.between(3, 16) {
            // Now and then so long that others elect a leader.
            let ms = match rng.one_in(2) {
                true => rng.between(800, 4_000),
                false => rng.between(1, 600),
            };
            Virtual::sleep(Duration::from_millis(ms)).await;
            let (any, other) = (rng.index(self.count), rng.index(self.count));
            if one_at_a_time && rng.one_in(2) {
                self.network.mend();
                down_until_ns.fill(1);
                self.start_due(nodes, &mut down_until_ns, rng);
                Virtual::sleep(Duration::from_millis(rng.between(0, 2_000))).await;
            }
            // What happens to the leader shows most.
            let node = self.leader().filter(|_| !rng.one_in(3)).unwrap_or(any);
            match rng.below(15) {
                0 | 1 => nodes.end(node, rng),
                2 | 3 => {
                    nodes.fail(node, rng);
                    Virtual::sleep(Duration::from_millis(rng.between(0, 300))).await;
                    nodes.end(node, rng);
                }
                4 => {
                    // The power of all of them.
                    (0..self.count).for_each(|node| nodes.end(node, rng));
                }
                5 => self.network.stop(node, other),
                6 => self.part(rng),
                7 => self.isolate(node),
                8 => self.network.mend(),
                9 => self.network.set_weather(weather(rng)),
                10 | 12 if self.follows => {
                    let (commands, client) = (some_change(self.count, rng), client.clone());
                    Virtual::spawn(async move {
                        for command in commands {
                            // Some of it is refused, some of it lost.
                            client.propose(node, command).await;
                        }
                    });
                }
                13 => forgetting.take_copy(any, nodes, rng),
                14 => {
                    forgetting
                        .put_back(nodes, &self.network, &self.history, rng)
                        .await;
                }
                10 => {
                    let wanted = some_voters(self.count, rng);
                    let (network, at) = (self.network.clone(), node);
                    Virtual::spawn(async move { change_voters(&network, at, wanted.clone(), wanted).await });
                }
                _ => self.end_who_votes(node, nodes, rng).await,
            }
            self.start_due(nodes, &mut down_until_ns, rng);
        }
    }

    /// Keeps a node, mostly the leader, from all others, and ends the first one that then votes, before it hears of the new
    /// leader: nothing but its vote tells of it.
    async fn end_who_votes(&self, leader: usize, nodes: &Nodes, rng: &mut Rng) {
        self.isolate(leader);
        locked(&self.history).take_promised();
        for _ in 0..2_000 {
            Virtual::sleep(Duration::from_millis(1)).await;
            let promised = locked(&self.history).take_promised();
            if let Some(node) = promised {
                return nodes.end(node, rng);
            }
        }
    }

    /// Starts the nodes that do not run and whose time has come; of others it draws the time.
    fn start_due(&self, nodes: &Nodes, down_until_ns: &mut [u64], rng: &mut Rng) {
        let now_ns = Tasks::current().now_ns();
        for (node, until_ns) in down_until_ns.iter_mut().enumerate() {
            if nodes.runs(node) {
                *until_ns = 0;
                continue;
            }
            if *until_ns == 0 {
                *until_ns = now_ns + [0, rng.between(0, 4_000_000_000)][usize::from(!rng.one_in(4))];
            }
            if *until_ns <= now_ns {
                // One that was ended while it started starts anew as well.
                nodes.end(node, rng);
                nodes.start(node);
            }
        }
    }

    /// Nobody hears a node, and it hears nobody.
    fn isolate(&self, node: usize) {
        for other in (0..self.count).filter(|other| *other != node) {
            self.network.stop(node, other);
            self.network.stop(other, node);
        }
    }

    /// A node that takes itself for the leader.
    fn leader(&self) -> Option<usize> {
        (0..self.count).find(|node| self.network.node(*node).is_some_and(|raft| raft.is_leader()))
    }

    /// Two parts of the cluster do not hear each other.
    fn part(&self, rng: &mut Rng) {
        let side: Vec<bool> = (0..self.count).map(|_| rng.one_in(2)).collect();
        for (from, to) in (0..self.count).flat_map(|from| (0..self.count).map(move |to| (from, to))) {
            if side[from] != side[to] {
                self.network.stop(from, to);
            }
        }
    }

    /// The faults stop; all that is asked then is answered.
    async fn heal(&self, nodes: &Nodes, client: &VoterClient, rng: &mut Rng) {
        self.network.mend();
        self.network.set_weather(Weather::CALM);
        for node in 0..self.count {
            // A node whose media failed is there, and does nothing: somebody starts it anew.
            nodes.end(node, rng);
            nodes.start(node);
        }
        let from_ns = Tasks::current().now_ns();
        let (wanted, all) = (
            some_voters(self.count, rng),
            (0..self.count).map(id_of).collect::<BTreeSet<_>>(),
        );
        let mut told = None;
        while told.is_none() && Tasks::current().now_ns() < from_ns + HEALS_WITHIN_NS {
            Virtual::sleep(Duration::from_millis(20)).await;
            for node in 0..self.count {
                let asks = told.is_none()
                    && match self.follows {
                        true => {
                            make_voters(client, node, self.count, &wanted).await
                                && self.is_followed_soon(&wanted).await
                        }
                        false => change_voters(&self.network, node, all.clone(), wanted.clone()).await,
                    };
                if asks {
                    let answered = client.propose(node, Command::HoldClearings).await;
                    told = answered
                        .and_then(|answered| answered.ok())
                        .map(|written| written.index);
                }
            }
        }
        let Some(index) = told else {
            return self.found(
                Invariant::Heals,
                "no new command is acknowledged, long after the faults".into(),
            );
        };
        let from_ns = Tasks::current().now_ns();
        let behind = || {
            let history = locked(&self.history);
            (0..self.count).find(|node| history.position(*node).index < Some(index))
        };
        while behind().is_some() && Tasks::current().now_ns() < from_ns + CATCHES_UP_WITHIN_NS {
            Virtual::sleep(Duration::from_millis(20)).await;
        }
        if let Some(node) = behind() {
            let what = format!("node {node} has not applied entry {index}, long after the faults");
            self.found(Invariant::Heals, what);
        }
    }

    /// Waits a moment until who votes is who should.
    async fn is_followed_soon(&self, wanted: &BTreeSet<VoterId>) -> bool {
        let until_ns = Tasks::current().now_ns() + FOLLOWS_WITHIN_NS;
        while Tasks::current().now_ns() < until_ns {
            if is_followed(&self.network, self.count, wanted) {
                return true;
            }
            Virtual::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// All that was acknowledged is there, on every node, and is still there after another start.
    async fn check(&self, nodes: &Nodes, rng: &mut Rng) {
        (0..self.count).for_each(|node| nodes.end(node, rng));
        (0..self.count).for_each(|node| nodes.start(node));
        Virtual::sleep(Duration::from_millis(100)).await;
        for node in 0..self.count {
            if !nodes.runs(node) {
                self.found(
                    Invariant::AllOrNothing,
                    format!("node {node} does not start at the end"),
                );
            }
        }
        locked(&self.history).check_acknowledged();
    }

    fn found(&self, invariant: Invariant, what: String) {
        locked(&self.history).found(invariant, what);
    }
}

fn weather(rng: &mut Rng) -> Weather {
    Weather {
        lost_permille: [0, 20, 100, 300][rng.index(4)],
        twice_permille: [0, 50, 300][rng.index(3)],
        late_permille: [0, 20, 150][rng.index(3)],
    }
}

fn some_voters(count: usize, rng: &mut Rng) -> BTreeSet<VoterId> {
    let mut all: Vec<usize> = (0..count).collect();
    rng.shuffle(&mut all);
    let many = how_many_voters(count, rng);
    all.into_iter().take(many).map(id_of).collect()
}

/// Mostly so many that one may be missed.
fn how_many_voters(count: usize, rng: &mut Rng) -> usize {
    let least = if rng.one_in(10) { 1 } else { 3 };
    rng.between(least, count as u64) as usize
}

/// Asks a node to let all of `all` hear what is agreed, and to give those of `voters` a vote and nobody else, whatever was left
/// half done by others. Whether that is so now.
async fn change_voters(
    network: &Network,
    node: usize,
    all: BTreeSet<VoterId>,
    voters: BTreeSet<VoterId>,
) -> bool {
    let answer = |raft: Raft, (all, voters)| -> BoxFuture<'static, _> {
        Box::pin(async move { Some(made_voters(&raft, all, voters).await) })
    };
    let asked = network.ask((node, node), (all, voters), Duration::from_secs(3), answer);
    asked.await.unwrap_or(false)
}

async fn made_voters(raft: &Raft, all: BTreeSet<VoterId>, voters: BTreeSet<VoterId>) -> bool {
    if !raft.is_leader() {
        return false;
    }
    let known = members(raft);
    for id in all.difference(&known) {
        if raft.add_learner(*id, EmptyNode {}, false).await.is_err() {
            return false;
        }
    }
    raft.change_membership(voters, true).await.is_ok()
}

fn members(raft: &Raft) -> BTreeSet<VoterId> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    metrics.membership_config.nodes().map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_task_by_task() {
        let trace = |seed| {
            let mut runtime = Virtual::seeded(seed);
            runtime.tasks().keep_trace();
            let rng = Rng::new(seed).split("raft");
            let counts = play(&mut runtime, rng, None, &Findings::default());
            (runtime.tasks().trace(), runtime.tasks().hash(), counts)
        };
        let first = trace(1);
        assert!(first.0.len() > 5_000, "{}", first.0.len());
        assert!(first == trace(1), "the same seed went another way");
        assert!(first.0 != trace(2).0, "another seed went the same way");
    }

    /// What the scenario is about happens in it.
    #[test]
    fn nodes_end_and_start_leaders_change_and_clients_are_answered_all_the_same() {
        let mut all = Counts::default();
        for seed in 1..=20 {
            let findings = Findings::default();
            let rng = Rng::new(seed).split("raft");
            let counts = play(&mut Virtual::seeded(seed), rng, None, &findings);
            assert!(!findings.any(), "{seed}: {:?}", findings.list());
            all.entries += counts.entries;
            all.acknowledged += counts.acknowledged;
            all.refused += counts.refused;
            all.turned_away += counts.turned_away;
            all.reads += counts.reads;
            all.terms += counts.terms;
            all.snapshots += counts.snapshots;
            all.starts += counts.starts;
            all.forgotten += counts.forgotten;
            all.not_counted += counts.not_counted;
            all.voter_changes += counts.voter_changes;
        }
        assert!(
            all.entries > 400 && all.acknowledged > 300 && all.refused > 100,
            "{all:?}"
        );
        assert!(
            all.turned_away > 0 && all.reads > 100 && all.terms > 20,
            "{all:?}"
        );
        assert!(all.snapshots > 5 && all.starts > 100, "{all:?}");
        // Voters with older files were there and did not count, and the voters changed in many ways.
        assert!(
            all.forgotten > 0 && all.not_counted > 10 && all.voter_changes > 60,
            "{all:?}"
        );
    }
}
