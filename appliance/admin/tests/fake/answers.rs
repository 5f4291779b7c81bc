//! What it answers to changes that it does not make.

use palisade_api::{Problem, ProblemKind, Removal, State};

pub fn guard(resource: &str, id: &str, present: &State, expected: Option<u64>) -> Result<(), Problem> {
    match expected {
        Some(expected) if expected != present.generation => {
            Err(Problem::changed(resource, id, expected, present.generation))
        }
        _ => Ok(()),
    }
}

pub fn removal(resource: &str, id: &str, state: &State) -> Removal {
    Removal {
        subject: format!("{resource} {id}"),
        generation: state.generation,
        effects: vec![format!("{resource} {id} is gone")],
    }
}

pub fn in_use(resource: &str, id: &str, by: &str) -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        format!("{resource}_in_use"),
        format!("{resource} {id:?} is in use by {by}"),
        format!("give up {by} first"),
    )
}
