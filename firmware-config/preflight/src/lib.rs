//! # preflight: what a machine must be before Palisade may run on it
//!
//! Storey 3. A [`Profile`] is data (`firmware-config/host/*.toml`): what is wanted, how much it matters, and why. A
//! [`Machine`] is a value: what was found under `/proc` and `/sys`, and by trying. [`preflight`] compares the two and returns
//! [`PreflightFinding`]s; it reads and changes nothing. [`apply`] writes what is safe to write on a running machine and reads it
//! back.
//!
//! It must never know REST, reactors or the daemon's configuration; which cores the reactors get is told to the profile.
//!
//! Invariants: a finding always carries a remedy; nothing is written that a running guest could feel as an error; what
//! cannot be read is said to be unknown, never assumed to be well; a bound that is judged is the daemon's, and whose it is said.
//!
//! Start reading at [`profile`], then [`checks`].

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod apply;
pub mod checks;
pub mod cpu_set;
pub mod daemon;
pub mod finding;
pub mod machine;
pub mod profile;
pub mod release;
pub mod render;

pub use apply::{Applied, apply};
pub use checks::preflight;
pub use cpu_set::CpuSet;
pub use daemon::{Bounds, Whose};
pub use finding::{Apply, PreflightFinding, Severity};
pub use machine::{Machine, Trial};
pub use profile::{Profile, ProfileError};
pub use render::{render, render_applied};
