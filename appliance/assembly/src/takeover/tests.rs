//! What a takeover shows and refuses.

use super::*;
use palisade_words::{Generation, LineageId, Uuid};

#[test]
fn a_side_is_taken_over_nothing_of_others() {
    let file_system = Content::Filesystem { kind: "ext" };
    let refused = refuse_foreign("d1", Some(&file_system)).unwrap_err();
    assert_eq!(refused.code, "foreign_data");
    assert!(
        refused.message.contains("a file system (ext)"),
        "{}",
        refused.message
    );
    assert!(
        refused.remedy.contains("palisade disk confirm d1 --path"),
        "{}",
        refused.remedy
    );
    assert!(
        refused.remedy.contains("wipefs --no-act PATH"),
        "a look that changes nothing: {}",
        refused.remedy
    );
    assert!(refuse_foreign("d1", None).is_ok());
}

fn superblock(id: u128, ancestor: u128) -> palisade_wire::Superblock {
    let label = palisade_wire::Label::default();
    let ancestors = vec![palisade_words::Ancestor {
        generation: Generation(ancestor as u64),
        id: LineageId(ancestor),
    }];
    palisade_wire::Superblock {
        generation: Generation(id as u64),
        sequence: 3,
        lineage: Some(palisade_wire::Lineage {
            id: LineageId(id),
            ancestors,
        }),
        ..palisade_wire::Superblock::new(Uuid(1), Uuid(2), Uuid(3), label, 512, 100_000).unwrap()
    }
}

fn claim(id: u128, ancestor: u128, volume: &str) -> Claim {
    let part = palisade_wire::Part::Superblock { copy: 0 };
    let extent = ExtentRecord {
        volume: Uuid(id),
        volume_name: palisade_wire::Label::new(volume).unwrap(),
        role: palisade_wire::ExtentRole::Linear,
        part: 0,
        block_bytes: 512,
        volume_lba: palisade_words::Lba(0),
        disk_lba: palisade_words::Lba(8192),
        sectors: 8,
        volume_sectors: 8,
    };
    Claim {
        place: palisade_wire::RecordPlace { tail: false, part },
        superblock: superblock(id, ancestor),
        extents: vec![extent],
    }
}

/// Both sides are shown and named in `seen`; the database's is taken only where one of the two is its own.
#[test]
fn of_two_states_that_contradict_each_other_both_are_shown() {
    let (ours, other) = (claim(10, 5, "ours"), claim(20, 5, "others"));
    let wanted = Image {
        superblock: superblock(30, 10),
        extents: ours.extents.clone(),
    };
    let error = DecodeError::Contradiction(Box::new([ours, other.clone()]));
    let name = Name::new("d1").unwrap();
    let shown = compare(
        &name,
        &Err(error.clone()),
        &wanted,
        &wanted.extents,
        (None, false),
    );
    assert_eq!(shown.standing, "damaged");
    assert!(
        shown.message.contains("say different things"),
        "{}",
        shown.message
    );
    let only: Vec<&str> = shown.only_on_disk.iter().map(|part| part.id.as_str()).collect();
    assert_eq!(
        (only, shown.only_in_database.len(), shown.elsewhere.len()),
        (vec!["others"], 0, 0)
    );
    assert_eq!(shown.seen, format!("{}-3-{}-3", LineageId(10), LineageId(20)));
    assert!(refuse_neither("d1", &error, &wanted).is_ok());
    let strange = DecodeError::Contradiction(Box::new([other, claim(40, 5, "thirds")]));
    let refused = refuse_neither("d1", &strange, &wanted).unwrap_err();
    assert_eq!(refused.code, "contradiction");
    assert!(
        refused
            .message
            .ends_with("and the database has grown out of neither"),
        "{}",
        refused.message
    );
    assert!(
        refused.remedy.contains("palisade disk rm d1 --force"),
        "{}",
        refused.remedy
    );
    let damage = Vec::new();
    assert!(refuse_neither("d1", &DecodeError::Damaged { damage }, &wanted).is_ok());
}

fn after(commands: &[Command]) -> Cluster {
    commands.iter().fold(Cluster::empty(), |cluster, command| {
        cluster.apply(command).expect("it should be taken").0
    })
}

