//! What another node asks of this one's volumes, as a source of requests for the engine.

use crate::exchange::{Exchange, GivenEnd, GivenRequest};
use palisade_block::{Answer, Lease, Pulled, Request, SegmentList, Source, Token};
use palisade_words::VolumeIndex;
use std::collections::VecDeque;
use std::sync::Arc;

/// The requests of one session. It carries those of many volumes, and no volume waits for another.
#[derive(Debug)]
pub struct ServedQueue {
    exchange: Arc<Exchange>,
    /// What waits, each at its own number.
    waiting: Box<[Waiting]>,
    count: usize,
    /// One for each volume of which something waits, but for the one that is turned to: that comes behind all others then.
    lines: VecDeque<Line>,
    turned_to: Option<Line>,
}

/// A request that waits, and the one behind it.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    request: Option<GivenRequest>,
    next: Option<u32>,
}

/// The requests of one volume, in the order in which they came.
#[derive(Clone, Copy, Debug)]
struct Line {
    volume: VolumeIndex,
    first: u32,
    last: u32,
}

impl ServedQueue {
    /// Of a session, whose other side has the same exchange.
    pub fn new(exchange: Arc<Exchange>) -> ServedQueue {
        let requests = exchange.capacity();
        ServedQueue {
            exchange,
            waiting: vec![Waiting::default(); requests].into(),
            count: 0,
            lines: VecDeque::with_capacity(requests),
            turned_to: None,
        }
    }

    /// Puts what has come into the lines.
    fn take_in(&mut self) {
        while let Some(request) = self.exchange.given.pop() {
            let (index, volume) = (request.index, request.volume);
            let Some(place) = self.waiting.get_mut(index as usize) else {
                unreachable!("a request of another node has number {index}, and there is no such place");
            };
            *place = Waiting {
                request: Some(request),
                next: None,
            };
            self.count += 1;
            let mut lines = self.turned_to.iter_mut().chain(&mut self.lines);
            match lines.find(|line| line.volume == volume) {
                Some(line) => {
                    let before = std::mem::replace(&mut line.last, index);
                    if let Some(before) = self.waiting.get_mut(before as usize) {
                        before.next = Some(index);
                    }
                }
                None => self.lines.push_back(Line {
                    volume,
                    first: index,
                    last: index,
                }),
            }
        }
    }

    /// The first of the line that is turned to.
    fn take(&mut self) -> Option<GivenRequest> {
        let line = self.turned_to.as_mut()?;
        let taken = std::mem::take(self.waiting.get_mut(line.first as usize)?);
        match taken.next {
            Some(next) => line.first = next,
            None => self.turned_to = None,
        }
        self.count -= 1;
        taken.request
    }

    fn end(&self, index: u32, end: GivenEnd) {
        let has_room = self.exchange.ended.push((index, end)).is_ok();
        assert!(has_room, "more requests of another node ended than were given");
    }
}

impl Source for ServedQueue {
    fn lease(&self) -> Lease {
        self.exchange.lease().clone()
    }

    fn has_more(&self) -> bool {
        self.count > 0 || !self.exchange.given.is_empty()
    }

    fn turn_to(&mut self, mut may_serve: impl FnMut(VolumeIndex) -> bool) -> Option<VolumeIndex> {
        self.take_in();
        self.lines.extend(self.turned_to.take());
        let at = self.lines.iter().position(|line| may_serve(line.volume))?;
        self.turned_to = self.lines.remove(at);
        self.turned_to.map(|line| line.volume)
    }

    fn pull(&mut self, segments: &mut SegmentList) -> Pulled {
        let Some(given) = self.take() else {
            return Pulled::Empty;
        };
        if given.era != self.exchange.era() {
            // Who has asked it may ask it of another node by now.
            self.end(given.index, GivenEnd::Dropped);
            return Pulled::Answered;
        }
        segments.clear();
        if given.data.bytes() > 0 {
            segments.push(given.data);
        }
        Pulled::Request(Request {
            token: Token::new(given.index.into(), 0),
            op: given.op,
            lba: given.lba,
            sectors: given.sectors,
        })
    }

