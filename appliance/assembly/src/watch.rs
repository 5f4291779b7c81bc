//! Watches the threads that others depend on: by the steps they take, not by whether they exist.
//!
//! Each thread writes a [`Progress`]; one that stands still for longer than its bound is a finding that names it, what it
//! does and for whom. One that sleeps may stand still, unless work waits for it ([`PendingWork`]) or the time is over after
//! which it was to wake by itself. Of those that serve everybody (`vital`), one that stands still for
//! [`PAST_HELP`] cannot be helped from within: the service manager is no longer told that all is well, and starts the
//! daemon anew.

use crate::local_state::LocalState;
use crate::shared::Shared;
use palisade_api::FindingKind;
use palisade_block::progress::Mark;
use palisade_block::{Doing, Progress, Whom};
use palisade_words::{AttachmentIndex, DeviceIndex, ReactorIndex};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
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

/// A thread that this process cannot help.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stuck {
    /// Which, as findings name it.
    pub subject: String,
    /// How it is stuck, and for how long by now.
    pub message: String,
}

/// Threads that are watched.
#[derive(Debug, Default)]
pub struct Watch {
    watched: Mutex<Watched>,
    /// The watch's own sign of life, for the main thread.
    own: Progress,
    past_help: Mutex<Option<Stuck>>,
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
    waiting: PendingWork,
}

