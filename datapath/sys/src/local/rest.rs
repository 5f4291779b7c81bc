//! How a reactor sleeps.
//!
//! In the ring, where completions are worked off by our own calls (DEFER_TASKRUN, Linux 6.1): one io_uring_enter hands
//! over what waits, sleeps, and brings the completion that ended the sleep. Otherwise in epoll, which the ring signals
//! through an eventfd: there a completion needs a second call to be fetched.

use crate::EventFd;
use crate::sleep::Sleeper;
use std::io;

/// Readiness events taken from epoll at once. Which they are matters to nobody.
const EVENTS: usize = 64;

#[derive(Debug)]
pub(super) enum Rest {
    Ring,
    Epoll {
        sleeper: Sleeper,
        /// Signalled by the ring, while armed.
        completed: EventFd,
    },
}

impl Rest {
    pub(super) fn epoll() -> io::Result<Rest> {
        Ok(Rest::Epoll {
            sleeper: Sleeper::new(EVENTS)?,
            completed: EventFd::new()?,
        })
    }
}