    fn finish(&mut self, answer: Answer<'_>) {
        let index = answer.token.key() as u32;
        answer.token.spend();
        self.end(index, GivenEnd::Answered(answer.status, answer.fault));
    }

    fn publish(&mut self) {}

    fn backlog(&self) -> usize {
        self.count + self.exchange.given.len()
    }

    fn arm(&mut self) -> bool {
        self.has_more()
    }

    fn disarm(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_block::{Op, Segment, Status};
    use palisade_words::{Lba, Sectors};

    fn queue() -> (Arc<Exchange>, ServedQueue) {
        let exchange = Arc::new(Exchange::new(8, Lease::of_words(Arc::new([]))));
        (Arc::clone(&exchange), ServedQueue::new(exchange))
    }

    fn give(exchange: &Exchange, index: u32, volume: u16) {
        let given = GivenRequest {
            index,
            era: exchange.era(),
            volume: VolumeIndex(volume),
            op: Op::Discard,
            lba: Lba(u64::from(index)),
            sectors: Sectors(8),
            data: Segment::EMPTY,
        };
        exchange.given.push(given).unwrap();
    }

    fn pull(queue: &mut ServedQueue) -> Option<u64> {
        match queue.pull(&mut SegmentList::default()) {
            Pulled::Request(request) => {
                let key = request.token.key();
                request.token.spend();
                Some(key)
            }
            _ => None,
        }
    }

    #[test]
    fn volumes_take_turns_and_one_that_may_not_be_served_holds_up_none() {
        let (exchange, mut queue) = queue();
        assert!(!queue.has_more() && queue.turn_to(|_| true).is_none());
        for (index, volume) in [(0, 5), (1, 5), (2, 7), (3, 5), (4, 9)] {
            give(&exchange, index, volume);
        }
        assert_eq!(queue.backlog(), 5);
        assert_eq!(
            queue.turn_to(|volume| volume == VolumeIndex(7)),
            Some(VolumeIndex(7))
        );
        assert_eq!(
            (pull(&mut queue), pull(&mut queue)),
            (Some(2), None),
            "of that one alone"
        );
        let not_9 = |volume| volume != VolumeIndex(9);
        assert_eq!(queue.turn_to(not_9), Some(VolumeIndex(5)));
        assert_eq!((pull(&mut queue), pull(&mut queue)), (Some(0), Some(1)));
        give(&exchange, 2, 5);
        assert_eq!(
            queue.turn_to(|_| true),
            Some(VolumeIndex(9)),
            "the other one's turn"
        );
        assert_eq!(
            (pull(&mut queue), queue.backlog(), queue.has_more()),
            (Some(4), 2, true)
        );
        assert_eq!(queue.turn_to(|_| false), None);
        assert_eq!(pull(&mut queue), None);
        assert_eq!(queue.turn_to(|_| true), Some(VolumeIndex(5)));
        assert_eq!(
            (pull(&mut queue), pull(&mut queue), pull(&mut queue)),
            (Some(3), Some(2), None)
        );
        assert_eq!((queue.backlog(), queue.has_more()), (0, false));
    }

    #[test]
    fn what_a_lost_session_has_asked_is_not_begun() {
        let (exchange, mut queue) = queue();
        give(&exchange, 0, 1);
        exchange.next_era();
        give(&exchange, 1, 1);
        assert_eq!(queue.turn_to(|_| true), Some(VolumeIndex(1)));
        let mut list = SegmentList::default();
        assert!(matches!(queue.pull(&mut list), Pulled::Answered));
        assert_eq!(exchange.ended.pop(), Some((0, GivenEnd::Dropped)));
        assert_eq!(pull(&mut queue), Some(1));
    }

    #[test]
    fn an_answer_goes_to_whoever_has_asked() {
        let (exchange, mut queue) = queue();
        queue.finish(Answer {
            token: Token::new(6, 0),
            status: Status::IoErr,
            fault: Some(palisade_block::Fault::Media),
            dirtied: &[],
        });
        let end = GivenEnd::Answered(Status::IoErr, Some(palisade_block::Fault::Media));
        assert_eq!(exchange.ended.pop(), Some((6, end)));
    }
}
