//! The bytes of the protocol: what each message looks like, and what is no message.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_frontend::codec::{
    FDS_MAX, HEADER_BYTES, Message, MessageHeader, MessageProblem, PAYLOAD_BYTES_MAX, ProtocolError, Region,
    Reply, VringAddresses, VringState, config_changed_message, request,
};
use stand::client::{longs, region_bytes, words};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

fn fds(count: usize) -> Vec<OwnedFd> {
    (0..count)
        .map(|_| std::fs::File::open("/dev/null").unwrap().into())
        .collect()
}

fn header(request: u32, payload_bytes: usize) -> MessageHeader {
    MessageHeader {
        request,
        need_reply: false,
        payload_bytes,
    }
}

/// Descriptors, and ends of theirs that notice when they are closed.
fn watched(count: usize) -> (Vec<UnixStream>, Vec<OwnedFd>) {
    let pairs = (0..count).map(|_| UnixStream::pair().unwrap());
    pairs.map(|(kept, given)| (kept, OwnedFd::from(given))).unzip()
}

fn parse(request: u32, payload: &[u8], fd_count: usize) -> Result<Message, ProtocolError> {
    Message::parse(header(request, payload.len()), payload, fds(fd_count))
}

fn problem(request: u32, payload: &[u8], fd_count: usize) -> MessageProblem {
    let (watchers, fds) = watched(fd_count);
    let error = Message::parse(header(request, payload.len()), payload, fds).unwrap_err();
    assert_eq!(error.request, request);
    for mut watcher in watchers {
        watcher.set_nonblocking(true).unwrap();
        assert_eq!(
            watcher.read(&mut [0]).unwrap(),
            0,
            "descriptors of refused messages are closed"
        );
    }
    error.problem
}

const REGION: Region = Region {
    guest_address: 1,
    bytes: 2,
    user_address: 3,
    file_offset: 4,
};

/// Every request that is served: number, payload, descriptors.
fn examples() -> Vec<(u32, Vec<u8>, usize)> {
    let mut table = words(&[2, 0]);
    table.extend(region_bytes(REGION));
    table.extend(region_bytes(REGION));
    let mut single = longs(&[0]);
    single.extend(region_bytes(REGION));
    let mut addresses = words(&[1, 1]);
    addresses.extend(longs(&[0x10, 0x20, 0x30, 0x40]));
    let mut config = words(&[32, 1, 0]);
    config.push(1);
    let mut inflight = longs(&[4096, 0]);
    inflight.extend(words(&[2 | 128 << 16, 0]));
    vec![
        (request::GET_FEATURES, vec![], 0),
        (request::SET_FEATURES, longs(&[7]), 0),
        (request::SET_OWNER, vec![], 0),
        (request::RESET_OWNER, vec![], 0),
        (request::SET_MEM_TABLE, table, 2),
        (request::SET_LOG_BASE, longs(&[4096, 0]), 1),
        (request::SET_LOG_FD, vec![], 1),
        (request::SET_VRING_NUM, words(&[0, 128]), 0),
        (request::SET_VRING_ADDR, addresses, 0),
        (request::SET_VRING_BASE, words(&[0, 5]), 0),
        (request::GET_VRING_BASE, words(&[0, 0]), 0),
        (request::SET_VRING_KICK, longs(&[1]), 1),
        (request::SET_VRING_CALL, longs(&[1]), 1),
        (request::SET_VRING_ERR, longs(&[1]), 1),
        (request::GET_PROTOCOL_FEATURES, vec![], 0),
        (request::SET_PROTOCOL_FEATURES, longs(&[1]), 0),
        (request::GET_QUEUE_NUM, vec![], 0),
        (request::SET_VRING_ENABLE, words(&[0, 1]), 0),
        (request::SET_BACKEND_REQ_FD, vec![], 1),
        (request::GET_CONFIG, config.clone(), 0),
        (request::SET_CONFIG, config, 0),
        (request::GET_INFLIGHT_FD, inflight.clone(), 0),
        (request::SET_INFLIGHT_FD, inflight, 1),
        (request::RESET_DEVICE, vec![], 0),
        (request::GET_MAX_MEM_SLOTS, vec![], 0),
        (request::ADD_MEM_REG, single.clone(), 1),
        (request::REM_MEM_REG, single, 0),
    ]
}

