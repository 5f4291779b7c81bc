//! What this reactor has asked another node for: one place for each operation, from the engine's call until it is settled.
//!
//! ```text
//!                    .-- answered: done, or a definite fault ------------------------> ended
//!   free -> asked ---+-- a read: session lost, way lost -----------------------------> ended: unreachable
//!             |      '-- a change: session lost, way lost --> unsettled -- proved ---> ended: unreachable
//!             '-- a read, taken back ----> ended: timed out. Its place is free when the session has done with it
//! ```
//!
//! A change that may still be carried out is never ended: the engine would send it another way, and be overtaken.

use crate::arena::Arena;
use crate::result::{Meaning, asked, meaning};
use palisade_block::limits::SEGMENTS_PER_SLOT;
use palisade_block::{Fault, Io, Op, Segment};
use palisade_port::{BufferIndex, ClientWords, Completion};
use palisade_wire::{ForwardedError, ForwardedRequest, ForwardedResult, VolumeKey, generation_half};
use palisade_words::{MemoryId, SlotIndex};

/// How far an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    /// The session has it, and the engine waits for it.
    Asked,
    /// A read that the session has and the engine has given up.
    TakenBack,
    /// A change that the session does not have any more, and which may be carried out yet.
    Unsettled,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    state: State,
    /// Counts the operations of the place, so that what is said of a former one is not taken for the present one.
    generation: u32,
    slot: SlotIndex,
    op: Op,
    bytes: u32,
    memory: MemoryId,
    segments: u16,
    /// Where the data of a write lies.
    buffer: Option<BufferIndex>,
    /// A part of the answer's data could not be given to the guest.
    landed: Result<(), Fault>,
}

const FREE: Operation = Operation {
    state: State::Free,
    generation: 0,
    slot: SlotIndex(0),
    op: Op::Flush,
    bytes: 0,
    memory: MemoryId::POOL,
    segments: 0,
    buffer: None,
    landed: Ok(()),
};

/// All operations of one session.
#[derive(Debug)]
pub(crate) struct Operations {
    places: Box<[Operation]>,
    /// Room for the segments of a read at each place. Only what was used takes memory.
    lists: Box<[[Segment; SEGMENTS_PER_SLOT]]>,
    free: Vec<u32>,
    unsettled: u32,
}

/// Operations that have ended, for the engine.
pub(crate) type Ended = Vec<(SlotIndex, Result<(), Fault>)>;

impl Operations {
    pub(crate) fn new(places: u32) -> Operations {
        Operations {
            places: vec![FREE; places as usize].into(),
            lists: vec![[Segment::EMPTY; SEGMENTS_PER_SLOT]; places as usize].into(),
            free: (0..places).rev().collect(),
            unsettled: 0,
        }
    }

    /// Changes that wait for the proof that they are not carried out any more.
    pub(crate) fn unsettled(&self) -> u32 {
        self.unsettled
    }

