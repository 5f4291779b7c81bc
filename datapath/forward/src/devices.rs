//! The devices of a reactor, those behind other nodes among them.

use crate::arena::PAYLOAD_BUFFER_BYTES;
use crate::links::{FrameLinks, LinkEvent};
use crate::node_session::{Around, NodeSession, SessionStanding};
use crate::order::{NodeDevice, PeerOrder, PeerReport, RemoteDisk, SESSIONS_MAX, SessionEnd, SessionPlace};
use crate::serving::ServedVolume;
use palisade_block::{DeviceLimits, Devices, Fault, Io, Lease, Nanos, Started};
use palisade_port::{Ends, SessionSettings};
use palisade_words::limits::DEVICES_MAX;
use palisade_words::{DeviceIndex, Epoch, Lba, MemoryId, PinnedId, Sectors, SlotIndex};
use std::collections::VecDeque;
use std::io;

/// Devices that lie in this machine (`D`), which carry its connections as well, and those behind other nodes.
#[derive(Debug)]
pub struct PeerDevices<D> {
    inner: D,
    remote: Box<[Option<RemoteDisk>]>,
    sessions: Vec<Option<NodeSession>>,
    now: Nanos,
    /// When a session wants to look at the clock.
    look_at: Option<Nanos>,
    /// The membership that this node knows.
    epoch: Epoch,
    /// What earlier runs of this node have submitted has landed.
    have_landed: bool,
    ended: Vec<(SlotIndex, Result<(), Fault>)>,
    reports: VecDeque<PeerReport>,
    /// Users of each memory that is kept.
    users: Vec<u32>,
}

/// Reports that a turn may have of one session: some of each link, and how it is.
const REPORTS: usize = 128;

impl<D: Devices + FrameLinks> PeerDevices<D> {
    /// Without any session yet.
    pub fn new(inner: D) -> PeerDevices<D> {
        PeerDevices {
            inner,
            remote: vec![None; DEVICES_MAX].into(),
            sessions: Vec::new(),
            now: Nanos(0),
            look_at: None,
            epoch: Epoch(0),
            have_landed: false,
            ended: Vec::new(),
            reports: VecDeque::new(),
            users: Vec::new(),
        }
    }

    /// What lies in this machine.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// The same, to be changed.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    /// Without what is beside it: the sessions are forgotten, as with the end of a process.
    pub fn into_inner(self) -> D {
        self.inner
    }

    /// Whether something has ended, or is to be sent, that the present turn came too late for: a sleep would be too long.
    fn has_more(&self) -> bool {
        !self.ended.is_empty() || self.sessions.iter().flatten().any(NodeSession::is_stirred)
    }

    /// Whether the books of all sessions agree with themselves; what does not, in words. Between two turns; not part of one.
    ///
    /// # Errors
    /// They do not, by a fault of this program.
    pub fn check(&self) -> Result<(), String> {
        self.sessions.iter().flatten().try_for_each(NodeSession::check)
    }

    /// How a session is, if there is one in that place.
    pub fn standing(&self, session: SessionPlace) -> Option<SessionStanding> {
        let session = self.sessions.get(usize::from(session.0))?.as_ref()?;
        Some(session.standing())
    }

    /// The places for sessions, and what a session has around it.
    fn parts(&mut self) -> (&mut [Option<NodeSession>], Around<'_, D>) {
        let around = Around {
            hands: &mut self.inner,
            now: self.now,
            ended: &mut self.ended,
            reports: &mut self.reports,
        };
        (&mut self.sessions, around)
    }

