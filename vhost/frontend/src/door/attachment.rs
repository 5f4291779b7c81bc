//! One attachment: its socket, and at most one session on it.

use super::connection::{Input, Next, Output};
use super::host::Host;
use super::report::{SessionReport, WaitReport};
use super::{AttachError, AttachmentSpec};
use crate::codec::Reply;
use crate::features;
use crate::session::{Action, Offer, Session};
use crate::socket_file::SocketFile;
use mio::net::{UnixListener, UnixStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use palisade_block::{AttachmentIndex, QueueId, Sectors};
use palisade_virtio::QueueStats;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages taken from one front-end before others get their turn.
const MESSAGES_PER_TURN: usize = 64;

/// A drain that lasts longer than this is reported as overdue. It is the time after which a Linux guest itself
/// begins to report a hung disk, halved. The wait goes on: memory under a device's hand cannot be let go.
const DRAIN_OVERDUE: Duration = Duration::from_secs(60);

/// How long to wait when a connection could not be taken: mostly for lack of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// One attachment.
#[derive(Debug)]
pub(super) struct Attachment {
    index: AttachmentIndex,
    offer: Offer,
    /// Both gone when the attachment is leaving.
    socket: Option<(SocketFile, UnixListener)>,
    connection: Option<Connection>,
    connections: u64,
    refused_before: u64,
    last_error: Option<String>,
    last_disconnect: Option<String>,
    wait: Option<WaitReport>,
    /// When to try again to take a connection, after a failure.
    accept_again: Option<Instant>,
}

/// A front-end and the session with it.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    input: Input,
    output: Output,
    session: Session,
    backend: Option<Backend>,
}

/// The socket for our own requests.
#[derive(Debug)]
struct Backend {
    socket: OwnedFd,
    output: Output,
}

/// Whether an attachment wants another turn without waiting for an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It has nothing to do before the next event.
    Idle,
    /// It has more to do.
    Again,
    /// It has left: nothing of it remains.
    Gone,
}

impl Attachment {
    /// Puts the socket in its place. `tokens` are the listener's, the connection's and the back-end channel's.
    pub(super) fn open(spec: AttachmentSpec, registry: &Registry) -> Result<Attachment, AttachError> {
        let (file, listener) = SocketFile::bind(&spec.path, spec.owner).map_err(AttachError::Bind)?;
        let mut listener = UnixListener::from_std(listener);
        let [token, ..] = tokens(spec.index);
        registry
            .register(&mut listener, token, Interest::READABLE)
            .map_err(AttachError::Watch)?;
        let stats: Vec<_> = (0..spec.geometry.queues)
            .map(|_| Arc::new(QueueStats::default()))
            .collect();
        Ok(Attachment {
            index: spec.index,
            offer: Offer {
                geometry: spec.geometry,
                queue_size_max: spec.queue_size_max,
                serial: spec.serial,
                write_cache: spec.geometry.writeback,
                stats: stats.into(),
            },
            socket: Some((file, listener)),
            connection: None,
            connections: 0,
            refused_before: 0,
            last_error: None,
            last_disconnect: None,
            wait: None,
            accept_again: None,
        })
    }

    /// Does what can be done now: finishes sending, reads messages, takes the next connection.
    pub(super) fn turn(&mut self, host: &mut dyn Host, registry: &Registry) -> Turn {
        if self.connection.is_none() {
            self.accept(host, registry);
        }
        let turn = match self.connection {
            Some(_) => self.serve(host, registry),
            None => Turn::Idle,
        };
        self.watch_wait();
        match (&self.connection, &self.socket) {
            (None, None) => Turn::Gone,
            _ => turn,
        }
    }

    /// A queue has been given back, drained.
    pub(super) fn queue_stopped(
        &mut self,
        queue: u16,
        next_avail: Option<u16>,
        host: &mut dyn Host,
        registry: &Registry,
    ) {
        let mut actions = Vec::new();
        if let Some(connection) = &mut self.connection {
            connection.session.queue_stopped(queue, next_avail, &mut actions);
        }
        self.act(actions, host, registry);
    }

    /// The volume has another size, for the guest that is connected and all that will be.
    pub(super) fn resize(&mut self, sectors: Sectors, host: &mut dyn Host, registry: &Registry) {
        self.offer.geometry.sectors = sectors;
        let mut actions = Vec::new();
        if let Some(connection) = &mut self.connection {
            connection.session.resize(sectors, &mut actions);
        }
        self.act(actions, host, registry);
    }

