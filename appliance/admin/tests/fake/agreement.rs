//! What comes of its changes while others have to agree with it.

#![allow(dead_code, reason = "not every test that includes this file has others agree")]

use super::Fake;
use palisade_api::Problem;

/// What comes of a change.
pub enum Agreed {
    /// Another node leads the cluster, which is reached there.
    Elsewhere(Vec<String>),
    /// Nobody leads it.
    NoLeader,
    /// It is carried out, and nobody is told.
    Unheard,
    /// It is not carried out, and nobody is told.
    Lost,
}

impl Fake {
    /// This comes of the next changes of volumes, in this order.
    pub fn agrees(&self, next: impl IntoIterator<Item = Agreed>) {
        self.agreed.lock().unwrap().extend(next);
    }

    pub(super) fn agreed<T>(&self, change: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
        let next = self.agreed.lock().unwrap().pop_front();
        match next {
            None => change(),
            Some(Agreed::Elsewhere(addresses)) => Err(Problem::not_leader("host-b", &addresses)),
            Some(Agreed::NoLeader) => Err(Problem::no_leader()),
            Some(Agreed::Unheard) => change().and(Err(Problem::outcome_unknown())),
            Some(Agreed::Lost) => Err(Problem::outcome_unknown()),
        }
    }
}
