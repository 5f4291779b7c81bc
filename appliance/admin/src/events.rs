//! The last events, in a ring of fixed size, and on their way to whoever keeps them for longer.
//!
//! A flood cannot push the others out: of one kind on one subject only a few are kept in a while, and what was left out
//! is counted and said; and when the ring is full, the kind that holds more than its share of it makes room.

use palisade_api::{Ending, Event, EventId, EventPage, Severity};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events that are kept when nothing else is said.
pub const EVENTS_KEPT: usize = 4096;

/// Bytes of an event's sentence; the rest is cut off, so that the ring's memory is bounded.
pub const EVENT_MESSAGE_BYTES_MAX: usize = 1024;

/// Events on their way to the recorder. A flood is bounded before it comes here, so the queue is long enough for storage that
/// does not answer for a while; those for which there is no place are counted.
pub const EVENTS_QUEUED_MAX: usize = 1024;

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
    /// Id and name of the node.
    node: (String, String),
    recorder: Option<SyncSender<Told>>,
    ring: Mutex<Ring>,
}

/// What the recorder is told, in the order of the events' numbers.
#[derive(Debug)]
pub enum Told {
    /// An event has happened.
    Event {
        /// The event.
        event: Box<Event>,
        /// Told once the event is on stable storage; dropped when it cannot be kept.
        kept: Option<SyncSender<()>>,
    },
    /// Nothing follows.
    Stop,
}

