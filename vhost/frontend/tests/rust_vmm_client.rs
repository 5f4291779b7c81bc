//! Other people's front-end on our door: the `vhost` crate's `Frontend`, with which the VMMs of the rust-vmm family
//! speak (Cloud Hypervisor among them). Every message it knows and we offer, with blocks moving in between.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_frontend::Door;
use palisade_frontend::features::{LOG_ALL, PROTOCOL_FEATURES, protocol};
use palisade_virtio::blk::kind;
use palisade_virtio::driver::{BlkHeader, Buffer, DriverOptions, DriverQueue};
use palisade_virtio::{ConfigSpace, Features};
use palisade_words::{AttachmentIndex, Sectors};
use stand::client::Client;
use stand::guest::{Guest, USER_BASE, memfd};
use stand::ram_host::{Event, Seen};
use stand::{DISK_SECTORS, Entrance, until};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight, VhostUserProtocolFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const QUEUE_SIZE: u16 = 64;
const DATA_AT: u64 = 0x8_0000;
const GUEST_BYTES: u64 = 1 << 20;
const ATTACHMENT: u16 = 3;

/// A virtual machine whose two queues have rings in one region of memory.
struct Machine {
    guest: Guest,
    rings: [DriverQueue; 2],
    kicks: [EventFd; 2],
    calls: [EventFd; 2],
}

impl Machine {
    fn new() -> Machine {
        let guest = Guest::new(0, GUEST_BYTES);
        let options = DriverOptions {
            size: QUEUE_SIZE,
            event_idx: true,
            indirect: true,
        };
        let ring = |at| DriverQueue::new(guest.memory.clone(), at, options).unwrap();
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        Machine {
            rings: [ring(0), ring(0x4_0000)],
            kicks: [event(), event()],
            calls: [event(), event()],
            guest,
        }
    }

    fn submit(&mut self, queue: usize, kind: u32, sector: u64) -> u16 {
        let buffer = Buffer {
            address: DATA_AT,
            bytes: 512,
            write: kind == kind::IN,
        };
        let head = self.rings[queue]
            .submit(BlkHeader { kind, sector }, &[buffer])
            .unwrap();
        if self.rings[queue].publish() {
            self.kicks[queue].write(1).unwrap();
        }
        head
    }

    fn wait_for(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let mut used = None;
        until("an answer", || {
            used = ring.poll_used();
            used.is_some()
        });
        assert_eq!(used.unwrap().head, head);
        assert_eq!(ring.status(head), 0);
    }

    /// Writes a sector, then reads it back.
    fn check_disk(&mut self, queue: usize, sector: u64, byte: u8) {
        self.guest.memory.write(DATA_AT, &[byte; 512]);
        let head = self.submit(queue, kind::OUT, sector);
        self.wait_for(queue, head);
        self.guest.memory.write(DATA_AT, &[0; 512]);
        let head = self.submit(queue, kind::IN, sector);
        self.wait_for(queue, head);
        let mut data = [0; 512];
        self.guest.memory.read(DATA_AT, &mut data);
        assert_eq!(data, [byte; 512]);
    }

    fn ring_config(&self, queue: usize, log: bool) -> VringConfigData {
        let at = self.rings[queue].addresses();
        VringConfigData {
            queue_max_size: 256,
            queue_size: QUEUE_SIZE,
            flags: log.into(),
            desc_table_addr: USER_BASE + at.descriptors,
            used_ring_addr: USER_BASE + at.used,
            avail_ring_addr: USER_BASE + at.avail,
            log_addr: log.then_some(at.used),
        }
    }

    fn set_ring(&self, frontend: &mut Frontend, queue: usize, base: u16) {
        frontend.set_vring_num(queue, QUEUE_SIZE).unwrap();
        frontend.set_vring_base(queue, base).unwrap();
        frontend
            .set_vring_addr(queue, &self.ring_config(queue, false))
            .unwrap();
        frontend.set_vring_err(queue, &self.calls[queue]).unwrap();
        frontend.set_vring_call(queue, &self.calls[queue]).unwrap();
        frontend.set_vring_kick(queue, &self.kicks[queue]).unwrap();
        frontend.set_vring_enable(queue, true).unwrap();
    }
}

