//! What each message does, once no queue it concerns is running.

use super::ring::{Kick, Ring, Run};
use super::{Outcome, Session, SessionAction, SessionRefusal};
use crate::codec::{LogTable, Message, Region, Reply, VringAddresses, VringFd, VringState, request};
use crate::features::{LOG_ALL, PROTOCOL_FEATURES, protocol};
use palisade_block::limits::MEMORY_REGIONS_MAX;
use palisade_memory::{DirtyLog, GuestMemory, InflightRegion, MapError, RegionSpec, RingAddresses};
use palisade_sys::PeerEvent;
use palisade_virtio::{BlkQueue, Features, QueueSetup};
use palisade_words::limits::QUEUE_SIZE_MAX;
use std::error::Error;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Whether the front-end waits for a reply of the request's own kind, in which there is no room for a refusal.
pub(super) fn has_own_reply(request: u32) -> bool {
    matches!(
        request,
        request::GET_FEATURES
            | request::GET_PROTOCOL_FEATURES
            | request::GET_QUEUE_NUM
            | request::SET_LOG_BASE
            | request::GET_VRING_BASE
            | request::GET_CONFIG
            | request::GET_INFLIGHT_FD
            | request::GET_MAX_MEM_SLOTS
    )
}

impl Session {
    /// The queues that must not run while the message is carried out.
    pub(super) fn queues_concerned(&self, message: &Message) -> Vec<u16> {
        let all = || (0..self.offer.geometry.queues).collect();
        let one = |index: u32| u16::try_from(index).into_iter().collect();
        match message {
            Message::SetFeatures(features) if self.features != Some(*features) => all(),
            Message::SetMemTable(_)
            | Message::AddMemReg(..)
            | Message::RemMemReg(_)
            | Message::SetInflightFd { .. }
            | Message::ResetDevice
            | Message::ResetOwner => all(),
            Message::SetLogBase(_) if self.features() & LOG_ALL != 0 => all(),
            Message::SetVringNum(state)
                if self
                    .ring(state.index)
                    .is_ok_and(|ring| u32::from(ring.size) != state.value) =>
            {
                one(state.index)
            }
            Message::SetVringAddr(addresses)
                if self
                    .ring(addresses.index)
                    .is_ok_and(|ring| ring.addresses != Some(*addresses)) =>
            {
                one(addresses.index)
            }
            Message::SetVringBase(state) => one(state.index),
            Message::GetVringBase(index) => one(*index),
            Message::SetVringKick(kick) => one(kick.index),
            Message::SetVringEnable { index, enable: false } => one(*index),
            // So that every write taken after the switch is treated by it.
            Message::SetConfig { offset, data, .. }
                if self
                    .config
                    .writeback_after(*offset, data)
                    .is_ok_and(|after| after != self.config.writeback()) =>
            {
                all()
            }
            _ => Vec::new(),
        }
    }

