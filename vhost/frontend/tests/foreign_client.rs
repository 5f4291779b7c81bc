//! Other people's client on our door: the `virtio-driver` crate, by its own negotiation and its own rings.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use rustix::io::{pread, pwrite};
use stand::Entrance;
use stand::guest::memfd;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use virtio_driver::{
    VhostUser, VirtioBlkFeatureFlags, VirtioBlkQueue, VirtioBlkTransport, VirtioFeatureFlags,
};

const BLOCK: usize = 4096;

/// Waits for one completion on a queue and gives its context and result.
fn completion(queue: &mut VirtioBlkQueue<'_, u32>) -> (u32, i32) {
    let start = Instant::now();
    loop {
        if let Some(done) = queue.completions().next() {
            return (done.context, done.ret);
        }
        assert!(start.elapsed() < Duration::from_secs(10), "no completion");
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn blocks_move(features: u64) {
    let Entrance {
        door,
        path,
        folder: _folder,
        ..
    } = Entrance::new(1);
    let mut transport: Box<VirtioBlkTransport> =
        Box::new(VhostUser::new(path.to_str().unwrap(), features).unwrap());
    assert_eq!(transport.max_queues(), Some(2));
    let config = transport.get_config().unwrap();
    assert_eq!(u64::from(config.capacity), stand::DISK_SECTORS);
    let mut queues = VirtioBlkQueue::<u32>::setup_queues(transport.as_mut(), 2, 128).unwrap();

    // The driver passes addresses on and never looks behind them. So the addresses of a vector stand for those of
    // the shared file, and the file is read and written as a file.
    let mut addresses = vec![0u8; 2 * BLOCK];
    let file = memfd(addresses.len() as u64);
    transport
        .map_mem_region(addresses.as_ptr() as usize, addresses.len(), file.as_raw_fd(), 0)
        .unwrap();

    for (number, queue) in queues.iter_mut().enumerate() {
        let (context, byte, offset) = (number as u32, 0x30 + number as u8, (number * 8 * BLOCK) as u64);
        pwrite(&file, &[byte; BLOCK], 0).unwrap();
        let kick = transport.get_submission_notifier(number);
        queue.write(offset, &addresses[..BLOCK], context).unwrap();
        kick.notify().unwrap();
        assert_eq!(completion(queue), (context, 0));
        queue.read(offset, &mut addresses[BLOCK..], context + 10).unwrap();
        kick.notify().unwrap();
        assert_eq!(completion(queue), (context + 10, 0));
        let mut read = [0; BLOCK];
        pread(&file, &mut read, BLOCK as u64).unwrap();
        assert_eq!(read, [byte; BLOCK]);
        // Beyond the end: an error and nothing worse.
        queue
            .read(stand::DISK_SECTORS * 512, &mut addresses[..BLOCK], 99)
            .unwrap();
        kick.notify().unwrap();
        let (context, result) = completion(queue);
        assert!(context == 99 && result < 0);
        assert!(
            transport.get_completion_fd(number).read().is_ok(),
            "interrupts were sent"
        );
    }
    drop((queues, transport));
    door.shutdown(Duration::from_secs(10)).unwrap();
}

#[test]
fn blocks_move_with_plain_rings() {
    blocks_move(VirtioFeatureFlags::VERSION_1.bits() | VirtioBlkFeatureFlags::MQ.bits());
}

#[test]
fn blocks_move_with_every_feature_we_offer() {
    let log_all = 1 << 26;
    blocks_move(!log_all);
}
