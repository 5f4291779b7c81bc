//! The holder's side of a lease: whether it may go on, and until when.

use crate::clock_watch::{ClockRate, ClockReading, ClockWatch};
use crate::times::{LeaseTimes, QUESTIONS_PER_LEASE};
use crate::voter::{LeaseAnswer, LeaseWord};
use crate::voter_sets::VoterSets;
use palisade_block::Nanos;
use palisade_words::{Epoch, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// Questions of which an answer may still come; an older one is given up.
const QUESTIONS_MAX: usize = 64;

/// Words of one voter that are kept, each of another kind. While voters change, words for those of before, for both, and for those
/// to come are given within a lease, and the first ones hold until the last ones are a majority.
const WORDS_MAX: usize = 3;

/// What is to be asked of each of some voters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseQuestion {
    /// Its number, that the answer names.
    pub question: u64,
    /// Who is asked.
    pub voters: Vec<Uuid>,
}

#[derive(Clone, Debug)]
struct Word {
    /// When the question was sent.
    asked: Nanos,
    /// The voters, as the giver has them.
    voters: VoterSets,
    /// How long it holds.
    lease: Nanos,
}

impl Word {
    /// Whether two voters mean the same majority, and the same lease.
    fn agrees_with(&self, other: &Word) -> bool {
        (&self.voters, self.lease) == (&other.voters, other.lease)
    }

    fn ends(&self) -> Nanos {
        self.asked.after(self.lease)
    }

    /// A clock that has gone back shows nothing.
    fn holds(&self, now: Nanos) -> bool {
        self.asked <= now && now < self.ends()
    }
}

/// A node that needs a lease to go on. All times are of its own clock.
#[derive(Clone, Debug)]
pub struct LeaseHolder {
    /// How long a lease lasts, as this node's own log or a voter has named it last. How long a word holds is said by the word.
    lease: Nanos,
    /// Those to be asked, as this node's own log or a voter has named them last, and those named before them.
    voters: [VoterSets; 2],
    /// Since when this node is a member, by what it has applied itself: what it does, it does as that member.
    member_since: Epoch,
    next_question: u64,
    /// When each question was sent that may still be answered.
    asked: BTreeMap<u64, Nanos>,
    asked_last: Option<Nanos>,
    ask_again: Nanos,
    /// Of each voter the latest one of each kind, the latest first.
    words: BTreeMap<Uuid, Vec<Word>>,
    clocks: ClockWatch,
}

impl LeaseHolder {
    /// A node that has no lease yet, knows these voters, and takes itself for a member since an epoch. Its questions are numbered
    /// from `first_question`, which is drawn by chance at each start, so that no answer to an earlier run is taken for one to
    /// this.
    pub fn new(
        times: LeaseTimes,
        voters: VoterSets,
        member_since: Epoch,
        first_question: u64,
        now: Nanos,
    ) -> LeaseHolder {
        LeaseHolder {
            lease: times.lease,
            voters: [voters.clone(), voters],
            member_since,
            next_question: first_question,
            asked: BTreeMap::new(),
            asked_last: None,
            ask_again: now,
            words: BTreeMap::new(),
            clocks: ClockWatch::new(times.drift_ppm, times.lease),
        }
    }

    /// The voters are these, by this node's own log: they are asked from now on, beside those of before. What counts is what they
    /// say themselves.
    pub fn voters_are(&mut self, voters: VoterSets) {
        if voters != self.voters[0] {
            self.voters.swap(0, 1);
            self.voters[0] = voters;
        }
    }

    /// This node has applied that leases last for so long.
    pub fn lease_is(&mut self, lease: Nanos) {
        self.lease = lease;
    }

    /// This node has applied that it is a member since another epoch: it was evicted and taken back. Words for what it was
    /// before count no more, and what it meant to do as that is nobody's any more.
    pub fn member_since_is(&mut self, epoch: Epoch) {
        if epoch != self.member_since {
            self.member_since = epoch;
            self.words.clear();
        }
    }

    /// Since when this node takes itself for a member: a lease is that member's.
    pub fn member_since(&self) -> Epoch {
        self.member_since
    }

