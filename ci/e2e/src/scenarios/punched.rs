//! A monitor punches its guest's memory out from under the guest's requests, again and again, and each time the reactor
//! waits with all that it serves. It is known by name, cut off and kept out for a while; its neighbour on the same reactor
//! is served then, and is blamed for nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::driver::giant::latencies;
use crate::driver::pattern::Guest;
use crate::driver::puncher::{self, Attack};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;

/// Within this time it is cut off, on a machine that fills memory slowly.
const PATIENCE: Duration = Duration::from_secs(120);
/// Less than it is kept out for the first time.
const OUT: Duration = Duration::from_secs(3);

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    step("half a GiB in one call, beside a neighbour on a file");
    appliance.disk("file", 96 * MIB)?;
    suffer(&appliance, "file", &puncher::GIANT)?;
    step("holes without a pause, beside a neighbour on a disk in memory");
    let memory = json!({ "id": "memory", "memory": { "bytes": 96 * MIB } });
    appliance.rest().post("/v1/disks", &memory)?;
    suffer(&appliance, "memory", &puncher::RESTLESS)?;
    appliance.stop()
}

/// Attacks it, with a neighbour on the same disk.
fn suffer(appliance: &Appliance, disk: &str, attack: &Attack) -> Outcome {
    let [neighbour, hostile] = ["neighbour", "hostile"].map(|who| format!("{who}-{disk}"));
    let offer = |id: &str| {
        appliance.volume(id, disk, 16 * MIB)?;
        appliance.attach(id, json!({}))
    };
    let (mut guest, socket) = (Guest::at(&offer(&neighbour)?)?, offer(&hostile)?);
    let (over, sessions) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| attack.run(&socket, &over, &sessions));
        let seen = watch(appliance, &mut guest, &hostile, &sessions);
        over.store(true, Relaxed);
        let attacked = attacker.join();
        seen?;
        attacked.map_err(|_| Failure::new("the attack ended by a panic"))?
    })?;
    guest.read(0, 4096)?;
    appliance.must_have_no_errors(&neighbour)
}

fn watch(appliance: &Appliance, guest: &mut Guest, hostile: &str, sessions: &AtomicU64) -> Outcome {
    let hostile = format!("\"attachment/{hostile}\"");
    let begin = Instant::now();
    let mut worst = Duration::ZERO;
    let found = loop {
        let slice = latencies(guest, Duration::from_millis(200))?;
        worst = worst.max(slice.last().copied().unwrap_or_default());
        let health = appliance.rest().get("/v1/health")?.to_string();
        if health.contains(&hostile) {
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
        found.contains("\"guest_memory_stalls\"") && !found.contains("attachment/neighbour"),
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
