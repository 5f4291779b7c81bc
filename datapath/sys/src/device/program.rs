//! A program that runs on this machine, as an operator knows it.

use std::fmt;

/// A running program.
#[derive(Clone, PartialEq, Eq, Debug)]
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
