//! QEMU and its tools keep off the disks of a daemon that runs, and the daemon off an image that they have: refused in words
//! that name the program, and served as soon as that has ended. No machine is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::driver::pattern;
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::loop_device::LoopDevice;
use crate::peer;
use crate::process::{Process, wait_until};
use crate::scenarios::step;

/// Bytes of a volume.
const BYTES: u64 = 8 * MIB;

/// The daemon tries a disk again 30 s after the last time at most.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(lab: &Lab) -> Outcome {
    let under = image(lab, "under.img")?;
    let over = LoopDevice::over(&under);
    let mut appliance = Appliance::start_with(lab, &[0], "lock_wait_s = 1")?;
    let file = appliance.disk("d1", 64 * MIB)?;
    appliance.volume("v1", "d1", BYTES)?;
    let socket = appliance.attach("v1", json!({}))?;
    pattern::put(&socket, 1, BYTES)?;
    let mut served = vec![file.clone()];
    match &over {
        Some(over) => {
            let request = json!({ "id": "d2", "block": { "path": over.path } });
            appliance.rest().post("/v1/disks", &request)?;
            appliance.settled("/v1/disks/d2")?;
            served.extend([PathBuf::from(&over.path), under]);
        }
        None => step("no loop device can be had here: they are left to the unit tests"),
    }
    for path in &served {
        tools_keep_off(lab, path)?;
    }
    pattern::must_hold(&socket, 1, BYTES)?;
    appliance.must_be_well()?;
    step(
        "what is served is refused by qemu-io, qemu-img and qemu-storage-daemon, a loop device and the file under it too",
    );

    let mut theirs = held(lab, "theirs", &image(lab, "theirs.img")?)?;
    not_added(lab, &appliance, &theirs)?;
    theirs.kill();
    let request = json!({ "id": "theirs", "file": { "path": lab.path("theirs.img") } });
    appliance.rest().post("/v1/disks", &request)?;
    appliance.settled("/v1/disks/theirs")?;
    step(
        "an image that QEMU writes to is refused to be added, tried and imported, and taken when it is free",
    );

    appliance.stop()?;
    let mut taken = held(lab, "taken", &file)?;
    appliance.start_again()?;
    let expected = [
        "disk_blocked".to_owned(),
        format!("by process {} (qemu-storage-da)", taken.id()),
        "the disk is opened by itself when it is free".to_owned(),
    ];
    wait_until("the disk in QEMU's hands to be told of", PATIENCE, || {
        let health = appliance.rest().get("/v1/nodes/self/health")?.to_string();
        Ok(expected.iter().all(|part| health.contains(part)))
    })?;
    demand(!socket.exists(), "a disk in QEMU's hands is offered to a guest")?;
    let begun = std::time::Instant::now();
    taken.kill();
    wait_until("the disk to be served again", PATIENCE, || {
        Ok(socket.exists() && appliance.must_be_well().is_ok())
    })?;
    pattern::must_hold(&socket, 1, BYTES)?;
    step(format!(
        "a disk that QEMU had taken meanwhile is named with the program, and served {:.1} s after that had ended",
        begun.elapsed().as_secs_f32()
    ));
    // The loop device is let go by whoever has it.
    appliance.stop()
}

/// An image with nothing on it.
fn image(lab: &Lab, name: &str) -> Outcome<PathBuf> {
    let path = lab.path(name);
    fs::File::create(&path)
        .and_then(|file| file.set_len(64 * MIB))
        .map_err(|error| Failure::during(path.display(), error))?;
    Ok(path)
}

/// A qemu-storage-daemon that serves an image to be written to.
fn held(lab: &Lab, name: &str, image: &Path) -> Outcome<Process> {
    peer::serve(
        image,
        &lab.path(&format!("{name}.sock")),
        &lab.path(&format!("{name}.log")),
    )
}

/// No program of QEMU's opens what we serve, to write or to read.
fn tools_keep_off(lab: &Lab, path: &Path) -> Outcome {
    let (path, copy) = (path.display().to_string(), image(lab, "copy.img")?);
    let copy = copy.display().to_string();
    let export = format!(
        "type=vhost-user-blk,id=e,node-name=n,addr.type=unix,addr.path={},writable=on",
        lab.path("refused.sock").display()
    );
    let driver = match path.starts_with("/dev") {
        true => "host_device",
        false => "file",
    };
    let node = format!("driver={driver},node-name=n,filename={path}");
    let commands: [(&str, &[&str]); 6] = [
        ("qemu-io", &["-f", "raw", "-c", "write 1M 64k", &path]),
        ("qemu-io", &["-r", "-f", "raw", "-c", "read 1M 64k", &path]),
        (
            "qemu-img",
            &["convert", "-n", "-f", "raw", "-O", "raw", &copy, &path],
        ),
        ("qemu-img", &["convert", "-f", "raw", "-O", "raw", &path, &copy]),
        ("qemu-img", &["resize", "-f", "raw", &path, "1G"]),
        ("qemu-storage-daemon", &["--blockdev", &node, "--export", &export]),
    ];
    for (program, arguments) in commands {
        // The last of them would run on if it were let in.
        let ran = Command::new("timeout")
            .arg("20")
            .arg(program)
            .args(arguments)
            .output();
        let ran = ran.map_err(|error| Failure::during(program, error))?;
        let said = String::from_utf8_lossy(&ran.stderr);
        demand(
            !ran.status.success() && said.contains("\" lock"),
            format!(
                "{program} {arguments:?} was to find a lock in its way: {}: {said}",
                ran.status
            ),
        )?;
    }
    Ok(())
}

/// No way of taking an image in takes one that QEMU has.
fn not_added(lab: &Lab, appliance: &Appliance, holder: &Process) -> Outcome {
    let path = lab.path("theirs.img");
    let named = format!("by process {} (qemu-storage-da)", holder.id());
    let told = |answer: Outcome<Value>, what: &str| {
        let Err(failure) = answer else {
            return Err(Failure::new(format!("{what}: an image that QEMU has was taken")));
        };
        let said = failure.to_string();
        let all = [
            "disk_locked",
            "is open for writing",
            &named,
            "force does not lift this",
        ];
        demand(
            all.iter().all(|part| said.contains(part)),
            format!("{what} was to name who has it: {said}"),
        )
    };
    for usage in ["pooled", "whole"] {
        let request = json!({ "id": "theirs", "usage": usage, "force": true, "file": { "path": path } });
        told(appliance.rest().post("/v1/disks", &request), usage)?;
    }
    let import = json!({ "disks": [{ "file": { "path": path } }] });
    told(appliance.rest().post("/v1/import", &import), "import")?;
    let path = path.display().to_string();
    let Err(failure) = appliance.cli(&["disk", "add", "theirs", "--file", &path, "--dry-run"]) else {
        return Err(Failure::new("a dry run does not tell that QEMU has the image"));
    };
    demand(
        failure.to_string().contains(&named),
        format!("a dry run was to name who has it: {failure}"),
    )
}
