//! What this reactor has asked another node for: one place for each operation, from the engine's call until it is settled.
//!
//! ```text
//!                    .-- answered: done, or a definite fault ------------------------> ended
//!   free -> asked ---+-- a read: way lost -------------------------------------------> ended: unreachable
//!           ^ |      '-- a change: way lost ---------------.
//!        up | | session lost                               v
//!           | v                                        unsettled ------- proved -----> ended: unreachable
//!           kept ------- a change that was sent: given back ^
//!             '--------- all others: given back -------------------------------------> ended: unreachable
//! ```
//!
//! A change that may still be carried out is never ended: the engine would send it another way, and be overtaken. A read that the
//! engine takes back has ended at once; its place is free when the session has done with it.

use crate::arena::Arena;
use crate::result::{Meaning, asked, meaning};
use palisade_block::limits::SEGMENTS_PER_SLOT;
use palisade_block::{Fault, Io, Op, Segment};
use palisade_port::{BufferIndex, ClientWords, Completion};
use palisade_wire::{
    CLIENT_WORDS_BYTES, ForwardedError, ForwardedRequest, ForwardedResult, VolumeKey, generation_half,
};
use palisade_words::{Epoch, MemoryId, SlotIndex};

/// How far an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    /// The session has it, and the engine waits for it.
    Asked,
    /// It waits for the session to be up again.
    Kept {
        /// It was sent before, and may be carried out until then.
        may_land: bool,
    },
    /// A read that the session has and the engine has given up.
    TakenBack,
    /// A change that the session does not have any more, and which may be carried out yet.
    Unsettled,
}

