//! The door of a node: every attachment's socket, each served by a thread of its own, and one supervisor over them.
//!
//! Mapping, unmapping and closing what a virtual machine monitor gave us can hang, as can closing a socket in which it
//! has left descriptors. So everything that touches such things is done by the attachment's own thread. The supervisor
//! touches channels only; a thread that is in one step for too long is cut off: its queues are stopped, its memory is
//! given back, its socket and its connection go, and others notice nothing. When the thread comes back the volume is
//! offered anew, and a new attachment can be made before that.
//!
//! [`Door::open`] starts the supervisor. A [`DoorHandle`] tells it what to do from any other thread; what it has to tell the
//! rest of the house goes through a [`Host`].

mod admission;
mod attachment;
mod connection;
mod gate;
mod host;
mod pace;
mod receiving;
mod report;
mod stalls;
mod supervisor;
mod thread;
mod waiting_room;

pub use admission::HeldShut;
pub use host::Host;
pub use pace::{PaceReport, Rates};
pub use report::{HangingReport, SessionReport, StuckReport, WaitReport};
pub use stalls::StallReport;

use crate::call::CallNotify;
use crate::socket_file::{BindError, SocketOwner};
use admission::Admission;
use crossbeam::channel::{self, Sender};
use palisade_block::limits::STALLED_MAX;
use palisade_block::{Progress, Whom};
use palisade_memory::MemoryShare;
use palisade_virtio::{BlkQueue, VolumeGeometry};
use palisade_words::limits::{QUEUE_SIZE_MAX, QUEUES_MAX};
use palisade_words::{AttachmentIndex, QueueId, Sectors};
use report::Reports;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;
use supervisor::Supervisor;

/// A volume offered on a socket.
#[derive(Clone, Debug)]
pub struct AttachmentSpec {
    /// Its number on this node.
    pub index: AttachmentIndex,
    /// What people call it; for logs.
    pub name: String,
    /// Where the socket is to appear.
    pub path: PathBuf,
    /// Who may connect.
    pub owner: SocketOwner,
    /// What the guest sees; `geometry.queues` is the number of virtqueues.
    pub geometry: VolumeGeometry,
    /// Most entries of a virtqueue, a power of two.
    pub queue_size_max: u16,
    /// The permanent id of the volume: a machine that was served another one until now is refused.
    pub volume: u128,
    /// What GET_ID answers, filled up with zeroes.
    pub serial: [u8; 20],
    /// What the front-end's memory is mapped from.
    pub share: Arc<MemoryShare>,
}

/// Why an attachment was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is one of this index (it may still be leaving).
    #[error("attachment {} exists already", .index.0)]
    Exists {
        /// Its name.
        index: AttachmentIndex,
    },
    /// Queues that cannot be: none or more than [`QUEUES_MAX`], or a size that is no power of two up to
    /// [`QUEUE_SIZE_MAX`].
    #[error(
        "{queues} queues of {queue_size_max} entries cannot be offered: up to {QUEUES_MAX} queues, a \
         power of two up to {QUEUE_SIZE_MAX} entries"
    )]
    Queues {
        /// How many.
        queues: u16,
        /// Entries of each.
        queue_size_max: u16,
    },
    /// The socket could not be put in its place.
    #[error("{0}")]
    Bind(#[source] BindError),
    /// The socket could not be watched.
    #[error("the socket cannot be watched: {0}")]
    Watch(#[source] io::Error),
    /// Its thread could not be started.
    #[error("the attachment's thread cannot be started: {0}")]
    Thread(#[source] io::Error),
    /// Too many threads hang in what virtual machine monitors gave us, of attachments that are gone.
    #[error(
        "threads of former attachments still hang in files that virtual machines gave us ({hanging} of them): end those \
         virtual machines and the file systems behind their memory first"
    )]
    Hanging {
        /// How many.
        hanging: usize,
    },
    /// The door has been shut.
    #[error("the daemon is stopping")]
    Shut,
}

/// Queues that had not stopped when the patience for a shutdown was at its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShutdownTimedOut {
    /// Attachments still there, and what they wait for.
    pub waiting: Vec<(String, String)>,
}

