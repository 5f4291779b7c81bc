//! Discards and write-zeroes of kernel devices: how they are cut, how many are in flight, and whom they hold up.

use crate::bench_of::*;
use palisade_block::limits::{DISCARD_SECTORS_MAX, RANGE_BYTES_MAX};
use palisade_block::mailbox::{Notice, ReactorChange, ReactorCommand};
use palisade_block::stats::DeviceStats;
use palisade_block::*;
use palisade_engine::ReactorConfig;
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, Sectors, VolumeIndex};
use std::sync::Arc;

const SECTORS: u64 = 1 << 26;
const LONGEST: u64 = RANGE_BYTES_MAX as u64 / 512;
const ZERO: Op = Op::WriteZeroes { unmap: true };

/// A bed whose two devices are large, and have been found to be quick; volume 0 is on the first, volume 1 on the second.
fn bed() -> Bed {
    let mut bed = unknown(DeviceKind::Block);
    for volume in 0..2 {
        let first = guest(&mut bed, 9, volume, volume);
        ask(&first, 0, Op::Discard, 0, 4 * LONGEST);
        while first.answers().is_empty() {
            bed.turn();
            bed.finish_all(Ok(()));
        }
        bed.reactor
            .apply(ReactorCommand::StopQueue { queue: id(9, volume) });
    }
    bed.notices();
    bed
}

/// The same before anything is known of them.
pub fn unknown(kind: DeviceKind) -> Bed {
    let config = ReactorConfig {
        slots: 2048,
        parts: 256,
        long: 4,
        watch_every: Nanos(u64::MAX / 2),
    };
    let mut bed = Bed::of(config, 2);
    for device in 0..2 {
        bed.devices().limits[usize::from(device)].sectors = Sectors(SECTORS);
        bed.devices().limits[usize::from(device)].kind = kind;
        bed.reactor.apply(ReactorCommand::AddDevice {
            opened: (),
            device: DeviceIndex(device),
            stats: Arc::new(DeviceStats::default()),
            deadline: Nanos(u64::MAX / 2),
        });
        let run = Run {
            volume: Lba(0),
            sectors: Sectors(SECTORS),
            device: DeviceIndex(device),
            lba: Lba(0),
        };
        let route = Route::new(mapping_of(Generation(2), Epoch(1)), vec![run]).expect("one run");
        bed.reactor.apply(ReactorChange::Resume {
            volume: VolumeIndex(device),
            route,
        });
    }
    bed.notices();
    bed
}

pub fn guest(bed: &mut Bed, attachment: u16, queue: u16, volume: u16) -> Script {
    bed.attach(id(attachment, queue), |settings| {
        settings.volume = Some(VolumeIndex(volume));
    })
}

pub fn ask(guest: &Script, head: u16, op: Op, lba: u64, sectors: u64) {
    guest.ask(head, op, lba, sectors, Vec::new());
}

/// What is in flight of ranges on a device.
fn ranges(bed: &mut Bed, device: u16) -> Vec<Seen> {
    let seen = bed.devices().seen.iter();
    seen.filter(|io| io.device == device && !io.op.moves_data() && io.op != Op::Flush)
        .cloned()
        .collect()
}

/// Finishes the oldest operation in flight.
fn finish_one(bed: &mut Bed, result: Result<(), Fault>) {
    let seen = bed.devices().seen.remove(0);
    bed.devices().finished.push_back((seen.slot, result));
}

