//! Every deliberate fault is found within a few seeds: the checkers can fail.

use palisade_sim::mutation::MUTATIONS;
use palisade_sim::scenario::named;
use palisade_sim::suite;

const SEEDS: u64 = 60;

#[test]
fn every_deliberate_fault_is_found() {
    palisade_sim::daemon::report_panics_as_findings();
    for mutation in MUTATIONS {
        let scenario = named(mutation.scenario).unwrap();
        let found = (1..=SEEDS).find(|seed| {
            !suite::run(scenario, *seed, Some(mutation.fault))
                .findings
                .is_empty()
        });
        let Some(seed) = found else {
            panic!("{} was not found by {SEEDS} seeds", mutation.name)
        };
        println!("{}: found by {} {seed}", mutation.name, scenario.name);
    }
}
