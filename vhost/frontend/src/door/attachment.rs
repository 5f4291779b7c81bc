//! One attachment: its socket, and at most one session on it. All of it happens on the attachment's own thread.

use super::connection::{Input, Next, Output};
use super::gate::Gate;
use super::pace::Pace;
use super::receiving::{Limits, Receiving};
use super::report::{SessionReport, WaitReport};
use super::stalls::Stalls;
use super::waiting_room::WaitingRoom;
use super::{AttachError, AttachmentSpec, DoorSettings};
use crate::codec::Reply;
use crate::features;
use crate::interrupts::Interrupts;
use crate::session::{Offer, Session, SessionAction};
use crate::shortage;
use crate::socket_file::{SocketFile, SocketOwner};
use mio::net::{UnixListener, UnixStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, Waker};
use palisade_virtio::QueueStats;
use palisade_words::{AttachmentIndex, Sectors};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

// What the thread's poll tells of.
const LISTENER: Token = Token(0);
const CONNECTION: Token = Token(1);
const BACKEND: Token = Token(2);
pub(super) const WAITING: Token = Token(3);

/// Messages taken from a front-end before the supervisor's orders are looked at again.
const MESSAGES_PER_TURN: usize = 64;

/// A drain that lasts longer than this is reported as overdue. It is the time after which a Linux guest itself
/// begins to report a hung disk, halved. The wait goes on: memory under a device's hand cannot be let go.
const DRAIN_OVERDUE: Duration = Duration::from_secs(60);

/// How long to wait when a connection could not be taken: mostly for lack of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// How long to wait while the door is held shut, for whoever decides whether the attachment stays.
const HELD_SHUT_AGAIN: Duration = Duration::from_millis(50);

/// One attachment.
pub(super) struct Attachment {
    index: AttachmentIndex,
    path: PathBuf,
    owner: SocketOwner,
    gate: Arc<Gate>,
    offer: Offer,
    receiving: Receiving,
    /// Not there before the socket is in its place, and when the attachment is leaving.
    listener: Option<UnixListener>,
    leaving: bool,
    connection: Option<Connection>,
    /// Who has come while somebody is connected.
    room: WaitingRoom,
    /// When to look again for who comes while somebody is connected.
    room_again: Option<Instant>,
    connections: u64,
    refused_before: u64,
    refused_sessions: u64,
    first_refusal: Option<String>,
    last_error: Option<String>,
    last_disconnect: Option<String>,
    wait: Option<WaitReport>,
    /// When to try again to take a connection, after a failure.
    accept_again: Option<Instant>,
    /// When the next message is read, when they come too fast.
    read_again: Option<Instant>,
    messages: Pace,
    connects: Pace,
    stalls: Stalls,
    /// Since when the front-end has been in the middle of a message, or has said nothing at all.
    silent: Option<Instant>,
}

/// A front-end and the session with it.
#[derive(Debug)]
struct Connection {
    stream: Arc<UnixStream>,
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
    /// One that is not on offer yet.
    pub(super) fn new(
        spec: AttachmentSpec,
        gate: Arc<Gate>,
        limits: Limits,
        settings: &DoorSettings,
    ) -> Attachment {
        let (now, rates) = (Instant::now(), settings.rates);
        let stats: Vec<_> = (0..spec.geometry.queues)
            .map(|_| Arc::new(QueueStats::default()))
            .collect();
        Attachment {
            index: spec.index,
            path: spec.path,
            owner: spec.owner,
            receiving: Receiving::new(spec.name, limits),
            gate,
            offer: Offer {
                geometry: spec.geometry,
                queue_size: spec.queue_size_max,
                serial: spec.serial,
                write_cache: spec.geometry.writeback,
                stats: stats.into(),
                interrupts: Arc::new(Interrupts::measured()),
                share: spec.share,
                volume: spec.volume,
            },
            listener: None,
            leaving: false,
            connection: None,
            room: WaitingRoom::default(),
            room_again: None,
            connections: 0,
            refused_before: 0,
            refused_sessions: 0,
            first_refusal: None,
            last_error: None,
            last_disconnect: None,
            wait: None,
            accept_again: None,
            read_again: None,
            messages: Pace::new(rates.messages_per_s, now),
            connects: Pace::new(rates.connects_per_s, now),
            stalls: Stalls::new(settings.stalled_max),
            silent: None,
        }
    }

