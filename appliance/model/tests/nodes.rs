//! Nodes come, start, change and go.

#![cfg(test)]

mod lab;

use lab::{
    add_node, after, disk, init, lab, lab_of_two_nodes, name, outcome, raise, refusal, started, switched_on,
    then,
};
use palisade_model::*;
use palisade_words::{FeatureLevel, Generation, Incarnation, Uuid};
use std::net::SocketAddr;

fn address(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

fn change(text: &str) -> ChangeNode {
    ChangeNode {
        name: name(text),
        addresses: None,
        failure_domain: None,
        role: None,
        expected: None,
    }
}

fn remove(text: &str) -> Command {
    Command::RemoveNode(RemoveNode {
        name: name(text),
        expected: None,
    })
}

/// A peer that has heard of a run never takes an earlier one for it, nor what another program of the same run says.
#[test]
fn a_node_starts_in_later_and_later_incarnations() {
    let before = after(&Cluster::empty(), [init(1, "n", 2)]);
    let node = &before.nodes[&name("n")];
    assert_eq!(
        (node.incarnation, node.feature_level),
        (Incarnation(0), FeatureLevel(0))
    );
    assert!(node.votes());
    let second = Command::NodeStarted(started(2, 2));
    let cluster = then(&before, second.clone());
    let node = &cluster.nodes[&name("n")];
    assert_eq!(
        (node.incarnation, node.revision),
        (Incarnation(2), cluster.generation)
    );
    assert_eq!(cluster.epoch, before.epoch, "the members are the same");
    // The same again is a question asked twice; the same number for another program is not.
    assert_eq!(outcome(&cluster, &second), "unchanged");
    let other = NodeStarted {
        feature_level: FeatureLevel(7),
        ..started(2, 2)
    };
    let not_later = |known, told| Refusal::IncarnationNotLater {
        node: name("n"),
        known: Incarnation(known),
        told: Incarnation(told),
    };
    assert_eq!(refusal(&cluster, Command::NodeStarted(other)), not_later(2, 2));
    assert_eq!(
        refusal(&cluster, Command::NodeStarted(started(2, 1))),
        not_later(2, 1)
    );
    assert_eq!(
        refusal(&before, Command::NodeStarted(started(2, 0))),
        not_later(0, 0)
    );
    // Nobody is in a run of that number, whatever its program can.
    let none = NodeStarted {
        feature_level: FeatureLevel(0),
        ..started(2, 0)
    };
    assert_eq!(refusal(&before, Command::NodeStarted(none)), not_later(0, 0));
    assert_eq!(
        refusal(&cluster, Command::NodeStarted(started(9, 9))),
        Refusal::NotAMember { id: Uuid(9) }
    );
    let later = NodeStarted {
        incarnation: Incarnation(7),
        ..other
    };
    let cluster = then(&cluster, Command::NodeStarted(later));
    let node = &cluster.nodes[&name("n")];
    assert_eq!(
        (node.incarnation, node.feature_level),
        (Incarnation(7), FeatureLevel(7))
    );
}

#[test]
fn a_node_is_a_member_once_it_has_started() {
    let before = switched_on(&lab());
    let add = AddNode {
        addresses: vec![address(7)],
        failure_domain: Some(name("rack1")),
        ..add_node("m", 3)
    };
    let joining = then(&before, Command::AddNode(add.clone()));
    let node = &joining.nodes[&name("m")];
    assert_eq!(
        (node.membership, node.role),
        (Membership::Joining, NodeRole::Learner)
    );
    assert_eq!(
        (&node.addresses, &node.failure_domain),
        (&add.addresses, &add.failure_domain)
    );
    assert_eq!(joining.epoch, before.epoch);
    // It may be told to be elsewhere meanwhile.
    let moved = ChangeNode {
        addresses: Some(vec![address(8)]),
        ..change("m")
    };
    assert_eq!(outcome(&joining, &Command::ChangeNode(moved)), "changed");
    // Nothing is given to it, and it cannot vote.
    let of_m = AddDisk {
        node: name("m"),
        ..disk("o", 105)
    };
    assert_eq!(outcome(&joining, &Command::AddDisk(of_m.clone())), "node_joining");
    let votes = Command::ChangeNode(ChangeNode {
        role: Some(NodeRole::Voter),
        ..change("m")
    });
    assert_eq!(outcome(&joining, &votes), "role");
    let joined = then(&joining, Command::NodeStarted(started(3, 1)));
    assert_eq!(joined.epoch, before.epoch.next(), "that is another membership");
    assert!(joined.nodes[&name("m")].is_active() && !joined.nodes[&name("m")].votes());
    let with_vote = then(&joined, votes.clone());
    assert_eq!(with_vote.epoch, joined.epoch.next());
    assert_eq!(outcome(&with_vote, &votes), "unchanged");
    let cluster = then(&with_vote, Command::AddDisk(of_m));
    assert_eq!(outcome(&cluster, &remove("m")), "node_in_use");
    assert_eq!(outcome(&with_vote, &remove("m")), "removed");
    assert_eq!(then(&with_vote, remove("m")).epoch, with_vote.epoch.next());
    assert_eq!(then(&joining, remove("m")).epoch, joining.epoch, "it was none");
}

#[test]
fn a_node_is_let_in_once_and_by_its_own_id() {
    let cluster = lab_of_two_nodes();
    let outcomes = [
        (add_node("m", 3), "unchanged"),
        (add_node("m", 4), "node_exists"),
        (add_node("l", 3), "uuid_taken"),
        (add_node("l", 0), "uuid"),
        (add_node("l", 4), "created"),
    ];
    for (add, expected) in outcomes {
        assert_eq!(outcome(&cluster, &Command::AddNode(add)), expected);
    }
    let full = (0..62).fold(cluster, |cluster, number| {
        then(
            &cluster,
            Command::AddNode(add_node(&format!("more{number}"), 100 + number)),
        )
    });
    assert_eq!(outcome(&full, &Command::AddNode(add_node("l", 4))), "too_many");
}

fn evict(cluster: &Cluster, nodes: &[u128]) -> Command {
    Command::EvictNodes(EvictNodes {
        epoch: cluster.epoch,
        nodes: nodes.iter().copied().map(Uuid).collect(),
    })
}

fn readmit(cluster: &Cluster, node: u128, incarnation: u64) -> Command {
    Command::ReadmitNode(ReadmitNode {
        epoch: cluster.epoch,
        node: Uuid(node),
        incarnation: Incarnation(incarnation),
    })
}

/// Of several that propose the same the first is right, and what was judged of other members counts for nothing.
#[test]
fn a_node_that_is_not_heard_is_given_up_once_and_taken_back() {
    let before = lab_of_two_nodes();
    let of_m = AddDisk {
        node: name("m"),
        ..disk("o", 105)
    };
    let before = then(&before, Command::AddDisk(of_m.clone()));
    let command = evict(&before, &[3]);
    let gone = then(&before, command.clone());
    let node = &gone.nodes[&name("m")];
    assert_eq!(
        (node.membership, node.revision, gone.epoch),
        (Membership::Evicted, gone.generation, before.epoch.next())
    );
    assert!(!node.is_active() && node.has_joined());
    assert_eq!(gone.disks, before.disks, "what it has stays its own");
    let judged = before.epoch;
    let passed = Refusal::OtherMembership {
        judged,
        now: gone.epoch,
    };
    assert_eq!(refusal(&gone, command), passed);
    let evicted = Refusal::NodeEvicted { node: name("m") };
    assert_eq!(refusal(&gone, evict(&gone, &[3])), evicted);
    // Nothing is given to it.
    let another = AddDisk {
        name: name("q"),
        uuid: Uuid(777),
        ..of_m
    };
    assert_eq!(refusal(&gone, Command::AddDisk(another)), evicted);
    // A new run of it says so, and is a member when it is heard.
    let run = node.incarnation.0 + 1;
    let started = then(&gone, Command::NodeStarted(started(3, run)));
    assert_eq!(
        (started.nodes[&name("m")].membership, started.epoch),
        (Membership::Evicted, gone.epoch)
    );
    let other = Refusal::OtherIncarnation {
        node: name("m"),
        known: Incarnation(run),
        told: Incarnation(run - 1),
    };
    assert_eq!(refusal(&started, readmit(&started, 3, run - 1)), other);
    assert_eq!(outcome(&started, &readmit(&before, 3, run)), "other_membership");
    let back = then(&started, readmit(&started, 3, run));
    assert!(back.nodes[&name("m")].is_active());
    assert_eq!(back.epoch, started.epoch.next());
    assert_eq!(outcome(&back, &readmit(&back, 3, run)), "unchanged");
    assert_eq!(outcome(&back, &evict(&back, &[])), "unchanged");
    assert_eq!(
        refusal(&back, evict(&back, &[3, 9])),
        Refusal::NotAMember { id: Uuid(9) }
    );
    assert_eq!(
        refusal(&back, readmit(&back, 9, 1)),
        Refusal::NotAMember { id: Uuid(9) }
    );
}

/// It comes back, and would not know what it is told.
#[test]
fn nothing_is_switched_on_that_an_evicted_node_cannot() {
    let gone = lab_of_two_nodes();
    let gone = then(&gone, evict(&gone, &[3]));
    let later = NodeStarted {
        feature_level: FeatureLevel(99),
        ..started(2, 50)
    };
    let gone = then(&gone, Command::NodeStarted(later));
    assert_eq!(gone.common_feature_level(), gone.nodes[&name("m")].feature_level);
    let too_low = Refusal::FeatureLevelTooLow {
        node: name("m"),
        level: gone.nodes[&name("m")].feature_level,
        needed: FeatureLevel(99),
    };
    assert_eq!(refusal(&gone, raise(FeatureLevel(99))), too_low);
}

#[test]
fn who_joins_is_neither_given_up_nor_taken_back() {
    let joining = then(&switched_on(&lab()), Command::AddNode(add_node("m", 3)));
    let is_joining = Refusal::NodeJoining { node: name("m") };
    assert_eq!(refusal(&joining, evict(&joining, &[3])), is_joining);
    assert_eq!(refusal(&joining, readmit(&joining, 3, 0)), is_joining);
}

/// An evicted node keeps its vote, and nobody counts on it.
#[test]
fn a_member_with_a_vote_stays() {
    let two = lab_of_two_nodes();
    let votes = |text: &str, role| {
        Command::ChangeNode(ChangeNode {
            role: Some(role),
            ..change(text)
        })
    };
    assert_eq!(
        refusal(&two, evict(&two, &[2])),
        Refusal::LastVoter { node: name("n") }
    );
    let both = then(&two, votes("m", NodeRole::Voter));
    assert_eq!(
        refusal(&both, evict(&both, &[2, 3])),
        Refusal::LastVoter { node: name("n") }
    );
    let gone = then(&both, evict(&both, &[3]));
    assert!(gone.nodes[&name("m")].votes());
    assert_eq!(
        refusal(&gone, votes("n", NodeRole::Learner)),
        Refusal::LastVoter { node: name("n") }
    );
    let without = then(&gone, votes("m", NodeRole::Learner));
    assert_eq!(without.epoch, gone.epoch, "the members are the same");
    assert_eq!(outcome(&without, &votes("m", NodeRole::Voter)), "role");
}

#[test]
fn somebody_always_votes() {
    let two = lab_of_two_nodes();
    let no_vote = Command::ChangeNode(ChangeNode {
        role: Some(NodeRole::Learner),
        ..change("n")
    });
    assert_eq!(
        refusal(&two, no_vote.clone()),
        Refusal::LastVoter { node: name("n") }
    );
    let alone = switched_on(&after(&Cluster::empty(), [init(1, "n", 2)]));
    assert_eq!(
        refusal(&alone, remove("n")),
        Refusal::LastVoter { node: name("n") }
    );
    let vote = Command::ChangeNode(ChangeNode {
        role: Some(NodeRole::Voter),
        ..change("m")
    });
    assert_eq!(outcome(&then(&two, vote), &no_vote), "changed");
}

#[test]
fn an_address_leads_to_one_node() {
    let cluster = lab_of_two_nodes();
    let at = |text: &str, addresses: &[SocketAddr]| {
        Command::ChangeNode(ChangeNode {
            addresses: Some(addresses.to_vec()),
            ..change(text)
        })
    };
    let cluster = then(&cluster, at("n", &[address(7), address(8)]));
    let taken = Refusal::AddressTaken {
        address: address(8),
        holder: name("n"),
    };
    assert_eq!(refusal(&cluster, at("m", &[address(9), address(8)])), taken);
    let joins = AddNode {
        addresses: vec![address(8)],
        ..add_node("l", 4)
    };
    assert_eq!(refusal(&cluster, Command::AddNode(joins)), taken);
    let many: Vec<SocketAddr> = (100..117).map(address).collect();
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 7));
    for wrong in [&many[..], &[nowhere], &[address(0)], &[address(9), address(9)]] {
        assert_eq!(outcome(&cluster, &at("m", wrong)), "addresses", "{wrong:?}");
    }
    let changed = then(&cluster, at("m", &many[..16]));
    assert_eq!(changed.nodes[&name("m")].addresses, many[..16]);
    assert_eq!(changed.epoch, cluster.epoch, "the members are the same");
    assert_eq!(
        outcome(&then(&changed, at("n", &[])), &at("m", &[address(8)])),
        "changed"
    );
}

