//! What an operator can see of each session.

use super::pace::PaceReport;
use super::stalls::StallReport;
use crate::session::QueueReport;
use palisade_memory::{MappingTotals, ShareLimits};
use palisade_virtio::QueueStats;
use palisade_words::AttachmentIndex;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The state of one attachment's socket and session.
#[derive(Clone, Debug, Default)]
pub struct SessionReport {
    /// What people call the attachment.
    pub name: String,
    /// Whether a virtual machine is connected.
    pub connected: bool,
    /// Connections so far.
    pub connections: u64,
    /// Which file its socket is, by device and inode; `None` when it is not on offer.
    pub socket: Option<(u64, u64)>,
    /// Virtio features in use, by name.
    pub features: Vec<&'static str>,
    /// Protocol features in use, by name.
    pub protocol_features: Vec<&'static str>,
    /// Virtqueues that run.
    pub queues_running: Vec<u16>,
    /// What the session is waiting for.
    pub waiting: Option<WaitReport>,
    /// Since when the front-end has been in the middle of a message, or connected without a word.
    pub silent: Option<Instant>,
    /// Since when another front-end waits for the one that is connected to go.
    pub next_waits: Option<Instant>,
    /// How fast messages come.
    pub messages: PaceReport,
    /// How fast connections come.
    pub connects: PaceReport,
    /// How often it has kept a reactor waiting, and what came of that.
    pub stalls: StallReport,
    /// Messages refused, over all connections.
    pub messages_refused: u64,
    /// What the front-end last did wrong, or what last went wrong with it, in a sentence.
    pub last_error: Option<String>,
    /// Why the last session ended.
    pub last_disconnect: Option<String>,
    /// What the attachment's thread hangs in. The session was cut off; when the thread comes back, the volume is
    /// offered anew.
    pub stuck: Option<StuckReport>,
    /// Whether giving its interrupts takes so long that its own thread gives them.
    pub interrupts_dear: bool,
    /// What is mapped of its share, and how much may be; `None` when nobody limits it.
    pub mapped: Option<(MappingTotals, ShareLimits)>,
    /// What of the front-end's does not let itself be closed, now or after former sessions.
    pub hanging: Option<HangingReport>,
    /// Whether the attachment is being taken away.
    pub leaving: bool,
    /// What there is to say of each virtqueue of the session that is.
    pub queues: Vec<QueueReport>,
    /// Sessions in a row that had something refused and ended before a queue ran: a front-end that comes again and again
    /// with what it cannot have. Begins anew when a queue runs.
    pub refused_sessions: u64,
    /// Why the first of these was refused, in a sentence.
    pub first_refusal: Option<String>,
    /// What each virtqueue has counted, over all connections; what is wrong with its ring is there, too
    /// ([`QueueStats::broken_now`]).
    pub queue_stats: Arc<[Arc<QueueStats>]>,
}

/// An attachment whose thread hangs in something of the virtual machine monitor's.
#[derive(Clone, Copy, Debug)]
pub struct StuckReport {
    /// The step it hangs in: mostly the name of a message.
    pub step: &'static str,
    /// Since when.
    pub since: Instant,
}

/// Descriptors of the virtual machine monitor's that do not let themselves be closed. Processes of their own wait for
/// that, and nobody else.
#[derive(Clone, Debug)]
pub struct HangingReport {
    /// How the kernel names the first one.
    pub what: String,
    /// Since when.
    pub since: Instant,
    /// How many processes wait.
    pub count: usize,
}

/// One wait.
#[derive(Clone, Debug)]
pub struct WaitReport {
    /// On what, in a sentence ("blocked on ...").
    pub on: String,
    /// Since when.
    pub since: Instant,
    /// Whether it has lasted longer than it should.
    pub overdue: bool,
}

/// All reports, written by the attachments' threads and read by anyone.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports(Arc<Mutex<BTreeMap<AttachmentIndex, SessionReport>>>);

impl Reports {
    pub(super) fn get(&self, index: AttachmentIndex) -> Option<SessionReport> {
        self.with(|reports| reports.get(&index).cloned())
    }

    pub(super) fn put(&self, index: AttachmentIndex, report: SessionReport) {
        self.with(|reports| reports.insert(index, report));
    }

    pub(super) fn remove(&self, index: AttachmentIndex) {
        self.with(|reports| reports.remove(&index));
    }

    /// Attachments that are left, and what they wait for.
    pub(super) fn waiting(&self) -> Vec<(String, String)> {
        let on = |report: &SessionReport| {
            report
                .waiting
                .as_ref()
                .map_or_else(|| "closing".to_owned(), |wait| wait.on.clone())
        };
        self.with(|reports| {
            reports
                .values()
                .map(|report| (report.name.clone(), on(report)))
                .collect()
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<AttachmentIndex, SessionReport>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
