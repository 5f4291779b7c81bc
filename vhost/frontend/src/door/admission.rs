//! Who is in, and for whom the door is held shut: whoever wants to take an attachment away that no virtual machine uses has
//! to know that none comes in between the look and the decision.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// All attachments, by what people call them: one may be held shut before its socket is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission(Arc<Mutex<BTreeMap<String, Entry>>>);

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Entry {
    connected: bool,
    /// How many hold it shut.
    holds: usize,
}

/// As long as this lives, no virtual machine connects to the attachment: one that comes waits in the socket's backlog.
#[derive(Debug)]
#[must_use = "the door is held shut no longer than this lives"]
pub struct HeldShut {
    admission: Admission,
    name: String,
}

impl Drop for HeldShut {
    fn drop(&mut self) {
        self.admission.with(&self.name, |entry| entry.holds -= 1);
    }
}

impl Admission {
    /// A virtual machine comes in; false when the door is held shut.
    pub(super) fn enter(&self, name: &str) -> bool {
        self.with(name, |entry| {
            entry.connected |= entry.holds == 0;
            entry.holds == 0
        })
    }

    /// It has left.
    pub(super) fn leave(&self, name: &str) {
        self.with(name, |entry| entry.connected = false);
    }

    /// Holds the door shut; `None` when somebody is in.
    pub(super) fn hold(&self, name: &str) -> Option<HeldShut> {
        let empty = self.with(name, |entry| {
            entry.holds += usize::from(!entry.connected);
            !entry.connected
        });
        empty.then(|| HeldShut {
            admission: self.clone(),
            name: name.to_owned(),
        })
    }

    fn with<T>(&self, name: &str, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.entry(name.to_owned()).or_default();
        let result = change(entry);
        if *entry == Entry::default() {
            all.remove(name);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_comes_in_while_the_door_is_held_shut() {
        let door = Admission::default();
        let (one, two) = (door.hold("web1").unwrap(), door.hold("web1").unwrap());
        assert!(!door.enter("web1") && door.enter("web2"));
        drop(one);
        assert!(!door.enter("web1"), "another holds it still");
        drop(two);
        assert!(door.enter("web1"));
        assert!(door.hold("web1").is_none() && door.hold("web2").is_none());
        door.leave("web1");
        drop(door.hold("web1").unwrap());
        door.leave("web2");
        assert!(
            door.0.lock().unwrap().is_empty(),
            "nothing is kept of those that are gone"
        );
    }

    /// Whichever of the two comes first: either it is in and is seen, or it stays out.
    #[test]
    fn a_machine_is_in_or_kept_out_never_both() {
        for _ in 0..500 {
            let door = Admission::default();
            let guest = door.clone();
            let comes = std::thread::spawn(move || guest.enter("web1"));
            let held = door.hold("web1");
            let entered = comes.join().unwrap();
            assert_eq!(entered, held.is_none());
        }
    }
}
