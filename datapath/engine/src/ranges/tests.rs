//! How long pieces become and how many follow, on devices that are quick, slow, or one after the other.

use super::*;
use palisade_words::Sectors;

const MS: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

fn limits(kind: DeviceKind, discard_granularity: u32) -> DeviceLimits {
    DeviceLimits {
        kind,
        sectors: Sectors(1 << 40),
        block_bytes: 512,
        memory_alignment: 1,
        length_alignment: 512,
        io_bytes_max: 1 << 20,
        discard_granularity,
        discard: true,
        write_zeroes: true,
        read_only: false,
    }
}

fn ranges(kind: DeviceKind) -> Ranges {
    let mut data = Flight::of_data();
    (0..8)
        .map(AttachmentIndex)
        .for_each(|attachment| data.open(attachment));
    let mut ranges = Ranges::new(&data);
    ranges.serve(&limits(kind, 4096));
    ranges
}

/// One after the other, each of a whole step, that take so long for each MiB; what the steps were.
fn steps(ranges: &mut Ranges, now: &mut u64, count: usize, took: impl Fn(u64) -> u64) -> Vec<u64> {
    let one = AttachmentIndex(0);
    let mut steps = Vec::new();
    for _ in 0..count {
        let step = ranges.step();
        steps.push(step >> 10);
        let bytes = flight_bytes(step, step);
        *now = (*now).max(ranges.ready_at.0);
        assert!(ranges.may_take(one, bytes.into(), Nanos(*now)));
        ranges.take(one, bytes, Nanos(*now));
        let took = took(step);
        *now += took;
        ranges.give(one, bytes);
        ranges.judge(step, Nanos(took), Nanos(*now));
    }
    steps
}

#[test]
fn what_goes_quickly_becomes_as_long_as_it_may_and_what_does_not_as_short_as_helps() {
    for (kind, longest) in [(DeviceKind::Block, 32 << 10), (DeviceKind::File, 8 << 10)] {
        let (mut ranges, mut now) = (ranges(kind), 0);
        let grown = steps(&mut ranges, &mut now, 7, |_| RANGE_QUICK.0);
        let expected = [1, 2, 4, 8, 16, 32, 32].map(|mib: u64| (mib << 10).min(longest));
        assert_eq!(grown, expected, "{kind:?}");
        // 20 ms for each MiB: the longest takes 640 or 160, and what follows 20, which is neither quick nor slow.
        let fell = steps(&mut ranges, &mut now, 4, |step| 20 * MS * step / MIB);
        assert_eq!(fell, [longest, 1024, 1024, 1024]);
        // However slow, it is not cut to nothing.
        let fell = steps(&mut ranges, &mut now, 3, |step| 1000 * MS * step / MIB);
        assert_eq!(fell, [1024, 256, 256]);
    }
}

#[test]
fn what_a_device_gives_back_as_one_is_not_cut() {
    for (granularity, first, least) in [(4096, 1024, 256), (1 << 20, 1024, 1024), (3 << 20, 4096, 4096)] {
        let (mut ranges, mut now) = (ranges(DeviceKind::Block), 0);
        ranges.serve(&limits(DeviceKind::Block, granularity));
        let fell = steps(&mut ranges, &mut now, 4, |_| 3000 * MS);
        assert_eq!((fell[0], fell[3]), (first, least));
    }
}

#[test]
fn a_device_that_was_slow_is_trusted_again_by_and_by() {
    let (mut ranges, mut now) = (ranges(DeviceKind::File), 0);
    steps(&mut ranges, &mut now, 1, |_| 450 * MS);
    let slow_at = now;
    let mut seen = Vec::new();
    while ranges.step() < ranges.longest {
        let step = steps(&mut ranges, &mut now, 1, |_| MS)[0];
        if seen.last().is_none_or(|&(last, _)| last != step) {
            seen.push((step, (now - slow_at) / RANGE_CALM.0));
        }
    }
    assert_eq!(seen, [(256, 0), (512, 1), (1024, 2), (2048, 3), (4096, 4)]);
    // After a long rest it is as at the beginning.
    steps(&mut ranges, &mut now, 1, |_| 4000 * MS);
    now += 600_000 * MS;
    assert_eq!(
        steps(&mut ranges, &mut now, 6, |_| MS),
        [256, 512, 1024, 2048, 4096, 8192]
    );
}

