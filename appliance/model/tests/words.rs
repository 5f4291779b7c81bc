//! The words that clients rely on: codes of refusals, fields, names of kinds. They do not change.

#![cfg(test)]

use palisade_model::*;
use palisade_words::{Epoch, FeatureLevel, Generation, Incarnation, LineageId, Name, Uuid};

#[test]
fn a_refusal_has_the_code_and_the_field_that_clients_know() {
    let (name, disk, volume, attachment) = (|text: &str| Name::new(text).unwrap(), "d", "v", "a");
    let (n, d, v, a) = (name("n"), name(disk), name(volume), name(attachment));
    let t = name("t");
    let kinds = [
        (Kind::Node, "node"),
        (Kind::Disk, "disk"),
        (Kind::Volume, "volume"),
        (Kind::Attachment, "attachment"),
        (Kind::Token, "token"),
    ];
    for (kind, word) in kinds {
        assert_eq!((kind.as_str(), kind.to_string().as_str()), (word, word));
        let (name, differs) = (d.clone(), Field::Mode);
        let missing = Refusal::NotFound {
            kind,
            name: name.clone(),
        };
        assert_eq!(
            (missing.code(), missing.field()),
            (&*format!("{word}_not_found"), None)
        );
        let there = Refusal::Exists { kind, name, differs };
        assert_eq!(
            (there.code(), there.field()),
            (&*format!("{word}_exists"), Some("mode"))
        );
    }
    let kind = Kind::Disk;
    let (expected, actual) = (Generation(1), Generation(2));
    let (sectors, wanted_sectors, free_sectors) = (1, 2, 3);
    let all = [
        (Refusal::NotInitialised, "not_initialised", None),
        (
            Refusal::AlreadyInitialised { id: Uuid(1) },
            "already_initialised",
            None,
        ),
        (
            Refusal::RevisionMismatch {
                kind,
                name: d.clone(),
                expected,
                actual,
            },
            "revision_mismatch",
            None,
        ),
        (
            Refusal::Invalid {
                kind,
                name: d.clone(),
                field: Field::Mode,
                rule: Rule::Permissions,
            },
            "invalid_argument",
            Some("mode"),
        ),
        (Refusal::TooMany { kind, max: 1 }, "too_many", None),
        (
            Refusal::UuidTaken {
                kind,
                holder: d.clone(),
            },
            "uuid_taken",
            None,
        ),
        (Refusal::MediumTaken { disk: d.clone() }, "medium_taken", None),
        (
            Refusal::DiskInUse {
                disk: d.clone(),
                volume: v.clone(),
            },
            "disk_in_use",
            None,
        ),
        (
            Refusal::DiskHoldsFragment {
                disk: d.clone(),
                volume: v.clone(),
            },
            "disk_holds_fragment",
            None,
        ),
        (
            Refusal::SuperblockPending { disk: d.clone() },
            "superblock_pending",
            None,
        ),
        (
            Refusal::ClusterHasDisks { disk: d.clone() },
            "cluster_has_disks",
            None,
        ),
        (
            Refusal::ImportOverlaps {
                disk: d.clone(),
                volume: v.clone(),
            },
            "import_overlaps",
            None,
        ),
        (
            Refusal::VolumeInUse {
                volume: v.clone(),
                attachment: a.clone(),
            },
            "volume_in_use",
            None,
        ),
        (
            Refusal::Protected {
                kind,
                name: d.clone(),
            },
            "protected",
            None,
        ),
        (Refusal::NotAMember { id: Uuid(1) }, "node_not_a_member", None),
        (
            Refusal::IncarnationNotLater {
                node: n.clone(),
                known: Incarnation(2),
                told: Incarnation(1),
            },
            "incarnation_not_later",
            Some("incarnation"),
        ),
        (
            Refusal::FeatureLevelTooLow {
                node: n.clone(),
                level: FeatureLevel(0),
                needed: FeatureLevel(1),
            },
            "feature_level_too_low",
            Some("feature_level"),
        ),
        (
            Refusal::FeatureOff {
                needed: FeatureLevel(1),
                level: FeatureLevel(0),
            },
            "feature_off",
            None,
        ),
        (Refusal::NodeJoining { node: n.clone() }, "node_joining", None),
        (Refusal::NodeEvicted { node: n.clone() }, "node_evicted", None),
        (
            Refusal::OtherMembership {
                judged: Epoch(1),
                now: Epoch(2),
            },
            "other_membership",
            None,
        ),
        (
            Refusal::OtherIncarnation {
                node: n.clone(),
                known: Incarnation(2),
                told: Incarnation(1),
            },
            "other_incarnation",
            None,
        ),
        (
            Refusal::NodeInUse {
                node: n.clone(),
                kind,
                holder: d.clone(),
            },
            "node_in_use",
            None,
        ),
        (Refusal::LastVoter { node: n.clone() }, "last_voter", None),
        (
            Refusal::AddressTaken {
                address: ([10, 0, 0, 1], 7).into(),
                holder: n.clone(),
            },
            "address_taken",
            Some("addresses"),
        ),
        (Refusal::VolumeGoing { volume: v.clone() }, "volume_going", None),
        (Refusal::DiskGoing { disk: d.clone() }, "disk_going", None),
        (Refusal::NoDisk { node: n.clone() }, "no_disk", None),
        (
            Refusal::NoSpace {
                disk: d.clone(),
                wanted_sectors,
                free_sectors,
            },
            "no_space",
            Some("sectors"),
        ),
        (
            Refusal::Fragmented {
                disk: d.clone(),
                pieces_max: 1,
            },
            "fragmented",
            None,
        ),
        (
            Refusal::DiskTaken {
                disk: d.clone(),
                volume: v.clone(),
            },
            "disk_taken",
            None,
        ),
        (
            Refusal::CannotShrink {
                kind,
                name: d.clone(),
                sectors,
                wanted_sectors,
            },
            "cannot_shrink",
            Some("sectors"),
        ),
        (
            Refusal::BlockTooSmall {
                disk: d.clone(),
                disk_block_bytes: 4096,
                block_bytes: 512,
            },
            "block_too_small",
            Some("block_bytes"),
        ),
        (
            Refusal::DiskElsewhere {
                disk: d,
                disk_node: n.clone(),
                node: n,
            },
            "disk_elsewhere",
            None,
        ),
        (
            Refusal::SocketTaken {
                socket: "/s".into(),
                attachment: a.clone(),
            },
            "socket_taken",
            Some("socket"),
        ),
        (
            Refusal::HasWriter {
                volume: v.clone(),
                attachment: a.clone(),
            },
            "volume_has_writer",
            None,
        ),
        (
            Refusal::HasReaders {
                volume: v,
                attachment: a,
            },
            "volume_has_readers",
            None,
        ),
        (Refusal::TokenUnknown, "token_unknown", Some("token")),
        (
            Refusal::TokenExpired {
                token: t.clone(),
                ago_s: 1,
            },
            "token_expired",
            Some("token"),
        ),
        (
            Refusal::TokenUsed {
                token: t,
                node: name("n"),
            },
            "token_used",
            Some("token"),
        ),
        (
            Refusal::NodeKeyDiffers { node: name("n") },
            "node_key_differs",
            Some("key"),
        ),
        (Refusal::KeyTaken { holder: name("n") }, "key_taken", Some("key")),
    ];
    let mut written = String::new();
    for (refusal, code, field) in all {
        assert_eq!((refusal.code(), refusal.field()), (code, field));
        // What is in the way, and no advice: what to do about it depends on who is asked.
        let sentence = refusal.to_string();
        let what = sentence.trim_start_matches("disk d: ");
        assert!(!what.contains(": ") && !what.contains('`'), "{sentence}");
        let text = serde_json::to_string(&refusal).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&text).unwrap(), refusal);
        written += &(text + "\n");
    }
    // Members of different versions tell each other.
    assert_eq!(written, include_str!("golden/refusals.jsonl"));
}

