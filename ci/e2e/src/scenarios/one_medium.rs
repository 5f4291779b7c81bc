//! One medium is one disk: whatever path leads to it, it is not taken a second time, and a disk whose medium becomes
//! another's serves nobody. A disk that is given up is clean and free when it is gone, wherever the daemon was killed on the
//! way. No machine is needed.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::{Depth, Lab};
use crate::loop_device::LoopDevice;
use crate::process::wait_until;
use crate::scenarios::step;

const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes at either end in which our superblocks and tables lie.
const AREA: u64 = 2 * MIB;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start_with(lab, &[0], "superblock_look_s = 1")?;
    let path = appliance.disk("d1", 64 * MIB)?;
    appliance.volume("v1", "d1", 8 * MIB)?;
    let socket = appliance.attach("v1", json!({}))?;

    taken_once(lab, &appliance, &path)?;
    appliance.must_be_well()?;

    let ends = [0, 64 * MIB - AREA].map(|at| (at, read(&path, at)));
    for (at, _) in &ends {
        write(&path, *at, &vec![0; AREA as usize])?;
    }
    wait_until("the disk to serve nobody any more", PATIENCE, || {
        let health = appliance.rest().get("/v1/nodes/self/health")?;
        let named = health.to_string().contains("carries no superblock any more");
        Ok(named && !socket.exists())
    })?;
    for (at, bytes) in ends {
        write(&path, at, &bytes?)?;
    }
    wait_until("the disk to be itself again", PATIENCE, || {
        Ok(socket.exists() && appliance.must_be_well().is_ok())
    })?;
    step("a disk in use whose superblock is gone serves nobody, and goes on when it is back");

    taken_away(&appliance)?;
    may_only_be_read(lab, &mut appliance)?;
    given_up(lab, &mut appliance)?;
    appliance.must_be_well()?;
    appliance.stop()
}

/// No path to the medium of a disk is taken for another disk, by whatever force.
fn taken_once(lab: &Lab, appliance: &Appliance, path: &Path) -> Outcome {
    let at = |name: &str| lab.path(name);
    let during = |error| Failure::during(path.display(), error);
    symlink(path, at("link")).map_err(during)?;
    fs::hard_link(path, at("hard")).map_err(during)?;
    fs::copy(path, at("copy")).map_err(during)?;
    let mut asked = vec![
        json!({ "file": { "path": at("link") } }),
        json!({ "file": { "path": at("hard") } }),
        json!({ "file": { "path": at("copy") } }),
    ];
    let device = LoopDevice::over(path);
    match &device {
        Some(device) => asked.push(json!({ "block": { "path": device.path } })),
        None => step("no loop device can be had here: they are left to the unit tests"),
    }
    for (number, medium) in asked.iter().enumerate() {
        for usage in ["pooled", "whole"] {
            let mut request = json!({ "id": format!("x{number}"), "usage": usage, "force": true });
            if let (Some(request), Some(medium)) = (request.as_object_mut(), medium.as_object()) {
                request.extend(medium.clone());
            }
            let Err(failure) = appliance.rest().post("/v1/disks", &request) else {
                return Err(Failure::new(format!("{request} was taken, and it is disk d1")));
            };
            let said = failure.to_string();
            demand(
                said.contains("\"code\":\"medium_taken\"") && said.contains("is disk d1 of this appliance"),
                format!("{request}: {said}"),
            )?;
        }
        let import = json!({ "disks": [medium] });
        demand(
            appliance.rest().post("/v1/import", &import).is_err(),
            format!("{import} was taken in, and it is disk d1"),
        )?;
    }
    drop(device);
    ["link", "hard", "copy"]
        .into_iter()
        .try_for_each(|name| fs::remove_file(at(name)).map_err(during))?;
    step("no link, copy or loop device of a disk is taken for another one, by whatever force");
    Ok(())
}

/// Whoever waits for a removal is told that it worked, and can use what was taken away at once.
fn taken_away(appliance: &Appliance) -> Outcome {
    let path = appliance.disk("d2", 64 * MIB)?;
    appliance.cli(&[
        "volume",
        "create",
        "v2",
        "8MiB",
        "--disk",
        "d2",
        "--clear",
        "on-delete",
        "--wait",
    ])?;
    appliance.cli(&["volume", "rm", "v2", "--yes", "--wait"])?;
    appliance.cli(&["disk", "rm", "d2", "--yes", "--wait"])?;
    for at in [0, 64 * MIB - AREA] {
        demand(
            read(&path, at)?.iter().all(|byte| *byte == 0),
            format!("something of ours is left at {at} of a disk whose removal was waited for"),
        )?;
    }
    fs::remove_file(&path).map_err(|error| Failure::during(path.display(), error))?;
    step("a removal that was waited for is a success, and the medium is clean then");
    Ok(())
}