#[test]
fn a_long_one_goes_in_pieces_that_end_at_whole_ones_four_at_a_time() {
    for op in [Op::Discard, ZERO] {
        let mut bed = bed();
        let guest = guest(&mut bed, 0, 0, 0);
        let (lba, sectors) = (LONGEST - 8, u64::from(DISCARD_SECTORS_MAX));
        // Twice, as what was in flight comes back.
        for head in 0..2 {
            ask(&guest, head, op, lba, sectors);
            let mut next = lba;
            let mut most = 0;
            while guest.answers().len() == usize::from(head) {
                let before = bed.devices().seen.len();
                bed.turn();
                most = most.max(bed.devices().seen.len());
                for io in &bed.devices().seen[before..] {
                    assert_eq!((io.op, io.lba), (op, next));
                    assert!(io.segments.is_empty());
                    next += io.sectors;
                    let ends = next.is_multiple_of(LONGEST) || next == lba + sectors;
                    assert!(io.sectors <= LONGEST && ends, "{io:?}");
                }
                if !bed.devices().seen.is_empty() {
                    finish_one(&mut bed, Ok(()));
                }
            }
            assert_eq!(next, lba + sectors);
            // The first is so short that it counts for less than one of the others.
            assert_eq!(most, 4);
            assert_eq!(guest.answers()[usize::from(head)], (head, Status::Ok));
        }
        assert_eq!(bed.reactor.in_flight(), 0);
    }
}

#[test]
fn an_attachment_has_its_share_on_each_device_and_nobody_waits_for_it() {
    let mut bed = bed();
    let hungry: Vec<_> = (0..2).map(|queue| guest(&mut bed, 0, queue, 0)).collect();
    for script in &hungry {
        (0..128).for_each(|head| ask(script, head, ZERO, 0, 4 * LONGEST));
    }
    // One of each queue is taken in a turn, as it is long.
    for _ in 0..128 {
        bed.turn();
        assert_eq!(ranges(&mut bed, 0).len(), 4);
    }
    assert_eq!(bed.reactor.in_flight(), 256, "all of them have been taken");
    // The same attachment on another device, its own reads, another attachment on the same device.
    let elsewhere = guest(&mut bed, 0, 2, 1);
    let neighbour = guest(&mut bed, 1, 0, 0);
    (0..8).for_each(|head| ask(&elsewhere, head, ZERO, 0, LONGEST));
    (0..8).for_each(|head| ask(&neighbour, head, ZERO, 9 * LONGEST, LONGEST));
    hungry[0].ask(200, Op::Read, 0, 8, data(8));
    for _ in 0..8 {
        bed.turn();
    }
    assert_eq!(ranges(&mut bed, 1).len(), 4);
    let of_both = ranges(&mut bed, 0);
    assert_eq!(of_both.iter().filter(|io| io.lba == 9 * LONGEST).count(), 4);
    assert_eq!(of_both.len(), 8);
    let reads = bed.devices().seen.iter().filter(|io| io.op == Op::Read);
    assert_eq!(reads.count(), 1, "its queue goes on");
    // They all come to their end.
    let mut rounds = 0;
    while bed.reactor.in_flight() > 0 {
        bed.finish_all(Ok(()));
        bed.turn();
        assert!(ranges(&mut bed, 0).len() <= 8);
        rounds += 1;
        assert!(rounds < 1000, "it must not get stuck");
    }
    let answers = |script: &Script| script.answers().len();
    assert_eq!((answers(&hungry[0]), answers(&hungry[1])), (129, 128));
    assert_eq!((answers(&elsewhere), answers(&neighbour)), (8, 8));
}

#[test]
fn short_ones_may_be_many_and_a_newcomer_always_has_one() {
    let mut bed = bed();
    let guests: Vec<_> = (0..8)
        .map(|attachment| guest(&mut bed, attachment, 0, 0))
        .collect();
    for (number, script) in (0..).zip(&guests) {
        (0..60).for_each(|head| ask(script, head, Op::Discard, number, 1));
    }
    for _ in 0..4 {
        bed.turn();
    }
    let seen = ranges(&mut bed, 0);
    let mut held: Vec<_> = (0..8)
        .map(|number| seen.iter().filter(|io| io.lba == number).count())
        .collect();
    held.sort_unstable();
    assert_eq!(held, [1, 1, 1, 1, 32, 32, 32, 32]);
    bed.reactor.abandon();
}

