//! Files that are given whole, moved over each other while nobody looked: the guest of one disk must not get the data of
//! another, whatever is typed, and there is a way out of each such state that can be typed.

use super::preview::{BYTES, added, node, request};
use super::*;
use crate::medium;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const DISKS: [&str; 2] = ["w1", "w2"];

/// A node of two disks; `None` where the file system keeps no inodes.
struct Lab {
    folder: tempfile::TempDir,
    rest: Rest,
    _door: Door,
}

impl Lab {
    fn new() -> Option<Lab> {
        let folder = tempfile::tempdir().unwrap();
        let (rest, door) = node(folder.path());
        let lab = Lab {
            folder,
            rest,
            _door: door,
        };
        for (disk, fill) in DISKS.into_iter().zip([1, 2]) {
            let whole = api::DiskCreate {
                id: disk.into(),
                usage: api::DiskUsage::Whole,
                ..request(&lab.file(disk), Some(BYTES))
            };
            added(&lab.rest, &whole).unwrap();
            fs::write(lab.file(disk), vec![fill; BYTES as usize]).unwrap();
        }
        let cluster = lab.rest.shared.cluster();
        let keeps = cluster.disks.values().all(|disk| disk.record.file.is_some());
        if !keeps {
            eprintln!("skipped: the file system here keeps no inodes");
        }
        keeps.then_some(lab)
    }

    fn file(&self, disk: &str) -> PathBuf {
        self.folder.path().join(format!("h-{disk}"))
    }

    fn text(&self, disk: &str) -> String {
        self.file(disk).display().to_string()
    }

    /// w2's file has been moved over that of w1, of which a copy lies in the place of the other, if so.
    fn exchange(&self, copies: bool) {
        let aside = self.folder.path().join("aside");
        if copies {
            fs::copy(self.file("w1"), &aside).unwrap();
        }
        fs::rename(self.file("w2"), self.file("w1")).unwrap();
        if copies {
            fs::rename(aside, self.file("w2")).unwrap();
        }
    }

    fn place(
        &self,
        places: &[(&str, String)],
        (confirm, dry_run): (bool, bool),
    ) -> Result<api::DiskRelocated, Problem> {
        let place = |(id, path): &(&str, String)| api::DiskPlace {
            id: (*id).to_owned(),
            path: path.clone(),
        };
        self.rest.disks_relocate(api::DiskRelocate {
            places: places.iter().map(place).collect(),
            confirm,
            dry_run,
            ..api::DiskRelocate::default()
        })
    }

    fn recorded(&self) -> [String; 2] {
        let cluster = self.rest.shared.cluster();
        DISKS.map(|disk| {
            let disk = &cluster.disks[&Name::new(disk).unwrap()];
            disk.medium.path().unwrap().to_owned()
        })
    }

    /// The first byte of what a disk is opened on.
    fn opens(&self, disk: &str) -> Result<u8, String> {
        let manner = medium::Manner {
            patience: Duration::ZERO,
            again: true,
        };
        let (cluster, name) = (self.rest.shared.cluster(), Name::new(disk).unwrap());
        let opened = medium::open(&cluster, &name, manner, &self.rest.shared.last_seen)?;
        let mut bytes = [0; 512];
        opened.read_at(0, &mut bytes).unwrap();
        Ok(bytes[0])
    }

    fn told(&self) -> Vec<String> {
        let events = self.rest.shared.events.after(0, 1000).items;
        let other = events
            .into_iter()
            .filter(|event| event.kind == "disk_other_medium");
        other.map(|event| event.message).collect()
    }
}

#[test]
fn nobody_confirms_the_medium_of_another_disk() {
    for copies in [false, true] {
        let Some(lab) = Lab::new() else { return };
        let before = lab.rest.shared.cluster();
        lab.exchange(copies);
        let said = lab.opens("w1").unwrap_err();
        assert!(said.contains("It is the medium of disk w2 (inode"), "{said}");
        assert!(
            said.contains(&format!("palisade disk confirm w2={}", lab.text("w1"))),
            "{said}"
        );
        assert!(!said.contains("confirm w1 --yes"), "{said}");
        let said = lab.opens("w2").unwrap_err();
        assert!(
            said.contains(&format!("palisade disk confirm w2={}", lab.text("w1"))),
            "{said}"
        );
        assert!(!said.contains("confirm w2 --yes"), "{said}");
        // What may be a copy of w1 is not to be said to be w2 while that is known to be elsewhere.
        let refused = confirmed(&lab.rest, "w2", None, true).unwrap_err();
        assert_eq!(refused.code, "disks_exchanged");
        for path in [None, Some(lab.text("w1"))] {
            let refused = confirmed(&lab.rest, "w1", path, true).unwrap_err();
            assert_eq!(refused.code, "medium_taken");
            assert!(
                refused.message.contains("holds the medium of disk w2"),
                "{refused:?}"
            );
            assert!(
                refused
                    .remedy
                    .contains(&format!("palisade disk confirm w2={}", lab.text("w1"))),
                "{refused:?}"
            );
        }
        for dry_run in [true, false] {
            let places = [("w1", lab.text("w1"))];
            let refused = lab.place(&places, (true, dry_run)).unwrap_err();
            assert!(
                refused.message.contains("it is the medium of disk w2"),
                "{refused:?}"
            );
        }
        assert_eq!(lab.rest.shared.cluster().disks, before.disks);
        assert_eq!(lab.told(), [""; 0]);
    }
}

