//! Images, standings and what may be written, on clusters that went on together and apart.

use super::*;
use palisade_model::{AddDisk, Command, CreateVolume, GrowVolume, InitCluster, Medium, Usage};
use palisade_model::{AdoptDisk, Cluster, MediumRecord, OnMedium};
use palisade_wire::{DecodeError, Decoded, Geometry, SECTOR_4K_BYTES, Superblock, Update};
use palisade_words::{Epoch, Generation, Lba, Name, Uuid};
use std::collections::BTreeMap;

const SECTORS: u64 = 400_000;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn volume(text: &str, sectors: u64) -> Command {
    let (disk, node) = (Some(name("pool")), name("n1"));
    let uuid = Uuid(sectors.into());
    Command::CreateVolume(CreateVolume {
        name: name(text),
        uuid,
        node,
        disk,
        sectors: Some(sectors),
        block_bytes: None,
        clear: None,
        clears: false,
        clears_reused: false,
        clears_unknown_past: false,
    })
}

fn cluster(more: &[Command]) -> Cluster {
    let geometry = Geometry::of(SECTORS).unwrap();
    let init = InitCluster {
        id: Uuid(1),
        node: name("n1"),
        node_uuid: Uuid(2),
    };
    let disk = AddDisk {
        name: name("pool"),
        uuid: Uuid(3),
        node: name("n1"),
        medium: Medium::File {
            path: "/srv/pool".to_owned(),
            bytes: SECTORS * 512,
            created: true,
        },
        record: MediumRecord::default(),
        usage: Usage::Pooled,
        block_bytes: 512,
        sectors: SECTORS,
        data_start: geometry.data_start.0,
        data_end: geometry.data_end.0,
        superblock_pending: false,
    };
    let whole = AddDisk {
        name: name("whole"),
        uuid: Uuid(4),
        usage: Usage::Whole,
        data_start: 0,
        data_end: SECTORS,
        medium: Medium::File {
            path: "/srv/whole".to_owned(),
            bytes: SECTORS * 512,
            created: true,
        },
        ..disk.clone()
    };
    let first = [
        Command::InitCluster(init),
        Command::AddDisk(disk),
        Command::AddDisk(whole),
    ];
    first
        .iter()
        .chain(more)
        .fold(Cluster::empty(), |cluster, command| {
            cluster.apply(command).unwrap().0
        })
}

/// What the disk says once an update has been written to it.
fn written(update: &Update) -> Decoded {
    let sectors: BTreeMap<u64, [u8; SECTOR_4K_BYTES]> = update
        .phases
        .iter()
        .flat_map(|phase| &phase.writes)
        .map(|write| (write.lba.0, write.bytes))
        .collect();
    palisade_wire::decode(SECTORS, |lba| sectors.get(&lba.0).copied().ok_or("not written")).unwrap()
}

#[test]
fn a_disk_says_what_the_cluster_has_put_on_it() {
    let grow = GrowVolume {
        name: name("a"),
        sectors: 20_000,
        disk: None,
        expected: None,
        clears: false,
    };
    let cluster = cluster(&[volume("a", 10_000), volume("b", 8_192), Command::GrowVolume(grow)]);
    let image = image(&cluster, &name("pool")).unwrap();
    let told: Vec<_> = image
        .extents
        .iter()
        .map(|extent| {
            (
                extent.volume_name.as_str(),
                extent.volume_lba.0,
                extent.disk_lba.0,
                extent.sectors,
                extent.volume_sectors,
            )
        })
        .collect();
    let b = ("b", 0, 8192 * 3, 8192, 8192);
    assert_eq!(
        told,
        [
            ("a", 0, 8192, 16_384, 20_000),
            ("a", 16_384, 8192 * 4, 3_616, 20_000),
            b
        ]
    );
    let (superblock, disk) = (&image.superblock, &cluster.disks[&name("pool")]);
    assert_eq!(
        (superblock.disk, superblock.cluster, superblock.owner),
        (Uuid(3), Uuid(1), Uuid(2))
    );
    assert_eq!(superblock.generation, disk.superblock_generation());
    let mut later = cluster.clone();
    later.epoch = palisade_words::Epoch(7);
    let of_epoch = super::image(&later, &name("pool")).unwrap().superblock.epoch;
    assert_eq!(of_epoch, Epoch(7));
    let found = written(&palisade_wire::format(superblock, &image.extents).unwrap());
    assert_eq!(standing(&found, &image), Standing::InForce);
}

