//! Two daemons, and a disk of the one under a path of the other: who refuses it does not hold it, so its owner opens it while
//! the other runs; and who has got its own medium back serves it without a restart. What an operator was shown of a medium
//! that was changed meanwhile is decided about by nobody. No machine is needed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::driver::pattern;
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::process::wait_until;
use crate::scenarios::step;

const PATIENCE: Duration = Duration::from_secs(20);

const DISK_BYTES: u64 = 96 * MIB;
const BYTES: u64 = 4 * MIB;

/// What the guests of the two write.
const OWN: u64 = 1;
const OTHERS: u64 = 2;

/// Bytes at either end in which our superblocks and tables lie.
const AREA: u64 = 2 * MIB;

/// How long the file is watched for being held, and how often.
const WATCHED: Duration = Duration::from_secs(8);
/// How long a lock may be out of reach at once: a daemon waits longer for it (`devices.lock_wait_s`).
const LOCK_WAIT: Duration = Duration::from_secs(4);
const SAMPLE: Duration = Duration::from_millis(10);

pub fn run(lab: &Lab) -> Outcome {
    let mut one = Appliance::start(lab, &[0])?;
    let mut other = Appliance::start_in(lab, "other", &[0], "")?;
    let path = one.disk("d1", DISK_BYTES)?;
    let others = other.disk("d1", DISK_BYTES)?;
    for (appliance, seed) in [(&one, OWN), (&other, OTHERS)] {
        appliance.volume("v1", "d1", BYTES)?;
        pattern::put(&appliance.attach("v1", json!({}))?, seed, BYTES)?;
    }
    one.stop()?;
    other.stop()?;
    let own = read(&path)?;
    fill(&path, &read(&others)?)?;
    one.start_again()?;
    told_of(&one, "the superblock of another disk or cluster")?;
    is_not_held(&one, &path)?;
    step("the medium of another is refused, and held for the time of a look only; it is told once");

    // Its disk was carried over.
    fs::remove_file(&others).map_err(|error| Failure::during(others.display(), error))?;
    other.start_again()?;
    let given = path.display().to_string();
    other.cli(&["disk", "confirm", "d1", "--path", &given, "--yes", "--wait"])?;
    other.settled("/v1/attachments/v1")?;
    let socket = lab.path("other/run/v1.sock");
    pattern::must_hold(&socket, OTHERS, BYTES)?;
    other.must_be_well()?;
    let shown = one.cli(&["disk", "adopt", "d1"])?;
    demand(
        shown.contains("foreign"),
        format!("what is there is to be shown: {shown}"),
    )?;
    told_of(&one, "disk_blocked")?;
    pattern::put(&socket, OTHERS + 1, BYTES)?;
    pattern::must_hold(&socket, OTHERS + 1, BYTES)?;
    other.must_be_well()?;
    step("its owner's daemon opens it while the other runs, and is not disturbed by the looks of that");

    other.stop()?;
    changed_since(&one, &path)?;
    fill(&path, &own)?;
    one.cli(&["disk", "adopt", "d1"])?;
    let begun = Instant::now();
    one.settled("/v1/attachments/v1")?;
    let took = begun.elapsed();
    pattern::must_hold(&lab.path("appliance/run/v1.sock"), OWN, BYTES)?;
    one.must_be_well()?;
    step(format!(
        "the right medium is back: served without a restart, {} ms after its operator has asked",
        took.as_millis()
    ));
    one.stop()
}

