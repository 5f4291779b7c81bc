//! Requests of gibibytes, all of whose descriptors point at one buffer, and the neighbour that reads beside them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::pattern::Guest;
use super::ring::{ARENA, Part, Ring};
use super::session::{InFlight, Session};
use crate::failure::{Failure, Outcome, demand};

/// Segments of one request, and the length of each: 3 GiB.
const SEGMENTS: usize = 96;
const SEGMENT_BYTES: u32 = 32 << 20;
/// Bytes of one request.
pub const GIANT_BYTES: u64 = SEGMENTS as u64 * SEGMENT_BYTES as u64;
/// Where a request's header, status and indirect table lie: so far apart.
const APART: u64 = 4096;
const STATUS: u64 = 16;
const TABLE: u64 = 64;
/// Where all data lies.
const DATA: u64 = ARENA + (16 << 20);
/// How long all of them may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A guest with requests of gibibytes in flight.
#[derive(Debug)]
pub struct Giants {
    ring: Ring,
    session: Session,
    in_flight: Option<InFlight>,
    /// Which have been answered.
    answered: Vec<bool>,
}

impl Giants {
    /// Connects, and asks for nothing yet.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn at(socket: &Path) -> Outcome<Self> {
        let (ring, mut in_flight) = (Ring::new()?, None);
        let session = Session::start(socket, &ring, &mut in_flight)?;
        Ok(Self {
            ring,
            session,
            in_flight,
            answered: Vec::new(),
        })
    }

    /// Reads so many times 3 GiB, at once, from the beginning of what is offered. All that was read before has been answered.
    ///
    /// # Errors
    /// When the ring cannot be written.
    pub fn read(&mut self, count: u16) -> Outcome {
        self.answered = vec![false; usize::from(count)];
        for head in 0..count {
            self.ask(head)?;
        }
        Ok(())
    }

    /// How long one read of 3 GiB takes here with nothing beside it.
    ///
    /// # Errors
    /// As [`Giants::finish`].
    pub fn time_one(&mut self) -> Outcome<Duration> {
        let asked = Instant::now();
        self.read(1)?;
        self.finish()?;
        Ok(asked.elapsed())
    }

    fn ask(&mut self, head: u16) -> Outcome {
        let at = ARENA + u64::from(head) * APART;
        // A read from sector 0.
        self.ring.put(at, &[0; 16])?;
        self.ring.put(at + STATUS, &[0xff])?;
        let part = |address, bytes, device_writes| Part {
            address,
            bytes,
            device_writes,
        };
        let mut chain = vec![part(at, 16, false)];
        chain.extend(std::iter::repeat_n(part(DATA, SEGMENT_BYTES, true), SEGMENTS));
        chain.push(part(at + STATUS, 1, true));
        self.ring.offer(head, &chain, Some(at + TABLE))
    }

    /// Connects again, with what was in flight.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn reconnect(&mut self, socket: &Path) -> Outcome {
        self.look()?;
        self.session = Session::start(socket, &self.ring, &mut self.in_flight)?;
        Ok(())
    }

    /// Those without an answer.
    ///
    /// # Errors
    /// An answer that came twice, or that was bad.
    pub fn open(&mut self) -> Outcome<usize> {
        self.look()?;
        Ok(self.answered.iter().filter(|answered| !**answered).count())
    }

    /// Waits for the answers to all of them.
    ///
    /// # Errors
    /// One that came twice, was bad, or did not come.
    pub fn finish(&mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while self.open()? > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let gone = self.ring.sleep(self.session.socket(), left)?;
            demand(!gone, "the daemon has closed the session")?;
        }
        Ok(())
    }

    fn look(&mut self) -> Outcome {
        for head in self.ring.answered()? {
            let status = self.ring.get(ARENA + u64::from(head) * APART + STATUS, 1)?;
            demand(status == [0], format!("request {head} ended with {status:?}"))?;
            let place = self.answered.get_mut(head as usize);
            let answered = place.ok_or_else(|| Failure::new(format!("an answer to {head}")))?;
            demand(!*answered, format!("{head} was answered twice"))?;
            *answered = true;
        }
        Ok(())
    }
}

/// How long single reads of 4 KiB took, shortest first.
///
/// # Errors
/// A request that ended otherwise than well.
pub fn latencies(guest: &mut Guest, time: Duration) -> Outcome<Vec<Duration>> {
    let (begin, mut all) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        let asked = Instant::now();
        guest.read((all.len() as u64 % 1024) * 4096, 4096)?;
        all.push(asked.elapsed());
    }
    all.sort_unstable();
    Ok(all)
}