#[test]
fn a_header_is_twelve_bytes_and_is_checked() {
    let parse = |words: [u32; 3]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        MessageHeader::parse(<[u8; HEADER_BYTES]>::try_from(bytes).unwrap())
    };
    assert_eq!(parse([2, 1, 8]), Ok(header(2, 8)));
    assert_eq!(
        parse([2, 9, 8]),
        Ok(MessageHeader {
            need_reply: true,
            ..header(2, 8)
        })
    );
    let refused = |words| parse(words).unwrap_err().problem;
    assert_eq!(refused([2, 0, 8]), MessageProblem::Version { version: 0 });
    assert_eq!(refused([2, 2, 8]), MessageProblem::Version { version: 2 });
    assert_eq!(refused([2, 5, 8]), MessageProblem::UnexpectedReply);
    let bytes = PAYLOAD_BYTES_MAX as u32 + 1;
    assert_eq!(refused([2, 1, bytes]), MessageProblem::PayloadTooLong { bytes });
    assert_eq!(
        refused([2, 1, u32::MAX]),
        MessageProblem::PayloadTooLong { bytes: u32::MAX }
    );
}

#[test]
fn every_request_is_recognised_by_its_number() {
    for (request, payload, fds) in examples() {
        let message = parse(request, &payload, fds).unwrap();
        assert_eq!(message.request(), request);
        assert_eq!(Some(message.name()), request::name(request));
    }
}

