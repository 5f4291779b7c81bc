//! The session without any socket: what QEMU sends, in QEMU's order, and what follows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_block::Sectors;
use palisade_frontend::codec::{Message, Reply, VringAddresses, VringFd, VringState, request};
use palisade_frontend::features::{LOG_ALL, PROTOCOL_FEATURES, protocol};
use palisade_frontend::{Action, CallNotify, Offer, Session};
use palisade_sys::EventFd;
use palisade_virtio::BlkQueue;
use palisade_virtio::driver::{DriverOptions, DriverQueue};
use stand::client::dup;
use stand::guest::{Guest, USER_BASE, memfd};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A session, and a host that stops queues only when it is told to.
struct Walk {
    session: Session,
    guest: Guest,
    ring: DriverQueue,
    running: BTreeMap<u16, Box<BlkQueue<CallNotify>>>,
    stopping: Vec<u16>,
    replies: Vec<Reply>,
    backend: Vec<Vec<u8>>,
    write_through: Option<bool>,
    memory: Option<usize>,
    closed: Option<String>,
}

impl Walk {
    fn new() -> Walk {
        let guest = Guest::new(0, 1 << 20);
        let options = DriverOptions {
            size: 64,
            event_idx: false,
            indirect: false,
        };
        let ring = DriverQueue::new(guest.memory.clone(), 0, options).unwrap();
        let offer = Offer {
            geometry: stand::geometry(),
            queue_size_max: 256,
            serial: [0; 20],
            write_cache: true,
            stats: Arc::from([Arc::default(), Arc::default()]),
            share: palisade_memory::Share::unlimited(),
        };
        Walk {
            session: Session::new(offer),
            guest,
            ring,
            running: BTreeMap::new(),
            stopping: Vec::new(),
            replies: Vec::new(),
            backend: Vec::new(),
            write_through: None,
            memory: None,
            closed: None,
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reply(reply) => self.replies.push(reply),
                Action::Memory(memory) => {
                    assert!(self.running.is_empty(), "memory under a running queue");
                    self.memory = memory.map(|memory| memory.regions().len());
                }
                Action::WriteThrough(on) => self.write_through = Some(on),
                Action::WriteCache(_) => {}
                Action::StartQueue { index, queue, .. } => {
                    assert!(self.write_through.is_some() && self.memory.is_some());
                    assert!(self.running.insert(index, queue).is_none(), "started twice");
                }
                Action::StopQueue { index } => {
                    assert!(self.running.contains_key(&index) && !self.stopping.contains(&index));
                    self.stopping.push(index);
                }
                Action::BackendChannel(_) => {}
                Action::BackendSend(bytes) => self.backend.push(bytes),
                Action::Closed { reason } => {
                    assert!(self.running.is_empty() && self.memory.is_none() && self.closed.is_none());
                    self.closed = Some(reason);
                }
            }
        }
    }

    fn hear(&mut self, message: Message, need_reply: bool) {
        let mut actions = Vec::new();
        self.session.on_message(message, need_reply, &mut actions);
        self.act(actions);
    }

    /// A message that has no reply.
    fn tell(&mut self, message: Message) {
        let replies = self.replies.len();
        self.hear(message, false);
        assert_eq!(self.replies.len(), replies);
    }

    /// A message with a reply of its own; gives its payload.
    fn ask(&mut self, message: Message) -> Vec<u8> {
        self.hear(message, false);
        self.last_payload()
    }

    /// A message to be acknowledged.
    fn order(&mut self, message: Message) -> u64 {
        self.hear(message, true);
        u64::from_ne_bytes(self.last_payload().try_into().unwrap())
    }

    fn last_payload(&mut self) -> Vec<u8> {
        assert_eq!(self.replies.len(), 1, "one message, one reply");
        self.replies.pop().unwrap().bytes.split_off(12)
    }

    /// The engine gives a queue back that stands at `next_avail`.
    fn give_back(&mut self, index: u16, next_avail: u16) {
        self.stopping.retain(|stopping| *stopping != index);
        self.running.remove(&index).unwrap();
        let mut actions = Vec::new();
        self.session.queue_stopped(index, Some(next_avail), &mut actions);
        self.act(actions);
    }

    fn connect(&mut self) {
        let features = self.ask(Message::GetFeatures);
        let features = u64::from_ne_bytes(features.try_into().unwrap());
        assert!(features & PROTOCOL_FEATURES != 0 && features & LOG_ALL != 0);
        assert_eq!(
            self.ask(Message::GetProtocolFeatures),
            protocol::OFFERED.to_ne_bytes()
        );
        self.tell(Message::SetProtocolFeatures(protocol::OFFERED));
        assert_eq!(self.ask(Message::GetQueueNum), 2u64.to_ne_bytes());
        assert_eq!(self.ask(Message::GetMaxMemSlots), 512u64.to_ne_bytes());
        self.tell(Message::SetOwner);
        let call = EventFd::new().unwrap();
        self.tell(Message::SetVringCall(VringFd {
            index: 0,
            fd: Some(dup(&call)),
        }));
    }

    fn features(&self) -> u64 {
        0x1_3000_1e46 | PROTOCOL_FEATURES
    }

    /// The driver is ready: what QEMU sends then.
    fn start(&mut self, base: u16) {
        self.tell(Message::SetFeatures(self.features()));
        assert_eq!(
            self.order(Message::SetMemTable(vec![(self.guest.region, self.guest.fd())])),
            0
        );
        self.tell(Message::SetVringNum(VringState { index: 0, value: 64 }));
        self.tell(Message::SetVringBase(VringState {
            index: 0,
            value: base.into(),
        }));
        let addresses = self.addresses(false);
        self.tell(Message::SetVringAddr(addresses));
        self.tell(Message::SetVringKick(VringFd {
            index: 0,
            fd: Some(dup(&EventFd::new().unwrap())),
        }));
        assert!(self.running.is_empty());
        self.tell(Message::SetVringEnable {
            index: 0,
            enable: true,
        });
        assert!(self.running.contains_key(&0));
    }

    fn addresses(&self, log: bool) -> VringAddresses {
        let ring = self.ring.addresses();
        VringAddresses {
            index: 0,
            log,
            descriptors: USER_BASE + ring.descriptors,
            used: USER_BASE + ring.used,
            available: USER_BASE + ring.avail,
            log_guest_address: ring.used,
        }
    }

    fn disconnect(&mut self) {
        let mut actions = Vec::new();
        self.session.disconnect("gone", &mut actions);
        self.act(actions);
    }
}

