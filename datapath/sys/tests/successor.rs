//! A process is killed under write load; its successor opens the same file. No late write of the dead one may land
//! after that (invariants: an acknowledged write is never undone by a late message).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::{Devices, Io, Nanos, Op, Segment, Started};
use palisade_sys::{DeviceSpec, Opened};
use palisade_words::{Lba, MemoryId, Sectors, SlotIndex};
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
        // Only reading: a writer's open probes for holes, and that would wait for direct writes by itself on ext4.
        let spec = DeviceSpec {
            read_only: true,
            ..rig::file_spec(&path, BYTES, 4096)
        };
        let heir = Opened::open(&spec, Duration::from_secs(20)).unwrap();
        assert!(
            !has_open(victim.id(), &path),
            "the successor has opened before the victim has closed"
        );
        let (mut first, mut second) = (vec![0; BYTES as usize], vec![0; BYTES as usize]);
        heir.read_at(0, &mut first).unwrap();
        victim.wait().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        heir.read_at(0, &mut second).unwrap();
        assert!(first == second, "a late write has landed");
    }
}

fn has_open(process: u32, path: &Path) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    descriptors
        .into_iter()
        .any(|one| std::fs::read_link(one.path()).is_ok_and(|to| to == path))
}

/// Keeps 16 writes of 1 MiB in flight until somebody ends it.
fn write_for_ever(path: &Path) -> ! {
    let opened = Opened::open(&rig::file_spec(path, BYTES, 4096), Duration::from_secs(20)).unwrap();
    let mut rig = Rig::new(Arc::new(opened));
    let mut buffer = Buffer::new(16 << 20);
    rig.on(&buffer);
    let lists: Vec<_> = (0..16)
        .map(|slot| [buffer.segment(slot << 20, 1 << 20)])
        .collect();
    let (mut free, mut finished, mut started) = ((0..16).collect::<Vec<u32>>(), 0u64, 0u64);
    loop {
        while let Some(slot) = free.pop() {
            let at = (slot as usize) << 20;
            // Never the same data twice at one place, so that a write that lands late is seen.
            buffer.slice()[at..at + (1 << 20)].fill((started / 64) as u8);
            let io = write(slot, Lba(started % 64 * (MIB / 512)), &lists[slot as usize]);
            assert_eq!(rig.devices.start(io), Started::Pending);
            started += 1;
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
        rig.devices.pause();
    }
}

fn write(slot: u32, lba: Lba, segments: &[Segment]) -> Io<'_> {
    Io {
        device: DEVICE,
        slot: SlotIndex(slot),
        mapping: &rig::MAPPING,
        deadline: Nanos(u64::MAX),
        op: Op::Write,
        lba,
        sectors: Sectors(MIB / 512),
        durable: false,
        alone: false,
        memory: MemoryId(0),
        segments,
    }
}
