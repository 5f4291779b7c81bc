//! What becomes of the space that volumes have had and get, choice by choice.

#![cfg(test)]

mod lab;

use lab::{
    after, change_volume, cleared, create, delete, detach, disk, furnished, grow, lab, name, on, outcome,
    piece, remove_disk, then,
};
use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Ancestor, Epoch, Generation, LineageId, Uuid};

/// What a volume gets is cleared where something can be kept, by choice or by what is usual there.
#[test]
fn space_is_cleared_where_something_may_have_been_left() {
    for (on_disk, clear, clears, expected) in [
        ("d", None, true, true),
        ("d", None, false, false),
        ("d", Some(Clear::Now), true, true),
        ("d", Some(Clear::OnDelete), true, true),
        ("d", Some(Clear::Never), true, false),
        ("e", None, true, false),
        ("e", Some(Clear::Now), true, true),
        ("h", None, true, false),
        ("h", Some(Clear::Now), true, false),
    ] {
        let wanted = CreateVolume {
            clear,
            clears,
            ..on(on_disk, 16)
        };
        let made = then(&furnished(), Command::CreateVolume(wanted));
        let clearing = Clearing {
            from: 0,
            cleared: 0,
            since: made.generation,
            held: false,
            withheld: false,
        };
        let made = then(
            &made,
            Command::ChangeVolume(ChangeVolume {
                protected: Some(true),
                ..change_volume("x")
            }),
        );
        let volume = &made.volumes[&name("x")];
        assert_eq!(
            volume.clearing,
            expected.then_some(clearing),
            "{on_disk}, {clear:?}, {clears}"
        );
        // The same of what is added to it.
        let plain = then(
            &furnished(),
            Command::CreateVolume(CreateVolume {
                clear,
                ..on(on_disk, 16)
            }),
        );
        let grown = then(
            &plain,
            Command::GrowVolume(GrowVolume {
                clears,
                ..grow("x", 32)
            }),
        );
        let clearing = Clearing {
            from: 16,
            cleared: 16,
            since: grown.generation,
            held: false,
            withheld: false,
        };
        let volume = &grown.volumes[&name("x")];
        assert_eq!(
            volume.clearing,
            expected.then_some(clearing),
            "{on_disk}, {clear:?}, {clears}"
        );
        let route = if expected {
            plain.generation
        } else {
            grown.generation
        };
        assert_eq!(volume.route_generation(), route);
    }
}

#[test]
fn what_is_cleared_is_recorded_piece_by_piece() {
    let wanted = CreateVolume {
        clears: true,
        ..on("f", 64)
    };
    let cluster = after(&furnished(), [Command::CreateVolume(wanted), cleared("x", 16)]);
    for (sectors, expected) in [
        (0, "unchanged"),
        (8, "unchanged"),
        (16, "unchanged"),
        (20, "sectors"),
        (24, "changed"),
        (56, "changed"),
        (64, "changed"),
        (72, "sectors"),
    ] {
        assert_eq!(outcome(&cluster, &cleared("x", sectors)), expected, "{sectors}");
    }
    assert_eq!(outcome(&cluster, &cleared("y", 24)), "volume_not_found");
    let part = then(&cluster, cleared("x", 56));
    let clearing = part.volumes[&name("x")].clearing.unwrap();
    assert_eq!((clearing.from, clearing.cleared), (0, 56));
    // One that began further behind says nothing of what is before that.
    let behind = Command::RecordCleared(RecordCleared {
        name: name("x"),
        uuid: lab::uuid_of("x"),
        sectors: 64,
        start: 60,
    });
    assert_eq!(outcome(&part, &behind), "unchanged");
    let whole = then(&part, cleared("x", 64));
    let volume = &whole.volumes[&name("x")];
    assert_eq!((volume.clearing, volume.usable_sectors()), (None, 64));
    assert_eq!(volume.route_generation(), whole.generation);
    assert_eq!(outcome(&whole, &cleared("x", 64)), "unchanged");
    // Given as it is, it is usable at once; told so again, nothing changes.
    let never = |clear| {
        Command::ChangeVolume(ChangeVolume {
            clear,
            ..change_volume("x")
        })
    };
    let given = then(&part, never(Some(Clear::Never)));
    assert_eq!(given.volumes[&name("x")].usable_sectors(), 64);
    assert_eq!(outcome(&given, &never(Some(Clear::Never))), "unchanged");
    let later = then(&part, never(Some(Clear::OnDelete)));
    assert_eq!(
        later.volumes[&name("x")].clearing,
        part.volumes[&name("x")].clearing
    );
    assert_eq!(later.volumes[&name("x")].revision, later.generation);
}

