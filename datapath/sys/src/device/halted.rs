//! Processes of disks that somebody has stopped by a signal, or a debugger: they wait for nothing that the device could bring.

use super::program::{Program, Stat};
use crate::disk_process::NAME_START;
use std::fs;
use std::path::Path;

/// Longest name that the kernel keeps of a process.
const NAME_BYTES_MAX: usize = 15;

/// A process of a disk that is stopped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Halted {
    /// Which.
    pub program: Program,
}

impl Halted {
    /// Whether it may be the process of a disk at a path: its name is the beginning of that of the file.
    pub fn may_serve(&self, path: &Path) -> bool {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let name: Vec<u8> = format!("{NAME_START}{file}").into_bytes();
        name.get(..name.len().min(NAME_BYTES_MAX)) == Some(self.program.name.as_bytes())
    }
}

/// The processes of disks of this daemon that are stopped. Reads a line of /proc for each, and waits for none of them.
pub fn halted() -> Vec<Halted> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut found: Vec<Halted> = children
        .flat_map(|all| {
            let numbers = all.split_whitespace().filter_map(|number| number.parse().ok());
            numbers.collect::<Vec<u32>>()
        })
        .filter_map(stopped)
        .collect();
    found.sort();
    found
}

fn stopped(process: u32) -> Option<Halted> {
    let stat = Stat::of(process)?;
    let is_stopped = stat.is_stopped() && stat.name.starts_with(NAME_START);
    let name = stat.name;
    is_stopped.then_some(Halted {
        program: Program { process, name },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk_process::DiskProcess;
    use std::time::{Duration, Instant};

    #[test]
    fn a_process_that_is_stopped_is_seen_until_it_goes_on() {
        let process = DiskProcess::start("halted-one.img").unwrap();
        let id = process.call(|_| std::process::id()).unwrap();
        let seen = || halted().into_iter().find(|one| one.program.process == id);
        let signal = |number| {
            // SAFETY: it takes no pointers, and the process is ours.
            assert_eq!(unsafe { libc::kill(id as libc::pid_t, number) }, 0);
        };
        let until = |wanted: bool| {
            let begin = Instant::now();
            while seen().is_some() != wanted {
                assert!(begin.elapsed() < Duration::from_secs(10), "stopped: {wanted}");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        assert_eq!(seen(), None);
        signal(libc::SIGSTOP);
        until(true);
        let one = seen().unwrap();
        assert_eq!(one.program.name, "io:halted-one.i");
        assert!(one.may_serve(Path::new("/disks/halted-one.img")));
        assert!(!one.may_serve(Path::new("/disks/halted.img")) && !one.may_serve(Path::new("/")));
        signal(libc::SIGCONT);
        until(false);
        drop(process);
    }
}
