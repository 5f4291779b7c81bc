//! What is to be changed, case by case.

use super::*;
use palisade_model::{Membership, NodeRole};
use palisade_words::Uuid;

fn id(number: u128) -> VoterId {
    VoterId(Uuid(number))
}

fn ids(numbers: &[u128]) -> BTreeSet<VoterId> {
    numbers.iter().copied().map(id).collect()
}

/// A cluster of these nodes: those of `voters` should vote, those of `others` should not.
fn cluster(voters: &[u128], others: &[u128]) -> Cluster {
    let mut cluster = Cluster::empty();
    cluster.id = Uuid(1);
    for number in voters.iter().chain(others) {
        let mut node = Node::of(Uuid(*number), Generation(*number as u64));
        if others.contains(number) {
            node.role = NodeRole::Learner;
        }
        let name = Name::new(format!("n{number}")).unwrap();
        cluster.nodes.insert(name, node);
    }
    cluster
}

fn in_domain(mut cluster: Cluster, number: u128, domain: &str) -> Cluster {
    let node = cluster.nodes.values_mut().find(|node| node.uuid == Uuid(number));
    node.unwrap().failure_domain = Some(Name::new(domain).unwrap());
    cluster
}

/// These vote, those are told; the first of the voters leads, and all have caught up.
fn seen(voters: &[u128], learners: &[u128]) -> VotersSeen {
    VotersSeen {
        sets: vec![ids(voters)],
        learners: ids(learners),
        is_agreed: true,
        has_agreed_in_term: true,
        caught_up: ids(voters).union(&ids(learners)).copied().collect(),
        leader: id(voters[0]),
    }
}

fn but_behind(mut seen: VotersSeen, behind: &[u128]) -> VotersSeen {
    seen.caught_up.retain(|voter| !ids(behind).contains(voter));
    seen
}

fn vote(numbers: &[u128]) -> Option<VotersChange> {
    Some(VotersChange::Vote(ids(numbers)))
}

#[test]
fn one_voter_becomes_three_once_three_have_caught_up_and_never_two() {
    // A node that is let in is told first, and more than that it does not get while it is alone with the first.
    let two = cluster(&[1, 2], &[]);
    assert_eq!(
        next_change(&two, &seen(&[1], &[])),
        Some(VotersChange::Tell(ids(&[2])))
    );
    assert_eq!(next_change(&two, &seen(&[1], &[2])), None);
    let three = cluster(&[1, 2, 3], &[]);
    assert_eq!(
        next_change(&three, &seen(&[1], &[2])),
        Some(VotersChange::Tell(ids(&[3])))
    );
    assert_eq!(next_change(&three, &but_behind(seen(&[1], &[2, 3]), &[3])), None);
    assert_eq!(next_change(&three, &seen(&[1], &[2, 3])), vote(&[1, 2, 3]));
    assert_eq!(next_change(&three, &seen(&[1, 2, 3], &[])), None);
}

#[test]
fn there_is_an_odd_number_of_voters_and_seven_at_most() {
    let four = cluster(&[1, 2, 3, 4], &[]);
    assert_eq!(next_change(&four, &seen(&[1, 2, 3], &[4])), None);
    let five = cluster(&[1, 2, 3, 4, 5], &[]);
    assert_eq!(
        next_change(&five, &seen(&[1, 2, 3], &[4, 5])),
        vote(&[1, 2, 3, 4, 5])
    );
    assert_eq!(
        next_change(&five, &but_behind(seen(&[1, 2, 3], &[4, 5]), &[4])),
        None
    );
    // All at once.
    let seven = cluster(&[1, 2, 3, 4, 5, 6, 7], &[]);
    assert_eq!(
        next_change(&seven, &seen(&[1], &[2, 3, 4, 5, 6, 7])),
        vote(&[1, 2, 3, 4, 5, 6, 7])
    );
    let nine = cluster(&[1, 2, 3, 4, 5, 6, 7, 8, 9], &[]);
    assert_eq!(next_change(&nine, &seen(&[1, 2, 3, 4, 5, 6, 7], &[8, 9])), None);
}

