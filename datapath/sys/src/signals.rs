//! Signals as values: blocked in every thread, fetched by one.

use std::io;
use std::time::Duration;

/// What the node was asked to do from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain and stop.
    Stop,
    /// SIGHUP.
    Reload,
}

/// The signals a daemon answers to, blocked for this thread and all that it starts from now on.
#[derive(Debug)]
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks SIGTERM, SIGINT and SIGHUP, and ignores SIGPIPE. To be called before other threads exist.
    pub fn block() -> io::Result<Signals> {
        // SAFETY: the set is plain data, initialised by sigemptyset before it is read; the calls take valid pointers.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(&mut set, signal);
            }
            let failed = libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            if failed != 0 {
                return Err(io::Error::from_raw_os_error(failed));
            }
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            Ok(Signals { set })
        }
    }

    /// Waits for one of them; `None` when the time is up.
    pub fn wait(&self, patience: Duration) -> Option<Signal> {
        let timeout = libc::timespec {
            tv_sec: patience.as_secs() as libc::time_t,
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        // SAFETY: both pointers lead to initialised values that outlive the call; no siginfo is asked for.
        match unsafe { libc::sigtimedwait(&self.set, std::ptr::null_mut(), &timeout) } {
            libc::SIGTERM | libc::SIGINT => Some(Signal::Stop),
            libc::SIGHUP => Some(Signal::Reload),
            _ => None,
        }
    }
}
