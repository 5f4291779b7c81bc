//! The machine that figures come from. Figures without it mean nothing.

use procfs::{CpuInfo, Current, LoadAverage, Meminfo};
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::process::Command;

/// What a reader needs to judge figures.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processor.
    pub cpu: String,
    /// Processors.
    pub cores: usize,
    /// Kernel.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Free hugepages of the usual size.
    pub hugepages_free: u64,
    /// Whether it is a virtual machine.
    pub hypervisor: bool,
    /// Load averages before the first window: what else ran.
    pub load_before: String,
    /// Load averages at the end, with our own.
    pub load_after: String,
    /// Version of qemu-storage-daemon.
    pub qemu: String,
}

impl Machine {
    /// Looks at this machine.
    pub fn look(qemu: &Path) -> Machine {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpu = CpuInfo::current().ok();
        let memory = Meminfo::current().ok();
        let version = Command::new(qemu).arg("--version").output().ok();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let field = |name| cpu.as_ref().and_then(|cpu| cpu.get_field(0, name));
        Machine {
            cpu: field("model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            kernel: kernel.trim().to_owned(),
            memory_mib: memory.as_ref().map_or(0, |memory| memory.mem_total >> 20),
            hugepages_free: memory.and_then(|memory| memory.hugepages_free).unwrap_or(0),
            hypervisor: field("flags").is_some_and(|flags| flags.contains("hypervisor")),
            load_before: load(),
            load_after: String::new(),
            qemu: version
                .and_then(|text| text.lines().next().map(str::to_owned))
                .unwrap_or_else(|| "no qemu-storage-daemon".into()),
        }
    }
}

/// One paragraph.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.hypervisor {
            " (a virtual machine)"
        } else {
            ""
        };
        write!(
            f,
            "{}, {} processors{kind}, {} MiB, {} free hugepages; Linux {}; load averages before {}, after {}; {}.",
            self.cpu,
            self.cores,
            self.memory_mib,
            self.hugepages_free,
            self.kernel,
            self.load_before,
            self.load_after,
            self.qemu,
        )
    }
}

/// Load averages over 1, 5 and 15 minutes.
pub fn load() -> String {
    let load = LoadAverage::current();
    load.map_or_else(
        |_| "unknown".into(),
        |load| format!("{:.2} {:.2} {:.2}", load.one, load.five, load.fifteen),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_a_kernel() {
        let machine = Machine::look(Path::new("/nonexistent"));
        assert!(machine.memory_mib > 0 && machine.cores > 0 && machine.cpu != "unknown");
        let running = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(machine.to_string().contains(running.trim()) && machine.load_before.contains('.'));
    }
}
