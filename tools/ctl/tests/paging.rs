//! Pages of events from something that does not lead on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

/// Whatever numbers an appliance gives, what it says where to go on is not followed in a circle.
#[test]
fn a_page_that_leads_nowhere_ends_the_list() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let body = r#"{"items":[{"id":"n:7","node":"n","unix_ms":1,"severity":"info","kind":"k","subject":"node","message":"again"}],"next":"n:7","lost":false}"#;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    let listed = Command::new(env!("CARGO_BIN_EXE_palisade"))
        .args(["events", "--all"])
        .env_clear()
        .env("PALISADE_URL", format!("http://{address}"))
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&listed.stdout);
    assert_eq!(out.matches("again").count(), 1, "{out} {listed:?}");
}