/// How the `vhost` crate wants to hear of a region.
fn region(guest: &Guest) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: guest.region.guest_address,
        memory_size: guest.region.bytes,
        userspace_addr: guest.region.user_address,
        mmap_offset: guest.region.file_offset,
        mmap_handle: guest.file.as_raw_fd(),
    }
}

/// Features as a guest's Linux driver takes them: all but the dirty log.
fn all_but_log(frontend: &Frontend) -> u64 {
    frontend.get_features().unwrap() & !LOG_ALL
}

/// A door with one attachment.
struct Stand {
    door: Door,
    seen: Seen,
    path: PathBuf,
    _folder: TempDir,
}

impl Stand {
    fn new() -> Stand {
        let Entrance {
            door,
            seen,
            path,
            folder,
        } = Entrance::new(ATTACHMENT);
        Stand {
            door,
            seen,
            path,
            _folder: folder,
        }
    }

    /// Connected and negotiated, every message acknowledged.
    fn negotiated(&self) -> Frontend {
        let mut frontend = Frontend::connect(&self.path, 1).unwrap();
        let features = all_but_log(&frontend);
        assert_ne!(features & PROTOCOL_FEATURES, 0);
        let offered = frontend.get_protocol_features().unwrap();
        assert_eq!(
            offered.bits(),
            protocol::OFFERED,
            "all bits are known to the crate"
        );
        frontend.set_protocol_features(offered).unwrap();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        frontend.set_owner().unwrap();
        frontend.set_features(features).unwrap();
        assert_eq!(frontend.get_queue_num().unwrap(), 2);
        frontend
    }

    /// The same with memory and queue 0 running.
    fn running(&self, machine: &Machine) -> Frontend {
        let mut frontend = self.negotiated();
        frontend.set_mem_table(&[region(&machine.guest)]).unwrap();
        machine.set_ring(&mut frontend, 0, 0);
        frontend
    }

    fn count(&self, matches: impl Fn(&Event) -> bool) -> usize {
        self.seen.count(ATTACHMENT, matches)
    }

    fn shut(self) {
        self.door.shutdown(Duration::from_secs(10)).unwrap();
    }
}

#[test]
fn blocks_move_in_both_queues_and_a_ring_tells_where_it_stands() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let mut frontend = stand.running(&machine);
    machine.set_ring(&mut frontend, 1, 0);
    for queue in [0, 1] {
        machine.check_disk(queue, 5 + queue as u64, 0x50 + queue as u8);
        until("an interrupt", || machine.calls[queue].read().is_ok());
    }
    // Stopped, read, and set going again from there: the order of a VMM that pauses and resumes.
    assert_eq!(frontend.get_vring_base(0).unwrap(), 2);
    assert_eq!(frontend.get_vring_base(0).unwrap(), 2, "asked again, the same");
    machine.check_disk(1, 9, 9);
    machine.set_ring(&mut frontend, 0, 2);
    machine.check_disk(0, 10, 10);
    // Disabled, a ring keeps its kick and its place.
    frontend.set_vring_enable(0, false).unwrap();
    let head = machine.submit(0, kind::IN, 10);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(machine.rings[0].poll_used(), None, "not served while disabled");
    frontend.set_vring_enable(0, true).unwrap();
    machine.wait_for(0, head);
    assert_eq!(frontend.get_vring_base(0).unwrap(), 5);
    stand.shut();
}

#[test]
fn a_front_end_that_asks_for_no_acknowledgements_gets_on_too() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let mut frontend = Frontend::connect(&stand.path, 2).unwrap();
    frontend.set_owner().unwrap();
    let features = all_but_log(&frontend);
    let offered = frontend.get_protocol_features().unwrap();
    let few = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::CONFIG;
    frontend.set_protocol_features(offered & few).unwrap();
    frontend.set_features(features).unwrap();
    frontend.set_mem_table(&[region(&machine.guest)]).unwrap();
    machine.set_ring(&mut frontend, 0, 0);
    machine.check_disk(0, 1, 1);
    assert_eq!(frontend.get_vring_base(0).unwrap(), 2);
    stand.shut();
}