    /// Lets its thread be woken for interrupts that are left to it.
    pub(super) fn wake_by(&self, waker: Arc<Waker>) {
        self.offer.interrupts.wake_by(waker);
    }

    /// Its name on this node.
    pub(super) fn index(&self) -> AttachmentIndex {
        self.index
    }

    /// Puts the socket in its place.
    pub(super) fn offer(&mut self, registry: &Registry) -> Result<(), AttachError> {
        let (file, listener) = SocketFile::bind(&self.path, self.owner).map_err(AttachError::Bind)?;
        let mut listener = UnixListener::from_std(listener);
        registry
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(AttachError::Watch)?;
        self.listener = Some(listener);
        self.gate.offered(file);
        Ok(())
    }

    /// Others may connect from now on, by the socket in its place and by each that comes there later.
    pub(super) fn change_owner(&mut self, owner: SocketOwner) {
        self.owner = owner;
        if let Err(error) = self.gate.change_owner(owner) {
            log::warn!(
                "attachment={} who may connect to its socket cannot be changed, error={error}",
                self.gate.name()
            );
        }
    }

    /// Puts the socket back into its place, from where somebody has taken it. Whoever is connected stays so.
    pub(super) fn restore(&mut self, registry: &Registry) {
        if self.leaving || self.listener.is_none() {
            return;
        }
        let before = self.listener.take();
        match self.offer(registry) {
            Ok(()) => {
                if let Some(mut listener) = before {
                    deregister(registry, &mut listener);
                }
                log::info!("attachment={} its socket is back in its place", self.gate.name());
            }
            Err(error) => {
                self.listener = before;
                self.last_error = Some(format!("the socket cannot be put back: {error}"));
            }
        }
    }

    /// Lets go of the session and the socket without a word to the host: both were ended from outside.
    pub(super) fn forget(&mut self, registry: &Registry) {
        if let Some(mut listener) = self.listener.take() {
            deregister(registry, &mut listener);
        }
        if let Some(connection) = self.connection.take() {
            deregister(registry, &mut SourceFd(&connection.stream.as_raw_fd()));
            close_backend(registry, connection.backend);
            self.refused_before += connection.session.refused();
        }
        self.room.clear(registry);
        self.receiving.end();
        self.wait = None;
        self.accept_again = None;
    }

    /// Notes why it is not on offer.
    pub(super) fn failed(&mut self, reason: &str) {
        self.last_error = Some(reason.to_owned());
    }

    /// Does what can be done now: finishes sending, reads messages, takes the next connection.
    pub(super) fn turn(&mut self, registry: &Registry) -> Turn {
        match &self.connection {
            None => self.accept(registry),
            Some(connection) => {
                connection.session.give_interrupts();
                self.fill_room(registry);
            }
        }
        let turn = match self.connection {
            Some(_) => self.serve(registry),
            None => Turn::Idle,
        };
        self.watch_wait();
        self.watch_silence();
        self.receiving.look();
        match self.connection {
            None if self.leaving => Turn::Gone,
            _ => turn,
        }
    }

    /// A queue has been given back, drained.
    pub(super) fn queue_stopped(&mut self, queue: u16, next_avail: Option<u16>, registry: &Registry) {
        let mut actions = Vec::new();
        if let Some(connection) = &mut self.connection {
            connection.session.give_interrupts();
            if let Some(waiting) = connection.session.waiting() {
                self.gate.begin(waiting.cause);
            }
            connection.session.queue_stopped(queue, next_avail, &mut actions);
        }
        self.act(actions, registry);
    }

