//! A fixed set of seeds of every scenario finds nothing, and replays bit by bit.

use palisade_sim::scenario::{SCENARIOS, named};
use palisade_sim::suite;

const SEEDS: u64 = 24;

#[test]
fn a_fixed_set_of_seeds_finds_nothing() {
    palisade_sim::daemon::report_panics_as_findings();
    for scenario in SCENARIOS {
        for seed in 1..=SEEDS {
            let report = suite::run(scenario, seed, None);
            assert!(
                report.findings.is_empty(),
                "{} {seed}: {:#?}",
                scenario.name,
                report.findings
            );
        }
    }
}

#[test]
fn a_seed_replays_bit_by_bit_and_another_seed_goes_another_way() {
    for scenario in SCENARIOS {
        let first = suite::run(scenario, 3, None);
        assert_eq!(first, suite::run(scenario, 3, None), "{}", scenario.name);
        assert_ne!(
            first.hash,
            suite::run(scenario, 4, None).hash,
            "{}",
            scenario.name
        );
    }
}

/// Seeds that found something once: (scenario, seed, what it was).
const FOUND: &[(&str, u64, &str)] = &[
    (
        "sensing",
        100_194,
        "a node whose log was behind counted places by the membership of before, and was proposed for eviction",
    ),
    (
        "leases",
        105,
        "of three kinds of words that a change of voters makes, the first one was lost before the last ones were a majority",
    ),
    (
        "operator",
        1_795_889_043_045,
        "a disk left with its superblock erased in the device's cache alone, and a power cut brought it back",
    ),
    (
        "operator",
        1_795_889_043_142,
        "the medium of a disk that had left so was added anew, and carried the superblock of the one before",
    ),
    (
        "lineage",
        609,
        "an update under another cluster's id was written over the only copy of what an interrupted write had left",
    ),
    ("lineage", 1123, "the same"),
    (
        "lineage",
        300_301,
        "copies of before that an erasure brought to light were taken for what it wrote over",
    ),
    (
        "lineage",
        500_255,
        "an older copy that was rightly left whole by a removal was taken for one that it had missed",
    ),
    (
        "lineage",
        445,
        "while a disk got another cluster's id, the table before the one in force spoke for it",
    ),
    (
        "lineage",
        16,
        "a disk imported from another cluster was written again and again: an old copy spoke for it",
    ),
    (
        "lineage",
        322,
        "a disk that was adopted and given up before it was looked at again kept the superblock that had been adopted",
    ),
    (
        "lineage",
        20_000_958,
        "a medium that lay between the one that was chosen and the database was taken for the chosen one",
    ),
    (
        "lineage",
        20_003_373,
        "an older copy in which a bit had turned was taken for the rest of an erasure, and erased",
    ),
    (
        "lineage",
        20_002_072,
        "what a medium had come to with a damaged copy was not on record, and what was there before was taken for it",
    ),
    (
        "unrecorded",
        171,
        "what had been written since by another is rightly asked about, although a choice was made",
    ),
    (
        "rings",
        1,
        "the zeroes of a write-zeroes fallback were longer than the device takes",
    ),
    (
        "life",
        46,
        "a request was taken back because it was old, though its device had only just got its last part",
    ),
    ("kill", 217, "the same, after a restart"),
    (
        "scarce",
        226,
        "what a disk had that hung and then went away was never given back",
    ),
    ("scarce", 302, "the same"),
    (
        "scarce",
        1094,
        "a disk that gives back what is late counts as reported between two reports too",
    ),
    ("rings", 1869, "many pieces through one buffer take their time"),
    (
        "lists",
        700_215,
        "who waits for a buffer gets it in turn, and not when luck has it",
    ),
    (
        "lists",
        1_795_900_519_012,
        "each of many pieces that go one after the other rests when its device is busy",
    ),
];

#[test]
fn seeds_that_found_something_find_it_no_more() {
    for (scenario, seed, what) in FOUND {
        let report = suite::run(named(scenario).unwrap(), *seed, None);
        assert!(
            report.findings.is_empty(),
            "{scenario} {seed} ({what}): {:#?}",
            report.findings
        );
    }
}
