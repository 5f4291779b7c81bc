//! The region by the letter of the specification, and what may be written into it.

use super::*;
use crate::stepped::step_through;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;

fn bytes(file: &OwnedFd) -> Vec<u8> {
    let file = std::fs::File::from(file.try_clone().unwrap());
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn the_layout_is_that_of_the_specification() {
    let (region, file) = InflightRegion::create(2, 4).unwrap();
    assert_eq!(
        InflightRegion::bytes_for(2, 4).unwrap(),
        2 * 128,
        "16 + 4 * 16 bytes, on cache lines"
    );
    assert_eq!(
        region.mmap_bytes(),
        2 * 128 + 64,
        "and the mark on one of its own"
    );
    let mut queue = region.queue(1).unwrap();
    queue.begin(3);
    queue.begin(2);
    queue.finish(3);
    queue.finish(2);
    let seen = bytes(&file);
    assert_eq!(seen[..16], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 4, 0, 0, 0, 0, 0]);
    assert_eq!(seen[16..128], [0; 112]);
    assert_eq!(seen[128..144], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 4, 0, 2, 0, 0, 0]);
    assert_eq!(seen[176..192], [1, 0, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(seen[192..208], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    queue.publish(0x0102);
    let seen = bytes(&file);
    assert_eq!((seen[176], seen[192]), (0, 0));
    assert_eq!(seen[142..144], [2, 1]);
    assert!(region.queue(2).is_none());
}

/// What each step changes in the region, in order: (offset in the queue region, value before, value after) of each byte.
fn changes(file: &OwnedFd, work: impl FnOnce()) -> Vec<(usize, u8, u8)> {
    let mut seen = bytes(file);
    let mut changes = Vec::new();
    step_through(work, || {
        let now = bytes(file);
        let pairs = seen.iter().zip(&now).enumerate();
        changes.extend(
            pairs
                .filter(|(_, (old, new))| old != new)
                .map(|(at, (old, new))| (at, *old, *new)),
        );
        seen = now;
    })
    .unwrap();
    changes
}

/// The process may be killed between any two stores: each comes where the specification has it ("Inflight I/O tracking",
/// split virtqueue: available, steps 1 to 4, used, steps 1 to 7).
#[test]
fn each_store_comes_in_the_order_of_the_specification() {
    let (region, file) = InflightRegion::create(1, 8).unwrap();
    let mut queue = region.queue(0).unwrap();
    // A first batch, so that no value that follows is there already.
    assert!(queue.recover(0, 8).is_empty());
    for head in [5, 6] {
        queue.begin(head);
    }
    queue.finish(5);
    queue.publish(1);
    let at = |head: u16, field: usize| HEADER_BYTES + DESC_BYTES * usize::from(head) + field;
    let begun = changes(&file, || {
        queue.begin(3);
        queue.begin(1);
    });
    let counted = [
        (at(3, AT_COUNTER), 0, 2),
        (at(3, AT_INFLIGHT), 0, 1),
        (at(1, AT_COUNTER), 0, 3),
        (at(1, AT_INFLIGHT), 0, 1),
    ];
    assert_eq!(begun, counted);
    // The child had a copy of the numbers: this process takes the region up anew.
    let mut queue = region.queue(0).unwrap();
    assert_eq!(queue.recover(1, 8), [6, 3, 1]);
    let finished = changes(&file, || {
        queue.finish(1);
        queue.finish(6);
    });
    let linked = [
        (at(1, AT_NEXT), 0, 5),
        (AT_LAST_BATCH_HEAD, 5, 1),
        (at(6, AT_NEXT), 0, 1),
        (AT_LAST_BATCH_HEAD, 1, 6),
    ];
    assert_eq!(finished, linked);
    let mut queue = region.queue(0).unwrap();
    let repaired = changes(&file, || assert_eq!(queue.recover(3, 8), [3]));
    let cleared = [
        (at(6, AT_INFLIGHT), 1, 0),
        (at(1, AT_INFLIGHT), 1, 0),
        (AT_USED_IDX, 1, 3),
    ];
    assert_eq!(repaired, cleared);
    let mut queue = region.queue(0).unwrap();
    assert_eq!(queue.recover(3, 8), [3]);
    queue.finish(3);
    assert_eq!(
        changes(&file, || queue.publish(4)),
        [(at(3, AT_INFLIGHT), 1, 0), (AT_USED_IDX, 3, 4)]
    );
}

#[test]
fn one_that_is_offered_costs_nothing_before_it_is_used() {
    let (bytes, file) = InflightRegion::offer(64, 32768).unwrap();
    let kept = std::fs::File::from(file.try_clone().unwrap());
    let blocks = || std::os::unix::fs::MetadataExt::blocks(&kept.metadata().unwrap());
    assert_eq!(blocks(), 0);
    let region = InflightRegion::map(file, bytes, 0, 64, 32768).unwrap();
    assert!(blocks() > 0 && region.queue(63).unwrap().recover(0, 32768).is_empty());
    assert!(kept.set_len(0).is_err(), "sealed");
}

#[test]
fn recovery_repairs_the_last_batch_and_keeps_the_order() {
    let (region, _file) = InflightRegion::create(1, 8).unwrap();
    let mut queue = region.queue(0).unwrap();
    assert!(queue.recover(0, 8).is_empty());
    for head in [5, 1, 7, 3] {
        queue.begin(head);
    }
    queue.finish(1);
    queue.finish(7);
    // The used index was stored, then the process ended.
    let mut next = region.queue(0).unwrap();
    assert_eq!(next.recover(2, 8), [5, 3]);
    assert!(!next.is_in_flight(1) && !next.is_in_flight(7));
    next.begin(0);
    next.begin(6);
    let mut third = region.queue(0).unwrap();
    assert_eq!(
        third.recover(2, 8),
        [5, 3, 0, 6],
        "new ones count on behind the old"
    );
    assert_eq!(third.recover(2, 4), [3, 0], "a smaller ring has no heads 5 and 6");
}

#[test]
fn a_fresh_region_beside_an_old_ring_has_nothing_in_flight() {
    let (region, _file) = InflightRegion::create(1, 8).unwrap();
    assert!(region.queue(0).unwrap().recover(54_321, 8).is_empty());
}

#[test]
fn what_a_front_end_writes_into_the_region_leads_nowhere() {
    let (region, file) = InflightRegion::create(1, 8).unwrap();
    let raw = std::fs::File::from(file);
    for garbage in [0xff, 0x01, 0x07] {
        raw.write_all_at(&[garbage; 132], 12).unwrap();
        let mut queue = region.queue(0).unwrap();
        let heads = queue.recover(9, 8);
        assert!(heads.len() <= 8 && heads.iter().all(|&head| head < 8));
        for head in [0, 7, 8, u16::MAX] {
            queue.begin(head);
            queue.finish(head);
        }
        queue.publish(13);
    }
}

#[test]
fn regions_that_cannot_be_are_refused() {
    let (region, file) = InflightRegion::create(2, 16).unwrap();
    let bytes = region.mmap_bytes();
    let map = |bytes, offset, queues, size| {
        InflightRegion::map(file.try_clone().unwrap(), bytes, offset, queues, size).unwrap_err()
    };
    assert!(matches!(map(bytes, 0, 0, 16), InflightError::Shape { .. }));
    assert!(matches!(map(bytes, 0, 65, 16), InflightError::Shape { .. }));
    assert!(matches!(map(bytes, 0, 2, 0), InflightError::Shape { .. }));
    assert!(matches!(map(bytes, 0, 2, 32769), InflightError::Shape { .. }));
    let least = InflightRegion::bytes_for(2, 16).unwrap();
    assert!(matches!(map(least - 1, 0, 2, 16), InflightError::TooSmall { .. }));
    assert!(matches!(
        map(bytes, 4, 2, 16),
        InflightError::Misaligned { offset: 4 }
    ));
    assert!(matches!(
        map(u64::MAX, 0, 3, 16),
        InflightError::Map(MapError::FileTooShort { .. })
    ));
    assert!(matches!(
        map(bytes, u64::MAX - 7, 2, 16),
        InflightError::Map(MapError::Extent { .. })
    ));
    let raw = std::fs::File::from(file.try_clone().unwrap());
    raw.write_all_at(&[2, 0], 8).unwrap();
    assert!(matches!(
        map(bytes, 0, 2, 16),
        InflightError::Version { queue: 0, version: 2 }
    ));
    assert!(raw.set_len(0).is_err(), "sealed");
    assert!(InflightRegion::create(64, 32768).is_ok());
}

/// A queue whose states end where the next queue's begin: three entries fill a cache line to the last byte.
#[test]
fn heads_behind_the_end_change_nothing_of_the_next_queue() {
    let (region, file) = InflightRegion::create(2, 3).unwrap();
    assert_eq!(region.mmap_bytes(), 128 + 64);
    let raw = std::fs::File::from(file.try_clone().unwrap());
    raw.write_all_at(&[1; 64], 64).unwrap();
    let mut queue = region.queue(0).unwrap();
    assert_eq!(queue.entries(), 3);
    let last = |file: &OwnedFd| bytes(file)[64..128].to_vec();
    for head in [3, 4, u16::MAX] {
        queue.begin(head);
        queue.finish(head);
        assert!(!queue.is_in_flight(head));
    }
    queue.publish(1);
    // A front-end says that the last batch begins behind the end.
    raw.write_all_at(&3u16.to_ne_bytes(), 12).unwrap();
    queue.begin(2);
    assert_eq!(queue.recover(3, 3), [2]);
    assert_eq!(last(&file), [1; 64]);
}

/// A machine brings its region along, wherever it connects: it is served its own disk, or none.
#[test]
fn a_region_belongs_to_one_volume() {
    const VOLUME: u128 = 3 << 64 | 5;
    let (bytes_there, file) = InflightRegion::offer(2, 3).unwrap();
    let map = |bytes| InflightRegion::map(file.try_clone().unwrap(), bytes, 0, 2, 3).unwrap();
    let is_of_another =
        |region: &InflightRegion, volume| matches!(region.belongs_to(volume), Err(InflightError::OfAnother));
    assert_eq!(bytes(&file)[128..], [0; 64], "nobody's");
    map(bytes_there).belongs_to(VOLUME).unwrap();
    assert_eq!(
        bytes(&file)[128..136],
        6u64.to_ne_bytes(),
        "both halves, in one store"
    );
    let region = map(bytes_there);
    region.belongs_to(VOLUME).unwrap();
    for other in [VOLUME + 1, VOLUME + (1 << 64), 0] {
        assert!(is_of_another(&region, other), "{other:x}");
    }
    assert_eq!(bytes(&file)[128..136], 6u64.to_ne_bytes(), "it stays whose it is");
    // One of the version before ends with its queues; a byte short of the mark is none.
    for short in [bytes_there - 64, bytes_there - 1] {
        let region = map(short);
        assert_eq!(region.mmap_bytes(), 128);
        region.belongs_to(VOLUME + 1).unwrap();
    }
    // Whatever the id, it is somebody's.
    let (region, file) = InflightRegion::create(2, 3).unwrap();
    region.belongs_to(9 << 64 | 9).unwrap();
    assert_eq!(bytes(&file)[128..136], 1u64.to_ne_bytes());
    assert!(is_of_another(&region, VOLUME));
}

#[test]
fn a_region_that_is_made_can_neither_grow_nor_shrink_nor_be_unsealed() {
    let (_, file) = InflightRegion::offer(1, 8).unwrap();
    // SAFETY: a plain call on an open descriptor.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    assert_eq!(seals, libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL);
}

#[derive(Clone, Debug)]
enum Step {
    /// A request is taken, if its head is free.
    Begin(u16),
    /// One of those in flight is answered.
    Finish(usize),
    Publish,
    /// The process ends, before or behind its store of the used index, and another takes over; or the queue is recovered
    /// by the same one.
    End {
        shown: bool,
        again: bool,
    },
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Beside a list of what was taken: what is in flight, and in which order, is known after every end.
    #[test]
    fn what_was_taken_and_not_shown_is_found_in_its_order(
        steps in prop::collection::vec(prop_oneof![
            4 => (0..8u16).prop_map(Step::Begin),
            3 => any::<usize>().prop_map(Step::Finish),
            2 => Just(Step::Publish),
            1 => (any::<bool>(), any::<bool>()).prop_map(|(shown, again)| Step::End { shown, again }),
        ], 1..80),
        first: u16,
    ) {
        let (region, _file) = InflightRegion::create(1, 8).unwrap();
        let mut queue = region.queue(0).unwrap();
        prop_assert!(queue.recover(first, 8).is_empty());
        let (mut taken, mut batch, mut used_idx) = (Vec::<u16>::new(), Vec::new(), first);
        for step in steps {
            match step {
                Step::Begin(head) if taken.contains(&head) => {}
                Step::Begin(head) => {
                    queue.begin(head);
                    taken.push(head);
                }
                Step::Finish(which) => {
                    let open: Vec<u16> = taken.iter().filter(|head| !batch.contains(*head)).copied().collect();
                    if let Some(head) = open.get(which % open.len().max(1)) {
                        queue.finish(*head);
                        batch.push(*head);
                    }
                }
                Step::Publish | Step::End { shown: true, .. } => {
                    used_idx = used_idx.wrapping_add(batch.len() as u16);
                    taken.retain(|head| !batch.contains(head));
                    batch.clear();
                    if matches!(step, Step::Publish) {
                        queue.publish(used_idx);
                    }
                }
                Step::End { .. } => batch.clear(),
            }
            if let Step::End { again, .. } = step {
                if !again {
                    queue = region.queue(0).unwrap();
                }
                prop_assert_eq!(queue.recover(used_idx, 8), taken.clone());
            }
            for head in 0..8 {
                prop_assert_eq!(queue.is_in_flight(head), taken.contains(&head), "{}", head);
            }
        }
    }
}
