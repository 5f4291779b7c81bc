//! An attachment that is given up while a virtual machine is connected: its socket and its name are free at once, and the
//! session goes on until the virtual machine leaves.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_block::limits::STALLED_MAX;
use palisade_frontend::codec::request;
use palisade_frontend::{AttachmentSpec, DoorHandle, DoorSettings, Rates};
use palisade_sys::EventFd;
use palisade_virtio::blk::kind;
use palisade_virtio::driver::{BlkHeader, Buffer, DriverOptions, DriverQueue};
use palisade_words::AttachmentIndex;
use stand::client::{Client, words};
use stand::guest::Guest;
use stand::ram_host::Event;
use stand::{Entrance, spec, until};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

const OLD: AttachmentIndex = AttachmentIndex(7);
const NEW: AttachmentIndex = AttachmentIndex(8);
const SIZE: u16 = 64;

/// A machine with one ring.
struct Machine {
    guest: Guest,
    driver: DriverQueue,
    kick: EventFd,
    call: EventFd,
}

impl Machine {
    fn new() -> Machine {
        let guest = Guest::new(0, 1 << 20);
        Machine {
            driver: driver(&guest),
            guest,
            kick: EventFd::new().unwrap(),
            call: EventFd::new().unwrap(),
        }
    }

    fn start(&self, client: &Client) {
        client.set_mem_table(&self.guest);
        client.set_ring(0, SIZE, 0, self.driver.addresses(), &self.kick, &self.call);
    }

    /// Asks for a sector, and waits for the answer.
    fn read(&mut self) {
        let buffer = Buffer {
            address: 0x8_0000,
            bytes: 512,
            write: true,
        };
        let header = BlkHeader {
            kind: kind::IN,
            sector: 1,
        };
        let head = self.driver.submit(header, &[buffer]).unwrap();
        self.driver.publish();
        self.kick.signal().unwrap();
        let mut used = None;
        until("an answer", || {
            used = self.driver.poll_used();
            used.is_some()
        });
        assert_eq!((used.unwrap().head, self.driver.status(head)), (head, 0));
    }
}

fn driver(guest: &Guest) -> DriverQueue {
    let options = DriverOptions {
        size: SIZE,
        event_idx: true,
        indirect: false,
    };
    DriverQueue::new(guest.memory.clone(), 0, options).unwrap()
}

fn connected(entrance: &Entrance) -> (DoorHandle, Client) {
    let client = Client::connect(&entrance.path);
    client.negotiate();
    (entrance.door.handle(), client)
}

