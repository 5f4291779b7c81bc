//! The door of a node: every attachment's socket, served by one control thread that never waits for anybody.
//!
//! [`Door::open`] starts the thread. A [`DoorHandle`] tells it what to do from any other thread; what it has to
//! tell the rest of the house goes through a [`Host`].

mod attachment;
mod connection;
mod control;
mod host;
mod report;

pub use host::Host;
pub use report::{SessionReport, WaitReport};

use crate::call::CallNotify;
use crate::socket_file::{BindError, SocketOwner};
use control::Control;
use mio::{Poll, Waker};
use palisade_block::limits::{QUEUES_PER_ATTACHMENT, RING_ENTRIES_MAX};
use palisade_block::{AttachmentIndex, Progress, QueueId, Sectors, Whom};
use palisade_virtio::{BlkQueue, VolumeGeometry};
use report::Reports;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

/// A volume offered on a socket.
#[derive(Clone, Debug)]
pub struct AttachmentSpec {
    /// Its name on this node.
    pub index: AttachmentIndex,
    /// Where the socket is to appear.
    pub path: PathBuf,
    /// Who may connect.
    pub owner: SocketOwner,
    /// What the guest sees; `geometry.queues` is the number of virtqueues.
    pub geometry: VolumeGeometry,
    /// Most entries of a virtqueue, a power of two.
    pub queue_size_max: u16,
    /// What GET_ID answers, filled up with zeroes.
    pub serial: [u8; 20],
}

/// Why an attachment was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttachError {
    /// There is one of this index (it may still be leaving).
    Exists {
        /// Its name.
        index: AttachmentIndex,
    },
    /// Queues that cannot be: none or more than [`QUEUES_PER_ATTACHMENT`], or a size that is no power of two up to
    /// [`RING_ENTRIES_MAX`].
    Queues {
        /// How many.
        queues: u16,
        /// Entries of each.
        queue_size_max: u16,
    },
    /// The socket could not be put in its place.
    Bind(BindError),
    /// The socket could not be watched.
    Watch(io::Error),
    /// The door has been shut.
    Shut,
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachError::Exists { index } => write!(f, "attachment {} exists already", index.0),
            AttachError::Queues {
                queues,
                queue_size_max,
            } => write!(
                f,
                "{queues} queues of {queue_size_max} entries cannot be offered: up to {QUEUES_PER_ATTACHMENT} queues, \
                 a power of two up to {RING_ENTRIES_MAX} entries"
            ),
            AttachError::Bind(error) => error.fmt(f),
            AttachError::Watch(error) => write!(f, "the socket cannot be watched: {error}"),
            AttachError::Shut => write!(f, "the daemon is stopping"),
        }
    }
}

impl std::error::Error for AttachError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AttachError::Bind(error) => Some(error),
            AttachError::Watch(error) => Some(error),
            _ => None,
        }
    }
}

/// Queues that had not stopped when the patience for a shutdown was at its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShutdownTimedOut {
    /// Attachments still there, and what they wait for.
    pub waiting: Vec<(AttachmentIndex, String)>,
}

impl fmt::Display for ShutdownTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} attachments have not stopped", self.waiting.len())?;
        for (index, wait) in &self.waiting {
            write!(f, "; attachment {}: {wait}", index.0)?;
        }
        Ok(())
    }
}

impl std::error::Error for ShutdownTimedOut {}

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
    waker: Arc<Waker>,
    reports: Reports,
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
    Resize {
        index: AttachmentIndex,
        sectors: Sectors,
    },
    QueueStopped {
        queue: QueueId,
        source: Option<Box<BlkQueue<CallNotify>>>,
    },
    Shutdown,
}

impl Command {
    fn whom(&self) -> Whom {
        match self {
            Command::Attach { spec, .. } => Whom::Attachment(spec.index),
            Command::Detach { index } | Command::Resize { index, .. } => Whom::Attachment(*index),
            Command::QueueStopped { queue, .. } => Whom::Attachment(queue.attachment),
            Command::Shutdown => Whom::Nobody,
        }
    }
}

impl Door {
    /// Starts the control thread. `host` makes the host from a handle, by which it gives queues back.
    ///
    /// # Errors
    /// No more file descriptors or threads.
    pub fn open<H: Host + 'static>(host: impl FnOnce(DoorHandle) -> H) -> io::Result<Door> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), control::WAKE)?);
        let (commands, inbox) = mpsc::channel();
        let (ending, ended) = mpsc::sync_channel(0);
        let reports = Reports::default();
        let progress = Arc::new(Progress::default());
        let handle = DoorHandle {
            commands,
            waker,
            reports: reports.clone(),
            progress: Arc::clone(&progress),
        };
        let control = Control::new(host(handle.clone()), poll, inbox, reports, progress);
        std::thread::Builder::new()
            .name("door".to_owned())
            .spawn(move || {
                control.run();
                drop(ending);
            })?;
        Ok(Door { handle, ended })
    }

    /// A handle for another thread.
    pub fn handle(&self) -> DoorHandle {
        self.handle.clone()
    }

    /// Whether the control thread has ended, which it does not do before it is told to.
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
    /// Offers a volume: when this returns, virtual machines can connect. It waits for the control thread, so it
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

    /// The control thread's sign of life: what it does, and for whom.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn tell(&self, command: Command) {
        // A door that is gone needs to be told nothing. A waker that fails leaves the command for the next turn.
        if self.commands.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            log::error!("the door's control thread cannot be woken, error={error}");
        }
    }
}
