//! What happens is kept, on a thread of its own: storage that does not answer holds up nobody but those who have commanded
//! something and wait for its record, and these for a bounded time.
//!
//! What cannot be written is told as a finding, held within a bound, and written first, in its order, as soon as the files take
//! something again. What is beyond the bound is counted, and said in the files as a gap.
//!
//! What somebody else has deleted or cut off is noticed within about a second, or at the next start; it is written anew as far as
//! it is known, and the rest is told.
//!
//! What an operator waits for is one `fdatasync` after the one or two that his change has cost already; commands that end
//! together share one. Everything else is with the kernel at once, and on stable storage within [`SYNC_PERIOD`].

use crate::event_ids::{self, EventIds};
use crate::event_journal::{self, EventFamily, EventRecord, Found, Gap, Journal, Mended, Newest};
use crate::shared::Shared;
use crate::watch::PendingWork;
use palisade_admin::EventLog;
use palisade_admin::events::{EVENTS_KEPT, EVENTS_QUEUED_MAX, Missed, Told};
use palisade_api::{Event, EventId, EventPage, FindingKind, Severity};
use palisade_block::{Doing, Whom};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Folder of the files, in the state directory.
const FOLDER: &str = "events";

/// Events that are written at once.
const BATCH_MAX: usize = 256;

/// How long events may lie with the kernel before they are on stable storage, and how often what could not be written is tried
/// again.
const SYNC_PERIOD: Duration = Duration::from_secs(1);

/// Events of a family that are held for as long as they cannot be written; the oldest beyond that are counted only.
const BACKLOG_MAX: usize = EVENTS_KEPT;

/// How often it is looked whether the files are as they were written.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

/// How often it is looked for files that were set aside.
const LOOK_PERIOD: Duration = Duration::from_secs(10);

/// How often it is listed what is in the files. What is cut off them while no daemon runs, after one that was killed, is noticed
/// as far as it was listed.
const LIST_PERIOD: Duration = Duration::from_secs(60);

/// How long who has commanded something waits for its record. It may be longer than that under way to storage that hangs, and
/// the change itself has been made.
const RECORD_PATIENCE: Duration = Duration::from_secs(5);