#[test]
fn after_one_that_is_not_quick_there_is_a_pause_as_long() {
    for (took, pause) in [
        (RANGE_QUICK.0, 0),
        (RANGE_QUICK.0 + 1, RANGE_QUICK.0 + 1),
        (RANGE_SLOW.0, RANGE_SLOW.0),
        (300 * MS, 300 * MS),
        (9000 * MS, RANGE_PAUSE_MAX.0),
    ] {
        let (mut ranges, mut now) = (ranges(DeviceKind::File), 0);
        steps(&mut ranges, &mut now, 1, |_| took);
        let mut may_at = |at| ranges.may_take(AttachmentIndex(0), 4096, Nanos(at));
        assert!(
            may_at(now + pause) && (pause == 0 || !may_at(now + pause - 1)),
            "{took}"
        );
        assert_eq!(
            ranges.step(),
            if took > RANGE_SLOW.0 {
                256 << 10
            } else if pause > 0 {
                MIB
            } else {
                2 * MIB
            }
        );
    }
}

#[test]
fn a_short_one_that_is_slow_halves_the_step_and_no_more() {
    let mut ranges = ranges(DeviceKind::File);
    ranges.judge(4096, Nanos(800 * MS), Nanos(0));
    assert_eq!(ranges.step(), MIB / 2);
    // Eight that are quick count for one of the longest.
    (0..7).for_each(|_| ranges.judge(4096, Nanos(MS), Nanos(RANGE_CALM.0 * 9)));
    assert!(ranges.one_by_one && ranges.step() == MIB / 2);
    ranges.judge(4096, Nanos(MS), Nanos(RANGE_CALM.0 * 9));
    assert!(!ranges.one_by_one && ranges.step() == MIB);
}

/// How many each of eight attachments gets, one after the other, as long as it gets any.
fn hoard(ranges: &mut Ranges, bytes: u64) -> Vec<u32> {
    let bytes = flight_bytes(ranges.step(), bytes);
    let mut held = vec![0; 8];
    for (attachment, held) in (0..8).map(AttachmentIndex).zip(&mut held) {
        while ranges.may_take(attachment, bytes.into(), Nanos(u64::MAX)) {
            ranges.take(attachment, bytes, Nanos(0));
            *held += 1;
        }
    }
    let all: Vec<_> = (0..8).map(AttachmentIndex).zip(held.clone()).collect();
    for (attachment, held) in all {
        (0..held).for_each(|_| ranges.give(attachment, bytes));
    }
    held
}

#[test]
fn an_attachment_has_one_long_one_or_eight_short_ones_in_flight_and_four_times_as_many_where_the_longest_go_quickly()
 {
    let mut ranges = ranges(DeviceKind::Block);
    assert_eq!(hoard(&mut ranges, MIB), [1; 8]);
    assert_eq!(hoard(&mut ranges, 512), [8, 8, 8, 8, 1, 1, 1, 1]);
    steps(&mut ranges, &mut 0, 5, |_| MS);
    assert_eq!(hoard(&mut ranges, 32 * MIB), [4, 4, 4, 4, 1, 1, 1, 1]);
    assert_eq!(hoard(&mut ranges, 512), [32, 32, 32, 32, 1, 1, 1, 1]);
    assert_eq!(hoard(&mut ranges, 5 * MIB), [25, 25, 25, 25, 2, 1, 1, 1]);
    // All of them one, once one was not quick.
    ranges.judge(32 * MIB, Nanos(20 * MS), Nanos(0));
    assert_eq!(hoard(&mut ranges, 512).iter().sum::<u32>(), 1);
}

#[test]
fn after_the_pause_comes_who_has_waited_longest() {
    let mut ranges = ranges(DeviceKind::File);
    let [hungry, other, late] = [0, 1, 2].map(AttachmentIndex);
    let bytes = flight_bytes(ranges.step(), MIB);
    steps(&mut ranges, &mut 0, 1, |_| 20 * MS);
    let mut now = ranges.ready_at;
    let mut order = Vec::new();
    for round in 0..6 {
        // The hungry one asks first and last.
        for attachment in [hungry, hungry, other, late, hungry] {
            if attachment == late && round < 3 {
                continue;
            }
            if ranges.may_take(attachment, bytes.into(), now) {
                ranges.take(attachment, bytes, now);
                order.push(attachment.0);
                break;
            }
        }
        assert_eq!(order.len(), round + 1, "somebody has its turn");
        let began = now;
        for attachment in [hungry, other, late] {
            if attachment != late || round >= 3 {
                assert!(!ranges.may_take(attachment, bytes.into(), now));
            }
        }
        now = now.after(Nanos(30 * MS));
        ranges.give(AttachmentIndex(order[round]), bytes);
        ranges.judge(MIB, now.since(began), now);
        assert_eq!(ranges.due(now), Some(ranges.ready_at));
        now = ranges.ready_at;
    }
    assert_eq!(order, [0, 1, 0, 1, 2, 0]);
}

