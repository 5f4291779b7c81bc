//! What a run has seen of all nodes, and whether it fits: one sequence of entries, applied by all; one leader in a term; no
//! promise forgotten; nothing acknowledged that is not in the sequence; no read that has missed what was known when it began; and no node that
//! goes back.

use crate::finding::Invariant;
use crate::raft::runtime::Virtual;
use crate::raft::tasks::Tasks;
use crate::rng::mix;
use openraft::EntryPayload;
use openraft::type_config::alias::EntryOf;
use palisade_consensus::raft::{EntryOutcome, Proposal, Shown, VoterId, Voting, Written};
use palisade_model::{Cluster, Command};
use palisade_words::{Generation, LineageId, Uuid};
use std::collections::BTreeMap;

/// An entry as the state machine of a node gets it.
pub type VoterEntry = EntryOf<Voting<Virtual>>;

/// Where a node is: the latest entry it has applied, what that has led to, and the entry that says who votes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AppliedPosition {
    /// The index of the latest entry; none before any.
    pub index: Option<u64>,
    /// The generation of its cluster.
    pub generation: Generation,
    /// The id of that generation.
    pub lineage: LineageId,
    /// The index of the entry by which its voters are.
    pub members_since: Option<u64>,
}

/// How a node came to be where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// It has started.
    Started,
    /// It has applied entries.
    Applied,
    /// It has taken over a snapshot.
    TookSnapshot,
}

/// One entry of the one sequence, and what it has to come to.
#[derive(Debug)]
struct Agreed {
    term: u64,
    words: u64,
    command: Option<Command>,
    outcome: EntryOutcome,
    after: AppliedPosition,
}

/// All that was seen.
#[derive(Debug)]
pub struct History {
    sequence: Vec<Agreed>,
    /// What the sequence has led to so far.
    cluster: Cluster,
    members_since: Option<u64>,
    /// Where each node was when it was last heard of.
    nodes: Vec<AppliedPosition>,
    leaders: BTreeMap<u64, VoterId>,
    /// What each node has promised to others: its vote, in the latest term it has answered anybody in.
    promises: BTreeMap<usize, (u64, VoterId)>,
    /// Who has promised something new last.
    promised_last: Option<usize>,
    acknowledged: Vec<(Written, Command)>,
    turned_away: Vec<Command>,
    /// The latest entry that any client knows of, by an acknowledgement or a read.
    known: Option<u64>,
    /// The latest term and applied entry of one node in messages that counted at another: who has heard, and of whom.
    heard: BTreeMap<(usize, usize), (u64, Option<u64>)>,
    /// The node whose files were put back from a copy.
    forgetful: Option<Forgetful>,
    counts: Counts,
    findings: Vec<(Invariant, u64, String)>,
}

/// A node that has forgotten.
#[derive(Clone, Copy, Debug)]
struct Forgetful {
    node: usize,
    /// The latest run that anybody was in when it forgot.
    runs: Uuid,
}

/// How much has happened in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Entries that were agreed on.
    pub entries: u64,
    /// Commands that clients were told are done, and of those the refused.
    pub acknowledged: u64,
    /// Commands that clients were told the model has refused.
    pub refused: u64,
    /// Commands of which clients were told that they were not proposed at all.
    pub turned_away: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Terms that had a leader.
    pub terms: u64,
    /// Snapshots that nodes have taken over.
    pub snapshots: u64,
    /// Times a node has started.
    pub starts: u64,
    /// Messages of voters with older files that did not count.
    pub not_counted: u64,
    /// Times a node's files were put back from a copy.
    pub forgotten: u64,
    /// Times the voters were another set than before.
    pub voter_changes: u64,
}

impl History {
    /// Of so many nodes that have nothing yet.
    pub fn new(nodes: usize) -> History {
        History {
            sequence: Vec::new(),
            cluster: Cluster::empty(),
            members_since: None,
            nodes: vec![AppliedPosition::default(); nodes],
            leaders: BTreeMap::new(),
            promises: BTreeMap::new(),
            promised_last: None,
            acknowledged: Vec::new(),
            turned_away: Vec::new(),
            known: None,
            heard: BTreeMap::new(),
            forgetful: None,
            counts: Counts::default(),
            findings: Vec::new(),
        }
    }

