//! By which times a cluster goes from "it does not answer" to "it has stopped": one formula in one place.
//!
//! ```text
//!   detection          of it: 4 heartbeats without a sign of life, 2 until all know that, 2 without a change of mind,
//!                      and what is left until the eviction is committed
//!   + lease x (1 + drift)   the evicted node's lease has ended, by everybody's clock
//!   + drain            what it had submitted has landed, or is refused by the disk
//!   < 2 s              the longest pause that a guest should see
//! ```

use palisade_block::Nanos;

/// A guest should not wait longer for a node that was lost.
pub const PAUSE_MAX: Nanos = Nanos::from_secs(2);

/// How often a holder asks while its lease lasts: so many questions may be lost one after the other.
pub const QUESTIONS_PER_LEASE: u64 = 4;

/// Heartbeats in the time of detection.
pub const HEARTBEATS_PER_DETECTION: u64 = 12;

/// After so many heartbeats without a sign of life a node is silent: three that were missed one after another (F17), and the
/// way of the fourth.
const HEARTBEATS_SILENT: u64 = 4;

/// Until what one node knows has come to all: by way of one that both hear.
const HEARTBEATS_SPREAD: u64 = 2;

/// For so long all must stay as it is before an eviction is proposed: nodes do not learn the same at the same moment.
const HEARTBEATS_HELD: u64 = 2;

// A quarter is left for agreement on it.
const _: () = assert!(
    (HEARTBEATS_SILENT + HEARTBEATS_SPREAD + HEARTBEATS_HELD + 1) * 4 <= HEARTBEATS_PER_DETECTION * 3
);

/// The times of a cluster, the same on all nodes. On CLOCK_BOOTTIME, which goes on while a machine is suspended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseTimes {
    /// From the last sign of life until the eviction is committed.
    pub detection: Nanos,
    /// How long a lease lasts, by its holder's clock.
    pub lease: Nanos,
    /// By how much the clock of one node may be faster than that of another, in millionths. Quartz keeps 100; a machine that is
    /// being brought to the time of others is off by 500.
    pub drift_ppm: u32,
    /// Until what an evicted node has submitted has landed.
    pub drain: Nanos,
}

impl Default for LeaseTimes {
    fn default() -> LeaseTimes {
        LeaseTimes {
            detection: Nanos::from_millis(900),
            lease: Nanos::from_millis(600),
            drift_ppm: 1000,
            drain: Nanos::from_millis(400),
        }
    }
}

/// Why times are of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeaseTimesError {
    /// All together is too long.
    #[error(
        "detection ({} ms), lease with drift ({} ms) and drain ({} ms) are together {} ms, and have to be below {} ms: a guest would \
         wait longer for a lost node",
        .detection.0 / 1_000_000, .lease.0 / 1_000_000, .drain.0 / 1_000_000, .sum.0 / 1_000_000, PAUSE_MAX.0 / 1_000_000
    )]
    TooLong {
        /// As configured.
        detection: Nanos,
        /// The lease, with what clocks may differ by.
        lease: Nanos,
        /// As configured.
        drain: Nanos,
        /// All three.
        sum: Nanos,
    },
    /// A lease must be so long that a question can be asked again and again.
    #[error("a lease of {} us is too short: questions for it would go out more often than once in a millisecond", .lease.0 / 1000)]
    TooShort {
        /// As configured.
        lease: Nanos,
    },
    /// Heartbeats that come faster than a node can be expected to look at them.
    #[error("a detection of {} us is too short: heartbeats would go out more often than once in a millisecond", .detection.0 / 1000)]
    DetectionTooShort {
        /// As configured.
        detection: Nanos,
    },
    /// Clocks that differ so much are broken.
    #[error("clocks that differ by {drift_ppm} millionths are broken: at most 100000 can be allowed for")]
    Drift {
        /// As configured.
        drift_ppm: u32,
    },
}

impl LeaseTimes {
    /// Whether they fit each other; asked when a node starts, and before they are changed.
    ///
    /// # Errors
    /// They do not.
    pub fn check(&self) -> Result<(), LeaseTimesError> {
        if self.drift_ppm > 100_000 {
            return Err(LeaseTimesError::Drift {
                drift_ppm: self.drift_ppm,
            });
        }
        if self.ask_every() < Nanos::from_millis(1) {
            return Err(LeaseTimesError::TooShort { lease: self.lease });
        }
        if self.heartbeat_every() < Nanos::from_millis(1) {
            return Err(LeaseTimesError::DetectionTooShort {
                detection: self.detection,
            });
        }
        let lease = self.ended_after();
        let sum = self.detection.after(lease).after(self.drain);
        match sum < PAUSE_MAX {
            true => Ok(()),
            false => Err(LeaseTimesError::TooLong {
                detection: self.detection,
                lease,
                drain: self.drain,
                sum,
            }),
        }
    }

