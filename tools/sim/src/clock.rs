//! Virtual time: it passes only when the world says so, and events of one moment come in the order in which they
//! were planned.

use palisade_block::Nanos;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Things that happen at set times.
#[derive(Debug)]
pub struct Agenda<T> {
    heap: BinaryHeap<Reverse<Planned<T>>>,
    count: u64,
}

#[derive(Debug)]
struct Planned<T> {
    at: Nanos,
    order: u64,
    what: T,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Agenda {
            heap: BinaryHeap::new(),
            count: 0,
        }
    }
}

impl<T> Agenda<T> {
    /// Plans something.
    pub fn plan(&mut self, at: Nanos, what: T) {
        let order = self.count;
        self.count += 1;
        self.heap.push(Reverse(Planned { at, order, what }));
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse(planned)| planned.at)
    }

    /// The next thing that is due.
    pub fn due(&mut self, now: Nanos) -> Option<T> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(planned)| planned.what)
    }
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_order_of_time_and_ties_in_order_of_planning() {
        let mut agenda = Agenda::default();
        agenda.plan(Nanos(5), "b");
        agenda.plan(Nanos(9), "d");
        agenda.plan(Nanos(5), "c");
        agenda.plan(Nanos(1), "a");
        assert_eq!(agenda.next_at(), Some(Nanos(1)));
        let mut seen = Vec::new();
        while let Some(what) = agenda.due(Nanos(8)) {
            seen.push(what);
        }
        assert_eq!(seen, ["a", "b", "c"]);
        assert_eq!(agenda.next_at(), Some(Nanos(9)));
    }
}
