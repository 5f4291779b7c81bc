//! A program that runs on this machine, as an operator knows it.

use std::fmt;
use std::fs;

/// A running program.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Program {
    /// The number of its process.
    pub process: u32,
    /// What the kernel calls it, 15 bytes at most.
    pub name: String,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.process, self.name)
    }
}

/// What /proc says of a process: `pid (name) state parent ...` (proc_pid_stat(5)).
pub(super) struct Stat {
    /// What the kernel calls it; it may have brackets and spaces in it.
    pub(super) name: String,
    /// A letter.
    pub(super) state: char,
    /// Who has started it, or has taken it over.
    pub(super) parent: u32,
}

impl Stat {
    /// Of a process that is there, as it is now.
    pub(super) fn of(process: u32) -> Option<Stat> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (start, rest) = stat.rsplit_once(')')?;
        let (_, name) = start.split_once('(')?;
        let mut words = rest.split_whitespace();
        Some(Stat {
            name: name.into(),
            state: words.next()?.chars().next()?,
            parent: words.next()?.parse().ok()?,
        })
    }

    /// Whether a signal or a tracer has stopped it.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}