/// A medium that is refused can be locked by anybody who waits for it a little, and the looks at it are no
/// events. On a busy machine a look takes long, so that only a quarter of the time is demanded.
fn is_not_held(appliance: &Appliance, path: &Path) -> Outcome {
    let file = File::open(path).map_err(|error| Failure::during(path.display(), error))?;
    wait_until("the medium to be let go", PATIENCE, || {
        Ok(file.try_lock().is_ok())
    })?;
    file.unlock()
        .map_err(|error| Failure::during(path.display(), error))?;
    // Its first look, and what it has found, are told.
    wait_until("the first look to be told", PATIENCE, || {
        Ok(events_of_disk(appliance)?.contains("may not be used and is closed"))
    })?;
    let before = events_of_disk(appliance)?;
    let (begun, mut free, mut samples) = (Instant::now(), 0, 0);
    let (mut last_free, mut longest) = (begun, Duration::ZERO);
    while begun.elapsed() < WATCHED {
        samples += 1;
        longest = longest.max(last_free.elapsed());
        if file.try_lock().is_ok() {
            free += 1;
            last_free = Instant::now();
            file.unlock()
                .map_err(|error| Failure::during(path.display(), error))?;
        }
        std::thread::sleep(SAMPLE);
    }
    demand(
        longest < LOCK_WAIT && 4 * free >= samples,
        format!(
            "a medium that is refused could not be locked for {longest:?}, and {free} times of {samples} in all"
        ),
    )?;
    let after = events_of_disk(appliance)?;
    demand(
        before == after,
        format!("looks at a medium that is refused are told each time: {after}"),
    )?;
    step(format!(
        "it could be locked {free} times of {samples}, and was not free for {longest:?} at most"
    ));
    let health = appliance.rest().get("/v1/nodes/self/health")?.to_string();
    demand(
        health.contains("it was last read"),
        format!("how old what is told is, is to be told: {health}"),
    )?;
    let disk = appliance.rest().get("/v1/disks/d1")?.to_string();
    demand(
        disk.contains("it was last read") && disk.contains("\"condition\":\"closed\""),
        format!("the disk is to be shown as it was last read: {disk}"),
    )
}

/// The events of the disk, without the time.
fn events_of_disk(appliance: &Appliance) -> Outcome<String> {
    let events = appliance.rest().get("/v1/events?format=json&limit=1000")?;
    let items = events.get("items");
    let items = items.and_then(Value::as_array).cloned().unwrap_or_default();
    let of_disk = |event: &&Value| event.get("subject").and_then(Value::as_str) == Some("disk/d1");
    let told: Vec<String> = items
        .iter()
        .filter(of_disk)
        .filter_map(|event| Some(event.get("message")?.as_str()?.to_owned()))
        .collect();
    Ok(told.join("\n"))
}

/// A side is shown, and the medium changed before it is taken.
fn changed_since(appliance: &Appliance, path: &Path) -> Outcome {
    for at in [0, DISK_BYTES - AREA] {
        write(path, at, &vec![0; AREA as usize])?;
    }
    let mut shown = Value::Null;
    wait_until("the loss to be shown", PATIENCE, || {
        shown = appliance.rest().post("/v1/disks/d1/adopt", &json!({}))?;
        Ok(shown.get("standing").and_then(Value::as_str) == Some("lost"))
    })?;
    let seen = shown.get("seen").cloned().unwrap_or_default();
    write(path, 300_000, b"somebody else")?;
    let before = read(path)?;
    let taken = appliance
        .rest()
        .post("/v1/disks/d1/adopt", &json!({ "take": "database", "seen": seen }));
    let Err(refused) = taken else {
        return Err(Failure::new(
            "a medium was decided about that has changed since it was shown",
        ));
    };
    demand(
        refused.to_string().contains("has changed since it was shown"),
        format!("what has changed is to be said: {refused}"),
    )?;
    demand(
        read(path)? == before,
        "a medium was written to that has changed since it was shown",
    )?;
    step("what has changed since it was shown is decided about by nobody");
    Ok(())
}

fn told_of(appliance: &Appliance, words: &str) -> Outcome {
    let mut said = String::new();
    let found = wait_until("a finding", PATIENCE, || {
        said = appliance.rest().get("/v1/nodes/self/health")?.to_string();
        Ok(said.contains(words))
    });
    demand(found.is_ok(), format!("\"{words}\" is to be told: {said}"))
}

/// Writes bytes over what is there, in place.
fn fill(path: &Path, bytes: &[u8]) -> Outcome {
    write(path, 0, bytes)
}

fn write(path: &Path, at: u64, bytes: &[u8]) -> Outcome {
    let opened = OpenOptions::new().write(true).open(path);
    let written = opened.and_then(|file| {
        file.write_all_at(bytes, at)?;
        file.sync_all()
    });
    written.map_err(|error| Failure::during(path.display(), error))
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(|error| Failure::during(path.display(), error))
}
