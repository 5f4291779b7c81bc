//! What happened, and who did what: the last thousands of things an operator may want to know, kept across restarts.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
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

/// Which event of a cluster: the node on which it happened, and its number there. Written `NODE:NUMBER`, or the number
/// alone, which means the node that is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId {
    /// Permanent id of the node; empty: the node that is asked.
    pub node: String,
    /// It only grows on its node, also across restarts of the daemon, and is never used twice. Not gapless.
    pub number: u64,
}

/// A text that is no id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event's id is NODE:NUMBER, or the number alone")]
pub struct EventIdError;

impl EventId {
    /// Of the node that is asked.
    pub fn here(number: u64) -> EventId {
        EventId {
            node: String::new(),
            number,
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node.is_empty() {
            true => write!(f, "{}", self.number),
            false => write!(f, "{}:{}", self.node, self.number),
        }
    }
}

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<EventId, EventIdError> {
        let (node, number) = text.rsplit_once(':').unwrap_or(("", text));
        Ok(EventId {
            node: node.to_owned(),
            number: number.parse().map_err(|_| EventIdError)?,
        })
    }
}

impl TryFrom<String> for EventId {
    type Error = EventIdError;

    fn try_from(text: String) -> Result<EventId, EventIdError> {
        text.parse()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> String {
        id.to_string()
    }
}

/// Who brought something about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// The appliance itself, or a guest: nobody gave a command.
    #[default]
    Appliance,
    /// A user of the node's machine; the kernel has said who it is.
    User {
        /// The user's number.
        uid: u32,
        /// The name that the machine knows the user by, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Whoever has shown a token.
    Token {
        /// Which of the tokens that the daemon's configuration names: `admin` or `read`.
        name: String,
    },
    /// Nobody knows: the request showed nothing, or nothing that is in force.
    Unknown,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Appliance => f.write_str("the appliance"),
            Actor::User { uid, name: None } => write!(f, "uid {uid}"),
            Actor::User {
                uid,
                name: Some(name),
            } => write!(f, "{name} (uid {uid})"),
            Actor::Token { name } => write!(f, "token {name}"),
            Actor::Unknown => f.write_str("unknown"),
        }
    }
}

/// Which way a command came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Entrance {
    /// By the Unix socket of the interface.
    Socket,
    /// By its TCP port.
    Tcp,
}

/// Where a command came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandSource {
    /// Which way it came in.
    pub by: Entrance,
    /// Path of the socket, or address and port of the client.
    #[schema(example = "192.0.2.7:40112")]
    pub address: String,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It was agreed on.
    Done,
    /// It was not carried out, for a reason that lies with the request or with what is there.
    Refused,
    /// The appliance could not carry it out, or it is not known whether it did.
    Failed,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandResult {
    /// How it ended.
    pub ending: Ending,
    /// The code of the problem that the client was answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "volume_in_use")]
    pub code: Option<String>,
}

impl fmt::Display for CommandResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = match self.ending {
            Ending::Done => "done",
            Ending::Refused => "refused",
            Ending::Failed => "failed",
        };
        match &self.code {
            None => f.write_str(ending),
            Some(code) => write!(f, "{ending}: {code}"),
        }
    }
}

/// One event. What an operator has commanded carries the command and its result as well: those events are the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Of its own in the cluster: `NODE:NUMBER`. The number only grows on its node, also across restarts of the daemon, and
    /// is never used twice. Not gapless.
    #[schema(value_type = String, example = "6f1c5a52-3d0e-4b0a-9d9c-3f4c2f1d9a11:1795224000000001")]
    pub id: EventId,
    /// Name of the node on which it happened.
    pub node: String,
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
    /// Who brought it about.
    #[serde(default)]
    pub actor: Actor,
    /// Where the command came from; absent when nobody gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<CommandSource>,
    /// What was asked for: method, address and body, the longest cut off. Absent when nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "POST /v1/volumes {\"id\":\"v1\",\"bytes\":10737418240}")]
    pub command: Option<String>,
    /// What became of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<CommandResult>,
}

impl Event {
    /// Something that happened by itself. Its id, node and time are given when it is kept.
    pub fn new(
        severity: Severity,
        kind: impl Into<String>,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Event {
        Event {
            id: EventId::default(),
            node: String::new(),
            unix_ms: 0,
            severity,
            kind: kind.into(),
            subject: subject.into(),
            message: message.into(),
            actor: Actor::Appliance,
            source: None,
            command: None,
            result: None,
        }
    }
}

/// Events in the order in which they happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events.
    pub items: Vec<Event>,
    /// Ask for events after this id next; absent when nothing has ever happened. Asking again later is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub next: Option<EventId>,
    /// Whether events between the id asked for and the last one here are no longer kept, or never could be.
    pub lost: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let whole = EventId {
            node: "6f1c5a52-3d0e-4b0a-9d9c-3f4c2f1d9a11".into(),
            number: 7,
        };
        assert_eq!(whole.to_string().parse(), Ok(whole.clone()));
        assert_eq!("7".parse(), Ok(EventId::here(7)));
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(json, "\"6f1c5a52-3d0e-4b0a-9d9c-3f4c2f1d9a11:7\"");
        assert_eq!(serde_json::from_str::<EventId>(&json).unwrap(), whole);
        for bad in ["", "x", "a:", ":x", "-1", "1 "] {
            assert_eq!(bad.parse::<EventId>(), Err(EventIdError), "{bad}");
        }
    }

    #[test]
    fn who_and_how_are_said_in_few_words() {
        let root = Actor::User {
            uid: 0,
            name: Some("root".into()),
        };
        assert_eq!(root.to_string(), "root (uid 0)");
        assert_eq!(Actor::User { uid: 7, name: None }.to_string(), "uid 7");
        let json = serde_json::to_string(&root).unwrap();
        assert_eq!(json, r#"{"kind":"user","uid":0,"name":"root"}"#);
        let refused = CommandResult {
            ending: Ending::Refused,
            code: Some("volume_in_use".into()),
        };
        assert_eq!(refused.to_string(), "refused: volume_in_use");
    }
}
