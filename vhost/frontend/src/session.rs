//! One front-end's session: what it has negotiated and set up, and what follows from each message.
//!
//! The session owns no socket, no clock and no thread. It takes messages and the engine's word that a queue has
//! stopped, and gives [`SessionAction`]s, to be carried out in order. The only system calls it makes are the mapping of
//! memory that a message brings and the duplication of its descriptors.
//!
//! Nothing is ever changed under a running queue. A message that changes what a queue stands on first stops the
//! queues concerned; when the engine has drained them it is carried out, and every ring that is complete runs
//! again from where it was:
//!
//! ```text
//!            message concerns running queues          last of them has stopped
//!   ready ------------------------------------> waiting ------------------------> ready
//!     |  ^                                        |       (message carried out,
//!     |  | message concerns none:                 |        rings started, reply)
//!     +--+ carried out at once                    |
//!     |                  disconnect               | disconnect (message dropped)
//!     +------------------------------> closing <--+
//!                                         | last queue has stopped
//!                                         v
//!                                      Action::Closed
//! ```
//!
//! While it is waiting, no further message may be given to it; the door leaves them in the socket.

mod execute;
mod refusal;
mod ring;

pub use refusal::SessionRefusal;

use crate::call::CallNotify;
use crate::codec::{Message, ProtocolError, Reply, config_changed_message, request};
use crate::features::protocol;
use crate::interrupts::Interrupts;
use palisade_memory::{DirtyLog, GuestMemory, InflightRegion, MemoryShare};
use palisade_sys::PeerEvent;
use palisade_virtio::blk::SERIAL_BYTES;
use palisade_virtio::{BlkQueue, ConfigSpace, QueueStats, VolumeGeometry};
use palisade_words::Sectors;
use ring::{Ring, Run};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What the session wants done.
#[derive(Debug)]
pub enum SessionAction {
    /// Send this to the front-end.
    Reply(Reply),
    /// From now on this is the guest's memory; `None` when the session lets go of it. No queue runs meanwhile.
    Memory(Option<Arc<GuestMemory>>),
    /// From now on every write is made stable before it is answered, or no longer. It may come while queues run.
    WriteThrough(bool),
    /// The guest has switched its write cache on or off. To be kept over resets and for the next session: a front-end
    /// does not say it again, and its guest still believes in it.
    WriteCache(bool),
    /// Serve this queue.
    StartQueue {
        /// Its number.
        index: u16,
        /// Its ring.
        queue: Box<BlkQueue<CallNotify>>,
        /// What the guest kicks; `None` when the front-end asks for polling.
        kick: Option<PeerEvent>,
    },
    /// Drain this queue, then say so with [`Session::queue_stopped`].
    StopQueue {
        /// Its number.
        index: u16,
    },
    /// Nobody waits any more for what this queue, which is being drained, has not begun: the session ends.
    LeaveQueue {
        /// Its number.
        index: u16,
    },
    /// The socket for our own requests; it takes the place of an earlier one.
    BackendChannel(OwnedFd),
    /// Send this on the socket for our own requests.
    BackendSend(Vec<u8>),
    /// The session is over: nothing runs, the memory has been let go.
    Closed {
        /// Why, in a sentence.
        reason: String,
    },
}

/// What a device offers to whoever connects.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What the guest sees of the volume; `geometry.queues` is the number of virtqueues.
    pub geometry: VolumeGeometry,
    /// Entries that a virtqueue is expected to have. A front-end may choose any power of two up to
    /// [`QUEUE_SIZE_MAX`](palisade_words::limits::QUEUE_SIZE_MAX).
    pub queue_size: u16,
    /// The permanent id of the volume: a machine that was served another one until now is refused.
    pub volume: u128,
    /// What GET_ID answers, filled up with zeroes.
    pub serial: [u8; SERIAL_BYTES],
    /// Whether the guest's write cache is on now, as the last [`SessionAction::WriteCache`] had it; at first that is
    /// `geometry.writeback`.
    pub write_cache: bool,
    /// Where each queue counts; they outlive sessions.
    pub stats: Arc<[Arc<QueueStats>]>,
    /// How its interrupts are given; it outlives sessions, too.
    pub interrupts: Arc<Interrupts>,
    /// What the front-end's memory is mapped from.
    pub share: Arc<MemoryShare>,
}

