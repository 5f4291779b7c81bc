//! The dirty log: every page written on the guest's behalf is marked, by whatever way it was written.

use super::rig::{DATA, Rig, device_writes};
use crate::Broken;
use crate::blk::kind;
use crate::driver::{Buffer, DriverOptions};
use palisade_block::{Answer, Op, Pulled, Segment, Source, Status};
use palisade_memory::{DirtyLog, InflightRegion};
use proptest::prelude::*;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

fn rig() -> (Rig, Arc<DirtyLog>) {
    // Any sealed file will do as a log: 16 queues of 256 entries are 66 KiB, enough for 2 GiB of guest memory.
    let (region, file) = InflightRegion::create(16, 256).unwrap();
    let log = DirtyLog::map(file.try_clone().unwrap(), region.mmap_bytes(), 0).unwrap();
    let options = DriverOptions {
        size: 256,
        event_idx: true,
        indirect: false,
    };
    let rig = Rig::with(options, |setup| {
        setup.dirty_log = Some(Arc::clone(&log));
        setup.log_used_at = Some(setup.ring.used);
    });
    assert!(log.covers(&rig.memory));
    // The region's own headers are not empty: they stand for pages this guest does not have, or count as marked.
    (rig, log)
}

fn marked(log: &DirtyLog, from: u64, to: u64) -> Vec<u64> {
    (from..to)
        .step_by(4096)
        .filter(|&page| log.is_marked(page))
        .collect()
}

#[test]
fn data_status_and_used_ring_are_marked() {
    let (mut rig, log) = rig();
    let data = DATA + 0x1800;
    let head = rig.submit(kind::IN, 0, &[device_writes(data, 8192)]);
    rig.driver.publish();
    let request = rig.request();
    let before = marked(&log, DATA, DATA + 0x8000);
    assert!(before.is_empty());
    let dirtied = rig.segments.as_slice().to_vec();
    rig.queue.finish(Answer {
        token: request.token,
        status: Status::Ok,
        fault: None,
        dirtied: &dirtied,
    });
    rig.queue.publish();
    assert_eq!(
        marked(&log, DATA, DATA + 0x8000),
        [DATA + 0x1000, DATA + 0x2000, DATA + 0x3000]
    );
    assert!(log.is_marked(rig.driver.slot(head) + 32));
    assert!(log.is_marked(rig.driver.addresses().used));
}

#[test]
fn the_device_id_is_marked() {
    let (mut rig, log) = rig();
    rig.submit_and_see(kind::GET_ID, &[device_writes(DATA + 4090, 20)]);
    assert_eq!(marked(&log, DATA, DATA + 0x4000), [DATA, DATA + 4096]);
}

/// Where the data of these tests ends.
const DATA_END: u64 = DATA + 0xc000;

/// Guest memory as a migration copies it, page by page: where the ring lies, and where the data does.
fn pages(rig: &Rig) -> Vec<(u64, [u8; 4096])> {
    let ring = 0..0x1000 + rig.driver.options().bytes();
    let mut pages = Vec::new();
    for at in ring.step_by(4096).chain((DATA..DATA_END).step_by(4096)) {
        let mut page = [0; 4096];
        assert!(rig.memory.read(at, &mut page));
        pages.push((at, page));
    }
    pages
}

