//! What another node has asked this reactor for: judged by the mappings that this node knows, given to the engine, and answered.
//!
//! ```text
//!                .-- names a mapping not known yet --> early -- known, or for too long ----.
//!   delivered ---+-- may not be done ------------------------------------------------------|--> answered
//!                '-- may be done --> short of a buffer --> given to the engine --> ended --+
//!                                                                                   '--> doubtful -- proved --> answered
//! ```
//!
//! A change that the engine has ended by a fault which says nothing of its landing is *doubtful*. Who has asked is told so; but when
//! the session is lost, its next round begins only after it is proved that nothing of that lands any more: the other node takes a
//! new round for the proof that nothing of the one before is under way, and asks again.

mod books;
mod judging;

use crate::arena::Arena;
use crate::exchange::{Exchange, GivenEnd};
use crate::result::{Meaning, answered, meaning};
use palisade_block::Nanos;
use palisade_port::{BufferIndex, ClientWords, MessageAnswer};
use palisade_wire::{ForwardedResult, VolumeKey};
use palisade_words::{Epoch, Generation, StreamIndex, VolumeIndex};
use std::collections::VecDeque;
use std::sync::Arc;

/// For so long a request waits for this node to hear of the mapping that it names. Longer than any agreement takes; after it, who
/// has asked is told that the mapping is not in force here, and looks for another way.
pub const EARLY_HELD_FOR: Nanos = Nanos::from_secs(2);

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
    /// Of these, those that were held for too long, or for which there was no room.
    pub early_given_up: u64,
    /// For what is not served, or not to be changed by that node.
    pub refused: u64,
    /// What no program of ours asks.
    pub rejected: u64,
    /// More at once than the session has places for: no program of ours has so many.
    pub beyond: u64,
    /// Changes that ended without anybody knowing whether they land.
    pub doubtful: u64,
    /// Orders to serve a volume by an older mapping than is known.
    pub stale_orders: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    message: Delivered,
    state: Waits,
    is_read: bool,
    changes: bool,
    bytes: u32,
    era: u32,
    since: Nanos,
}

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    /// To be judged, or for a mapping.
    Early,
    /// For a buffer.
    Buffer,
    /// For the engine.
    Engine,
    /// For the proof that it does not land.
    Proof,
    /// For its answer's data to be sent.
    Sending,
}

/// Who takes buffers, and where answers go.
pub(crate) struct Means<'a> {
    pub(crate) arena: &'a mut Arena,
    pub(crate) answers: &'a mut Vec<MessageAnswer>,
    pub(crate) now: Nanos,
}

/// All requests of one session.
#[derive(Debug)]
pub(crate) struct Serving {
    exchange: Arc<Exchange>,
    /// By key and number: of a key that two volumes have, neither is served.
    volumes: Vec<(VolumeKey, ServedVolume)>,
    places: Box<[Option<Place>]>,
    free: Vec<u32>,
    /// Those that name a mapping which this node does not know yet, the oldest first.
    early: VecDeque<u32>,
    early_max: usize,
    /// Reads for whose data there is no buffer just now.
    short: VecDeque<u32>,
    /// Buffers that reads have, and may have: the others are for what comes with a message.
    read_buffers: usize,
    read_buffers_max: usize,
    /// Changes of this round that were answered and may land yet.
    doubts: u32,
    /// The same of a round that is over: they are not answered before it is proved that they do not.
    unproved: Vec<u32>,
    counters: ServingCounters,
}

impl Serving {
    /// With so many buffers that reads may have.
    pub(crate) fn new(exchange: Arc<Exchange>, read_buffers_max: usize) -> Serving {
        let places = exchange.capacity();
        Serving {
            exchange,
            volumes: Vec::new(),
            places: vec![None; places].into(),
            free: (0..places as u32).rev().collect(),
            early: VecDeque::with_capacity(places),
            early_max: (places / 2).max(1),
            short: VecDeque::with_capacity(places),
            read_buffers: 0,
            read_buffers_max,
            doubts: 0,
            unproved: Vec::with_capacity(places),
            counters: ServingCounters::default(),
        }
    }

    /// Requests of a volume are served from now on, by this mapping, unless a newer one is known. Not part of a turn. What has waited
    /// for it goes on.
    pub(crate) fn serve(&mut self, key: VolumeKey, volume: ServedVolume, means: &mut Means<'_>) {
        let by = |(key, served): &(VolumeKey, ServedVolume)| (*key, served.volume);
        match self.volumes.binary_search_by_key(&(key, volume.volume), by) {
            Ok(at) => {
                let Some((_, known)) = self.volumes.get_mut(at) else {
                    return;
                };
                if volume.generation < known.generation || volume.epoch < known.epoch {
                    self.counters.stale_orders += 1;
                    return;
                }
                *known = volume;
            }
            Err(at) => self.volumes.insert(at, (key, volume)),
        }
        self.judge_early(means);
    }

    /// They are no longer.
    pub(crate) fn stop(&mut self, key: VolumeKey, volume: VolumeIndex, means: &mut Means<'_>) {
        self.volumes
            .retain(|(known, served)| (*known, served.volume) != (key, volume));
        self.judge_early(means);
    }