/// What the session is waiting for, with a name an operator can see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Queues that have not stopped.
    pub queues: Vec<u16>,
    /// What is held up: a message's name, or the end of the session.
    pub cause: &'static str,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "blocked on requests in flight in queues {:?}, needed for {}",
            self.queues, self.cause
        )
    }
}

/// What there is to say of one virtqueue.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct QueueReport {
    /// Its number.
    pub index: u16,
    /// Entries that the front-end has chosen, 0 before it has.
    pub size: u16,
    /// Whether it is served.
    pub running: bool,
    /// Why it does not start although the front-end has enabled it, in a sentence.
    pub cannot_start: Option<String>,
    /// It is served without in-flight tracking, so that a crash of this process may lose its requests: the region that
    /// the front-end keeps for it has fewer entries than the ring.
    pub untracked: bool,
}

/// One front-end's session.
#[derive(Debug)]
pub struct Session {
    offer: Offer,
    config: ConfigSpace,
    features: Option<u64>,
    /// Why no queue starts, whatever it has: the driver relies on features that are not offered.
    features_refused: Option<String>,
    protocol: u64,
    memory: Arc<GuestMemory>,
    log: Option<Arc<DirtyLog>>,
    inflight: Option<InflightRegion>,
    rings: Vec<Ring>,
    backend_channel: bool,
    /// The front-end may show the guest a size that is no longer true: it has not asked for it in this session, or
    /// was told of a new one while no queue ran (QEMU does not listen then).
    size_owed: bool,
    /// What the host was last told; `None` before it was told anything.
    write_through_told: Option<bool>,
    memory_told: bool,
    pending: Option<Pending>,
    closed: bool,
    refused: u64,
    first_error: Option<String>,
    last_error: Option<String>,
    served: bool,
}

/// What goes on when the queues have stopped.
#[derive(Debug)]
enum Pending {
    Message { message: Message, need_reply: bool },
    Close { reason: String },
}

/// What carrying out a message led to, if it was not refused.
enum Outcome {
    /// The message asks for this.
    Reply(Reply),
    /// It was done; to be acknowledged if the front-end wants that.
    Done,
}

impl Session {
    /// A session with a front-end that has just connected.
    pub fn new(offer: Offer) -> Session {
        let mut config = ConfigSpace::new(offer.geometry).for_rings_of(offer.queue_size);
        // A flag at its own place is always taken.
        let _ = config.write(ConfigSpace::WRITEBACK_OFFSET, &[offer.write_cache.into()]);
        Session {
            config,
            features: None,
            features_refused: None,
            protocol: 0,
            memory: GuestMemory::empty(),
            log: None,
            inflight: None,
            rings: (0..offer.geometry.queues).map(|_| Ring::default()).collect(),
            backend_channel: false,
            size_owed: true,
            write_through_told: None,
            memory_told: false,
            pending: None,
            closed: false,
            refused: 0,
            first_error: None,
            last_error: None,
            served: false,
            offer,
        }
    }

    /// Takes a message. The session must not be waiting.
    pub fn on_message(&mut self, message: Message, need_reply: bool, actions: &mut Vec<SessionAction>) {
        if self.closed || self.pending.is_some() {
            // The door's mistake, and a harmless one: the message is not carried out and not answered.
            debug_assert!(false, "{} came while the session was waiting", message.name());
            return;
        }
        let concerned = self.queues_concerned(&message);
        self.pending = Some(Pending::Message { message, need_reply });
        self.stop(concerned, actions);
        self.go_on(actions);
    }

    /// Takes the news that what came is not a message.
    pub fn on_protocol_error(
        &mut self,
        error: ProtocolError,
        need_reply: bool,
        actions: &mut Vec<SessionAction>,
    ) {
        if error.can_be_refused() && need_reply && self.has(protocol::REPLY_ACK) {
            self.note(error.to_string());
            actions.push(SessionAction::Reply(Reply::number(error.request, 1)));
        } else {
            self.note(error.to_string());
            self.disconnect(&error.to_string(), actions);
        }
    }

