//! Each record as it is written down, and read again: what stands in files of voters may never be read otherwise.
//!
//! The golden file is never made anew. A record that changes is one of another format, beside this one.

use super::*;
use crate::raft::record::{AppliedRecord, OwnerRecord, StateRecord, VoteRecord};
use crate::record::{decode, digest, encode};
use palisade_model::Cluster;
use palisade_words::{Generation, LineageId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

const FORMAT_1: &str = include_str!("../../../tests/golden/voter-1.jsonl");

/// The line of a record: its checksum, then its text.
fn line(bytes: &[u8]) -> String {
    let (sum, text) = bytes.split_first_chunk::<4>().unwrap();
    let text = std::str::from_utf8(text).unwrap();
    format!("{:08x} {text}", u32::from_le_bytes(*sum))
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(lines: &mut std::str::Lines<'_>, value: T) {
    let golden = lines.next().unwrap_or_default();
    assert_eq!(line(&encode(&value).unwrap()), golden);
    let (sum, text) = golden.split_once(' ').unwrap();
    let mut bytes = u32::from_str_radix(sum, 16).unwrap().to_le_bytes().to_vec();
    bytes.extend(text.bytes());
    assert_eq!(decode::<T>(&bytes), Ok(value));
}

#[test]
fn each_record_has_the_bytes_that_it_had_from_the_first_version_on() {
    let lines = &mut FORMAT_1.lines();
    same(lines, OwnerRecord { node: NODE.0 });
    for is_elected in [false, true] {
        let vote = VoteRecord {
            term: 5,
            voted_for: Uuid(8),
            is_elected,
        };
        same(lines, vote);
    }
    same(lines, place(3, 17));
    let content = [
        ContentRecord::Term,
        ContentRecord::Command(Box::new(command(1))),
        ContentRecord::Members(members()),
    ];
    for (index, content) in (0..).zip(content) {
        let place = place(4, index);
        same(lines, EntryRecord { place, content });
    }
    let applied = AppliedRecord {
        place: place(4, 9),
        generation: Generation(6),
        lineage: LineageId(12),
        digest: 0x1234_5678,
    };
    same(lines, applied);
    let cluster = story::Story::new().at(Generation(1)).clone();
    for (place, cluster) in [(None, Cluster::empty()), (Some(place(4, 9)), cluster)] {
        let state = StateRecord {
            place,
            members_since: place,
            members: members(),
            digest: digest(&cluster).unwrap(),
            cluster,
        };
        same(lines, state);
    }
    assert_eq!(lines.next(), None);
}

/// A later version has written something down that this one does not know.
#[test]
fn a_record_with_more_in_it_is_refused() {
    let mut bytes =
        encode(&serde_json::json!({"place": {"term": 1, "index": 2}, "content": "term", "more": 1})).unwrap();
    assert!(decode::<EntryRecord>(&bytes).is_err());
    bytes = encode(&serde_json::json!({"place": {"term": 1, "index": 2}, "content": "term"})).unwrap();
    assert!(decode::<EntryRecord>(&bytes).is_ok());
}
