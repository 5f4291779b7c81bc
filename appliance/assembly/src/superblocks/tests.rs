use super::*;
use palisade_model::{
    AddDisk, Command, ConfirmSuperblock, CreateVolume, InitCluster, Medium, MediumRecord, Usage,
};
use palisade_sys::device::{Create, DeviceMedium, DeviceSpec};
use palisade_volume::OnRecord;
use palisade_wire::{Geometry, SECTOR_4K_BYTES, SectorWrite};
use palisade_words::{Generation, Uuid};
use std::path::Path;
use std::time::Duration;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn open(path: &Path, bytes: u64) -> Arc<Opened> {
    let create = Some(Create { bytes, sparse: true });
    let spec = DeviceSpec {
        medium: DeviceMedium::File {
            path: path.into(),
            create,
        },
        block_bytes: 512,
        read_only: false,
    };
    Arc::new(Opened::open(&spec, Duration::from_secs(5)).unwrap())
}

/// A cluster with the pooled disk d1 whose first superblock is to come, and the same with a volume on it.
fn clusters(path: &Path, bytes: u64) -> (Cluster, Cluster) {
    let geometry = Geometry::of(bytes / 512).unwrap();
    let add = AddDisk {
        name: name("d1"),
        uuid: Uuid(77),
        node: name("n"),
        medium: Medium::File {
            path: path.display().to_string(),
            bytes,
            created: true,
        },
        record: MediumRecord::default(),
        usage: Usage::Pooled,
        block_bytes: 512,
        sectors: bytes / 512,
        data_start: geometry.data_start.0,
        data_end: geometry.data_end.0,
        superblock_pending: true,
    };
    let volume = CreateVolume {
        name: name("v1"),
        uuid: Uuid(78),
        node: name("n"),
        disk: Some(name("d1")),
        sectors: Some(8192),
        block_bytes: None,
        clear: None,
        clears: false,
        clears_reused: false,
        clears_unknown_past: false,
    };
    let init = InitCluster {
        id: Uuid(1),
        node: name("n"),
        node_uuid: Uuid(2),
    };
    let confirm = ConfirmSuperblock {
        name: name("d1"),
        uuid: Uuid(77),
    };
    let does = |cluster: &Cluster, command| cluster.apply(&command).unwrap().0;
    let begun = does(&Cluster::empty(), Command::InitCluster(init));
    let added = does(&begun, Command::AddDisk(add));
    let confirmed = does(&added, Command::ConfirmSuperblock(confirm));
    let filled = does(&confirmed, Command::CreateVolume(volume));
    (added, filled)
}

fn written(cluster: &Cluster, opened: &Arc<Opened>, last: &LastSuperblock) {
    write(
        Arc::new(cluster.clone()),
        name("d1"),
        Some(Arc::clone(opened)),
        true,
        last.clone(),
    )()
    .unwrap();
    let carries = look(cluster, &name("d1"), &cluster.disks[&name("d1")], opened, last).unwrap();
    assert!(
        matches!(carries.superblock, SuperblockState::Ours { flawed: false, .. }),
        "{carries:?}"
    );
}

fn leaving(cluster: &Cluster) -> Leaving {
    let disk = &cluster.disks[&name("d1")];
    Leaving {
        uuid: disk.uuid,
        cluster: cluster.id,
        history: disk.history.clone(),
        pending: false,
        on_record: OnRecord::Waived,
    }
}

fn is_blank(opened: &Opened) -> bool {
    matches!(probe::probe(opened), Ok(probe::Content::Blank))
}

/// The daemon is killed between any two writes of an erasure, on a real file; the next one finishes it.
#[test]
fn an_erasure_that_was_cut_off_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let last = LastSuperblock::below(folder.path());
    let path = folder.path().join("d1");
    let bytes = 64 << 20;
    let (added, cluster) = clusters(&path, bytes);
    let phases = palisade_wire::erase(bytes / 512).unwrap();
    let writes: Vec<&SectorWrite> = phases.iter().flat_map(|phase| &phase.writes).collect();
    // All of the superblocks, and some of the tables, at either end.
    let cuts = (0..12)
        .chain((12..writes.len()).step_by(61))
        .chain([writes.len()]);
    for cut in cuts {
        let opened = open(&path, bytes);
        written(&added, &opened, &last);
        written(&cluster, &opened, &last);
        for write in &writes[..cut] {
            let offset = write.lba.checked_bytes().unwrap();
            opened.write_at(offset, &write.bytes).unwrap();
        }
        drop(opened);
        let opened = open(&path, bytes);
        erase(Some(Arc::clone(&opened)), leaving(&cluster))().unwrap();
        assert!(is_blank(&opened), "something is left after a cut at write {cut}");
    }
}

