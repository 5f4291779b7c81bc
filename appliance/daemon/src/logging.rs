//! Log lines, limited in rate for each cause.
//!
//! A cause is the place in the program that logs. Whatever comes in from outside can make some place log again and again;
//! of each only so many lines are written in a while, and how many were left out is said.

use crate::stream::Stream;
use log::{Log, Metadata, Record};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one place that are written one after the other.
const BURST: u32 = 100;

/// After so long another line of the same place may be written.
const REFILL: Duration = Duration::from_millis(500);

/// Silence of a place after which what was left out is said by itself.
const QUIET: Duration = Duration::from_secs(2);

static LIMITED: OnceLock<Limited<env_logger::Logger>> = OnceLock::new();

/// Logs to stderr from now on, by RUST_LOG.
pub fn start() {
    let logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_target(false)
        .target(env_logger::Target::Pipe(Box::new(Stream::to_stderr())))
        .build();
    let level = logger.filter();
    if log::set_logger(LIMITED.get_or_init(|| Limited::new(logger))).is_ok() {
        log::set_max_level(level);
    }
}

/// Says what was left out of floods that have ended. To be called now and then.
pub fn settle() {
    if let Some(limited) = LIMITED.get() {
        limited.settle(Instant::now());
    }
}

/// A place in the program.
type Place = (Option<&'static str>, Option<u32>);

struct Limited<L> {
    logger: L,
    places: Mutex<HashMap<Place, Lines>>,
}

/// What one place may still write.
#[derive(Clone, Copy, Debug)]
struct Lines {
    left: u32,
    since: Instant,
    left_out: u64,
    level: log::Level,
}

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Write { left_out: u64 },
    LeaveOut,
}

impl Lines {
    fn take(&mut self, now: Instant) -> Verdict {
        let periods = now.saturating_duration_since(self.since).as_millis() / REFILL.as_millis();
        if periods > 0 {
            self.left = self
                .left
                .saturating_add(periods.min(u128::from(BURST)) as u32)
                .min(BURST);
            self.since = now;
        }
        if self.left == 0 {
            self.left_out += 1;
            return Verdict::LeaveOut;
        }
        self.left -= 1;
        Verdict::Write {
            left_out: std::mem::take(&mut self.left_out),
        }
    }
}

impl<L: Log> Limited<L> {
    fn new(logger: L) -> Limited<L> {
        Limited {
            logger,
            places: Mutex::default(),
        }
    }

    fn take(&self, record: &Record<'_>, now: Instant) -> Verdict {
        let place = (record.module_path_static(), record.line());
        let mut places = self.places();
        let lines = places.entry(place).or_insert(Lines {
            left: BURST,
            since: now,
            left_out: 0,
            level: record.level(),
        });
        lines.take(now)
    }

    fn settle(&self, now: Instant) {
        let quiet = |lines: &Lines| lines.left_out > 0 && now.saturating_duration_since(lines.since) >= QUIET;
        let ended: Vec<(Place, Lines)> = {
            let mut places = self.places();
            let ended = places.iter_mut().filter(|(_, lines)| quiet(lines));
            ended
                .map(|(place, lines)| {
                    let before = *lines;
                    lines.left_out = 0;
                    (*place, before)
                })
                .collect()
        };
        for ((module, line), lines) in ended {
            self.say(module, line, lines.level, lines.left_out);
        }
    }

    fn say(&self, module: Option<&'static str>, line: Option<u32>, level: log::Level, left_out: u64) {
        let place = (module.unwrap_or("?"), line.unwrap_or(0));
        self.logger.log(
            &Record::builder()
                .level(level)
                .module_path_static(module)
                .line(line)
                .target(module.unwrap_or("palisaded"))
                .args(format_args!(
                    "{left_out} more lines like these were left out, from={}:{}",
                    place.0, place.1
                ))
                .build(),
        );
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Place, Lines>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Log> Log for Limited<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match self.take(record, Instant::now()) {
            Verdict::LeaveOut => {}
            Verdict::Write { left_out } => {
                if left_out > 0 {
                    self.say(
                        record.module_path_static(),
                        record.line(),
                        record.level(),
                        left_out,
                    );
                }
                self.logger.log(record);
            }
        }
    }

    fn flush(&self) {
        self.logger.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[derive(Default)]
    struct Counts(AtomicUsize, Mutex<String>);

    impl Log for Counts {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            self.0.fetch_add(1, Relaxed);
            *self.1.lock().unwrap() = record.args().to_string();
        }

        fn flush(&self) {}
    }

    fn line(line: u32) -> Record<'static> {
        Record::builder()
            .module_path_static(Some("here"))
            .line(Some(line))
            .args(format_args!("again"))
            .build()
    }

    #[test]
    fn a_flood_is_cut_and_counted_and_another_place_is_heard() {
        let limited = Limited::new(Counts::default());
        let began = Instant::now();
        let (mut written, mut left_out) = (0, 0);
        // 17,000 lines in five seconds.
        for number in 0..17_000u32 {
            let now = began + Duration::from_secs(5) * number / 17_000;
            match limited.take(&line(1), now) {
                Verdict::Write { left_out: more } => {
                    written += 1;
                    left_out += more;
                }
                Verdict::LeaveOut => {}
            }
        }
        assert!((100..=110).contains(&written), "{written}");
        assert_eq!(limited.take(&line(2), began), Verdict::Write { left_out: 0 });
        limited.settle(began + Duration::from_secs(60));
        let said = limited.logger.1.lock().unwrap().clone();
        let rest = 17_000 - written - left_out;
        assert!(
            said.starts_with(&format!("{rest} more lines like these")),
            "{said}, {rest}"
        );
        limited.settle(began + Duration::from_secs(120));
        assert_eq!(limited.logger.0.load(Relaxed), 1, "it is said once");
    }

    #[test]
    fn what_comes_now_and_then_is_all_written() {
        let limited = Limited::new(Counts::default());
        let began = Instant::now();
        for number in 0..1000 {
            let verdict = limited.take(&line(1), began + number * Duration::from_secs(1));
            assert_eq!(verdict, Verdict::Write { left_out: 0 });
        }
    }
}