#[test]
fn without_protocol_features_a_ring_starts_at_its_kick() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let frontend = Frontend::connect(&stand.path, 1).unwrap();
    frontend.set_owner().unwrap();
    let features = all_but_log(&frontend) & !PROTOCOL_FEATURES;
    frontend.set_features(features).unwrap();
    frontend.set_mem_table(&[region(&machine.guest)]).unwrap();
    frontend.set_vring_num(0, QUEUE_SIZE).unwrap();
    frontend.set_vring_base(0, 0).unwrap();
    frontend
        .set_vring_addr(0, &machine.ring_config(0, false))
        .unwrap();
    frontend.set_vring_call(0, &machine.calls[0]).unwrap();
    frontend.set_vring_kick(0, &machine.kicks[0]).unwrap();
    machine.check_disk(0, 1, 1);
    stand.shut();
}

#[test]
fn the_configuration_space_is_read_and_its_one_field_written() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let mut frontend = stand.running(&machine);
    let none = VhostUserConfigFlags::empty();
    let read = |frontend: &mut Frontend, offset, bytes: usize| {
        let (head, data) = frontend
            .get_config(offset, bytes as u32, none, &vec![0; bytes])
            .unwrap();
        assert_eq!((head.offset, head.size as usize), (offset, data.len()));
        data
    };
    let whole = read(&mut frontend, 0, ConfigSpace::BYTES);
    assert_eq!(whole[..8], DISK_SECTORS.to_le_bytes());
    assert_eq!(read(&mut frontend, 20, 4), 512u32.to_le_bytes(), "blk_size");
    // As far as the crate lets one ask; what is behind the last field reads as zero.
    assert_eq!(read(&mut frontend, 0, 256)[ConfigSpace::BYTES..], [0; 196]);
    assert_eq!(read(&mut frontend, 255, 1), [0]);

    let at = ConfigSpace::WRITEBACK_OFFSET;
    let writable = VhostUserConfigFlags::WRITABLE;
    frontend.set_config(at, writable, &[0]).unwrap();
    machine.check_disk(0, 2, 2);
    assert_eq!(read(&mut frontend, at, 1), [0]);
    assert_eq!(stand.count(|event| *event == Event::WriteCache(false)), 1);
    for (offset, bytes) in [(0, &[1u8; 8][..]), (at, &[2]), (at, &[1, 1]), (200, &[1])] {
        let refused = frontend.set_config(offset, writable, bytes);
        assert!(refused.is_err(), "{bytes:?} at {offset}");
    }
    assert_eq!(read(&mut frontend, 0, 8), DISK_SECTORS.to_le_bytes());
    machine.check_disk(0, 3, 3);
    stand.shut();
}

#[test]
fn memory_comes_and_goes_region_by_region() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let mut frontend = stand.negotiated();
    let slots = frontend.get_max_mem_slots().unwrap();
    assert!(slots >= 256);
    // The ring is described before there is any memory; it starts when its region comes.
    machine.set_ring(&mut frontend, 0, 0);
    assert_eq!(stand.count(|event| *event == Event::Started(0)), 0);
    frontend.add_mem_region(&region(&machine.guest)).unwrap();
    machine.check_disk(0, 1, 1);
    let more: Vec<Guest> = (1..40).map(|at| Guest::new(at << 30, 4096)).collect();
    for guest in &more {
        frontend.add_mem_region(&region(guest)).unwrap();
    }
    assert!(frontend.add_mem_region(&region(&more[0])).is_err(), "twice");
    machine.check_disk(0, 2, 2);
    for guest in &more {
        frontend.remove_mem_region(&region(guest)).unwrap();
    }
    assert!(frontend.remove_mem_region(&region(&more[0])).is_err(), "gone");
    machine.check_disk(0, 3, 3);
    // The region under the ring goes: the ring waits for it, and goes on from where it was.
    frontend.remove_mem_region(&region(&machine.guest)).unwrap();
    let head = machine.submit(0, kind::IN, 3);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(machine.rings[0].poll_used(), None);
    frontend.add_mem_region(&region(&machine.guest)).unwrap();
    machine.wait_for(0, head);
    // As many regions in one table as the crate sends.
    let mut table = vec![region(&machine.guest)];
    table.extend(more[..31].iter().map(region));
    frontend.set_mem_table(&table).unwrap();
    machine.check_disk(0, 4, 4);
    stand.shut();
}

