//! The connections of one door: a bounded number, and who must go when one more comes.
//!
//! Slow clients cannot shut an operator out: when all places are taken, a new connection takes the place of one that does
//! nothing, first of those that have never made a request they were entitled to, and of these one of the peer that has
//! most. Only when every connection is in the middle of a request is the new one turned away.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::AbortHandle;

/// Who is counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    /// A user of this machine.
    User(u32),
    /// An address.
    Address(IpAddr),
}

/// What a connection is doing.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// It has made a request that it was entitled to.
    proved: AtomicBool,
    /// Requests whose answer is not wholly written.
    at_work: AtomicUsize,
}

impl Marks {
    /// The connection has made a request that it was entitled to.
    pub(crate) fn prove(&self) {
        self.proved.store(true, Ordering::Relaxed);
    }

    /// A request has begun; it ends when the value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Work {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        Work(Arc::clone(self))
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Work(Arc<Marks>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections of one door.
#[derive(Debug)]
pub(crate) struct Crowd {
    max: usize,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    /// The oldest first.
    by_age: BTreeMap<u64, Member>,
}

#[derive(Debug)]
struct Member {
    peer: PeerKey,
    marks: Arc<Marks>,
    task: Option<AbortHandle>,
}

/// A place in the crowd; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    number: u64,
    /// What its connection is doing.
    pub(crate) marks: Arc<Marks>,
}

impl Crowd {
    /// With so many places.
    pub(crate) fn new(max: usize) -> Arc<Crowd> {
        Arc::new(Crowd {
            max,
            members: Mutex::default(),
        })
    }

    /// A place for a connection of `peer`; none when all others are in the middle of a request.
    pub(crate) fn enter(self: &Arc<Self>, peer: PeerKey) -> Option<Place> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if members.by_age.len() >= self.max {
            let who = members.who_must_go()?;
            if let Some(task) = members.by_age.remove(&who).and_then(|member| member.task) {
                task.abort();
            }
        }
        let number = members.next;
        members.next += 1;
        let marks = Arc::new(Marks::default());
        let member = Member {
            peer,
            marks: Arc::clone(&marks),
            task: None,
        };
        members.by_age.insert(number, member);
        Some(Place {
            crowd: Arc::clone(self),
            number,
            marks,
        })
    }

    /// The task that serves the connection of a place, to be ended when it must go.
    pub(crate) fn served_by(&self, number: u64, task: AbortHandle) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        match members.by_age.get_mut(&number) {
            Some(member) => member.task = Some(task),
            None => task.abort(),
        }
    }
}

impl Members {
    fn who_must_go(&self) -> Option<u64> {
        let mut of_peer: HashMap<PeerKey, usize> = HashMap::new();
        for member in self.by_age.values() {
            *of_peer.entry(member.peer).or_default() += 1;
        }
        let idle = self
            .by_age
            .iter()
            .filter(|(_, member)| member.marks.at_work.load(Ordering::Relaxed) == 0);
        idle.min_by_key(|(number, member)| {
            let most = usize::MAX - of_peer.get(&member.peer).copied().unwrap_or_default();
            (member.marks.proved.load(Ordering::Relaxed), most, **number)
        })
        .map(|(number, _)| *number)
    }
}

impl Place {
    /// The crowd, and the number by which it knows the place.
    pub(crate) fn known_as(&self) -> (Arc<Crowd>, u64) {
        (Arc::clone(&self.crowd), self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut members = self.crowd.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(crowd: &Crowd) -> Vec<u64> {
        crowd.members.lock().unwrap().by_age.keys().copied().collect()
    }

    #[test]
    fn a_new_one_takes_the_place_of_the_oldest_that_has_proved_nothing() {
        let crowd = Crowd::new(3);
        let operator = crowd.enter(PeerKey::User(0)).unwrap();
        operator.marks.prove();
        let _slow: Vec<_> = (0..500).map(|_| crowd.enter(PeerKey::User(1000))).collect();
        assert_eq!(numbers(&crowd), [0, 499, 500], "the operator keeps his place");
    }

    #[test]
    fn of_two_peers_the_one_with_most_must_go() {
        let crowd = Crowd::new(3);
        let one = crowd.enter(PeerKey::User(1)).unwrap();
        let many = [
            crowd.enter(PeerKey::User(2)).unwrap(),
            crowd.enter(PeerKey::User(2)).unwrap(),
        ];
        let new = crowd.enter(PeerKey::User(3)).unwrap();
        assert_eq!(numbers(&crowd), [one.number, many[1].number, new.number]);
    }

    #[test]
    fn nobody_is_cut_off_in_the_middle_of_a_request() {
        let crowd = Crowd::new(2);
        let places = [
            crowd.enter(PeerKey::User(1)).unwrap(),
            crowd.enter(PeerKey::User(1)).unwrap(),
        ];
        let work = [places[0].marks.begin(), places[1].marks.begin()];
        assert!(crowd.enter(PeerKey::User(0)).is_none());
        drop(work);
        assert!(crowd.enter(PeerKey::User(0)).is_some());
    }

    #[test]
    fn a_place_that_is_left_is_free() {
        let crowd = Crowd::new(1);
        for _ in 0..10 {
            let place = crowd.enter(PeerKey::User(1)).unwrap();
            let _work = place.marks.begin();
        }
        assert!(numbers(&crowd).is_empty());
    }
}
