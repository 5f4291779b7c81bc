//! How the daemon before this one ended: in good order, or not. Events are gone with the process that had them, so
//! whoever looks at them would take a crash for a restart that somebody wanted.
//!
//! A file in the state directory stands for a run: made when the node serves, removed when it has been shut down.

use crate::own_file;
use std::fs;
use std::io;
use std::path::Path;

/// Name of the file.
const FILE: &str = "running";

/// The end of the run before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LastRun {
    /// It was shut down, or there was none.
    ShutDown,
    /// It crashed or was killed.
    Crashed {
        /// Its process id.
        pid: String,
    },
    /// The machine stopped or crashed with it.
    MachineStopped,
}

impl LastRun {
    /// What is to be told of it, if anything.
    pub fn told(&self) -> Option<String> {
        match self {
            LastRun::ShutDown => None,
            LastRun::Crashed { pid } => Some(format!(
                "the daemon before this one (process {pid}) ended without shutting down: it crashed or was killed; the \
                 journal says more (journalctl -u palisaded, and journalctl -k for want of memory)"
            )),
            LastRun::MachineStopped => Some(
                "the machine stopped without shutting the daemon down before: a power cut, a crash or a forced reset"
                    .into(),
            ),
        }
    }
}

/// Says how the run before ended, and begins this one.
///
/// # Errors
/// The file cannot be written; the next start will take this run for one that was shut down.
pub fn begin(state_dir: &Path) -> (LastRun, io::Result<()>) {
    let path = state_dir.join(FILE);
    let boot = boot_id();
    let last = match own_file::read(&path) {
        Err(_) => LastRun::ShutDown,
        Ok(text) => match text.trim().split_once(' ') {
            Some((before, pid)) if before == boot => LastRun::Crashed { pid: pid.to_owned() },
            _ => LastRun::MachineStopped,
        },
    };
    let begun = fs::write(&path, format!("{boot} {}\n", std::process::id()));
    (last, begun)
}

/// The run has been shut down.
pub fn end(state_dir: &Path) {
    if let Err(error) = fs::remove_file(state_dir.join(FILE))
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("the next start will take this end for a crash: {FILE} cannot be removed: {error}");
    }
}

/// Tells one run of the machine from another.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_was_not_shut_down_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let begins = || {
            let (last, begun) = begin(folder.path());
            begun.unwrap();
            last
        };
        assert_eq!(begins(), LastRun::ShutDown, "the first one");
        end(folder.path());
        assert_eq!(begins(), LastRun::ShutDown);
        let pid = std::process::id().to_string();
        let crashed = begins();
        assert_eq!(crashed, LastRun::Crashed { pid: pid.clone() });
        assert!(crashed.told().unwrap().contains(&pid));
        fs::write(folder.path().join(FILE), "another-boot 1\n").unwrap();
        assert_eq!(begins(), LastRun::MachineStopped);
        end(folder.path());
        end(folder.path());
        assert_eq!(begins(), LastRun::ShutDown);
    }
}