    /// Takes the socket away and ends the session.
    pub(super) fn leave(&mut self, reason: &str, host: &mut dyn Host, registry: &Registry) {
        if let Some((file, mut listener)) = self.socket.take() {
            drop(file);
            deregister(registry, &mut listener);
        }
        self.disconnect(reason, host, registry);
    }

    /// When this attachment must be looked at again without an event.
    pub(super) fn next_look(&self) -> Option<Instant> {
        if self.accept_again.is_some() {
            return self.accept_again;
        }
        self.wait
            .as_ref()
            .filter(|wait| !wait.overdue)
            .map(|wait| wait.since + DRAIN_OVERDUE)
    }

    /// What an operator is shown.
    pub(super) fn report(&self) -> SessionReport {
        let mut report = SessionReport {
            connected: self.connection.is_some(),
            connections: self.connections,
            waiting: self.wait.clone(),
            messages_refused: self.refused_before,
            last_error: self.last_error.clone(),
            last_disconnect: self.last_disconnect.clone(),
            leaving: self.socket.is_none(),
            queue_stats: self.stats(),
            ..SessionReport::default()
        };
        if let Some(Connection { session, .. }) = &self.connection {
            report.features = features::virtio_names(session.features());
            report.protocol_features = features::protocol_names(session.protocol_features());
            report.queues_running = session.queues_running();
            report.messages_refused += session.refused();
            if let Some(error) = session.last_error() {
                report.last_error = Some(error.to_owned());
            }
        }
        report
    }

    fn stats(&self) -> Arc<[Arc<QueueStats>]> {
        Arc::clone(&self.offer.stats)
    }

