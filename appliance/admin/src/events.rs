//! The last events, in a ring of fixed size.
//!
//! A flood cannot push the others out: of one kind on one subject only a few are kept in a while, and what was left out
//! is counted and said; and when the ring is full, the kind that holds more than its share of it makes room.

use palisade_api::{Event, EventPage, Severity};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events that are kept when nothing else is said.
pub const EVENTS_KEPT: usize = 4096;

/// Bytes of an event's sentence; the rest is cut off, so that the ring's memory is bounded.
pub const EVENT_MESSAGE_BYTES_MAX: usize = 1024;

/// Events of one kind on one subject that are kept one by one before they are counted only.
const BURST: u32 = 8;

/// After so long another one of this kind on this subject is kept.
const REFILL: Duration = Duration::from_secs(10);

/// Pairs of kind and subject whose floods are told apart. Beyond that, those that have been quiet longest are forgotten.
const FLOODS_MAX: usize = 1024;

/// Keeps the last events. The oldest makes room for the newest.
///
/// Ids are a sequence, in the order of what happened, whatever the wall clock does. Whoever makes the log says where it
/// goes on, so that ids grow across restarts too and a client that was away meanwhile misses nothing that is still kept.
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
    /// The greatest id that is no longer kept.
    dropped: u64,
    /// Events kept, by kind.
    kinds: BTreeMap<String, usize>,
    floods: BTreeMap<(String, String), Flood>,
}

/// How many more of one kind on one subject are kept.
#[derive(Debug)]
struct Flood {
    left: u32,
    since: Instant,
    left_out: u64,
    /// The last that was left out.
    severity: Severity,
    message: String,
}

