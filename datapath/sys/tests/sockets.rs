//! Frames over connections: in order, urgent ones ahead, in pieces, to where they land, and no byte anywhere else.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Devices, Fault, Lease, Mapped};
use palisade_forward::{FrameBody, FrameLinks, LinkEnd, LinkEvent, LinkPlace, OutFrame};
use palisade_port::Payload;
use palisade_sys::SocketConnection;
use palisade_sys::local::{RECEIVED_BYTES_MAX, TURN_FRAMES_MAX};
use palisade_wire::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, HELLO_BYTES};
use rig::ends::{End, LINK, bytes_of, header, is_arrived, is_broken, is_heard, is_sent, narrow, tcp, unix};
use rig::{Buffer, until};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

const SIZES: [usize; 8] = [0, 1, 64, 4096, 100, 128 << 10, 1 << 20, 777];

#[test]
fn frames_come_in_the_order_in_which_they_were_sent_both_ways() {
    for (connect, deferred) in [
        (unix as fn() -> _, true),
        (unix, false),
        (tcp, true),
        (tcp, false),
    ] {
        let (one, other) = connect();
        let mut ends = [End::new(deferred), End::new(deferred)];
        ends[0].devices.attach(LINK, SocketConnection::new(one)).unwrap();
        ends[1]
            .devices
            .attach(LINK, SocketConnection::new(other))
            .unwrap();
        for end in &mut ends {
            end.buffer.fill(0, 1 << 20, 7);
            end.landing = vec![end.buffer.segment(4 << 20, 1 << 20)];
        }
        let mut checked = [0; 2];
        const COUNT: usize = 48;
        for sequence in 0..COUNT {
            for end in &mut ends {
                end.send(end.frame(sequence as u64, 0, SIZES[sequence % SIZES.len()]));
            }
        }
        until(|| {
            for (end, checked) in ends.iter_mut().zip(&mut checked) {
                end.devices.submit();
                end.devices.reap(|_, _| {});
                while end.tell() {
                    let Some(LinkEvent::Arrived { header, landed, .. }) = end.events.last().copied() else {
                        continue;
                    };
                    let bytes = SIZES[*checked % SIZES.len()];
                    assert_eq!(
                        (header.sequence, header.payload_bytes),
                        (*checked as u64, bytes as u32)
                    );
                    assert_eq!(landed, Ok(()));
                    assert!(end.buffer.holds(4 << 20, bytes, 7), "frame {checked}");
                    end.buffer.fill(4 << 20, bytes, 9);
                    *checked += 1;
                }
            }
            checked == [COUNT; 2]
                && ends
                    .iter()
                    .all(|end| end.events.iter().filter(|event| is_sent(event)).count() == COUNT)
        });
        for end in &ends {
            let told = end.events.iter().filter_map(|event| match event {
                LinkEvent::Sent { link, bytes, payload } => Some((*link, *bytes, *payload)),
                LinkEvent::Broken { end, .. } => panic!("{end}"),
                _ => None,
            });
            for (sequence, sent) in told.enumerate() {
                let bytes = FRAME_HEADER_BYTES + SIZES[sequence % SIZES.len()];
                let key = sequence as u64;
                assert_eq!(sent, (LINK, bytes as u64, Payload::Answer { key }));
            }
        }
    }
}

/// The sequence numbers of frames that come to a plain socket, with their payloads checked against what they were filled with.
fn read_frames(stream: &mut UnixStream, count: usize, seed: u8) -> Vec<u64> {
    let mut check = Buffer::new(1 << 20);
    (0..count)
        .map(|_| {
            let mut head = [0; FRAME_HEADER_BYTES];
            stream.read_exact(&mut head).unwrap();
            let header = FrameHeader::decode(&head).unwrap();
            let bytes = header.payload_bytes as usize;
            stream.read_exact(&mut check.slice()[..bytes]).unwrap();
            assert!(check.holds(0, bytes, seed), "frame {}", header.sequence);
            let payload = &check.slice()[..bytes];
            assert_eq!(
                header.payload_crc,
                Some(palisade_wire::payload_checksum([payload]))
            );
            header.sequence
        })
        .collect()
}

