//! Why a configuration is refused.

use palisade_admin::AdminStartError;
use std::path::PathBuf;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is not TOML or a value has the wrong type.
    #[error("the configuration cannot be read: {message}")]
    Syntax {
        /// What the parser says, with line and column.
        message: String,
    },
    /// A key that does not exist.
    #[error("there is no setting `{key}`{}", suggestion(.nearest))]
    UnknownKey {
        /// The key with its section.
        key: String,
        /// The nearest one that does.
        nearest: Option<String>,
    },
    /// A value out of its range.
    #[error("`{key}` is {given}, but must be {allowed}")]
    Range {
        /// The key with its section.
        key: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A place that cannot be used.
    #[error("`{key}` is {path}, which {why}")]
    Place {
        /// The setting that it follows from.
        key: &'static str,
        /// The place.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// One setting is of no use without another.
    #[error("`{given}` is set and `{missing}` is not: set both, or neither")]
    Alone {
        /// The one that is given.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// A core that no reactor can run on.
    #[error(
        "`reactors.cores` is {given:?}, but must be a list of different cores out of those that the kernel lets \
         this process use: {settable:?} (its cpuset: /proc/self/status, Cpus_allowed_list, and the cgroup's \
         cpuset.cpus.effective)"
    )]
    Cores {
        /// What was given.
        given: Vec<usize>,
        /// Those that the kernel lets this process use.
        settable: Vec<usize>,
    },
    /// The port without a token would be reachable from other machines.
    #[error(
        "`admin.loopback_without_token` is set and `admin.listen` is {listen}, which other machines can reach: \
         listen on 127.0.0.1, or ask for a token"
    )]
    WithoutToken {
        /// The address.
        listen: std::net::SocketAddr,
    },
    /// A group that this machine does not know.
    #[error(
        "`{key}` is {given:?}, and this machine has no such group: create it (groupadd --system {given}), or \
         correct the name"
    )]
    Group {
        /// The key with its section.
        key: &'static str,
        /// What was given.
        given: String,
    },
    /// A door to REST cannot be opened so.
    #[error("{}: {}", .0, .0.remedy())]
    Door(#[source] Box<AdminStartError>),
}

fn suggestion(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => String::new(),
    }
}
