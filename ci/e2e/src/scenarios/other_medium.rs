//! Another medium lies where a disk's was: it is not served and not written to, an operator can say that it is the disk,
//! and what happens to a medium in use is told. No machine is needed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::process::wait_until;
use crate::scenarios::step;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let (path, aside) = (lab.path("image.img"), lab.path("aside.img"));
    write(&path, 3)?;
    let request = json!({ "id": "image", "file": { "path": path }, "usage": "whole" });
    appliance.rest().post("/v1/disks", &request)?;
    appliance.settled("/v1/disks/image")?;
    appliance.volume("web", "image", 16 * MIB)?;
    appliance.attach("web", json!({}))?;
    appliance.stop()?;

    rename(&path, &aside)?;
    write(&path, 7)?;
    let before = read(&path)?;
    appliance.start_again()?;
    told(&appliance, "disk_blocked", "leads to another medium")?;
    demand(
        !lab.path("run/web.sock").exists(),
        "another medium is offered to a guest",
    )?;
    let path_alone = appliance
        .rest()
        .patch("/v1/disks/image", &json!({ "path": path }));
    demand(
        path_alone.is_err(),
        "a path alone has made another medium the disk",
    )?;
    demand(read(&path)? == before, "another medium was written to")?;
    step("another file under the disk's path is left alone");

    let patch = json!({ "confirm": true });
    appliance.rest().patch("/v1/disks/image", &patch)?;
    appliance.settled("/v1/attachments/web")?;
    appliance.must_be_well()?;
    step("an operator's word makes it the disk");

    appliance.stop()?;
    appliance.start_again()?;
    appliance.settled("/v1/attachments/web")?;
    rename(&path, &lab.path("moved.img"))?;
    told(&appliance, "disk_astray", "leads nowhere")?;
    let moved = json!({ "path": lab.path("moved.img") });
    appliance.rest().patch("/v1/disks/image", &moved)?;
    wait_until("the finding to end", Duration::from_secs(10), || {
        Ok(!findings(&appliance)?.contains("disk_astray"))
    })?;
    let elsewhere = appliance
        .rest()
        .patch("/v1/disks/image", &json!({ "path": aside }));
    demand(elsewhere.is_err(), "a disk in use was exchanged")?;
    step("a file that is moved while in use is told of, and found again under its new path");

    fs::remove_file(lab.path("moved.img")).map_err(|error| Failure::during("moved.img", error))?;
    told(&appliance, "disk_unlinked", "has been deleted under the daemon")?;
    step("a file that is deleted while in use is told of");
    appliance.stop()
}

fn told(appliance: &Appliance, code: &str, words: &str) -> Outcome {
    let mut said = String::new();
    let found = wait_until("a finding", Duration::from_secs(10), || {
        said = findings(appliance)?;
        Ok(said.contains(code) && said.contains(words))
    });
    demand(
        found.is_ok(),
        format!("{code} with \"{words}\" is to be told: {said}"),
    )
}

fn findings(appliance: &Appliance) -> Outcome<String> {
    let health: Value = appliance.rest().get("/v1/nodes/self/health")?;
    Ok(health.to_string())
}

fn write(path: &Path, fill: u8) -> Outcome {
    let bytes: Vec<u8> = (0..16 * MIB).map(|at| (at % 251) as u8 ^ fill).collect();
    fs::write(path, bytes).map_err(|error| Failure::during(path.display(), error))
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(|error| Failure::during(path.display(), error))
}

fn rename(from: &Path, to: &Path) -> Outcome {
    fs::rename(from, to).map_err(|error| Failure::during(from.display(), error))
}
