//! What one queue has counted. One reactor writes, anyone reads.

use palisade_block::stats::Count;

/// Counters of one queue. They live on when the queue is rebuilt.
#[derive(Debug, Default)]
pub struct QueueStats {
    /// Chains taken from the ring.
    pub taken: Count,
    /// Chains returned to the ring.
    pub returned: Count,
    /// Chains that were no valid request: answered with an error, or returned unanswered.
    pub malformed: Count,
    /// Of those, the ones without a usable status byte, returned with length 0.
    pub unanswerable: Count,
    /// Requests of unknown or not negotiated type.
    pub unsupported: Count,
    /// Requests that change a volume offered read-only.
    pub refused_writes: Count,
    /// Requests for the device id.
    pub get_id: Count,
    /// Requests found in flight when the queue was made, and carried out again.
    pub resubmitted: Count,
    /// Notifications sent.
    pub notified: Count,
    /// Notifications the driver did not want.
    pub suppressed: Count,
    /// Times the ring was found broken.
    pub broken: Count,
}
