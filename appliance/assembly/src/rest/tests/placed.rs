//! What is told to be typed about disks that lie under each other's paths works, and what it shows is what is known.

use super::preview::{BYTES, added, node, request, volume, written};
use super::*;
use crate::local_state::OpenDisk;
use crate::medium;
use palisade_model::Disk;
use palisade_reconcile::{ObservedDisk, SuperblockState};
use palisade_sys::{DeviceMedium, DeviceSpec, Opened};
use palisade_words::{DeviceIndex, Generation};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

struct Lab {
    folder: tempfile::TempDir,
    rest: Rest,
    _door: Door,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Lab {
    fn new() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let (rest, door) = node(folder.path());
        Lab {
            folder,
            rest,
            _door: door,
        }
    }

    fn file(&self, of: &str) -> PathBuf {
        self.folder.path().join(format!("{of}.img"))
    }

    fn text(&self, of: &str) -> String {
        self.file(of).display().to_string()
    }

    fn disk(&self, id: &str) -> Disk {
        self.rest.shared.cluster().disks[&name(id)].clone()
    }

    fn keeps_inodes(&self, id: &str) -> bool {
        let keeps = self.disk(id).record.file.is_some();
        if !keeps {
            eprintln!("skipped: the file system here keeps no inodes");
        }
        keeps
    }

    /// A pooled disk with a volume.
    fn pooled(&self, id: &str, number: u128) {
        let request = api::DiskCreate {
            id: id.into(),
            ..request(&self.file(id), Some(BYTES))
        };
        added(&self.rest, &request).unwrap();
        written(&self.rest, &name(id));
        volume(&self.rest, &format!("{id}-volume"), number, &name(id));
        written(&self.rest, &name(id));
    }

    fn whole(&self, id: &str) {
        let request = api::DiskCreate {
            id: id.into(),
            usage: api::DiskUsage::Whole,
            ..request(&self.file(id), Some(BYTES))
        };
        added(&self.rest, &request).unwrap();
    }

    /// A disk is in use, as the control loop would have it.
    fn in_use(&self, id: &str) {
        let disk = self.disk(id);
        let spec = DeviceSpec {
            medium: DeviceMedium::File {
                path: disk.medium.path().unwrap().into(),
                create: None,
            },
            block_bytes: 512,
            read_only: false,
        };
        let open = OpenDisk {
            index: DeviceIndex(0),
            opened: Arc::new(Opened::open(&spec, Duration::from_secs(5)).unwrap()),
            stats: Vec::new(),
            sight: Default::default(),
            replacement: None,
        };
        let observed = ObservedDisk {
            superblock: SuperblockState::Ours {
                generation: disk.superblock_generation(),
                flawed: false,
            },
            disk,
            device: 0,
            looked_for: Generation(1),
            touched: false,
            confirmed: true,
            erased: false,
        };
        let mut state = self.rest.shared.state();
        state.disks.insert(name(id), open);
        state.learns(|state| drop(state.observed.disks.insert(name(id), observed)));
        self.rest.shared.publish(&mut state);
    }

    /// As a command says it: `k1=PATH`, or names alone.
    fn confirms(
        &self,
        words: &[String],
        (confirm, dry_run): (bool, bool),
    ) -> Result<api::DiskRelocated, Problem> {
        let places = words.iter().filter_map(|word| word.split_once('='));
        let place = |(id, path): (&str, &str)| api::DiskPlace {
            id: id.to_owned(),
            path: path.to_owned(),
        };
        self.rest.disks_relocate(api::DiskRelocate {
            places: places.map(place).collect(),
            disks: words.iter().filter(|word| !word.contains('=')).cloned().collect(),
            confirm,
            dry_run,
        })
    }

    fn opens(&self, disk: &str) -> Result<Opened, String> {
        let manner = medium::Manner {
            patience: Duration::ZERO,
            again: true,
        };
        let cluster = self.rest.shared.cluster();
        medium::open(&cluster, &name(disk), manner, &self.rest.shared.last_seen)
    }
}

