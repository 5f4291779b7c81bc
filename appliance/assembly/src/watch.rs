//! Watches the threads that others depend on: by the steps they take, not by whether they exist.
//!
//! Each thread writes a [`Progress`]; one that stands still for longer than its bound, and does not sleep, is a finding
//! that names it, what it does and for whom. Of those that serve everybody (`vital`), one that stands still for
//! [`PAST_HELP`] cannot be helped from within: the service manager is no longer told that all is well, and starts the
//! daemon anew.

use crate::shared::Shared;
use palisade_api::FindingKind;
use palisade_block::progress::Mark;
use palisade_block::{AttachmentIndex, DeviceIndex, Doing, Progress, ReactorIndex, Whom};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the watch looks.
const LOOK: Duration = Duration::from_millis(500);

/// A thread that serves everybody may be in one step for so long before it is named.
pub const VITAL_BOUND: Duration = Duration::from_secs(5);

/// A thread that serves one attachment or one step may be in it for so long before it is named.
pub const LONE_BOUND: Duration = Duration::from_secs(15);

/// After so long in one step a thread that serves everybody is past the help of this process.
const PAST_HELP: Duration = Duration::from_secs(15);

/// Threads that are watched.
#[derive(Debug, Default)]
pub struct Watch {
    watched: Mutex<Watched>,
    /// The watch's own sign of life, for the main thread.
    own: Progress,
    past_help: Mutex<Option<String>>,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct Watched {
    next: u64,
    threads: BTreeMap<u64, Thread>,
}

#[derive(Clone, Debug)]
struct Thread {
    subject: String,
    name: String,
    progress: Arc<Progress>,
    bound: Duration,
    vital: bool,
    reactor: Option<ReactorIndex>,
}

/// A thread on the watch's list, until this is dropped.
#[derive(Debug)]
pub struct Enrolled {
    watch: Arc<Watch>,
    number: u64,
    /// Where the thread writes.
    pub progress: Arc<Progress>,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.watch.watched().threads.remove(&self.number);
    }
}

impl Watch {
    /// Watches a thread that serves one attachment, disk or step. `subject` is what a finding is about
    /// (`attachment/web1`), `name` how the thread is called in a sentence ("the session of attachment web1").
    pub fn enrol(
        self: &Arc<Watch>,
        subject: impl Into<String>,
        name: impl Into<String>,
        bound: Duration,
    ) -> Enrolled {
        self.add(Thread {
            subject: subject.into(),
            name: name.into(),
            progress: Arc::default(),
            bound,
            vital: false,
            reactor: None,
        })
    }

    /// Watches a thread that serves operators.
    pub fn enrol_known(
        self: &Arc<Watch>,
        subject: impl Into<String>,
        name: impl Into<String>,
        progress: Arc<Progress>,
    ) -> Enrolled {
        self.add(Thread {
            subject: subject.into(),
            name: name.into(),
            progress,
            bound: LONE_BOUND,
            vital: false,
            reactor: None,
        })
    }

    /// Watches a thread that everybody depends on.
    pub fn enrol_vital(
        self: &Arc<Watch>,
        subject: impl Into<String>,
        name: impl Into<String>,
        progress: Arc<Progress>,
        reactor: Option<ReactorIndex>,
    ) -> Enrolled {
        self.add(Thread {
            subject: subject.into(),
            name: name.into(),
            progress,
            bound: VITAL_BOUND,
            vital: true,
            reactor,
        })
    }

    fn add(self: &Arc<Watch>, thread: Thread) -> Enrolled {
        let progress = Arc::clone(&thread.progress);
        let mut watched = self.watched();
        watched.next += 1;
        let number = watched.next;
        watched.threads.insert(number, thread);
        Enrolled {
            watch: Arc::clone(self),
            number,
            progress,
        }
    }

