//! Every deliberate fault is found within a few seeds, by the checker that is meant to find it: each of them can fail.

use palisade_sim::mutation::MUTATIONS;
use palisade_sim::scenario::named;
use palisade_sim::suite;

const SEEDS: u64 = 60;

#[test]
fn every_deliberate_fault_is_found() {
    palisade_sim::daemon::report_panics_as_findings();
    let mut others = Vec::new();
    for mutation in MUTATIONS {
        let scenario = named(mutation.scenario).unwrap();
        let runs = (1..=SEEDS).map(|seed| (seed, suite::run(scenario, seed, Some(mutation.fault)).findings));
        let found = runs.into_iter().find(|(_, findings)| !findings.is_empty());
        let Some((seed, findings)) = found else {
            panic!("{} was not found by {SEEDS} seeds", mutation.name)
        };
        let by = findings[0].invariant;
        if by != mutation.finds {
            others.push(format!("{} (seed {seed}): {}", mutation.name, findings[0]));
        }
        println!("{}: found by {} {seed}", mutation.name, scenario.name);
    }
    assert!(others.is_empty(), "found by another checker: {others:#?}");
}
