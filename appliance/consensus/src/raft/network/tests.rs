//! What goes between voters, to the byte; and what does not get in.

mod bytes;
mod refused;

use crate::raft::network::frame::*;
use crate::raft::network::message::*;
use crate::raft::record::{ContentRecord, EntryRecord, MembersRecord, PlaceRecord, VoteRecord};
use crate::raft::remembered::Shown;
use palisade_words::{Incarnation, Uuid};

fn shown() -> Shown {
    Shown {
        incarnation: Incarnation(3),
        run: Uuid(0x77),
        term: 5,
        voted_for: Uuid(8),
        is_elected: true,
        applied: Some(16),
    }
}

fn vote(term: u64, voted_for: u128, is_elected: bool) -> VoteRecord {
    VoteRecord {
        term,
        voted_for: Uuid(voted_for),
        is_elected,
    }
}

fn place(term: u64, index: u64) -> PlaceRecord {
    PlaceRecord { term, index }
}

fn message(content: VoterContent) -> VoterMessage {
    VoterMessage {
        cluster: Uuid(1),
        from: Uuid(8),
        to: Uuid(7),
        shown: shown(),
        told: Default::default(),
        content,
    }
}
