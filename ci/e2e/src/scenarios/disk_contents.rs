//! A medium that holds somebody's data is not taken, unless forced, and is not touched by the refusal. No machine is
//! needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
        let request = json!({ "id": name, "file": { "path": path } });
        holds(&appliance, &request, words)?;
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
            let request = json!({ "id": "block", "block": { "path": device.path }, "usage": "whole" });
            holds(&appliance, &request, "partition table")?;
            step("a block device is refused whole as well");
        }
        None => step("no loop device can be had here: block devices are left to the unit tests"),
    }
    in_use(lab, &appliance)?;
    appliance.must_be_well()?;
    appliance.stop()
}

/// What somebody else uses is refused, forced or not: a file under a loop device, under a mounted file system, under swap
/// space; and a device that may only be read. What a preview says is what the adding says.
fn in_use(lab: &Lab, appliance: &Appliance) -> Outcome {
    let image = |name: &str| -> Outcome<PathBuf> {
        let path = lab.path(name);
        write(&path, b"")?;
        Ok(path)
    };
    let (under, mounted, swap) = (image("under.img")?, image("mounted.img")?, image("swap.img")?);
    let Some(device) = LoopDevice::over(&under) else {
        step("no loop device can be had here: what is in use is left to the unit tests");
        return Ok(());
    };
    let file = |path: &Path| json!({ "file": { "path": path } });
    let block = |path: &str| json!({ "block": { "path": path } });
    is_used(
        appliance,
        &file(&under),
        "disk_in_use_elsewhere",
        &device.path.replace("/dev/", ""),
    )?;

    command("blockdev", &["--setro", &device.path])?;
    is_used(
        appliance,
        &block(&device.path),
        "device_read_only",
        "may only be read",
    )?;
    command("blockdev", &["--setrw", &device.path])?;

    command("mkfs.ext4", &["-q", &mounted.display().to_string()])?;
    let place = lab.path("mounted");
    fs::create_dir(&place).map_err(|error| Failure::during(place.display(), error))?;
    let over = LoopDevice::over(&mounted).ok_or_else(|| Failure::new("a second loop device"))?;
    command("mount", &[&over.path, &place.display().to_string()])?;
    let told = is_used(
        appliance,
        &file(&mounted),
        "disk_in_use_elsewhere",
        &format!("is mounted on {}", place.display()),
    )
    .and_then(|()| {
        is_used(
            appliance,
            &block(&over.path),
            "disk_in_use_elsewhere",
            "is mounted on",
        )
    });
    command("umount", &[&place.display().to_string()])?;
    told?;

    // A swap file may have no holes.
    fs::write(&swap, vec![0; BYTES as usize]).map_err(|error| Failure::during(swap.display(), error))?;
    let name = swap.display().to_string();
    command("chmod", &["600", &name])?;
    command("mkswap", &["-q", &name])?;
    if command("swapon", &[&name]).is_err() {
        step(
            "a file under a loop device, one that is mounted, a device that may only be read: refused; no swap space here",
        );
        return Ok(());
    }
    let told = is_used(appliance, &file(&swap), "disk_in_use_elsewhere", "is swap space");
    command("swapoff", &[&name])?;
    told?;
    step(
        "a file under a loop device, one that is mounted, one that is swapped to, a device that may only be read: refused",
    );
    Ok(())
}

/// Taking it is refused by whatever force, and by a preview in the same words.
fn is_used(appliance: &Appliance, medium: &Value, code: &str, words: &str) -> Outcome {
    for (asked, force) in [
        ("/v1/nodes/self/disk-preview", true),
        ("/v1/disks", false),
        ("/v1/disks", true),
    ] {
        let mut request = json!({ "id": "used", "force": force });
        if let (Some(request), Some(medium)) = (request.as_object_mut(), medium.as_object()) {
            request.extend(medium.clone());
        }
        let said = match appliance.rest().post(asked, &request) {
            Ok(taken) => return Err(Failure::new(format!("{asked} {request} was taken: {taken}"))),
            Err(failure) => failure.to_string(),
        };
        demand(
            said.contains(&format!("\"code\":\"{code}\"")) && said.contains(words),
            format!("{asked} {request} was to be refused by {code}, {words}: {said}"),
        )?;
    }
    Ok(())
}

fn command(program: &str, arguments: &[&str]) -> Outcome {
    let status = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .status()
        .map_err(|error| Failure::during(program, error))?;
    demand(status.success(), format!("{program} {arguments:?} has failed"))
}

/// Adding the disk is refused because of what it holds.
fn holds(appliance: &Appliance, request: &Value, words: &str) -> Outcome {
    let Err(failure) = appliance.rest().post("/v1/disks", request) else {
        return Err(Failure::new(format!("{request} was taken with all it holds")));
    };
    let said = failure.to_string();
    demand(
        said.contains("disk_holds_data") && said.contains(words) && said.contains("force"),
        format!("{request} was to be refused because of its {words}: {said}"),
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
