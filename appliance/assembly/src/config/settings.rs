//! The configuration in force: nothing is optional any more, everything has been checked.

use super::{AdminSection, Config, ConfigError, Listen, ReactorMode, places};
use crate::accounts;
use palisade_admin::{AdminConfig, SocketDoor, TcpAccess, TcpDoor, Tls};
use palisade_block::Nanos;
use palisade_engine::IdlePolicy;
use palisade_frontend::{DoorSettings, Rates};
use palisade_memory::ShareLimits;
use palisade_model::Account;
use palisade_words::Name;
use std::path::{Path, PathBuf};

/// The token that is made at first start, in the state directory.
const TOKEN_FILE: &str = "admin.token";

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
    /// How often all copies of an open disk's superblock are looked at, if ever.
    pub superblock_look: Option<std::time::Duration>,
    /// What one guest may map.
    pub shares: ShareLimits,
    /// How the door deals with guests whose side hangs.
    pub door: DoorSettings,
    /// Percentage of the machine's memory that may be pinned for guests; with 0 nothing is.
    pub pinned_percent: u64,
    /// The same for one guest.
    pub pinned_each_percent: u64,
    /// How REST is reached.
    pub admin: AdminSettings,
    /// What may be named over REST.
    pub allow: AllowSettings,
}

/// How REST is reached, and by whom.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// The Unix socket.
    pub socket: PathBuf,
    /// The group that may change everything; a default one need not exist.
    pub group: Group,
    /// The group that may look at everything; a default one need not exist.
    pub read_group: Group,
    /// The TCP port.
    pub tcp: Option<TcpDoor>,
    /// Whether the metrics may be read without a token.
    pub metrics_open: bool,
}

/// A group of this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name, or its number.
    pub account: Account,
    /// Whether somebody has asked for it, so that it must exist.
    pub asked_for: bool,
}

/// What an operator may name over REST.
#[derive(Clone, Debug, PartialEq)]
pub struct AllowSettings {
    /// Folders of disk files.
    pub files: Vec<PathBuf>,
    /// Folders of block devices.
    pub devices: Vec<PathBuf>,
    /// Folders of sockets.
    pub sockets: Vec<PathBuf>,
    /// Users and groups of sockets; "*" is everybody.
    pub owners: Vec<String>,
    /// Everything.
    pub anything: bool,
}

/// The cores of this machine, as far as this process is concerned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cores {
    /// Those that the kernel lets this process use, in order, whether it has started on them or not.
    pub settable: Vec<usize>,
    /// Of these, those it has started on: the service manager's or the operator's choice for everything that is no reactor.
    pub inherited: Vec<usize>,
    /// Those of the settable that the kernel keeps clear of everything that does not ask for them.
    pub isolated: Vec<usize>,
}

impl Cores {
    /// Without isolated ones.
    pub fn plain(settable: &[usize]) -> Cores {
        Cores {
            settable: settable.to_vec(),
            inherited: settable.to_vec(),
            isolated: Vec::new(),
        }
    }

    /// Where a reactor runs when nothing is said.
    fn default_one(&self) -> Option<usize> {
        let any = [&self.isolated, &self.inherited, &self.settable];
        any.into_iter().find_map(|cores| cores.last()).copied()
    }

