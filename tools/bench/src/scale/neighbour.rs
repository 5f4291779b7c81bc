//! A guest that asks little beside one that asks for everything, on the same reactor.
//!
//! The goal is that a busy neighbour moves another guest's p99 by less than the share it takes. A reactor serves its
//! queues in turns, a bounded batch of each, and shows all answers of a turn at its end. A request that comes while a
//! batch of the neighbour's is carried out waits for its end, which takes one batch at most, is taken in the next turn,
//! and is shown when that turn ends, at most another batch later. So the neighbour may cost two batches, times the
//! share of the reactor's time that it takes; more would mean that somebody stands in line behind more than that.
//! Its share is all but what the paced guest uses: at least 1 - rate x median latency alone.

use super::daemon::{Daemon, Setting};
use super::guests::{Busy, Paced, paced_beside};
use super::table::{Cell, Table};
use crate::Failure;
use crate::interval::Interval;
use crate::report::figure;
use crate::ring::Layout;
use crate::row::{LARGE_BYTES, SMALL_BYTES, Work};
use crate::tally::Spread;
use palisade_block::limits::PULL_BATCH;
use std::time::Duration;

/// Requests a second of the guest that asks little.
const PACED_RATE: f64 = 20_000.0;

/// Requests that it can have in flight.
const PACED: Layout = Layout {
    depth: 64,
    bytes: SMALL_BYTES,
};

/// Requests of the neighbour.
const BUSY_DEPTH: u16 = 128;

/// What a request's length adds to its place in a batch: one for each 16 KiB. The reactor's own rule.
const BATCH_BYTES: u32 = 16 << 10;

/// The table.
pub fn table(setting: &Setting, repeats: u32, length: Duration) -> Result<Table, Failure> {
    let about = format!(
        "One reactor that always polls. Guest A asks for 4 KiB at {PACED_RATE} random moments a second (open loop; its \
         latency counts from the moment each request was due), alone and beside guest B, which keeps {BUSY_DEPTH} \
         requests in flight. Both guests are one thread on the other core. {repeats} windows of {} ms alone and beside, \
         in turns; the percentiles are those of each window. A batch is what the reactor takes from B in one turn ({} \
         requests of 4 KiB, {} of 128 KiB); its time follows from B's rate. A request of A's may come into the middle of \
         one batch and be answered at the end of another: two batches, times B's share of the reactor's time, is what B \
         may move A's p99 by. In brackets: where the true median is, with 95 % confidence; undecided when that leaves it \
         open.",
        length.as_millis(),
        batch(SMALL_BYTES),
        batch(LARGE_BYTES),
    );
    let columns = [
        "neighbour",
        "A's p50 alone, us",
        "A's p99 alone, us",
        "A's p50 beside, us",
        "A's p99 beside, us",
        "B, k requests/s",
        "B's batch, us",
        "B's share, %",
        "p99 moved by, us",
        "in batches",
    ];
    let mut table = Table::new("A busy neighbour", about, &columns);
    for (name, memory, bytes) in [
        ("null, 4 KiB", false, SMALL_BYTES),
        ("memory, 128 KiB", true, LARGE_BYTES),
    ] {
        let found = measure(
            &Setting {
                memory,
                ..setting.clone()
            },
            bytes,
            repeats,
            length,
        )?;
        let spread = |of: fn(&Round) -> f64| Spread::of(found.iter().map(of));
        table.row([
            Cell::from(name),
            spread(|round| round.alone.0).into(),
            spread(|round| round.alone.1).into(),
            spread(|round| round.beside.0).into(),
            spread(|round| round.beside.1).into(),
            spread(|round| round.busy_rate / 1e3).into(),
            spread(|round| round.batch_us).into(),
            spread(|round| round.share() * 100.0).into(),
            spread(Round::moved_us).into(),
            spread(|round| round.moved_us() / round.batch_us).into(),
        ]);
        let interval = |of: fn(&Round) -> f64| Interval::of(found.iter().map(of));
        if let (Some(moved), Some(may), Some(over)) = (
            interval(Round::moved_us),
            interval(Round::may_move_us),
            interval(Round::over_us),
        ) {
            table.verdict(
                format!("{name}: B moves A's p99 by less than its share of two batches"),
                over.median < 0.0,
                format!(
                    "{} us [{} .. {}] of {} us: {}",
                    figure(moved.median),
                    figure(moved.low),
                    figure(moved.high),
                    figure(may.median),
                    over.at_most(0.0).words()
                ),
            );
        }
    }
    Ok(table)
}

