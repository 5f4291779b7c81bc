//! The thread of one attachment: sleeps until one of its sockets or the supervisor has something, then gives it its turn.
//! All that touches what a virtual machine monitor gave us is done here, and may hang here.

use super::attachment::{Attachment, Turn};
use super::gate::Gate;
use super::{AttachError, Command};
use crate::call::CallNotify;
use crate::socket_file::SocketOwner;
use crossbeam::channel::{self, Receiver, Sender};
use mio::{Events, Poll, Token, Waker};
use palisade_virtio::BlkQueue;
use palisade_words::Sectors;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The token by which the supervisor wakes the thread.
const WAKE: Token = Token(usize::MAX);

/// Events taken from the kernel at once: there are three sockets.
const EVENTS: usize = 8;

/// How long to rest when the kernel refuses to say what has happened.
const POLL_FAILED_REST: Duration = Duration::from_millis(100);

/// The stack of a thread in bytes; there may be thousands.
const STACK_BYTES: usize = 512 << 10;

/// What the supervisor says.
#[derive(Debug)]
pub(super) enum Order {
    /// The volume has another size.
    Resize { sectors: Sectors },
    /// A queue has been given back.
    QueueStopped {
        queue: u16,
        source: Option<Box<BlkQueue<CallNotify>>>,
    },
    /// Others may connect from now on.
    ChangeOwner { owner: SocketOwner },
    /// The socket's file has gone from its place: put it back.
    Restore,
    /// A reactor was kept waiting by the guest's memory.
    Stalled { held: Duration, waited: Duration },
    /// Take the socket away, and end the thread when the front-end has left.
    GiveUp,
    /// Take the socket away, end the session, and then the thread.
    Leave { reason: &'static str },
    /// After having been cut off: offer the volume anew.
    Reopen {
        sectors: Option<Sectors>,
        owner: Option<SocketOwner>,
    },
}

/// The supervisor's way to a thread.
#[derive(Debug)]
pub(super) struct Line {
    orders: Sender<Order>,
    waker: Arc<Waker>,
}

/// The thread's end of it.
pub(super) struct LineEnd {
    orders: Receiver<Order>,
    poll: Poll,
    /// Keeps the descriptor open as long as the poll.
    _waker: Arc<Waker>,
}

/// Makes a line. An error says that there are too many open files.
pub(super) fn line() -> io::Result<(Line, LineEnd)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
    let (orders, inbox) = channel::unbounded();
    let end = LineEnd {
        orders: inbox,
        poll,
        _waker: Arc::clone(&waker),
    };
    Ok((Line { orders, waker }, end))
}

impl Line {
    /// Whether an order waits that the thread has not taken.
    pub(super) fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Gives an order. What was to be handed to a thread that has ended is let go elsewhere.
    pub(super) fn give(&self, order: Order) {
        match self.orders.send(order) {
            Ok(()) => {
                if let Err(error) = self.waker.wake() {
                    log::error!("an attachment's thread cannot be woken, error={error}");
                }
            }
            Err(channel::SendError(Order::QueueStopped { source, .. })) => dispose(source),
            Err(_) => {}
        }
    }
}

/// Lets go of a ring where it holds up nobody: the last hold on a guest's memory unmaps it and closes its file.
pub(super) fn dispose(source: Option<Box<BlkQueue<CallNotify>>>) {
    let Some(source) = source else { return };
    if let Err(error) = std::thread::Builder::new()
        .name("let-go".into())
        .spawn(move || drop(source))
    {
        log::warn!("no thread to let go of a queue, error={error}");
    }
}

/// Starts the thread. It answers when the socket is in its place, or why it is not.
pub(super) fn start(
    attachment: Attachment,
    life: u64,
    gate: Arc<Gate>,
    end: LineEnd,
    supervisor: Sender<Command>,
    answer: SyncSender<Result<(), AttachError>>,
) -> io::Result<JoinHandle<()>> {
    let index = attachment.index();
    attachment.wake_by(Arc::clone(&end._waker));
    let thread = AttachmentThread {
        attachment,
        life,
        gate,
        orders: end.orders,
        poll: end.poll,
        _waker: end._waker,
        supervisor,
    };
    std::thread::Builder::new()
        .name(format!("guest-{}", index.0))
        .stack_size(STACK_BYTES)
        .spawn(move || thread.run(answer))
}