fn inflight(walk: &mut Walk) -> (u64, OwnedFd) {
    walk.hear(
        Message::GetInflightFd {
            queues: 2,
            queue_size: 64,
            reply_bytes: 24,
        },
        false,
    );
    let reply = walk.replies.pop().unwrap();
    let bytes = u64::from_ne_bytes(reply.bytes[12..20].try_into().unwrap());
    (bytes, reply.fd.unwrap())
}

#[test]
fn a_machine_boots_stops_and_goes() {
    let mut walk = Walk::new();
    walk.connect();
    walk.start(0);
    walk.tell(Message::SetVringEnable {
        index: 0,
        enable: false,
    });
    assert_eq!(walk.stopping, [0]);
    assert_eq!(walk.session.waiting().unwrap().cause, "SET_VRING_ENABLE");
    walk.give_back(0, 17);
    assert!(walk.session.waiting().is_none());
    assert_eq!(walk.ask(Message::GetVringBase(0)), [0, 0, 0, 0, 17, 0, 0, 0]);
    // Enabled again it does not run: it takes another kick.
    walk.tell(Message::SetVringEnable {
        index: 0,
        enable: true,
    });
    assert!(walk.running.is_empty());
    walk.start_again_and_die();
}

impl Walk {
    fn start_again_and_die(&mut self) {
        self.tell(Message::SetVringKick(VringFd { index: 0, fd: None }));
        assert_eq!(self.running[&0].next_avail(), 17);
        self.disconnect();
        assert_eq!(
            (self.stopping.as_slice(), self.closed.is_none()),
            (&[0][..], true)
        );
        self.give_back(0, 18);
        assert_eq!(self.closed.as_deref(), Some("gone"));
        assert!(self.session.is_closed());
    }
}

#[test]
fn the_base_is_not_told_before_the_queue_is_drained() {
    let mut walk = Walk::new();
    walk.connect();
    walk.start(0);
    walk.hear(Message::GetVringBase(0), false);
    assert!(walk.replies.is_empty());
    assert_eq!(
        walk.session.waiting().unwrap().to_string(),
        "blocked on requests in flight in queues [0], needed for GET_VRING_BASE"
    );
    walk.give_back(0, 3);
    assert_eq!(walk.last_payload(), [0, 0, 0, 0, 3, 0, 0, 0]);
}

#[test]
fn a_back_end_that_crashed_takes_up_the_region_it_left() {
    let mut walk = Walk::new();
    walk.connect();
    let (bytes, file) = inflight(&mut walk);
    walk.tell(Message::SetInflightFd {
        bytes,
        file_offset: 0,
        queues: 2,
        queue_size: 64,
        fd: file.try_clone().unwrap(),
    });
    walk.start(0);
    drop(walk);
    let mut walk = Walk::new();
    walk.connect();
    walk.tell(Message::SetInflightFd {
        bytes,
        file_offset: 0,
        queues: 2,
        queue_size: 64,
        fd: file,
    });
    walk.start(0);
    walk.hear(
        Message::GetInflightFd {
            queues: 3,
            queue_size: 64,
            reply_bytes: 24,
        },
        false,
    );
    walk.give_back(0, 0);
    assert_eq!(
        walk.closed.as_deref(),
        Some("GET_INFLIGHT_FD: there is no queue 3, the device has 2"),
        "its reply has no room for a refusal"
    );
}