#[test]
fn the_session_goes_on_and_another_has_the_socket_and_the_name() {
    let entrance = Entrance::new(OLD.0);
    let (handle, old) = connected(&entrance);
    let mut machine = Machine::new();
    machine.start(&old);
    machine.read();
    // It waits in the backlog, and nobody will let it in.
    let waiting = UnixStream::connect(&entrance.path).unwrap();
    handle.give_up(OLD);
    until("the host to be told", || {
        entrance.seen.events(OLD.0).last() == Some(&Event::GivenUp)
    });
    assert!(!entrance.path.exists());
    let refused = UnixStream::connect(&entrance.path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    Client::over(waiting).wait_for_end();
    machine.read();
    until("the report", || {
        handle.report(OLD).is_some_and(|report| report.leaving)
    });
    assert!(handle.report(OLD).unwrap().connected);

    // A socket put back, or a second word, changes nothing.
    handle.restore(OLD);
    handle.give_up(OLD);
    let twin = AttachmentSpec {
        name: spec(OLD.0, &entrance.path).name,
        ..spec(NEW.0, &entrance.path)
    };
    let name = twin.name.clone();
    handle.attach(twin).unwrap();
    assert!(handle.hold_shut(&name).is_some(), "by that name nobody is in");
    let new = Client::connect(&entrance.path);
    new.negotiate();
    until("the newcomer", || {
        entrance.seen.events(NEW.0) == [Event::Connected]
    });

    // The machine starts again: its firmware and its driver set the rings up anew.
    assert_eq!(
        old.ask(request::GET_VRING_BASE, &words(&[0, 0])).payload,
        words(&[0, 2])
    );
    machine.driver = driver(&machine.guest);
    machine.start(&old);
    machine.read();

    drop(old);
    until("the end", || {
        entrance.seen.events(OLD.0).last() == Some(&Event::Detached)
    });
    assert!(handle.report(OLD).is_none());
    assert!(entrance.path.exists(), "that is another's");
    assert!(handle.hold_shut(&name).is_none(), "and the other is in");
    assert_eq!(new.ask(request::GET_QUEUE_NUM, &[]).number(), 2);
    let told = |event: &Event| *event == Event::GivenUp;
    assert_eq!(entrance.seen.count(OLD.0, told), 1);
    entrance.door.shutdown(Duration::from_secs(10)).unwrap();
}

#[test]
fn without_a_virtual_machine_it_is_gone_at_once() {
    let entrance = Entrance::new(OLD.0);
    let handle = entrance.door.handle();
    handle.give_up(OLD);
    until("the end", || !entrance.seen.events(OLD.0).is_empty());
    assert_eq!(entrance.seen.events(OLD.0), [Event::Detached]);
    assert!(!entrance.path.exists() && handle.report(OLD).is_none());
    // One that there is not, too.
    handle.give_up(NEW);
    until("the answer", || entrance.seen.events(NEW.0) == [Event::Detached]);
    entrance.door.shutdown(Duration::from_secs(10)).unwrap();
}

#[test]
fn it_can_be_ended_all_the_same() {
    let entrance = Entrance::new(OLD.0);
    let (handle, client) = connected(&entrance);
    let mut machine = Machine::new();
    machine.start(&client);
    handle.give_up(OLD);
    machine.read();
    handle.detach(OLD);
    client.wait_for_end();
    until("the end", || {
        entrance.seen.events(OLD.0).last() == Some(&Event::Detached)
    });
    entrance.door.shutdown(Duration::from_secs(10)).unwrap();
}

#[test]
fn a_stop_of_the_daemon_ends_it() {
    let entrance = Entrance::new(OLD.0);
    let (handle, client) = connected(&entrance);
    handle.give_up(OLD);
    entrance.door.shutdown(Duration::from_secs(10)).unwrap();
    client.wait_for_end();
    let events = entrance.seen.events(OLD.0);
    assert_eq!(events[1], Event::GivenUp);
    assert_eq!(events.last(), Some(&Event::Detached));
}

#[test]
fn one_whose_thread_hangs_is_cut_off_and_not_offered_anew() {
    let settings = DoorSettings {
        deadline: Duration::from_millis(200),
        hanging_max: 1,
        hanging_each_max: 1,
        rates: Rates::DEFAULT,
        stalled_max: STALLED_MAX.duration(),
    };
    let entrance = Entrance::with(OLD.0, settings);
    let (handle, client) = connected(&entrance);
    handle.give_up(OLD);
    until("the host to be told", || {
        entrance.seen.events(OLD.0).last() == Some(&Event::GivenUp)
    });
    entrance.seen.hang.store(true, Ordering::Release);
    let mut off = words(&[32, 1, 0]);
    off.push(0);
    client.tell(request::SET_CONFIG, &off, &[]);
    client.wait_for_end();
    until("the end", || {
        entrance.seen.events(OLD.0).last() == Some(&Event::Detached)
    });
    entrance.seen.hang.store(false, Ordering::Release);
    // Room for another is there when what hung has come to its end.
    until("room for another", || {
        handle.attach(spec(NEW.0, &entrance.path)).is_ok()
    });
    assert_eq!(entrance.seen.count(OLD.0, |event| *event == Event::Recovered), 0);
    entrance.door.shutdown(Duration::from_secs(10)).unwrap();
}
