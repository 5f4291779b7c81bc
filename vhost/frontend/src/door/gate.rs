//! What stands between one attachment's thread and the rest of the house. The thread does everything that touches what
//! a virtual machine monitor gave us, and may hang in it; then the supervisor closes the gate, and from there on speaks
//! for the session in its place: stops its queues, takes its memory back, ends it. What the thread still says afterwards
//! is not passed on, until the gate is opened anew for it.

use super::admission::Admission;
use super::host::Host;
use super::report::{Reports, SessionReport, StuckReport};
use crate::call::CallNotify;
use crate::socket_file::{self, SocketFile, SocketInode, SocketOwner};
use mio::net::UnixStream;
use palisade_memory::GuestMemory;
use palisade_sys::PeerEvent;
use palisade_virtio::BlkQueue;
use palisade_words::{AttachmentIndex, QueueId};
use std::collections::BTreeSet;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The gate of one attachment. Its lock is held for moments: nobody does under it what can wait.
pub(super) struct Gate {
    index: AttachmentIndex,
    name: String,
    host: Arc<dyn Host>,
    reports: Reports,
    admission: Admission,
    state: Mutex<State>,
}

struct State {
    /// Whether the thread is listened to.
    open: bool,
    /// The step the thread is in, and since when; `None` while it waits for events.
    step: Option<(&'static str, Instant)>,
    /// How often the thread has begun to wait for events: tells one wait from the next.
    sleeps: u64,
    /// Queues the host has, and has not been asked to give back.
    running: BTreeSet<u16>,
    /// Queues the host has been asked for.
    stopping: BTreeSet<u16>,
    connected: bool,
    /// Whether the name is still its own: whoever is connected is in by that name.
    named: bool,
    memory: bool,
    /// Why the session was ended from outside; said when the last queue is back.
    ending: Option<String>,
    socket: Option<SocketFile>,
    stream: Option<Arc<UnixStream>>,
}

impl Gate {
    pub(super) fn new(
        index: AttachmentIndex,
        name: String,
        host: Arc<dyn Host>,
        reports: Reports,
        admission: Admission,
    ) -> Gate {
        let state = State {
            open: true,
            step: None,
            sleeps: 0,
            running: BTreeSet::new(),
            stopping: BTreeSet::new(),
            connected: false,
            named: true,
            memory: false,
            ending: None,
            socket: None,
            stream: None,
        };
        Gate {
            index,
            name,
            host,
            reports,
            admission,
            state: Mutex::new(state),
        }
    }

    /// What people call the attachment.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    // For the attachment's own thread.

    /// A bounded step begins: what it is, for who asks what takes so long.
    pub(super) fn begin(&self, step: &'static str) {
        self.state().step = Some((step, Instant::now()));
    }

    /// The step is over, and the thread waits for its next event. False when the gate has been closed meanwhile.
    pub(super) fn end(&self) -> bool {
        let mut state = self.state();
        state.step = None;
        state.sleeps += 1;
        state.open
    }

    /// Whether the thread is listened to.
    pub(super) fn is_open(&self) -> bool {
        self.state().open
    }

    pub(super) fn put_report(&self, report: SessionReport) {
        let state = self.state();
        if state.open {
            self.reports.put(self.index, report);
        }
    }

    /// The socket is in its place.
    pub(super) fn offered(&self, socket: SocketFile) {
        let mut state = self.state();
        // A thread that is no longer listened to puts no socket in place: it is taken away again.
        state.socket = state.open.then_some(socket);
    }

    /// Which file the socket's is, while there is one.
    pub(super) fn socket_inode(&self) -> Option<SocketInode> {
        self.state().socket.as_ref().and_then(SocketFile::inode)
    }

    /// Lets others connect to the socket, if it is in its place.
    pub(super) fn change_owner(&self, owner: SocketOwner) -> io::Result<()> {
        let Some((path, inode)) = self.state().socket.as_ref().map(SocketFile::place) else {
            return Ok(());
        };
        socket_file::change_owner(&path, inode, owner)
    }

    /// Takes the socket's file away.
    pub(super) fn withdraw(&self) {
        self.state().socket = None;
    }

    /// Takes the socket's file away and gives up the name; whoever is connected stays so.
    pub(super) fn give_up(&self) {
        let mut state = self.state();
        state.socket = None;
        self.leave(&state);
        if std::mem::take(&mut state.named) && state.open && state.connected {
            self.host.given_up(self.index);
        }
    }

