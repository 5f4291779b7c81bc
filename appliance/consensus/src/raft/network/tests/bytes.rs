//! The bytes of every message and frame: what another version says may never be read otherwise.

use super::*;
use crate::raft::proposal::EntryOutcome;
use crate::story;
use palisade_model::{Command, Kind, Outcome, Refusal};
use palisade_words::{Generation, Name};
use std::collections::{BTreeMap, BTreeSet};

const VERSION_1: &str = include_str!("../../../../tests/golden/between-voters-1.jsonl");

fn entries() -> Vec<EntryRecord> {
    let members = MembersRecord {
        voters: vec![
            BTreeSet::from([Uuid(7)]),
            BTreeSet::from([Uuid(7), Uuid(8), Uuid(9)]),
        ],
        learners: BTreeSet::from([Uuid(10)]),
    };
    let contents = [
        ContentRecord::Term,
        ContentRecord::Command(Box::new(story::command(1))),
        ContentRecord::Members(members),
    ];
    let entries = (17..).zip(contents);
    let entries = entries.map(|(index, content)| EntryRecord {
        place: place(5, index),
        content,
    });
    entries.collect()
}

fn all() -> Vec<VoterMessage> {
    let candidacy = |is_handed_over| CandidacyRecord {
        vote: vote(6, 8, false),
        last: Some(place(5, 19)),
        is_handed_over,
    };
    let refusal = Refusal::NotFound {
        kind: Kind::Volume,
        name: Name::new("v1").unwrap(),
    };
    let proposed = |outcome| {
        VoterContent::Proposed(ProposedRecord {
            place: place(5, 20),
            outcome,
        })
    };
    let contents = [
        VoterContent::Append(AppendRecord {
            vote: vote(5, 8, true),
            previous: Some(place(4, 16)),
            entries: entries(),
            committed: Some(place(4, 15)),
            has_majority: true,
        }),
        VoterContent::Append(AppendRecord {
            vote: vote(5, 8, true),
            previous: None,
            entries: Vec::new(),
            committed: None,
            has_majority: false,
        }),
        VoterContent::Appended(AppendedRecord::All),
        VoterContent::Appended(AppendedRecord::UpTo(Some(place(5, 18)))),
        VoterContent::Appended(AppendedRecord::Conflict),
        VoterContent::Appended(AppendedRecord::HigherVote(vote(7, 9, false))),
        VoterContent::Vote(candidacy(false)),
        VoterContent::PreVote(candidacy(true)),
        VoterContent::Voted(VotedRecord {
            vote: vote(6, 8, false),
            is_granted: true,
            last: None,
        }),
        VoterContent::State(StateOffer {
            vote: vote(5, 8, true),
            place: Some(place(5, 18)),
            members_since: Some(place(1, 2)),
            members: MembersRecord {
                voters: vec![BTreeSet::from([Uuid(8)])],
                learners: BTreeSet::new(),
            },
            bytes: 70_000,
        }),
        VoterContent::StateTaken(vote(5, 8, true)),
        VoterContent::Propose(AskedRecord {
            command: Box::new(Command::HoldClearings),
            within_ms: 1_500,
        }),
        proposed(EntryOutcome::Nothing),
        proposed(EntryOutcome::Applied(Outcome::Changed {
            revision: Generation(9),
        })),
        proposed(EntryOutcome::Refused(refusal)),
        VoterContent::Read(WithinRecord { within_ms: 40 }),
        VoterContent::ReadUpTo(20),
        VoterContent::LedBy(Some(Uuid(9))),
        VoterContent::LedBy(None),
        VoterContent::NotKnown,
        VoterContent::Refused("why".into()),
    ];
    let mut all: Vec<VoterMessage> = contents.map(message).into();
    all[1].told = BTreeMap::from([(Uuid(9), shown())]);
    all
}

#[test]
fn each_message_has_the_bytes_that_it_had_from_the_first_version_on() {
    let line = |message: &VoterMessage| {
        let body = message.encode().unwrap();
        assert_eq!(VoterMessage::decode(&body).as_ref(), Ok(message));
        let (sum, text) = body.split_first_chunk::<4>().unwrap();
        format!(
            "{:08x} {}",
            u32::from_le_bytes(*sum),
            std::str::from_utf8(text).unwrap()
        )
    };
    let found: Vec<String> = all().iter().map(line).collect();
    assert_eq!(found, VERSION_1.lines().collect::<Vec<_>>());
}