/// Arguments and rules are told between members by name.
#[test]
fn an_argument_is_told_by_its_name_and_a_rule_is_a_clause() {
    for field in Field::ALL {
        assert_eq!(serde_json::to_value(field).unwrap(), field.as_str());
    }
    for rule in Rule::ALL {
        let text = rule.to_string();
        assert!(text.starts_with("must ") || text.starts_with("cannot "), "{text}");
        let told: Rule = serde_json::from_value(serde_json::to_value(rule).unwrap()).unwrap();
        assert_eq!(told, *rule);
    }
}

/// What an earlier version wrote, and what is left out, is read as it was meant.
#[test]
fn what_a_text_leaves_out_is_what_it_was_before_it_could_be_said() {
    let text = r#"{"name":"a","volume":"v","node":"n","socket":"/s","queues":1,"owner":null,"group":null,"mode":0,
                   "read_only":false,"serial":null,"write_cache":true}"#;
    let read: CreateAttachment = serde_json::from_str(text).unwrap();
    assert_eq!(
        (read.queue_size, read.limits),
        (
            256,
            Limits {
                iops: 0,
                bytes_per_second: 0,
                burst_ms: 100
            }
        )
    );
    let remove = RemoveDisk {
        name: Name::new("d").unwrap(),
        expected: None,
        releases: false,
    };
    let written = |releases| {
        serde_json::to_string(&RemoveDisk {
            releases,
            ..remove.clone()
        })
        .unwrap()
    };
    assert!(!written(false).contains("releases") && written(true).contains("\"releases\":true"));
    let read: RemoveDisk = serde_json::from_str(&written(true)).unwrap();
    assert!(read.releases);
}

