//! What a front-end may ask for: sizes, features, writes; and that more than can be had leaves it a way to go on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_frontend::QueueReport;
use palisade_frontend::codec::{Message, VringFd, VringState};
use palisade_frontend::features::PROTOCOL_FEATURES;
use palisade_sys::EventFd;
use palisade_virtio::driver::BlkHeader;
use stand::client::dup;
use stand::guest::memfd;
use stand::walk::Walk;
use std::os::fd::OwnedFd;

const FLUSH: u64 = 1 << 9;
const CONFIG_WCE: u64 = 1 << 11;
const ANY_LAYOUT: u64 = 1 << 27;
const NOTIFY_ON_EMPTY: u64 = 1 << 24;

/// Asks for an in-flight region of this shape: its length and file, if there is one.
fn inflight(walk: &mut Walk, queues: u16, queue_size: u16) -> (u64, Option<OwnedFd>) {
    let message = Message::GetInflightFd {
        queues,
        queue_size,
        reply_bytes: 24,
    };
    walk.hear(message, false);
    let reply = walk.replies.pop().unwrap();
    assert_eq!(reply.bytes.len(), 12 + 24);
    (
        u64::from_ne_bytes(reply.bytes[12..20].try_into().unwrap()),
        reply.fd,
    )
}

fn give_inflight(walk: &mut Walk, (bytes, file): (u64, Option<OwnedFd>), queues: u16, queue_size: u16) {
    walk.tell(Message::SetInflightFd {
        bytes,
        file_offset: 0,
        queues,
        queue_size,
        fd: file.unwrap(),
    });
}

fn queue(walk: &Walk, index: usize) -> QueueReport {
    walk.session.queues().swap_remove(index)
}

fn set_config(offset: u32, data: &[u8]) -> Message {
    Message::SetConfig {
        offset,
        flags: 0,
        data: data.to_vec(),
    }
}

/// The attachment's own size is 256 here; crosvm asks for 32768, QEMU for up to 1024, SPDK's initiator for 512.
#[test]
fn any_size_of_the_standard_is_served_and_taken_up_after_a_crash() {
    for entries in [1, 2, 64, 128, 256, 512, 1024, 4096, 32768] {
        let mut walk = Walk::with(entries);
        walk.connect();
        let (bytes, file) = inflight(&mut walk, 2, entries);
        let file = file.unwrap();
        give_inflight(&mut walk, (bytes, Some(file.try_clone().unwrap())), 2, entries);
        walk.start(0);
        assert_eq!((queue(&walk, 0).size, queue(&walk, 0).running), (entries, true));
        assert!(!queue(&walk, 0).untracked);
        if entries < 4 {
            continue;
        }
        // A request in flight when this process ends is found by the next one.
        let flush = BlkHeader { kind: 4, sector: 0 };
        walk.ring.submit(flush, &[]).unwrap();
        walk.ring.publish();
        let mut list = palisade_block::SegmentList::default();
        let queue = walk.running.get_mut(&0).unwrap();
        let palisade_block::Pulled::Request(request) =
            palisade_block::Source::pull(queue.as_mut(), &mut list)
        else {
            panic!("a request is there");
        };
        request.token.spend();
        walk.again();
        walk.connect();
        give_inflight(&mut walk, (bytes, Some(file)), 2, entries);
        walk.start(0);
        assert_eq!(walk.running[&0].resubmissions_left(), 1, "{entries}");
    }
}

#[test]
fn more_than_the_standard_allows_leaves_the_session_and_is_told() {
    for size in [0, 3, 48, 32769, 65536, u32::MAX] {
        let mut walk = Walk::new();
        walk.connect();
        walk.start(0);
        walk.hear(
            Message::SetVringNum(VringState {
                index: 0,
                value: size,
            }),
            false,
        );
        walk.give_back(0, 7);
        assert!(walk.closed.is_none() && walk.running.is_empty());
        let why = queue(&walk, 0).cannot_start.unwrap();
        assert!(
            why.contains("SET_VRING_NUM") && why.contains(&size.to_string()),
            "{why}"
        );
        // Told and gone on: the front-end chooses another.
        walk.tell(Message::SetVringNum(VringState { index: 0, value: 64 }));
        assert!(walk.running.contains_key(&0));
        assert_eq!(queue(&walk, 0).cannot_start, None);
        assert_eq!(walk.session.refused(), 1);
    }
}

#[test]
fn an_in_flight_region_that_cannot_be_is_answered_with_none() {
    for (queues, size) in [(0, 64), (65, 64), (2, 0), (2, 32769), (2, u16::MAX)] {
        let mut walk = Walk::new();
        walk.connect();
        let (bytes, file) = inflight(&mut walk, queues, size);
        assert!(bytes == 0 && file.is_none());
        assert!(walk.session.last_error().unwrap().contains("GET_INFLIGHT_FD"));
        walk.start(0);
        assert!(walk.running.contains_key(&0));
    }
    let mut walk = Walk::new();
    walk.connect();
    let (bytes, file) = inflight(&mut walk, 64, 32768);
    assert!(bytes >= 64 * 32768 * 16 && file.is_some());
}

