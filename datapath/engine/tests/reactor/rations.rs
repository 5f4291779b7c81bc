//! Requests of gibibytes: how much of them is begun in a turn, how much is in flight, how a limit paces them, and that
//! nobody waits for them but who asked.

use crate::bench_of::*;
use palisade_block::limits::{
    FLIGHT_BYTES_ALL, FLIGHT_BYTES_EACH, FLIGHT_BYTES_SHARED, FLIGHT_SHARED_FOR, PIECE_BYTES_MAX,
    TURN_BYTES_ALL, TURN_BYTES_EACH,
};
use palisade_block::mailbox::{Notice, Pace, ReactorChange, ReactorCommand};
use palisade_block::stats::{AttachmentStats, DeviceStats};
use palisade_block::*;
use palisade_engine::ReactorConfig;
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, Sectors, SlotIndex, VolumeIndex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// 3 GiB in sectors, and the device that has room for it.
const GIANT: u64 = 3 << 21;
const PIECE: u64 = PIECE_BYTES_MAX as u64;

/// A bed with room for many pieces, whose two devices are large; volume 0 is on the first, volume 1 on the second.
fn bed() -> Bed {
    let config = ReactorConfig {
        slots: 512,
        parts: 256,
        long: 64,
        watch_every: Nanos(u64::MAX / 2),
    };
    let mut bed = Bed::of(config, 2);
    for device in 0..2 {
        let limits = &mut bed.devices().limits[usize::from(device)];
        limits.sectors = Sectors(GIANT);
        limits.io_bytes_max = 128 << 20;
        add(&mut bed, device);
    }
    bed
}

/// Takes a device as it is now into use, for a volume of its own.
fn add(bed: &mut Bed, device: u16) {
    bed.reactor.apply(ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(device),
        stats: Arc::new(DeviceStats::default()),
        deadline: Nanos(u64::MAX / 2),
    });
    route(bed, device, 2);
}

fn route(bed: &mut Bed, device: u16, generation: u64) {
    let run = Run {
        volume: Lba(0),
        sectors: Sectors(GIANT),
        device: DeviceIndex(device),
        lba: Lba(0),
    };
    let generation = Generation(generation);
    bed.reactor.apply(ReactorChange::Resume {
        volume: VolumeIndex(device),
        route: Route::new(mapping_of(generation, Epoch(1)), vec![run]).expect("one run"),
    });
    bed.notices();
}

/// A request of 3 GiB, all of it in the same memory.
fn ask_giant(guest: &Script, head: u16) {
    guest.ask(head, Op::Read, 0, GIANT, data(GIANT));
}

fn turns(bed: &mut Bed, count: usize) {
    for _ in 0..count {
        bed.turn();
    }
}

/// Bytes started since the last call.
fn begun(bed: &mut Bed) -> u64 {
    bed.devices().seen.drain(..).map(|io| io.sectors * 512).sum()
}

#[test]
fn a_neighbour_is_served_in_the_turn_in_which_it_asks_beside_requests_of_gibibytes() {
    let mut bed = bed();
    bed.devices().at_once = Some(Ok(()));
    let giants: Vec<_> = (0..8).map(|queue| bed.attach(id(0, queue), |_| {})).collect();
    let neighbour = bed.attach(id(1, 0), |settings| settings.volume = Some(VolumeIndex(1)));
    for guest in &giants {
        (0..4).for_each(|head| ask_giant(guest, head));
    }
    for turn in 0..500u16 {
        neighbour.ask(turn, Op::Read, 0, 8, data(8));
        bed.turn();
        assert_eq!(neighbour.answers().last(), Some(&(turn, Status::Ok)));
        let bytes = begun(&mut bed);
        assert!(bytes <= TURN_BYTES_ALL + 4096, "{bytes} in one turn");
        assert!(bytes > TURN_BYTES_ALL - PIECE, "{bytes} in one turn");
    }
    assert!(
        giants.iter().all(|guest| guest.0.borrow().waiting.len() == 3),
        "one of each at a time"
    );
    bed.reactor.abandon();
}

