//! The files by which the server is reached, when somebody takes them away or spoils them while it runs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod stub;
mod wire;

use palisade_admin::{
    AdminConfig, CertificateState, DoorTrouble, Server, SocketDoor, TcpAccess, TcpDoor, Tls,
};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stub::Stub;
use tempfile::TempDir;
use wire::{ask, parse};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Site {
    folder: TempDir,
    appliance: Arc<Stub>,
    server: Server,
}

impl Site {
    /// A server with a socket in a folder of its own, and a port that asks for a token.
    fn start() -> Site {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        write_token(&folder.path().join("admin.token"), TOKEN);
        let own_group = std::fs::metadata("/proc/self").unwrap().gid();
        let config = AdminConfig {
            socket: Some(SocketDoor {
                path: folder.path().join("run/api.socket"),
                admin_group: Some(own_group),
                read_group: None,
            }),
            tcp: Some(TcpDoor {
                listen: "127.0.0.1:0".parse().unwrap(),
                tls: None,
                access: TcpAccess::Tokens {
                    admin: folder.path().join("admin.token"),
                    make: true,
                    read: None,
                },
            }),
            metrics_open: false,
        };
        let appliance = Arc::new(Stub::new());
        let server = Server::start(config, Arc::clone(&appliance) as Arc<_>).unwrap();
        Site {
            folder,
            appliance,
            server,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/api.socket")
    }

    fn token(&self) -> PathBuf {
        self.folder.path().join("admin.token")
    }

    fn socket_answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else {
            return false;
        };
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = b"GET /v1/nodes/self HTTP/1.1\r\nhost: palisade\r\nconnection: close\r\n\r\n";
        let mut answer = Vec::new();
        stream.write_all(request).is_ok()
            && stream.read_to_end(&mut answer).is_ok()
            && !answer.is_empty()
            && parse(&answer).status == 200
    }

    fn token_opens(&self, token: &str) -> bool {
        let bearer = format!("Bearer {token}");
        let address = self.server.address().unwrap();
        ask(
            address,
            "GET",
            "/v1/nodes/self",
            &[("authorization", &bearer)],
            "",
        )
        .status
            == 200
    }

    /// What the appliance was told next, after `known` times before.
    fn told(&self, known: usize) -> Vec<DoorTrouble> {
        until("nothing is told", || self.appliance.doors().get(known).cloned())
    }
}

fn write_token(path: &Path, token: &str) {
    std::fs::write(path, token).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn until<T>(otherwise: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{otherwise}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_socket_trouble(told: &[DoorTrouble], says: &str) -> bool {
    matches!(told, [DoorTrouble::Socket { message }] if message.contains(says))
}

fn is_keys_trouble(told: &[DoorTrouble], says: &str) -> bool {
    matches!(told, [DoorTrouble::Keys { message }] if message.contains(says))
}

#[test]
fn a_socket_that_is_deleted_comes_back_as_it_was_and_both_is_told() {
    let site = Site::start();
    let about = |path: &Path| {
        let about = std::fs::metadata(path).unwrap();
        (about.uid(), about.gid(), about.mode())
    };
    let before = about(&site.socket());
    std::fs::remove_file(site.socket()).unwrap();
    let told = site.told(0);
    assert!(is_socket_trouble(&told, "deleted from outside"), "{told:?}");
    until("it does not come back", || site.socket_answers().then_some(()));
    assert_eq!(about(&site.socket()), before);
    assert_eq!(site.told(1), []);
    // With its folder, as something that tidies up does it.
    std::fs::remove_dir_all(site.folder.path().join("run")).unwrap();
    let told = site.told(2);
    assert!(is_socket_trouble(&told, "deleted from outside"), "{told:?}");
    until("it does not come back with its folder", || {
        site.socket_answers().then_some(())
    });
    assert_eq!(site.told(3), []);
    let (folder, socket) = (site.folder.path().join("run"), site.socket());
    site.server.stop();
    assert!(!socket.exists());
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "nothing is left");
}

#[test]
fn what_is_in_the_sockets_place_is_told_and_a_living_one_is_left_alone() {
    let site = Site::start();
    std::fs::remove_file(site.socket()).unwrap();
    std::fs::create_dir(site.socket()).unwrap();
    let told = until("a folder in its place is not told", || {
        let told = site.appliance.doors().pop()?;
        is_socket_trouble(&told, "no socket is in the place").then_some(told)
    });
    assert!(is_socket_trouble(&told, "cannot be made anew"), "{told:?}");
    std::fs::remove_dir(site.socket()).unwrap();
    until("it does not come back", || site.socket_answers().then_some(()));
    // Somebody who answers is not pushed aside.
    std::fs::remove_file(site.socket()).unwrap();
    let other = UnixListener::bind(site.socket()).unwrap();
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    });
    until("another socket is not told", || {
        let told = site.appliance.doors().pop()?;
        is_socket_trouble(&told, "another socket").then_some(())
    });
    stranger.join().unwrap();
    // It has gone, and left its file.
    until("it does not come back", || site.socket_answers().then_some(()));
    until("it is not over", || {
        (site.appliance.doors().last()?).is_empty().then_some(())
    });
}