/// QEMU sizes the region by `queue-size`; on virtio-mmio its guest may take 1024 entries all the same.
#[test]
fn a_ring_longer_than_its_region_runs_untracked_and_says_so() {
    let mut walk = Walk::with(1024);
    walk.connect();
    let region = inflight(&mut walk, 2, 128);
    give_inflight(&mut walk, region, 2, 128);
    walk.start(5);
    let report = queue(&walk, 0);
    assert!(report.running && report.untracked && report.cannot_start.is_none());
    assert_eq!(walk.running[&0].next_avail(), 5, "where the front-end says");
}

/// A version before made regions of at most 1024 entries, of the attachment's own size: they are what they were.
#[test]
fn a_region_of_the_version_before_is_taken_up() {
    use std::os::unix::fs::FileExt;
    let file = memfd(2 * 4160);
    let raw = std::fs::File::from(file.try_clone().unwrap());
    for queue in 0..2u64 {
        // features, version 1, 256 entries, last_batch_head, used_idx; then entry 7 in flight.
        raw.write_all_at(&[1, 0, 0, 1, 0, 0, 0, 0], queue * 4160 + 8)
            .unwrap();
        raw.write_all_at(&[1], queue * 4160 + 16 + 16 * 7).unwrap();
    }
    let mut walk = Walk::with(256);
    walk.connect();
    give_inflight(&mut walk, (2 * 4160, Some(file)), 2, 256);
    walk.start(0);
    assert_eq!(walk.running[&0].resubmissions_left(), 1);
}

/// Every bit that a front-end may add or pass on by itself, one by one beside what a modern driver takes.
#[test]
fn every_feature_bit_is_served_or_refused_by_name() {
    let offered = {
        let mut walk = Walk::new();
        u64::from_ne_bytes(walk.ask(Message::GetFeatures).try_into().unwrap())
    };
    let refused = [
        (0, "BARRIER"),
        (4, "GEOMETRY"),
        (7, "SCSI"),
        (15, "LIFETIME"),
        (16, "SECURE_ERASE"),
        (17, "ZONED"),
        (33, "ACCESS_PLATFORM"),
        (34, "RING_PACKED"),
        (35, "IN_ORDER"),
        (39, "NOTIF_CONFIG_DATA"),
        (41, "ADMIN_VQ"),
        (57, "bit 57"),
    ];
    for bit in 0..64 {
        let mut walk = Walk::new();
        walk.connect();
        walk.start(0);
        let before = walk.features();
        let features = before | 1 << bit;
        walk.hear(Message::SetFeatures(features), false);
        if features != before {
            walk.give_back(0, 0);
        }
        assert!(walk.closed.is_none(), "bit {bit}");
        let of_the_transport = matches!(bit, 36 | 37 | 38 | 40);
        let named = refused.iter().find(|(number, _)| *number == bit);
        if offered >> bit & 1 == 1 || of_the_transport {
            assert!(named.is_none() && walk.running.contains_key(&0), "bit {bit}");
            continue;
        }
        assert!(walk.running.is_empty(), "bit {bit}");
        let why = queue(&walk, 0).cannot_start.unwrap();
        if let Some((_, name)) = named {
            assert!(why.contains(name), "{why}");
        }
        // The next driver of this machine may do without.
        walk.tell(Message::SetFeatures(before));
        assert!(walk.running.contains_key(&0));
        // And who asks for an answer gets one.
        let mut walk = Walk::new();
        walk.connect();
        assert_eq!(walk.order(Message::SetFeatures(features)), 1);
    }
    assert!(offered & ANY_LAYOUT != 0 && offered & NOTIFY_ON_EMPTY != 0);
}

/// Windows' viostor and old kernels on a transitional device: no VERSION_1, and ANY_LAYOUT as QEMU offers it.
#[test]
fn a_driver_without_version_1_is_served_whole() {
    for (features, write_through) in [
        (0, true),
        (ANY_LAYOUT, true),
        (ANY_LAYOUT | NOTIFY_ON_EMPTY, true),
        (FLUSH | ANY_LAYOUT, false),
        (FLUSH | CONFIG_WCE | ANY_LAYOUT, false),
        (CONFIG_WCE, true),
    ] {
        for protocol in [0, PROTOCOL_FEATURES] {
            let mut walk = Walk::new();
            walk.connect();
            walk.start(0);
            walk.tell(Message::SetFeatures(features | protocol));
            walk.give_back(0, 0);
            assert!(walk.running.contains_key(&0));
            assert_eq!(walk.write_through, Some(write_through), "{features:#x}");
            // The cache switched off counts for a driver that has taken CONFIG_WCE.
            walk.hear(set_config(32, &[0]), false);
            walk.give_back(0, 0);
            let off = write_through || features & CONFIG_WCE != 0;
            assert_eq!(walk.write_through, Some(off), "{features:#x}");
        }
    }
}

