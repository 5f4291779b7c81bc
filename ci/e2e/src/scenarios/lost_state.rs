//! The state directory is lost, or comes back as an old copy: no volume is lost with it. Disks come back with their
//! volumes from their superblocks alone; an old copy of the database does not take them over; a disk whose head was
//! zeroed is mended from its tail, and one without any superblock from the database. No machine is needed.

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

/// What a guest would have written to the beginning of each volume.
const PATTERN: &[u8; 16] = b"precious content";

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let path = appliance.disk("d1", 96 * MIB)?;
    let file = path.display().to_string();
    for volume in ["v1", "v2"] {
        volume_in_force(&appliance, volume, 4 * MIB)?;
    }
    let backup = lab.path("backup").display().to_string();
    appliance.cli(&["state", "backup", &backup])?;
    // What the database of the backup does not know: a larger disk, and a volume for which it was made larger.
    appliance.cli(&["disk", "grow", "d1", "160MiB", "--wait"])?;
    volume_in_force(&appliance, "v3", 96 * MIB)?;
    let places = places(&appliance)?;
    appliance.stop()?;
    for &(_, at) in &places {
        write(&path, at, PATTERN)?;
    }
    let state = lab.path("appliance/state");

    // Lost, and nothing to restore from.
    move_away(&state, &lab.path("state-1"))?;
    appliance.start_again()?;
    let request = json!({ "id": "d1", "file": { "path": path } });
    let refused = appliance.rest().post("/v1/disks", &request).err();
    let words = refused.map(|failure| failure.to_string()).unwrap_or_default();
    demand(
        words.contains("palisade disk import") && words.contains("v3"),
        format!("adding the disk anew must be refused, with the way to its volumes: {words}"),
    )?;
    let shown = appliance.cli(&["disk", "import", "--file", &file, "--dry-run"])?;
    demand(
        ["v1", "v2", "v3", "Nothing was changed"]
            .iter()
            .all(|word| shown.contains(word)),
        format!("a dry run is to show what comes: {shown}"),
    )?;
    appliance.cli(&["disk", "import", "--file", &file, "--yes"])?;
    all_is_there(&mut appliance, &path, &places)?;
    appliance.attach("v3", json!({}))?;
    step("the state directory is lost: disk and volumes come back from the superblock, dry run first");

    // An old copy of the database.
    appliance.stop()?;
    move_away(&state, &lab.path("state-2"))?;
    fs::create_dir(&state).map_err(|error| Failure::during(state.display(), error))?;
    let directory = state.display().to_string();
    appliance.cli(&["state", "restore", &backup, "--state-dir", &directory])?;
    let again = appliance.cli(&["state", "restore", &backup, "--state-dir", &directory]);
    demand(
        again.is_err(),
        "a restore must not write over a database".to_owned(),
    )?;
    let before = fs::read(&path).map_err(|error| Failure::during(path.display(), error))?;
    appliance.start_again()?;
    must_say(&appliance, "disk adopt")?;
    for number in 0..12 {
        let request = json!({ "id": format!("usurper{number}"), "disk": "d1", "bytes": MIB });
        demand(
            appliance.rest().post("/v1/volumes", &request).is_err(),
            "an old copy of the database must not count up".to_owned(),
        )?;
    }
    let after = fs::read(&path).map_err(|error| Failure::during(path.display(), error))?;
    demand(
        before == after,
        "an old copy of the database has written to the disk",
    )?;
    let known = appliance.cli(&["disk", "adopt", "d1"])?;
    demand(
        known.contains("v3") && known.contains("made larger since"),
        format!("what only the disk knows is to be shown: {known}"),
    )?;
    appliance.cli(&["disk", "adopt", "d1", "--take", "disk", "--yes"])?;
    all_is_there(&mut appliance, &path, &places)?;
    let disk = appliance.rest().get("/v1/disks/d1")?;
    demand(
        disk.get("bytes").and_then(Value::as_u64) == Some(160 * MIB),
        format!("the disk is to be as large as it was made: {disk}"),
    )?;
    step(
        "an old copy of the database: nothing is written, no change of the disk is agreed on, the operator chooses",
    );

    // The head is gone, then everything.
    appliance.stop()?;
    write(&path, 0, &vec![0; 2 * MIB as usize])?;
    appliance.start_again()?;
    must_say(&appliance, "palisade disk confirm d1 --yes")?;
    appliance.cli(&["disk", "confirm", "d1", "--yes"])?;
    all_is_there(&mut appliance, &path, &places)?;
    appliance.stop()?;
    // The file is cut off and made as long as before, while nobody looks.
    let whole = fs::metadata(&path)
        .map_err(|error| Failure::during(path.display(), error))?
        .len();
    for bytes in [whole - 2 * MIB, whole] {
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(bytes))
            .map_err(|error| Failure::during(path.display(), error))?;
    }
    appliance.start_again()?;
    must_say(&appliance, "the end of the medium are gone")?;
    appliance.cli(&["disk", "confirm", "d1", "--yes"])?;
    all_is_there(&mut appliance, &path, &places)?;
    appliance.stop()?;
    demand(
        superblocks(&path)?.len() == 4,
        "the head is to be mended from the tail".to_owned(),
    )?;
    for at in superblocks(&path)? {
        write(&path, at, &[0xa5; 4096])?;
    }
    appliance.start_again()?;
    must_say(&appliance, "disk adopt")?;
    appliance.cli(&["disk", "adopt", "d1", "--take", "database", "--yes"])?;
    all_is_there(&mut appliance, &path, &places)?;
    step(
        "a zeroed head is mended from the tail and a lost tail from the head, once an operator goes on; a lost superblock from the database",
    );
    whole_disk(lab, &mut appliance)?;
    appliance.stop()
}

