//! Who is in, and for whom the door is held shut: whoever wants to take an attachment away that no virtual machine uses has
//! to know that none comes in between the look and the decision.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long whoever holds the door shut waits to hear whether there was somebody; it takes microseconds.
const ENTRY_PATIENCE: Duration = Duration::from_secs(1);

/// How often he looks.
const ENTRY_LOOK: Duration = Duration::from_micros(100);

/// All attachments, by what people call them: one may be held shut before its socket is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission(Arc<Mutex<BTreeMap<String, Entry>>>);

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Entry {
    connected: bool,
    /// The attachment's thread looks whether somebody waits; most times there is nobody.
    entering: bool,
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
    /// Whoever waits at the socket may be let in: [`Admission::entered`] or [`Admission::leave`] follows. False when the
    /// door is held shut.
    pub(super) fn enter(&self, name: &str) -> bool {
        self.with(name, |entry| {
            entry.entering |= entry.holds == 0;
            entry.holds == 0
        })
    }

    /// A virtual machine has come in.
    pub(super) fn entered(&self, name: &str) {
        self.with(name, |entry| (entry.connected, entry.entering) = (true, false));
    }

    /// It has left, or there was nobody.
    pub(super) fn leave(&self, name: &str) {
        self.with(name, |entry| (entry.connected, entry.entering) = (false, false));
    }

    /// Holds the door shut; `None` when somebody is in.
    pub(super) fn hold(&self, name: &str) -> Option<HeldShut> {
        let deadline = Instant::now() + ENTRY_PATIENCE;
        let settled = |entry: &mut Entry| {
            let empty = !entry.connected && !entry.entering;
            entry.holds += usize::from(empty);
            (empty || entry.connected || Instant::now() >= deadline).then_some(empty)
        };
        loop {
            if let Some(empty) = self.with(name, settled) {
                return empty.then(|| HeldShut {
                    admission: self.clone(),
                    name: name.to_owned(),
                });
            }
            std::thread::sleep(ENTRY_LOOK);
        }
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
        door.entered("web1");
        door.entered("web2");
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
            let comes = std::thread::spawn(move || {
                let enters = guest.enter("web1");
                if enters {
                    guest.entered("web1");
                }
                enters
            });
            let held = door.hold("web1");
            let entered = comes.join().unwrap();
            assert_eq!(entered, held.is_none());
        }
    }

    /// The thread of an attachment looks now and then whether somebody waits; that is nobody.
    #[test]
    fn a_look_at_an_empty_backlog_keeps_no_operator_out() {
        let door = Admission::default();
        assert!(door.enter("web1"));
        let looks = door.clone();
        let begun = Instant::now();
        let looking = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            looks.leave("web1");
        });
        drop(door.hold("web1").expect("there was nobody"));
        assert!(
            begun.elapsed() >= Duration::from_millis(20),
            "that was waited for"
        );
        looking.join().unwrap();
    }

    /// A thread that never says whether there was somebody: there may be.
    #[test]
    fn who_never_says_so_may_be_in() {
        let door = Admission::default();
        assert!(door.enter("web1"));
        assert!(door.hold("web1").is_none());
        assert!(door.0.lock().unwrap()["web1"].holds == 0);
    }
}