/// A cluster with one disk d1, and how it came to be.
fn with_disk() -> (Vec<Command>, Cluster) {
    use palisade_model::{InitCluster, Medium, MediumRecord, Usage};
    use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
    let [name, node] = ["d1", "n1"].map(|text| Name::new(text).unwrap());
    let init = Command::InitCluster(InitCluster {
        id: Uuid(1),
        node: node.clone(),
        node_uuid: Uuid(2),
    });
    let add = Command::AddDisk(AddDisk {
        name: name.clone(),
        uuid: Uuid(3),
        node,
        medium: Medium::File {
            path: "/d1".into(),
            bytes: 10 * UNIT * 512,
            created: false,
        },
        record: MediumRecord::default(),
        usage: Usage::Pooled,
        block_bytes: 512,
        sectors: 10 * UNIT,
        data_start: UNIT,
        data_end: 9 * UNIT,
        superblock_pending: false,
    });
    let commands = vec![init, add];
    let cluster = after(&commands);
    (commands, cluster)
}

/// Each side that is named would be taken, and of each other one is said why not and what can be done instead.
#[test]
fn a_side_that_would_be_refused_is_told_beforehand() {
    use palisade_model::RemoveDisk;
    let name = Name::new("d1").unwrap();
    let (commands, here) = with_disk();
    let remove = Command::RemoveDisk(RemoveDisk {
        name: name.clone(),
        expected: None,
        releases: true,
    });
    let leaving = after(&[commands, vec![remove]].concat());
    let foreign = Content::Filesystem { kind: "ext" };
    let told = |cluster: &Cluster, foreign: Option<&Content>, side: Side| {
        let knowledge = Knowledge {
            cluster,
            name: &name,
            disk: &cluster.disks[&name],
            found: &Err(DecodeError::NotOurs),
            wanted: &image(cluster, &name).unwrap(),
            copy: None,
            sectors: cluster.disks[&name].sectors,
            foreign,
            holds: None,
            other: None,
        };
        knowledge
            .may_take(side)
            .map_err(|problem| (problem.code, problem.remedy))
    };
    assert_eq!(told(&here, None, Side::Database), Ok(()));
    let (code, remedy) = told(&here, None, Side::Disk).unwrap_err();
    assert_eq!(
        (&*code, remedy.as_str()),
        ("nothing_on_disk", "take the side of the database")
    );
    for (side, code) in [(Side::Database, "foreign_data"), (Side::Disk, "nothing_on_disk")] {
        let (told, remedy) = told(&here, Some(&foreign), side).unwrap_err();
        assert_eq!(told, code);
        assert!(remedy.contains("palisade disk confirm d1 --path"), "{remedy}");
    }
    let (code, _) = told(&leaving, None, Side::Database).unwrap_err();
    assert_eq!(code, "disk_going");
}

#[test]
fn a_medium_that_is_not_the_recorded_one_is_to_be_confirmed_before_a_side_is_taken() {
    let name = Name::new("d1").unwrap();
    let other = conflict("disk_closed", "another".to_owned(), "confirm it first");
    let wanted = Image {
        superblock: superblock(30, 10),
        extents: Vec::new(),
    };
    let disk = with_disk().1.disks[&name].clone();
    let knowledge = Knowledge {
        cluster: &Cluster::empty(),
        name: &name,
        disk: &disk,
        found: &Err(DecodeError::NotOurs),
        wanted: &wanted,
        copy: None,
        sectors: 0,
        foreign: None,
        holds: None,
        other: Some(&other),
    };
    for side in [Side::Disk, Side::Database] {
        assert_eq!(knowledge.may_take(side).unwrap_err().remedy, "confirm it first");
    }
}

/// The side of the database is written over nothing that nobody knows, and what would be lost is said first.
#[test]
fn what_is_on_a_medium_that_does_not_say_it_is_the_disk_is_looked_at() {
    let refused = refuse_unknown("d1", Some(&Content::Unknown)).unwrap_err();
    assert_eq!(refused.code, "disk_holds_data");
    assert!(
        refused
            .remedy
            .contains("palisade disk adopt d1 --take database --force"),
        "{}",
        refused.remedy
    );
    assert!(refuse_unknown("d1", Some(&Content::Blank)).is_ok() && refuse_unknown("d1", None).is_ok());
    let here = claim(10, 5, "web1");
    let wanted = Image {
        superblock: superblock(30, 10),
        extents: here.extents,
    };
    let name = Name::new("d1").unwrap();
    let mut seen = Vec::new();
    for (content, words) in [
        (Content::Blank, "is lost"),
        (Content::Unknown, "data of an unknown kind"),
    ] {
        let mut shown = compare(
            &name,
            &Err(DecodeError::NotOurs),
            &wanted,
            &wanted.extents,
            (None, true),
        );
        tell_held(&mut shown, &content);
        assert!(
            shown.message.contains(words) && shown.message.contains("web1 (4 KiB)"),
            "{}",
            shown.message
        );
        assert_eq!(shown.holds, Some(content.to_string()));
        seen.push(shown.seen);
    }
    assert_ne!(seen[0], seen[1], "what has changed since is not decided about");
}

