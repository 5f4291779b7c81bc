//! By which doors the server is reached, what each asks for, and how keys are renewed while it runs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod stub;
mod wire;

use palisade_admin::limits::LOCAL_CONNECTIONS_MAX;
use palisade_admin::{AdminConfig, AdminStartError, Server, SocketDoor, TcpAccess, TcpDoor, Tls};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stub::Stub;
use wire::{Answer, ask, parse};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

fn private(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn tcp(admin: PathBuf, read: Option<PathBuf>, make: bool) -> Option<TcpDoor> {
    Some(TcpDoor {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        access: TcpAccess::Tokens { admin, make, read },
    })
}

fn socket(folder: &Path) -> Option<SocketDoor> {
    Some(SocketDoor {
        path: folder.join("api.socket"),
        admin_group: None,
        read_group: None,
    })
}

fn start(socket: Option<SocketDoor>, tcp: Option<TcpDoor>) -> Result<Server, AdminStartError> {
    let config = AdminConfig {
        socket,
        tcp,
        metrics_open: false,
    };
    Server::start(config, Arc::new(Stub::new()))
}

/// The status of a request with a token.
fn status(address: SocketAddr, method: &str, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    ask(address, method, "/v1/volumes", &[("authorization", &bearer)], "").status
}

fn ask_socket(path: &Path) -> Answer {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
        .write_all(b"GET /v1/nodes/self HTTP/1.1\r\nhost: palisade\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parse(&answer)
}

#[test]
fn the_socket_lets_the_daemons_user_in_and_goes_when_the_server_stops() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(socket(folder.path()), None).unwrap();
    let path = folder.path().join("api.socket");
    assert_eq!(ask_socket(&path).status, 200);
    assert_eq!(server.address(), None);
    let error = start(socket(folder.path()), None).unwrap_err();
    assert!(matches!(error, AdminStartError::SocketInUse { .. }), "{error}");
    server.stop();
    assert!(!path.exists());
}

#[test]
fn another_user_is_told_that_he_may_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let door = SocketDoor {
        admin_group: Some(4_000_001),
        read_group: Some(4_000_002),
        ..socket(folder.path()).unwrap()
    };
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("not run: only root can become somebody else");
        return;
    }
    let path = door.path.clone();
    let _server = start(Some(door), None).unwrap();
    // setpriv gives a process another user and other groups, as a login would.
    let by = |groups: &str, method: &str| {
        let script = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; print $s \"$ARGV[1] \
                      /v1/volumes HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\ncontent-type: \
                      application/json\\r\\ncontent-length: 2\\r\\n\\r\\n{}\"; print while <$s>;";
        let done = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--groups", groups])
            .args(["/usr/bin/perl", "-e", script])
            .arg(&path)
            .arg(method)
            .output()
            .unwrap();
        let answer = parse(&done.stdout);
        assert_ne!(answer.status, 0, "{done:?}");
        (
            answer.status,
            answer.json()["code"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(by("65534", "GET"), (403, "user_refused".into()));
    assert_eq!(by("4000002", "GET"), (200, String::new()));
    assert_eq!(by("4000002", "POST"), (403, "role_reads_only".into()));
    assert_eq!(
        by("4000002,4000001", "POST").0,
        422,
        "he may; the body says nothing"
    );
}

#[test]
fn slow_local_clients_do_not_shut_an_operator_out() {
    let folder = tempfile::tempdir().unwrap();
    let _server = start(socket(folder.path()), None).unwrap();
    let path = folder.path().join("api.socket");
    let slow: Vec<_> = (0..LOCAL_CONNECTIONS_MAX + 200)
        .map(|_| {
            let mut stream = UnixStream::connect(&path).unwrap();
            let _ = stream.write_all(b"GET /v1/no");
            stream
        })
        .collect();
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(ask_socket(&path).status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(slow);
}

#[test]
fn loopback_asks_for_a_token_that_is_made_at_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.token");
    let server = start(None, tcp(path.clone(), None, true)).unwrap();
    let address = server.address().unwrap();
    assert_eq!(
        ask(address, "GET", "/v1/nodes/self", &[], "").code(),
        "token_missing"
    );
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let token = std::fs::read_to_string(&path).unwrap();
    assert_eq!(status(address, "GET", token.trim()), 200);
    server.stop();
    let again = start(None, tcp(path.clone(), None, true)).unwrap();
    assert_eq!(
        status(again.address().unwrap(), "GET", token.trim()),
        200,
        "it stays the same"
    );
    let absent = folder.path().join("absent");
    assert!(matches!(
        start(None, tcp(absent, None, false)).unwrap_err(),
        AdminStartError::FileRead { .. }
    ));
}

#[test]
fn a_token_for_reading_reads_and_keys_are_renewed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let admin = private(folder.path(), "a", TOKEN);
    let read = private(folder.path(), "r", OTHER);
    let server = start(None, tcp(admin.clone(), Some(read.clone()), false)).unwrap();
    let address = server.address().unwrap();
    assert_eq!(
        (status(address, "GET", OTHER), status(address, "POST", OTHER)),
        (200, 403)
    );
    // A weak token changes nothing, a good one counts at once.
    private(folder.path(), "a", "weak");
    assert!(matches!(
        server.reload().unwrap_err(),
        AdminStartError::TokenWeak { .. }
    ));
    assert_eq!(status(address, "GET", TOKEN), 200);
    private(folder.path(), "a", OTHER);
    assert!(matches!(
        server.reload().unwrap_err(),
        AdminStartError::TokensEqual { .. }
    ));
    let new = TOKEN.replace('0', "9");
    private(folder.path(), "a", &new);
    server.reload().unwrap();
    assert_eq!(
        (status(address, "GET", &new), status(address, "GET", TOKEN)),
        (200, 401)
    );
    // Without anybody's word it takes a few seconds.
    private(folder.path(), "new", TOKEN);
    std::fs::rename(folder.path().join("new"), &admin).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while status(address, "GET", TOKEN) != 200 {
        assert!(Instant::now() < deadline, "the file was replaced and not read");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nothing_is_served_beyond_loopback_without_a_certificate_and_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |tls: Option<Tls>, access: TcpAccess| {
        let door = TcpDoor {
            listen: "0.0.0.0:0".parse().unwrap(),
            tls,
            access,
        };
        start(None, Some(door)).unwrap_err()
    };
    let tls = || {
        Some(Tls {
            cert: "/nonexistent/cert.pem".into(),
            key: "/nonexistent/key.pem".into(),
        })
    };
    let token = || TcpAccess::Tokens {
        admin: private(folder.path(), "t", TOKEN),
        make: false,
        read: None,
    };
    for (tls, access) in [
        (None, TcpAccess::Nothing),
        (tls(), TcpAccess::Nothing),
        (None, token()),
    ] {
        let error = refused(tls, access);
        assert!(matches!(error, AdminStartError::Exposed { .. }), "{error:?}");
        assert!(error.remedy().contains("certificate"), "{}", error.remedy());
    }
    assert!(matches!(
        refused(tls(), token()),
        AdminStartError::FileRead { .. }
    ));
}

#[test]
fn with_a_socket_a_port_in_other_hands_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let token = private(folder.path(), "t", TOKEN);
    let door = TcpDoor {
        listen: other.local_addr().unwrap(),
        ..tcp(token, None, false).unwrap()
    };
    let server = start(socket(folder.path()), Some(door)).unwrap();
    assert_eq!(ask_socket(&folder.path().join("api.socket")).status, 200);
    assert_eq!(server.address(), None);
    let listen = other.local_addr().unwrap();
    let trouble = format!("another process listens on {listen}");
    assert_eq!(server.port_trouble(), Some(trouble.as_str()));
    drop(other);
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.address().is_none() {
        assert!(Instant::now() < deadline, "the port is free and not taken");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(status(server.address().unwrap(), "GET", TOKEN), 200);
    assert_eq!(server.port_trouble(), None);
}

#[test]
fn with_a_socket_an_address_that_is_not_there_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let door = || TcpDoor {
        // TEST-NET-1 (RFC 5737): no machine has it.
        listen: "192.0.2.1:7780".parse().unwrap(),
        ..tcp(private(folder.path(), "t", TOKEN), None, false).unwrap()
    };
    let with_certificate = |door: TcpDoor| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        TcpDoor {
            tls: Some(Tls {
                cert: private(folder.path(), "cert.pem", &made.cert.pem()),
                key: private(folder.path(), "key.pem", &made.signing_key.serialize_pem()),
            }),
            ..door
        }
    };
    let server = start(socket(folder.path()), Some(with_certificate(door()))).unwrap();
    assert_eq!(ask_socket(&folder.path().join("api.socket")).status, 200);
    let trouble = server.port_trouble().unwrap();
    assert!(
        trouble.starts_with("192.0.2.1:7780 cannot be listened on: "),
        "{trouble}"
    );
    drop(server);
    let alone = start(None, Some(with_certificate(door()))).unwrap_err();
    assert!(
        matches!(alone, AdminStartError::Listen { .. }),
        "nobody could come in: {alone:?}"
    );
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let cert = private(folder.path(), "cert.pem", &made.cert.pem());
    let key = private(folder.path(), "key.pem", &made.signing_key.serialize_pem());
    let try_mode = |mode: u32| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let door = TcpDoor {
            tls: Some(Tls {
                cert: cert.clone(),
                key: key.clone(),
            }),
            ..tcp(private(folder.path(), "t", TOKEN), None, false).unwrap()
        };
        start(None, Some(door))
    };
    assert!(try_mode(0o600).is_ok() && try_mode(0o640).is_ok());
    assert!(matches!(
        try_mode(0o644).unwrap_err(),
        AdminStartError::SecretExposed {
            what: "private key",
            ..
        }
    ));
}

#[test]
fn a_certificate_that_no_client_would_take_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let of_clients = params.self_signed(&key).unwrap();
    let try_with = |pem: &str| {
        let door = TcpDoor {
            tls: Some(Tls {
                cert: private(folder.path(), "cert.pem", pem),
                key: private(folder.path(), "key.pem", &key.serialize_pem()),
            }),
            ..tcp(private(folder.path(), "t", TOKEN), None, false).unwrap()
        };
        start(None, Some(door))
    };
    let error = try_with(&of_clients.pem()).unwrap_err();
    assert!(matches!(error, AdminStartError::Certificate { .. }), "{error:?}");
    assert!(error.remedy().contains("for servers"), "{}", error.remedy());
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let error = try_with(&stranger.cert.pem()).unwrap_err();
    assert!(
        matches!(error, AdminStartError::Certificate { .. }),
        "the key is another's: {error:?}"
    );
}