/// How long the end of the daemon waits for the last records.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// The events of a node: the last ones at hand, all others in files.
#[derive(Debug)]
pub struct EventFiles {
    folder: PathBuf,
    /// All up to this number are in the files, or will never be.
    recorded_up_to: Arc<AtomicU64>,
    /// The first that is to be written and could not be yet; the greatest number there is when all are.
    unwritten_from: Arc<AtomicU64>,
    recorder: Mutex<Option<Recorder>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What writes them.
#[derive(Debug)]
struct Recorder {
    folder: PathBuf,
    ids: EventIds,
    told: Receiver<Told>,
    commands: Kept,
    occurrences: Kept,
    recorded_up_to: Arc<AtomicU64>,
    unwritten_from: Arc<AtomicU64>,
}

/// One family.
#[derive(Debug)]
struct Kept {
    family: EventFamily,
    /// None while its folder cannot be had.
    journal: Option<Journal>,
    /// The number behind which it begins when there is nothing of it.
    begin: u64,
    /// What could not be written yet, in order.
    backlog: VecDeque<Event>,
    /// What was not kept, and is no longer at hand either.
    gap: Option<Gap>,
    is_unsynced: bool,
}

impl EventFiles {
    /// Goes on behind what daemons before have kept below the state directory. Nothing that is wrong with the files keeps a
    /// daemon from starting; the recorder tells of it.
    pub fn open(state_dir: &Path, node: &str, name: &str) -> (EventFiles, EventLog) {
        let folder = state_dir.join(FOLDER);
        let opened = EventFamily::ALL.map(|family| match Journal::open(&folder, family) {
            Ok((journal, newest)) => (Some(journal), newest),
            Err(error) => {
                log::warn!("{}: {error}; it is tried again", folder.display());
                (None, Newest::default())
            }
        });
        let known = opened.iter().flat_map(|(journal, _)| journal).map(Journal::last);
        let (ids, last) = EventIds::resume(state_dir, known.max().unwrap_or(0));
        let complete_after = |newest: &Newest| newest.complete_after.unwrap_or(last);
        let dropped = opened.iter().map(|(_, newest)| complete_after(newest)).max();
        let dropped = dropped.unwrap_or(last);
        let [(commands, newest), (occurrences, newest_other)] = opened;
        let mut before: Vec<Event> = newest.events.into_iter().chain(newest_other.events).collect();
        before.retain(|event| event.id.number > dropped);
        before.sort_by_key(|event| event.id.number);
        let (sender, told) = sync_channel(EVENTS_QUEUED_MAX);
        let log = EventLog::beginning_after(EVENTS_KEPT, last)
            .of_node(node, name)
            .with_events(before, dropped)
            .recorded_by(sender);
        let recorded_up_to = Arc::new(AtomicU64::new(last));
        let unwritten_from = Arc::new(AtomicU64::new(u64::MAX));
        let kept = |family, journal| Kept {
            family,
            journal,
            begin: last,
            backlog: VecDeque::new(),
            gap: None,
            is_unsynced: false,
        };
        let recorder = Recorder {
            folder: folder.clone(),
            ids,
            told,
            commands: kept(EventFamily::Commands, commands),
            occurrences: kept(EventFamily::Occurrences, occurrences),
            recorded_up_to: Arc::clone(&recorded_up_to),
            unwritten_from: Arc::clone(&unwritten_from),
        };
        let records = EventFiles {
            folder,
            recorded_up_to,
            unwritten_from,
            recorder: Mutex::new(Some(recorder)),
            thread: Mutex::default(),
        };
        (records, log)
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(&self, shared: &Arc<Shared>) -> io::Result<()> {
        let recorder = self
            .recorder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(recorder) = recorder else { return Ok(()) };
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new()
            .name("events".into())
            .spawn(move || recorder.run(&shared))?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Has all that has happened kept, within a bounded time.
    pub fn stop(&self, log: &EventLog) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let deadline = Instant::now() + STOP_PATIENCE;
        while !log.stop_recording() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        if !thread.is_finished() {
            log::warn!(
                "the last events are not kept: {} does not answer",
                self.folder.display()
            );
        } else if thread.join().is_err() {
            log::error!("the thread that keeps events ended by a panic");
        }
    }

    /// At most `limit` events after the one of id `after`, oldest first, from wherever they are.
    pub fn after(&self, log: &EventLog, after: &EventId, limit: usize) -> EventPage {
        let (number, is_foreign) = log.number_of(after);
        if number >= log.dropped_up_to() {
            let page = log.after(number, limit);
            return EventPage {
                lost: page.lost || is_foreign,
                ..page
            };
        }
        let up_to = self.recorded_up_to.load(Relaxed);
        let found = self.or_nothing(event_journal::read(&self.folder, number, up_to, limit));
        // Those that wait to be written may have left the memory that is looked into here.
        let lost = found.lost || log.dropped_up_to() >= self.unwritten_from.load(Relaxed);
        // What is at hand may not be in the files: not yet, or because they took nothing.
        let mut items = found.events;
        items.extend(log.after(number, limit).items);
        items.retain(|event| event.id.number > number);
        event_journal::in_order(&mut items);
        items.truncate(limit);
        EventPage {
            next: log.next_after(&items, if is_foreign { log.last_id() } else { number }),
            lost: lost || is_foreign,
            items,
        }
    }

    /// What was found; where nothing could be looked into, nothing, and that it is missing.
    fn or_nothing(&self, found: io::Result<Found>) -> Found {
        found.unwrap_or_else(|error| {
            log::warn!("{}: {error}", self.folder.display());
            Found {
                events: Vec::new(),
                lost: true,
            }
        })
    }

    /// The last `count` events, oldest first, from wherever they are.
    pub fn last(&self, log: &EventLog, count: usize) -> EventPage {
        let page = log.last(count);
        let is_at_hand = |event: &Event| event.id.number > log.dropped_up_to();
        if page.items.len() == count && page.items.first().is_none_or(is_at_hand) {
            return page;
        }
        let found = event_journal::read_last(&self.folder, self.recorded_up_to.load(Relaxed), count);
        let found = self.or_nothing(found);
        let mut items = found.events;
        items.extend(page.items);
        event_journal::in_order(&mut items);
        items.drain(..items.len().saturating_sub(count));
        let begin = items.first().map_or(u64::MAX, |event| event.id.number);
        EventPage {
            next: page.next,
            lost: found.lost || log.dropped_up_to() >= self.unwritten_from.load(Relaxed).max(begin),
            items,
        }
    }
}

/// Takes what became of a command; returns once that is on stable storage, or cannot be for now.
pub fn keep_command(log: &EventLog, event: Event) {
    if let Some(kept) = log.push_command(event)
        && kept.recv_timeout(RECORD_PATIENCE) == Err(RecvTimeoutError::Timeout)
    {
        log::warn!("a command was answered before its record was on stable storage, which does not answer");
    }
}

impl Recorder {
    fn run(mut self, shared: &Shared) {
        let watched = shared.watch.enrol(
            "node/events",
            "the thread that keeps events",
            PendingWork::nothing(),
        );
        let (mut checked, mut looked): (Option<Instant>, Option<Instant>) = Default::default();
        let (mut listed, mut trouble) = (Instant::now(), Ok(()));
        let is_due = |last: Option<Instant>, period| last.is_none_or(|last| last.elapsed() >= period);
        loop {
            if is_due(checked, CHECK_PERIOD) {
                let is_first = checked.replace(Instant::now()).is_none();
                self.ids.keep(shared.events.last_id());
                let (mended, result) = self.check(&shared.events);
                trouble = result;
                tell_of_mended(shared, &mended);
                if is_first || !mended.is_empty() || listed.elapsed() >= LIST_PERIOD {
                    (looked, listed) = (None, Instant::now());
                    trouble = trouble.and(self.list());
                }
            }
            if is_due(looked, LOOK_PERIOD) {
                looked = Some(Instant::now());
                tell_of_damaged(shared, &self.folder);
            }
            watched.progress.asleep_for(Some(SYNC_PERIOD));
            let first = self.told.recv_timeout(SYNC_PERIOD);
            watched.progress.mark(Doing::Step, Whom::Nobody);
            let batch = first.into_iter().chain(self.told.try_iter().take(BATCH_MAX));
            let batch: Vec<Told> = batch.collect();
            let stops = batch.iter().any(|told| matches!(told, Told::Stop));
            let kept = self.keep(batch, shared.events.take_missed());
            tell_of_trouble(shared, &self.folder, kept.as_ref().and(trouble.as_ref()));
            if stops {
                let _ = self.list();
                return;
            }
        }
    }

