//! The loop that measures: keep a number of requests in flight for a while, and take the time each one takes.
//!
//! The clock is read once a turn, when answers have been found: an answer's time and the time of the request that
//! takes its place are the same reading. So a latency ends when this client has seen the answer, and at depth 1
//! includes what it costs the client to ask.

use crate::Failure;
use crate::histogram::Histogram;
use crate::random::Random;
use crate::row::Work;
use crate::session::Session;
use palisade_block::{Clock, Nanos};
use palisade_sys::MonotonicClock;
use std::time::Duration;

/// After so long without any answer the target counts as hung.
pub(crate) const HUNG: Duration = Duration::from_secs(20);

/// Slices of a window that are kept: the first minute's.
const SLICES_MAX: usize = 60_000;

/// How often the time is looked at while nothing comes: each so many empty looks at the ring.
const LOOKS_PER_TIME: u32 = 256;

/// Length of a slice. Shorter than what the scheduler gives a neighbour at once, so that slices are either disturbed or
/// not.
const SLICE: Nanos = Nanos::from_millis(1);

/// What one window gave.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Requests answered in it.
    pub requests: u64,
    /// How long it was.
    pub elapsed: Nanos,
    /// Times from putting a request to seeing its answer, ns.
    pub latency: Histogram,
    /// Kicks the target asked for.
    pub kicks: u64,
    /// Requests answered in each whole slice of a millisecond; slices without an answer are left out.
    pub slices: Vec<u32>,
}

impl Window {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 * 1e9 / (self.elapsed.0.max(1)) as f64
    }
}

/// A client with a place to go on from.
#[derive(Debug)]
pub struct Client {
    clock: MonotonicClock,
    random: Random,
    put_at: Vec<Nanos>,
}

impl Client {
    /// A client whose random blocks depend on `seed`.
    pub fn new(seed: u64) -> Client {
        Client {
            clock: MonotonicClock::new(),
            random: Random::new(seed),
            put_at: Vec::new(),
        }
    }

    /// Runs random requests for `length`, then waits for what is in flight. The requests' kind has been prepared.
    pub fn random_requests(&mut self, session: &mut Session, length: Duration) -> Result<Window, Failure> {
        let sectors_each = u64::from(session.ring.bytes()) / 512;
        let blocks = session.sectors / sectors_each;
        let mut random = self.random;
        let window = self.requests(session, |elapsed| {
            (elapsed < length.as_nanos() as u64).then(|| random.below(blocks) * sectors_each)
        });
        self.random = random;
        window
    }

    /// Writes the whole disk once, from its beginning, so that no later request meets a hole.
    pub fn fill(&mut self, session: &mut Session) -> Result<(), Failure> {
        session.ring.prepare(Work::Write);
        let sectors_each = u64::from(session.ring.bytes()) / 512;
        let (mut next, end) = (0, session.sectors);
        self.requests(session, |_| {
            let sector = next;
            next += sectors_each;
            (next <= end).then_some(sector)
        })?;
        Ok(())
    }

    /// Writes a mark into some blocks and reads it back. A target that keeps nothing while it says it does would be
    /// measured as a fast one.
    pub fn check_content(&mut self, session: &mut Session) -> Result<(), Failure> {
        let sectors_each = u64::from(session.ring.bytes()) / 512;
        let blocks: Vec<u64> = (0..u64::from(session.ring.depth()))
            .map(|slot| slot * 7 % (session.sectors / sectors_each))
            .collect();
        let mark = |slot: u16| 0x7061_6c69_7361_6465 ^ u64::from(slot) << 7;
        for work in [Work::Write, Work::Read] {
            session.ring.prepare(work);
            for slot in 0..session.ring.depth() {
                session
                    .ring
                    .set_mark(slot, if work == Work::Write { mark(slot) } else { 0 });
            }
            let mut given = blocks.iter();
            // Slots are used in order at first, and this gives no more blocks than there are slots.
            self.requests(session, |_| given.next().map(|block| block * sectors_each))?;
        }
        match (0..session.ring.depth()).find(|&slot| session.ring.mark(slot) != mark(slot)) {
            None => Ok(()),
            Some(slot) => Err(Failure::Ring {
                problem: format!("slot {slot} read something else than it wrote"),
            }),
        }
    }

    /// Keeps the ring full with the sectors that `next` gives for the time passed, until it gives none.
    fn requests(
        &mut self,
        session: &mut Session,
        mut next: impl FnMut(u64) -> Option<u64>,
    ) -> Result<Window, Failure> {
        let mut window = Window {
            slices: Vec::with_capacity(SLICES_MAX),
            ..Window::default()
        };
        let (mut kicks, mut slice_end, mut slice_begin) = (0, SLICE.0, 0);
        let begin = self.clock.now();
        let (mut in_flight, mut last, mut done) = (0u32, begin, false);
        self.put_at.clear();
        self.put_at.resize(session.ring.depth().into(), begin);
        for slot in 0..session.ring.depth() {
            match next(0) {
                Some(sector) => session.ring.submit(slot, sector),
                None => break,
            }
            in_flight += 1;
        }
        show(session, &mut kicks)?;
        let mut looks = 0;
        while in_flight > 0 {
            let answers = session.ring.answered();
            if answers == 0 {
                looks += 1;
                if looks == LOOKS_PER_TIME {
                    looks = 0;
                    self.check_hung(last)?;
                }
                continue;
            }
            looks = 0;
            let now = self.clock.now();
            last = now;
            let elapsed = now.since(begin).0;
            if elapsed >= slice_end {
                // A slice that was left alone ends within the next one; a longer pause was not the target's doing.
                let whole = elapsed < slice_end + SLICE.0 && window.slices.len() < SLICES_MAX;
                if whole {
                    window.slices.push((window.requests - slice_begin) as u32);
                }
                slice_begin = window.requests;
                slice_end = elapsed - elapsed % SLICE.0 + SLICE.0;
            }
            for _ in 0..answers {
                let slot = session.ring.take()?;
                session.ring.stay_quiet();
                let put_at = self.put_at.get_mut(usize::from(slot));
                if done {
                    in_flight -= 1;
                    continue;
                }
                window.requests += 1;
                window.elapsed = Nanos(elapsed);
                let sector = next(elapsed);
                if let Some(put_at) = put_at {
                    window.latency.record(now.since(*put_at).0);
                    *put_at = now;
                }
                match sector {
                    Some(sector) => session.ring.submit(slot, sector),
                    None => {
                        done = true;
                        in_flight -= 1;
                    }
                }
            }
            show(session, &mut kicks)?;
        }
        window.kicks = kicks;
        Ok(window)
    }

    #[cold]
    fn check_hung(&self, last: Nanos) -> Result<(), Failure> {
        if u128::from(self.clock.now().since(last).0) > HUNG.as_nanos() {
            return Err(hung());
        }
        Ok(())
    }
}

/// What is said of a target that has given no answer for [`HUNG`].
pub(crate) fn hung() -> Failure {
    Failure::Ring {
        problem: format!("no answer for {} s", HUNG.as_secs()),
    }
}

/// Shows what has been put, and kicks when that is asked for.
#[inline]
pub(crate) fn show(session: &mut Session, kicks: &mut u64) -> Result<(), Failure> {
    if session.ring.publish() {
        *kicks += 1;
        session.kick.signal().map_err(Failure::system("kick a target"))?;
    }
    Ok(())
}