#[test]
fn requests_of_gibibytes_take_turns() {
    let mut bed = bed();
    bed.devices().at_once = Some(Ok(()));
    let count = 6;
    let giants: Vec<_> = (0..count).map(|queue| bed.attach(id(0, queue), |_| {})).collect();
    let sectors = 6 << 11;
    // Each reads elsewhere, so that it can be told what was begun for whom.
    for (number, guest) in (0..).zip(&giants) {
        guest.ask(1, Op::Read, number << 20, sectors, data(sectors));
    }
    let mut moved: BTreeMap<u64, u64> = BTreeMap::new();
    // The last two turns are of those alone whose turn came last.
    for turn in 0..6 * count / 4 + 1 {
        bed.turn();
        let mut now: BTreeMap<u64, u64> = BTreeMap::new();
        for io in bed.devices().seen.drain(..) {
            *now.entry(io.lba >> 20).or_default() += io.sectors * 512;
        }
        assert!(now.values().all(|&bytes| bytes <= TURN_BYTES_EACH), "{now:?}");
        let least = if turn < 8 {
            TURN_BYTES_ALL
        } else {
            TURN_BYTES_ALL / 2
        };
        assert_eq!(now.values().sum::<u64>(), least);
        now.iter()
            .for_each(|(who, bytes)| *moved.entry(*who).or_default() += bytes);
        let (least, most) = (moved.values().min(), moved.values().max());
        assert!(most <= least.map(|least| least + 2 * PIECE).as_ref(), "{moved:?}");
    }
    assert!(giants.iter().all(|guest| guest.answers() == [(1, Status::Ok)]));
    assert_eq!(bed.reactor.in_flight(), 0);
    assert!(!bed.reactor.is_held_up());
}

/// Turns and finishes `every`-th of what is in flight, oldest first. The most bytes that were in flight of each attachment,
/// which have the sectors from 2^18 times their number on.
fn flights(bed: &mut Bed, turns: usize, every: usize) -> BTreeMap<u64, u64> {
    let (mut flying, mut most): (Vec<(SlotIndex, u64, u64)>, BTreeMap<_, _>) = Default::default();
    for turn in 0..turns {
        bed.turn();
        let seen: Vec<_> = bed.devices().seen.drain(..).collect();
        flying.extend(seen.iter().map(|io| (io.slot, io.lba >> 18, io.sectors * 512)));
        let mut now: BTreeMap<u64, u64> = BTreeMap::new();
        flying
            .iter()
            .for_each(|(_, who, bytes)| *now.entry(*who).or_default() += bytes);
        *now.entry(u64::MAX).or_default() = flying.iter().map(|one| one.2).sum();
        for (who, bytes) in now {
            let before = most.entry(who).or_insert(bytes);
            *before = bytes.max(*before);
        }
        if turn % every == every - 1 && !flying.is_empty() {
            let (slot, ..) = flying.remove(0);
            bed.devices().finished.push_back((slot, Ok(())));
        }
    }
    most
}

#[test]
fn one_guest_has_its_share_of_bytes_in_flight_and_no_more() {
    for sectors in [1 << 11, 1 << 15, 129] {
        let mut bed = bed();
        let giants: Vec<_> = (0..8).map(|queue| bed.attach(id(0, queue), |_| {})).collect();
        for guest in &giants {
            (0..64).for_each(|head| guest.ask(head, Op::Read, 0, sectors, data(sectors)));
        }
        let most = flights(&mut bed, 400, 2);
        let own = most[&0];
        assert!(own <= FLIGHT_BYTES_EACH, "{sectors}: {own}");
        assert!(own > FLIGHT_BYTES_EACH - 2 * PIECE, "{sectors}: {own}");
        // Nobody spins for it: the completions wake who sleeps.
        bed.turn();
        assert!(!bed.reactor.arm());
        assert_eq!(bed.turn(), 0);
        let due = bed.reactor.due().expect("the watch");
        assert!(due.0 > 1 << 50, "nothing else is due: {due:?}");

        // A neighbour of the same disk finds room all the same, long and short.
        let neighbour = bed.attach(id(1, 0), |_| {});
        neighbour.ask(1, Op::Read, 1 << 20, 3 << 11, data(3 << 11));
        neighbour.ask(2, Op::Read, 1 << 20, 8, data(8));
        turns(&mut bed, 5);
        bed.devices().seen.retain(|io| io.lba >= 1 << 20);
        assert_eq!(begun(&mut bed), (3 << 20) + 4096, "{sectors}");
        bed.reactor.abandon();
    }
}

