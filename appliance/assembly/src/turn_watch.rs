//! How long a reactor's turns last, and whether the steps of a turn are to be timed by themselves.
//!
//! The time is taken at the beginning of each turn anyhow; what lies between that of a turn which had work and the next
//! beginning, or the sleep that follows, is what that turn took, with the orders carried out behind it. That costs a
//! subtraction and a comparison. Only when one was suspiciously long are steps timed, which costs a look at the clock and a
//! submission for each queue.
//!
//! A reactor that is seldom asked submits with the system call that puts it to sleep, and nobody can tell the time that the
//! kernel takes to get hold of guests' pages there from the sleep itself. So now and then it submits within the turn
//! ([`TurnWatch::may_hold`]).

use crate::slow_turns::SlowTurns;
use palisade_block::Nanos;
use palisade_block::limits::{STALLS_LOOKED_FOR, SUBMITTED_AWAKE, TURN_SUSPICIOUS};
use std::mem;
use std::sync::Arc;

/// What is to be done about the timing of steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timing {
    /// Nothing: it is as it was.
    Same,
    /// From now on they are timed.
    Begin,
    /// They are timed no longer.
    End,
}

/// What a reactor's thread did last, as far as its duration says something.
#[derive(Clone, Copy, Debug)]
enum Last {
    /// A turn without work, or a sleep that ends only when something comes.
    Untold,
    /// A turn with work that began then.
    Turn(Nanos),
    /// A sleep that was to end then at the latest.
    Sleep(Nanos),
}

/// Watches the turns and sleeps of one reactor; its thread has it.
#[derive(Debug)]
pub struct TurnWatch {
    slow: Arc<SlowTurns>,
    last: Last,
    /// Until when steps are timed.
    timed_until: Option<Nanos>,
    /// When the reactor last submitted within a turn, and not with the sleep behind it.
    submitted: Nanos,
}

impl TurnWatch {
    /// Of a reactor whose slow turns are kept there.
    pub fn new(slow: Arc<SlowTurns>) -> TurnWatch {
        TurnWatch {
            slow,
            last: Last::Untold,
            timed_until: None,
            submitted: Nanos(0),
        }
    }

    /// A turn begins.
    #[inline]
    pub fn begins(&mut self, now: Nanos) -> Timing {
        let last = mem::replace(&mut self.last, Last::Untold);
        let lasted = match last {
            Last::Untold => Nanos(0),
            Last::Turn(began) => now.since(began),
            // What it submits is submitted before it sleeps, and may have to wait for guests' memory, too.
            Last::Sleep(until) => now.since(until),
        };
        match lasted > TURN_SUSPICIOUS {
            true => {
                if let Last::Turn(_) = last {
                    self.slow.look_at(lasted);
                }
                self.suspect(now)
            }
            false => self.unless_over(now),
        }
    }

    /// Whether what is submitted in the turn that began now may be left for the sleep behind it.
    #[inline]
    pub fn may_hold(&mut self, now: Nanos) -> bool {
        let holds = self.timed_until.is_none() && now.since(self.submitted) < SUBMITTED_AWAKE;
        if !holds {
            self.submitted = now;
        }
        holds
    }

    /// The turn that began then is over, and had work or none. What comes before the next beginning still counts for it.
    #[inline]
    pub fn ended(&mut self, began: Nanos, had_work: bool) {
        self.last = match had_work {
            true => Last::Turn(began),
            false => Last::Untold,
        };
    }

    /// It goes to sleep now, until then at the latest.
    #[inline]
    pub fn sleeps(&mut self, now: Nanos, until: Option<Nanos>) -> Timing {
        let timing = self.begins(now);
        self.last = until.map_or(Last::Untold, Last::Sleep);
        timing
    }

    #[cold]
    fn suspect(&mut self, now: Nanos) -> Timing {
        match self.timed_until.replace(now.after(STALLS_LOOKED_FOR)) {
            None => Timing::Begin,
            Some(_) => Timing::Same,
        }
    }

