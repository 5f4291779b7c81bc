//! Which processors a thread runs on, and what it is called.

use std::ffi::CString;
use std::io;
use std::mem;

/// Pins the calling thread to one processor.
///
/// # Errors
/// `InvalidInput` when the number is beyond what the kernel's set can name; EINVAL when there is no such processor or
/// a cpuset forbids it.
pub fn pin_current_thread(cpu: usize) -> io::Result<()> {
    set_cpus(&[cpu])
}

/// Lets the calling thread run on these processors only.
///
/// # Errors
/// As [`pin_current_thread`].
pub fn set_cpus(cpus: &[usize]) -> io::Result<()> {
    let set = cpu_set(cpus)?;
    // SAFETY: 0 names the calling thread; the set is ours and of the size told.
    match unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The processors that the calling thread may run on, in order.
///
/// # Errors
/// What sched_getaffinity(2) says: the machine has more than 1024 processors.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: 0 names the calling thread; the set is ours and of the size told.
    if unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every number asked for lies inside the set.
    Ok((0..libc::CPU_SETSIZE as usize)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// The processors that a thread of this process may be set to, in order: what the cgroup's cpuset leaves of those that
/// run. With `isolcpus=domain` a process does not start on the isolated ones, so [`allowed_cpus`] does not name them,
/// but may be set to them. It is tried, on a thread that ends afterwards.
///
/// # Errors
/// What sched_setaffinity(2) or sched_getaffinity(2) say.
pub fn settable_cpus() -> io::Result<Vec<usize>> {
    let tried = std::thread::Builder::new().name("cpus".into()).spawn(|| {
        // The kernel takes of the set what it can; cpuset(7).
        let all: Vec<usize> = (0..libc::CPU_SETSIZE as usize).collect();
        set_cpus(&all)?;
        allowed_cpus()
    })?;
    tried
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that tried it has panicked")))
}

/// The processors that the kernel keeps clear of everything that is not set to them (`isolcpus=domain`), in order.
/// None where the kernel does not tell.
pub fn isolated_cpus() -> Vec<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/isolated").unwrap_or_default();
    parse_cpu_list(&text)
}

/// A list such as `1-3,7`, as the kernel writes it. What is none of that is left out.
fn parse_cpu_list(text: &str) -> Vec<usize> {
    let parts = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (last < libc::CPU_SETSIZE as usize).then_some(first..=last)
    });
    parts.flatten().collect()
}

/// Names the calling thread; the kernel keeps 15 bytes of it. A name with a zero byte in it changes nothing.
pub fn name_current_thread(name: &str) {
    let short: String = name
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= 15).then_some(c)
        })
        .collect();
    if let Ok(name) = CString::new(short) {
        // SAFETY: PR_SET_NAME reads a string that ends with a zero byte; it lives until the call returns.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}

/// Makes short sleeps of the calling thread end on time: the kernel otherwise adds up to 50 us so that it may end
/// several at once.
pub fn sharpen_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes a number of nanoseconds; it cannot fail.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Has the calling thread run before all that have no such claim, as soon as it has something to do (SCHED_RR, lowest of its
/// priorities; sched(7)). For threads that do little, and on whose word others rely. What it starts has no such claim.
///
/// # Errors
/// EPERM: this process may not, without CAP_SYS_NICE or RLIMIT_RTPRIO; nothing has changed.
pub fn run_first() -> io::Result<()> {
    // SAFETY: a sched_param is integers, for which zero is a value.
    let mut how: libc::sched_param = unsafe { mem::zeroed() };
    how.sched_priority = 1;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 names the calling thread; the parameters are ours.
    match unsafe { libc::sched_setscheduler(0, policy, &how) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets others have the calling thread's processor, if any wait for it.
#[inline]
pub fn yield_processor() {
    // SAFETY: sched_yield takes nothing and cannot fail on Linux.
    unsafe { libc::sched_yield() };
}

/// The kernel's form of a list of processors.
pub(crate) fn cpu_set(cpus: &[usize]) -> io::Result<libc::cpu_set_t> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the number lies inside the set, as just checked.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it may not, it is told so and goes on as before.
    #[test]
    fn a_thread_runs_first_and_what_it_starts_does_not() {
        // SAFETY: 0 names the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        std::thread::spawn(move || match run_first() {
            Ok(()) => {
                assert_eq!(policy(), libc::SCHED_RR | libc::SCHED_RESET_ON_FORK);
                let started = std::thread::spawn(policy).join().unwrap();
                assert_eq!(started, libc::SCHED_OTHER);
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EPERM));
                assert_eq!(policy(), libc::SCHED_OTHER);
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_pinned_thread_is_allowed_one_processor_and_has_its_name() {
        let cpu = *allowed_cpus().unwrap().last().unwrap();
        std::thread::spawn(move || {
            pin_current_thread(cpu).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [cpu]);
            name_current_thread("reactor-0-and-too-long");
            assert_eq!(
                std::fs::read_to_string("/proc/thread-self/comm").unwrap(),
                "reactor-0-and-t\n"
            );
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_that_is_bound_to_one_may_still_be_set_to_all() {
        let all = settable_cpus().unwrap();
        let cpu = *all.last().unwrap();
        std::thread::spawn(move || {
            pin_current_thread(cpu).unwrap();
            assert_eq!(settable_cpus().unwrap(), all, "what is inherited does not bind");
            assert_eq!(allowed_cpus().unwrap(), [cpu], "and the caller stays where it is");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn lists_of_processors_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_cpu_list("1-3,7\n"), [1, 2, 3, 7]);
        assert_eq!(parse_cpu_list("\n"), [0_usize; 0]);
        assert_eq!(parse_cpu_list("x,4,9-2,0-99999999"), [4]);
    }

    #[test]
    fn a_processor_that_is_not_there_is_refused() {
        assert!(pin_current_thread(usize::MAX).is_err());
        assert!(pin_current_thread(1000).is_err());
    }
}
