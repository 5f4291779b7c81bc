//! Bounce buffers: aligned memory of the reactor's own, for guests whose buffers a device cannot take.

use crate::lease::{Lease, Segment};

/// A fixed set of buffers of [`BOUNCE_BYTES`](crate::limits::BOUNCE_BYTES) each.
pub trait Pool {
    /// The memory of all buffers.
    fn lease(&self) -> Lease;

    /// Buffers that are not in use.
    fn free(&self) -> usize;

    /// Takes one buffer, whole; `None` when all are in use.
    fn take(&mut self) -> Option<Segment>;

    /// Gives a buffer back that `take` gave.
    fn give(&mut self, buffer: Segment);

    /// Copies `bytes` from segments, starting `skip` bytes into them, to the start of `buffer`. False when there is no page
    /// behind some of them; nothing is copied then.
    ///
    /// # Panics
    /// When the segments do not all lie in the lease, as [`Devices::start`](crate::Devices::start) does.
    fn gather(&mut self, lease: &Lease, from: &[Segment], skip: u64, buffer: Segment, bytes: usize) -> bool;

    /// Copies `bytes` from the start of `buffer` into segments, starting `skip` bytes into them. False as with
    /// [`Pool::gather`].
    ///
    /// # Panics
    /// As [`Pool::gather`].
    fn scatter(&mut self, buffer: Segment, lease: &Lease, to: &[Segment], skip: u64, bytes: usize) -> bool;

    /// Fills the first `bytes` of `buffer` with zeroes.
    fn zero(&mut self, buffer: Segment, bytes: usize);
}
