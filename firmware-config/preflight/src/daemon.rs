//! The bounds under which the daemon runs, or will run: not those of whoever asks.
//!
//! They are taken from the daemon that runs, if one does; else from its unit, under which systemd will start it; else they
//! are those of this process, under which a daemon would run that is started from here. Which of the three is always said.

use crate::cpu_set::CpuSet;
use crate::machine::Tree;
use crate::profile::Amount;
use std::fmt;

/// What the kernel calls the daemon's process.
const COMM: &str = "palisaded";

/// Its unit.
const UNIT: &str = "palisaded.service";

/// Where systemd looks for units, the first wins (systemd.unit(5)).
const UNIT_FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// `CAP_IPC_LOCK` of capabilities(7): locked memory is not limited.
const CAP_IPC_LOCK: u64 = 1 << 14;

/// Hard limits that systemd gives where the unit says nothing (systemd-system.conf(5)).
const NOFILE_OF_SYSTEMD: u64 = 524_288;
const MEMLOCK_OF_SYSTEMD: u64 = 8 << 20;

/// Whose bounds they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Whose {
    /// The daemon's that runs, a process of this number.
    Running(u32),
    /// Its unit's, in this file.
    Unit(String),
    /// This process's own: there is neither a daemon nor a unit.
    #[default]
    Here,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whose::Running(process) => write!(f, "of the daemon that runs (process {process})"),
            Whose::Unit(file) => write!(f, "of the daemon, by its unit {file}"),
            Whose::Here => f.write_str("of a daemon that is started from here"),
        }
    }
}

impl Whose {
    /// What lifts a limit, to be followed by what it is raised to: the setting of a unit, and its name in limits.conf(5).
    pub(crate) fn lift(&self, setting: &str, item: &str) -> String {
        match self {
            Whose::Running(_) => format!(
                "set {setting} in its unit (systemctl edit palisaded) and restart it (systemctl restart palisaded: guests see a \
                 pause); if it was started from a shell, raise `{item}` there"
            ),
            Whose::Unit(_) => format!("set {setting} in the unit (systemctl edit palisaded)"),
            Whose::Here => format!(
                "run the daemon from its systemd unit ({setting}), or raise `{item}` in /etc/security/limits.d and log in again"
            ),
        }
    }
}

/// The bounds of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Whose they are.
    pub whose: Whose,
    /// Memory that it may lock; without limit when it holds `CAP_IPC_LOCK`.
    pub memlock: Option<Amount>,
    /// Files that it may open (hard limit, to which the daemon raises itself).
    pub nofile: Option<u64>,
    /// Processors of its control group, where that says.
    pub cores: Option<CpuSet>,
}

impl Bounds {
    pub(crate) fn of(tree: &Tree<'_>) -> Bounds {
        let mut processes = tree.numbered("proc", "");
        processes.sort_unstable();
        let running = processes.into_iter().find_map(|(process, folder)| {
            let comm = std::fs::read_to_string(folder.join("comm")).ok()?;
            (comm.trim() == COMM).then_some(process)
        });
        if let Some(process) = running {
            let bounds = of_process(tree, &process.to_string(), Whose::Running(process));
            // Of somebody else's process nothing may be told.
            if bounds.nofile.is_some() {
                return bounds;
            }
        }
        of_unit(tree).unwrap_or_else(|| of_process(tree, "self", Whose::Here))
    }
}

fn of_process(tree: &Tree<'_>, process: &str, whose: Whose) -> Bounds {
    let status = tree.text(&format!("proc/{process}/status")).unwrap_or_default();
    let limits = tree.text(&format!("proc/{process}/limits")).unwrap_or_default();
    // The name holds spaces, so columns are counted behind it; the second is the hard limit.
    let limit = |name: &str| {
        let values = limits.lines().find_map(|line| line.strip_prefix(name))?;
        Amount::parse(values.split_whitespace().nth(1)?)
    };
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let memlock = match capabilities.unwrap_or(0) & CAP_IPC_LOCK {
        0 => limit("Max locked memory"),
        _ => Some(Amount::Unlimited),
    };
    let group = tree.text(&format!("proc/{process}/cgroup")).unwrap_or_default();
    let group = group.lines().find_map(|line| line.strip_prefix("0::/"));
    Bounds {
        whose,
        memlock,
        nofile: limit("Max open files").map(count),
        cores: group.and_then(|group| cores_of_group(tree, group)),
    }
}

/// The processors of a control group, as it or the nearest above it says (cgroup v2).
fn cores_of_group(tree: &Tree<'_>, group: &str) -> Option<CpuSet> {
    let mut group = Some(group);
    while let Some(folder) = group {
        let file = format!("sys/fs/cgroup/{folder}/cpuset.cpus.effective");
        if let Some(cores) = tree.text(&file).and_then(|text| CpuSet::parse(&text)) {
            return Some(cores).filter(|cores| !cores.is_empty());
        }
        group = folder.rsplit_once('/').map(|(above, _)| above);
    }
    None
}