    /// The volume has another size, for the guest that is connected and all that will be.
    pub(super) fn resize(&mut self, sectors: Sectors, registry: &Registry) {
        self.offer.geometry.sectors = sectors;
        let mut actions = Vec::new();
        if let Some(connection) = &mut self.connection {
            connection.session.resize(sectors, &mut actions);
        }
        self.act(actions, registry);
    }

    /// What a reactor did for it took long.
    pub(super) fn stalled(&mut self, held: Duration, waited: Duration, registry: &Registry) {
        if let Some(reason) = self.stalls.add(held, waited, Instant::now()) {
            log::warn!("attachment={} {reason}", self.gate.name());
            self.disconnect(&reason, registry);
        }
    }

    /// Takes the socket away and ends the session.
    pub(super) fn leave(&mut self, reason: &str, registry: &Registry) {
        self.close_entrance(registry);
        self.gate.withdraw();
        self.disconnect(reason, registry);
    }

    /// Takes the socket away. The session goes on for as long as the front-end wants it to.
    pub(super) fn give_up(&mut self, registry: &Registry) {
        self.close_entrance(registry);
        self.gate.give_up();
    }

    fn close_entrance(&mut self, registry: &Registry) {
        self.leaving = true;
        self.room.clear(registry);
        if let Some(mut listener) = self.listener.take() {
            deregister(registry, &mut listener);
        }
    }

    /// When this attachment must be looked at again without an event.
    pub(super) fn next_look(&self) -> Option<Instant> {
        if self.accept_again.is_some() {
            return self.accept_again;
        }
        let overdue = self
            .wait
            .as_ref()
            .filter(|wait| !wait.overdue)
            .map(|wait| wait.since + DRAIN_OVERDUE);
        let looks = [
            overdue,
            self.receiving.next_look(),
            self.read_again,
            self.room_again,
        ];
        looks.into_iter().flatten().min()
    }

