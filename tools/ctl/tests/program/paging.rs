//! Pages of a list, from whoever gives them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

/// Runs the program against something that gives these pages, each to whoever asks for what contains the words before it.
fn ask(args: &[&str], pages: &'static [(&'static str, &'static str)]) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let (_, body) = pages.iter().find(|(asked, _)| head[0].contains(asked)).unwrap();
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            write!(stream, "{answer}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    Command::new(env!("CARGO_BIN_EXE_palisade"))
        .args(args)
        .env_clear()
        .env("PALISADE_URL", format!("http://{address}"))
        .output()
        .unwrap()
}

#[test]
fn a_list_of_many_is_whole() {
    let listed = ask(
        &["ids", "volume"],
        &[
            ("after=v2", r#"{"items":[{"id":"v3"}]}"#),
            (
                "/v1/volumes",
                r#"{"items":[{"id":"v1"},{"id":"v2"}],"next":"v2"}"#,
            ),
        ],
    );
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout),
        "v1\nv2\nv3\n",
        "{listed:?}"
    );
}

/// Whatever numbers an appliance gives, what it says where to go on is not followed in a circle.
#[test]
fn a_page_that_leads_nowhere_ends_the_list() {
    const PAGE: &str = r#"{"items":[{"id":"n:7","node":"n","unix_ms":1,"severity":"info","kind":"k","subject":"node","message":"again"}],"next":"n:7","lost":false}"#;
    let listed = ask(&["events", "--all"], &[("/v1/events", PAGE)]);
    let out = String::from_utf8_lossy(&listed.stdout);
    assert_eq!(out.matches("again").count(), 1, "{out} {listed:?}");
}