#[test]
fn those_of_one_attachment_take_turns() {
    let mut bed = bed();
    let guest = guest(&mut bed, 0, 0, 0);
    for head in 0..3 {
        ask(&guest, head, ZERO, u64::from(head) * 64 * LONGEST, 20 * LONGEST);
    }
    for _ in 0..3 {
        bed.turn();
    }
    // The first had its four before the others came.
    let mut begun = [4usize, 0, 0];
    for _ in 0..60 {
        let before = bed.devices().seen.len();
        bed.turn();
        for io in &bed.devices().seen[before..] {
            begun[(io.lba / LONGEST / 64) as usize] += 1;
        }
        let (least, most) = (begun.iter().min(), begun.iter().max());
        assert!(most.unwrap() - least.unwrap() <= 5, "{begun:?}");
        finish_one(&mut bed, Ok(()));
    }
    bed.turn();
    assert_eq!(begun, [20, 20, 20]);
    assert_eq!(guest.answers().len(), 3);
}

#[test]
fn a_queue_that_stops_ends_them_and_one_that_leaves_begins_no_more() {
    for leaves in [false, true] {
        let mut bed = bed();
        let script = guest(&mut bed, 0, 0, 0);
        script.0.borrow_mut().remembers = true;
        (0..10).for_each(|head| ask(&script, head, ZERO, 0, 8 * LONGEST));
        for _ in 0..10 {
            bed.turn();
        }
        bed.reactor.apply(ReactorCommand::StopQueue { queue: id(0, 0) });
        if leaves {
            bed.reactor.apply(ReactorCommand::LeaveQueue { queue: id(0, 0) });
        }
        let (mut begun, mut stopped) = (4, false);
        while !stopped {
            bed.finish_all(Ok(()));
            bed.turn();
            begun += bed.devices().seen.len();
            assert!(bed.devices().seen.len() <= 4);
            stopped = bed
                .notices()
                .iter()
                .any(|notice| matches!(notice, Notice::QueueStopped { .. }));
            assert!(begun <= 80, "it must not get stuck");
        }
        assert_eq!(begun, if leaves { 4 } else { 80 });
        assert_eq!(script.answers().len(), if leaves { 0 } else { 10 });
        // The books are as before.
        let script = guest(&mut bed, 0, 0, 0);
        (0..10).for_each(|head| ask(&script, head, ZERO, 0, LONGEST));
        for _ in 0..10 {
            bed.turn();
        }
        assert_eq!(ranges(&mut bed, 0).len(), 4);
        bed.reactor.abandon();
    }
}

#[test]
fn what_fails_or_is_not_offered_gives_its_share_back() {
    let mut bed = bed();
    let guest = guest(&mut bed, 0, 0, 0);
    for (head, op, result, status) in [
        (0, Op::Discard, Err(Fault::Unsupported), Status::Ok),
        (1, ZERO, Err(Fault::Media), Status::IoErr),
        (2, Op::Discard, Err(Fault::Media), Status::IoErr),
        (3, ZERO, Ok(()), Status::Ok),
    ] {
        ask(&guest, head, op, 0, 6 * LONGEST);
        bed.turn();
        assert_eq!(ranges(&mut bed, 0).len(), 4, "{op:?} {result:?}");
        while guest.answers().len() == usize::from(head) {
            bed.finish_all(result);
            bed.turn();
        }
        assert_eq!(guest.answers()[usize::from(head)], (head, status));
    }
    // Zeroes are written where the device does not know them: as data, and as much of it as of data.
    ask(&guest, 4, ZERO, 0, 16);
    bed.turn();
    bed.finish_all(Err(Fault::Unsupported));
    bed.turn();
    let writes: Vec<_> = bed.devices().seen.iter().map(|io| io.op).collect();
    assert_eq!(writes, [Op::Write]);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers()[4], (4, Status::Ok));
    assert_eq!(bed.reactor.in_flight(), 0);
}