    /// Carries a message out. A refused one has changed nothing.
    pub(super) fn execute(
        &mut self,
        message: Message,
        actions: &mut Vec<SessionAction>,
    ) -> Result<Outcome, SessionRefusal> {
        let number = |request, value| Ok(Outcome::Reply(Reply::number(request, value)));
        match message {
            Message::GetFeatures => number(request::GET_FEATURES, self.offered()),
            Message::SetFeatures(features) => self.set_features(features, actions),
            Message::GetProtocolFeatures => number(request::GET_PROTOCOL_FEATURES, protocol::OFFERED),
            Message::SetProtocolFeatures(features) => {
                let surplus = features & !protocol::OFFERED;
                if surplus != 0 {
                    return Err(SessionRefusal::ProtocolFeatures { surplus });
                }
                self.protocol = features;
                Ok(Outcome::Done)
            }
            Message::GetQueueNum => number(request::GET_QUEUE_NUM, u64::from(self.offer.geometry.queues)),
            Message::GetMaxMemSlots => number(request::GET_MAX_MEM_SLOTS, MEMORY_REGIONS_MAX as u64),
            // One session belongs to one front-end from connect to disconnect; there is nothing to own besides.
            Message::SetOwner => Ok(Outcome::Done),
            // The log's eventfd would tell the front-end of marks it finds by looking.
            Message::SetLogFd(fd) => {
                event_of("the log", Some(fd))?;
                Ok(Outcome::Done)
            }
            Message::ResetOwner => self.disable_all(),
            Message::ResetDevice => self.reset_device(actions),
            Message::SetMemTable(table) => self.set_mem_table(table, actions),
            Message::AddMemReg(region, file) => self.add_region(region, file, actions),
            Message::RemMemReg(region) => self.remove_region(region, actions),
            Message::SetLogBase(table) => self.set_log_base(table),
            Message::SetVringNum(state) => self.set_vring_num(state),
            Message::SetVringAddr(addresses) => self.set_vring_addr(addresses),
            Message::SetVringBase(state) => self.set_vring_base(state),
            Message::GetVringBase(index) => self.get_vring_base(index),
            Message::SetVringKick(kick) => self.set_vring_kick(kick),
            Message::SetVringCall(call) => self.set_vring_call(call),
            Message::SetVringErr(VringFd { index, fd }) => {
                let purpose = "errors";
                let event = event_of(purpose, fd)?;
                let slot = &self.ring_mut(index)?.error;
                slot.aim(event.as_ref())
                    .map_err(|source| SessionRefusal::Descriptor { purpose, source })?;
                Ok(Outcome::Done)
            }
            Message::SetVringEnable { index, enable } => {
                self.ring_mut(index)?.enabled = enable;
                Ok(Outcome::Done)
            }
            Message::SetBackendReqFd(fd) => {
                self.backend_channel = true;
                actions.push(SessionAction::BackendChannel(fd));
                Ok(Outcome::Done)
            }
            Message::GetConfig { offset, bytes, flags } => Ok(self.get_config(offset, bytes, flags)),
            Message::SetConfig { offset, data, .. } => self.set_config(offset, &data, actions),
            Message::GetInflightFd {
                queues,
                queue_size,
                reply_bytes,
            } => self.get_inflight(queues, queue_size, reply_bytes),
            Message::SetInflightFd {
                bytes,
                file_offset,
                queues,
                queue_size,
                fd,
            } => {
                let share = &self.offer.share;
                let region = InflightRegion::map_within(fd, bytes, file_offset, queues, queue_size, share);
                let region = region.map_err(SessionRefusal::Inflight)?;
                region
                    .belongs_to(self.offer.volume)
                    .map_err(SessionRefusal::Inflight)?;
                self.inflight = Some(region);
                Ok(Outcome::Done)
            }
        }
    }

    /// Starts every ring that has become complete. One whose addresses are not in memory waits for the region
    /// that holds them: front-ends take regions away and bring them back one by one.
    pub(super) fn start_complete_rings(&mut self, actions: &mut Vec<SessionAction>) {
        for index in 0..self.offer.geometry.queues {
            let Some(ring) = self.rings.get(usize::from(index)) else {
                continue;
            };
            if !ring.is_complete() {
                continue;
            }
            match self.start(index, ring) {
                Ok(Some(action)) => {
                    self.tell_write_through(actions);
                    actions.push(action);
                    self.served = true;
                    let untracked = self.is_untracked(index);
                    if let Some(ring) = self.rings.get_mut(usize::from(index)) {
                        ring.run = Run::Running;
                        ring.cannot_start = None;
                        ring.untracked = untracked;
                    }
                    // A front-end that reconnects does not ask, and the volume may have grown meanwhile.
                    if std::mem::take(&mut self.size_owed) {
                        self.tell_size(actions);
                    }
                }
                Ok(None) => {}
                Err(sentence) => {
                    if let Some(ring) = self.rings.get_mut(usize::from(index))
                        && ring.cannot_start.as_ref() != Some(&sentence)
                    {
                        ring.error.signal();
                        ring.cannot_start = Some(sentence.clone());
                    }
                    self.last_error = Some(sentence);
                }
            }
        }
    }

    /// Whether the front-end keeps a region for requests in flight that has no room for this ring: QEMU makes it as long
    /// as its own `queue-size`, and a guest on virtio-mmio may take a longer ring. Such a ring is served untracked: half
    /// a record would be worse than none, and refusing would hang the guest for certain.
    fn is_untracked(&self, index: u16) -> bool {
        let entries = |region: &InflightRegion| region.queue(index).map_or(0, |queue| queue.entries());
        let size = self.rings.get(usize::from(index)).map_or(0, |ring| ring.size);
        self.inflight
            .as_ref()
            .is_some_and(|region| entries(region) < size)
    }

