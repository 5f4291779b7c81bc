//! One scenario with one seed.

use crate::finding::{Finding, Findings};
use crate::plan::Break;
use crate::rng::{Rng, RunHash};
use crate::scenario::{Run, Scenario};
use crate::source::Meddling;
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
    let mut rng = Rng::new(seed).split(scenario.name);
    match scenario.run {
        Run::World(plan) => {
            let mut plan = plan(&mut rng);
            plan.broken = broken;
            if broken == Some(Break::Source(Meddling::HideFailure)) {
                // It is disks' failures that are to be hidden, not the refusal of what was foolish.
                plan.guests
                    .iter_mut()
                    .for_each(|guest| guest.habits.foolish_permille = 0);
            }
            let outcome = world::run(&plan, seed);
            Report {
                hash: outcome.hash,
                findings: outcome.findings,
                steps: outcome.steps,
                requests: outcome.requests,
            }
        }
        Run::Alone(run) => {
            let findings = Findings::default();
            let hash = run(rng, broken, &findings);
            Report {
                hash,
                findings: findings.list(),
                steps: 0,
                requests: 0,
            }
        }
    }
}
