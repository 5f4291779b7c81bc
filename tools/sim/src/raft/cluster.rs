//! The nodes of a run: started, ended in the middle of anything, and started again from what their media have.

use crate::finding::Invariant;
use crate::raft::history::History;
use crate::raft::medium::VoterFile;
use crate::raft::network::{Dialer, Network, RunningVoter, group_of, id_of};
use crate::raft::runtime::Virtual;
use crate::raft::tasks::{Tasks, locked};
use crate::raft::watched_state::WatchedState;
use crate::rng::Rng;
use openraft::{AsyncRuntime, Config, RaftLogReader, SnapshotPolicy};
use palisade_consensus::raft::VoterError;
use palisade_consensus::raft::{Peers, Shown, Shows, VoterFiles, Voting, follow, open, rules};
use palisade_words::{Incarnation, Uuid};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a node looks whether who votes is who should.
const FOLLOWS_EVERY: Duration = Duration::from_millis(100);

/// A node's Raft.
pub type Raft = openraft::Raft<Voting<Virtual>, WatchedState>;

/// All nodes, whether they run or not.
#[derive(Clone, Debug)]
pub struct Nodes {
    files: Arc<Vec<VoterFiles<VoterFile>>>,
    /// Ids of runs that were given.
    runs: Arc<AtomicU64>,
    /// Whether who votes follows the cluster.
    follows: bool,
    config: Arc<Config>,
    network: Network,
    history: Arc<Mutex<History>>,
    observed: Arc<Mutex<Vec<Option<WatchedState>>>>,
}

