//! The door from outside: real sockets, a front-end made by hand, queues that move real blocks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_block::limits::STALLED_MAX;
use palisade_frontend::codec::request;
use palisade_frontend::{AttachError, Door, DoorSettings, Rates};
use palisade_sys::EventFd;
use palisade_virtio::blk::kind;
use palisade_virtio::driver::{BlkHeader, Buffer, DriverOptions, DriverQueue};
use palisade_words::{AttachmentIndex, Sectors};
use stand::client::{Client, dup, frame, longs, vring_addr_bytes, words};
use stand::guest::{Guest, memfd};
use stand::ram_host::{Event, Seen};
use stand::{Entrance, open_fds, spec, until};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;

/// Tests here count the process's descriptors, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

const QUEUE_SIZE: u16 = 64;
const DATA_AT: u64 = 0x8_0000;

/// A door with one attachment, and a virtual machine's parts.
struct Stand {
    door: Option<Door>,
    seen: Seen,
    folder: TempDir,
    guest: Guest,
    driver: DriverQueue,
    kick: EventFd,
    call: EventFd,
}

impl Stand {
    fn new() -> Stand {
        Stand::with(DoorSettings::default())
    }

    fn with(settings: DoorSettings) -> Stand {
        let Entrance {
            door, seen, folder, ..
        } = Entrance::with(7, settings);
        let guest = Guest::new(0, 1 << 20);
        let driver = driver(&guest);
        let (kick, call) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        Stand {
            door: Some(door),
            seen,
            folder,
            guest,
            driver,
            kick,
            call,
        }
    }

    fn door(&self) -> &Door {
        self.door.as_ref().unwrap()
    }

    fn client(&self) -> Client {
        Client::connect(&self.folder.path().join("vm.sock"))
    }

    /// A client whose queue 0 runs.
    fn running(&mut self) -> Client {
        let client = self.client();
        client.negotiate();
        self.start(&client, 0);
        client
    }

    fn start(&mut self, client: &Client, base: u16) {
        client.set_mem_table(&self.guest);
        client.set_ring(
            0,
            QUEUE_SIZE,
            base,
            self.driver.addresses(),
            &self.kick,
            &self.call,
        );
    }

    /// Reads or writes one sector through the ring; the data lies at [`DATA_AT`].
    fn transfer(&mut self, kind: u32, sector: u64) {
        let head = self.submit(kind, sector);
        self.wait_for(head);
    }

    fn submit(&mut self, kind: u32, sector: u64) -> u16 {
        let buffer = Buffer {
            address: DATA_AT,
            bytes: 512,
            write: kind == kind::IN,
        };
        let head = self.driver.submit(BlkHeader { kind, sector }, &[buffer]).unwrap();
        self.driver.publish();
        self.kick.signal().unwrap();
        head
    }

    fn wait_for(&mut self, head: u16) {
        let mut used = None;
        until("an answer", || {
            used = self.driver.poll_used();
            used.is_some()
        });
        assert_eq!(used.unwrap().head, head);
        assert_eq!(self.driver.status(head), 0);
    }

    /// Writes a sector, then reads it back.
    fn check_disk(&mut self, sector: u64, byte: u8) {
        self.guest.memory.write(DATA_AT, &[byte; 512]);
        self.transfer(kind::OUT, sector);
        self.guest.memory.write(DATA_AT, &[0; 512]);
        self.transfer(kind::IN, sector);
        let mut data = [0; 512];
        self.guest.memory.read(DATA_AT, &mut data);
        assert_eq!(data, [byte; 512]);
    }

    fn report(&self) -> palisade_frontend::SessionReport {
        self.door().handle().report(AttachmentIndex(7)).unwrap()
    }

    fn shut(mut self) -> Seen {
        self.door
            .take()
            .unwrap()
            .shutdown(Duration::from_secs(10))
            .unwrap();
        assert!(!self.folder.path().join("vm.sock").exists());
        self.seen.clone()
    }
}

fn driver(guest: &Guest) -> DriverQueue {
    let options = DriverOptions {
        size: QUEUE_SIZE,
        event_idx: true,
        indirect: false,
    };
    DriverQueue::new(guest.memory.clone(), guest.region.guest_address, options).unwrap()
}

