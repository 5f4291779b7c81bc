//! Commands on attachments, each argument at its borders: the last value that is taken, and the first that is not.

#![cfg(test)]

mod lab;

use lab::{
    attachment, attachment_of_w, create, detach, disk, grow, lab, lab_of_two_nodes, name, outcome, refusal,
    then,
};
use palisade_model::limits::{ACCOUNT_BYTES_MAX, BURST_MS_MAX, SOCKET_PATH_BYTES_MAX};
use palisade_model::*;
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS as UNIT, ATTACHMENTS_MAX};
use palisade_words::{FeatureLevel, Generation, Uuid};
use std::collections::BTreeMap;

fn account(text: &str) -> Option<Account> {
    Some(Account::Name(text.to_owned()))
}

#[test]
fn an_attachment_is_made_of_arguments_that_fit() {
    type Change = fn(&mut CreateAttachment);
    fn long(bytes: usize) -> String {
        format!("/{}", "x".repeat(bytes - 1))
    }
    let cases: [(&str, Change); 44] = [
        ("created", |_| {}),
        ("volume_not_found", |b| b.volume = name("l")),
        ("node_not_found", |b| b.node = name("l")),
        ("created", |b| b.node = name("m")),
        ("socket_taken", |b| b.socket = "/run/a.sock".into()),
        ("volume_has_writer", |b| b.volume = name("v")),
        ("volume_has_writer", |b| {
            (b.volume, b.read_only) = (name("v"), true)
        }),
        ("created", |b| b.read_only = true),
        ("queues", |b| b.queues = 0),
        ("created", |b| b.queues = 1),
        ("created", |b| b.queues = 64),
        ("queues", |b| b.queues = 65),
        ("queue_size", |b| b.queue_size = 0),
        ("queue_size", |b| b.queue_size = 1),
        ("created", |b| b.queue_size = 2),
        ("queue_size", |b| b.queue_size = 3),
        ("created", |b| b.queue_size = 32768),
        ("queue_size", |b| b.queue_size = 32767),
        ("queue_size", |b| b.queue_size = 32769),
        ("created", |b| b.mode = 0),
        ("created", |b| b.mode = 0o777),
        ("mode", |b| b.mode = 0o1000),
        ("socket", |b| b.socket = "b.sock".into()),
        ("created", |b| b.socket = long(SOCKET_PATH_BYTES_MAX)),
        ("socket", |b| b.socket = long(SOCKET_PATH_BYTES_MAX + 1)),
        ("created", |b| b.serial = None),
        ("created", |b| b.serial = Some(String::new())),
        ("created", |b| b.serial = Some(" ~345678901234567890".into())),
        ("serial", |b| b.serial = Some("x".repeat(21))),
        ("serial", |b| b.serial = Some("\u{1f}".into())),
        ("serial", |b| b.serial = Some("\u{7f}".into())),
        ("created", |b| b.owner = Some(Account::Id(u32::MAX - 1))),
        ("owner", |b| b.owner = Some(Account::Id(u32::MAX))),
        ("created", |b| b.owner = None),
        ("owner", |b| b.owner = account("")),
        ("created", |b| b.owner = account(&"x".repeat(ACCOUNT_BYTES_MAX))),
        ("owner", |b| b.owner = account(&"x".repeat(ACCOUNT_BYTES_MAX + 1))),
        ("owner", |b| b.owner = account("a b")),
        ("group", |b| b.group = account("a:b")),
        ("group", |b| b.group = account("a/b")),
        ("group", |b| b.group = account("a\u{1}b")),
        ("created", |b| b.group = Some(Account::Id(0))),
        ("created", |b| b.limits.burst_ms = BURST_MS_MAX),
        ("burst_ms", |b| b.limits.burst_ms = BURST_MS_MAX + 1),
    ];
    let cluster = lab_of_two_nodes();
    for (number, (expected, change)) in cases.into_iter().enumerate() {
        let mut wanted = attachment_of_w();
        change(&mut wanted);
        let command = Command::CreateAttachment(wanted.clone());
        assert_eq!(outcome(&cluster, &command), expected, "case {number}");
        if expected == "created" {
            let next = then(&cluster, command);
            let made = &next.attachments[&name("b")];
            // The first 20 digits of the volume's id, when nothing was chosen.
            let serial = wanted.serial.unwrap_or_else(|| "0".repeat(20));
            assert_eq!(
                (&made.serial, made.created, made.revision),
                (&serial, next.generation, next.generation)
            );
        }
    }
}

