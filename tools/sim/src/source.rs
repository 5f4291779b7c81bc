//! The device side of a queue as the simulated daemon holds it: any door's source, behind a place where the process
//! can be killed and where deliberate faults are put in.

use crate::door::PlainSource;
use crate::port::PortSource;
use crate::rng::Rng;
use palisade_block::{Answer, Lease, Pulled, SegmentList, Source, Status, Token};
use palisade_sys::counting_allocator::uncounted;
use palisade_words::VolumeIndex;
use std::cell::Cell;
use std::rc::Rc;

/// What a killed process leaves by: it unwinds to the world, which clears up.
#[derive(Clone, Copy, Debug)]
pub struct Killed;

/// Counts calls across the reactor's border and kills the process in the middle of one.
#[derive(Clone, Debug, Default)]
pub struct Fuse(Rc<Cell<Option<u32>>>);

impl Fuse {
    /// Kills after this many calls more.
    pub fn light(&self, calls: u32) {
        self.0.set(Some(calls));
    }

    /// Puts it out.
    pub fn put_out(&self) {
        self.0.set(None);
    }

    /// A call across the border.
    pub fn step(&self) {
        match self.0.get() {
            None => {}
            Some(0) => {
                self.put_out();
                std::panic::resume_unwind(Box::new(Killed));
            }
            Some(left) => self.0.set(Some(left - 1)),
        }
    }
}

/// A deliberate fault between the engine and a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meddling {
    /// Now and then an answer is dropped.
    DropAnswer,
    /// Now and then an answer is given twice.
    AnswerTwice,
    /// Now and then a failure is reported as success.
    HideFailure,
    /// Now and then a flush is answered without having been done.
    SkipFlush,
}

/// What kind of queue it is.
#[derive(Debug)]
pub enum AnySource {
    /// Lists.
    Plain(PlainSource),
    /// Rings.
    Ring(Box<crate::ring_door::RingSource>),
    /// Lists of many volumes.
    Port(Box<PortSource>),
    /// A ring that was refused: nothing ever comes of it. Its guest's memory.
    None(Lease),
}

/// A source behind fuse and meddling.
#[derive(Debug)]
pub struct SimSource {
    inner: AnySource,
    fuse: Fuse,
    meddling: Option<(Meddling, Rng)>,
    taken: Rc<Cell<u64>>,
}

impl SimSource {
    /// Puts a source behind a fuse. Requests are counted in `taken` as they leave it.
    pub fn new(
        inner: AnySource,
        fuse: Fuse,
        meddling: Option<(Meddling, Rng)>,
        taken: Rc<Cell<u64>>,
    ) -> SimSource {
        SimSource {
            inner,
            fuse,
            meddling,
            taken,
        }
    }

    fn pass(&mut self, answer: Answer<'_>) {
        match &mut self.inner {
            AnySource::Plain(source) => uncounted(|| source.finish(answer)),
            AnySource::Ring(source) => source.finish(answer),
            AnySource::Port(source) => uncounted(|| source.finish(answer)),
            AnySource::None(_) => answer.token.spend(),
        }
    }

    /// The answer to pass on, if any.
    fn meddle<'a>(&mut self, mut answer: Answer<'a>) -> Option<Answer<'a>> {
        let Some((meddling, rng)) = &mut self.meddling else {
            return Some(answer);
        };
        match meddling {
            Meddling::DropAnswer if rng.one_in(40) => {
                answer.token.spend();
                return None;
            }
            Meddling::HideFailure => (answer.status, answer.fault) = (Status::Ok, None),
            Meddling::AnswerTwice if rng.one_in(40) => {
                let again = Answer {
                    token: Token::new(answer.token.key(), answer.token.note()),
                    status: answer.status,
                    fault: answer.fault,
                    dirtied: answer.dirtied,
                };
                self.pass(again);
            }
            _ => {}
        }
        Some(answer)
    }
}

impl Source for SimSource {
    fn lease(&self) -> Lease {
        match &self.inner {
            AnySource::Plain(source) => source.lease(),
            AnySource::Ring(source) => source.lease(),
            AnySource::Port(source) => source.lease(),
            AnySource::None(lease) => lease.clone(),
        }
    }

    fn has_more(&self) -> bool {
        match &self.inner {
            AnySource::Plain(source) => source.has_more(),
            AnySource::Ring(source) => source.has_more(),
            AnySource::Port(source) => source.has_more(),
            AnySource::None(_) => false,
        }
    }

    fn turn_to(&mut self, may_serve: impl FnMut(VolumeIndex) -> bool) -> Option<VolumeIndex> {
        match &mut self.inner {
            AnySource::Port(source) => source.turn_to(may_serve),
            AnySource::Plain(_) | AnySource::Ring(_) | AnySource::None(_) => None,
        }
    }

    fn pull(&mut self, segments: &mut SegmentList) -> Pulled {
        self.fuse.step();
        let pulled = match &mut self.inner {
            AnySource::Plain(source) => uncounted(|| source.pull(segments)),
            AnySource::Ring(source) => source.pull(segments),
            AnySource::Port(source) => uncounted(|| source.pull(segments)),
            AnySource::None(_) => Pulled::Empty,
        };
        if let (Pulled::Request(request), Some((Meddling::SkipFlush, rng))) = (&pulled, &mut self.meddling)
            && request.op == palisade_block::Op::Flush
            && rng.one_in(2)
            && let Pulled::Request(request) = pulled
        {
            self.pass(Answer {
                token: request.token,
                status: Status::Ok,
                fault: None,
                dirtied: &[],
            });
            return Pulled::Answered;
        }
        if let Pulled::Request(_) = pulled {
            self.taken.set(self.taken.get() + 1);
        }
        pulled
    }

    fn may_follow(&mut self, descriptors: u32) {
        if let AnySource::Ring(source) = &mut self.inner {
            source.may_follow(descriptors);
        }
    }

    fn followed(&mut self) -> u32 {
        match &mut self.inner {
            AnySource::Ring(source) => source.followed(),
            AnySource::Plain(_) | AnySource::Port(_) | AnySource::None(_) => 0,
        }
    }

    fn finish(&mut self, answer: Answer<'_>) {
        self.fuse.step();
        if let Some(answer) = self.meddle(answer) {
            self.pass(answer);
        }
    }

    fn publish(&mut self) {
        self.fuse.step();
        match &mut self.inner {
            AnySource::Plain(source) => uncounted(|| source.publish()),
            AnySource::Ring(source) => source.publish(),
            AnySource::Port(source) => uncounted(|| source.publish()),
            AnySource::None(_) => {}
        }
    }

    fn arm(&mut self) -> bool {
        match &mut self.inner {
            AnySource::Plain(source) => source.arm(),
            AnySource::Ring(source) => source.arm(),
            AnySource::Port(source) => source.arm(),
            AnySource::None(_) => false,
        }
    }

    fn backlog(&self) -> usize {
        match &self.inner {
            AnySource::Plain(source) => source.backlog(),
            AnySource::Ring(source) => source.backlog(),
            AnySource::Port(source) => source.backlog(),
            AnySource::None(_) => 0,
        }
    }

    fn disarm(&mut self) {
        match &mut self.inner {
            AnySource::Plain(source) => source.disarm(),
            AnySource::Ring(source) => source.disarm(),
            AnySource::Port(source) => source.disarm(),
            AnySource::None(_) => {}
        }
    }
}
