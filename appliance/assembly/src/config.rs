//! The configuration: one definition for file, flags, defaults and the printed sample.
//!
//! Each section is one struct of optional fields that both the TOML file and the command line fill; what the command
//! line gives wins over the file, the file over the default. [`Config::resolve`] turns the result into [`Settings`],
//! where nothing is optional any more and everything has been checked.

use clap::Args;
use palisade_block::Nanos;
use palisade_engine::IdlePolicy;
use palisade_model::Name;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What may be configured, in a file or by flags.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of the cluster database [default: /var/lib/palisade]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathBuf>,
    /// Directory of the attachments' sockets [default: /run/palisade]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_dir: Option<PathBuf>,
    /// Name of this node, used once when the database is made [default: node-1]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The threads that carry requests.
    #[command(flatten)]
    pub reactors: ReactorsConfig,
    /// Patience with devices.
    #[command(flatten)]
    pub devices: DevicesConfig,
    /// The REST port.
    #[command(flatten)]
    pub admin: AdminSection,
}

/// `[reactors]`
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReactorsConfig {
    /// Cores to run one reactor on each [default: the last core this process may use]
    #[arg(long = "reactors-cores", value_name = "CORE", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<Vec<usize>>,
    /// "adaptive" sleeps when there is nothing to do, "always-poll" never does [default: adaptive]
    #[arg(long = "reactors-mode", value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Microseconds without work before an adaptive reactor that is busy sleeps, four times as many while its devices
    /// are at work; others sleep at once [default: 50]
    #[arg(long = "reactors-idle-us", value_name = "US")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_us: Option<u64>,
    /// Requests in flight per reactor [default: 2048]
    #[arg(long = "reactors-slots", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// MiB of bounce buffers per reactor, in hugepages where there are any [default: 16]
    #[arg(long = "reactors-pool-mib", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_mib: Option<u32>,
}

/// How a reactor waits for work.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Polls while busy, sleeps when idle.
    Adaptive,
    /// Polls always: one core at 100 %.
    AlwaysPoll,
}

/// `[devices]`
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DevicesConfig {
    /// Seconds after which an operation counts as stalled [default: 30]
    #[arg(long = "devices-stall-s", value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_s: Option<u64>,
    /// Seconds to wait for the lock of a disk whose last user is still being cleared away [default: 10]
    #[arg(long = "devices-lock-wait-s", value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_wait_s: Option<u64>,
}