    /// Takes the next connection. Others stay in the backlog until this one is over.
    fn accept(&mut self, host: &mut dyn Host, registry: &Registry) {
        let Some((_, listener)) = &self.socket else { return };
        self.accept_again = None;
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                log::warn!(
                    "attachment={} a connection cannot be taken, tried again, error={error}",
                    self.index.0
                );
                self.accept_again = Some(Instant::now() + ACCEPT_AGAIN);
                return;
            }
        };
        let [_, token, _] = tokens(self.index);
        if let Err(error) = registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            log::warn!(
                "attachment={} a connection cannot be watched, error={error}",
                self.index.0
            );
            return;
        }
        self.connections += 1;
        log::info!("attachment={} a virtual machine has connected", self.index.0);
        self.connection = Some(Connection {
            stream,
            input: Input::new(),
            output: Output::default(),
            session: Session::new(self.offer.clone()),
            backend: None,
        });
        host.connected(self.index);
    }

    /// Sends what is left and takes messages until there are none, the session waits, or others should have a turn.
    fn serve(&mut self, host: &mut dyn Host, registry: &Registry) -> Turn {
        self.flush(host, registry);
        for _ in 0..MESSAGES_PER_TURN {
            // After the end of a session: the next front-end may be in the backlog already, and no event tells of
            // it again.
            let Some(connection) = &mut self.connection else {
                return Turn::Again;
            };
            if connection.session.waiting().is_some() {
                // The queue's stop will bring the next turn.
                return Turn::Idle;
            }
            let mut actions = Vec::new();
            match connection.input.next(&connection.stream) {
                Next::Later => return Turn::Idle,
                Next::Message(Ok(message), need_reply) => {
                    connection.session.on_message(message, need_reply, &mut actions);
                }
                Next::Message(Err(error), need_reply) => {
                    connection
                        .session
                        .on_protocol_error(error, need_reply, &mut actions);
                }
                Next::Over(reason) => connection.session.disconnect(&reason, &mut actions),
            }
            self.act(actions, host, registry);
        }
        Turn::Again
    }

    fn flush(&mut self, host: &mut dyn Host, registry: &Registry) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if let Some(backend) = &mut connection.backend
            && let Err(error) = backend.output.flush(&backend.socket)
        {
            log::warn!(
                "attachment={} the back-end channel is of no more use, error={error}",
                self.index.0
            );
            close_backend(registry, connection.backend.take());
        }
        if let Err(error) = connection.output.flush(&connection.stream) {
            self.disconnect(
                &format!("sending to the front-end failed: {error}"),
                host,
                registry,
            );
        }
    }

    fn disconnect(&mut self, reason: &str, host: &mut dyn Host, registry: &Registry) {
        let mut actions = Vec::new();
        if let Some(connection) = &mut self.connection {
            connection.session.disconnect(reason, &mut actions);
        }
        self.act(actions, host, registry);
    }

    /// Carries out what the session wants.
    fn act(&mut self, actions: Vec<Action>, host: &mut dyn Host, registry: &Registry) {
        for action in actions {
            match action {
                Action::Memory(memory) => host.memory(self.index, memory),
                Action::WriteThrough(on) => host.write_through(self.index, on),
                Action::WriteCache(on) => {
                    self.offer.write_cache = on;
                    host.write_cache(self.index, on);
                }
                Action::StartQueue { index, queue, kick } => host.start_queue(self.queue(index), queue, kick),
                Action::StopQueue { index } => host.stop_queue(self.queue(index)),
                Action::Reply(reply) => self.reply(reply, host, registry),
                Action::BackendChannel(socket) => self.open_backend(socket, registry),
                Action::BackendSend(bytes) => self.send_backend(bytes, host, registry),
                Action::Closed { reason } => self.closed(&reason, host, registry),
            }
        }
    }

    fn queue(&self, index: u16) -> QueueId {
        QueueId {
            attachment: self.index,
            queue: index,
        }
    }

    fn reply(&mut self, reply: Reply, host: &mut dyn Host, registry: &Registry) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if connection.output.push(reply) {
            self.flush(host, registry);
        } else {
            self.disconnect("the front-end does not read its replies", host, registry);
        }
    }

    fn open_backend(&mut self, socket: OwnedFd, registry: &Registry) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        close_backend(registry, connection.backend.take());
        let [_, _, token] = tokens(self.index);
        match registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::WRITABLE) {
            Ok(()) => {
                connection.backend = Some(Backend {
                    socket,
                    output: Output::default(),
                })
            }
            Err(error) => {
                self.last_error = Some(format!("the back-end channel is no socket: {error}"));
            }
        }
    }

    /// One message on the way says as much as many: the front-end reads the whole configuration then.
    fn send_backend(&mut self, bytes: Vec<u8>, host: &mut dyn Host, registry: &Registry) {
        let backend = self
            .connection
            .as_mut()
            .and_then(|connection| connection.backend.as_mut());
        if let Some(backend) = backend
            && backend.output.len() < 2
        {
            backend.output.push(Reply { bytes, fd: None });
            self.flush(host, registry);
        }
    }

    fn closed(&mut self, reason: &str, host: &mut dyn Host, registry: &Registry) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        deregister(registry, &mut connection.stream);
        close_backend(registry, connection.backend);
        self.refused_before += connection.session.refused();
        if let Some(error) = connection.session.last_error() {
            self.last_error = Some(error.to_owned());
        }
        self.last_disconnect = Some(reason.to_owned());
        log::info!("attachment={} session over, reason={reason}", self.index.0);
        host.disconnected(self.index, reason);
    }

    /// Keeps the record of what the session waits for.
    fn watch_wait(&mut self) {
        let waiting = self
            .connection
            .as_ref()
            .and_then(|connection| connection.session.waiting());
        let Some(on) = waiting.map(|waiting| waiting.to_string()) else {
            self.wait = None;
            return;
        };
        let wait = self.wait.get_or_insert_with(|| WaitReport {
            on: String::new(),
            since: Instant::now(),
            overdue: false,
        });
        wait.on = on;
        if !wait.overdue && wait.since.elapsed() >= DRAIN_OVERDUE {
            wait.overdue = true;
            log::warn!(
                "attachment={} {} for {} s",
                self.index.0,
                wait.on,
                wait.since.elapsed().as_secs()
            );
        }
    }
}

/// The three tokens of an attachment: listener, connection, back-end channel.
pub(super) fn tokens(index: AttachmentIndex) -> [Token; 3] {
    [0, 1, 2].map(|kind| Token(index.usize() * 4 + kind))
}

/// The attachment a token belongs to.
pub(super) fn attachment_of(token: Token) -> Option<AttachmentIndex> {
    u16::try_from(token.0 / 4).ok().map(AttachmentIndex)
}

fn deregister(registry: &Registry, source: &mut impl mio::event::Source) {
    // Closing a descriptor takes it off the watch as well; this is for descriptors the peer holds a copy of.
    if let Err(error) = registry.deregister(source) {
        log::debug!("a socket could not be taken off the watch, error={error}");
    }
}

fn close_backend(registry: &Registry, backend: Option<Backend>) {
    if let Some(backend) = backend {
        deregister(registry, &mut SourceFd(&backend.socket.as_raw_fd()));
    }
}