    /// What an operator is shown.
    pub(super) fn report(&mut self) -> SessionReport {
        let mut report = SessionReport {
            name: self.gate.name().to_owned(),
            connected: self.connection.is_some(),
            socket: self.gate.socket_inode(),
            connections: self.connections,
            waiting: self.wait.clone(),
            silent: self.silent,
            next_waits: self.connection.as_ref().and_then(|_| self.room.since()),
            hanging: self.receiving.report(),
            mapped: self
                .offer
                .share
                .limits()
                .map(|limits| (self.offer.share.mapped(), limits)),
            interrupts_dear: self.offer.interrupts.are_dear(),
            messages: self.messages.report(Instant::now()),
            connects: self.connects.report(Instant::now()),
            stalls: self.stalls.report(),
            messages_refused: self.refused_before,
            refused_sessions: self.refused_sessions,
            first_refusal: self.first_refusal.clone(),
            last_error: self.last_error.clone(),
            last_disconnect: self.last_disconnect.clone(),
            leaving: self.leaving,
            queue_stats: self.stats(),
            ..SessionReport::default()
        };
        if let Some(Connection { session, .. }) = &self.connection {
            report.features = features::virtio_names(session.features());
            report.protocol_features = features::protocol_names(session.protocol_features());
            report.queues_running = session.queues_running();
            report.queues = session.queues();
            if session.has_served() {
                report.refused_sessions = 0;
                report.first_refusal = None;
            }
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

    /// Takes in who has come while somebody is connected, and lets go of who has gone: seen, and not served before its turn.
    fn fill_room(&mut self, registry: &Registry) {
        self.room_again = None;
        while self.room.is_empty_now(registry) {
            let Some(listener) = &self.listener else { return };
            if let Err(at) = self.connects.ready(Instant::now()) {
                self.room_again = Some(at);
                return;
            }
            match self.room.take_in(listener, registry) {
                Ok(()) => self.connects.count(Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.connects.nobody(),
                Err(error) => {
                    shortage::is_met_by(&error);
                    self.room_again = Some(Instant::now() + ACCEPT_AGAIN);
                    return;
                }
            }
        }
    }

    /// Takes the next connection. Others wait until this one is over: one in the room for it, and the rest in the backlog.
    fn accept(&mut self, registry: &Registry) {
        let Some(listener) = &self.listener else { return };
        self.accept_again = None;
        self.room_again = None;
        // Whoever is in the room for the next waits there, the others in the backlog.
        if let Some(until) = self.stalls.held_off_until(Instant::now()) {
            self.accept_again = Some(until);
            return;
        }
        let is_in_room = !self.room.is_empty_now(registry);
        if !is_in_room && let Err(at) = self.connects.ready(Instant::now()) {
            self.accept_again = Some(at);
            return;
        }
        // Before it is taken, so that whoever looks sees it before it has done anything.
        if !self.gate.admits() {
            self.accept_again = Some(Instant::now() + HELD_SHUT_AGAIN);
            return;
        }
        let called = self.room.call_in(registry);
        let taken = called.map_or_else(|| listener.accept().map(|(stream, _)| stream), Ok);
        let mut stream = match taken {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.connects.nobody();
                return self.gate.turned_away();
            }
            Err(error) => {
                self.gate.turned_away();
                shortage::is_met_by(&error);
                log::warn!(
                    "attachment={} a connection cannot be taken, tried again, error={error}",
                    self.gate.name()
                );
                self.accept_again = Some(Instant::now() + ACCEPT_AGAIN);
                return;
            }
        };
        if let Err(error) =
            registry.register(&mut stream, CONNECTION, Interest::READABLE | Interest::WRITABLE)
        {
            log::warn!(
                "attachment={} a connection cannot be watched, error={error}",
                self.gate.name()
            );
            self.gate.turned_away();
            return;
        }
        let stream = Arc::new(stream);
        self.connections += 1;
        if !is_in_room {
            self.connects.count(Instant::now());
        }
        log::info!("attachment={} a virtual machine has connected", self.gate.name());
        self.connection = Some(Connection {
            stream: Arc::clone(&stream),
            input: Input::new(),
            output: Output::default(),
            session: Session::new(self.offer.clone()),
            backend: None,
        });
        self.gate.connected(&stream);
    }

    /// Sends what is left and takes messages until there are none, the session waits, or others should have a turn.
    fn serve(&mut self, registry: &Registry) -> Turn {
        self.flush(registry);
        self.read_again = None;
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
            if let Err(at) = self.messages.ready(Instant::now()) {
                self.read_again = Some(at);
                return Turn::Idle;
            }
            let mut actions = Vec::new();
            let next = connection.input.next(&*connection.stream, &mut self.receiving);
            match &next {
                Next::Later | Next::Over(_) => self.messages.nobody(),
                Next::Message(..) | Next::KeptOut { .. } | Next::Refused(_) => {
                    self.messages.count(Instant::now())
                }
            }
            match next {
                Next::Later => return Turn::Idle,
                Next::Message(Ok(message), need_reply) => {
                    self.gate.begin(message.name());
                    connection.session.on_message(message, need_reply, &mut actions);
                }
                Next::Message(Err(error), need_reply) => {
                    connection
                        .session
                        .on_protocol_error(error, need_reply, &mut actions);
                }
                Next::KeptOut {
                    request,
                    need_reply,
                    file,
                } => connection
                    .session
                    .on_kept_out(request, need_reply, file, &mut actions),
                Next::Refused(reason) => connection.session.refuse_all(&reason, &mut actions),
                Next::Over(reason) => connection.session.disconnect(&reason, &mut actions),
            }
            self.act(actions, registry);
        }
        Turn::Again
    }

    fn flush(&mut self, registry: &Registry) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if let Some(backend) = &mut connection.backend
            && let Err(error) = backend.output.flush(&backend.socket)
        {
            log::warn!(
                "attachment={} the back-end channel is of no more use, error={error}",
                self.gate.name()
            );
            close_backend(registry, connection.backend.take());
        }
        if let Err(error) = connection.output.flush(&*connection.stream) {
            self.disconnect(&format!("sending to the front-end failed: {error}"), registry);
        }
    }

