//! Time as a value. Machines are told what time it is; only hands and simulators ask a clock.

use std::time::Duration;

/// Nanoseconds since some fixed moment of this run; monotonic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// From microseconds.
    pub const fn from_micros(us: u64) -> Nanos {
        Nanos(us * 1_000)
    }

    /// From milliseconds.
    pub const fn from_millis(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    /// From seconds.
    pub const fn from_secs(s: u64) -> Nanos {
        Nanos(s * 1_000_000_000)
    }

    /// As a span of the standard library.
    pub const fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Time since `earlier`, zero when that lies ahead.
    #[inline]
    pub fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `span` later.
    #[inline]
    pub fn after(self, span: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(span.0))
    }
}

/// Tells the time.
pub trait Clock {
    /// Now.
    fn now(&self) -> Nanos;
}

/// Tells how long a step of a thread takes, and whether the thread is kept waiting in it.
pub trait Stopwatch {
    /// The first of some steps begins.
    fn start(&mut self);

    /// Time since the present step began.
    fn passed(&self) -> Nanos;

    /// A step is over, and the next one begins; `None` for a step that took less than `least`.
    fn lap(&mut self, least: Nanos) -> Option<Lap>;
}

/// What became of the time of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lap {
    /// How long the step had hold of the thread, at work or waiting. The thread being ready and without a processor does not
    /// count, nor does the time in which the whole process stood still.
    pub held: Nanos,
    /// How much of that it was kept waiting.
    pub waited: Nanos,
    /// When it ended.
    pub ended: Nanos,
}
