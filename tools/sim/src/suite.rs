//! One scenario with one seed.

use crate::finding::Finding;
use crate::plan::Break;
use crate::rng::{Rng, RunHash};
use crate::scenario::Scenario;
use crate::world;

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Hash over everything that happened: the same seed gives the same.
    pub hash: RunHash,
    /// What must not have happened.
    pub findings: Vec<Finding>,
    /// Steps taken.
    pub steps: u64,
    /// Requests made.
    pub requests: u64,
}

/// Runs it, with a deliberate fault or without.
pub fn run(scenario: &Scenario, seed: u64, broken: Option<Break>) -> Report {
    let mut plan = (scenario.plan)(&mut Rng::new(seed).split(scenario.name));
    plan.broken = broken;
    let outcome = world::run(&plan, seed);
    Report {
        hash: outcome.hash,
        findings: outcome.findings,
        steps: outcome.steps,
        requests: outcome.requests,
    }
}