    /// Whether there is nothing in any state.
    pub(crate) fn are_none(&self) -> bool {
        self.free.len() == self.places.len()
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Notes an operation, of whose data as much lies in `buffer` as it writes. There is room.
    pub(crate) fn begin(&mut self, io: &Io<'_>, buffer: Option<BufferIndex>) -> Option<u64> {
        let index = self.free.pop()?;
        let (place, list) = (
            self.places.get_mut(index as usize)?,
            self.lists.get_mut(index as usize)?,
        );
        let mut segments = 0;
        if io.op == Op::Read {
            for (room, segment) in list.iter_mut().zip(io.segments) {
                *room = *segment;
                segments += 1;
            }
            assert!(
                usize::from(segments) == io.segments.len(),
                "a read of {} segments for another node",
                io.segments.len()
            );
        }
        *place = Operation {
            state: State::Asked,
            generation: place.generation.wrapping_add(1),
            slot: io.slot,
            op: io.op,
            bytes: if io.op.moves_data() {
                io.sectors.bytes() as u32
            } else {
                0
            },
            memory: io.memory,
            segments,
            buffer,
            landed: Ok(()),
        };
        Some(u64::from(place.generation) << 32 | u64::from(index))
    }

    /// It was not sent after all. Its buffer is given back.
    pub(crate) fn forget(&mut self, key: u64, arena: &mut Arena) {
        self.leave(key, arena);
    }

    /// Where the data of a write lies that is sent.
    pub(crate) fn data(&self, key: u64) -> Option<BufferIndex> {
        self.at(key)?.buffer
    }

    /// Where the data of an answer goes, if anybody waits for it.
    pub(crate) fn landing(&self, key: u64) -> Option<(MemoryId, &[Segment])> {
        let operation = self.at(key).filter(|operation| operation.state == State::Asked)?;
        let list = self.lists.get(key as u32 as usize)?;
        let segments = list.get(..usize::from(operation.segments))?;
        (operation.op == Op::Read).then_some((operation.memory, segments))
    }

    /// How that went.
    pub(crate) fn landed(&mut self, key: u64, landed: Result<(), Fault>) {
        if let Some(operation) = self.at_mut(key) {
            operation.landed = operation.landed.and(landed);
        }
    }

    /// The session has done with one.
    pub(crate) fn complete(
        &mut self,
        key: u64,
        completion: Completion,
        arena: &mut Arena,
        ended: &mut Ended,
    ) -> Outcome {
        let Some(&operation) = self.at(key) else {
            return Outcome::Ended;
        };
        let meaning = match completion {
            Completion::Answered { words, payload_bytes } => operation.answered(&words, payload_bytes),
            Completion::Nack { may_land: true } => Meaning::MayLand,
            Completion::Nack { may_land: false } => Meaning::Definite(Fault::Unreachable),
            // Neither is asked for.
            Completion::Sent | Completion::Accepted => Meaning::MayLand,
        };
        if operation.state == State::TakenBack {
            self.leave(key, arena);
            return Outcome::Ended;
        }
        let result = match meaning {
            Meaning::Done => operation.landed,
            Meaning::Definite(fault) => Err(fault),
            Meaning::MayLand if operation.op.changes() => {
                self.unsettle(key, arena);
                return Outcome::Unsettled;
            }
            Meaning::MayLand => Err(Fault::Unreachable),
        };
        self.leave(key, arena);
        ended.push((operation.slot, result));
        Outcome::Ended
    }

    /// The engine wants one back: the names of reads that are so. A change is not: what is on its way cannot be called back, and
    /// would overtake what the engine sends next.
    pub(crate) fn take_back(&mut self, slot: SlotIndex, ended: &mut Ended) -> Option<u64> {
        let is_it = |operation: &Operation| operation.state == State::Asked && operation.slot == slot;
        let index = self.places.iter().position(is_it)?;
        let operation = self.places.get_mut(index)?;
        if operation.op.changes() {
            return None;
        }
        operation.state = State::TakenBack;
        ended.push((slot, Err(Fault::TimedOut)));
        Some(u64::from(operation.generation) << 32 | index as u64)
    }

    /// It is proved that nothing which the session does not have any more is carried out: it may be sent another way.
    pub(crate) fn nothing_lands(&mut self, ended: &mut Ended) {
        if self.unsettled == 0 {
            return;
        }
        for (index, operation) in (0..).zip(self.places.iter_mut()) {
            if operation.state == State::Unsettled {
                operation.state = State::Free;
                ended.push((operation.slot, Err(Fault::Unreachable)));
                self.free.push(index);
                self.unsettled -= 1;
            }
        }
        assert!(self.unsettled == 0, "changes are unsettled that are nowhere");
    }

    /// Whether something is read into memory, or is to be, for whoever waits for it.
    pub(crate) fn are_in(&self, memory: MemoryId) -> bool {
        self.places.iter().any(|operation| {
            operation.state == State::Asked && operation.op == Op::Read && operation.memory == memory
        })
    }

    fn at(&self, key: u64) -> Option<&Operation> {
        let operation = self.places.get(key as u32 as usize)?;
        let is_it = operation.state != State::Free && u64::from(operation.generation) == key >> 32;
        is_it.then_some(operation)
    }

    fn at_mut(&mut self, key: u64) -> Option<&mut Operation> {
        self.at(key)?;
        self.places.get_mut(key as u32 as usize)
    }

    fn leave(&mut self, key: u64, arena: &mut Arena) {
        if let Some(operation) = self.at_mut(key) {
            operation.state = State::Free;
            if let Some(buffer) = operation.buffer.take() {
                arena.give(buffer);
            }
            self.free.push(key as u32);
        }
    }

    fn unsettle(&mut self, key: u64, arena: &mut Arena) {
        if let Some(operation) = self.at_mut(key) {
            operation.state = State::Unsettled;
            // The engine has the data still, and sends it from there.
            if let Some(buffer) = operation.buffer.take() {
                arena.give(buffer);
            }
            self.unsettled += 1;
        }
    }
}

/// What has become of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Ended,
    Unsettled,
}

impl Operation {
    fn answered(&self, words: &ClientWords, payload_bytes: u32) -> Meaning {
        let Ok(result) = ForwardedResult::decode(words) else {
            // From a program that we do not know: nobody can say what it did.
            return Meaning::MayLand;
        };
        let expected = match (self.op, result) {
            (Op::Read, ForwardedResult::Done) => self.bytes,
            _ => 0,
        };
        match payload_bytes == expected {
            true => meaning(result),
            false => Meaning::MayLand,
        }
    }
}

/// What an operation says to the other node.
pub(crate) fn words(io: &Io<'_>) -> Result<ClientWords, ForwardedError> {
    let request = ForwardedRequest {
        op: asked(io.op),
        volume: VolumeKey::of(io.mapping.volume),
        generation: generation_half(io.mapping.revision),
        lba: io.lba,
        sectors: io.sectors,
    };
    request.encode()
}
