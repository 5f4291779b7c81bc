//! Any bytes as a frame between voters: a header is refused or is the one that those bytes are written as; a body that is taken
//! is written as the same body again; a part says no more than it has. Nothing panics, and no room is made for what is not there.
//!
//! The first byte says whether the check sums are put right, so that the fuzzer gets behind them.

#![no_main]

use crc_fast::{CrcAlgorithm, checksum};
use libfuzzer_sys::fuzz_target;
use palisade_consensus::raft::network::VoterMessage;
use palisade_consensus::raft::network::frame::{
    VOTER_BODY_BYTES_MAX, VOTER_HEADER_BYTES, VoterFrame, decode_part, encode_part,
};

fuzz_target!(|data: &[u8]| {
    let Some((settings, bytes)) = data.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    let is_right = settings & 1 == 1;
    if let Some(header) = bytes.first_chunk_mut::<VOTER_HEADER_BYTES>() {
        if is_right {
            let sum = crc32c(&header[..16]).to_le_bytes();
            header[16..].copy_from_slice(&sum);
        }
        if let Ok(frame) = VoterFrame::from_bytes(header) {
            assert!(frame.body_bytes <= VOTER_BODY_BYTES_MAX);
            assert_eq!(frame.to_bytes(), *header);
        }
    }
    let body = bytes.get_mut(VOTER_HEADER_BYTES..).unwrap_or_default();
    if let (true, Some((sum, rest))) = (is_right, body.split_first_chunk_mut::<4>()) {
        *sum = crc32c(rest).to_le_bytes();
    }
    if let Ok(message) = VoterMessage::decode(body) {
        let again = message.encode().expect("what was read can be written");
        assert_eq!(VoterMessage::decode(&again).expect("and read again"), message);
    }
    if let Ok((offset, part)) = decode_part(body) {
        assert!(part.len() < body.len());
        assert_eq!(encode_part(offset, part), body);
    }
});

fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
