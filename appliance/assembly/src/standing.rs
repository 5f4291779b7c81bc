//! What is wrong, and since when.
//!
//! A finding is raised by whoever sees its cause and cleared by whoever sees its end; or it is worked out from the state
//! of the node ([`findings`](crate::findings)) and ends with its cause. Either way it is an event when it begins and
//! another when it ends, its first cause is what is told, and how often it came again is counted. Of what is looked at again and
//! again the present cause is told: that is the one to be mended.
//!
//! The lock here is held for moments only and by nobody who waits: findings can be raised from any thread, also under the
//! lock of the state, and health can be asked for whatever else is stuck.

use crate::unix_time::now_ms;
use palisade_admin::EventLog;
use palisade_api::{Clears, Finding, FindingKind, Overall, Severity};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Findings that stand at once at most. They come from subjects that the cluster knows, so this is not met in practice;
/// it keeps what a guest can bring about bounded.
const STANDING_MAX: usize = 16_384;

/// All findings of a node.
#[derive(Debug)]
pub struct Findings {
    events: Arc<EventLog>,
    standing: Mutex<BTreeMap<Key, Standing>>,
}

/// A finding that stands for as long as it is raised, or follows from the state of the node, or both.
#[derive(Debug)]
struct Standing {
    finding: Finding,
    /// When it was raised last, if it is.
    raised: Option<Instant>,
    /// Whether it followed from the state of the node at the last look.
    derived: bool,
}

type Key = (FindingKind, String);

impl Findings {
    /// None yet. Beginnings and ends go to `events`.
    pub fn new(events: Arc<EventLog>) -> Findings {
        Findings {
            events,
            standing: Mutex::default(),
        }
    }

    /// Something is wrong with `subject` (`disk/d1`, `attachment/web1`, `reactor/0`, `node`), by this cause. While it
    /// stands, the same again is counted; the first cause stays.
    pub fn raise(&self, kind: FindingKind, subject: impl Into<String>, cause: impl Into<String>) {
        self.raise_at(kind, subject.into(), cause.into(), 1, Instant::now());
    }

    /// The same of what is looked at again and again, and may have another cause by now: the present one is told, and what is
    /// to be done about that. One that has changed is an event of its own.
    pub fn restate(&self, kind: FindingKind, subject: impl Into<String>, cause: impl Into<String>) {
        let (subject, cause) = (subject.into(), cause.into());
        let mut standing = self.standing();
        match standing.get_mut(&(kind, subject.clone())) {
            Some(one) if one.finding.message == cause => one.raised = Some(Instant::now()),
            Some(one) => {
                one.raised = Some(Instant::now());
                let since_unix_ms = one.finding.since_unix_ms;
                let finding = Finding {
                    count: one.finding.count.saturating_add(1),
                    ..Finding::new(kind, subject, cause)
                };
                one.finding = Finding {
                    since_unix_ms,
                    ..self.begins(finding)
                };
            }
            None => {
                drop(standing);
                self.raise(kind, subject, cause);
            }
        }
    }

    /// The same for what has happened several times since it was last looked for.
    pub fn raise_times(
        &self,
        kind: FindingKind,
        subject: impl Into<String>,
        cause: impl Into<String>,
        times: u64,
    ) {
        self.raise_at(kind, subject.into(), cause.into(), times, Instant::now());
    }

    fn raise_at(&self, kind: FindingKind, subject: String, cause: String, times: u64, now: Instant) {
        let mut standing = self.standing();
        let full = standing.len() >= STANDING_MAX;
        match standing.entry((kind, subject)) {
            Entry::Occupied(mut entry) => {
                let standing = entry.get_mut();
                standing.raised = Some(now);
                standing.finding.count = standing.finding.count.saturating_add(times);
                standing.finding.last = Some(cause).filter(|cause| *cause != standing.finding.message);
            }
            Entry::Vacant(entry) if !full => {
                let mut finding = Finding::new(kind, entry.key().1.clone(), cause);
                finding.count = times;
                let finding = self.begins(finding);
                entry.insert(Standing {
                    finding,
                    raised: Some(now),
                    derived: false,
                });
            }
            Entry::Vacant(_) => {}
        }
    }

    /// It is over. Nothing happens when it did not stand, or follows from the state of the node still.
    pub fn clear(&self, kind: FindingKind, subject: &str) {
        let key = (kind, subject.to_owned());
        let mut standing = self.standing();
        if let Some(one) = standing.get_mut(&key) {
            one.raised = None;
        }
        self.end_the_rest(standing);
    }

