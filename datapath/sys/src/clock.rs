//! The clock of the reactors: nanoseconds of CLOCK_MONOTONIC, read from the time stamp counter where the kernel
//! itself trusts it.
//!
//! All clocks of a process agree with each other, because the calibration is made once: reactors share arrival
//! times of paced attachments and compare them.

use palisade_block::{Clock, Nanos};
use std::sync::OnceLock;
use std::time::Duration;

/// Tells nanoseconds of CLOCK_MONOTONIC; copying it costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    counter: Option<Counter>,
}

/// How ticks of the time stamp counter become nanoseconds: `base_ns + (ticks - base_ticks) * scale / 2^32`.
#[derive(Clone, Copy, Debug)]
struct Counter {
    base_ticks: u64,
    base_ns: u64,
    scale: u64,
}

/// How long the counter is watched. The two clocks are read within some 50 ns of each other, so this leaves an
/// error of a few parts per million, far less than any deadline or pace needs.
const CALIBRATION: Duration = Duration::from_millis(20);

impl MonotonicClock {
    /// Makes a clock. The first call in a process takes 20 ms to calibrate, the others nothing.
    pub fn new() -> MonotonicClock {
        static COUNTER: OnceLock<Option<Counter>> = OnceLock::new();
        MonotonicClock {
            counter: *COUNTER.get_or_init(|| counter_is_trusted().then(calibrate)),
        }
    }

    /// Whether the time stamp counter is used, not a call of the kernel's.
    pub fn uses_counter(&self) -> bool {
        self.counter.is_some()
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        MonotonicClock::new()
    }
}

impl Clock for MonotonicClock {
    #[inline]
    fn now(&self) -> Nanos {
        match self.counter {
            Some(counter) => {
                let ticks = ticks().saturating_sub(counter.base_ticks);
                let ns = (u128::from(ticks) * u128::from(counter.scale)) >> 32;
                Nanos(counter.base_ns.wrapping_add(ns as u64))
            }
            None => Nanos(kernel_ns()),
        }
    }
}

/// The counter runs at one rate in all power states (Intel SDM volume 3, 19.17.1: CPUID 8000_0007H EDX bit 8) and
/// the kernel keeps its own time with it, so it has been found synchronous on all cores.
#[cfg(target_arch = "x86_64")]
fn counter_is_trusted() -> bool {
    let invariant = std::arch::x86_64::__cpuid(0x8000_0000).eax >= 0x8000_0007
        && std::arch::x86_64::__cpuid(0x8000_0007).edx & (1 << 8) != 0;
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    invariant && source.is_ok_and(|name| name.trim() == "tsc")
}

#[cfg(not(target_arch = "x86_64"))]
fn counter_is_trusted() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ticks() -> u64 {
    // SAFETY: RDTSC is part of every x86-64 processor and touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    0
}

fn calibrate() -> Counter {
    let (first_ticks, first_ns) = both();
    std::thread::sleep(CALIBRATION);
    let (last_ticks, last_ns) = both();
    let (ticks, ns) = ((last_ticks - first_ticks).max(1), last_ns - first_ns);
    Counter {
        base_ticks: last_ticks,
        base_ns: last_ns,
        scale: ((u128::from(ns) << 32) / u128::from(ticks)) as u64,
    }
}

/// Both clocks at the same moment: the tightest of some readings, so that no interruption lies between them.
fn both() -> (u64, u64) {
    let read = |_| {
        let before = ticks();
        let ns = kernel_ns();
        let width = ticks().wrapping_sub(before);
        (width, before.wrapping_add(width / 2), ns)
    };
    let (_, ticks, ns) = (0..16).map(read).min().unwrap_or((0, ticks(), kernel_ns()));
    (ticks, ns)
}

/// What the calling thread has had of a processor (CLOCK_THREAD_CPUTIME_ID): it stands still while others run. A call of
/// the kernel's, some 200 ns.
pub fn thread_time() -> Nanos {
    Nanos(ns_of(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// How long the machine runs, suspended or not (CLOCK_BOOTTIME): by this go the proofs between nodes that one has stopped.
pub fn boot_time() -> Nanos {
    Nanos(ns_of(libc::CLOCK_BOOTTIME))
}

fn kernel_ns() -> u64 {
    ns_of(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of one of the clocks that exist always.
fn ns_of(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of ours. The clock exists always, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_kernel_and_never_goes_back() {
        let clock = MonotonicClock::new();
        let mut last = clock.now();
        for _ in 0..100_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        std::thread::sleep(Duration::from_millis(50));
        let (ours, kernel) = (clock.now().0, kernel_ns());
        assert!(ours.abs_diff(kernel) < 1_000_000, "{ours} against {kernel}");
    }

    #[test]
    fn the_time_since_the_boot_goes_on() {
        let before = boot_time();
        std::thread::sleep(Duration::from_millis(5));
        let after = boot_time();
        assert!(after.since(before) >= Nanos::from_millis(5));
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!((boot_time().0 as f64 / 1e9 - seconds).abs() < 5.0, "{uptime}");
    }

    #[test]
    fn two_clocks_of_a_process_agree() {
        let (one, two) = (MonotonicClock::new(), MonotonicClock::new());
        let first = one.now();
        assert!(two.now() >= first);
        assert_eq!(one.uses_counter(), two.uses_counter());
    }
}