#[test]
fn blocks_move_and_nothing_is_left_behind() {
    let _turn = TURN.lock();
    let before = open_fds();
    let mut stand = Stand::new();
    let client = stand.running();
    stand.check_disk(5, 0xa5);
    assert!(stand.call.drain().unwrap() > 0, "the guest was interrupted");
    until("the report", || stand.report().queues_running == [0]);
    let report = stand.report();
    assert!(report.connected);
    assert!(report.features.contains(&"VERSION_1") && report.protocol_features.contains(&"INFLIGHT_SHMFD"));
    let base = client.ask(request::GET_VRING_BASE, &words(&[0, 0]));
    assert_eq!(base.payload, words(&[0, 2]), "two requests have been taken");
    drop(client);
    let seen = stand.seen.clone();
    until("the end of the session", || {
        seen.count(7, |event| matches!(event, Event::Disconnected(_))) == 1
    });
    let events = stand.shut().events(7);
    assert_eq!(
        events[..4],
        [
            Event::Connected,
            Event::Memory(1),
            Event::WriteThrough(false),
            Event::Started(0)
        ]
    );
    assert_eq!(events[4], Event::Stopping(0));
    assert_eq!(events[5], Event::Memory(0));
    assert_eq!(events.last(), Some(&Event::Detached));
    until("all descriptors closed", || open_fds() <= before);
}

#[test]
fn a_guest_killed_with_requests_in_flight_comes_back_and_they_are_answered_once() {
    let _turn = TURN.lock();
    let mut stand = Stand::new();
    let client = stand.client();
    client.negotiate();
    let mut shape = longs(&[0, 0]);
    shape.extend(words(&[2 | u32::from(QUEUE_SIZE) << 16, 0]));
    let mut inflight = client.ask(request::GET_INFLIGHT_FD, &shape);
    let file = inflight.fds.pop().unwrap();
    client.tell(request::SET_INFLIGHT_FD, &inflight.payload, &[&file]);
    stand.start(&client, 0);
    stand.check_disk(1, 1);
    stand.seen.hold.store(true, Ordering::Release);
    stand.guest.memory.write(DATA_AT, &[9; 512]);
    let held = stand.submit(kind::OUT, 3);
    std::thread::sleep(Duration::from_millis(20));
    drop(client);

    // The next connection waits in the backlog until the first one's request is drained.
    let again = stand.client();
    until("the wait to be seen", || {
        stand
            .report()
            .waiting
            .is_some_and(|wait| wait.on.contains("queues [0]"))
    });
    assert_eq!(stand.seen.count(7, |event| *event == Event::Connected), 1);
    stand.seen.hold.store(false, Ordering::Release);
    again.negotiate();
    again.tell(request::SET_INFLIGHT_FD, &inflight.payload, &[&file]);
    // QEMU gives the used index after a crash of the back-end.
    stand.start(&again, 3);
    stand.wait_for(held);
    stand.check_disk(2, 2);
    assert_eq!(stand.driver.poll_used(), None, "no answer came twice");
    stand.shut();
}

#[test]
fn memory_comes_and_goes_under_a_running_queue() {
    let _turn = TURN.lock();
    let mut stand = Stand::new();
    let client = stand.running();
    let more = Guest::new(1 << 30, 1 << 20);
    let mut payload = longs(&[0]);
    payload.extend(stand::client::region_bytes(more.region));
    assert_eq!(client.order(request::ADD_MEM_REG, &payload, &[&more.file]), 0);
    stand.check_disk(9, 3);
    assert_eq!(client.order(request::REM_MEM_REG, &payload, &[]), 0);
    assert_eq!(
        client.order(request::REM_MEM_REG, &payload, &[]),
        1,
        "it is gone already"
    );
    stand.check_disk(10, 4);
    let seen = stand.shut();
    assert_eq!(seen.count(7, |event| *event == Event::Started(0)), 4);
    assert!(seen.events(7).contains(&Event::Memory(2)));
}

