//! Hours of an operator's and guests' comings and goings at a low rate, to see whether the daemon's memory, descriptors
//! and threads stay where they were.
//!
//! A few attachments stay. Twice a second one thing happens: a guest hangs up and comes back, a volume and an attachment
//! are made, used and deleted, or the interface is read; and each time a guest carries out some requests. Samples are
//! taken between two such things, so that everything that was to go is gone.

use super::daemon::{Daemon, Setting};
use super::footprint::Footprint;
use super::table::{Cell, Table};
use super::trend::Trend;
use crate::Failure;
use crate::random::Random;
use crate::report::figure;
use crate::ring::Layout;
use crate::row::{SMALL_BYTES, Work};
use crate::session::Session;
use crate::tally::Spread;
use palisade_api::routes;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Guests that stay.
const RESIDENTS: usize = 4;

/// Time between two things.
const BEAT: Duration = Duration::from_millis(500);

/// Time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// How long a request may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// Growth that counts as none: what a leak of 128 bytes for each thing done would come to in an hour, rounded up. The
/// resolution of the measurement is not better, because memory comes from the kernel in pages.
const FLAT_KIB_PER_HOUR: f64 = 1024.0;

/// Each guest's requests.
const LAYOUT: Layout = Layout {
    depth: 16,
    bytes: SMALL_BYTES,
};

/// One sample.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub seconds: f64,
    /// What the daemon holds.
    pub footprint: Footprint,
    /// Things done until then.
    pub operations: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Done {
    /// Requests answered.
    pub requests: u64,
    /// Sessions that were begun.
    pub sessions: u64,
    /// Volumes made and deleted, and as many attachments.
    pub attachments: u64,
    /// Readings of the interface.
    pub readings: u64,
}

impl Done {
    fn operations(&self) -> u64 {
        self.sessions + self.attachments + self.readings
    }
}

/// A soak with what it found.
#[derive(Clone, Debug, Serialize)]
pub struct Soak {
    /// How long it ran.
    pub minutes: f64,
    /// Of which this was warm-up and not counted.
    pub warm_up_minutes: f64,
    /// What was done.
    pub done: Done,
    /// Percent of one core the daemon used.
    pub processor_percent: f64,
    /// Growth of the daemon's own memory, KiB an hour.
    pub memory: Option<Trend>,
    /// Growth of its descriptors in an hour.
    pub descriptors: Option<Trend>,
    /// Growth of its threads in an hour.
    pub threads: Option<Trend>,
    /// All samples.
    pub samples: Vec<Sample>,
}

/// Runs for `length`; `say` is told now and then.
pub fn soak(setting: &Setting, length: Duration, say: &mut dyn FnMut(&str)) -> Result<Soak, Failure> {
    let daemon = Daemon::start(setting)?;
    daemon.attach(0..RESIDENTS)?;
    let mut guests: Vec<Option<Session>> = Vec::new();
    for number in 0..RESIDENTS {
        guests.push(Some(daemon.connect(number, LAYOUT)?));
    }
    let mut run = Run {
        daemon: &daemon,
        done: Done::default(),
        random: Random::new(11),
    };
    let (mut samples, begin) = (Vec::new(), Instant::now());
    let (mut sample_at, mut say_at) = (Duration::ZERO, Duration::ZERO);
    let process = daemon.process.id();
    let used_before = daemon.process.usage()?;
    for beat in 0.. {
        let elapsed = begin.elapsed();
        if elapsed >= sample_at {
            let sample = Sample {
                seconds: elapsed.as_secs_f64(),
                footprint: Footprint::of(process)?,
                operations: run.done.operations(),
            };
            samples.push(sample);
            sample_at = elapsed + SAMPLE_EVERY;
            if elapsed >= say_at {
                say(&line(&sample));
                say_at = elapsed + length.div_f64(20.0).max(SAMPLE_EVERY);
            }
        }
        if elapsed >= length {
            break;
        }
        run.beat(beat, &mut guests)?;
        std::thread::sleep(
            (BEAT * (beat as u32 + 1))
                .saturating_sub(begin.elapsed())
                .min(BEAT),
        );
    }
    let elapsed = begin.elapsed();
    let used = daemon.process.usage()?.since(&used_before).processor.0;
    for guest in guests.into_iter().flatten() {
        guest.close()?;
    }
    Ok(Soak::of(elapsed, run.done, used, samples))
}

