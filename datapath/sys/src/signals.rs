//! Signals as values: blocked in every thread, fetched by one.
//!
//! Every signal whose default is to end or to stop a process is taken care of, so that none that a shell, a terminal, a
//! limit or another program may send ends the appliance; but for those that report a crash (SIGSEGV and its kin) and the
//! two that nobody can refuse.

use std::io;
use std::time::Duration;

/// What the node was asked to do from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM, SIGINT or SIGQUIT: drain and stop.
    Stop,
    /// SIGHUP.
    Reload,
    /// Another, by its number, which asks for nothing.
    Other(i32),
}

/// What ends a write is told by its error, and what a limit on time or a terminal has to say is not for a daemon. A write
/// beyond RLIMIT_FSIZE fails with EFBIG then.
const IGNORED: [libc::c_int; 5] = [
    libc::SIGPIPE,
    libc::SIGXFSZ,
    libc::SIGXCPU,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Fetched: those that ask for something, and those that would end or stop the process for nothing.
const FETCHED: [libc::c_int; 13] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGTSTP,
];

/// The signals a daemon answers to, blocked for this thread and all that it starts from now on.
#[derive(Debug)]
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Takes care of all signals. To be called before other threads exist.
    ///
    /// # Errors
    /// What pthread_sigmask(3) says.
    pub fn block() -> io::Result<Signals> {
        // SAFETY: the set is plain data, initialised by sigemptyset before it is read; the calls take valid pointers.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in FETCHED.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
                libc::sigaddset(&mut set, signal);
            }
            let failed = libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            if failed != 0 {
                return Err(io::Error::from_raw_os_error(failed));
            }
            for signal in IGNORED {
                libc::signal(signal, libc::SIG_IGN);
            }
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
            libc::SIGTERM | libc::SIGINT | libc::SIGQUIT => Some(Signal::Stop),
            libc::SIGHUP => Some(Signal::Reload),
            signal @ 1.. => Some(Signal::Other(signal)),
            _ => None,
        }
    }
}
