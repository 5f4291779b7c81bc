//! Connections that end: by the other end, by ours, by dropping the devices; and reactors that sleep meanwhile.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::Devices;
use palisade_forward::{FrameLinks, LinkEnd, LinkEvent, LinkPlace};
use palisade_sys::SocketConnection;
use palisade_wire::FRAME_HEADER_BYTES;
use rig::ends::{
    End, LINK, bytes_of, is_arrived, is_broken, is_closed, is_heard, is_sent, narrow, tcp, unix,
};
use rig::until;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

/// How a connection on which so much came has ended, and how many frames had arrived.
fn ends_when_the_other_goes(bytes: &[u8]) -> (LinkEnd, usize) {
    let (socket, mut other) = UnixStream::pair().unwrap();
    let mut end = End::on(socket);
    other.write_all(bytes).unwrap();
    drop(other);
    end.until(1, is_broken);
    match end.events.last() {
        Some(LinkEvent::Broken { end: why, .. }) => (*why, end.arrived().len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_came_before_the_other_end_went_counts() {
    let bytes = [bytes_of(1, &[1; 100]), bytes_of(2, &[2; 100])].concat();
    assert_eq!(ends_when_the_other_goes(&bytes), (LinkEnd::Closed, 2));
    assert_eq!(
        ends_when_the_other_goes(&bytes[..bytes.len() - 1]),
        (LinkEnd::Closed, 1)
    );
    assert_eq!(ends_when_the_other_goes(&bytes[..10]), (LinkEnd::Closed, 0));
    assert_eq!(ends_when_the_other_goes(&[]), (LinkEnd::Closed, 0));
}

#[test]
fn a_connection_that_was_reset_says_so() {
    let (one, other) = tcp();
    let mut end = End::on(one);
    end.turn();
    // With data that was not read, closing resets.
    end.send(end.frame(1, 0, 100));
    end.until(1, is_sent);
    drop(other);
    end.until(1, is_broken);
    let reset = LinkEnd::Failed {
        errno: libc::ECONNRESET,
    };
    assert_eq!(
        end.events.last(),
        Some(&LinkEvent::Broken {
            link: LINK,
            end: reset
        })
    );
    // Sending by it is nothing, and it is closed as any other.
    end.send(end.frame(2, 0, 100));
    end.close();
    end.until(1, is_closed);
    assert_eq!(end.events.iter().filter(|event| is_sent(event)).count(), 1);
}

#[test]
fn what_cannot_be_sent_breaks_a_connection_on_which_nothing_comes() {
    let (socket, other) = UnixStream::pair().unwrap();
    let mut end = End::on(socket);
    end.turn();
    other.shutdown(std::net::Shutdown::Read).unwrap();
    end.send(end.frame(1, 0, 100));
    end.until(1, is_broken);
    let pipe = LinkEnd::Failed { errno: libc::EPIPE };
    assert_eq!(
        end.events.last(),
        Some(&LinkEvent::Broken {
            link: LINK,
            end: pipe
        })
    );
}

#[test]
fn a_connection_closed_while_a_payload_comes_writes_nothing_more() {
    for deferred in [true, false] {
        let (socket, mut other) = UnixStream::pair().unwrap();
        let mut end = End::new(deferred);
        end.devices.attach(LINK, SocketConnection::new(socket)).unwrap();
        end.landing = vec![end.buffer.segment(0, 10_000)];
        end.buffer.slice().fill(0xee);
        let bytes = bytes_of(1, &[7; 10_000]);
        let (first, rest) = bytes.split_at(FRAME_HEADER_BYTES + 2000);
        other.write_all(first).unwrap();
        end.until(1, is_heard);
        end.turn();
        end.close();
        end.close();
        // What lies in the socket by now is nobody's.
        let _ = other.write_all(rest);
        end.until(1, is_closed);
        end.devices.let_go(end.memory);
        (0..10).for_each(|_| end.turn());
        assert!(end.buffer.slice()[2000..10_000].iter().all(|&byte| byte == 0xee));
        assert_eq!(end.events.iter().filter(|event| is_closed(event)).count(), 1);
        assert_eq!(end.events.last(), Some(&LinkEvent::Closed { link: LINK }));
        // The other end hears of it.
        until(|| other.write_all(&[0]).is_err());
    }
}

#[test]
fn a_connection_closed_while_a_frame_goes_reads_nothing_more() {
    for deferred in [true, false] {
        let (socket, mut other) = narrow();
        let mut end = End::new(deferred);
        end.devices.attach(LINK, SocketConnection::new(socket)).unwrap();
        end.buffer.fill(0, 1 << 20, 5);
        for sequence in 0..5 {
            end.send(end.frame(sequence, 0, 1 << 20));
        }
        (0..10).for_each(|_| end.turn());
        assert!(!end.events.iter().any(is_sent), "the other end reads nothing");
        end.close();
        end.until(1, is_closed);
        // The frames' memory may be used otherwise, and let go of.
        end.buffer.slice()[..1 << 20].fill(0);
        end.devices.let_go(end.memory);
        let mut came = Vec::new();
        match other.read_to_end(&mut came) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert!(came.len() > FRAME_HEADER_BYTES && came.len() < 1 << 20);
        assert!(
            !came[FRAME_HEADER_BYTES..]
                .windows(20)
                .any(|bytes| bytes == [0; 20])
        );
    }
}

#[test]
fn what_is_of_no_use_is_not_attached() {
    let (socket, _other) = UnixDatagram::pair().unwrap();
    let mut end = End::new(true);
    let datagrams = end.devices.attach(LINK, SocketConnection::new(socket));
    assert_eq!(datagrams.unwrap_err().kind(), ErrorKind::InvalidInput);
    let file = OwnedFd::from(tempfile::tempfile().unwrap());
    let file = end.devices.attach(LINK, SocketConnection::new(file));
    assert_eq!(file.unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    let ((one, _other), (second, mut third)) = (unix(), UnixStream::pair().unwrap());
    end.devices.attach(LINK, SocketConnection::new(one)).unwrap();
    let taken = end.devices.attach(LINK, SocketConnection::new(second));
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(third.read(&mut [0]).unwrap(), 0, "it is closed");
    (0..10).for_each(|_| end.turn());
    assert_eq!(end.events, []);
}

/// Sockets that this process has open.
fn sockets() -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_socket = |path: std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    all.filter(|entry| is_socket(entry.path())).count()
}

/// Memory of this process that is its own, in bytes.
fn resident_bytes() -> u64 {
    let all = std::fs::read_to_string("/proc/self/statm").unwrap();
    all.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_thousand_connections_one_after_the_other_leave_nothing_behind() {
    for deferred in [true, false] {
        let mut end = End::new(deferred);
        let before = sockets();
        let mut resident = 0;
        for round in 0..1000u64 {
            let (socket, mut other) = UnixStream::pair().unwrap();
            end.devices.attach(LINK, SocketConnection::new(socket)).unwrap();
            end.events.clear();
            match round % 5 {
                // Closed with all outstanding that can be, with a frame half come, broken, broken with a frame half sent, and
                // before it was ever used.
                0 => {
                    (0..4).for_each(|at| end.send(end.frame(at, 0, 1 << 20)));
                    (0..3).for_each(|_| end.turn());
                }
                1 => {
                    other.write_all(&bytes_of(round, &[1; 5000])[..3000]).unwrap();
                    end.until(1, is_heard);
                }
                2 => {
                    other.write_all(&bytes_of(round, &[1; 5000])).unwrap();
                    end.until(1, is_arrived);
                    drop(other);
                    end.until(1, is_broken);
                }
                3 => {
                    (0..4).for_each(|at| end.send(end.frame(at, 0, 1 << 20)));
                    (0..3).for_each(|_| end.turn());
                    other.shutdown(std::net::Shutdown::Write).unwrap();
                    end.until(1, is_broken);
                }
                _ => {}
            }
            end.close();
            end.until(1, is_closed);
            if round == 100 {
                resident = resident_bytes();
            }
        }
        // The last descriptors are on their way.
        until(|| sockets() == before);
        let grown = resident_bytes().saturating_sub(resident);
        assert!(grown < 4 << 20, "{grown} bytes");
    }
}

#[test]
fn dropping_takes_back_what_is_outstanding() {
    for deferred in [true, false] {
        let (socket, mut other) = narrow();
        let mut end = End::new(deferred);
        end.devices.attach(LINK, SocketConnection::new(socket)).unwrap();
        let (second, mut silent) = UnixStream::pair().unwrap();
        end.devices
            .attach(LinkPlace(0), SocketConnection::new(second))
            .unwrap();
        end.send(end.frame(1, 0, 1 << 20));
        (0..5).for_each(|_| end.turn());
        let start = Instant::now();
        drop(end);
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "it waits for what does not come back"
        );
        assert_eq!(silent.read(&mut [0]).unwrap(), 0, "the descriptor is closed");
        let mut came = Vec::new();
        let _ = other.read_to_end(&mut came);
        assert!(came.len() < 1 << 20);
    }
}

/// So long no sleep of these tests may last: whoever sleeps longer was not woken.
const TOO_LONG: Duration = Duration::from_secs(4);

/// Turns with sleeps in between until so many events of a kind have come.
fn sleep_until(end: &mut End, count: usize, is_meant: impl Fn(&LinkEvent) -> bool) {
    loop {
        end.devices.hold();
        end.turn();
        if end.events.iter().filter(|event| is_meant(event)).count() >= count {
            return;
        }
        if !end.devices.arm_wakeup() {
            let start = Instant::now();
            end.devices.sleep(Some(2 * TOO_LONG)).unwrap();
            assert!(start.elapsed() < TOO_LONG, "nobody woke the sleeper");
        }
        end.devices.disarm_wakeup();
    }
}

/// Nothing is outstanding: a sleep lasts, but for some that are ended by what is told late.
fn comes_to_rest(end: &mut End) {
    let lasts = |_| {
        end.turn();
        let start = Instant::now();
        assert!(!end.devices.arm_wakeup());
        end.devices.sleep(Some(Duration::from_millis(50))).unwrap();
        end.devices.disarm_wakeup();
        start.elapsed() >= Duration::from_millis(45)
    };
    assert!((0..10).any(lasts), "each of 10 sleeps was ended by nothing");
}

#[test]
fn a_reactor_that_sleeps_is_woken_by_what_comes_and_by_what_can_go_on() {
    for deferred in [true, false] {
        for connect in [unix as fn() -> _, tcp] {
            let (one, other) = connect();
            let mut end = End::new(deferred);
            end.devices.attach(LINK, SocketConnection::new(one)).unwrap();
            end.buffer.fill(0, 1 << 20, 5);
            let peer = std::thread::spawn(move || {
                let mut other = UnixStream::from(other);
                for round in 0..60u64 {
                    if round % 10 == 0 {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    let bytes = bytes_of(round, &[round as u8; 500]);
                    let (first, rest) = bytes.split_at(round as usize);
                    other.write_all(first).unwrap();
                    other.write_all(rest).unwrap();
                    let mut answer = vec![0; FRAME_HEADER_BYTES + (8 << 10)];
                    other.read_exact(&mut answer).unwrap();
                }
                // More than the network takes at once: it can go on bit by bit.
                let mut left = 8 * (FRAME_HEADER_BYTES + (1 << 20));
                let mut piece = vec![0; 100_000];
                while left > 0 {
                    std::thread::sleep(Duration::from_micros(500));
                    left -= other.read(&mut piece).unwrap();
                }
                other
            });
            for round in 0..60 {
                sleep_until(&mut end, round + 1, is_arrived);
                end.send(end.frame(round as u64, 0, 8 << 10));
            }
            (0..8).for_each(|at| end.send(end.frame(at, 0, 1 << 20)));
            sleep_until(&mut end, 68, is_sent);
            let other = peer.join().unwrap();
            drop(other);
            sleep_until(&mut end, 1, is_broken);
            end.close();
            sleep_until(&mut end, 1, is_closed);
            comes_to_rest(&mut end);
        }
    }
}
