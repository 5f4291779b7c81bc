//! One guest reads gibibytes in single requests. Its neighbour, on a disk of its own and the same reactor, is served
//! meanwhile; a stop waits for what is in flight and not for the gibibytes; and the daemon that comes answers them.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::driver::giant::{GIANT_BYTES, Giants, latencies};
use crate::driver::pattern::Guest;
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;

/// How long all of them together have work, by how long one takes on this machine; and how many there are at least and at most.
const WORK: Duration = Duration::from_secs(12);
const GIANTS: std::ops::RangeInclusive<u16> = 4..=64;
/// How long the neighbour is looked at meanwhile: for a third of the time that all of them take at most, so that some go on for
/// the stop as well, however fast the machine is.
const LOOK: Duration = Duration::from_secs(3);
/// What the neighbour's reads may take on a loaded machine: 99 of 100, and the worst.
const MOST_TAKE: Duration = Duration::from_millis(100);
const WORST_TAKES: Duration = Duration::from_secs(1);
/// What a stop may take, which copies no gibibytes.
const STOP_TAKES: Duration = Duration::from_secs(5);

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let neighbour = appliance.offer("neighbour", 16 * MIB, 1)?;
    appliance.disk("large", GIANT_BYTES + 64 * MIB)?;
    appliance.volume("greedy", "large", GIANT_BYTES)?;
    let greedy = appliance.attach("greedy", json!({ "queues": 1 }))?;

    let mut guest = Guest::at(&neighbour)?;
    let alone = latencies(&mut guest, Duration::from_secs(2))?;
    let mut giants = Giants::at(&greedy)?;
    let one = giants.time_one()?.min(giants.time_one()?);
    let count = WORK.div_duration_f64(one).ceil() as u16;
    let count = count.clamp(*GIANTS.start(), *GIANTS.end());
    giants.read(count)?;
    let beside = latencies(&mut guest, LOOK.min(one * u32::from(count) / 3))?;
    let open = giants.open()?;
    step(format!(
        "a neighbour's reads alone: {}; beside {count} requests of 3 GiB, of which one takes {one:?}: {}; {open} of those go on",
        figures(&alone)?,
        figures(&beside)?
    ));
    demand(
        open > 0,
        "the requests of 3 GiB ended before anything was measured",
    )?;
    let (most, worst) = (place(&beside, 99)?, place(&beside, 100)?);
    demand(
        most < MOST_TAKE && worst < WORST_TAKES,
        format!("99 of 100 reads of the neighbour within {most:?}, the worst {worst:?}"),
    )?;

    let asked = Instant::now();
    appliance.stop()?;
    let stopped = asked.elapsed();
    let open = giants.open()?;
    appliance.start_again()?;
    drop(reconnected(&neighbour)?);
    step(format!(
        "SIGTERM took {stopped:?} with {open} requests of 3 GiB open; the neighbour was back after {:?}",
        asked.elapsed()
    ));
    demand(stopped < STOP_TAKES, format!("SIGTERM took {stopped:?}"))?;

    giants.reconnect(&greedy)?;
    giants.finish()?;
    step("the next daemon answered all that was open, once");
    appliance.must_have_no_errors("greedy")?;
    appliance.must_be_well()?;
    appliance.stop()
}

/// A guest in a session with the daemon that has just started.
fn reconnected(socket: &Path) -> Outcome<Guest> {
    let begin = Instant::now();
    loop {
        match Guest::at(socket) {
            Ok(guest) => return Ok(guest),
            Err(failure) if begin.elapsed() > Duration::from_secs(30) => return Err(failure),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The time within which so many of 100 ended.
fn place(sorted: &[Duration], percent: usize) -> Outcome<Duration> {
    let last = sorted.len().checked_sub(1);
    let index = last.map(|last| last * percent / 100);
    index
        .and_then(|index| sorted.get(index).copied())
        .ok_or_else(|| Failure::new("nothing was read"))
}

fn figures(sorted: &[Duration]) -> Outcome<String> {
    Ok(format!(
        "{} of them, the middle {:?}, 99 of 100 within {:?}, the worst {:?}",
        sorted.len(),
        place(sorted, 50)?,
        place(sorted, 99)?,
        place(sorted, 100)?
    ))
}
