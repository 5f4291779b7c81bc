//! A front-end that comes while another one is connected waits, is seen for as long as it does, and then has its turn.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_frontend::SessionReport;
use palisade_frontend::codec::request;
use palisade_words::AttachmentIndex;
use stand::client::Client;
use stand::{Entrance, until};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const INDEX: u16 = 7;

fn report(entrance: &Entrance) -> SessionReport {
    entrance.door.handle().report(AttachmentIndex(INDEX)).unwrap()
}

#[test]
fn who_waits_is_seen_until_he_goes_or_has_his_turn() {
    let entrance = Entrance::new(INDEX);
    let path = entrance.folder.path().join("vm.sock");
    let waits = || report(&entrance).next_waits;
    let first = Client::connect(&path);
    first.negotiate();
    assert!(waits().is_none());
    // One that says something and goes; one behind it in the backlog; both gone.
    let mut second = UnixStream::connect(&path).unwrap();
    second.write_all(&[1, 0, 0, 0]).unwrap();
    until("the second to be seen", || waits().is_some());
    let since = waits();
    let third = UnixStream::connect(&path).unwrap();
    drop(second);
    until("the third to be seen", || {
        let now = waits();
        now.is_some() && now != since
    });
    drop(third);
    until("nobody to wait", || waits().is_none());
    // The first notices nothing of it.
    first.ask(request::GET_FEATURES, &[]);
    assert_eq!(report(&entrance).connections, 1);
    // Who waits has its turn when the first goes.
    let next = Client::connect(&path);
    until("the next to be seen", || waits().is_some());
    drop(first);
    next.negotiate();
    until("the next to be served", || {
        let report = report(&entrance);
        (report.connections, report.next_waits) == (2, None)
    });
    // Who waits is sent away with the socket.
    let last = Client::connect(&path);
    until("the last to be seen", || waits().is_some());
    drop(next);
    drop(last);
    until("nobody to be there", || !report(&entrance).connected);
    entrance.door.shutdown(Duration::from_secs(10)).unwrap();
}