    /// Whether a virtual machine that comes may be let in now. If so nobody is told that none is connected until
    /// [`Gate::connected`] or [`Gate::turned_away`] follows.
    pub(super) fn admits(&self) -> bool {
        self.admission.enter(&self.name)
    }

    /// The one that was let in did not get so far.
    pub(super) fn turned_away(&self) {
        self.admission.leave(&self.name);
    }

    pub(super) fn connected(&self, stream: &Arc<UnixStream>) {
        let mut state = self.state();
        if state.named {
            self.admission.entered(&self.name);
        }
        if state.open {
            state.connected = true;
            state.stream = Some(Arc::clone(stream));
            self.host.connected(self.index);
        }
    }

    pub(super) fn memory(&self, memory: Option<Arc<GuestMemory>>) {
        let mut state = self.state();
        if state.open {
            state.memory = memory.is_some();
            self.host.memory(self.index, memory);
        }
    }

    pub(super) fn write_through(&self, on: bool) {
        if self.is_open() {
            self.host.write_through(self.index, on);
        }
    }

    pub(super) fn write_cache(&self, on: bool) {
        if self.is_open() {
            self.host.write_cache(self.index, on);
        }
    }

    pub(super) fn start_queue(&self, queue: u16, source: Box<BlkQueue<CallNotify>>, kick: Option<PeerEvent>) {
        let mut state = self.state();
        if state.open {
            state.running.insert(queue);
            self.host.start_queue(self.id(queue), source, kick);
        }
    }

    pub(super) fn stop_queue(&self, queue: u16) {
        let mut state = self.state();
        if state.open && state.running.remove(&queue) {
            state.stopping.insert(queue);
            self.host.stop_queue(self.id(queue));
        }
    }

    pub(super) fn leave_queue(&self, queue: u16) {
        let state = self.state();
        if state.open && state.stopping.contains(&queue) {
            self.host.leave_queue(self.id(queue));
        }
    }

    pub(super) fn disconnected(&self, reason: &str) {
        let mut state = self.state();
        state.stream = None;
        self.leave(&state);
        if state.open {
            state.connected = false;
            self.host.disconnected(self.index, reason);
        }
    }

    // For the supervisor.

    /// The step that has lasted longer than `deadline`, with its age.
    pub(super) fn overdue(&self, deadline: Duration) -> Option<(&'static str, Duration)> {
        let state = self.state();
        let (step, since) = state.step?;
        let age = since.elapsed();
        (state.open && age >= deadline).then_some((step, age))
    }

    /// Which of its waits for events the thread is in, if it is listened to and waits. Two looks that give the same number
    /// have no step between them.
    pub(super) fn sleep(&self) -> Option<u64> {
        let state = self.state();
        (state.open && state.step.is_none()).then_some(state.sleeps)
    }

    /// Closes the gate: the session is over, for the host and for the front-end, whatever its thread does.
    pub(super) fn close(&self, step: &'static str, reason: &str) {
        let mut state = self.state();
        if !std::mem::take(&mut state.open) {
            return;
        }
        state.socket = None;
        state.ending = Some(reason.to_owned());
        // Dropped where it harms nobody: descriptors that the front-end has sent and nobody has taken are closed with
        // the last one.
        if let Some(stream) = state.stream.take() {
            let cut = move || drop(stream.shutdown(Shutdown::Both));
            if let Err(error) = std::thread::Builder::new().name("cut-off".into()).spawn(cut) {
                log::warn!(
                    "attachment={} the connection stays open, error={error}",
                    self.name
                );
            }
        }
        let mut report = self.reports.get(self.index).unwrap_or_default();
        report.connected = false;
        report.socket = None;
        report.waiting = None;
        report.queues_running.clear();
        report.last_error = Some(reason.to_owned());
        report.last_disconnect = Some(reason.to_owned());
        let since = state.step.map_or_else(Instant::now, |(_, since)| since);
        report.stuck = Some(StuckReport { step, since });
        self.reports.put(self.index, report);
        self.host.stuck(self.index, reason);
        for queue in std::mem::take(&mut state.running) {
            state.stopping.insert(queue);
            self.host.stop_queue(self.id(queue));
        }
        for &queue in &state.stopping {
            self.host.leave_queue(self.id(queue));
        }
        self.finish(&mut state);
    }

