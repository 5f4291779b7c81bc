//! The loop that measures: keep a number of requests in flight for a while, and take the time each one takes.
//!
//! The clock is read once a turn, when answers have been found: an answer's time and the time of the request that
//! takes its place are the same reading. So a latency ends when this client has seen the answer, and at depth 1
//! includes what it costs the client to ask.

use crate::Failure;
use crate::latency::LatencyHistogram;
use crate::row::Work;
use crate::session::Session;
use fastrand::Rng;
use palisade_block::{Clock, Nanos};
use palisade_sys::MonotonicClock;
use std::time::Duration;

/// After so long without any answer the target counts as hung.
const HUNG: Nanos = Nanos::from_secs(20);

/// What one window gave.
#[derive(Clone, Debug)]
pub struct Window {
    /// Requests answered in it.
    pub requests: u64,
    /// How long it was.
    pub elapsed: Nanos,
    /// Times from putting a request, or from when it was due, to seeing its answer.
    pub latency: LatencyHistogram,
    /// Kicks the target asked for.
    pub kicks: u64,
}

impl Window {
    /// Without requests yet.
    pub fn new() -> Result<Window, Failure> {
        Ok(Window {
            requests: 0,
            elapsed: Nanos(0),
            latency: LatencyHistogram::new()?,
            kicks: 0,
        })
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 * 1e9 / (self.elapsed.0.max(1)) as f64
    }
}

/// Runs random requests for `length`, then waits for what is in flight. The requests' kind has been prepared.
pub fn random_requests(session: &mut Session, length: Duration, seed: u64) -> Result<Window, Failure> {
    let mut sector = random_sectors(session, seed);
    let end = length.as_nanos() as u64;
    requests(session, ALWAYS_FULL, |elapsed| match elapsed < end {
        true => Next::Put(sector(), elapsed),
        false => Next::End,
    })
}

/// Sectors of whole requests at random, the same for the same seed.
pub(crate) fn random_sectors(session: &Session, seed: u64) -> impl FnMut() -> u64 + use<> {
    let sectors_each = u64::from(session.ring.bytes()) / 512;
    let blocks = session.sectors / sectors_each;
    let mut random = Rng::with_seed(seed);
    move || random.u64(..blocks) * sectors_each
}

/// Writes the whole disk once, from its beginning, so that no later request meets a hole.
pub fn fill(session: &mut Session) -> Result<(), Failure> {
    session.ring.prepare(Work::Write);
    let sectors_each = u64::from(session.ring.bytes()) / 512;
    let (mut next, end) = (0, session.sectors);
    requests(session, ALWAYS_FULL, |elapsed| {
        let sector = next;
        next += sectors_each;
        match next <= end {
            true => Next::Put(sector, elapsed),
            false => Next::End,
        }
    })?;
    Ok(())
}

/// Writes a mark into some blocks and reads it back. A target that keeps nothing while it says it does would be
/// measured as a fast one.
pub fn check_content(session: &mut Session) -> Result<(), Failure> {
    let sectors_each = u64::from(session.ring.bytes()) / 512;
    let slots = 0..session.ring.depth();
    let all = session.sectors / sectors_each;
    let mark = |slot: u16| 0x7061_6c69_7361_6465 ^ u64::from(slot) << 7;
    for work in [Work::Write, Work::Read] {
        session.ring.prepare(work);
        for slot in slots.clone() {
            let before = if work == Work::Write { mark(slot) } else { 0 };
            session.ring.set_mark(slot, before);
        }
        // Slots are used in order at first, and this gives no more blocks than there are slots.
        let mut blocks = slots.clone().map(|slot| u64::from(slot) * 7 % all);
        requests(session, ALWAYS_FULL, |elapsed| {
            let block = blocks.next();
            block.map_or(Next::End, |block| Next::Put(block * sectors_each, elapsed))
        })?;
    }
    match slots.clone().find(|&slot| session.ring.mark(slot) != mark(slot)) {
        None => Ok(()),
        Some(slot) => Err(Failure::Ring {
            problem: format!("slot {slot} read something else than it wrote"),
        }),
    }
}

/// How a window is run.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// While nothing comes the time is looked at after so many empty looks at the ring.
    pub looks: u32,
    /// Whether what is still in flight at the end counts.
    pub rest_counts: bool,
}

/// The next request comes when one is answered.
const ALWAYS_FULL: Pace = Pace {
    looks: 256,
    rest_counts: false,
};

/// What to do with a free slot.
pub(crate) enum Next {
    /// Put a request for this sector, whose time runs from this moment.
    Put(u64, u64),
    /// Nothing yet.
    Wait,
    /// Nothing ever again.
    End,
}

/// Fills free slots with what `next` says at the time passed, until it says that it is over and all is answered. The
/// time is looked at whenever answers have come.
pub(crate) fn requests(
    session: &mut Session,
    pace: Pace,
    mut next: impl FnMut(u64) -> Next,
) -> Result<Window, Failure> {
    let (clock, mut window) = (MonotonicClock::new(), Window::new()?);
    let depth = session.ring.depth();
    let mut free: Vec<u16> = (0..depth).rev().collect();
    let mut since = vec![0; depth.into()];
    let begin = clock.now();
    let (mut elapsed, mut last, mut looked, mut over) = (0, 0, 0, false);
    loop {
        while !over && let Some(&slot) = free.last() {
            match next(elapsed) {
                Next::Put(sector, from) => {
                    free.pop();
                    session.ring.submit(slot, sector);
                    if let Some(since) = since.get_mut(usize::from(slot)) {
                        *since = from;
                    }
                }
                Next::Wait => break,
                Next::End => over = true,
            }
        }
        if session.ring.publish() {
            window.kicks += 1;
            session.kick.write(1).map_err(Failure::system("kick a target"))?;
        }
        let answers = session.ring.answered();
        if answers == 0 {
            if free.len() == usize::from(depth) {
                if over {
                    return Ok(window);
                }
                last = elapsed;
            }
            looked += 1;
            if looked >= pace.looks {
                (looked, elapsed) = (0, clock.now().since(begin).0);
                check_hung(elapsed.saturating_sub(last))?;
            }
            continue;
        }
        elapsed = clock.now().since(begin).0;
        (looked, last) = (0, elapsed);
        for _ in 0..answers {
            let slot = session.ring.take()?;
            free.push(slot);
            if over && !pace.rest_counts {
                continue;
            }
            let from = since.get(usize::from(slot)).copied().unwrap_or(elapsed);
            window.latency.record(elapsed.saturating_sub(from));
            window.requests += 1;
            window.elapsed = Nanos(elapsed);
        }
    }
}

/// Ends the run when a target has given no answer for [`HUNG`].
#[cold]
fn check_hung(silent_ns: u64) -> Result<(), Failure> {
    if silent_ns <= HUNG.0 {
        return Ok(());
    }
    Err(Failure::Ring {
        problem: format!("no answer for {} s", HUNG.0 / 1_000_000_000),
    })
}
