//! What the planner is told of a medium, case by case.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by panicking"
)]

mod stand;

use palisade_model::{AdoptDisk, Cluster, Command, CreateVolume, FirstSuperblock, OnMedium, SuperblockState};
use palisade_volume::{Bare, Forbidden, Known, Leaving, carried, renewal};
use palisade_wire::DecodeError;
use palisade_words::{Ancestor, Epoch, Generation, LineageId, Uuid};
use stand::{
    Medium4k, SECTORS, at, begun, image_of, known, name, read, then, told, told_knowing, volume, written,
};

#[test]
fn each_standing_is_told_as_what_may_be_done_about_it() {
    let cluster = then(&begun(3), volume("a"));
    let generation = image_of(&cluster).superblock.generation;
    let ours = |flawed| Ok(SuperblockState::Ours { generation, flawed });
    assert_eq!(told(&written(&cluster), &cluster), ours(false));
    let later = then(&cluster, volume("bb"));
    assert_eq!(
        told(&written(&cluster), &later),
        ours(false),
        "it is behind, and sound"
    );
    let newer = image_of(&later).superblock.generation;
    assert_eq!(
        told(&written(&later), &cluster),
        Ok(SuperblockState::Newer { generation: newer })
    );
    let apart = then(&cluster, volume("ccc"));
    assert_eq!(
        told(&written(&apart), &later),
        Ok(SuperblockState::Diverged { generation: newer })
    );
    assert_eq!(told(&written(&begun(4)), &cluster), Ok(SuperblockState::Foreign));
    assert_eq!(told(&Medium4k::new(), &cluster), Ok(SuperblockState::Missing));
    let small = Err(DecodeError::TooSmall { disk_sectors: 9 });
    assert_eq!(
        carried(&small, &image_of(&cluster), Known::NOTHING, || true),
        Ok(SuperblockState::Missing)
    );
    // One copy of it is damaged.
    let mut flawed = written(&cluster);
    flawed.get_mut(&0).unwrap()[100] ^= 1;
    assert_eq!(told(&flawed, &cluster), ours(true));
}

#[test]
fn what_cannot_be_used_is_damaged_unless_a_first_write_was_cut_off() {
    let sound = begun(3);
    let mut pending = sound.clone();
    pending.disks.get_mut(&name("d")).unwrap().first_superblock = FirstSuperblock::Pending;
    let mut medium = written(&sound);
    // All copies end in the middle.
    for sector in medium
        .values_mut()
        .filter(|sector| sector[..8] == palisade_wire::MAGIC)
    {
        sector[512..].fill(0);
    }
    assert!(matches!(read(&medium), Err(DecodeError::Damaged { .. })));
    assert_eq!(told(&medium, &sound), Ok(SuperblockState::Damaged));
    assert_eq!(told(&medium, &pending), Ok(SuperblockState::Missing));
    // Nobody decides about what a later version wrote, or what cannot be read.
    let later = DecodeError::WrongVersion { found: 99 };
    assert_eq!(
        carried(&Err(later.clone()), &image_of(&sound), Known::NOTHING, || true),
        Err(later)
    );
}

/// What was adopted after a disk was opened goes with it.
#[test]
fn a_disk_that_leaves_is_known_as_the_cluster_knows_it_by_now() {
    let opened = begun(3);
    let point = Ancestor {
        generation: Generation(40),
        id: LineageId(4711),
    };
    let adopt = AdoptDisk {
        name: name("d"),
        uuid: Uuid(3),
        seen: Some(OnMedium {
            point,
            epoch: Epoch(1),
            ancestors: Vec::new(),
        }),
        empties: Vec::new(),
        keeps: Default::default(),
        older: false,
    };
    let adopted = then(&opened, Command::AdoptDisk(adopt));
    let before = &opened.disks[&name("d")];
    let known = |cluster: &Cluster| Leaving::of(cluster, &name("d"), before, false);
    assert!(known(&adopted).history.iter().any(|known| *known == point));
    assert_eq!(known(&opened).history, before.history);
    // It has left, or another one has its name.
    assert_eq!(known(&Cluster::empty()).history, before.history);
    assert_eq!(known(&begun(5)).history, before.history);
    assert!(!known(&adopted).pending && Leaving::of(&adopted, &name("d"), before, true).pending);
}

/// What is still to be cleared is in no image, and would be lost with the side of the database.
#[test]
fn what_is_agreed_on_counts_also_while_it_is_not_clear() {
    let Command::CreateVolume(create) = volume("mine") else {
        return;
    };
    let cluster = then(
        &then(&begun(3), volume("a")),
        Command::CreateVolume(CreateVolume {
            clears: true,
            ..create
        }),
    );
    let names = |extents: &[palisade_wire::ExtentRecord]| -> Vec<String> {
        extents
            .iter()
            .map(|extent| extent.volume_name.to_string())
            .collect()
    };
    assert_eq!(names(&image_of(&cluster).extents), ["a"]);
    let agreed = palisade_volume::agreed(&cluster, &name("d")).unwrap();
    assert_eq!(names(&agreed), ["a", "mine"]);
    let difference = palisade_volume::difference(&image_of(&cluster).extents, &agreed);
    assert_eq!(difference.only_in_database.len(), 1);
    assert!(difference.only_on_medium.is_empty() && difference.elsewhere.is_empty());
}

