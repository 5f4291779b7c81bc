//! A monitor punches its guest's memory out from under the guest's requests, half a GiB in one call, again and again, and
//! each time the reactor waits with all that it serves. It is known by name, cut off and kept out for a while; its
//! neighbour on the same reactor is served then, and is blamed for nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::appliance::{Appliance, MIB};
use crate::driver::giant::latencies;
use crate::driver::pattern::Guest;
use crate::driver::puncher;
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;

/// Within this time it is cut off, on a machine that fills memory slowly.
const PATIENCE: Duration = Duration::from_secs(120);
/// Less than it is kept out for the first time.
const OUT: Duration = Duration::from_secs(3);

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let neighbour = appliance.offer("neighbour", 16 * MIB, 1)?;
    let hostile = appliance.offer("hostile", 16 * MIB, 1)?;
    let mut guest = Guest::at(&neighbour)?;
    let (over, sessions) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| puncher::attack(&hostile, &over, &sessions));
        let seen = watch(&appliance, &mut guest, &sessions);
        over.store(true, Relaxed);
        let attacked = attack.join();
        seen?;
        attacked.map_err(|_| Failure::new("the attack ended by a panic"))?
    })?;
    guest.read(0, 4096)?;
    appliance.must_have_no_errors("neighbour")?;
    appliance.stop()
}

fn watch(appliance: &Appliance, guest: &mut Guest, sessions: &AtomicU64) -> Outcome {
    let begin = Instant::now();
    let mut worst = Duration::ZERO;
    let found = loop {
        let slice = latencies(guest, Duration::from_millis(200))?;
        worst = worst.max(slice.last().copied().unwrap_or_default());
        let health = appliance.rest().get("/v1/health")?.to_string();
        if health.contains("\"guest_memory_stalls\"") {
            break health;
        }
        demand(
            begin.elapsed() < PATIENCE,
            format!("nobody was cut off: {health}"),
        )?;
    };
    step(format!(
        "cut off after {:?}; the neighbour's worst read until then: {worst:?}",
        begin.elapsed()
    ));
    demand(
        found.contains("attachment/hostile") && !found.contains("attachment/neighbour"),
        format!("who was found to do so: {found}"),
    )?;
    let had = sessions.load(Relaxed);
    let slice = latencies(guest, OUT)?;
    step(format!(
        "while it is kept out the neighbour made {} reads, the worst {:?}",
        slice.len(),
        slice.last().copied().unwrap_or_default()
    ));
    demand(sessions.load(Relaxed) == had, "it was let in again at once")?;
    while sessions.load(Relaxed) == had {
        demand(begin.elapsed() < 2 * PATIENCE, "it is never let in again")?;
        guest.read(0, 4096)?;
    }
    step("after a while it may come in again");
    Ok(())
}
