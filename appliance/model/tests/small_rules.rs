//! Rules of one line each, at the value where each begins to hold.

#![cfg(test)]

mod lab;

use lab::{
    after, attachment_of_w, change_volume, cleared, detach, disk, grow, lab, name, on, outcome, raise,
    started, then, uuid_of, whole_disk,
};
use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Ancestor, FeatureLevel, Generation, LineageId, Uuid};

/// The lab at a feature level.
fn at_level(level: u64) -> Cluster {
    after(
        &lab(),
        [Command::NodeStarted(started(2, 1)), raise(FeatureLevel(level))],
    )
}

/// From level 2 on, and not only beyond it.
#[test]
fn attachments_have_ids_from_the_level_on_that_brought_them() {
    for (level, uuid) in [(1, Uuid::NIL), (2, uuid_of("b")), (3, uuid_of("b"))] {
        let cluster = at_level(level);
        let made = then(&cluster, Command::CreateAttachment(attachment_of_w()));
        assert_eq!(made.attachments[&name("b")].uuid, uuid, "level {level}");
        let without = CreateAttachment {
            uuid: Uuid::NIL,
            ..attachment_of_w()
        };
        let expected = if level < 2 { "created" } else { "uuid" };
        let command = Command::CreateAttachment(without);
        assert_eq!(outcome(&cluster, &command), expected, "level {level}");
        let mut broken = made;
        broken.attachments.get_mut(&name("b")).unwrap().uuid = Uuid::NIL;
        assert_eq!(check(&broken).is_err(), level >= 2, "level {level}");
    }
}

#[test]
fn an_attachment_without_an_id_is_written_as_before_there_were_any() {
    let text = |cluster: &Cluster| serde_json::to_string(&cluster.attachments[&name("a")]).unwrap();
    assert!(!text(&lab()).contains("uuid"));
    assert!(text(&at_level(2)).contains("uuid"));
}

#[test]
fn a_volume_in_two_places_of_a_disk_lies_on_it_once() {
    let cluster = then(&lab(), Command::GrowVolume(grow("v", 2 * UNIT)));
    assert_eq!(cluster.volumes[&name("v")].all_extents().len(), 2);
    assert_eq!(cluster.volumes_on(&name("d")), [name("v"), name("w")]);
    assert_eq!(cluster.volumes_on(&name("l")), []);
}

#[test]
fn its_own_is_what_belongs_where_superblocks_do() {
    let cluster = then(&lab(), Command::AddDisk(whole_disk("e", 101)));
    let ours = SuperblockState::Ours {
        generation: Generation(1),
        flawed: false,
    };
    for (disk, found, is_its_own) in [
        ("d", ours, true),
        ("d", SuperblockState::Missing, false),
        ("d", SuperblockState::Foreign, false),
        ("e", ours, false),
        ("e", SuperblockState::Missing, true),
        ("e", SuperblockState::Foreign, false),
    ] {
        let known = &cluster.disks[&name(disk)];
        assert_eq!(known.is_its_own(found), is_its_own, "{disk}: {found:?}");
    }
}

#[test]
fn a_device_holds_so_many_disks_of_others_and_no_more() {
    let with = |nested: usize| {
        let mut add = disk("e", 101);
        add.record.nested = (0..nested as u128).map(|number| Uuid(number + 1)).collect();
        Command::AddDisk(add)
    };
    assert_eq!(outcome(&lab(), &with(NESTED_MAX)), "created");
    assert_eq!(outcome(&lab(), &with(NESTED_MAX + 1)), "nested");
}

/// A medium that has been further than the database is taken over.
fn adopt() -> Command {
    Command::AdoptDisk(AdoptDisk {
        name: name("d"),
        uuid: Uuid(100),
        seen: Some(OnMedium {
            point: Ancestor {
                generation: Generation(400),
                id: LineageId(4),
            },
            epoch: palisade_words::Epoch(1),
            ancestors: Vec::new(),
        }),
        empties: Vec::new(),
        keeps: Default::default(),
        older: false,
    })
}

fn being_cleared(on_disk: &str) -> Command {
    Command::CreateVolume(CreateVolume {
        clear: Some(Clear::Now),
        clears: true,
        ..on(on_disk, 2 * UNIT)
    })
}

#[test]
fn a_clearing_begins_anew_only_where_it_had_come_further() {
    let begun = then(&lab(), being_cleared("d"));
    let route = begun.volumes[&name("x")].route_generation();
    let untouched = then(&begun, adopt()).volumes[&name("x")].clone();
    assert_eq!(untouched.revision, begun.volumes[&name("x")].revision);

    let further = then(&begun, cleared("x", UNIT));
    let again = then(&further, adopt());
    let volume = &again.volumes[&name("x")];
    assert_eq!(volume.clearing.unwrap().cleared, 0);
    assert_eq!(volume.revision, again.generation);
    assert_eq!(
        volume.route_generation(),
        route,
        "what guests may use is as before"
    );
}

/// A pooled disk shows that the database is an old one: what whole disks are to be cleared of waits for an operator, whose word
/// is another generation of the volume and of its route.
#[test]
fn a_clearing_that_is_held_goes_on_by_an_operators_word() {
    let begun = after(
        &lab(),
        [Command::AddDisk(whole_disk("e", 101)), being_cleared("e")],
    );
    assert!(!begun.volumes[&name("x")].is_clearing_held());
    assert!(
        !begun.volumes[&name("v")].is_clearing_held(),
        "it is not even cleared"
    );
    let held = then(&begun, adopt());
    assert!(held.volumes[&name("x")].is_clearing_held());
    // In between its operator changes something that is no business of its route's.
    let changed = then(
        &held,
        Command::ChangeVolume(ChangeVolume {
            protected: Some(true),
            ..change_volume("x")
        }),
    );
    let before = &changed.volumes[&name("x")];
    assert!(before.route_generation() < changed.generation);
    let goes_on = then(
        &changed,
        Command::ClearHeld(ClearHeld {
            name: name("x"),
            expected: None,
        }),
    );
    let volume = &goes_on.volumes[&name("x")];
    assert!(!volume.is_clearing_held());
    assert_eq!(
        (volume.revision, volume.route_generation()),
        (goes_on.generation, goes_on.generation)
    );
}

/// One disk of several that the database knows is enough: it is an old one.
#[test]
fn an_import_of_which_one_disk_is_known_holds_clearings() {
    use lab::imported::{found, import};
    let begun = after(
        &lab(),
        [
            detach("a"),
            Command::AddDisk(whole_disk("e", 101)),
            being_cleared("e"),
        ],
    );
    for (disks, is_held) in [
        (vec![found("new", 900, &[])], false),
        (vec![found("d", 100, &[]), found("new", 900, &[])], true),
    ] {
        let after = then(&begun, import(&disks));
        assert_eq!(after.volumes[&name("x")].is_clearing_held(), is_held);
    }
}
