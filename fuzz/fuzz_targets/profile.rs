//! Any profile of a machine: one that can be written and read again, or a sentence.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_preflight::Profile;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Profile::parse(text) {
        Ok(profile) => {
            let written = toml::to_string(&profile).expect("what was read can be written");
            assert_eq!(Profile::parse(&written).as_ref(), Ok(&profile), "{written}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