impl Nodes {
    /// So many nodes with new files, none of which runs.
    ///
    /// # Panics
    /// Files cannot be made in memory, or our own rules do not fit each other.
    pub fn new(
        count: usize,
        network: Network,
        history: Arc<Mutex<History>>,
        rng: &mut Rng,
        syncs: bool,
        follows: bool,
    ) -> Nodes {
        let mut config = rules("simulated").expect("our own rules fit each other");
        // So few that a run sees many states kept, and logs that are too short for who comes late.
        config.snapshot_policy = SnapshotPolicy::LogsSinceLast(rng.between(5, 30));
        config.max_in_snapshot_log_to_keep = rng.between(0, 8);
        config.max_payload_entries = rng.between(1, 20);
        let files = (0..count).map(|node| {
            let file = |name| VoterFile::new(format!("node-{node}/{name}"), syncs);
            let files = VoterFiles {
                log: file("log"),
                state: file("state"),
                peers: file("peers"),
            };
            files.create(id_of(node)).expect("files in memory can be made");
            files
        });
        Nodes {
            files: Arc::new(files.collect()),
            runs: Arc::default(),
            follows,
            config: Arc::new(config),
            network,
            history,
            observed: Arc::new(Mutex::new(vec![None; count])),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Starts a node that does not run. It is there a little later.
    pub fn start(&self, node: usize) {
        let nodes = self.clone();
        let work = async move {
            // One whose media fail while it starts is ended soon, and starts anew.
            if let Err(what) = nodes.run(node).await
                && !parts(&nodes.files[node]).into_iter().any(VoterFile::fails)
            {
                let what = format!("node {node} does not start: {what}");
                locked(&nodes.history).found(Invariant::AllOrNothing, what);
            }
        };
        Tasks::current().spawn_in(group_of(node), Box::pin(work));
    }

    async fn run(&self, node: usize) -> Result<(), String> {
        let files = &self.files[node];
        let opened = open::<Virtual>(id_of(node), &files.log, &files.state);
        let (mut log, state) = opened.map_err(|error| error.to_string())?;
        let peers = self.peers(node, files).map_err(|error| error.to_string())?;
        let shows = Shows::of(&log, &state, &peers);
        let vote = log.read_vote().await.map_err(|error| error.to_string())?;
        let vote = vote.map(|vote| (vote.leader_id.term, vote.leader_id.voted_for, vote.committed));
        locked(&self.history).remembers(node, vote);
        let observed = WatchedState::new(state, node, Arc::clone(&self.history)).await;
        let observed = observed.map_err(|error| error.to_string())?;
        let dialer = Dialer {
            node,
            network: self.network.clone(),
            history: Arc::clone(&self.history),
        };
        let config = Arc::clone(&self.config);
        let raft = Raft::new(id_of(node), config, dialer, log, observed.clone()).await;
        let raft = raft.map_err(|error| error.to_string())?;
        if self.follows {
            let (raft, observed) = (raft.clone(), observed.clone());
            Virtual::spawn(async move {
                loop {
                    Virtual::sleep(FOLLOWS_EVERY).await;
                    // What cannot be changed now is found again.
                    let _ = follow(&raft, &observed.cluster()).await;
                }
            });
        }
        locked(&self.observed)[node] = Some(observed);
        self.network
            .set_node(node, Some(RunningVoter { raft, shows, peers }));
        Ok(())
    }

    fn peers(&self, node: usize, files: &VoterFiles<VoterFile>) -> Result<Peers, VoterError> {
        let run = Uuid(u128::from(self.runs.fetch_add(1, Ordering::Relaxed) + 1));
        Peers::open(id_of(node), Box::new(files.peers.clone()), run, Incarnation(0))
    }

    /// What the files of a node that does not run have, all of them.
    pub fn copy(&self, node: usize) -> FileCopies {
        parts(&self.files[node]).map(VoterFile::copy)
    }

    /// Puts copies in the place of the files of a node that does not run.
    pub fn put_back(&self, node: usize, copies: FileCopies) {
        let files = parts(&self.files[node]);
        files
            .into_iter()
            .zip(copies)
            .for_each(|(file, copy)| file.put_back(copy));
    }

    /// The id of the latest run that anybody is or was in.
    pub fn latest_run(&self) -> Uuid {
        Uuid(u128::from(self.runs.load(Ordering::Relaxed)))
    }

    /// What a node would show that starts with copies; none when it would not start.
    pub fn would_show(&self, node: usize, copies: &FileCopies) -> Option<Shown> {
        let files = self.files[node].clone();
        let files = VoterFiles {
            log: files.log.fork(),
            state: files.state.fork(),
            peers: files.peers.fork(),
        };
        let parts = parts(&files);
        parts
            .into_iter()
            .zip(copies)
            .for_each(|(file, copy)| file.put_back(copy.clone()));
        let (log, state) = open::<Virtual>(id_of(node), &files.log, &files.state).ok()?;
        let peers = self.peers(node, &files).ok()?;
        Some(Shows::of(&log, &state, &peers).now())
    }

    /// Whether a node runs.
    pub fn runs(&self, node: usize) -> bool {
        locked(&self.observed)[node].is_some()
    }

    /// The state machine of a node that runs.
    pub fn observed(&self, node: usize) -> Option<WatchedState> {
        locked(&self.observed)[node].clone()
    }

    /// Ends a node where it is. What it had not synced is left to chance.
    pub fn end(&self, node: usize, rng: &mut Rng) {
        parts(&self.files[node])
            .into_iter()
            .for_each(|file| file.cut_off(rng));
        let observed = locked(&self.observed)[node].take();
        drop(observed);
        self.network.set_node(node, None);
        Tasks::current().end(group_of(node));
    }

    /// Lets the media of a node fail after some operations more, in the middle of what it then does.
    pub fn fail(&self, node: usize, rng: &mut Rng) {
        let operations = rng.below(40);
        let files = parts(&self.files[node]);
        files.into_iter().for_each(|file| file.fail_after(operations));
    }
}

/// What the log, the state and the memory of a node had.
pub type FileCopies = [Option<Vec<u8>>; 3];

fn parts(files: &VoterFiles<VoterFile>) -> [&VoterFile; 3] {
    [&files.log, &files.state, &files.peers]
}
