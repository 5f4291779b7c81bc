//! Slow work as tests want it.

use palisade_assembly::{Executor, SlowWork, Threads};
use palisade_control::Work;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Some work of the control machine.
pub type Which = fn(&Work) -> bool;

/// Carries work out as the daemon does, but for what a test holds back or lets fail.
#[derive(Debug, Default)]
pub struct Steered {
    steered: Mutex<Steering>,
    held: Condvar,
}

#[derive(Debug, Default)]
struct Steering {
    holds: Option<Which>,
    fails: Option<(Which, String)>,
    held: Vec<SlowWork>,
}

impl Steered {
    /// Such work that begins from now on waits for [`Steered::release`].
    pub fn hold(&self, which: Which) {
        self.steering().holds = Some(which);
    }

    /// What waits goes on, and nothing is held back any more.
    pub fn release(&self) {
        for slow in self.forget() {
            Threads.begin(slow);
        }
    }

    /// Waits until something is held back.
    pub fn until_held(&self) {
        let none = |steering: &mut Steering| steering.held.is_empty();
        let (steering, limit) = (self.steering(), Duration::from_secs(20));
        let (_steering, waited) = self.held.wait_timeout_while(steering, limit, none).unwrap();
        assert!(!waited.timed_out(), "no such work has begun");
    }

    /// Such work that begins from now on fails, and operators are told why.
    pub fn fail(&self, which: Which, why: &str) {
        self.steering().fails = Some((which, why.to_owned()));
    }

    /// Nothing fails any more because of a test.
    pub fn heal(&self) {
        self.steering().fails = None;
    }

    /// What is held back is never done.
    pub(super) fn let_go(&self) {
        drop(self.forget());
    }

    fn forget(&self) -> Vec<SlowWork> {
        let mut steering = self.steering();
        steering.holds = None;
        std::mem::take(&mut steering.held)
    }

    fn steering(&self) -> MutexGuard<'_, Steering> {
        self.steered.lock().unwrap()
    }
}

impl Executor for Steered {
    fn begin(&self, slow: SlowWork) {
        let mut steering = self.steering();
        if let Some((_, why)) = steering.fails.as_ref().filter(|(which, _)| which(slow.work())) {
            return slow.fail(why.clone());
        }
        if steering.holds.is_some_and(|which| which(slow.work())) {
            steering.held.push(slow);
            self.held.notify_all();
            return;
        }
        drop(steering);
        Threads.begin(slow);
    }
}