    /// The host has given a queue back.
    pub(super) fn given_back(&self, queue: u16) {
        let mut state = self.state();
        state.stopping.remove(&queue);
        self.finish(&mut state);
    }

    /// Whether nothing of a session that was ended from outside is left with the host.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        !state.open && state.ending.is_none()
    }

    /// Listens to the thread again.
    pub(super) fn reopen(&self) {
        let mut state = self.state();
        state.open = true;
        state.step = None;
    }

    /// What the host is told at the end of a session that was ended from outside, once it has given all queues back.
    fn finish(&self, state: &mut State) {
        if state.open || !state.stopping.is_empty() {
            return;
        }
        let Some(reason) = state.ending.take() else { return };
        if std::mem::take(&mut state.memory) {
            self.host.memory(self.index, None);
        }
        self.leave(state);
        if std::mem::take(&mut state.connected) {
            self.host.disconnected(self.index, &reason);
        }
    }

    /// Whoever was in by the name is not any more. Once that has been given up it may be another's.
    fn leave(&self, state: &State) {
        if state.named {
            self.admission.leave(&self.name);
        }
    }

    fn id(&self, queue: u16) -> QueueId {
        QueueId {
            attachment: self.index,
            queue,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the host has been told, in order.
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Told {
        fn add(&self, what: String) {
            self.0.lock().unwrap().push(what);
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl Host for Told {
        fn connected(&self, _: AttachmentIndex) {}
        fn memory(&self, _: AttachmentIndex, _: Option<Arc<GuestMemory>>) {}
        fn write_through(&self, _: AttachmentIndex, _: bool) {}
        fn start_queue(&self, _: QueueId, _: Box<BlkQueue<CallNotify>>, _: Option<PeerEvent>) {}
        fn disconnected(&self, _: AttachmentIndex, _: &str) {}
        fn detached(&self, _: AttachmentIndex) {}

        fn stop_queue(&self, queue: QueueId) {
            self.add(format!("stop {}", queue.queue));
        }

        fn leave_queue(&self, queue: QueueId) {
            self.add(format!("leave {}", queue.queue));
        }
    }

    /// A gate behind which these queues run.
    fn with_queues(queues: &[u16]) -> (Arc<Told>, Gate) {
        let host = Arc::new(Told::default());
        let told = Arc::clone(&host);
        let gate = Gate::new(
            AttachmentIndex(7),
            "web1".into(),
            host,
            Reports::default(),
            Admission::default(),
        );
        gate.state().running.extend(queues);
        (told, gate)
    }

    #[test]
    fn only_a_queue_that_is_being_stopped_is_left() {
        let (told, gate) = with_queues(&[0, 1]);
        gate.leave_queue(0);
        gate.leave_queue(5);
        assert_eq!(told.take(), [""; 0], "it runs, or there is none");
        gate.stop_queue(0);
        gate.leave_queue(0);
        gate.leave_queue(1);
        assert_eq!(told.take(), ["stop 0", "leave 0"]);
        // The host has none of it any more.
        gate.given_back(0);
        gate.leave_queue(0);
        assert_eq!(told.take(), [""; 0]);
    }

    #[test]
    fn a_thread_that_is_not_listened_to_leaves_none_and_the_supervisor_leaves_all() {
        let (told, gate) = with_queues(&[0, 1]);
        gate.stop_queue(0);
        assert_eq!(told.take(), ["stop 0"]);
        let connected = SessionReport {
            connected: true,
            socket: Some((1, 2)),
            ..SessionReport::default()
        };
        gate.put_report(connected);
        gate.close("reading a message", "it hangs");
        let report = gate.reports.get(gate.index).unwrap();
        assert!(report.stuck.is_some() && !report.connected);
        assert_eq!(report.socket, None, "nobody else has taken the socket away");
        assert_eq!(told.take(), ["stop 1", "leave 0", "leave 1"]);
        gate.leave_queue(0);
        gate.stop_queue(1);
        assert_eq!(told.take(), [""; 0], "each is told once");
        assert!(!gate.is_over());
        [0, 1].iter().for_each(|queue| gate.given_back(*queue));
        assert!(gate.is_over());
    }
}