    /// The thread that this process cannot help, in a sentence.
    pub fn past_help(&self) -> Option<String> {
        self.past_help
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The watch's own sign of life, for whoever watches it.
    pub fn mark(&self) -> Mark {
        self.own.read()
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Ends [`run`].
    pub fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks again and again, until told to stop. It waits for nobody: no lock is taken here that others hold while they wait.
pub fn run(shared: &Arc<Shared>) {
    let mut looks = Looks::default();
    let mut before = Instant::now();
    while !shared.watch.stopping.load(Relaxed) {
        std::thread::sleep(LOOK);
        shared.watch.own.mark(Doing::Event, Whom::Nobody);
        let now = Instant::now();
        // When this thread was late itself, so may all others have been: the machine was busy, or stopped.
        let passed = now.duration_since(before).min(2 * LOOK);
        before = now;
        let threads: Vec<(u64, Thread)> = {
            let watched = shared.watch.watched();
            let all = watched.threads.iter();
            all.map(|(number, thread)| (*number, thread.clone())).collect()
        };
        let stuck = looks.look(&threads, passed);
        looks.report(shared, &stuck);
        crate::sight::look_around(shared, now);
        shared.derive_findings(Duration::ZERO);
        shared.findings.expire(now);
        shared.keep_events(now);
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Looks {
    seen: HashMap<u64, (Mark, Duration)>,
    told: BTreeMap<String, u64>,
    names: Names,
}

#[derive(Debug, Default)]
struct Names {
    attachments: HashMap<AttachmentIndex, String>,
    devices: HashMap<DeviceIndex, String>,
    /// Disks with operations in flight, by reactor.
    busy: HashMap<ReactorIndex, Vec<String>>,
}

struct Stuck {
    number: u64,
    thread: Thread,
    mark: Mark,
    still: Duration,
}

impl Looks {
    /// Those that have been in one step for longer than they may.
    fn look(&mut self, threads: &[(u64, Thread)], passed: Duration) -> Vec<Stuck> {
        let mut seen = HashMap::with_capacity(threads.len());
        let mut stuck = Vec::new();
        for (number, thread) in threads {
            let mark = thread.progress.read();
            let still = match self.seen.get(number) {
                Some((before, still)) if *before == mark && mark.doing() != Doing::Asleep => *still + passed,
                _ => Duration::ZERO,
            };
            seen.insert(*number, (mark, still));
            if still >= thread.bound {
                stuck.push(Stuck {
                    number: *number,
                    thread: thread.clone(),
                    mark,
                    still,
                });
            }
        }
        self.seen = seen;
        stuck
    }

    fn report(&mut self, shared: &Shared, stuck: &[Stuck]) {
        if let Some(plant) = shared.plant_within(Duration::ZERO) {
            self.names = Names::of(&plant);
        }
        let mut past_help = None;
        let mut told = BTreeMap::new();
        for one in stuck {
            let message = self.names.sentence(one);
            told.insert(one.thread.subject.clone(), one.number);
            if one.thread.vital && one.still >= PAST_HELP {
                past_help.get_or_insert_with(|| message.clone());
            }
            // It is one finding for as long as it lasts.
            if !self.told.contains_key(&one.thread.subject) {
                shared
                    .findings
                    .raise(FindingKind::ThreadStuck, &*one.thread.subject, message);
            }
        }
        for subject in self.told.keys().filter(|subject| !told.contains_key(*subject)) {
            shared.findings.clear(FindingKind::ThreadStuck, subject);
        }
        self.told = told;
        *shared
            .watch
            .past_help
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = past_help;
    }
}

impl Names {
    fn of(plant: &crate::plant::Plant) -> Names {
        let mut names = Names::default();
        for (name, offered) in &plant.attachments {
            names.attachments.insert(offered.index, name.to_string());
        }
        for (name, open) in &plant.disks {
            names.devices.insert(open.index, name.to_string());
            for (reactor, stats) in open.stats.iter().enumerate() {
                if stats.in_flight.get() > 0 {
                    let reactor = ReactorIndex(reactor as u16);
                    names.busy.entry(reactor).or_default().push(name.to_string());
                }
            }
        }
        names
    }

    fn sentence(&self, stuck: &Stuck) -> String {
        let seconds = stuck.still.as_secs();
        let mut text = format!(
            "{} has made no progress for {seconds} s: {}",
            stuck.thread.name,
            stuck.mark.doing()
        );
        let named =
            |known: Option<&String>, number: u16| known.cloned().unwrap_or_else(|| number.to_string());
        let _ = match stuck.mark.whom() {
            Whom::Nobody => Ok(()),
            Whom::Attachment(index) => {
                write!(
                    text,
                    ", for attachment {}",
                    named(self.attachments.get(&index), index.0)
                )
            }
            Whom::Device(index) => write!(text, ", for disk {}", named(self.devices.get(&index), index.0)),
        };
        if let Some(busy) = stuck
            .thread
            .reactor
            .and_then(|reactor| self.busy.get(&reactor))
            .filter(|_| stuck.mark.whom() == Whom::Nobody)
        {
            let _ = write!(text, ", with operations in flight on disk {}", busy.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(progress: &Arc<Progress>, vital: bool) -> Thread {
        Thread {
            subject: "reactor/0".into(),
            name: "reactor 0".into(),
            progress: Arc::clone(progress),
            bound: VITAL_BOUND,
            vital,
            reactor: None,
        }
    }

    #[test]
    fn only_who_stands_still_in_a_step_is_stuck() {
        let [asleep, moving, stuck] = [(); 3].map(|()| Arc::new(Progress::default()));
        stuck.mark(Doing::Message, Whom::Attachment(AttachmentIndex(3)));
        let threads: Vec<_> = [&asleep, &moving, &stuck]
            .iter()
            .enumerate()
            .map(|(number, progress)| (number as u64, thread(progress, true)))
            .collect();
        let mut looks = Looks::default();
        let mut found = Vec::new();
        for _ in 0..12 {
            moving.mark(Doing::Turn, Whom::Nobody);
            found = looks.look(&threads, LOOK);
        }
        let [found] = found.as_slice() else {
            panic!("{} are stuck", found.len())
        };
        assert_eq!(found.number, 2);
        let mut names = Names::default();
        names.attachments.insert(AttachmentIndex(3), "web1".into());
        let text = names.sentence(found);
        assert!(text.contains("for attachment web1"), "{text}");
        assert!(text.contains("a front-end's message"), "{text}");
        stuck.mark(Doing::Message, Whom::Attachment(AttachmentIndex(3)));
        assert!(looks.look(&threads, LOOK).is_empty(), "the next step is progress");
    }

    #[test]
    fn who_has_left_is_no_longer_watched() {
        let watch = Arc::new(Watch::default());
        let enrolled = watch.enrol("attachment/a", "the session of attachment a", LONE_BOUND);
        assert_eq!(watch.watched().threads.len(), 1);
        drop(enrolled);
        assert!(watch.watched().threads.is_empty());
    }
}