#[test]
fn interrupts_move_to_another_descriptor_without_stopping_the_queue() {
    let _turn = TURN.lock();
    let mut stand = Stand::new();
    let client = stand.running();
    stand.check_disk(1, 1);
    let new = EventFd::new().unwrap();
    assert_eq!(
        client.order(request::SET_VRING_CALL, &longs(&[0]), &[&dup(&new)]),
        0
    );
    assert!(
        new.drain().unwrap() > 0,
        "one interrupt makes up for those that went to the old one"
    );
    stand.call.drain().unwrap();
    stand.driver.enable_notifications();
    stand.transfer(kind::IN, 1);
    until("an interrupt on the new one", || new.drain().unwrap() > 0);
    assert_eq!(stand.call.drain().unwrap(), 0);
    assert_eq!(
        stand.shut().count(7, |event| matches!(event, Event::Stopping(_))),
        1
    );
}

/// Flags belong to the open file description, which the front-end shares: it may make the descriptor blocking after it
/// was checked, and fill its counter, and still holds up nobody, not even itself.
#[test]
fn an_interrupt_never_waits_for_a_full_and_blocking_descriptor() {
    let _turn = TURN.lock();
    let mut stand = Stand::new();
    let client = stand.running();
    let hostile = EventFd::new().unwrap();
    let set_call = || client.order(request::SET_VRING_CALL, &longs(&[0]), &[&dup(&hostile)]);
    assert_eq!(set_call(), 0);
    rustix::io::write(&hostile, &(u64::MAX - 2).to_ne_bytes()).unwrap();
    rustix::io::ioctl_fionbio(&hostile, false).unwrap();
    stand.driver.enable_notifications();
    for sector in 0..20 {
        stand.transfer(kind::IN, sector);
    }
    assert_eq!(set_call(), 0, "nor does the session");
    let full = hostile.drain().unwrap();
    assert!(full >= u64::MAX - 1, "{full:#x}");
    stand.driver.enable_notifications();
    stand.transfer(kind::IN, 1);
    until("an interrupt after room was made", || {
        rustix::io::ioctl_fionbio(&hostile, true).unwrap();
        hostile.drain().unwrap() > 0
    });
    stand.shut();
}

#[test]
fn a_migration_marks_what_is_written_for_the_guest() {
    let _turn = TURN.lock();
    let mut stand = Stand::new();
    let client = stand.running();
    stand.check_disk(1, 1);
    let log = memfd(4096);
    let answer = {
        client
            .send(&frame(request::SET_LOG_BASE, 0, &longs(&[4096, 0])), &[&log])
            .unwrap();
        client.answer().unwrap()
    };
    assert_eq!(answer.request, request::SET_LOG_BASE);
    assert_eq!(answer.payload, longs(&[4096, 0]));
    let features = client.ask(request::GET_FEATURES, &[]).number();
    client.tell(request::SET_FEATURES, &longs(&[features]), &[]);
    let addresses = vring_addr_bytes(0, stand.driver.addresses(), true);
    assert_eq!(client.order(request::SET_VRING_ADDR, &addresses, &[]), 0);
    stand.transfer(kind::IN, 1);
    let mut marks = [0u8; 64];
    rustix::io::pread(&log, &mut marks, 0).unwrap();
    let marked = |address: u64| marks[(address / 4096 / 8) as usize] >> (address / 4096 % 8) & 1 == 1;
    assert!(marked(DATA_AT), "the data");
    assert!(marked(stand.driver.addresses().used), "the used ring");
    assert!(!marked(DATA_AT + 0x1_0000));
    client.tell(request::SET_FEATURES, &longs(&[features & !(1 << 26)]), &[]);
    stand.check_disk(2, 2);
    stand.shut();
}

#[test]
fn a_grown_disk_is_told_and_writes_beyond_the_old_end_work() {
    let _turn = TURN.lock();
    let mut stand = Stand::new();
    let client = stand.running();
    let (ours, theirs) = UnixStream::pair().unwrap();
    assert_eq!(
        client.order(request::SET_BACKEND_REQ_FD, &[], &[&OwnedFd::from(theirs)]),
        0
    );
    stand.seen.disk.lock().unwrap().resize(4096 * 512, 0);
    stand.door().handle().resize(AttachmentIndex(7), Sectors(4096));
    let news = Client::over(ours).answer().unwrap();
    assert_eq!((news.request, news.payload.len()), (2, 0));
    let mut asked = words(&[0, 60, 0]);
    asked.extend([0; 60]);
    let config = client.ask(request::GET_CONFIG, &asked);
    assert_eq!(config.payload[12..20], 4096u64.to_le_bytes());
    stand.check_disk(4000, 7);
    stand.shut();
}

