//! What is shown before a disk is added is what its adding finds, and the showing changes nothing.

use super::*;
use crate::superblocks;
use palisade_api::{DiskUsage, FileMedium, Medium};
use palisade_model::ConfirmSuperblock;
use palisade_sys::Opened;
use palisade_sys::device::{DeviceMedium, DeviceSpec};
use std::fs;
use std::os::unix::fs::MetadataExt;

pub const BYTES: u64 = 64 << 20;

pub fn request(path: &Path, bytes: Option<u64>) -> api::DiskCreate {
    api::DiskCreate {
        node: None,
        id: "d1".into(),
        medium: Medium::File(FileMedium {
            path: path.display().to_string(),
            bytes,
            sparse: true,
        }),
        usage: DiskUsage::Pooled,
        block_bytes: None,
        force: false,
        // Where temporary files lie may be memory.
        volatile: true,
    }
}

pub fn added(rest: &Rest, request: &api::DiskCreate) -> Result<api::Disk, Problem> {
    rest.disk_add(request.clone()).map(|created| match created {
        Created::New(disk) | Created::Existing(disk) => disk,
    })
}

/// A node, and a folder where its disks may be.
pub fn node(folder: &Path) -> (Rest, Door) {
    fs::create_dir_all(folder).unwrap();
    still_node_with(folder, &format!("[allow]\nfiles = ['{}']\n", folder.display()))
}

/// A table with one partition at 1 MiB, of 1 MiB.
fn partitioned(path: &Path) {
    let mut head = vec![0; 2 << 20];
    head[510..512].copy_from_slice(b"\x55\xaa");
    head[446 + 4] = 0x83;
    head[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    head[446 + 12..446 + 16].copy_from_slice(&2048u32.to_le_bytes());
    fs::write(path, head).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(BYTES).unwrap();
}

/// The same words, and sizes that may differ by a tenth: others write to the file system between two looks at its room.
fn assert_same_advice(one: &str, other: &str) {
    let (words, sizes) = words_and_sizes(one);
    let (other_words, other_sizes) = words_and_sizes(other);
    assert_eq!(words, other_words);
    for (size, other_size) in sizes.iter().zip(&other_sizes) {
        let apart = (size - other_size).abs();
        assert!(apart <= 0.1 * size.max(*other_size), "{one}\n{other}");
    }
}

/// Each size, such as `1.5 GiB`, is taken out of the text, and given in bytes.
fn words_and_sizes(text: &str) -> (Vec<&str>, Vec<f64>) {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut words: Vec<&str> = Vec::new();
    let mut sizes = Vec::new();
    for word in text.split_whitespace() {
        let unit = word.trim_end_matches([',', ')', ';', ':']);
        let power = UNITS.iter().position(|known| *known == unit);
        let number = words.last().and_then(|word| word.parse::<f64>().ok());
        match (number, power) {
            (Some(number), Some(power)) => {
                words.pop();
                sizes.push(number * 1024f64.powi(power as i32));
                words.push("SIZE");
            }
            _ => words.push(word),
        }
    }
    (words, sizes)
}

#[test]
fn a_file_to_be_made_is_told_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = node(folder.path());
    let path = folder.path().join("d1.img");
    let shown = rest.disk_preview(request(&path, Some(BYTES))).unwrap();
    assert_eq!((shown.bytes, shown.refusal), (BYTES, None));
    let effects = shown.effects.join("\n");
    assert!(effects.contains("is made, 64 MiB long, with holes"), "{effects}");
    assert!(!path.exists());
    fs::write(&path, b"").unwrap();
    assert!(rest.disk_preview(request(&path, Some(BYTES))).is_ok());
    assert_eq!(
        fs::metadata(&path).unwrap().len(),
        0,
        "one that is empty stays so"
    );
    let disk = added(&rest, &request(&path, Some(BYTES))).unwrap();
    assert_eq!(disk.bytes, BYTES);
    let again = rest.disk_preview(request(&path, Some(BYTES))).unwrap();
    assert!(
        again.effects[0].contains("nothing happens"),
        "{:?}",
        again.effects
    );
    // What the adding refuses before it looks is refused in the same words.
    for (path, bytes) in [
        (folder.path().join("none/d1.img"), Some(BYTES)),
        (folder.path().join("none.img"), None),
        (folder.path().join("state/d1.img"), Some(BYTES)),
        ("/nowhere/d1.img".into(), Some(BYTES)),
    ] {
        let request = api::DiskCreate {
            id: "d2".into(),
            ..request(&path, bytes)
        };
        let refused = rest.disk_preview(request.clone()).unwrap_err();
        assert_eq!(added(&rest, &request).unwrap_err(), refused);
    }
    let mut vast = request(&folder.path().join("vast.img"), Some(1 << 60));
    vast.id = "d3".into();
    if let Medium::File(file) = &mut vast.medium {
        file.sparse = false;
    }
    let refused = rest.disk_preview(vast.clone()).unwrap_err();
    assert_eq!(refused.code, "disk_not_created");
    let failed = added(&rest, &vast).unwrap_err();
    assert_eq!(failed.code, refused.code);
    assert_same_advice(&failed.remedy, &refused.remedy);
    // Nor with holes, and what is advised is none of what has just been done.
    if let Medium::File(file) = &mut vast.medium {
        file.sparse = true;
    }
    let refused = rest.disk_preview(vast.clone()).unwrap_err();
    assert_eq!(refused.code, "disk_not_created");
    assert!(refused.remedy.starts_with("choose a smaller size"), "{refused:?}");
    assert!(!refused.remedy.contains("--sparse"), "{refused:?}");
    assert_same_advice(&added(&rest, &vast).unwrap_err().remedy, &refused.remedy);
    assert!(!folder.path().join("vast.img").exists());
}