#[test]
fn a_volume_is_deleted_at_once_or_once_it_is_clear() {
    let cluster = then(&lab(), detach("a"));
    let of = |clear| Command::DeleteVolume(delete("v", clear));
    for (choice, asked, at_once) in [
        (None, None, true),
        (None, Some(false), true),
        (None, Some(true), false),
        (Some(Clear::OnDelete), None, false),
        (Some(Clear::OnDelete), Some(false), true),
        (Some(Clear::Never), Some(true), false),
        (Some(Clear::Now), None, true),
    ] {
        let chosen = match choice {
            None => cluster.clone(),
            clear => then(
                &cluster,
                Command::ChangeVolume(ChangeVolume {
                    clear,
                    ..change_volume("v")
                }),
            ),
        };
        let next = then(&chosen, of(asked));
        let expected = if at_once { "removed" } else { "changed" };
        assert_eq!(outcome(&chosen, &of(asked)), expected, "{choice:?}, {asked:?}");
        assert_eq!(next.volumes.contains_key(&name("v")), !at_once);
        assert_eq!(next.disks[&name("d")].extents_revision, next.generation);
        if !at_once {
            for (asked, then) in [
                (None, "unchanged"),
                (Some(true), "unchanged"),
                (Some(false), "removed"),
            ] {
                assert_eq!(outcome(&next, &of(asked)), then);
            }
            for command in [
                Command::GrowVolume(grow("v", 2 * UNIT)),
                Command::ChangeVolume(change_volume("v")),
                Command::CreateVolume(create("v")),
                Command::CreateAttachment(lab::attachment()),
            ] {
                assert_eq!(outcome(&next, &command), "volume_going");
            }
            assert_eq!(outcome(&next, &cleared("v", UNIT)), "removed");
        }
    }
    // What keeps nothing, and what no guest has seen, needs no clearing.
    let null = then(&furnished(), Command::CreateVolume(on("h", 8)));
    assert_eq!(
        outcome(&null, &Command::DeleteVolume(delete("x", Some(true)))),
        "removed"
    );
    let unseen = then(
        &furnished(),
        Command::CreateVolume(CreateVolume {
            clears: true,
            ..on("d", 8)
        }),
    );
    assert_eq!(
        outcome(&unseen, &Command::DeleteVolume(delete("x", Some(true)))),
        "removed"
    );
    assert_eq!(outcome(&unseen, &remove_disk("d", false)), "disk_in_use");
}

/// With a word for it, a volume goes with its attachments, and no other one's do.
#[test]
fn a_volume_takes_its_own_attachments_with_it() {
    let other = CreateAttachment {
        name: name("b"),
        volume: name("w"),
        socket: "/run/b.sock".into(),
        ..lab::attachment()
    };
    let cluster = then(&lab(), Command::CreateAttachment(other));
    for clear in [None, Some(true)] {
        let kept = Command::DeleteVolume(delete("v", clear));
        assert_eq!(outcome(&cluster, &kept), "volume_in_use");
        let next = then(
            &cluster,
            Command::DeleteVolume(DeleteVolume {
                detaches: true,
                ..delete("v", clear)
            }),
        );
        assert!(next.attachments.keys().eq([&name("b")]));
    }
    let stale = DeleteVolume {
        expected: Some(Generation(1)),
        detaches: true,
        ..delete("v", None)
    };
    assert_eq!(
        outcome(&cluster, &Command::DeleteVolume(stale)),
        "revision_mismatch"
    );
}

/// What is here of a volume that is not whole is given up by its id, as several may have a name; a volume by its name alone.
#[test]
fn parts_of_a_volume_are_given_up_by_id() {
    let mut cluster = after(&lab(), [disk("e", 101), disk("f", 102)].map(Command::AddDisk));
    let part = |text: &str, on| {
        let pieces = vec![piece(UNIT, on, 5 * UNIT)];
        Fragment {
            name: name(text),
            sectors: 2 * UNIT,
            block_bytes: 512,
            pieces,
        }
    };
    let [p, q, other] = [0xa, 0xb, 0xc].map(|digit| Uuid(digit << 124 | 1));
    cluster.fragments = [(p, part("p", "e")), (q, part("p", "f")), (other, part("r", "d"))].into();
    let by_name = Command::DeleteVolume(delete("p", None));
    assert_eq!(outcome(&cluster, &by_name), "volume_not_found");
    for (uuid, on) in [(q, "f"), (other, "d"), (p, "e")] {
        let by_id = Command::DeleteFragment(DeleteFragment { uuid });
        let next = then(&cluster, by_id.clone());
        assert!(
            !next.fragments.contains_key(&uuid) && next.fragments.len() == 2,
            "{uuid}"
        );
        for (name, disk) in &next.disks {
            assert_eq!(
                disk.extents_revision == next.generation,
                name.as_str() == on,
                "{uuid}, {name}"
            );
        }
        assert_eq!(outcome(&cluster, &by_id), "removed");
        assert_eq!(outcome(&next, &by_id), "unchanged");
    }
}