#[test]
fn switching_the_write_cache_reaches_the_host_and_outlives_the_session() {
    let _turn = TURN.lock();
    let mut stand = Stand::new();
    let client = stand.running();
    let mut off = words(&[32, 1, 0]);
    off.push(0);
    assert_eq!(client.order(request::SET_CONFIG, &off, &[]), 0);
    let mut capacity = words(&[0, 1, 0]);
    capacity.push(9);
    assert_eq!(client.order(request::SET_CONFIG, &capacity, &[]), 1);
    until("a sentence about it", || {
        stand
            .report()
            .last_error
            .is_some_and(|error| error.starts_with("SET_CONFIG: "))
    });
    drop(client);
    // The guest has not noticed anything, and goes on relying on writes being stable.
    let again = stand.client();
    again.negotiate();
    stand.start(&again, 0);
    until("the new session's word", || {
        stand.seen.count(7, |event| *event == Event::WriteThrough(true)) == 2
    });
    // Nor does a reset of the guest, of which QEMU tells us but does not ask what became of the cache.
    assert_eq!(again.order(request::RESET_DEVICE, &[], &[]), 0);
    let events = stand.shut().events(7);
    let cache: Vec<_> = events
        .iter()
        .filter(|event| matches!(event, Event::WriteCache(_)))
        .collect();
    assert_eq!(cache, [&Event::WriteCache(false)]);
}

#[test]
fn a_reset_device_starts_from_nothing_and_runs_again() {
    let _turn = TURN.lock();
    let mut stand = Stand::new();
    let client = stand.running();
    stand.check_disk(1, 1);
    assert_eq!(client.order(request::RESET_DEVICE, &[], &[]), 0);
    until("the report", || stand.report().queues_running.is_empty());
    stand.driver = driver(&stand.guest);
    client.negotiate();
    stand.start(&client, 0);
    stand.check_disk(2, 2);
    stand.shut();
}

#[test]
fn one_guest_that_misbehaves_does_not_disturb_another() {
    let _turn = TURN.lock();
    let before = open_fds();
    let mut stand = Stand::new();
    let other = stand.folder.path().join("other.sock");
    stand.door().handle().attach(spec(8, &other)).unwrap();
    let client = stand.running();

    // Half a header, forever.
    let half = Client::connect(&other);
    half.send(&[1, 0, 0], &[]).unwrap();
    stand.check_disk(1, 1);
    drop(half);
    // Questions whose answers are never read.
    let deaf = Client::connect(&other);
    deaf.stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let question = frame(request::GET_FEATURES, 0, &[]);
    let asked = (0..1_000_000)
        .take_while(|_| deaf.send(&question, &[]).is_ok())
        .count();
    assert!(asked < 1_000_000);
    stand.check_disk(2, 2);
    drop(deaf);
    // More descriptors than any message has.
    let generous = Client::connect(&other);
    let file: OwnedFd = tempfile::tempfile().unwrap().into();
    generous.send(&question, &[&file; 60]).unwrap();
    generous.wait_for_end();
    // A size that is wrong.
    let wrong = Client::connect(&other);
    wrong
        .send(&frame(request::SET_FEATURES, 0, &[1, 2, 3]), &[])
        .unwrap();
    wrong.wait_for_end();
    let handle = stand.door().handle();
    until("a sentence about it", || {
        let report = handle.report(AttachmentIndex(8)).unwrap();
        report.last_disconnect.as_deref() == Some("SET_FEATURES: 3 bytes of payload, expected 8")
    });
    stand.check_disk(3, 3);
    drop((client, generous, wrong, file, handle));
    stand.shut();
    until("all descriptors closed", || open_fds() <= before);
}

