//! What a device is told of each operation besides what is to be done: under which mapping it is sent, and by when it is to be
//! back. A peer carries that on, and a fence judges by it.

use crate::bench_of::*;
use palisade_block::mailbox::ReactorChange;
use palisade_block::*;
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, Sectors, Uuid};

/// A route of this mapping to the first device, from a sector on.
fn route(mapping: MappingId, first: u64) -> ReactorChange {
    let run = Run {
        volume: Lba(0),
        sectors: Sectors(500),
        device: DeviceIndex(0),
        lba: Lba(first),
    };
    let route = Route::new(mapping, vec![run]).expect("one run");
    ReactorChange::Resume {
        volume: VOLUME,
        route,
    }
}

/// Under which mappings operations were sent since last asked, in order and each once, and that nothing of them is open.
fn under(bed: &mut Bed) -> Vec<MappingId> {
    let mut mappings: Vec<_> = bed.devices().seen.iter().map(|seen| seen.mapping).collect();
    mappings.dedup();
    bed.finish_all(Ok(()));
    bed.turn();
    mappings
}

#[test]
fn whole_requests_and_parts_say_under_which_mapping_they_are_sent() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    for (generation, epoch) in [(2, 1), (3, 1), (4, 7)] {
        let mapping = mapping_of(Generation(generation), Epoch(epoch));
        bed.reactor.apply(route(mapping, 100));
        // As it is, over the border of the device's longest operation, without data, to all devices.
        for (op, sectors) in [(Op::Read, 8), (Op::Write, 500), (Op::Discard, 8), (Op::Flush, 0)] {
            let data = if op.moves_data() {
                data(sectors)
            } else {
                Vec::new()
            };
            guest.ask(1, op, 0, sectors, data);
            bed.turn();
            assert_eq!(under(&mut bed), [mapping], "{op:?}");
        }
        // In parts, through the pool.
        guest.ask(1, Op::Read, 0, 8, vec![piece(0x10_0001, 4096)]);
        bed.turn();
        assert!(bed.devices().seen[0].pooled);
        assert_eq!(under(&mut bed), [mapping]);
    }
}

#[test]
fn what_was_parked_is_sent_under_the_mapping_that_is_in_force_then() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.devices().busy = true;
    guest.ask(1, Op::Write, 0, 8, data(8));
    bed.turn();
    bed.suspend(2);
    bed.turn();
    bed.devices().busy = false;
    let mapping = mapping_of(Generation(2), Epoch(5));
    bed.reactor.apply(route(mapping, 300));
    bed.turn();
    assert_eq!(bed.devices().seen[0].lba, 300);
    assert_eq!(under(&mut bed), [mapping]);
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}

#[test]
fn what_serves_other_nodes_is_said_to_be_forwarded() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.reactor.apply(ReactorChange::EndVolume {
        volume: VOLUME,
        generation: Generation(2),
    });
    let mapping = mapping_of(Generation(3), Epoch(1)).forwarded();
    assert!(mapping.is_forwarded);
    bed.reactor.apply(route(mapping, 100));
    guest.ask(1, Op::Read, 0, 8, data(8));
    bed.turn();
    assert_eq!(under(&mut bed), [mapping]);
}

#[test]
fn the_deadline_is_the_moment_from_which_on_an_operation_is_asked_back() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    // One goes as it is, the other through the pool.
    for (address, taken_at) in [(0x10_0000, 41), (0x10_0001, 2000)] {
        bed.now = taken_at - 1;
        guest.ask(1, Op::Write, 0, 8, vec![piece(address, 4096)]);
        bed.turn();
        // The devices of the tests have 1000 ns for each.
        let deadlines: Vec<_> = bed.devices().seen.iter().map(|seen| seen.deadline).collect();
        assert!(!deadlines.is_empty() && deadlines.iter().all(|at| *at == Nanos(taken_at + 1000)));
        let in_flight: Vec<_> = bed.devices().seen.iter().map(|seen| seen.slot).collect();
        bed.now = taken_at + 998;
        bed.turn();
        assert_eq!(bed.devices().cancelled, []);
        // The stall watch looks every 10 ns.
        bed.now = taken_at + 1010;
        bed.turn();
        assert_eq!(std::mem::take(&mut bed.devices().cancelled), in_flight);
        under(&mut bed);
    }
}

#[test]
#[should_panic(expected = "a volume takes the place of another")]
fn requests_are_never_sent_to_another_volume() {
    let mut bed = Bed::new(16, 2);
    let other = MappingId::new(Uuid(2), Generation(2), Epoch(1));
    bed.reactor.apply(route(other, 100));
}

#[test]
fn an_answer_says_what_a_device_has_met_and_nothing_where_it_was_not_a_devices_doing() {
    // After that one the device gets nothing more.
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Fenced) {
        let mut bed = Bed::new(16, 2);
        let guest = bed.attach(QUEUE, |_| {});
        // As it is, at once and later; through the pool; beyond the end.
        bed.devices().at_once = Some(Err(fault));
        guest.ask(1, Op::Read, 0, 8, data(8));
        bed.turn();
        bed.devices().at_once = None;
        guest.ask(2, Op::Read, 0, 8, data(8));
        guest.ask(3, Op::Write, 0, 8, vec![piece(0x10_0001, 4096)]);
        guest.ask(4, Op::Read, 1000, 8, data(8));
        guest.ask(5, Op::Read, 0, 8, data(8));
        bed.turn();
        let well = bed.devices().seen.pop().expect("the last is with its device");
        bed.devices().finished.push_back((well.slot, Ok(())));
        bed.devices().seen.remove(0);
        bed.finish_all(Err(fault));
        bed.turn();
        let faults = guest.0.borrow().faults.clone();
        let mut told: Vec<_> = guest.answers().into_iter().zip(faults).collect();
        told.sort_unstable_by_key(|((head, _), _)| *head);
        let status = match fault {
            Fault::Unsupported => Status::Unsupp,
            _ => Status::IoErr,
        };
        let expected = [
            ((1, status), Some(fault)),
            ((2, status), Some(fault)),
            ((3, status), Some(fault)),
            ((4, Status::IoErr), None),
            ((5, Status::Ok), None),
        ];
        assert_eq!(told, expected);
    }
}
