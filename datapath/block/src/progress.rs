//! Signs of life that a thread writes itself.
//!
//! A thread that serves others says, between two bounded steps, what it is about to do and for whom. Somebody else looks
//! at the word from time to time: one that has not changed since the last looks belongs to a thread that is stuck in the
//! step named there. Whether a thread merely exists says nothing of that.
//!
//! A thread that waits for something to do says so too, and after what time it wakes by itself. That is no excuse for
//! ever: one that sleeps on after that time, or although work waits for it, is stuck in its sleep. Whether work waits is
//! known to whoever brings it, not here.
//!
//! Writing is a load and a store without order, so a reactor can afford it in each turn. There is no lock, no allocation
//! and no clock: how long a word has stood still is for the looker to know.

use palisade_words::{AttachmentIndex, DeviceIndex};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a thread is about to do. [`Doing::Asleep`] lasts until there is work; every other step is bounded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Doing {
    /// It waits for something to do, and does nothing for anybody.
    #[default]
    Asleep,
    /// A reactor takes requests, submits and answers.
    Turn,
    /// A reactor carries out an order of the control loop.
    Order,
    /// A front-end's connection is taken.
    Accept,
    /// A front-end's message is read and carried out.
    Message,
    /// A front-end is sent a reply.
    Reply,
    /// A guest's memory is mapped or let go.
    Memory,
    /// A guest's virtqueue is started or stopped.
    Queue,
    /// A socket is put in its place or taken away.
    Socket,
    /// The control loop takes note of what has happened.
    Event,
    /// The control loop plans, and begins steps.
    Plan,
    /// A step of a plan is carried out.
    Step,
    /// A superblock is read or written.
    Superblock,
    /// A disk is opened or closed.
    Disk,
    /// A client of REST is answered.
    Rest,
}

impl Doing {
    /// All of them, in the order of their numbers.
    pub const ALL: [Doing; 15] = [
        Doing::Asleep,
        Doing::Turn,
        Doing::Order,
        Doing::Accept,
        Doing::Message,
        Doing::Reply,
        Doing::Memory,
        Doing::Queue,
        Doing::Socket,
        Doing::Event,
        Doing::Plan,
        Doing::Step,
        Doing::Superblock,
        Doing::Disk,
        Doing::Rest,
    ];
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doing::Asleep => "waiting for something to do",
            Doing::Turn => "taking, submitting and answering requests",
            Doing::Order => "carrying out an order of the control loop",
            Doing::Accept => "taking a front-end's connection",
            Doing::Message => "carrying out a front-end's message",
            Doing::Reply => "sending a front-end a reply",
            Doing::Memory => "mapping a guest's memory or letting it go",
            Doing::Queue => "starting or stopping a virtqueue",
            Doing::Socket => "putting a socket in its place or taking it away",
            Doing::Event => "taking note of what has happened",
            Doing::Plan => "planning and beginning steps",
            Doing::Step => "carrying out a step",
            Doing::Superblock => "reading or writing a superblock",
            Doing::Disk => "opening or closing a disk",
            Doing::Rest => "answering a client of REST",
        })
    }
}

/// For whom.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Whom {
    /// Nobody in particular.
    #[default]
    Nobody,
    /// An attachment.
    Attachment(AttachmentIndex),
    /// A disk.
    Device(DeviceIndex),
}

/// One thread's sign of life: written by this thread alone, read by anybody. It has a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
pub struct Progress {
    word: AtomicU64,
    /// Nanoseconds after which a sleep ends by itself; [`NEVER`] when it lasts until somebody ends it.
    sleep_ns: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// What was read of a [`Progress`]. Two readings that are equal have no step between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark(u64);

const STEP: u64 = 1 << 32;

impl Default for Progress {
    fn default() -> Self {
        Progress {
            word: AtomicU64::new(0),
            sleep_ns: AtomicU64::new(NEVER),
        }
    }
}

impl Progress {
    /// The thread begins a bounded step.
    #[inline]
    pub fn mark(&self, doing: Doing, whom: Whom) {
        let (kind, index) = match whom {
            Whom::Nobody => (0, 0),
            Whom::Attachment(index) => (1, index.0),
            Whom::Device(index) => (2, index.0),
        };
        let now = u64::from(doing as u8) | kind << 8 | u64::from(index) << 16;
        let steps = self.word.load(Relaxed) & !(STEP - 1);
        self.word.store(steps.wrapping_add(STEP) | now, Relaxed);
    }

