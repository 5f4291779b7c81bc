//! A disk given whole carries nothing of ours: its image is the volume, from the first byte to the last, before and
//! after. What a volume of it held is not for the next one. No machine is needed.

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
    let request = json!({ "id": "image", "file": { "path": path }, "usage": "whole" });
    appliance.rest().post("/v1/disks", &request)?;
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
    next_volume(lab, &mut appliance)?;
    appliance.must_be_well()?;
    appliance.stop()?;
    demand(
        fs::read(&path).map_err(during)? == content,
        "the image has changed, and nobody wrote to it",
    )?;
    step("given, offered, restarted and taken back: not a byte has changed");
    Ok(())
}

/// A disk that has had a volume is clear before the next one is in use, and the daemon is killed in between.
fn next_volume(lab: &Lab, appliance: &mut Appliance) -> Outcome {
    let path = lab.path("reused.img");
    let during = |error| Failure::during(path.display(), error);
    fs::write(&path, vec![0x5a; 16 * MIB as usize]).map_err(during)?;
    let request = json!({ "id": "reused", "file": { "path": path }, "usage": "whole" });
    appliance.rest().post("/v1/disks", &request)?;
    appliance.settled("/v1/disks/reused")?;
    appliance.volume("before", "reused", 16 * MIB)?;
    appliance.attach("before", json!({}))?;
    appliance.settled("/v1/attachments/before")?;
    appliance.rest().delete("/v1/attachments/before")?;
    let told = appliance.cli(&["volume", "rm", "before", "--dry-run"])?;
    demand(
        told.contains("stay on disk reused")
            && told.contains("cleared before another volume's guest sees it"),
        format!("what is said of the deletion: {told}"),
    )?;
    appliance.cli(&["volume", "rm", "before", "--yes", "--wait"])?;
    let all = |byte: u8| fs::read(&path).map(|content| content.iter().all(|found| *found == byte));
    demand(
        all(0x5a).map_err(during)?,
        "deleting the volume changed what it held",
    )?;
    appliance.kill();
    appliance.start_again()?;
    appliance.volume("after", "reused", 16 * MIB)?;
    let volume = appliance.settled("/v1/volumes/after")?;
    demand(
        volume.get("clear") == Some(&json!("now")),
        format!("it is cleared, and says so: {volume}"),
    )?;
    demand(
        all(0).map_err(during)?,
        "the next volume shows what the one before it held",
    )?;
    for path in ["/v1/volumes/after", "/v1/disks/reused"] {
        appliance.rest().delete(path)?;
    }
    step("a volume that comes after another on a whole disk reads as zeros");
    Ok(())
}