    fn disconnect(&mut self, reason: &str, registry: &Registry) {
        let mut actions = Vec::new();
        if let Some(connection) = &mut self.connection {
            connection.session.disconnect(reason, &mut actions);
        }
        self.act(actions, registry);
    }

    /// Carries out what the session wants.
    fn act(&mut self, actions: Vec<SessionAction>, registry: &Registry) {
        for action in actions {
            match action {
                SessionAction::Memory(memory) => self.gate.memory(memory),
                SessionAction::WriteThrough(on) => self.gate.write_through(on),
                SessionAction::WriteCache(on) => {
                    self.offer.write_cache = on;
                    self.gate.write_cache(on);
                }
                SessionAction::StartQueue { index, queue, kick } => self.gate.start_queue(index, queue, kick),
                SessionAction::StopQueue { index } => self.gate.stop_queue(index),
                SessionAction::LeaveQueue { index } => self.gate.leave_queue(index),
                SessionAction::Reply(reply) => self.reply(reply, registry),
                SessionAction::BackendChannel(socket) => self.open_backend(socket, registry),
                SessionAction::BackendSend(bytes) => self.send_backend(bytes, registry),
                SessionAction::Closed { reason } => self.closed(&reason, registry),
            }
        }
    }

    fn reply(&mut self, reply: Reply, registry: &Registry) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if connection.output.push(reply) {
            self.flush(registry);
        } else {
            self.disconnect("the front-end does not read its replies", registry);
        }
    }

    fn open_backend(&mut self, socket: OwnedFd, registry: &Registry) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        close_backend(registry, connection.backend.take());
        match registry.register(&mut SourceFd(&socket.as_raw_fd()), BACKEND, Interest::WRITABLE) {
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
    fn send_backend(&mut self, bytes: Vec<u8>, registry: &Registry) {
        let backend = self
            .connection
            .as_mut()
            .and_then(|connection| connection.backend.as_mut());
        if let Some(backend) = backend
            && backend.output.len() < 2
        {
            backend.output.push(Reply { bytes, fd: None });
            self.flush(registry);
        }
    }

    fn closed(&mut self, reason: &str, registry: &Registry) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        deregister(registry, &mut SourceFd(&connection.stream.as_raw_fd()));
        close_backend(registry, connection.backend);
        // The process that receives for it has a hold on the connection, too, and may keep it for long.
        if let Err(error) = connection.stream.shutdown(Shutdown::Both) {
            log::debug!("a connection has gone already, error={error}");
        }
        self.receiving.end();
        self.refused_before += connection.session.refused();
        if connection.session.has_served() {
            self.refused_sessions = 0;
            self.first_refusal = None;
        } else if connection.session.refused() > 0 {
            self.refused_sessions += 1;
            let cause = connection.session.first_error().unwrap_or(reason);
            self.first_refusal.get_or_insert_with(|| cause.to_owned());
        }
        if let Some(error) = connection.session.last_error() {
            self.last_error = Some(error.to_owned());
        }
        self.last_disconnect = Some(reason.to_owned());
        log::info!("attachment={} session over, reason={reason}", self.gate.name());
        self.gate.disconnected(reason);
    }

    /// Keeps the record of a message that does not end, or never began.
    fn watch_silence(&mut self) {
        let unfinished = self
            .connection
            .as_ref()
            .is_some_and(|connection| connection.input.is_unfinished());
        self.silent = match unfinished {
            true => self.silent.or_else(|| Some(Instant::now())),
            false => None,
        };
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
                self.gate.name(),
                wait.on,
                wait.since.elapsed().as_secs()
            );
        }
    }
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