    /// Takes a message. There is a place for each that an honest node has under way.
    pub(crate) fn deliver(&mut self, message: Delivered, means: &mut Means<'_>) {
        let Some(index) = self.free.pop() else {
            self.counters.beyond += 1;
            if let Some(buffer) = message.buffer {
                means.arena.give(buffer);
            }
            let answer = answer_of(&message, ForwardedResult::NotServed, u64::MAX);
            return means.answers.push(answer);
        };
        if let Some(place) = self.places.get_mut(index as usize) {
            *place = Some(Place {
                message,
                state: Waits::Early,
                is_read: false,
                changes: false,
                bytes: 0,
                era: self.exchange.era(),
                since: means.now,
            });
        }
        self.judge(index, true, means);
    }

    /// What the engine has ended; what has waited for a buffer goes on, as far as there are any.
    pub(crate) fn take_ends(&mut self, means: &mut Means<'_>) {
        while let Some((index, end)) = self.exchange.ended.pop() {
            let result = match end {
                GivenEnd::Answered(status, fault) => answered(status, fault),
                GivenEnd::Dropped => ForwardedResult::NotServed,
            };
            self.ends(index, result, means);
        }
        self.give_buffers(means);
    }

    /// Whether the engine has ended something that was not taken note of.
    pub(crate) fn has_ends(&self) -> bool {
        !self.exchange.ended.is_empty()
    }

    fn ends(&mut self, index: u32, result: ForwardedResult, means: &mut Means<'_>) {
        let Some(Some(place)) = self.places.get_mut(index as usize) else {
            unreachable!("request {index} of another node ended, and is not there");
        };
        if !place.changes || meaning(result) != Meaning::MayLand {
            return self.answer(index, result, means);
        }
        self.counters.doubtful += 1;
        if place.era == self.exchange.era() {
            self.doubts += 1;
            return self.answer(index, result, means);
        }
        place.state = Waits::Proof;
        if let Some(buffer) = place.message.buffer.take() {
            means.arena.give(buffer);
        }
        self.unproved.push(index);
    }

    /// Whether a new round must wait for the proof that nothing lands which this node has tried to carry out.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubts > 0 || !self.unproved.is_empty()
    }

    /// That is proved.
    pub(crate) fn nothing_lands(&mut self, means: &mut Means<'_>) {
        self.doubts = 0;
        while let Some(index) = self.unproved.pop() {
            self.answer(index, ForwardedResult::Unreachable, means);
        }
    }

    /// The data of an answer is not needed any more.
    pub(crate) fn answer_done(&mut self, key: u64, means: &mut Means<'_>) {
        self.leave(key as u32, means.arena);
        self.give_buffers(means);
    }

    /// Where the data of an answer lies.
    pub(crate) fn data(&self, key: u64) -> Option<BufferIndex> {
        let place = self.places.get(key as usize).copied().flatten()?;
        place.message.buffer
    }

    /// The session is lost: what the engine has not begun is not begun any more.
    pub(crate) fn session_lost(&mut self, means: &mut Means<'_>) {
        self.exchange.next_era();
        while let Some(index) = self.early.pop_front().or_else(|| self.short.pop_front()) {
            self.answer(index, ForwardedResult::NotServed, means);
        }
    }

    /// Those that have waited too long for a mapping are told so.
    pub(crate) fn tick(&mut self, means: &mut Means<'_>) {
        while self.next_look().is_some_and(|at| at <= means.now)
            && let Some(index) = self.early.pop_front()
        {
            self.counters.early_given_up += 1;
            self.answer(index, ForwardedResult::Stale, means);
        }
    }

    /// When the next one will have.
    pub(crate) fn next_look(&self) -> Option<Nanos> {
        self.held_since().map(|since| since.after(EARLY_HELD_FOR))
    }

    fn answer(&mut self, index: u32, result: ForwardedResult, means: &mut Means<'_>) {
        let Some(Some(place)) = self.places.get_mut(index as usize) else {
            unreachable!("request {index} of another node ended twice");
        };
        let has_data = place.is_read && result == ForwardedResult::Done;
        means.answers.push(MessageAnswer {
            payload_bytes: if has_data { place.bytes } else { 0 },
            is_repeatable: place.is_read,
            ..answer_of(&place.message, result, index.into())
        });
        match has_data {
            true => place.state = Waits::Sending,
            false => self.leave(index, means.arena),
        }
    }

    fn leave(&mut self, index: u32, arena: &mut Arena) {
        let Some(place) = self.places.get_mut(index as usize).and_then(Option::take) else {
            unreachable!("request {index} of another node has left twice");
        };
        if let Some(buffer) = place.message.buffer {
            self.read_buffers -= usize::from(place.is_read);
            arena.give(buffer);
        }
        self.free.push(index);
    }
}

/// An answer without data.
pub(crate) fn answer_of(message: &Delivered, result: ForwardedResult, key: u64) -> MessageAnswer {
    MessageAnswer {
        round: message.round,
        stream: message.stream,
        sequence: message.sequence,
        words: result.encode(),
        payload_bytes: 0,
        key,
        is_repeatable: false,
    }
}

#[cfg(test)]
mod tests;
