//! Hugepages, where the machine has some free: they are used, pinned for I/O and given back. Where it has none the
//! same runs on plain pages, and says so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Devices, Pool};
use palisade_sys::{HugeMemory, HugePool, MemoryRegistration, PageBacking};
use palisade_words::MemoryId;
use rig::{MIB, Rig};
use std::sync::Arc;

/// Free hugepages of 2 MiB.
fn free_pages() -> u64 {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    std::fs::read_to_string(path).map_or(0, |text| text.trim().parse().unwrap())
}

#[test]
fn hugepages_are_used_and_given_back() {
    let free = free_pages();
    let expected = if free >= 8 {
        PageBacking::Huge2M
    } else {
        PageBacking::Plain
    };
    if expected == PageBacking::Plain {
        eprintln!("{free} free hugepages: running on plain pages");
    }
    // Far more than there are, one after the other: a mapping that is not unmapped would run out of them.
    for _ in 0..free.min(1000) + 8 {
        assert_eq!(HugeMemory::new(3 << 20).unwrap().backing(), expected);
    }
    let directory = rig::directory();
    let (_, opened) = rig::open_file(&directory, MIB, 4096);
    let mut rig = Rig::new(opened);
    let mut pool = HugePool::new(16).unwrap();
    assert_eq!((pool.backing(), pool.locked()), (expected, true));
    let registration = Arc::new(MemoryRegistration::prepare(&pool.lease()));
    // Before Linux 6.13 rings do not share pinned memory, and the pool goes without.
    let pinned = rig::kernel_is_from(6, 13);
    assert_eq!(registration.coverage().unpinned_bytes == 0, pinned);
    assert_eq!(
        rig.devices.add_pool_memory(registration).unpinned_bytes == 0,
        pinned
    );
    rig.devices.keep_pool(&pool.lease());
    rig.memory = MemoryId::POOL;
    let (out, back) = (pool.take().unwrap(), pool.take().unwrap());
    let mut guest = rig::Buffer::new(8192);
    guest.fill(0, 4096, 5);
    let lease = guest.0.lease().clone();
    pool.gather(&lease, &[guest.segment(0, 4096)], 0, out, 4096);
    assert_eq!(rig.write(8192, &[out.first(4096)]), Ok(()));
    assert_eq!(rig.read(8192, &[back.first(4096)]), Ok(()));
    pool.scatter(back, &lease, &[guest.segment(4096, 4096)], 0, 4096);
    assert!(guest.holds(4096, 4096, 5));
}

#[test]
fn more_than_there_are_falls_back_to_plain_pages() {
    let memory = HugeMemory::new(((free_pages() + 512) as usize) << 21).unwrap();
    assert_eq!(memory.backing(), PageBacking::Plain);
}