    /// The thread waits for something to do, until somebody brings it.
    #[inline]
    pub fn asleep(&self) {
        self.asleep_for(None);
    }

    /// The thread waits for something to do, for so long at most.
    #[inline]
    pub fn asleep_for(&self, time: Option<Duration>) {
        let ns = time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(NEVER));
        self.sleep_ns.store(ns.unwrap_or(NEVER), Relaxed);
        self.mark(Doing::Asleep, Whom::Nobody);
    }

    /// What there is to see now.
    pub fn read(&self) -> Mark {
        Mark(self.word.load(Relaxed))
    }

    /// After what time the present sleep ends by itself, if it does. To be believed when the word is that of a sleep, and
    /// the same before and after.
    pub fn sleeps_for(&self) -> Option<Duration> {
        let ns = self.sleep_ns.load(Relaxed);
        (ns != NEVER).then(|| Duration::from_nanos(ns))
    }
}

impl Mark {
    /// What the thread does.
    pub fn doing(self) -> Doing {
        let number = (self.0 & 0xff) as usize;
        Doing::ALL.get(number).copied().unwrap_or_default()
    }

    /// For whom.
    pub fn whom(self) -> Whom {
        let index = (self.0 >> 16) as u16;
        match self.0 >> 8 & 0xff {
            1 => Whom::Attachment(AttachmentIndex(index)),
            2 => Whom::Device(DeviceIndex(index)),
            _ => Whom::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_marked_is_read() {
        let progress = Progress::default();
        assert_eq!(progress.read().doing(), Doing::Asleep);
        for doing in Doing::ALL {
            for whom in [
                Whom::Nobody,
                Whom::Attachment(AttachmentIndex(u16::MAX)),
                Whom::Device(DeviceIndex(7)),
            ] {
                progress.mark(doing, whom);
                let mark = progress.read();
                assert_eq!((mark.doing(), mark.whom()), (doing, whom));
                assert!(!doing.to_string().is_empty());
            }
        }
    }

    #[test]
    fn the_same_step_again_is_progress() {
        let progress = Progress::default();
        progress.mark(Doing::Turn, Whom::Nobody);
        let before = progress.read();
        assert_eq!(progress.read(), before);
        progress.mark(Doing::Turn, Whom::Nobody);
        assert_ne!(progress.read(), before);
    }

    #[test]
    fn the_count_of_steps_runs_over_without_touching_the_rest() {
        let progress = Progress::default();
        progress.word.store(u64::MAX, Relaxed);
        progress.mark(Doing::Message, Whom::Attachment(AttachmentIndex(3)));
        assert_eq!(progress.read().doing(), Doing::Message);
        assert_eq!(progress.read().whom(), Whom::Attachment(AttachmentIndex(3)));
    }
    #[test]
    fn a_sleep_says_when_it_ends_by_itself() {
        let progress = Progress::default();
        assert_eq!(progress.sleeps_for(), None);
        progress.asleep_for(Some(Duration::from_millis(3)));
        assert_eq!(progress.read().doing(), Doing::Asleep);
        assert_eq!(progress.sleeps_for(), Some(Duration::from_millis(3)));
        progress.asleep();
        assert_eq!(progress.sleeps_for(), None);
        progress.asleep_for(Some(Duration::MAX));
        assert_eq!(progress.sleeps_for(), None);
    }
}
