//! Real block devices without an identity, under links that are exchanged.

use super::*;
use palisade_model::{AddDisk, CreateVolume, InitCluster, Medium, MediumRecord, Usage};
use palisade_wire::Geometry;
use palisade_words::Uuid;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command as Program;
use std::time::Duration;

const BYTES: u64 = 64 << 20;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A loop device: a medium without any identity.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Option<Loop> {
        let made = Program::new("losetup")
            .args(["-f", "--show"])
            .arg(file)
            .output()
            .ok()?;
        let path = String::from_utf8(made.stdout).ok()?.trim().to_owned();
        made.status.success().then(|| Loop(path.into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Program::new("losetup").arg("-d").arg(&self.0).status();
    }
}

/// A cluster of disks on loop devices, each under a link that can be led elsewhere.
struct Lab {
    folder: tempfile::TempDir,
    devices: Vec<Loop>,
    names: Vec<Name>,
    cluster: Cluster,
    seen: LastSeen,
}

impl Lab {
    /// Pooled disks with a volume each, and whole ones whose content is their own; `None` where there are no loop devices.
    fn new(disks: &[(&str, Usage)]) -> Option<Lab> {
        let folder = tempfile::tempdir().unwrap();
        let init = InitCluster {
            id: Uuid(1),
            node: name("n"),
            node_uuid: Uuid(2),
        };
        let mut lab = Lab {
            seen: LastSeen::below(folder.path()),
            devices: Vec::new(),
            names: disks.iter().map(|(disk, _)| name(disk)).collect(),
            cluster: Cluster::empty(),
            folder,
        };
        lab.does(Command::InitCluster(init));
        for (number, (disk, usage)) in disks.iter().enumerate() {
            let file = lab.folder.path().join(format!("{disk}.img"));
            let content: Vec<u8> = match usage {
                Usage::Pooled => vec![0; BYTES as usize],
                Usage::Whole => (0..BYTES)
                    .map(|at| (at / 4096) as u8 ^ number as u8 | 1)
                    .collect(),
            };
            fs::write(&file, content).unwrap();
            let Some(device) = Loop::over(&file) else {
                eprintln!("skipped: no loop device can be made here");
                return None;
            };
            lab.devices.push(device);
            lab.lead(disk, number);
            lab.add(disk, number, *usage);
        }
        Some(lab)
    }

    fn does(&mut self, command: Command) {
        self.cluster = self.cluster.apply(&command).unwrap().0;
    }

    fn link(&self, disk: &str) -> PathBuf {
        self.folder.path().join(disk)
    }

    /// Leads the path of a disk to a device.
    fn lead(&self, disk: &str, device: usize) {
        let _ = fs::remove_file(self.link(disk));
        symlink(&self.devices[device].0, self.link(disk)).unwrap();
    }

    fn add(&mut self, disk: &str, number: usize, usage: Usage) {
        let geometry = Geometry::of(BYTES / 512).unwrap();
        let (start, end) = match usage {
            Usage::Pooled => (geometry.data_start.0, geometry.data_end.0),
            Usage::Whole => (0, BYTES / 512),
        };
        let medium = Medium::Block {
            path: self.link(disk).display().to_string(),
            wwid: None,
        };
        let opened = Opened::open(&opening::spec(&medium, 512), Duration::from_secs(5)).unwrap();
        let (record, wwid) = medium::record_open(&opened, usage).unwrap();
        assert!(
            wwid.is_none() && record.serial.is_none(),
            "a loop device has an identity"
        );
        self.does(Command::AddDisk(AddDisk {
            name: name(disk),
            uuid: Uuid(100 + number as u128),
            node: name("n"),
            medium,
            // As of devices that stand on nothing that could be told.
            record: MediumRecord {
                backing: None,
                ..record
            },
            usage,
            block_bytes: 512,
            sectors: BYTES / 512,
            data_start: start,
            data_end: end,
            superblock_pending: false,
        }));
        if usage == Usage::Pooled {
            self.does(Command::CreateVolume(CreateVolume {
                name: name(&format!("{disk}-volume")),
                uuid: Uuid(200 + number as u128),
                node: name("n"),
                disk: Some(name(disk)),
                sectors: Some(8192),
                block_bytes: None,
                clear: None,
                clears: false,
                clears_reused: false,
                clears_unknown_past: false,
            }));
            self.write_superblock(disk, opened);
        }
    }

    fn write_superblock(&self, disk: &str, opened: Opened) {
        let image = image(&self.cluster, &name(disk)).unwrap();
        let written = palisade_wire::format(&image.superblock, &image.extents).unwrap();
        for write in written.phases.iter().flat_map(|phase| &phase.writes) {
            opened
                .write_at(write.lba.checked_bytes().unwrap(), &write.bytes)
                .unwrap();
        }
        opened.sync().unwrap();
    }

    fn opens(&self, disk: &str) -> Result<Opened, String> {
        let manner = Manner {
            patience: Duration::from_secs(2),
            again: false,
        };
        medium::open(&self.cluster, &name(disk), manner, &self.seen)
    }

    /// The disk whose superblock an open device carries.
    fn carried(&self, opened: &Opened) -> Name {
        let (carried, _) = superblocks::disk_named(&self.cluster, opened).unwrap();
        carried.clone()
    }
}

#[test]
fn pooled_disks_that_have_exchanged_their_paths_are_opened_where_they_are() {
    let Some(lab) = Lab::new(&[("a", Usage::Pooled), ("b", Usage::Pooled), ("c", Usage::Pooled)]) else {
        return;
    };
    for disk in ["a", "b", "c"] {
        assert_eq!(lab.opens(disk).unwrap().path(), Some(&*lab.link(disk)));
    }
    // Two of them; each is opened while the other is in use, by whichever order.
    lab.lead("a", 1);
    lab.lead("b", 0);
    let a = lab.opens("a").unwrap();
    let b = lab.opens("b").unwrap();
    let c = lab.opens("c").unwrap();
    assert_eq!(a.path(), Some(&*lab.link("b")));
    assert_eq!(b.path(), Some(&*lab.link("a")));
    for (opened, disk) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        assert_eq!(lab.carried(opened), name(disk));
    }
    drop((a, b, c));
    // Three in a ring.
    lab.lead("a", 2);
    lab.lead("b", 0);
    lab.lead("c", 1);
    let open: Vec<Opened> = ["c", "a", "b"].map(|disk| lab.opens(disk).unwrap()).into();
    let carried: Vec<Name> = open.iter().map(|opened| lab.carried(opened)).collect();
    assert_eq!(carried, ["c", "a", "b"].map(name));
}

