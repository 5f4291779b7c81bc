//! Wanted and in force: "agreed" is not "applied".

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How far a resource is from what was agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct State {
    /// The configuration in which the resource last changed. It only grows, is never used twice and is also the
    /// resource's ETag.
    pub generation: u64,
    /// How far each node is that has to do with the resource, by the node's name.
    pub applied: BTreeMap<String, AppliedOn>,
}

/// How far a node is with a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppliedOn {
    /// The generation of the resource that is in force on this node: superblocks are on their media. Absent while nothing of
    /// the resource is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// What the node is waiting for, as a sentence; absent when it waits for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_on: Option<String>,
}

impl State {
    /// Of a resource that one node has to do with.
    pub fn on(node: impl Into<String>, generation: u64, applied: AppliedOn) -> State {
        State {
            generation,
            applied: BTreeMap::from([(node.into(), applied)]),
        }
    }

    /// Whether what was agreed on is in force on every node that has to do with it.
    pub fn is_applied(&self) -> bool {
        let mut nodes = self.applied.values();
        !self.applied.is_empty()
            && nodes.all(|on| on.generation.is_some_and(|applied| applied >= self.generation))
    }

    /// What is waited for: a sentence, with the node's name before it where there are several nodes.
    pub fn blocked_on(&self) -> Option<String> {
        let one = |(node, on): (&String, &AppliedOn)| {
            let why = on.blocked_on.as_ref()?;
            Some(match self.applied.len() {
                1 => why.clone(),
                _ => format!("{node}: {why}"),
            })
        };
        let all: Vec<String> = self.applied.iter().filter_map(one).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// A resource that was asked for: just made, or there already with the same requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created<T> {
    /// It did not exist before (201).
    New(T),
    /// It existed, and was made by the same request (200).
    Existing(T),
}

impl<T> Created<T> {
    /// The resource, whichever way it came.
    pub fn into_inner(self) -> T {
        match self {
            Created::New(resource) | Created::Existing(resource) => resource,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(generation: Option<u64>, blocked_on: Option<&str>) -> AppliedOn {
        AppliedOn {
            generation,
            blocked_on: blocked_on.map(str::to_owned),
        }
    }

    #[test]
    fn it_is_applied_when_it_is_on_every_node_that_has_to_do_with_it() {
        let mut state = State::on("a", 4, on(Some(4), None));
        assert!(state.is_applied());
        state
            .applied
            .insert("b".into(), on(Some(3), Some("waits for disk d1")));
        assert!(!state.is_applied());
        assert_eq!(state.blocked_on().as_deref(), Some("b: waits for disk d1"));
        state.applied.insert("b".into(), on(Some(5), None));
        assert!(state.is_applied() && state.blocked_on().is_none());
        state.applied.insert("c".into(), on(None, None));
        assert!(!state.is_applied());
        assert!(!State::default().is_applied());
        let alone = State::on("a", 4, on(None, Some("waits")));
        assert_eq!(alone.blocked_on().as_deref(), Some("waits"));
    }
}
