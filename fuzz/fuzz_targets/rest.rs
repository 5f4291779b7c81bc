//! Any body of a REST request: a value that can be written and read again, or one problem of bounded length.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_admin::parse_json;
use palisade_api::{
    AttachmentCreate, AttachmentPatch, ClusterInit, ClusterJoin, DiskCreate, DiskPatch, JOIN_TOKEN_PREFIX,
    JoinTokenCreate, NodePatch, Problem, RequestBody, VolumeCreate, VolumePatch, size,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Far above what a sentence with a shortened quotation needs.
const PROBLEM_BYTES_MAX: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let [kind, body @ ..] = data else { return };
    match kind % 11 {
        0 => there_and_back::<DiskCreate>(body),
        1 => there_and_back::<DiskPatch>(body),
        2 => there_and_back::<VolumeCreate>(body),
        3 => there_and_back::<VolumePatch>(body),
        4 => there_and_back::<AttachmentCreate>(body),
        5 => there_and_back::<AttachmentPatch>(body),
        6 => sizes(body),
        7 => judged::<ClusterInit>(body),
        8 => judged::<ClusterJoin>(body),
        9 => judged::<JoinTokenCreate>(body),
        _ => judged::<NodePatch>(body),
    }
});

/// Likewise, and what it must keep to by itself is said in one problem of bounded length that repeats no token.
fn judged<T: DeserializeOwned + Serialize + PartialEq + Debug + RequestBody>(body: &[u8]) {
    there_and_back::<T>(body);
    let Ok(value) = parse_json::<T>(body) else { return };
    if let Err(problem) = value.check() {
        check(&problem);
        for rest in problem.message.split(JOIN_TOKEN_PREFIX).skip(1) {
            assert!(
                !rest.starts_with(|c: char| c.is_ascii_alphanumeric()),
                "{}",
                problem.message
            );
        }
    }
}

fn there_and_back<T: DeserializeOwned + Serialize + PartialEq + Debug>(body: &[u8]) {
    match parse_json::<T>(body) {
        Ok(value) => {
            let written = serde_json::to_vec(&value).expect("what was read can be written");
            let again = parse_json::<T>(&written).expect("what was written can be read");
            assert_eq!(again, value);
        }
        Err(problem) => check(&problem),
    }
}

fn check(problem: &Problem) {
    assert!(matches!(problem.status(), 400 | 422), "{problem:?}");
    assert!(!problem.code.is_empty() && !problem.message.is_empty() && !problem.remedy.is_empty());
    let written = serde_json::to_vec(problem).expect("a problem can be written");
    // Escapes make up to six bytes of one.
    assert!(
        written.len() <= 6 * PROBLEM_BYTES_MAX,
        "{} bytes of problem",
        written.len()
    );
}

/// Sizes as people write them.
fn sizes(body: &[u8]) {
    if let Some(text) = body.first_chunk::<8>() {
        let bytes = u64::from_le_bytes(*text);
        let human = size::human(bytes);
        assert!(human.len() <= 12, "{human}");
        // At most the two decimals are lost.
        if let Ok(read) = size::parse(&human) {
            assert!(
                read <= bytes && bytes - read <= bytes / 100,
                "{bytes} is {human} is {read}"
            );
        }
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    match size::parse(text) {
        Ok(bytes) => assert_eq!(size::parse(&bytes.to_string()), Ok(bytes)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