#[test]
fn all_guests_together_have_theirs_and_each_of_them_a_piece() {
    let mut bed = bed();
    let guests: Vec<_> = (0..20)
        .map(|attachment| bed.attach(id(attachment, 0), |_| {}))
        .collect();
    for (number, guest) in (0..).zip(&guests) {
        guest.ask(1, Op::Read, number << 18, 1 << 16, data(1 << 16));
    }
    let most = flights(&mut bed, 300, 1_000);
    let all = most[&u64::MAX];
    assert!(
        all > FLIGHT_BYTES_ALL - PIECE && all <= FLIGHT_BYTES_ALL + 20 * PIECE,
        "{all}"
    );
    assert!(
        (0..20).all(|guest| most[&guest] >= PIECE && most[&guest] <= FLIGHT_BYTES_SHARED),
        "{most:?}"
    );
    // What comes back goes round.
    let most = flights(&mut bed, 100, 1_000);
    assert!(
        most.is_empty() || most.values().all(|&bytes| bytes == 0),
        "{most:?}"
    );
    bed.reactor.abandon();
}

/// What is in flight is what a neighbour of the same disk waits for.
#[test]
fn a_guest_has_less_in_flight_while_another_asks_the_same_disk_and_its_share_again_after() {
    let mut bed = bed();
    let hungry = bed.attach(id(0, 0), |_| {});
    let [neighbour, elsewhere] = [0, 1].map(|device| {
        bed.attach(id(1 + device, 0), |settings| {
            settings.volume = Some(VolumeIndex(device));
        })
    });
    for head in 0..64 {
        hungry.ask(head, Op::Write, 0, 1 << 11, data(1 << 11));
    }
    let in_flight = |bed: &mut Bed| {
        turns(bed, 20);
        bed.devices()
            .seen
            .iter()
            .filter(|io| io.op == Op::Write)
            .map(|io| io.sectors * 512)
            .sum::<u64>()
    };
    elsewhere.ask(1, Op::Read, 0, 8, data(8));
    assert_eq!(
        in_flight(&mut bed),
        FLIGHT_BYTES_EACH,
        "the other has another disk"
    );
    neighbour.ask(1, Op::Read, 0, 8, data(8));
    turns(&mut bed, 1);
    // The oldest come back; the neighbour's stays in flight.
    let mut writes: Vec<_> = bed
        .devices()
        .seen
        .iter()
        .filter(|io| io.op == Op::Write)
        .map(|io| io.slot)
        .collect();
    writes.truncate(15);
    bed.devices().seen.retain(|io| !writes.contains(&io.slot));
    bed.devices()
        .finished
        .extend(writes.into_iter().map(|slot| (slot, Ok(()))));
    assert_eq!(in_flight(&mut bed), FLIGHT_BYTES_SHARED);
    bed.now += FLIGHT_SHARED_FOR.0;
    assert_eq!(
        in_flight(&mut bed),
        FLIGHT_BYTES_EACH,
        "nobody else has asked for long"
    );
    bed.reactor.abandon();
}

#[test]
fn nothing_is_taken_from_a_queue_while_its_request_rests_and_all_of_it_after() {
    let mut bed = bed();
    let guest = bed.attach(QUEUE, |_| {});
    let sectors = 20 << 11;
    guest.ask(1, Op::Write, 0, sectors, data(sectors));
    guest.ask(2, Op::Read, 0, 8, data(8));
    let mut waited = 0;
    while bed.reactor.in_flight() != 2 {
        assert!(guest.0.borrow().waiting.len() == 1 || waited == 0);
        bed.turn();
        waited += 1;
        if waited > 16 {
            let slot = bed.devices().seen.remove(0).slot;
            bed.devices().finished.push_back((slot, Ok(())));
        }
        assert!(waited < 40);
    }
    // 16 at once, and one for each that comes back; then, as there is room for another, the small one.
    assert_eq!(waited, 22);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers().len(), 2);
    // Once nothing large is in flight it is asked for nothing any more.
    guest.ask(3, Op::Read, 0, 8, data(8));
    assert!(bed.reactor.arm());
    bed.turn();
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers().last(), Some(&(3, Status::Ok)));
}

const SECOND: u64 = 1_000_000_000;

/// An attachment with a limit of 10 MiB a second, and its counters.
pub fn limited(bed: &mut Bed) -> (Script, Arc<AttachmentStats>) {
    bed.now = 5 * SECOND;
    let stats: Arc<AttachmentStats> = Arc::default();
    let counted = Arc::clone(&stats);
    let guest = bed.attach(QUEUE, |settings| {
        settings.stats = counted;
        settings.pace = Pace {
            bytes_per_second: 10 << 20,
            ..Pace::default()
        };
    });
    (guest, stats)
}

