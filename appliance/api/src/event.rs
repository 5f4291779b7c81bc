//! What happened: the last few thousand things an operator may want to know.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How urgent an event is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing to be done.
    #[default]
    Info,
    /// Look at it some time.
    Warning,
    /// Look at it now.
    Error,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// It only grows, also across restarts of the daemon, and is never used twice. Not gapless.
    pub id: u64,
    /// When, in milliseconds since 1970 (UTC).
    pub unix_ms: u64,
    /// How urgent.
    pub severity: Severity,
    /// Stable name in snake_case, for programs.
    #[schema(example = "attachment_connected")]
    pub kind: String,
    /// What it is about, as `disk/d1`, `attachment/web1` or `node`.
    #[schema(example = "attachment/web1")]
    pub subject: String,
    /// A sentence.
    pub message: String,
}

/// Events in the order in which they happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events.
    pub items: Vec<Event>,
    /// Ask for events after this id next; absent when nothing has ever happened. Asking again later is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Whether events between the id asked for and the first one here are no longer kept.
    pub lost: bool,
}
