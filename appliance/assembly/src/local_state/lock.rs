//! The lock of the node's state, and a copy for those who must answer although whoever holds the lock may be stuck.
//!
//! The copy is made anew by the watch, several times a second, when something has changed since ([`StateLock::publish`]).
//! Counters are shared with it, so figures are of the present; what is open and offered is of a moment ago.
//!
//! An open disk is closed with the last hold on it, which can take long: so the copy holds no disk that the state does
//! not hold. Who takes one out publishes before he lets go of it.

use super::LocalState;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// The state of the node behind its lock.
#[derive(Debug)]
pub struct StateLock {
    now: Mutex<Guarded>,
    copy: Mutex<Published>,
}

#[derive(Debug)]
struct Guarded {
    state: LocalState,
    /// Whether it may differ from the copy.
    changed: bool,
}

#[derive(Clone, Debug)]
struct Published {
    state: Arc<LocalState>,
    /// When it was last known to be as the state is.
    of: Instant,
}

/// The state of the node, for as long as this is held.
#[derive(Debug)]
pub struct StateGuard<'a>(MutexGuard<'a, Guarded>);

/// The state as it is, or as it was a moment ago.
#[derive(Debug)]
pub enum Seen<'a> {
    /// As it is.
    Now(StateGuard<'a>),
    /// As it was.
    Before {
        /// It.
        state: Arc<LocalState>,
        /// When it was so.
        of: Instant,
    },
}

impl StateLock {
    /// Around a state.
    pub fn new(state: LocalState) -> StateLock {
        let copy = Published {
            state: Arc::new(state.clone()),
            of: Instant::now(),
        };
        let changed = false;
        StateLock {
            now: Mutex::new(Guarded { state, changed }),
            copy: Mutex::new(copy),
        }
    }

    /// Waits for it.
    pub fn lock(&self) -> StateGuard<'_> {
        StateGuard(self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for it for so long at most.
    pub fn lock_within(&self, patience: Duration) -> Option<StateGuard<'_>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.now.try_lock() {
                Ok(guard) => return Some(StateGuard(guard)),
                Err(TryLockError::Poisoned(poisoned)) => return Some(StateGuard(poisoned.into_inner())),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// To look at only: as it is if that can be had within `patience`, else as it was.
    pub fn seen(&self, patience: Duration) -> Seen<'_> {
        match self.lock_within(patience) {
            Some(guard) => Seen::Now(guard),
            None => {
                let Published { state, of } = self.copy().clone();
                Seen::Before { state, of }
            }
        }
    }

    /// Makes the copy as the state is.
    pub fn publish(&self, guard: &mut StateGuard<'_>) {
        let before = {
            let mut copy = self.copy();
            copy.of = Instant::now();
            guard
                .take_changed()
                .then(|| std::mem::replace(&mut copy.state, Arc::new(LocalState::clone(guard))))
        };
        drop(before);
    }

    fn copy(&self) -> MutexGuard<'_, Published> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateGuard<'_> {
    fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.0.changed)
    }
}

impl Deref for StateGuard<'_> {
    type Target = LocalState;

    fn deref(&self) -> &LocalState {
        &self.0.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut LocalState {
        self.0.changed = true;
        &mut self.0.state
    }
}

impl Seen<'_> {
    /// How long ago it was so.
    pub fn age(&self) -> Duration {
        match self {
            Seen::Now(_) => Duration::ZERO,
            Seen::Before { of, .. } => of.elapsed(),
        }
    }
}

impl Deref for Seen<'_> {
    type Target = LocalState;

    fn deref(&self) -> &LocalState {
        match self {
            Seen::Now(guard) => guard,
            Seen::Before { state, .. } => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use palisade_control::NodeState;

    const PATIENCE: Duration = Duration::from_millis(20);

    fn lock() -> StateLock {
        StateLock::new(LocalState::knowing(NodeState::default()))
    }

    fn say(state: &mut LocalState, ended: u64) {
        *state = LocalState::knowing(NodeState {
            ended,
            ..NodeState::default()
        });
    }

    fn said(state: &LocalState) -> u64 {
        state.control.ended
    }

    #[test]
    fn who_only_looks_is_answered_although_the_lock_is_held() {
        let lock = lock();
        let mut guard = lock.lock();
        say(&mut guard, 1);
        lock.publish(&mut guard);
        say(&mut guard, 2);
        let seen = std::thread::scope(|scope| {
            let look = || {
                let seen = lock.seen(PATIENCE);
                (
                    said(&seen),
                    seen.age() >= PATIENCE,
                    lock.lock_within(PATIENCE).is_none(),
                )
            };
            scope.spawn(look).join().unwrap()
        });
        assert_eq!(
            seen,
            (1, true, true),
            "as it was, with its age, and no hold on it"
        );
        drop(guard);
        let seen = lock.seen(PATIENCE);
        assert_eq!((said(&seen), seen.age()), (2, Duration::ZERO));
    }

    #[test]
    fn the_copy_is_made_anew_only_after_a_change() {
        let lock = lock();
        let publish = || lock.publish(&mut lock.lock());
        let copy = || Arc::as_ptr(&lock.copy().state);
        say(&mut lock.lock(), 1);
        publish();
        let first = copy();
        assert_eq!(said(&lock.lock()), 1);
        publish();
        assert_eq!(copy(), first, "looking is no change");
        say(&mut lock.lock(), 2);
        publish();
        assert_eq!(said(&lock.copy().state), 2);
    }
}