#[test]
fn a_limit_paces_the_pieces_of_a_request() {
    for at_once in [Some(Ok(())), None] {
        let mut bed = bed();
        let (guest, stats) = limited(&mut bed);
        bed.devices().at_once = at_once;
        let (from, sectors) = (bed.now, 64 << 11);
        guest.ask(1, Op::Read, 0, sectors, data(sectors));
        let mut moved = 0;
        while guest.answers().is_empty() {
            bed.turn();
            let seen: Vec<_> = bed.devices().seen.drain(..).collect();
            if at_once.is_none() {
                let slots = seen.iter().map(|io| (io.slot, Ok(())));
                bed.reactor.devices_mut().finished.extend(slots);
            }
            moved += seen.iter().map(|io| io.sectors * 512).sum::<u64>();
            let passed = bed.now - from;
            let paid = passed * (10 << 20) / SECOND;
            assert!(moved <= paid + PIECE + 4096, "{moved} after {passed} ns");
            assert!(
                moved + PIECE + 4096 >= paid.min(64 << 20),
                "{moved} after {passed} ns"
            );
            match bed.reactor.due() {
                _ if !guest.answers().is_empty() => {}
                Some(due) if due.0 < bed.now + SECOND && due.0 > bed.now + 2 => {
                    bed.turn();
                    assert!(bed.devices().seen.is_empty(), "it waits for its limit");
                    bed.now = due.0 - 1;
                }
                _ => {}
            }
            assert!(bed.now < from + 10 * SECOND);
        }
        let passed = bed.now - from;
        assert!(
            (62 * SECOND / 10..65 * SECOND / 10).contains(&passed),
            "{passed} ns"
        );
        assert!(
            (1..=64).contains(&stats.throttled.get()),
            "{}",
            stats.throttled.get()
        );
        if at_once.is_none() {
            continue;
        }
        // The last piece is paid for before the next request.
        guest.ask(2, Op::Read, 0, 8, data(8));
        let before = stats.throttled.get();
        bed.turn();
        assert_eq!(stats.throttled.get(), before + 1);
        assert_eq!(guest.0.borrow().waiting.len(), 1);
    }
}

#[test]
fn zeroes_that_are_written_are_charged_once() {
    let mut bed = bed();
    let (guest, _) = limited(&mut bed);
    let zero = Op::WriteZeroes { unmap: false };
    bed.devices().unsupported = vec![zero];
    // 1 MiB in four buffers, of which there are two.
    guest.ask(1, zero, 0, 1 << 11, vec![]);
    for _ in 0..6 {
        bed.turn();
        bed.finish_all(Ok(()));
    }
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    let due = bed.reactor.due().expect("it is to be paid for").0 - bed.now;
    assert!((SECOND / 10 - 1_000_000..=SECOND / 10).contains(&due), "{due} ns");
}

#[test]
fn somebody_who_waits_for_a_limited_request_does_not_wait_for_its_limit() {
    let (mut bed, guest) = begun_within_a_limit();
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    turns(&mut bed, 64);
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    assert_eq!(bed.notices().len(), 1);
}

/// It is parked, and goes on by the new route within its limit.
#[test]
fn a_route_does_not_wait_for_the_limit_of_a_request() {
    let (mut bed, guest) = begun_within_a_limit();
    bed.suspend(3);
    assert_eq!(told(&mut bed), ["suspended 3"]);
    route(&mut bed, 0, 3);
    for _ in 0..3 {
        turns(&mut bed, 64);
        assert!(guest.answers().is_empty());
        bed.now += 1_000_000;
    }
    bed.reactor.abandon();
}

/// A request of 64 MiB that was begun, and waits for its attachment's limit.
fn begun_within_a_limit() -> (Bed, Script) {
    let mut bed = bed();
    let (guest, _) = limited(&mut bed);
    bed.devices().at_once = Some(Ok(()));
    let sectors = 64 << 11;
    guest.ask(1, Op::Read, 0, sectors, data(sectors));
    turns(&mut bed, 3);
    assert!(guest.answers().is_empty() && begun(&mut bed) < 3 << 20);
    (bed, guest)
}

