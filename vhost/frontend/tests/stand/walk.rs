//! A session without any socket: messages in, actions out, and a host that stops queues only when it is told to.

use super::client::dup;
use super::guest::{Guest, USER_BASE};
use palisade_frontend::codec::{Message, Reply, VringAddresses, VringFd, VringState};
use palisade_frontend::features::{LOG_ALL, PROTOCOL_FEATURES, protocol};
use palisade_frontend::{CallNotify, Offer, Session, SessionAction};
use palisade_sys::EventFd;
use palisade_virtio::BlkQueue;
use palisade_virtio::driver::{DriverOptions, DriverQueue};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A session, and a host that stops queues only when it is told to.
pub struct Walk {
    pub session: Session,
    pub guest: Guest,
    pub ring: DriverQueue,
    pub running: BTreeMap<u16, Box<BlkQueue<CallNotify>>>,
    pub stopping: Vec<u16>,
    pub left: Vec<u16>,
    pub replies: Vec<Reply>,
    pub backend: Vec<Vec<u8>>,
    pub write_through: Option<bool>,
    pub memory: Option<usize>,
    pub closed: Option<String>,
}

impl Walk {
    pub fn new() -> Walk {
        Walk::with(64)
    }

    /// With a ring of so many entries.
    pub fn with(entries: u16) -> Walk {
        let guest = Guest::new(0, (1 << 20) + u64::from(entries) * 128);
        let options = DriverOptions {
            size: entries,
            event_idx: false,
            indirect: false,
        };
        let ring = DriverQueue::new(guest.memory.clone(), 0, options).unwrap();
        let offer = Offer {
            geometry: super::geometry(),
            queue_size: 256,
            volume: 7,
            serial: [0; 20],
            write_cache: true,
            stats: Arc::from([Arc::default(), Arc::default()]),
            interrupts: Arc::default(),
            share: palisade_memory::MemoryShare::unlimited(),
        };
        Walk {
            session: Session::new(offer),
            guest,
            ring,
            running: BTreeMap::new(),
            stopping: Vec::new(),
            left: Vec::new(),
            replies: Vec::new(),
            backend: Vec::new(),
            write_through: None,
            memory: None,
            closed: None,
        }
    }

    /// This process has ended and begins anew; the front-end's memory is what it was.
    pub fn again(&mut self) {
        let mut fresh = Walk::new();
        std::mem::swap(&mut fresh.guest, &mut self.guest);
        std::mem::swap(&mut fresh.ring, &mut self.ring);
        *self = fresh;
    }

    pub fn act(&mut self, actions: Vec<SessionAction>) {
        for action in actions {
            match action {
                SessionAction::Reply(reply) => self.replies.push(reply),
                SessionAction::Memory(memory) => {
                    assert!(self.running.is_empty(), "memory under a running queue");
                    self.memory = memory.map(|memory| memory.regions().len());
                }
                SessionAction::WriteThrough(on) => self.write_through = Some(on),
                SessionAction::WriteCache(_) => {}
                SessionAction::StartQueue { index, queue, .. } => {
                    assert!(self.write_through.is_some() && self.memory.is_some());
                    assert!(self.running.insert(index, queue).is_none(), "started twice");
                }
                SessionAction::StopQueue { index } => {
                    assert!(self.running.contains_key(&index) && !self.stopping.contains(&index));
                    self.stopping.push(index);
                }
                SessionAction::LeaveQueue { index } => {
                    assert!(self.stopping.contains(&index));
                    self.left.push(index);
                }
                SessionAction::BackendChannel(_) => {}
                SessionAction::BackendSend(bytes) => self.backend.push(bytes),
                SessionAction::Closed { reason } => {
                    assert!(self.running.is_empty() && self.memory.is_none() && self.closed.is_none());
                    self.closed = Some(reason);
                }
            }
        }
    }

    pub fn hear(&mut self, message: Message, need_reply: bool) {
        let mut actions = Vec::new();
        self.session.on_message(message, need_reply, &mut actions);
        self.act(actions);
    }

    /// A message that has no reply.
    pub fn tell(&mut self, message: Message) {
        let replies = self.replies.len();
        self.hear(message, false);
        assert_eq!(self.replies.len(), replies);
    }

    /// A message with a reply of its own; gives its payload.
    pub fn ask(&mut self, message: Message) -> Vec<u8> {
        self.hear(message, false);
        self.last_payload()
    }

    /// A message to be acknowledged.
    pub fn order(&mut self, message: Message) -> u64 {
        self.hear(message, true);
        u64::from_ne_bytes(self.last_payload().try_into().unwrap())
    }

    pub fn last_payload(&mut self) -> Vec<u8> {
        assert_eq!(self.replies.len(), 1, "one message, one reply");
        self.replies.pop().unwrap().bytes.split_off(12)
    }

    /// The engine gives a queue back that stands at `next_avail`.
    pub fn give_back(&mut self, index: u16, next_avail: u16) {
        self.stopping.retain(|stopping| *stopping != index);
        self.running.remove(&index).unwrap();
        let mut actions = Vec::new();
        self.session.queue_stopped(index, Some(next_avail), &mut actions);
        self.act(actions);
    }

    pub fn connect(&mut self) {
        let features = self.ask(Message::GetFeatures);
        let features = u64::from_ne_bytes(features.try_into().unwrap());
        assert!(features & PROTOCOL_FEATURES != 0 && features & LOG_ALL != 0);
        assert_eq!(
            self.ask(Message::GetProtocolFeatures),
            protocol::OFFERED.to_ne_bytes()
        );
        self.tell(Message::SetProtocolFeatures(protocol::OFFERED));
        assert_eq!(self.ask(Message::GetQueueNum), 2u64.to_ne_bytes());
        assert_eq!(self.ask(Message::GetMaxMemSlots), 512u64.to_ne_bytes());
        self.tell(Message::SetOwner);
        let call = EventFd::new().unwrap();
        self.tell(Message::SetVringCall(VringFd {
            index: 0,
            fd: Some(dup(&call)),
        }));
    }

    pub fn features(&self) -> u64 {
        0x1_3000_1e46 | PROTOCOL_FEATURES
    }

    /// The driver is ready: what QEMU sends then.
    pub fn start(&mut self, base: u16) {
        self.tell(Message::SetFeatures(self.features()));
        assert_eq!(
            self.order(Message::SetMemTable(vec![(self.guest.region, self.guest.fd())])),
            0
        );
        self.tell(Message::SetVringNum(VringState {
            index: 0,
            value: self.ring.options().size.into(),
        }));
        self.tell(Message::SetVringBase(VringState {
            index: 0,
            value: base.into(),
        }));
        let addresses = self.addresses(false);
        self.tell(Message::SetVringAddr(addresses));
        self.tell(Message::SetVringKick(VringFd {
            index: 0,
            fd: Some(dup(&EventFd::new().unwrap())),
        }));
        assert!(self.running.is_empty());
        self.tell(Message::SetVringEnable {
            index: 0,
            enable: true,
        });
        assert!(self.running.contains_key(&0));
    }

    pub fn addresses(&self, log: bool) -> VringAddresses {
        let ring = self.ring.addresses();
        VringAddresses {
            index: 0,
            log,
            descriptors: USER_BASE + ring.descriptors,
            used: USER_BASE + ring.used,
            available: USER_BASE + ring.avail,
            log_guest_address: ring.used,
        }
    }

    pub fn disconnect(&mut self) {
        let mut actions = Vec::new();
        self.session.disconnect("gone", &mut actions);
        self.act(actions);
    }
}
