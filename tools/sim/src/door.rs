//! How a simulated guest's requests reach a source and their answers come back. Two doors: plain lists, for the
//! engine alone, and real rings in guest memory ([`crate::ring_door`]).

use crate::finding::{Findings, Invariant};
use crate::port;
use crate::source::AnySource;
use palisade_block::{Answer, Lease, Nanos, Op, Pulled, Request, Segment, SegmentList, Source, Token};
use palisade_memory::GuestMemory;
use palisade_words::{Lba, Sectors};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// What a guest asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestKind {
    /// A block operation.
    Block(Op),
    /// The device's name (VIRTIO_BLK_T_GET_ID).
    GetId,
}

impl RequestKind {
    /// Whether it gives space back or zeroes it without data, of which a device gets few at a time.
    pub fn is_range(self) -> bool {
        matches!(self, RequestKind::Block(Op::Discard | Op::WriteZeroes { .. }))
    }
}

/// One request as a guest makes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// What.
    pub kind: RequestKind,
    /// First sector.
    pub lba: u64,
    /// Length in sectors.
    pub sectors: u64,
    /// Data buffers: (guest address, bytes).
    pub data: Vec<(u64, u32)>,
}

/// An answer as the guest finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answered {
    /// The request's key.
    pub key: u16,
    /// The status byte.
    pub status: u8,
}

/// One queue, seen by the guest.
pub trait Door {
    /// Puts a request in; `None` when there is no room.
    fn ask(&mut self, asked: &Asked) -> Option<u16>;

    /// Shows what was put in. True when the device wants to be kicked.
    fn show(&mut self) -> bool;

    /// Takes the answers that are there.
    fn answers(&mut self, found: &mut Vec<Answered>);

    /// A fresh device side on the same queue, as a daemon makes it at its start: what was taken and not answered is
    /// taken up again.
    fn source(&mut self) -> AnySource;
}

/// A queue of plain lists.
#[derive(Debug)]
pub struct PlainQueue {
    waiting: VecDeque<(u16, Asked)>,
    unshown: Vec<(u16, Asked)>,
    taken: BTreeMap<u16, Asked>,
    /// Answers that the guest does not see yet, each with what was asked: they are nobody's when the process dies.
    hidden: Vec<(Answered, Asked)>,
    visible: Vec<Answered>,
    kick_wanted: bool,
}

/// The guest's end of a plain queue.
#[derive(Debug)]
pub struct PlainDoor {
    queue: Rc<RefCell<PlainQueue>>,
    memory: Arc<GuestMemory>,
    findings: Findings,
    free: Vec<u16>,
}

impl PlainDoor {
    /// A queue with room for `size` requests.
    pub fn new(size: u16, memory: Arc<GuestMemory>, findings: Findings) -> PlainDoor {
        PlainDoor {
            queue: Rc::new(RefCell::new(PlainQueue {
                waiting: VecDeque::new(),
                unshown: Vec::new(),
                taken: BTreeMap::new(),
                hidden: Vec::new(),
                visible: Vec::new(),
                kick_wanted: false,
            })),
            memory,
            findings,
            free: (0..size).rev().collect(),
        }
    }

    /// Requests that no reactor has taken: when it has let go of the queue, nobody has answered them.
    pub fn untaken(&self) -> Vec<u16> {
        self.queue.borrow().waiting.iter().map(|(key, _)| *key).collect()
    }
}

impl Door for PlainDoor {
    fn ask(&mut self, asked: &Asked) -> Option<u16> {
        let key = self.free.pop()?;
        self.queue.borrow_mut().unshown.push((key, asked.clone()));
        Some(key)
    }

    fn show(&mut self) -> bool {
        let mut queue = self.queue.borrow_mut();
        let unshown = std::mem::take(&mut queue.unshown);
        queue.waiting.extend(unshown);
        queue.kick_wanted
    }

    fn answers(&mut self, found: &mut Vec<Answered>) {
        for answered in self.queue.borrow_mut().visible.drain(..) {
            if !self.free.contains(&answered.key) {
                self.free.push(answered.key);
            }
            found.push(answered);
        }
    }

    fn source(&mut self) -> AnySource {
        let mut queue = self.queue.borrow_mut();
        queue.kick_wanted = false;
        let mut taken = std::mem::take(&mut queue.taken);
        let unseen = std::mem::take(&mut queue.hidden);
        taken.extend(unseen.into_iter().map(|(answered, asked)| (answered.key, asked)));
        for request in taken.into_iter().rev() {
            queue.waiting.push_front(request);
        }
        AnySource::Plain(PlainSource {
            queue: Rc::clone(&self.queue),
            memory: Arc::clone(&self.memory),
            findings: self.findings.clone(),
        })
    }
}

/// The device's end of a plain queue.
#[derive(Debug)]
pub struct PlainSource {
    queue: Rc<RefCell<PlainQueue>>,
    memory: Arc<GuestMemory>,
    findings: Findings,
}

impl PlainSource {
    /// The guest's data in these buffers of a request.
    pub fn data_of(&self, buffers: &[Segment]) -> Vec<u8> {
        let parts = buffers.iter().map(|buffer| port::get(&self.memory, *buffer));
        parts.collect::<Vec<_>>().concat()
    }

    /// Puts data into them.
    pub fn put(&self, buffers: &[Segment], data: &[u8]) {
        port::put(&self.memory, buffers, data);
    }
}

impl Source for PlainSource {
    fn lease(&self) -> Lease {
        self.memory.lease().clone()
    }

    fn has_more(&self) -> bool {
        !self.queue.borrow().waiting.is_empty()
    }

    fn pull(&mut self, segments: &mut SegmentList) -> Pulled {
        segments.clear();
        let mut queue = self.queue.borrow_mut();
        let Some((key, asked)) = queue.waiting.pop_front() else {
            return Pulled::Empty;
        };
        let RequestKind::Block(op) = asked.kind else {
            queue.hidden.push((Answered { key, status: 0 }, asked));
            return Pulled::Answered;
        };
        for &(address, bytes) in &asked.data {
            if !segments.has_room() {
                segments.clear();
                queue.waiting.push_front((key, asked));
                return Pulled::NoRoom;
            }
            if !self.memory.segments(address, bytes.into(), segments) {
                self.findings.add(
                    Invariant::DataPath,
                    Nanos(0),
                    "a plain guest's buffer is not its memory",
                );
            }
        }
        let token = Token::new(key.into(), 0);
        let (lba, sectors) = (Lba(asked.lba), Sectors(asked.sectors));
        queue.taken.insert(key, asked);
        Pulled::Request(Request {
            token,
            op,
            lba,
            sectors,
        })
    }

    fn finish(&mut self, answer: Answer<'_>) {
        let key = answer.token.key() as u16;
        answer.token.spend();
        let mut queue = self.queue.borrow_mut();
        let Some(asked) = queue.taken.remove(&key) else {
            let what = format!("request {key} was answered without being in flight");
            return self.findings.add(Invariant::OneAnswer, Nanos(0), what);
        };
        let status = answer.status as u8;
        queue.hidden.push((Answered { key, status }, asked));
    }

    fn publish(&mut self) {
        let mut queue = self.queue.borrow_mut();
        let hidden = std::mem::take(&mut queue.hidden);
        queue
            .visible
            .extend(hidden.into_iter().map(|(answered, _)| answered));
    }

    fn arm(&mut self) -> bool {
        let mut queue = self.queue.borrow_mut();
        queue.kick_wanted = true;
        !queue.waiting.is_empty()
    }

    fn disarm(&mut self) {
        self.queue.borrow_mut().kick_wanted = false;
    }
}