/// One window alone and one beside.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// p50 and p99 in us.
    alone: (f64, f64),
    beside: (f64, f64),
    busy_rate: f64,
    batch_us: f64,
}

impl Round {
    fn moved_us(&self) -> f64 {
        self.beside.1 - self.alone.1
    }

    /// By how much it may be moved: B's share of two batches.
    fn may_move_us(&self) -> f64 {
        self.share() * 2.0 * self.batch_us
    }

    /// By how much it was moved more than that.
    fn over_us(&self) -> f64 {
        self.moved_us() - self.may_move_us()
    }

    fn share(&self) -> f64 {
        (1.0 - PACED_RATE * self.alone.0 / 1e6).max(0.0)
    }
}

/// Requests of a length that the reactor takes from one queue in one turn.
fn batch(bytes: u32) -> u64 {
    (PULL_BATCH as u64).div_ceil(1 + u64::from(bytes / BATCH_BYTES) * u64::from(bytes >= BATCH_BYTES))
}

fn measure(setting: &Setting, bytes: u32, repeats: u32, length: Duration) -> Result<Vec<Round>, Failure> {
    let daemon = Daemon::start(setting)?;
    daemon.attach(0..2)?;
    let mut quiet = daemon.connect(0, PACED)?;
    let busy_layout = Layout {
        depth: BUSY_DEPTH,
        bytes,
    };
    let mut loud = daemon.connect(1, busy_layout)?;
    for session in [&mut quiet, &mut loud] {
        session.ring.prepare(Work::Read);
    }
    let mut rounds = Vec::new();
    // The first round warms up.
    for round in 0..=repeats {
        let seed = u64::from(round) + 1;
        let mut paced = Paced::new(&mut quiet, PACED_RATE, seed);
        paced_beside(&mut paced, None, length)?;
        let alone = percentiles(&paced);
        let mut paced = Paced::new(&mut quiet, PACED_RATE, seed);
        let answered = paced_beside(&mut paced, Some(Busy::new(&mut loud, seed)), length)?;
        let beside = percentiles(&paced);
        let busy_rate = answered as f64 / length.as_secs_f64();
        if round > 0 {
            rounds.push(Round {
                alone,
                beside,
                busy_rate,
                batch_us: batch(bytes) as f64 / busy_rate * 1e6,
            });
        }
    }
    quiet.close()?;
    loud.close()?;
    Ok(rounds)
}

fn percentiles(paced: &Paced<'_>) -> (f64, f64) {
    let us = |share| paced.latency.quantile(share) as f64 / 1e3;
    (us(0.5), us(0.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_what_the_reactor_takes() {
        assert_eq!(batch(SMALL_BYTES), 32);
        // 9 each: 9, 18, 27, and the one that goes over.
        assert_eq!(batch(LARGE_BYTES), 4);
    }

    #[test]
    fn the_share_is_what_the_other_leaves() {
        let round = Round {
            alone: (2.0, 3.0),
            beside: (5.0, 10.0),
            busy_rate: 1.0,
            batch_us: 4.0,
        };
        assert!((round.share() - 0.96).abs() < 1e-9 && (round.moved_us() - 7.0).abs() < 1e-9);
        assert!((round.may_move_us() - 7.68).abs() < 1e-9 && (round.over_us() + 0.68).abs() < 1e-9);
    }
}
