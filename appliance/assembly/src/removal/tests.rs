//! What deleting a volume is said to do is what the model does then.

use super::*;
use palisade_model::{AddDisk, CreateVolume, DeleteVolume, InitCluster, MediumRecord, RecordCleared};
use palisade_words::Uuid;

const UNIT: u64 = 8192;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn does(cluster: &Cluster, command: Command) -> Cluster {
    cluster.apply(&command).unwrap().0
}

/// A cluster with the disk d, of two units for volumes.
fn with_disk(usage: Usage, medium: impl Fn(u64) -> Medium) -> Cluster {
    let init = Command::InitCluster(InitCluster {
        id: Uuid(1),
        node: name("n"),
        node_uuid: Uuid(2),
    });
    let (sectors, start, end) = match usage {
        Usage::Whole => (2 * UNIT, 0, 2 * UNIT),
        Usage::Pooled => (4 * UNIT, UNIT, 3 * UNIT),
    };
    let add = Command::AddDisk(AddDisk {
        name: name("d"),
        uuid: Uuid(3),
        node: name("n"),
        medium: medium(sectors * SECTOR_BYTES),
        record: MediumRecord::default(),
        usage,
        block_bytes: 512,
        sectors,
        data_start: start,
        data_end: end,
        superblock_pending: false,
    });
    does(&does(&Cluster::empty(), init), add)
}

fn create(cluster: &Cluster, volume: &str, clear: Option<Clear>) -> Cluster {
    let create = CreateVolume {
        name: name(volume),
        uuid: Uuid(volume.bytes().map(u128::from).sum()),
        node: name("n"),
        disk: Some(name("d")),
        sectors: Some(UNIT),
        block_bytes: None,
        clear,
        clears: true,
        clears_reused: true,
        clears_unknown_past: true,
    };
    does(cluster, Command::CreateVolume(create))
}

/// All of a volume has been cleared.
fn cleared(cluster: &Cluster, volume: &str) -> Cluster {
    let record = RecordCleared {
        name: name(volume),
        uuid: cluster.volumes[&name(volume)].uuid,
        sectors: UNIT,
        start: 0,
    };
    does(cluster, Command::RecordCleared(record))
}

fn delete(cluster: &Cluster, clear: Option<bool>) -> Cluster {
    let delete = DeleteVolume {
        name: name("v"),
        expected: None,
        clear,
        detaches: false,
    };
    does(cluster, Command::DeleteVolume(delete))
}

fn said(cluster: &Cluster, clear: Option<bool>) -> String {
    let how = RemovalOptions {
        clear,
        dry_run: true,
        ..RemovalOptions::default()
    };
    volume_effects(cluster, &name("v"), &cluster.volumes[&name("v")], how).join("; ")
}

fn file(bytes: u64) -> Medium {
    Medium::File {
        path: "/disks/d".into(),
        bytes,
        created: true,
    }
}

#[test]
fn each_promise_about_a_deleted_volume_is_kept() {
    // What the operator has chosen, and what the deletion is told.
    let choices = [None, Some(Clear::Now), Some(Clear::OnDelete), Some(Clear::Never)];
    for usage in [Usage::Pooled, Usage::Whole] {
        for (choice, told) in choices
            .into_iter()
            .flat_map(|c| [None, Some(true), Some(false)].map(|t| (c, t)))
        {
            let case = format!("{usage:?} {choice:?} {told:?}");
            let mut before = create(&with_disk(usage, file), "v", choice);
            if before.volumes[&name("v")].clearing.is_some() {
                before = cleared(&before, "v");
            }
            let said = said(&before, told);
            let after = delete(&before, told);
            let stays = after.volumes.contains_key(&name("v"));
            assert_eq!(
                said.contains("it keeps its name until then"),
                stays,
                "{case}: {said}"
            );
            assert_eq!(said.contains("at once"), !stays, "{case}: {said}");
            // What the next guest there sees without a choice of its own.
            let free = if stays { cleared(&after, "v") } else { after };
            let clears = |choice| create(&free, "w", choice).volumes[&name("w")].usable_sectors() == 0;
            assert!(clears(None), "{case}: the next guest would see what was there");
            let promise = said.contains("cleared before another volume's guest sees it, unless");
            assert_eq!(promise, !stays, "{case}: {said}");
            assert!(!clears(Some(Clear::Never)), "{case}");
            // Nobody is told that something is lost which can still be had.
            assert_eq!(
                said.contains("are lost"),
                stays || usage == Usage::Pooled,
                "{case}: {said}"
            );
            assert_eq!(
                said.contains("stay on disk d until another volume"),
                !stays && usage == Usage::Whole,
                "{case}: {said}"
            );
        }
    }
}

#[test]
fn nothing_is_cleared_where_nothing_is_kept_or_was_never_in_use() {
    let null = create(
        &with_disk(Usage::Pooled, |bytes| Medium::Null { bytes }),
        "v",
        Some(Clear::OnDelete),
    );
    assert!(
        said(&null, None).ends_with("its space is free at once"),
        "{}",
        said(&null, None)
    );
    assert!(!delete(&null, None).volumes.contains_key(&name("v")));
    let unused = create(&with_disk(Usage::Pooled, file), "v", Some(Clear::OnDelete));
    assert!(said(&unused, None).contains("its space is free at once, and cleared before"));
    assert!(!delete(&unused, None).volumes.contains_key(&name("v")));
}

#[test]
fn a_deletion_under_way_is_told_as_one() {
    let used = cleared(
        &create(&with_disk(Usage::Whole, file), "v", Some(Clear::OnDelete)),
        "v",
    );
    let going = delete(&used, None);
    assert!(going.volumes[&name("v")].deleting);
    assert!(said(&going, None).contains("goes on"));
    assert!(said(&going, Some(false)).contains("the clearing of its space ends"));
    assert!(!delete(&going, Some(false)).volumes.contains_key(&name("v")));
}

#[test]
fn a_file_with_holes_is_said_to_keep_what_it_has_taken() {
    let reserved = create(&with_disk(Usage::Pooled, file), "v", Some(Clear::Never));
    let mut sparse = reserved.clone();
    sparse.disks.get_mut(&name("d")).unwrap().record.sparse = true;
    for (cluster, told, keeps) in [
        (&reserved, None, false),
        (&sparse, None, true),
        (&sparse, Some(false), true),
        (&sparse, Some(true), false),
    ] {
        let said = said(cluster, told);
        assert_eq!(
            said.contains("the file of disk d keeps"),
            keeps,
            "{told:?}: {said}"
        );
    }
}