    /// Where the threads that are no reactors run: neither on a reactor's core nor on an isolated one, as long as there
    /// are others.
    pub fn of_control(&self, reactors: &[usize]) -> Vec<usize> {
        let without = |taken: &dyn Fn(&usize) -> bool| -> Vec<usize> {
            let mut left = self.inherited.clone();
            left.retain(|core| !taken(core));
            left
        };
        let clear = without(&|core| reactors.contains(core) || self.isolated.contains(core));
        let shared = without(&|core| self.isolated.contains(core));
        [clear, shared, self.inherited.clone()]
            .into_iter()
            .find(|cores| !cores.is_empty())
            .unwrap_or_default()
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// The first value that cannot be taken, with what could be.
    pub fn resolve(self, machine: &Cores) -> Result<Settings, ConfigError> {
        let group_given = |group: &Option<String>, default: &str| Group {
            account: account(group.as_deref().unwrap_or(default)),
            asked_for: group.is_some(),
        };
        let all = self.or(Config::defaults());
        let default_core = || machine.default_one().map(|core| vec![core]);
        let cores = all.reactors.cores.or_else(default_core).unwrap_or_default();
        let distinct = cores
            .iter()
            .enumerate()
            .all(|(at, core)| !cores.iter().take(at).any(|c| c == core));
        if cores.is_empty() || !distinct || !cores.iter().all(|core| machine.settable.contains(core)) {
            return Err(ConfigError::Cores {
                given: cores,
                settable: machine.settable.clone(),
            });
        }
        let idle_us = range(
            "reactors.idle_us",
            all.reactors.idle_us,
            0..=1_000_000,
            "0 to 1000000",
        )?;
        let idle = match all.reactors.mode {
            Some(ReactorMode::AlwaysPoll) => IdlePolicy::AlwaysPoll,
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
        let guests = all.guests;
        // Three times as much may be mapped for a moment, while a table of memory takes the place of another.
        let memory_max_gib = range(
            "guests.memory_max_gib",
            guests.memory_max_gib,
            1..=16384,
            "1 to 16384",
        )?;
        let regions_max = range("guests.regions_max", guests.regions_max, 1..=512, "1 to 512")?;
        let pinned_percent = range("guests.pinned_percent", guests.pinned_percent, 0..=95, "0 to 95")?;
        let deadline_s = range("guests.deadline_s", guests.deadline_s, 1..=3600, "1 to 3600")?;
        let hanging_max = range("guests.hanging_max", guests.hanging_max, 1..=1024, "1 to 1024")?;
        let hanging_each_max = range(
            "guests.hanging_each_max",
            guests.hanging_each_max,
            1..=1024,
            "1 to 1024",
        )?;
        let messages_per_s = range(
            "guests.messages_per_s",
            guests.messages_per_s,
            100..=1_000_000,
            "100 to 1000000",
        )?;
        let connects_per_s = range(
            "guests.connects_per_s",
            guests.connects_per_s,
            1..=100_000,
            "1 to 100000",
        )?;
        let pinned_each_percent = range(
            "guests.pinned_each_percent",
            guests.pinned_each_percent,
            0..=95,
            "0 to 95",
        )?;
        let lock_wait_s = range(
            "devices.lock_wait_s",
            all.devices.lock_wait_s,
            0..=3600,
            "0 to 3600",
        )?;
        let superblock_look_s = range(
            "devices.superblock_look_s",
            all.devices.superblock_look_s,
            0..=31_536_000,
            "0 to 31536000",
        )?;
        let state_dir = all.state_dir.unwrap_or_default();
        let run_dir = all.run_dir.unwrap_or_default();
        places::absolute("state_dir", &state_dir)?;
        places::absolute("run_dir", &run_dir)?;
        let own_socket = all.admin.socket.is_some();
        let admin = AdminSettings {
            socket: all
                .admin
                .socket
                .clone()
                .unwrap_or_else(|| run_dir.join(palisade_api::routes::SOCKET_NAME)),
            group: group_given(&all.admin.group, "palisade"),
            read_group: group_given(&all.admin.read_group, "palisade-read"),
            metrics_open: all.admin.metrics_open.unwrap_or_default(),
            tcp: port(all.admin, &state_dir)?,
        };
        let key = if own_socket { "admin.socket" } else { "run_dir" };
        places::absolute(key, &admin.socket)?;
        places::fits_socket(key, &admin.socket)?;
        let allow = AllowSettings {
            files: all.allow.files.unwrap_or_default(),
            devices: all.allow.devices.unwrap_or_default(),
            sockets: all.allow.sockets.unwrap_or_else(|| vec![run_dir.clone()]),
            owners: all.allow.owners.unwrap_or_default(),
            anything: all.allow.anything.unwrap_or_default(),
        };
        for (key, folders) in [
            ("allow.files", &allow.files),
            ("allow.devices", &allow.devices),
            ("allow.sockets", &allow.sockets),
        ] {
            if let Some(relative) = folders.iter().find(|folder| !folder.is_absolute()) {
                return Err(ConfigError::Range {
                    key,
                    given: format!("{relative:?}"),
                    allowed: "a list of absolute paths",
                });
            }
        }
        let node = all.node.unwrap_or_default();
        if Name::new(&node).is_err() {
            return Err(ConfigError::Range {
                key: "node",
                given: format!("{node:?}"),
                allowed: "a name such as node-1: letters a-z, digits and '-', a letter first",
            });
        }
        Ok(Settings {
            state_dir,
            run_dir,
            node,
            cores,
            idle,
            slots,
            pool_buffers: (pool_mib << 20) as usize / palisade_block::limits::BOUNCE_BYTES,
            stall: Nanos::from_secs(stall_s),
            lock_wait: std::time::Duration::from_secs(lock_wait_s),
            superblock_look: (superblock_look_s > 0)
                .then(|| std::time::Duration::from_secs(superblock_look_s)),
            shares: ShareLimits {
                memory_bytes: memory_max_gib << 30,
                // A dirty log and an in-flight region besides.
                mappings: regions_max + 2,
            },
            door: DoorSettings {
                deadline: std::time::Duration::from_secs(deadline_s),
                hanging_max: hanging_max as usize,
                hanging_each_max: hanging_each_max as usize,
                rates: Rates {
                    messages_per_s: messages_per_s as u32,
                    connects_per_s: connects_per_s as u32,
                },
                ..DoorSettings::default()
            },
            pinned_percent,
            pinned_each_percent,
            admin,
            allow,
        })
    }
}

/// The TCP port as it is configured.
fn port(admin: AdminSection, state_dir: &Path) -> Result<Option<TcpDoor>, ConfigError> {
    let alone = |given, missing| Err(ConfigError::Alone { given, missing });
    let tls = match (admin.certificate, admin.key) {
        (Some(cert), Some(key)) => Some(Tls { cert, key }),
        (Some(_), None) => return alone("admin.certificate", "admin.key"),
        (None, Some(_)) => return alone("admin.key", "admin.certificate"),
        (None, None) => None,
    };
    let Some(Listen::At(listen)) = admin.listen else {
        return Ok(None);
    };
    let without_token = admin.loopback_without_token.unwrap_or_default();
    let door = TcpDoor {
        listen,
        tls,
        access: match without_token {
            true => TcpAccess::Nothing,
            false => TcpAccess::Tokens {
                make: admin.token_file.is_none(),
                admin: admin.token_file.unwrap_or_else(|| state_dir.join(TOKEN_FILE)),
                read: admin.read_token_file,
            },
        },
    };
    match without_token && !door.is_loopback() {
        true => Err(ConfigError::WithoutToken { listen }),
        false => Ok(Some(door)),
    }
}

impl Settings {
    /// How the server is to be reached.
    ///
    /// # Errors
    /// A group that was asked for and does not exist.
    pub fn admin_config(&self) -> Result<AdminConfig, ConfigError> {
        let number = |key, group: &Group| match accounts::group_id(&group.account) {
            Ok(number) => Ok(Some(number)),
            Err(_) if !group.asked_for => Ok(None),
            Err(_) => Err(ConfigError::Group {
                key,
                given: group.account.to_string(),
            }),
        };
        Ok(AdminConfig {
            socket: Some(SocketDoor {
                path: self.admin.socket.clone(),
                admin_group: number("admin.group", &self.admin.group)?,
                read_group: number("admin.read_group", &self.admin.read_group)?,
            }),
            tcp: self.admin.tcp.clone(),
            metrics_open: self.admin.metrics_open,
        })
    }

    /// Looks whether the directories and files that are named can be taken: better now than when everything else has started.
    /// What is to be known of them all the same is told in a sentence.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn look_at_files(&self) -> Result<Option<String>, ConfigError> {
        self.look_at_places()?;
        let door = |error| ConfigError::Door(Box::new(error));
        let config = self.admin_config()?;
        config.check().map_err(door)?;
        config.try_keys().map_err(door)
    }
}

/// A number, or a name.
pub(crate) fn account(text: &str) -> Account {
    text.parse()
        .map_or_else(|_| Account::Name(text.to_owned()), Account::Id)
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
