//! What a process holds: memory by kind, open files, threads. Read from /proc.

use crate::Failure;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One look at a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Footprint {
    /// Memory of its own: heap, stacks, and hugepages or pages of its pools. KiB.
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
        let folder = PathBuf::from(format!("/proc/{process}"));
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(Failure::system(format!("read {}", path.display())))
        };
        let (status, maps) = (read("status")?, read("smaps_rollup")?);
        let descriptors = count(&folder.join("fd"))?;
        Footprint::parse(&status, &maps, descriptors).ok_or_else(|| Failure::Target {
            target: "palisaded".into(),
            problem: format!("its memory in {} cannot be understood", folder.display()),
        })
    }

    /// What it has for itself: everything but the guests' memory.
    pub fn own_kib(&self) -> u64 {
        self.anonymous_kib + self.file_kib + self.huge_kib
    }

    fn parse(status: &str, maps: &str, descriptors: u64) -> Option<Footprint> {
        Some(Footprint {
            anonymous_kib: field(status, "RssAnon:")?,
            file_kib: field(status, "RssFile:")?,
            shared_kib: field(status, "RssShmem:")? + field(maps, "Shared_Hugetlb:")?,
            huge_kib: field(maps, "Private_Hugetlb:")?,
            descriptors,
            threads: field(status, "Threads:")?,
        })
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn count(folder: &Path) -> Result<u64, Failure> {
    let entries = std::fs::read_dir(folder).map_err(Failure::system(format!("read {}", folder.display())))?;
    Ok(entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_name() {
        let status = "Name:\tx\nVmRSS:\t  60 kB\nRssAnon:\t  10 kB\nRssFile:\t  20 kB\nRssShmem:\t  30 kB\nThreads:\t7\n";
        let maps = "Rss:   60 kB\nShared_Hugetlb:   4096 kB\nPrivate_Hugetlb:   2048 kB\n";
        let footprint = Footprint::parse(status, maps, 5).unwrap();
        assert_eq!(
            (
                footprint.own_kib(),
                footprint.shared_kib,
                footprint.descriptors,
                footprint.threads
            ),
            (2078, 4126, 5, 7)
        );
        assert!(Footprint::parse(status, "", 5).is_none());
    }

    #[test]
    fn this_process_has_memory() {
        let me = std::process::id();
        let footprint = Footprint::of(me).unwrap();
        assert!(footprint.own_kib() > 100 && footprint.descriptors >= 3 && footprint.threads >= 1);
        assert!(Footprint::of(u32::MAX).is_err());
    }
}
