//! Memory that is lost while it is mapped. A file that shrinks, or a hugetlbfs without pages left, answers an access
//! with SIGBUS, which would end the process and with it the service to every other guest. Here only the one mapping
//! is given up: the handler puts zeroes in the place of all of it, notes that, and the access goes on.
//!
//! What is read from then on is nobody's; whoever works on a mapping therefore asks now and then whether it is lost
//! ([`GuestMemory::is_lost`](crate::GuestMemory::is_lost)) and takes nothing more from it. The kernel's own accesses
//! (I/O on memory that is gone) need no handler: they fail with EFAULT.

use crate::mapping::{MapError, system};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// Mappings that can be watched over at once: all regions of many guests, their logs and in-flight regions.
pub(crate) const PLACES: usize = 1 << 14;

/// One watched mapping. `bytes` is 0 while the place is free.
struct Place {
    taken: AtomicBool,
    start: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicBool,
}

static TABLE: [Place; PLACES] = [const {
    Place {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
    }
}; PLACES];

/// Mappings lost so far. While it is 0 nobody needs to look any closer.
static LOSSES: AtomicU32 = AtomicU32::new(0);

/// What stood in the handler's place before it; `Err` is the error number with which the kernel refused ours.
static BEFORE: OnceLock<Result<libc::sigaction, i32>> = OnceLock::new();

/// Watches over one mapping until it is dropped, which must come before the mapping's end.
#[derive(Debug)]
pub(crate) struct Watch(usize);

impl Watch {
    /// Watches over `bytes` from `start`: whole pages, all of one mapping.
    pub(crate) fn over(start: usize, bytes: usize) -> Result<Watch, MapError> {
        install()?;
        let free = |place: &Place| {
            let taken = place
                .taken
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
            taken.is_ok()
        };
        let Some((index, place)) = TABLE.iter().enumerate().find(|(_, place)| free(place)) else {
            return Err(system("watching over a mapping")(
                io::ErrorKind::StorageFull.into(),
            ));
        };
        place.lost.store(false, Ordering::Relaxed);
        place.start.store(start, Ordering::Relaxed);
        place.bytes.store(bytes, Ordering::Release);
        Ok(Watch(index))
    }

    /// Whether the mapping has been lost.
    #[inline]
    pub(crate) fn is_lost(&self) -> bool {
        let place = || TABLE.get(self.0);
        any_lost() && place().is_some_and(|place| place.lost.load(Ordering::Acquire))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(place) = TABLE.get(self.0) {
            place.bytes.store(0, Ordering::Release);
            place.taken.store(false, Ordering::Release);
        }
    }
}

/// Whether any mapping of this process has ever been lost.
#[inline]
pub(crate) fn any_lost() -> bool {
    LOSSES.load(Ordering::Relaxed) != 0
}

/// Puts the handler in place, once for the process.
fn install() -> Result<(), MapError> {
    let installed = BEFORE.get_or_init(|| {
        // SAFETY: all-zero is a valid `sigaction`.
        let (mut ours, mut before) = unsafe { (std::mem::zeroed::<libc::sigaction>(), std::mem::zeroed()) };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
        ours.sa_sigaction = handler as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: both structures are ours, and the handler makes only calls that a handler may make.
        match unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before) } {
            0 => Ok(before),
            _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)),
        }
    });
    match installed {
        Ok(_) => Ok(()),
        Err(errno) => Err(system("sigaction(SIGBUS)")(io::Error::from_raw_os_error(*errno))),
    }
}

/// Replaces the mapping that was touched; a fault anywhere else meets whoever handled the signal before.
extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to a handler with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    if code == libc::BUS_MCEERR_AO {
        // News of a broken page that nobody has touched yet.
        return;
    }
    // A positive code is the kernel's: a fault. Others are signals that somebody sent, with no address in them.
    if code > 0 && give_up(address) {
        return;
    }
    let default = || {
        // SAFETY: all-zero is a valid `sigaction`; the handler in it is SIG_DFL.
        unsafe { std::mem::zeroed::<libc::sigaction>() }
    };
    let before = match BEFORE.get() {
        Some(Ok(before)) => *before,
        _ => default(),
    };
    // The access is tried again when we return, and is then the former handler's affair.
    // SAFETY: the structure is one the kernel gave us, or the default.
    unsafe { libc::sigaction(signal, &raw const before, std::ptr::null_mut()) };
}

/// Puts zeroes in the place of the watched mapping that holds an address; false when there is none.
fn give_up(address: usize) -> bool {
    for place in &TABLE {
        let bytes = place.bytes.load(Ordering::Acquire);
        let start = place.start.load(Ordering::Relaxed);
        if bytes == 0 || address.wrapping_sub(start) >= bytes {
            continue;
        }
        // Two threads can meet here for one mapping. The second one's zeroes take the place of the first one's, which
        // held nothing that counts.
        // SAFETY: the range is a whole mapping of this crate's. It stays one while its watch stands, and whoever
        // touches it holds that. Nothing but zeroes and raw accesses are ever expected of it.
        let replaced = unsafe {
            libc::mmap(
                start as *mut libc::c_void,
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if replaced == libc::MAP_FAILED {
            return false;
        }
        place.lost.store(true, Ordering::Release);
        LOSSES.fetch_add(1, Ordering::Release);
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mapping of the test's own.
    fn mapped(bytes: usize) -> usize {
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping where the kernel has room.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        at as usize
    }

    /// Whether zeroes have come in the place of what was there.
    fn is_zero(at: usize) -> bool {
        // SAFETY: the tests read what they have mapped themselves.
        unsafe { (at as *const u8).read_volatile() == 0 }
    }

    #[test]
    fn what_is_given_up_is_the_one_watched_mapping_that_holds_the_address() {
        let at = mapped(5 * 4096);
        // SAFETY: it has just been mapped.
        (0..5).for_each(|page| unsafe { ((at + page * 4096) as *mut u8).write_volatile(1) });
        let whole = |from: usize, to: usize| (from..to).all(|page| !is_zero(at + page * 4096));
        let [first, second] = [at + 4096, at + 3 * 4096].map(|at| Watch::over(at, 4096).unwrap());
        for elsewhere in [0, 1, at, at + 4095, at + 2 * 4096, at + 4 * 4096, usize::MAX] {
            assert!(!give_up(elsewhere), "{elsewhere:#x}");
        }
        assert!(whole(0, 5) && !first.is_lost() && !second.is_lost());
        assert!(give_up(at + 4 * 4096 - 1));
        assert!(second.is_lost() && !first.is_lost());
        assert!(whole(0, 3) && is_zero(at + 3 * 4096) && whole(4, 5));
        drop((first, second));
        assert!(
            !give_up(at + 4096) && !give_up(at + 3 * 4096),
            "nobody watches over it any more"
        );
        assert!(whole(0, 3));
    }

    #[test]
    fn places_are_used_again() {
        let at = mapped(4096);
        for _ in 0..PLACES + 1 {
            let watch = Watch::over(at, 4096).unwrap();
            assert!(!watch.is_lost());
        }
    }
}
