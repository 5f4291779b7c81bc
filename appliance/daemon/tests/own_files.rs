//! What the daemon needs after its start, taken away while it runs: told as a finding and an event, and over when it is there
//! again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod site;

use site::Daemon;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Asks until it is so.
fn until(daemon: &Daemon, path: &str, what: &str, is_so: impl Fn(&str) -> bool) {
    let begin = Instant::now();
    let mut last = String::new();
    loop {
        if let Some(answer) = daemon.ask("GET", path, "") {
            if is_so(&answer) {
                return;
            }
            last = answer;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}: {last}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An event of this kind has come, with these words, so many times.
fn event(daemon: &Daemon, kind: &str, words: &str, times: usize) {
    let kind = format!("\"kind\":\"{kind}\"");
    until(daemon, "/v1/events?format=json&limit=1000", &kind, |answer| {
        answer.matches(&kind).count() >= times && answer.contains(words)
    });
}

/// A finding of this code stands, or does not.
fn finding(daemon: &Daemon, code: &str, stands: bool) {
    let text = format!("\"code\":\"{code}\"");
    until(
        daemon,
        "/v1/nodes/self/health",
        &format!("{text}: {stands}"),
        |answer| answer.contains(&text) == stands,
    );
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// Which node it is stands in a file of its own, from before its first command.
#[test]
fn the_node_is_the_one_that_its_identity_file_names() {
    let daemon = Daemon::start(&["env"], Stdio::null());
    let text = fs::read_to_string(daemon.place("state/identity.json")).unwrap();
    let (_, rest) = text.split_once("\"node\":\"").unwrap();
    let (id, _) = rest.split_once('"').unwrap();
    assert_eq!(id.len(), 36, "{text}");
    until(&daemon, "/v1/nodes/self", "its own id", |answer| {
        answer.contains(&format!("\"id\":\"{id}\""))
    });
}

#[test]
fn each_file_that_goes_is_told_and_comes_back_or_is_asked_for() {
    let daemon = Daemon::start(&["env"], Stdio::null());
    fs::remove_file(daemon.socket()).unwrap();
    event(&daemon, "api_socket_lost", "has been deleted from outside", 1);
    event(&daemon, "api_socket_lost_over", "", 1);

    fs::remove_dir_all(daemon.place("run")).unwrap();
    event(&daemon, "api_socket_lost", "", 2);
    event(&daemon, "api_socket_lost_over", "", 2);

    let token = daemon.place("state/admin.token");
    let kept = fs::read_to_string(&token).unwrap();
    write(&token, "");
    finding(&daemon, "keys_not_taken", true);
    write(&token, &kept);
    finding(&daemon, "keys_not_taken", false);

    let config = daemon.place("palisade.toml");
    let kept = fs::read_to_string(&config).unwrap();
    fs::remove_file(&config).unwrap();
    finding(&daemon, "config_unusable", true);
    write(&config, "[reactors]\nslots = 1\n");
    finding(&daemon, "config_unusable", true);
    write(&config, &kept);
    finding(&daemon, "config_unusable", false);

    fs::remove_file(daemon.place("state/log.redb")).unwrap();
    fs::remove_file(daemon.place("state/lock")).unwrap();
    event(&daemon, "state_misplaced", "lock, log.redb have been deleted", 1);
    event(&daemon, "state_misplaced_over", "", 1);
    assert!(daemon.place("state/log.redb").exists());

    // What was recorded of events is written anew as far as it is known, and the loss is told.
    fs::remove_dir_all(daemon.place("state/events")).unwrap();
    event(&daemon, "events_rewritten", "", 1);
    assert!(
        fs::read_dir(daemon.place("state/events"))
            .unwrap()
            .next()
            .is_some()
    );

    fs::rename(daemon.place("state"), daemon.place("moved")).unwrap();
    finding(&daemon, "state_misplaced", true);
    let refused = add(&daemon, 1);
    assert!(refused.contains("storage_misplaced"), "{refused}");
    fs::rename(daemon.place("moved"), daemon.place("state")).unwrap();
    finding(&daemon, "state_misplaced", false);
    let taken = add(&daemon, 1);
    assert!(taken.starts_with("HTTP/1.1 201"), "{taken}");
    daemon.send("TERM");
    assert!(daemon.end().success());
}

/// What a guest has made of its write cache goes with its attachment, before another one of the name is offered.
#[test]
fn what_is_kept_of_a_write_cache_goes_with_its_attachment() {
    let daemon = Daemon::start(&["env"], Stdio::null());
    let null = "{\"id\":\"d1\",\"null\":{\"bytes\":1073741824},\"usage\":\"pooled\"}";
    let asked = |method: &str, path: &str, request: &str, status: &str| {
        let answer = daemon.ask(method, path, request).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    };
    asked("POST", "/v1/disks", null, "201");
    asked(
        "POST",
        "/v1/volumes",
        "{\"id\":\"v1\",\"bytes\":1048576,\"disk\":\"d1\"}",
        "201",
    );
    let kept = daemon.place("run/web1.write-cache");
    for _ in 0..3 {
        asked(
            "POST",
            "/v1/attachments",
            "{\"id\":\"web1\",\"volume\":\"v1\"}",
            "201",
        );
        let socket = daemon.place("run/web1.sock");
        wait_for("the socket", || socket.exists());
        // As its guest would have it written.
        write(&kept, "off\n");
        asked("DELETE", "/v1/attachments/web1", "", "204");
        wait_for("nothing is forgotten", || !kept.exists());
    }
    daemon.send("TERM");
    assert!(daemon.end().success());
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn add(daemon: &Daemon, number: usize) -> String {
    let request = format!("{{\"id\":\"d{number}\",\"null\":{{\"bytes\":1073741824}},\"usage\":\"whole\"}}");
    daemon.ask("POST", "/v1/disks", &request).unwrap()
}

/// A file system of few bytes for the state, gone with this.
struct Small(std::path::PathBuf);

impl Small {
    fn below(directory: &TempDir) -> Option<Small> {
        let place = directory.path().join("state");
        fs::create_dir(&place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=700", "none"])
            .arg(&place)
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Small(place))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn when_the_state_has_room_again_changes_are_taken_again() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_small) = Small::below(&directory) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    let daemon = Daemon::start_in(directory, &["env"], Stdio::null());
    let filler = daemon.place("state/filler");
    let fill = || {
        let full = Command::new("dd")
            .args(["if=/dev/zero", "bs=4096", "status=none"])
            .arg(format!("of={}", filler.display()))
            .stderr(Stdio::null())
            .status();
        assert!(!full.unwrap().success(), "there is room left");
    };
    fill();
    let mut number = 1;
    let refused = loop {
        let answer = add(&daemon, number);
        if !answer.starts_with("HTTP/1.1 201") {
            break answer;
        }
        assert!(number < 900, "it is never full");
        number += 1;
        // What the database has set aside for itself goes, too.
        if number % 20 == 0 {
            fs::remove_file(&filler).unwrap();
            fill();
        }
    };
    assert!(refused.contains("storage_failed"), "{refused}");
    finding(&daemon, "database_halted", true);
    assert!(add(&daemon, number).contains("storage_halted"));
    // It does not clear while it cannot be.
    std::thread::sleep(Duration::from_secs(4));
    finding(&daemon, "database_halted", true);
    fs::remove_file(&filler).unwrap();
    finding(&daemon, "database_halted", false);
    event(&daemon, "database_written_anew", "ask for it again", 1);
    let gone = daemon.ask("GET", &format!("/v1/disks/d{number}"), "").unwrap();
    assert!(gone.starts_with("HTTP/1.1 404"), "{gone}");
    assert!(add(&daemon, number).starts_with("HTTP/1.1 201"));
    daemon.send("TERM");
    assert!(daemon.end().success());
}