    /// Takes the news that a message came with a descriptor that was kept out, so that it cannot be carried out.
    pub fn on_kept_out(
        &mut self,
        request: u32,
        need_reply: bool,
        file: String,
        actions: &mut Vec<SessionAction>,
    ) {
        let acknowledge = need_reply && self.has(protocol::REPLY_ACK);
        let name = request::name(request).map_or_else(|| format!("request {request}"), str::to_owned);
        self.refuse(
            request,
            &name,
            SessionRefusal::KeptOut { file },
            acknowledge,
            actions,
        );
    }

    /// Ends the session because of what came; it counts as refused.
    pub fn refuse_all(&mut self, reason: &str, actions: &mut Vec<SessionAction>) {
        self.note(reason.to_owned());
        self.disconnect(reason, actions);
    }

    /// Takes the engine's word that a queue has been drained and is no longer touched. `next_available` is the
    /// position from which it would have gone on; `None` when the engine never had the queue.
    pub fn queue_stopped(
        &mut self,
        index: u16,
        next_available: Option<u16>,
        actions: &mut Vec<SessionAction>,
    ) {
        if let Some(ring) = self.rings.get_mut(usize::from(index))
            && ring.run == Run::Stopping
        {
            ring.run = Run::Stopped;
            ring.base = next_available.unwrap_or(ring.base);
            self.go_on(actions);
        }
    }

    /// Ends the session: all queues are stopped, then [`SessionAction::Closed`] comes. What the in-flight region remembers need
    /// not be begun any more.
    pub fn disconnect(&mut self, reason: &str, actions: &mut Vec<SessionAction>) {
        if self.closed || matches!(self.pending, Some(Pending::Close { .. })) {
            return;
        }
        self.pending = Some(Pending::Close {
            reason: reason.to_owned(),
        });
        let all = (0..self.offer.geometry.queues).collect();
        self.stop(all, actions);
        // Also those that a message was to stop: nobody will hear where their rings went on.
        let leave = |index| SessionAction::LeaveQueue { index };
        actions.extend(self.queues_in(Run::Stopping).into_iter().map(leave));
        self.go_on(actions);
    }

    /// The disk has another size: the guest is told, if the front-end has given us a way to.
    pub fn resize(&mut self, sectors: Sectors, actions: &mut Vec<SessionAction>) {
        self.config.set_sectors(sectors);
        self.offer.geometry.sectors = sectors;
        self.tell_size(actions);
        self.size_owed = true;
    }

    /// Gives the interrupts that reactors have left to the attachment's thread.
    pub fn give_interrupts(&self) {
        self.rings
            .iter()
            .for_each(|ring| ring.call.give_owed(&self.offer.interrupts));
    }