/// A disk of before, whose data begins where that of a new one of its size does not.
#[test]
fn a_disk_keeps_the_place_of_its_data_for_ever() {
    let mut cluster = cluster(&[volume("a", 10_000)]);
    let disk = cluster.disks.get_mut(&name("pool")).unwrap();
    let sectors = palisade_wire::ROOMY_SECTORS_MIN;
    let of_new = Geometry::of(sectors).unwrap();
    (disk.sectors, disk.data_end) = (sectors, of_new.data_end.0);
    let kept = Lba(disk.data_start);
    assert_ne!(of_new.data_start, kept);
    let image = image(&cluster, &name("pool")).unwrap();
    assert_eq!(image.superblock.data_start, kept);
    let written = palisade_wire::format(&image.superblock, &image.extents).unwrap();
    assert_eq!(written.superblock.data_start, kept);
}

/// What is here of a volume whose other disks are elsewhere keeps its place.
#[test]
fn a_part_of_a_volume_is_on_record_like_a_volume() {
    let mut cluster = cluster(&[]);
    let piece = palisade_model::Piece {
        volume_lba: 16_384,
        extent: palisade_model::Extent {
            disk: name("pool"),
            disk_lba: 8_192,
            sectors: 8_192,
        },
    };
    let fragment = palisade_model::Fragment {
        name: name("part"),
        sectors: 24_576,
        block_bytes: 4096,
        pieces: vec![piece],
    };
    cluster.fragments.insert(Uuid(77), fragment);
    let told = image(&cluster, &name("pool")).unwrap().extents;
    let [record] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((record.volume, record.volume_name.as_str()), (Uuid(77), "part"));
    assert_eq!((record.volume_sectors, record.block_bytes), (24_576, 4096));
    let place = (record.volume_lba.0, record.disk_lba.0, record.sectors);
    assert_eq!(place, (16_384, 8_192, 8_192));
}

#[test]
fn disks_without_a_superblock_have_no_image() {
    let cluster = cluster(&[]);
    assert_eq!(
        image(&cluster, &name("whole")),
        Err(ImageError::NotPooled { disk: name("whole") })
    );
    assert_eq!(
        image(&cluster, &name("none")),
        Err(ImageError::NoDisk { disk: name("none") })
    );
    let mut moved = cluster;
    moved.disks.get_mut(&name("pool")).unwrap().data_end -= 8192;
    assert!(matches!(
        image(&moved, &name("pool")),
        Err(ImageError::DataArea { .. })
    ));
}

#[test]
fn older_newer_and_foreign_disks_are_told_apart() {
    let (old, new) = (cluster(&[]), cluster(&[volume("a", 10_000)]));
    let [old, new] = [old, new].map(|cluster| image(&cluster, &name("pool")).unwrap());
    let found = written(&palisade_wire::format(&old.superblock, &old.extents).unwrap());
    assert_eq!(standing(&found, &old), Standing::InForce);
    assert_eq!(standing(&found, &new), Standing::Behind);
    let newer = written(&palisade_wire::format(&new.superblock, &new.extents).unwrap());
    assert_eq!(standing(&newer, &old), Standing::Ahead);
    let with = |change: fn(&mut Image)| {
        let mut wanted = old.clone();
        change(&mut wanted);
        standing(&found, &wanted)
    };
    assert_eq!(
        with(|wanted| wanted.superblock.disk = Uuid(9)),
        Standing::OtherDisk
    );
    assert_eq!(
        with(|wanted| wanted.superblock.cluster = Uuid(9)),
        Standing::OtherCluster
    );
    assert_eq!(
        with(|wanted| wanted.superblock.block_bytes = 4096),
        Standing::Differs
    );
    assert_eq!(with(|wanted| wanted.superblock.epoch.0 += 1), Standing::Behind);
}