#[test]
fn one_disk_takes_the_path_of_another_whose_medium_is_not_there() {
    for copies in [false, true] {
        let Some(lab) = Lab::new() else { return };
        lab.exchange(copies);
        let places = [("w2", lab.text("w1"))];
        let shown = lab.place(&places, (false, true)).unwrap();
        let ids: Vec<&str> = shown.disks.iter().map(|disk| disk.id.as_str()).collect();
        assert_eq!(ids, ["w2", "w1"]);
        assert_eq!(lab.recorded(), DISKS.map(|disk| lab.text(disk)));
        assert_eq!(lab.place(&places, (false, false)).unwrap(), shown);
        assert_eq!(lab.recorded(), [lab.text("w2"), lab.text("w1")]);
        assert_eq!(lab.opens("w2"), Ok(2));
        // Nothing was forgotten of the other: what is there is a copy, and taken at an operator's word only.
        let said = lab.opens("w1").unwrap_err();
        assert_eq!(said.contains("confirm w1 --yes"), copies, "{said}");
        assert_eq!(confirmed(&lab.rest, "w1", None, true).is_ok(), copies);
        assert_eq!(lab.opens("w1").ok(), copies.then_some(1));
        assert_eq!(lab.told().len(), usize::from(copies));
    }
}

/// Whose own medium lies at a path keeps it.
#[test]
fn no_disk_takes_the_path_of_another_whose_medium_is_there() {
    let Some(lab) = Lab::new() else { return };
    for (confirm, dry_run) in [(false, false), (false, true), (true, false), (true, true)] {
        for places in [
            vec![("w2", lab.text("w1"))],
            vec![("w2", lab.text("w1")), ("w1", lab.text("w2"))],
        ] {
            assert!(lab.place(&places, (confirm, dry_run)).is_err(), "{places:?}");
        }
    }
    assert_eq!(lab.opens("w1"), Ok(1));
    assert_eq!(lab.opens("w2"), Ok(2));
}

#[test]
fn two_that_have_exchanged_their_paths_are_placed_although_one_is_a_copy() {
    let Some(lab) = Lab::new() else { return };
    lab.exchange(true);
    let refused = confirmed(&lab.rest, "w1", Some(lab.text("w2")), true).unwrap_err();
    let command = format!(
        "palisade disk confirm w1={} w2={}",
        lab.text("w2"),
        lab.text("w1")
    );
    assert!(
        refused.code == "disks_exchanged" && refused.remedy.contains(&command),
        "{refused:?}"
    );
    let places = [("w1", lab.text("w2")), ("w2", lab.text("w1"))];
    let shown = lab.place(&places, (false, true)).unwrap();
    assert_eq!([true, false], [0, 1].map(|at| shown.disks[at].unproved));
    let refused = lab.place(&places, (false, false)).unwrap_err();
    assert!(
        refused.code == "disk_other_medium" && refused.remedy.contains("--yes"),
        "{refused:?}"
    );
    assert_eq!(lab.recorded(), DISKS.map(|disk| lab.text(disk)));
    lab.place(&places, (true, false)).unwrap();
    assert_eq!([lab.opens("w1"), lab.opens("w2")], [Ok(1), Ok(2)]);
    let told = lab.told();
    assert!(
        told.len() == 1 && told[0].contains(&format!("{} is disk w1 from now on", lab.text("w2"))),
        "{told:?}"
    );
    // By their names alone as well, while the other is in its place.
    assert_eq!(lab.recorded(), [lab.text("w2"), lab.text("w1")]);
}

/// Neither as a whole disk nor as a pooled one, which would be written over.
#[test]
fn the_medium_of_a_disk_that_is_not_in_its_place_is_not_added_as_another() {
    let Some(lab) = Lab::new() else { return };
    let moved = lab.folder.path().join("moved");
    fs::rename(lab.file("w2"), &moved).unwrap();
    for usage in [api::DiskUsage::Whole, api::DiskUsage::Pooled] {
        let add = api::DiskCreate {
            id: "w3".into(),
            usage,
            force: true,
            ..request(&moved, None)
        };
        let refused = added(&lab.rest, &add).unwrap_err();
        assert_eq!(refused.code, "medium_taken");
        let way = format!("palisade disk confirm w2 --path {}", moved.display());
        assert!(refused.remedy.contains(&way), "{refused:?}");
    }
    confirmed(&lab.rest, "w2", Some(moved.display().to_string()), false).unwrap();
    assert_eq!(lab.opens("w2"), Ok(2));
}
