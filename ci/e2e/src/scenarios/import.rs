//! Disks of a cluster that is gone, taken in by another one that has disks and volumes of its own: one whose head was
//! zeroed, one whose name is taken, with volumes whose names are taken. Each refusal names the way, and what guests had
//! written is there afterwards. No machine is needed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::driver::pattern;
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::process::wait_until;
use crate::scenarios::step;

/// Bytes of each volume.
const BYTES: u64 = 4 * MIB;
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let theirs = [("a", 1), ("b", 2), ("c", 3)];
    for (disk, seed) in theirs {
        appliance.disk(disk, 64 * MIB)?;
        for (volume, seed) in [(format!("web-{disk}"), seed), (format!("db-{disk}"), seed + 10)] {
            appliance.volume(&volume, disk, BYTES)?;
            pattern::put(&appliance.attach(&volume, json!({}))?, seed, BYTES)?;
        }
    }
    let old = cluster(&appliance)?;
    appliance.stop()?;
    let (state, disks) = (lab.path("appliance/state"), lab.path("appliance/disks"));
    let aside = lab.path("old-disks");
    for (from, to) in [(&state, &lab.path("old-state")), (&disks, &aside)] {
        fs::rename(from, to).map_err(|error| Failure::during(from.display(), error))?;
    }
    for folder in [&state, &disks] {
        fs::create_dir(folder).map_err(|error| Failure::during(folder.display(), error))?;
    }
    let path = |disk: &str| aside.join(format!("{disk}.img"));
    zero(&path("b"))?;

    // Another cluster, with a disk a and a volume web-a of its own.
    appliance.start_again()?;
    appliance.disk("a", 64 * MIB)?;
    appliance.volume("web-a", "a", BYTES)?;
    pattern::put(&appliance.attach("web-a", json!({}))?, 99, BYTES)?;
    demand(cluster(&appliance)? != old, "it is the same cluster")?;
    step("three disks with six volumes, and a cluster that knows none of them");

    let bc = [&path("b"), &path("c")].map(|path| path.display().to_string());
    let both = ["disk", "import", "--file", &bc[0], "--file", &bc[1]];
    refused(&appliance, &both, &[&old, "--from-other-cluster"])?;
    let foreign = with(&both, &["--from-other-cluster"]);
    let shown = appliance.cli(&with(&foreign, &["--dry-run"]))?;
    for part in [
        "web-b",
        "db-b",
        "web-c",
        "db-c",
        "damaged, mended when it is taken in",
    ] {
        demand(shown.contains(part), format!("no {part} in what comes: {shown}"))?;
    }
    demand(ids(&appliance, "disks")? == ["a"], "a dry run has taken disks in")?;
    appliance.cli(&with(&foreign, &["--yes"]))?;
    appliance.cli(&["disk", "confirm", "b", "--yes"])?;
    for (volume, seed) in [("web-b", 2), ("db-b", 12), ("web-c", 3), ("db-c", 13)] {
        let socket = appliance.attach(volume, json!({}))?;
        pattern::must_hold(&socket, seed, BYTES)?;
    }
    step("of another cluster only when that is said; a head that was zeroed comes back from the tail");

    let a = path("a").display().to_string();
    let one = ["disk", "import", "--file", &a, "--from-other-cluster"];
    refused(&appliance, &with(&one, &["--yes"]), &["--id"])?;
    refused(
        &appliance,
        &[
            "disk",
            "import",
            "--file",
            &a,
            "--file",
            &bc[0],
            "--id",
            "x",
            "--dry-run",
        ],
        &["--id names one disk"],
    )?;
    appliance.cli(&with(&one, &["--id", "a-old", "--yes"]))?;
    let volumes = ids(&appliance, "volumes")?;
    let renamed: Vec<&String> = volumes.iter().filter(|id| id.starts_with("web-a-")).collect();
    let [renamed] = renamed.as_slice() else {
        return Err(Failure::new(format!("web-a is to come beside ours: {volumes:?}")));
    };
    for (volume, seed) in [(renamed.as_str(), 1), ("db-a", 11)] {
        let socket = appliance.attach(volume, json!({}))?;
        pattern::must_hold(&socket, seed, BYTES)?;
    }
    pattern::must_hold(&lab.path("appliance/run/web-a.sock"), 99, BYTES)?;
    refused(
        &appliance,
        &with(&one, &["--id", "twice", "--yes"]),
        &["is disk a-old"],
    )?;
    step("a disk whose name is taken comes under another one, a volume beside ours, and nothing comes twice");

    appliance.stop()?;
    appliance.start_again()?;
    for id in ids(&appliance, "attachments")? {
        appliance.settled(&format!("/v1/attachments/{id}"))?;
    }
    pattern::must_hold(&lab.path("appliance/run/db-b.sock"), 12, BYTES)?;
    wait_until("the appliance to be well", PATIENCE, || {
        Ok(appliance.must_be_well().is_ok())
    })?;
    appliance.stop()?;
    step("all of it is there after a restart");
    Ok(())
}

fn with<'a>(words: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    words.iter().chain(more).copied().collect()
}

fn refused(appliance: &Appliance, command: &[&str], parts: &[&str]) -> Outcome {
    let said = match appliance.cli(command) {
        Ok(done) => return Err(Failure::new(format!("{command:?} was to be refused: {done}"))),
        Err(failure) => failure.to_string(),
    };
    for part in parts {
        demand(said.contains(part), format!("{command:?}: no {part} in {said}"))?;
    }
    Ok(())
}

/// The id of the cluster, as a backup of its state tells it.
fn cluster(appliance: &Appliance) -> Outcome<String> {
    let backup = appliance.rest().get("/v1/nodes/self/state/backup")?;
    let file = backup.get("file").and_then(Value::as_str).unwrap_or_default();
    let body = file.split_once('\n').map(|(_, body)| body).unwrap_or_default();
    let body: Value = serde_json::from_str(body).map_err(|error| Failure::during("a backup", error))?;
    let id = body.pointer("/cluster/id").and_then(Value::as_str);
    id.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("no cluster in {body}")))
}

fn ids(appliance: &Appliance, what: &str) -> Outcome<Vec<String>> {
    let listed = appliance.rest().get(&format!("/v1/{what}"))?;
    let items = listed.get("items").and_then(Value::as_array);
    let id = |item: &Value| item.get("id").and_then(Value::as_str).map(str::to_owned);
    Ok(items.into_iter().flatten().filter_map(id).collect())
}

fn zero(path: &Path) -> Outcome {
    let zeroes = vec![0; 2 * MIB as usize];
    let written = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.write_all_at(&zeroes, 0));
    written.map_err(|error| Failure::during(PathBuf::from(path).display(), error))
}