    /// Whether it stands.
    pub fn stands(&self, kind: FindingKind, subject: &str) -> bool {
        self.standing().contains_key(&(kind, subject.to_owned()))
    }

    /// A subject is no more, and with it all that was wrong with it.
    pub fn clear_all(&self, subject: &str) {
        let ended: Vec<_> = self
            .standing()
            .extract_if(.., |(_, of), _| of == subject)
            .collect();
        self.end(ended.into_iter().map(|((kind, _), standing)| (kind, standing)));
    }

    /// What was raised about a subject is over; what follows from the state of the node goes on.
    pub fn clear_raised(&self, subject: &str) {
        let mut standing = self.standing();
        for (_, one) in standing.iter_mut().filter(|((_, of), _)| of == subject) {
            one.raised = None;
        }
        self.end_the_rest(standing);
    }

    /// Takes what has just been worked out from the state of the node in place of what was worked out before.
    pub fn observe(&self, derived: Vec<(FindingKind, Finding)>) {
        let mut standing = self.standing();
        for one in standing.values_mut() {
            one.derived = false;
        }
        for (kind, finding) in derived {
            match standing.entry((kind, finding.subject.clone())) {
                Entry::Occupied(mut entry) => {
                    let standing = entry.get_mut();
                    standing.derived = true;
                    // The first cause stays; one that tells how long it lasts goes on telling it.
                    if standing.finding.count == 0 {
                        standing.finding.message = finding.message;
                    } else if finding.message != standing.finding.message {
                        standing.finding.last = Some(finding.message);
                    }
                }
                Entry::Vacant(entry) => {
                    let finding = self.begins(finding);
                    entry.insert(Standing {
                        finding,
                        raised: None,
                        derived: true,
                    });
                }
            }
        }
        self.end_the_rest(standing);
    }

    /// Ends what has been quiet for long enough.
    pub fn expire(&self, now: Instant) {
        let mut standing = self.standing();
        for ((kind, _), one) in standing.iter_mut() {
            let seconds = match kind.row().clears {
                Clears::AfterQuiet { seconds } | Clears::WhenItWorksAgain { seconds } => seconds,
                Clears::WhenTold | Clears::WithItsCause => continue,
            };
            let quiet =
                |raised: Instant| now.saturating_duration_since(raised) >= Duration::from_secs(seconds);
            if one.raised.is_some_and(quiet) {
                one.raised = None;
            }
        }
        self.end_the_rest(standing);
    }

    /// Takes away what nothing holds up any more.
    fn end_the_rest(&self, mut standing: MutexGuard<'_, BTreeMap<Key, Standing>>) {
        let over = |_: &Key, one: &mut Standing| one.raised.is_none() && !one.derived;
        let ended: Vec<_> = standing.extract_if(.., over).collect();
        drop(standing);
        self.end(ended.into_iter().map(|((kind, _), standing)| (kind, standing)));
    }

    /// All that is wrong now, in no order.
    pub fn list(&self) -> Vec<Finding> {
        self.standing()
            .values()
            .map(|standing| standing.finding.clone())
            .collect()
    }

    fn begins(&self, finding: Finding) -> Finding {
        let message = format!("{}; {}", finding.message, finding.remedy);
        match finding.severity {
            Overall::Failed => log::error!("{}: {message}, code={}", finding.subject, finding.code),
            Overall::Degraded | Overall::Ok => {
                log::warn!("{}: {message}, code={}", finding.subject, finding.code);
            }
        }
        let severity = match finding.severity {
            Overall::Failed => Severity::Error,
            Overall::Degraded | Overall::Ok => Severity::Warning,
        };
        self.events
            .push(severity, &*finding.code, &*finding.subject, message);
        Finding {
            since_unix_ms: now_ms(),
            ..finding
        }
    }

    fn end(&self, ended: impl IntoIterator<Item = (FindingKind, Standing)>) {
        for (kind, Standing { finding, .. }) in ended {
            let lasted = now_ms().saturating_sub(finding.since_unix_ms) / 1000;
            let seen = match finding.count {
                0 | 1 => String::new(),
                count => format!(", seen {count} times"),
            };
            let message = format!("over after {lasted} s{seen}: {}", finding.message);
            log::info!("{}: {message}, code={}", finding.subject, finding.code);
            let kind = format!("{}_over", kind.row().code);
            self.events.push(Severity::Info, kind, finding.subject, message);
        }
    }

