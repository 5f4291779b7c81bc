//! Sessions that outlive their attachment: it was taken away for good while a virtual machine was connected.
//!
//! Whoever is connected gets an I/O error for each request, and the reactors have let go of the volume before the attachment
//! is gone ([`Revoke`](palisade_block::mailbox::ReactorChange::Revoke)): nothing of such a session leads to the volume,
//! to its extents or to whoever has its name, its number or its socket by then. To end the session instead would be worse
//! in two ways. A front-end that loses its connection holds the guest's requests back and tries to connect again, so the
//! guest hangs and sees no error; and it tries that at the path of the socket, where it would find whatever volume is
//! offered there next.
//!
//! There is no bound in time for that reason. What a session costs is what it cost before (its share of memory, descriptors
//! and one thread), and there are [`LEFT_MAX`] at most.

use crate::attachment::Offered;
use crate::state::NodeState;
use palisade_block::Nanos;
use palisade_words::{AttachmentIndex, Name};

/// With more, the longest left is ended. Each holds what an attachment may hold, beside
/// [`ATTACHMENTS_MAX`](palisade_words::limits::ATTACHMENTS_MAX) of these.
pub const LEFT_MAX: usize = 64;

/// The session of an attachment that is gone.
#[derive(Clone, Debug)]
pub struct Left {
    /// What the attachment was called. Another may have the name by now.
    pub name: Name,
    /// The volume it offered, which may be gone as well.
    pub volume: Name,
    /// Its queues and its counters.
    pub offered: Offered,
    /// Since when.
    pub since: Nanos,
    /// The door has been told to end it.
    pub ending: bool,
}

impl NodeState {
    /// Takes in what is left of an attachment. Gives back the one that has to be ended for it, if there are too many.
    pub(crate) fn leave(&mut self, left: Left) -> Option<AttachmentIndex> {
        self.left.insert(left.offered.index, left);
        let staying = || self.left.values().filter(|left| !left.ending);
        if staying().count() <= LEFT_MAX {
            return None;
        }
        let index = staying().min_by_key(|left| left.since)?.offered.index;
        let oldest = self.left.get_mut(&index)?;
        oldest.ending = true;
        Some(index)
    }

    /// What is told of the sessions that are left, by the name of their attachment.
    pub fn left_by_name(&self, now: Nanos) -> Vec<(&Name, String)> {
        let mut told: Vec<(&Name, String)> = Vec::new();
        let mut left: Vec<_> = self.left.values().collect();
        left.sort_by_key(|left| (&left.name, left.since));
        for Left {
            name,
            volume,
            offered,
            since,
            ..
        } in left
        {
            let message = format!(
                "a virtual machine is connected to it although it was taken away {} s ago, which offered volume {volume}: each of its \
                 requests there ends with an I/O error, and {} MiB of its memory stay mapped",
                now.since(*since).0 / 1_000_000_000,
                offered.memory_bytes >> 20
            );
            match told.last_mut().filter(|(last, _)| *last == name) {
                Some((_, before)) => *before = format!("{before}; {message}"),
                None => told.push((name, message)),
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::GivenUp;
    use crate::task::TaskId;
    use crate::testing::{attachment, name};
    use palisade_words::{ReactorIndex, VolumeIndex};

    fn offered(index: u16) -> Offered {
        let number = (AttachmentIndex(index), TaskId(u64::from(index)));
        Offered::new(number, VolumeIndex(0), &attachment(), 2, 0)
    }

    fn left(index: u16, of: &str, since: Nanos) -> Left {
        Left {
            name: name(of),
            volume: name("v"),
            offered: offered(index),
            since,
            ending: false,
        }
    }

    #[test]
    fn a_number_is_not_free_while_a_session_is_left_under_it() {
        let mut state = NodeState::default();
        state.attachments.insert(name("a"), offered(0));
        assert_eq!(state.leave(left(1, "b", Nanos(7))), None);
        assert_eq!(state.free_attachment(), AttachmentIndex(2));
        assert!(
            state.attachment_of(AttachmentIndex(1)).is_none(),
            "no name leads to it"
        );
        let found = |state: &mut NodeState, index| {
            state
                .offered_of_mut(AttachmentIndex(index))
                .map(|offered| offered.index.0)
        };
        assert_eq!(
            [0, 1, 2].map(|index| found(&mut state, index)),
            [Some(0), Some(1), None]
        );
    }

    #[test]
    fn queues_of_what_is_left_have_their_load() {
        let mut state = NodeState::default();
        let mut busy = left(0, "a", Nanos(7));
        busy.offered.running.insert(0, ReactorIndex(0));
        state.leave(busy);
        assert_eq!(state.least_loaded(2), 1);
    }

    #[test]
    fn what_was_given_up_is_told_so_to_queues_that_come_later() {
        let mut given_up = offered(0);
        let reactor = ReactorIndex(0);
        assert!(!given_up.settings(reactor).revoked);
        for how in [GivenUp::Told, GivenUp::Left, GivenUp::Gone] {
            given_up.given_up = Some(how);
            assert!(given_up.settings(reactor).revoked);
        }
    }

    #[test]
    fn with_too_many_the_longest_left_is_ended_once() {
        let mut state = NodeState::default();
        let begin = Nanos(7);
        // Not in the order of their numbers.
        let since = |index: u16| begin.after(Nanos::from_secs(u64::from(index ^ 5)));
        for index in 0..LEFT_MAX as u16 {
            assert_eq!(state.leave(left(index, "a", since(index))), None);
        }
        assert_eq!(
            state.leave(left(100, "b", since(1000))),
            Some(AttachmentIndex(5)),
            "the first of all"
        );
        assert_eq!(state.left.len(), LEFT_MAX + 1, "it is there until it is gone");
        assert_eq!(state.leave(left(101, "b", since(1001))), Some(AttachmentIndex(4)));
        state.left.remove(&AttachmentIndex(5));
        state.left.remove(&AttachmentIndex(4));
        state.left.remove(&AttachmentIndex(7));
        assert_eq!(state.leave(left(102, "b", since(1002))), None);
    }

    #[test]
    fn what_is_left_is_told_by_name() {
        let mut state = NodeState::default();
        let now = Nanos(7);
        for (index, of) in [(0, "b"), (1, "a"), (2, "b")] {
            state.leave(left(index, of, now));
        }
        let told = state.left_by_name(now);
        let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let count = |text: &str| {
            text.matches("taken away 0 s ago, which offered volume v:")
                .count()
        };
        assert_eq!((count(&told[0].1), count(&told[1].1)), (1, 2));
    }
}