fn on(cluster: &Cluster) -> (Image, Decoded) {
    let image = image(cluster, &name("pool")).unwrap();
    let found = written(&palisade_wire::format(&image.superblock, &image.extents).unwrap());
    (image, found)
}

const NOTHING: Bare = Bare {
    pending: false,
    examined: false,
    blank: false,
    cut_off: false,
};

fn may_write(found: &Decoded, wanted: &Image) -> Result<Vec<palisade_wire::Phase>, Forbidden> {
    renewal(&Ok(found.clone()), wanted, Known::NOTHING, || NOTHING)
}

fn then(cluster: &Cluster, command: Command) -> Cluster {
    cluster.apply(&command).unwrap().0
}

/// The fault that this is for: a copy of the database goes on by itself until its number has overtaken the disk's.
#[test]
fn counting_up_does_not_make_an_old_copy_the_later_one() {
    let backup = cluster(&[volume("a", 10_000)]);
    let newer = then(&backup, volume("precious", 8_192));
    let (_, found) = on(&newer);
    let mut old = backup;
    assert_eq!(standing(&found, &on(&old).0), Standing::Ahead);
    for round in 0..30u64 {
        old = then(&old, volume(&format!("usurper{round}"), 1 + round));
        let (wanted, _) = on(&old);
        assert_eq!(
            standing(&found, &wanted),
            Standing::Diverged {
                since: Some(Generation(4))
            }
        );
        let refused = may_write(&found, &wanted).unwrap_err();
        assert!(
            matches!(refused, Forbidden::Standing(Standing::Diverged { .. })),
            "{refused}"
        );
    }
    assert!(old.generation > newer.generation);
}

#[test]
fn equal_numbers_with_unlike_content_are_told_apart() {
    let base = cluster(&[]);
    let (left, right) = (then(&base, volume("l", 8_192)), then(&base, volume("r", 16_384)));
    assert_eq!(left.generation, right.generation);
    let ((left, on_left), (right, on_right)) = (on(&left), on(&right));
    let apart = Standing::Diverged {
        since: Some(Generation(2)),
    };
    assert_eq!(
        (standing(&on_left, &right), standing(&on_right, &left)),
        (apart, apart)
    );
    let difference = difference(&on_left.extents, &right.extents);
    assert_eq!(difference.only_on_medium[0].name, "l");
    assert_eq!(difference.only_in_database[0].name, "r");
    assert!(!difference.loses_nothing());
}

#[test]
fn what_an_operator_has_adopted_may_be_written_over_and_the_other_side_sees_it() {
    let base = cluster(&[]);
    let (left, right) = (then(&base, volume("l", 8_192)), then(&base, volume("r", 16_384)));
    let (_, found) = on(&right);
    let point = found.superblock.point();
    let adopt = AdoptDisk {
        name: name("pool"),
        uuid: Uuid(3),
        seen: Some(OnMedium {
            point,
            epoch: found.superblock.epoch,
            ancestors: Vec::new(),
        }),
        empties: Vec::new(),
        keeps: Default::default(),
        older: false,
    };
    let adopted = then(&left, Command::AdoptDisk(adopt.clone()));
    let (wanted, after) = on(&adopted);
    assert_eq!(standing(&found, &wanted), Standing::Behind);
    assert!(may_write(&found, &wanted).is_ok());
    // The database on the other side knows that the disk has gone on from it.
    assert_eq!(standing(&after, &on(&right).0), Standing::Ahead);
    // Another state of the medium than the one that was looked at is not covered.
    let moved_on = on(&then(&right, volume("more", 24_576))).1;
    assert!(may_write(&moved_on, &wanted).is_err());
    let again = adopted.apply(&Command::AdoptDisk(adopt)).unwrap();
    assert_eq!(again.0, adopted, "asked twice is asked once");
}

