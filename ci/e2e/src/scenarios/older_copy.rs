//! An older copy of a disk is put in its place: over the file, as another file, over a block device. Nothing is written to it
//! and no guest is served from it before its operator has seen what each side knows, and chosen. No machine is needed.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB, is_applied};
use crate::driver::pattern;
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::loop_device::LoopDevice;
use crate::process::wait_until;
use crate::scenarios::step;

const DISK_BYTES: u64 = 96 * MIB;
const BYTES: u64 = 4 * MIB;

/// What the guests of the volumes write: that of the deleted one, that of the one that stays before and after the copy was
/// made, that of the new one.
const DELETED: u64 = 1;
const BEFORE: u64 = 2;
const AFTER: u64 = 3;
const NEW: u64 = 4;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let file = lab.path("file.img");
    let request = json!({ "id": "file", "file": { "path": file, "bytes": DISK_BYTES, "sparse": true } });
    let copy = lived(lab, &mut appliance, "file", &request, &file)?;
    appliance.stop()?;
    fill(&file, &copy)?;
    let told = waits_for_a_choice(&mut appliance, "file", &file)?;
    demand(
        told.contains("file-gone") && told.contains("file-new"),
        format!("the volumes of each side are to be told: {told}"),
    )?;
    step("an older copy written over the file is left alone, and no guest is served");

    let losses = |side: &str| appliance.cli(&["disk", "adopt", "file", "--take", side, "--dry-run"]);
    let (database, disk) = (losses("database")?, losses("disk")?);
    demand(
        database.contains("What the disk knows of these volumes is lost: file-gone (")
            && database.contains(
                "are emptied from there on: file-new (4 MiB of it by file-gone; all of it is emptied)",
            )
            && database.contains("as of the copy: file-stays."),
        format!("what the side of the database loses: {database}"),
    )?;
    demand(
        disk.contains("What the database knows of these volumes is lost: file-new ("),
        format!("what the side of the disk loses: {disk}"),
    )?;
    appliance.cli(&["disk", "adopt", "file", "--take", "database", "--yes", "--wait"])?;
    appliance.settled("/v1/volumes/file-new")?;
    let [stays, new] = ["stays", "new"].map(|volume| lab.path(&format!("appliance/run/file-{volume}.sock")));
    appliance.settled("/v1/attachments/file-new")?;
    appliance.settled("/v1/attachments/file-stays")?;
    pattern::must_be_zeros(&new, BYTES)?;
    pattern::must_hold(&stays, BEFORE, BYTES)?;
    appliance.must_be_well()?;
    step(
        "the side of the database: a volume whose space the copy has for another is emptied, another is as of the copy",
    );

    // As another file, which has to be confirmed first.
    appliance.stop()?;
    let aside = lab.path("aside.img");
    fs::rename(&copy, &aside).map_err(|error| Failure::during(copy.display(), error))?;
    fs::rename(&aside, &file).map_err(|error| Failure::during(file.display(), error))?;
    let before = read(&file)?;
    appliance.start_again()?;
    told_of(&appliance, "leads to another medium")?;
    let shown = appliance.cli(&["disk", "adopt", "file"])?;
    demand(
        shown.contains("older_copy") && shown.contains("file-gone"),
        format!("a medium that is not confirmed is to be shown: {shown}"),
    )?;
    let taken = appliance.cli(&["disk", "adopt", "file", "--take", "disk", "--yes"]);
    demand(taken.is_err(), "a medium that is not confirmed was decided about")?;
    let confirmed = appliance.cli(&["disk", "confirm", "file", "--yes"])?;
    demand(
        confirmed.contains("older_copy") && confirmed.contains("file-gone"),
        format!("what is confirmed is to be shown: {confirmed}"),
    )?;
    told_of(&appliance, "older copy")?;
    demand(
        read(&file)? == before,
        "an older copy was written to when it was confirmed",
    )?;
    for attachment in ["file-new", "file-stays"] {
        appliance
            .rest()
            .delete(&format!("/v1/attachments/{attachment}"))?;
    }
    appliance.cli(&["disk", "adopt", "file", "--take", "disk", "--yes", "--wait"])?;
    demand(
        appliance.rest().get("/v1/volumes/file-new").is_err(),
        "a volume that only the database knew is still there",
    )?;
    pattern::must_hold(&appliance.attach("file-gone", json!({}))?, DELETED, BYTES)?;
    pattern::must_hold(&appliance.attach("file-stays", json!({}))?, BEFORE, BYTES)?;
    appliance.must_be_well()?;
    appliance.stop()?;
    appliance.start_again()?;
    appliance.settled("/v1/attachments/file-gone")?;
    step("the side of the disk, of another file: its volumes come back, also after a restart");

    let image = lab.path("loop.img");
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&image);
    let sized = made.and_then(|made| made.set_len(DISK_BYTES));
    sized.map_err(|error| Failure::during(image.display(), error))?;
    match LoopDevice::over(&image) {
        Some(device) => {
            let path = PathBuf::from(&device.path);
            let request = json!({ "id": "block", "block": { "path": device.path } });
            let copy = lived(lab, &mut appliance, "block", &request, &path)?;
            appliance.stop()?;
            fill(&path, &copy)?;
            waits_for_a_choice(&mut appliance, "block", &path)?;
            appliance.cli(&["disk", "adopt", "block", "--take", "database", "--yes", "--wait"])?;
            appliance.settled("/v1/attachments/block-new")?;
            pattern::must_be_zeros(&lab.path("appliance/run/block-new.sock"), BYTES)?;
            step("an older copy written over a block device: the same");
            appliance.stop()
        }
        None => {
            step("no loop device can be had here: block devices are left to the unit tests");
            appliance.stop()
        }
    }
}

