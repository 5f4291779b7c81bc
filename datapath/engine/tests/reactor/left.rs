//! What a session leaves behind whose requests end without an answer: nothing in the books of what is shared, and nobody in
//! a list of those that wait.

use crate::bench_of::*;
use crate::ranges::{ask, guest, unknown};
use palisade_block::limits::{FLIGHT_BYTES_EACH, LARGE_BYTES_MIN};
use palisade_block::mailbox::{Notice, ReactorCommand};
use palisade_block::*;
use palisade_engine::ReactorConfig;
use palisade_words::{QueueId, Sectors};

const DEVICE: u64 = 1 << 16;
/// What a turn begins of each of these is a third.
const SECTORS: u64 = 3 << 11;

/// A bed with few slots, whose volume is on the first device alone, which is large.
fn bed(slots: u32) -> Bed {
    let config = ReactorConfig {
        slots,
        parts: 64,
        long: 4,
        watch_every: Nanos(u64::MAX / 2),
    };
    let mut bed = Bed::of(config, 2);
    bed.devices().limits[0].sectors = Sectors(DEVICE);
    bed.give_device(VOLUME, 0, Nanos(u64::MAX / 2));
    bed
}

/// A request that is begun in part, of so many segments.
fn ask_in_pieces(guest: &Script, head: u16, segments: u64) {
    let bytes = (SECTORS * 512 / segments) as usize;
    let data = (0..segments).map(|_| piece(0x10_0000, bytes)).collect();
    guest.ask(head, Op::Read, 0, SECTORS, data);
}

fn stop_and_leave(bed: &mut Bed, queue: QueueId) {
    bed.reactor.apply(ReactorCommand::StopQueue { queue });
    bed.reactor.apply(ReactorCommand::LeaveQueue { queue });
}

fn is_back(notices: &[Notice<Script, Obedient>]) -> bool {
    matches!(notices, [Notice::QueueStopped { source: Some(_), .. }])
}

/// A queue whose request is begun in part and then left, after what was begun of it has ended.
fn leave_one(bed: &mut Bed, queue: QueueId, segments: u64) {
    let before = bed.devices().seen.len();
    let guest = bed.attach(queue, |_| {});
    guest.0.borrow_mut().remembers = true;
    ask_in_pieces(&guest, 1, segments);
    bed.turn();
    let begun = bed.devices().seen.split_off(before);
    assert!(!begun.is_empty(), "there is room for it");
    assert_eq!(guest.0.borrow().waiting.len(), 0);
    stop_and_leave(bed, queue);
    let done = begun.iter().map(|seen| (seen.slot, Ok(())));
    bed.devices().finished.extend(done);
    bed.turn();
    assert_eq!(bed.devices().seen.len(), before, "nothing more is begun");
    assert!(is_back(&bed.notices()));
    assert!(guest.0.borrow().answers.is_empty());
}

#[test]
fn what_is_left_gives_its_slot_and_its_list_back_to_its_device() {
    // One segment, or so many that it needs a long list.
    for segments in [1, 192] {
        let mut bed = bed(4);
        // Far more often than there are slots and lists.
        for _ in 0..20 {
            leave_one(&mut bed, QUEUE, segments);
            assert_eq!(bed.reactor.in_flight(), 0);
            assert!(!bed.reactor.is_held_up());
        }
    }
}

/// The device's share of the long lists is in use; what needs none gives none back.
#[test]
fn what_had_no_long_list_gives_none_back() {
    let mut bed = bed(64);
    let holders = [0, 1].map(|attachment| bed.attach(id(attachment, 0), |_| {}));
    for guest in &holders {
        (0..3).for_each(|head| ask_in_pieces(guest, head, 192));
    }
    for _ in 0..8 {
        bed.turn();
    }
    let waiting = |guests: &[Script]| -> Vec<_> {
        let waiting = |guest: &Script| guest.0.borrow().waiting.len();
        guests.iter().map(waiting).collect()
    };
    assert_eq!(waiting(&holders), [1, 2], "three of four lists");
    for _ in 0..6 {
        leave_one(&mut bed, id(2, 0), 1);
    }
    let late = bed.attach(id(3, 0), |_| {});
    ask_in_pieces(&late, 1, 192);
    for _ in 0..4 {
        bed.turn();
    }
    assert_eq!(waiting(&[late]), [1], "the last list is for another device");
    bed.reactor.abandon();
}

