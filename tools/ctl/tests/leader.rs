//! Changes where others have to agree: the leader of the cluster is found, and what may be done or not is asked for again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod site;

use palisade_admin::Appliance;
use site::Site;
use site::fake::Agreed;
use std::time::{Duration, Instant};

const CREATE: &str = "volume create v1 1GiB --disk d1";

fn site() -> Site {
    let site = Site::new();
    site.palisade("disk add d1 --memory 10GiB").ok();
    site
}

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn a_change_goes_to_the_leader() {
    let (asked, leader) = (site(), site());
    // The first address of the leader is not reached.
    let addresses = vec![NOBODY.to_owned(), leader.url()];
    asked.fake.agrees([Agreed::Elsewhere(addresses)]);
    let ran = asked.palisade(&format!("{CREATE} --json")).json();
    assert_eq!(ran["id"], "v1");
    assert!(leader.fake.volume("v1").is_some());
    assert!(asked.fake.volume("v1").is_none());
}

#[test]
fn nodes_that_send_to_each_other_are_not_asked_for_ever() {
    let (one, other) = (site(), site());
    for (from, to) in [(&one, &other), (&other, &one)] {
        from.fake
            .agrees((0..20).map(|_| Agreed::Elsewhere(vec![to.url()])));
    }
    let ran = one.palisade(CREATE);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("node host-b leads the cluster"), "{}", ran.err);
}

#[test]
fn whom_to_ask_is_said_where_the_leader_cannot_be_followed_to() {
    let site = site();
    site.fake.agrees([
        Agreed::Elsewhere(vec![]),
        Agreed::Elsewhere(vec![NOBODY.to_owned()]),
    ]);
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
    site.fake.agrees([Agreed::NoLeader, Agreed::NoLeader]);
    let begun = Instant::now();
    site.palisade(CREATE).ok();
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "a second each, as it was told"
    );
    // Not for longer than one is ready to wait.
    site.fake.agrees((0..30).map(|_| Agreed::NoLeader));
    let begun = Instant::now();
    let ran = site.palisade("volume create v2 1GiB --disk d1 --wait --wait-timeout 1");
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no leader"), "{}", ran.err);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn what_may_have_been_done_is_asked_for_again() {
    let site = site();
    for (next, words) in [
        (Agreed::Lost, "volume create v1 1GiB --disk d1"),
        (Agreed::Unheard, "volume create v2 1GiB --disk d1"),
        (Agreed::Unheard, "volume grow v1 2GiB"),
        (Agreed::Unheard, "volume delete v2 --yes"),
        (Agreed::Lost, "volume delete v1 --yes"),
    ] {
        site.fake.agrees([next]);
        site.palisade(words).ok();
    }
    assert!(site.fake.volumes().is_empty());
}

/// The refusal of the second try does not say that the first one was not carried out.
#[test]
fn a_guarded_change_that_may_have_been_done_is_not_called_refused() {
    let site = site();
    let made = site.palisade(&format!("{CREATE} --json")).json();
    let generation = made["state"]["generation"].as_u64().unwrap();
    site.fake.agrees([Agreed::Unheard]);
    let ran = site.palisade(&format!("volume grow v1 2GiB --expect {generation} --json"));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("outcome_unknown"), "{}", ran.err);
    assert_eq!(site.fake.volume("v1").unwrap().bytes, 2 << 30);
}