    /// What is to be asked now, if it is time for that. It is to be sent at once: from `now` on the lease counts.
    pub fn ask(&mut self, now: Nanos) -> Option<LeaseQuestion> {
        let has_gone_back = self.asked_last.is_some_and(|last| now < last);
        if now < self.ask_again && !has_gone_back {
            return None;
        }
        self.asked_last = Some(now);
        self.ask_again = now.after(Nanos(self.lease.0 / QUESTIONS_PER_LEASE));
        let question = self.next_question;
        self.next_question = self.next_question.wrapping_add(1);
        self.asked.insert(question, now);
        if self.asked.len() > QUESTIONS_MAX {
            self.forget_a_question(question);
        }
        for words in self.words.values_mut() {
            words.retain(|word| word.holds(now));
        }
        self.words.retain(|_, words| !words.is_empty());
        let named = self.words.values().flatten().map(|word| &word.voters);
        let all = self.voters.iter().chain(named).flat_map(VoterSets::all);
        let voters: BTreeSet<Uuid> = all.collect();
        Some(LeaseQuestion {
            question,
            voters: voters.into_iter().collect(),
        })
    }

    /// Numbers begin anew after the last one, so the oldest is the one after the latest.
    fn forget_a_question(&mut self, latest: u64) {
        let oldest = self.asked.range(latest.wrapping_add(1)..).next();
        let oldest = oldest.or_else(|| self.asked.first_key_value());
        if let Some((&oldest, _)) = oldest {
            self.asked.remove(&oldest);
        }
    }

    /// When to [ask](LeaseHolder::ask) next.
    pub fn next_ask(&self) -> Nanos {
        self.ask_again
    }

    /// A voter has answered: its word, or that it does not give it.
    pub fn answered(&mut self, answer: &LeaseAnswer, now: Nanos) {
        let Some(&asked) = self.asked.get(&answer.question) else {
            return;
        };
        if let Ok(word) = &answer.word {
            self.given(answer.voter, word, asked);
        }
        let reading = ClockReading {
            node: answer.voter,
            boot: answer.boot,
            clock: answer.clock,
        };
        self.clocks.answered(&reading, (asked, now), &self.voters[0]);
    }

    fn given(&mut self, voter: Uuid, word: &LeaseWord, asked: Nanos) {
        if word.voters.at > self.voters[0].at {
            self.voters_are(word.voters.clone());
        }
        if word.member_since != self.member_since {
            return;
        }
        self.lease = word.lease;
        let given = Word {
            asked,
            voters: word.voters.clone(),
            lease: word.lease,
        };
        let words = self.words.entry(voter).or_default();
        // Answers may overtake each other.
        match words.iter_mut().find(|known| known.agrees_with(&given)) {
            Some(known) => known.asked = known.asked.max(asked),
            None => words.push(given),
        }
        words.sort_by_key(|word| std::cmp::Reverse(word.asked));
        words.truncate(WORDS_MAX);
    }

    /// A node, voter or not, has shown its clock with a message that was no answer, as each heartbeat does.
    pub fn clock_heard(&mut self, reading: &ClockReading, now: Nanos) {
        self.clocks.heard(reading, now, &self.voters[0]);
    }

    /// Until when this node may go on; `None` when it may not at `now`: there is no majority of words, or its clock does not keep the
    /// bound, so that it cannot tell how long they hold.
    pub fn until(&self, now: Nanos) -> Option<Nanos> {
        if self.clock() == ClockRate::Off {
            return None;
        }
        // Only words that agree count together. Who has heard of more than others gives another word: a majority is made
        // neither of the words for what this node was and for what it is, nor of words for voters of before by those of now.
        let of_majority = |word: &Word| {
            let ends = |voter| {
                let words = self.words.get(&voter)?;
                let other = words.iter().find(|other| other.agrees_with(word))?;
                other.holds(now).then_some(other.ends())
            };
            word.voters.majority_until(ends)
        };
        self.words.values().flatten().filter_map(of_majority).max()
    }

    /// Whether it may go on now.
    pub fn holds(&self, now: Nanos) -> bool {
        self.until(now).is_some()
    }

    /// What the voters' clocks say of this one.
    pub fn clock(&self) -> ClockRate {
        self.clocks.rate()
    }
}

#[cfg(test)]
mod tests;