#[test]
fn no_piece_is_begun_for_an_attachment_whose_volume_was_taken_away() {
    // With pieces in flight, with none while it rests for its limit, and with other requests waiting.
    for at_once in [Some(Ok(())), None] {
        let mut bed = bed();
        let (guest, _) = limited(&mut bed);
        bed.devices().at_once = at_once;
        ask_giant(&guest, 1);
        turns(&mut bed, 4);
        let flying: Vec<_> = bed.devices().seen.drain(..).map(|io| io.slot).collect();
        bed.reactor.apply(ReactorChange::Revoke {
            attachment: QUEUE.attachment,
        });
        for _ in 0..10 {
            bed.now += SECOND;
            bed.turn();
        }
        assert_eq!(begun(&mut bed), 0);
        if at_once.is_none() {
            assert!(guest.answers().is_empty(), "its memory may still be written");
            let done = flying.into_iter().map(|slot| (slot, Ok(())));
            bed.devices().finished.extend(done);
            bed.turn();
        }
        assert_eq!(guest.answers(), [(1, Status::IoErr)]);
        assert!(matches!(bed.notices()[..], [Notice::Revoked { .. }]));
        assert_eq!(bed.reactor.in_flight(), 0);
        assert!(!bed.reactor.is_held_up());
    }
}

#[test]
fn what_fails_while_it_rests_is_answered_and_rests_no_more() {
    let mut bed = bed();
    let guest = bed.attach(QUEUE, |_| {});
    ask_giant(&guest, 1);
    turns(&mut bed, 20);
    assert_eq!(bed.devices().seen.len(), 16);
    bed.finish_all(Err(Fault::Media));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
    assert!(!bed.reactor.is_held_up());
    guest.ask(2, Op::Read, 0, 8, data(8));
    bed.turn();
    assert_eq!(bed.devices().seen.len(), 1, "the queue goes on");
    bed.reactor.abandon();
}

#[test]
fn memory_is_zeroed_piece_by_piece_and_a_disk_is_told_at_once() {
    for (kind, pieces) in [
        (DeviceKind::Memory, 3),
        (DeviceKind::File, 1),
        (DeviceKind::Block, 1),
        (DeviceKind::Null, 1),
    ] {
        for op in [Op::WriteZeroes { unmap: true }, Op::Discard] {
            let mut bed = bed();
            bed.devices().limits[0].kind = kind;
            add(&mut bed, 0);
            bed.devices().at_once = Some(Ok(()));
            let guest = bed.attach(QUEUE, |_| {});
            guest.ask(1, op, 0, 5 << 10, vec![]);
            let mut turns = Vec::new();
            while guest.answers().is_empty() {
                bed.turn();
                turns.push(begun(&mut bed));
            }
            assert_eq!(turns.len(), pieces, "{kind:?}");
            assert_eq!(turns.iter().sum::<u64>(), 5 << 19);
        }
    }
}

/// More queues than one turn looks at have a request that cannot go on; another looks at the next.
#[test]
fn one_turn_looks_at_some_of_those_that_rest() {
    let mut bed = bed();
    let guests: Vec<_> = (0..100).map(|queue| bed.attach(id(0, queue), |_| {})).collect();
    let sectors = 1 << 15;
    guests
        .iter()
        .for_each(|guest| guest.ask(1, Op::Read, 0, sectors, data(sectors)));
    turns(&mut bed, 30);
    let late = bed.attach(id(1, 0), |_| {});
    late.ask(1, Op::Read, 1 << 20, 3 << 11, data(3 << 11));
    bed.devices().seen.clear();
    turns(&mut bed, 9);
    assert_eq!(begun(&mut bed), 3 << 20, "it has had its turns");
    bed.reactor.abandon();
}

/// Stops a queue of a session that ends.
fn leave(bed: &mut Bed) {
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    bed.reactor.apply(ReactorCommand::LeaveQueue { queue: QUEUE });
}

fn is_back(notices: &[Notice<Script, Obedient>]) -> bool {
    matches!(notices, [Notice::QueueStopped { source: Some(_), .. }])
}

