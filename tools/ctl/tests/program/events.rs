//! What happened, as it is listed and followed.

use crate::site::Site;
use palisade_control::Work;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// The first lines that contain each of these words, one after the other.
fn follow(follow: &mut Child, lines: &[&str]) -> Vec<String> {
    let mut following = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = |word: &&str| following.find_map(|line| line.ok().filter(|line| line.contains(word)));
    let found = lines.iter().map_while(&mut next).collect();
    follow.kill().unwrap();
    follow.wait().unwrap();
    found
}

#[test]
fn events_are_listed_and_followed() {
    let site = Site::with_attachment();
    let table = site.palisade("events").ok();
    assert!(
        table.contains("volume/v1") && table.contains("volume create v1: done"),
        "{table}"
    );
    let page = site.palisade("events --all --json").json();
    let events = page.as_array().unwrap();
    let created = events.iter().find(|event| event["kind"] == "volume_create");
    let after = created.unwrap()["id"].as_str().unwrap();
    let mut child = site
        .program(&format!("events --follow --after {after}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let why = "the disk answers with errors";
    site.node
        .work
        .fail(|work| matches!(work, Work::OpenDisk { .. }), why);
    site.palisade("disk add d2 --null 1GiB").ok();
    let lines = follow(&mut child, &["attachment/web1", why]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(!lines[0].contains("volume/v1"), "{lines:?}");
    assert!(
        lines[1].contains("error") && lines[1].contains("disk/d2"),
        "{lines:?}"
    );
}

#[test]
fn the_last_events_are_shown_unless_more_are_asked_for() {
    let site = Site::new();
    site.palisade("disk add d1 --null 1TiB --wait").ok();
    // What there is to say of this machine is an event before all those.
    site.palisade("health");
    let volume = |number| format!(r#"{{"id":"v{number}","bytes":1048576,"disk":"d1"}}"#);
    site.post_all("/v1/volumes", (0..60).map(volume));
    let lines = |arguments: &str| site.palisade(arguments).ok().lines().count();
    assert_eq!(lines("events"), 1 + 50);
    let table = site.palisade("events --last 2").ok();
    assert!(
        table.contains("volume/v58") && table.contains("volume/v59") && !table.contains("volume/v57"),
        "{table}"
    );
    assert_eq!(lines("events -n 2000"), lines("events --all"));
    assert!(lines("events --all") > 60);
    let both = site.palisade("events --last 2 --all");
    assert!(both.code == 2 && both.err.contains("--all"), "{both:?}");
    let mut child = site
        .program("events --follow --last 1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(follow(&mut child, &["volume/v59"]).len(), 1);
}
