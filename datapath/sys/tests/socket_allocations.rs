//! Connections that carry frames allocate nothing: sending, receiving, breaking, closing. Taking one into use does.

#![cfg(test)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_forward::{FrameLinks, LinkEvent, OutFrame};
use palisade_sys::SocketConnection;
use palisade_sys::counting_allocator::{CountingAllocator, counted};
use rig::ends::{End, LINK, is_closed, tcp};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Carries frames both ways, loses one end, and closes both.
fn carry(ends: &mut [End; 2]) -> u64 {
    let ((), allocations) = counted(|| {
        for round in 0..200u64 {
            for end in ends.iter_mut() {
                for at in 0..20 {
                    let frame = end.frame(round, 0, [0, 4096, 100, 64 << 10][at % 4]);
                    let is_urgent = at % 7 == 0;
                    end.send(OutFrame { is_urgent, ..frame });
                }
            }
            let mut arrived = 0;
            while arrived < 40 {
                for end in ends.iter_mut() {
                    end.events.clear();
                    end.turn();
                    let of_it = |event: &&LinkEvent| matches!(event, LinkEvent::Arrived { .. });
                    arrived += end.events.iter().filter(of_it).count();
                }
            }
        }
        ends[0].close();
        while !ends[0].events.iter().any(is_closed) {
            ends[0].turn();
        }
        while !ends[1]
            .events
            .iter()
            .any(|event| matches!(event, LinkEvent::Broken { .. }))
        {
            ends[1].turn();
        }
        ends[1].close();
        while !ends[1].events.iter().any(is_closed) {
            ends[1].turn();
        }
    });
    allocations
}

#[test]
fn connections_allocate_nothing_while_they_carry_frames() {
    for deferred in [true, false] {
        let mut ends = [End::new(deferred), End::new(deferred)];
        for round in 0..3 {
            let (one, other) = tcp();
            let ((), allocations) = counted(|| {
                ends[0].devices.attach(LINK, SocketConnection::new(one)).unwrap();
            });
            assert_eq!(
                allocations > 0,
                round == 0,
                "a place has what it needs from its first connection"
            );
            ends[1]
                .devices
                .attach(LINK, SocketConnection::new(other))
                .unwrap();
            for end in &mut ends {
                end.landing = vec![
                    end.buffer.segment(4 << 20, 64 << 10),
                    end.buffer.segment(5 << 20, 64 << 10),
                ];
                end.events.clear();
                end.events.reserve(10_000);
            }
            assert_eq!(carry(&mut ends), 0);
        }
    }
    assert_eq!(counted(|| drop(vec![0u8; 100])).1, 1, "the counter counts");
}
