//! Why a measurement ended. Nothing here is repaired: the run stops and says what it was doing.

use std::fmt::Display;
use std::io;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The kernel refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A target broke the rules of virtio: its figures would mean nothing.
    #[error("the target broke the ring: {problem}")]
    Ring {
        /// What it did.
        problem: String,
    },
    /// A target could not be started, refused something, or ended by itself.
    #[error("target {target}: {problem}")]
    Target {
        /// Which.
        target: String,
        /// What it said.
        problem: String,
    },
    /// There is nothing to do as asked.
    #[error("{problem}")]
    Asked {
        /// Why.
        problem: String,
    },
}

impl Failure {
    /// Wraps what the kernel said.
    pub fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        let action = action.into();
        move |source| Failure::System { action, source }
    }

    /// Names the target that something went wrong with.
    pub fn target(target: &str, problem: impl Display) -> Failure {
        Failure::Target {
            target: target.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// Says what cannot be done as asked.
    pub fn asked(problem: impl Into<String>) -> Failure {
        Failure::Asked {
            problem: problem.into(),
        }
    }
}
