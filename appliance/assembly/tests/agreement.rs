//! Changes where others have to agree: another node leads the cluster, nobody does, or no answer comes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod node;
#[path = "../../admin/tests/wire/mod.rs"]
mod wire;

use node::TestNode;
use node::others::Fate;
use palisade_api::{Ending, Event, EventPage, Health};
use serde_json::json;
use wire::{Answer, ask};

const VOLUME: &str = r#"{"id":"v1","bytes":1048576,"disk":"d1"}"#;

impl TestNode {
    /// With a disk that volumes can lie on.
    fn with_disk() -> TestNode {
        let node = TestNode::new();
        let disk = r#"{"id":"d1","memory":{"bytes":67108864}}"#;
        assert_eq!(node.ask("POST", "/v1/disks", disk).status, 201);
        node
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        ask(self.address(), method, path, &[], body)
    }

    fn create(&self) -> Answer {
        self.ask("POST", "/v1/volumes", VOLUME)
    }

    fn health(&self) -> Health {
        serde_json::from_str(&self.ask("GET", "/v1/nodes/self/health", "").body).unwrap()
    }

    /// How the last command has ended.
    fn ending(&self) -> Ending {
        let page = self.ask("GET", "/v1/events?format=json&last=1000", "");
        let page: EventPage = serde_json::from_str(&page.body).unwrap();
        let mut ended = page
            .items
            .iter()
            .rev()
            .filter_map(|event: &Event| event.result.as_ref());
        ended.next().unwrap().ending
    }
}

#[test]
fn a_node_that_does_not_lead_says_whom_to_ask_and_finds_nothing_wrong_with_its_files() {
    let node = TestNode::with_disk();
    let url = "https://192.0.2.2:7780";
    node.others
        .agree([Fate::Elsewhere(vec![url.to_owned()]), Fate::Elsewhere(vec![])]);
    let known = node.create();
    assert_eq!((known.status, known.code().as_str()), (421, "not_leader"));
    assert_eq!(
        known.json()["ask"],
        json!({ "node": "host-b", "addresses": [url] })
    );
    assert!(known.json()["remedy"].as_str().unwrap().contains(url));
    assert_eq!(known.header("retry-after"), None, "it is another that answers");
    assert_eq!(node.ending(), Ending::Refused);
    let unknown = node.create();
    assert_eq!(unknown.json()["ask"], json!({ "node": "host-b" }));
    let findings = node.health().findings;
    let told = |code: &str| findings.iter().any(|finding| finding.code == code);
    assert!(
        !told("database_halted") && !told("state_misplaced"),
        "{findings:?}"
    );
    assert_eq!(node.create().status, 201, "nothing had been changed");
}

#[test]
fn without_a_leader_one_is_to_ask_again() {
    let node = TestNode::with_disk();
    node.others.agree([Fate::NoLeader]);
    let answer = node.create();
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_leader"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["retry_after_s"], 1);
    assert_eq!(node.ending(), Ending::Failed);
    assert_eq!(node.create().status, 201);
}

#[test]
fn a_change_whose_outcome_is_not_known_is_asked_for_again_and_not_done_twice() {
    let node = TestNode::with_disk();
    node.others.agree([Fate::Lost, Fate::Unheard]);
    for _ in 0..2 {
        let answer = node.create();
        assert_eq!((answer.status, answer.code().as_str()), (504, "outcome_unknown"));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(node.ending(), Ending::Failed);
    }
    assert_eq!(node.create().status, 200, "it was there already");
}