/// The arguments of each `palisade disk confirm` that a text tells to type.
fn told(text: &str) -> Vec<Vec<String>> {
    let commands = text.split("palisade disk confirm ").skip(1);
    let words = |command: &str| {
        let words = command
            .split(' ')
            .map(|word| word.trim_end_matches([',', '.', ';', ':']));
        let typed = words.take_while(|word| word.contains('=') || (word.len() == 2 && word.starts_with('k')));
        typed.map(str::to_owned).collect()
    };
    commands.map(words).collect()
}

#[test]
fn three_files_that_were_rotated_are_recorded_by_the_command_that_is_told() {
    for asked in ["confirm k1 k2", "opening k1", "opening k2", "opening k3"] {
        let lab = Lab::new();
        for (number, id) in ["k1", "k2", "k3"].into_iter().enumerate() {
            lab.pooled(id, 11 + number as u128);
        }
        if !lab.keeps_inodes("k1") {
            return;
        }
        let aside = lab.file("aside");
        for (from, to) in [
            (lab.file("k1"), &aside),
            (lab.file("k2"), &lab.file("k1")),
            (lab.file("k3"), &lab.file("k2")),
            (aside.clone(), &lab.file("k3")),
        ] {
            fs::rename(from, to).unwrap();
        }
        let said = match asked.strip_prefix("opening ") {
            Some(id) => lab.opens(id).unwrap_err(),
            None => {
                let names = ["k1", "k2"].map(str::to_owned);
                lab.confirms(&names, (false, false)).unwrap_err().remedy
            }
        };
        let commands = told(&said);
        assert_eq!(commands.len(), 1, "{asked}: {said}");
        let shown = lab.confirms(&commands[0], (false, true)).unwrap();
        let holds = |disk: &api::RelocatedDisk| disk.holds.as_deref() == Some("the medium of the disk");
        assert!(
            shown.disks.len() == 3 && shown.disks.iter().all(holds),
            "{shown:?}"
        );
        lab.confirms(&commands[0], (false, false)).unwrap();
        assert_eq!(
            [("k1", "k3"), ("k2", "k1"), ("k3", "k2")]
                .map(|(id, at)| lab.disk(id).medium.path() == Some(&*lab.text(at))),
            [true; 3],
            "{asked}"
        );
        assert!(
            ["k1", "k2", "k3"].iter().all(|id| lab.opens(id).is_ok()),
            "{asked}"
        );
    }
}

/// Two of three are named: of the third it is said what is known to lie where it comes to be recorded.
#[test]
fn a_disk_that_is_displaced_to_where_its_medium_lies_is_said_to_be_there() {
    let lab = Lab::new();
    for (number, id) in ["k1", "k2", "k3"].into_iter().enumerate() {
        lab.pooled(id, 11 + number as u128);
    }
    if !lab.keeps_inodes("k1") {
        return;
    }
    let aside = lab.file("aside");
    fs::rename(lab.file("k1"), &aside).unwrap();
    fs::rename(lab.file("k2"), lab.file("k1")).unwrap();
    fs::rename(lab.file("k3"), lab.file("k2")).unwrap();
    fs::rename(&aside, lab.file("k3")).unwrap();
    let places = [("k1", "k3"), ("k2", "k1")].map(|(id, at)| format!("{id}={}", lab.text(at)));
    let shown = lab.confirms(&places, (false, true)).unwrap();
    let third = &shown.disks[2];
    assert_eq!((third.id.as_str(), third.path.as_str()), ("k3", &*lab.text("k2")));
    assert_eq!(third.holds.as_deref(), Some("the medium of the disk"));
}