    /// How long after an eviction was seen to be committed the evicted node's lease has ended, by the clock of whoever
    /// has seen it.
    pub fn ended_after(&self) -> Nanos {
        with_drift(self.lease, self.drift_ppm)
    }

    /// After how long a node tells the others again that it lives.
    pub fn heartbeat_every(&self) -> Nanos {
        Nanos(self.detection.0 / HEARTBEATS_PER_DETECTION)
    }

    /// After how long without a sign of life a node is silent.
    pub fn silent_after(&self) -> Nanos {
        Nanos(self.heartbeat_every().0 * HEARTBEATS_SILENT)
    }

    /// For how long the same eviction must seem right before it is proposed.
    pub fn held_for(&self) -> Nanos {
        Nanos(self.heartbeat_every().0 * HEARTBEATS_HELD)
    }

    /// From the last sign of life until the eviction is proposed by all who keep a majority.
    pub fn proposed_within(&self) -> Nanos {
        let heartbeats = HEARTBEATS_SILENT + HEARTBEATS_SPREAD + HEARTBEATS_HELD + 1;
        Nanos(self.heartbeat_every().0 * heartbeats)
    }

    /// After how long a holder asks again.
    pub fn ask_every(&self) -> Nanos {
        Nanos(self.lease.0 / QUESTIONS_PER_LEASE)
    }
}

/// A span as a clock may show it that is faster by so many millionths than the one by which it was measured, rounded up.
pub(crate) fn with_drift(span: Nanos, ppm: u32) -> Nanos {
    let drift = (u128::from(span.0) * u128::from(ppm)).div_ceil(1_000_000);
    Nanos(span.0.saturating_add(drift as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_times_are_of_use() {
        assert_eq!(LeaseTimes::default().check(), Ok(()));
    }

    #[test]
    fn an_eviction_is_proposed_when_a_quarter_of_the_detection_is_left() {
        let times = LeaseTimes::default();
        assert_eq!(times.heartbeat_every(), Nanos::from_millis(75));
        assert_eq!(times.silent_after(), Nanos::from_millis(300));
        assert_eq!(times.held_for(), Nanos::from_millis(150));
        assert_eq!(times.proposed_within(), Nanos::from_millis(675));
    }

    #[test]
    fn what_clocks_differ_by_is_added_and_rounded_up() {
        let ended_after = |lease, drift_ppm| {
            let times = LeaseTimes {
                lease: Nanos(lease),
                drift_ppm,
                ..LeaseTimes::default()
            };
            times.ended_after()
        };
        assert_eq!(ended_after(600_000_000, 1000), Nanos(600_600_000));
        assert_eq!(ended_after(1, 1), Nanos(2));
        assert_eq!(ended_after(1000, 0), Nanos(1000));
        assert_eq!(ended_after(u64::MAX, 1_000_000), Nanos(u64::MAX));
    }

    #[test]
    fn times_that_do_not_fit_are_named_with_their_figures() {
        let with = |change: fn(&mut LeaseTimes)| {
            let mut times = LeaseTimes::default();
            change(&mut times);
            times.check().map_err(|error| error.to_string())
        };
        let long = with(|times| times.drain = Nanos::from_millis(500)).unwrap_err();
        assert!(
            long.starts_with(
                "detection (900 ms), lease with drift (600 ms) and drain (500 ms) are together 2000 ms"
            ),
            "{long}"
        );
        assert_eq!(
            with(|times| times.drain = Nanos(499_399_999)),
            Ok(()),
            "just below"
        );
        assert!(
            with(|times| times.drain = Nanos(499_400_000)).is_err(),
            "just 2 s"
        );
        assert!(
            with(|times| times.lease = Nanos(3_999_999))
                .unwrap_err()
                .contains("3999 us")
        );
        assert_eq!(with(|times| times.lease = Nanos(4_000_000)), Ok(()));
        assert!(
            with(|times| times.detection = Nanos(11_999_999))
                .unwrap_err()
                .contains("11999 us")
        );
        assert_eq!(with(|times| times.detection = Nanos(12_000_000)), Ok(()));
        assert!(
            with(|times| times.drift_ppm = 100_001)
                .unwrap_err()
                .contains("100001")
        );
    }
}