/// A disk whose file was cut off and made as long as before, or whose beginning was written over.
#[test]
fn an_end_without_any_copy_is_no_turned_bit() {
    let cluster = then(&begun(3), volume("a"));
    let generation = image_of(&cluster).superblock.generation;
    let ours = Ok(SuperblockState::Ours {
        generation,
        flawed: true,
    });
    let bare = || Bare {
        pending: false,
        examined: true,
        blank: false,
        cut_off: false,
    };
    for tail in [true, false] {
        let is_there = |lba: &u64| (*lba > SECTORS / 2) == tail;
        for byte in [0, 0xa5] {
            let mut medium = written(&cluster);
            let mut superblocks: Vec<u64> = medium.keys().copied().filter(is_there).collect();
            superblocks.retain(|lba| {
                palisade_wire::Superblock::from_sector(&at(&medium, *lba), palisade_words::Lba(*lba)).is_ok()
            });
            assert_eq!(superblocks.len(), 2, "{superblocks:?}");
            // One of them is a turned bit.
            medium.get_mut(&superblocks[0]).unwrap().fill(byte);
            assert_eq!(told(&medium, &cluster), ours);
            medium.get_mut(&superblocks[1]).unwrap().fill(byte);
            let lost = SuperblockState::EndLost { generation, tail };
            assert_eq!(told(&medium, &cluster), Ok(lost));
            // Also when it is behind: what would bring it up to date is not written.
            let later = then(&cluster, volume("bb"));
            assert_eq!(told(&medium, &later), Ok(lost));
            for wanted in [&cluster, &later] {
                let written = renewal(&read(&medium), &image_of(wanted), known(None), bare);
                assert_eq!(written, Err(Forbidden::EndLost { tail }));
            }
            // Once an operator goes on, or while the first write of it is under way.
            let excused = Known {
                end_excused: true,
                ..Known::NOTHING
            };
            assert_eq!(told_knowing(&medium, &cluster, excused), ours);
            assert!(renewal(&read(&medium), &image_of(&cluster), excused, bare).is_ok());
            let mut pending = cluster.clone();
            pending.disks.get_mut(&name("d")).unwrap().first_superblock = FirstSuperblock::Pending;
            assert_eq!(told(&medium, &pending), ours);
        }
        // What has become of the table there changes nothing; one copy that can still be told to be ours does.
        let medium = written(&cluster);
        let is_superblock = |lba: &u64| {
            palisade_wire::Superblock::from_sector(&at(&medium, *lba), palisade_words::Lba(*lba)).is_ok()
        };
        let all_there = medium.keys().copied().filter(is_there);
        let (superblocks, tables): (Vec<u64>, Vec<u64>) = all_there.partition(is_superblock);
        let mut gone = medium.clone();
        for lba in &superblocks {
            gone.get_mut(lba).unwrap().fill(0);
        }
        gone.get_mut(&tables[0]).unwrap()[100] ^= 1;
        let lost = SuperblockState::EndLost { generation, tail };
        assert_eq!(told(&gone, &cluster), Ok(lost));
        let mut turned = medium.clone();
        turned.get_mut(&superblocks[0]).unwrap().fill(0);
        turned.get_mut(&superblocks[1]).unwrap()[100] ^= 1;
        assert_eq!(told(&turned, &cluster), ours);
        let which = if tail { "end" } else { "beginning" };
        let told_of = Forbidden::EndLost { tail }.to_string();
        assert_eq!(told_of, format!("the {which} of the medium is lost"));
        // Somebody else has written there; but what bears the disk's id is its own, whatever else it says.
        let theirs = written(&then(&begun(5), volume("a")));
        let mut strangers = medium.clone();
        for lba in &superblocks {
            strangers.insert(*lba, at(&theirs, *lba));
        }
        for (_, sector) in strangers.iter_mut().filter(|(lba, _)| superblocks.contains(lba)) {
            sector[100] ^= 1;
        }
        assert_eq!(
            told(&strangers, &cluster),
            ours,
            "damaged: nobody says whose it was"
        );
        // What another disk's superblock has left without its table is somebody else's, and an end is lost; what a take-over
        // from another cluster renames there is the disk's own. At the head it decides for the whole medium.
        for (disk, cluster_id, expected) in [(9, 4, Ok(lost)), (3, 99, ours.clone())] {
            let mut other = medium.clone();
            for lba in &superblocks {
                let lba = palisade_words::Lba(*lba);
                let mut left = palisade_wire::Superblock::from_sector(&at(&medium, lba.0), lba).unwrap();
                (left.disk, left.cluster, left.table.crc) = (Uuid(disk), Uuid(cluster_id), 7);
                other.insert(lba.0, left.to_sector(lba));
            }
            let expected = if tail {
                expected
            } else {
                Ok(SuperblockState::Damaged)
            };
            assert_eq!(told(&other, &cluster), expected, "{disk} {cluster_id}");
        }
        // Where the medium has nothing yet, what the database has still counts.
        let mut fresh = written(&begun(3));
        fresh.retain(|lba, _| !is_there(lba));
        let before = Generation(image_of(&begun(3)).superblock.generation.0);
        let lost_before = SuperblockState::EndLost {
            generation: before,
            tail,
        };
        assert_eq!(told(&fresh, &cluster), Ok(lost_before));
        // A bit in each of them is the medium's own fault.
        let mut medium = written(&cluster);
        for (_, sector) in medium.iter_mut().filter(|(lba, _)| is_there(lba)) {
            sector[100] ^= 1;
        }
        assert!(matches!(
            told(&medium, &cluster),
            Ok(SuperblockState::Ours { flawed: true, .. })
        ));
        // Nothing lies there: nothing is lost.
        let empty = begun(3);
        let mut medium = written(&empty);
        medium.retain(|lba, _| !is_there(lba));
        assert!(matches!(
            told(&medium, &empty),
            Ok(SuperblockState::Ours { flawed: true, .. })
        ));
    }
}