/// Its rest rests, and is to be begun anew since the device does not know the operation: it is left, and rests no more.
#[test]
fn what_is_left_when_it_would_begin_anew_stands_in_no_list() {
    let mut bed = unknown(DeviceKind::File);
    let script = guest(&mut bed, 0, 0, 0);
    script.0.borrow_mut().remembers = true;
    ask(&script, 0, Op::WriteZeroes { unmap: true }, 0, 4 << 11);
    bed.turn();
    assert_eq!(bed.devices().seen.len(), 1);
    assert!(bed.reactor.is_held_up(), "its rest rests");
    stop_and_leave(&mut bed, id(0, 0));
    bed.finish_all(Err(Fault::Unsupported));
    bed.turn();
    assert!(is_back(&bed.notices()));
    assert_eq!((bed.reactor.in_flight(), bed.reactor.is_held_up()), (0, false));
    bed.turn();
    assert!(bed.devices().seen.is_empty() && script.answers().is_empty());
}

/// The same where nobody leaves: it begins anew while it rests, has to rest again, and stands in the list once.
#[test]
fn what_begins_anew_while_it_rests_is_answered_once() {
    let config = ReactorConfig {
        slots: 16,
        parts: 64,
        long: 4,
        watch_every: Nanos(u64::MAX / 2),
    };
    let mut bed = Bed::of(config, 6);
    bed.devices().limits[0].sectors = Sectors(DEVICE);
    bed.give_device(VOLUME, 0, Nanos(u64::MAX / 2));
    let guest = bed.attach(QUEUE, |_| {});
    ask(&guest, 0, Op::WriteZeroes { unmap: true }, 0, 4 << 11);
    bed.turn();
    bed.finish_all(Err(Fault::Unsupported));
    bed.devices().at_once = Some(Ok(()));
    for turn in 1..=4 {
        assert!(guest.answers().is_empty());
        bed.turn();
        let written = bed.devices().seen.len();
        assert_eq!(written, 4 * turn, "a turn's share, by way of buffers");
    }
    assert_eq!(guest.answers(), [(0, Status::Ok)]);
    assert_eq!((bed.reactor.in_flight(), bed.reactor.is_held_up()), (0, false));
}

/// It would wait for a decision if its session stayed.
#[test]
fn what_is_left_by_a_fault_is_in_flight_no_more() {
    let mut bed = Bed::new(16, 2);
    bed.resume(VOLUME, two_runs(2, 100).parking_faults());
    bed.notices();
    let sectors = LARGE_BYTES_MIN / 512 + 1;
    // More than its attachment may have in flight, if what was left counted.
    for _ in 0..=FLIGHT_BYTES_EACH / (sectors * 512) {
        let guest = bed.attach(QUEUE, |_| {});
        guest.0.borrow_mut().remembers = true;
        guest.ask(1, Op::Read, 0, sectors, data(sectors));
        bed.turn();
        stop_and_leave(&mut bed, QUEUE);
        bed.finish_all(Err(Fault::Gone));
        bed.turn();
        assert!(is_back(&bed.notices()) && guest.answers().is_empty());
    }
    let guest = bed.attach(QUEUE, |_| {});
    (0..3).for_each(|head| guest.ask(head, Op::Read, 0, sectors, data(sectors)));
    bed.turn();
    assert_eq!(bed.devices().seen.len(), 3);
    bed.reactor.abandon();
}

/// Who waits for a pause and then goes is not waited for.
#[test]
fn nothing_is_due_for_what_was_left_during_a_pause() {
    let mut bed = unknown(DeviceKind::File);
    let script = guest(&mut bed, 0, 0, 0);
    script.0.borrow_mut().remembers = true;
    ask(&script, 0, Op::Discard, 0, 4 << 11);
    bed.turn();
    bed.now += 200_000_000;
    bed.finish_all(Ok(()));
    bed.turn();
    let pause = bed.reactor.due().expect("the end of the pause");
    assert!(pause.0 < bed.now + 300_000_000);
    stop_and_leave(&mut bed, id(0, 0));
    bed.turn();
    assert!(is_back(&bed.notices()));
    assert_eq!(bed.reactor.due(), None);
}