    /// What does not fit, as far as it was not asked for yet.
    /// Each with its time, in nanoseconds.
    pub fn take_findings(&mut self) -> Vec<(Invariant, u64, String)> {
        std::mem::take(&mut self.findings)
    }

    /// Notes what must not have happened.
    pub fn found(&mut self, invariant: Invariant, what: String) {
        self.findings.push((invariant, Tasks::current().now_ns(), what));
    }

    /// How much has happened.
    pub fn counts(&self) -> Counts {
        Counts {
            entries: self.sequence.len() as u64,
            terms: self.leaders.len() as u64,
            ..self.counts
        }
    }

    /// The latest entry that any client knows of.
    pub fn known(&self) -> Option<u64> {
        self.known
    }

    /// Where a node was when it was last heard of.
    pub fn position(&self, node: usize) -> AppliedPosition {
        self.nodes[node]
    }

    /// A node is about to apply an entry.
    pub fn applies(&mut self, node: usize, entry: &VoterEntry) {
        let (index, term) = (entry.log_id.index(), **entry.log_id.committed_leader_id());
        let words = words_of(entry);
        if let Some(agreed) = self.sequence.get(index as usize) {
            if (agreed.term, agreed.words) != (term, words) {
                let what = format!(
                    "node {node} applies another entry {index} (term {term}) than others (term {}): {:?}",
                    agreed.term, agreed.command
                );
                self.found(Invariant::AllOrNothing, what);
            }
            return;
        }
        if index != self.sequence.len() as u64 {
            let what = format!("node {node} applies entry {index}, and nobody has applied those before it");
            self.found(Invariant::AllOrNothing, what);
            return;
        }
        let (command, outcome) = match &entry.payload {
            EntryPayload::Blank => (None, EntryOutcome::Nothing),
            EntryPayload::Membership(_) => {
                self.members_since = Some(index);
                self.counts.voter_changes += 1;
                (None, EntryOutcome::Nothing)
            }
            EntryPayload::Normal(Proposal(command)) => {
                let outcome = match self.cluster.apply(command) {
                    Ok((next, outcome)) => {
                        self.cluster = next;
                        EntryOutcome::Applied(outcome)
                    }
                    Err(refusal) => EntryOutcome::Refused(refusal),
                };
                (Some(command.clone()), outcome)
            }
        };
        let after = AppliedPosition {
            index: Some(index),
            generation: self.cluster.generation,
            lineage: self.cluster.lineage,
            members_since: self.members_since,
        };
        self.sequence.push(Agreed {
            term,
            words,
            command,
            outcome,
            after,
        });
    }

    /// A node is somewhere: it has applied entries, taken over a snapshot, or started.
    pub fn is_at(&mut self, node: usize, position: AppliedPosition, how: How) {
        match how {
            How::Started => self.counts.starts += 1,
            How::Applied => {}
            How::TookSnapshot => self.counts.snapshots += 1,
        }
        if self.has_forgotten(node) {
            return;
        }
        let before = self.nodes[node];
        if position.index < before.index || position.generation < before.generation {
            let what = format!("node {node} goes back ({how:?}) from {before:?} to {position:?}");
            self.found(Invariant::AllOrNothing, what);
        }
        let expected = match position.index {
            None => Some(AppliedPosition::default()),
            Some(index) => self.sequence.get(index as usize).map(|agreed| agreed.after),
        };
        if expected != Some(position) {
            let what = format!("node {node} is at {position:?} ({how:?}), which should be {expected:?}");
            self.found(Invariant::AllOrNothing, what);
        }
        self.nodes[node] = position;
    }

    /// A node says that it leads.
    pub fn leads(&mut self, term: u64, leader: VoterId) {
        let first = *self.leaders.entry(term).or_insert(leader);
        if first != leader {
            let what = format!("{first} and {leader} both lead in term {term}");
            self.found(Invariant::AllOrNothing, what);
        }
    }

    /// A node answers another, with a vote that is on its medium.
    pub fn promises(&mut self, node: usize, term: u64, voted_for: VoterId) {
        if self.has_forgotten(node) {
            return;
        }
        let promise = self.promises.entry(node).or_insert((term, voted_for));
        if promise.0 < term {
            *promise = (term, voted_for);
            self.promised_last = Some(node);
        }
    }

    /// Who has promised something new since this was asked last.
    pub fn take_promised(&mut self) -> Option<usize> {
        self.promised_last.take()
    }