#[test]
fn a_copy_in_the_place_of_another_disk_is_not_taken_for_an_exchange() {
    let Some(lab) = Lab::new(&[("a", Usage::Pooled), ("b", Usage::Pooled)]) else {
        return;
    };
    // The medium of a is under the path of b, and what is under the path of a is no disk of ours.
    let file = lab.folder.path().join("foreign.img");
    fs::write(&file, vec![7; BYTES as usize]).unwrap();
    let foreign = Loop::over(&file).unwrap();
    let _ = fs::remove_file(lab.link("a"));
    symlink(&foreign.0, lab.link("a")).unwrap();
    lab.lead("b", 0);
    let refused = lab.opens("b").unwrap_err();
    assert!(
        refused.contains("holds the medium of disk a, and not that of disk b"),
        "{refused}"
    );
    assert!(refused.contains("palisade disk confirm b --path"), "{refused}");
    // That of a carries no superblock: it is opened for the planner to see that it is lost, as under any path.
    assert_eq!(lab.opens("a").unwrap().path(), Some(&*lab.link("a")));
    // Nowhere at all.
    fs::remove_file(lab.link("a")).unwrap();
    let refused = lab.opens("a").unwrap_err();
    assert!(refused.contains("cannot open"), "{refused}");
    let refused = lab.opens("b").unwrap_err();
    assert!(refused.contains("holds the medium of disk a"), "{refused}");
    // A medium that grew on elsewhere is not the one that was recorded, whatever it is called.
    lab.lead("a", 1);
    let mut grown = lab.cluster.clone();
    let delete = palisade_model::DeleteVolume {
        name: name("a-volume"),
        expected: None,
        clear: Some(false),
        detaches: false,
    };
    grown = grown.apply(&Command::DeleteVolume(delete)).unwrap().0;
    let opened = Opened::open(
        &opening::spec(&lab.cluster.disks[&name("b")].medium, 512),
        Duration::ZERO,
    )
    .unwrap();
    let later = Lab {
        cluster: grown,
        folder: tempfile::tempdir().unwrap(),
        devices: Vec::new(),
        names: Vec::new(),
        seen: lab.seen.clone(),
    };
    later.write_superblock("a", opened);
    let refused = lab.opens("a").unwrap_err();
    assert!(refused.contains("holds the medium of disk b"), "{refused}");
}