    /// Does something with a session, if there is one in that place.
    fn with(&mut self, place: SessionPlace, what: impl FnOnce(&mut NodeSession, &mut Around<'_, D>)) {
        let (sessions, mut around) = self.parts();
        let room = sessions.get_mut(usize::from(place.0));
        if let Some(session) = room.and_then(Option::as_mut) {
            what(session, &mut around);
        }
    }

    /// Does something with each session.
    fn each(&mut self, mut what: impl FnMut(&mut NodeSession, &mut Around<'_, D>)) {
        let (sessions, mut around) = self.parts();
        for session in sessions.iter_mut().flatten() {
            what(session, &mut around);
        }
    }

    fn begin(&mut self, place: SessionPlace, ends: Ends, settings: SessionSettings, end: SessionEnd) {
        assert!(
            place.0 < SESSIONS_MAX,
            "there is no place {} for a session",
            place.0
        );
        if self.sessions.len() <= usize::from(place.0) {
            self.sessions.resize_with(usize::from(place.0) + 1, || None);
        }
        let (epoch, have_landed) = (self.epoch, self.have_landed);
        let (_, mut around) = self.parts();
        let mut session = NodeSession::new(place, ends, settings, end, &mut around);
        if let Ok(session) = &mut session {
            session.set_epoch(epoch);
            if have_landed {
                session.earlier_runs_landed(&mut around);
            }
        }
        if let Some(room) = self.sessions.get_mut(usize::from(place.0)) {
            assert!(room.is_none(), "place {} has a session already", place.0);
            match session {
                Ok(session) => *room = Some(session),
                // Whoever gives the order has looked at the settings.
                Err(error) => unreachable!("{error}"),
            }
        }
    }

    fn look(&mut self) {
        let looks = self.sessions.iter().flatten().filter_map(NodeSession::look_at);
        self.look_at = looks.min();
    }

    /// Allocates what the next turn may fill.
    fn make_room(&mut self) {
        let sessions = self.sessions.iter().flatten();
        let operations: usize = sessions.clone().map(NodeSession::operations).sum();
        self.reports.reserve(REPORTS * sessions.count());
        self.ended.reserve(operations);
    }

    /// Lets go of sessions that are over.
    fn settle(&mut self) {
        for place in 0..self.sessions.len() {
            let Some(room) = self.sessions.get_mut(place) else {
                continue;
            };
            if let Some(session) = room.take_if(|session| session.has_ended()) {
                self.inner.let_go(session.memory());
                let session = SessionPlace(place as u16);
                self.reports.push_back(PeerReport::Ended { session });
            }
        }
    }

    /// What has come by the connections, and what the engine has ended of other nodes' requests.
    fn take_in(&mut self) {
        while let Some(event) = self.inner.next_event() {
            let (place, user) = SessionPlace::of(place_of(&event));
            self.with(place, |session, around| session.happened(user, event, around));
        }
        self.each(|session, around| session.turn(around));
    }
}

impl<D: Devices + FrameLinks> Devices for PeerDevices<D> {
    type Opened = NodeDevice<D::Opened>;
    type Pinned = D::Pinned;
    type Kick = D::Kick;
    type Order = PeerOrder<D::Connection>;
    type Report = PeerReport;

    fn open(&mut self, device: DeviceIndex, opened: Self::Opened) -> io::Result<()> {
        match opened {
            NodeDevice::Local(opened) => self.inner.open(device, opened),
            NodeDevice::Remote(disk) => match self.remote.get_mut(device.usize()) {
                // It would be asked for what no frame carries, or for what is not stable when it is answered.
                Some(_) if disk.limits.io_bytes_max > PAYLOAD_BUFFER_BYTES || disk.limits.write_zeroes => {
                    Err(io::ErrorKind::InvalidInput.into())
                }
                Some(room) => {
                    *room = Some(disk);
                    Ok(())
                }
                None => Err(io::ErrorKind::InvalidInput.into()),
            },
        }
    }

    fn close(&mut self, device: DeviceIndex) {
        match self.remote.get_mut(device.usize()).and_then(Option::take) {
            Some(_) => {}
            None => self.inner.close(device),
        }
    }

    fn grow(&mut self, device: DeviceIndex) {
        self.inner.grow(device);
    }

    fn pin(&mut self, id: PinnedId, pinned: D::Pinned) {
        self.inner.pin(id, pinned);
    }

    fn unpin(&mut self, id: PinnedId) -> Option<D::Pinned> {
        self.inner.unpin(id)
    }

    fn keep(&mut self, lease: &Lease) -> MemoryId {
        let memory = self.inner.keep(lease);
        if self.users.len() <= memory.usize() {
            self.users.resize(memory.usize() + 1, 0);
        }
        if let Some(users) = self.users.get_mut(memory.usize()) {
            *users += 1;
        }
        memory
    }

    fn keep_pool(&mut self, lease: &Lease) {
        self.inner.keep_pool(lease);
    }

    fn let_go(&mut self, memory: MemoryId) {
        if let Some(users) = self.users.get_mut(memory.usize()) {
            *users = users.saturating_sub(1);
            let is_read_into = *users == 0
                && self
                    .sessions
                    .iter()
                    .flatten()
                    .any(|session| session.reads_into(memory));
            assert!(
                !is_read_into,
                "{memory:?} is let go of with an answer of another node on its way into it"
            );
        }
        self.inner.let_go(memory);
    }

    #[inline]
    fn looks_ahead(&self, device: DeviceIndex) -> bool {
        self.inner.looks_ahead(device)
    }

    fn expect(&self, device: DeviceIndex, lba: Lba, sectors: Sectors) {
        self.inner.expect(device, lba, sectors);
    }

    fn order(&mut self, order: Self::Order) {
        match order {
            PeerOrder::Begin {
                session,
                ends,
                settings,
                end,
            } => self.begin(session, ends, settings, end),
            PeerOrder::Connected {
                session,
                link,
                connection,
            } => {
                self.with(session, |session, around| {
                    session.connected(link, Some(connection), around)
                });
            }
            PeerOrder::DialFailed { session, link } => {
                self.with(session, |session, around| session.connected(link, None, around));
            }
            PeerOrder::Accepted {
                session,
                hello,
                connection,
            } => {
                self.with(session, |session, around| {
                    session.accepted(&hello, connection, around)
                });
            }
            PeerOrder::Serve {
                session,
                key,
                volume,
                generation,
                epoch,
                may_change,
            } => {
                let volume = ServedVolume {
                    volume,
                    generation,
                    epoch,
                    may_change,
                };
                self.with(session, |session, around| session.serve(key, volume, around));
            }
            PeerOrder::StopServing { session, key, volume } => {
                self.with(session, |session, around| {
                    session.stop_serving(key, volume, around)
                });
            }
            PeerOrder::Epoch(epoch) => {
                self.epoch = self.epoch.max(epoch);
                let epoch = self.epoch;
                self.each(|session, _| session.set_epoch(epoch));
            }
            PeerOrder::EarlierRunsLanded => {
                self.have_landed = true;
                self.each(|session, around| session.earlier_runs_landed(around));
            }
            PeerOrder::GiveBack { session } => {
                self.with(session, |session, around| session.give_back(around));
            }
            PeerOrder::NothingLands { session } => {
                self.with(session, |session, around| session.nothing_lands(around));
            }
            PeerOrder::End { session } => {
                self.with(session, |session, around| session.end(around));
            }
        }
        self.settle();
        self.look();
        self.make_room();
    }

    fn next_report(&mut self) -> Option<PeerReport> {
        self.reports.pop_front()
    }

    #[inline]
    fn begin_turn(&mut self, now: Nanos) {
        self.now = now;
        self.inner.begin_turn(now);
    }

    fn due(&self) -> Option<Nanos> {
        let at_once = self.has_more().then_some(self.now);
        [at_once, self.look_at, self.inner.due()]
            .into_iter()
            .flatten()
            .min()
    }

    #[inline(always)]
    fn start(&mut self, io: Io<'_>) -> Started {
        match self.remote.get(io.device.usize()) {
            Some(Some(disk)) => {
                let disk = *disk;
                self.start_remote(&io, disk)
            }
            _ => self.inner.start(io),
        }
    }

    #[inline]
    fn submit(&mut self) {
        if !self.sessions.is_empty() {
            self.each(|session, around| session.pump(around));
            self.look();
        }
        self.inner.submit();
    }

    #[inline]
    fn reap(&mut self, mut done: impl FnMut(SlotIndex, Result<(), Fault>)) -> usize {
        let mut finished = self.inner.reap(&mut done);
        if !self.sessions.is_empty() {
            self.take_in();
            finished += self.ended.len();
            for (slot, result) in self.ended.drain(..) {
                done(slot, result);
            }
            self.settle();
        }
        finished
    }

    fn cancel(&mut self, slot: SlotIndex) {
        self.inner.cancel(slot);
        self.each(|session, around| session.take_back(slot, around));
    }

    fn limits(&self, device: DeviceIndex) -> Option<DeviceLimits> {
        match self.remote.get(device.usize()) {
            Some(Some(disk)) => Some(disk.limits),
            _ => self.inner.limits(device),
        }
    }
}

impl<D: Devices + FrameLinks> PeerDevices<D> {
    #[inline(never)]
    fn start_remote(&mut self, io: &Io<'_>, disk: RemoteDisk) -> Started {
        let session = self.sessions.get_mut(usize::from(disk.session.0));
        match session.and_then(Option::as_mut) {
            Some(session) => session.ask(io, &mut self.inner),
            None => Started::Done(Err(Fault::Unreachable)),
        }
    }
}

fn place_of(event: &LinkEvent) -> crate::links::LinkPlace {
    match event {
        LinkEvent::Header { link, .. }
        | LinkEvent::Arrived { link, .. }
        | LinkEvent::Greeting { link, .. }
        | LinkEvent::Heard { link }
        | LinkEvent::Sent { link, .. }
        | LinkEvent::Broken { link, .. }
        | LinkEvent::Closed { link } => *link,
    }
}
