//! Work carried out in a process of its own, one instruction at a time, with a look at the memory both processes share
//! after each of them. For tests; the daemon never runs it.
//!
//! What is seen there is what a process leaves behind that is killed at that moment: the kernel ends a process between
//! two of its instructions, and the stores of those before are in shared memory, in the order of the program.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Instructions after which work is taken for endless: a turn takes some ten thousand.
const STEPS_MAX: u64 = 20_000_000;

/// Carries out `work` in a child process and calls `look` in this one after each instruction. What `work` changes is seen
/// here only where memory is shared; of all else the child has a copy. It must not wait for other threads of this
/// process, which the child has not. The number of instructions.
///
/// # Errors
/// There is no child, it may not be traced (a seccomp filter, or `kernel.yama.ptrace_scope` of 3), it does not end within
/// 20 million instructions, or `work` panics.
pub fn step_through(work: impl FnOnce(), look: impl FnMut()) -> io::Result<u64> {
    step_up_to(STEPS_MAX, work, look)
}

fn step_up_to(steps_max: u64, work: impl FnOnce(), mut look: impl FnMut()) -> io::Result<u64> {
    let _on_one = OnOneProcessor::new()?;
    // SAFETY: a plain call.
    let parent = unsafe { libc::getpid() };
    // SAFETY: the child runs `work`, which its caller has chosen for it, on a copy of this thread alone, and leaves by
    // `_exit`: it never returns into code of the parent, and runs no destructors of what the parent owns.
    let child = match unsafe { libc::fork() } {
        0 => carry_out(parent, work),
        -1 => return Err(io::Error::last_os_error()),
        child => Child(child),
    };
    let Ended::Stopped(_) = child.wait()? else {
        return Err(io::Error::other("the child may not be traced"));
    };
    child.trace(libc::PTRACE_SETOPTIONS, libc::PTRACE_O_EXITKILL)?;
    let mut signal = 0;
    for steps in 1..=steps_max {
        child.trace(libc::PTRACE_SINGLESTEP, signal)?;
        match child.wait()? {
            Ended::Stopped(libc::SIGTRAP) => signal = 0,
            Ended::Stopped(other) => signal = other,
            Ended::Exited(0) => return Ok(steps),
            Ended::Exited(_) => return Err(io::Error::other("the child has panicked")),
            Ended::Killed(by) => {
                return Err(io::Error::other(format!("the child was killed by signal {by}")));
            }
        }
        look();
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the child has not ended within {steps_max} instructions"),
    ))
}

/// Parent and child take turns, so one processor is enough, and neither has to wake the other's: 35 000 instructions took
/// 4.0 s instead of 6.5 s on two busy processors. As long as it lives, this thread stays where it is, and so does a child
/// that is made meanwhile.
struct OnOneProcessor(libc::cpu_set_t);

impl OnOneProcessor {
    fn new() -> io::Result<OnOneProcessor> {
        // SAFETY: a set of no processors is all zeroes, and `here` is a copy of one. The calls fill and read sets that
        // outlive them, of the length they are told; `CPU_SET` leaves out a number that has no place in a set.
        unsafe {
            let mut before: libc::cpu_set_t = std::mem::zeroed();
            let mut here = before;
            let bytes = size_of::<libc::cpu_set_t>();
            if libc::sched_getaffinity(0, bytes, &mut before) != 0 {
                return Err(io::Error::last_os_error());
            }
            libc::CPU_SET(
                usize::try_from(libc::sched_getcpu()).unwrap_or(usize::MAX),
                &mut here,
            );
            if libc::sched_setaffinity(0, bytes, &here) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(OnOneProcessor(before))
        }
    }
}

impl Drop for OnOneProcessor {
    fn drop(&mut self) {
        // SAFETY: the set outlives the call.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.0) };
    }
}

/// The child's whole life. It ends with its parent also before that has said so as the tracer: stopped for ever, it would
/// keep open whatever its parent had open, and who reads from a pipe of it would wait as long.
fn carry_out(parent: libc::pid_t, work: impl FnOnce()) -> ! {
    // SAFETY: plain calls without pointers. The parent waits for the signal and goes on from there.
    let traced = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
            && libc::getppid() == parent
            && libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0
            && libc::raise(libc::SIGSTOP) == 0
    };
    let done = traced && catch_unwind(AssertUnwindSafe(work)).is_ok();
    // SAFETY: ends the process at once, as a copy of another must.
    unsafe { libc::_exit(i32::from(!done)) }
}

/// What became of a child.
enum Ended {
    Stopped(i32),
    Exited(i32),
    Killed(i32),
}

/// A child that is ours to end.
struct Child(libc::pid_t);

impl Child {
    fn trace(&self, request: libc::c_uint, data: i32) -> io::Result<()> {
        // SAFETY: neither request takes a pointer: `data` is options or a signal.
        match unsafe { libc::ptrace(request, self.0, 0, libc::c_long::from(data)) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn wait(&self) -> io::Result<Ended> {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        while unsafe { libc::waitpid(self.0, &mut status, 0) } != self.0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(if libc::WIFSTOPPED(status) {
            Ended::Stopped(libc::WSTOPSIG(status))
        } else if libc::WIFEXITED(status) {
            Ended::Exited(libc::WEXITSTATUS(status))
        } else {
            Ended::Killed(libc::WTERMSIG(status))
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: plain calls. A child that has ended and been waited for is gone by now, and its number may belong to
        // another: only one that `waitpid` still knows as ours is killed.
        unsafe {
            let mut status = 0;
            if libc::waitpid(self.0, &mut status, libc::WNOHANG) == 0 {
                libc::kill(self.0, libc::SIGKILL);
                libc::waitpid(self.0, &mut status, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
