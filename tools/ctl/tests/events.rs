//! What happened, as it is listed and followed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod site;

use palisade_api::Severity;
use site::{Site, program};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn events_are_listed_and_followed() {
    let site = Site::with_attachment();
    let table = site.palisade("events").ok();
    assert!(
        table.contains("volume/v1") && table.contains("created"),
        "{table}"
    );
    let mut follow = program(&site.url(), "events --follow --after 1002")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("attachment/web1"));
    site.fake.events.push(
        Severity::Error,
        "disk_failed",
        "disk/d1",
        "disk d1 answers with errors",
    );
    let line = lines.next().unwrap().unwrap();
    assert!(
        line.contains("error") && line.contains("disk d1 answers with errors"),
        "{line}"
    );
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn the_last_events_are_shown_unless_more_are_asked_for() {
    let site = Site::with_attachment();
    for number in 0..60 {
        let subject = format!("disk/d{number}");
        site.fake
            .events
            .push(Severity::Info, "disk_open", subject, "opened");
    }
    let lines = |arguments: &str| site.palisade(arguments).ok().lines().count();
    assert_eq!(lines("events"), 1 + 50);
    let table = site.palisade("events --last 2").ok();
    assert!(
        table.contains("disk/d58") && table.contains("disk/d59") && !table.contains("disk/d57"),
        "{table}"
    );
    assert_eq!(lines("events -n 2000"), lines("events --all"));
    assert!(lines("events --all") > 60);
    let both = site.palisade("events --last 2 --all");
    assert!(both.code == 2 && both.err.contains("--all"), "{both:?}");
    let mut follow = program(&site.url(), "events --follow --last 1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut following = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert!(following.next().unwrap().unwrap().contains("disk/d59"));
    follow.kill().unwrap();
    follow.wait().unwrap();
}