    #[inline]
    fn unless_over(&mut self, now: Nanos) -> Timing {
        match self.timed_until {
            Some(until) if now > until => {
                self.timed_until = None;
                Timing::End
            }
            _ => Timing::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    fn watch() -> TurnWatch {
        TurnWatch::new(Arc::default())
    }

    #[test]
    fn only_a_turn_with_work_that_lasts_too_long_is_slow() {
        let mut watch = watch();
        let mut turn = |begins: u64, had_work: bool, sleeps_at: Option<u64>| {
            let _ = watch.begins(ms(begins));
            watch.ended(ms(begins), had_work);
            if let Some(at) = sleeps_at {
                let _ = watch.sleeps(ms(at), None);
            }
            watch.slow.count()
        };
        assert_eq!(turn(0, true, None), 0);
        assert_eq!(turn(100, true, None), 0, "as long as it may be");
        assert_eq!(turn(201, false, None), 1);
        assert_eq!(turn(900, true, Some(901)), 1, "it had nothing to do");
        assert_eq!(turn(9_000, true, None), 1, "it slept");
        assert_eq!(turn(9_250, true, Some(9_500)), 3, "it was slow until it slept");
    }

    #[test]
    fn steps_are_timed_from_the_first_suspicious_turn_until_none_was_for_long() {
        let mut watch = watch();
        assert_eq!(watch.begins(ms(500)), Timing::Same, "there was none");
        watch.ended(ms(500), true);
        let long = ms(500).after(TURN_SUSPICIOUS);
        assert_eq!(watch.begins(long), Timing::Same, "as long as it may be");
        watch.ended(ms(500), true);
        assert_eq!(watch.begins(long.after(Nanos(1))), Timing::Begin);
        assert_eq!(watch.slow.count(), 0, "not slow by far");
        watch.ended(ms(600), true);
        assert_eq!(watch.begins(ms(700)), Timing::Same, "they are timed");
        watch.ended(ms(700), false);
        let over = ms(700).after(STALLS_LOOKED_FOR);
        assert_eq!(watch.begins(over), Timing::Same);
        assert_eq!(watch.begins(over.after(Nanos(1))), Timing::End);
        assert_eq!(watch.begins(over.after(ms(5_000))), Timing::Same);
        watch.ended(over.after(ms(5_000)), true);
        assert_eq!(watch.begins(over.after(ms(5_050))), Timing::Begin, "again");
    }

    #[test]
    fn a_long_turn_is_seen_whether_a_sleep_follows_or_work_was_found_before_it() {
        // Nothing is said of a sleep that was not taken.
        let mut polled = watch();
        polled.ended(ms(0), true);
        assert_eq!(polled.begins(ms(90)), Timing::Begin);
        let mut slept = watch();
        slept.ended(ms(0), true);
        assert_eq!(slept.sleeps(ms(90), None), Timing::Begin);
        assert_eq!(slept.begins(ms(50_000)), Timing::Same);
    }

    #[test]
    fn a_sleep_that_ends_long_after_its_time_is_suspicious_and_no_slow_turn() {
        let mut watch = watch();
        assert_eq!(watch.sleeps(ms(0), Some(ms(40))), Timing::Same);
        assert_eq!(watch.begins(ms(41)), Timing::Same);
        assert_eq!(watch.sleeps(ms(50), Some(ms(60))), Timing::Same);
        assert_eq!(watch.begins(ms(300)), Timing::Begin);
        assert_eq!(watch.slow.count(), 0);
    }

    #[test]
    fn now_and_then_it_submits_before_it_sleeps_and_always_while_steps_are_timed() {
        let mut watch = watch();
        let begin = ms(1_000);
        assert!(!watch.may_hold(begin), "the first time");
        let last = Nanos(SUBMITTED_AWAKE.0 - 1);
        assert!(watch.may_hold(begin) && watch.may_hold(begin.after(last)));
        assert!(!watch.may_hold(begin.after(SUBMITTED_AWAKE)));
        assert!(watch.may_hold(begin.after(SUBMITTED_AWAKE).after(last)));
        watch.ended(begin, true);
        assert_eq!(watch.begins(ms(2_000)), Timing::Begin);
        assert!(!watch.may_hold(ms(2_000)) && !watch.may_hold(ms(2_001)));
    }
}
