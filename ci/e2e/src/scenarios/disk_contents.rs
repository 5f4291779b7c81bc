//! A medium that holds somebody's data is not taken, unless forced, and is not touched by the refusal. No machine is
//! needed.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::loop_device::LoopDevice;
use crate::scenarios::step;

const BYTES: u64 = 64 * MIB;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let at = |offset: usize, what: &[u8]| {
        let mut content = vec![0; offset];
        content.extend(what);
        content
    };
    let kinds = [
        ("ext4", at(1024 + 0x38, &[0x53, 0xef]), "file system"),
        ("xfs", at(0, b"XFSB"), "file system"),
        ("luks", at(0, b"LUKS\xba\xbe\0\x02"), "LUKS"),
        ("mbr", partition_table(), "partition table"),
        ("gpt", at(512, b"EFI PART"), "partition table"),
        ("other", at(0, b"the only copy of a thesis"), "unknown"),
    ];
    for (name, content, words) in &kinds {
        let path = lab.path(&format!("{name}.img"));
        write(&path, content)?;
        let wish = json!({ "id": name, "file": { "path": path } });
        holds(&appliance, &wish, words)?;
        demand(
            fs::read(&path).is_ok_and(|found| found.starts_with(content)),
            format!("{name}: the refusal has changed the file"),
        )?;
    }
    step("six kinds of content are refused by name, and left alone");

    let forced = json!({ "id": "ext4", "file": { "path": lab.path("ext4.img") }, "force": true });
    appliance.rest().post("/v1/disks", &forced)?;
    appliance.settled("/v1/disks/ext4")?;
    step("force takes one of them");

    let image = json!({ "id": "xfs", "file": { "path": lab.path("xfs.img") }, "usage": "whole" });
    appliance.rest().post("/v1/disks", &image)?;
    appliance.settled("/v1/disks/xfs")?;
    step("given whole, a file may hold anything: it is the image of its volume");

    appliance.rest().delete("/v1/disks/ext4")?;
    match LoopDevice::over(&lab.path("mbr.img")) {
        Some(device) => {
            let wish = json!({ "id": "block", "block": { "path": device.path }, "usage": "whole" });
            holds(&appliance, &wish, "partition table")?;
            step("a block device is refused whole as well");
        }
        None => step("no loop device can be had here: block devices are left to the unit tests"),
    }
    appliance.must_be_well()?;
    appliance.stop()
}

/// Adding the disk is refused because of what it holds.
fn holds(appliance: &Appliance, wish: &Value, words: &str) -> Outcome {
    let Err(failure) = appliance.rest().post("/v1/disks", wish) else {
        return Err(Failure::new(format!("{wish} was taken with all it holds")));
    };
    let said = failure.to_string();
    demand(
        said.contains("disk_holds_data") && said.contains(words) && said.contains("force"),
        format!("{wish} was to be refused because of its {words}: {said}"),
    )
}

fn write(path: &Path, content: &[u8]) -> Outcome {
    let written = fs::write(path, content).and_then(|()| {
        let file = fs::OpenOptions::new().write(true).open(path)?;
        file.set_len(BYTES)
    });
    written.map_err(|error| Failure::during(path.display(), error))
}

/// A master boot record with one Linux partition.
fn partition_table() -> Vec<u8> {
    let mut sector = vec![0_u8; 512];
    let entry = [0, 0, 2, 0, 0x83, 0, 2, 0, 0, 8, 0, 0, 0, 0, 1, 0];
    sector[446..462].copy_from_slice(&entry);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