    fn start(&self, index: u16, ring: &Ring) -> Result<Option<SessionAction>, String> {
        let Some(at) = ring.addresses else { return Ok(None) };
        if self.features_refused.is_some() {
            return Ok(None);
        }
        let Some(addresses) = RingAddresses::from_user(&self.memory, at.descriptors, at.available, at.used)
        else {
            return Ok(None);
        };
        let failed = |error: &dyn Error| match error.source() {
            Some(source) => format!("queue {index} cannot start: {error}: {source}"),
            None => format!("queue {index} cannot start: {error}"),
        };
        let kick = match &ring.kick {
            Some(Kick::Event(kick)) => Some(kick.try_clone().map_err(|error| failed(&error))?),
            Some(Kick::Polling) | None => None,
        };
        let Some(stats) = self.offer.stats.get(usize::from(index)) else {
            return Ok(None);
        };
        let log = self.log.as_ref().filter(|_| self.features() & LOG_ALL != 0);
        let setup = QueueSetup {
            memory: Arc::clone(&self.memory),
            size: ring.size,
            ring: addresses,
            base: ring.base,
            features: Features::from_bits(self.features()),
            inflight: match self.is_untracked(index) {
                true => None,
                false => self.inflight.as_ref().and_then(|region| region.queue(index)),
            },
            serial: self.offer.serial,
            writable: !self.offer.geometry.read_only,
            block_bytes: self.offer.geometry.block_bytes,
            dirty_log: log.cloned(),
            log_used_at: at.log.then_some(at.log_guest_address),
            stats: Arc::clone(stats),
        };
        let queue = BlkQueue::new(setup, ring.call.notifier(&ring.error, &self.offer.interrupts))
            .map_err(|error| failed(&error))?;
        Ok(Some(SessionAction::StartQueue {
            index,
            queue: Box::new(queue),
            kick,
        }))
    }

    fn offered(&self) -> u64 {
        Features::offered(&self.offer.geometry).bits() | LOG_ALL | PROTOCOL_FEATURES
    }

    /// Takes what the guest's driver has accepted, which need not be what was offered: a front-end may offer bits of its
    /// own and pass on what the guest took of them (QEMU does so with ANY_LAYOUT).
    fn set_features(
        &mut self,
        features: u64,
        actions: &mut Vec<SessionAction>,
    ) -> Result<Outcome, SessionRefusal> {
        let served = self.offered() | Features::OF_THE_TRANSPORT.bits();
        let surplus = features & !served;
        if surplus != 0 {
            return Err(SessionRefusal::Features { surplus });
        }
        self.features = Some(features);
        if features & PROTOCOL_FEATURES == 0 {
            // "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled
            // state."
            self.rings.iter_mut().for_each(|ring| ring.enabled = true);
        }
        self.retell_write_through(actions);
        Ok(Outcome::Done)
    }

    /// "Back-ends should either ignore this message, or use it to disable all rings."
    fn disable_all(&mut self) -> Result<Outcome, SessionRefusal> {
        self.rings.iter_mut().for_each(|ring| ring.enabled = false);
        Ok(Outcome::Done)
    }

    /// "Disable all rings and reset all internal device state to the initial state, ready to be reinitialized."
    /// Memory and protocol features belong to the session and stay.
    ///
    /// The write cache stays as it is, too: virtio lets it be either after a reset (1.3, 5.2.5), and QEMU goes on
    /// showing the guest the `writeback` that was set last, without asking. A cache switched on here behind a driver
    /// that reads "off" would never be flushed.
    fn reset_device(&mut self, actions: &mut Vec<SessionAction>) -> Result<Outcome, SessionRefusal> {
        self.rings.iter_mut().for_each(Ring::reset);
        self.features = None;
        self.features_refused = None;
        self.inflight = None;
        self.log = None;
        self.retell_write_through(actions);
        Ok(Outcome::Done)
    }