/// What the cluster does not know to be its own stays: another disk's superblock, and one that grew on elsewhere.
#[test]
fn an_erasure_leaves_alone_what_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let last = LastSuperblock::below(folder.path());
    let path = folder.path().join("d1");
    let bytes = 64 << 20;
    let (added, known) = clusters(&path, bytes);
    let drop_volume = Command::DeleteVolume(palisade_model::DeleteVolume {
        name: name("v1"),
        expected: None,
        clear: Some(false),
        detaches: false,
    });
    let grown = known.apply(&drop_volume).unwrap().0;
    let opened = open(&path, bytes);
    for cluster in [&added, &known, &grown] {
        written(cluster, &opened, &last);
    }
    let other = Leaving {
        uuid: Uuid(99),
        ..leaving(&grown)
    };
    for leaving in [leaving(&known), other] {
        erase(Some(Arc::clone(&opened)), leaving)().unwrap();
        assert!(read(&opened).is_ok(), "it is still there");
    }
    erase(Some(Arc::clone(&opened)), leaving(&grown))().unwrap();
    assert!(is_blank(&opened));
}

/// The file of a disk is put back from a copy that was made before its last superblocks were written.
#[test]
fn an_older_copy_is_left_as_it_is_until_it_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let last = LastSuperblock::below(folder.path());
    let (path, copy) = (folder.path().join("d1"), folder.path().join("copy"));
    let bytes = 64 << 20;
    let (added, filled) = clusters(&path, bytes);
    written(&added, &open(&path, bytes), &last);
    std::fs::copy(&path, &copy).unwrap();
    written(&filled, &open(&path, bytes), &last);
    let disk = &filled.disks[&name("d1")];
    let [then, now] = [&added, &filled].map(|cluster| cluster.disks[&name("d1")].superblock_generation());
    assert_eq!(last.recall(disk.uuid).unwrap(), Some(OnRecord::At(now)));

    std::fs::copy(&copy, &path).unwrap();
    let older = SuperblockState::Older {
        generation: then,
        last: Some(now),
    };
    let opened = open(&path, bytes);
    let looked = look(&filled, &name("d1"), disk, &opened, &last).unwrap();
    assert_eq!(looked.superblock, older);
    assert_eq!(
        looked.sides.as_deref(),
        Some("The medium has no volume; the database has v1 on this disk")
    );
    keep_opened(disk, &looked, &last).unwrap();
    assert_eq!(
        last.recall(disk.uuid).unwrap(),
        Some(OnRecord::At(now)),
        "a copy is not kept for the medium"
    );
    let wanted = Arc::new(filled.clone());
    let write = |wanted: &Arc<Cluster>| {
        write(
            Arc::clone(wanted),
            name("d1"),
            Some(Arc::clone(&opened)),
            false,
            last.clone(),
        )()
    };
    assert!(matches!(write(&wanted), Ok(Done::Looked(found)) if found.superblock == older));
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&path).unwrap());

    // Chosen, and not agreed on yet; then agreed on; then refused after all.
    let found = read(&opened).unwrap();
    let point = found.superblock.point();
    last.choose(disk, point);
    assert!(matches!(write(&wanted), Ok(Done::Looked(found)) if found.superblock == older));
    let adopt = palisade_model::AdoptDisk {
        name: name("d1"),
        uuid: disk.uuid,
        seen: Some(palisade_model::OnMedium {
            point: palisade_words::Ancestor {
                generation: then,
                id: point.id,
            },
            epoch: found.superblock.epoch,
            ancestors: Vec::new(),
        }),
        empties: Vec::new(),
        keeps: Default::default(),
        older: true,
    };
    let adopted = Arc::new(filled.apply(&Command::AdoptDisk(adopt)).unwrap().0);
    last.unchoose(disk.uuid);
    assert!(matches!(write(&adopted), Ok(Done::Looked(found)) if found.superblock == older));
    last.choose(disk, point);
    last.settle(disk.uuid).unwrap();
    assert_eq!(
        last.recall(disk.uuid).unwrap(),
        Some(OnRecord::Chosen {
            carries: then,
            over: disk.superblock_generation()
        }),
        "the next daemon asks no more"
    );
    let generation = adopted.disks[&name("d1")].superblock_generation();
    let in_force = SuperblockState::Ours {
        generation,
        flawed: false,
    };
    assert!(matches!(write(&adopted), Ok(Done::Looked(found)) if found.superblock == in_force));
    last.settle(disk.uuid).unwrap();
    assert_eq!(
        last.recall(disk.uuid).unwrap(),
        Some(OnRecord::At(generation)),
        "what is written is not taken back"
    );
}