struct Run<'a> {
    daemon: &'a Daemon,
    done: Done,
    random: Random,
}

impl Run<'_> {
    fn beat(&mut self, beat: usize, guests: &mut [Option<Session>]) -> Result<(), Failure> {
        let number = beat / 4 % RESIDENTS;
        let Some(place) = guests.get_mut(number) else {
            return Ok(());
        };
        match beat % 4 {
            0 | 2 => {
                if let Some(session) = place.take() {
                    session.close()?;
                }
                *place = Some(self.daemon.connect(number, LAYOUT)?);
                self.done.sessions += 1;
            }
            1 => self.come_and_go()?,
            _ => {
                let lists = [
                    routes::ATTACHMENTS,
                    routes::VOLUMES,
                    routes::HEALTH,
                    routes::METRICS,
                ];
                self.daemon
                    .rest
                    .get(lists.get(number).copied().unwrap_or(routes::NODE))?;
                self.done.readings += 1;
            }
        }
        match place {
            Some(session) => self.work(session),
            None => Ok(()),
        }
    }

    /// A volume and an attachment are made, used by a guest and deleted. Each second time the guest has not hung up
    /// when the attachment goes.
    fn come_and_go(&mut self) -> Result<(), Failure> {
        let (daemon, number) = (self.daemon, RESIDENTS);
        daemon.attach(number..number + 1)?;
        let mut session = daemon.connect(number, LAYOUT)?;
        self.work(&mut session)?;
        let stays = self.done.attachments % 2 == 1;
        let session = if stays {
            Some(session)
        } else {
            session.close()?;
            None
        };
        daemon.rest.delete(routes::ATTACHMENTS, &format!("a{number}"))?;
        daemon.rest.delete(routes::VOLUMES, &format!("v{number}"))?;
        drop(session);
        self.done.attachments += 1;
        self.done.sessions += 1;
        Ok(())
    }

    /// Some requests, all slots at once.
    fn work(&mut self, session: &mut Session) -> Result<(), Failure> {
        let blocks = session.sectors / 8;
        let work = if self.random.below(2) == 0 {
            Work::Read
        } else {
            Work::Write
        };
        session.ring.prepare(work);
        for slot in 0..LAYOUT.depth {
            session.ring.submit(slot, self.random.below(blocks) * 8);
        }
        if session.ring.publish() {
            session.kick.signal().map_err(Failure::system("kick"))?;
        }
        let (mut left, begin) = (LAYOUT.depth, Instant::now());
        while left > 0 {
            while session.ring.answered() > 0 {
                session.ring.take()?;
                session.ring.stay_quiet();
                left -= 1;
            }
            if begin.elapsed() > ANSWER_PATIENCE {
                return Err(Failure::Ring {
                    problem: format!("no answer for {} s", ANSWER_PATIENCE.as_secs()),
                });
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        self.done.requests += u64::from(LAYOUT.depth);
        Ok(())
    }
}

impl Soak {
    fn of(elapsed: Duration, done: Done, used_ns: u64, samples: Vec<Sample>) -> Soak {
        let minutes = elapsed.as_secs_f64() / 60.0;
        let warm_up_minutes = (minutes / 5.0).min(20.0);
        let counted: Vec<Sample> = samples
            .iter()
            .copied()
            .filter(|sample| sample.seconds >= warm_up_minutes * 60.0)
            .collect();
        let trend = |value: &dyn Fn(&Footprint) -> u64| {
            let points: Vec<(f64, f64)> = counted
                .iter()
                .map(|sample| (sample.seconds / 3600.0, value(&sample.footprint) as f64))
                .collect();
            Trend::of(&points)
        };
        Soak {
            minutes,
            warm_up_minutes,
            done,
            processor_percent: used_ns as f64 / elapsed.as_nanos() as f64 * 100.0,
            memory: trend(&Footprint::own_kib),
            descriptors: trend(&|footprint| footprint.descriptors),
            threads: trend(&|footprint| footprint.threads),
            samples,
        }
    }

    /// As a table with its verdicts.
    pub fn table(&self) -> Table {
        let Done {
            requests,
            sessions,
            attachments,
            readings,
        } = self.done;
        let about = format!(
            "One daemon for {:.0} minutes, of which the first {:.0} count as warm-up; a sample every {} s, taken while \
             nothing is under way. Done meanwhile: {requests} requests, {sessions} sessions begun, {attachments} volumes \
             and attachments made and deleted, {readings} readings of the interface. The daemon used {} % of one core. \
             Memory is what the daemon has for itself, without the guests' pages; it fills its memory of the last 4096 \
             events at first. The slope is that of Theil and Sen, with its 95 % interval.",
            self.minutes,
            self.warm_up_minutes,
            SAMPLE_EVERY.as_secs(),
            figure(self.processor_percent),
        );
        let columns = [
            "what",
            "first sample",
            "after warm-up, median (min .. max)",
            "last sample",
            "growth an hour (95 %)",
        ];
        let mut table = Table::new("Soak: does it stay flat?", about, &columns);
        type Value = fn(&Footprint) -> u64;
        let values: [(&str, Value, Option<Trend>); 3] = [
            ("memory, KiB", Footprint::own_kib, self.memory),
            ("descriptors", |footprint| footprint.descriptors, self.descriptors),
            ("threads", |footprint| footprint.threads, self.threads),
        ];
        for (what, value, trend) in values {
            let of = |sample: Option<&Sample>| {
                sample.map_or(Cell::None, |sample| Cell::Figure(value(&sample.footprint) as f64))
            };
            let settled = self
                .samples
                .iter()
                .filter(|sample| sample.seconds >= self.warm_up_minutes * 60.0);
            let settled = Spread::of(settled.map(|sample| value(&sample.footprint) as f64));
            let growth = trend.map_or(Cell::None, |trend| Cell::Words(interval(trend)));
            table.row([
                Cell::from(what),
                of(self.samples.first()),
                settled.into(),
                of(self.samples.last()),
                growth,
            ]);
        }
        match (self.memory, self.descriptors, self.threads) {
            (Some(memory), Some(descriptors), Some(threads)) => {
                table.verdict(
                    format!("memory grows by less than {FLAT_KIB_PER_HOUR:.0} KiB an hour, at the upper end of the interval"),
                    memory.high < FLAT_KIB_PER_HOUR,
                    format!("{} KiB an hour", interval(memory)),
                );
                table.verdict(
                    "descriptors and threads do not grow",
                    descriptors.slope < 1.0 && threads.slope < 1.0,
                    format!("{} and {} an hour", interval(descriptors), interval(threads)),
                );
            }
            _ => table.verdict(
                "the run is long enough to tell",
                false,
                "there are fewer than ten samples",
            ),
        }
        table
    }
}

fn interval(trend: Trend) -> String {
    format!(
        "{} ({} .. {})",
        figure(trend.slope),
        figure(trend.low),
        figure(trend.high)
    )
}

fn line(sample: &Sample) -> String {
    let Footprint {
        anonymous_kib,
        file_kib,
        shared_kib,
        huge_kib,
        descriptors,
        threads,
    } = sample.footprint;
    format!(
        "{:.0} s, {} things done: {anonymous_kib} KiB anonymous, {file_kib} file, {huge_kib} huge, {shared_kib} shared \
         with guests; {descriptors} descriptors, {threads} threads",
        sample.seconds, sample.operations
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(growth_kib_per_hour: f64) -> Soak {
        let sample = |at: u64| Sample {
            seconds: at as f64 * 5.0,
            footprint: Footprint {
                anonymous_kib: 20_000 + (at as f64 * 5.0 / 3600.0 * growth_kib_per_hour) as u64 / 4 * 4,
                descriptors: 40 + at % 2,
                threads: 9,
                ..Footprint::default()
            },
            operations: at,
        };
        Soak::of(
            Duration::from_secs(3600),
            Done::default(),
            0,
            (0..720).map(sample).collect(),
        )
    }

    #[test]
    fn a_leak_is_told_from_none() {
        assert!(run(0.0).table().verdicts.iter().all(|verdict| verdict.holds));
        assert!(run(500.0).table().verdicts.iter().all(|verdict| verdict.holds));
        let leaking = run(2000.0);
        assert!(!leaking.table().verdicts[0].holds && leaking.table().verdicts[1].holds);
        let found = leaking.memory.unwrap().slope;
        assert!((1990.0..2010.0).contains(&found), "{found}");
    }

    #[test]
    fn a_short_run_proves_nothing() {
        let soak = Soak::of(Duration::from_secs(1), Done::default(), 0, Vec::new());
        assert!(soak.table().verdicts.iter().any(|verdict| !verdict.holds));
    }
}
