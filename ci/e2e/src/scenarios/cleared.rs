//! A new volume reads as zeros wherever it lies, and so does what a volume grows by; what a guest has written stays; and
//! the daemon is killed at any moment of it. On a file and on a block device, both full of somebody else's data. No
//! machine is needed: what a guest would write is written behind the daemon's back.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::{Depth, Lab};
use crate::loop_device::LoopDevice;
use crate::process::wait_until;
use crate::scenarios::step;

const DISK_BYTES: u64 = 320 * MIB;

/// What was on the disk before, and what the guests of the two volumes write.
const BEFORE: u8 = 0xa5;
const FIRST: u8 = 0x11;
const SECOND: u8 = 0x22;

pub fn run(lab: &Lab) -> Outcome {
    let rounds = if lab.depth() == Depth::Full { 20 } else { 3 };
    let mut appliance = Appliance::start(lab, &[0])?;
    let file = used(&lab.path("file.img"))?;
    let request = json!({ "id": "file", "file": { "path": file }, "force": true });
    live(&mut appliance, "file", &request, &file, rounds)?;
    step(format!(
        "{rounds} rounds with kills on a file: zeros where nobody has written, and nothing lost"
    ));
    let image = used(&lab.path("loop.img"))?;
    match LoopDevice::over(&image) {
        Some(device) => {
            let request = json!({ "id": "block", "block": { "path": device.path }, "force": true });
            live(&mut appliance, "block", &request, &image, rounds)?;
            step(format!("{rounds} rounds with kills on a block device: the same"));
            appliance.stop()
        }
        None => {
            step("no loop device can be had here: block devices are left to the unit tests");
            appliance.stop()
        }
    }
}

/// Volumes come, grow and go on one disk, whose content is found in `image`.
fn live(appliance: &mut Appliance, disk: &str, request: &Value, image: &Path, rounds: u64) -> Outcome {
    appliance.rest().post("/v1/disks", request)?;
    appliance.settled(&format!("/v1/disks/{disk}"))?;
    let (first, second) = (format!("{disk}-a"), format!("{disk}-b"));
    appliance.volume(&first, disk, 32 * MIB)?;
    killed_at(appliance, 15)?;
    appliance.attach(&first, json!({}))?;
    let mut size = 32 * MIB;
    holds(appliance, &first, image, 0..size, 0)?;
    write(appliance, &first, image, 0..size, FIRST)?;
    for round in 0..rounds {
        // Where the second lies was a volume before, from the second round on.
        appliance.volume(&second, disk, 64 * MIB)?;
        killed_at(appliance, round * 7 % 50)?;
        appliance.settled(&format!("/v1/volumes/{second}"))?;
        holds(appliance, &second, image, 0..64 * MIB, 0)?;
        write(appliance, &second, image, 0..64 * MIB, SECOND)?;

        let grown = size + 8 * MIB;
        appliance
            .rest()
            .patch(&format!("/v1/volumes/{first}"), &json!({ "bytes": grown }))?;
        killed_at(appliance, round * 11 % 40)?;
        appliance.settled(&format!("/v1/volumes/{first}"))?;
        appliance.settled(&format!("/v1/attachments/{first}"))?;
        holds(appliance, &first, image, 0..size, FIRST)?;
        holds(appliance, &first, image, size..grown, 0)?;
        write(appliance, &first, image, size..grown, FIRST)?;
        holds(appliance, &second, image, 0..64 * MIB, SECOND)?;
        size = grown;

        let path = format!("/v1/volumes/{second}");
        let places = places(appliance, &second)?;
        let clears = round % 2 == 0;
        appliance.rest().delete(&format!("{path}?clear={clears}"))?;
        killed_at(appliance, round * 13 % 40)?;
        let gone = || Ok(appliance.rest().get(&path).is_err());
        wait_until("the deleted volume is gone", Duration::from_secs(30), gone)?;
        for (offset, bytes) in places.into_iter().filter(|_| clears) {
            is_all(
                image,
                offset,
                bytes,
                0,
                "the place of a volume that was cleared on deletion",
            )?;
        }
        holds(appliance, &first, image, 0..size, FIRST)?;
    }
    appliance.must_be_well()
}

/// The daemon is killed a moment from now, and started again.
fn killed_at(appliance: &mut Appliance, ms: u64) -> Outcome {
    thread::sleep(Duration::from_millis(ms));
    appliance.kill();
    appliance.start_again()
}

/// A file full of data.
fn used(path: &Path) -> Outcome<PathBuf> {
    let content = vec![BEFORE; MIB as usize];
    let written = File::create(path).and_then(|file| {
        (0..DISK_BYTES / MIB).try_for_each(|at| file.write_all_at(&content, at * MIB))?;
        file.sync_all()
    });
    written.map_err(|error| Failure::during(path.display(), error))?;
    Ok(path.to_owned())
}

/// Where a volume lies on its disk: offsets and lengths in bytes.
fn places(appliance: &Appliance, volume: &str) -> Outcome<Vec<(u64, u64)>> {
    let volume = appliance.rest().get(&format!("/v1/volumes/{volume}"))?;
    let extents = volume.pointer("/layout/extents").and_then(Value::as_array);
    let number = |extent: &Value, name: &str| extent.get(name).and_then(Value::as_u64);
    let place = |extent: &Value| Some((number(extent, "offset_bytes")?, number(extent, "bytes")?));
    let places: Option<Vec<_>> = extents.map(|extents| extents.iter().filter_map(place).collect());
    places.ok_or_else(|| Failure::new(format!("no extents in {volume}")))
}

/// The stretches of the disk under `range` of a volume.
fn under(appliance: &Appliance, volume: &str, range: std::ops::Range<u64>) -> Outcome<Vec<(u64, u64)>> {
    let mut at = 0;
    let mut found = Vec::new();
    for (offset, bytes) in places(appliance, volume)? {
        let (start, end) = (range.start.max(at), range.end.min(at + bytes));
        if start < end {
            found.push((offset + start - at, end - start));
        }
        at += bytes;
    }
    Ok(found)
}

fn holds(
    appliance: &Appliance,
    volume: &str,
    image: &Path,
    range: std::ops::Range<u64>,
    byte: u8,
) -> Outcome {
    for (offset, bytes) in under(appliance, volume, range)? {
        is_all(image, offset, bytes, byte, volume)?;
    }
    Ok(())
}

fn is_all(image: &Path, offset: u64, bytes: u64, byte: u8, what: &str) -> Outcome {
    let mut content = vec![0; bytes as usize];
    File::open(image)
        .and_then(|file| file.read_exact_at(&mut content, offset))
        .map_err(|error| Failure::during(image.display(), error))?;
    let wrong = content.iter().enumerate().find(|(_, found)| **found != byte);
    demand(
        wrong.is_none(),
        format!(
            "{what}: byte {byte:#x} was to be everywhere in {offset}+{bytes} of {}: {wrong:?}",
            image.display()
        ),
    )
}

fn write(
    appliance: &Appliance,
    volume: &str,
    image: &Path,
    range: std::ops::Range<u64>,
    byte: u8,
) -> Outcome {
    for (offset, bytes) in under(appliance, volume, range)? {
        let content = vec![byte; bytes as usize];
        let written = fs::OpenOptions::new().write(true).open(image).and_then(|file| {
            file.write_all_at(&content, offset)?;
            file.sync_all()
        });
        written.map_err(|error| Failure::during(image.display(), error))?;
    }
    Ok(())
}