#[test]
fn what_would_be_lost_is_shown_and_still_there() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = node(folder.path());
    let path = folder.path().join("d1.img");
    partitioned(&path);
    let before = fs::read(&path).unwrap();
    let without = rest.disk_preview(request(&path, None)).unwrap();
    assert_eq!(without.found, ["a partition table (mbr)"]);
    let place = &without.partitions[0];
    assert_eq!(
        (place.number, place.offset_bytes, place.bytes),
        (1, 1 << 20, 1 << 20)
    );
    assert!(without.effects.is_empty(), "it is left alone");
    let refused = added(&rest, &request(&path, None)).unwrap_err();
    let told = without.refusal.unwrap();
    assert_eq!((&told.code, &told.message), (&refused.code, &refused.message));
    let forced = api::DiskCreate {
        force: true,
        ..request(&path, None)
    };
    let with = rest.disk_preview(forced.clone()).unwrap();
    assert_eq!((with.refusal, &with.found), (None, &without.found));
    let effects = with.effects.join("\n");
    for part in [
        "a partition table (mbr) on",
        "is lost",
        "the first 8 MiB and the last 4 MiB",
        "superblock at either end",
    ] {
        assert!(effects.contains(part), "no {part} in {effects}");
    }
    assert_eq!(fs::read(&path).unwrap(), before, "nothing was changed");
    added(&rest, &forced).unwrap();
    let after = fs::read(&path).unwrap();
    assert!(after[..8 << 20].iter().all(|&byte| byte == 0));
}

/// Writes a disk's superblock, as the control loop would.
pub fn written(rest: &Rest, disk: &Name) {
    let cluster = rest.cluster();
    let known = &cluster.disks[disk];
    let spec = DeviceSpec {
        medium: DeviceMedium::File {
            path: known.medium.path().unwrap().into(),
            create: None,
        },
        block_bytes: 512,
        read_only: false,
    };
    let opened = Arc::new(Opened::open(&spec, Duration::from_secs(5)).unwrap());
    let (name, uuid) = (disk.clone(), known.uuid);
    superblocks::write(
        cluster,
        disk.clone(),
        Some(opened),
        true,
        rest.shared.last_superblock.clone(),
    )()
    .unwrap();
    let confirm = ConfirmSuperblock { name, uuid };
    rest.shared.propose(Command::ConfirmSuperblock(confirm)).unwrap();
}

/// A volume of 4 MiB.
pub fn volume(rest: &Rest, id: &str, uuid: u128, disk: &Name) {
    let volume = CreateVolume {
        name: Name::new(id).unwrap(),
        uuid: Uuid(uuid),
        node: rest.shared.name.clone(),
        disk: Some(disk.clone()),
        sectors: Some(8192),
        block_bytes: None,
        clear: None,
        clears: false,
        clears_reused: false,
        clears_unknown_past: false,
    };
    rest.shared.propose(Command::CreateVolume(volume)).unwrap();
}

/// Leaves a disk d1 with the volumes v1 and v2, of a cluster that is gone.
fn of_another_cluster(folder: &Path, path: &Path) {
    let (rest, _door) = node(folder);
    added(&rest, &request(path, Some(BYTES))).unwrap();
    let d1 = Name::new("d1").unwrap();
    written(&rest, &d1);
    volume(&rest, "v1", 11, &d1);
    volume(&rest, "v2", 12, &d1);
    written(&rest, &d1);
}

