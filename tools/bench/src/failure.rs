//! Why a measurement ended. Nothing here is repaired: the run stops and says what it was doing.

use std::fmt;
use std::io;

/// What went wrong.
#[derive(Debug)]
pub enum Failure {
    /// The kernel refused something.
    System {
        /// What was tried.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A target's vhost-user session went wrong.
    Session {
        /// The request of the protocol.
        request: &'static str,
        /// What was wrong with the answer.
        problem: String,
    },
    /// A target broke the rules of virtio: its figures would mean nothing.
    Ring {
        /// What it did.
        problem: String,
    },
    /// A target could not be started, or ended by itself.
    Target {
        /// Which.
        target: String,
        /// What it said.
        problem: String,
    },
    /// There is nothing to do as asked.
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
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::System { action, source } => write!(f, "cannot {action}: {source}"),
            Failure::Session { request, problem } => write!(f, "vhost-user {request}: {problem}"),
            Failure::Ring { problem } => write!(f, "the target broke the ring: {problem}"),
            Failure::Target { target, problem } => write!(f, "target {target}: {problem}"),
            Failure::Asked { problem } => f.write_str(problem),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Failure::System { source, .. } => Some(source),
            _ => None,
        }
    }
}