/// A copy at the head is spoilt: it is told what was written anew, once.
#[test]
fn what_is_mended_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let last = LastSuperblock::below(folder.path());
    let path = folder.path().join("d1");
    let (added, _) = clusters(&path, 64 << 20);
    let opened = open(&path, 64 << 20);
    let wanted = Arc::new(added);
    let mended = || {
        let write = write(
            Arc::clone(&wanted),
            name("d1"),
            Some(Arc::clone(&opened)),
            true,
            last.clone(),
        );
        match write().unwrap() {
            Done::Looked(look) => look.mended,
            other => panic!("{other:?}"),
        }
    };
    assert!(mended().is_empty(), "the first write mends nothing");
    assert!(mended().is_empty());
    opened.write_at(0, &[7; SECTOR_4K_BYTES]).unwrap();
    let disk = &wanted.disks[&name("d1")];
    let looked = look(&wanted, &name("d1"), disk, &opened, &last).unwrap();
    assert_eq!(looked.damage.len(), 1, "{looked:?}");
    assert_eq!(mended(), looked.damage);
    assert!(looked.damage[0].starts_with("head superblock A"), "{looked:?}");
    assert!(mended().is_empty(), "it is sound now");
}

/// What a daemon has written that ended before it could keep it, or one of a version that kept nothing.
#[test]
fn what_an_opened_disk_carries_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (last, none) = (folder.path().join("last"), folder.path().join("none"));
    let [last, none] = [last, none].map(|folder| {
        std::fs::create_dir(&folder).unwrap();
        LastSuperblock::below(&folder)
    });
    let path = folder.path().join("d1");
    let (added, _) = clusters(&path, 64 << 20);
    let opened = open(&path, 64 << 20);
    written(&added, &opened, &none);
    let disk = &added.disks[&name("d1")];
    let looked = look(&added, &name("d1"), disk, &opened, &last).unwrap();
    keep_opened(disk, &looked, &last).unwrap();
    assert_eq!(
        last.recall(disk.uuid).unwrap(),
        Some(OnRecord::At(disk.superblock_generation()))
    );
    // A damaged copy may have told of a later one.
    let level = disk.superblock_generation();
    for (carries, kept) in [
        (1, level),
        (99, Generation(99)),
        (98, Generation(99)),
        (level.0, level),
    ] {
        let flawed = SuperblockLook {
            superblock: SuperblockState::Ours {
                generation: Generation(carries),
                flawed: true,
            },
            ..SuperblockLook::default()
        };
        keep_opened(disk, &flawed, &last).unwrap();
        let on_record = last.recall(disk.uuid).unwrap();
        assert_eq!(on_record, Some(OnRecord::At(kept)), "{carries}");
    }
}

/// The file of a disk is cut off and made as long as before, as while the daemon was down.
#[test]
fn a_disk_that_was_cut_off_is_left_alone_until_an_operator_goes_on_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = (folder.path().join("d"), 64 << 20);
    let (_, filled) = clusters(&path, bytes);
    let last = LastSuperblock::below(folder.path());
    let opened = open(&path, bytes);
    let data = filled.disks[&name("d1")].data_start * 512;
    opened.write_at(data, &[7; 4096]).unwrap();
    written(&clusters(&path, bytes).0, &opened, &last);
    written(&filled, &opened, &last);
    written(&filled, &opened, &last);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(bytes / 2).unwrap();
    file.set_len(bytes).unwrap();
    let look =
        |cluster: &Cluster| look(cluster, &name("d1"), &cluster.disks[&name("d1")], &opened, &last).unwrap();
    let write = |cluster: &Cluster| {
        let opened = Some(Arc::clone(&opened));
        write(Arc::new(cluster.clone()), name("d1"), opened, true, last.clone())().unwrap()
    };
    let found = look(&filled);
    assert!(
        matches!(found.superblock, SuperblockState::EndLost { tail: true, .. }),
        "{found:?}"
    );
    let said = found.sides.as_deref().unwrap_or_default();
    for words in ["MiB read as zeros", "palisade disk confirm d1 --yes"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(matches!(write(&filled), Done::Looked(left) if left.superblock == found.superblock));
    assert_eq!(look(&filled).superblock, found.superblock, "it was written");
    // It is agreed on: the disk's generation is a later one, and the end is written anew.
    last.go_on_without_end(&filled.disks[&name("d1")]);
    assert_eq!(
        look(&filled).superblock,
        found.superblock,
        "before it is agreed on"
    );
    let seen = crate::takeover::on_medium(&read(&opened).unwrap().superblock);
    let goes_on = palisade_model::AdoptDisk {
        name: name("d1"),
        uuid: Uuid(77),
        seen: Some(seen),
        empties: Vec::new(),
        keeps: Default::default(),
        older: true,
    };
    let goes_on = filled.apply(&Command::AdoptDisk(goes_on)).unwrap().0;
    assert!(matches!(
        look(&goes_on).superblock,
        SuperblockState::Ours { flawed: true, .. }
    ));
    written(&goes_on, &opened, &last);
    assert!(!last.is_end_excused(&goes_on.disks[&name("d1")]));
}

