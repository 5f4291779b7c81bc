//! Frames on their way from one node to another, and what may become of them there.

use crate::rng::Rng;
use palisade_block::Nanos;
use palisade_wire::FRAME_HEADER_BYTES;
use std::collections::VecDeque;

/// A frame that is to go out, or is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) header: [u8; FRAME_HEADER_BYTES],
    pub(crate) payload: Vec<u8>,
    /// When its first byte arrives, and its last.
    pub(crate) arrives: (Nanos, Nanos),
}

impl Frame {
    pub(crate) fn bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.payload.len()) as u64
    }
}

/// The connection breaks: what is on its way may still arrive, or not.
pub(crate) fn cut_short(frames: &mut VecDeque<Frame>, rng: &mut Rng) {
    let kept = rng.index(frames.len() + 1);
    frames.truncate(kept);
}

/// One bit of what is on its way is turned.
pub(crate) fn turn_bit(frames: &mut VecDeque<Frame>, rng: &mut Rng) {
    let at = rng.index(frames.len());
    if let Some(frame) = frames.get_mut(at) {
        let bit = rng.below(8 * frame.bytes()) as usize;
        let byte = bit / 8;
        match byte.checked_sub(FRAME_HEADER_BYTES) {
            Some(byte) => frame.payload[byte] ^= 1 << (bit % 8),
            None => frame.header[byte] ^= 1 << (bit % 8),
        }
    }
}