#[test]
fn a_session_that_ends_waits_for_what_is_in_flight_and_leaves_the_rest() {
    // More often than there are long lists; the last ones rest for their limit, with nothing in flight.
    let mut bed = bed();
    for round in 0..70 {
        let (guest, stats) = match round < 66 {
            true => {
                let stats: Arc<AttachmentStats> = Arc::default();
                let counted = Arc::clone(&stats);
                (bed.attach(QUEUE, |settings| settings.stats = counted), stats)
            }
            false => limited(&mut bed),
        };
        guest.0.borrow_mut().remembers = true;
        ask_giant(&guest, 1);
        guest.ask(2, Op::Read, 0, 8, data(8));
        turns(&mut bed, 3);
        let flying = bed.devices().seen.len();
        assert_eq!(flying, if round < 66 { 3 } else { 1 });
        if round == 69 {
            bed.finish_all(Ok(()));
            turns(&mut bed, 1);
        }
        leave(&mut bed);
        turns(&mut bed, 4);
        let seen = bed.devices().seen.len();
        assert_eq!(
            seen,
            if round == 69 { 0 } else { flying },
            "nothing is begun any more"
        );
        if round != 69 {
            assert!(bed.notices().is_empty(), "its memory may still be written");
            bed.finish_all(Ok(()));
            turns(&mut bed, 1);
        }
        assert!(is_back(&bed.notices()));
        assert!(guest.0.borrow().answers.is_empty());
        assert_eq!(guest.0.borrow().waiting.len(), 1);
        assert_eq!((bed.reactor.in_flight(), stats.in_flight.get()), (0, 0));
        assert!(!bed.reactor.is_held_up());
    }
    // The books are as before: all that is in flight has come back, and every route may change.
    route(&mut bed, 0, 3);
    let guest = bed.attach(QUEUE, |_| {});
    ask_giant(&guest, 1);
    turns(&mut bed, 40);
    assert_eq!(begun(&mut bed), FLIGHT_BYTES_EACH);
    bed.reactor.abandon();
}

#[test]
fn what_is_in_pieces_for_want_of_room_is_left_as_well() {
    let mut bed = bed();
    let guest = bed.attach(QUEUE, |_| {});
    guest.0.borrow_mut().remembers = true;
    // Eight buffers' worth by way of two buffers.
    guest.ask(1, Op::Read, 0, 4096, vec![piece(0x10_0001, 2 << 20)]);
    turns(&mut bed, 2);
    assert_eq!(bed.devices().seen.len(), 1, "one is kept for the other device");
    leave(&mut bed);
    turns(&mut bed, 2);
    bed.finish_all(Ok(()));
    turns(&mut bed, 2);
    assert!(bed.devices().seen.is_empty() && guest.answers().is_empty());
    assert!(is_back(&bed.notices()));
}

#[test]
fn what_nobody_remembers_is_carried_out() {
    let mut bed = bed();
    bed.devices().at_once = Some(Ok(()));
    let guest = bed.attach(QUEUE, |_| {});
    let sectors = 64 << 11;
    guest.ask(1, Op::Read, 0, sectors, data(sectors));
    turns(&mut bed, 2);
    leave(&mut bed);
    turns(&mut bed, 64);
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    assert!(is_back(&bed.notices()));
}

#[test]
fn only_a_queue_that_is_to_stop_is_left() {
    let mut bed = bed();
    bed.devices().at_once = Some(Ok(()));
    let guest = bed.attach(QUEUE, |_| {});
    guest.0.borrow_mut().remembers = true;
    let sectors = 8 << 11;
    guest.ask(1, Op::Read, 0, sectors, data(sectors));
    turns(&mut bed, 2);
    bed.reactor.apply(ReactorCommand::LeaveQueue { queue: QUEUE });
    bed.reactor.apply(ReactorCommand::LeaveQueue { queue: id(7, 7) });
    turns(&mut bed, 8);
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    assert!(bed.notices().is_empty());
}

#[test]
fn the_backlog_of_a_queue_that_is_left_is_left() {
    let mut bed = bed();
    let guest = bed.attach(QUEUE, |_| {});
    for head in 0..4 {
        guest.ask(head, Op::Read, 0, 8, data(8));
    }
    guest.0.borrow_mut().remembers = true;
    guest.0.borrow_mut().backlog = 4;
    leave(&mut bed);
    assert!(is_back(&bed.notices()));
    assert_eq!(guest.0.borrow().waiting.len(), 4);

    // While something is in flight it does not keep anybody from sleeping.
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 8, data(8));
    bed.turn();
    guest.ask(2, Op::Read, 0, 8, data(8));
    guest.0.borrow_mut().remembers = true;
    guest.0.borrow_mut().backlog = 1;
    leave(&mut bed);
    assert!(!bed.reactor.arm());
    bed.turn();
    assert_eq!(bed.devices().seen.len(), 1);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    assert!(is_back(&bed.notices()));
}

/// What has failed has its answer.
#[test]
fn an_error_is_told_also_when_the_session_ends() {
    let mut bed = bed();
    let guest = bed.attach(QUEUE, |_| {});
    guest.0.borrow_mut().remembers = true;
    ask_giant(&guest, 1);
    turns(&mut bed, 3);
    leave(&mut bed);
    bed.finish_all(Err(Fault::Media));
    turns(&mut bed, 2);
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
    assert!(is_back(&bed.notices()));
}
