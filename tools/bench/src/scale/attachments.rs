//! Many attachments of one daemon: what those that do nothing cost one that works, what they cost when nobody works, and
//! how evenly many that work are served.

use super::daemon::{Daemon, Setting};
use super::guests::{Busy, all_busy};
use super::table::{Cell, Table};
use crate::Failure;
use crate::histogram::Histogram;
use crate::process::Used;
use crate::report::figure;
use crate::ring::Layout;
use crate::row::{SMALL_BYTES, Work};
use crate::session::Session;
use crate::tally::Spread;
use std::time::Duration;

/// Attachments, all connected, one of them busy.
const ATTACHMENTS: usize = 256;

/// Volumes that are busy at once.
const VOLUMES: usize = 64;

/// One request at a time.
const LAYOUT: Layout = Layout {
    depth: 1,
    bytes: SMALL_BYTES,
};

/// How long the daemon is watched while nothing happens: whole seconds, since it looks after itself once in each.
const IDLE_WATCH: Duration = Duration::from_secs(2);

/// What so many idle attachments may cost, in microseconds of processor time a second: a thousandth of a core.
const IDLE_US_MAX: f64 = 1000.0;

/// How often an idle daemon may wake up, in times a second: for its look after itself, and what comes in by chance.
const IDLE_WAKES_MAX: f64 = 2.0;

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Windows for each row.
    pub repeats: u32,
    /// Length of a window.
    pub length: Duration,
}

/// A daemon with connected guests, stopped while it is not its turn.
struct House {
    mode: &'static str,
    daemon: Daemon,
    guests: Vec<Session>,
}

impl House {
    fn new(setting: &Setting, mode: &'static str, guests: usize) -> Result<House, Failure> {
        let name = format!("{mode}-{guests}");
        let setting = Setting {
            folder: setting.folder.join(name),
            mode,
            volumes: guests as u64,
            ..setting.clone()
        };
        let daemon = Daemon::start(&setting)?;
        daemon.attach(0..guests)?;
        let connect = |number| {
            let session = daemon.connect(number, LAYOUT)?;
            session.ring.prepare(Work::Read);
            Ok(session)
        };
        let guests: Result<Vec<Session>, Failure> = (0..guests).map(connect).collect();
        let guests = guests?;
        daemon.process.halt()?;
        Ok(House { mode, daemon, guests })
    }

    /// Keeps the first so many guests busy: the rate of each, and the latencies of all.
    fn busy(&mut self, count: usize, length: Duration, seed: u64) -> Result<(Vec<f64>, Histogram), Failure> {
        self.daemon.process.go_on()?;
        let mut busy: Vec<Busy<'_>> = self
            .guests
            .iter_mut()
            .take(count)
            .map(|session| Busy::new(session, seed))
            .collect();
        all_busy(&mut busy, length / 10)?;
        busy.iter_mut().for_each(|guest| guest.answered = 0);
        let latency = all_busy(&mut busy, length)?;
        let rates = busy
            .iter()
            .map(|guest| guest.answered as f64 / length.as_secs_f64())
            .collect();
        self.daemon.process.halt()?;
        Ok((rates, latency))
    }

    /// What it uses in a second while nobody asks for anything.
    fn idle(&self) -> Result<Used, Failure> {
        let process = &self.daemon.process;
        process.go_on()?;
        // Long enough for the reactor to go to sleep, and for what is done once after a pause.
        std::thread::sleep(Duration::from_millis(300));
        let before = process.usage()?;
        std::thread::sleep(IDLE_WATCH);
        let used = process.usage()?.since(&before);
        process.halt()?;
        Ok(used)
    }
}

/// The tables.
pub fn tables(setting: &Setting, rounds: Rounds) -> Result<Vec<Table>, Failure> {
    let mut houses = Vec::new();
    for mode in ["always-poll", "adaptive"] {
        for guests in [1, VOLUMES, ATTACHMENTS] {
            houses.push(House::new(setting, mode, guests)?);
        }
    }
    let busy_one = one_of_many(&mut houses, rounds)?;
    let busy_all = all_of_many(&mut houses, rounds)?;
    let idle = idle(&houses, rounds)?;
    Ok(vec![busy_one, busy_all, idle])
}

/// What one row has found.
#[derive(Default)]
struct Found {
    rate: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    evenness: Vec<f64>,
}

impl Found {
    fn add(&mut self, rates: &[f64], latency: &Histogram) {
        let spread = Spread::of(rates.iter().copied());
        self.rate.push(rates.iter().sum::<f64>() / 1e3);
        self.evenness
            .extend(spread.map(|spread| spread.min / spread.max.max(f64::MIN_POSITIVE)));
        self.p50_us.push(latency.quantile(0.5) as f64 / 1e3);
        self.p99_us.push(latency.quantile(0.99) as f64 / 1e3);
    }
}

fn spread(figures: &[f64]) -> Option<Spread> {
    Spread::of(figures.iter().copied())
}

