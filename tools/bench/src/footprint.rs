//! What a process holds: memory by kind, open files, threads.

use crate::Failure;
use procfs::process::Process;
use serde::Serialize;

/// One look at a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Footprint {
    /// Memory of its own: heap, stacks, and plain pages of its pools. KiB.
    pub anonymous_kib: u64,
    /// Pages of its program and libraries, which others may share. KiB.
    pub file_kib: u64,
    /// Pages of shared memory, also explicit hugepages: the guests' own, mapped here. KiB.
    pub shared_kib: u64,
    /// Explicit hugepages that nobody else maps, which the kernel counts in none of the others. KiB.
    pub huge_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

impl Footprint {
    /// Looks at a process.
    pub fn of(process: u32) -> Result<Footprint, Failure> {
        let look = || {
            let process = Process::new(process as i32)?;
            let (status, maps) = (process.status()?, process.smaps_rollup()?.memory_map_rollup);
            let rollup = |name| {
                let parts = maps.iter().filter_map(|map| map.extension.map.get(name));
                parts.sum::<u64>() / 1024
            };
            Ok(Footprint {
                anonymous_kib: status.rssanon.unwrap_or(0),
                file_kib: status.rssfile.unwrap_or(0),
                shared_kib: status.rssshmem.unwrap_or(0) + rollup("Shared_Hugetlb"),
                huge_kib: rollup("Private_Hugetlb"),
                descriptors: process.fd_count()? as u64,
                threads: status.threads,
            })
        };
        look().map_err(|error: procfs::ProcError| Failure::target(&format!("process {process}"), error))
    }

    /// What it has for itself: everything but the guests' memory.
    pub fn own_kib(&self) -> u64 {
        self.anonymous_kib + self.file_kib + self.huge_kib
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let mut held = vec![1u8; 64 << 20];
        held.iter_mut().step_by(512).for_each(|byte| *byte = 2);
        let me = Footprint::of(std::process::id()).unwrap();
        assert!(me.own_kib() >= 64 << 10 && me.own_kib() < 64 << 20, "{me:?}");
        assert!(me.descriptors >= 3 && me.threads >= 1 && held[512] == 2);
        assert!(Footprint::of(u32::MAX >> 1).is_err());
    }
}