/// What is changed is what was seen.
#[test]
fn a_stale_look_at_a_node_changes_nothing() {
    let cluster = lab_of_two_nodes();
    let domain = |expected| {
        Command::ChangeNode(ChangeNode {
            failure_domain: Some(name("rack1")),
            expected,
            ..change("m")
        })
    };
    let revision = cluster.nodes[&name("m")].revision;
    assert_eq!(
        outcome(&cluster, &domain(Some(Generation(1)))),
        "revision_mismatch"
    );
    let changed = then(&cluster, domain(Some(revision)));
    assert_eq!(changed.nodes[&name("m")].failure_domain, Some(name("rack1")));
    assert_eq!(outcome(&changed, &domain(None)), "unchanged");
    let gone = |expected| {
        Command::RemoveNode(RemoveNode {
            name: name("m"),
            expected,
        })
    };
    assert_eq!(outcome(&changed, &gone(Some(revision))), "revision_mismatch");
    assert_eq!(outcome(&changed, &gone(Some(changed.generation))), "removed");
    assert_eq!(
        outcome(&changed, &Command::ChangeNode(change("l"))),
        "node_not_found"
    );
    assert_eq!(outcome(&changed, &remove("l")), "node_not_found");
}

/// A member whose program is older would not know what it is shown.
#[test]
fn a_feature_is_switched_on_when_all_members_can_it_and_stays_on() {
    // Counted from what this program can.
    let level = |above| FeatureLevel(FEATURE_LEVEL.0 + above);
    let start = |node, incarnation, above| {
        Command::NodeStarted(NodeStarted {
            feature_level: level(above),
            ..started(node, incarnation)
        })
    };
    let two = lab_of_two_nodes();
    assert_eq!(two.feature_level, level(0));
    let one_is_later = then(&two, start(2, 2, 1));
    assert_eq!(one_is_later.common_feature_level(), level(0));
    let too_low = |node, above| Refusal::FeatureLevelTooLow {
        node: name(node),
        level: level(above),
        needed: level(1),
    };
    assert_eq!(refusal(&one_is_later, raise(level(1))), too_low("m", 0));
    let both_are = then(&one_is_later, start(3, 2, 2));
    assert_eq!(both_are.common_feature_level(), level(1));
    let raised = then(&both_are, raise(level(1)));
    assert_eq!((raised.feature_level, raised.epoch), (level(1), both_are.epoch));
    for lower in 0..=level(1).0 {
        assert_eq!(outcome(&raised, &raise(FeatureLevel(lower))), "unchanged");
    }
    assert_eq!(
        refusal(&raised, start(3, 3, 0)),
        too_low("m", 0),
        "an older program"
    );
    assert_eq!(outcome(&raised, &start(3, 3, 1)), "changed");
    // Who joins is asked when it starts.
    let joining = then(&raised, Command::AddNode(add_node("l", 4)));
    assert_eq!(refusal(&joining, start(4, 1, 0)), too_low("l", 0));
    assert_eq!(outcome(&joining, &start(4, 1, 1)), "changed");
}

#[test]
fn what_is_not_switched_on_is_refused() {
    let before = lab();
    let off = Refusal::FeatureOff {
        needed: FeatureLevel(1),
        level: FeatureLevel(0),
    };
    let commands = [
        Command::AddNode(add_node("m", 3)),
        Command::ChangeNode(change("n")),
        remove("n"),
    ];
    for command in commands {
        assert_eq!(refusal(&before, command), off);
    }
    assert_eq!(
        outcome(&switched_on(&before), &Command::ChangeNode(change("n"))),
        "unchanged"
    );
}

/// Databases of versions before have three fields of a node; what they do not say is what it was.
#[test]
fn a_node_of_an_earlier_version_is_an_active_voter() {
    let text = r#"{"uuid":"00000000-0000-0000-0000-000000000002","created":1,"revision":1}"#;
    let node: Node = serde_json::from_str(text).unwrap();
    assert!(node.votes() && node.incarnation == Incarnation(0) && node.addresses.is_empty());
    assert_eq!(
        serde_json::to_string(&node).unwrap(),
        text,
        "its digest is as it was"
    );
}
