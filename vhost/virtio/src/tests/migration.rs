//! The dirty log: every page written on the guest's behalf is marked, by whatever way it was written.

use super::rig::{DATA, Rig, device_writes};
use crate::blk::kind;
use crate::driver::DriverOptions;
use palisade_block::{Answer, Source, Status};
use palisade_memory::{DirtyLog, InflightRegion};
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