/// What guests may use changes with a generation of its own, which the disks have on record; whatever was chosen before.
#[test]
fn a_change_of_what_guests_may_use_has_a_generation_of_its_own() {
    let on_e = GrowVolume {
        disk: Some(name("e")),
        ..grow("w", 2 * UNIT)
    };
    let protect = ChangeVolume {
        protected: Some(true),
        ..change_volume("w")
    };
    let commands = [
        Command::AddDisk(disk("e", 101)),
        Command::GrowVolume(on_e),
        Command::ChangeVolume(protect),
    ];
    let cluster = after(&lab(), commands);
    let of = |cluster: &Cluster| cluster.volumes[&name("w")].clone();
    assert!(
        of(&cluster).layout_revision.is_some(),
        "its route is that from before"
    );
    let grown = then(&cluster, Command::GrowVolume(grow("w", 3 * UNIT)));
    assert_eq!(of(&grown).route_generation(), grown.generation);
    // What comes while something is cleared is waited for by the same clearing, from now on.
    let clears = |sectors| {
        Command::GrowVolume(GrowVolume {
            clears: true,
            ..grow("w", sectors)
        })
    };
    let clearing = then(&cluster, clears(3 * UNIT));
    let further = then(&clearing, clears(4 * UNIT));
    let Some(found) = of(&further).clearing else {
        panic!("it is to be cleared")
    };
    assert_eq!(
        (found.from, found.cleared, found.since),
        (2 * UNIT, 2 * UNIT, further.generation)
    );
    // Emptied on one of its disks, it is so on record on both.
    let point = Ancestor {
        generation: Generation(40),
        id: LineageId(40),
    };
    let emptied = Command::AdoptDisk(AdoptDisk {
        name: name("d"),
        uuid: Uuid(100),
        seen: Some(OnMedium {
            point,
            epoch: Epoch(1),
            ancestors: Vec::new(),
        }),
        empties: vec![lab::uuid_of("w")],
        keeps: Default::default(),
        older: false,
    });
    let next = then(&cluster, emptied);
    let volume = of(&next);
    assert_eq!(
        (volume.revision, volume.route_generation()),
        (next.generation, next.generation)
    );
    for disk in ["d", "e"] {
        assert_eq!(
            next.disks[&name(disk)].superblock_generation(),
            next.generation,
            "{disk}"
        );
    }
}

/// One disk that keeps what is written to it is enough.
#[test]
fn a_volume_that_keeps_something_is_cleared_when_that_is_asked_for() {
    let on_d = GrowVolume {
        disk: Some(name("d")),
        ..grow("x", 16)
    };
    let cluster = after(
        &furnished(),
        [
            Command::CreateVolume(on("h", 8)),
            Command::GrowVolume(GrowVolume {
                sectors: UNIT + 8,
                ..on_d
            }),
        ],
    );
    assert_eq!(cluster.volumes[&name("x")].all_extents().len(), 2);
    assert_eq!(
        outcome(&cluster, &Command::DeleteVolume(delete("x", Some(true)))),
        "changed"
    );
}

