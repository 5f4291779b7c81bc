//! What operators do is recorded: who, from where, which command, and what became of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod node;
#[path = "../../admin/tests/wire/mod.rs"]
mod wire;

use node::TestNode;
use palisade_api::{Actor, Ending, Entrance, Event, EventPage};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::{Answer, ask};

const ADMIN: &str = "0123456789abcdef0123456789abcdef";

/// A node that asks for a token.
struct Guarded {
    node: TestNode,
    /// The number of the last event that was looked at.
    seen: Cell<u64>,
}

impl Guarded {
    fn new() -> Guarded {
        let folder = node::folder();
        let token = folder.path().join("token");
        std::fs::write(&token, ADMIN).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let more = format!(
            "[admin]\ntoken_file = '{}'\nloopback_without_token = false\n",
            token.display()
        );
        let node = TestNode::within(Arc::new(folder), &more);
        let seen = Cell::new(0);
        Guarded { node, seen }
    }

    fn answer(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        ask(self.node.address(), method, path, &headers, body)
    }

    /// By the TCP port; gives the status.
    fn tcp(&self, method: &str, path: &str, token: &str, body: &str) -> u16 {
        self.answer(method, path, token, body).status
    }

    fn socket(&self) -> UnixStream {
        UnixStream::connect(self.node.socket()).unwrap()
    }

    fn disks(&self) -> usize {
        let disks = self.answer("GET", "/v1/disks?limit=1000", ADMIN, "").json();
        disks["items"].as_array().unwrap().len()
    }

    /// What was commanded, or refused entry, since this was asked last.
    fn recorded(&self) -> Vec<Event> {
        let page = self.answer("GET", "/v1/events?format=json&last=1000", ADMIN, "");
        let page: EventPage = serde_json::from_str(&page.body).unwrap();
        let mut events = page.items;
        events.retain(|event| event.id.number > self.seen.get() && event.result.is_some());
        self.seen
            .set(events.last().map_or(self.seen.get(), |event| event.id.number));
        events
    }

    fn one(&self) -> Event {
        let [event] = self.recorded().try_into().unwrap();
        event
    }
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: palisade\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

const DISK: &str = r#"{"id":"d1","null":{"bytes":1073741824}}"#;

#[test]
fn a_local_user_is_known_by_what_the_kernel_says() {
    let guarded = Guarded::new();
    let mut stream = guarded.socket();
    stream.write_all(post("/v1/disks", DISK).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let event = guarded.one();
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    let Actor::User { uid, name } = &event.actor else {
        panic!("{event:?}")
    };
    assert_eq!(*uid, own);
    assert!(own != 0 || name.as_deref() == Some("root"), "{event:?}");
    let source = event.source.unwrap();
    assert_eq!(source.by, Entrance::Socket);
    assert!(source.address.ends_with("/api.socket"), "{source:?}");
    assert_eq!(
        (event.kind.as_str(), event.subject.as_str()),
        ("disk_add", "disk/d1")
    );
    let result = event.result.unwrap();
    assert_eq!((result.ending, result.code), (Ending::Done, None));
    assert_eq!(event.message, "disk add d1: done");
    let command = event.command.unwrap();
    assert!(command.starts_with("POST /v1/disks {"), "{command}");
    assert!(command.contains("\"bytes\":1073741824"), "{command}");
}

#[test]
fn over_tcp_the_token_and_the_address_are_named_and_the_token_is_not_shown() {
    let guarded = Guarded::new();
    assert_eq!(guarded.tcp("POST", "/v1/disks", ADMIN, DISK), 201);
    let event = guarded.one();
    assert_eq!(event.actor.to_string(), "token admin");
    let source = event.source.clone().unwrap();
    assert_eq!(source.by, Entrance::Tcp);
    assert!(source.address.starts_with("127.0.0.1:"), "{source:?}");
    assert!(!format!("{event:?}").contains(ADMIN), "{event:?}");
}

#[test]
fn a_refusal_is_recorded_with_its_code_and_a_look_is_not() {
    let guarded = Guarded::new();
    assert_eq!(guarded.tcp("DELETE", "/v1/volumes/v9", ADMIN, ""), 404);
    let event = guarded.one();
    let result = event.result.unwrap();
    assert_eq!(
        (result.ending, result.code.as_deref()),
        (Ending::Refused, Some("volume_not_found"))
    );
    assert_eq!(event.subject, "volume/v9");
    assert!(
        event
            .message
            .starts_with("volume delete v9: refused: there is no volume"),
        "{}",
        event.message
    );
    assert_eq!(guarded.tcp("POST", "/v1/volumes", ADMIN, "{"), 400);
    assert_eq!(guarded.one().result.unwrap().ending, Ending::Refused);
    assert_eq!(guarded.tcp("POST", "/v1/disks", ADMIN, DISK), 201);
    guarded.recorded();
    for (method, path, body) in [
        ("GET", "/v1/disks", ""),
        ("GET", "/v1/disks/d9", ""),
        (
            "POST",
            "/v1/nodes/self/disk-preview",
            r#"{"id":"d2","null":{"bytes":1073741824}}"#,
        ),
        ("DELETE", "/v1/disks/d1?dry_run=true", ""),
        ("POST", "/v1/disks/d1/adopt", "{}"),
        ("POST", "/v1/no-such-thing", "{}"),
    ] {
        guarded.tcp(method, path, ADMIN, body);
        assert_eq!(guarded.recorded(), [], "{method} {path}");
    }
}

#[test]
fn who_is_not_let_in_is_recorded_unless_he_shows_nothing_and_only_looks() {
    let guarded = Guarded::new();
    let wrong = "ffffffffffffffffffffffffffffffff";
    assert_eq!(guarded.tcp("GET", "/v1/disks", wrong, ""), 401);
    let event = guarded.one();
    assert_eq!(
        (event.kind.as_str(), &event.actor),
        ("access_refused", &Actor::Unknown)
    );
    assert_eq!(event.result.clone().unwrap().code.as_deref(), Some("token_wrong"));
    assert_eq!(event.command.as_deref(), Some("GET /v1/disks"));
    assert!(!format!("{event:?}").contains(wrong), "{event:?}");
    assert_eq!(guarded.tcp("DELETE", "/v1/disks/d1", "", ""), 401);
    assert_eq!(guarded.one().result.unwrap().ending, Ending::Refused);
    let address = guarded.node.address();
    assert_eq!(ask(address, "GET", "/v1/disks", &[], "").status, 401);
    assert_eq!(guarded.recorded(), []);
}

#[test]
fn who_hangs_up_is_held_to_what_has_begun() {
    let guarded = Guarded::new();
    for number in 0..20 {
        let body = DISK.replace("d1", &format!("d{number}"));
        // It does not wait for an answer.
        let request = post("/v1/disks", &body);
        guarded.socket().write_all(request.as_bytes()).unwrap();
    }
    let mut done = 0;
    let mut look = || {
        let ended = guarded.recorded();
        let is_done = |event: &&Event| event.result.as_ref().unwrap().ending == Ending::Done;
        done += ended.iter().filter(is_done).count();
        (done, guarded.disks())
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    // Those that were not read before their client had gone are never carried out.
    let (mut before, mut level) = (0, 0);
    while before == 0 || level < 20 {
        let (done, disks) = look();
        level = if done == disks && done == before {
            level + 1
        } else {
            0
        };
        before = done;
        assert!(
            Instant::now() < deadline,
            "{disks} disks were added, and {done} commands are done"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
