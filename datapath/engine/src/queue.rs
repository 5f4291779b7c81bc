//! A virtqueue, or another source of requests, and what the reactor keeps for it.

use crate::pace::Allowance;
use crate::rations::Ration;
use crate::reactor::broken;
use palisade_block::limits::SEGMENTS_PER_SLOT;
use palisade_block::mailbox::AttachmentSettings;
use palisade_block::{Lease, Source};
use palisade_words::{MemoryId, QueueId};

/// A queue and what the reactor keeps for it. What it has in flight is in the books.
pub(crate) struct Queue<S> {
    pub(crate) id: QueueId,
    pub(crate) source: S,
    pub(crate) settings: AttachmentSettings,
    /// Where the data of its requests lies.
    pub(crate) lease: Lease,
    /// As what the devices keep that.
    pub(crate) memory: MemoryId,
    /// Answers were given that the guest cannot see yet.
    pub(crate) unpublished: bool,
    /// Nothing more is taken from it; it goes back when nothing is in flight.
    pub(crate) stopping: bool,
    /// Nothing more is begun of its requests either, and what is not begun to its end is left unanswered.
    pub(crate) leaving: bool,
    /// It is to end soon, and what it has under way does not come again: faults of that are answered at once.
    pub(crate) is_urgent: bool,
    /// It found no slot in this turn.
    pub(crate) is_short: bool,
    /// It waits for its limit; counted once per wait.
    pub(crate) throttled: bool,
    /// What it may still take of its attachment's limits.
    pub(crate) allowance: Allowance,
    /// Segments that one operation on its memory may have.
    pub(crate) segments_max: usize,
    /// What it has begun of requests in pieces.
    pub(crate) ration: Ration,
}

impl<S: Source> Queue<S> {
    /// One that has given nothing yet.
    pub(crate) fn new(
        id: QueueId,
        settings: AttachmentSettings,
        source: S,
        (lease, memory): (Lease, MemoryId),
    ) -> Queue<S> {
        let mut queue = Queue {
            id,
            settings,
            source,
            lease,
            memory,
            unpublished: false,
            stopping: false,
            leaving: false,
            is_urgent: false,
            is_short: false,
            throttled: false,
            allowance: Allowance::default(),
            segments_max: SEGMENTS_PER_SLOT,
            ration: Ration::default(),
        };
        if queue.settings.revoked {
            queue.revoke();
        }
        queue
    }

    /// Shows its answers, if it has any, and notifies its guest once.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.unpublished {
            self.unpublished = false;
            self.source.publish();
        }
    }
}

impl<S> Queue<S> {
    /// Its volume has been taken away: each of its requests ends with an error, and none is held back by a limit for that.
    pub(crate) fn revoke(&mut self) {
        let settings = &mut self.settings;
        settings.revoked = true;
        (settings.pace.iops, settings.pace.bytes_per_second) = (0, 0);
    }

    /// Remembers that it has answers to publish.
    #[inline]
    pub(crate) fn mark(&mut self, index: u16, touched: &mut Vec<u16>) {
        if !self.unpublished {
            self.unpublished = true;
            debug_assert!(touched.len() < touched.capacity(), "a turn would allocate");
            touched.push(index);
        }
    }
}

/// The queues of a reactor by their places.
pub(crate) struct Queues<S>(Vec<Option<Queue<S>>>);

impl<S> Queues<S> {
    pub(crate) fn new() -> Queues<S> {
        Queues(Vec::new())
    }

    /// Places, in use or not.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts a queue in a place that is free.
    pub(crate) fn add(&mut self, queue: Queue<S>) -> u16 {
        let index = match self.0.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.0.push(None);
                self.0.len() - 1
            }
        };
        self.0[index] = Some(queue);
        index as u16
    }

    /// Takes the queue out of a place if that is so.
    pub(crate) fn take_if(
        &mut self,
        index: u16,
        is_so: impl FnOnce(&mut Queue<S>) -> bool,
    ) -> Option<Queue<S>> {
        self.0.get_mut(usize::from(index))?.take_if(is_so)
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: u16) -> Option<&Queue<S>> {
        self.0.get(usize::from(index))?.as_ref()
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, index: u16) -> Option<&mut Queue<S>> {
        self.0.get_mut(usize::from(index))?.as_mut()
    }

    /// The queue of a request in flight.
    ///
    /// # Panics
    /// When it is gone: our own bug.
    #[inline]
    pub(crate) fn at(&self, index: u16) -> &Queue<S> {
        match self.get(index) {
            Some(queue) => queue,
            None => broken("a request outlived its queue"),
        }
    }

    /// The same.
    ///
    /// # Panics
    /// The same.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u16) -> &mut Queue<S> {
        match self.get_mut(index) {
            Some(queue) => queue,
            None => broken("a request outlived its queue"),
        }
    }

    /// All, with their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Queue<S>)> {
        let queues = (0..).zip(&self.0);
        queues.filter_map(|(index, queue)| Some((index, queue.as_ref()?)))
    }

    /// The same, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u16, &mut Queue<S>)> {
        let queues = (0..).zip(&mut self.0);
        queues.filter_map(|(index, queue)| Some((index, queue.as_mut()?)))
    }

    /// The queue of this name.
    pub(crate) fn named(&mut self, id: QueueId) -> Option<&mut Queue<S>> {
        self.0.iter_mut().flatten().find(|queue| queue.id == id)
    }
}
