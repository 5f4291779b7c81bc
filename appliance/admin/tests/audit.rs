//! What operators do is recorded: who, from where, which command, and what became of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod fake;
mod wire;

use fake::Fake;
use palisade_admin::{AdminConfig, Server, SocketDoor, TcpAccess, TcpDoor};
use palisade_api::{Actor, Ending, Entrance, Event};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::ask;

const ADMIN: &str = "0123456789abcdef0123456789abcdef";

struct Rig {
    folder: tempfile::TempDir,
    fake: Arc<Fake>,
    server: Server,
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, ADMIN).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = AdminConfig {
            socket: Some(SocketDoor {
                path: folder.path().join("api.socket"),
                admin_group: None,
                read_group: None,
            }),
            tcp: Some(TcpDoor {
                listen: "127.0.0.1:0".parse().unwrap(),
                tls: None,
                access: TcpAccess::Tokens {
                    admin: token,
                    make: false,
                    read: None,
                },
            }),
            metrics_open: false,
        };
        let fake = Arc::new(Fake::new());
        let server = Server::start(config, fake.clone()).unwrap();
        Rig { folder, fake, server }
    }

    /// By the TCP port; gives the status.
    fn tcp(&self, method: &str, path: &str, token: &str, body: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", &*bearer)];
        ask(self.server.address().unwrap(), method, path, &headers, body).status
    }

    fn socket(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("api.socket")).unwrap()
    }

    /// What was recorded since this was asked last.
    fn recorded(&self) -> Vec<Event> {
        std::mem::take(&mut *self.fake.commands.lock().unwrap())
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
    let rig = Rig::new();
    let mut stream = rig.socket();
    stream.write_all(post("/v1/disks", DISK).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let event = rig.one();
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    let name = Some("somebody".to_owned());
    assert_eq!(event.actor, Actor::User { uid, name });
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
    let rig = Rig::new();
    assert_eq!(rig.tcp("POST", "/v1/disks", ADMIN, DISK), 201);
    let event = rig.one();
    assert_eq!(event.actor.to_string(), "token admin");
    let source = event.source.clone().unwrap();
    assert_eq!(source.by, Entrance::Tcp);
    assert!(source.address.starts_with("127.0.0.1:"), "{source:?}");
    assert!(!format!("{event:?}").contains(ADMIN), "{event:?}");
}

#[test]
fn a_refusal_is_recorded_with_its_code_and_a_look_is_not() {
    let rig = Rig::new();
    assert_eq!(rig.tcp("DELETE", "/v1/volumes/v9", ADMIN, ""), 404);
    let event = rig.one();
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
    assert_eq!(rig.tcp("POST", "/v1/volumes", ADMIN, "{"), 400);
    assert_eq!(rig.one().result.unwrap().ending, Ending::Refused);
    assert_eq!(rig.tcp("POST", "/v1/disks", ADMIN, DISK), 201);
    rig.recorded();
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
        rig.tcp(method, path, ADMIN, body);
        assert_eq!(rig.recorded(), [], "{method} {path}");
    }
}

#[test]
fn who_is_not_let_in_is_recorded_unless_he_shows_nothing_and_only_looks() {
    let rig = Rig::new();
    let wrong = "ffffffffffffffffffffffffffffffff";
    assert_eq!(rig.tcp("GET", "/v1/disks", wrong, ""), 401);
    let event = rig.one();
    assert_eq!(
        (event.kind.as_str(), &event.actor),
        ("access_refused", &Actor::Unknown)
    );
    assert_eq!(event.result.clone().unwrap().code.as_deref(), Some("token_wrong"));
    assert_eq!(event.command.as_deref(), Some("GET /v1/disks"));
    assert!(!format!("{event:?}").contains(wrong), "{event:?}");
    assert_eq!(rig.tcp("DELETE", "/v1/disks/d1", "", ""), 401);
    assert_eq!(rig.one().result.unwrap().ending, Ending::Refused);
    let address = rig.server.address().unwrap();
    assert_eq!(ask(address, "GET", "/v1/disks", &[], "").status, 401);
    assert_eq!(rig.recorded(), []);
}

#[test]
fn who_hangs_up_is_held_to_what_has_begun() {
    let rig = Rig::new();
    for number in 0..20 {
        let body = DISK.replace("d1", &format!("d{number}"));
        // It does not wait for an answer.
        rig.socket()
            .write_all(post("/v1/disks", &body).as_bytes())
            .unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while rig.fake.commands.lock().unwrap().len() < palisade_admin::Appliance::disks(&*rig.fake).len()
        || rig.fake.commands.lock().unwrap().is_empty()
    {
        assert!(
            Instant::now() < deadline,
            "a disk was added and nobody has done it"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    let disks = palisade_admin::Appliance::disks(&*rig.fake).len();
    let done = rig
        .recorded()
        .into_iter()
        .filter(|event| event.result.as_ref().unwrap().ending == Ending::Done);
    assert_eq!(done.count(), disks);
}