/// `[admin]`
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSection {
    /// Address of the REST port [default: 127.0.0.1:7780]
    #[arg(long = "admin-listen", value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// File with the bearer token; required beyond loopback
    #[arg(long = "admin-token-file", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the certificate chain; required beyond loopback
    #[arg(long = "admin-certificate", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long = "admin-key", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Directory of the cluster database.
    pub state_dir: PathBuf,
    /// Directory of the sockets.
    pub run_dir: PathBuf,
    /// This node's name, for a new database.
    pub node: String,
    /// One reactor on each of these cores.
    pub cores: Vec<usize>,
    /// How reactors wait.
    pub idle: IdlePolicy,
    /// Requests in flight per reactor.
    pub slots: u32,
    /// Bounce buffers per reactor.
    pub pool_buffers: usize,
    /// Age at which an operation counts as stalled.
    pub stall: Nanos,
    /// Patience with a disk's lock.
    pub lock_wait: std::time::Duration,
    /// Address of the REST port.
    pub listen: SocketAddr,
    /// Bearer token file.
    pub token_file: Option<PathBuf>,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
}

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
    /// A file that is named cannot be read.
    File {
        /// The key with its section.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The port would be reachable from other machines without protection.
    Exposed {
        /// The address.
        listen: SocketAddr,
    },
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
            ConfigError::File { key, path, source } => {
                write!(f, "`{key}` is {}, which cannot be read: {source}", path.display())
            }
            ConfigError::Exposed { listen } => write!(
                f,
                "`admin.listen` is {listen}, which other machines can reach: set `admin.token_file`, \
                 `admin.certificate` and `admin.key` first, or listen on 127.0.0.1"
            ),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Config {
    /// Reads the text of a configuration file. Unknown keys are refused by name before anything else.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            message: error.to_string().trim_end().into(),
        };
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        refuse_unknown(&table)?;
        toml::from_str(text).map_err(syntax)
    }

    /// These settings, with what is missing taken from `other`.
    pub fn or(self, other: Config) -> Config {
        Config {
            state_dir: self.state_dir.or(other.state_dir),
            run_dir: self.run_dir.or(other.run_dir),
            node: self.node.or(other.node),
            reactors: ReactorsConfig {
                cores: self.reactors.cores.or(other.reactors.cores),
                mode: self.reactors.mode.or(other.reactors.mode),
                idle_us: self.reactors.idle_us.or(other.reactors.idle_us),
                slots: self.reactors.slots.or(other.reactors.slots),
                pool_mib: self.reactors.pool_mib.or(other.reactors.pool_mib),
            },
            devices: DevicesConfig {
                stall_s: self.devices.stall_s.or(other.devices.stall_s),
                lock_wait_s: self.devices.lock_wait_s.or(other.devices.lock_wait_s),
            },
            admin: AdminSection {
                listen: self.admin.listen.or(other.admin.listen),
                token_file: self.admin.token_file.or(other.admin.token_file),
                certificate: self.admin.certificate.or(other.admin.certificate),
                key: self.admin.key.or(other.admin.key),
            },
        }
    }

    /// Everything set to its default, except the cores, which depend on the machine.
    pub fn defaults() -> Config {
        Config {
            state_dir: Some("/var/lib/palisade".into()),
            run_dir: Some("/run/palisade".into()),
            node: Some("node-1".into()),
            reactors: ReactorsConfig {
                cores: None,
                mode: Some(Mode::Adaptive),
                idle_us: Some(50),
                slots: Some(2048),
                pool_mib: Some(16),
            },
            devices: DevicesConfig {
                stall_s: Some(30),
                lock_wait_s: Some(10),
            },
            admin: AdminSection {
                listen: Some(SocketAddr::from(([127, 0, 0, 1], 7780))),
                ..AdminSection::default()
            },
        }
    }

    /// Checks every value. `cores_allowed` are those this process may run on.
    pub fn resolve(self, cores_allowed: &[usize]) -> Result<Settings, ConfigError> {
        let all = self.or(Config::defaults());
        let default_core = || cores_allowed.last().map(|&core| vec![core]);
        let cores = all.reactors.cores.or_else(default_core).unwrap_or_default();
        let distinct = cores
            .iter()
            .enumerate()
            .all(|(at, core)| !cores.iter().take(at).any(|c| c == core));
        if cores.is_empty() || !distinct || !cores.iter().all(|core| cores_allowed.contains(core)) {
            return Err(ConfigError::Range {
                key: "reactors.cores",
                given: format!("{cores:?}"),
                allowed: "a list of different cores that this process may run on",
            });
        }
        let idle_us = range(
            "reactors.idle_us",
            all.reactors.idle_us,
            0..=1_000_000,
            "0 to 1000000",
        )?;
        let idle = match all.reactors.mode {
            Some(Mode::AlwaysPoll) => IdlePolicy::AlwaysPoll,
            _ => IdlePolicy::Adaptive {
                after: Nanos::from_micros(idle_us),
            },
        };
        let slots = range(
            "reactors.slots",
            all.reactors.slots.map(u64::from),
            64..=65536,
            "64 to 65536",
        )? as u32;
        let pool_mib = range(
            "reactors.pool_mib",
            all.reactors.pool_mib.map(u64::from),
            1..=65536,
            "1 to 65536",
        )?;
        let stall_s = range("devices.stall_s", all.devices.stall_s, 1..=3600, "1 to 3600")?;
        let lock_wait_s = range(
            "devices.lock_wait_s",
            all.devices.lock_wait_s,
            0..=3600,
            "0 to 3600",
        )?;
        let listen = all
            .admin
            .listen
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7780)));
        let alone = |given, missing| Err(ConfigError::Alone { given, missing });
        let tls = match (all.admin.certificate, all.admin.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => return alone("admin.certificate", "admin.key"),
            (None, Some(_)) => return alone("admin.key", "admin.certificate"),
            (None, None) => None,
        };
        let node = all.node.unwrap_or_default();
        if Name::new(&node).is_err() {
            return Err(ConfigError::Range {
                key: "node",
                given: format!("{node:?}"),
                allowed: "a name such as node-1: letters a-z, digits and '-', a letter first",
            });
        }
        if !listen.ip().is_loopback() && (tls.is_none() || all.admin.token_file.is_none()) {
            return Err(ConfigError::Exposed { listen });
        }
        Ok(Settings {
            state_dir: all.state_dir.unwrap_or_default(),
            run_dir: all.run_dir.unwrap_or_default(),
            node,
            cores,
            idle,
            slots,
            pool_buffers: (pool_mib << 20) as usize / palisade_block::limits::BOUNCE_BYTES,
            stall: Nanos::from_secs(stall_s),
            lock_wait: std::time::Duration::from_secs(lock_wait_s),
            listen,
            token_file: all.admin.token_file,
            tls,
        })
    }

    /// The configuration as a TOML file.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }
}

