//! Bits turn in the superblocks of a disk: one copy is repaired from the others, a disk without any is not used, and
//! its neighbour notices nothing. No machine is needed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::process::wait_until;
use crate::scenarios::step;

const SECTOR: usize = 4096;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start_with(lab, &[0], "superblock_look_s = 1")?;
    let path = appliance.disk("d1", 64 * MIB)?;
    appliance.disk("d2", 64 * MIB)?;
    for (volume, disk) in [("v1", "d1"), ("v2", "d2")] {
        appliance.volume(volume, disk, 8 * MIB)?;
        appliance.attach(volume, json!({}))?;
    }
    let copies = superblocks(&path)?;
    demand(
        copies.len() == 4,
        format!("four superblocks are to be on a disk, found {copies:?}"),
    )?;

    for &copy in &copies {
        appliance.stop()?;
        let whole = sector(&path, copy)?;
        flip(&path, copy + 100)?;
        appliance.start_again()?;
        appliance.settled("/v1/attachments/v1")?;
        wait_until(
            "the copy to be mended, bit for bit",
            Duration::from_secs(10),
            || Ok(sector(&path, copy)? == whole && appliance.must_be_well().is_ok()),
        )?;
        let size = appliance.rest().get("/v1/volumes/v1")?;
        let bytes = size.get("bytes").and_then(Value::as_u64).unwrap_or(0) + MIB;
        appliance
            .rest()
            .patch("/v1/volumes/v1", &json!({ "bytes": bytes }))?;
        // What it grew by is cleared, and that is recorded on the disk: nothing more is written by itself.
        appliance.settled("/v1/volumes/v1")?;
    }
    step("one bit of any one copy: read from another one, and mended from it");

    for &copy in &copies {
        let whole = sector(&path, copy)?;
        flip(&path, copy + 100)?;
        wait_until(
            "the copy to be mended while the disk is in use, bit for bit",
            Duration::from_secs(10),
            || Ok(sector(&path, copy)? == whole && appliance.must_be_well().is_ok()),
        )?;
    }
    let events = appliance
        .rest()
        .get("/v1/events?format=json&limit=1000")?
        .to_string();
    demand(
        events.contains("superblock_damaged"),
        format!("a bit that turned while the disk was in use is to be told: {events}"),
    )?;
    step("the same while the disk is in use: told, and mended");

    appliance.stop()?;
    for copy in superblocks(&path)? {
        // Another bit than before: a copy that has not been written again since is not to be mended by this.
        flip(&path, copy + 101)?;
    }
    let before = fs::read(&path).map_err(|error| Failure::during(path.display(), error))?;
    appliance.start_again()?;
    appliance.settled("/v1/attachments/v2")?;
    let mut said = String::new();
    wait_until("the damage to be reported", Duration::from_secs(10), || {
        let health = appliance.rest().get("/v1/nodes/self/health")?;
        said = health.to_string();
        Ok(health.get("overall").and_then(Value::as_str) == Some("failed") && said.contains("disk/d1"))
    })?;
    demand(
        said.contains("superblock"),
        format!("the reason is to be named: {said}"),
    )?;
    let after = fs::read(&path).map_err(|error| Failure::during(path.display(), error))?;
    demand(before == after, "a disk without a superblock was written to")?;
    step("a bit in every copy: the disk is left alone, and its neighbour is served");
    appliance.stop()
}

/// Offsets of the superblock sectors. Extent tables carry another number behind the magic.
fn superblocks(path: &Path) -> Outcome<Vec<usize>> {
    let bytes = fs::read(path).map_err(|error| Failure::during(path.display(), error))?;
    let starts = bytes.chunks(SECTOR).enumerate();
    let found = starts.filter(|(_, sector)| sector.starts_with(b"PALISADE\x01"));
    Ok(found.map(|(index, _)| index * SECTOR).collect())
}

fn sector(path: &Path, at: usize) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; SECTOR];
    fs::File::open(path)
        .and_then(|file| file.read_exact_at(&mut bytes, at as u64))
        .map_err(|error| Failure::during(path.display(), error))?;
    Ok(bytes)
}

/// Turns one bit.
fn flip(path: &Path, at: usize) -> Outcome {
    let turned = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .and_then(|file| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64)?;
            file.write_all_at(&[byte[0] ^ 4], at as u64)
        });
    turned.map_err(|error| Failure::during(path.display(), error))
}
