//! The connections of one voter to all others: who asks takes one, and gives it back when its answer was there in time.

use crate::raft::network::channel::{Channel, ChannelError};
use crate::raft::network::counts::{Counts, FrameCounts};
use crate::raft::network::frame::{PART_BYTES_MAX, VOTER_BODY_BYTES_MAX};
use crate::raft::network::message::{AppendRecord, StateOffer, VoterContent, VoterMessage};
use crate::raft::network::transport::VoterDial;
use crate::raft::peers::{NotCounted, Peers};
use crate::raft::remembered::Shown;
use crate::raft::shows::Shows;
use crate::raft::voter_id::VoterId;
use openraft_rt_tokio::TokioRuntime;
use palisade_words::Uuid;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Connections to one voter that are kept while nothing is on its way on them.
const IDLE_PER_VOTER_MAX: usize = 4;

/// What one voter has towards all others. Its clones are the same.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: Uuid,
    me: VoterId,
    dial: Arc<dyn VoterDial>,
    shows: Shows<TokioRuntime>,
    peers: Peers,
    counts: Counts,
    idle: Mutex<BTreeMap<VoterId, Vec<Channel>>>,
    /// When a message of a voter that counts came last.
    heard: Mutex<BTreeMap<VoterId, Instant>>,
    /// Whether a majority has answered this node a moment ago, as its leader.
    has_majority: AtomicBool,
    /// Who has said last that it leads, and whether a majority answers it.
    led: Mutex<Option<(VoterId, bool)>>,
    /// Which version of what others have shown was told to a voter last.
    told: Mutex<BTreeMap<VoterId, u64>>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no connection, so that nothing was asked.
    #[error("node {voter} cannot be reached: {why}")]
    Unreachable {
        /// Whom.
        voter: VoterId,
        /// Why.
        why: String,
    },
    /// It was asked, and the answer is not there in time. Its connection is given up.
    #[error("node {voter} has not answered a {what} within {within:?}")]
    TimedOut {
        /// Who.
        voter: VoterId,
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// The connection has ended, or what came over it cannot be read.
    #[error("node {voter} has not answered a {what}: {source}")]
    Broken {
        /// Who.
        voter: VoterId,
        /// What was asked.
        what: &'static str,
        /// Why.
        source: ChannelError,
    },
    /// The answer is not what it should be.
    #[error("an answer of node {voter} is refused: {why}")]
    NotOurs {
        /// Who.
        voter: VoterId,
        /// Why.
        why: String,
    },
    /// What it says does not count.
    #[error("{0}")]
    NotCounted(#[from] NotCounted),
    /// It refuses what this node says.
    #[error("node {voter} refuses what this node says: {why}")]
    Refused {
        /// Who.
        voter: VoterId,
        /// Why.
        why: String,
    },
}

impl Links {
    pub(crate) fn new(
        cluster: Uuid,
        me: VoterId,
        dial: Arc<dyn VoterDial>,
        shows: Shows<TokioRuntime>,
        peers: Peers,
    ) -> Links {
        Links {
            shared: Arc::new(Shared {
                cluster,
                me,
                dial,
                shows,
                peers,
                counts: Counts::default(),
                idle: Mutex::default(),
                heard: Mutex::default(),
                has_majority: AtomicBool::new(false),
                led: Mutex::default(),
                told: Mutex::default(),
            }),
        }
    }

    /// Asks a voter something, and waits for so long. What it answers counts.
    pub(crate) async fn ask(
        &self,
        to: VoterId,
        content: VoterContent,
        within: Duration,
    ) -> Result<VoterContent, AskError> {
        let what = content.name();
        let asked = self.ask_once(to, what, self.body(to, content), None);
        self.in_time(to, what, within, asked).await
    }

    /// Sends entries, as many of them as one frame takes. With the answer comes the last entry sent, when it is not the last of all.
    pub(crate) async fn append(
        &self,
        to: VoterId,
        mut append: AppendRecord,
        within: Duration,
    ) -> Result<(VoterContent, Option<crate::raft::record::PlaceRecord>), AskError> {
        let (what, mut cut) = ("append", None);
        append.has_majority = self.shared.has_majority.load(Ordering::Relaxed);
        let mut body = self.body(to, VoterContent::Append(append.clone()));
        while body.len() > VOTER_BODY_BYTES_MAX && append.halve() {
            cut = append.last();
            body = self.body(to, VoterContent::Append(append.clone()));
        }
        let asked = self.ask_once(to, what, body, None);
        Ok((self.in_time(to, what, within, asked).await?, cut))
    }

    /// Sends a state, and waits until it is taken over.
    pub(crate) async fn send_state(
        &self,
        to: VoterId,
        offer: StateOffer,
        state: &[u8],
        within: Duration,
    ) -> Result<VoterContent, AskError> {
        let what = "state";
        let body = self.body(to, VoterContent::State(offer));
        let asked = self.ask_once(to, what, body, Some(state));
        self.in_time(to, what, within, asked).await
    }

    async fn in_time(
        &self,
        voter: VoterId,
        what: &'static str,
        within: Duration,
        asked: impl Future<Output = Result<VoterContent, AskError>>,
    ) -> Result<VoterContent, AskError> {
        // What is dropped takes its connection along: what comes on it later is the answer to nothing.
        let answered =
            timeout(within, asked)
                .await
                .unwrap_or(Err(AskError::TimedOut { voter, what, within }));
        answered.inspect_err(|error| self.note(voter, error))
    }

    async fn ask_once(
        &self,
        voter: VoterId,
        what: &'static str,
        body: Vec<u8>,
        state: Option<&[u8]>,
    ) -> Result<VoterContent, AskError> {
        let mut channel = self.channel(voter).await?;
        let answer = exchange(&mut channel, &body, state).await;
        let answer = answer.map_err(|source| AskError::Broken { voter, what, source })?;
        self.accept(voter, &answer)
            .await
            .map_err(|not_accepted| match not_accepted {
                NotAccepted::NotTrue(why) => AskError::NotOurs { voter, why },
                NotAccepted::NotCounted(why) => AskError::NotCounted(why),
            })?;
        self.give_back(voter, channel);
        match answer.content {
            VoterContent::Refused(why) => Err(AskError::Refused { voter, why }),
            content => Ok(content),
        }
    }

    /// A connection that nothing is on its way on.
    async fn channel(&self, voter: VoterId) -> Result<Channel, AskError> {
        loop {
            let idle = self.idle().get_mut(&voter).and_then(Vec::pop);
            let Some(mut channel) = idle else { break };
            if channel.is_quiet().await {
                return Ok(channel);
            }
        }
        let stream = self.shared.dial.connect(voter).await;
        stream.map(Channel::over).map_err(|error| AskError::Unreachable {
            voter,
            why: error.to_string(),
        })
    }

    fn give_back(&self, voter: VoterId, channel: Channel) {
        let mut idle = self.idle();
        let idle = idle.entry(voter).or_default();
        if idle.len() < IDLE_PER_VOTER_MAX {
            idle.push(channel);
        }
    }

    /// Whether a message is for this node, by who was authenticated, and whether what it says counts.
    pub(crate) async fn accept(&self, from: VoterId, message: &VoterMessage) -> Result<(), NotAccepted> {
        let shared = &self.shared;
        if message.cluster != shared.cluster {
            return Err(NotAccepted::NotTrue(format!(
                "it is of cluster {}, and this node of cluster {}",
                message.cluster, shared.cluster
            )));
        }
        if message.from != from.0 {
            return Err(NotAccepted::NotTrue(format!(
                "it says that node {} has sent it, and node {from} has",
                message.from
            )));
        }
        if message.to != shared.me.0 {
            return Err(NotAccepted::NotTrue(format!(
                "it is for node {}, and this is node {}",
                message.to, shared.me
            )));
        }
        shared.peers.meets::<TokioRuntime>(from, message.shown).await?;
        let told = shared.peers.hears::<TokioRuntime>(message.told_by_others()).await;
        if let Err(error) = told {
            // It is remembered, and written down with the next promise.
            log::warn!("agreement: what others have promised cannot be written down: {error}");
        }
        if let VoterContent::Append(append) = &message.content {
            let mut led = shared.led.lock().unwrap_or_else(PoisonError::into_inner);
            *led = Some((from, append.has_majority));
        }
        let mut heard = shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(from, Instant::now());
        Ok(())
    }

    /// Whether a majority answers this node, which leads: it tells those who follow.
    pub(crate) fn set_has_majority(&self, has_majority: bool) {
        self.shared.has_majority.store(has_majority, Ordering::Relaxed);
    }

    /// Whether a voter has said last that it leads and a majority answers it.
    pub(crate) fn is_led_with_majority(&self, leader: VoterId) -> bool {
        let led = self.shared.led.lock().unwrap_or_else(PoisonError::into_inner);
        *led == Some((leader, true))
    }

    /// A message to a voter, as the body of a frame. What others have shown goes along when it has changed since.
    pub(crate) fn body(&self, to: VoterId, content: VoterContent) -> Vec<u8> {
        let shared = &self.shared;
        let told = match matches!(content, VoterContent::Append(_)) {
            true => self.to_be_told(to),
            false => BTreeMap::new(),
        };
        let message = VoterMessage {
            cluster: shared.cluster,
            from: shared.me.0,
            to: to.0,
            shown: shared.shows.now(),
            told,
            content,
        };
        // None of it can fail to be JSON: all keys are texts. An empty body would be refused as damaged.
        message.encode().unwrap_or_default()
    }

    fn to_be_told(&self, to: VoterId) -> BTreeMap<Uuid, Shown> {
        let shared = &self.shared;
        let mut told = shared.told.lock().unwrap_or_else(PoisonError::into_inner);
        let last = told.entry(to).or_insert(0);
        if *last == shared.peers.version() {
            return BTreeMap::new();
        }
        let (version, all) = shared.peers.told();
        *last = version;
        let others = all.into_iter().filter(|(voter, _)| *voter != to);
        others.map(|(voter, shown)| (voter.0, shown)).collect()
    }

    fn note(&self, voter: VoterId, error: &AskError) {
        let counts = &self.shared.counts;
        match error {
            // The standing says so, for as long as it is so.
            AskError::Unreachable { .. } => {}
            AskError::Broken {
                source: ChannelError::Io(_),
                ..
            } => {}
            AskError::TimedOut { .. } => counts.timed_out(voter, error.to_string()),
            AskError::Broken { .. } | AskError::NotOurs { .. } => counts.bad_frame(voter, error.to_string()),
            AskError::NotCounted(_) => counts.not_counted(voter, error.to_string()),
            AskError::Refused { .. } => counts.refused(voter, error.to_string()),
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// What has gone wrong with a voter.
    pub fn counts_of(&self, voter: VoterId) -> FrameCounts {
        self.shared.counts.of(voter)
    }

    /// How long ago a message of a voter that counts came last.
    pub fn heard_of(&self, voter: VoterId) -> Option<Duration> {
        let heard = self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&voter).map(Instant::elapsed)
    }

    /// Who this is.
    pub fn me(&self) -> VoterId {
        self.shared.me
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.shared.peers
    }

    /// Lets all connections go that nothing is on its way on.
    pub(crate) fn close(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<VoterId, Vec<Channel>>> {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a message is not taken.
#[derive(Debug)]
pub(crate) enum NotAccepted {
    /// It says of itself what is not true.
    NotTrue(String),
    /// What it says does not count.
    NotCounted(NotCounted),
}

impl From<NotCounted> for NotAccepted {
    fn from(error: NotCounted) -> NotAccepted {
        NotAccepted::NotCounted(error)
    }
}

/// One question and its answer; the parts of a state go behind the question.
async fn exchange(
    channel: &mut Channel,
    body: &[u8],
    state: Option<&[u8]>,
) -> Result<VoterMessage, ChannelError> {
    let number = channel.ask(body).await?;
    let mut offset = 0;
    for part in state.unwrap_or_default().chunks(PART_BYTES_MAX) {
        channel.send_part(number, offset, part).await?;
        offset += u64::try_from(part.len()).unwrap_or_default();
    }
    channel.answered(number).await
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("me", &self.shared.me)
            .field("dial", &self.shared.dial)
            .finish_non_exhaustive()
    }
}