#[test]
fn requests_in_flight_survive_the_front_end() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let mut frontend = stand.negotiated();
    let shape = VhostUserInflight::new(0, 0, 2, QUEUE_SIZE);
    let (area, file) = frontend.get_inflight_fd(&shape).unwrap();
    let (bytes, queues, size) = (area.mmap_size, area.num_queues, area.queue_size);
    assert!(bytes > 0 && queues == 2 && size == QUEUE_SIZE);
    frontend.set_inflight_fd(&area, file.as_raw_fd()).unwrap();
    let shapeless = VhostUserInflight::new(bytes, 0, 3, QUEUE_SIZE);
    assert!(frontend.set_inflight_fd(&shapeless, file.as_raw_fd()).is_err());
    frontend.set_mem_table(&[region(&machine.guest)]).unwrap();
    machine.set_ring(&mut frontend, 0, 0);
    machine.check_disk(0, 1, 1);
    stand.seen.hold.store(true, Ordering::Release);
    let held = machine.submit(0, kind::IN, 1);
    std::thread::sleep(Duration::from_millis(20));
    drop(frontend);
    stand.seen.hold.store(false, Ordering::Release);

    let mut frontend = stand.negotiated();
    frontend.set_inflight_fd(&area, file.as_raw_fd()).unwrap();
    frontend.set_mem_table(&[region(&machine.guest)]).unwrap();
    machine.set_ring(&mut frontend, 0, 3);
    machine.wait_for(0, held);
    machine.check_disk(0, 2, 2);
    assert_eq!(machine.rings[0].poll_used(), None, "no answer came twice");
    stand.shut();
}

#[test]
fn a_migration_is_logged() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let frontend = stand.running(&machine);
    machine.check_disk(0, 1, 1);
    let log = memfd(4096);
    let place = VhostUserDirtyLogRegion {
        mmap_size: 4096,
        mmap_offset: 0,
        mmap_handle: log.as_raw_fd(),
    };
    // Whole messages come back, each its own: the next ones are understood.
    frontend.set_log_base(0, Some(place)).unwrap();
    frontend.set_log_fd(machine.calls[1].as_raw_fd()).unwrap();
    let features = all_but_log(&frontend);
    frontend.set_features(features | LOG_ALL).unwrap();
    frontend.set_vring_addr(0, &machine.ring_config(0, true)).unwrap();
    let head = machine.submit(0, kind::IN, 1);
    machine.wait_for(0, head);
    let mut marks = [0u8; 64];
    rustix::io::pread(&log, &mut marks, 0).unwrap();
    let marked = |address: u64| marks[(address / 4096 / 8) as usize] >> (address / 4096 % 8) & 1 == 1;
    assert!(marked(DATA_AT), "the data");
    assert!(marked(machine.rings[0].addresses().used), "the used ring");
    assert!(!marked(DATA_AT + 0x1_0000));
    frontend.set_features(features).unwrap();
    frontend
        .set_vring_addr(0, &machine.ring_config(0, false))
        .unwrap();
    machine.check_disk(0, 2, 2);
    stand.shut();
}

#[test]
fn a_reset_device_is_set_up_anew() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let mut frontend = stand.running(&machine);
    machine.check_disk(0, 1, 1);
    frontend.reset_device().unwrap();
    frontend.reset_device().unwrap();
    assert_eq!(frontend.get_vring_base(0).unwrap(), 0);
    // A driver that begins again, in memory that has stayed shared.
    machine = Machine {
        guest: machine.guest,
        ..Machine::new()
    };
    let options = machine.rings[0].options();
    machine.guest.memory.write(0, &[0; 0x1_0000]);
    machine.rings[0] = DriverQueue::new(machine.guest.memory.clone(), 0, options).unwrap();
    let features = all_but_log(&frontend);
    frontend.set_features(features).unwrap();
    machine.set_ring(&mut frontend, 0, 0);
    machine.check_disk(0, 2, 2);
    // The old message, which no VMM needs any more: it disables, and enabling goes on.
    frontend.reset_owner().unwrap();
    frontend.set_vring_enable(0, true).unwrap();
    machine.check_disk(0, 3, 3);
    stand.shut();
}

