//! Wanted and in force: "agreed" is not "applied".

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a resource is from what was agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct State {
    /// The configuration in which the resource last changed. It only grows, is never used twice and is also the
    /// resource's ETag.
    pub generation: u64,
    /// The generation in force on this node; absent while nothing of the resource is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// What the node is waiting for, as a sentence; absent when it waits for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_on: Option<String>,
}

impl State {
    /// Whether what was agreed on is in force.
    pub fn is_applied(&self) -> bool {
        self.applied.is_some_and(|applied| applied >= self.generation)
    }
}

/// A resource that was asked for: just made, or there already with the same wishes.
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