/// A node that does not reach a volume's disks asks the one that does; the rules for writers and readers are the same wherever
/// they are.
#[test]
fn a_volume_is_offered_on_any_member_and_has_one_writer_in_all() {
    let cluster = lab_of_two_nodes();
    let there = CreateAttachment {
        node: name("m"),
        ..attachment_of_w()
    };
    let offered = then(&cluster, Command::CreateAttachment(there.clone()));
    assert_eq!(offered.attachments[&there.name].node, name("m"));
    assert_eq!(
        offered.node_of(&name("w")),
        Some(&name("n")),
        "the disks stay where they are"
    );
    let second = |node: &str, read_only| {
        Command::CreateAttachment(CreateAttachment {
            name: name("second"),
            uuid: Uuid(4711),
            node: name(node),
            socket: "/run/second.sock".into(),
            read_only,
            ..attachment_of_w()
        })
    };
    for node in ["n", "m"] {
        for read_only in [true, false] {
            let refused = outcome(&offered, &second(node, read_only));
            assert!(
                refused.starts_with("has_") || refused == "volume_has_writer",
                "{refused}"
            );
        }
    }
    // Who has a volume on offer is not taken away.
    let gone = Command::RemoveNode(RemoveNode {
        name: name("m"),
        expected: None,
    });
    assert_eq!(outcome(&offered, &gone), "node_in_use");
    let nowhere = CreateAttachment {
        node: name("l"),
        ..there
    };
    assert_eq!(
        outcome(&cluster, &Command::CreateAttachment(nowhere)),
        "node_not_found"
    );
}

/// Who offers a volume and does not reach its disks asks for it, to read it or to change it too; who reaches them does not ask.
#[test]
fn who_offers_a_volume_of_other_nodes_asks_for_it() {
    let cluster = lab_of_two_nodes();
    let offer = |id: &str, uuid, node: &str| {
        Command::CreateAttachment(CreateAttachment {
            name: name(id),
            uuid: Uuid(uuid),
            node: name(node),
            socket: format!("/run/{id}.sock"),
            read_only: true,
            ..attachment_of_w()
        })
    };
    assert_eq!(cluster.askers_of(&name("w")), BTreeMap::new());
    let near = then(&cluster, offer("near", 4711, "n"));
    assert_eq!(near.askers_of(&name("w")), BTreeMap::new());
    let both = then(&near, offer("far", 4712, "m"));
    assert_eq!(both.askers_of(&name("w")), BTreeMap::from([(name("m"), false)]));
    assert_eq!(both.askers_of(&name("nothing")), BTreeMap::new());
    let there = CreateAttachment {
        node: name("m"),
        ..attachment_of_w()
    };
    let writer = then(&cluster, Command::CreateAttachment(there));
    assert_eq!(writer.askers_of(&name("w")), BTreeMap::from([(name("m"), true)]));
}

/// Whatever part of its volume lies elsewhere: before members asked each other, a node served what it reached.
#[test]
fn a_volume_is_attached_where_all_of_it_is_before_members_ask_each_other() {
    let mut cluster = then(&lab_of_two_nodes(), Command::AddDisk(disk("e", 101)));
    cluster = then(
        &cluster,
        Command::GrowVolume(GrowVolume {
            disk: Some(name("e")),
            ..grow("w", 2 * UNIT)
        }),
    );
    cluster.feature_level = FeatureLevel(4);
    let wanted = Command::CreateAttachment(attachment_of_w());
    assert_eq!(outcome(&cluster, &wanted), "created");
    cluster.disks.get_mut(&name("e")).unwrap().node = name("m");
    let (disk, disk_node, node) = (name("e"), name("m"), name("n"));
    assert_eq!(
        refusal(&cluster, wanted),
        Refusal::DiskElsewhere {
            disk,
            disk_node,
            node
        }
    );
}