    /// What is being waited for, if anything.
    pub fn waiting(&self) -> Option<Waiting> {
        let cause = match self.pending.as_ref()? {
            Pending::Message { message, .. } => message.name(),
            Pending::Close { .. } => "the end of the session",
        };
        Some(Waiting {
            queues: self.queues_in(Run::Stopping),
            cause,
        })
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Virtio features the front-end has acknowledged; 0 before it has.
    pub fn features(&self) -> u64 {
        self.features.unwrap_or(0)
    }

    /// Protocol features the front-end has acknowledged.
    pub fn protocol_features(&self) -> u64 {
        self.protocol
    }

    /// Queues that run now.
    pub fn queues_running(&self) -> Vec<u16> {
        self.queues_in(Run::Running)
    }

    /// What there is to say of each virtqueue.
    pub fn queues(&self) -> Vec<QueueReport> {
        let report = |(index, ring): (u16, &Ring)| {
            let why = match (&self.features_refused, &ring.refused) {
                _ if ring.run != Run::Stopped || !ring.enabled => None,
                (Some(sentence), _) | (None, Some((_, sentence))) => Some(sentence),
                (None, None) => ring.cannot_start.as_ref(),
            };
            QueueReport {
                index,
                size: ring.size,
                running: ring.run == Run::Running,
                cannot_start: why.cloned(),
                untracked: ring.untracked,
            }
        };
        (0..).zip(&self.rings).map(report).collect()
    }

    /// Messages refused so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What the front-end did wrong first, in a sentence.
    pub fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Whether any queue has run.
    pub fn has_served(&self) -> bool {
        self.served
    }

    /// What the front-end last did wrong, in a sentence.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Tells the front-end to look at the configuration space again, if there is a way to.
    fn tell_size(&self, actions: &mut Vec<SessionAction>) {
        let told = self.has(protocol::BACKEND_REQ) && self.has(protocol::CONFIG) && self.backend_channel;
        if told && !self.closed {
            actions.push(SessionAction::BackendSend(config_changed_message()));
        }
    }

    /// Goes on with what is pending once no queue is stopping.
    fn go_on(&mut self, actions: &mut Vec<SessionAction>) {
        if self.rings.iter().any(|ring| ring.run == Run::Stopping) {
            return;
        }
        match self.pending.take() {
            Some(Pending::Message { message, need_reply }) => self.carry_out(message, need_reply, actions),
            Some(Pending::Close { reason }) => self.finish(reason, actions),
            None => {}
        }
    }

    fn carry_out(&mut self, message: Message, need_reply: bool, actions: &mut Vec<SessionAction>) {
        let (request, name, ring) = (message.request(), message.name(), message.sets_up_ring());
        let outcome = self.execute(message, actions);
        // What was negotiated by this very message counts already, as with the other back-ends.
        let acknowledge = need_reply && self.has(protocol::REPLY_ACK);
        let unheard = match &outcome {
            Err(refusal) if !acknowledge => Some(format!("{name}: {refusal}")),
            Err(_) | Ok(_) => None,
        };
        self.note_unset(request, ring, unheard);
        self.start_complete_rings(actions);
        match outcome {
            Ok(Outcome::Reply(reply)) => actions.push(SessionAction::Reply(reply)),
            Ok(Outcome::Done) if acknowledge => actions.push(SessionAction::Reply(Reply::number(request, 0))),
            Ok(Outcome::Done) => {}
            Err(refusal) => self.refuse(request, name, refusal, acknowledge, actions),
        }
    }

    fn refuse(
        &mut self,
        request: u32,
        name: &str,
        refusal: SessionRefusal,
        acknowledge: bool,
        actions: &mut Vec<SessionAction>,
    ) {
        let sentence = format!("{name}: {refusal}");
        self.note(sentence.clone());
        if acknowledge && !execute::has_own_reply(request) {
            actions.push(SessionAction::Reply(Reply::number(request, 1)));
        } else if refusal.leaves_session() {
            log::debug!("a refusal that nobody asked to hear of leaves the session: {sentence}");
        } else {
            self.disconnect(&sentence, actions);
        }
    }

    /// A front-end that does not hear that something was refused believes it to be in force: nothing may run on what was
    /// there before.
    fn note_unset(&mut self, request: u32, ring: Option<u32>, unheard: Option<String>) {
        if request == request::SET_FEATURES {
            self.features_refused = unheard;
        } else if let Some(ring) = ring.and_then(|index| self.rings.get_mut(index as usize)) {
            ring.note(request, unheard);
        }
    }

    fn finish(&mut self, reason: String, actions: &mut Vec<SessionAction>) {
        self.closed = true;
        self.memory = GuestMemory::empty();
        self.log = None;
        self.inflight = None;
        self.rings.clear();
        if std::mem::take(&mut self.memory_told) {
            actions.push(SessionAction::Memory(None));
        }
        actions.push(SessionAction::Closed { reason });
    }

    /// Stops those of the queues that run.
    fn stop(&mut self, queues: Vec<u16>, actions: &mut Vec<SessionAction>) {
        for index in queues {
            if let Some(ring) = self.rings.get_mut(usize::from(index))
                && ring.run == Run::Running
            {
                ring.run = Run::Stopping;
                actions.push(SessionAction::StopQueue { index });
            }
        }
    }

    fn queues_in(&self, run: Run) -> Vec<u16> {
        (0..)
            .zip(&self.rings)
            .filter(|(_, ring)| ring.run == run)
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether a protocol feature has been negotiated.
    fn has(&self, feature: u64) -> bool {
        self.protocol & feature != 0
    }

    fn note(&mut self, sentence: String) {
        self.refused += 1;
        self.first_error.get_or_insert_with(|| sentence.clone());
        self.last_error = Some(sentence);
    }
}