/// A disk with a volume that goes and one that stays; then a copy of it is made; then comes a volume where the first one was.
/// The path of the copy is returned.
fn lived(lab: &Lab, appliance: &mut Appliance, disk: &str, request: &Value, path: &Path) -> Outcome<PathBuf> {
    let [gone, stays, new] = ["gone", "stays", "new"].map(|volume| format!("{disk}-{volume}"));
    appliance.rest().post("/v1/disks", request)?;
    appliance.settled(&format!("/v1/disks/{disk}"))?;
    for (volume, seed) in [(&gone, DELETED), (&stays, BEFORE)] {
        appliance.volume(volume, disk, BYTES)?;
        pattern::put(&appliance.attach(volume, json!({}))?, seed, BYTES)?;
    }
    appliance.stop()?;
    let copy = lab.path(&format!("{disk}.copy"));
    fs::write(&copy, read(path)?).map_err(|error| Failure::during(copy.display(), error))?;
    appliance.start_again()?;
    appliance.settled(&format!("/v1/attachments/{gone}"))?;
    appliance.rest().delete(&format!("/v1/attachments/{gone}"))?;
    appliance
        .rest()
        .delete(&format!("/v1/volumes/{gone}?clear=false"))?;
    let at = format!("/v1/volumes/{gone}");
    let is_gone = || Ok(appliance.rest().get(&at).is_err());
    wait_until("the deleted volume is gone", Duration::from_secs(30), is_gone)?;
    appliance.volume(&new, disk, BYTES)?;
    appliance.settled(&format!("/v1/volumes/{new}"))?;
    pattern::put(&appliance.attach(&new, json!({}))?, NEW, BYTES)?;
    appliance.settled(&format!("/v1/attachments/{stays}"))?;
    pattern::put(&lab.path(&format!("appliance/run/{stays}.sock")), AFTER, BYTES)?;
    Ok(copy)
}

/// The daemon starts over an older copy: it says so, offers nothing, agrees to nothing and writes nothing. What it says is
/// returned.
fn waits_for_a_choice(appliance: &mut Appliance, disk: &str, path: &Path) -> Outcome<String> {
    let before = read(path)?;
    appliance.start_again()?;
    let told = told_of(appliance, "older copy")?;
    for volume in ["stays", "new"] {
        let attachment = appliance.attachment(&format!("{disk}-{volume}"))?;
        demand(
            !is_applied(&attachment),
            format!("a guest is served from an older copy: {attachment}"),
        )?;
    }
    let request = json!({ "id": "more", "disk": disk, "bytes": MIB });
    demand(
        appliance.rest().post("/v1/volumes", &request).is_err(),
        "a volume was put on an older copy",
    )?;
    let shown = appliance.cli(&["disk", "adopt", disk])?;
    demand(
        ["older_copy", "the side of the disk", "--take database"]
            .iter()
            .all(|words| shown.contains(words)),
        format!("both sides are to be shown: {shown}"),
    )?;
    demand(read(path)? == before, "an older copy was written to")?;
    Ok(told)
}

fn told_of(appliance: &Appliance, words: &str) -> Outcome<String> {
    let mut said = String::new();
    let found = wait_until("a finding", Duration::from_secs(10), || {
        let health: Value = appliance.rest().get("/v1/nodes/self/health")?;
        said = health.to_string();
        Ok(said.contains("disk_blocked") && said.contains(words))
    });
    demand(found.is_ok(), format!("\"{words}\" is to be told: {said}"))?;
    Ok(said)
}

/// Writes a copy over what it was made of, in place.
fn fill(path: &Path, copy: &Path) -> Outcome {
    let bytes = read(copy)?;
    let opened = OpenOptions::new().write(true).open(path);
    let written = opened.and_then(|file| {
        file.write_all_at(&bytes, 0)?;
        file.sync_all()
    });
    written.map_err(|error| Failure::during(path.display(), error))
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(|error| Failure::during(path.display(), error))
}
