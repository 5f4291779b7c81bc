//! The configuration: one definition for file, flags, defaults and the printed sample.
//!
//! Each section is one struct of optional fields that both the TOML file and the command line fill; what the command
//! line gives wins over the file, the file over the default. [`Config::resolve`] turns the result into [`Settings`],
//! where nothing is optional any more and everything has been checked.

mod error;
mod keys;
mod listen;
mod places;
mod settings;

pub use error::ConfigError;
pub use listen::Listen;
pub(crate) use settings::account;
pub use settings::{AdminSettings, AllowSettings, Cores, Group, Settings};

use clap::Args;
use keys::refuse_unknown;
use palisade_frontend::Rates;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where disk files lie unless the configuration says otherwise: beside the state directory, not in it, so that replacing
/// the one leaves the other.
const DISK_FILES: &str = "/var/lib/palisade-disks";

/// Who virtual machines run as, on Debian, Fedora and by hand.
const ACCOUNTS: [&str; 5] = ["root", "libvirt-qemu", "libvirt", "qemu", "kvm"];

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
    /// What one guest may cost.
    #[command(flatten)]
    pub guests: GuestsConfig,
    /// How REST is reached, and by whom.
    #[command(flatten)]
    pub admin: AdminSection,
    /// What an operator may name over REST.
    #[command(flatten)]
    pub allow: AllowSection,
}