/// What lies on a disk given whole may be another tenant's since the backup was taken, and nothing on it says so.
fn whole_disk(lab: &Lab, appliance: &mut Appliance) -> Outcome {
    let whole =
        json!({ "id": "w1", "usage": "whole", "file": { "path": lab.path("w1.img"), "bytes": 32 * MIB } });
    appliance.rest().post("/v1/disks", &whole)?;
    appliance.settled("/v1/disks/w1")?;
    let second = lab.path("w2.img");
    let whole = json!({ "id": "w2", "usage": "whole", "file": { "path": second, "bytes": 32 * MIB } });
    appliance.rest().post("/v1/disks", &whole)?;
    appliance.settled("/v1/disks/w2")?;
    appliance.volume("alice", "w1", 32 * MIB)?;
    let socket = appliance.attach("alice", json!({}))?;
    let backup = lab.path("backup-of-alice").display().to_string();
    appliance.cli(&["state", "backup", &backup])?;
    for gone in [
        ["attachment", "delete", "alice", "--yes"],
        ["volume", "delete", "alice", "--yes"],
    ] {
        appliance.cli(&gone)?;
    }
    appliance.volume("bob", "w1", 32 * MIB)?;
    appliance.attach("bob", json!({}))?;
    // A volume that comes and goes after the backup: of that the database of the backup will know nothing.
    appliance.volume("carol", "w2", 32 * MIB)?;
    appliance.settled("/v1/volumes/carol")?;
    write(&second, MIB, PATTERN)?;
    appliance.cli(&["volume", "delete", "carol", "--yes"])?;
    appliance.stop()?;
    let state = lab.path("appliance/state");
    move_away(&state, &lab.path("state-of-bob"))?;
    let directory = state.display().to_string();
    let restore = ["state", "restore", &backup, "--state-dir", &directory];
    let told = appliance.cli(&restore)?;
    demand(
        told.contains("w1 (alice)"),
        format!("the disk and its volume are to be named: {told}"),
    )?;
    for _ in 0..2 {
        appliance.start_again()?;
        must_say(appliance, "palisade disk confirm w1 --yes")?;
        demand(
            !socket.exists(),
            "what may be another's is on offer after a restore".to_owned(),
        )?;
        appliance.stop()?;
    }
    appliance.start_again()?;
    appliance.cli(&["disk", "confirm", "w1", "--yes", "--wait"])?;
    appliance.settled("/v1/attachments/alice")?;
    demand(socket.exists(), "what was confirmed is to be served".to_owned())?;
    step("a disk given whole is served after a restore once an operator has confirmed it, and not before");
    next_volume(appliance, &second)
}