/// What is said of an operation to the other node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asking {
    pub(crate) words: ClientWords,
    pub(crate) epoch: Epoch,
    pub(crate) payload_bytes: u32,
    pub(crate) answer_bytes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    state: State,
    /// Counts the operations of the place, so that what is said of a former one is not taken for the present one.
    generation: u32,
    slot: SlotIndex,
    op: Op,
    bytes: u32,
    asking: Asking,
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
    asking: Asking {
        words: [0; CLIENT_WORDS_BYTES],
        epoch: Epoch(0),
        payload_bytes: 0,
        answer_bytes: 0,
    },
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
    kept: u32,
    /// What waits for the session is given back instead.
    gives_back: bool,
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
            kept: 0,
            gives_back: false,
        }
    }

    /// What waits for the session to be up again.
    pub(crate) fn kept(&self) -> u32 {
        self.kept
    }

    /// Whether nothing is kept.
    pub(crate) fn gives_back(&self) -> bool {
        self.gives_back
    }

    /// Changes that wait for the proof that they are not carried out any more.
    pub(crate) fn unsettled(&self) -> u32 {
        self.unsettled
    }

    /// What the engine waits for, or may be carried out.
    pub(crate) fn in_use(&self) -> u32 {
        (self.places.len() - self.free.len()) as u32
    }

    /// Whether there is nothing in any state.
    pub(crate) fn are_none(&self) -> bool {
        self.free.len() == self.places.len()
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Notes an operation, of whose data as much lies in `buffer` as it writes. There is room.
    pub(crate) fn begin(&mut self, io: &Io<'_>, asking: Asking, buffer: Option<BufferIndex>) -> Option<u64> {
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
            bytes: asking.payload_bytes + asking.answer_bytes,
            asking,
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

    /// The session is not up: it waits until it is.
    pub(crate) fn keep(&mut self, key: u64) {
        self.keep_as(key, false);
    }

    fn keep_as(&mut self, key: u64, may_land: bool) {
        if let Some(operation) = self.at_mut(key) {
            operation.state = State::Kept { may_land };
            self.kept += 1;
        }
    }

    /// The session is up: nothing that was asked before is under way any more. What was unsettled ends, and what was kept is to be
    /// asked again.
    pub(crate) fn up(&mut self, ended: &mut Ended) {
        self.gives_back = false;
        self.nothing_lands(ended);
    }

    /// The next one that was kept: it is asked now, in these words.
    pub(crate) fn next_kept(&mut self, from: &mut usize) -> Option<(u64, Asking)> {
        if self.kept == 0 {
            return None;
        }
        let is_kept = |operation: &Operation| matches!(operation.state, State::Kept { .. });
        let rest = self.places.get(*from..)?;
        let index = *from + rest.iter().position(is_kept)?;
        *from = index + 1;
        let operation = self.places.get_mut(index)?;
        (operation.state, operation.landed) = (State::Asked, Ok(()));
        self.kept -= 1;
        Some((
            u64::from(operation.generation) << 32 | index as u64,
            operation.asking,
        ))
    }

    /// Nothing more is hoped for from the session as it is: what waits for it ends, but for changes that may be carried out.
    pub(crate) fn give_back(&mut self, arena: &mut Arena, ended: &mut Ended) {
        self.gives_back = true;
        for index in 0..self.places.len() {
            let Some(operation) = self.places.get(index) else {
                break;
            };
            let State::Kept { may_land } = operation.state else {
                continue;
            };
            let key = u64::from(operation.generation) << 32 | index as u64;
            let (slot, changes) = (operation.slot, operation.op.changes());
            self.kept -= 1;
            match may_land && changes {
                true => self.unsettle(key, arena),
                false => {
                    self.leave(key, arena);
                    ended.push((slot, Err(Fault::Unreachable)));
                }
            }
        }
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
    ) {
        let Some(&operation) = self.at(key) else {
            return;
        };
        if operation.state == State::TakenBack {
            return self.leave(key, arena);
        }
        let meaning = match completion {
            Completion::Answered { words, payload_bytes } => operation.answered(&words, payload_bytes),
            Completion::Nack { may_land } if !self.gives_back => return self.keep_as(key, may_land),
            Completion::Nack { may_land: true } => Meaning::MayLand,
            Completion::Nack { may_land: false } => Meaning::Definite(Fault::Unreachable),
            // Neither is asked for.
            Completion::Sent | Completion::Accepted => Meaning::MayLand,
        };
        let result = match meaning {
            Meaning::Done => operation.landed,
            Meaning::Definite(fault) => Err(fault),
            Meaning::MayLand if operation.op.changes() => return self.unsettle(key, arena),
            Meaning::MayLand => Err(Fault::Unreachable),
        };
        self.leave(key, arena);
        ended.push((operation.slot, result));
    }

    /// The engine wants one back: the names of reads that are so. A change is not: what is on its way cannot be called back, and
    /// would overtake what the engine sends next.
    pub(crate) fn take_back(&mut self, slot: SlotIndex, arena: &mut Arena, ended: &mut Ended) -> Option<u64> {
        let is_asked = |state| matches!(state, State::Asked | State::Kept { .. });
        let is_it = |operation: &Operation| is_asked(operation.state) && operation.slot == slot;
        let index = self.places.iter().position(is_it)?;
        let operation = self.places.get_mut(index)?;
        if operation.op.changes() {
            return None;
        }
        let key = u64::from(operation.generation) << 32 | index as u64;
        match operation.state {
            State::Asked => operation.state = State::TakenBack,
            _ => {
                self.kept -= 1;
                self.leave(key, arena);
            }
        }
        ended.push((slot, Err(Fault::TimedOut)));
        Some(key)
    }

    /// It is proved that nothing which the session does not have any more is carried out: it may be sent another way.
    pub(crate) fn nothing_lands(&mut self, ended: &mut Ended) {
        if self.unsettled == 0 && self.kept == 0 {
            return;
        }
        for (index, operation) in (0..).zip(self.places.iter_mut()) {
            match &mut operation.state {
                State::Unsettled => {
                    operation.state = State::Free;
                    ended.push((operation.slot, Err(Fault::Unreachable)));
                    self.free.push(index);
                    self.unsettled -= 1;
                }
                State::Kept { may_land } => *may_land = false,
                State::Free | State::Asked | State::TakenBack => {}
            }
        }
        assert!(self.unsettled == 0, "changes are unsettled that are nowhere");
    }

    /// Whether something is read into memory, or is to be, for whoever waits for it.
    pub(crate) fn are_in(&self, memory: MemoryId) -> bool {
        self.places.iter().any(|operation| {
            let is_wanted = matches!(operation.state, State::Asked | State::Kept { .. });
            is_wanted && operation.op == Op::Read && operation.memory == memory
        })
    }

    /// Whether the books agree with themselves, and how many buffers are in use; what does not, in words.
    pub(crate) fn check(&self) -> Result<usize, String> {
        let of = |wanted: fn(&State) -> bool| {
            let places = self.places.iter().filter(|operation| wanted(&operation.state));
            places.count()
        };
        let (free, kept, unsettled) = (
            of(|state| *state == State::Free),
            of(|state| matches!(state, State::Kept { .. })),
            of(|state| *state == State::Unsettled),
        );
        let counted = (self.free.len(), self.kept as usize, self.unsettled as usize);
        if (free, kept, unsettled) != counted {
            return Err(format!(
                "operations are counted as {counted:?}, and {:?} are free, kept and unsettled",
                (free, kept, unsettled)
            ));
        }
        let buffers = self.places.iter().filter(|operation| operation.buffer.is_some());
        Ok(buffers.count())
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
pub(crate) fn asking(io: &Io<'_>) -> Result<Asking, ForwardedError> {
    let request = ForwardedRequest {
        op: asked(io.op),
        volume: VolumeKey::of(io.mapping.volume),
        generation: generation_half(io.mapping.revision),
        lba: io.lba,
        sectors: io.sectors,
    };
    let bytes = request.data_bytes() as u32;
    Ok(Asking {
        words: request.encode()?,
        epoch: io.mapping.epoch,
        payload_bytes: if io.op == Op::Write { bytes } else { 0 },
        answer_bytes: if io.op == Op::Read { bytes } else { 0 },
    })
}

#[cfg(test)]
mod tests;
