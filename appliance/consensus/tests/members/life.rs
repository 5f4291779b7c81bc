//! Members over real connections: they form a cluster, lose their leader, come back, and answer everybody who asks any of them.

use crate::nodes::{Members, SOON, change, eventually, id, name, undo};
use palisade_consensus::raft::{MemberRole, ReadNowError};
use palisade_consensus::{Agreement, ProposeError};
use palisade_model::{Command, NodeRole, Outcome};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn three_members_form_a_cluster_and_each_may_be_asked() {
    let mut all = Members::formed(3);
    for number in 0..9 {
        let outcome = all.ask(number % 3, change(number as u64));
        assert!(matches!(outcome, Outcome::Created { .. }), "{outcome:?}");
        // Whoever was asked has it.
        let later = palisade_words::Name::new(format!("later{number}")).unwrap();
        assert!(all.member(number % 3).cluster().nodes.contains_key(&later));
        // And who reads after that anywhere, so that nothing is missed, as well.
        let read = all.member((number + 1) % 3).cluster_now(SOON).unwrap();
        assert!(read.nodes.contains_key(&later));
    }
    // A refusal is an answer like any other, wherever it is asked for.
    let unknown = undo(77);
    for number in 0..3 {
        let refused = all.member(number).propose(unknown.clone()).unwrap_err();
        assert!(matches!(refused, ProposeError::Refused(_)), "{refused}");
    }
    all.await_same(&[0, 1, 2]);
    let leader = all.leader(&[0, 1, 2]);
    let standing = all.member(leader).standing();
    assert_eq!(standing.members.len(), 12, "nine more are told of");
    assert!(standing.has_majority && standing.stopped.is_none());
    let follower = (leader + 1) % 3;
    eventually("a follower has heard of its leader", || {
        let standing = all.member(follower).standing();
        standing.role == MemberRole::Follower
            && standing.leader == Some(id(leader))
            && standing.has_majority
            && standing.applied == standing.logged
    });
    (0..3).for_each(|number| all.stop(number));
    // And all of it is there after a start of all.
    (0..3).for_each(|number| all.start(number));
    let read = all.member(1).cluster_now(SOON).unwrap();
    assert_eq!(read.nodes.len(), 12);
    assert_eq!(all.member(0).incarnation().0, 2);
}

#[test]
fn a_leader_that_dies_is_replaced_and_nothing_that_was_acknowledged_is_lost() {
    let mut all = Members::formed(3);
    let mut number = 0;
    for round in 0..3 {
        for _ in 0..5 {
            all.ask(number as usize % 3, change(number));
            number += 1;
        }
        let leader = all.leader(&[0, 1, 2]);
        all.kill(leader);
        let others: Vec<usize> = (0..3).filter(|other| *other != leader).collect();
        for turn in 0..4 {
            all.ask(others[turn % 2], change(number));
            number += 1;
        }
        let read = all.member(others[round % 2]).cluster_now(SOON).unwrap();
        assert_eq!(read.nodes.len() as u64, 3 + number);
        all.start(leader);
        all.ask(leader, change(number));
        number += 1;
    }
    all.await_same(&[0, 1, 2]);
    assert_eq!(all.member(0).cluster().nodes.len() as u64, 3 + number);
}

#[test]
fn a_minority_changes_nothing_says_so_in_time_and_catches_up_when_it_is_back() {
    let all = Members::formed(5);
    let leader = all.leader(&[0, 1, 2, 3, 4]);
    let minority = [leader, (leader + 1) % 5];
    let majority: Vec<usize> = (0..5).filter(|number| !minority.contains(number)).collect();
    all.cut(&minority);
    let began = Instant::now();
    for number in minority {
        let error = all
            .member(number)
            .propose(change(50 + number as u64))
            .unwrap_err();
        let is_stated = matches!(
            error,
            ProposeError::NotLeader { leader: None } | ProposeError::OutcomeUnknown
        );
        assert!(is_stated, "{error}");
        let read = all.member(number).cluster_now(Duration::from_millis(500));
        assert!(
            matches!(read, Err(ReadNowError::NoLeader | ReadNowError::NoMajority)),
            "{read:?}"
        );
        // What it knows it still has.
        assert_eq!(all.member(number).cluster().nodes.len(), 5);
    }
    // Two seconds for a command and half a one for a read, and a moment for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    eventually("those who are cut off know it", || {
        minority
            .iter()
            .all(|number| !all.member(*number).standing().has_majority)
    });
    for number in 0..5 {
        all.ask(majority[number % 3], change(number as u64));
    }
    all.leader(&majority);
    all.cut(&[]);
    all.ask(minority[1], change(9));
    all.await_same(&[0, 1, 2, 3, 4]);
    for number in 0..5 {
        let later = palisade_words::Name::new(format!("later{number}")).unwrap();
        assert!(all.member(minority[0]).cluster().nodes.contains_key(&later));
    }
}

