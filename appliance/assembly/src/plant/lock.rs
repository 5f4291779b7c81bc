//! The lock of the plant, and a copy for those who must answer although whoever holds the lock may be stuck.
//!
//! The copy is made anew by the watch, several times a second, when something has changed since ([`PlantLock::publish`]).
//! Counters are shared with it, so figures are of the present; what is open and offered is of a moment ago.
//!
//! An open disk is closed with the last hold on it, which can take long: so the copy holds no disk that the plant does
//! not hold. Who takes one out publishes before he lets go of it.

use super::Plant;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// The plant behind its lock.
#[derive(Debug)]
pub struct PlantLock {
    now: Mutex<Guarded>,
    copy: Mutex<Published>,
}

#[derive(Debug, Default)]
struct Guarded {
    plant: Plant,
    /// Whether it may differ from the copy.
    changed: bool,
}

#[derive(Clone, Debug)]
struct Published {
    plant: Arc<Plant>,
    /// When it was last known to be as the plant is.
    of: Instant,
}

/// The plant, for as long as this is held.
#[derive(Debug)]
pub struct PlantGuard<'a>(MutexGuard<'a, Guarded>);

/// The plant as it is, or as it was a moment ago.
#[derive(Debug)]
pub enum Seen<'a> {
    /// As it is.
    Now(PlantGuard<'a>),
    /// As it was.
    Before {
        /// It.
        plant: Arc<Plant>,
        /// When it was so.
        of: Instant,
    },
}

impl Default for PlantLock {
    fn default() -> Self {
        let copy = Published {
            plant: Arc::default(),
            of: Instant::now(),
        };
        PlantLock {
            now: Mutex::default(),
            copy: Mutex::new(copy),
        }
    }
}

impl PlantLock {
    /// Waits for it.
    pub fn lock(&self) -> PlantGuard<'_> {
        PlantGuard(self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for it for so long at most.
    pub fn lock_within(&self, patience: Duration) -> Option<PlantGuard<'_>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.now.try_lock() {
                Ok(guard) => return Some(PlantGuard(guard)),
                Err(TryLockError::Poisoned(poisoned)) => return Some(PlantGuard(poisoned.into_inner())),
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
                let Published { plant, of } = self.copy().clone();
                Seen::Before { plant, of }
            }
        }
    }

    /// Makes the copy as the plant is.
    pub fn publish(&self, guard: &mut PlantGuard<'_>) {
        let before = {
            let mut copy = self.copy();
            copy.of = Instant::now();
            guard
                .take_changed()
                .then(|| std::mem::replace(&mut copy.plant, Arc::new(Plant::clone(guard))))
        };
        drop(before);
    }

    fn copy(&self) -> MutexGuard<'_, Published> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PlantGuard<'_> {
    fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.0.changed)
    }
}

impl Deref for PlantGuard<'_> {
    type Target = Plant;

    fn deref(&self) -> &Plant {
        &self.0.plant
    }
}

impl DerefMut for PlantGuard<'_> {
    fn deref_mut(&mut self) -> &mut Plant {
        self.0.changed = true;
        &mut self.0.plant
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
    type Target = Plant;

    fn deref(&self) -> &Plant {
        match self {
            Seen::Now(guard) => guard,
            Seen::Before { plant, .. } => plant,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    #[test]
    fn who_only_looks_is_answered_although_the_lock_is_held() {
        let lock = PlantLock::default();
        let mut guard = lock.lock();
        guard.ended = 1;
        lock.publish(&mut guard);
        guard.ended = 2;
        let seen = std::thread::scope(|scope| {
            let look = || {
                let seen = lock.seen(PATIENCE);
                (
                    seen.ended,
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
        assert_eq!((seen.ended, seen.age()), (2, Duration::ZERO));
    }

    #[test]
    fn the_copy_is_made_anew_only_after_a_change() {
        let lock = PlantLock::default();
        let publish = || lock.publish(&mut lock.lock());
        let copy = || Arc::as_ptr(&lock.copy().plant);
        lock.lock().ended = 1;
        publish();
        let first = copy();
        assert_eq!(lock.lock().ended, 1);
        publish();
        assert_eq!(copy(), first, "looking is no change");
        lock.lock().ended = 2;
        publish();
        assert_eq!(lock.copy().plant.ended, 2);
    }
}