#[test]
fn an_attachment_taken_away_ends_its_session_after_the_drain() {
    let _turn = TURN.lock();
    let mut stand = Stand::new();
    let client = stand.running();
    stand.seen.hold.store(true, Ordering::Release);
    let held = stand.submit(kind::IN, 0);
    std::thread::sleep(Duration::from_millis(20));
    let handle = stand.door().handle();
    handle.detach(AttachmentIndex(7));
    until("the drain", || {
        handle
            .report(AttachmentIndex(7))
            .is_some_and(|report| report.waiting.is_some())
    });
    assert!(!stand.folder.path().join("vm.sock").exists());
    let again = handle.attach(spec(7, &stand.folder.path().join("vm.sock")));
    assert!(matches!(again, Err(AttachError::Exists { .. })));
    stand.seen.hold.store(false, Ordering::Release);
    stand.wait_for(held);
    client.wait_for_end();
    until("the end", || handle.report(AttachmentIndex(7)).is_none());
    handle
        .attach(spec(7, &stand.folder.path().join("vm.sock")))
        .unwrap();
    stand.shut();
}

#[test]
fn a_deleted_socket_is_put_back_and_who_is_connected_stays() {
    let _turn = TURN.lock();
    let stand = Stand::new();
    let path = stand.folder.path().join("vm.sock");
    let client = stand.client();
    client.negotiate();
    let handle = stand.door().handle();
    std::fs::remove_file(&path).unwrap();
    handle.restore(AttachmentIndex(7));
    until("the socket to be back", || path.exists());
    let inode = std::fs::symlink_metadata(&path)
        .map(|at| (at.dev(), at.ino()))
        .unwrap();
    until("the report to name it", || stand.report().socket == Some(inode));
    assert!(stand.report().connected, "who was connected stays so");
    client.negotiate();
    drop(client);
    until("the session to end", || !stand.report().connected);
    UnixStream::connect(&path).unwrap();
    // What is not ours is left where it is, and said.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    handle.restore(AttachmentIndex(7));
    until("the reason to be seen", || {
        stand
            .report()
            .last_error
            .is_some_and(|error| error.contains("is not a socket"))
    });
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();
    stand.shut();
}

