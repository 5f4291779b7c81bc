//! When a reactor may sleep.

use palisade_block::Nanos;

/// How a reactor behaves when it has nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdlePolicy {
    /// It never sleeps: lowest latency, one core at 100 %.
    AlwaysPoll,
    /// It sleeps after this long without work; the first kick or completion wakes it.
    Adaptive {
        /// Time without work before it sleeps.
        after: Nanos,
    },
}

/// What to do after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Take the next turn at once.
    Turn,
    /// Arm every source, and sleep if none has work; wake at the given time at the latest.
    Sleep,
}

/// Watches the turns of one reactor and decides when to sleep.
#[derive(Clone, Debug)]
pub struct Idle {
    policy: IdlePolicy,
    last_work: Nanos,
}

impl Idle {
    /// Starts as if there had just been work.
    pub fn new(policy: IdlePolicy, now: Nanos) -> Idle {
        Idle {
            policy,
            last_work: now,
        }
    }

    /// After a turn that did `work` things.
    #[inline]
    pub fn after_turn(&mut self, work: usize, now: Nanos) -> Next {
        if work != 0 {
            self.last_work = now;
            return Next::Turn;
        }
        match self.policy {
            IdlePolicy::AlwaysPoll => Next::Turn,
            IdlePolicy::Adaptive { after } if now.since(self.last_work) < after => Next::Turn,
            IdlePolicy::Adaptive { .. } => Next::Sleep,
        }
    }

    /// After a sleep: whatever woke it gets its turn, and then sleep may follow again at once unless there was work.
    pub fn woke(&mut self, now: Nanos) {
        if let IdlePolicy::Adaptive { after } = self.policy {
            self.last_work = self.last_work.max(Nanos(now.0.saturating_sub(after.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_only_after_the_set_time_without_work() {
        let mut idle = Idle::new(IdlePolicy::Adaptive { after: Nanos(100) }, Nanos(0));
        assert_eq!(idle.after_turn(1, Nanos(50)), Next::Turn);
        assert_eq!(idle.after_turn(0, Nanos(149)), Next::Turn);
        assert_eq!(idle.after_turn(0, Nanos(150)), Next::Sleep);
        idle.woke(Nanos(10_000));
        assert_eq!(idle.after_turn(0, Nanos(10_000)), Next::Sleep);
        assert_eq!(idle.after_turn(3, Nanos(10_001)), Next::Turn);
        assert_eq!(idle.after_turn(0, Nanos(10_002)), Next::Turn);
    }

    #[test]
    fn always_poll_never_sleeps() {
        let mut idle = Idle::new(IdlePolicy::AlwaysPoll, Nanos(0));
        assert_eq!(idle.after_turn(0, Nanos(u64::MAX)), Next::Turn);
    }
}
