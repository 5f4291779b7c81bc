use super::*;
use crate::cluster::sensing::SensedPeer;
use palisade_words::{Generation, Uuid};
use std::collections::BTreeMap;

const NOW: Nanos = Nanos::from_secs(100);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Node a, which is asked, and b, at two addresses.
fn cluster() -> Cluster {
    let mut cluster = Cluster::empty();
    for (text, uuid) in [("a", 1), ("b", 2)] {
        let node = Node {
            addresses: (7..9).map(|port| ([192, 0, 2, uuid], port).into()).collect(),
            ..Node::of(Uuid(uuid.into()), Generation(1))
        };
        cluster.nodes.insert(name(text), node);
    }
    cluster
}

fn sensed(state: PeerState) -> Sensed {
    let peer = SensedPeer {
        state,
        heard: Some(Nanos::from_secs(97)),
        connected: Vec::new(),
    };
    Sensed {
        is_settled: true,
        is_left_out: false,
        peers: BTreeMap::from([(Uuid(2), peer)]),
        copied: BTreeMap::new(),
    }
}

/// A machine that was copied with its state directory: both say to be one node, and one of them counts for nothing.
#[test]
fn a_node_that_is_there_twice_is_named() {
    let mut seen = sensed(PeerState::Alive);
    seen.copied = BTreeMap::from([
        (Uuid(2), "stop one".to_owned()),
        (Uuid(9), "none of ours".to_owned()),
    ]);
    let kind = FindingKind::ClusterIdentityCopied;
    let said = "node b is there twice: stop one";
    assert_eq!(of(&cluster(), &seen), [(kind, "b".to_owned(), said.to_owned())]);
}

fn of(cluster: &Cluster, sensed: &Sensed) -> Vec<(FindingKind, String, String)> {
    let found = findings(cluster, &name("a"), sensed, NOW);
    let told = found
        .into_iter()
        .map(|(kind, name, said)| (kind, name.to_string(), said));
    told.collect()
}

#[test]
fn each_way_in_which_a_node_is_not_well_is_said() {
    let silent = FindingKind::ClusterMemberSilent;
    let limps = FindingKind::ClusterMemberLimps;
    for (state, kind, said) in [
        (
            PeerState::Silent {
                since: Nanos::from_secs(97),
            },
            silent,
            "node b has not been heard for 3 s",
        ),
        (
            PeerState::OneWay {
                since: Some(Nanos::from_millis(99_500)),
            },
            silent,
            "node b is heard and shows nothing that it has heard of this one since 500 ms ago",
        ),
        (
            PeerState::OneWay { since: None },
            silent,
            "node b is heard and has shown nothing that it has heard of this one",
        ),
        (
            PeerState::Limping(Limp::LinksLost(vec![LinkIndex(1)])),
            limps,
            "node b is heard, and not at 192.0.2.2:8",
        ),
        (
            PeerState::Limping(Limp::Late {
                gap: Nanos::from_millis(180),
            }),
            limps,
            "node b is heard late: 180 ms between two signs of life",
        ),
        (
            PeerState::Limping(Limp::Slow {
                round_trip: Nanos::from_millis(90),
            }),
            limps,
            "node b is slow to answer: 90 ms at best",
        ),
    ] {
        let found = of(&cluster(), &sensed(state));
        assert_eq!(found, [(kind, "b".to_owned(), said.to_owned())]);
    }
    assert!(of(&cluster(), &sensed(PeerState::Alive)).is_empty());
}

/// A node that has only just started knows nothing of the others yet.
#[test]
fn nothing_is_held_against_others_at_a_start() {
    let mut sensed = sensed(PeerState::Silent { since: NOW });
    sensed.is_settled = false;
    sensed.is_left_out = true;
    assert!(of(&cluster(), &sensed).is_empty());
    sensed.is_settled = true;
    let left_out = of(&cluster(), &sensed);
    assert_eq!(left_out.len(), 2);
    assert_eq!(
        (left_out[0].0, &*left_out[0].1),
        (FindingKind::ClusterMemberSilent, "a")
    );
}

#[test]
fn a_node_that_was_given_up_is_told_so_as_the_others_are() {
    let mut evicted = cluster();
    evicted.nodes.get_mut(&name("b")).unwrap().membership = Membership::Evicted;
    let kind = FindingKind::ClusterMemberEvicted;
    let said = "node b was given up by the others; this one last heard it 3 s ago";
    let alive = sensed(PeerState::Alive);
    assert_eq!(of(&evicted, &alive), [(kind, "b".to_owned(), said.to_owned())]);
    evicted.nodes.get_mut(&name("a")).unwrap().membership = Membership::Evicted;
    let found = of(&evicted, &Sensed::default());
    assert_eq!(
        found[0].2,
        "the other nodes have given this one up, as they did not hear it"
    );
    assert!(found[1].2.ends_with("has not heard it since its start"));
    let mut joining = cluster();
    joining.nodes.get_mut(&name("b")).unwrap().membership = Membership::Joining;
    let silent = sensed(PeerState::Silent { since: Nanos(0) });
    assert!(of(&joining, &silent).is_empty());
}