    /// Writes anew what is no longer in the files, from what is at hand.
    ///
    /// # Errors
    /// Why something could not be written.
    fn check(&mut self, log: &EventLog) -> (Vec<Mended>, io::Result<()>) {
        let mut mended = Vec::new();
        let held = || log.after(0, usize::MAX).items;
        let mut check = |kept: &mut Kept| kept.journal(&self.folder)?.check(held, &mut mended);
        let checked = check(&mut self.commands);
        let checked_too = check(&mut self.occurrences);
        (mended, checked.and(checked_too))
    }

    /// Lists what is in the files, once it is on stable storage.
    fn list(&mut self) -> io::Result<()> {
        let listed = self.commands.list();
        listed.and(self.occurrences.list())
    }

    /// Writes what has come, or tries again to say what could not be written.
    ///
    /// # Errors
    /// Why something could not be written.
    fn keep(&mut self, batch: Vec<Told>, missed: Option<Missed>) -> io::Result<()> {
        let stops = batch.iter().any(|told| matches!(told, Told::Stop));
        let is_quiet = batch.is_empty();
        let (mut commands, mut occurrences): (Vec<Event>, Vec<Event>) = Default::default();
        let (mut waiting, mut reached): (Vec<SyncSender<()>>, u64) = Default::default();
        for told in batch {
            let Told::Event { event, kept } = told else {
                continue;
            };
            waiting.extend(kept);
            reached = event.id.number;
            match EventFamily::of(&event) {
                EventFamily::Commands => commands.push(*event),
                EventFamily::Occurrences => occurrences.push(*event),
            }
        }
        // There may have been commands among them.
        self.commands.miss(missed);
        let written = self.commands.write(&self.folder, commands);
        let written_too = self.occurrences.write(&self.folder, occurrences);
        self.recorded_up_to.fetch_max(reached, Relaxed);
        let unwritten = (self.commands.unwritten_from()).min(self.occurrences.unwritten_from());
        self.unwritten_from.store(unwritten, Relaxed);
        let synced = match waiting.is_empty() && !is_quiet && !stops {
            true => Ok(()),
            false => self.commands.sync(),
        };
        if written.is_ok() && synced.is_ok() {
            for kept in waiting {
                let _ = kept.send(());
            }
        }
        let synced_too = match is_quiet || stops {
            true => self.occurrences.sync(),
            false => Ok(()),
        };
        written.and(written_too).and(synced).and(synced_too)
    }
}

impl Kept {
    fn miss(&mut self, missed: Option<Missed>) {
        if let Some(missed) = missed {
            self.gap = Some(Gap::from(missed).and(self.gap));
        }
    }

