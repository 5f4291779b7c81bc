//! Changes where others have to agree: another node leads the cluster, nobody does, or no answer comes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod fake;
mod wire;

use fake::{Agreed, Fake};
use palisade_admin::{AdminConfig, Server};
use palisade_api::Ending;
use serde_json::json;
use std::sync::Arc;
use wire::ask;

const VOLUME: &str = r#"{"id":"v1","bytes":1048576}"#;

struct Rig {
    fake: Arc<Fake>,
    server: Server,
}

impl Rig {
    /// With a disk that volumes can lie on.
    fn new() -> Rig {
        let fake = Arc::new(Fake::new());
        let config = AdminConfig::plain("127.0.0.1:0".parse().unwrap());
        let server = Server::start(config, fake.clone()).unwrap();
        let rig = Rig { fake, server };
        let disk = r#"{"id":"d1","memory":{"bytes":1073741824}}"#;
        assert_eq!(rig.ask("POST", "/v1/disks", disk).status, 201);
        rig
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> wire::Answer {
        ask(self.server.address().unwrap(), method, path, &[], body)
    }

    fn create(&self) -> wire::Answer {
        self.ask("POST", "/v1/volumes", VOLUME)
    }

    fn ending(&self) -> Ending {
        let commands = self.fake.commands.lock().unwrap();
        commands.last().unwrap().result.as_ref().unwrap().ending
    }
}

#[test]
fn a_node_that_does_not_lead_says_whom_to_ask() {
    let rig = Rig::new();
    let url = "https://192.0.2.2:7780";
    rig.fake
        .agrees([Agreed::Elsewhere(vec![url.to_owned()]), Agreed::Elsewhere(vec![])]);
    let known = rig.create();
    assert_eq!((known.status, known.code().as_str()), (421, "not_leader"));
    assert_eq!(
        known.json()["ask"],
        json!({ "node": "host-b", "addresses": [url] })
    );
    assert!(known.json()["remedy"].as_str().unwrap().contains(url));
    assert_eq!(known.header("retry-after"), None, "it is another that answers");
    assert_eq!(rig.ending(), Ending::Refused);
    let unknown = rig.create();
    assert_eq!(unknown.json()["ask"], json!({ "node": "host-b" }));
    assert_eq!(rig.create().status, 201, "nothing had been changed");
}

#[test]
fn without_a_leader_one_is_to_ask_again() {
    let rig = Rig::new();
    rig.fake.agrees([Agreed::NoLeader]);
    let answer = rig.create();
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_leader"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["retry_after_s"], 1);
    assert_eq!(rig.ending(), Ending::Failed);
    assert_eq!(rig.create().status, 201);
}

#[test]
fn a_change_whose_outcome_is_not_known_is_asked_for_again_and_not_done_twice() {
    let rig = Rig::new();
    rig.fake.agrees([Agreed::Lost, Agreed::Unheard]);
    for _ in 0..2 {
        let answer = rig.create();
        assert_eq!((answer.status, answer.code().as_str()), (504, "outcome_unknown"));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(rig.ending(), Ending::Failed);
    }
    assert_eq!(rig.create().status, 200, "it was there already");
}