/// What lay behind where a file was cut off is found by its holes, however far that goes; elsewhere it is said where the look
/// ended.
#[test]
fn the_volumes_are_named_that_lay_where_a_disk_was_cut_off() {
    const MIB: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = (folder.path().join("d"), 256 * MIB);
    let (added, filled) = clusters(&path, bytes);
    let far = Command::CreateVolume(CreateVolume {
        name: name("far"),
        uuid: Uuid(79),
        node: name("n"),
        disk: Some(name("d1")),
        sectors: Some(100 * MIB / 512),
        block_bytes: None,
        clear: None,
        clears: false,
        clears_reused: false,
        clears_unknown_past: false,
    });
    let filled = filled.apply(&far).unwrap().0;
    let last = LastSuperblock::below(folder.path());
    let opened = open(&path, bytes);
    for (cluster, times) in [(&added, 1), (&filled, 2)] {
        (0..times).for_each(|_| written(cluster, &opened, &last));
    }
    let extent = |volume| filled.volumes[&name(volume)].all_extents()[0].clone();
    let [v1, far] = ["v1", "far"].map(extent);
    let end = (far.disk_lba + far.sectors) * 512;
    for at in (v1.disk_lba * 512..end).step_by(MIB as usize) {
        opened.write_at(at, &[0xaa; MIB as usize]).unwrap();
    }
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let told = |from: u64| {
        file.set_len(from).unwrap();
        file.set_len(bytes).unwrap();
        let found = look(&filled, &name("d1"), &filled.disks[&name("d1")], &opened, &last).unwrap();
        assert!(matches!(
            found.superblock,
            SuperblockState::EndLost { tail: true, .. }
        ));
        found.sides.unwrap()
    };
    // Nothing but free space, of which there is more than is read.
    assert!(bytes - end > 80 * MIB);
    let said = told(end);
    assert!(said.contains("and belong to no volume"), "{said}");
    assert!(!said.contains("no further"), "{said}");
    // A few bytes of the last one, and then more.
    for from in [end - 512, end - 70 * MIB + 512] {
        let said = told(from);
        assert!(said.contains("where these volumes lie: far. To go on"), "{said}");
    }
    let said = told(v1.disk_lba * 512 + 512);
    assert!(
        said.contains("where these volumes lie: far, v1. To go on"),
        "{said}"
    );
    // Zeros that somebody has written are no hole.
    let data_end = filled.disks[&name("d1")].data_end * 512;
    for at in (data_end - 80 * MIB..data_end).step_by(MIB as usize) {
        opened.write_at(at, &[0; MIB as usize]).unwrap();
    }
    let found = look(&filled, &name("d1"), &filled.disks[&name("d1")], &opened, &last).unwrap();
    let said = found.sides.unwrap();
    for words in [
        "at least 64 MiB read as zeros, and it was looked no further, and belong to no volume",
        "These lie further on, and may have lost something as well: far, v1",
    ] {
        assert!(said.contains(words), "{said}");
    }
}

