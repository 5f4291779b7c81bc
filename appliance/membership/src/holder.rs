//! The holder's side of a lease: whether it may go on, and until when.

use crate::clock_watch::{ClockRate, ClockWatch};
use crate::times::LeaseTimes;
use crate::voter::LeaseWord;
use crate::voter_sets::VoterSets;
use palisade_block::Nanos;
use palisade_words::{Epoch, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// Questions of which an answer may still come; an older one is given up.
const QUESTIONS_MAX: usize = 64;

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
}

impl Word {
    /// Whether two voters mean the same majority.
    fn agrees_with(&self, other: &Word) -> bool {
        self.voters == other.voters
    }
}

/// A node that needs a lease to go on. All times are of its own clock.
#[derive(Clone, Debug)]
pub struct LeaseHolder {
    times: LeaseTimes,
    /// Those to be asked, as this node's own log or a voter has named them last.
    voters: VoterSets,
    /// Since when this node is a member, by what it has applied itself: what it does, it does as that member.
    member_since: Epoch,
    next_question: u64,
    /// When each question was sent that may still be answered.
    asked: BTreeMap<u64, Nanos>,
    ask_again: Nanos,
    words: BTreeMap<Uuid, Word>,
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
            times,
            voters,
            member_since,
            next_question: first_question,
            asked: BTreeMap::new(),
            ask_again: now,
            words: BTreeMap::new(),
            clocks: ClockWatch::new(times.drift_ppm),
        }
    }

    /// The voters are these, by this node's own log: they are asked from now on. What counts is what they say themselves.
    pub fn voters_are(&mut self, voters: VoterSets) {
        self.voters = voters;
    }

    /// This node has applied that it is a member since another epoch: it was evicted and taken back. Words for what it was
    /// before count no more, and what it meant to do as that is nobody's any more.
    pub fn member_since_is(&mut self, epoch: Epoch) {
        if epoch != self.member_since {
            self.member_since = epoch;
            self.words.clear();
        }
    }

    /// What is to be asked now, if it is time for that. It is to be sent at once: from `now` on the lease counts.
    pub fn ask(&mut self, now: Nanos) -> Option<LeaseQuestion> {
        if now < self.ask_again {
            return None;
        }
        self.ask_again = now.after(self.times.ask_every());
        let question = self.next_question;
        self.next_question = self.next_question.wrapping_add(1);
        self.asked.insert(question, now);
        if self.asked.len() > QUESTIONS_MAX {
            self.asked.pop_first();
        }
        let lease = self.times.lease;
        self.words.retain(|_, word| now < word.asked.after(lease));
        let named = self.words.values().flat_map(|word| word.voters.all());
        let voters: BTreeSet<Uuid> = self.voters.all().into_iter().chain(named).collect();
        Some(LeaseQuestion {
            question,
            voters: voters.into_iter().collect(),
        })
    }

    /// When to [ask](LeaseHolder::ask) next.
    pub fn next_ask(&self) -> Nanos {
        self.ask_again
    }

    /// A voter has given its word.
    pub fn given(&mut self, word: &LeaseWord, now: Nanos) {
        let Some(&asked) = self.asked.get(&word.question) else {
            return;
        };
        if word.voters.index > self.voters.index {
            self.voters = word.voters.clone();
        }
        self.clocks.seen(word.voter, (asked, now), word.clock);
        if word.member_since != self.member_since {
            return;
        }
        // Answers may overtake each other.
        if self
            .words
            .get(&word.voter)
            .is_none_or(|known| asked >= known.asked)
        {
            let given = Word {
                asked,
                voters: word.voters.clone(),
            };
            self.words.insert(word.voter, given);
        }
    }

    /// Until when this node may go on; `None` when it may not at `now`.
    pub fn until(&self, now: Nanos) -> Option<Nanos> {
        let ends = |word: &Word| word.asked.after(self.times.lease);
        // Only words that agree count together. Who has heard of more than others gives another word: a majority is made
        // neither of the words for what this node was and for what it is, nor of words for voters of before by those of now.
        let of_majority = |word: &Word| {
            let counts = |voter| {
                let other = self.words.get(&voter).filter(|other| other.agrees_with(word))?;
                Some(ends(other)).filter(|ends| now < *ends)
            };
            word.voters.majority_until(counts)
        };
        self.words.values().filter_map(of_majority).max()
    }

    /// Whether it may go on now.
    pub fn holds(&self, now: Nanos) -> bool {
        self.until(now).is_some() && self.clock() != ClockRate::Off
    }

    /// What the voters' clocks say of this one.
    pub fn clock(&self) -> ClockRate {
        self.clocks.judge(&self.voters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u128]) -> BTreeSet<Uuid> {
        nodes.iter().copied().map(Uuid).collect()
    }

    fn holder(voters: &[u128]) -> LeaseHolder {
        let voters = VoterSets::uniform(1, set(voters));
        LeaseHolder::new(LeaseTimes::default(), voters, Epoch(1), 0, Nanos(0))
    }

    fn word(voter: u128, question: u64, voters: VoterSets, clock: u64) -> LeaseWord {
        LeaseWord {
            voter: Uuid(voter),
            question,
            member_since: Epoch(1),
            voters,
            clock: Nanos(clock),
        }
    }

    const LEASE: Nanos = Nanos::from_millis(600);

    #[test]
    fn a_lease_counts_from_the_question_and_needs_a_majority() {
        let mut holder = holder(&[1, 2, 3]);
        let voters = VoterSets::uniform(1, set(&[1, 2, 3]));
        assert!(!holder.holds(Nanos(0)), "nobody was asked");
        let question = holder.ask(Nanos(5)).unwrap();
        assert_eq!(question.voters, [Uuid(1), Uuid(2), Uuid(3)]);
        assert_eq!(holder.ask(Nanos(6)), None);
        assert_eq!(holder.next_ask(), Nanos(5 + LEASE.0 / 4));
        holder.given(&word(1, 0, voters.clone(), 9), Nanos(1000));
        assert_eq!(holder.until(Nanos(1000)), None);
        holder.given(&word(2, 0, voters.clone(), 9), Nanos(2000));
        assert_eq!(holder.until(Nanos(2000)), Some(Nanos(5 + LEASE.0)));
        assert!(holder.holds(Nanos(4 + LEASE.0)) && !holder.holds(Nanos(5 + LEASE.0)));
        holder.given(&word(3, 99, voters, 9), Nanos(3000));
        assert_eq!(
            holder.until(Nanos(3000)),
            Some(Nanos(5 + LEASE.0)),
            "an answer to nothing"
        );
    }

    #[test]
    fn a_late_answer_to_an_earlier_question_takes_nothing_back() {
        let mut holder = holder(&[1]);
        let voters = VoterSets::uniform(1, set(&[1]));
        let later = Nanos(LEASE.0 / 4);
        assert!(holder.ask(Nanos(0)).is_some() && holder.ask(later).is_some());
        holder.given(&word(1, 1, voters.clone(), 9), Nanos(later.0 + 5));
        holder.given(&word(1, 0, voters, 8), Nanos(later.0 + 6));
        assert_eq!(holder.until(later), Some(later.after(LEASE)));
    }

    /// Those of before may not know that this node was evicted by those to come.
    #[test]
    fn who_names_other_voters_counts_for_those_alone() {
        let mut holder = holder(&[1, 2, 3]);
        let old = VoterSets::uniform(1, set(&[1, 2, 3]));
        let joint = VoterSets::joint(7, set(&[1, 2, 3]), set(&[3, 4, 5]));
        assert!(holder.ask(Nanos(0)).is_some());
        holder.given(&word(1, 0, old.clone(), 9), Nanos(1));
        holder.given(&word(2, 0, joint.clone(), 9), Nanos(1));
        holder.given(&word(3, 0, joint.clone(), 9), Nanos(1));
        assert_eq!(
            holder.until(Nanos(1)),
            None,
            "one of three, and two of three beside one of three"
        );
        assert!(holder.ask(Nanos(LEASE.0 / 4)).unwrap().voters.contains(&Uuid(5)));
        holder.given(&word(4, 1, joint, 9), Nanos(LEASE.0 / 4 + 1));
        assert_eq!(
            holder.until(Nanos(LEASE.0 / 4 + 1)),
            Some(LEASE),
            "the first majority is the first to end"
        );
        holder.given(&word(3, 1, old, 9), Nanos(LEASE.0 / 4 + 2));
        assert_eq!(
            holder.until(Nanos(LEASE.0 / 4 + 2)),
            Some(LEASE),
            "an entry taken away again"
        );
    }

    /// It gave its word before it had heard that this node was evicted, and that it is the only voter since.
    #[test]
    fn a_word_given_among_many_does_not_count_alone() {
        let mut holder = holder(&[1, 2, 3]);
        assert!(holder.ask(Nanos(0)).is_some());
        let (old, alone) = (
            VoterSets::uniform(1, set(&[1, 2, 3])),
            VoterSets::uniform(9, set(&[1])),
        );
        holder.given(&word(1, 0, old, 9), Nanos(1));
        holder.voters_are(alone);
        assert_eq!(holder.until(Nanos(2)), None);
    }

    /// One voter has not heard of the eviction, another has heard of the return, on which nobody has agreed yet.
    #[test]
    fn words_for_a_member_of_before_do_not_count_beside_those_for_one_that_came_back() {
        let mut holder = holder(&[1, 2, 3]);
        let voters = VoterSets::uniform(1, set(&[1, 2, 3]));
        assert!(holder.ask(Nanos(0)).is_some());
        holder.given(&word(1, 0, voters.clone(), 9), Nanos(1));
        let back = |voter| LeaseWord {
            member_since: Epoch(6),
            ..word(voter, 0, voters.clone(), 9)
        };
        holder.given(&back(2), Nanos(1));
        holder.given(&back(3), Nanos(1));
        assert_eq!(holder.until(Nanos(1)), None, "it does not know that it came back");
        holder.member_since_is(Epoch(6));
        holder.given(&back(2), Nanos(1));
        assert_eq!(holder.until(Nanos(1)), None);
        holder.given(&back(3), Nanos(1));
        assert_eq!(holder.until(Nanos(1)), Some(LEASE));
    }

    #[test]
    fn questions_that_nobody_answers_are_given_up() {
        let mut holder = holder(&[1]);
        for count in 0..200u64 {
            holder.ask(Nanos(count * LEASE.0)).unwrap();
        }
        let (voters, now) = (VoterSets::uniform(1, set(&[1])), Nanos(199 * LEASE.0 + 5));
        holder.given(&word(1, 100, voters.clone(), 9), now);
        assert_eq!(holder.until(now), None);
        holder.given(&word(1, 199, voters, 9), now);
        assert_eq!(holder.until(now), Some(Nanos(200 * LEASE.0)));
    }
}