    fn set_mem_table(
        &mut self,
        table: Vec<(Region, OwnedFd)>,
        actions: &mut Vec<SessionAction>,
    ) -> Result<Outcome, SessionRefusal> {
        let specs = table
            .into_iter()
            .map(|(region, file)| region_spec(region, file))
            .collect();
        self.use_memory(GuestMemory::map_within(specs, &self.offer.share), actions)
    }

    fn add_region(
        &mut self,
        region: Region,
        file: OwnedFd,
        actions: &mut Vec<SessionAction>,
    ) -> Result<Outcome, SessionRefusal> {
        let memory = self
            .memory
            .with_region_within(region_spec(region, file), &self.offer.share);
        self.use_memory(memory, actions)
    }

    fn remove_region(
        &mut self,
        region: Region,
        actions: &mut Vec<SessionAction>,
    ) -> Result<Outcome, SessionRefusal> {
        let without = self
            .memory
            .without_region(region.guest_address, region.bytes, region.user_address);
        self.use_memory(without, actions)
    }

    fn use_memory(
        &mut self,
        memory: Result<Arc<GuestMemory>, MapError>,
        actions: &mut Vec<SessionAction>,
    ) -> Result<Outcome, SessionRefusal> {
        self.memory = memory.map_err(SessionRefusal::Memory)?;
        self.memory_told = true;
        actions.push(SessionAction::Memory(Some(Arc::clone(&self.memory))));
        Ok(Outcome::Done)
    }

    /// "When VHOST_USER_PROTOCOL_F_LOG_SHMFD has been negotiated, the back-end replies": always, asked or not.
    fn set_log_base(&mut self, table: LogTable) -> Result<Outcome, SessionRefusal> {
        let reply = Reply::log(request::SET_LOG_BASE, table.bytes, table.file_offset);
        let log = DirtyLog::map_within(table.fd, table.bytes, table.file_offset, &self.offer.share);
        self.log = Some(log.map_err(SessionRefusal::Log)?);
        Ok(Outcome::Reply(reply))
    }

    fn set_vring_num(&mut self, state: VringState) -> Result<Outcome, SessionRefusal> {
        let ring = self.ring_mut(state.index)?;
        match u16::try_from(state.value) {
            Ok(size) if size.is_power_of_two() && size <= QUEUE_SIZE_MAX => ring.size = size,
            _ => {
                let (size, size_max) = (state.value, QUEUE_SIZE_MAX);
                return Err(SessionRefusal::QueueSize { size, size_max });
            }
        }
        Ok(Outcome::Done)
    }

    fn set_vring_addr(&mut self, addresses: VringAddresses) -> Result<Outcome, SessionRefusal> {
        let index = addresses.index;
        let aligned = addresses.descriptors.is_multiple_of(16)
            && addresses.available.is_multiple_of(2)
            && addresses.used.is_multiple_of(4);
        let ring = self.ring_mut(index)?;
        if !aligned {
            return Err(SessionRefusal::Alignment { index });
        }
        ring.addresses = Some(addresses);
        Ok(Outcome::Done)
    }

    fn set_vring_base(&mut self, state: VringState) -> Result<Outcome, SessionRefusal> {
        let ring = self.ring_mut(state.index)?;
        ring.base = u16::try_from(state.value).map_err(|_| SessionRefusal::Base { base: state.value })?;
        Ok(Outcome::Done)
    }

    /// Stops the ring for good: it takes another SET_VRING_KICK to start it.
    fn get_vring_base(&mut self, index: u32) -> Result<Outcome, SessionRefusal> {
        let ring = self.ring_mut(index)?;
        ring.kick = None;
        let state = VringState {
            index,
            value: u32::from(ring.base),
        };
        Ok(Outcome::Reply(Reply::vring_state(request::GET_VRING_BASE, state)))
    }

    fn set_vring_kick(&mut self, kick: VringFd) -> Result<Outcome, SessionRefusal> {
        let event = event_of("kicks", kick.fd)?;
        self.ring_mut(kick.index)?.kick = Some(event.map_or(Kick::Polling, Kick::Event));
        Ok(Outcome::Done)
    }