#[derive(Clone, Debug)]
enum Step {
    Submit(u32, u64),
    Pull,
    Finish(usize, Status),
    Publish,
    Arm,
    Disarm,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kinds = prop_oneof![
        3 => Just(kind::IN),
        1 => Just(kind::OUT),
        1 => Just(kind::GET_ID),
        1 => Just(kind::FLUSH),
        1 => Just(99u32),
    ];
    let status = prop_oneof![3 => Just(Status::Ok), 1 => Just(Status::IoErr)];
    let step = prop_oneof![
        6 => (kinds, 0..8u64).prop_map(|(kind, at)| Step::Submit(kind, at)),
        6 => Just(Step::Pull),
        4 => (any::<usize>(), status).prop_map(|(which, status)| Step::Finish(which, status)),
        3 => Just(Step::Publish),
        1 => Just(Step::Arm),
        1 => Just(Step::Disarm),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// The one thing a log is for: a page that we have changed is copied again.
    #[test]
    fn every_page_that_changes_is_marked(event_idx: bool, first: u16, steps in steps()) {
        let (_, file) = InflightRegion::offer(16, 256).unwrap();
        let file = std::fs::File::from(file);
        let log = DirtyLog::map(file.try_clone().unwrap().into(), 4096, 0).unwrap();
        // The used ring of 1024 entries lies on three pages, and its end on another than its head.
        let options = DriverOptions { size: 1024, event_idx, indirect: false };
        let mut rig = Rig::with(options, |setup| {
            // The ring has been in use for a while.
            for at in [setup.ring.avail + 2, setup.ring.used + 2] {
                assert!(setup.memory.store_u16(at, first));
            }
            setup.base = first;
            setup.dirty_log = Some(Arc::clone(&log));
            setup.log_used_at = Some(setup.ring.used);
        });
        let avail = rig.driver.addresses().avail;
        let (mut next, mut held) = (first, Vec::new());
        for step in steps {
            if let Step::Submit(kind, at) = step {
                let write = kind != kind::OUT;
                let bytes = if kind == kind::GET_ID { 20 } else { 8192 };
                let data = [Buffer { address: DATA + 0x1000 * at + 100, bytes, write }];
                let head = rig.submit(kind, 8, if kind == kind::FLUSH { &[] } else { &data });
                rig.memory.store_u16(avail + 4 + 2 * u64::from(next % 1024), head);
                next = next.wrapping_add(1);
                rig.memory.store_u16(avail + 2, next);
                continue;
            }
            let before = pages(&rig);
            match step {
                Step::Pull => {
                    if let Pulled::Request(request) = rig.pull() {
                        held.push((request, rig.segments.as_slice().to_vec()));
                    }
                }
                Step::Finish(which, status) if !held.is_empty() => {
                    let (request, segments) = held.remove(which % held.len());
                    let dirtied: &[Segment] = if request.op == Op::Read { &segments } else { &[] };
                    // The device has written the data, whatever it says then.
                    for segment in dirtied {
                        let at = rig.memory.host_to_guest(segment.address()).unwrap();
                        let mut data = vec![0; segment.bytes()];
                        assert!(rig.memory.read(at, &mut data));
                        data.iter_mut().for_each(|byte| *byte = !*byte);
                        assert!(rig.memory.write(at, &data));
                    }
                    rig.queue.finish(Answer { token: request.token, status, fault: None, dirtied });
                }
                Step::Finish(..) | Step::Submit(..) => {}
                Step::Publish => rig.queue.publish(),
                Step::Arm => drop(rig.queue.arm()),
                Step::Disarm => rig.queue.disarm(),
            }
            for ((at, before), (_, now)) in before.iter().zip(pages(&rig)) {
                prop_assert!(*before == now || log.is_marked(*at), "{:?} has changed {:#x}", step, at);
            }
            // All is copied; what changes from here on has to be marked anew.
            file.write_all_at(&[0; 4096], 0).unwrap();
        }
        for (request, _) in held {
            request.token.spend();
        }
    }
}

/// A log that is lost says nothing any more of what was written: the queue must not go on as if it did.
#[test]
fn a_lost_log_breaks_the_queue() {
    // A file of tmpfs that has a name cannot be sealed.
    let path = format!("/dev/shm/palisade-log-{}", std::process::id());
    let mut options = std::fs::File::options();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file.set_len(4096).unwrap();
    let log = DirtyLog::map(file.try_clone().unwrap().into(), 4096, 0).unwrap();
    let options = DriverOptions {
        size: 16,
        event_idx: false,
        indirect: false,
    };
    let mut rig = Rig::with(options, |setup| {
        setup.dirty_log = Some(Arc::clone(&log));
        setup.log_used_at = Some(setup.ring.used);
    });
    rig.submit_and_see(kind::GET_ID, &[device_writes(DATA, 20)]);
    file.set_len(0).unwrap();
    rig.submit_and_see(kind::GET_ID, &[device_writes(DATA, 20)]);
    assert!(log.is_lost());
    rig.submit(kind::GET_ID, 0, &[device_writes(DATA, 20)]);
    rig.driver.publish();
    assert!(matches!(rig.pull(), Pulled::Empty));
    assert_eq!(rig.queue.broken(), Some(Broken::MemoryLost));
}
