//! Why a configuration is refused.

use palisade_admin::StartError;

/// Why a configuration is refused.
#[derive(Debug)]
pub enum ConfigError {
    /// The text is not TOML or a value has the wrong type.
    Syntax {
        /// What the parser says, with line and column.
        message: String,
    },
    /// A key that does not exist.
    UnknownKey {
        /// The key with its section.
        key: String,
        /// The nearest one that does.
        nearest: Option<String>,
    },
    /// A value out of its range.
    Range {
        /// The key with its section.
        key: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// One setting is of no use without another.
    Alone {
        /// The one that is given.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// A core that no reactor can run on.
    Cores {
        /// What was given.
        given: Vec<usize>,
        /// Those that the kernel lets this process use.
        settable: Vec<usize>,
    },
    /// The port without a token would be reachable from other machines.
    WithoutToken {
        /// The address.
        listen: std::net::SocketAddr,
    },
    /// A group that this machine does not know.
    Group {
        /// The key with its section.
        key: &'static str,
        /// What was given.
        given: String,
    },
    /// A door to REST cannot be opened so.
    Door(Box<StartError>),
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigError::Syntax { message } => write!(f, "the configuration cannot be read: {message}"),
            ConfigError::UnknownKey {
                key,
                nearest: Some(nearest),
            } => {
                write!(f, "there is no setting `{key}`; did you mean `{nearest}`?")
            }
            ConfigError::UnknownKey { key, nearest: None } => write!(f, "there is no setting `{key}`"),
            ConfigError::Range { key, given, allowed } => {
                write!(f, "`{key}` is {given}, but must be {allowed}")
            }
            ConfigError::Alone { given, missing } => {
                write!(f, "`{given}` is set and `{missing}` is not: set both, or neither")
            }
            ConfigError::Cores { given, settable } => write!(
                f,
                "`reactors.cores` is {given:?}, but must be a list of different cores out of those that the kernel lets \
                 this process use: {settable:?} (its cpuset: /proc/self/status, Cpus_allowed_list, and the cgroup's \
                 cpuset.cpus.effective)"
            ),
            ConfigError::WithoutToken { listen } => write!(
                f,
                "`admin.loopback_without_token` is set and `admin.listen` is {listen}, which other machines can reach: \
                 listen on 127.0.0.1, or ask for a token"
            ),
            ConfigError::Group { key, given } => {
                write!(
                    f,
                    "`{key}` is {given:?}, and this machine has no such group: create it (groupadd --system {given}), or correct the name"
                )
            }
            ConfigError::Door(error) => write!(f, "{error}: {}", error.remedy()),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Door(error) => Some(error),
            _ => None,
        }
    }
}
