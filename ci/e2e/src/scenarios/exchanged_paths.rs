//! Two block devices without an identity have exchanged their names, as they do between boots: each disk is found by what
//! its medium says, and recorded where it is in one step. No machine is needed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::driver::pattern;
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::loop_device::LoopDevice;
use crate::process::wait_until;
use crate::scenarios::step;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the guests of the two files write.
const FILES: [(&str, u64); 2] = [("w1", 1), ("w2", 2)];

pub fn run(lab: &Lab) -> Outcome {
    files(lab)?;
    let Some(devices) = devices(lab)? else {
        step("no loop device can be had here: it is left to the unit tests");
        return Ok(());
    };
    let [a, b] = &devices;
    let link = |disk: &str| lab.path(disk);
    lead(&link("a"), a)?;
    lead(&link("b"), b)?;
    let mut appliance = Appliance::start(lab, &[0])?;
    for disk in ["a", "b"] {
        let request = json!({ "id": disk, "block": { "path": link(disk) } });
        appliance.rest().post("/v1/disks", &request)?;
        appliance.settled(&format!("/v1/disks/{disk}"))?;
        appliance.volume(&format!("on-{disk}"), disk, 8 * MIB)?;
        appliance.attach(&format!("on-{disk}"), json!({}))?;
    }
    appliance.must_be_well()?;
    appliance.stop()?;

    lead(&link("a"), b)?;
    lead(&link("b"), a)?;
    appliance.start_again()?;
    for disk in ["a", "b"] {
        appliance.settled(&format!("/v1/attachments/on-{disk}"))?;
    }
    wait_until("the exchange to be told", PATIENCE, || {
        let said = findings(&appliance)?;
        Ok(said.matches("\"disk_exchanged\"").count() == 2 && !said.contains("disk_blocked"))
    })?;
    step("two disks whose device names were exchanged are served, each from its own medium, and it is told");

    let patch = json!({ "path": link("b") });
    let Err(refused) = appliance.rest().patch("/v1/disks/a", &patch) else {
        return Err(Failure::new("one of two disks has got the path of the other"));
    };
    let said = refused.to_string();
    for words in [
        "\"code\":\"disks_exchanged\"",
        "holds the medium of disk a",
        "palisade disk confirm a b",
    ] {
        demand(said.contains(words), format!("{words} is to be said: {said}"))?;
    }
    let table = appliance.cli(&["disk", "confirm", "a", "b", "--wait"])?;
    step(format!(
        "both are recorded where they are by one command:\n{table}"
    ));
    for (disk, at) in [("a", "b"), ("b", "a")] {
        let shown = appliance.rest().get(&format!("/v1/disks/{disk}"))?;
        let path = shown.pointer("/block/path").and_then(Value::as_str);
        demand(
            path.map(Path::new) == Some(&*link(at)),
            format!("disk {disk} is recorded at {path:?}"),
        )?;
    }
    wait_until("the finding to end", PATIENCE, || {
        Ok(!findings(&appliance)?.contains("disk_exchanged"))
    })?;
    appliance.must_be_well()?;
    appliance.stop()?;
    appliance.start_again()?;
    for disk in ["a", "b"] {
        appliance.settled(&format!("/v1/attachments/on-{disk}"))?;
    }
    appliance.must_be_well()?;
    step("the next start finds them there");
    appliance.stop()
}

/// Files that are given whole, moved over each other while nobody looked, one of them copied on the way: no word makes the
/// medium of one the other disk, and both are recorded in one step.
fn files(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start_in(lab, "files", &[0], "")?;
    let mut paths = Vec::new();
    for (disk, seed) in FILES {
        let path = lab.path(&format!("files/disks/{disk}.img"));
        let file = json!({ "path": path, "bytes": 16 * MIB });
        let request = json!({ "id": disk, "usage": "whole", "file": file });
        appliance.rest().post("/v1/disks", &request)?;
        appliance.settled(&format!("/v1/disks/{disk}"))?;
        appliance.volume(disk, disk, 16 * MIB)?;
        pattern::put(&appliance.attach(disk, json!({}))?, seed, 16 * MIB)?;
        paths.push(path);
    }
    appliance.must_be_well()?;
    appliance.stop()?;
    let [first, second] = paths.as_slice() else {
        return Err(Failure::new("there are not two files"));
    };
    let aside = lab.path("files/disks/aside.img");
    let during = |error| Failure::during(first.display(), error);
    fs::copy(first, &aside).map_err(during)?;
    fs::rename(second, first).map_err(during)?;
    fs::rename(&aside, second).map_err(during)?;
    appliance.start_again()?;
    wait_until("both to be refused", PATIENCE, || {
        let said = findings(&appliance)?;
        Ok(said.contains("It is the medium of disk w2") && said.matches("\"disk_blocked\"").count() == 2)
    })?;
    let said = findings(&appliance)?;
    demand(
        !said.contains("disk confirm w1 --yes"),
        format!("nobody is told to take the medium of another disk: {said}"),
    )?;
    let Err(refused) = appliance.cli(&["disk", "confirm", "w1", "--yes"]) else {
        return Err(Failure::new("disk w1 has got the medium of disk w2"));
    };
    let said = refused.to_string();
    demand(
        said.contains("holds the medium of disk w2"),
        format!("whose medium it is has to be said: {said}"),
    )?;
    let places = [
        format!("w1={}", second.display()),
        format!("w2={}", first.display()),
    ];
    let [w1, w2] = &places;
    let unsaid = appliance.cli(&["disk", "confirm", w1, w2]);
    demand(unsaid.is_err(), "a copy was taken without a word")?;
    let table = appliance.cli(&["disk", "confirm", w1, w2, "--yes", "--wait"])?;
    step(format!(
        "files that were moved over each other are recorded where they are:\n{table}"
    ));
    for (disk, seed) in FILES {
        appliance.settled(&format!("/v1/attachments/{disk}"))?;
        pattern::must_hold(&lab.path(&format!("files/run/{disk}.sock")), seed, 16 * MIB)?;
    }
    appliance.must_be_well()?;
    let events: Value = appliance.rest().get("/v1/events?format=json&limit=1000")?;
    demand(
        events
            .to_string()
            .contains("is disk w1 from now on, although it is another medium"),
        format!("a copy that was taken is to be told: {events}"),
    )?;
    step("each guest has its own data, and that a copy was taken is told");
    appliance.stop()
}

fn devices(lab: &Lab) -> Outcome<Option<[LoopDevice; 2]>> {
    let mut made = Vec::new();
    for disk in ["a", "b"] {
        let file = lab.path(&format!("{disk}.img"));
        let during = |error| Failure::during(file.display(), error);
        let image = fs::File::create(&file).map_err(during)?;
        image.set_len(64 * MIB).map_err(during)?;
        made.extend(LoopDevice::over(&file));
    }
    Ok(made.try_into().ok())
}

fn lead(link: &Path, device: &LoopDevice) -> Outcome {
    let during = |error| Failure::during(link.display(), error);
    if link.symlink_metadata().is_ok() {
        fs::remove_file(link).map_err(during)?;
    }
    symlink(&device.path, link).map_err(during)
}

fn findings(appliance: &Appliance) -> Outcome<String> {
    let health: Value = appliance.rest().get("/v1/nodes/self/health")?;
    Ok(health.to_string())
}