fn one_of_many(houses: &mut [House], rounds: Rounds) -> Result<Table, Failure> {
    let mut found: Vec<Found> = houses.iter().map(|_| Found::default()).collect();
    for round in 0..rounds.repeats {
        for (house, found) in houses.iter_mut().zip(&mut found) {
            let (rates, latency) = house.busy(1, rounds.length, u64::from(round) + 1)?;
            found.add(&rates, &latency);
        }
    }
    let about = format!(
        "Daemons with one reactor and null disks. All attachments have a guest connected; one of the guests asks for \
         4 KiB at a time (depth 1), the others for nothing. {} windows of {} ms, in turns.",
        rounds.repeats,
        rounds.length.as_millis()
    );
    let columns = [
        "reactor",
        "attachments",
        "k requests/s",
        "p50, us",
        "p99, us",
        "us a request more than with one",
    ];
    let mut table = Table::new("One attachment that works, the others idle", about, &columns);
    let mut alone: &[f64] = &[];
    for (house, found) in houses.iter().zip(&found) {
        if house.guests.len() == 1 {
            alone = &found.rate;
        }
        let more = found
            .rate
            .iter()
            .zip(alone)
            .map(|(rate, alone)| 1e3 / rate - 1e3 / alone);
        let more = Spread::of(more).filter(|_| house.guests.len() > 1);
        table.row([
            Cell::from(house.mode),
            format!("{}", house.guests.len()).into(),
            spread(&found.rate).into(),
            spread(&found.p50_us).into(),
            spread(&found.p99_us).into(),
            more.into(),
        ]);
    }
    Ok(table)
}

fn all_of_many(houses: &mut [House], rounds: Rounds) -> Result<Table, Failure> {
    let mut houses: Vec<&mut House> = houses
        .iter_mut()
        .filter(|house| house.guests.len() == VOLUMES)
        .collect();
    let mut found: Vec<Found> = houses.iter().map(|_| Found::default()).collect();
    for round in 0..rounds.repeats {
        for (house, found) in houses.iter_mut().zip(&mut found) {
            let (rates, latency) = house.busy(VOLUMES, rounds.length, u64::from(round) + 1)?;
            found.add(&rates, &latency);
        }
    }
    let about = format!(
        "One reactor, null disks, {VOLUMES} volumes, each with a guest that asks for 4 KiB at a time (depth 1). All \
         guests are one thread that looks at one ring after the other, and is part of the limit. Evenness is what the \
         volume served least gets, as a part of what the one served most gets: 1 is perfectly even."
    );
    let columns = ["reactor", "k requests/s in all", "p50, us", "p99, us", "evenness"];
    let mut table = Table::new("64 volumes that all work", about, &columns);
    for (house, found) in houses.iter().zip(&found) {
        let evenness = spread(&found.evenness);
        table.row([
            Cell::from(house.mode),
            spread(&found.rate).into(),
            spread(&found.p50_us).into(),
            spread(&found.p99_us).into(),
            evenness.into(),
        ]);
        let median = evenness.map_or(0.0, |spread| spread.median);
        table.verdict(
            format!("{}: no volume gets less than nine tenths of another", house.mode),
            median >= 0.9,
            figure(median),
        );
    }
    Ok(table)
}

fn idle(houses: &[House], rounds: Rounds) -> Result<Table, Failure> {
    let houses: Vec<&House> = houses.iter().filter(|house| house.mode == "adaptive").collect();
    let mut found: Vec<Vec<Used>> = houses.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds.repeats.min(5) {
        for (house, found) in houses.iter().zip(&mut found) {
            found.push(house.idle()?);
        }
    }
    let about = format!(
        "An adaptive reactor sleeps when there is nothing to do, and so do all other threads of the daemon, but for one \
         look a second at whether all are alive. Processor time of the whole daemon and how often one of its threads \
         came onto a core (by the kernel's own counters), in {} s while guests are connected and ask for nothing.",
        IDLE_WATCH.as_secs_f64()
    );
    let columns = ["attachments", "us of a core a second", "wake-ups a second"];
    let mut table = Table::new("Nothing to do", about, &columns);
    let seconds = IDLE_WATCH.as_secs_f64();
    let time_us = |used: &[Used]| Spread::of(used.iter().map(|used| used.processor.0 as f64 / 1e3 / seconds));
    let wakes = |used: &[Used]| Spread::of(used.iter().map(|used| used.runs as f64 / seconds));
    for (house, found) in houses.iter().zip(&found) {
        table.row([
            Cell::from(format!("{}", house.guests.len())),
            time_us(found).into(),
            wakes(found).into(),
        ]);
    }
    if let Some(used) = found.last()
        && let (Some(time), Some(wakes)) = (time_us(used), wakes(used))
    {
        table.verdict(
            format!("{ATTACHMENTS} idle attachments cost less than a thousandth of a core"),
            time.median < IDLE_US_MAX,
            format!("{} us a second", figure(time.median)),
        );
        table.verdict(
            format!("a daemon with {ATTACHMENTS} idle attachments wakes up at most twice a second"),
            wakes.median <= IDLE_WAKES_MAX,
            format!("{} times", figure(wakes.median)),
        );
    }
    Ok(table)
}
