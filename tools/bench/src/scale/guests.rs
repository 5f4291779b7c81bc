//! Several guests on one thread, each with a ring of its own: as many requests as each may have in flight, or a paced
//! trickle whose latency counts from the moment each request was due.

use crate::Failure;
use crate::histogram::Histogram;
use crate::random::Random;
use crate::session::Session;
use palisade_block::{Clock, Nanos};
use palisade_sys::MonotonicClock;
use std::time::Duration;

/// After so long without any answer the target counts as hung.
const HUNG: Nanos = Nanos::from_secs(20);

/// Answers of a busy guest that are handled before the paced one is looked at again.
const ANSWERS_AT_ONCE: u16 = 4;

/// A guest that always has all its requests in flight.
#[derive(Debug)]
pub struct Busy<'a> {
    session: &'a mut Session,
    random: Random,
    blocks: u64,
    put_at: Vec<Nanos>,
    in_flight: u16,
    /// Requests answered.
    pub answered: u64,
}

impl<'a> Busy<'a> {
    /// A guest with nothing in flight yet.
    pub fn new(session: &'a mut Session, seed: u64) -> Busy<'a> {
        Busy {
            blocks: session.sectors / sectors_each(session),
            put_at: vec![Nanos(0); session.ring.depth().into()],
            random: Random::new(seed),
            session,
            in_flight: 0,
            answered: 0,
        }
    }

    fn begin(&mut self, now: Nanos) -> Result<(), Failure> {
        for slot in 0..self.session.ring.depth() {
            self.put(slot, now);
        }
        show(self.session)
    }

    #[inline]
    fn put(&mut self, slot: u16, now: Nanos) {
        let sector = self.random.below(self.blocks) * sectors_each(self.session);
        self.session.ring.submit(slot, sector);
        if let Some(put_at) = self.put_at.get_mut(usize::from(slot)) {
            *put_at = now;
        }
        self.in_flight += 1;
    }

    /// Takes some answers and, unless it is over, puts new requests in their place. The number of answers.
    #[inline]
    fn turn(&mut self, now: Nanos, most: u16, over: bool, latency: &mut Histogram) -> Result<u16, Failure> {
        let answers = self.session.ring.answered().min(most);
        for _ in 0..answers {
            let slot = self.session.ring.take()?;
            self.session.ring.stay_quiet();
            self.in_flight -= 1;
            if !over {
                self.answered += 1;
                let put_at = self.put_at.get(usize::from(slot)).copied().unwrap_or(now);
                latency.record(now.since(put_at).0);
                self.put(slot, now);
            }
        }
        if answers > 0 {
            show(self.session)?;
        }
        Ok(answers)
    }
}

/// Keeps several guests busy for `length`, one look at each in turn. All latencies.
pub fn all_busy(guests: &mut [Busy<'_>], length: Duration) -> Result<Histogram, Failure> {
    let (clock, mut latency) = (MonotonicClock::new(), Histogram::default());
    let begin = clock.now();
    for guest in guests.iter_mut() {
        guest.begin(begin)?;
    }
    let end = begin.after(Nanos(length.as_nanos() as u64));
    let mut last = begin;
    while guests.iter().any(|guest| guest.in_flight > 0) {
        for guest in guests.iter_mut() {
            // The clock is read for each guest that has answers, or a latency would hold the looks at all the others.
            if guest.session.ring.answered() > 0 {
                last = clock.now();
                guest.turn(last, u16::MAX, last >= end, &mut latency)?;
            }
        }
        hung(clock.now(), last)?;
    }
    Ok(latency)
}

/// A guest that asks at random moments, at a rate of its own that does not depend on the answers.
#[derive(Debug)]
pub struct Paced<'a> {
    session: &'a mut Session,
    random: Random,
    blocks: u64,
    interval_ns: f64,
    due: Nanos,
    due_at: Vec<Nanos>,
    free: Vec<u16>,
    /// Times from the moment a request was due until its answer was seen.
    pub latency: Histogram,
}

impl<'a> Paced<'a> {
    /// A guest with `rate` requests a second.
    pub fn new(session: &'a mut Session, rate: f64, seed: u64) -> Paced<'a> {
        let depth = session.ring.depth();
        Paced {
            blocks: session.sectors / sectors_each(session),
            interval_ns: 1e9 / rate,
            random: Random::new(seed),
            due: Nanos(0),
            due_at: vec![Nanos(0); depth.into()],
            free: (0..depth).collect(),
            latency: Histogram::default(),
            session,
        }
    }

    /// Exponential intervals, as of many independent askers.
    fn next_due(&mut self) {
        let even = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let wait = -(1.0 - even).ln() * self.interval_ns;
        self.due = self.due.after(Nanos(wait as u64));
    }

    #[inline]
    fn turn(&mut self, now: Nanos, over: bool) -> Result<u16, Failure> {
        let answers = self.session.ring.answered();
        for _ in 0..answers {
            let slot = self.session.ring.take()?;
            self.session.ring.stay_quiet();
            let due_at = self.due_at.get(usize::from(slot)).copied().unwrap_or(now);
            self.latency.record(now.since(due_at).0);
            self.free.push(slot);
        }
        let mut put = false;
        while !over
            && self.due <= now
            && let Some(slot) = self.free.pop()
        {
            let sector = self.random.below(self.blocks) * sectors_each(self.session);
            self.session.ring.submit(slot, sector);
            if let Some(due_at) = self.due_at.get_mut(usize::from(slot)) {
                *due_at = self.due;
            }
            self.next_due();
            put = true;
        }
        if put {
            show(self.session)?;
        }
        Ok(answers)
    }

    fn in_flight(&self) -> bool {
        self.free.len() < self.due_at.len()
    }
}

/// Runs a paced guest for `length`, with or without a busy one beside it, whose latencies go where nobody looks.
pub fn paced_beside(
    paced: &mut Paced<'_>,
    mut busy: Option<Busy<'_>>,
    length: Duration,
) -> Result<u64, Failure> {
    let (clock, mut ignored) = (MonotonicClock::new(), Histogram::default());
    let begin = clock.now();
    if let Some(busy) = &mut busy {
        busy.begin(begin)?;
    }
    paced.due = begin;
    paced.next_due();
    let end = begin.after(Nanos(length.as_nanos() as u64));
    let mut last = begin;
    loop {
        let now = clock.now();
        let over = now >= end;
        let mut answers = paced.turn(now, over)?;
        let mut waits = paced.in_flight();
        if let Some(busy) = &mut busy {
            answers += busy.turn(now, ANSWERS_AT_ONCE, over, &mut ignored)?;
            waits |= busy.in_flight > 0;
        }
        if answers > 0 || !waits {
            last = now;
        }
        if over && !waits {
            return Ok(busy.map_or(0, |busy| busy.answered));
        }
        hung(now, last)?;
    }
}

fn sectors_each(session: &Session) -> u64 {
    u64::from(session.ring.bytes()) / 512
}

#[inline]
fn show(session: &mut Session) -> Result<(), Failure> {
    if session.ring.publish() {
        session.kick.signal().map_err(Failure::system("kick a target"))?;
    }
    Ok(())
}

#[inline]
fn hung(now: Nanos, last: Nanos) -> Result<(), Failure> {
    if now.since(last) > HUNG {
        return Err(Failure::Ring {
            problem: "no answer for a long time".into(),
        });
    }
    Ok(())
}
