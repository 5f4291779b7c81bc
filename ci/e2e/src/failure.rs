//! Why a scenario failed, in words for the person who reads the run.

use std::fmt;

/// What was tried, and what was seen instead of the wanted.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    what: String,
}

impl Failure {
    /// A failure described by `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }

    /// Wraps `error` with what was being done.
    pub fn during(doing: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self {
            what: format!("{doing}: {error}"),
        }
    }
}

/// What a step of a scenario returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Fails with `what` unless `holds`.
///
/// # Errors
/// The failure itself, when `holds` is false.
pub fn demand(holds: bool, what: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(Failure::new(what)) }
}
