//! What a client is told when something did not work: a stable code, a sentence, and what to do.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use utoipa::ToSchema;

/// Whose fault it is and of what sort; decides the HTTP status (RFC 9110, section 15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The request cannot be read (400).
    Malformed,
    /// The token is missing or wrong (401).
    Unauthorized,
    /// The request may not be made this way (403).
    Forbidden,
    /// There is no such thing (404).
    NotFound,
    /// The address exists, the method does not (405).
    Method,
    /// The client took too long to say what it wants (408).
    Timeout,
    /// It clashes with what is there (409).
    Conflict,
    /// The resource is no longer the one the client has seen (412).
    Changed,
    /// The body is too long (413).
    TooLarge,
    /// The body is not JSON by its own account (415).
    MediaType,
    /// It is for another node to answer (421).
    Misdirected,
    /// It can be read and makes no sense (422).
    Invalid,
    /// The appliance failed; not the client's fault (500).
    #[default]
    Internal,
    /// The appliance cannot do it now (503).
    Unavailable,
    /// Whether it was done is not known (504).
    Undecided,
    /// No room is left on the disks (507).
    NoSpace,
}

impl ProblemKind {
    const ALL: [ProblemKind; 16] = [
        ProblemKind::Malformed,
        ProblemKind::Unauthorized,
        ProblemKind::Forbidden,
        ProblemKind::NotFound,
        ProblemKind::Method,
        ProblemKind::Timeout,
        ProblemKind::Conflict,
        ProblemKind::Changed,
        ProblemKind::TooLarge,
        ProblemKind::MediaType,
        ProblemKind::Misdirected,
        ProblemKind::Invalid,
        ProblemKind::Internal,
        ProblemKind::Unavailable,
        ProblemKind::Undecided,
        ProblemKind::NoSpace,
    ];

    /// The kind of an answer with this HTTP status, for a client: the body does not carry it.
    pub fn of_status(status: u16) -> Option<ProblemKind> {
        ProblemKind::ALL.into_iter().find(|kind| kind.status() == status)
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            ProblemKind::Malformed => 400,
            ProblemKind::Unauthorized => 401,
            ProblemKind::Forbidden => 403,
            ProblemKind::NotFound => 404,
            ProblemKind::Method => 405,
            ProblemKind::Timeout => 408,
            ProblemKind::Conflict => 409,
            ProblemKind::Changed => 412,
            ProblemKind::TooLarge => 413,
            ProblemKind::MediaType => 415,
            ProblemKind::Misdirected => 421,
            ProblemKind::Invalid => 422,
            ProblemKind::Internal => 500,
            ProblemKind::Unavailable => 503,
            ProblemKind::Undecided => 504,
            ProblemKind::NoSpace => 507,
        }
    }
}

/// A node that can answer what another one cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeToAsk {
    /// Its name.
    pub node: String,
    /// Where its own interface is reached from other machines, as far as that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["https://192.0.2.2:7780"]))]
    pub addresses: Vec<String>,
}

/// An error as REST gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct Problem {
    /// Stable name in snake_case, for programs.
    #[schema(value_type = String, example = "volume_in_use")]
    pub code: Cow<'static, str>,
    /// What was tried, on what, and why it failed, for people.
    #[schema(example = "volume v1 cannot be deleted: attachment web1 offers it")]
    pub message: String,
    /// The field of the request it is about, as a path such as `file.path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do about it.
    #[schema(example = "delete the attachment first: palisade attachment delete web1")]
    pub remedy: String,
    /// The node to ask instead, where another one has to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Box<NodeToAsk>>,
    /// Seconds after which the same request may be answered otherwise; in the header Retry-After too. Asking again is harmless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// Decides the HTTP status; not part of the body. A client sets it by [`ProblemKind::of_status`].
    #[serde(skip)]
    pub kind: ProblemKind,
}

impl Problem {
    /// A problem of any kind.
    pub fn new(
        kind: ProblemKind,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Problem {
        Problem {
            code: code.into(),
            message: message.into(),
            field: None,
            remedy: remedy.into(),
            ask: None,
            retry_after_s: None,
            kind,
        }
    }

    /// The same, about a field of the request.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Problem {
        self.field = Some(field.into());
        self
    }

    /// There is no `resource` ("disk", "volume", "attachment", "node", "token") of this id.
    pub fn not_found(resource: &str, id: &str) -> Problem {
        let resource = in_full(resource);
        Problem::new(
            ProblemKind::NotFound,
            format!("{resource}_not_found"),
            format!("there is no {} {id:?}", resource.replace('_', " ")),
            format!("see what there is: {}", listed_by(resource)),
        )
    }

    /// A resource of this id exists and was made with other requests; `differs` is the first field that differs.
    pub fn exists(resource: &str, id: &str, differs: &str) -> Problem {
        if in_full(resource) == JOIN_TOKEN {
            return Problem::join_token_exists(id);
        }
        Problem::new(
            ProblemKind::Conflict,
            format!("{resource}_exists"),
            format!("{resource} {id:?} exists already and differs from what was asked for in `{differs}`"),
            match resource {
                "node" => format!(
                    "choose another name, or look at the one that is there: {}",
                    listed_by(resource)
                ),
                _ => format!(
                    "choose another id, or look at the one that is there: palisade {resource} show {id}"
                ),
            },
        )
        .about(differs)
    }

