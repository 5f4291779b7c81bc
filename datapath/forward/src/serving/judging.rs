//! What becomes of a request before the engine has it.

use super::{Delivered, Means, Serving, Waits};
use crate::exchange::GivenRequest;
use crate::result::given;
use palisade_block::Segment;
use palisade_port::BufferIndex;
use palisade_wire::{ForwardedOp, ForwardedRequest, ForwardedResult, generation_half};
use palisade_words::{Epoch, VolumeIndex};

/// How a request is judged.
enum Judgement {
    Serve(VolumeIndex),
    /// It names what this node does not know yet.
    Early,
    Answer(ForwardedResult),
}

impl Serving {
    /// What a mapping is known of now, or not served any more, does not wait for it.
    pub(super) fn judge_early(&mut self, means: &mut Means<'_>) {
        for _ in 0..self.early.len() {
            if let Some(index) = self.early.pop_front() {
                self.judge(index, false, means);
            }
        }
    }

    /// Reads that wait for a buffer get one, in their order, as far as there are any.
    pub(super) fn give_buffers(&mut self, means: &mut Means<'_>) {
        while self.may_take_buffer(means)
            && let Some(index) = self.short.pop_front()
        {
            // The mapping may be another one meanwhile.
            self.judge(index, false, means);
        }
    }

    /// What comes with a message finds a buffer, whatever reads have.
    fn may_take_buffer(&self, means: &Means<'_>) -> bool {
        self.read_buffers < self.read_buffers_max && means.arena.used() < means.arena.len()
    }

    pub(super) fn judge(&mut self, index: u32, is_new: bool, means: &mut Means<'_>) {
        let Some(Some(place)) = self.places.get(index as usize) else {
            return;
        };
        let message = place.message;
        let request = match ForwardedRequest::decode(&message.words) {
            Ok(request) if fits(&request, &message) => request,
            _ => {
                self.counters.rejected += 1;
                return self.answer(index, ForwardedResult::Rejected, means);
            }
        };
        let volume = match self.judgement(&request, message.epoch) {
            Judgement::Serve(volume) => volume,
            Judgement::Early => return self.hold(index, is_new, means),
            Judgement::Answer(result) => {
                match result {
                    ForwardedResult::Stale => self.counters.stale += 1,
                    _ => self.counters.refused += 1,
                }
                return self.answer(index, result, means);
            }
        };
        let bytes = request.data_bytes() as u32;
        let is_read = request.op == ForwardedOp::Read;
        let buffer = match is_read {
            false => message.buffer,
            true => match self.may_take_buffer(means).then(|| means.arena.take()).flatten() {
                Some(buffer) => {
                    self.read_buffers += 1;
                    Some(buffer)
                }
                None => return self.wait_for_buffer(index),
            },
        };
        self.give(index, (&request, volume), (buffer, bytes), means);
    }

    fn give(
        &mut self,
        index: u32,
        (request, volume): (&ForwardedRequest, VolumeIndex),
        (buffer, bytes): (Option<BufferIndex>, u32),
        means: &mut Means<'_>,
    ) {
        let op = given(request.op);
        let era = self.exchange.era();
        if let Some(Some(place)) = self.places.get_mut(index as usize) {
            place.is_read = request.op == ForwardedOp::Read;
            (place.bytes, place.message.buffer) = (bytes, buffer);
            (place.state, place.changes, place.era) = (Waits::Engine, op.changes(), era);
        }
        self.counters.given += 1;
        let given = self.exchange.given.push(GivenRequest {
            index,
            era,
            volume,
            op,
            lba: request.lba,
            sectors: request.sectors,
            data: buffer.map_or(Segment::EMPTY, |buffer| means.arena.segment(buffer, bytes)),
        });
        assert!(
            given.is_ok(),
            "more requests of another node than there are places"
        );
    }

    fn hold(&mut self, index: u32, is_new: bool, means: &mut Means<'_>) {
        self.counters.early += u64::from(is_new);
        if self.early.len() >= self.early_max {
            // It would keep what it holds from others.
            self.counters.early_given_up += 1;
            return self.answer(index, ForwardedResult::Stale, means);
        }
        if let Some(Some(place)) = self.places.get_mut(index as usize) {
            place.state = Waits::Early;
        }
        self.early.push_back(index);
    }

    fn wait_for_buffer(&mut self, index: u32) {
        if let Some(Some(place)) = self.places.get_mut(index as usize) {
            place.state = Waits::Buffer;
        }
        self.short.push_back(index);
    }

    fn judgement(&self, request: &ForwardedRequest, epoch: Epoch) -> Judgement {
        let first = self.volumes.partition_point(|(key, _)| *key < request.volume);
        let mut named = self.volumes.get(first..).unwrap_or_default().iter();
        let is_named = |(key, volume)| (key == request.volume).then_some(volume);
        let volume = named.next().copied().and_then(is_named);
        let other = named.next().copied().and_then(is_named);
        let (Some(volume), None) = (volume, other) else {
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