#[test]
fn a_token_that_was_emptied_deleted_or_shown_to_all_is_told_until_it_is_right_again() {
    let site = Site::start();
    let spoil: [(&dyn Fn(), &str); 3] = [
        (&|| std::fs::write(site.token(), "").unwrap(), "characters"),
        (&|| std::fs::remove_file(site.token()).unwrap(), "admin.token"),
        (
            &|| {
                let all = std::fs::Permissions::from_mode(0o644);
                std::fs::set_permissions(site.token(), all).unwrap();
            },
            "chmod 600",
        ),
    ];
    for (at, (spoil, says)) in spoil.into_iter().enumerate() {
        spoil();
        let told = site.told(2 * at);
        assert!(is_keys_trouble(&told, says), "{told:?}");
        assert!(site.token_opens(TOKEN), "the one of before stays in force");
        write_token(&site.token(), TOKEN);
        assert_eq!(site.told(2 * at + 1), []);
    }
    write_token(&site.token(), "0000000000000000000000000000000000000001");
    site.told(6);
    let bearer = "Bearer 0000000000000000000000000000000000000001";
    let address = site.server.address().unwrap();
    let refused = ask(address, "GET", "/v1/nodes/self", &[("authorization", bearer)], "");
    assert_eq!((refused.status, refused.code().as_str()), (401, "token_wrong"));
    assert!(refused.body.contains("keys_not_taken"), "{refused:?}");
    write_token(&site.token(), TOKEN);
    assert_eq!(site.told(7), []);
    let renewed = TOKEN.replace('0', "9");
    write_token(&site.token(), &renewed);
    until("the new one is not taken", || {
        site.token_opens(&renewed).then_some(())
    });
    assert_eq!(site.appliance.doors().len(), 8, "which is no trouble");
}

/// A server whose port has a certificate, in a folder of its own.
struct Certified {
    folder: TempDir,
    key: rcgen::KeyPair,
    appliance: Arc<Stub>,
    _server: Server,
}

/// Seconds from now, as certificates count them.
type Span = (i64, i64);

const DAY: i64 = 86_400;

/// A certificate that is valid in a span of seconds from now.
fn valid_within(key: &rcgen::KeyPair, (from, until): Span) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = |seconds: i64| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now.checked_add_signed(seconds).unwrap())
    };
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (at(from), at(until));
    params.self_signed(key).unwrap().pem()
}