/// A device that takes no writes is told as that, in use and at the start, and heals by itself.
fn may_only_be_read(lab: &Lab, appliance: &mut Appliance) -> Outcome {
    let file = lab.path("read-only.img");
    fs::File::create(&file)
        .and_then(|image| image.set_len(64 * MIB))
        .map_err(|error| Failure::during(file.display(), error))?;
    let Some(device) = LoopDevice::over(&file) else {
        return Ok(());
    };
    appliance.rest().post(
        "/v1/disks",
        &json!({ "id": "ro", "block": { "path": device.path } }),
    )?;
    appliance.settled("/v1/disks/ro")?;
    appliance.volume("on-ro", "ro", 8 * MIB)?;
    appliance.attach("on-ro", json!({}))?;
    let set = |how: &str| -> Outcome {
        let ran = Command::new("blockdev").args([how, &device.path]).status();
        demand(
            ran.is_ok_and(|status| status.success()),
            format!("blockdev {how}"),
        )
    };
    let told = |appliance: &Appliance, yes: bool| {
        wait_until("what is told of the device", PATIENCE, || {
            let health = appliance.rest().get("/v1/nodes/self/health")?.to_string();
            let says = health.contains("may only be read") && health.contains("disk_read_only");
            Ok(says == yes && !health.contains("disk_media") && !health.contains("disk_denied"))
        })
    };
    set("--setro")?;
    told(appliance, true)?;
    appliance.stop()?;
    appliance.start_again()?;
    told(appliance, true)?;
    set("--setrw")?;
    told(appliance, false)?;
    appliance.settled("/v1/attachments/on-ro")?;
    wait_until("all to be well again", PATIENCE, || {
        Ok(appliance.must_be_well().is_ok())
    })?;
    step("a device that takes no writes is told as that, in use and at the start, and heals by itself");
    appliance.rest().delete("/v1/attachments/on-ro")?;
    appliance.rest().delete("/v1/volumes/on-ro")?;
    appliance.rest().delete("/v1/disks/ro")?;
    wait_until("the disk to be given up", PATIENCE, || {
        Ok(appliance.rest().get("/v1/disks/ro").is_err())
    })
}

/// The daemon is killed at some moment of a removal; the next one finishes it.
fn given_up(lab: &Lab, appliance: &mut Appliance) -> Outcome {
    let kills = if lab.depth() == Depth::Full { 40 } else { 8 };
    for kill in 0..kills {
        let path = appliance.disk("d2", 64 * MIB)?;
        appliance.rest().delete("/v1/disks/d2")?;
        std::thread::sleep(Duration::from_millis(kill * 48 / kills));
        appliance.kill();
        appliance.start_again()?;
        wait_until("the removal to be finished", PATIENCE, || {
            let disks = appliance.rest().get("/v1/disks")?;
            let items = disks
                .get("items")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            Ok(!items.iter().any(|disk| disk.get("id") == Some(&json!("d2"))))
        })?;
        for at in [0, 64 * MIB - AREA] {
            demand(
                read(&path, at)?.iter().all(|byte| *byte == 0),
                format!("something of ours is left at {at} after kill {kill}"),
            )?;
        }
        let file = fs::File::open(&path).map_err(|error| Failure::during(path.display(), error))?;
        demand(
            file.try_lock().is_ok(),
            format!("the medium of a disk that is gone is still locked, after kill {kill}"),
        )?;
        drop(file);
        fs::remove_file(&path).map_err(|error| Failure::during(path.display(), error))?;
    }
    appliance.settled("/v1/attachments/v1")?;
    step(format!(
        "{kills} kills within a removal: each was finished, and the medium is clean and free"
    ));
    Ok(())
}

fn read(path: &Path, at: u64) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; AREA as usize];
    fs::File::open(path)
        .and_then(|file| file.read_exact_at(&mut bytes, at))
        .map_err(|error| Failure::during(path.display(), error))?;
    Ok(bytes)
}

fn write(path: &Path, at: u64, bytes: &[u8]) -> Outcome {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.write_all_at(bytes, at))
        .map_err(|error| Failure::during(path.display(), error))
}