fn of_unit(tree: &Tree<'_>) -> Option<Bounds> {
    let files = UNIT_FOLDERS.iter().map(|folder| format!("{folder}/{UNIT}"));
    let (file, text) = files.into_iter().find_map(|file| {
        let text = tree.text(&file)?;
        Some((file, text))
    })?;
    let mut unit = Unit::default();
    unit.read(&text);
    // Drop-ins of all folders go by their names; of two of one name the first folder's counts.
    let mut drop_ins = std::collections::BTreeMap::new();
    for folder in UNIT_FOLDERS.iter().rev() {
        for (name, path) in tree.files(&format!("{folder}/{UNIT}.d"), ".conf") {
            drop_ins.insert(name, path);
        }
    }
    for path in drop_ins.values() {
        unit.read(&std::fs::read_to_string(path).unwrap_or_default());
    }
    Some(Bounds {
        whose: Whose::Unit(format!("/{file}")),
        memlock: match unit.may_lock() {
            true => Some(Amount::Unlimited),
            false => unit
                .memlock
                .map_or(Some(Amount::Bytes(MEMLOCK_OF_SYSTEMD)), |given| hard(&given)),
        },
        nofile: unit
            .nofile
            .map_or(Some(NOFILE_OF_SYSTEMD), |given| hard(&given).map(count)),
        cores: unit.cores,
    })
}

/// What is read of a unit; a later line wins.
#[derive(Default)]
struct Unit {
    memlock: Option<String>,
    nofile: Option<String>,
    user: Option<String>,
    /// Whether CAP_IPC_LOCK is left to it.
    bounded: Option<bool>,
    ambient: bool,
    cores: Option<CpuSet>,
}

impl Unit {
    fn read(&mut self, text: &str) {
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once('=') else {
                continue;
            };
            let (value, given) = (value.trim(), || Some(value.trim().to_owned()));
            match key.trim() {
                "LimitMEMLOCK" => self.memlock = given(),
                "LimitNOFILE" => self.nofile = given(),
                "User" => self.user = given().filter(|user| !user.is_empty()),
                "CapabilityBoundingSet" => {
                    self.bounded = Some(names_lock(value, self.bounded.unwrap_or(false)))
                }
                "AmbientCapabilities" => self.ambient = names_lock(value, self.ambient),
                "AllowedCPUs" => {
                    let list = value.split_whitespace().collect::<Vec<_>>().join(",");
                    self.cores = CpuSet::parse(&list).filter(|cores| !cores.is_empty());
                }
                _ => {}
            }
        }
    }

    /// Whether it holds CAP_IPC_LOCK: as root all that it is not denied, as another user only what it is given.
    fn may_lock(&self) -> bool {
        let is_root = self
            .user
            .as_deref()
            .is_none_or(|user| matches!(user, "root" | "0"));
        self.bounded.unwrap_or(true) && (is_root || self.ambient)
    }
}

/// Whether a list of capabilities leaves CAP_IPC_LOCK, on top of what was said before (systemd.exec(5)).
fn names_lock(list: &str, before: bool) -> bool {
    let (denies, list) = list.strip_prefix('~').map_or((false, list), |list| (true, list));
    let names = list.split_whitespace().any(|name| name == "CAP_IPC_LOCK");
    match (denies, list.is_empty()) {
        // An empty list takes all away, and "~" alone gives all.
        (denies, true) => denies,
        (true, false) => !names,
        (false, false) => before || names,
    }
}

/// The hard limit of a unit's value: `infinity`, `1048576`, `64M`, `1024:524288`.
fn hard(value: &str) -> Option<Amount> {
    let value = value.rsplit(':').next()?.trim();
    if value == "infinity" {
        return Some(Amount::Unlimited);
    }
    let end = value
        .find(|digit: char| !digit.is_ascii_digit())
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    let scale: u64 = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale).map(Amount::Bytes)
}

fn count(amount: Amount) -> u64 {
    match amount {
        Amount::Bytes(count) => count,
        Amount::Unlimited => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_unit_are_read_as_systemd_reads_them() {
        for (text, expected) in [
            ("infinity", Some(Amount::Unlimited)),
            ("1048576", Some(Amount::Bytes(1_048_576))),
            ("64M", Some(Amount::Bytes(64 << 20))),
            ("1024:524288", Some(Amount::Bytes(524_288))),
            ("1024:infinity", Some(Amount::Unlimited)),
            ("many", None),
        ] {
            assert_eq!(hard(text), expected, "{text}");
        }
    }

    #[test]
    fn who_may_lock_without_limit_is_told_by_user_and_capabilities() {
        for (text, may) in [
            ("", true),
            ("User=palisade", false),
            ("User=palisade\nAmbientCapabilities=CAP_IPC_LOCK", true),
            ("CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER", false),
            ("CapabilityBoundingSet=CAP_CHOWN CAP_IPC_LOCK", true),
            (
                "CapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=CAP_IPC_LOCK",
                true,
            ),
            ("CapabilityBoundingSet=~CAP_IPC_LOCK", false),
            ("CapabilityBoundingSet=~CAP_CHOWN", true),
            ("CapabilityBoundingSet=", false),
            ("CapabilityBoundingSet=~", true),
        ] {
            let mut unit = Unit::default();
            unit.read(text);
            assert_eq!(unit.may_lock(), may, "{text}");
        }
    }
}