#[test]
fn disks_that_are_told_by_their_content_alone_are_left_to_an_operator() {
    let Some(lab) = Lab::new(&[("p", Usage::Pooled), ("v", Usage::Whole), ("w", Usage::Whole)]) else {
        return;
    };
    for disk in ["p", "v", "w"] {
        lab.opens(disk).unwrap();
    }
    lab.lead("v", 2);
    lab.lead("w", 1);
    for disk in ["v", "w"] {
        let refused = lab.opens(disk).unwrap_err();
        assert!(refused.contains("have exchanged their paths"), "{refused}");
        assert!(refused.contains("palisade disk confirm"), "{refused}");
        assert!(!refused.contains("--yes"), "{refused}");
    }
    let places = Places {
        cluster: &lab.cluster,
        seen: &lab.seen,
        open: &BTreeMap::new(),
    };
    let among: BTreeSet<&Name> = lab.names.iter().collect();
    let under = |disk: &str| places.medium_under(&name(disk), &among);
    assert_eq!(
        [under("p"), under("v"), under("w")],
        [Some(name("p")), Some(name("w")), Some(name("v"))]
    );
    // A pooled disk with one of them.
    lab.lead("v", 0);
    lab.lead("w", 2);
    lab.lead("p", 1);
    let refused = lab.opens("p").unwrap_err();
    assert!(refused.contains("palisade disk confirm p v"), "{refused}");
}

/// One of two that have exchanged their paths was written to since it was last looked at: nothing tells it any more.
#[test]
fn where_one_is_found_under_the_path_of_another_both_are_to_be_placed_at_once() {
    let Some(lab) = Lab::new(&[("p", Usage::Pooled), ("v", Usage::Whole), ("w", Usage::Whole)]) else {
        return;
    };
    for disk in ["v", "w"] {
        lab.opens(disk).unwrap();
    }
    let device = fs::OpenOptions::new()
        .write(true)
        .open(&lab.devices[2].0)
        .unwrap();
    let other: Vec<u8> = (0..BYTES).map(|at| (at / 512) as u8 ^ 0x5a | 1).collect();
    std::os::unix::fs::FileExt::write_all_at(&device, &other, 0).unwrap();
    device.sync_all().unwrap();
    lab.lead("v", 2);
    lab.lead("w", 1);
    let [at_v, at_w] = ["v", "w"].map(|disk| lab.link(disk).display().to_string());
    let refused = lab.opens("v").unwrap_err();
    assert!(
        refused.contains(&format!("palisade disk confirm v={at_w} w={at_v}")),
        "{refused}"
    );
    assert!(!refused.contains("--yes"), "{refused}");
    let refused = lab.opens("w").unwrap_err();
    assert!(
        refused.contains(&format!("palisade disk confirm w=PATH v={at_w}")),
        "{refused}"
    );
}

/// Names were given away anew, and that of a pooled disk went to one that is not ours.
#[test]
fn a_foreign_file_system_is_not_taken_for_a_disk_that_has_lost_its_superblock() {
    let Some(lab) = Lab::new(&[("a", Usage::Pooled)]) else {
        return;
    };
    let file = lab.folder.path().join("theirs.img");
    fs::write(&file, vec![0; BYTES as usize]).unwrap();
    let made = Program::new("mkfs.ext4").args(["-q", "-F"]).arg(&file).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no mkfs.ext4");
        return;
    }
    let theirs = Loop::over(&file).unwrap();
    let _ = fs::remove_file(lab.link("a"));
    symlink(&theirs.0, lab.link("a")).unwrap();
    let before = fs::read(&file).unwrap();
    let refused = lab.opens("a").unwrap_err();
    assert!(
        refused.contains("carries no superblock of disk a, but a file system (ext"),
        "{refused}"
    );
    assert!(refused.contains("palisade disk confirm a --path"), "{refused}");
    assert!(fs::read(&file).unwrap() == before);
    // One that is blank is the disk that has lost it, for the planner to say so.
    let blank = Loop::over(&{
        let file = lab.folder.path().join("blank.img");
        fs::write(&file, vec![0; BYTES as usize]).unwrap();
        file
    });
    let _ = fs::remove_file(lab.link("a"));
    symlink(&blank.as_ref().unwrap().0, lab.link("a")).unwrap();
    assert!(lab.opens("a").is_ok());
}

