//! The serving end of a data port, as far as the engine sees one: a source that carries the requests of many volumes, with
//! data in memory of its own. What other nodes ask comes from plain queues, and is copied as a network would.
//!
//! Each queue has credits of its own, so that a volume that waits takes nothing from the others.

use crate::array::Array;
use crate::door::PlainSource;
use palisade_block::{Answer, Lease, LongList, Op, Pulled, Segment, SegmentList, Source, Status, Token};
use palisade_memory::GuestMemory;
use palisade_words::VolumeIndex;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// Requests of one queue that the port takes before it has answered one.
const CREDITS: usize = 4;

/// A port of one reactor.
#[derive(Debug)]
pub struct PortSource {
    memory: Arc<GuestMemory>,
    lanes: Vec<Lane>,
    /// The lane whose turn it is, and the one turned to.
    next: usize,
    turned_to: Option<usize>,
    taken: BTreeMap<u64, Taken>,
    count: u64,
    /// Where a guest's data lies, of the request that is being taken.
    theirs: SegmentList,
}

/// The queue of one peer's guest.
#[derive(Debug)]
struct Lane {
    volume: VolumeIndex,
    queue: PlainSource,
    /// Buffers for its requests' data that are free.
    credits: Vec<Segment>,
}

/// A request that has been taken from a lane.
#[derive(Debug)]
struct Taken {
    lane: usize,
    key: u64,
    op: Op,
    buffer: Segment,
    theirs: Vec<Segment>,
}

impl PortSource {
    /// A port that carries these queues, each of a volume, with requests of so many bytes at most.
    ///
    /// # Panics
    /// When there is no memory for it.
    pub fn new(
        queues: Vec<(VolumeIndex, PlainSource)>,
        bytes_max: u64,
        array: &Rc<RefCell<Array>>,
    ) -> PortSource {
        let buffers = (queues.len() * CREDITS) as u64;
        let Ok(memory) = GuestMemory::anonymous(&[(0, (buffers * bytes_max).max(4096))]) else {
            unreachable!("there is no memory for a port of {buffers} buffers");
        };
        array.borrow_mut().memories.learn(&memory);
        let mut free = (0..buffers).filter_map(|number| memory.slice(number * bytes_max, bytes_max));
        let lanes = queues.into_iter().map(|(volume, queue)| Lane {
            volume,
            queue,
            credits: free.by_ref().take(CREDITS).collect(),
        });
        let lanes = lanes.collect();
        let mut theirs = SegmentList::default();
        theirs.lend(LongList::default());
        PortSource {
            memory,
            lanes,
            next: 0,
            turned_to: None,
            taken: BTreeMap::new(),
            count: 0,
            theirs,
        }
    }
}

impl Lane {
    fn has_more(&self) -> bool {
        self.queue.has_more() && !self.credits.is_empty()
    }
}

impl Source for PortSource {
    fn lease(&self) -> Lease {
        self.memory.lease().clone()
    }

    fn has_more(&self) -> bool {
        self.lanes.iter().any(Lane::has_more)
    }

    fn turn_to(&mut self, mut may_serve: impl FnMut(VolumeIndex) -> bool) -> Option<VolumeIndex> {
        let count = self.lanes.len();
        let mut in_turn = (0..count).map(|step| (self.next + step) % count);
        self.turned_to = in_turn.find(|lane| {
            let lane = self.lanes.get(*lane);
            lane.is_some_and(|lane| lane.has_more() && may_serve(lane.volume))
        });
        let lane = self.turned_to?;
        self.next = lane + 1;
        self.lanes.get(lane).map(|lane| lane.volume)
    }

    fn pull(&mut self, segments: &mut SegmentList) -> Pulled {
        segments.clear();
        let turned_to = self.turned_to;
        let lane = turned_to.and_then(|lane| Some((lane, self.lanes.get_mut(lane)?)));
        let Some((number, lane)) = lane.filter(|(_, lane)| lane.has_more()) else {
            return Pulled::Empty;
        };
        let mut request = match lane.queue.pull(&mut self.theirs) {
            Pulled::Request(request) => request,
            other => return other,
        };
        let Some(buffer) = lane.credits.pop() else {
            unreachable!("a lane without credits is not taken from")
        };
        if request.op.moves_data() {
            let ours = buffer.first(request.sectors.bytes() as usize);
            segments.push(ours);
            if request.op == Op::Write {
                let data = lane.queue.data_of(self.theirs.as_slice());
                put(&self.memory, &[ours], &data);
            }
        }
        self.count += 1;
        let theirs = std::mem::replace(&mut request.token, Token::new(self.count, 0));
        self.taken.insert(
            self.count,
            Taken {
                lane: number,
                key: theirs.key(),
                op: request.op,
                buffer,
                theirs: self.theirs.as_slice().to_vec(),
            },
        );
        theirs.spend();
        Pulled::Request(request)
    }

    fn finish(&mut self, answer: Answer<'_>) {
        let Answer {
            token, status, fault, ..
        } = answer;
        let taken = self.taken.remove(&token.key());
        token.spend();
        let Some(Taken {
            lane,
            key,
            op,
            buffer,
            theirs,
        }) = taken
        else {
            unreachable!("a port's request is answered twice")
        };
        let Some(lane) = self.lanes.get_mut(lane) else {
            unreachable!("a request of no lane")
        };
        if op == Op::Read && status == Status::Ok {
            let bytes = theirs.iter().map(|segment| segment.bytes()).sum();
            let data = get(&self.memory, buffer.first(bytes));
            lane.queue.put(&theirs, &data);
        }
        lane.credits.push(buffer);
        lane.queue.finish(Answer {
            token: Token::new(key, 0),
            status,
            fault,
            dirtied: &[],
        });
    }

    fn publish(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.queue.publish());
    }

    fn arm(&mut self) -> bool {
        let lanes = self.lanes.iter_mut();
        let mut has_more = false;
        for lane in lanes {
            has_more |= lane.queue.arm() && !lane.credits.is_empty();
        }
        has_more
    }

    fn disarm(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.queue.disarm());
    }
}

/// The bytes of a segment of some memory.
pub(crate) fn get(memory: &GuestMemory, segment: Segment) -> Vec<u8> {
    let mut data = vec![0; segment.bytes()];
    let address = memory.host_to_guest(segment.address());
    let is_there = address.is_some_and(|address| memory.read(address, &mut data));
    assert!(is_there, "{segment:?} lies in the memory that it is of");
    data
}

/// Puts bytes into segments of some memory.
pub(crate) fn put(memory: &GuestMemory, segments: &[Segment], mut data: &[u8]) {
    for segment in segments {
        let (part, rest) = data.split_at(segment.bytes());
        let address = memory.host_to_guest(segment.address());
        let is_there = address.is_some_and(|address| memory.write(address, part));
        assert!(is_there, "{segment:?} lies in the memory that it is of");
        data = rest;
    }
}
