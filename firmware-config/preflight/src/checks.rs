//! The checks: one function a section of the profile, each from two values to at most a few findings.

use crate::cpu_set::CpuSet;
use crate::finding::PreflightFinding;
use crate::machine::{Hugepages, Machine, Trial};
use crate::profile::{Amount, Profile, Want};
use crate::release::Release;

/// Compares a machine with a profile. No finding, no difference. The worst come first.
pub fn preflight(profile: &Profile, machine: &Machine) -> Vec<PreflightFinding> {
    let mut findings = Vec::new();
    findings.extend(
        profile
            .kernel_release
            .as_ref()
            .and_then(|want| kernel_release(want, machine)),
    );
    findings.extend(profile.io_uring.as_ref().and_then(|want| io_uring(want, machine)));
    findings.extend(
        profile
            .hugepages_2m
            .as_ref()
            .and_then(|want| hugepages_2m(want, machine)),
    );
    findings.extend(
        profile
            .hugepages_1g
            .as_ref()
            .and_then(|want| hugepages_1g(want, machine)),
    );
    findings.extend(profile.memlock.as_ref().and_then(|want| memlock(want, machine)));
    findings.extend(profile.nofile.as_ref().and_then(|want| nofile(want, machine)));
    if let Some(want) = profile.isolated_cores.as_ref().filter(|want| want.want) {
        findings.extend(reactor_cores(want, profile, machine));
        findings.extend(isolated_cores(want, profile, machine));
    }
    if let Some(want) = profile.numa_reactors.as_ref().filter(|want| want.want) {
        findings.extend(numa_reactors(want, profile, machine));
    }
    findings.extend(
        profile
            .governor
            .as_ref()
            .and_then(|want| governor(want, profile, machine)),
    );
    findings.extend(
        profile
            .transparent_hugepages
            .as_ref()
            .and_then(|want| transparent_hugepages(want, machine)),
    );
    findings.extend(
        profile
            .swappiness
            .as_ref()
            .and_then(|want| swappiness(want, machine)),
    );
    findings.extend(profile.watchdog.as_ref().and_then(|want| watchdog(want, machine)));
    findings.extend(
        profile
            .clocksource
            .as_ref()
            .and_then(|want| clocksource(want, machine)),
    );
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn kernel_release(want: &Want<String>, machine: &Machine) -> Option<PreflightFinding> {
    let found = machine.kernel_release.as_deref();
    // A profile with an unreadable release is refused when it is parsed.
    let wanted = Release::parse(&want.want)?;
    if found
        .and_then(Release::parse)
        .is_some_and(|release| release >= wanted)
    {
        return None;
    }
    let remedy = format!("install a kernel of release {wanted} or newer and boot it");
    Some(
        PreflightFinding::of("kernel_release", "release of the kernel", want)
            .seen(found)
            .like(wanted, "or newer")
            .fix(remedy),
    )
}

/// Tried where it can be: what a file says is neither all that can close it nor the last word (with
/// `io_uring_disabled=1` it is open to root and to a group).
fn io_uring(want: &Want<bool>, machine: &Machine) -> Option<PreflightFinding> {
    let (found, remedy) = match (&machine.io_uring_tried, machine.io_uring_disabled) {
        (Some(Trial::Works), _) => return None,
        (Some(Trial::Closed { why, errno }), disabled) => (
            format!("closed to a process started from here ({why})"),
            what_closes_io_uring(*errno, disabled, machine.seccomp),
        ),
        // The setting came with 6.6; before, io_uring was open to all.
        (None, None | Some(0)) => return None,
        (None, Some(1)) => (
            "open to root and to the group kernel.io_uring_group".to_owned(),
            CLOSED_BY_GROUP.to_owned(),
        ),
        (None, Some(_)) => ("off".to_owned(), CLOSED_BY_SYSCTL.to_owned()),
    };
    want.want.then(|| {
        PreflightFinding::of("io_uring", "io_uring", want)
            .seen(Some(found))
            .like("open", "to the daemon")
            .fix(remedy)
    })
}

/// A site that closed it had its reasons: it is not opened behind their back.
const CLOSED_BY_SYSCTL: &str = "sysctl kernel.io_uring_disabled=0, or 1 with the daemon as root or in the group that kernel.io_uring_group names";
const CLOSED_BY_GROUP: &str = "run the daemon as root or in the group that kernel.io_uring_group names, or sysctl kernel.io_uring_disabled=0";

fn what_closes_io_uring(errno: i32, disabled: Option<u64>, seccomp: bool) -> String {
    const EPERM: i32 = 1;
    const ENOMEM: i32 = 12;
    const ENOSYS: i32 = 38;
    match errno {
        EPERM if disabled == Some(2) => CLOSED_BY_SYSCTL.to_owned(),
        EPERM if disabled == Some(1) && !seccomp => CLOSED_BY_GROUP.to_owned(),
        ENOMEM => "raise the limit on locked memory (LimitMEMLOCK=infinity in the unit, ulimit -l unlimited in a shell)"
            .to_owned(),
        _ if seccomp => "let io_uring_setup, io_uring_enter and io_uring_register through the seccomp filter that binds this \
                         process: a container's profile (docker run --security-opt seccomp=...), or SystemCallFilter= of a unit"
            .to_owned(),
        ENOSYS => "boot a kernel that is built with CONFIG_IO_URING".to_owned(),
        _ => "see what security module or filter denies it (dmesg, journalctl -k), and allow it to the daemon".to_owned(),
    }
}

fn hugepages_2m(want: &Want<u64>, machine: &Machine) -> Option<PreflightFinding> {
    let missing = short_of(machine.hugepages_2m, want.want)?;
    let remedy = format!(
        "sysctl vm.nr_hugepages={0} (and the same line in /etc/sysctl.d to keep it); early after boot, while memory is \
         unbroken",
        want.want
    );
    let finding = PreflightFinding::of("hugepages_2m", "2 MiB pages", want)
        .seen(missing)
        .like(want.want, "pages")
        .fix(remedy);
    // A kernel without them has no such file.
    Some(match machine.hugepages_2m {
        Some(_) => finding.write("proc/sys/vm/nr_hugepages", want.want),
        None => finding,
    })
}

fn hugepages_1g(want: &Want<u64>, machine: &Machine) -> Option<PreflightFinding> {
    let missing = short_of(machine.hugepages_1g, want.want)?;
    let remedy = format!("boot with hugepagesz=1G hugepages={}", want.want);
    Some(
        PreflightFinding::of("hugepages_1g", "1 GiB pages", want)
            .seen(missing)
            .like(want.want, "pages")
            .fix(remedy),
    )
}

fn memlock(want: &Want<String>, machine: &Machine) -> Option<PreflightFinding> {
    let (wanted, daemon) = (Amount::parse(&want.want)?, &machine.daemon);
    if daemon.memlock.is_some_and(|found| found >= wanted) {
        return None;
    }
    Some(
        PreflightFinding::of("memlock", &format!("locked memory {}", daemon.whose), want)
            .seen(daemon.memlock)
            .like(wanted, "")
            .fix(daemon.whose.lift("LimitMEMLOCK=infinity", "memlock")),
    )
}

fn nofile(want: &Want<u64>, machine: &Machine) -> Option<PreflightFinding> {
    let daemon = &machine.daemon;
    if daemon.nofile.is_some_and(|found| found >= want.want) {
        return None;
    }
    let setting = format!("LimitNOFILE={}", want.want);
    Some(
        PreflightFinding::of("nofile", &format!("open files {}", daemon.whose), want)
            .seen(daemon.nofile)
            .like(want.want, "")
            .fix(daemon.whose.lift(&setting, "nofile")),
    )
}

fn reactor_cores(want: &Want<bool>, profile: &Profile, machine: &Machine) -> Option<PreflightFinding> {
    let finding = |what: &str, absent: String, among: &CpuSet| {
        PreflightFinding::of("isolated_cores", what, want)
            .seen(Some(absent))
            .like(&profile.reactor_cores, "there for it")
            .fix(format!("choose the reactors' cores among {among}"))
    };
    let online = machine.online.as_ref()?;
    let absent = profile.reactor_cores.without(online);
    if !absent.is_empty() {
        return Some(finding(
            "cores of the reactors",
            format!("{absent} not online"),
            online,
        ));
    }
    // A control group keeps a process from cores that are there, whatever it asks for.
    let daemon = &machine.daemon;
    let kept = daemon.cores.as_ref()?;
    let absent = profile.reactor_cores.without(kept);
    (!absent.is_empty()).then(|| {
        let what = format!("cores in the control group {}", daemon.whose);
        let finding = finding(&what, format!("{kept}, without {absent}"), kept);
        let remedy = format!(
            "{}, or let its control group have them (AllowedCPUs= of its unit or slice)",
            finding.remedy
        );
        finding.fix(remedy)
    })
}

fn isolated_cores(want: &Want<bool>, profile: &Profile, machine: &Machine) -> Option<PreflightFinding> {
    let cores = &profile.reactor_cores;
    let listed = format!(
        "isolcpus {}, nohz_full {}, rcu_nocbs {}",
        machine.isolated, machine.tickless, machine.rcu_offloaded
    );
    let shut = [&machine.isolated, &machine.tickless, &machine.rcu_offloaded];
    let (well, chosen) = if cores.is_empty() {
        (
            shut.iter().all(|set| !set.is_empty()),
            proposed(machine.online.as_ref()),
        )
    } else {
        (
            shut.iter().all(|set| cores.without(set).is_empty()),
            Some(cores.to_string()),
        )
    };
    (!well).then(|| {
        let wanted = if cores.is_empty() { "at least one".to_owned() } else { cores.to_string() };
        let fix = match chosen {
            Some(cores) => format!(
                "boot with isolcpus=managed_irq,domain,{cores} nohz_full={cores} rcu_nocbs={cores}: with GRUB, add that to \
                 GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub and reboot"
            ),
            None => "nothing can be kept free on a machine with one core: give it more".to_owned(),
        };
        PreflightFinding::of("isolated_cores", "cores kept free for the reactors", want)
            .seen(Some(listed))
            .like(wanted, "in all three")
            .fix(fix)
    })
}

/// Cores that reactors could have to themselves: all but the first quarter, of which the rest of the machine keeps one at
/// least. None: there is no core to spare.
fn proposed(online: Option<&CpuSet>) -> Option<String> {
    let Some(online) = online else {
        // Whoever reads it knows them.
        return Some("CORES".to_owned());
    };
    let all: Vec<u32> = online.iter().collect();
    let kept = (all.len() / 4).max(1);
    let free: CpuSet = all.into_iter().skip(kept).collect();
    (!free.is_empty()).then(|| free.to_string())
}

fn numa_reactors(want: &Want<bool>, profile: &Profile, machine: &Machine) -> Vec<PreflightFinding> {
    let mut nodes: Vec<u32> = profile
        .reactor_cores
        .iter()
        .filter_map(|core| machine.node_of(core))
        .collect();
    nodes.dedup();
    nodes.sort_unstable();
    nodes.dedup();
    // With one node there is nothing to place.
    if machine.nodes.len() < 2 || nodes.is_empty() {
        return Vec::new();
    }
    let pages = profile.hugepages_2m.as_ref().map_or(1, |want| want.want);
    let share = pages.div_ceil(u64::try_from(nodes.len()).unwrap_or(1)).max(1);
    let poor = nodes.iter().filter_map(|number| {
        let node = machine.nodes.get(number)?;
        let found = short_of(node.hugepages_2m, share)?;
        let file = format!("sys/devices/system/node/node{number}/hugepages/hugepages-2048kB/nr_hugepages");
        let finding = PreflightFinding::of(
            "numa_reactors",
            &format!("2 MiB pages on memory node {number}"),
            want,
        )
        .seen(found)
        .like(share, "pages beside the reactors there")
        .fix(format!("echo {share} > /{file}"));
        Some(if node.hugepages_2m.is_some() {
            finding.write(&file, share)
        } else {
            finding
        })
    });
    poor.collect()
}

fn governor(want: &Want<String>, profile: &Profile, machine: &Machine) -> Option<PreflightFinding> {
    // A virtual machine has no governor to choose: nothing to repair, nothing to say.
    let concerned = |cpu: u32| profile.reactor_cores.is_empty() || profile.reactor_cores.contains(cpu);
    let wrong: Vec<(u32, &String)> = machine
        .governors
        .iter()
        .filter(|(cpu, governor)| concerned(**cpu) && **governor != want.want)
        .map(|(cpu, governor)| (*cpu, governor))
        .collect();
    let (_, first) = wrong.first()?;
    let cpus: CpuSet = wrong.iter().map(|(cpu, _)| *cpu).collect();
    let mut finding = PreflightFinding::of("governor", "frequency governor", want)
        .seen(Some(format!("{first} on {cpus}")))
        .like(&want.want, "")
        .fix(format!("cpupower -c {cpus} frequency-set -g {}", want.want));
    for cpu in cpus.iter() {
        finding = finding.write(
            &format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"),
            &want.want,
        );
    }
    Some(finding)
}

fn transparent_hugepages(want: &Want<Vec<String>>, machine: &Machine) -> Option<PreflightFinding> {
    let found = machine.transparent_hugepages.as_ref()?;
    if want.want.contains(found) {
        return None;
    }
    let first = want.want.first()?;
    let file = "sys/kernel/mm/transparent_hugepage/enabled";
    Some(
        PreflightFinding::of("transparent_hugepages", "transparent hugepages", want)
            .seen(Some(found))
            .like(want.want.join(" or "), "")
            .fix(format!(
                "echo {first} > /{file}; boot with transparent_hugepage={first} to keep it"
            ))
            .write(file, first),
    )
}

fn swappiness(want: &Want<u64>, machine: &Machine) -> Option<PreflightFinding> {
    if !machine.swap || machine.swappiness.is_some_and(|found| found <= want.want) {
        return None;
    }
    Some(
        PreflightFinding::of("swappiness", "vm.swappiness", want)
            .seen(machine.swappiness)
            .like(want.want, "or less")
            .fix(format!(
                "sysctl vm.swappiness={0} (and the same line in /etc/sysctl.d to keep it)",
                want.want
            ))
            .write("proc/sys/vm/swappiness", want.want),
    )
}

fn watchdog(want: &Want<bool>, machine: &Machine) -> Option<PreflightFinding> {
    (want.want && !machine.watchdog).then(|| {
        PreflightFinding::of("watchdog", "/dev/watchdog", want)
            .seen(Some("missing"))
            .like("there", "")
            .fix("load the driver of the board's watchdog (iTCO_wdt, ipmi_watchdog), or softdog when it has none")
    })
}

fn clocksource(want: &Want<String>, machine: &Machine) -> Option<PreflightFinding> {
    let found = machine.clocksource.as_ref()?;
    (*found != want.want).then(|| {
        PreflightFinding::of("clocksource", "clock source of the kernel", want)
            .seen(Some(found))
            .like(&want.want, "")
            .fix(format!(
                "boot with clocksource={0}; see dmesg for why the kernel left {0}",
                want.want
            ))
    })
}

/// What is there when it is fewer than `wanted`, in words.
fn short_of(found: Option<Hugepages>, wanted: u64) -> Option<Option<String>> {
    match found {
        Some(pages) if pages.total >= wanted => None,
        Some(pages) => Some(Some(format!("{} ({} free)", pages.total, pages.free))),
        None if wanted == 0 => None,
        None => Some(Some("not offered by this kernel".to_owned())),
    }
}
