//! What is asked for is compared in each of its parts: a change that was not seen by who asks, a name in use with other
//! arguments, and one more than there may be.

#![cfg(test)]

mod lab;

use lab::{attachment, create, init, lab, name, refusal, then};
use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Generation, Uuid};

#[test]
fn an_attachment_asked_for_again_is_the_same_in_each_part_or_another() {
    let cluster = lab();
    assert_eq!(then(&cluster, Command::CreateAttachment(attachment())), cluster);
    type Change = (&'static str, fn(&mut CreateAttachment));
    let changes: [Change; 12] = [
        ("volume", |other| other.volume = name("w")),
        ("node", |other| other.node = name("m")),
        ("socket", |other| other.socket = "/run/b.sock".to_owned()),
        ("queues", |other| other.queues = 3),
        ("queue_size", |other| other.queue_size = 512),
        ("owner", |other| {
            other.owner = Some(Account::Name("root".to_owned()))
        }),
        ("group", |other| {
            other.group = Some(Account::Name("root".to_owned()))
        }),
        ("mode", |other| other.mode = 0o660),
        ("read_only", |other| other.read_only = true),
        ("serial", |other| other.serial = Some("S2".to_owned())),
        ("limits", |other| other.limits.burst_ms += 1),
        ("write_cache", |other| other.write_cache = false),
    ];
    for (field, change) in changes {
        let mut other = attachment();
        change(&mut other);
        let refused = refusal(&cluster, Command::CreateAttachment(other));
        assert_eq!(
            (refused.code(), refused.field()),
            ("attachment_exists", Some(field))
        );
    }
    // What is not said is as it is.
    let silent = CreateAttachment {
        owner: None,
        group: None,
        serial: None,
        ..attachment()
    };
    assert_eq!(then(&cluster, Command::CreateAttachment(silent)), cluster);
}

#[test]
fn who_has_not_seen_the_latest_changes_nothing() {
    let cluster = lab();
    let stale = Some(Generation(1));
    let volume = cluster.volumes[&name("w")].revision;
    let attached = cluster.attachments[&name("a")].revision;
    let commands = |volume: Option<Generation>, attached: Option<Generation>| {
        [
            Command::DeleteVolume(DeleteVolume {
                name: name("w"),
                expected: volume,
                clear: None,
                detaches: false,
            }),
            Command::ChangeVolume(ChangeVolume {
                name: name("w"),
                protected: Some(true),
                clear: None,
                expected: volume,
            }),
            Command::GrowVolume(GrowVolume {
                name: name("w"),
                sectors: 2 * UNIT,
                disk: None,
                expected: volume,
                clears: false,
            }),
            Command::DeleteAttachment(DeleteAttachment {
                name: name("a"),
                expected: attached,
            }),
        ]
    };
    for command in commands(stale, stale) {
        assert_eq!(refusal(&cluster, command).code(), "revision_mismatch");
    }
    for command in commands(Some(volume), Some(attached)) {
        let after = then(&cluster, command);
        for (name, now) in &after.volumes {
            let changed = *now != cluster.volumes[name];
            assert_eq!(
                now.revision == after.generation,
                changed,
                "a change is a revision"
            );
        }
    }
}

#[test]
fn a_cluster_is_made_once_with_ids_that_are_some() {
    for (id, node_uuid) in [(0, 2), (1, 0)] {
        let refused = refusal(&Cluster::empty(), init(id, "n", node_uuid));
        assert_eq!(refused.field(), Some("uuid"));
    }
    let made = then(&Cluster::empty(), init(1, "n", 2));
    assert_eq!(then(&made, init(1, "n", 2)), made);
    for other in [init(9, "n", 2), init(1, "m", 2), init(1, "n", 9)] {
        assert_eq!(refusal(&made, other).code(), "already_initialised");
    }
    let nil = CreateVolume {
        uuid: Uuid(0),
        ..create("x")
    };
    assert_eq!(refusal(&lab(), Command::CreateVolume(nil)).field(), Some("uuid"));
}

#[test]
fn a_volume_asked_for_again_is_the_same_in_each_part_or_another() {
    let cluster = lab();
    assert_eq!(then(&cluster, Command::CreateVolume(create("v"))), cluster);
    type Change = fn(&mut CreateVolume);
    let changes: [Change; 3] = [
        |other| other.sectors = Some(2 * UNIT),
        |other| other.block_bytes = Some(4096),
        |other| other.clear = Some(Clear::Never),
    ];
    for change in changes {
        let mut other = create("v");
        change(&mut other);
        assert_eq!(
            refusal(&cluster, Command::CreateVolume(other)).code(),
            "volume_exists"
        );
    }
    let silent = CreateVolume {
        disk: None,
        sectors: None,
        ..create("v")
    };
    assert_eq!(then(&cluster, Command::CreateVolume(silent)), cluster);
    let odd = CreateVolume {
        block_bytes: Some(1024),
        ..create("x")
    };
    assert_eq!(
        refusal(&cluster, Command::CreateVolume(odd)).field(),
        Some("block_bytes")
    );
}