    fn standing(&self) -> MutexGuard<'_, BTreeMap<Key, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(events: &EventLog) -> Vec<String> {
        let page = events.after(0, 100);
        page.items.into_iter().map(|event| event.kind).collect()
    }

    #[test]
    fn the_first_cause_is_told_and_what_comes_again_is_counted() {
        let events = Arc::new(EventLog::beginning_after(10, 0));
        let findings = Findings::new(Arc::clone(&events));
        for cause in ["first", "second", "second"] {
            findings.raise(FindingKind::DiskMedia, "disk/d1", cause);
        }
        let all = findings.list();
        let [finding] = all.as_slice() else {
            panic!("{all:?}")
        };
        assert_eq!(
            (finding.message.as_str(), finding.count, finding.last.as_deref()),
            ("first", 3, Some("second"))
        );
        assert_eq!(finding.code, "disk_media");
        assert!(finding.since_unix_ms > 0);
        findings.clear(FindingKind::DiskMedia, "disk/d1");
        findings.clear(FindingKind::DiskMedia, "disk/d1");
        assert_eq!(findings.list(), []);
        assert_eq!(kinds(&events), ["disk_media", "disk_media_over"]);
    }

    #[test]
    fn of_what_is_looked_at_again_and_again_the_present_cause_is_told() {
        let events = Arc::new(EventLog::beginning_after(10, 0));
        let findings = Findings::new(Arc::clone(&events));
        let (kind, subject) = (FindingKind::KeysNotTaken, "node");
        for cause in ["no token", "no token", "wrong mode", "wrong mode"] {
            findings.restate(kind, subject, cause);
        }
        let all = findings.list();
        let told: Vec<_> = all
            .iter()
            .map(|one| (one.message.as_str(), one.last.as_deref(), one.count))
            .collect();
        assert_eq!(told, [("wrong mode", None, 2)]);
        findings.clear(kind, subject);
        assert_eq!(findings.list(), []);
        assert_eq!(
            kinds(&events),
            ["keys_not_taken", "keys_not_taken", "keys_not_taken_over"]
        );
    }

    #[test]
    fn what_has_been_quiet_for_long_enough_ends_and_what_must_be_told_does_not() {
        let events = Arc::new(EventLog::beginning_after(10, 0));
        let findings = Findings::new(events);
        let began = Instant::now();
        let second = Duration::from_secs(1);
        findings.raise_at(
            FindingKind::DiskNoSpace,
            "disk/d1".into(),
            "full".into(),
            1,
            began,
        );
        findings.raise_at(
            FindingKind::DiskBuffered,
            "disk/d1".into(),
            "nfs".into(),
            1,
            began,
        );
        findings.raise_at(
            FindingKind::DiskNoSpace,
            "disk/d1".into(),
            "full".into(),
            1,
            began + 30 * second,
        );
        findings.expire(began + 629 * second);
        assert_eq!(findings.list().len(), 2);
        findings.expire(began + 630 * second);
        let left = findings.list();
        assert_eq!(
            left.iter()
                .map(|finding| finding.code.as_str())
                .collect::<Vec<_>>(),
            ["disk_buffered"]
        );
    }

    #[test]
    fn a_derived_finding_keeps_its_beginning_and_ends_with_its_cause() {
        let events = Arc::new(EventLog::beginning_after(10, 0));
        let findings = Findings::new(Arc::clone(&events));
        let stalled = |ms: u64| {
            let finding = Finding::new(FindingKind::DiskStalled, "disk/d1", format!("for {ms} ms"));
            vec![(FindingKind::DiskStalled, finding)]
        };
        findings.observe(stalled(10));
        let since = findings.list().first().map(|finding| finding.since_unix_ms);
        findings.observe(stalled(20));
        let now = findings.list();
        assert_eq!(now.first().map(|finding| finding.since_unix_ms), since);
        assert_eq!(
            now.first().map(|finding| finding.message.as_str()),
            Some("for 20 ms")
        );
        findings.observe(Vec::new());
        assert_eq!(findings.list(), []);
        assert_eq!(kinds(&events), ["disk_stalled", "disk_stalled_over"]);
    }

    #[test]
    fn nothing_is_left_of_a_subject_that_is_no_more() {
        let findings = Findings::new(Arc::new(EventLog::beginning_after(10, 0)));
        findings.raise(FindingKind::DiskMedia, "disk/d1", "a");
        findings.raise(FindingKind::DiskMedia, "disk/d10", "b");
        findings.raise(FindingKind::DiskGone, "disk/d1", "c");
        findings.clear_all("disk/d1");
        assert_eq!(findings.list().len(), 1);
    }
}