/// A disk that is newer and lacks a volume that is attached here.
#[test]
fn what_is_to_be_done_before_the_side_of_the_disk_is_taken_is_said() {
    use palisade_model::CreateAttachment;
    let (commands, _) = with_disk();
    let volume = Name::new("web3").unwrap();
    let create = volume_of(&volume, 8192);
    let empty = after(&commands);
    let with_volume = after(&[commands, vec![create]].concat());
    let attach = Command::CreateAttachment(CreateAttachment {
        name: Name::new("at3").unwrap(),
        uuid: Uuid(31),
        volume,
        node: Name::new("n1").unwrap(),
        socket: "/run/at3.sock".into(),
        queues: 1,
        queue_size: 128,
        owner: None,
        group: None,
        mode: 0o600,
        read_only: false,
        serial: None,
        limits: Default::default(),
        write_cache: false,
    });
    let here = with_volume.apply(&attach).expect("an attachment").0;
    let name = Name::new("d1").unwrap();
    let found = Ok(carried(Image {
        extents: Vec::new(),
        ..image(&empty, &name).unwrap()
    }));
    let knowledge = Knowledge {
        cluster: &here,
        name: &name,
        disk: &here.disks[&name],
        found: &found,
        wanted: &image(&here, &name).unwrap(),
        copy: None,
        sectors: here.disks[&name].sectors,
        foreign: None,
        holds: None,
        other: None,
    };
    let refused = knowledge.may_take(Side::Disk).unwrap_err();
    assert_eq!(refused.code, "volume_in_use");
    for words in ["palisade attachment rm at3", "palisade disk adopt d1 --take disk"] {
        assert!(refused.remedy.contains(words), "{}", refused.remedy);
    }
}

fn volume_of(name: &Name, sectors: u64) -> Command {
    Command::CreateVolume(palisade_model::CreateVolume {
        name: name.clone(),
        uuid: Uuid(9),
        node: Name::new("n1").unwrap(),
        disk: None,
        sectors: Some(sectors),
        block_bytes: None,
        clear: None,
        clears: false,
        clears_reused: false,
        clears_unknown_past: false,
    })
}

/// A medium that carries this.
fn carried(image: Image) -> Decoded {
    Decoded {
        superblock: image.superblock,
        extents: image.extents,
        sound: Vec::new(),
        copies: Vec::new(),
        damage: Vec::new(),
    }
}

/// A disk that was made larger after the database was copied is taken as large as it says, with what lies in the new part.
#[test]
fn a_disk_that_was_made_larger_since_keeps_its_size_with_its_side() {
    use palisade_model::GrowDisk;
    use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
    let (commands, old) = with_disk();
    let name = Name::new("d1").unwrap();
    let grow = Command::GrowDisk(GrowDisk {
        name: name.clone(),
        sectors: 20 * UNIT,
        data_end: 19 * UNIT,
        expected: None,
    });
    let volume = Name::new("new").unwrap();
    let grown = after(&[commands, vec![grow, volume_of(&volume, 12 * UNIT)]].concat());
    let found = Ok(carried(image(&grown, &name).unwrap()));
    let knows = |sectors| {
        Knowledge {
            cluster: &old,
            name: &name,
            disk: &old.disks[&name],
            found: &found,
            wanted: &image(&old, &name).unwrap(),
            copy: None,
            sectors,
            foreign: None,
            holds: None,
            other: None,
        }
        .command(Side::Disk)
    };
    let taken = old
        .apply(&knows(20 * UNIT).unwrap())
        .expect("it overlaps nothing")
        .0;
    let disk = &taken.disks[&name];
    assert_eq!(
        (disk.sectors, disk.data_start, disk.data_end),
        (20 * UNIT, UNIT, 19 * UNIT)
    );
    assert_eq!(disk.medium, grown.disks[&name].medium);
    assert_eq!(
        taken.volumes[&volume].all_extents(),
        grown.volumes[&volume].all_extents()
    );
    let refused = knows(15 * UNIT).unwrap_err();
    assert_eq!(refused.code, "disk_shrunk");
}
