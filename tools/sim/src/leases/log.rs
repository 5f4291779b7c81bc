//! The log as one node has it, by the rules of Raft: terms, entries that another leader takes away, and what a start forgets.

use super::{World, at, id};
use crate::finding::Invariant;
use palisade_membership::{LogPosition, MembershipChange, VoterSets};
use palisade_words::Uuid;

/// An entry: the term of the leader that has made it, and what it changes.
pub(super) type Entry = (u64, Option<MembershipChange>);

/// What a node has on stable storage, and what it knows as a leader.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub term: u64,
    pub entries: Vec<Entry>,
    pub committed: usize,
    pub is_leader: bool,
    /// How many of its entries each node has acknowledged to it.
    pub matched: Vec<usize>,
    /// It was put back from a copy, and nobody counts it before a leader has confirmed it.
    pub is_suspect: bool,
}

impl Replica {
    pub fn new(entries: Vec<Entry>, count: usize) -> Replica {
        Replica {
            term: 1,
            committed: entries.len(),
            entries,
            is_leader: false,
            matched: vec![0; count],
            is_suspect: false,
        }
    }

    pub fn position(&self, index: usize) -> LogPosition {
        LogPosition {
            term: self.entries[index].0,
            index: index as u64,
        }
    }

    /// The voters by the last entry that names some.
    pub fn voters(&self) -> &VoterSets {
        let voters = self.entries.iter().rev().find_map(|entry| match &entry.1 {
            Some(MembershipChange::Voters(voters)) => Some(voters),
            _ => None,
        });
        voters.unwrap_or_else(|| unreachable!("a log begins with voters"))
    }

    /// All voters that may count by this log: by the last entry, and by those that come to light when it is taken away.
    pub fn all_voters(&self) -> impl Iterator<Item = &VoterSets> {
        let is_old = |entry: &&Entry| matches!(entry.1, Some(MembershipChange::Voters(_)));
        let committed = self.entries[..self.committed].iter().filter(is_old).count();
        let voters = self.entries.iter().filter_map(|entry| match &entry.1 {
            Some(MembershipChange::Voters(voters)) => Some(voters),
            _ => None,
        });
        voters.skip(committed - 1)
    }

    /// Whether the last change of the voters is committed, and an entry of this leader's own.
    pub fn may_change_voters(&self) -> bool {
        (self.voters().at.index as usize) < self.committed
            && self.entries[self.committed - 1].0 == self.term
            && self.is_leader
    }

    /// (Raft, 5.4.1)
    fn is_as_late_as(&self, other: &Replica) -> bool {
        let last = |log: &Replica| (log.entries.last().map(|entry| entry.0), log.entries.len());
        last(self) >= last(other)
    }
}

impl World {
    /// A node asks for votes, of all whom it reaches.
    pub(super) fn elect(&mut self, candidate: usize) {
        let mine = &self.nodes[candidate].log;
        // Who is no voter any more, by an entry that nobody else has, has to lead until another one has it (Raft, 6).
        if !self.nodes[candidate].is_up || mine.is_suspect {
            return;
        }
        let voters = mine.voters().clone();
        let reached: Vec<usize> = voters.all().into_iter().map(at).collect();
        let reached: Vec<usize> = reached
            .into_iter()
            .filter(|voter| self.reaches(candidate, *voter))
            .collect();
        let terms = reached.iter().map(|voter| self.nodes[*voter].log.term);
        let term = terms.fold(mine.term, u64::max) + 1;
        let votes = |voter: &&usize| {
            let log = &self.nodes[**voter].log;
            !log.is_suspect && mine.is_as_late_as(log)
        };
        let votes: Vec<Uuid> = reached.iter().filter(votes).map(|voter| id(*voter)).collect();
        for voter in reached.into_iter().chain([candidate]) {
            self.nodes[voter].log.term = term;
            self.nodes[voter].log.is_leader = false;
        }
        if voters.has_majority(|voter| votes.contains(&voter)) {
            let log = &mut self.nodes[candidate].log;
            log.is_leader = true;
            log.matched.fill(0);
            self.propose(candidate, None);
            self.hash.add([1, candidate as u64, term]);
        }
    }

    /// A leader puts an entry into its own log.
    pub(super) fn propose(&mut self, leader: usize, change: Option<MembershipChange>) {
        let term = self.nodes[leader].log.term;
        self.append(leader, (term, change));
    }