struct AttachmentThread {
    attachment: Attachment,
    /// Tells it apart from former threads of the same index.
    life: u64,
    gate: Arc<Gate>,
    orders: Receiver<Order>,
    poll: Poll,
    _waker: Arc<Waker>,
    supervisor: Sender<Command>,
}

/// How a session's service ended.
enum End {
    /// The attachment has left.
    Left,
    /// It was cut off.
    CutOff,
}

impl AttachmentThread {
    fn run(mut self, answer: SyncSender<Result<(), AttachError>>) {
        let index = self.attachment.index();
        self.gate.begin("the making of the socket");
        let offered = self.attachment.offer(self.poll.registry());
        if let Err(error) = offered {
            // The supervisor first: whoever is answered may try again at once.
            let _ = self.supervisor.send(Command::Left {
                index,
                life: self.life,
                offered: false,
            });
            let _ = answer.send(Err(error));
            return;
        }
        let _ = answer.send(Ok(()));
        drop(answer);
        loop {
            match self.serve() {
                End::Left => {
                    let _ = self.supervisor.send(Command::Left {
                        index,
                        life: self.life,
                        offered: true,
                    });
                    return;
                }
                End::CutOff => {
                    if !self.come_back() {
                        return;
                    }
                }
            }
        }
    }

    /// Gives the attachment its turns until it has left or is cut off.
    fn serve(&mut self) -> End {
        let mut events = Events::with_capacity(EVENTS);
        let mut again = true;
        loop {
            if !self.gate.end() {
                return End::CutOff;
            }
            self.sleep(&mut events, again);
            self.gate.begin("the service of its socket");
            while let Ok(order) = self.orders.try_recv() {
                let registry = self.poll.registry();
                match order {
                    Order::Resize { sectors } => self.attachment.resize(sectors, registry),
                    Order::QueueStopped { queue, source } => {
                        let next_avail = source.as_ref().map(|source| source.next_avail());
                        // The ring, and with it its hold on the guest's memory, ends here.
                        drop(source);
                        self.attachment.queue_stopped(queue, next_avail, registry);
                    }
                    Order::ChangeOwner { owner } => self.attachment.change_owner(owner),
                    Order::Restore => self.attachment.restore(registry),
                    Order::Stalled { held, waited } => self.attachment.stalled(held, waited, registry),
                    Order::GiveUp => self.attachment.give_up(registry),
                    Order::Leave { reason } => self.attachment.leave(reason, registry),
                    // Meant for a thread that was cut off.
                    Order::Reopen { .. } => {}
                }
            }
            let turn = self.attachment.turn(self.poll.registry());
            if turn == Turn::Gone && self.gate.is_open() {
                return End::Left;
            }
            again = turn == Turn::Again;
            self.gate.put_report(self.attachment.report());
        }
    }

    fn sleep(&mut self, events: &mut Events, again: bool) {
        let timeout = match again {
            true => Some(Duration::ZERO),
            false => self
                .attachment
                .next_look()
                .map(|at| at.saturating_duration_since(Instant::now())),
        };
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            log::error!("an attachment cannot wait for its sockets, error={error}");
            std::thread::sleep(POLL_FAILED_REST);
        }
    }

    /// After what hung has come to an end: everything of the session goes, and the volume is offered anew when the
    /// supervisor says so. False when nobody wants it any more.
    fn come_back(&mut self) -> bool {
        let index = self.attachment.index();
        self.attachment.forget(self.poll.registry());
        log::info!(
            "attachment={} what kept us waiting has come to its end",
            self.gate.name()
        );
        if self
            .supervisor
            .send(Command::Back {
                index,
                life: self.life,
            })
            .is_err()
        {
            return false;
        }
        loop {
            match self.orders.recv() {
                Ok(Order::Reopen { sectors, owner }) => {
                    self.gate.begin("the making of the socket");
                    if let Some(sectors) = sectors {
                        self.attachment.resize(sectors, self.poll.registry());
                    }
                    if let Some(owner) = owner {
                        self.attachment.change_owner(owner);
                    }
                    if let Err(error) = self.attachment.offer(self.poll.registry()) {
                        log::error!(
                            "attachment={} is not offered again, error={error}",
                            self.gate.name()
                        );
                        self.attachment.failed(&error.to_string());
                    }
                    self.gate.put_report(self.attachment.report());
                    return true;
                }
                // Rings end here; all else is over, or comes again with the order to open.
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}