/// `[reactors]`
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReactorsConfig {
    /// Cores to run one reactor on each [default: the last isolated core; without isolated ones, the last core]
    #[arg(long = "reactors-cores", value_name = "CORE", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<Vec<usize>>,
    /// "adaptive" sleeps when there is nothing to do, "always-poll" never does [default: adaptive]
    #[arg(long = "reactors-mode", value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ReactorMode>,
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
pub enum ReactorMode {
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
    /// Seconds between two looks at all copies of an open disk's superblock: a bit that has turned is mended, and a disk
    /// that says it is another one is no longer used; 0 looks only when a disk is opened or written to [default: 600]
    #[arg(long = "devices-superblock-look-s", value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superblock_look_s: Option<u64>,
}

/// `[guests]`
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestsConfig {
    /// GiB of memory that one guest may have mapped; all together may have 65536, of which 32 are kept for each of the
    /// others. It costs address space only [default: 4096]
    #[arg(long = "guests-memory-max-gib", value_name = "GIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max_gib: Option<u64>,
    /// Regions that one guest's memory may have; all together may have 16384 mappings, of which 8 are kept for each of
    /// the others [default: 512]
    #[arg(long = "guests-regions-max", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions_max: Option<u64>,
    /// Percentage of this machine's memory that may be pinned for all guests together, of what they have in use, which makes
    /// I/O on it a little cheaper (Linux 6.13 or later). Only where no guest has a device through which its VMM takes pages
    /// out of its memory (virtio-balloon, free page reporting, virtio-mem): pinned pages would go on being read and written
    /// in their place, and data would be lost in silence [default: 0, nothing is pinned]
    #[arg(long = "guests-pinned-percent", value_name = "PERCENT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_percent: Option<u64>,
    /// Seconds that a virtual machine's side may keep its attachment's thread waiting before its session is cut off
    /// [default: 10]
    #[arg(long = "guests-deadline-s", value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
    /// Threads that may go on hanging after their attachment was deleted, and processes that may go on hanging in the
    /// closing of what virtual machines sent; with more no attachment is offered, or no descriptor received from a guest
    /// of which one hangs already [default: 64]
    #[arg(long = "guests-hanging-max", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hanging_max: Option<u64>,
    /// Such processes of one guest [default: 4]
    #[arg(long = "guests-hanging-each-max", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hanging_each_max: Option<u64>,
    /// Messages that one attachment's VMM may send in a second, ten times as many at once; more are read later [default: 1000]
    #[arg(long = "guests-messages-per-s", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_s: Option<u64>,
    /// Connections to one attachment's socket in a second, ten times as many at once; more are taken later [default: 100]
    #[arg(long = "guests-connects-per-s", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connects_per_s: Option<u64>,
    /// Percentage of this machine's memory that may be pinned for one guest, where any is [default: 50]
    #[arg(long = "guests-pinned-each-percent", value_name = "PERCENT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_each_percent: Option<u64>,
}

/// `[admin]`
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSection {
    /// Unix socket by which the command line and other local programs come in [default: api.socket in run_dir]
    #[arg(long = "admin-socket", value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Group whose members may change everything over the Unix socket, as root may [default: palisade, if there is one]
    #[arg(long = "admin-group", value_name = "GROUP")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Group whose members may look at everything over the Unix socket [default: palisade-read, if there is one]
    #[arg(long = "admin-read-group", value_name = "GROUP")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_group: Option<String>,
    /// Address of the TCP port, which asks for a token, or "off" [default: 127.0.0.1:7780]
    #[arg(long = "admin-listen", value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Listen>,
    /// File with the token that the TCP port asks for [default: admin.token in state_dir, made at first start]
    #[arg(long = "admin-token-file", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// File with a token that opens the TCP port for looking only
    #[arg(long = "admin-read-token-file", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_token_file: Option<PathBuf>,
    /// PEM file with the certificate chain; required beyond loopback
    #[arg(long = "admin-certificate", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long = "admin-key", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// For labs: let every user of this machine change everything, over a loopback port that asks for no token
    /// [default: false]
    #[arg(long = "admin-loopback-without-token", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loopback_without_token: Option<bool>,
    /// Let everybody who reaches the TCP port read /metrics without a token [default: false]
    #[arg(long = "admin-metrics-open", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_open: Option<bool>,
}

/// `[allow]`
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AllowSection {
    /// Folders below which files may be disks [default: /var/lib/palisade-disks]
    #[arg(long = "allow-files", value_name = "DIR", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<PathBuf>>,
    /// Folders below which block devices may be disks [default: /dev]
    #[arg(long = "allow-devices", value_name = "DIR", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<PathBuf>>,
    /// Folders below which attachments may have their sockets [default: run_dir]
    #[arg(long = "allow-sockets", value_name = "DIR", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<Vec<PathBuf>>,
    /// Users and groups that a socket may be given to, by name or number; "*" is everybody
    /// [default: root, libvirt-qemu, libvirt, qemu, kvm]
    #[arg(long = "allow-owners", value_name = "ACCOUNT", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owners: Option<Vec<String>>,
    /// For labs: every path, also in memory, and every owner [default: false]
    #[arg(long = "allow-anything", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anything: Option<bool>,
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
                superblock_look_s: self.devices.superblock_look_s.or(other.devices.superblock_look_s),
            },
            guests: GuestsConfig {
                memory_max_gib: self.guests.memory_max_gib.or(other.guests.memory_max_gib),
                regions_max: self.guests.regions_max.or(other.guests.regions_max),
                pinned_percent: self.guests.pinned_percent.or(other.guests.pinned_percent),
                deadline_s: self.guests.deadline_s.or(other.guests.deadline_s),
                hanging_max: self.guests.hanging_max.or(other.guests.hanging_max),
                hanging_each_max: self.guests.hanging_each_max.or(other.guests.hanging_each_max),
                messages_per_s: self.guests.messages_per_s.or(other.guests.messages_per_s),
                connects_per_s: self.guests.connects_per_s.or(other.guests.connects_per_s),
                pinned_each_percent: self
                    .guests
                    .pinned_each_percent
                    .or(other.guests.pinned_each_percent),
            },
            admin: AdminSection {
                socket: self.admin.socket.or(other.admin.socket),
                group: self.admin.group.or(other.admin.group),
                read_group: self.admin.read_group.or(other.admin.read_group),
                listen: self.admin.listen.or(other.admin.listen),
                token_file: self.admin.token_file.or(other.admin.token_file),
                read_token_file: self.admin.read_token_file.or(other.admin.read_token_file),
                certificate: self.admin.certificate.or(other.admin.certificate),
                key: self.admin.key.or(other.admin.key),
                loopback_without_token: self
                    .admin
                    .loopback_without_token
                    .or(other.admin.loopback_without_token),
                metrics_open: self.admin.metrics_open.or(other.admin.metrics_open),
            },
            allow: AllowSection {
                files: self.allow.files.or(other.allow.files),
                devices: self.allow.devices.or(other.allow.devices),
                sockets: self.allow.sockets.or(other.allow.sockets),
                owners: self.allow.owners.or(other.allow.owners),
                anything: self.allow.anything.or(other.allow.anything),
            },
        }
    }

    /// Everything set to its default, except what depends on the machine (cores, groups) or on another setting (what lies
    /// in `state_dir` and `run_dir`).
    pub fn defaults() -> Config {
        Config {
            state_dir: Some("/var/lib/palisade".into()),
            run_dir: Some("/run/palisade".into()),
            node: Some("node-1".into()),
            reactors: ReactorsConfig {
                cores: None,
                mode: Some(ReactorMode::Adaptive),
                idle_us: Some(50),
                slots: Some(2048),
                pool_mib: Some(16),
            },
            devices: DevicesConfig {
                stall_s: Some(30),
                lock_wait_s: Some(10),
                superblock_look_s: Some(600),
            },
            guests: GuestsConfig {
                memory_max_gib: Some(4096),
                regions_max: Some(512),
                pinned_percent: Some(0),
                deadline_s: Some(10),
                hanging_max: Some(64),
                hanging_each_max: Some(4),
                messages_per_s: Some(Rates::DEFAULT.messages_per_s.into()),
                connects_per_s: Some(Rates::DEFAULT.connects_per_s.into()),
                pinned_each_percent: Some(50),
            },
            admin: AdminSection {
                listen: Some(Listen::At(SocketAddr::from(([127, 0, 0, 1], 7780)))),
                loopback_without_token: Some(false),
                metrics_open: Some(false),
                ..AdminSection::default()
            },
            allow: AllowSection {
                files: Some(vec![DISK_FILES.into()]),
                devices: Some(vec!["/dev".into()]),
                sockets: None,
                owners: Some(ACCOUNTS.map(str::to_owned).to_vec()),
                anything: Some(false),
            },
        }
    }

    /// The configuration as a TOML file, every setting in it: what is not set is a comment.
    pub fn to_toml(&self) -> String {
        keys::with_unset(&toml::to_string_pretty(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_admin::TcpAccess;

    #[test]
    fn defaults_print_and_parse_back() {
        let text = Config::defaults().to_toml();
        assert_eq!(Config::parse(&text).unwrap(), Config::defaults());
        let settings = Config::default().resolve(&Cores::plain(&[0, 1])).unwrap();
        assert_eq!(settings.cores, [1]);
        let door = settings.admin.tcp.unwrap();
        assert_eq!(door.listen.to_string(), "127.0.0.1:7780");
        let access = TcpAccess::Tokens {
            admin: "/var/lib/palisade/admin.token".into(),
            make: true,
            read: None,
        };
        assert_eq!(door.access, access);
        assert_eq!(settings.admin.socket.to_str(), Some("/run/palisade/api.socket"));
        assert_eq!(settings.allow.sockets, [PathBuf::from("/run/palisade")]);
    }

    #[test]
    fn what_is_not_set_is_printed_as_a_comment_in_its_section() {
        let text = Config::defaults().to_toml();
        let mut section = "";
        let mut shown = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name;
            }
            if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
                let dot = if section.is_empty() { "" } else { "." };
                shown.push(format!("{section}{dot}{key}"));
            }
        }
        for key in keys::known_keys() {
            assert!(shown.contains(&key), "no {key} in\n{text}");
        }
        // A comment says what the setting may look like.
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n")
            .collect();
        let all = Config::parse(&uncommented).unwrap();
        assert_eq!(all.reactors.cores, Some(vec![1]));
        assert!(all.admin.key.is_some() && all.allow.sockets.is_some());
        // One that is set is no comment.
        let set = Config::parse("[reactors]\ncores = [3]\n").unwrap().to_toml();
        assert!(set.contains("cores = [") && !set.contains("# cores"), "{set}");
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
        let both = flags.or(file).resolve(&Cores::plain(&[0])).unwrap();
        assert_eq!((both.node.as_str(), both.slots), ("flag", 100));
    }

    fn said(text: &str) -> Result<Settings, String> {
        let config = Config::parse(text).map_err(|error| error.to_string())?;
        let settings = config
            .resolve(&Cores::plain(&[0]))
            .map_err(|error| error.to_string())?;
        settings.look_at_files().map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn exposure_needs_a_token_and_a_certificate() {
        let open = said("[admin]\nlisten = '0.0.0.0:7780'\n").unwrap_err();
        assert!(open.contains("without a certificate"), "{open}");
        let open = said("[admin]\nlisten = '0.0.0.0:7780'\nloopback_without_token = true\n").unwrap_err();
        assert!(
            open.starts_with("`admin.loopback_without_token` is set"),
            "{open}"
        );
        let lab = said("[admin]\nloopback_without_token = true\n").unwrap();
        assert_eq!(lab.admin.tcp.unwrap().access, TcpAccess::Nothing);
        assert_eq!(said("[admin]\nlisten = 'off'\n").unwrap().admin.tcp, None);
        let neither = said("[admin]\nlisten = 'on'\n").unwrap_err();
        assert!(neither.contains("\"off\""), "{neither}");
    }

    #[test]
    fn half_a_pair_and_files_that_are_not_there_are_named() {
        let half = said("[admin]\ncertificate = 'c'\n").unwrap_err();
        assert!(
            half.starts_with("`admin.certificate` is set and `admin.key` is not"),
            "{half}"
        );
        let gone = said("[admin]\ntoken_file = '/not/there'\n").unwrap_err();
        assert!(gone.starts_with("/not/there cannot be read"), "{gone}");
        let name = said("node = 'My Node'\n").unwrap_err();
        assert!(name.starts_with("`node` is \"My Node\""), "{name}");
        let group = said("[admin]\ngroup = 'no-such-group-here'\n").unwrap_err();
        assert!(
            group.contains("no such group") && group.contains("groupadd"),
            "{group}"
        );
        let folder = said("[allow]\nfiles = ['disks']\n").unwrap_err();
        assert!(folder.starts_with("`allow.files` is \"disks\""), "{folder}");
    }

    #[test]
    fn cores_are_chosen_out_of_those_the_kernel_gives() {
        let machine = Cores {
            settable: vec![0, 1, 2, 3],
            inherited: vec![0, 1, 3],
            isolated: vec![2],
        };
        let of = |text: &str| Config::parse(text).unwrap().resolve(&machine);
        assert_eq!(of("").unwrap().cores, [2], "an isolated one first");
        assert_eq!(machine.of_control(&[2]), [0, 1, 3]);
        assert_eq!(machine.of_control(&[3]), [0, 1], "isolated ones stay clear");
        assert_eq!(machine.of_control(&[0, 1, 3]), [0, 1, 3], "there are no others");
        assert_eq!(Cores::plain(&[5]).of_control(&[5]), [5]);
        let error = of("[reactors]\ncores = [4]\n").unwrap_err().to_string();
        assert!(error.contains("[4]") && error.contains("[0, 1, 2, 3]"), "{error}");
        assert!(of("[reactors]\ncores = [1, 1]\n").is_err());
    }

    #[test]
    fn values_out_of_range_are_named() {
        let wrong = Config::parse("[reactors]\nslots = 7\n")
            .unwrap()
            .resolve(&Cores::plain(&[0]))
            .unwrap_err()
            .to_string();
        assert_eq!(wrong, "`reactors.slots` is 7, but must be 64 to 65536");
    }
}