    /// An entry is in a node's log, and its machines are told; only then it is acknowledged to `leader`.
    fn append(&mut self, node: usize, entry: Entry) {
        let node = &mut self.nodes[node];
        node.log.entries.push(entry.clone());
        let position = node.log.position(node.log.entries.len() - 1);
        if let Some(change) = entry.1 {
            if let MembershipChange::Voters(voters) = &change {
                node.holder.voters_are(voters.clone());
            }
            let noted = node.voter.appended(position, change);
            debug_assert_eq!(noted.position(), position);
        }
    }

    /// A leader sends what a node has not got, and the node acknowledges it.
    pub(super) fn replicate(&mut self, leader: usize, to: usize, most: usize) {
        if !self.nodes[leader].log.is_leader {
            return;
        }
        if leader != to {
            if !self.reaches(leader, to) || !self.follows(leader, to) {
                return;
            }
            let (mine, theirs) = (&self.nodes[leader].log, &self.nodes[to].log);
            let same = mine.entries.iter().zip(&theirs.entries);
            let same = same.take_while(|(mine, theirs)| mine.0 == theirs.0).count();
            let next: Vec<Entry> = mine.entries.iter().skip(same).take(most).cloned().collect();
            if !next.is_empty() && theirs.entries.len() > same {
                self.truncate(to, same);
            }
            let has = same + next.len();
            for entry in next {
                self.append(to, entry);
            }
            if !self.nodes[to].log.is_suspect {
                self.nodes[leader].log.matched[to] = has;
            }
            let committed = self.nodes[leader].log.committed.min(has);
            let theirs = &mut self.nodes[to].log;
            theirs.committed = theirs.committed.max(committed);
            self.apply(to);
        }
        self.confirm(leader, to);
        self.commit(leader);
    }

    /// Whether a node follows this leader; if not, that one hears of the later term, and is none any more.
    fn follows(&mut self, leader: usize, to: usize) -> bool {
        let (term, theirs) = (self.nodes[leader].log.term, self.nodes[to].log.term);
        if theirs > term {
            let log = &mut self.nodes[leader].log;
            (log.term, log.is_leader) = (theirs, false);
            return false;
        }
        let log = &mut self.nodes[to].log;
        log.is_leader &= theirs == term;
        log.term = term;
        true
    }

    fn truncate(&mut self, node: usize, from: usize) {
        if from < self.nodes[node].log.committed {
            let what = format!("node {node} loses entry {from}, which was agreed on");
            self.findings.add(Invariant::AllOrNothing, self.real, what);
        }
        let node = &mut self.nodes[node];
        node.log.entries.truncate(from);
        node.voter.truncated(from as u64);
        node.holder.voters_are(node.log.voters().clone());
    }

    /// A leader that has made sure that it is one confirms the log of a voter that has started.
    fn confirm(&mut self, leader: usize, to: usize) {
        let log = &self.nodes[leader].log;
        let started = &self.nodes[to];
        let is_known = log.is_leader && log.entries[log.committed - 1].0 == log.term;
        let has_all = started.log.entries.len() >= log.committed
            && started.log.entries[log.committed - 1].0 == log.entries[log.committed - 1].0;
        if started.voter.is_confirmed() || !is_known || !has_all {
            return;
        }
        let agrees = |voter: Uuid| {
            let other = &self.nodes[at(voter)];
            self.reaches(leader, at(voter)) && !other.log.is_suspect && other.log.term <= log.term
        };
        if log.voters().has_majority(agrees) {
            let (term, run) = (log.term, started.run);
            self.nodes[to].voter.confirmed(run, term);
            self.nodes[to].log.is_suspect = false;
        }
    }

    /// What a majority has is committed, once it is an entry of the leader's own term (Raft, 5.4.2).
    fn commit(&mut self, leader: usize) {
        let log = &self.nodes[leader].log;
        if !log.is_leader {
            return;
        }
        let is_committed = |count: &usize| {
            let has = |voter: Uuid| match at(voter) {
                me if me == leader => true,
                other => log.matched[other] >= *count,
            };
            log.entries[count - 1].0 == log.term && log.voters().has_majority(has)
        };
        let Some(count) = (log.committed + 1..=log.entries.len()).rev().find(is_committed) else {
            return;
        };
        for (index, entry) in log.entries[..count].iter().enumerate() {
            match self.chosen.get(index) {
                None => self.chosen.push(entry.clone()),
                Some(chosen) if chosen == entry => {}
                Some(_) => {
                    let what = format!("entry {index} was agreed on twice");
                    self.findings.add(Invariant::AllOrNothing, self.real, what);
                }
            }
        }
        self.nodes[leader].log.committed = count;
        self.apply(leader);
    }
}