#[test]
fn who_stops_inside_a_message_or_says_nothing_is_seen() {
    let _turn = TURN.lock();
    let stand = Stand::new();
    let path = stand.folder.path().join("vm.sock");
    let mut half = UnixStream::connect(&path).unwrap();
    until("the silence to be seen", || stand.report().silent.is_some());
    half.write_all(&[1, 0, 0]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(stand.report().silent.is_some());
    drop(half);
    let client = stand.client();
    client.negotiate();
    until("a front-end that speaks", || {
        let report = stand.report();
        report.connected && report.silent.is_none()
    });
    drop(client);
    stand.shut();
}

#[test]
fn a_shutdown_that_cannot_end_says_what_it_waits_for() {
    let _turn = TURN.lock();
    let mut stand = Stand::new();
    let client = stand.running();
    stand.seen.hold.store(true, Ordering::Release);
    let held = stand.submit(kind::IN, 0);
    std::thread::sleep(Duration::from_millis(20));
    let timed_out = stand
        .door
        .take()
        .unwrap()
        .shutdown(Duration::from_millis(100))
        .unwrap_err();
    assert!(
        timed_out
            .to_string()
            .contains("blocked on requests in flight in queues [0]"),
        "{timed_out}"
    );
    stand.seen.hold.store(false, Ordering::Release);
    stand.wait_for(held);
    client.wait_for_end();
}

/// What makes the stand's host hang: the write cache switched off.
fn hang(stand: &Stand, client: &Client) {
    stand.seen.hang.store(true, Ordering::Release);
    let mut off = words(&[32, 1, 0]);
    off.push(0);
    client.tell(request::SET_CONFIG, &off, &[]);
    until("the hanging", || {
        stand.seen.count(7, |event| matches!(event, Event::WriteCache(_))) == 1
    });
}

const SOON: DoorSettings = DoorSettings {
    deadline: Duration::from_millis(200),
    hanging_max: 1,
    hanging_each_max: 1,
    rates: Rates::DEFAULT,
    stalled_max: STALLED_MAX.duration(),
};

#[test]
fn a_thread_that_hangs_ends_its_own_session_and_comes_back() {
    let _turn = TURN.lock();
    let before = open_fds();
    let mut stand = Stand::with(SOON);
    let path = stand.folder.path().join("vm.sock");
    let client = stand.running();
    stand.check_disk(1, 1);
    hang(&stand, &client);
    client.wait_for_end();
    drop(client);
    until("the host was told", || {
        stand
            .seen
            .count(7, |event| matches!(event, Event::Disconnected(_)))
            == 1
    });
    assert!(!path.exists(), "nobody is let in to wait");
    let events = stand.seen.events(7);
    let said = |event: &Event| match event {
        Event::Stuck(why) => why.contains("keeps us waiting in SET_CONFIG for"),
        _ => false,
    };
    let at = events
        .iter()
        .position(said)
        .unwrap_or_else(|| panic!("{events:?}"));
    assert_eq!(events[at + 1], Event::Memory(0));
    assert_eq!(stand.report().stuck.unwrap().step, "SET_CONFIG");
    assert!(!stand.report().connected && stand.report().queues_running.is_empty());

    // Others come, are served and go.
    let handle = stand.door().handle();
    let other = stand.folder.path().join("other.sock");
    handle.attach(spec(8, &other)).unwrap();
    let neighbour = Client::connect(&other);
    neighbour.negotiate();
    drop(neighbour);
    handle.detach(AttachmentIndex(8));
    until("the other's end", || handle.report(AttachmentIndex(8)).is_none());

    // What hung comes to an end: the volume is on offer again.
    handle.resize(AttachmentIndex(7), Sectors(1024));
    stand.seen.hang.store(false, Ordering::Release);
    until("the socket", || path.exists());
    assert_eq!(stand.seen.count(7, |event| *event == Event::Recovered), 1);
    stand.driver = driver(&stand.guest);
    let client = stand.running();
    stand.check_disk(2, 2);
    let mut asked = words(&[0, 60, 0]);
    asked.extend([0; 60]);
    let config = client.ask(request::GET_CONFIG, &asked);
    assert_eq!(
        config.payload[12..20],
        1024u64.to_le_bytes(),
        "it has heard of the new size"
    );
    assert!(stand.report().stuck.is_none());
    drop((client, handle));
    stand.shut();
    until("all descriptors closed", || open_fds() <= before);
}

#[test]
fn an_attachment_whose_thread_hangs_can_be_taken_away_and_made_anew() {
    let _turn = TURN.lock();
    let before = open_fds();
    let mut stand = Stand::with(SOON);
    let path = stand.folder.path().join("vm.sock");
    let client = stand.running();
    hang(&stand, &client);
    let handle = stand.door().handle();
    handle.detach(AttachmentIndex(7));
    until("the end", || handle.report(AttachmentIndex(7)).is_none());
    assert_eq!(stand.seen.events(7).last(), Some(&Event::Detached));
    // Only so many may be left hanging, or a machine that is started again and again would use up all threads.
    let refused = handle.attach(spec(7, &path)).unwrap_err();
    assert!(
        matches!(refused, AttachError::Hanging { hanging: 1 }),
        "{refused}"
    );
    stand.seen.hang.store(false, Ordering::Release);
    until("room for another", || handle.attach(spec(7, &path)).is_ok());
    stand.driver = driver(&stand.guest);
    let again = stand.running();
    stand.check_disk(2, 2);
    drop((client, again, handle));
    stand.shut();
    until("all descriptors closed", || open_fds() <= before);
}

#[test]
fn a_shutdown_waits_two_seconds_at_most_for_a_thread_that_hangs() {
    let _turn = TURN.lock();
    for deadline in [SOON.deadline, Duration::from_secs(60)] {
        let mut stand = Stand::with(DoorSettings { deadline, ..SOON });
        let client = stand.running();
        hang(&stand, &client);
        let seen = stand.seen.clone();
        stand.shut();
        assert_eq!(seen.events(7).last(), Some(&Event::Detached));
        seen.hang.store(false, Ordering::Release);
    }
}
