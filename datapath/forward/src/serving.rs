//! What another node has asked this reactor for: judged by the mappings that this node knows, given to the engine, and answered.

use crate::arena::Arena;
use crate::exchange::{Exchange, GivenEnd, GivenRequest};
use crate::result::{answered, given};
use palisade_block::Segment;
use palisade_port::{BufferIndex, ClientWords, MessageAnswer};
use palisade_wire::{ForwardedOp, ForwardedRequest, ForwardedResult, VolumeKey, generation_half};
use palisade_words::{Epoch, Generation, StreamIndex, VolumeIndex};
use std::collections::VecDeque;
use std::sync::Arc;

/// A message as the session has delivered it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    pub(crate) round: u32,
    pub(crate) stream: StreamIndex,
    pub(crate) sequence: u64,
    pub(crate) words: ClientWords,
    pub(crate) epoch: Epoch,
    pub(crate) buffer: Option<BufferIndex>,
    /// Length of what lies in the buffer.
    pub(crate) bytes: u32,
}

/// A mapping by which the other node is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ServedVolume {
    pub(crate) volume: VolumeIndex,
    pub(crate) generation: Generation,
    pub(crate) epoch: Epoch,
    pub(crate) may_change: bool,
}

/// What a request of another node meets, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServingCounters {
    /// Given to the engine.
    pub given: u64,
    /// Of a mapping or membership that is over.
    pub stale: u64,
    /// Held until this node knows the mapping that they name.
    pub early: u64,
    /// For what is not served, or not to be changed by that node.
    pub refused: u64,
    /// What no program of ours asks.
    pub rejected: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    message: Delivered,
    is_read: bool,
    bytes: u32,
}

/// How a request is judged.
enum Judgement {
    Serve(VolumeIndex),
    /// It names what this node does not know yet.
    Early,
    Answer(ForwardedResult),
}

/// All requests of one session.
#[derive(Debug)]
pub(crate) struct Serving {
    exchange: Arc<Exchange>,
    /// By key.
    volumes: Vec<(VolumeKey, ServedVolume)>,
    places: Box<[Option<Place>]>,
    free: Vec<u32>,
    /// Those that name a mapping which this node does not know yet, and those for whose data there is no buffer just now.
    waiting: VecDeque<u32>,
    counters: ServingCounters,
}

impl Serving {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Serving {
        let places = exchange.capacity();
        Serving {
            exchange,
            volumes: Vec::new(),
            places: vec![None; places].into(),
            free: (0..places as u32).rev().collect(),
            waiting: VecDeque::with_capacity(places),
            counters: ServingCounters::default(),
        }
    }

    pub(crate) fn counters(&self) -> &ServingCounters {
        &self.counters
    }

