//! Whether io_uring is open to this process: tried, not looked up. A seccomp filter, a security module, a sysctl or a limit
//! can each close it, and only the kernel knows all of them.

use super::LocalSettings;
use super::ring::set_up;
use io_uring::{Probe, opcode};
use std::io;

/// A call of io_uring's that did not work.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub struct Closed {
    /// Which, and for what.
    pub call: &'static str,
    /// Why.
    pub source: io::Error,
}

/// Sets a small ring up as a reactor does, registers something with it and has it carry out one operation.
///
/// # Errors
/// The first of the three calls that is closed.
pub fn io_uring_is_open() -> Result<(), Closed> {
    let closed = |call| move |source| Closed { call, source };
    let settings = LocalSettings {
        slots: 1,
        in_flight_max: 4,
        submission_entries: 4,
        ..LocalSettings::default()
    };
    let (mut ring, _) = set_up(settings).map_err(closed("io_uring_setup, to make a ring"))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(closed("io_uring_register, to ask what the ring can do"))?;
    let refused = || io::Error::other("the ring took no entry or gave no answer");
    // SAFETY: a no-operation refers to no memory.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }
        .map_err(|_| closed("io_uring_enter, to carry out an operation")(refused()))?;
    ring.submit_and_wait(1)
        .map_err(closed("io_uring_enter, to carry out an operation"))?;
    match ring.completion().next() {
        Some(_) => Ok(()),
        None => Err(closed("io_uring_enter, to carry out an operation")(refused())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BPF of a seccomp filter that answers one system call with EPERM, as containers' filters do.
    fn shut(call: libc::c_long) {
        let load = |k| filter(0x20, 0, 0, k);
        let filters = [
            load(0),
            filter(0x15, 0, 1, call as u32),
            filter(0x06, 0, 0, 0x0005_0000 | libc::EPERM as u32),
            filter(0x06, 0, 0, 0x7fff_0000),
        ];
        let program = libc::sock_fprog {
            len: filters.len() as u16,
            filter: filters.as_ptr().cast_mut(),
        };
        // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
        // SAFETY: the kernel copies the program before the call returns; both live until then.
        let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
        assert_eq!(set, 0);
    }

    fn filter(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code, jt, jf, k }
    }

    #[test]
    fn it_is_open_here_and_each_of_its_calls_is_missed() {
        io_uring_is_open().unwrap();
        for (call, name) in [
            (libc::SYS_io_uring_setup, "io_uring_setup"),
            (libc::SYS_io_uring_register, "io_uring_register"),
            (libc::SYS_io_uring_enter, "io_uring_enter"),
        ] {
            // A filter binds the thread that sets it, and those it starts.
            let said = std::thread::spawn(move || {
                shut(call);
                io_uring_is_open().unwrap_err()
            });
            let closed = said.join().unwrap();
            assert!(closed.call.starts_with(name), "{closed}");
            assert_eq!(closed.source.raw_os_error(), Some(libc::EPERM));
        }
    }
}