    /// A node has started, with a vote on its medium: its term, for whom it is, and whether that one was elected. Who has voted
    /// for one and then hears of another who was elected in the same term follows that one.
    pub fn remembers(&mut self, node: usize, vote: Option<(u64, VoterId, bool)>) {
        if self.has_forgotten(node) {
            return;
        }
        let Some(promise) = self.promises.get(&node).copied() else {
            return;
        };
        let is_kept = vote.is_some_and(|(term, voted_for, is_elected)| {
            term > promise.0 || (term == promise.0 && (is_elected || voted_for == promise.1))
        });
        if !is_kept {
            let what = format!("node {node} has promised {promise:?}, and remembers {vote:?} after a start");
            self.found(Invariant::AllOrNothing, what);
        }
    }

    /// The files of a node are older from now on. What it says is checked by nobody but those that it says it to. All runs until
    /// now had ids up to `runs`.
    pub fn forgets(&mut self, node: usize, runs: Uuid) {
        self.counts.forgotten += 1;
        self.forgetful = Some(Forgetful { node, runs });
    }

    /// It has its own files again, and knows what it knew.
    pub fn recalls(&mut self) {
        self.forgetful = None;
    }

    fn has_forgotten(&self, node: usize) -> bool {
        self.forgetful.is_some_and(|forgetful| forgetful.node == node)
    }

    /// A message of a node has come to another one, `at`, which lets it count or does not.
    pub fn counted(&mut self, at: usize, node: usize, shown: Shown, counts: bool) {
        if !counts {
            self.counts.not_counted += 1;
            return;
        }
        let heard = self.heard.entry((at, node)).or_default();
        let forgetful = self.forgetful.filter(|forgetful| forgetful.node == node);
        if forgetful.is_none_or(|forgetful| shown.run <= forgetful.runs) {
            *heard = (heard.0.max(shown.term), heard.1.max(shown.applied));
        } else if shown.term < heard.0 || shown.applied < heard.1 {
            let what =
                format!("node {node} has forgotten, and counts at node {at} with {shown:?} after {heard:?}");
            self.found(Invariant::AllOrNothing, what);
        }
    }

    /// A client was told that its command is done.
    pub fn acknowledge(&mut self, written: &Written, command: Command) {
        self.known = self.known.max(Some(written.index));
        self.counts.acknowledged += 1;
        self.counts.refused += u64::from(matches!(written.outcome, EntryOutcome::Refused(_)));
        self.acknowledged.push((written.clone(), command));
    }

    /// A client was told by all that its command was not proposed at all.
    pub fn was_turned_away(&mut self, command: Command) {
        self.counts.turned_away += 1;
        self.turned_away.push(command);
    }

    /// A client has read at a node that has applied up to `index`; `known` was known when it began.
    pub fn read(&mut self, node: usize, known: Option<u64>, index: Option<u64>) {
        self.counts.reads += 1;
        if index < known {
            let what = format!(
                "a read at node {node} has seen up to {index:?}, and {known:?} was known before it began"
            );
            self.found(Invariant::AllOrNothing, what);
        }
        self.known = self.known.max(index);
    }

    /// At the end: whether all that was acknowledged is in the sequence, with the outcome that was told, and nothing that was turned
    /// away.
    pub fn check_acknowledged(&mut self) {
        let mut wrong = Vec::new();
        for (told, command) in &self.acknowledged {
            let agreed = self.sequence.get(told.index as usize);
            let is_kept = agreed.is_some_and(|agreed| {
                let is_same = agreed.command.as_ref() == Some(command);
                agreed.term == told.term && is_same && agreed.outcome == told.outcome
            });
            if !is_kept {
                let instead = agreed.map(|agreed| (agreed.term, &agreed.command, &agreed.outcome));
                wrong.push(format!(
                    "{told:?} was told of {command:?}, and there is {instead:?}"
                ));
            }
        }
        for command in &self.turned_away {
            if self
                .sequence
                .iter()
                .any(|agreed| agreed.command.as_ref() == Some(command))
            {
                wrong.push(format!("{command:?} was turned away by all, and is agreed on"));
            }
        }
        for what in wrong {
            self.found(Invariant::AllOrNothing, what);
        }
    }
}

/// A hash over what an entry says.
fn words_of(entry: &VoterEntry) -> u64 {
    let text = format!("{:?}", entry.payload);
    text.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}
