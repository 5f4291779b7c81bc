//! Closes descriptors for reactors, which never wait: closing a socket takes its lock and throws away what was received, and with
//! kernel TLS it waits until records have been encrypted. One thread of the process does it, for all reactors.

use crossbeam::queue::ArrayQueue;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::thread::Thread;

/// Descriptors that may wait. More connections than this end only with the whole network.
const PLACES: usize = 1024;

static CLOSER: OnceLock<Closer> = OnceLock::new();

struct Closer {
    waiting: ArrayQueue<OwnedFd>,
    /// `None` when the system had no thread for it: reactors close themselves then.
    thread: OnceLock<Option<Thread>>,
}

/// Starts the thread at the first call in a process. Not part of a turn.
pub(super) fn start() {
    let closer = CLOSER.get_or_init(|| Closer {
        waiting: ArrayQueue::new(PLACES),
        thread: OnceLock::new(),
    });
    closer.thread.get_or_init(|| {
        let started = std::thread::Builder::new()
            .name("closer".into())
            .spawn(|| closer.run());
        started.ok().map(|handle| handle.thread().clone())
    });
}

/// Ends a connection and closes its socket, elsewhere if that is possible. Neither waits nor allocates.
pub(super) fn close(socket: OwnedFd) {
    let thread = CLOSER
        .get()
        .and_then(|closer| Some((closer, closer.thread.get()?.as_ref()?)));
    let Some((closer, thread)) = thread else {
        return end(socket);
    };
    match closer.waiting.push(socket) {
        Ok(()) => thread.unpark(),
        // It does not linger, so that this is short but for kernel TLS, and better than a descriptor too many.
        Err(socket) => end(socket),
    }
}

impl Closer {
    fn run(&self) {
        loop {
            while let Some(socket) = self.waiting.pop() {
                end(socket);
            }
            std::thread::park();
        }
    }
}

fn end(socket: OwnedFd) {
    // Also where the descriptor was duplicated; one that is not connected any more says so, and is closed all the same.
    let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
    drop(socket);
}