#[test]
fn fields_are_where_the_protocol_puts_them() {
    let by_number = |number| {
        let (request, payload, fds) = examples()
            .into_iter()
            .find(|(request, ..)| *request == number)
            .unwrap();
        parse(request, &payload, fds).unwrap()
    };
    match by_number(request::SET_MEM_TABLE) {
        Message::SetMemTable(table) => {
            assert!(table.len() == 2 && table.iter().all(|(region, _)| *region == REGION));
        }
        other => panic!("{other:?}"),
    }
    match by_number(request::SET_VRING_ADDR) {
        Message::SetVringAddr(addresses) => assert_eq!(
            addresses,
            VringAddresses {
                index: 1,
                log: true,
                descriptors: 0x10,
                used: 0x20,
                available: 0x30,
                log_guest_address: 0x40
            }
        ),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        by_number(request::SET_VRING_BASE),
        Message::SetVringBase(VringState { index: 0, value: 5 })
    ));
    assert!(matches!(
        by_number(request::GET_CONFIG),
        Message::GetConfig {
            offset: 32,
            bytes: 1,
            flags: 0
        }
    ));
    assert!(matches!(
        by_number(request::SET_INFLIGHT_FD),
        Message::SetInflightFd {
            bytes: 4096,
            file_offset: 0,
            queues: 2,
            queue_size: 128,
            ..
        }
    ));
    match by_number(request::SET_CONFIG) {
        Message::SetConfig { offset: 32, data, .. } => assert_eq!(data, [1]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_request_is_refused_with_a_byte_or_a_descriptor_too_many_or_too_few() {
    for (request, payload, fds) in examples() {
        let mut longer = payload.clone();
        longer.push(0);
        let wrong_size = |problem| matches!(problem, MessageProblem::PayloadSize { .. });
        assert!(wrong_size(problem(request, &longer, fds)), "{request}");
        if !payload.is_empty() {
            assert!(
                wrong_size(problem(request, &payload[..payload.len() - 1], fds)),
                "{request}"
            );
            assert!(wrong_size(problem(request, &[], fds)), "{request}");
        }
        // Old front-ends send a descriptor with REM_MEM_REG, which is closed.
        let surplus = if request == request::REM_MEM_REG {
            2
        } else {
            fds + 1
        };
        assert!(
            matches!(problem(request, &payload, surplus), MessageProblem::Fds { .. }),
            "{request}"
        );
        if fds > 0 {
            assert!(
                matches!(problem(request, &payload, fds - 1), MessageProblem::Fds { .. }),
                "{request}"
            );
        }
    }
}

#[test]
fn a_ring_without_a_descriptor_says_so_by_a_bit() {
    assert!(matches!(
        parse(request::SET_VRING_CALL, &longs(&[0x103]), 0).unwrap(),
        Message::SetVringCall(call) if call.index == 3 && call.fd.is_none()
    ));
    assert_eq!(
        problem(request::SET_VRING_CALL, &longs(&[0x103]), 1),
        MessageProblem::Fds {
            expected: 0,
            count: 1
        }
    );
    assert_eq!(
        problem(request::SET_VRING_KICK, &longs(&[0x203]), 1),
        MessageProblem::ReservedBits { value: 0x203 }
    );
}

#[test]
fn flags_counts_and_pieces_are_bounded() {
    assert_eq!(
        problem(request::SET_VRING_ENABLE, &words(&[0, 2]), 0),
        MessageProblem::Flag { value: 2 }
    );
    let many = FDS_MAX as u32 + 1;
    assert_eq!(
        problem(request::SET_MEM_TABLE, &words(&[many, 0]), 0),
        MessageProblem::Regions { count: many }
    );
    assert_eq!(
        problem(request::SET_MEM_TABLE, &words(&[u32::MAX, 0]), 0),
        MessageProblem::Regions { count: u32::MAX }
    );
    assert_eq!(
        problem(request::GET_CONFIG, &words(&[0, 257, 0]), 0),
        MessageProblem::ConfigSize { bytes: 257 }
    );
    assert_eq!(
        problem(request::GET_CONFIG, &words(&[0, u32::MAX, 0]), 0),
        MessageProblem::ConfigSize { bytes: u32::MAX }
    );
    let mut addresses = words(&[0, 2]);
    addresses.extend(longs(&[0; 4]));
    assert_eq!(
        problem(request::SET_VRING_ADDR, &addresses, 0),
        MessageProblem::ReservedBits { value: 2 }
    );
}

#[test]
fn what_is_not_offered_can_be_refused_and_the_rest_not() {
    let refusable = |number| parse(number, &[], 0).unwrap_err().can_be_refused();
    for number in [
        request::IOTLB_MSG,
        request::POSTCOPY_ADVISE,
        request::SET_STATUS,
        0,
        44,
        u32::MAX,
    ] {
        assert!(refusable(number), "{number}");
    }
    assert!(!refusable(request::SET_FEATURES));
    let unknown = parse(44, &[], 0).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "request 44: the protocol has no such request"
    );
}

#[test]
fn replies_have_these_bytes() {
    let number = Reply::number(request::GET_QUEUE_NUM, 2);
    assert_eq!(
        number.bytes,
        [17, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
    );
    let state = Reply::vring_state(
        request::GET_VRING_BASE,
        VringState {
            index: 1,
            value: 0x102,
        },
    );
    assert_eq!(
        state.bytes,
        [11, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0]
    );
    let config = Reply::config(request::GET_CONFIG, 32, 0, &[1]);
    assert_eq!(config.bytes[..12], [24, 0, 0, 0, 5, 0, 0, 0, 13, 0, 0, 0]);
    assert_eq!(config.bytes[12..], [32, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    for size in [20, 24] {
        let fd = fds(1).pop().unwrap();
        let inflight = Reply::inflight(request::GET_INFLIGHT_FD, 0x1000, 2, 128, fd, size);
        assert_eq!(inflight.bytes[8..12], (size as u32).to_le_bytes());
        assert_eq!(inflight.bytes[12..20], 0x1000u64.to_le_bytes());
        assert_eq!(inflight.bytes[20..28], [0; 8]);
        assert_eq!(inflight.bytes[28..32], [2, 0, 128, 0]);
        assert_eq!(inflight.bytes.len(), 12 + size);
        assert!(inflight.fd.is_some());
    }
    assert_eq!(config_changed_message(), [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
}