/// What a database that was put back would clear on a disk that keeps no record waits for a word; a pool is known by its
/// superblock.
#[test]
fn a_clearing_of_a_restored_database_is_held_where_no_superblock_tells_whether_it_has_ended() {
    let clears = |disk| {
        let wanted = CreateVolume {
            clear: Some(Clear::Now),
            clears: true,
            ..on(disk, 16)
        };
        then(&furnished(), Command::CreateVolume(wanted))
    };
    let pooled = clears("d");
    assert_eq!(then(&pooled, Command::HoldClearings), pooled);

    let whole = clears("e");
    let restored = then(&whole, Command::HoldClearings);
    let volume = &restored.volumes[&name("x")];
    assert!(volume.is_clearing_held());
    assert_eq!(
        (volume.usable_sectors(), volume.usable_extents()),
        (0, Vec::new())
    );
    assert!(restored.holds_data(volume), "what lies there may be its own");
    assert_ne!(
        restored.lineage, whole.lineage,
        "it is another state than the one that was saved"
    );
    assert_eq!(then(&restored, Command::HoldClearings), restored);

    // As far as a guest was served meanwhile, it is not served either.
    let mut grown = clears("e");
    let volume = grown.volumes.get_mut(&name("x")).unwrap();
    volume.layout_revision = Some(volume.revision);
    let clearing = volume.clearing.as_mut().unwrap();
    (clearing.from, clearing.cleared) = (8, 8);
    let grown = then(&grown, Command::HoldClearings);
    let volume = &grown.volumes[&name("x")];
    assert_eq!(volume.usable_sectors(), 0);
    assert_eq!(
        volume.route_generation(),
        grown.generation,
        "reactors take the empty route for a later one"
    );

    let of = |expected| {
        Command::ClearHeld(ClearHeld {
            name: name("x"),
            expected,
        })
    };
    let stale = restored.apply(&of(Some(Generation(1)))).unwrap_err();
    assert!(matches!(stale, Refusal::RevisionMismatch { .. }));
    let clearing = then(&restored, of(None)).volumes[&name("x")].clearing.unwrap();
    assert_eq!((clearing.held, clearing.cleared), (false, 0));
    assert_eq!(then(&whole, of(None)), whole, "nothing is held");

    let keep = ChangeVolume {
        clear: Some(Clear::Never),
        ..change_volume("x")
    };
    let kept = then(&restored, Command::ChangeVolume(keep));
    assert_eq!(kept.volumes[&name("x")].usable_sectors(), 16);
    let unrelated = ChangeVolume {
        protected: Some(true),
        ..change_volume("x")
    };
    let protected = then(&restored, Command::ChangeVolume(unrelated));
    assert!(protected.volumes[&name("x")].is_clearing_held());
}

/// The disk may be another volume's by now.
#[test]
fn a_deletion_of_a_restored_database_clears_nothing_before_a_word() {
    let wanted = CreateVolume {
        clear: Some(Clear::OnDelete),
        ..on("e", 16)
    };
    let delete = |clear| {
        Command::DeleteVolume(DeleteVolume {
            name: name("x"),
            expected: None,
            clear,
            detaches: false,
        })
    };
    let deleting = after(&furnished(), [Command::CreateVolume(wanted), delete(None)]);
    assert!(deleting.volumes[&name("x")].deleting);
    let restored = then(&deleting, Command::HoldClearings);
    assert!(restored.volumes[&name("x")].is_clearing_held());
    assert_eq!(then(&restored, delete(None)), restored);
    let freed = then(&restored, delete(Some(false)));
    assert!(!freed.volumes.contains_key(&name("x")));
}

/// A disk that knows more than the database, or that the database of its own cluster does not know, shows that the database is
/// an old copy: what that would clear where no superblock tells whether it has ended waits for a word.
#[test]
fn a_clearing_is_held_when_a_disk_comes_back_that_shows_that_the_database_is_old() {
    use lab::imported::{found, import};
    let wanted = CreateVolume {
        clear: Some(Clear::Now),
        clears: true,
        ..on("e", 16)
    };
    let cluster = then(&furnished(), Command::CreateVolume(wanted));
    let is_held = |cluster: &Cluster| cluster.volumes[&name("x")].is_clearing_held();
    let known = cluster.disks[&name("d")].clone();
    let told_anew = ImportedDisk {
        disk: AddDisk {
            medium: known.medium.clone(),
            ..disk("d", known.uuid.0)
        },
        ..found("d", known.uuid.0, &[])
    };
    let attached = cluster
        .attachments
        .iter()
        .filter(|(_, one)| cluster.volumes[&one.volume].lies_on(&name("d")));
    let free = after(&cluster, attached.map(|(name, _)| detach(name.as_str())));
    assert!(is_held(&then(&free, import(&[told_anew]))));
    // A disk of another cluster says nothing of this database.
    let new = || vec![found("new", 900, &[])];
    let taken = then(&cluster, import(&new()));
    assert!(!is_held(&taken) && taken.disks.contains_key(&name("new")));
    let of_this_cluster = Command::ImportDisks(ImportDisks {
        disks: new(),
        cluster: None,
        holds_clearings: true,
        regards_protection: false,
    });
    assert!(is_held(&then(&cluster, of_this_cluster)));
}