impl Settings {
    /// Looks whether the files that are named can be read: better now than when everything else has started.
    pub fn look_at_files(&self) -> Result<(), ConfigError> {
        let (certificate, key) = self.tls.as_ref().map(|(cert, key)| (cert, key)).unzip();
        let files = [
            ("admin.token_file", self.token_file.as_ref()),
            ("admin.certificate", certificate),
            ("admin.key", key),
        ];
        for (key, path) in files {
            let Some(path) = path else { continue };
            std::fs::read(path).map_err(|source| ConfigError::File {
                key,
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

fn range(
    key: &'static str,
    given: Option<u64>,
    range: std::ops::RangeInclusive<u64>,
    allowed: &'static str,
) -> Result<u64, ConfigError> {
    let given = given.unwrap_or_default();
    if range.contains(&given) {
        Ok(given)
    } else {
        Err(ConfigError::Range {
            key,
            given: given.to_string(),
            allowed,
        })
    }
}

/// Every key there is, with its section, taken from the definition itself.
fn known_keys() -> Vec<String> {
    let path = || Some(PathBuf::from("x"));
    let full = Config {
        reactors: ReactorsConfig {
            cores: Some(vec![0]),
            ..Config::defaults().reactors
        },
        admin: AdminSection {
            token_file: path(),
            certificate: path(),
            key: path(),
            ..Config::defaults().admin
        },
        ..Config::defaults()
    };
    let mut keys = Vec::new();
    if let Ok(table) = toml::Table::try_from(full) {
        collect_keys(&table, "", &mut keys);
    }
    keys
}

fn collect_keys(table: &toml::Table, section: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        let name = format!("{section}{key}");
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => {
                collect_keys(inner, &format!("{name}."), keys);
            }
            _ => keys.push(name),
        }
    }
}

fn refuse_unknown(table: &toml::Table) -> Result<(), ConfigError> {
    let mut known = known_keys();
    let sections: Vec<_> = known
        .iter()
        .filter_map(|key| Some(key.split_once('.')?.0.to_owned()))
        .collect();
    known.extend(sections);
    let mut given = Vec::new();
    collect_keys(table, "", &mut given);
    let Some(key) = given.into_iter().find(|key| !known.contains(key)) else {
        return Ok(());
    };
    let distance = |name: &&String| strsim::damerau_levenshtein(name, &key);
    let nearest = known
        .iter()
        .min_by_key(distance)
        .filter(|name| distance(name) <= key.len() / 2 + 1)
        .cloned();
    Err(ConfigError::UnknownKey { key, nearest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_print_and_parse_back() {
        let text = Config::defaults().to_toml();
        assert_eq!(Config::parse(&text).unwrap(), Config::defaults());
        let settings = Config::default().resolve(&[0, 1]).unwrap();
        assert_eq!(settings.cores, [1]);
        assert_eq!(settings.listen.to_string(), "127.0.0.1:7780");
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known() {
        let error = Config::parse("[reactors]\nidle_ms = 3\n")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "there is no setting `reactors.idle_ms`; did you mean `reactors.idle_us`?"
        );
        let error = Config::parse("[admn]\n").unwrap_err().to_string();
        assert_eq!(error, "there is no setting `admn`; did you mean `admin`?");
        let wrong_kind = Config::parse("reactors = 5\n").unwrap_err();
        assert!(matches!(wrong_kind, ConfigError::Syntax { .. }), "{wrong_kind}");
        assert_eq!(Config::parse("[reactors]\n").unwrap(), Config::default());
        let error = Config::parse("statedir = 'x'\n").unwrap_err().to_string();
        assert!(error.ends_with("did you mean `state_dir`?"), "{error}");
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = Config::parse("node = 'file'\n[reactors]\nslots = 100\n").unwrap();
        let flags = Config {
            node: Some("flag".into()),
            ..Config::default()
        };
        let both = flags.or(file).resolve(&[0]).unwrap();
        assert_eq!((both.node.as_str(), both.slots), ("flag", 100));
    }

    #[test]
    fn exposure_needs_a_token_and_a_certificate() {
        let open = Config::parse("[admin]\nlisten = '0.0.0.0:7780'\n").unwrap();
        assert!(matches!(open.resolve(&[0]), Err(ConfigError::Exposed { .. })));
        let closed = "[admin]\nlisten = '0.0.0.0:7780'\ntoken_file = 't'\ncertificate = 'c'\nkey = 'k'\n";
        assert!(Config::parse(closed).unwrap().resolve(&[0]).is_ok());
    }

    #[test]
    fn half_a_pair_and_files_that_are_not_there_are_named() {
        let said = |text: &str| {
            Config::parse(text)
                .unwrap()
                .resolve(&[0])
                .map_err(|e| e.to_string())
        };
        let half = said("[admin]\ncertificate = 'c'\n").unwrap_err();
        assert!(
            half.starts_with("`admin.certificate` is set and `admin.key` is not"),
            "{half}"
        );
        let gone = said("[admin]\ntoken_file = '/not/there'\n").unwrap();
        let gone = gone.look_at_files().unwrap_err().to_string();
        assert!(gone.starts_with("`admin.token_file` is /not/there"), "{gone}");
        let name = said("node = 'My Node'\n").unwrap_err();
        assert!(name.starts_with("`node` is \"My Node\""), "{name}");
    }

    #[test]
    fn values_out_of_range_are_named() {
        let wrong = Config::parse("[reactors]\nslots = 7\n")
            .unwrap()
            .resolve(&[0])
            .unwrap_err()
            .to_string();
        assert_eq!(wrong, "`reactors.slots` is 7, but must be 64 to 65536");
        let cores = Config::parse("[reactors]\ncores = [9]\n")
            .unwrap()
            .resolve(&[0, 1]);
        assert!(matches!(
            cores,
            Err(ConfigError::Range {
                key: "reactors.cores",
                ..
            })
        ));
    }
}
