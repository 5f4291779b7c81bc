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
    /// The node that was asked does not know: only this other node itself can tell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub elsewhere: bool,
}

impl AppliedOn {
    /// How far another node is, which that node alone can tell.
    pub fn elsewhere() -> AppliedOn {
        AppliedOn {
            elsewhere: true,
            ..AppliedOn::default()
        }
    }
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

    /// The nodes that alone can tell how far they are, where all others have what was agreed on in force; `None` while one of those
    /// has not, or when there is none that is not known here.
    pub fn is_told_by(&self) -> Option<String> {
        let (elsewhere, known): (Vec<_>, Vec<_>) = self.applied.iter().partition(|(_, on)| on.elsewhere);
        let in_force = |on: &AppliedOn| on.generation.is_some_and(|applied| applied >= self.generation);
        let names: Vec<&str> = elsewhere.iter().map(|(node, _)| node.as_str()).collect();
        let is_so = !names.is_empty() && known.iter().all(|(_, on)| in_force(on));
        is_so.then(|| names.join(", "))
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
            elsewhere: false,
        }
    }

    /// Who waits for what he can never see waits for ever.
    #[test]
    fn what_another_node_alone_can_tell_is_said_to_be_told_there() {
        let mut state = State::on("b", 4, AppliedOn::elsewhere());
        assert!(!state.is_applied());
        assert_eq!(state.is_told_by().as_deref(), Some("b"));
        state.applied.insert("a".into(), on(Some(3), None));
        assert_eq!(
            state.is_told_by(),
            None,
            "the one that is asked has something to do"
        );
        state.applied.insert("a".into(), on(Some(4), None));
        state.applied.insert("c".into(), AppliedOn::elsewhere());
        assert_eq!(state.is_told_by().as_deref(), Some("b, c"));
        assert_eq!(State::on("a", 4, on(Some(4), None)).is_told_by(), None);
        let shown = serde_json::to_value(&state.applied["b"]).unwrap();
        assert_eq!(shown, serde_json::json!({ "elsewhere": true }));
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