impl Certified {
    fn start(span: Span) -> Certified {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let key = rcgen::KeyPair::generate().unwrap();
        write_token(&place("cert"), &valid_within(&key, span));
        write_token(&place("key"), &key.serialize_pem());
        write_token(&place("token"), TOKEN);
        let config = AdminConfig {
            socket: None,
            tcp: Some(TcpDoor {
                listen: "127.0.0.1:0".parse().unwrap(),
                tls: Some(Tls {
                    cert: place("cert"),
                    key: place("key"),
                }),
                access: TcpAccess::Tokens {
                    admin: place("token"),
                    make: false,
                    read: None,
                },
            }),
            metrics_open: false,
        };
        let appliance = Arc::new(Stub::new());
        let server = Server::start(config, Arc::clone(&appliance) as Arc<_>).unwrap();
        Certified {
            folder,
            key,
            appliance,
            _server: server,
        }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn renew(&self, span: Span) {
        write_token(&self.place("cert"), &valid_within(&self.key, span));
    }

    /// What the appliance was told next, after `known` times before.
    fn told(&self, known: usize) -> Vec<DoorTrouble> {
        until("nothing is told", || self.appliance.doors().get(known).cloned())
    }

    /// The state of the certificate that the appliance was told next, with a sentence that names the file and says so.
    fn told_state(&self, known: usize, says: &str) -> CertificateState {
        let told = self.told(known);
        let [DoorTrouble::Certificate { state, message }] = told.as_slice() else {
            panic!("{told:?}");
        };
        let path = self.place("cert").display().to_string();
        assert!(message.contains(&path) && message.contains(says), "{message}");
        *state
    }
}

#[test]
fn a_certificate_or_key_that_is_spoilt_is_told_until_it_is_right_again() {
    let site = Certified::start((-DAY, 365 * DAY));
    let right = |name: &str| std::fs::read_to_string(site.place(name)).unwrap();
    for (at, (name, right)) in [("cert", right("cert")), ("key", right("key"))]
        .into_iter()
        .enumerate()
    {
        write_token(&site.place(name), "-----BEGIN NONSENSE-----");
        let wrong = site.told(2 * at);
        let path = site.place(name).display().to_string();
        assert!(is_keys_trouble(&wrong, &path), "{wrong:?}");
        write_token(&site.place(name), &right);
        assert_eq!(site.told(2 * at + 1), []);
    }
}

#[test]
fn a_certificate_is_told_of_before_it_ends_and_until_it_is_renewed() {
    let site = Certified::start((-90 * DAY, 13 * DAY));
    assert_eq!(site.told_state(0, "is valid until"), CertificateState::Ends);
    site.renew((-90 * DAY, DAY));
    assert_eq!(site.told_state(1, "only"), CertificateState::EndsSoon);
    site.renew((-90 * DAY, 15 * DAY));
    assert_eq!(site.told(2), []);
    // One that ends while it is in force.
    site.renew((-DAY, 10));
    assert_eq!(site.told_state(3, "only"), CertificateState::EndsSoon);
    assert_eq!(site.told_state(4, "has expired, on"), CertificateState::NotValid);
    site.renew((-DAY, 90 * DAY));
    assert_eq!(site.told(5), []);
}

#[test]
fn a_server_starts_with_a_certificate_that_is_not_valid_and_says_so() {
    let site = Certified::start((-90 * DAY, -1));
    assert_eq!(site.told_state(0, "has expired, on"), CertificateState::NotValid);
    // What comes instead is no worse.
    site.renew((10, 90 * DAY));
    assert_eq!(
        site.told_state(1, "is not valid before"),
        CertificateState::NotValid
    );
    // The clock alone has made it valid.
    assert_eq!(site.told(2), []);
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_taken_when_it_is() {
    let site = Certified::start((-DAY, 90 * DAY));
    site.renew((-90 * DAY, -DAY));
    let told = site.told(0);
    assert!(is_keys_trouble(&told, "has expired, on"), "{told:?}");
    assert!(is_keys_trouble(&told, "valid now"), "{told:?}");
    // Nobody touches the file again: it is taken by the clock.
    site.renew((10, DAY));
    let told = site.told(1);
    assert!(is_keys_trouble(&told, "is not valid before"), "{told:?}");
    // One of a day is well for three quarters of it.
    assert_eq!(site.told(2), []);
}