#[test]
fn a_grown_disk_is_told_over_the_second_socket() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let mut frontend = stand.running(&machine);
    let (ours, theirs) = UnixStream::pair().unwrap();
    frontend.set_backend_request_fd(&OwnedFd::from(theirs)).unwrap();
    let grown = DISK_SECTORS * 2;
    stand.seen.disk.lock().unwrap().resize(grown as usize * 512, 0);
    let handle = stand.door.handle();
    handle.resize(AttachmentIndex(ATTACHMENT), Sectors(grown));
    let news = Client::over(ours).answer().unwrap();
    assert_eq!((news.request, news.payload.len()), (2, 0));
    let none = VhostUserConfigFlags::empty();
    let (_, capacity) = frontend.get_config(0, 8, none, &[0; 8]).unwrap();
    assert_eq!(capacity, grown.to_le_bytes());
    machine.check_disk(0, grown - 1, 7);
    stand.shut();
}

#[test]
fn orders_that_make_no_sense_are_refused_and_the_session_goes_on() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let mut frontend = stand.running(&machine);
    machine.check_disk(0, 1, 1);
    let call = machine.calls[0].try_clone().unwrap();

    for size in [0, 3, 48, u16::MAX] {
        assert!(frontend.set_vring_num(0, size).is_err(), "a ring of {size}");
    }
    let mut misaligned = machine.ring_config(0, false);
    misaligned.desc_table_addr += 1;
    assert!(frontend.set_vring_addr(0, &misaligned).is_err());
    assert!(
        frontend
            .set_features(1 << 63 | Features::VERSION_1.bits())
            .is_err()
    );
    let offered = frontend.get_protocol_features().unwrap();
    let unknown = VhostUserProtocolFeatures::from_bits_retain(1 << 62);
    assert!(frontend.set_protocol_features(offered | unknown).is_err());
    // The crate believes in what it has said; so it is said again.
    frontend.set_protocol_features(offered).unwrap();
    let overlapping = [region(&machine.guest), region(&machine.guest)];
    assert!(frontend.set_mem_table(&overlapping).is_err());
    let mut beyond = region(&machine.guest);
    beyond.mmap_offset = GUEST_BYTES;
    assert!(frontend.set_mem_table(&[beyond]).is_err());
    beyond.mmap_handle = call.as_raw_fd();
    assert!(
        frontend.set_mem_table(&[beyond]).is_err(),
        "an eventfd is no memory"
    );
    // What was refused has changed nothing: the queue still runs, or runs again.
    let features = all_but_log(&frontend);
    frontend.set_features(features).unwrap();
    machine.check_disk(0, 2, 2);

    // Rings that lie nowhere do not start, and do no harm.
    let mut nowhere = machine.ring_config(0, false);
    nowhere.used_ring_addr = USER_BASE + GUEST_BYTES - 4;
    frontend.set_vring_addr(0, &nowhere).unwrap();
    let head = machine.submit(0, kind::IN, 2);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(machine.rings[0].poll_used(), None);
    frontend
        .set_vring_addr(0, &machine.ring_config(0, false))
        .unwrap();
    machine.wait_for(0, head);
    machine.check_disk(0, 3, 3);
    stand.shut();
}

#[test]
fn every_order_under_a_running_queue_leaves_it_running() {
    let stand = Stand::new();
    let mut machine = Machine::new();
    let mut frontend = stand.running(&machine);
    let features = all_but_log(&frontend);
    for round in 0..8u8 {
        let base = machine.rings[0].addresses();
        machine.check_disk(0, u64::from(round), round);
        assert_eq!(base, machine.rings[0].addresses());
        frontend.set_owner().unwrap();
        frontend.set_features(features).unwrap();
        frontend.set_mem_table(&[region(&machine.guest)]).unwrap();
        frontend.set_vring_num(0, QUEUE_SIZE).unwrap();
        frontend
            .set_vring_addr(0, &machine.ring_config(0, false))
            .unwrap();
        frontend.set_vring_call(0, &machine.calls[0]).unwrap();
        frontend.set_vring_err(0, &machine.calls[1]).unwrap();
        frontend.set_vring_kick(0, &machine.kicks[0]).unwrap();
        frontend.set_vring_enable(0, true).unwrap();
        frontend.set_vring_enable(1, true).unwrap();
        assert_eq!(frontend.get_queue_num().unwrap(), 2);
    }
    assert_eq!(frontend.get_vring_base(0).unwrap(), 16);
    stand.shut();
}
