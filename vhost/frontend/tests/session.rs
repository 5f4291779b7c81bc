//! The session without any socket: what QEMU sends, in QEMU's order, and what follows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_frontend::codec::{Message, Reply, VringFd, VringState, request};
use palisade_frontend::features::{LOG_ALL, PROTOCOL_FEATURES};
use palisade_words::Sectors;
use stand::guest::memfd;
use stand::walk::Walk;
use std::os::fd::OwnedFd;

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

/// What a session that ends has not begun is left to the next; nobody is told a base that lies behind such a request.
#[test]
fn a_queue_is_left_when_the_session_ends_and_drained_for_a_message() {
    for stopping in [false, true] {
        let mut walk = Walk::new();
        walk.connect();
        walk.start(0);
        if stopping {
            walk.hear(Message::GetVringBase(0), false);
            assert!(walk.left.is_empty(), "it is drained");
        }
        walk.disconnect();
        assert_eq!(walk.left, [0]);
        walk.give_back(0, 3);
        assert!(walk.replies.is_empty());
        assert_eq!(walk.closed.as_deref(), Some("gone"));
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
    assert!(
        walk.replies.pop().unwrap().fd.is_some(),
        "more queues than are used cost little"
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
        "SET_FEATURES: the features ACCESS_PLATFORM (0x200000000) were not offered",
    );
    refused(
        Message::SetProtocolFeatures(1 << 63),
        "SET_PROTOCOL_FEATURES: the protocol features bit 63 (0x8000000000000000) were not offered",
    );
    refused(
        Message::SetVringNum(VringState { index: 2, value: 64 }),
        "SET_VRING_NUM: there is no queue 2, the device has 2",
    );
    for size in [0, 3, 65535, 65536, 65536 + 64] {
        refused(
            Message::SetVringNum(VringState {
                index: 0,
                value: size,
            }),
            &format!("SET_VRING_NUM: queue size {size} is not a power of two from 1 to 32768"),
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