/// Asks whether work waits for a thread, and what it is, in words ("an order of the control loop").
#[derive(Clone)]
pub struct PendingWork(Arc<dyn Fn() -> Option<&'static str> + Send + Sync>);

impl PendingWork {
    /// By asking `ask`, which must not wait for anything.
    pub fn asks(ask: impl Fn() -> Option<&'static str> + Send + Sync + 'static) -> PendingWork {
        PendingWork(Arc::new(ask))
    }

    /// Nobody brings work to this thread: it looks for itself, at times that it names.
    pub fn nothing() -> PendingWork {
        PendingWork::asks(|| None)
    }
}

impl fmt::Debug for PendingWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingWork").field(&(self.0)()).finish()
    }
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
        waiting: PendingWork,
    ) -> Enrolled {
        self.enrol_known(subject, name, Arc::default(), waiting)
    }

    /// The same for a thread that has a place to write to already.
    pub fn enrol_known(
        self: &Arc<Watch>,
        subject: impl Into<String>,
        name: impl Into<String>,
        progress: Arc<Progress>,
        waiting: PendingWork,
    ) -> Enrolled {
        self.add(Thread {
            subject: subject.into(),
            name: name.into(),
            progress,
            bound: LONE_BOUND,
            vital: false,
            reactor: None,
            waiting,
        })
    }

    /// Watches a thread that everybody depends on.
    pub fn enrol_vital(
        self: &Arc<Watch>,
        subject: impl Into<String>,
        name: impl Into<String>,
        progress: Arc<Progress>,
        reactor: Option<ReactorIndex>,
        waiting: PendingWork,
    ) -> Enrolled {
        self.add(Thread {
            subject: subject.into(),
            name: name.into(),
            progress,
            bound: VITAL_BOUND,
            vital: true,
            reactor,
            waiting,
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

    /// The thread that this process cannot help.
    pub fn past_help(&self) -> Option<Stuck> {
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

    /// Ends [`run`], once its thread has woken.
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
    let mut halted = crate::halted::Looks::default();
    let (mut before, mut unread) = (Instant::now(), Duration::ZERO);
    loop {
        // Whoever ends it wakes it.
        std::thread::park_timeout(LOOK);
        if shared.watch.is_stopping() {
            return;
        }
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
        halted.look(shared, now);
        crate::sight::look_around(shared, now);
        unread = match shared.derive_findings(Duration::ZERO) {
            true => Duration::ZERO,
            false => unread + passed,
        };
        tell_of_busy(shared, unread);
        shared.findings.expire(now);
        shared.events.settle(now);
    }
}

/// Says so while the state of the node cannot be read: somebody holds it and does not let go.
fn tell_of_busy(shared: &Shared, unread: Duration) {
    let (findings, subject) = (&shared.findings, "node");
    if unread < VITAL_BOUND {
        findings.clear(FindingKind::ControlBusy, subject);
    } else if !findings.stands(FindingKind::ControlBusy, subject) {
        let message = format!(
            "a thread has held the state of the node for {} s and has not let go of it",
            unread.as_secs()
        );
        findings.raise(FindingKind::ControlBusy, subject, message);
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Looks {
    seen: HashMap<u64, Still>,
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

/// A thread that has written nothing new since.
#[derive(Clone, Copy, Debug)]
struct Still {
    mark: Mark,
    /// For how long.
    time: Duration,
    /// Whether work waited at the last look, and for how long it has by now.
    waited: bool,
    unserved: Duration,
}

struct StuckThread {
    number: u64,
    thread: Thread,
    mark: Mark,
    how: How,
    /// For how long by now.
    time: Duration,
}

/// How a thread is stuck.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// In a step.
    InStep,
    /// It sleeps, and this waits for it.
    Asleep(&'static str),
    /// It sleeps, and was to wake by itself.
    Overslept,
}

impl Still {
    fn since(before: Option<&Still>, mark: Mark, waits: bool, passed: Duration) -> Still {
        let before = before.filter(|before| before.mark == mark);
        let more = |time: fn(&Still) -> Duration| before.map_or(Duration::ZERO, |one| time(one) + passed);
        Still {
            mark,
            time: more(|before| before.time),
            // What has come since the last look has waited for nobody knows how long: the time begins now.
            unserved: match waits {
                true => before.map_or(Duration::ZERO, |before| match before.waited {
                    true => before.unserved + passed,
                    false => Duration::ZERO,
                }),
                false => Duration::ZERO,
            },
            waited: waits,
        }
    }
}

impl Looks {
    /// Those that have been in one step, or asleep although they should not, for longer than they may.
    fn look(&mut self, threads: &[(u64, Thread)], passed: Duration) -> Vec<StuckThread> {
        let mut seen = HashMap::with_capacity(threads.len());
        let mut stuck = Vec::new();
        for (number, thread) in threads {
            let mark = thread.progress.read();
            let asleep = mark.doing() == Doing::Asleep;
            let waits = asleep.then(|| (thread.waiting.0)()).flatten();
            let still = Still::since(self.seen.get(number), mark, waits.is_some(), passed);
            seen.insert(*number, still);
            let overslept = thread.progress.sleeps_for().filter(|_| asleep);
            let overslept = overslept.and_then(|promised| still.time.checked_sub(promised));
            let (how, time) = match (asleep, waits, overslept) {
                (false, ..) => (How::InStep, still.time),
                (true, Some(what), _) if still.unserved >= thread.bound => {
                    (How::Asleep(what), still.unserved)
                }
                (true, _, Some(time)) => (How::Overslept, time),
                (true, ..) => continue,
            };
            if time >= thread.bound {
                stuck.push(StuckThread {
                    number: *number,
                    thread: thread.clone(),
                    mark,
                    how,
                    time,
                });
            }
        }
        self.seen = seen;
        stuck
    }

    fn report(&mut self, shared: &Shared, stuck: &[StuckThread]) {
        if !stuck.is_empty() {
            self.names = Names::of(&shared.seen());
        }
        let mut past_help = None;
        let mut told = BTreeMap::new();
        for one in stuck {
            let message = self.names.sentence(one);
            told.insert(one.thread.subject.clone(), one.number);
            if one.thread.vital && one.time >= PAST_HELP {
                past_help.get_or_insert_with(|| Stuck {
                    subject: one.thread.subject.clone(),
                    message: message.clone(),
                });
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
    fn of(state: &LocalState) -> Names {
        let mut names = Names::default();
        for (name, offered) in &state.control.attachments {
            names.attachments.insert(offered.index, name.to_string());
        }
        for (index, left) in &state.control.left {
            let name = format!("{} (taken away)", left.name);
            names.attachments.insert(*index, name);
        }
        for (name, open) in &state.disks {
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

    fn sentence(&self, stuck: &StuckThread) -> String {
        let (name, seconds) = (&stuck.thread.name, stuck.time.as_secs());
        let mut text = match stuck.how {
            How::InStep => format!(
                "{name} has made no progress for {seconds} s: {}",
                stuck.mark.doing()
            ),
            How::Asleep(what) => {
                format!("{name} has been asleep for {seconds} s although {what} waits for it")
            }
            How::Overslept => format!("{name} sleeps on, {seconds} s after it was to wake by itself"),
        };
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
            waiting: PendingWork::nothing(),
        }
    }

    /// What is said of one thread that does nothing, look after look.
    fn said(thread: &Thread, looks: u32) -> Option<String> {
        let (mut all, mut found) = (Looks::default(), Vec::new());
        for _ in 0..looks {
            found = all.look(&[(1, thread.clone())], LOOK);
        }
        found.first().map(|stuck| Names::default().sentence(stuck))
    }

    #[test]
    fn who_sleeps_although_work_waits_is_stuck() {
        let progress = Arc::new(Progress::default());
        progress.asleep();
        let waits = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&waits);
        let sleeper = Thread {
            waiting: PendingWork::asks(move || asked.load(Relaxed).then_some("an order")),
            ..thread(&progress, true)
        };
        assert_eq!(said(&sleeper, 1000), None, "nothing waits");
        waits.store(true, Relaxed);
        let text = said(&sleeper, 12).unwrap();
        assert!(text.contains("asleep for 5 s although an order waits"), "{text}");
        assert_eq!(said(&sleeper, 10), None, "not before its bound");

        // It is the time since the work came that counts, not that of the sleep; and who wakes is not stuck.
        let mut looks = Looks::default();
        let threads = [(1, sleeper)];
        let mut look = |times| {
            (0..times)
                .map(|_| looks.look(&threads, LOOK).len())
                .sum::<usize>()
        };
        waits.store(false, Relaxed);
        assert_eq!(look(100), 0);
        waits.store(true, Relaxed);
        assert_eq!(look(10), 0);
        progress.mark(Doing::Order, Whom::Nobody);
        progress.asleep();
        assert_eq!(look(10), 0);
        assert_eq!(look(1), 1);
    }

    #[test]
    fn who_sleeps_for_longer_than_it_said_is_stuck() {
        let progress = Arc::new(Progress::default());
        progress.asleep_for(Some(Duration::from_secs(60)));
        let sleeper = thread(&progress, true);
        assert_eq!(said(&sleeper, 129), None, "a minute, and its bound");
        let text = said(&sleeper, 131).unwrap();
        assert!(text.contains("5 s after it was to wake"), "{text}");
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
        let enrolled = watch.enrol(
            "attachment/a",
            "the session of attachment a",
            PendingWork::nothing(),
        );
        assert_eq!(watch.watched().threads.len(), 1);
        drop(enrolled);
        assert!(watch.watched().threads.is_empty());
    }
}
