//! The front-end that comes while another one is connected. It is taken from the backlog, where nobody would see whether it
//! is still there, and nothing is read from it before it is its turn.

use super::attachment::WAITING;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::time::Instant;

/// Room for one; those behind it stay in the backlog.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    one: Option<(UnixStream, Instant)>,
}

impl WaitingRoom {
    /// Since when somebody waits, if somebody does.
    pub(super) fn since(&self) -> Option<Instant> {
        self.one.as_ref().map(|(_, since)| *since)
    }

    /// Lets go of one that has gone. Whether it is empty now.
    pub(super) fn is_empty_now(&mut self, registry: &Registry) -> bool {
        if self.one.as_ref().is_some_and(|(stream, _)| has_gone(stream)) {
            self.clear(registry);
        }
        self.one.is_none()
    }

    /// Takes the next from the backlog. An error of kind `WouldBlock` says that there is nobody.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn take_in(&mut self, listener: &UnixListener, registry: &Registry) -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        registry.register(&mut stream, WAITING, Interest::READABLE)?;
        self.one = Some((stream, Instant::now()));
        Ok(())
    }

    /// Whoever waits, for its turn; not watched any more.
    pub(super) fn call_in(&mut self, registry: &Registry) -> Option<UnixStream> {
        let (mut stream, _) = self.one.take()?;
        registry.deregister(&mut stream).ok()?;
        Some(stream)
    }

    /// Sends whoever waits away.
    pub(super) fn clear(&mut self, registry: &Registry) {
        drop(self.call_in(registry));
    }
}

/// Whether the other side has closed its end. What it has sent before may be there still.
fn has_gone(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let asked = poll(&mut polled, Some(&at_once));
    let [one] = &polled;
    asked.is_ok()
        && one
            .revents()
            .intersects(PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR)
}