/// The guest of a whole disk has written an image of a pooled one onto it: the medium is the recorded one, and the pooled disk is
/// in use elsewhere.
#[test]
fn a_whole_disk_whose_guest_has_copied_a_pooled_one_is_confirmed_where_it_is_beyond_doubt() {
    for by_place in [false, true] {
        let lab = Lab::new();
        lab.pooled("k3", 11);
        lab.whole("wp");
        if !lab.keeps_inodes("wp") {
            return;
        }
        fs::write(lab.file("wp"), fs::read(lab.file("k3")).unwrap()).unwrap();
        let word = [format!("wp={}", lab.text("wp"))];
        let confirms = |confirm| match by_place {
            true => lab.confirms(&word, (confirm, false)).map(drop),
            false => confirmed(&lab.rest, "wp", Some(lab.text("wp")), confirm).map(drop),
        };
        // The other may be this one while nobody has found it elsewhere.
        confirms(true).unwrap_err();
        lab.in_use("k3");
        // Nobody has said that the guest has put it there.
        let refused = confirms(false).unwrap_err();
        assert!(
            refused.code == "disk_other_medium" && refused.remedy.contains("--yes"),
            "{refused:?}"
        );
        assert!(lab.disk("wp").record.nested.is_empty());
        confirms(true).unwrap();
        assert_eq!(lab.disk("wp").record.nested, [lab.disk("k3").uuid]);
        let opened = lab.opens("wp").unwrap();
        let look = crate::strangers::look(&lab.rest.shared.cluster(), &lab.disk("wp"), &opened);
        assert_eq!(look.superblock, SuperblockState::Missing);
        // It was the recorded medium all the while.
        let events = lab.rest.shared.events.after(0, 1000).items;
        assert!(
            events.iter().all(|event| event.kind != "disk_other_medium"),
            "{events:?}"
        );
    }
}

/// Where another file has taken its place, nothing tells that it is not the other disk's copy.
#[test]
fn another_file_that_carries_a_disk_is_not_confirmed_as_a_whole_one() {
    let lab = Lab::new();
    lab.pooled("k3", 11);
    lab.whole("wp");
    if !lab.keeps_inodes("wp") {
        return;
    }
    lab.in_use("k3");
    fs::copy(lab.file("k3"), lab.file("copy")).unwrap();
    fs::rename(lab.file("copy"), lab.file("wp")).unwrap();
    let refused = confirmed(&lab.rest, "wp", None, true).unwrap_err();
    assert_eq!(refused.code, "medium_taken");
    lab.confirms(&[format!("wp={}", lab.text("wp"))], (true, false))
        .unwrap_err();
    assert!(lab.disk("wp").record.nested.is_empty());
}

#[test]
fn an_older_copy_on_the_recorded_medium_is_not_decided_about_by_confirming_it() {
    for by_place in [false, true] {
        let lab = Lab::new();
        lab.pooled("d2", 11);
        if !lab.keeps_inodes("d2") {
            return;
        }
        let older = fs::read(lab.file("d2")).unwrap();
        volume(&lab.rest, "later", 12, &name("d2"));
        written(&lab.rest, &name("d2"));
        fs::write(lab.file("d2"), older).unwrap();
        let before = lab.disk("d2");
        let word = [format!("d2={}", lab.text("d2"))];
        let refused = match by_place {
            true => lab.confirms(&word, (true, false)).map(drop),
            false => confirmed(&lab.rest, "d2", None, true).map(drop),
        };
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, "disk_undecided");
        assert!(refused.remedy.contains("palisade disk adopt d2"), "{refused:?}");
        assert_eq!(lab.disk("d2"), before);
        let shown = lab.confirms(&word, (false, true)).unwrap();
        let holds = shown.disks[0].holds.clone().unwrap();
        assert!(holds.contains("palisade disk adopt d2"), "{holds}");
    }
}

/// What has been decided about a lost superblock is not asked again while it is done.
#[test]
fn a_side_that_was_taken_is_not_to_be_decided_again() {
    let lab = Lab::new();
    lab.pooled("d1", 11);
    let file = fs::File::options().write(true).open(lab.file("d1")).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(&vec![0; 8 << 20], 0).unwrap();
    file.write_all_at(&vec![0; 8 << 20], BYTES - (8 << 20)).unwrap();
    drop(file);
    let look = |take, seen| {
        lab.rest.disk_adopt(
            "d1",
            api::DiskAdopt {
                take,
                seen,
                force: true,
            },
        )
    };
    let shown = look(None, None).unwrap();
    assert_eq!((shown.standing.as_str(), shown.choices.len()), ("lost", 1));
    look(Some(api::Side::Database), Some(shown.seen)).unwrap();
    let again = look(None, None).unwrap();
    assert_eq!(
        (again.standing.as_str(), again.choices.len()),
        ("older", 0),
        "{again:?}"
    );
    assert!(again.message.contains("is being done"), "{again:?}");
}