#[test]
fn migration_logs_from_a_running_queue_and_stops_logging() {
    let mut walk = Walk::new();
    walk.connect();
    walk.start(0);
    let log = |bytes| palisade_frontend::codec::LogTable {
        bytes,
        file_offset: 0,
        fd: memfd(4096),
    };
    assert_eq!(
        walk.ask(Message::SetLogBase(log(4096))),
        stand::client::longs(&[4096, 0])
    );
    assert!(
        walk.stopping.is_empty(),
        "a log that is not used yet concerns nobody"
    );
    walk.tell(Message::SetFeatures(walk.features() | LOG_ALL));
    walk.give_back(0, 5);
    assert_eq!(walk.running[&0].next_avail(), 5);
    let addresses = walk.addresses(true);
    walk.tell(Message::SetVringAddr(addresses));
    walk.give_back(0, 6);
    walk.tell(Message::SetVringAddr(addresses));
    assert!(walk.stopping.is_empty(), "the same addresses change nothing");
    // The guest has got more memory: a longer log, while the old one is in use.
    walk.hear(Message::SetLogBase(log(4096)), true);
    walk.give_back(0, 7);
    assert_eq!(
        walk.last_payload(),
        stand::client::longs(&[4096, 0]),
        "one reply, though two reasons for it"
    );
    walk.tell(Message::SetFeatures(walk.features()));
    walk.give_back(0, 8);
    assert_eq!(walk.running[&0].next_avail(), 8);
}

#[test]
fn memory_without_the_ring_stops_it_until_the_ring_is_back() {
    let mut walk = Walk::new();
    walk.connect();
    walk.start(0);
    let region = walk.guest.region;
    walk.hear(Message::RemMemReg(region), true);
    walk.give_back(0, 2);
    assert_eq!(walk.last_payload(), 0u64.to_ne_bytes());
    assert!(walk.running.is_empty());
    let fd = walk.guest.fd();
    assert_eq!(walk.order(Message::AddMemReg(region, fd)), 0);
    assert_eq!(walk.running[&0].next_avail(), 2);
}

#[test]
fn a_refused_change_of_memory_leaves_the_old_one() {
    let mut walk = Walk::new();
    walk.connect();
    walk.start(0);
    let region = walk.guest.region;
    walk.hear(
        Message::SetMemTable(vec![(region, walk.guest.fd()), (region, walk.guest.fd())]),
        true,
    );
    walk.give_back(0, 2);
    assert_eq!(walk.last_payload(), 1u64.to_ne_bytes());
    assert!(walk.session.last_error().unwrap().contains("overlap"));
    assert_eq!(walk.running[&0].next_avail(), 2);
    assert_eq!(walk.memory, Some(1));
}

#[test]
fn a_guest_without_a_flush_command_gets_stable_writes() {
    let mut walk = Walk::new();
    walk.connect();
    walk.start(0);
    assert_eq!(walk.write_through, Some(false));
    let (flush, wce) = (1 << 9, 1 << 11);
    for (features, write_through) in [
        (flush, false),
        (0, true),
        (flush | wce, false),
        (wce, true),
        (flush | wce, false),
    ] {
        walk.tell(Message::SetFeatures(PROTOCOL_FEATURES | features));
        walk.give_back(0, 0);
        assert_eq!(walk.write_through, Some(write_through));
    }
    let off = || Message::SetConfig {
        offset: 32,
        flags: 0,
        data: vec![0],
    };
    walk.hear(off(), true);
    assert_eq!(
        walk.write_through,
        Some(false),
        "not before what was taken before is answered"
    );
    walk.give_back(0, 0);
    assert_eq!(walk.last_payload(), 0u64.to_ne_bytes());
    assert_eq!(walk.write_through, Some(true));
    assert_eq!(walk.order(off()), 0, "off already: nothing stops");
}

#[test]
fn a_cache_switched_off_stays_off_over_a_reset() {
    let mut walk = Walk::new();
    walk.connect();
    let off = Message::SetConfig {
        offset: 32,
        flags: 0,
        data: vec![0],
    };
    assert_eq!(walk.order(off), 0);
    walk.tell(Message::ResetDevice);
    let config = walk.ask(Message::GetConfig {
        offset: 0,
        bytes: 60,
        flags: 0,
    });
    assert_eq!(
        config[12 + 32],
        0,
        "QEMU goes on telling the guest that it is off"
    );
    walk.start(0);
    let (flush, wce) = (1 << 9, 1 << 11);
    walk.tell(Message::SetFeatures(PROTOCOL_FEATURES | flush | wce));
    walk.give_back(0, 0);
    assert_eq!(walk.write_through, Some(true));
}