/// What the other side's guests have written must not be taken for one's own.
#[test]
fn a_volume_of_the_database_in_anothers_place_is_told() {
    let base = cluster(&[]);
    let (left, right) = (then(&base, volume("l", 8_192)), then(&base, volume("r", 16_384)));
    let ((ours, _), (_, theirs)) = (on(&left), on(&right));
    let told = overlaps(&theirs.extents, &ours.extents);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (told[0].database.name.as_str(), told[0].medium.as_str()),
        ("l", "r")
    );
    assert_eq!(told[0].database.sectors, 8_192);
    assert_eq!(
        overlaps(&theirs.extents, &on(&right).0.extents),
        [],
        "its own place is its own"
    );
    assert_eq!(overlaps(&[], &ours.extents), []);
}

/// Superblocks of the version before, which had no lineage.
#[test]
fn a_superblock_without_lineage_is_ours_when_nothing_it_tells_would_be_lost() {
    let plain = |cluster: &Cluster| {
        let image = image(cluster, &name("pool")).unwrap();
        let superblock = Superblock {
            lineage: None,
            ..image.superblock
        };
        written(&palisade_wire::format(&superblock, &image.extents).unwrap())
    };
    let base = cluster(&[volume("a", 10_000)]);
    let grow = GrowVolume {
        name: name("a"),
        sectors: 20_000,
        disk: None,
        expected: None,
        clears: false,
    };
    let (more, grown) = (
        then(&base, volume("b", 8_192)),
        then(&base, Command::GrowVolume(grow)),
    );
    let against = |medium: &Cluster, database: &Cluster| {
        let wanted = image(&database.clone().unrooted().rooted(), &name("pool")).unwrap();
        let found = plain(medium);
        (standing(&found, &wanted), may_write(&found, &wanted).is_ok())
    };
    assert_eq!(against(&base, &base), (Standing::Unstamped, true));
    assert_eq!(against(&base, &more), (Standing::Unstamped, true));
    assert_eq!(against(&base, &grown), (Standing::Unstamped, true));
    assert_eq!(against(&more, &base), (Standing::Ahead, false));
    assert_eq!(against(&grown, &more), (Standing::Differs, false));
    let other = then(&then(&base, volume("c", 16_384)), volume("d", 24_576));
    assert_eq!(
        against(&more, &other),
        (Standing::Diverged { since: None }, false)
    );
    // Two databases that said the same when lineages came have the same.
    let (wanted, stamped) = on(&base.clone().unrooted().rooted());
    assert_eq!(standing(&stamped, &wanted), Standing::InForce);
    assert_eq!(
        standing(&stamped, &on(&more.unrooted().rooted()).0),
        Standing::Diverged { since: None }
    );
}

#[test]
fn a_bare_medium_is_written_only_where_nothing_can_lie_on_it() {
    let (empty, used) = (on(&cluster(&[])).0, on(&cluster(&[volume("a", 10_000)])).0);
    let ask = |wanted: &Image, bare: Bare| {
        renewal(&Err(DecodeError::NotOurs), wanted, Known::NOTHING, || bare).map(drop)
    };
    let blank = Bare {
        blank: true,
        ..NOTHING
    };
    assert_eq!(ask(&used, blank), Err(Forbidden::Lost));
    assert_eq!(ask(&used, NOTHING), Err(Forbidden::Lost));
    assert_eq!(ask(&empty, blank), Ok(()));
    assert_eq!(ask(&empty, NOTHING), Err(Forbidden::NotBlank));
    let pending = Bare {
        pending: true,
        ..NOTHING
    };
    assert_eq!(ask(&empty, pending), Err(Forbidden::NotBlank));
    assert_eq!(
        ask(
            &empty,
            Bare {
                blank: true,
                ..pending
            }
        ),
        Ok(())
    );
    assert_eq!(
        ask(
            &empty,
            Bare {
                examined: true,
                ..pending
            }
        ),
        Ok(())
    );
    let damaged = DecodeError::Damaged { damage: Vec::new() };
    let ask = |bare: Bare| renewal(&Err(damaged.clone()), &empty, Known::NOTHING, || bare).map(drop);
    assert_eq!(
        ask(Bare {
            cut_off: true,
            ..pending
        }),
        Ok(())
    );
    assert_eq!(ask(pending), Err(Forbidden::Unusable(damaged.clone())));
    assert_eq!(
        ask(Bare {
            cut_off: true,
            ..NOTHING
        }),
        Err(Forbidden::Unusable(damaged.clone()))
    );
}

