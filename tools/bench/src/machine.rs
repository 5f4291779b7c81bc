//! The machine that figures come from. Figures without it mean nothing.

use serde::Serialize;
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
    /// Frequency governor, where the machine shows one.
    pub governor: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Free hugepages of 2 MiB.
    pub hugepages_free: u64,
    /// Whether it is a virtual machine.
    pub hypervisor: bool,
    /// Clock the kernel keeps time with.
    pub clocksource: String,
    /// Load averages before the first window: what else ran.
    pub load_before: String,
    /// Load averages at the end, with our own.
    pub load_after: String,
    /// Version of qemu-storage-daemon.
    pub qemu: String,
}

impl Machine {
    /// Looks at this machine.
    pub fn look(qemu: &std::path::Path) -> Machine {
        let cpuinfo = read("/proc/cpuinfo");
        let meminfo = read("/proc/meminfo");
        let version = Command::new(qemu).arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        Machine {
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            governor: match read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim() {
                "" => "not shown".to_owned(),
                name => name.to_owned(),
            },
            memory_mib: number(&meminfo, "MemTotal") / 1024,
            hugepages_free: number(&meminfo, "HugePages_Free"),
            hypervisor: field(&cpuinfo, "flags").is_some_and(|flags| flags.contains("hypervisor")),
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
                .trim()
                .to_owned(),
            load_before: load(),
            load_after: String::new(),
            qemu: version
                .ok()
                .and_then(|text| text.lines().next().map(str::to_owned))
                .unwrap_or_else(|| "none".into()),
        }
    }

    /// One paragraph.
    pub fn describe(&self) -> String {
        format!(
            "{}, {} processors{}, {} MiB, {} free hugepages; Linux {}, clock {}, governor {}; load averages before \
             {}, after {}; {}.",
            self.cpu,
            self.cores,
            if self.hypervisor {
                " (a virtual machine)"
            } else {
                ""
            },
            self.memory_mib,
            self.hugepages_free,
            self.kernel,
            self.clocksource,
            self.governor,
            self.load_before,
            self.load_after,
            self.qemu,
        )
    }
}

/// Load averages over 1, 5 and 15 minutes.
pub fn load() -> String {
    read("/proc/loadavg")
        .split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

fn number(text: &str, name: &str) -> u64 {
    let words = field(text, name).and_then(|text| text.split_whitespace().next());
    words.and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_a_kernel() {
        let machine = Machine::look(std::path::Path::new("/nonexistent"));
        assert!(machine.memory_mib > 0 && machine.cores > 0 && !machine.kernel.is_empty());
        assert_eq!(machine.qemu, "none");
        assert!(machine.describe().contains(&machine.kernel));
    }

    #[test]
    fn fields_are_found_by_name() {
        let text = "MemTotal:       1024 kB\nHugePages_Free:        3\n";
        assert_eq!(
            (
                number(text, "MemTotal"),
                number(text, "HugePages_Free"),
                number(text, "x")
            ),
            (1024, 3, 0)
        );
    }
}
