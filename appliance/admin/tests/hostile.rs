//! What a hostile or broken client may do, and that it gets one clear answer and disturbs nobody.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod stub;
mod wire;

use palisade_admin::limits::{BODY_BYTES_MAX, CONNECTIONS_MAX, STREAMS_MAX};
use palisade_admin::{AdminConfig, AdminStartError, Server};
use std::io::{Read, Write};
use std::sync::Arc;
use stub::Stub;
use wire::{ask, connect, raw};

fn serve() -> Server {
    Server::start(
        AdminConfig::plain("127.0.0.1:0".parse().unwrap()),
        Arc::new(Stub::new()),
    )
    .unwrap()
}

#[test]
fn unknown_addresses_and_methods_are_problems_too() {
    let server = serve();
    let address = server.address().unwrap();
    let answer = ask(address, "GET", "/v1/volums", &[], "");
    assert_eq!((answer.status, answer.code().as_str()), (404, "route_not_found"));
    assert_eq!(answer.json()["remedy"], "did you mean /v1/volumes?");
    let answer = ask(address, "PUT", "/v1/volumes", &[], "{}");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (405, "method_not_allowed")
    );
    assert!(answer.header("allow").unwrap().contains("POST"), "{answer:?}");
    for path in [
        "/v1/disks/%2e%2e%2f",
        "/v1/disks/%00",
        "/v1/disks/%ff",
        "/v1/disks/a/b",
        &format!("/v1/disks/{}", "x".repeat(9000)),
    ] {
        let answer = ask(address, "GET", path, &[], "");
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.len() < 4096, "no long text comes back");
        answer.code();
    }
}

#[test]
fn bodies_are_bounded_typed_and_json() {
    let server = serve();
    let address = server.address().unwrap();
    let post = |body: &str| ask(address, "POST", "/v1/volumes", &[], body);
    assert_eq!(post("{\"id\":").code(), "body_malformed");
    assert_eq!(
        post(r#"{"id":"v","bytes":1,"dsik":"d"}"#).json()["remedy"],
        "did you mean `disk`?"
    );
    assert_eq!(post(r#"{"id":"v","bytes":"1"}"#).status, 422);
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(BODY_BYTES_MAX));
    assert_eq!(
        (post(&long).status, post(&long).code().as_str()),
        (413, "body_too_large")
    );
    let claimed = "POST /v1/volumes HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                   content-length: 99999999999\r\n\r\n{}";
    assert_eq!(raw(address, claimed.as_bytes()).status, 413);
    let text = "POST /v1/volumes HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: text/plain\r\n\
                content-length: 2\r\n\r\n{}";
    assert_eq!(
        raw(address, text.as_bytes()).status,
        415,
        "a form of another site's page"
    );
    let nothing = ask(
        address,
        "POST",
        "/v1/volumes",
        &[("content-type", "application/json")],
        "",
    );
    assert_eq!(nothing.status, 400);
}

#[test]
fn nonsense_on_the_wire_ends_the_connection_only() {
    let server = serve();
    let address = server.address().unwrap();
    let long_header = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"POST /v1/disks HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\nzz\r\n",
        long_header.as_bytes(),
    ] {
        let answer = raw(address, bytes);
        assert!(matches!(answer.status, 0 | 400 | 431 | 505), "{answer:?}");
    }
    assert_eq!(ask(address, "GET", "/v1/nodes/self/health", &[], "").status, 200);
}

#[test]
fn another_sites_name_is_refused() {
    let server = serve();
    let request = "GET /v1/nodes/self HTTP/1.1\r\nhost: rebound.example\r\nconnection: close\r\n\r\n";
    assert_eq!(
        raw(server.address().unwrap(), request.as_bytes()).code(),
        "host_refused"
    );
}

#[test]
fn slow_clients_are_let_go() {
    let server = serve();
    let address = server.address().unwrap();
    let mut headers = connect(address);
    headers
        .write_all(b"GET /v1/nodes/self HTTP/1.1\r\nhost: loc")
        .unwrap();
    let body = std::thread::spawn(move || {
        raw(
            address,
            b"POST /v1/disks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{",
        )
    });
    let mut rest = Vec::new();
    let begun = std::time::Instant::now();
    let _ = headers.read_to_end(&mut rest);
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(25),
        "the connection was closed"
    );
    let answer = body.join().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_slow"));
}