/// Events that the recorder was not told of: its queue was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many.
    pub count: u64,
    /// The least of their numbers.
    pub from: u64,
    /// The greatest of their numbers.
    pub up_to: u64,
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
    missed: Option<Missed>,
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
            node: (String::new(), String::new()),
            recorder: None,
            ring: Mutex::new(Ring {
                events: VecDeque::new(),
                last: id,
                dropped: id,
                kinds: BTreeMap::new(),
                floods: BTreeMap::new(),
                missed: None,
            }),
        }
    }

    /// The log of a node: its permanent id and its name are part of each event.
    #[must_use]
    pub fn of_node(mut self, id: impl Into<String>, name: impl Into<String>) -> EventLog {
        self.node = (id.into(), name.into());
        self
    }

    /// Begins with events of before, in the order of their numbers: all that there were after number `dropped`.
    #[must_use]
    pub fn with_events(self, before: Vec<Event>, dropped: u64) -> EventLog {
        let mut ring = self.ring();
        ring.dropped = dropped;
        for event in before {
            ring.append(event, self.kept_max);
        }
        drop(ring);
        self
    }

    /// Has each event told to a recorder. The queue to it must have [`EVENTS_QUEUED_MAX`] places.
    #[must_use]
    pub fn recorded_by(mut self, recorder: SyncSender<Told>) -> EventLog {
        self.recorder = Some(recorder);
        self
    }

    /// Tells the recorder that nothing follows. False when its queue is full.
    pub fn stop_recording(&self) -> bool {
        self.recorder
            .as_ref()
            .is_none_or(|recorder| recorder.try_send(Told::Stop).is_ok())
    }

    /// What the recorder was not told of since this was asked last.
    pub fn take_missed(&self) -> Option<Missed> {
        self.ring().missed.take()
    }

    /// Takes what became of an operator's command. One that was carried out, or may have been, is never left out, and whoever
    /// answers for it can wait until it is kept. One that was refused costs who sends it nothing, so of a flood of those only
    /// some are kept, as with other events.
    pub fn push_command(&self, event: Event) -> Option<Receiver<()>> {
        let is_refused =
            (event.result.as_ref()).is_none_or(|result| matches!(result.ending, Ending::Refused));
        if is_refused {
            self.push_limited(event, Instant::now());
            return None;
        }
        let (kept, told) = sync_channel(1);
        self.keep(&mut self.ring(), event, Some(kept));
        self.recorder.as_ref().map(|_| told)
    }

    /// Takes an event. One of a flood is counted only, and the count is said with the next that is kept.
    pub fn push(
        &self,
        severity: Severity,
        kind: impl Into<String>,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.push_limited(Event::new(severity, kind, subject, message), Instant::now());
    }

    fn push_limited(&self, mut event: Event, now: Instant) {
        let mut ring = self.ring();
        let flood = ring.flood(&(event.kind.clone(), event.subject.clone()), now);
        if flood.left == 0 {
            flood.left_out += 1;
            (flood.severity, flood.message) = (event.severity, cut(event.message));
            return;
        }
        flood.left -= 1;
        match std::mem::take(&mut flood.left_out) {
            0 => {}
            count => event.message = format!("{} ({count} like this were left out before it)", event.message),
        }
        self.keep(&mut ring, event, None);
    }

    /// Numbers an event and takes it, into the ring and to the recorder.
    fn keep(&self, ring: &mut Ring, mut event: Event, kept: Option<SyncSender<()>>) {
        ring.last = ring.last.saturating_add(1);
        event.id = EventId {
            node: self.node.0.clone(),
            number: ring.last,
        };
        event.node.clone_from(&self.node.1);
        event.unix_ms = unix_ms();
        event.message = cut(event.message);
        event.command = event.command.map(cut);
        if let Some(recorder) = &self.recorder {
            let event = Box::new(event.clone());
            // Under the lock, so that the recorder gets them in the order of their numbers.
            if let Err(TrySendError::Full(_)) = recorder.try_send(Told::Event { event, kept }) {
                let count = ring.missed.map_or(0, |missed| missed.count);
                ring.missed = Some(Missed {
                    count: count + 1,
                    from: ring.missed.map_or(ring.last, |missed| missed.from),
                    up_to: ring.last,
                });
            }
        }
        ring.append(event, self.kept_max);
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
            self.keep(&mut ring, Event::new(severity, key.0, key.1, message), None);
        }
    }

    /// At most `limit` events after the one of id `after`, oldest first. 0 asks for all that are kept; so does, and is
    /// told that events were lost, whoever names an id that was never given: it comes from another history of this node.
    pub fn after(&self, after: u64, limit: usize) -> EventPage {
        let ring = self.ring();
        let foreign = after > ring.last;
        let from = if foreign { 0 } else { after };
        let start = ring.events.partition_point(|event| event.id.number <= from);
        let items: Vec<Event> = ring.events.iter().skip(start).take(limit).cloned().collect();
        let nothing = if foreign { ring.last } else { after };
        EventPage {
            next: self.next_after(&items, nothing),
            lost: foreign || (after > 0 && after < ring.dropped),
            items,
        }
    }

    /// The last `count` events, oldest first. It says nothing of those before them.
    pub fn last(&self, count: usize) -> EventPage {
        let ring = self.ring();
        let start = ring.events.len().saturating_sub(count);
        let items: Vec<Event> = ring.events.iter().skip(start).cloned().collect();
        EventPage {
            next: self.next_after(&items, ring.last),
            lost: false,
            items,
        }
    }

    /// Where to go on after these events; after number `nothing` when there are none. It never lies before one of them, in
    /// whatever order they are: whoever goes on there gets none of them again.
    pub fn next_after(&self, items: &[Event], nothing: u64) -> Option<EventId> {
        let number = items.iter().map(|event| event.id.number).max().unwrap_or(nothing);
        (number > 0).then(|| EventId {
            node: self.node.0.clone(),
            number,
        })
    }

    /// The number of an event that a client has seen: that of an event of this node, or 0 for all there are and whether it is
    /// one of another history.
    pub fn number_of(&self, after: &EventId) -> (u64, bool) {
        let is_ours = after.node.is_empty() || after.node == self.node.0;
        match is_ours && after.number <= self.last_id() {
            true => (after.number, false),
            false => (0, true),
        }
    }

    /// The number before that of the oldest event here from which on none has been dropped.
    pub fn dropped_up_to(&self) -> u64 {
        self.ring().dropped
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

    /// Takes a numbered event.
    fn append(&mut self, event: Event, kept_max: usize) {
        if self.events.len() >= kept_max {
            self.make_room(kept_max);
        }
        *self.kinds.entry(event.kind.clone()).or_default() += 1;
        self.events.push_back(event);
    }

    /// Drops the oldest event of the kind that holds more than a quarter of the ring; when none does, the oldest of all.
    fn make_room(&mut self, kept_max: usize) {
        let greatest = self.kinds.iter().max_by_key(|(_, count)| **count);
        let greedy = greatest.filter(|(_, count)| **count * 4 > kept_max && kept_max >= 4);
        let at = greedy.and_then(|(kind, _)| self.events.iter().position(|event| event.kind == *kind));
        let Some(event) = self.events.remove(at.unwrap_or(0)) else {
            return;
        };
        self.dropped = self.dropped.max(event.id.number);
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
        page.items.iter().map(|event| event.id.number).collect()
    }

    #[test]
    fn gives_what_came_after_and_where_to_go_on() {
        let log = filled(10, 100, 5);
        let page = log.after(102, 2);
        assert_eq!(ids(&page), [103, 104]);
        assert_eq!((page.next, page.lost), (Some(EventId::here(104)), false));
        assert_eq!(ids(&log.after(104, 10)), [105]);
        let end = log.after(105, 10);
        assert_eq!((ids(&end), end.next), (vec![], Some(EventId::here(105))));
    }

    #[test]
    fn gives_the_last_ones_and_where_to_go_on() {
        let log = filled(10, 100, 5);
        for (count, last) in [
            (0, vec![]),
            (2, vec![104, 105]),
            (9, vec![101, 102, 103, 104, 105]),
        ] {
            let page = log.last(count);
            assert_eq!((ids(&page), page.lost), (last, false));
            assert_eq!(page.next, Some(EventId::here(105)));
        }
    }

    #[test]
    fn whoever_goes_on_where_a_page_says_comes_to_an_end_although_no_greater_number_is_left() {
        let log = filled(10, u64::MAX - 2, 5);
        let mut after = 0;
        for _ in 0..10 {
            let page = log.after(after, 2);
            let Some(next) = page.next.filter(|_| !page.items.is_empty()) else {
                break;
            };
            assert!(next.number > after, "{next}");
            after = next.number;
        }
        assert!(log.after(after, 2).items.is_empty());
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
        assert_eq!((empty.next, empty.lost), (Some(EventId::here(7)), true));
    }

    #[test]
    fn a_flood_is_counted_and_does_not_push_the_others_out() {
        let log = EventLog::beginning_after(100, 0);
        let (began, now) = (Instant::now(), unix_ms());
        log.push(Severity::Info, "quiet", "disk/d1", "once");
        for number in 0..17_000u64 {
            let message = format!("refused, number {number}");
            log.push_limited(
                Event::new(Severity::Warning, "refused", "attachment/a", message),
                began,
            );
        }
        let page = log.after(0, 1000);
        assert_eq!(page.items.len(), 1 + BURST as usize);
        log.settle(began);
        assert_eq!(log.after(0, 1000).items.len(), page.items.len(), "it goes on");
        log.settle(began + REFILL);
        let said = log.after(page.next.unwrap_or_default().number, 1000).items;
        let [said] = said.as_slice() else {
            panic!("{said:?}")
        };
        assert!(said.unix_ms >= now);
        assert_eq!(
            said.message,
            "16992 more like this; the last: refused, number 16999"
        );
        log.settle(began + 2 * REFILL);
        assert_eq!(log.last_id(), said.id.number, "it is said once");
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

    #[test]
    fn a_log_goes_on_with_what_was_kept_of_before() {
        let first = filled(10, 100, 4).of_node("n", "host-a");
        first.push(Severity::Info, "last", "node", "of before");
        let before = first.after(102, 10).items;
        let log = EventLog::beginning_after(3, 200)
            .of_node("n", "host-a")
            .with_events(before, 102);
        assert_eq!(
            (ids(&log.after(0, 10)), log.last_id()),
            (vec![103, 104, 105], 200)
        );
        assert_eq!(log.dropped_up_to(), 102);
        log.push(Severity::Info, "first", "node", "of now");
        let page = log.after(104, 10);
        assert_eq!((ids(&page), page.lost), (vec![105, 201], false));
        assert_eq!(page.next.unwrap().to_string(), "n:201");
        assert_eq!(page.items[0].node, "host-a");
        let of_another = EventId {
            node: "other".into(),
            number: 104,
        };
        assert_eq!(log.number_of(&of_another), (0, true));
        assert_eq!(log.number_of(&EventId::here(104)), (104, false));
    }

    fn command(ending: Ending) -> Event {
        Event {
            result: Some(palisade_api::CommandResult { ending, code: None }),
            ..Event::new(Severity::Info, "volume_create", "volume/v1", "volume create v1")
        }
    }

    #[test]
    fn a_command_that_was_carried_out_is_never_left_out_and_a_flood_of_refused_ones_is() {
        let log = EventLog::beginning_after(1000, 0);
        for _ in 0..100 {
            assert!(log.push_command(command(Ending::Refused)).is_none());
        }
        assert_eq!(log.after(0, 1000).items.len(), BURST as usize);
        for _ in 0..100 {
            log.push_command(command(Ending::Done));
        }
        assert_eq!(log.after(0, 1000).items.len(), BURST as usize + 100);
    }

    #[test]
    fn what_the_recorder_has_no_place_for_is_counted_and_nobody_waits_for_it() {
        let (recorder, told) = sync_channel(2);
        let log = EventLog::beginning_after(10, 0).recorded_by(recorder);
        let waits: Vec<_> = (0..5)
            .map(|_| log.push_command(command(Ending::Done)).unwrap())
            .collect();
        let missed = Missed {
            count: 3,
            from: 3,
            up_to: 5,
        };
        assert_eq!(log.take_missed(), Some(missed));
        assert_eq!(log.take_missed(), None);
        assert!(waits[4].recv().is_err(), "it cannot be kept");
        let Ok(Told::Event {
            event,
            kept: Some(kept),
        }) = told.recv()
        else {
            panic!("the first was told")
        };
        assert_eq!(event.id.number, 1);
        kept.send(()).unwrap();
        assert!(waits[0].recv().is_ok());
    }
}