#[test]
fn a_voter_that_is_silent_stays_one_until_the_cluster_takes_its_vote() {
    let three = cluster(&[1, 2, 3], &[4]);
    let silent = but_behind(seen(&[1, 2, 3], &[4]), &[3]);
    assert_eq!(next_change(&three, &silent), None);
    // Another that should vote does not take its place by itself.
    assert_eq!(next_change(&cluster(&[1, 2, 3, 4], &[]), &silent), None);
    // The operator has said so: one goes, one comes, in one change.
    assert_eq!(next_change(&cluster(&[1, 2, 4], &[3]), &silent), vote(&[1, 2, 4]));
    // The one that comes is not there yet: of the two that are left the leader goes on alone.
    let behind = but_behind(silent.clone(), &[3, 4]);
    assert_eq!(next_change(&cluster(&[1, 2, 4], &[3]), &behind), vote(&[1]));
    let mut other = behind;
    other.leader = id(2);
    assert_eq!(next_change(&cluster(&[1, 2, 4], &[3]), &other), vote(&[2]));
    // Of four that are left the three that are heard of.
    let five = but_behind(seen(&[1, 2, 3, 4, 5], &[]), &[2]);
    assert_eq!(
        next_change(&cluster(&[1, 2, 3, 4], &[5]), &five),
        vote(&[1, 3, 4])
    );
}

#[test]
fn who_leaves_the_cluster_loses_its_vote_first_and_then_is_told_nothing() {
    let left = cluster(&[1, 2, 4], &[]);
    assert_eq!(next_change(&left, &seen(&[1, 2, 3], &[4])), vote(&[1, 2, 4]));
    assert_eq!(
        next_change(&left, &seen(&[1, 2, 4], &[3])),
        Some(VotersChange::Forget(ids(&[3])))
    );
    // The leader itself, too.
    assert_eq!(
        next_change(&cluster(&[2, 3, 4], &[]), &seen(&[1, 2, 3], &[4])),
        vote(&[2, 3, 4])
    );
    // And when nobody else can vote yet, nothing is changed.
    let unready = but_behind(seen(&[1], &[2]), &[2]);
    assert_eq!(next_change(&cluster(&[2], &[]), &unready), None);
    // A node that has been let in, and has not started as a member, has no vote whatever else it says.
    let mut joining = cluster(&[1, 2, 3], &[]);
    let name = Name::new("n3").unwrap();
    joining.nodes.get_mut(&name).unwrap().membership = Membership::Joining;
    assert_eq!(next_change(&joining, &seen(&[1], &[2, 3])), None);
}

#[test]
fn what_a_dead_leader_has_left_half_done_is_finished_first() {
    let mut half = seen(&[1, 2, 3], &[]);
    half.sets = vec![ids(&[1]), ids(&[1, 2, 3])];
    // Whatever the cluster says by now.
    for now in [
        cluster(&[1, 2, 3], &[]),
        cluster(&[1], &[2, 3]),
        cluster(&[1], &[]),
    ] {
        assert_eq!(next_change(&now, &half), vote(&[1, 2, 3]));
    }
}

#[test]
fn nothing_is_changed_before_what_was_before_is_agreed_on() {
    let three = cluster(&[1, 2, 3], &[]);
    let ready = seen(&[1], &[2, 3]);
    assert!(next_change(&three, &ready).is_some());
    let unagreed = VotersSeen {
        is_agreed: false,
        ..ready.clone()
    };
    assert_eq!(next_change(&three, &unagreed), None);
    let too_new = VotersSeen {
        has_agreed_in_term: false,
        ..ready.clone()
    };
    assert_eq!(next_change(&three, &too_new), None);
    assert_eq!(next_change(&Cluster::empty(), &ready), None);
    assert_eq!(next_change(&three, &VotersSeen::default()), None);
}

#[test]
fn voters_stand_in_different_places_where_they_can() {
    let nodes = cluster(&[1, 2, 3, 4], &[]);
    let nodes = [(1, "a"), (2, "a"), (3, "b"), (4, "c")]
        .into_iter()
        .fold(nodes, |nodes, (number, domain)| in_domain(nodes, number, domain));
    assert_eq!(next_change(&nodes, &seen(&[1], &[2, 3, 4])), vote(&[1, 3, 4]));
    // Who votes already is not moved for it.
    assert_eq!(next_change(&nodes, &seen(&[1, 2, 3], &[4])), None);
    // And where there are too few places, two stand in one.
    let two = in_domain(nodes, 4, "b");
    assert_eq!(next_change(&two, &seen(&[1], &[2, 3, 4])), vote(&[1, 2, 3]));
}