impl EventLog {
    /// An empty ring with room for `kept_max` events whose ids begin at the microsecond of now.
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
                dropped: id,
                kinds: BTreeMap::new(),
                floods: BTreeMap::new(),
            }),
        }
    }

    /// Takes an event. One of a flood is counted only, and the count is said with the next that is kept.
    pub fn push(
        &self,
        severity: Severity,
        kind: impl Into<String>,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.push_at(
            severity,
            kind.into(),
            subject.into(),
            message.into(),
            Instant::now(),
        );
    }

    fn push_at(&self, severity: Severity, kind: String, subject: String, message: String, now: Instant) {
        let mut ring = self.ring();
        let key = (kind, subject);
        let flood = ring.flood(&key, now);
        if flood.left == 0 {
            flood.left_out += 1;
            (flood.severity, flood.message) = (severity, cut(message));
            return;
        }
        flood.left -= 1;
        let message = match std::mem::take(&mut flood.left_out) {
            0 => message,
            count => format!("{message} ({count} like this were left out before it)"),
        };
        ring.keep(severity, key, message, self.kept_max);
    }

    /// Says what was left out of floods that have ended. To be called now and then.
    pub fn settle(&self, now: Instant) {
        let mut ring = self.ring();
        let ended = |(_, flood): &(&(String, String), &Flood)| {
            flood.left_out > 0 && now.saturating_duration_since(flood.since) >= REFILL
        };
        let ended: Vec<_> = ring
            .floods
            .iter()
            .filter(ended)
            .map(|(key, _)| key.clone())
            .collect();
        for key in ended {
            let flood = ring.flood(&key, now);
            flood.left = flood.left.saturating_sub(1);
            let (count, severity) = (std::mem::take(&mut flood.left_out), flood.severity);
            let message = format!("{count} more like this; the last: {}", flood.message);
            ring.keep(severity, key, message, self.kept_max);
        }
    }

    /// At most `limit` events after the one of id `after`, oldest first. 0 asks for all that are kept; so does, and is
    /// told that events were lost, whoever names an id that was never given: it comes from another history of this node.
    pub fn after(&self, after: u64, limit: usize) -> EventPage {
        let ring = self.ring();
        let foreign = after > ring.last;
        let from = if foreign { 0 } else { after };
        let start = ring.events.partition_point(|event| event.id <= from);
        let items: Vec<Event> = ring.events.iter().skip(start).take(limit).cloned().collect();
        let nothing = if foreign { ring.last } else { after };
        EventPage {
            next: items
                .last()
                .map(|event| event.id)
                .or(Some(nothing))
                .filter(|id| *id > 0),
            lost: foreign || (after > 0 && after < ring.dropped),
            items,
        }
    }

    /// The id that was given last.
    pub fn last_id(&self) -> u64 {
        self.ring().last
    }

    /// The ring, also after a thread has died holding it: every change of it is whole.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// What is left to one kind on one subject.
    fn flood(&mut self, key: &(String, String), now: Instant) -> &mut Flood {
        if self.floods.len() >= FLOODS_MAX && !self.floods.contains_key(key) {
            let quietest = self.floods.iter().min_by_key(|(_, flood)| flood.since);
            if let Some(quietest) = quietest.map(|(key, _)| key.clone()) {
                self.floods.remove(&quietest);
            }
        }
        let flood = self.floods.entry(key.clone()).or_insert_with(|| Flood {
            left: BURST,
            since: now,
            left_out: 0,
            severity: Severity::Info,
            message: String::new(),
        });
        let periods = now.saturating_duration_since(flood.since).as_secs() / REFILL.as_secs();
        if periods > 0 {
            flood.left = flood.left.saturating_add(periods as u32).min(BURST);
            flood.since = now;
        }
        flood
    }

    fn keep(
        &mut self,
        severity: Severity,
        (kind, subject): (String, String),
        message: String,
        kept_max: usize,
    ) {
        if self.events.len() >= kept_max {
            self.make_room(kept_max);
        }
        self.last += 1;
        *self.kinds.entry(kind.clone()).or_default() += 1;
        self.events.push_back(Event {
            id: self.last,
            unix_ms: unix_ms(),
            severity,
            kind,
            subject,
            message: cut(message),
        });
    }

    /// Drops the oldest event of the kind that holds more than a quarter of the ring; when none does, the oldest of all.
    fn make_room(&mut self, kept_max: usize) {
        let greatest = self.kinds.iter().max_by_key(|(_, count)| **count);
        let greedy = greatest.filter(|(_, count)| **count * 4 > kept_max && kept_max >= 4);
        let at = greedy.and_then(|(kind, _)| self.events.iter().position(|event| event.kind == *kind));
        let Some(event) = self.events.remove(at.unwrap_or(0)) else {
            return;
        };
        self.dropped = self.dropped.max(event.id);
        if let Some(count) = self.kinds.get_mut(&event.kind) {
            *count -= 1;
            if *count == 0 {
                self.kinds.remove(&event.kind);
            }
        }
    }
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(EVENT_MESSAGE_BYTES_MAX));
    message
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
            log.push(
                Severity::Info,
                "test",
                format!("disk/d{number}"),
                format!("event {number}"),
            );
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

    #[test]
    fn an_id_that_was_never_given_is_answered_with_all_there_is() {
        let log = filled(10, 100, 5);
        let page = log.after(1_000_000, 10);
        assert_eq!(ids(&page), [101, 102, 103, 104, 105]);
        assert!(page.lost);
        let empty = EventLog::beginning_after(10, 7).after(1_000_000, 10);
        assert_eq!((empty.next, empty.lost), (Some(7), true));
    }

    #[test]
    fn a_flood_is_counted_and_does_not_push_the_others_out() {
        let log = EventLog::beginning_after(100, 0);
        let (began, now) = (Instant::now(), unix_ms());
        log.push(Severity::Info, "quiet", "disk/d1", "once");
        for number in 0..17_000u64 {
            let message = format!("refused, number {number}");
            log.push_at(
                Severity::Warning,
                "refused".into(),
                "attachment/a".into(),
                message,
                began,
            );
        }
        let page = log.after(0, 1000);
        assert_eq!(page.items.len(), 1 + BURST as usize);
        log.settle(began);
        assert_eq!(log.after(0, 1000).items.len(), page.items.len(), "it goes on");
        log.settle(began + REFILL);
        let said = log.after(page.next.unwrap_or(0), 1000).items;
        let [said] = said.as_slice() else {
            panic!("{said:?}")
        };
        assert!(said.unix_ms >= now);
        assert_eq!(
            said.message,
            "16992 more like this; the last: refused, number 16999"
        );
        log.settle(began + 2 * REFILL);
        assert_eq!(log.last_id(), said.id, "it is said once");
    }

    #[test]
    fn a_kind_on_many_subjects_makes_room_for_the_others() {
        let log = EventLog::beginning_after(40, 0);
        for number in 0..20 {
            log.push(Severity::Info, format!("kind_{number}"), "node", "rare");
        }
        for number in 0..5000 {
            log.push(Severity::Info, "flood", format!("attachment/a{number}"), "again");
        }
        let all = log.after(0, 1000).items;
        assert_eq!(all.len(), 40);
        assert_eq!(all.iter().filter(|event| event.kind != "flood").count(), 20);
        assert!(log.after(1, 1000).lost);
    }
}
