//! A disk given whole carries nothing of ours: its image is the volume, from the first byte to the last, before and
//! after. No machine is needed.

use std::fs;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let path = lab.path("image.img");
    let during = |error| Failure::during(path.display(), error);
    let content: Vec<u8> = (0..16 * MIB).map(|at| (at % 251) as u8).collect();
    fs::write(&path, &content).map_err(during)?;
    let wish = json!({ "id": "image", "file": { "path": path }, "usage": "whole" });
    appliance.rest().post("/v1/disks", &wish)?;
    let disk = appliance.settled("/v1/disks/image")?;
    let bytes = disk.get("bytes").and_then(Value::as_u64);
    demand(bytes == Some(16 * MIB), format!("all of it is its size: {disk}"))?;
    appliance.volume("web", "image", 16 * MIB)?;
    let second = json!({ "id": "other", "disk": "image", "bytes": MIB });
    let taken = appliance.rest().post("/v1/volumes", &second);
    demand(taken.is_err(), "a whole disk was given to two volumes")?;
    let volume = appliance.rest().get("/v1/volumes/web")?;
    let offset = volume
        .pointer("/layout/extents/0/offset_bytes")
        .and_then(Value::as_u64);
    demand(offset == Some(0), format!("it begins at the beginning: {volume}"))?;
    appliance.attach("web", json!({}))?;
    step("the volume is the image");

    appliance.stop()?;
    appliance.start_again()?;
    appliance.settled("/v1/attachments/web")?;
    for path in ["/v1/attachments/web", "/v1/volumes/web", "/v1/disks/image"] {
        appliance.rest().delete(path)?;
    }
    appliance.must_be_well()?;
    appliance.stop()?;
    demand(
        fs::read(&path).map_err(during)? == content,
        "the image has changed, and nobody wrote to it",
    )?;
    step("given, offered, restarted and taken back: not a byte has changed");
    Ok(())
}