#[test]
fn a_write_to_the_configuration_space_is_as_wide_as_the_front_end_likes() {
    let writes: [(u32, &[u8]); 4] = [
        (32, &[0]),
        // OpenVMM: the register of 32 bits that holds `writeback`, one reserved byte and the number of queues.
        (32, &[0, 0, 2, 0]),
        (32, &[0, 0]),
        (24, &[0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ];
    for (offset, data) in writes {
        let mut walk = Walk::new();
        walk.connect();
        walk.start(0);
        walk.tell(Message::SetFeatures(walk.features()));
        walk.hear(set_config(offset, data), true);
        walk.give_back(0, 0);
        assert_eq!(walk.last_payload(), 0u64.to_ne_bytes(), "{offset} {data:?}");
        assert_eq!(walk.write_through, Some(true));
        assert_eq!(
            walk.order(set_config(offset, data)),
            0,
            "off already: nothing stops"
        );
    }
    // Another byte would change, or the value is none: refused, nothing changed, and the session goes on, also when
    // nobody asked to hear of it. A guest must not be able to end its own session by a write.
    for (offset, data) in [(32u32, &[0u8, 0, 9, 0][..]), (32, &[2]), (0, &[1]), (200, &[1])] {
        let mut walk = Walk::new();
        walk.connect();
        walk.start(0);
        assert_eq!(walk.order(set_config(offset, data)), 1);
        walk.tell(set_config(offset, data));
        assert!(walk.closed.is_none() && walk.running.contains_key(&0));
        assert_eq!(walk.write_through, Some(false));
        assert_eq!(walk.session.refused(), 2);
    }
}

#[test]
fn the_configuration_space_is_read_in_any_piece() {
    let mut walk = Walk::new();
    walk.connect();
    let mut read = |offset, bytes| {
        let flags = 0;
        walk.ask(Message::GetConfig { offset, bytes, flags })
            .split_off(12)
    };
    let whole = read(0, 256);
    assert_eq!(whole.len(), 256);
    assert!(
        whole[60..].iter().all(|&byte| byte == 0),
        "later fields are not offered"
    );
    for (offset, bytes) in [
        (0, 8),
        (0, 60),
        (0, 96),
        (12, 4),
        (32, 1),
        (56, 8),
        (59, 1),
        (60, 36),
        (255, 1),
        (250, 256),
    ] {
        let here = read(offset, bytes);
        assert_eq!(here.len(), bytes as usize);
        for (at, &byte) in (offset as usize..).zip(&here) {
            assert_eq!(byte, whole.get(at).copied().unwrap_or(0));
        }
    }
}

#[test]
fn a_broken_ring_and_one_that_cannot_start_signal_the_error_descriptor() {
    let mut walk = Walk::new();
    walk.connect();
    let error = EventFd::new().unwrap();
    let give = |walk: &mut Walk| {
        walk.tell(Message::SetVringErr(VringFd {
            index: 0,
            fd: Some(dup(&error)),
        }));
    };
    give(&mut walk);
    walk.start(0);
    assert_eq!(error.drain().unwrap(), 0);
    walk.guest.memory.store_u16(walk.ring.addresses().avail + 2, 5000);
    let queue = walk.running.get_mut(&0).unwrap();
    let mut list = palisade_block::SegmentList::default();
    assert!(matches!(
        palisade_block::Source::pull(queue.as_mut(), &mut list),
        palisade_block::Pulled::Empty
    ));
    assert_eq!(error.drain().unwrap(), 1, "once");
    let why = queue.stats().broken_now().unwrap().to_string();
    assert_eq!(why, "the available index jumped from 0 to 5000");

    // A ring that lies half outside the guest's memory.
    let mut walk = Walk::new();
    walk.connect();
    give(&mut walk);
    let mut addresses = walk.addresses(false);
    addresses.used = user_end(&walk) - 8;
    walk.start(0);
    walk.tell(Message::SetVringAddr(addresses));
    walk.give_back(0, 0);
    assert!(walk.running.is_empty());
    assert_eq!(error.drain().unwrap(), 1);
    let report = walk.session.queues().swap_remove(0);
    assert!(report.cannot_start.unwrap().contains("used"));
}

/// The end of the guest's memory in the front-end's addresses.
fn user_end(walk: &Walk) -> u64 {
    walk.guest.region.user_address + walk.guest.region.bytes
}