/// What a volume of after the backup held is not shown to the next one, though the database has never heard of it.
fn next_volume(appliance: &Appliance, image: &Path) -> Outcome {
    must_say(appliance, "palisade disk confirm w2 --yes")?;
    appliance.cli(&["disk", "confirm", "w2", "--yes", "--wait"])?;
    let held = fs::read(image).map_err(|error| Failure::during(image.display(), error))?;
    let shows = |bytes: &[u8]| bytes.windows(PATTERN.len()).any(|window| window == PATTERN);
    demand(shows(&held), "a disk without a volume was written to".to_owned())?;
    appliance.volume("dave", "w2", 32 * MIB)?;
    appliance.settled("/v1/volumes/dave")?;
    let volume = appliance.rest().get("/v1/volumes/dave")?;
    demand(
        volume.get("clear").and_then(Value::as_str) == Some("now"),
        format!("the next volume is to be cleared before use: {volume}"),
    )?;
    let now = fs::read(image).map_err(|error| Failure::during(image.display(), error))?;
    demand(
        !shows(&now),
        "a new volume shows what another's guest has written after the backup".to_owned(),
    )?;
    step(
        "the next volume on a disk given whole is cleared after a restore, whatever the database knows of the last one",
    );
    Ok(())
}

fn volume_in_force(appliance: &Appliance, id: &str, bytes: u64) -> Outcome {
    appliance.volume(id, "d1", bytes)?;
    appliance.settled(&format!("/v1/volumes/{id}")).map(drop)
}

/// Where each volume begins on the disk, in bytes.
fn places(appliance: &Appliance) -> Outcome<Vec<(String, u64)>> {
    ["v1", "v2", "v3"]
        .iter()
        .map(|id| {
            let volume = appliance.rest().get(&format!("/v1/volumes/{id}"))?;
            let at = volume
                .pointer("/layout/extents/0/offset_bytes")
                .and_then(Value::as_u64);
            let at = at.ok_or_else(|| Failure::new(format!("{id} has no extents: {volume}")))?;
            Ok(((*id).to_owned(), at))
        })
        .collect()
}

/// All volumes are back in their places, with what was in them, and nothing is wrong.
fn all_is_there(appliance: &mut Appliance, path: &Path, places: &[(String, u64)]) -> Outcome {
    appliance.settled("/v1/disks/d1")?;
    let found = self::places(appliance)?;
    demand(
        found == places,
        format!("volumes are not where they were: {found:?}, {places:?}"),
    )?;
    for (id, at) in places {
        let mut bytes = [0; PATTERN.len()];
        fs::File::open(path)
            .and_then(|file| file.read_exact_at(&mut bytes, *at))
            .map_err(|error| Failure::during(path.display(), error))?;
        demand(
            bytes == *PATTERN,
            format!("the content of {id} is lost: {bytes:?}"),
        )?;
    }
    wait_until("the appliance to be well", Duration::from_secs(10), || {
        Ok(appliance.must_be_well().is_ok())
    })?;
    appliance.must_be_well()
}

fn must_say(appliance: &Appliance, words: &str) -> Outcome {
    let mut said = String::new();
    wait_until("the finding", Duration::from_secs(10), || {
        said = appliance.rest().get("/v1/nodes/self/health")?.to_string();
        Ok(said.contains(words))
    })
    .map_err(|failure| Failure::new(format!("{failure}: {said}")))
}

fn move_away(from: &Path, to: &Path) -> Outcome {
    fs::rename(from, to).map_err(|error| Failure::during(from.display(), error))
}

fn write(path: &Path, at: u64, bytes: &[u8]) -> Outcome {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.write_all_at(bytes, at))
        .map_err(|error| Failure::during(path.display(), error))
}

/// Offsets of the superblock sectors.
fn superblocks(path: &Path) -> Outcome<Vec<u64>> {
    let bytes = fs::read(path).map_err(|error| Failure::during(path.display(), error))?;
    let starts = bytes.chunks(4096).zip(0u64..);
    let found = starts.filter(|(sector, _)| sector.starts_with(b"PALISADE\x01"));
    Ok(found.map(|(_, index)| index * 4096).collect())
}