    fn set_vring_call(&mut self, call: VringFd) -> Result<Outcome, SessionRefusal> {
        let event = event_of("interrupts", call.fd)?;
        let slot = &self.ring_mut(call.index)?.call;
        let purpose = "interrupts";
        slot.swap(event.as_ref())
            .map_err(|source| SessionRefusal::Descriptor { purpose, source })?;
        Ok(Outcome::Done)
    }

    fn get_config(&mut self, offset: u32, bytes: u32, flags: u32) -> Outcome {
        self.size_owed &= offset != 0;
        let mut data = vec![0; bytes as usize];
        self.config.read(offset, &mut data);
        Outcome::Reply(Reply::config(request::GET_CONFIG, offset, flags, &data))
    }

    fn set_config(
        &mut self,
        offset: u32,
        data: &[u8],
        actions: &mut Vec<SessionAction>,
    ) -> Result<Outcome, SessionRefusal> {
        if self.config.write(offset, data).map_err(SessionRefusal::Config)? {
            actions.push(SessionAction::WriteCache(self.config.writeback()));
        }
        self.retell_write_through(actions);
        Ok(Outcome::Done)
    }

    /// A region that cannot be is answered with none, as there is no other way to say no in this reply: QEMU goes on
    /// without it, and would else ask for the same again in its next session, for ever. One that cannot be had just now
    /// ends the session: going on without would be for good.
    fn get_inflight(
        &mut self,
        queues: u16,
        queue_size: u16,
        reply_bytes: usize,
    ) -> Result<Outcome, SessionRefusal> {
        let request = request::GET_INFLIGHT_FD;
        if let Err(error) = InflightRegion::bytes_for(queues, queue_size) {
            self.note(format!("GET_INFLIGHT_FD: {error}; the front-end goes on without"));
            return Ok(Outcome::Reply(Reply::no_inflight(request, reply_bytes)));
        }
        let (bytes, file) = InflightRegion::offer(queues, queue_size).map_err(SessionRefusal::Inflight)?;
        Ok(Outcome::Reply(Reply::inflight(
            request,
            bytes,
            queues,
            queue_size,
            file,
            reply_bytes,
        )))
    }

    /// Whether the guest relies on writes being stable when they are answered: it has switched the cache off, or it
    /// has no way to flush it (virtio 1.3, 5.2.6.2), whatever `writeback` says (5.2.5.2 wants 0 in it then).
    fn write_through(&self) -> bool {
        let features = Features::from_bits(self.features());
        let switched_off = features.contains(Features::CONFIG_WCE) && !self.config.writeback();
        switched_off || !features.contains(Features::FLUSH)
    }

    /// Tells the host before the first queue starts.
    fn tell_write_through(&mut self, actions: &mut Vec<SessionAction>) {
        let now = self.write_through();
        if self.write_through_told != Some(now) {
            self.write_through_told = Some(now);
            actions.push(SessionAction::WriteThrough(now));
        }
    }

    /// Tells the host of a change, when it has been told before.
    fn retell_write_through(&mut self, actions: &mut Vec<SessionAction>) {
        if self.write_through_told.is_some() {
            self.tell_write_through(actions);
        }
    }

    fn ring(&self, index: u32) -> Result<&Ring, SessionRefusal> {
        let queues = self.offer.geometry.queues;
        self.rings
            .get(index as usize)
            .ok_or(SessionRefusal::NoSuchQueue { index, queues })
    }

    fn ring_mut(&mut self, index: u32) -> Result<&mut Ring, SessionRefusal> {
        let queues = self.offer.geometry.queues;
        self.rings
            .get_mut(index as usize)
            .ok_or(SessionRefusal::NoSuchQueue { index, queues })
    }
}

fn region_spec(region: Region, file: OwnedFd) -> RegionSpec {
    RegionSpec {
        guest_address: region.guest_address,
        bytes: region.bytes,
        user_address: region.user_address,
        mmap_offset: region.file_offset,
        file,
    }
}

fn event_of(purpose: &'static str, fd: Option<OwnedFd>) -> Result<Option<PeerEvent>, SessionRefusal> {
    let event = fd.map(PeerEvent::from_owned_fd).transpose();
    event.map_err(|source| SessionRefusal::Descriptor { purpose, source })
}
