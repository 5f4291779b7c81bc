//! A state directory and disks that an earlier version made (`ci/e2e/fixtures`): all is there again, what was laid out then
//! stays where it is, and only new disks are laid out anew. No machine is needed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::driver::pattern;
use crate::failure::{Failure, Outcome, demand};
use crate::lab::{Lab, root};
use crate::process::wait_until;
use crate::scenarios::step;

/// How long a busy machine may take to look at all disks.
const PATIENCE: Duration = Duration::from_secs(20);

/// Made by the last program that wrote format version 2, with disks and sockets below `/srv/palisade`; what its guests had
/// written is left out and is laid here.
const MADE_BY_VERSION_2: &str = "ci/e2e/fixtures/format-2.tar.gz";

/// A volume of then: its name, its disk, where it begins there and how long it is, in bytes.
const VOLUMES: [(&str, &str, u64, u64); 4] = [
    ("web", "pool", 4 * MIB, 4 * MIB),
    ("db", "pool", 8 * MIB, 8 * MIB),
    ("big", "large", 4 * MIB, 4 * MIB),
    ("raw", "whole", 0, 8 * MIB),
];
const DISKS: [&str; 3] = ["pool", "large", "whole"];

/// Size of the disk `large`, and of a new one like it: from 8 GiB on there is more room before the data.
const LARGE: u64 = 9 << 30;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.stop()?;
    unpack(lab)?;
    let disks = lab.path("appliance/disks");
    let image = |disk: &str| disks.join(format!("{disk}.img"));
    for (seed, (_, disk, at, bytes)) in (1..).zip(VOLUMES) {
        let path = image(disk);
        let during = |error| Failure::during(path.display(), error);
        let file = File::options().write(true).open(&path).map_err(during)?;
        file.write_all_at(&pattern::bytes(seed, bytes), at)
            .map_err(during)?;
    }

    appliance.start_again()?;
    for disk in DISKS {
        // It is tried in its turn.
        let named = format!("/srv/palisade/{disk}.img");
        wait_until("health to name a disk that is not where it was", PATIENCE, || {
            let health = appliance.rest().get("/v1/nodes/self/health")?;
            Ok(health.to_string().contains(&named))
        })?;
        let path = image(disk).display().to_string();
        appliance.cli(&["disk", "confirm", disk, "--path", &path, "--yes"])?;
    }
    for (volume, ..) in VOLUMES {
        let offered = appliance.attachment(volume)?.to_string();
        demand(
            offered.contains(&format!("/srv/palisade/run/{volume}.sock")),
            format!("attachment {volume} was to be at another place: {offered}"),
        )?;
        appliance.cli(&["attachment", "delete", volume, "--yes"])?;
        appliance.attach(volume, json!({}))?;
    }
    held(&appliance, lab)?;
    step("a database and three disks of format version 2: all volumes are there, with what they held");

    appliance.volume("new", "large", 4 * MIB)?;
    demand(
        place(&appliance, "new")? == 8 * MIB,
        "a volume on a disk of before lies elsewhere than behind the first one",
    )?;
    pattern::put(&appliance.attach("new", json!({}))?, 9, 4 * MIB)?;
    appliance.stop()?;
    appliance.start_again()?;
    held(&appliance, lab)?;
    pattern::must_hold(&lab.path("appliance/run/new.sock"), 9, 4 * MIB)?;
    for disk in ["pool", "large"] {
        demand(
            version(&image(disk))? == 2,
            format!(
                "the superblock of disk {disk} says more than it has to: the program of before could not read it"
            ),
        )?;
    }
    step("they stay as they were laid out, and readable to the earlier program");

    let path = appliance.disk("roomy", LARGE)?;
    appliance.volume("roomy", "roomy", 4 * MIB)?;
    let at = place(&appliance, "roomy")?;
    demand(at == 68 * MIB, format!("the data of a new disk begins at {at}"))?;
    pattern::put(&appliance.attach("roomy", json!({}))?, 10, 4 * MIB)?;
    demand(version(&path)? == 3, "a new large disk is not of version 3")?;
    appliance.stop()?;
    appliance.start_again()?;
    appliance.settled("/v1/attachments/roomy")?;
    pattern::must_hold(&lab.path("appliance/run/roomy.sock"), 10, 4 * MIB)?;
    appliance.must_be_well()?;
    step("a new disk of 9 GiB has 64 MiB more for intents and journals of its nodes");
    appliance.stop()
}

/// Puts state and disks of before in the place of those of the lab.
fn unpack(lab: &Lab) -> Outcome {
    let [state, disks] = ["state", "disks"].map(|name| lab.path("appliance").join(name));
    fs::remove_dir_all(&state).map_err(|error| Failure::during(state.display(), error))?;
    let archive = root().join(MADE_BY_VERSION_2);
    let status = Command::new("tar")
        .args(["--no-same-owner", "-xSzf"])
        .arg(&archive)
        .arg("-C")
        .arg(&disks)
        .status();
    let status = status.map_err(|error| Failure::during("tar", error))?;
    demand(
        status.success(),
        format!("tar cannot unpack {}", archive.display()),
    )?;
    let from = disks.join("state");
    fs::rename(&from, &state).map_err(|error| Failure::during(from.display(), error))
}

/// Demands that all volumes of before are offered and hold what they held.
fn held(appliance: &Appliance, lab: &Lab) -> Outcome {
    for (seed, (volume, _, _, bytes)) in (1..).zip(VOLUMES) {
        appliance.settled(&format!("/v1/attachments/{volume}"))?;
        let socket = lab.path("appliance/run").join(format!("{volume}.sock"));
        pattern::must_hold(&socket, seed, bytes)?;
    }
    Ok(())
}

/// Where a volume of one extent begins on its disk, in bytes.
fn place(appliance: &Appliance, volume: &str) -> Outcome<u64> {
    let shown = appliance.rest().get(&format!("/v1/volumes/{volume}"))?;
    let at = shown
        .pointer("/layout/extents/0/offset_bytes")
        .and_then(Value::as_u64);
    at.ok_or_else(|| Failure::new(format!("no place of an extent in {shown}")))
}

/// The format version of the first superblock on a disk.
fn version(image: &Path) -> Outcome<u16> {
    let mut version = [0; 2];
    let read = File::open(image).and_then(|file| file.read_exact_at(&mut version, 10));
    read.map_err(|error| Failure::during(image.display(), error))?;
    Ok(u16::from_le_bytes(version))
}