#[test]
fn there_are_as_many_attachments_as_may_be_and_no_more() {
    let mut cluster = lab();
    let one = Attachment {
        read_only: true,
        ..cluster.attachments[&name("a")].clone()
    };
    cluster.attachments.clear();
    for number in 0..ATTACHMENTS_MAX - 1 {
        let socket = format!("/run/more{number}.sock");
        cluster.attachments.insert(
            name(&format!("more{number}")),
            Attachment {
                socket,
                ..one.clone()
            },
        );
    }
    let full = then(&cluster, Command::CreateAttachment(attachment_of_w()));
    let more = CreateAttachment {
        name: name("c"),
        read_only: true,
        socket: "/run/c.sock".into(),
        ..attachment()
    };
    let (kind, max) = (Kind::Attachment, ATTACHMENTS_MAX);
    assert_eq!(
        refusal(&full, Command::CreateAttachment(more)),
        Refusal::TooMany { kind, max }
    );
}

#[test]
fn what_is_changed_of_an_attachment_is_what_was_said_and_has_the_same_rules() {
    type Change = fn(&mut ChangeAttachment);
    let cluster = lab();
    let now = cluster.attachments[&name("a")].clone();
    let change = |change: Change| {
        let mut wanted = ChangeAttachment::of(name("a"));
        change(&mut wanted);
        Command::ChangeAttachment(wanted)
    };
    type Expected = fn(&mut Attachment);
    let changes: [(Change, Expected); 9] = [
        (|a| a.queues = Some(3), |a| a.queues = 3),
        (|a| a.queue_size = Some(512), |a| a.queue_size = 512),
        (|a| a.owner = account("root"), |a| a.owner = account("root")),
        (|a| a.group = account("root"), |a| a.group = account("root")),
        (|a| a.mode = Some(0o660), |a| a.mode = 0o660),
        (|a| a.read_only = Some(true), |a| a.read_only = true),
        (|a| a.serial = Some("S2".into()), |a| a.serial = "S2".into()),
        (
            |a| {
                a.limits = Some(Limits {
                    iops: 9,
                    ..Limits::default()
                })
            },
            |a| a.limits.iops = 9,
        ),
        (|a| a.write_cache = Some(false), |a| a.write_cache = false),
    ];
    for (number, (said, expected)) in changes.into_iter().enumerate() {
        let next = then(&cluster, change(said));
        let mut wanted = now.clone();
        expected(&mut wanted);
        wanted.revision = next.generation;
        assert_eq!(next.attachments[&name("a")], wanted, "change {number}");
        assert_eq!(outcome(&next, &change(said)), "unchanged", "change {number}");
    }
    for (expected, said) in [
        ("unchanged", (|_| {}) as Change),
        ("attachment_not_found", |a| a.name = name("l")),
        ("revision_mismatch", |a| a.expected = Some(Generation(1))),
        ("queues", |a| a.queues = Some(65)),
        ("mode", |a| a.mode = Some(0o1000)),
    ] {
        assert_eq!(outcome(&cluster, &change(said)), expected);
    }
    // A reader among others does not become a writer; alone it does.
    let reader = |text: &str| CreateAttachment {
        name: name(text),
        socket: format!("/run/{text}.sock"),
        read_only: true,
        ..attachment_of_w()
    };
    let one = then(&cluster, Command::CreateAttachment(reader("b")));
    let two = then(&one, Command::CreateAttachment(reader("c")));
    let writes = change(|a| (a.name, a.read_only) = (name("b"), Some(false)));
    assert_eq!(
        (outcome(&one, &writes), outcome(&two, &writes)),
        ("changed", "volume_has_readers")
    );
    let (volume, attached) = (name("w"), name("c"));
    assert_eq!(
        refusal(&two, writes),
        Refusal::HasReaders {
            volume,
            attachment: attached
        }
    );
}

