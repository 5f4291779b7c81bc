//! A target during a run: started, its disk filled and proven, then halted except while it is its turn.

use crate::Failure;
use crate::figures::Series;
use crate::paced;
use crate::ring::Layout;
use crate::row::{LARGE_BYTES, LARGE_DEPTH, Medium, Row};
use crate::session::Session;
use crate::target::{Ground, Running, Way};
use crate::window::{self, Window};
use fastrand::Rng;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Run before each window and not counted: caches fill, a stopped target comes back.
const WARM_UP: Duration = Duration::from_millis(100);

/// Requests in flight when they come at a rate: far more than that rate ever needs, so that none waits for a slot.
const PACED_DEPTH: u16 = 128;

/// How requests come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Arrivals {
    /// The next one when one is answered: always as many in flight as the row says.
    Closed,
    /// So many a second, whatever the target does.
    Paced(f64),
}

/// How often everybody has a turn, and how long one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Rounds {
    /// Windows for each target in each row.
    pub repeats: u32,
    /// Length of a window.
    pub length: Duration,
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} windows of {} s", self.repeats, self.length.as_secs_f64())
    }
}

/// A target and what is known of it.
pub struct Contestant {
    /// How it is run.
    pub way: Way,
    running: Running,
    session: Option<Session>,
}

impl Contestant {
    /// Starts a target, fills its disk, proves that it keeps what it is given, and stops it until its turn.
    pub fn enter(way: &Way, medium: Medium, event_idx: bool, ground: &Ground) -> Result<Contestant, Failure> {
        let running = Running::start(way, medium, ground)?;
        match &running {
            Running::Bare { bare, .. } => bare.fill()?,
            Running::Server { process, socket, .. } => {
                if medium != Medium::Null {
                    let layout = Layout {
                        depth: LARGE_DEPTH,
                        bytes: LARGE_BYTES,
                    };
                    let mut session = Session::open(socket, event_idx, layout)?;
                    window::fill(&mut session)?;
                    window::check_content(&mut session)?;
                    session.close()?;
                }
                process.halt()?;
            }
        }
        Ok(Contestant {
            way: *way,
            running,
            session: None,
        })
    }

    /// Opens a session for a row; the bare device needs none.
    fn connect(&mut self, row: Row, arrivals: Arrivals, event_idx: bool) -> Result<(), Failure> {
        if let Running::Server { process, socket, .. } = &self.running {
            let depth = match arrivals {
                Arrivals::Closed => row.depth,
                Arrivals::Paced(_) => PACED_DEPTH,
            };
            let layout = Layout {
                depth,
                bytes: row.bytes,
            };
            process.go_on()?;
            let mut session = Session::open(socket, event_idx, layout).map_err(|error| self.named(error))?;
            session.ring.prepare(row.work);
            process.halt()?;
            self.session = Some(session);
        }
        Ok(())
    }

    /// Its turn: a warm-up, then a window that counts. The bare device knows no arrivals but [`Arrivals::Closed`].
    fn window(
        &mut self,
        row: Row,
        arrivals: Arrivals,
        length: Duration,
        round: u64,
        series: &mut Series,
    ) -> Result<(), Failure> {
        let seed = round + 1;
        let name = self.way.name;
        match (&self.running, &mut self.session) {
            (Running::Bare { bare, .. }, _) => {
                bare.random_requests(row, WARM_UP, seed << 32)?;
                let (window, processor) = bare.random_requests(row, length, seed)?;
                series.add(&window, processor);
            }
            (Running::Server { process, .. }, Some(session)) => {
                let mut run = |length, seed| -> Result<Window, Failure> {
                    let window = match arrivals {
                        Arrivals::Closed => window::random_requests(session, length, seed),
                        Arrivals::Paced(rate) => paced::requests(session, rate, length, seed),
                    };
                    window.map_err(|error| Failure::target(name, error))
                };
                process.go_on()?;
                run(WARM_UP, seed << 32)?;
                let before = process.usage()?;
                let window = run(length, seed)?;
                series.add(&window, process.usage()?.since(&before));
                process.halt()?;
            }
            (Running::Server { .. }, None) => {}
        }
        Ok(())
    }

    /// Ends the session.
    fn disconnect(&mut self) -> Result<(), Failure> {
        if let (Running::Server { process, .. }, Some(session)) = (&self.running, self.session.take()) {
            process.go_on()?;
            session.close().map_err(|error| self.named(error))?;
            // The server closes its end by itself, which takes a moment.
            std::thread::sleep(Duration::from_millis(50));
            process.halt()?;
        }
        Ok(())
    }

    fn named(&self, error: Failure) -> Failure {
        Failure::target(self.way.name, error)
    }
}

/// Lets contestants take turns for so many rounds, and gives what each did. Each round has an order of its own, by
/// chance but always the same: a device remembers (caches, credits, writes still to be done), and nobody is to have the
/// same forerunner always.
pub fn rounds(
    contestants: &mut [&mut Contestant],
    row: Row,
    arrivals: Arrivals,
    event_idx: bool,
    rounds: Rounds,
) -> Result<Vec<Series>, Failure> {
    let mut series = Vec::new();
    for contestant in contestants.iter_mut() {
        contestant.connect(row, arrivals, event_idx)?;
        series.push(Series::new(contestant.way.name, contestant.way.family)?);
    }
    for round in 0..u64::from(rounds.repeats) {
        let mut turns: Vec<_> = contestants.iter_mut().zip(&mut series).collect();
        Rng::with_seed(round + 1).shuffle(&mut turns);
        for (contestant, series) in turns {
            contestant.window(row, arrivals, rounds.length, round, series)?;
        }
    }
    for contestant in contestants {
        contestant.disconnect()?;
    }
    Ok(series)
}
