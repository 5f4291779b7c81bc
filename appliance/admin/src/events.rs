//! The last events, in a ring of fixed size.

use palisade_api::{Event, EventPage, Severity};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Events that are kept when nothing else is said.
pub const EVENTS_KEPT: usize = 4096;

/// Bytes of an event's sentence; the rest is cut off, so that the ring's memory is bounded.
pub const EVENT_MESSAGE_BYTES_MAX: usize = 1024;

/// Keeps the last events. The oldest makes room for the newest.
///
/// Ids begin at the microsecond in which the ring was made, so that they grow across restarts too and a client that
/// was away meanwhile misses nothing that is still kept.
#[derive(Debug)]
pub struct EventLog {
    kept_max: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Event>,
    /// The id given last.
    last: u64,
}

impl EventLog {
    /// An empty ring with room for `kept_max` events.
    pub fn new(kept_max: usize) -> EventLog {
        EventLog::beginning_after(kept_max, unix_ms().saturating_mul(1000))
    }

    /// An empty ring whose first id is the one after `id`.
    pub fn beginning_after(kept_max: usize, id: u64) -> EventLog {
        EventLog {
            kept_max: kept_max.max(1),
            ring: Mutex::new(Ring {
                events: VecDeque::new(),
                last: id,
            }),
        }
    }

    /// Keeps an event and gives its id.
    pub fn push(
        &self,
        severity: Severity,
        kind: impl Into<String>,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> u64 {
        let mut message = message.into();
        let cut = message.floor_char_boundary(EVENT_MESSAGE_BYTES_MAX);
        message.truncate(cut);
        let (kind, subject, unix_ms) = (kind.into(), subject.into(), unix_ms());
        let mut ring = self.ring();
        ring.last += 1;
        let id = ring.last;
        if ring.events.len() == self.kept_max {
            ring.events.pop_front();
        }
        ring.events.push_back(Event {
            id,
            unix_ms,
            severity,
            kind,
            subject,
            message,
        });
        id
    }

    /// At most `limit` events after the one of id `after`, oldest first. 0 asks for all that are kept.
    pub fn after(&self, after: u64, limit: usize) -> EventPage {
        let ring = self.ring();
        let start = ring.events.partition_point(|event| event.id <= after);
        let items: Vec<Event> = ring.events.iter().skip(start).take(limit).cloned().collect();
        let oldest = ring.events.front().map_or(ring.last + 1, |event| event.id);
        EventPage {
            next: items
                .last()
                .map(|event| event.id)
                .or(Some(after))
                .filter(|id| *id > 0),
            lost: after > 0 && after.saturating_add(1) < oldest,
            items,
        }
    }

    /// The ring, also after a thread has died holding it: every change of it is whole.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for EventLog {
    fn default() -> EventLog {
        EventLog::new(EVENTS_KEPT)
    }
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(kept_max: usize, first: u64, count: u64) -> EventLog {
        let log = EventLog::beginning_after(kept_max, first);
        for number in 0..count {
            log.push(Severity::Info, "test", "node", format!("event {number}"));
        }
        log
    }

    fn ids(page: &EventPage) -> Vec<u64> {
        page.items.iter().map(|event| event.id).collect()
    }

    #[test]
    fn gives_what_came_after_and_where_to_go_on() {
        let log = filled(10, 100, 5);
        let page = log.after(102, 2);
        assert_eq!(ids(&page), [103, 104]);
        assert_eq!((page.next, page.lost), (Some(104), false));
        assert_eq!(ids(&log.after(104, 10)), [105]);
        let end = log.after(105, 10);
        assert_eq!((ids(&end), end.next), (vec![], Some(105)));
    }

    #[test]
    fn says_when_events_were_lost() {
        let log = filled(3, 100, 10);
        let page = log.after(103, 10);
        assert_eq!(ids(&page), [108, 109, 110]);
        assert!(page.lost);
        assert!(!log.after(107, 10).lost);
        assert!(
            !log.after(0, 10).lost,
            "who asks for all that is kept has lost nothing"
        );
        assert!(log.after(50, 10).lost, "a former run's events are gone");
    }

    #[test]
    fn keeps_little_of_a_long_sentence() {
        let log = EventLog::beginning_after(1, 0);
        log.push(Severity::Error, "test", "node", "ü".repeat(5000));
        let page = log.after(0, 1);
        let [event] = page.items.as_slice() else {
            panic!("{page:?}")
        };
        assert!(event.message.len() <= EVENT_MESSAGE_BYTES_MAX);
    }
}