    /// Writes these behind all that could not be written before, or holds them until it can be.
    fn write(&mut self, folder: &Path, events: Vec<Event>) -> io::Result<()> {
        self.backlog.extend(events);
        let written = self.catch_up(folder);
        let too_many = self.backlog.len().saturating_sub(BACKLOG_MAX);
        let left_out: Vec<Event> = self.backlog.drain(..too_many).collect();
        for event in left_out {
            self.miss(Some(Missed {
                count: 1,
                from: event.id.number,
                up_to: event.id.number,
            }));
        }
        written
    }

    fn catch_up(&mut self, folder: &Path) -> io::Result<()> {
        while !self.backlog.is_empty() || self.gap.is_some() {
            let batch = self.backlog.iter().take(BATCH_MAX);
            let mut records: Vec<EventRecord> = batch
                .map(|event| EventRecord::Event(Box::new(event.clone())))
                .collect();
            let count = records.len();
            records.extend(self.gap.map(EventRecord::Gap));
            records.sort_by_key(EventRecord::number);
            self.journal(folder)?.append(&records)?;
            self.backlog.drain(..count);
            (self.gap, self.is_unsynced) = (None, true);
        }
        Ok(())
    }

    /// The number of the first event that is not written and will be; the greatest there is when there is none.
    fn unwritten_from(&self) -> u64 {
        self.backlog.front().map_or(u64::MAX, |event| event.id.number)
    }

    fn sync(&mut self) -> io::Result<()> {
        match &mut self.journal {
            Some(journal) if self.is_unsynced => {
                journal.sync()?;
                self.is_unsynced = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn list(&mut self) -> io::Result<()> {
        self.sync()?;
        self.journal.as_mut().map_or(Ok(()), Journal::list)
    }

    fn journal(&mut self, folder: &Path) -> io::Result<&mut Journal> {
        if self.journal.is_none() {
            self.journal = Some(Journal::open(folder, self.family)?.0);
        }
        let journal = self.journal.as_mut().ok_or(io::ErrorKind::NotFound)?;
        journal.begin_after(self.begin);
        Ok(journal)
    }
}

/// Tells of files of events that somebody else has deleted or changed.
fn tell_of_mended(shared: &Shared, mended: &[Mended]) {
    for one in mended {
        let message = in_words(one);
        match one.lost {
            Some(_) => shared.findings.restate(FindingKind::EventsLost, "node", message),
            None => {
                log::warn!("{message}");
                shared
                    .events
                    .push(Severity::Warning, "events_rewritten", "node", message);
            }
        }
    }
}

fn in_words(mended: &Mended) -> String {
    let path = mended.path.display();
    let done = match mended.was_gone {
        true => format!("the file of events {path} was deleted or moved away, and not by this daemon"),
        false => format!("the file of events {path} was cut off or replaced, and not by this daemon"),
    };
    match mended.lost {
        Some(Gap { count, from, up_to }) => format!(
            "{done}: {count} of its events are lost, of numbers from {from} to {up_to}, and {} are in it again",
            mended.events
        ),
        None => format!(
            "{done}: none of its {} events is lost, they were written anew",
            mended.events
        ),
    }
}

fn tell_of_trouble(shared: &Shared, folder: &Path, kept: Result<&(), &io::Error>) {
    let (kind, findings) = (FindingKind::EventsNotKept, &shared.findings);
    match kept {
        Ok(_) => findings.clear(kind, "node"),
        // The same sentence for as long as it lasts: each other one would be an event more.
        Err(error) => findings.restate(
            kind,
            "node",
            format!("events cannot be written below {}: {error}", folder.display()),
        ),
    }
}

fn tell_of_damaged(shared: &Shared, folder: &Path) {
    let (kind, findings) = (FindingKind::EventsDamaged, &shared.findings);
    let Ok(mut aside) = event_journal::aside(folder) else {
        return;
    };
    let state_dir = folder.parent();
    aside.extend(
        state_dir
            .and_then(event_ids::aside)
            .map(|name| format!("../{name}")),
    );
    match aside.is_empty() {
        true => findings.clear(kind, "node"),
        false => findings.restate(
            kind,
            "node",
            format!(
                "what is on record of events is damaged in part; those files are kept in {}: {}",
                folder.display(),
                aside.join(", ")
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
