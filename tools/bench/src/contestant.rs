//! A target during a run: started, its disk filled and proven, then halted except while it is its turn.

use crate::Failure;
use crate::load::paced;
use crate::process::others_cpu_time;
use crate::random::Random;
use crate::ring::Layout;
use crate::row::{LARGE_BYTES, LARGE_DEPTH, Medium, Row};
use crate::session::{Manner, Session};
use crate::tally::Series;
use crate::target::{Ground, Running, Way};
use crate::window::{Client, Window};
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rounds {
    /// Windows for each target in each row.
    pub repeats: u32,
    /// Length of a window.
    pub length: Duration,
}

/// A target and what is known of it.
#[derive(Debug)]
pub struct Contestant {
    /// How it is run.
    pub way: Way,
    running: Running,
    session: Option<Session>,
}

impl Contestant {
    /// Starts a target, fills its disk, proves that it keeps what it is given, and stops it until its turn.
    pub fn enter(way: &Way, medium: Medium, manner: Manner, ground: &Ground) -> Result<Contestant, Failure> {
        let running = Running::start(way, medium, ground)?;
        match &running {
            Running::Bare { bare, .. } => bare.fill()?,
            Running::Server { process, socket, .. } => {
                if medium != Medium::Null {
                    let layout = Layout {
                        depth: LARGE_DEPTH,
                        bytes: LARGE_BYTES,
                    };
                    let mut session = Session::open(socket, manner, layout)?;
                    let mut client = Client::new(0);
                    client.fill(&mut session)?;
                    client.check_content(&mut session)?;
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
    pub fn connect(&mut self, row: Row, arrivals: Arrivals, manner: Manner) -> Result<(), Failure> {
        if let Running::Server { process, socket, .. } = &self.running {
            let layout = match arrivals {
                Arrivals::Closed => Layout::of(row),
                Arrivals::Paced(_) => Layout {
                    depth: PACED_DEPTH,
                    bytes: row.bytes,
                },
            };
            process.go_on()?;
            let session = Session::open(socket, manner, layout).map_err(|error| self.named(error))?;
            session.ring.prepare(row.work);
            process.halt()?;
            self.session = Some(session);
        }
        Ok(())
    }

    /// Its turn: a warm-up, then a window that counts. The bare device knows no arrivals but [`Arrivals::Closed`].
    pub fn window(
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
                let before = others_cpu_time();
                let window = bare.random_requests(row, length, seed)?;
                series.add(&window, others_cpu_time().since(before));
            }
            (Running::Server { process, .. }, Some(session)) => {
                let mut client = Client::new(seed);
                let mut run = |length| -> Result<Window, Failure> {
                    let window = match arrivals {
                        Arrivals::Closed => client.random_requests(session, length),
                        Arrivals::Paced(rate) => paced::requests(session, rate, length, seed),
                    };
                    window.map_err(|error| in_target(name, error))
                };
                process.go_on()?;
                run(WARM_UP)?;
                let before = process.usage()?;
                let window = run(length)?;
                series.add(&window, process.usage()?.since(&before).processor);
                process.halt()?;
            }
            (Running::Server { .. }, None) => {}
        }
        Ok(())
    }

    /// Ends the session.
    pub fn disconnect(&mut self) -> Result<(), Failure> {
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
        in_target(self.way.name, error)
    }
}

/// Lets contestants take turns for so many rounds, each round in an order of its own, and gives what each did.
pub fn rounds(
    contestants: &mut [&mut Contestant],
    row: Row,
    arrivals: Arrivals,
    manner: Manner,
    rounds: Rounds,
) -> Result<Vec<Series>, Failure> {
    for contestant in contestants.iter_mut() {
        contestant.connect(row, arrivals, manner)?;
    }
    let mut series: Vec<Series> = contestants
        .iter()
        .map(|one| Series::new(one.way.name, one.way.family))
        .collect();
    let count = contestants.len();
    for round in 0..rounds.repeats as usize {
        for index in order(count, round as u64) {
            if let (Some(contestant), Some(series)) = (contestants.get_mut(index), series.get_mut(index)) {
                contestant.window(row, arrivals, rounds.length, round as u64, series)?;
            }
        }
    }
    for contestant in contestants {
        contestant.disconnect()?;
    }
    Ok(series)
}

/// The order of a round, by chance but always the same: who runs before whom changes, because a device remembers
/// (caches, credits, writes still to be done), and nobody is to have the same forerunner always.
fn order(count: usize, round: u64) -> Vec<usize> {
    let mut random = Random::new(round + 1);
    let mut order: Vec<usize> = (0..count).collect();
    for place in (1..count).rev() {
        order.swap(place, random.below(place as u64 + 1) as usize);
    }
    order
}

fn in_target(name: &str, error: Failure) -> Failure {
    Failure::Target {
        target: name.to_owned(),
        problem: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_one_turn_a_round_and_follows_each_other_one() {
        const COUNT: usize = 6;
        let mut followed = [[0; COUNT]; COUNT];
        let mut first = [0; COUNT];
        for round in 0..1000 {
            let turns = order(COUNT, round);
            let mut sorted = turns.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..COUNT).collect::<Vec<_>>());
            first[turns[0]] += 1;
            for pair in turns.windows(2) {
                followed[pair[0]][pair[1]] += 1;
            }
        }
        // 1000 / 6 are expected of each, and five standard deviations are 60.
        let evenly = |count: &i32| (105..230).contains(count);
        assert!(first.iter().all(evenly), "{first:?}");
        for (one, row) in followed.iter().enumerate() {
            assert!(
                row.iter()
                    .enumerate()
                    .all(|(other, count)| one == other || evenly(count)),
                "{row:?}"
            );
        }
        assert!(order(0, 1).is_empty());
    }
}
