//! A monitor punches its guest's memory out from under the guest's requests, again and again, and each time the reactor
//! waits with all that it serves. It is known by name, and rests after each request that took long; if it makes the
//! reactor wait for a tenth of a second at a time it is cut off and kept out for a while. Its neighbour on the same reactor is
//! served then, and is blamed for nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::driver::giant::latencies;
use crate::driver::pattern::Guest;
use crate::driver::puncher::{self, Attack};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;

/// Within this time it is cut off: after seconds mostly, and after a minute or more where holes and rests fall into step.
const PATIENCE: Duration = Duration::from_secs(300);
/// For so long the neighbour is watched beside one that is held back, and reads that take so long are counted.
const WATCHED: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_millis(5);
/// Less than it is kept out for the first time.
const OUT: Duration = Duration::from_secs(3);

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let giant = Attack::giant()?;
    step(format!(
        "{} MiB in one call, beside a neighbour on a file",
        giant.hole / MIB
    ));
    appliance.disk("file", 96 * MIB)?;
    suffer(&appliance, "file", &giant, cut_off)?;
    step("holes without a pause, beside a neighbour on a disk in memory");
    let memory = json!({ "id": "memory", "memory": { "bytes": 96 * MIB } });
    appliance.rest().post("/v1/disks", &memory)?;
    suffer(&appliance, "memory", &puncher::RESTLESS, held_back)?;
    appliance.stop()
}

/// Attacks it, with a neighbour on the same disk.
fn suffer(
    appliance: &Appliance,
    disk: &str,
    attack: &Attack,
    watch: fn(&Appliance, &mut Guest, &str, &AtomicU64) -> Outcome,
) -> Outcome {
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

/// Has the neighbour read until one of these is found about the other.
fn until_told(appliance: &Appliance, guest: &mut Guest, hostile: &str, codes: &[&str]) -> Outcome {
    let begin = Instant::now();
    let mut worst = Duration::ZERO;
    let told = |finding: &Value| {
        let is = |field: &str, value: &str| finding.get(field).and_then(Value::as_str) == Some(value);
        is("subject", &format!("attachment/{hostile}")) && codes.iter().any(|code| is("code", code))
    };
    let health = loop {
        let slice = latencies(guest, Duration::from_millis(200))?;
        worst = worst.max(slice.last().copied().unwrap_or_default());
        let health = appliance.rest().get("/v1/nodes/self/health")?;
        let findings = health.get("findings").and_then(Value::as_array);
        if findings.is_some_and(|findings| findings.iter().any(told)) {
            break health.to_string();
        }
        demand(begin.elapsed() < PATIENCE, format!("nothing was told: {health}"))?;
    };
    step(format!(
        "told after {:?}; the neighbour's worst read until then: {worst:?}",
        begin.elapsed()
    ));
    demand(
        !health.contains("attachment/neighbour"),
        format!("the neighbour was accused: {health}"),
    )
}

/// It rests after each of its requests, so that the neighbour has most of the reactor's time.
fn held_back(appliance: &Appliance, guest: &mut Guest, hostile: &str, _: &AtomicU64) -> Outcome {
    until_told(
        appliance,
        guest,
        hostile,
        &["guest_memory_slow", "guest_memory_stalls"],
    )?;
    let before = appliance.reactor_had_to_wait()?;
    let slice = latencies(guest, WATCHED)?;
    // What others on a busy machine took of the reactor's processor is not the attacker's doing.
    let machine = appliance.reactor_had_to_wait()?.saturating_sub(before);
    let lost: Duration = slice.iter().filter(|took| **took >= LONG).sum();
    step(format!(
        "the neighbour made {} reads, the worst {:?}, and waited {lost:?} of {WATCHED:?}; the reactor had no processor for {machine:?}",
        slice.len(),
        slice.last().copied().unwrap_or_default()
    ));
    demand(
        lost < WATCHED / 3 + machine,
        format!("the neighbour waits for {lost:?} of {WATCHED:?}, the reactor for a processor {machine:?}"),
    )
}

fn cut_off(appliance: &Appliance, guest: &mut Guest, hostile: &str, sessions: &AtomicU64) -> Outcome {
    let begin = Instant::now();
    until_told(appliance, guest, hostile, &["guest_memory_stalls"])?;
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