#[test]
fn ids_are_read_in_the_form_that_they_are_written_in_and_in_no_other() {
    let id = LineageId(0x00ab_cdef << 96 | 7);
    let text = "\"00abcdef000000000000000000000007\"";
    assert_eq!(serde_json::to_string(&id).unwrap(), text);
    assert_eq!(serde_json::from_str::<LineageId>(text).unwrap(), id);
    for wrong in [
        "\"00abcdef00000000000000000000007\"",
        "\"00abcdef0000000000000000000000070\"",
        "\"+0abcdef000000000000000000000007\"",
        "\"00abcdeg000000000000000000000007\"",
    ] {
        assert!(serde_json::from_str::<LineageId>(wrong).is_err(), "{wrong}");
    }
    assert!(LineageId(0).is_nil() && !LineageId(1).is_nil());
    let uuid = Uuid(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    let text = "\"01234567-89ab-cdef-0011-223344556677\"";
    assert_eq!(serde_json::to_string(&uuid).unwrap(), text);
    assert_eq!(serde_json::from_str::<Uuid>(text).unwrap(), uuid);
    for (at, _) in text.match_indices('-') {
        let mut wrong = text.to_owned();
        wrong.replace_range(at..=at, "0");
        assert!(serde_json::from_str::<Uuid>(&wrong).is_err(), "{wrong}");
    }
    // No number goes beyond the end of 64 bits.
    assert_eq!(
        (Generation(7).next(), Generation(u64::MAX).next()),
        (Generation(8), Generation(u64::MAX))
    );
    assert_eq!(
        (Epoch(7).next(), Epoch(u64::MAX).next()),
        (Epoch(8), Epoch(u64::MAX))
    );
    assert_eq!(
        (Generation(7).to_string(), Epoch(8).to_string()),
        ("7".into(), "8".into())
    );
}

/// A map by name is looked up by text, and a name is a text where one is asked for.
#[test]
fn a_name_is_the_text_that_it_says() {
    let name = Name::new("web1").unwrap();
    let map = std::collections::BTreeMap::from([(name.clone(), 7)]);
    assert_eq!((map.get("web1"), map.get("web")), (Some(&7), None));
    let text: &str = name.as_ref();
    assert_eq!(
        (text, name.as_str(), String::from(name.clone())),
        ("web1", "web1", "web1".to_owned())
    );
    assert_eq!("web1".parse(), Ok(name));
}