    /// Requests of a volume are served from now on, by this mapping. Not part of a turn. What has waited for it goes on.
    pub(crate) fn serve(
        &mut self,
        key: VolumeKey,
        volume: ServedVolume,
        arena: &mut Arena,
        answers: &mut Vec<MessageAnswer>,
    ) {
        match self.volumes.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => {
                if let Some(known) = self.volumes.get_mut(at) {
                    known.1 = volume;
                }
            }
            Err(at) => self.volumes.insert(at, (key, volume)),
        }
        self.go_on(arena, answers);
    }

    /// They are no longer.
    pub(crate) fn stop(&mut self, key: VolumeKey, arena: &mut Arena, answers: &mut Vec<MessageAnswer>) {
        self.volumes.retain(|(known, _)| *known != key);
        self.go_on(arena, answers);
    }

    /// Takes a message. There is a place for each that the session delivers before the ones before it are answered.
    pub(crate) fn deliver(
        &mut self,
        message: Delivered,
        arena: &mut Arena,
        answers: &mut Vec<MessageAnswer>,
    ) {
        let Some(index) = self.free.pop() else {
            unreachable!("a session has delivered more messages than it may before one is answered");
        };
        if let Some(place) = self.places.get_mut(index as usize) {
            *place = Some(Place {
                message,
                is_read: false,
                bytes: 0,
            });
        }
        self.judge(index, true, arena, answers);
    }

    /// What the engine has ended.
    pub(crate) fn take_ends(&mut self, arena: &mut Arena, answers: &mut Vec<MessageAnswer>) {
        while let Some((index, end)) = self.exchange.ended.pop() {
            let result = match end {
                GivenEnd::Answered(status, fault) => answered(status, fault),
                GivenEnd::Dropped => ForwardedResult::NotServed,
            };
            self.answer(index, result, arena, answers);
        }
    }

    /// The data of an answer is not needed any more.
    pub(crate) fn answer_done(&mut self, key: u64, arena: &mut Arena, answers: &mut Vec<MessageAnswer>) {
        self.leave(key as u32, arena);
        self.go_on(arena, answers);
    }

    /// Where the data of an answer lies.
    pub(crate) fn data(&self, key: u64) -> Option<BufferIndex> {
        let place = self.places.get(key as usize).copied().flatten()?;
        place.message.buffer
    }

    /// The session is lost: what the engine has not begun is not begun any more.
    pub(crate) fn session_lost(&mut self, arena: &mut Arena, answers: &mut Vec<MessageAnswer>) {
        self.exchange.next_era();
        while let Some(index) = self.waiting.pop_front() {
            self.answer(index, ForwardedResult::NotServed, arena, answers);
        }
    }

    /// Whether nothing of another node is here.
    pub(crate) fn is_idle(&self) -> bool {
        self.free.len() == self.places.len()
    }

    fn go_on(&mut self, arena: &mut Arena, answers: &mut Vec<MessageAnswer>) {
        for _ in 0..self.waiting.len() {
            if let Some(index) = self.waiting.pop_front() {
                self.judge(index, false, arena, answers);
            }
        }
    }

    fn judge(&mut self, index: u32, is_new: bool, arena: &mut Arena, answers: &mut Vec<MessageAnswer>) {
        let Some(Some(place)) = self.places.get(index as usize) else {
            return;
        };
        let message = place.message;
        let request = match ForwardedRequest::decode(&message.words) {
            Ok(request) if fits(&request, &message) => request,
            _ => {
                self.counters.rejected += 1;
                return self.answer(index, ForwardedResult::Rejected, arena, answers);
            }
        };
        let volume = match self.judgement(&request, message.epoch) {
            Judgement::Serve(volume) => volume,
            Judgement::Early => {
                self.counters.early += u64::from(is_new);
                return self.waiting.push_back(index);
            }
            Judgement::Answer(result) => {
                match result {
                    ForwardedResult::Stale => self.counters.stale += 1,
                    _ => self.counters.refused += 1,
                }
                return self.answer(index, result, arena, answers);
            }
        };
        let bytes = request.data_bytes() as u32;
        let is_read = request.op == ForwardedOp::Read;
        let buffer = match is_read {
            false => message.buffer,
            true => match arena.take() {
                Some(buffer) => Some(buffer),
                None => return self.waiting.push_back(index),
            },
        };
        if let Some(Some(place)) = self.places.get_mut(index as usize) {
            (place.is_read, place.bytes, place.message.buffer) = (is_read, bytes, buffer);
        }
        let data = buffer.map_or(Segment::EMPTY, |buffer| arena.segment(buffer, bytes));
        self.counters.given += 1;
        let given = self.exchange.given.push(GivenRequest {
            index,
            era: self.exchange.era(),
            volume,
            op: given(request.op),
            lba: request.lba,
            sectors: request.sectors,
            data,
        });
        assert!(
            given.is_ok(),
            "more requests of another node than there are places"
        );
    }

    fn judgement(&self, request: &ForwardedRequest, epoch: Epoch) -> Judgement {
        let found = self
            .volumes
            .binary_search_by_key(&request.volume, |(key, _)| *key)
            .ok()
            .and_then(|at| self.volumes.get(at));
        let Some((_, volume)) = found else {
            return Judgement::Answer(ForwardedResult::NotServed);
        };
        let ahead = request
            .generation
            .wrapping_sub(generation_half(volume.generation)) as i32;
        if ahead > 0 || epoch > volume.epoch {
            return Judgement::Early;
        }
        if ahead < 0 || epoch < volume.epoch {
            return Judgement::Answer(ForwardedResult::Stale);
        }
        if given(request.op).changes() && !volume.may_change {
            return Judgement::Answer(ForwardedResult::ReadOnly);
        }
        Judgement::Serve(volume.volume)
    }

    fn answer(
        &mut self,
        index: u32,
        result: ForwardedResult,
        arena: &mut Arena,
        answers: &mut Vec<MessageAnswer>,
    ) {
        let Some(&Some(place)) = self.places.get(index as usize) else {
            unreachable!("request {index} of another node ended twice");
        };
        let has_data = place.is_read && result == ForwardedResult::Done;
        answers.push(MessageAnswer {
            round: place.message.round,
            stream: place.message.stream,
            sequence: place.message.sequence,
            words: result.encode(),
            payload_bytes: if has_data { place.bytes } else { 0 },
            key: index.into(),
            is_repeatable: place.is_read,
        });
        if !has_data {
            self.leave(index, arena);
        }
    }

    fn leave(&mut self, index: u32, arena: &mut Arena) {
        let Some(place) = self.places.get_mut(index as usize).and_then(Option::take) else {
            unreachable!("request {index} of another node has left twice");
        };
        if let Some(buffer) = place.message.buffer {
            arena.give(buffer);
        }
        self.free.push(index);
    }
}

/// Whether a message brings the data that its words speak of, and no more is asked for than a buffer holds.
fn fits(request: &ForwardedRequest, message: &Delivered) -> bool {
    let brings = match request.op {
        ForwardedOp::Write => request.data_bytes(),
        _ => 0,
    };
    u64::from(message.bytes) == brings
        && message.buffer.is_some() == (brings > 0)
        && request.data_bytes() <= u64::from(crate::arena::PAYLOAD_BUFFER_BYTES)
}
