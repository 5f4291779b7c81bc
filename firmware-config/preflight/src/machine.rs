//! What a machine is, as a value: read once from `/proc`, `/sys` and `/dev`, compared afterwards.
//!
//! Every field that may be missing is an `Option`; `None` means "cannot be known", never "is well".

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cpu_set::CpuSet;
use crate::daemon::Bounds;
use palisade_sys::local::io_uring_is_open;

/// Where hugepages of the whole machine are counted.
const HUGEPAGES: &str = "sys/kernel/mm/hugepages";
/// Where nodes of memory are listed.
const NODES: &str = "sys/devices/system/node";
/// Where processors are listed.
const CPUS: &str = "sys/devices/system/cpu";

/// Hugepages of one size, machine-wide or on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hugepages {
    /// Pages set aside.
    pub total: u64,
    /// Those nobody uses.
    pub free: u64,
}

/// One node of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumaNode {
    /// Its processors.
    pub cpus: CpuSet,
    /// Its 2 MiB pages; `None` when the node does not count them.
    pub hugepages_2m: Option<Hugepages>,
}

/// What became of trying something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It works.
    Works,
    /// It does not.
    Closed {
        /// Which call failed, for what, and how.
        why: String,
        /// The error's number.
        errno: i32,
    },
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `/proc/sys/kernel/osrelease`.
    pub kernel_release: Option<String>,
    /// `kernel.io_uring_disabled`: 0 open, 1 for a group, 2 off. `None` before Linux 6.6, where it is open.
    pub io_uring_disabled: Option<u64>,
    /// What became of trying io_uring; `None` where nothing can be tried, on a copy of another machine's files.
    pub io_uring_tried: Option<Trial>,
    /// Whether a seccomp filter binds this process.
    pub seccomp: bool,
    /// 2 MiB pages; `None` when the kernel has none of this size.
    pub hugepages_2m: Option<Hugepages>,
    /// 1 GiB pages; `None` when the processor or the kernel has none of this size.
    pub hugepages_1g: Option<Hugepages>,
    /// The bounds of the daemon.
    pub daemon: Bounds,
    /// Processors that are there.
    pub online: Option<CpuSet>,
    /// Processors the scheduler leaves alone (`isolcpus`).
    pub isolated: CpuSet,
    /// Processors without a timer tick (`nohz_full`).
    pub tickless: CpuSet,
    /// Processors whose RCU callbacks run elsewhere (`rcu_nocbs`; implied by `nohz_full`).
    pub rcu_offloaded: CpuSet,
    /// Frequency governor of each processor that has one.
    pub governors: BTreeMap<u32, String>,
    /// Nodes of memory by number.
    pub nodes: BTreeMap<u32, NumaNode>,
    /// The chosen setting of transparent hugepages.
    pub transparent_hugepages: Option<String>,
    /// `vm.swappiness`.
    pub swappiness: Option<u64>,
    /// Whether any swap is in use.
    pub swap: bool,
    /// Whether `/dev/watchdog` is there.
    pub watchdog: bool,
    /// Clock source of the kernel.
    pub clocksource: Option<String>,
}

impl Machine {
    /// This machine: read, and tried out where reading cannot tell.
    pub fn here() -> Self {
        let io_uring_tried = Some(match io_uring_is_open() {
            Ok(()) => Trial::Works,
            Err(closed) => Trial::Closed {
                why: closed.to_string(),
                errno: closed.source.raw_os_error().unwrap_or_default(),
            },
        });
        Self {
            io_uring_tried,
            ..Self::read(Path::new("/"))
        }
    }