#[test]
fn urgent_frames_go_ahead_of_those_of_which_no_byte_was_sent() {
    let (socket, mut other) = narrow();
    let mut end = End::on(socket);
    end.buffer.fill(0, 1 << 20, 5);
    end.send(end.frame(0, 0, 1 << 20));
    for sequence in 1..4 {
        end.send(end.frame(sequence, 0, 5000));
    }
    let urgent = |end: &End, sequence| OutFrame {
        is_urgent: true,
        ..end.frame(sequence, 0, 0)
    };
    end.turn();
    end.turn();
    // The first has begun, and the kernel has been offered the others: they are behind what is urgent all the same.
    end.send(urgent(&end, 10));
    end.send(urgent(&end, 11));
    let reader = std::thread::spawn(move || (read_frames(&mut other, 8, 5), other));
    end.until(6, is_sent);
    // Nothing has begun.
    end.send(end.frame(20, 0, 5000));
    end.send(urgent(&end, 21));
    end.until(8, is_sent);
    let (order, _other) = reader.join().unwrap();
    assert_eq!(order, [0, 10, 11, 1, 2, 3, 21, 20]);
}

#[test]
fn what_the_kernel_has_not_taken_is_sent_from_where_it_stopped() {
    const COUNT: u64 = 60;
    let (socket, mut other) = narrow();
    let mut end = End::on(socket);
    end.buffer.fill(0, 1 << 20, 5);
    let bytes = |sequence| match SIZES[sequence as usize % SIZES.len()] {
        // Each 4 KiB of it costs two changes of threads.
        0x10_0000 if sequence > 10 => 3000,
        bytes => bytes,
    };
    for sequence in 0..COUNT {
        end.send(end.frame(sequence, 0, bytes(sequence)));
    }
    let reader = std::thread::spawn(move || (read_frames(&mut other, COUNT as usize, 5), other));
    end.until(COUNT as usize, is_sent);
    let (order, _other) = reader.join().unwrap();
    assert_eq!(order, (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn a_payload_lands_in_its_segments_however_it_comes() {
    let payload: Vec<u8> = (0..50_000u32).map(|at| ((at * 31) >> 3) as u8).collect();
    for step in [1, 63, 64, 65, 1000, 60_000] {
        let (socket, other) = UnixStream::pair().unwrap();
        let (mut end, mut other) = (End::on(socket), other);
        let cuts = [(100, 7), (5000, 1), (6000, 30_000), (40_000, 20_000)];
        end.landing = cuts
            .iter()
            .map(|&(at, bytes)| end.buffer.segment(at, bytes))
            .collect();
        end.buffer.slice().fill(0xee);
        let payload = if step == 1 { &payload[..3000] } else { &payload[..] };
        let bytes = bytes_of(1, payload);
        for piece in bytes.chunks(step) {
            other.write_all(piece).unwrap();
            end.turn();
        }
        end.until(1, is_arrived);
        let (mut left, mut expected) = (payload, vec![0xee; 70_000]);
        for (at, bytes) in cuts {
            let (piece, rest) = left.split_at(bytes.min(left.len()));
            expected[at..at + piece.len()].copy_from_slice(piece);
            left = rest;
        }
        assert!(left.is_empty());
        assert!(end.buffer.slice()[..70_000] == expected[..], "in steps of {step}");
        if step == 1000 {
            assert!(
                end.events.iter().any(is_heard),
                "bytes that end no frame are heard"
            );
        }
    }
}

#[derive(Debug)]
struct Map(memmap2::MmapMut);

// SAFETY: the mapping is unmapped when this is dropped, and used by address alone.
unsafe impl Mapped for Map {
    fn ranges(&self) -> Vec<(usize, usize)> {
        vec![(self.0.as_ptr().expose_provenance(), self.0.len())]
    }

    fn lacking_page_bytes(&self) -> Option<usize> {
        Some(4096)
    }
}

/// Memory of which the second page is not there.
fn lacking() -> Lease {
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.set_len(4096).unwrap();
    // SAFETY: the file is the test's own and is not changed from outside.
    let map = unsafe { memmap2::MmapOptions::new().len(8192).map_mut(&file).unwrap() };
    Lease::of(Arc::new(Map(map)))
}

#[test]
fn a_guests_memory_that_has_gone_costs_its_payload_and_not_the_connection() {
    let (socket, other) = UnixStream::pair().unwrap();
    let (mut end, mut other) = (End::on(socket), other);
    let lease = lacking();
    let usual = end.memory;
    let guest = end.devices.keep(&lease);
    end.memory = guest;
    end.landing = vec![lease.segment(lease.regions()[0].address(), 8192).unwrap()];
    // Once whole and once in two pieces, of which the first finds its page.
    let bytes = bytes_of(1, &[7; 8192]);
    other.write_all(&bytes).unwrap();
    end.until(1, is_arrived);
    other.write_all(&bytes[..1000]).unwrap();
    end.until(1, is_heard);
    other.write_all(&bytes[1000..]).unwrap();
    end.until(2, is_arrived);
    end.memory = usual;
    end.landing = vec![end.buffer.segment(0, 100)];
    other.write_all(&bytes_of(2, &[8; 100])).unwrap();
    end.until(3, is_arrived);
    let landed: Vec<_> = end
        .events
        .iter()
        .filter_map(|event| match event {
            LinkEvent::Arrived { landed, .. } => Some(*landed),
            _ => None,
        })
        .collect();
    assert_eq!(landed, [Err(Fault::GuestMemory), Err(Fault::GuestMemory), Ok(())]);
    assert_eq!(end.buffer.slice()[..100], [8; 100]);
    // The first bytes of the second one found their page.
    let page = lease.segment(lease.regions()[0].address(), 4096).unwrap();
    let to = end.buffer.segment(4096, 4096);
    assert_eq!(end.devices.copy((guest, &[page]), (usual, to)), Ok(()));
    assert_eq!(end.buffer.slice()[4096..4096 + 900], [7; 900]);
    end.devices.let_go(guest);
}

#[test]
fn copies_are_whole_and_say_what_is_not_there() {
    let mut end = End::new(true);
    let lease = lacking();
    let guest = end.devices.keep(&lease);
    let memory = end.memory;
    end.buffer.fill(0, 1000, 3);
    let from = [end.buffer.segment(0, 300), end.buffer.segment(300, 700)];
    let to = end.buffer.segment(9000, 1000);
    assert_eq!(end.devices.copy((memory, &from), (memory, to)), Ok(()));
    assert!(end.buffer.holds(9000, 1000, 3));
    // Over itself, too.
    let (from, to) = ([end.buffer.segment(9000, 1000)], end.buffer.segment(9100, 1000));
    assert_eq!(end.devices.copy((memory, &from), (memory, to)), Ok(()));
    assert!(end.buffer.holds(9100, 1000, 3));
    let absent = lease.regions()[0].part(4000, 1000).unwrap();
    let to = end.buffer.segment(0, 1000);
    assert_eq!(
        end.devices.copy((guest, &[absent]), (memory, to)),
        Err(Fault::GuestMemory)
    );
}

/// The end of a connection by which so many bytes came, and the sequence numbers that arrived before.
fn ends_after(bytes: &[u8]) -> (LinkEnd, Vec<u64>) {
    let (socket, other) = UnixStream::pair().unwrap();
    let (mut end, mut other) = (End::on(socket), other);
    other.write_all(bytes).unwrap();
    end.until(1, is_broken);
    let frames = end.arrived().iter().map(|header| header.sequence).collect();
    let events = end.events.len();
    // Nothing more is told, whatever comes, nor taken.
    other.write_all(&bytes_of(77, &[])).unwrap();
    end.send(end.frame(5, 0, 100));
    (0..10).for_each(|_| end.turn());
    assert_eq!(end.events.len(), events);
    match end.events.last() {
        Some(LinkEvent::Broken { link: LINK, end }) => (*end, frames),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_frame_breaks_its_connection_and_those_before_it_count() {
    let mut bytes = bytes_of(1, &[1; 100]);
    let second = bytes.len();
    bytes.extend(bytes_of(2, &[2; 100]));
    bytes.extend(bytes_of(3, &[3; 100]));
    for bit in [0, 100, 8 * 63] {
        let mut damaged = bytes.clone();
        damaged[second + bit / 8] ^= 1 << (bit % 8);
        let (end, frames) = ends_after(&damaged);
        assert!(matches!(end, LinkEnd::NoFrame(_)), "{end}");
        assert_eq!(frames, [1]);
    }
    let mut damaged = bytes.clone();
    damaged[second + FRAME_HEADER_BYTES + 99] ^= 4;
    let (end, frames) = ends_after(&damaged);
    assert!(matches!(end, LinkEnd::BadPayload { bytes: 100, stored, computed } if stored != computed));
    assert_eq!(frames, [1]);
}

#[test]
fn a_greeting_comes_whole_and_a_damaged_one_does_not() {
    let (one, other) = unix();
    let (mut here, mut there) = (End::on(one), End::on(other));
    for (kind, bytes) in [
        (FrameKind::Hello, HELLO_BYTES),
        (FrameKind::Welcome, HELLO_BYTES),
        (FrameKind::Refused, palisade_wire::REFUSAL_BYTES),
    ] {
        let mut body = [0; HELLO_BYTES];
        body[..bytes].fill(bytes as u8 ^ kind as u8);
        here.events.clear();
        there.send(OutFrame {
            header: FrameHeader {
                payload_bytes: bytes as u32,
                ..FrameHeader::of(kind)
            },
            body: FrameBody::Greeting(body),
            payload: Payload::None,
            is_urgent: false,
        });
        there.turn();
        here.until(1, |event| matches!(event, LinkEvent::Greeting { .. }));
        let Some(LinkEvent::Greeting {
            header, body: came, ..
        }) = here.events.last()
        else {
            panic!("{:?}", here.events);
        };
        assert_eq!((header.kind, &came[..bytes]), (kind, &body[..bytes]));
        assert_eq!(here.events.len(), 1, "no header is told of it");
    }
    let mut bytes = FrameHeader {
        payload_bytes: HELLO_BYTES as u32,
        payload_crc: Some(1),
        ..FrameHeader::of(FrameKind::Hello)
    }
    .encode()
    .to_vec();
    bytes.extend([0; HELLO_BYTES]);
    assert!(matches!(ends_after(&bytes).0, LinkEnd::BadPayload { .. }));
}

#[test]
fn nothing_of_a_payload_is_written_once_it_is_diverted() {
    let (socket, other) = UnixStream::pair().unwrap();
    let (mut end, mut other) = (End::on(socket), other);
    end.landing = vec![end.buffer.segment(0, 3000), end.buffer.segment(3000, 7000)];
    end.buffer.slice().fill(0xee);
    let bytes = bytes_of(1, &[7; 10_000]);
    let (first, rest) = bytes.split_at(FRAME_HEADER_BYTES + 2000);
    other.write_all(first).unwrap();
    end.until(1, is_heard);
    end.devices.divert(LINK);
    let memory = end.memory;
    other.write_all(rest).unwrap();
    end.until(1, is_arrived);
    assert_eq!(end.buffer.slice()[..2000], [7; 2000]);
    assert!(end.buffer.slice()[2000..10_000].iter().all(|&byte| byte == 0xee));
    assert!(matches!(
        end.events.last(),
        Some(LinkEvent::Arrived { landed: Ok(()), .. })
    ));
    // And where it is diverted, or nothing is said, before any of it has been put there.
    end.buffer.slice().fill(0xee);
    other.write_all(&bytes).unwrap();
    until(|| {
        end.devices.submit();
        end.devices.reap(|_, _| {});
        end.tell() && matches!(end.events.last(), Some(LinkEvent::Header { .. }))
    });
    end.devices.divert(LINK);
    end.until(2, is_arrived);
    assert!(end.buffer.slice()[..10_000].iter().all(|&byte| byte == 0xee));
    // The memory is nobody's any more.
    end.devices.let_go(memory);
    end.memory = end.devices.keep(end.buffer.0.lease());
    end.landing.clear();
    other.write_all(&bytes).unwrap();
    end.until(3, is_arrived);
    // The frame after those lands again.
    end.landing = vec![end.buffer.segment(0, 16 << 10)];
    other.write_all(&bytes).unwrap();
    end.until(4, is_arrived);
    assert_eq!(end.buffer.slice()[..10_000], [7; 10_000]);
    assert!(
        end.buffer.slice()[10_000..20_000]
            .iter()
            .all(|&byte| byte == 0xee),
        "no more than came"
    );
}

#[test]
fn no_connection_fills_a_turn_and_none_is_forgotten() {
    const OTHER: LinkPlace = LinkPlace(9);
    let (socket, mut busy) = UnixStream::pair().unwrap();
    let mut end = End::on(socket);
    let (socket, mut calm) = UnixStream::pair().unwrap();
    end.devices.attach(OTHER, SocketConnection::new(socket)).unwrap();
    end.turn();
    const COUNT: usize = 1000;
    let frames: Vec<u8> = (0..COUNT).flat_map(|at| bytes_of(at as u64, &[1; 10])).collect();
    busy.write_all(&frames).unwrap();
    calm.write_all(&bytes_of(5, &[])).unwrap();
    let (mut turns, mut seen) = (0, 0);
    while end.arrived().len() <= COUNT {
        if end.events.is_empty() || !end.devices.arm_wakeup() {
            // All of it has come at once: nothing is to be waited for any more.
            assert!(
                end.events.is_empty(),
                "{} of {COUNT} have come",
                end.arrived().len()
            );
            end.devices.sleep(None).unwrap();
        }
        end.devices.disarm_wakeup();
        end.turn();
        turns += 1;
        let told = end.events.len() - seen;
        assert!(told <= 2 * TURN_FRAMES_MAX as usize, "{told} events in one turn");
        seen = end.events.len();
        if turns == 1 {
            let of_other = |event: &LinkEvent| matches!(event, LinkEvent::Arrived { link: OTHER, .. });
            assert!(end.events.iter().any(of_other), "a calm one waits for a busy one");
        }
    }
    assert!(turns >= 2 * COUNT / TURN_FRAMES_MAX as usize, "{turns} turns");
    let busy: Vec<_> = end
        .arrived()
        .into_iter()
        .filter(|header| header.payload_bytes == 10)
        .collect();
    assert!(busy.iter().zip(0..).all(|(header, at)| header.sequence == at));
}

#[test]
fn bytes_that_were_read_before_are_the_first() {
    let (socket, other) = UnixStream::pair().unwrap();
    let (mut end, mut other) = (End::new(true), other);
    let bytes: Vec<u8> = (0..3).flat_map(|at| bytes_of(at, &[at as u8; 200])).collect();
    let (read, rest) = bytes.split_at(300);
    let connection = SocketConnection::new(socket).with_read(read.to_vec());
    end.devices.attach(LINK, connection).unwrap();
    assert!(end.devices.arm_wakeup(), "there is something to tell");
    end.devices.disarm_wakeup();
    end.turn();
    assert_eq!(end.arrived().len(), 1);
    other.write_all(rest).unwrap();
    end.until(3, is_arrived);
    assert!(
        end.arrived()
            .iter()
            .zip(0..)
            .all(|(header, at)| header.sequence == at)
    );
    let too_much = SocketConnection::new(other).with_read(vec![0; RECEIVED_BYTES_MAX + 1]);
    assert!(end.devices.attach(LinkPlace(0), too_much).is_err());
}

#[test]
fn a_frame_more_than_there_are_places_for_breaks_the_connection() {
    let (socket, _other) = UnixStream::pair().unwrap();
    let mut end = End::new(true);
    let connection = SocketConnection::new(socket).with_queued_frames(4);
    end.devices.attach(LINK, connection).unwrap();
    // Places come free as frames are told to be sent.
    for round in 0..5 {
        for sequence in 0..4 {
            end.send(end.frame(sequence, 0, 10));
        }
        end.until(4 * (round + 1), is_sent);
    }
    for sequence in 0..5 {
        end.send(end.frame(sequence, 0, 10));
    }
    end.until(1, is_broken);
    let full = LinkEnd::Failed { errno: libc::ENOBUFS };
    assert_eq!(
        end.events.last(),
        Some(&LinkEvent::Broken {
            link: LINK,
            end: full
        })
    );
}

#[test]
fn memory_without_a_page_is_not_sent_from() {
    let (socket, _other) = UnixStream::pair().unwrap();
    let mut end = End::on(socket);
    let lease = lacking();
    let memory = end.devices.keep(&lease);
    let segment = lease.regions()[0];
    end.send(OutFrame {
        header: header(1, 8192),
        body: FrameBody::Memory { memory, segment },
        payload: Payload::None,
        is_urgent: false,
    });
    end.until(1, is_broken);
    let absent = LinkEnd::Failed { errno: libc::EFAULT };
    assert_eq!(
        end.events.last(),
        Some(&LinkEvent::Broken {
            link: LINK,
            end: absent
        })
    );
}

#[test]
#[should_panic(expected = "lies outside")]
fn a_frame_from_memory_that_is_not_kept_stops_us() {
    let (socket, _other) = UnixStream::pair().unwrap();
    let mut end = End::on(socket);
    let foreign = Buffer::new(4096);
    let body = FrameBody::Memory {
        memory: end.memory,
        segment: foreign.segment(0, 100),
    };
    end.send(OutFrame {
        body,
        ..end.frame(1, 0, 100)
    });
}

#[test]
#[should_panic(expected = "is to land in 99")]
fn a_payload_that_does_not_fit_where_it_is_to_land_stops_us() {
    let (socket, mut other) = UnixStream::pair().unwrap();
    let mut end = End::on(socket);
    end.landing = vec![end.buffer.segment(0, 99)];
    other.write_all(&bytes_of(1, &[0; 100])).unwrap();
    end.until(1, is_arrived);
}

#[test]
#[should_panic(expected = "let go of")]
fn memory_in_which_a_payload_is_landing_is_not_let_go_of() {
    let (socket, mut other) = UnixStream::pair().unwrap();
    let mut end = End::on(socket);
    end.landing = vec![end.buffer.segment(0, 1000)];
    other.write_all(&bytes_of(1, &[0; 1000])[..500]).unwrap();
    end.until(1, is_heard);
    end.devices.let_go(end.memory);
}

#[test]
#[should_panic(expected = "let go of")]
fn memory_from_which_a_frame_is_to_be_sent_is_not_let_go_of() {
    let (socket, _other) = UnixStream::pair().unwrap();
    let mut end = End::on(socket);
    end.send(end.frame(1, 0, 1000));
    end.devices.let_go(end.memory);
}

/// A turn may end between the header of a frame and its end: what has come is told all the same, though nothing more comes.
#[test]
fn what_has_come_is_told_whenever_the_next_turn_begins() {
    let (socket, mut other) = UnixStream::pair().unwrap();
    let mut end = End::on(socket);
    let sizes = [5, 0, 0, 100, 0];
    let frames: Vec<u8> = sizes
        .iter()
        .flat_map(|&bytes| bytes_of(bytes as u64, &[1; 100][..bytes]))
        .collect();
    other.write_all(&frames).unwrap();
    until(|| {
        end.devices.submit();
        end.devices.reap(|_, _| {});
        // Each turn hands something over for the connection.
        end.send(end.frame(0, 0, 0));
        end.tell();
        end.arrived().len() == sizes.len()
    });
    assert!(
        end.arrived()
            .iter()
            .zip(sizes)
            .all(|(header, bytes)| header.sequence == bytes as u64)
    );
}
