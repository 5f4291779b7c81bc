//! Changes where others have to agree: the leader of the cluster is found, and what may be done or not is asked for again.

use crate::site::Site;
use crate::site::node::others::Fate;
use std::time::{Duration, Instant};

const CREATE: &str = "volume create v1 1MiB --disk d1";

fn site() -> Site {
    let site = Site::new();
    site.palisade("disk add d1 --memory 64MiB").ok();
    site
}

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn a_change_goes_to_the_leader() {
    let (asked, leader) = (site(), site());
    // The first address of the leader is not reached.
    let addresses = vec![NOBODY.to_owned(), leader.url()];
    asked.node.others.agree([Fate::Elsewhere(addresses)]);
    let ran = asked.palisade(&format!("{CREATE} --json")).json();
    assert_eq!(ran["id"], "v1");
    leader.palisade("volume show v1").ok();
    assert_eq!(asked.palisade("volume show v1").code, 1);
}

#[test]
fn nodes_that_send_to_each_other_are_not_asked_for_ever() {
    let (one, other) = (site(), site());
    for (from, to) in [(&one, &other), (&other, &one)] {
        let elsewhere = |_| Fate::Elsewhere(vec![to.url()]);
        from.node.others.agree((0..20).map(elsewhere));
    }
    let ran = one.palisade(CREATE);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("node host-b leads the cluster"), "{}", ran.err);
}

#[test]
fn whom_to_ask_is_said_where_the_leader_cannot_be_followed_to() {
    let site = site();
    site.node
        .others
        .agree([Fate::Elsewhere(vec![]), Fate::Elsewhere(vec![NOBODY.to_owned()])]);
    let unknown = site.palisade(CREATE);
    assert_eq!(unknown.code, 1);
    assert!(
        unknown.err.contains("remedy: ask node host-b itself"),
        "{}",
        unknown.err
    );
    let unreachable = site.palisade(&format!("{CREATE} --json"));
    assert_eq!(unreachable.code, 1);
    let said: serde_json::Value = serde_json::from_str(&unreachable.err).unwrap();
    assert_eq!(said["code"], "not_leader");
    for (field, word) in [
        ("message", "host-b leads"),
        ("message", NOBODY),
        ("remedy", NOBODY),
    ] {
        assert!(said[field].as_str().unwrap().contains(word), "{said}");
    }
}

#[test]
fn while_nobody_leads_it_is_asked_again() {
    let site = site();
    site.node.others.agree([Fate::NoLeader, Fate::NoLeader]);
    let begun = Instant::now();
    site.palisade(CREATE).ok();
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "a second each, as it was told"
    );
    // Not for longer than one is ready to wait.
    site.node.others.agree((0..30).map(|_| Fate::NoLeader));
    let begun = Instant::now();
    let ran = site.palisade("volume create v2 1MiB --disk d1 --wait --wait-timeout 1");
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no leader"), "{}", ran.err);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn what_may_have_been_done_is_asked_for_again() {
    let site = site();
    for (next, words) in [
        (Fate::Lost, "volume create v1 1MiB --disk d1"),
        (Fate::Unheard, "volume create v2 1MiB --disk d1"),
        (Fate::Unheard, "volume grow v1 2MiB"),
        (Fate::Unheard, "volume delete v2 --yes"),
        (Fate::Lost, "volume delete v1 --yes"),
    ] {
        site.node.others.agree([next]);
        site.palisade(words).ok();
    }
    assert_eq!(site.palisade("volume list --json").json(), serde_json::json!([]));
}

/// The refusal of the second try does not say that the first one was not carried out.
#[test]
fn a_guarded_change_that_may_have_been_done_is_not_called_refused() {
    let site = site();
    let made = site.palisade(&format!("{CREATE} --json")).json();
    let generation = made["state"]["generation"].as_u64().unwrap();
    site.node.others.agree([Fate::Unheard]);
    let ran = site.palisade(&format!("volume grow v1 2MiB --expect {generation} --json"));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("outcome_unknown"), "{}", ran.err);
    let grown = site.palisade("volume show v1 --json").json();
    assert_eq!(grown["bytes"], 2 << 20);
}
