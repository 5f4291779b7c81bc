//! What the planner is told of a medium, case by case.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by panicking"
)]

mod stand;

use palisade_model::{
    AdoptDisk, Ancestor, Cluster, Command, CreateVolume, Epoch, FirstSuperblock, Generation, LineageId,
    OnMedium, Superblock, Uuid,
};
use palisade_volume::{Leaving, carried};
use palisade_wire::DecodeError;
use stand::{Medium4k, begun, image_of, name, read, then, told, volume, written};

#[test]
fn each_standing_is_told_as_what_may_be_done_about_it() {
    let cluster = then(&begun(3), volume("a"));
    let generation = image_of(&cluster).superblock.generation;
    let generation = Generation(generation);
    let ours = |flawed| Ok(Superblock::Ours { generation, flawed });
    assert_eq!(told(&written(&cluster), &cluster), ours(false));
    let later = then(&cluster, volume("bb"));
    assert_eq!(
        told(&written(&cluster), &later),
        ours(false),
        "it is behind, and sound"
    );
    let newer = Generation(image_of(&later).superblock.generation);
    assert_eq!(
        told(&written(&later), &cluster),
        Ok(Superblock::Newer { generation: newer })
    );
    let apart = then(&cluster, volume("ccc"));
    assert_eq!(
        told(&written(&apart), &later),
        Ok(Superblock::Diverged { generation: newer })
    );
    assert_eq!(told(&written(&begun(4)), &cluster), Ok(Superblock::Foreign));
    assert_eq!(told(&Medium4k::new(), &cluster), Ok(Superblock::Missing));
    let small = Err(DecodeError::TooSmall { disk_sectors: 9 });
    assert_eq!(
        carried(&small, &image_of(&cluster), None, || true),
        Ok(Superblock::Missing)
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
    assert_eq!(told(&medium, &sound), Ok(Superblock::Damaged));
    assert_eq!(told(&medium, &pending), Ok(Superblock::Missing));
    // Nobody decides about what a later version wrote, or what cannot be read.
    let later = DecodeError::WrongVersion { found: 99 };
    assert_eq!(
        carried(&Err(later.clone()), &image_of(&sound), None, || true),
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