/// Two golden images: equal wherever they are looked at, and neither has anything else to be known by.
#[test]
fn of_two_that_nothing_tells_apart_neither_is_opened_before_both_are_placed() {
    let Some(mut lab) = Lab::new(&[("v", Usage::Whole), ("w", Usage::Whole)]) else {
        return;
    };
    for number in 0..2 {
        let device = fs::OpenOptions::new()
            .write(true)
            .open(&lab.devices[number].0)
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&device, &vec![7; BYTES as usize], 0).unwrap();
        device.sync_all().unwrap();
    }
    // As they were when they were added.
    for disk in ["v", "w"] {
        let there = medium::beside(&lab.cluster.disks[&name(disk)]).unwrap();
        let print = palisade_sys::device::fingerprint::Fingerprint::of(&there).unwrap();
        let uuid = lab.cluster.disks[&name(disk)].uuid;
        let hold = palisade_sys::device::fingerprint::Hold::LetGo;
        lab.seen.keep(uuid, &print, hold).unwrap();
    }
    let [at_v, at_w] = ["v", "w"].map(|disk| lab.link(disk).display().to_string());
    let refused = lab.opens("v").unwrap_err();
    assert!(
        refused.contains(&format!("palisade disk confirm v={at_v} w={at_w} --yes")),
        "{refused}"
    );
    assert!(lab.opens("w").is_err());
    // One that is placed leaves the other its own place.
    let uuid = |disk: &str| lab.cluster.disks[&name(disk)].uuid;
    lab.seen.place(uuid("v"));
    drop(lab.opens("v").unwrap());
    drop(lab.opens("w").unwrap());
    // What has been opened is where it was, until its device goes.
    drop(lab.opens("w").unwrap());
    lab.seen.displace(uuid("v"));
    drop(lab.opens("v").unwrap());
    lab.seen.displace(uuid("v"));
    lab.seen.displace(uuid("w"));
    assert!(lab.opens("v").is_err() && lab.opens("w").is_err());
    // A restart knows nothing of it; one whose medium is not there is in nobody's way.
    lab.seen = LastSeen::below(lab.folder.path());
    assert!(lab.opens("v").is_err());
    fs::remove_file(lab.link("w")).unwrap();
    drop(lab.opens("v").unwrap());
}

/// What a loop device stands on tells the disk, also one that nobody has ever looked at by its content.
#[test]
fn disks_are_told_by_the_files_under_their_loop_devices() {
    let Some(mut lab) = Lab::new(&[("a", Usage::Whole), ("b", Usage::Whole)]) else {
        return;
    };
    for (number, disk) in ["a", "b"].into_iter().enumerate() {
        let opened = Opened::beside(&palisade_sys::device::DeviceMedium::Block {
            path: lab.devices[number].0.clone(),
        })
        .unwrap();
        let (record, _) = medium::record_kept(&opened, Usage::Whole);
        if record.backing.is_none() {
            eprintln!("skipped: the file system here keeps no inodes");
            return;
        }
        lab.cluster.disks.get_mut(&name(disk)).unwrap().record = record;
    }
    lab.lead("a", 1);
    lab.lead("b", 0);
    let open = BTreeMap::new();
    let among = ["a", "b"].map(name);
    let among: BTreeSet<&Name> = among.iter().collect();
    let told = |lab: &Lab| {
        let places = Places {
            cluster: &lab.cluster,
            seen: &lab.seen,
            open: &open,
        };
        let under = ["a", "b"].map(|disk| places.medium_under(&name(disk), &among));
        (under, places.ring(&name("a")).is_some())
    };
    assert!(!medium::was_seen(&lab.cluster.disks[&name("a")], &lab.seen));
    let exchanged = ([Some(name("b")), Some(name("a"))], true);
    assert_eq!(told(&lab), exchanged);
    // What says where they are and the command that records it agree.
    let refused = lab.opens("a").unwrap_err();
    let at_b = lab.link("b").display().to_string();
    for words in [
        "palisade disk confirm a b",
        &format!("{at_b} is the medium of disk a (backing file inode"),
    ] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    assert!(!refused.contains("when it was last seen"), "{refused}");
    // Without that record nothing tells it.
    for disk in ["a", "b"] {
        lab.cluster.disks.get_mut(&name(disk)).unwrap().record.backing = None;
    }
    assert_eq!(told(&lab), ([None, None], false));
}