#[test]
fn who_does_not_come_when_it_is_its_turn_is_not_waited_for() {
    let (mut ranges, mut now) = (ranges(DeviceKind::File), 0);
    steps(&mut ranges, &mut now, 1, |_| 20 * MS);
    let [gone, other] = [1, 0].map(AttachmentIndex);
    assert!(!ranges.may_take(gone, 4096, Nanos(now)));
    let ready = ranges.ready_at;
    assert!(!ranges.may_take(other, 4096, ready));
    let over = ready.after(RANGE_GRACE);
    assert_eq!(ranges.due(ready), Some(over));
    assert!(!ranges.may_take(other, 4096, Nanos(over.0 - 1)) && ranges.may_take(other, 4096, over));
    assert_eq!(ranges.due(over), None);
    ranges.take(other, 4096, over);
    assert_eq!(ranges.due(ready), None, "nobody waits");
}

#[test]
fn so_much_has_to_go_quickly_without_a_break() {
    let mut ranges = ranges(DeviceKind::File);
    let mut judge = |bytes, took| {
        ranges.judge(bytes, Nanos(took), Nanos(0));
        (ranges.step(), ranges.one_by_one)
    };
    assert_eq!(judge(MIB / 2, MS), (MIB, false));
    assert_eq!(judge(MIB / 2, 20 * MS), (MIB, true), "neither quick nor slow");
    assert_eq!(judge(MIB / 2, MS), (MIB, true), "what went before is forgotten");
    assert_eq!(judge(MIB / 2, MS), (2 * MIB, false));
    // And for each step anew.
    assert_eq!(judge(MIB, MS), (2 * MIB, false));
    assert_eq!(judge(MIB, MS), (4 * MIB, false));
}

#[test]
fn one_of_half_a_step_tells_how_long_it_should_have_been() {
    let mut ranges = ranges(DeviceKind::File);
    ranges.judge(MIB / 2, Nanos(200 * MS), Nanos(0));
    assert_eq!(ranges.step(), MIB / 4);
}

#[test]
fn another_device_in_the_place_of_a_slow_one_is_not_waited_for() {
    let mut ranges = ranges(DeviceKind::File);
    let mut now = 0;
    steps(&mut ranges, &mut now, 1, |_| 20 * MS);
    let now = Nanos(now);
    assert!(!ranges.may_take(AttachmentIndex(0), MIB, now));
    ranges.serve(&limits(DeviceKind::File, 4096));
    assert_eq!(ranges.due(now), None, "nobody was refused there");
    for attachment in [1, 0].map(AttachmentIndex) {
        assert!(ranges.may_take(attachment, MIB, now));
        ranges.take(attachment, MIB as u32, now);
    }
}

#[test]
fn an_attachment_that_comes_later_has_its_turns_like_the_others() {
    let mut ranges = ranges(DeviceKind::File);
    let late = AttachmentIndex(8);
    ranges.open(late);
    ranges.take(late, 4096, Nanos(7));
    assert_eq!(ranges.served_at(late), Nanos(7));
}

#[test]
fn who_was_refused_and_did_not_come_back_is_forgotten_with_the_next_piece() {
    let (mut ranges, mut now) = (ranges(DeviceKind::File), 0);
    steps(&mut ranges, &mut now, 1, |_| 20 * MS);
    let [gone, other] = [1, 0].map(AttachmentIndex);
    assert!(!ranges.may_take(gone, 4096, Nanos(now)));
    let over = ranges.ready_at.after(RANGE_GRACE);
    ranges.take(other, 4096, over);
    ranges.give(other, 4096);
    assert_eq!(ranges.due(Nanos(now)), None);
}