#[test]
fn a_front_end_that_did_not_ask_for_the_size_is_told_to() {
    let mut walk = Walk::new();
    walk.connect();
    walk.tell(Message::SetBackendReqFd(memfd(0)));
    assert!(walk.backend.is_empty(), "nobody listens before a queue runs");
    walk.start(0);
    assert_eq!(walk.backend.len(), 1);

    let mut walk = Walk::new();
    walk.connect();
    walk.tell(Message::SetBackendReqFd(memfd(0)));
    walk.ask(Message::GetConfig {
        offset: 0,
        bytes: 60,
        flags: 0,
    });
    walk.start(0);
    assert!(walk.backend.is_empty());
}

#[test]
fn a_new_size_is_told_only_to_those_who_can_hear_it() {
    let mut walk = Walk::new();
    let resize = |walk: &mut Walk, sectors| {
        let mut actions = Vec::new();
        walk.session.resize(Sectors(sectors), &mut actions);
        walk.act(actions);
    };
    walk.connect();
    resize(&mut walk, 4096);
    assert!(walk.backend.is_empty());
    walk.tell(Message::SetBackendReqFd(memfd(0)));
    resize(&mut walk, 8192);
    assert_eq!(walk.backend.len(), 1);
    let config = walk.ask(Message::GetConfig {
        offset: 0,
        bytes: 60,
        flags: 0,
    });
    assert_eq!(config[12..20], 8192u64.to_le_bytes());
}

#[test]
fn without_protocol_features_rings_start_enabled() {
    let mut walk = Walk::new();
    walk.tell(Message::SetFeatures(1 << 32));
    walk.tell(Message::SetMemTable(vec![(walk.guest.region, walk.guest.fd())]));
    walk.tell(Message::SetVringNum(VringState { index: 0, value: 64 }));
    walk.tell(Message::SetVringAddr(walk.addresses(false)));
    walk.tell(Message::SetVringKick(VringFd { index: 0, fd: None }));
    assert!(walk.running.contains_key(&0));
}

#[test]
fn nonsense_is_refused_with_a_sentence() {
    let refused = |message: Message, sentence: &str| {
        let mut walk = Walk::new();
        walk.connect();
        let request = message.request();
        walk.hear(message, true);
        let reply = walk.replies.pop().unwrap();
        assert_eq!(reply.bytes, Reply::number(request, 1).bytes);
        assert_eq!(walk.session.last_error(), Some(sentence));
        assert!(walk.closed.is_none());
    };
    refused(
        Message::SetFeatures(1 << 33),
        "SET_FEATURES: features 0x200000000 were not offered",
    );
    refused(
        Message::SetProtocolFeatures(1 << 63),
        "SET_PROTOCOL_FEATURES: features 0x8000000000000000 were not offered",
    );
    refused(
        Message::SetVringNum(VringState { index: 2, value: 64 }),
        "SET_VRING_NUM: there is no queue 2, the device has 2",
    );
    for size in [0, 3, 512, 65536, 65536 + 64] {
        refused(
            Message::SetVringNum(VringState {
                index: 0,
                value: size,
            }),
            &format!("SET_VRING_NUM: queue size {size} is not a power of two from 1 to 256"),
        );
    }
    refused(
        Message::SetVringBase(VringState {
            index: 0,
            value: 65536,
        }),
        "SET_VRING_BASE: ring position 65536 does not fit 16 bits",
    );
    let mut addresses = Walk::new().addresses(false);
    addresses.used += 2;
    refused(
        Message::SetVringAddr(addresses),
        "SET_VRING_ADDR: the addresses of queue 0 are misaligned",
    );
}

#[test]
fn nonsense_that_nobody_asked_to_acknowledge_ends_the_session() {
    let mut walk = Walk::new();
    walk.tell(Message::SetVringBase(VringState { index: 9, value: 0 }));
    assert_eq!(
        walk.closed.as_deref(),
        Some("SET_VRING_BASE: there is no queue 9, the device has 2")
    );
    let mut walk = Walk::new();
    walk.connect();
    walk.hear(Message::GetVringBase(9), true);
    assert!(walk.replies.is_empty(), "there is no reply that says no");
    assert!(walk.closed.is_some());
}

#[test]
fn the_request_numbers_of_replies_are_those_of_the_questions() {
    let mut walk = Walk::new();
    walk.connect();
    walk.hear(Message::ResetOwner, true);
    assert_eq!(
        walk.replies.pop().unwrap().bytes[..4],
        request::RESET_OWNER.to_ne_bytes()
    );
}
