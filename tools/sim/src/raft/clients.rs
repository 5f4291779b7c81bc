//! Who asks the nodes for something: commands and reads, at any node, again and again until somebody answers.

use crate::raft::cluster::{Nodes, Raft};
use crate::raft::history::History;
use crate::raft::network::Network;
use crate::raft::runtime::Virtual;
use crate::raft::tasks::{Tasks, locked};
use crate::rng::Rng;
use openraft::base::BoxFuture;
use openraft::{AsyncRuntime, ReadPolicy};
use palisade_consensus::ProposeError;
use palisade_consensus::raft::{Written, propose};
use palisade_model::{
    AddDisk, AddNode, Command, CreateVolume, DeleteVolume, FEATURE_LEVEL, GrowVolume, InitCluster, Medium,
    MediumRecord, NodeStarted, RaiseFeatureLevel, Usage,
};
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{FeatureLevel, Incarnation, Name, Uuid};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a node waits until a command is agreed on.
const AGREED_WITHIN: Duration = Duration::from_millis(600);

/// How long a client waits for an answer.
const WITHIN: Duration = Duration::from_millis(800);

/// A client at the end of the network.
#[derive(Clone, Debug)]
pub struct VoterClient {
    /// Its number, from 0.
    pub number: u64,
    /// What it asks.
    pub nodes: Nodes,
    /// Over what.
    pub network: Network,
    /// Who hears what it was told.
    pub history: Arc<Mutex<History>>,
}

impl VoterClient {
    /// Asks for some things, one after the other.
    pub async fn run(self, mut rng: Rng, count: u64) {
        let mut node = rng.index(self.nodes.count());
        for number in 0..count {
            Virtual::sleep(Duration::from_micros(rng.between(100, 600_000))).await;
            if number >= 2 && rng.one_in(3) {
                node = self.read(node, &mut rng).await;
                continue;
            }
            let command = command(self.number, number, &mut rng);
            // Without the first two all others are refused.
            let tries = if number < 2 { 30 } else { rng.between(1, 6) };
            let mut was_proposed = false;
            for _ in 0..tries {
                match self.propose(node, command.clone()).await {
                    Some(Ok(_)) => {
                        was_proposed = true;
                        break;
                    }
                    Some(Err(ProposeError::NotLeader { leader })) => {
                        let leader = leader.and_then(|leader| self.node_named(&leader.node));
                        node = leader.unwrap_or_else(|| rng.index(self.nodes.count()));
                    }
                    // What was proposed and not answered may be proposed again.
                    Some(Err(_)) | None => {
                        was_proposed = true;
                        node = rng.index(self.nodes.count());
                    }
                }
                Virtual::sleep(Duration::from_millis(rng.between(1, 200))).await;
            }
            if !was_proposed && matches!(command, Command::CreateVolume(_)) {
                // No other client asks for this one: its volume has an id of its own.
                locked(&self.history).was_turned_away(command);
            }
        }
    }

    fn node_named(&self, name: &Name) -> Option<usize> {
        let number = name.as_str().strip_prefix('n')?.parse().ok()?;
        (number < self.nodes.count()).then_some(number)
    }

    /// Asks a node for a command. What it is told is done the history hears. None when nobody answers.
    pub async fn propose(&self, node: usize, command: Command) -> Option<Result<Written, ProposeError>> {
        let nodes = self.nodes.clone();
        let answer = move |raft: Raft, command| -> BoxFuture<'static, _> {
            let cluster = nodes.observed(node).map(|observed| observed.cluster());
            Box::pin(async move { Some(propose(&raft, &*cluster?, command, AGREED_WITHIN).await) })
        };
        // Nobody stops what comes from a client; it may be lost, or its answer.
        let way = (self.nodes.count(), node);
        let told = self.network.ask(way, command.clone(), WITHIN, answer).await;
        if let Some(Ok(written)) = &told {
            Tasks::current().note([1, self.number, written.term, written.index]);
            locked(&self.history).acknowledge(written, command);
        }
        told
    }

    /// Reads at a node what must not miss anything that was known before. Where to ask next.
    async fn read(&self, node: usize, rng: &mut Rng) -> usize {
        let known = locked(&self.history).known();
        let nodes = self.nodes.clone();
        let answer = move |raft: Raft, ()| -> BoxFuture<'static, _> {
            let nodes = nodes.clone();
            Box::pin(async move {
                raft.ensure_linearizable(ReadPolicy::ReadIndex).await.ok()?;
                // The node may have ended and started anew meanwhile; but then this is of no node any more.
                let mut observed = nodes.observed(node)?;
                observed.position().await.ok()
            })
        };
        let way = (self.nodes.count(), node);
        match self.network.ask(way, (), WITHIN, answer).await {
            Some(position) => {
                Tasks::current().note([2, self.number, position.index.unwrap_or(0)]);
                locked(&self.history).read(node, known, position.index);
                node
            }
            None => rng.index(self.nodes.count()),
        }
    }
}

fn name(prefix: &str, number: u64) -> Name {
    Name::new(format!("{prefix}{number}")).expect("a good name")
}

/// Something that a client may ask for; much of it is refused, or done already, by what others have asked for.
fn command(client: u64, number: u64, rng: &mut Rng) -> Command {
    let volume = rng.below(4);
    match rng.below(12) {
        _ if number == 0 => Command::InitCluster(InitCluster {
            id: Uuid(1),
            node: name("n", 0),
            node_uuid: Uuid(100),
        }),
        _ if number == 1 => Command::AddDisk(AddDisk {
            name: name("d", 0),
            uuid: Uuid(3),
            node: name("n", 0),
            medium: Medium::File {
                path: "/disk".into(),
                bytes: 102 * UNIT * 512,
                created: true,
            },
            record: MediumRecord::default(),
            usage: Usage::Pooled,
            block_bytes: 512,
            sectors: 102 * UNIT,
            data_start: UNIT,
            data_end: 101 * UNIT,
            superblock_pending: false,
        }),
        0 => Command::NodeStarted(NodeStarted {
            node: Uuid(100),
            incarnation: Incarnation(rng.below(20)),
            feature_level: FEATURE_LEVEL,
        }),
        1 => Command::RaiseFeatureLevel(RaiseFeatureLevel {
            to: FeatureLevel(rng.below(FEATURE_LEVEL.0 + 1)),
        }),
        2 => Command::AddNode(AddNode {
            name: name("n", 1 + volume),
            uuid: Uuid(101 + u128::from(volume)),
            addresses: Vec::new(),
            failure_domain: None,
        }),
        3 | 4 => Command::DeleteVolume(DeleteVolume {
            name: name("v", volume),
            expected: None,
            clear: None,
            detaches: false,
        }),
        5 | 6 => Command::GrowVolume(GrowVolume {
            name: name("v", volume),
            sectors: rng.between(1, 12) * UNIT,
            disk: None,
            expected: None,
            clears: false,
        }),
        _ => Command::CreateVolume(CreateVolume {
            name: name("v", volume),
            uuid: Uuid(1_000 + u128::from(client * 1_000 + number)),
            node: name("n", 0),
            disk: None,
            sectors: Some(rng.between(1, 4) * UNIT + 8),
            block_bytes: None,
            clear: None,
            clears: false,
            clears_reused: false,
            clears_unknown_past: false,
        }),
    }
}