#[test]
fn a_disk_of_another_cluster_is_shown_with_its_volumes() {
    let folder = tempfile::tempdir().unwrap();
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    let path = there.join("d1.img");
    of_another_cluster(&there, &path);
    fs::create_dir(&here).unwrap();
    let allowed = format!("[allow]\nfiles = ['{}']\n", folder.path().display());
    let (rest, _door) = still_node_with(&here, &allowed);
    // Whatever is left of its superblocks: with the head zeroed, the copy at the end tells.
    for zeroed in [false, true] {
        if zeroed {
            let file = fs::File::options().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &[0; 2 << 20], 0).unwrap();
        }
        let shown = rest.disk_preview(request(&path, None)).unwrap();
        let pooled = shown.palisade.unwrap();
        let volumes: Vec<_> = pooled
            .volumes
            .iter()
            .map(|volume| (volume.id.as_str(), volume.bytes))
            .collect();
        assert_eq!(volumes, [("v1", 4 << 20), ("v2", 4 << 20)]);
        assert_eq!((pooled.id.as_str(), !pooled.damage.is_empty()), ("d1", zeroed));
        let refusal = shown.refusal.unwrap();
        assert!(
            refusal.message.contains("with volumes v1, v2") && refusal.remedy.contains("disk import"),
            "{refusal:?}"
        );
        let forced = api::DiskCreate {
            force: true,
            ..request(&path, None)
        };
        let effects = rest.disk_preview(forced).unwrap().effects.join("\n");
        assert!(
            effects.contains("what disk d1 holds is lost: volumes v1, v2"),
            "{effects}"
        );
        // An image may hold anything, but volumes of ours are not taken unasked.
        let whole = |force| {
            let request = api::DiskCreate {
                usage: DiskUsage::Whole,
                force,
                ..request(&path, None)
            };
            rest.disk_preview(request).unwrap()
        };
        let refusal = whole(false).refusal.unwrap();
        assert!(
            refusal.message.contains("with volumes v1, v2") && refusal.remedy.contains("disk import"),
            "{refusal:?}"
        );
        let kept = whole(true);
        let effects = kept.effects.join("\n");
        assert!(kept.refusal.is_none() && !kept.found.is_empty(), "{kept:?}");
        assert!(!effects.contains("is lost"), "{effects}");
    }
}

/// The device that a disk's file lies on is not that disk, and is refused all the same, force or not.
#[test]
fn a_path_where_nothing_is_is_told_and_nothing_is_made_among_devices() {
    let folder = tempfile::tempdir().unwrap();
    let more = format!("[allow]\nfiles = ['{}', '/dev']\n", folder.path().display());
    let (rest, _door) = still_node_with(folder.path(), &more);
    assert_eq!(
        rest.node().disk_folders,
        [&*folder.path().to_string_lossy(), "/dev"]
    );
    let missing = Path::new("/dev/no-such-disk-of-palisade");
    for volatile in [false, true] {
        let request = |medium| api::DiskCreate {
            medium,
            volatile,
            ..request(missing, None)
        };
        let block = request(Medium::Block(api::BlockMedium {
            path: missing.display().to_string(),
        }));
        let file = request(Medium::File(FileMedium {
            path: missing.display().to_string(),
            bytes: Some(BYTES),
            sparse: true,
        }));
        let refused = added(&rest, &block).unwrap_err();
        assert!(
            refused.message.contains("No such file") && refused.remedy.contains("there is no such device"),
            "{refused:?}"
        );
        assert_eq!(refused.field.as_deref(), Some("block.path"));
        assert_eq!(rest.disk_preview(block).unwrap_err(), refused);
        let refused = added(&rest, &file).unwrap_err();
        assert_eq!(refused.code, "disk_place", "{refused:?}");
        assert_eq!(rest.disk_preview(file).unwrap_err(), refused);
    }
    assert!(!missing.exists());
}

#[test]
fn what_a_disk_lies_on_is_told_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = node(folder.path());
    let path = folder.path().join("d1.img");
    added(&rest, &request(&path, Some(BYTES))).unwrap();
    let link = folder.path().join("link.img");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let same = api::DiskCreate {
        id: "d2".into(),
        ..request(&link, None)
    };
    let refused = added(&rest, &same).unwrap_err();
    assert_eq!(refused.code, "medium_taken");
    assert!(
        refused.message.contains("is disk d1 of this appliance"),
        "{refused:?}"
    );
    let number = fs::metadata(&path).unwrap().dev();
    let device = format!("/dev/block/{}:{}", number >> 8 & 0xfff, number & 0xff);
    if fs::metadata(&device).is_err() {
        eprintln!("skipped: the temporary folder lies on no block device");
        return;
    }
    let below = api::DiskCreate {
        id: "d2".into(),
        medium: Medium::Block(api::BlockMedium { path: device.clone() }),
        force: true,
        ..request(&path, None)
    };
    for refused in [
        rest.disk_preview(below.clone()).unwrap_err(),
        added(&rest, &below).unwrap_err(),
    ] {
        assert_eq!(refused.code, "medium_taken");
        let told = format!(
            "{device} is no disk of this appliance itself, but disk d1 lies on it: {}",
            path.display()
        );
        assert!(refused.message.starts_with(&told), "{refused:?}");
        assert!(refused.remedy.contains("palisade disk remove d1"), "{refused:?}");
    }
}
