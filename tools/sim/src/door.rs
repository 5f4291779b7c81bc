//! How a simulated guest's requests reach a source and their answers come back. Two doors: plain lists, for the
//! engine alone, and real rings in guest memory ([`crate::ring_door`]).

use crate::finding::{Findings, Invariant};
use crate::source::AnySource;
use palisade_block::{Answer, Lease, Nanos, Op, Pulled, Request, SegmentList, Source, Token};
use palisade_memory::GuestMemory;
use palisade_words::{Lba, Sectors};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// What a guest asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// A block operation.
    Block(Op),
    /// The device's name (VIRTIO_BLK_T_GET_ID).
    GetId,
}

impl Wish {
    /// Whether it gives space back or zeroes it without data, of which a device gets few at a time.
    pub fn is_range(self) -> bool {
        matches!(self, Wish::Block(Op::Discard | Op::WriteZeroes { .. }))
    }
}

/// One request as a guest makes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// What.
    pub wish: Wish,
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
    hidden: Vec<Answered>,
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
        queue.hidden.clear();
        queue.kick_wanted = false;
        let taken = std::mem::take(&mut queue.taken);
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

impl Source for PlainSource {
    fn lease(&self) -> Lease {
        self.memory.lease().clone()
    }

    fn pull(&mut self, segments: &mut SegmentList) -> Pulled {
        segments.clear();
        let mut queue = self.queue.borrow_mut();
        let Some((key, asked)) = queue.waiting.pop_front() else {
            return Pulled::Empty;
        };
        let Wish::Block(op) = asked.wish else {
            queue.hidden.push(Answered { key, status: 0 });
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
        let token = Token {
            head: key,
            bytes_in: if op == Op::Read {
                segments.bytes() as u32
            } else {
                0
            },
            reply: 0,
        };
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
        let key = answer.token.head;
        answer.token.spend();
        let mut queue = self.queue.borrow_mut();
        if queue.taken.remove(&key).is_none() {
            let what = format!("request {key} was answered without being in flight");
            self.findings.add(Invariant::OneAnswer, Nanos(0), what);
        }
        queue.hidden.push(Answered {
            key,
            status: answer.status as u8,
        });
    }

    fn publish(&mut self) {
        let mut queue = self.queue.borrow_mut();
        let hidden = std::mem::take(&mut queue.hidden);
        queue.visible.extend(hidden);
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
