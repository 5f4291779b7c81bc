//! What each voter has shown of itself, as its peers remember it (issue 10, rule 10).
//!
//! A voter whose files were put back from a copy does not know what it has promised since: it can vote twice in a term, and confirm
//! entries that it has lost. It cannot find that out by itself, but the others can: it shows less than it has shown
//! before. What it says then does not count, until it shows as much again.
//!
//! Within one run nothing of a voter goes back: its messages may overtake each other, but none of them is wrong. So what it has
//! shown in earlier runs is what each message of its present run is held against. That two runs have one number happens only
//! when files were put back, or copied to a second machine: the run that was heard of first is the one that counts.

use crate::raft::voter_id::VoterId;
use palisade_words::{Incarnation, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a voter shows of itself with a message. None of it ever goes back while its files are its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// Which of its runs it is in.
    pub incarnation: Incarnation,
    /// The id of this run, drawn when it began: two runs of one number have two ids.
    pub run: Uuid,
    /// The latest term it has promised something in.
    pub term: u64,
    /// Whom it has promised it to; nil before any promise.
    pub voted_for: Uuid,
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
    /// Another run of this number was heard of before.
    Run(Incarnation),
    /// It has promised something in an earlier term only.
    Term(u64, u64),
    /// It has promised the same term to another, who was not elected.
    VotedFor(Uuid, Uuid),
    /// It does not know any more who was elected in the term.
    Elected(Uuid),
    /// It has applied less.
    Applied(Option<u64>, Option<u64>),
}

impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |index: &Option<u64>| index.map_or_else(|| "none".to_owned(), |index| index.to_string());
        match self {
            Less::Incarnation(now, before) => write!(f, "run {now} after run {before}"),
            Less::Run(number) => write!(f, "a second run of number {number}"),
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
    /// How many messages of a voter did not count, and why the latest did not.
    refused: BTreeMap<VoterId, (u64, Less)>,
}

/// What a message has shown that was not known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum News {
    /// Nothing.
    Nothing,
    /// The voter has applied more.
    Progress,
    /// It has promised more, or is in another run: what rests on that must not be forgotten.
    Promise,
}

/// What is known of a voter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// The most that it has shown in this run.
    now: Shown,
    /// The most that it has shown in runs before; none when it was not heard of before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Shown>,
}

/// All that is remembered, as it is written down.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RememberedRecord(BTreeMap<Uuid, Known>);

impl Remembered {
    /// A message of a voter shows something of it. Whether what it says counts, and what it shows that was not known.
    ///
    /// # Errors
    /// It shows less than it has shown before; that is counted.
    pub fn meets(&mut self, voter: VoterId, shown: Shown) -> Result<News, ShowsLess> {
        match self.take(voter, shown) {
            Ok(news) => {
                // It is as it was again: what did not count is over.
                self.refused.remove(&voter);
                Ok(news)
            }
            Err(less) => {
                let (count, latest) = self.refused.entry(voter).or_insert((0, less));
                (*count, *latest) = (*count + 1, less);
                Err(ShowsLess { voter, less })
            }
        }
    }

    /// Another voter tells what one has shown to it. What is less is nothing new.
    pub fn hears_of(&mut self, voter: VoterId, shown: Shown) -> News {
        self.take(voter, shown).unwrap_or(News::Nothing)
    }

    /// How many messages of a voter did not count since the last one that did, and why the latest did not. None when the
    /// latest one counts.
    pub fn refused(&self, voter: VoterId) -> Option<(u64, ShowsLess)> {
        let (count, less) = *self.refused.get(&voter)?;
        Some((count, ShowsLess { voter, less }))
    }

    /// What would be said of a voter that shows this.
    ///
    /// # Errors
    /// It is less than the voter has shown.
    pub fn check(&self, voter: VoterId, shown: Shown) -> Result<(), ShowsLess> {
        self.clone()
            .take(voter, shown)
            .map(drop)
            .map_err(|less| ShowsLess { voter, less })
    }

    /// The most that each voter has shown.
    pub fn all(&self) -> impl Iterator<Item = (VoterId, Shown)> {
        self.voters.iter().map(|(voter, known)| (*voter, known.now))
    }

    /// Forgets all but these: an id that has left the cluster never comes back.
    pub fn keep_only(&mut self, keeps: impl Fn(VoterId) -> bool) {
        self.voters.retain(|voter, _| keeps(*voter));
        self.refused.retain(|voter, _| keeps(*voter));
    }

    pub(crate) fn record(&self) -> RememberedRecord {
        RememberedRecord(
            self.voters
                .iter()
                .map(|(voter, known)| (voter.0, *known))
                .collect(),
        )
    }

    pub(crate) fn of(record: RememberedRecord) -> Remembered {
        let voters = record.0.into_iter().map(|(id, known)| (VoterId(id), known));
        Remembered {
            voters: voters.collect(),
            refused: BTreeMap::new(),
        }
    }

    fn take(&mut self, voter: VoterId, shown: Shown) -> Result<News, Less> {
        let Some(known) = self.voters.get_mut(&voter) else {
            let first = Known {
                now: shown,
                before: None,
            };
            self.voters.insert(voter, first);
            return Ok(News::Promise);
        };
        if shown.incarnation < known.now.incarnation {
            return Err(Less::Incarnation(shown.incarnation, known.now.incarnation));
        }
        if shown.incarnation > known.now.incarnation {
            // Until it has shown as much as in all runs before, this run is not begun.
            not_less(shown, known.now)?;
            *known = Known {
                now: shown,
                before: Some(known.now),
            };
            return Ok(News::Promise);
        }
        if shown.run != known.now.run {
            return Err(Less::Run(shown.incarnation));
        }
        if let Some(before) = known.before {
            not_less(shown, before)?;
        }
        not_otherwise(shown, known.now)?;
        let merged = most(shown, known.now);
        let before = std::mem::replace(&mut known.now, merged);
        Ok(match () {
            () if promise(merged) != promise(before) => News::Promise,
            () if merged != before => News::Progress,
            () => News::Nothing,
        })
    }
}

/// Whether what is shown is all that was shown in an earlier run.
fn not_less(now: Shown, before: Shown) -> Result<(), Less> {
    if now.term < before.term {
        return Err(Less::Term(now.term, before.term));
    }
    if now.term == before.term && before.is_elected && !now.is_elected {
        return Err(Less::Elected(before.voted_for));
    }
    // A term has one leader, so that nobody follows two; who has voted for another follows the one that was elected.
    let follows_first = now.is_elected && !before.is_elected;
    if now.term == before.term && now.voted_for != before.voted_for && !follows_first {
        return Err(Less::VotedFor(now.voted_for, before.voted_for));
    }
    if now.applied < before.applied {
        return Err(Less::Applied(now.applied, before.applied));
    }
    Ok(())
}

/// Two messages of one run come in any order, but they never name two for one term.
fn not_otherwise(now: Shown, other: Shown) -> Result<(), Less> {
    let is_alike = now.term == other.term && now.is_elected == other.is_elected;
    match is_alike && now.voted_for != other.voted_for {
        true => Err(Less::VotedFor(now.voted_for, other.voted_for)),
        false => Ok(()),
    }
}

/// What both messages of one run show.
fn most(one: Shown, other: Shown) -> Shown {
    let later = match (one.term, one.is_elected) >= (other.term, other.is_elected) {
        true => one,
        false => other,
    };
    Shown {
        applied: one.applied.max(other.applied),
        ..later
    }
}

fn promise(shown: Shown) -> (u64, Uuid, bool) {
    (shown.term, shown.voted_for, shown.is_elected)
}

#[cfg(test)]
mod tests;
