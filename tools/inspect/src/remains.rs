//! What is left of the superblocks of a disk that has lost some of them or all, and what to do then.

use crate::medium::Medium;
use crate::report::PlaceReport;
use palisade_wire::{Damage, Decoded, Geometry, Part, RecordPlace, SECTOR_4K_BYTES, Why, disks_named};
use palisade_words::{Lba, Uuid};
use std::collections::BTreeSet;

/// The places of a superblock, in the order in which they are read.
const PLACES: [(bool, usize); 4] = [(false, 0), (false, 1), (true, 0), (true, 1)];

fn place_of((tail, copy): (bool, usize)) -> RecordPlace {
    RecordPlace {
        tail,
        part: Part::Superblock { copy },
    }
}

/// How it is with each place, by what was found sound and what was blamed.
pub fn places(disk_sectors: u64, sound: &[(RecordPlace, u64)], damage: &[Damage]) -> Vec<PlaceReport> {
    if Geometry::of(disk_sectors).is_err() {
        return Vec::new();
    }
    let one = |place: RecordPlace| {
        let blamed = damage.iter().find(|damage| damage.place == place);
        let is_sound = sound.iter().find(|(sound, _)| *sound == place);
        let what = match (is_sound, blamed) {
            (_, Some(damage)) => damage.why.to_string(),
            (Some((_, write)), None) => format!("sound, of write {write}"),
            (None, None) => "lost".to_owned(),
        };
        PlaceReport {
            place: place.to_string(),
            sound: blamed.is_none() && is_sound.is_some(),
            what,
        }
    };
    PLACES.map(place_of).map(one).into()
}

/// The same where no place carries our magic.
pub fn overwritten(medium: &mut Medium) -> Vec<PlaceReport> {
    let Ok(geometry) = Geometry::of(medium.bytes / 512) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (tail, copy) in PLACES {
        // Where a superblock lies within its area: the first, or 64 KiB further on.
        let area = if tail { geometry.tail.0 } else { 0 };
        let lba = area + copy as u64 * (64 << 10) / 512;
        let what = match medium.sector(Lba(lba)) {
            Ok(bytes) if bytes == [0; SECTOR_4K_BYTES] => "lost: nothing but zeroes is there".to_owned(),
            Ok(_) => "lost: something else wrote over it".to_owned(),
            Err(error) => format!("cannot be read: {error}"),
        };
        found.push(PlaceReport {
            place: place_of((tail, copy)).to_string(),
            sound: false,
            what,
        });
    }
    found
}

/// The disks that what is left in the head and tail area names.
pub fn named(medium: &mut Medium) -> BTreeSet<Uuid> {
    disks_named(medium.bytes / 512, |lba| medium.sector(lba))
}

/// What is lost and what to do where a superblock can be used.
pub fn advice_on_some(label: &str, found: &Decoded, is_cut: bool) -> Vec<String> {
    let of_table = |damage: &&Damage| matches!(damage.why, Why::TableLost { .. });
    let is_older = found.damage.iter().any(|damage| of_table(&damage));
    let mut advice = Vec::new();
    if is_cut {
        advice.push(
            "What extents hold behind the end of the disk is lost: make it as long as it was, or bring the volumes back from a \
             backup."
                .to_owned(),
        );
    }
    if is_older {
        advice.push(format!(
            "What the newest superblock said is lost, and an older one is shown. The cluster's database knows the extents: \
             `palisade disk adopt {label}` shows what each side knows before anything is written."
        ));
    } else {
        advice.push(format!(
            "Nothing is lost of what the superblock says. Nothing needs to be done to the disk: the daemon that has it writes \
             the lost copies anew from the sound ones, and until then `palisade health` shows superblock_damaged of disk \
             {label}. Where copies are lost again and again, look into the kernel log (`dmesg`), and replace the disk."
        ));
    }
    advice
}

/// What is lost and what to do where no superblock can be used.
pub fn advice_on_none(path: &str, named: &BTreeSet<Uuid>) -> Vec<String> {
    let ids: Vec<String> = named.iter().map(Uuid::to_string).collect();
    let mut advice = Vec::new();
    match ids.as_slice() {
        [] => {}
        [id] => advice.push(format!(
            "What is left names disk {id}: `palisade disk list --json` shows whose that is."
        )),
        ids => advice.push(format!("What is left names several disks: {}.", ids.join(", "))),
    }
    advice.push(
        "Lost is which volume lies where on this disk. What the volumes hold lies between the head and the tail, and is not \
         touched by that."
            .to_owned(),
    );
    advice.push(format!(
        "Keep an image before anything else, with the daemon stopped: cp --sparse=always {path} IMAGE"
    ));
    advice.push(
        "Where the cluster's database is there, it knows the extents: start the daemon, and `palisade disk adopt NAME` shows \
         what it would write here, and writes it when that is confirmed. Where the database is lost too, bring it back from \
         a backup first: `palisade state restore FILE --state-dir DIR`."
            .to_owned(),
    );
    advice.push(
        "Do not add it with --force, and do not import it: the first gives its space to others, the second needs a \
         superblock."
            .to_owned(),
    );
    advice
}