    /// A join token of this id exists already. Its text was told when it was made and is kept by nobody, so that the same request
    /// again cannot be answered with it.
    pub fn join_token_exists(id: &str) -> Problem {
        Problem::new(
            ProblemKind::Conflict,
            "join_token_exists",
            format!("join token {id:?} exists already, and its text was told once, when it was made"),
            format!("choose another id, or take that one back and make it anew: palisade cluster token revoke {id}"),
        )
        .about("id")
    }

    /// The resource is of generation `present`; the client wanted to change generation `expected`.
    pub fn changed(resource: &str, id: &str, expected: u64, present: u64) -> Problem {
        Problem::new(
            ProblemKind::Changed,
            "changed_meanwhile",
            format!(
                "{resource} {id:?} was not touched: it is now of generation {present}, the request expects {expected}"
            ),
            format!(
                "read the {resource} again, decide again, and name its new generation: --expect {present} on the command \
                 line, its ETag in If-Match in REST"
            ),
        )
    }

    /// It is for another node to answer, which is reached at `addresses` as far as they are known.
    pub fn elsewhere(node: &str, answers: &str, addresses: &[String]) -> Problem {
        let message = format!("only node {node} can answer this, and node {answers} was asked");
        Problem::misdirected("node_elsewhere", message, node, addresses)
    }

    /// Changes are taken by the leader, which is another node.
    pub fn not_leader(leader: &str, addresses: &[String]) -> Problem {
        let message =
            format!("node {leader} leads the cluster and takes its changes; nothing has been changed");
        Problem::misdirected("not_leader", message, leader, addresses)
    }

    /// Changes are taken by the leader, and none is known.
    pub fn no_leader() -> Problem {
        Problem::new(
            ProblemKind::Unavailable,
            "no_leader",
            "the cluster has no leader that this node knows of; nothing has been changed",
            "try again in a moment: a cluster of which a majority runs elects one within seconds",
        )
        .again_after(1)
    }

    /// A change was proposed, and whether it is agreed on is not known.
    pub fn outcome_unknown() -> Problem {
        Problem::new(
            ProblemKind::Undecided,
            "outcome_unknown",
            "the change was proposed, and whether it is agreed on is not known",
            "ask for the same again, or look whether it is there: nothing is done twice",
        )
        .again_after(1)
    }

    /// The same, with the seconds after which asking again may help.
    #[must_use]
    fn again_after(mut self, seconds: u32) -> Problem {
        self.retry_after_s = Some(seconds);
        self
    }

    fn misdirected(code: &'static str, message: String, node: &str, addresses: &[String]) -> Problem {
        let remedy = match addresses {
            [] => format!("ask node {node} itself"),
            known => format!("ask node {node} itself: {}", known.join(", ")),
        };
        let ask = NodeToAsk {
            node: node.to_owned(),
            addresses: addresses.to_vec(),
        };
        Problem {
            ask: Some(Box::new(ask)),
            ..Problem::new(ProblemKind::Misdirected, code, message, remedy)
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.kind.status()
    }
}

/// A token that lets a node in. REST has tokens of other kinds, which let operators in.
const JOIN_TOKEN: &str = "join_token";

/// The name of a kind of resource in codes.
fn in_full(resource: &str) -> &str {
    match resource {
        "token" => JOIN_TOKEN,
        other => other,
    }
}

/// The command that lists all of a kind.
fn listed_by(resource: &str) -> String {
    match resource {
        "node" => "palisade nodes".to_owned(),
        JOIN_TOKEN => "palisade cluster token list".to_owned(),
        _ => format!("palisade {resource} list"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a remedy tells to type is there for each kind of thing.
    #[test]
    fn what_is_not_there_is_told_with_the_command_that_lists_its_kind() {
        for (resource, code, message, remedy) in [
            (
                "disk",
                "disk_not_found",
                "there is no disk \"x\"",
                "palisade disk list",
            ),
            (
                "node",
                "node_not_found",
                "there is no node \"x\"",
                "palisade nodes",
            ),
            (
                "token",
                "join_token_not_found",
                "there is no join token \"x\"",
                "palisade cluster token list",
            ),
        ] {
            let problem = Problem::not_found(resource, "x");
            assert_eq!((&*problem.code, &*problem.message), (code, message));
            assert_eq!(problem.remedy, format!("see what there is: {remedy}"));
        }
        for resource in ["token", "join_token"] {
            let again = Problem::exists(resource, "x", "role");
            assert_eq!(again, Problem::join_token_exists("x"));
        }
        assert!(
            Problem::exists("node", "x", "addresses")
                .remedy
                .ends_with(": palisade nodes")
        );
    }

    #[test]
    fn a_client_knows_each_kind_by_its_status() {
        for kind in ProblemKind::ALL {
            assert_eq!(ProblemKind::of_status(kind.status()), Some(kind));
        }
        assert_eq!(ProblemKind::of_status(200), None);
        assert_eq!(ProblemKind::of_status(418), None);
    }
}