impl fmt::Display for ShutdownTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.waiting.len() {
            1 => write!(f, "1 attachment has not stopped")?,
            several => write!(f, "{several} attachments have not stopped")?,
        }
        for (name, wait) in &self.waiting {
            write!(f, "; attachment {name}: {wait}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ShutdownTimedOut {}

/// How the door deals with those that hang.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoorSettings {
    /// How long one step of an attachment's thread may take before it is cut off. A step is the carrying out of one
    /// message, or the end of a session; waiting for a queue's requests is none.
    pub deadline: Duration,
    /// Threads that may go on hanging after their attachment was taken away, and processes that may go on hanging in the
    /// closing of descriptors after their session has ended. With more no attachment is taken, or no descriptor for one
    /// that has a hanging process already.
    pub hanging_max: usize,
    /// Such processes of one attachment.
    pub hanging_each_max: usize,
    /// How fast one attachment's front-ends may connect and speak before they are slowed down.
    pub rates: Rates,
    /// What the waits that one attachment's memory causes reactors may come to within ten seconds.
    pub stalled_max: Duration,
}

impl Default for DoorSettings {
    fn default() -> Self {
        DoorSettings {
            deadline: Duration::from_secs(10),
            hanging_max: 64,
            hanging_each_max: 4,
            rates: Rates::DEFAULT,
            stalled_max: STALLED_MAX.duration(),
        }
    }
}

/// The running door. Dropping it without [`Door::shutdown`] shuts it too, without waiting.
#[derive(Debug)]
pub struct Door {
    handle: DoorHandle,
    /// Says that the thread has ended, by being closed.
    ended: Receiver<()>,
}

/// Speaks to the door from any thread.
#[derive(Clone, Debug)]
pub struct DoorHandle {
    commands: Sender<Command>,
    reports: Reports,
    admission: Admission,
    progress: Arc<Progress>,
}

/// What the door is told.
#[derive(Debug)]
enum Command {
    Attach {
        spec: Box<AttachmentSpec>,
        answer: SyncSender<Result<(), AttachError>>,
    },
    Detach {
        index: AttachmentIndex,
    },
    GiveUp {
        index: AttachmentIndex,
    },
    Resize {
        index: AttachmentIndex,
        sectors: Sectors,
    },
    ChangeOwner {
        index: AttachmentIndex,
        owner: SocketOwner,
    },
    Restore {
        index: AttachmentIndex,
    },
    Stalled {
        index: AttachmentIndex,
        held: Duration,
        waited: Duration,
    },
    QueueStopped {
        queue: QueueId,
        source: Option<Box<BlkQueue<CallNotify>>>,
    },
    Shutdown,
    /// A thread's last word: nothing remains of its attachment. `offered` is false when it never was on offer. `life`
    /// tells threads apart whose attachments had the same index, one after the other.
    Left {
        index: AttachmentIndex,
        life: u64,
        offered: bool,
    },
    /// A thread that was cut off has come back.
    Back {
        index: AttachmentIndex,
        life: u64,
    },
}

impl Command {
    fn whom(&self) -> Whom {
        match self {
            Command::Attach { spec, .. } => Whom::Attachment(spec.index),
            Command::Detach { index }
            | Command::GiveUp { index }
            | Command::Resize { index, .. }
            | Command::ChangeOwner { index, .. }
            | Command::Restore { index }
            | Command::Stalled { index, .. }
            | Command::Left { index, .. }
            | Command::Back { index, .. } => Whom::Attachment(*index),
            Command::QueueStopped { queue, .. } => Whom::Attachment(queue.attachment),
            Command::Shutdown => Whom::Nobody,
        }
    }
}

impl Door {
    /// Starts the supervisor. `host` makes the host from a handle, by which it gives queues back.
    ///
    /// # Errors
    /// No more threads or open files.
    pub fn open<H: Host + 'static>(
        settings: DoorSettings,
        host: impl FnOnce(DoorHandle) -> H,
    ) -> io::Result<Door> {
        palisade_sys::fd_filter::prepare()?;
        let (commands, inbox) = channel::unbounded();
        let (ending, ended) = mpsc::sync_channel(0);
        let reports = Reports::default();
        let admission = Admission::default();
        let progress = Arc::new(Progress::default());
        let handle = DoorHandle {
            commands: commands.clone(),
            reports: reports.clone(),
            admission: admission.clone(),
            progress: Arc::clone(&progress),
        };
        let host = Arc::new(host(handle.clone()));
        let supervisor = Supervisor::new(settings, host, inbox, commands, (reports, admission), progress);
        std::thread::Builder::new()
            .name("door".to_owned())
            .spawn(move || {
                supervisor.run();
                drop(ending);
            })?;
        Ok(Door { handle, ended })
    }

    /// A handle for another thread.
    pub fn handle(&self) -> DoorHandle {
        self.handle.clone()
    }

    /// Whether the supervisor has ended, which it does not do before it is told to.
    pub fn has_ended(&self) -> bool {
        matches!(self.ended.try_recv(), Err(mpsc::TryRecvError::Disconnected))
    }

    /// Takes all sockets away, drains all queues, closes all connections, and waits for that.
    ///
    /// # Errors
    /// When `patience` ends first. The door goes on shutting.
    pub fn shutdown(self, patience: Duration) -> Result<(), ShutdownTimedOut> {
        self.handle.tell(Command::Shutdown);
        match self.ended.recv_timeout(patience) {
            Err(mpsc::RecvTimeoutError::Timeout) => Err(ShutdownTimedOut {
                waiting: self.handle.reports.waiting(),
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.handle.tell(Command::Shutdown);
    }
}

impl DoorHandle {
    /// Offers a volume: when this returns, virtual machines can connect. It waits for the attachment's thread, so it
    /// must not be called from within a [`Host`].
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&self, spec: AttachmentSpec) -> Result<(), AttachError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.tell(Command::Attach {
            spec: Box::new(spec),
            answer,
        });
        answered.recv().unwrap_or(Err(AttachError::Shut))
    }

    /// Takes a volume back: the socket goes at once, then the session, when its queues are drained.
    /// [`Host::detached`] tells when it is over, also when there was no such attachment.
    pub fn detach(&self, index: AttachmentIndex) {
        self.tell(Command::Detach { index });
    }

    /// Takes a volume back and leaves its session to the front-end: the socket and the name go at once, so that another
    /// attachment may have them, and nobody comes in any more. Whoever is connected stays so, is spoken with as before and
    /// may set up its queues anew, until it leaves or [`DoorHandle::detach`] ends its session: [`Host::given_up`] tells of
    /// that, and [`Host::detached`] of its end. What is to become of its requests is the host's affair.
    pub fn give_up(&self, index: AttachmentIndex) {
        self.tell(Command::GiveUp { index });
    }

    /// What a thread that serves others, too, did for this attachment took so long, and kept it waiting for so much of that:
    /// for its guest's memory, as a rule. Who does the latter again and again is cut off, and nobody comes in for a while.
    pub fn stalled(&self, index: AttachmentIndex, held: Duration, waited: Duration) {
        self.tell(Command::Stalled { index, held, waited });
    }

    /// The socket's file has gone from its place: it is put back, and whoever is connected stays so. What comes of it is
    /// to be seen there, and in [`SessionReport::last_error`].
    pub fn restore(&self, index: AttachmentIndex) {
        self.tell(Command::Restore { index });
    }

    /// Others may connect from now on: by the socket that is in its place, if it is ours, and by each that is put there later.
    pub fn change_owner(&self, index: AttachmentIndex, owner: SocketOwner) {
        self.tell(Command::ChangeOwner { index, owner });
    }

    /// The volume has another size; a connected guest is told.
    pub fn resize(&self, index: AttachmentIndex, sectors: Sectors) {
        self.tell(Command::Resize { index, sectors });
    }

    /// Answers [`Host::stop_queue`]: the queue is drained and nobody will touch it again. `source` is what
    /// [`Host::start_queue`] gave; `None` says that it never came to run.
    pub fn queue_stopped(&self, queue: QueueId, source: Option<Box<BlkQueue<CallNotify>>>) {
        self.tell(Command::QueueStopped { queue, source });
    }

    /// What there is to say about an attachment; `None` when there is none.
    pub fn report(&self, index: AttachmentIndex) -> Option<SessionReport> {
        self.reports.get(index)
    }

    /// Lets no virtual machine in by the attachment of that name as long as what is given back lives; one that comes
    /// meanwhile is served afterwards, if the attachment is still there. `None`: one is connected.
    pub fn hold_shut(&self, attachment: &str) -> Option<HeldShut> {
        self.admission.hold(attachment)
    }

    /// The supervisor's sign of life: what it does, and for whom.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Whether the supervisor has been told something that it has not taken yet.
    pub fn has_work(&self) -> bool {
        !self.commands.is_empty()
    }

    fn tell(&self, command: Command) {
        // A door that is gone needs to be told nothing, but what was to be handed to it must not end here: letting go
        // of a guest's memory may take long.
        if let Err(channel::SendError(Command::QueueStopped { source, .. })) = self.commands.send(command) {
            thread::dispose(source);
        }
    }
}