/// A copy from before a disk was made larger is shorter than it, and no medium that was cut off.
#[test]
fn a_copy_from_before_a_disk_was_made_larger_is_told_and_can_be_decided_about_once_it_is_as_long() {
    use crate::smaller_copy::SmallerCopy;
    use palisade_model::GrowDisk;
    const MIB: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d");
    let (added, filled) = clusters(&path, 64 * MIB);
    let last = LastSuperblock::below(folder.path());
    let opened = open(&path, 64 * MIB);
    for cluster in [&added, &filled, &filled] {
        written(cluster, &opened, &last);
    }
    let copy = std::fs::read(&path).unwrap();
    let grown = Geometry::of(96 * MIB / 512).unwrap();
    let grow = Command::GrowDisk(GrowDisk {
        name: name("d1"),
        sectors: 96 * MIB / 512,
        data_end: grown.data_end.0,
        expected: None,
    });
    let grown = filled.apply(&grow).unwrap().0;
    let disk = &grown.disks[&name("d1")];
    assert_eq!(SmallerCopy::of(&filled.disks[&name("d1")], &opened), None);
    opened.grow(96 * MIB, true).unwrap();
    opened.refresh_size().unwrap();
    for _ in 0..2 {
        written(&grown, &opened, &last);
    }
    assert_eq!(SmallerCopy::of(disk, &opened), None);
    drop(opened);

    // The present one cut off is none; the older copy is.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(64 * MIB).unwrap();
    assert_eq!(SmallerCopy::of(disk, &open(&path, 64 * MIB)), None);
    std::fs::write(&path, copy).unwrap();
    let smaller = SmallerCopy::of(disk, &open(&path, 64 * MIB)).unwrap();
    let said = smaller.told(&name("d1"), disk);
    assert!(
        said.contains("an older copy of disk d1") && said.contains("64 MiB, and the disk has 96 MiB"),
        "{said}"
    );
    let remedy = smaller.remedy(&name("d1"), disk);
    let truncate = format!("truncate -s {} {}", 96 * MIB, path.display());
    for words in [truncate.as_str(), "palisade disk adopt d1 --take disk"] {
        assert!(remedy.contains(words), "{remedy}");
    }
    // Done so, it is held for an operator as an older copy, and for nothing worse.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(96 * MIB)
        .unwrap();
    let opened = open(&path, 96 * MIB);
    let found = look(&grown, &name("d1"), disk, &opened, &last).unwrap();
    assert!(
        matches!(found.superblock, SuperblockState::Older { last: Some(_), .. }),
        "{found:?}"
    );
    // Whichever side is taken, the superblock is written at the ends that the disk has now.
    let carried = read(&opened).unwrap().superblock;
    let seen = crate::takeover::on_medium(&carried);
    let database = Command::AdoptDisk(palisade_model::AdoptDisk {
        name: name("d1"),
        uuid: disk.uuid,
        seen: Some(seen),
        empties: Vec::new(),
        keeps: std::collections::BTreeMap::new(),
        older: true,
    });
    let decided = grown.apply(&database).unwrap().0;
    last.choose(disk, carried.point());
    last.settle(disk.uuid).unwrap();
    (0..2).for_each(|_| written(&decided, &opened, &last));
    let there = read(&opened).unwrap();
    assert_eq!(
        (there.superblock.disk_sectors, there.damage.len()),
        (96 * MIB / 512, 0)
    );
}

/// The state directory was restored, or its records were removed, while an older copy took the disk's place.
#[test]
fn an_older_copy_is_left_alone_by_a_daemon_that_knows_nothing_of_the_medium() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d1");
    let (added, filled) = clusters(&path, 64 << 20);
    let opened = open(&path, 64 << 20);
    written(&added, &opened, &LastSuperblock::below(folder.path()));
    let restored = folder.path().join("restored");
    std::fs::create_dir(&restored).unwrap();
    let last = LastSuperblock::below(&restored);
    let disk = &filled.disks[&name("d1")];
    let older = SuperblockState::Older {
        generation: added.disks[&name("d1")].superblock_generation(),
        last: None,
    };
    let looked = look(&filled, &name("d1"), disk, &opened, &last).unwrap();
    assert_eq!(looked.superblock, older);
    keep_opened(disk, &looked, &last).unwrap();
    assert_eq!(last.recall(disk.uuid).unwrap(), None);
    let before = std::fs::read(&path).unwrap();
    let wanted = Arc::new(filled.clone());
    let wrote = write(wanted, name("d1"), Some(Arc::clone(&opened)), false, last.clone())();
    assert!(matches!(wrote, Ok(Done::Looked(found)) if found.superblock == older));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    // One that is level is recorded, even if a copy of it is damaged, and goes on with the cluster.
    let disk = &added.disks[&name("d1")];
    let mut head = [0; 4096];
    opened.read_at(0, &mut head).unwrap();
    head[100] ^= 1;
    opened.write_at(0, &head).unwrap();
    let looked = look(&added, &name("d1"), disk, &opened, &last).unwrap();
    assert!(matches!(
        looked.superblock,
        SuperblockState::Ours { flawed: true, .. }
    ));
    keep_opened(disk, &looked, &last).unwrap();
    written(&filled, &opened, &last);
}
