//! What a takeover shows and refuses.

use super::*;

#[test]
fn a_side_is_taken_over_nothing_of_others() {
    let file_system = Content::Filesystem { kind: "ext" };
    let refused = refuse_foreign("d1", Side::Database, Some(&file_system)).unwrap_err();
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
    assert!(refuse_foreign("d1", Side::Database, None).is_ok());
    // What cannot be read is refused for that.
    assert!(refuse_foreign("d1", Side::Disk, Some(&file_system)).is_ok());
}

fn superblock(id: u128, ancestor: u128) -> palisade_wire::Superblock {
    let label = palisade_wire::Name::default();
    let ancestors = vec![palisade_wire::Ancestor {
        generation: ancestor as u64,
        id: ancestor,
    }];
    palisade_wire::Superblock {
        generation: id as u64,
        sequence: 3,
        lineage: Some(palisade_wire::Lineage { id, ancestors }),
        ..palisade_wire::Superblock::new(1, 2, 3, label, 512, 100_000).unwrap()
    }
}

fn claim(id: u128, ancestor: u128, volume: &str) -> Claim {
    let part = palisade_wire::Part::Superblock { copy: 0 };
    let extent = ExtentRecord {
        volume: id,
        volume_name: palisade_wire::Name::new(volume).unwrap(),
        role: palisade_wire::ExtentRole::Linear,
        part: 0,
        block_bytes: 512,
        volume_lba: palisade_wire::Lba(0),
        disk_lba: palisade_wire::Lba(8192),
        sectors: 8,
        volume_sectors: 8,
    };
    Claim {
        place: palisade_wire::Place { tail: false, part },
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
    let shown = compare(&name, &Err(error.clone()), &wanted, &wanted.extents, None);
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