#[test]
fn connections_and_streams_are_bounded() {
    let server = serve();
    let address = server.address().unwrap();
    let ask_stream = format!("GET /v1/events HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut streams: Vec<_> = (0..STREAMS_MAX).map(|_| connect(address)).collect();
    for stream in &mut streams {
        stream.write_all(ask_stream.as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    let answer = ask(address, "GET", "/v1/events", &[], "");
    assert_eq!((answer.status, answer.code().as_str()), (503, "too_many_streams"));
    drop(streams);
    let mut tries = 0;
    while ask(address, "GET", "/v1/events?format=json", &[], "").status != 200 {
        tries += 1;
        assert!(tries < 100, "places come back when clients go");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn slow_clients_do_not_shut_an_operator_out() {
    let server = serve();
    let address = server.address().unwrap();
    // One who has been served keeps his place, though he does nothing just now.
    let mut served = connect(address);
    let request = format!("GET /v1/nodes/self HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut first = [0; 12];
    served.write_all(request.as_bytes()).unwrap();
    served.read_exact(&mut first).unwrap();
    let slow: Vec<_> = (0..CONNECTIONS_MAX + 93)
        .map(|_| {
            let mut stream = connect(address);
            // Those that were let go in the meantime may refuse it.
            let _ = stream.write_all(b"GET /v1/nodes/self HTTP/1.1\r\nhost: loc");
            stream
        })
        .collect();
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(ask(address, "GET", "/v1/nodes/self", &[], "").status, 200);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{begun:?}");
    served.write_all(request.as_bytes()).unwrap();
    let mut rest = [0; 4096];
    assert!(served.read(&mut rest).unwrap() > 0, "it was not let go");
    drop(slow);
}

#[test]
fn a_header_of_one_value_that_is_there_twice_is_refused() {
    let server = serve();
    let address = server.address().unwrap();
    let ask = |more: &str| {
        let request =
            format!("GET /v1/nodes/self HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n");
        raw(address, request.as_bytes())
    };
    assert_eq!(ask("").status, 200);
    for twice in [
        "host: localhost\r\n",
        "host: evil.example\r\n",
        "origin: http://localhost\r\norigin: http://localhost\r\n",
        "authorization: Bearer a\r\nauthorization: Bearer b\r\n",
        "content-length: 0\r\ncontent-length: 5\r\n",
    ] {
        let answer = ask(twice);
        assert_eq!(answer.status, 400, "{twice}: {answer:?}");
    }
    assert_eq!(ask("host: localhost\r\n").code(), "header_repeated");
    let without = raw(
        address,
        b"GET /v1/nodes/self HTTP/1.1\r\nconnection: close\r\n\r\n",
    );
    assert_eq!((without.status, without.code().as_str()), (400, "host_missing"));
}

#[test]
fn a_fault_of_ours_is_said_to_be_ours_and_ends_one_request() {
    let server = Server::start(
        AdminConfig::plain("127.0.0.1:0".parse().unwrap()),
        Arc::new(Stub::faulty()),
    )
    .unwrap();
    for _ in 0..40 {
        let answer = ask(server.address().unwrap(), "GET", "/v1/nodes/self", &[], "");
        assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    }
    assert_eq!(
        ask(server.address().unwrap(), "GET", "/v1/nodes/self/health", &[], "").status,
        200
    );
}

#[test]
fn an_address_in_use_is_said_to_be() {
    let server = serve();
    let error = Server::start(
        AdminConfig::plain(server.address().unwrap()),
        Arc::new(Stub::new()),
    )
    .unwrap_err();
    assert!(matches!(error, AdminStartError::Listen { .. }));
    assert!(error.remedy().contains("another program"), "{}", error.remedy());
}
