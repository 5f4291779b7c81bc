//! The whole measurement: for each kind of device start all targets, fill their disks, and for each row let them take
//! turns.

use crate::Failure;
use crate::ring::Layout;
use crate::row::{LARGE_BYTES, LARGE_DEPTH, Medium, Row};
use crate::session::{Manner, Session};
use crate::tally::{RowFigures, Series, figures};
use crate::target::{Ground, Running, Way};
use crate::window::Client;
use palisade_sys::affinity;
use std::time::Duration;

/// Run before each window and not counted: caches fill, a stopped target comes back.
const WARM_UP: Duration = Duration::from_millis(100);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who.
    pub ways: Vec<Way>,
    /// What.
    pub rows: Vec<Row>,
    /// Windows for each target in each row.
    pub repeats: u32,
    /// Length of a window.
    pub length: Duration,
    /// How to speak to servers.
    pub manner: Manner,
    /// The client's core.
    pub client_core: usize,
}

/// A target and what is known of it.
struct Contestant {
    way: Way,
    running: Running,
    session: Option<Session>,
}

/// Measures everything; `say` is told what happens.
pub fn run(plan: &Plan, ground: &Ground, say: &mut dyn FnMut(&str)) -> Result<Vec<RowFigures>, Failure> {
    affinity::pin_current_thread(plan.client_core).map_err(Failure::system("pin the client"))?;
    let mut done = Vec::new();
    for medium in [Medium::Null, Medium::Memory, Medium::File] {
        let rows: Vec<Row> = plan
            .rows
            .iter()
            .filter(|row| row.medium == medium)
            .copied()
            .collect();
        if rows.is_empty() {
            continue;
        }
        let mut contestants = Vec::new();
        for way in plan.ways.iter().filter(|way| way.serves(medium)) {
            say(&format!("starting {} with a {medium} disk", way.name));
            contestants.push(enter(way, medium, plan, ground)?);
        }
        for row in rows {
            let series = measure(row, &mut contestants, plan)?;
            let figures = figures(row, &series);
            say(&crate::report::row_text(&figures));
            done.push(figures);
        }
    }
    Ok(done)
}

/// Starts a target, fills its disk, proves that it keeps what it is given, and stops it until its turn.
fn enter(way: &Way, medium: Medium, plan: &Plan, ground: &Ground) -> Result<Contestant, Failure> {
    let running = Running::start(way, medium, ground)?;
    match &running {
        Running::Bare { bare, .. } => bare.fill()?,
        Running::Server { process, socket, .. } => {
            if medium != Medium::Null {
                let layout = Layout {
                    depth: LARGE_DEPTH,
                    bytes: LARGE_BYTES,
                };
                let mut session = Session::open(socket, plan.manner, layout)?;
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

fn measure(row: Row, contestants: &mut [Contestant], plan: &Plan) -> Result<Vec<Series>, Failure> {
    for contestant in contestants.iter_mut() {
        contestant.connect(row, plan.manner)?;
    }
    let mut series: Vec<Series> = contestants
        .iter()
        .map(|one| Series::new(one.way.name, one.way.family))
        .collect();
    for round in 0..plan.repeats as usize {
        let count = contestants.len();
        for index in (0..count).map(|place| (place + round) % count) {
            if let (Some(contestant), Some(series)) = (contestants.get_mut(index), series.get_mut(index)) {
                contestant.window(row, plan.length, round as u64, series)?;
            }
        }
    }
    for contestant in contestants {
        contestant.disconnect()?;
    }
    Ok(series)
}

impl Contestant {
    fn connect(&mut self, row: Row, manner: Manner) -> Result<(), Failure> {
        if let Running::Server { process, socket, .. } = &self.running {
            process.go_on()?;
            let session =
                Session::open(socket, manner, Layout::of(row)).map_err(|error| self.named(error))?;
            session.ring.prepare(row.work);
            process.halt()?;
            self.session = Some(session);
        }
        Ok(())
    }

    fn window(&mut self, row: Row, length: Duration, round: u64, series: &mut Series) -> Result<(), Failure> {
        let seed = round + 1;
        let name = self.way.name;
        match (&self.running, &mut self.session) {
            (Running::Bare { bare, .. }, _) => {
                bare.random_requests(row, WARM_UP, seed << 32)?;
                let before = own_cpu_seconds()?;
                let window = bare.random_requests(row, length, seed)?;
                series.add(&window, own_cpu_seconds()? - before);
            }
            (Running::Server { process, .. }, Some(session)) => {
                let named = |error| in_target(name, error);
                let mut client = Client::new(seed);
                process.go_on()?;
                client.random_requests(session, WARM_UP).map_err(named)?;
                let before = process.cpu_seconds()?;
                let window = client.random_requests(session, length).map_err(named)?;
                series.add(&window, process.cpu_seconds()? - before);
                process.halt()?;
            }
            (Running::Server { .. }, None) => {}
        }
        Ok(())
    }

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
        in_target(self.way.name, error)
    }
}

fn in_target(name: &str, error: Failure) -> Failure {
    Failure::Target {
        target: name.to_owned(),
        problem: error.to_string(),
    }
}

/// Processor time of this process: while the bare loop runs, this thread sleeps.
fn own_cpu_seconds() -> Result<f64, Failure> {
    let text = std::fs::read_to_string("/proc/self/stat").map_err(Failure::system("read /proc/self/stat"))?;
    Ok(crate::process::cpu_seconds_of(&text).unwrap_or(0.0))
}
