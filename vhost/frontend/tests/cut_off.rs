//! An attachment's thread hangs while its queue runs: it is cut off, the queue is taken back, others notice nothing, and
//! when what hung has ended the volume is on offer again.
//!
//! What hangs is a Unix socket that the front-end gave as the channel for our requests, with a TCP socket in it that
//! nobody has received: with the last hold on the one the other is closed, and waits (SO_LINGER) for its peer to take what
//! was sent. Closing waits in whichever thread held the channel last.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_block::limits::STALLED_MAX;
use palisade_frontend::codec::request;
use palisade_frontend::{Door, DoorSettings, Rates};
use palisade_sys::EventFd;
use palisade_virtio::driver::{DriverOptions, DriverQueue};
use palisade_words::AttachmentIndex;
use stand::client::Client;
use stand::guest::Guest;
use stand::ram_host::{Event, RamHost, Seen};
use stand::{spec, until};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const SETTINGS: DoorSettings = DoorSettings {
    deadline: Duration::from_millis(500),
    hanging_max: 1,
    hanging_each_max: 1,
    rates: Rates::DEFAULT,
    stalled_max: STALLED_MAX.duration(),
};

/// A Unix socket that cannot be closed before its peer, the second, is dropped.
fn channel_that_lingers() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (receiver, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&sender, Some(Duration::from_secs(3600))).unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.write(&[0; 1 << 16]).is_ok() {}
    let (inner, outer) = UnixStream::pair().unwrap();
    Client::over(outer).send(b"x", &[&OwnedFd::from(sender)]).unwrap();
    (inner.into(), receiver)
}

#[test]
fn a_thread_that_hangs_under_a_running_queue_is_cut_off() {
    let seen = Seen::new();
    let door = Door::open(SETTINGS, |handle| RamHost::new(handle, seen.clone())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |index: u16| folder.path().join(format!("{index}.sock"));
    let guest = Guest::new(0, 1 << 20);
    let options = DriverOptions {
        size: 64,
        event_idx: false,
        indirect: false,
    };
    let ring = DriverQueue::new(guest.memory.clone(), 0, options).unwrap();
    let (kick, call) = (EventFd::new().unwrap(), EventFd::new().unwrap());
    let start = |index: u16| {
        let client = Client::connect(&path(index));
        client.negotiate();
        client.set_mem_table(&guest);
        client.set_ring(0, 64, 0, ring.addresses(), &kick, &call);
        client
    };
    let report = |index| door.handle().report(AttachmentIndex(index)).unwrap();
    door.handle().attach(spec(0, &path(0))).unwrap();
    door.handle().attach(spec(1, &path(1))).unwrap();
    let (client, neighbour) = (start(0), start(1));

    let (channel, receiver) = channel_that_lingers();
    client.tell(request::SET_BACKEND_REQ_FD, &[], &[&channel]);
    assert_eq!(client.ask(request::GET_QUEUE_NUM, &[]).number(), 2);
    drop(channel);
    assert_eq!(report(0).queues_running, [0]);
    let (another, _theirs) = UnixStream::pair().unwrap();
    client.tell(request::SET_BACKEND_REQ_FD, &[], &[&another.into()]);
    client.wait_for_end();
    until("the host was told", || {
        seen.count(0, |event| matches!(event, Event::Disconnected(_))) == 1
    });
    let events = seen.events(0);
    let at = events
        .iter()
        .position(|event| matches!(event, Event::Stuck(why) if why.contains("in SET_BACKEND_REQ_FD for")))
        .unwrap_or_else(|| panic!("{events:?}"));
    assert_eq!(events[at + 1..at + 3], [Event::Stopping(0), Event::Memory(0)]);
    assert_eq!(report(0).stuck.unwrap().step, "SET_BACKEND_REQ_FD");
    assert!(report(0).queues_running.is_empty() && !path(0).exists());

    assert_eq!(neighbour.ask(request::GET_QUEUE_NUM, &[]).number(), 2);
    assert_eq!(report(1).queues_running, [0]);
    assert_eq!(seen.count(1, |event| matches!(event, Event::Stopping(_))), 0);

    drop(receiver);
    until("the socket", || path(0).exists());
    assert_eq!(seen.count(0, |event| *event == Event::Recovered), 1);
    drop(start(0));
    drop(neighbour);
    door.shutdown(Duration::from_secs(10)).unwrap();
}