#[test]
fn an_attachment_is_deleted_by_who_has_seen_it() {
    let cluster = lab();
    let now = cluster.attachments[&name("a")].revision;
    let of = |text: &str, expected| {
        Command::DeleteAttachment(DeleteAttachment {
            name: name(text),
            expected,
        })
    };
    assert_eq!(outcome(&cluster, &of("l", None)), "attachment_not_found");
    assert_eq!(outcome(&cluster, &of("a", Some(now.next()))), "revision_mismatch");
    assert_eq!(outcome(&cluster, &of("a", Some(now))), "removed");
    let gone = then(&cluster, detach("a"));
    assert!(gone.attachments.is_empty() && gone.volumes.len() == 2);
    let again = CreateAttachment {
        volume: name("v"),
        ..attachment()
    };
    assert_eq!(outcome(&gone, &Command::CreateAttachment(again)), "created");
    assert_eq!(outcome(&gone, &Command::CreateVolume(create("v"))), "unchanged");
}

#[test]
fn an_attachment_without_numbers_is_not_limited() {
    let limits = |iops, bytes_per_second| Limits {
        iops,
        bytes_per_second,
        burst_ms: 7,
    };
    assert!(!limits(0, 0).is_limited());
    assert!(limits(1, 0).is_limited() && limits(0, 1).is_limited() && limits(1, 1).is_limited());
    let (id, text) = (Account::Id(7), Account::Name("kvm".into()));
    assert_eq!((id.to_string(), text.to_string()), ("7".into(), "kvm".into()));
}

/// Those that were there get theirs when that is switched on, the same on every node; who is made later brings one.
#[test]
fn an_attachment_has_a_permanent_id_of_its_own() {
    let before = lab();
    let of = |cluster: &Cluster, text| cluster.attachments[&name(text)].uuid;
    assert_eq!(
        of(&before, "a"),
        Uuid::NIL,
        "a member of before takes no notice of it"
    );
    let cluster = lab::switched_on(&before);
    // H("palisade id of an attachment", cluster 1, ["a", 5]).
    let expected = "ac6d10ff-612e-e9bd-4bd5-5564a7fd000e";
    assert_eq!(of(&cluster, "a").to_string(), expected);
    // They come with the level that has them, and not with a later one.
    let members = then(&before, Command::NodeStarted(lab::started(2, 1)));
    let level = |to| then(&members, lab::raise(FeatureLevel(to)));
    assert_eq!(of(&level(1), "a"), Uuid::NIL);
    assert_eq!(of(&level(2), "a").to_string(), expected);
    let made = then(&cluster, Command::CreateAttachment(attachment_of_w()));
    assert_eq!(
        (of(&made, "b"), of(&made, "a")),
        (attachment_of_w().uuid, of(&cluster, "a"))
    );
    let again = CreateAttachment {
        uuid: Uuid(77),
        ..attachment_of_w()
    };
    assert_eq!(outcome(&made, &Command::CreateAttachment(again)), "unchanged");
    let with = |uuid| {
        let create = CreateAttachment {
            uuid,
            ..attachment_of_w()
        };
        outcome(&cluster, &Command::CreateAttachment(create))
    };
    assert_eq!(with(of(&cluster, "a")), "uuid_taken");
    assert_eq!(with(Uuid::NIL), "uuid");
    // Another one of the name is another one.
    let delete = DeleteAttachment {
        name: name("a"),
        expected: None,
    };
    let gone = then(&before, Command::DeleteAttachment(delete));
    let back = then(&gone, Command::CreateAttachment(attachment()));
    assert_ne!(of(&lab::switched_on(&back), "a"), of(&cluster, "a"));
}
