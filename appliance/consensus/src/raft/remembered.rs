//! What each voter has shown of itself, as its peers remember it.
//!
//! A voter whose files were put back from a copy does not know what it has promised since: it can vote twice in a term, and confirm
//! entries that it has lost. It cannot find that out by itself, but the others can: it shows less than it has shown
//! before. What it says then does not count, until it shows as much again.
//!
//! Messages of one run may overtake each other, so one that shows less is nothing but refused: nobody is marked for it.

use crate::raft::voter_id::VoterId;
use palisade_words::Incarnation;
use std::collections::BTreeMap;
use std::fmt;

/// What a voter shows of itself with a message. None of it ever goes back while its files are its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Which of its runs it is in.
    pub incarnation: Incarnation,
    /// The latest term it has promised something in.
    pub term: u64,
    /// Whom it has promised it to.
    pub voted_for: VoterId,
    /// Whether it knows that this one was elected. Who has voted for another follows it all the same.
    pub is_elected: bool,
    /// The latest entry that it has applied; none before any. (The latest one in its log may go back: another leader takes
    /// away what was never agreed on.)
    pub applied: Option<u64>,
}

/// A voter shows less than it has shown before. What it says does not count.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "node {voter} shows {less}, and has shown more before: it is late, or its files are a copy from before. It does not count \
     until it shows as much again; when it stays so, take it out of the cluster and let it join anew with an empty directory"
)]
pub struct ShowsLess {
    /// Which.
    pub voter: VoterId,
    /// What it shows less of.
    pub less: Less,
}

/// What a voter shows less of, or otherwise: what it shows and what it has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Less {
    /// It is in an earlier run.
    Incarnation(Incarnation, Incarnation),
    /// It has promised something in an earlier term only.
    Term(u64, u64),
    /// It has promised the same term to another, who was not elected.
    VotedFor(VoterId, VoterId),
    /// It does not know any more who was elected in the term.
    Elected(VoterId),
    /// It has applied less.
    Applied(Option<u64>, Option<u64>),
}

impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |index: &Option<u64>| index.map_or_else(|| "none".to_owned(), |index| index.to_string());
        match self {
            Less::Incarnation(now, before) => write!(f, "run {now} after run {before}"),
            Less::Term(now, before) => write!(f, "term {now} after term {before}"),
            Less::VotedFor(now, before) => {
                write!(f, "a vote for {now} in a term in which it voted for {before}")
            }
            Less::Elected(leader) => write!(f, "nothing of {leader}, whom it has followed in this term"),
            Less::Applied(now, before) => {
                write!(f, "entry {} as applied after entry {}", entry(now), entry(before))
            }
        }
    }
}

/// The most that each voter has shown.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    voters: BTreeMap<VoterId, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    shown: Shown,
    refused: u64,
}

impl Remembered {
    /// A message of a voter shows something of it. Whether what it says counts.
    ///
    /// # Errors
    /// It shows less than it has shown before; that is counted.
    pub fn meets(&mut self, voter: VoterId, shown: Shown) -> Result<(), ShowsLess> {
        let known = self.voters.entry(voter).or_insert(Known { shown, refused: 0 });
        match less(shown, known.shown) {
            None => {
                known.shown = shown;
                Ok(())
            }
            Some(less) => {
                known.refused += 1;
                Err(ShowsLess { voter, less })
            }
        }
    }

    /// How many messages of a voter did not count.
    pub fn refused(&self, voter: VoterId) -> u64 {
        self.voters.get(&voter).map_or(0, |known| known.refused)
    }
}

fn less(now: Shown, before: Shown) -> Option<Less> {
    if now.incarnation < before.incarnation {
        return Some(Less::Incarnation(now.incarnation, before.incarnation));
    }
    if now.term < before.term {
        return Some(Less::Term(now.term, before.term));
    }
    if now.term == before.term && before.is_elected && !now.is_elected {
        return Some(Less::Elected(before.voted_for));
    }
    // A term has one leader, so that nobody follows two.
    let follows_first = now.is_elected && !before.is_elected;
    if now.term == before.term && now.voted_for != before.voted_for && !follows_first {
        return Some(Less::VotedFor(now.voted_for, before.voted_for));
    }
    if now.applied < before.applied {
        return Some(Less::Applied(now.applied, before.applied));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_words::Uuid;

    const A: VoterId = VoterId(Uuid(1));
    const B: VoterId = VoterId(Uuid(2));

    /// `applied` counts entries.
    fn shown(incarnation: u64, (term, voted_for): (u64, VoterId), applied: u64) -> Shown {
        Shown {
            incarnation: Incarnation(incarnation),
            term,
            voted_for,
            is_elected: false,
            applied: applied.checked_sub(1),
        }
    }

    fn elected(shown: Shown) -> Shown {
        Shown {
            is_elected: true,
            ..shown
        }
    }

    #[test]
    fn who_shows_as_much_or_more_counts() {
        let mut remembered = Remembered::default();
        let all = [
            shown(1, (0, A), 0),
            shown(1, (1, A), 0),
            shown(1, (1, A), 5),
            shown(2, (1, A), 5),
            // It has voted for one, and another was elected.
            elected(shown(2, (1, B), 5)),
            shown(2, (3, A), 6),
            shown(2, (3, A), 6),
        ];
        for shown in all {
            assert_eq!(remembered.meets(A, shown), Ok(()));
        }
        // Of another voter nothing is known by that.
        assert_eq!(remembered.meets(B, shown(1, (0, A), 0)), Ok(()));
        assert_eq!((remembered.refused(A), remembered.refused(B)), (0, 0));
    }

    #[test]
    fn who_shows_less_of_anything_does_not_count_and_is_counted() {
        let before = elected(shown(3, (7, A), 9));
        let cases = [
            (shown(2, (8, B), 10), "run 2 after run 3"),
            (shown(4, (6, A), 10), "term 6 after term 7"),
            (shown(4, (7, A), 10), "whom it has followed in this term"),
            (elected(shown(4, (7, B), 10)), "a vote for"),
            (shown(4, (8, B), 8), "entry 7 as applied after entry 8"),
            (shown(4, (8, B), 0), "entry none as applied after entry 8"),
        ];
        let mut remembered = Remembered::default();
        assert_eq!(remembered.meets(A, before), Ok(()));
        for (number, (now, what)) in (1..).zip(cases) {
            let text = remembered.meets(A, now).unwrap_err().to_string();
            assert!(text.contains(what) && text.contains("join anew"), "{text}");
            assert_eq!(remembered.refused(A), number);
        }
        // It was not taken for what it is now, and counts again once it shows as much.
        assert_eq!(remembered.meets(A, before), Ok(()));
        assert_eq!(remembered.refused(A), 6);
        let twice = [shown(1, (7, A), 0), shown(1, (7, B), 0)];
        assert_eq!(remembered.meets(B, twice[0]), Ok(()));
        let text = remembered.meets(B, twice[1]).unwrap_err().to_string();
        assert!(text.contains("in a term in which it voted for"), "{text}");
    }
}
