//! What a voter answers, by what stands in its log.

use super::*;
use crate::times::LeaseTimes;
use std::collections::BTreeSet;

fn since(epoch: u64, nodes: &[u128]) -> BTreeMap<Uuid, Epoch> {
    nodes.iter().map(|node| (Uuid(*node), Epoch(epoch))).collect()
}

fn set(nodes: &[u128]) -> BTreeSet<Uuid> {
    nodes.iter().copied().map(Uuid).collect()
}

fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

fn members(epoch: u64, nodes: &[u128]) -> MembershipChange {
    MembershipChange::Members {
        epoch: Epoch(epoch),
        members: since(2, nodes),
    }
}

/// Voters 1 to 3, members 1 to 3 and 7; run 4, not confirmed yet.
fn started() -> LeaseVoter {
    let agreed = AgreedMembership {
        epoch: Epoch(4),
        members: since(2, &[1, 2, 3, 7]),
        voters: VoterSets::uniform(at(1, 3), set(&[1, 2, 3])),
        lease: Nanos(600),
    };
    LeaseVoter::new(Uuid(1), Incarnation(4), Uuid(99), agreed)
}

fn voter() -> LeaseVoter {
    let mut voter = started();
    voter.confirmed(Incarnation(4), 1);
    voter
}

fn given(voter: &LeaseVoter) -> bool {
    voter.ask(Uuid(7), 8, Nanos(9)).word.is_ok()
}

/// Whether node 7 gets a word after a change.
fn noted(voter: &mut LeaseVoter, position: LogPosition, change: MembershipChange) -> bool {
    assert_eq!(voter.appended(position, change).position(), position);
    given(voter)
}

#[test]
fn a_word_says_what_the_log_says_and_every_answer_shows_the_clock() {
    let answer = voter().ask(Uuid(7), 5, Nanos(8));
    assert_eq!(
        (answer.voter, answer.question, answer.boot, answer.clock),
        (Uuid(1), 5, Uuid(99), Nanos(8))
    );
    let word = answer.word.unwrap();
    assert_eq!((word.member_since, word.lease), (Epoch(2), Nanos(600)));
    assert_eq!(word.voters, VoterSets::uniform(at(1, 3), set(&[1, 2, 3])));
    let refused = voter().ask(Uuid(8), 6, Nanos(11));
    assert_eq!(
        (refused.question, refused.boot, refused.clock),
        (6, Uuid(99), Nanos(11))
    );
    assert!(refused.word.unwrap_err().to_string().contains("in epoch 4"));
}

#[test]
fn a_voter_that_has_started_gives_no_word_until_its_log_is_confirmed() {
    let mut voter = started();
    let refused = voter.ask(Uuid(7), 5, Nanos(8)).word.unwrap_err();
    assert!(
        refused.to_string().contains("no leader has confirmed its log"),
        "{refused}"
    );
    voter.confirmed(Incarnation(3), 9);
    assert!(!given(&voter), "that was about the run before");
    assert!(!noted(&mut voter, at(5, 4), members(5, &[1, 2, 3, 7])));
    voter.confirmed(Incarnation(4), 4);
    assert!(!given(&voter), "the log knows of a later leader");
    voter.confirmed(Incarnation(4), 5);
    assert!(given(&voter) && voter.is_confirmed());
}

#[test]
fn an_eviction_counts_from_its_append_and_a_return_from_its_commit() {
    let mut voter = voter();
    assert!(!noted(&mut voter, at(1, 4), members(5, &[1, 2, 3])));
    let refused = voter.ask(Uuid(7), 6, Nanos(9)).word.unwrap_err();
    assert!(
        refused.to_string().contains("not a member in epoch 5"),
        "{refused}"
    );
    let back = MembershipChange::Members {
        epoch: Epoch(6),
        members: since(6, &[7]),
    };
    assert!(!noted(&mut voter, at(1, 5), back), "nobody has agreed yet");
    voter.committed(4);
    assert!(!given(&voter), "on the eviction alone");
    voter.committed(5);
    assert_eq!(
        voter.ask(Uuid(7), 8, Nanos(9)).word.map(|word| word.member_since),
        Ok(Epoch(6))
    );
}

#[test]
fn what_is_taken_away_again_counts_no_more() {
    let mut voter = voter();
    assert!(!noted(&mut voter, at(1, 5), members(5, &[1, 2, 3])));
    voter.truncated(6);
    assert!(!given(&voter));
    voter.truncated(5);
    assert!(given(&voter));
    assert!(!noted(&mut voter, at(1, 5), members(5, &[1, 2, 3])));
    let other = MembershipChange::Voters(VoterSets::uniform(at(2, 4), set(&[1, 2])));
    assert!(
        noted(&mut voter, at(2, 4), other),
        "another leader's entry at an earlier place"
    );
    let word = voter.ask(Uuid(7), 6, Nanos(9)).word.unwrap();
    assert_eq!(word.voters.at, at(2, 4));
}

#[test]
fn who_has_no_vote_by_the_last_entry_gives_no_word() {
    let mut voter = voter();
    let others = |index| VoterSets::uniform(at(1, index), set(&[2, 3]));
    assert!(!noted(&mut voter, at(1, 5), MembershipChange::Voters(others(5))));
    assert_eq!(
        voter.ask(Uuid(7), 8, Nanos(9)).word,
        Err(LeaseRefusal::NotAVoter { voter: Uuid(1) })
    );
    voter.committed(5);
    assert!(!given(&voter));
}

#[test]
fn a_shorter_lease_is_given_from_its_append_and_a_longer_one_from_its_commit() {
    let times = |lease| {
        MembershipChange::Times(LeaseTimes {
            lease: Nanos(lease),
            ..LeaseTimes::default()
        })
    };
    let lease = |voter: &LeaseVoter| voter.ask(Uuid(7), 8, Nanos(9)).word.map(|word| word.lease.0);
    let mut voter = voter();
    assert!(noted(&mut voter, at(1, 4), times(900)));
    assert_eq!(lease(&voter), Ok(600));
    assert!(noted(&mut voter, at(1, 5), times(300)));
    assert_eq!(lease(&voter), Ok(300));
    voter.committed(4);
    assert_eq!(lease(&voter), Ok(300));
    voter.truncated(5);
    assert_eq!(lease(&voter), Ok(900));
}

#[test]
fn a_snapshot_takes_the_place_of_what_it_covers() {
    let mut voter = voter();
    assert!(!noted(&mut voter, at(1, 4), members(5, &[1, 2])));
    assert!(!noted(&mut voter, at(1, 6), members(6, &[1, 2, 3])));
    let agreed = AgreedMembership {
        epoch: Epoch(9),
        members: since(2, &[7]),
        ..started().agreed
    };
    voter.installed(5, agreed.clone());
    assert!(!given(&voter), "the entry after it is still there");
    voter.installed(6, agreed);
    assert!(given(&voter));
}