/// Rule 9: joiners listen until three have caught up, then one voter becomes three in one change.
#[test]
fn one_voter_becomes_three_under_load_and_never_two() {
    let mut all = Members::of(3);
    (0..3).for_each(|number| all.start(number));
    all.found();
    let member = Arc::clone(all.nodes[0].member.as_ref().unwrap());
    let (done, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let load = std::thread::spawn({
        let (done, ends) = (Arc::clone(&done), Arc::clone(&ends));
        move || {
            let mut sizes = BTreeSet::new();
            for number in 0.. {
                let command = if number % 2 == 0 { change(0) } else { undo(0) };
                while member.propose(command.clone()).is_err() {}
                done.fetch_add(1, Ordering::Relaxed);
                let members = member.standing().members;
                sizes.insert(members.iter().filter(|peer| peer.votes).count());
                if ends.load(Ordering::Relaxed) == 1 {
                    break;
                }
            }
            sizes
        }
    });
    all.join(1);
    // A pair is no cluster: whoever votes must be asked by nobody else.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(all.voters(0), BTreeSet::from([id(0)]));
    let alone = done.load(Ordering::Relaxed);
    assert!(alone > 5, "{alone}");
    all.join(2);
    all.await_voters(&[0, 1, 2]);
    ends.store(1, Ordering::Relaxed);
    let sizes = load.join().unwrap();
    assert!(sizes.iter().all(|size| [1, 3].contains(size)), "{sizes:?}");
    // Now each may be missed.
    all.kill(0);
    all.ask(1, change(1));
    all.start(0);
    all.await_same(&[0, 1, 2]);
}

#[test]
fn who_is_taken_out_of_the_cluster_has_no_vote_and_is_told_nothing_any_more() {
    let all = Members::formed(3);
    // Without its vote it is told all the same; of two voters one would be no use.
    all.vote(2, NodeRole::Learner);
    eventually("one voter is left", || {
        all.voters(0).len() == 1 || all.voters(1).len() == 1
    });
    all.vote(2, NodeRole::Voter);
    all.await_voters(&[0, 1, 2]);
    all.ask(
        0,
        Command::RemoveNode(palisade_model::RemoveNode {
            name: name(2),
            expected: None,
        }),
    );
    eventually("the two others know of each other only", || {
        let known = |number: usize| all.member(number).standing().members.len();
        known(0) == 2 && known(1) == 2
    });
    let left = all.member(2).cluster().generation;
    all.ask(0, change(1));
    std::thread::sleep(Duration::from_millis(300));
    let nodes = &all.member(2).cluster().nodes;
    assert!(!nodes.keys().any(|name| name.as_str() == "later1"), "{left}");
}

#[test]
fn listeners_hear_of_each_cluster_in_order() {
    let mut all = Members::of(1);
    all.start(0);
    let heard = Arc::new(Mutex::new(Vec::new()));
    all.member(0).listen({
        let heard = Arc::clone(&heard);
        move |cluster| heard.lock().unwrap().push(cluster.generation.0)
    });
    all.found();
    for number in 0..5 {
        all.ask(0, change(number));
        // What changes nothing is heard of by nobody.
        all.ask(0, change(number));
    }
    let heard = heard.lock().unwrap().clone();
    let last = all.member(0).cluster().generation.0;
    assert_eq!(heard, (1..=last).collect::<Vec<_>>());
}

/// One that comes late is sent the cluster as a whole, in parts.
#[test]
fn a_member_that_is_far_behind_is_sent_the_state() {
    let mut all = Members::of(3);
    for number in 0..3 {
        let settings = palisade_consensus::raft::MemberSettings {
            entries_per_state: Some(10),
            ..all.settings(number)
        };
        all.start_with(number, settings);
    }
    all.found();
    for number in 0..40 {
        all.ask(0, change(number));
        all.ask(0, undo(number));
    }
    all.join(1);
    all.join(2);
    all.await_voters(&[0, 1, 2]);
    all.kill(2);
    for number in 0..40 {
        all.ask(1, change(number));
        all.ask(0, undo(number));
    }
    all.start(2);
    all.await_same(&[0, 1, 2]);
}
