//! Looks after the cluster database: files of it that were deleted from outside are told and put back, and after a change
//! that could not be written everything agreed on is written anew, as soon as the storage takes it, so that nobody has to
//! restart anything.
//!
//! On a thread of its own: storage that does not answer holds up nobody but those who want to change something.

use crate::shared::Shared;
use crate::watch::Waiting;
use palisade_api::{FindingKind, Severity};
use palisade_block::{Doing, Whom};
use std::time::{Duration, Instant};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// After this time it is tried for the first time to write everything anew, and then after twice as long each time.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest time between two tries. Each one writes what the cluster holds, a megabyte or so, to storage in trouble.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// When to try again.
#[derive(Debug, Default)]
struct Retry(Option<(Instant, Duration)>);

impl Retry {
    /// Whether it is time. The first question begins the wait.
    fn is_due(&mut self, now: Instant) -> bool {
        let (at, _) = self.0.get_or_insert((now + RETRY_MIN, RETRY_MIN));
        now >= *at
    }

    /// It was tried in vain.
    fn later(&mut self, now: Instant) {
        let wait = self.0.map_or(RETRY_MIN, |(_, wait)| (wait * 2).min(RETRY_MAX));
        self.0 = Some((now + wait, wait));
    }
}

/// Looks again and again, until the watch is told to stop.
pub fn run(shared: &Shared) {
    let watched = shared.watch.enrol(
        "node/database",
        "the thread that looks after the cluster database",
        Waiting::nothing(),
    );
    let mut retry = Retry::default();
    while !shared.watch.is_stopping() {
        watched.progress.asleep_for(Some(LOOK));
        std::thread::sleep(LOOK);
        watched.progress.mark(Doing::Step, Whom::Nobody);
        look(shared);
        mend(shared, &mut retry, Instant::now());
    }
}

fn look(shared: &Shared) {
    let (kind, findings) = (FindingKind::StateMisplaced, &shared.findings);
    match shared.store.look() {
        None => findings.clear(kind, "node"),
        Some(what) if !findings.stands(kind, "node") => findings.raise(kind, "node", what),
        Some(_) => {}
    }
}

fn mend(shared: &Shared, retry: &mut Retry, now: Instant) {
    let (kind, findings) = (FindingKind::DatabaseHalted, &shared.findings);
    if !shared.store.is_halted() {
        *retry = Retry::default();
        return;
    }
    if !findings.stands(kind, "node") {
        findings.raise(kind, "node", "the cluster database could not be written");
    }
    if !retry.is_due(now) {
        return;
    }
    match shared.store.write_anew() {
        Ok(()) => {
            let message = "all that was agreed on has been written anew, and changes are taken again; the one that could not \
                           be written is not in it: ask for it again";
            log::info!("{message}");
            shared
                .events
                .push(Severity::Info, "database_written_anew", "node", message);
            findings.clear(kind, "node");
        }
        Err(error) => {
            findings.raise(kind, "node", format!("it cannot be written anew yet: {error}"));
            retry.later(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_soon_and_then_less_often() {
        let (mut retry, begin) = (Retry::default(), Instant::now());
        let (mut tries, mut at) = (Vec::new(), Duration::ZERO);
        while at < Duration::from_secs(150) {
            if retry.is_due(begin + at) {
                tries.push(at.as_secs());
                retry.later(begin + at);
            }
            at += Duration::from_secs(1);
        }
        assert_eq!(tries, [1, 3, 7, 15, 31, 61, 91, 121]);
    }
}