    /// Reads the machine whose file system starts at `root`: `/`, or a copy of another machine's.
    pub fn read(root: &Path) -> Self {
        let tree = Tree { root };
        let cmdline = tree.text("proc/cmdline").unwrap_or_default();
        let tickless = tree.cpus(&format!("{CPUS}/nohz_full"));
        let mut rcu_offloaded = argument(&cmdline, "rcu_nocbs");
        rcu_offloaded = rcu_offloaded.iter().chain(tickless.iter()).collect();
        Self {
            kernel_release: tree.text("proc/sys/kernel/osrelease"),
            io_uring_disabled: tree.number("proc/sys/kernel/io_uring_disabled"),
            io_uring_tried: None,
            seccomp: tree.seccomp(),
            hugepages_2m: tree.hugepages(&format!("{HUGEPAGES}/hugepages-2048kB")),
            hugepages_1g: tree.hugepages(&format!("{HUGEPAGES}/hugepages-1048576kB")),
            daemon: Bounds::of(&tree),
            online: tree
                .text(&format!("{CPUS}/online"))
                .and_then(|text| CpuSet::parse(&text)),
            isolated: tree.cpus(&format!("{CPUS}/isolated")),
            tickless,
            rcu_offloaded,
            governors: tree.governors(),
            nodes: tree.nodes(),
            transparent_hugepages: tree
                .text("sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|text| chosen(&text)),
            swappiness: tree.number("proc/sys/vm/swappiness"),
            // The first line is the heading.
            swap: tree
                .text("proc/swaps")
                .is_some_and(|text| text.lines().count() > 1),
            watchdog: root.join("dev/watchdog").exists(),
            clocksource: tree.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
        }
    }

    /// The node of memory a processor belongs to.
    pub fn node_of(&self, cpu: u32) -> Option<u32> {
        self.nodes
            .iter()
            .find(|(_, node)| node.cpus.contains(cpu))
            .map(|(number, _)| *number)
    }
}

/// A file system tree, read through small files.
pub(crate) struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    pub(crate) fn text(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(file)).ok()?;
        Some(text.trim_end_matches(['\n', '\0']).to_owned())
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }

    fn cpus(&self, file: &str) -> CpuSet {
        self.text(file)
            .and_then(|text| CpuSet::parse(&text))
            .unwrap_or_default()
    }

    fn hugepages(&self, folder: &str) -> Option<Hugepages> {
        let total = self.number(&format!("{folder}/nr_hugepages"))?;
        let free = self.number(&format!("{folder}/free_hugepages"))?;
        Some(Hugepages { total, free })
    }

    fn seccomp(&self) -> bool {
        let status = self.text("proc/self/status").unwrap_or_default();
        let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
        mode.is_some_and(|mode| mode.trim() != "0")
    }

    fn governors(&self) -> BTreeMap<u32, String> {
        let found = self.numbered(CPUS, "cpu").into_iter();
        found
            .filter_map(|(cpu, folder)| {
                let governor = fs::read_to_string(folder.join("cpufreq/scaling_governor")).ok()?;
                Some((cpu, governor.trim().to_owned()))
            })
            .collect()
    }

    fn nodes(&self) -> BTreeMap<u32, NumaNode> {
        let found = self.numbered(NODES, "node").into_iter();
        found
            .map(|(number, _)| {
                let folder = format!("{NODES}/node{number}");
                let cpus = self.cpus(&format!("{folder}/cpulist"));
                let hugepages_2m = self.hugepages(&format!("{folder}/hugepages/hugepages-2048kB"));
                (number, NumaNode { cpus, hugepages_2m })
            })
            .collect()
    }

    /// Entries of `folder` called `prefix` and a number.
    pub(crate) fn numbered(&self, folder: &str, prefix: &str) -> Vec<(u32, PathBuf)> {
        let Ok(entries) = fs::read_dir(self.root.join(folder)) else {
            return Vec::new();
        };
        let named = entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path()))
        });
        named.collect()
    }

    /// Files of `folder` whose names end so, by name.
    pub(crate) fn files(&self, folder: &str, ending: &str) -> BTreeMap<String, PathBuf> {
        let Ok(entries) = fs::read_dir(self.root.join(folder)) else {
            return BTreeMap::new();
        };
        let named = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.ends_with(ending).then(|| (name, entry.path()))
        });
        named.collect()
    }
}

/// The list given to an argument of the kernel; empty when it is not given.
fn argument(cmdline: &str, name: &str) -> CpuSet {
    let value = cmdline
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .rfind(|(key, _)| *key == name)
        .map(|(_, value)| value);
    value.and_then(CpuSet::parse).unwrap_or_default()
}

/// The word in brackets of `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_brackets_and_arguments_are_found() {
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("always"), None);
        assert_eq!(argument("ro rcu_nocbs=1-2 quiet", "rcu_nocbs").to_string(), "1-2");
        assert!(argument("ro quiet", "rcu_nocbs").is_empty());
    }

    #[test]
    fn a_tree_without_anything_is_a_machine_of_unknowns() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Machine::read(folder.path()), Machine::default());
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::here();
        assert_eq!(
            machine.io_uring_tried,
            Some(Trial::Works),
            "the other tests need it too"
        );
        assert!(machine.kernel_release.is_some());
        assert!(machine.daemon.nofile.is_some() && machine.daemon.memlock.is_some());
    }
}
