//! A process is killed under write load; its successor opens the same file. No late write of the dead one may land
//! after that (invariants: an acknowledged write is never undone by a late message).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Devices, Io, Lba, MemoryId, Op, Sectors, Segment, SlotIndex, Started};
use palisade_sys::Opened;
use rig::{Buffer, DEVICE, MIB, Rig};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const BYTES: u64 = 64 * MIB;
const VICTIM: &str = "PALISADE_TEST_VICTIM";

#[test]
fn nothing_of_a_killed_process_lands_after_its_successor_has_opened() {
    if let Some(path) = std::env::var_os(VICTIM) {
        write_for_ever(Path::new(&path));
    }
    let directory = rig::directory();
    let path = directory.path().join("disk");
    for _ in 0..5 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "nothing_of_a_killed_process_lands_after_its_successor_has_opened",
                "--nocapture",
            ])
            .env(VICTIM, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().contains("under load")),
            "the victim writes"
        );
        victim.kill().unwrap();
        let heir = Opened::open(&rig::file_spec(&path, BYTES, 4096), Duration::from_secs(20)).unwrap();
        assert!(!heir.created());
        for at in (0..BYTES).step_by(MIB as usize) {
            heir.write_at(at, &vec![0; MIB as usize]).unwrap();
        }
        victim.wait().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let mut all = vec![1; BYTES as usize];
        heir.read_at(0, &mut all).unwrap();
        assert!(all.iter().all(|&byte| byte == 0), "a late write has landed");
    }
}

/// Keeps 16 writes of 1 MiB in flight until somebody ends it.
fn write_for_ever(path: &Path) -> ! {
    let opened = Opened::open(&rig::file_spec(path, BYTES, 4096), Duration::from_secs(20)).unwrap();
    let mut rig = Rig::new(Arc::new(opened));
    let mut buffer = Buffer::new(1 << 20);
    buffer.slice().fill(0xee);
    let segments = [buffer.segment(0, 1 << 20)];
    let (mut free, mut finished) = ((0..16).collect::<Vec<u32>>(), 0u64);
    loop {
        while let Some(slot) = free.pop() {
            let lba = Lba((finished + u64::from(slot)) % 64 * (MIB / 512));
            assert_eq!(rig.devices.start(write(slot, lba, &segments)), Started::Pending);
        }
        rig.devices.submit();
        let before = finished;
        rig.devices.reap(|slot, result| {
            assert_eq!(result, Ok(()));
            finished += 1;
            free.push(slot.0);
        });
        if before < 64 && finished >= 64 {
            println!("under load");
        }
        rig.devices.idle_hint();
    }
}

fn write(slot: u32, lba: Lba, segments: &[Segment]) -> Io<'_> {
    Io {
        device: DEVICE,
        slot: SlotIndex(slot),
        op: Op::Write,
        lba,
        sectors: Sectors(MIB / 512),
        durable: false,
        memory: MemoryId(0),
        segments,
    }
}
