//! The only ways bytes of shared memory are touched: volatile, at raw addresses, never through a reference.

use std::sync::atomic::{AtomicU16, Ordering};

/// Copies out of shared memory.
///
/// # Safety
/// `from .. from + to.len()` is mapped and readable for the whole call.
#[inline]
pub(crate) unsafe fn read(from: usize, to: &mut [u8]) {
    let mut at = from;
    let mut words = to.chunks_exact_mut(8);
    if from.is_multiple_of(8) {
        for word in &mut words {
            // SAFETY: the caller vouches for the range; the address is a multiple of 8.
            let value = unsafe { (at as *const u64).read_volatile() };
            word.copy_from_slice(&value.to_ne_bytes());
            at += 8;
        }
    } else {
        for word in &mut words {
            for byte in word {
                // SAFETY: the caller vouches for the range; bytes need no alignment.
                *byte = unsafe { (at as *const u8).read_volatile() };
                at += 1;
            }
        }
    }
    for byte in words.into_remainder() {
        // SAFETY: as above.
        *byte = unsafe { (at as *const u8).read_volatile() };
        at += 1;
    }
}

/// Copies 16 bytes out of shared memory, as a little-endian number.
///
/// # Safety
/// `from .. from + 16` is mapped and readable for the whole call.
#[inline]
pub(crate) unsafe fn read_16(from: usize) -> u128 {
    if from.is_multiple_of(8) {
        // SAFETY: the caller vouches for the range, which is aligned.
        unsafe { read_16_aligned(from) }
    } else {
        // SAFETY: the caller vouches for the range.
        unsafe { read_16_anywhere(from) }
    }
}

/// The same at an address that is a multiple of 8.
///
/// # Safety
/// As for [`read_16`], and `from` is a multiple of 8.
#[inline]
pub(crate) unsafe fn read_16_aligned(from: usize) -> u128 {
    // SAFETY: the caller vouches for the range and its alignment.
    let (low, high) = unsafe {
        (
            (from as *const u64).read_volatile(),
            ((from + 8) as *const u64).read_volatile(),
        )
    };
    u128::from(u64::from_le(low)) | u128::from(u64::from_le(high)) << 64
}

/// # Safety
/// As for [`read_16`].
#[cold]
unsafe fn read_16_anywhere(from: usize) -> u128 {
    let mut bytes = [0; 16];
    // SAFETY: the caller vouches for the range.
    unsafe { read(from, &mut bytes) };
    u128::from_le_bytes(bytes)
}

/// Asks the processor to fetch the line at an address. A hint: it reads nothing and faults on no address.
#[inline]
pub(crate) fn prefetch(at: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it faults on no address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The same for a line that is going to be written: it comes for our use alone, so that the write need not ask the
/// other cores again. Processors of this architecture that do not know the instruction do nothing (Intel SDM volume 2,
/// PREFETCHW).
#[inline]
pub(crate) fn prefetch_for_write(at: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it faults on no address and changes nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    prefetch(at);
}

/// Copies into shared memory.
///
/// # Safety
/// `to .. to + from.len()` is mapped and writable for the whole call.
#[inline]
pub(crate) unsafe fn write(to: usize, from: &[u8]) {
    for (index, byte) in from.iter().enumerate() {
        // SAFETY: the caller vouches for the range; bytes need no alignment.
        unsafe { ((to + index) as *mut u8).write_volatile(*byte) };
    }
}

/// Reads a little-endian 16-bit word that others write.
///
/// # Safety
/// `at` is mapped, readable and a multiple of 2.
#[inline]
pub(crate) unsafe fn load_u16(at: usize, order: Ordering) -> u16 {
    // SAFETY: the caller vouches for mapping and alignment; the reference to the atomic ends with the load, and an
    // atomic is the one type whose referent others may change.
    u16::from_le(unsafe { AtomicU16::from_ptr(at as *mut u16) }.load(order))
}

/// Writes a little-endian 16-bit word that others read.
///
/// # Safety
/// `at` is mapped, writable and a multiple of 2.
#[inline]
pub(crate) unsafe fn store_u16(at: usize, value: u16, order: Ordering) {
    // SAFETY: as in `load_u16`.
    unsafe { AtomicU16::from_ptr(at as *mut u16) }.store(value.to_le(), order);
}
