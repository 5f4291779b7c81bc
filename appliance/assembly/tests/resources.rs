//! What REST answers about disks and volumes, asked of a whole node over a real socket.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod node;
#[path = "../../admin/tests/wire/mod.rs"]
mod wire;

use node::TestNode;
use palisade_control::Work;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use wire::{Answer, ask};

impl TestNode {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        ask(self.address(), method, path, &[], &body)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &Value::Null)
    }

    /// A file below the node's folder.
    fn add_file(&self, id: &str) -> Answer {
        let path = self.text(&format!("disks/{id}.img"));
        let file = json!({ "path": path, "bytes": 64 << 20, "sparse": true });
        self.ask("POST", "/v1/disks", &json!({ "id": id, "file": file }))
    }

    /// Asks until it is as it should be.
    fn until(&self, path: &str, is: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.get(path);
            if is(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path}: {answer:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn memory(id: &str) -> Value {
    json!({ "id": id, "memory": { "bytes": 64 << 20 } })
}

fn volume(id: &str) -> Value {
    json!({ "id": id, "bytes": 4096, "disk": "d1" })
}

fn is_applied(answer: &Answer) -> bool {
    let state = &answer.json()["state"];
    state["applied"][node::NAME]["generation"] == state["generation"]
}

#[test]
fn creating_twice_is_creating_once() {
    let node = TestNode::new();
    let first = node.ask("POST", "/v1/disks", &memory("d1"));
    assert_eq!(
        (first.status, first.header("location")),
        (201, Some("/v1/disks/d1"))
    );
    let second = node.ask("POST", "/v1/disks", &memory("d1"));
    assert_eq!(
        (second.status, second.header("etag")),
        (200, first.header("etag"))
    );
    assert_eq!(first.json()["uuid"], second.json()["uuid"]);
    let other = json!({ "id": "d1", "null": { "bytes": 512 } });
    let other = node.ask("POST", "/v1/disks", &other);
    assert_eq!((other.status, other.code().as_str()), (409, "disk_exists"));
    assert_eq!(other.json()["field"], "null");
    assert_eq!(node.get("/v1/disks").json()["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_change_that_somebody_else_overtook_is_refused() {
    let node = TestNode::new();
    node.ask("POST", "/v1/disks", &memory("d1"));
    let created = node.ask("POST", "/v1/volumes", &volume("v1"));
    assert_eq!(created.status, 201, "{created:?}");
    let seen = created.header("etag").unwrap().to_owned();
    let grow = |seen: &str, bytes: u64| {
        let (headers, body) = ([("if-match", seen)], format!(r#"{{"bytes":{bytes}}}"#));
        ask(node.address(), "PATCH", "/v1/volumes/v1", &headers, &body)
    };
    let grown = grow(&seen, 8192);
    assert_eq!(grown.status, 200, "{grown:?}");
    assert_ne!(grown.header("etag"), Some(seen.as_str()));
    assert_eq!(grow(&seen, 16384).code(), "changed_meanwhile");
    assert_eq!(grow("W/\"1\"", 16384).status, 412, "a weak ETag never matches");
    assert_eq!(grow("\"1\", \"2\"", 16384).code(), "if_match_malformed");
    assert_eq!(grow("1", 16384).status, 400);
    assert_eq!(grow("\"never-ours\"", 16384).status, 412);
    assert_eq!(node.get("/v1/volumes/v1").json()["bytes"], 8192);
    assert_eq!(grow("*", 16384).status, 200);
    let delete = |seen: &str| {
        let headers = [("if-match", seen)];
        ask(node.address(), "DELETE", "/v1/volumes/v1", &headers, "")
    };
    assert_eq!(delete(&seen).status, 412);
    let now = node.get("/v1/volumes/v1");
    let gone = delete(now.header("etag").unwrap());
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    assert_eq!(delete("*").code(), "volume_not_found");
}

#[test]
fn what_is_agreed_on_is_in_force_once_the_superblock_is_on_the_medium() {
    let node = TestNode::new();
    node.work
        .hold(|work| matches!(work, Work::WriteSuperblock { .. }));
    let added = node.add_file("d1");
    assert_eq!(added.status, 201, "{added:?}");
    node.work.until_held();
    let waits = node.get("/v1/disks/d1");
    assert!(!is_applied(&waits), "{waits:?}");
    let blocked = &waits.json()["state"]["applied"][node::NAME]["blocked_on"];
    assert!(
        blocked
            .as_str()
            .is_some_and(|on| on.contains("recording on disk d1")),
        "{waits:?}"
    );
    node.work.release();
    node.until("/v1/disks/d1", is_applied);
    // An attachment is, once its socket is there.
    node.ask("POST", "/v1/volumes", &volume("v1"));
    node.ask("POST", "/v1/attachments", &json!({ "id": "a1", "volume": "v1" }));
    let attachment = node.until("/v1/attachments/a1", is_applied).json();
    assert_eq!(attachment["connection"]["state"], "listening");
    assert!(std::path::Path::new(attachment["socket"].as_str().unwrap()).exists());
}

#[test]
fn a_disk_that_leaves_is_there_until_it_is_closed_and_carries_nothing_of_ours() {
    let node = TestNode::new();
    node.add_file("d1");
    node.until("/v1/disks/d1", is_applied);
    assert_eq!(node.ask("POST", "/v1/volumes", &volume("v1")).status, 201);
    let delete = |path: &str| node.ask("DELETE", path, &Value::Null);
    assert_eq!(delete("/v1/disks/d1").code(), "disk_in_use");
    assert_eq!(delete("/v1/disks/d1?dry_run=true").code(), "disk_in_use");
    assert_eq!(delete("/v1/volumes/v1").status, 204);
    node.work
        .hold(|work| matches!(work, Work::EraseSuperblock { .. }));
    assert_eq!(delete("/v1/disks/d1").status, 204);
    node.work.until_held();
    assert_eq!(node.get("/v1/disks/d1").json()["leaving"], true);
    assert_eq!(node.add_file("d1").code(), "disk_going");
    node.work.release();
    node.until("/v1/disks/d1", |answer| answer.status == 404);
    let left = std::fs::read(node.path("disks/d1.img")).unwrap();
    assert!(left.iter().all(|byte| *byte == 0), "its superblock is erased");
}

#[test]
fn what_cannot_be_carried_out_is_told_until_it_can() {
    let node = TestNode::new();
    let found = |subject: &str| {
        let health = node.get("/v1/nodes/self/health").json();
        let findings = health["findings"].as_array().unwrap().clone();
        findings.into_iter().find(|finding| finding["subject"] == subject)
    };
    let why = "somebody has pulled the plug";
    node.work.fail(|work| matches!(work, Work::OpenDisk { .. }), why);
    node.add_file("d1");
    let blocked = node.until("/v1/disks/d1", |answer| answer.body.contains(why));
    assert_eq!(blocked.json()["condition"], "missing");
    let finding = found("disk/d1").unwrap();
    assert_eq!(finding["code"], "disk_blocked");
    assert!(finding["message"].as_str().unwrap().contains(why), "{finding}");
    let metrics = node.get("/metrics").body;
    assert!(
        metrics.contains("palisade_findings{code=\"disk_blocked\",subject=\"disk/d1\""),
        "{metrics}"
    );
    node.work.heal();
    node.until("/v1/disks/d1", is_applied);
    assert_eq!(found("disk/d1"), None);
    let online = node.get("/metrics").body;
    assert!(online.contains("palisade_disk_online{disk=\"d1\"} 1"), "{online}");
}
