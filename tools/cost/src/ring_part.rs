//! What a reactor does with a queue in one turn, without reactor and device: pull, finish, publish.

use palisade_block::{Answer, Pulled, SegmentList, Source, Status, Token};
use palisade_virtio::BlkQueue;
use palisade_virtio::driver::repeated::Silent;

/// A queue and what stands in for the reactor's tables.
#[derive(Debug)]
pub struct RingPart {
    queue: BlkQueue<Silent>,
    segments: SegmentList,
    tokens: Vec<Token>,
}

impl RingPart {
    /// For turns of `depth` requests.
    pub fn new(queue: BlkQueue<Silent>, depth: u16) -> RingPart {
        RingPart {
            queue,
            segments: SegmentList::default(),
            tokens: Vec::with_capacity(usize::from(depth)),
        }
    }

    /// Serves what is offered. `cargo xtask budget` counts the instructions of functions of this name.
    #[inline(never)]
    pub fn measured_turn(&mut self) {
        while let Pulled::Request(request) = self.queue.pull(&mut self.segments) {
            self.tokens.push(request.token);
        }
        for token in self.tokens.drain(..) {
            self.queue.finish(Answer {
                token,
                status: Status::Ok,
                fault: None,
                dirtied: &[],
            });
        }
        self.queue.publish();
    }
}