#[test]
fn a_header_has_the_bytes_that_it_had_from_the_first_version_on() {
    let cases = [
        (
            (VoterFrameKind::Question, 1, 300),
            "50564f540101000001000000 2c010000 f86b1d38",
        ),
        (
            (VoterFrameKind::Answer, 0xa1b2_c3d4, 0),
            "50564f5401020000d4c3b2a1 00000000 d5388c41",
        ),
        (
            (VoterFrameKind::Part, 7, VOTER_BODY_BYTES_MAX),
            "50564f540103000007000000 00000002 bf2e4ebe",
        ),
    ];
    for ((kind, number, body_bytes), golden) in cases {
        let frame = VoterFrame {
            kind,
            number,
            body_bytes,
        };
        let bytes = frame.to_bytes();
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, golden.replace(' ', ""), "{frame:?}");
        assert_eq!(VoterFrame::from_bytes(&bytes), Ok(frame));
    }
    let part = encode_part(0x1_0000_0002, b"abc");
    let text: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text, "8e9ff2bf0200000001000000616263");
    assert_eq!(decode_part(&part), Ok((0x1_0000_0002, &b"abc"[..])));
}

#[test]
fn a_header_that_is_not_ours_is_refused_and_each_turned_bit_is_noticed() {
    let good = VoterFrame {
        kind: VoterFrameKind::Question,
        number: 5,
        body_bytes: 9,
    };
    for bit in 0..VOTER_HEADER_BYTES * 8 {
        let mut turned = good.to_bytes();
        turned[bit / 8] ^= 1 << (bit % 8);
        assert!(VoterFrame::from_bytes(&turned).is_err(), "bit {bit}");
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = good.to_bytes();
        bytes[at] = byte;
        let sum = crate::record::crc32c(&bytes[..16]).to_le_bytes();
        bytes[16..].copy_from_slice(&sum);
        VoterFrame::from_bytes(&bytes)
    };
    assert_eq!(with(0, b'X'), Err(VoterFrameError::Magic));
    assert_eq!(with(4, 2), Err(VoterFrameError::Version { found: 2 }));
    assert_eq!(with(5, 9), Err(VoterFrameError::Kind { found: 9 }));
    assert_eq!(with(7, 1), Err(VoterFrameError::Reserved));
    assert!(with(15, 1).is_ok());
    assert!(matches!(with(15, 3), Err(VoterFrameError::TooLong { .. })));
}

#[test]
fn a_body_that_is_damaged_or_says_more_than_is_known_is_refused() {
    let body = message(VoterContent::NotKnown).encode().unwrap();
    for at in 0..body.len() {
        let mut turned = body.clone();
        turned[at] ^= 1;
        assert_eq!(
            VoterMessage::decode(&turned),
            Err(VoterFrameError::Checksum { part: "body" })
        );
        assert!(VoterMessage::decode(&body[..at]).is_err());
    }
    let mut text: serde_json::Value = serde_json::from_slice(&body[4..]).unwrap();
    text["more"] = 1.into();
    let more = VoterMessage::decode(&crate::record::encode(&text).unwrap()).unwrap_err();
    assert!(more.to_string().contains("more"), "{more}");
    let mut turned = encode_part(0, b"abc");
    turned[13] ^= 1;
    assert!(decode_part(&turned).is_err());
    assert!(decode_part(&encode_part(0, b"")[..9]).is_err());
}

#[test]
fn entries_that_are_too_many_for_one_frame_are_halved() {
    let mut append = AppendRecord {
        vote: vote(5, 8, true),
        previous: Some(place(4, 16)),
        entries: entries(),
        committed: None,
        has_majority: false,
    };
    assert_eq!(append.last(), Some(place(5, 19)));
    assert!(append.halve());
    assert_eq!((append.entries.len(), append.last()), (1, Some(place(5, 17))));
    assert!(!append.halve());
}
