//! Whoever takes an attachment away that nobody uses knows that nobody comes in meanwhile; whoever comes waits, and is
//! served if it stays.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_frontend::{Door, DoorSettings};
use palisade_words::AttachmentIndex;
use stand::client::Client;
use stand::ram_host::{RamHost, Seen};
use stand::{spec, until};
use std::time::Duration;

#[test]
fn nobody_comes_in_while_the_door_is_held_shut() {
    let seen = Seen::new();
    let door = Door::open(DoorSettings::default(), |handle| {
        RamHost::new(handle, seen.clone())
    })
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.sock");
    let handle = door.handle();
    handle.attach(spec(7, &path)).unwrap();
    let report = || handle.report(AttachmentIndex(7)).unwrap();
    let name = report().name;
    let held = handle.hold_shut(&name).unwrap();
    let waiting = Client::connect(&path);
    std::thread::sleep(Duration::from_millis(150));
    assert!(!report().connected && seen.events(7).is_empty());
    drop(held);
    waiting.negotiate();
    until("the report", || report().connected);
    assert!(handle.hold_shut(&name).is_none(), "somebody is in");
    drop(waiting);
    until("the end of the session", || handle.hold_shut(&name).is_some());
    door.shutdown(Duration::from_secs(10)).unwrap();
}