#[test]
fn what_is_still_to_be_cleared_is_not_on_record() {
    let clears = |command| match command {
        Command::CreateVolume(create) => Command::CreateVolume(CreateVolume {
            clears: true,
            ..create
        }),
        other => other,
    };
    let recorded = |sectors| {
        Command::RecordCleared(palisade_model::RecordCleared {
            name: name("a"),
            uuid: Uuid(10_000),
            sectors,
            start: 0,
        })
    };
    let told = |more: &[Command]| {
        let image = image(&cluster(more), &name("pool")).unwrap();
        image
            .extents
            .iter()
            .map(|extent| extent.volume_sectors)
            .collect::<Vec<_>>()
    };
    let create = clears(volume("a", 10_000));
    assert_eq!(told(std::slice::from_ref(&create)), [0u64; 0]);
    assert_eq!(told(&[create.clone(), recorded(5_000)]), [0u64; 0]);
    assert_eq!(told(&[create.clone(), recorded(10_000)]), [10_000]);
    let grow = Command::GrowVolume(GrowVolume {
        name: name("a"),
        sectors: 20_000,
        disk: None,
        expected: None,
        clears: true,
    });
    assert_eq!(told(&[create.clone(), recorded(10_000), grow]), [10_000]);
    let delete = Command::DeleteVolume(palisade_model::DeleteVolume {
        name: name("a"),
        expected: None,
        clear: Some(true),
        detaches: false,
    });
    assert_eq!(told(&[create, recorded(10_000), delete]), [0u64; 0]);
}

/// A medium comes before what is on record, or may, when neither what is in force there nor the latest that it tells of is it.
#[test]
fn what_is_on_record_is_held_against_all_that_a_medium_tells() {
    let (_, found) = on(&cluster(&[volume("a", 8192)]));
    let [before, in_force, told, later] =
        [1, 2, 3, 9].map(|by| Generation(found.superblock.generation.0 + by));
    // In force is one generation; a copy whose table is lost tells of the next.
    let copy = |generation| Superblock {
        generation,
        ..found.superblock.clone()
    };
    let place = found.copies[0].0;
    let medium = Decoded {
        superblock: copy(in_force),
        copies: vec![(place, copy(in_force)), (place, copy(told))],
        ..found.clone()
    };
    let ahead = |on_record: OnRecord, level: Option<u64>| {
        on_record.ahead_of(&medium, level.map(Generation)).is_some()
    };
    let chosen = |carries| OnRecord::Chosen {
        carries: Generation(carries),
        over: later,
    };
    assert!(!ahead(chosen(in_force.0), None) && !ahead(chosen(told.0), None));
    assert!(
        ahead(chosen(before.0), None),
        "the one that was given up, for all that is known"
    );
    assert!(ahead(OnRecord::Nothing, Some(later.0)) && !ahead(OnRecord::Nothing, Some(told.0)));
    assert!(
        !ahead(OnRecord::Nothing, None),
        "there is nothing to be level with"
    );
    assert!(ahead(OnRecord::At(later), None) && !ahead(OnRecord::At(told), None));
    assert!(!ahead(OnRecord::Waived, Some(later.0)));
}
