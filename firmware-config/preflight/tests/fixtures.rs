//! Machines that are not this one: a small virtual machine, a two-socket server as it came, and the same as it should be.

use std::fs;
use std::path::Path;

use palisade_preflight::{Machine, Profile, Severity, Trial, apply, preflight, render, render_applied};
use tempfile::TempDir;

/// A copy of the parts of a machine's file system that are looked at.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a scratch folder");
    for (file, text) in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("files lie in folders")).expect("scratch folder");
        fs::write(path, text).expect("scratch file");
    }
    folder
}

const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
    Max open files            1024                 524288               files     \n\
    Max locked memory         8388608              8388608              bytes     \n";

/// A two-socket server fresh from installation.
fn server() -> Vec<(&'static str, &'static str)> {
    vec![
        ("proc/sys/kernel/osrelease", "6.12.41-amd64\n"),
        ("proc/sys/kernel/io_uring_disabled", "2\n"),
        ("proc/sys/vm/nr_hugepages", "0\n"),
        ("proc/sys/vm/swappiness", "60\n"),
        (
            "proc/swaps",
            "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n",
        ),
        ("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet\n"),
        ("proc/self/limits", LIMITS),
        ("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n"),
        ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "4\n"),
        (
            "sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages",
            "4\n",
        ),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise never\n",
        ),
        ("sys/devices/system/cpu/online", "0-3\n"),
        ("sys/devices/system/cpu/isolated", "\n"),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "powersave\n",
        ),
        (
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
            "performance\n",
        ),
        (
            "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
            "powersave\n",
        ),
        (
            "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
            "powersave\n",
        ),
        ("sys/devices/system/node/node0/cpulist", "0-1\n"),
        (
            "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
            "1024\n",
        ),
        (
            "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
            "1024\n",
        ),
        ("sys/devices/system/node/node1/cpulist", "2-3\n"),
        (
            "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages",
            "0\n",
        ),
        (
            "sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages",
            "0\n",
        ),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet\n",
        ),
    ]
}

/// `server` with some files replaced.
fn server_with(changes: &[(&'static str, &'static str)]) -> TempDir {
    let mut files = server();
    for (file, text) in changes {
        files.retain(|(known, _)| known != file);
        files.push((file, text));
    }
    tree(&files)
}

fn names(root: &Path, profile: &Profile) -> Vec<String> {
    preflight(profile, &Machine::read(root))
        .into_iter()
        .map(|finding| finding.check)
        .collect()
}

fn bare_metal() -> Profile {
    Profile::named("bare-metal").expect("comes with the program")
}

#[test]
fn a_fresh_server_misses_what_it_misses_and_each_finding_has_a_remedy() {
    let root = server_with(&[]);
    let findings = preflight(&bare_metal().for_reactors([1, 3]), &Machine::read(root.path()));
    let mut checks: Vec<&str> = findings.iter().map(|finding| finding.check.as_str()).collect();
    checks.sort_unstable();
    let expected = [
        "clocksource",
        "governor",
        "hugepages_2m",
        "io_uring",
        "isolated_cores",
        "memlock",
        "numa_reactors",
        "swappiness",
        "transparent_hugepages",
        "watchdog",
    ];
    assert_eq!(checks, expected);
    for finding in &findings {
        assert!(
            !finding.remedy.is_empty() && !finding.why.is_empty() && !finding.found.is_empty(),
            "{finding:?}"
        );
        assert!(!finding.wanted.is_empty(), "{finding:?}");
    }
    // The worst first.
    assert_eq!(findings[0].severity, Severity::Must);
    assert_eq!(findings.last().unwrap().severity, Severity::Should);
    let governor = findings
        .iter()
        .find(|finding| finding.check == "governor")
        .unwrap();
    assert_eq!(
        governor.found, "powersave on 3",
        "core 1 is well, cores 0 and 2 are nobody's"
    );
    let numa = findings
        .iter()
        .find(|finding| finding.check == "numa_reactors")
        .unwrap();
    assert!(
        numa.what.contains("node 1") && numa.wanted.starts_with("512 "),
        "{numa:?}"
    );
}

#[test]
fn a_server_as_it_should_be_has_no_finding() {
    let root = server_with(&[
        ("proc/sys/kernel/io_uring_disabled", "0\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "2048\n"),
        (
            "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages",
            "1024\n",
        ),
        (
            "proc/cmdline",
            "ro isolcpus=managed_irq,domain,1,3 nohz_full=1,3 rcu_nocbs=1,3\n",
        ),
        ("sys/devices/system/cpu/isolated", "1,3\n"),
        ("sys/devices/system/cpu/nohz_full", "1,3\n"),
        (
            "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
            "performance\n",
        ),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        ),
        ("proc/sys/vm/swappiness", "10\n"),
        ("proc/self/status", "CapEff:\t000001ffffffffff\n"),
        (
            "proc/self/limits",
            "Max open files            1024                 65536                files\n",
        ),
        ("dev/watchdog", ""),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "tsc\n",
        ),
    ]);
    let profile = bare_metal().for_reactors([1, 3]);
    assert_eq!(names(root.path(), &profile), Vec::<String>::new());
    assert!(render(&profile, &[]).contains("as the profile wants it"));
}

#[test]
fn one_missing_argument_of_the_three_is_enough_to_be_found() {
    let root = server_with(&[
        ("proc/cmdline", "ro isolcpus=1 rcu_nocbs=1\n"),
        ("sys/devices/system/cpu/isolated", "1\n"),
    ]);
    assert!(names(root.path(), &bare_metal().for_reactors([1])).contains(&"isolated_cores".to_owned()));
}

#[test]
fn a_core_that_is_not_there_is_found() {
    let root = server_with(&[]);
    let findings = preflight(&bare_metal().for_reactors([1, 9]), &Machine::read(root.path()));
    assert!(findings.iter().any(|finding| finding.found == "9 not online"));
}

#[test]
fn an_old_kernel_must_be_replaced() {
    let root = server_with(&[("proc/sys/kernel/osrelease", "5.15.0-91-generic\n")]);
    let findings = preflight(&Profile::named("lab").unwrap(), &Machine::read(root.path()));
    let kernel = findings
        .iter()
        .find(|finding| finding.check == "kernel_release")
        .unwrap();
    assert_eq!(
        (kernel.severity, kernel.found.as_str()),
        (Severity::Must, "5.15.0-91-generic")
    );
    assert!(
        kernel.apply.is_empty(),
        "nobody installs a kernel behind an operator's back"
    );
}

#[test]
fn a_machine_that_cannot_be_read_is_unknown_and_not_well() {
    let root = tree(&[]);
    let findings = preflight(&bare_metal(), &Machine::read(root.path()));
    let kernel = findings
        .iter()
        .find(|finding| finding.check == "kernel_release")
        .unwrap();
    assert_eq!(kernel.found, "unknown");
}

#[test]
fn what_is_safe_is_written_and_read_back() {
    let root = server_with(&[]);
    let profile = bare_metal().for_reactors([1, 3]);
    let findings = preflight(&profile, &Machine::read(root.path()));
    let applied = apply(&findings, root.path());
    assert!(applied.iter().all(|one| one.took()), "{applied:?}");
    assert_eq!(
        fs::read_to_string(root.path().join("proc/sys/vm/nr_hugepages")).unwrap(),
        "1024"
    );
    assert_eq!(
        fs::read_to_string(root.path().join("proc/sys/kernel/io_uring_disabled")).unwrap(),
        "2\n",
        "what a site closed for its own reasons stays closed"
    );
    let left = names(root.path(), &profile);
    for repaired in ["governor", "swappiness", "numa_reactors"] {
        assert!(!left.contains(&repaired.to_owned()), "{repaired} is still there");
    }
    assert!(render_applied(&applied).contains("/proc/sys/vm/swappiness is 10 now"));
}

#[test]
fn what_cannot_be_written_says_why() {
    let root = server_with(&[]);
    let findings = preflight(&bare_metal(), &Machine::read(root.path()));
    fs::remove_file(root.path().join("proc/sys/vm/swappiness")).unwrap();
    let applied = apply(&findings, root.path());
    let swappiness = applied.iter().find(|one| one.check == "swappiness").unwrap();
    assert!(!swappiness.took());
    assert_eq!(swappiness.now, Err("this kernel has no such setting".to_owned()));
    assert!(
        !root.path().join("proc/sys/vm/swappiness").exists(),
        "no file is made up"
    );
}

#[test]
fn a_grant_of_fewer_pages_is_not_called_a_success() {
    let applied = palisade_preflight::Applied {
        check: "hugepages_2m".to_owned(),
        file: "/proc/sys/vm/nr_hugepages".to_owned(),
        wanted: "1024".to_owned(),
        now: Ok("731".to_owned()),
    };
    assert!(!applied.took());
    assert!(render_applied(&[applied]).contains("asked for 1024 and gave 731"));
}

#[test]
fn text_for_people_names_reason_and_remedy() {
    let root = server_with(&[]);
    let profile = Profile::named("lab").unwrap();
    let text = render(&profile, &preflight(&profile, &Machine::read(root.path())));
    assert!(text.contains("must    io_uring"), "{text}");
    assert!(
        text.contains("why:") && text.contains("remedy: sysctl vm.nr_hugepages=64"),
        "{text}"
    );
    // A daemon that serves already is not told that it cannot.
    assert!(
        text.contains("insists on") && !text.contains("can do its work"),
        "{text}"
    );
}

#[test]
fn the_cores_that_are_proposed_are_cores_of_the_machine() {
    let proposed = |online: &str| {
        let machine = Machine {
            online: palisade_preflight::CpuSet::parse(online),
            ..Machine::default()
        };
        let findings = preflight(&bare_metal(), &machine);
        let found = findings
            .into_iter()
            .find(|finding| finding.check == "isolated_cores");
        found.expect("nothing is kept free").remedy
    };
    for (online, cores) in [
        ("0-1", "1"),
        ("0-3", "1-3"),
        ("0-7", "2-7"),
        ("0,2,4,6", "2,4,6"),
        ("0-63", "16-63"),
    ] {
        let remedy = proposed(online);
        let wanted = format!("isolcpus=managed_irq,domain,{cores} nohz_full={cores} rcu_nocbs={cores}:");
        assert!(remedy.contains(&wanted), "{online}: {remedy}");
        assert!(!remedy.contains("kernel-cmdline"), "{remedy}");
    }
    assert!(proposed("0").contains("one core"), "{}", proposed("0"));
}

/// What is said of io_uring on a machine, "" when nothing is.
fn of_io_uring(tried: Option<Trial>, disabled: Option<u64>, seccomp: bool) -> String {
    let machine = Machine {
        io_uring_tried: tried,
        io_uring_disabled: disabled,
        seccomp,
        ..Machine::default()
    };
    let profile = Profile::named("lab").expect("it is built in");
    let findings = preflight(&profile, &machine);
    let found = findings.iter().find(|finding| finding.check == "io_uring");
    found
        .map(|finding| format!("{}: {}", finding.found, finding.remedy))
        .unwrap_or_default()
}

#[test]
fn io_uring_is_judged_by_trying_it() {
    let closed = |errno| {
        Some(Trial::Closed {
            why: "io_uring_setup, to make a ring: no".into(),
            errno,
        })
    };
    assert_eq!(of_io_uring(Some(Trial::Works), Some(1), false), "", "root may");
    assert_eq!(
        of_io_uring(Some(Trial::Works), Some(0), true),
        "",
        "a filter that lets it through"
    );
    for (tried, disabled, seccomp, part) in [
        (closed(1), Some(0), true, "seccomp filter"),
        (closed(1), None, true, "seccomp filter"),
        (closed(38), None, true, "seccomp filter"),
        (closed(38), None, false, "CONFIG_IO_URING"),
        (closed(1), Some(2), true, "sysctl kernel.io_uring_disabled=0"),
        (closed(1), Some(1), false, "kernel.io_uring_group"),
        (closed(12), Some(0), false, "locked memory"),
        (closed(13), Some(0), false, "security module"),
        (None, Some(2), false, "off"),
    ] {
        let said = of_io_uring(tried.clone(), disabled, seccomp);
        assert!(said.contains(part), "{tried:?} {disabled:?} {seccomp}: {said}");
    }
}

/// What is said of locked memory, open files and cores: whose they are, and what was found.
fn of_daemon(changes: &[(&'static str, &'static str)]) -> Vec<(String, String, String)> {
    let root = server_with(changes);
    let machine = Machine::read(root.path());
    let findings = preflight(&bare_metal().for_reactors([1, 3]), &machine);
    let of = |finding: &palisade_preflight::PreflightFinding| {
        ["memlock", "nofile"].contains(&finding.check.as_str()) || finding.what.contains("control group")
    };
    let told = findings.into_iter().filter(of);
    told.map(|finding| (finding.what, finding.found, finding.remedy))
        .collect()
}

/// The process that looks is root in a shell: without limits, and of no interest.
const ROOT_SHELL: [(&str, &str); 2] = [
    ("proc/self/status", "CapEff:\t000001ffffffffff\n"),
    (
        "proc/self/limits",
        "Max open files            1048576              1048576              files     \n",
    ),
];

#[test]
fn without_daemon_or_unit_it_is_the_shell_that_is_judged() {
    assert_eq!(of_daemon(&ROOT_SHELL), []);
    let told = of_daemon(&[]);
    let [(what, found, remedy)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(
        (what.as_str(), found.as_str()),
        ("locked memory of a daemon that is started from here", "8 MiB")
    );
    assert!(
        remedy.contains("LimitMEMLOCK=infinity") && remedy.contains("limits.d"),
        "{remedy}"
    );
}

#[test]
fn of_a_daemon_that_runs_its_own_bounds_are_judged() {
    let mut changes = ROOT_SHELL.to_vec();
    changes.extend([
        ("proc/17/comm", "sh\n"),
        ("proc/812/comm", "palisaded\n"),
        ("proc/812/limits", LIMITS),
        ("proc/812/status", "CapEff:\t000000000000000b\n"),
        ("proc/812/cgroup", "0::/system.slice/palisaded.service\n"),
        ("sys/fs/cgroup/system.slice/cpuset.cpus.effective", "0-2\n"),
        // What its unit says by now is of the next start.
        (
            "etc/systemd/system/palisaded.service",
            "[Service]\nLimitMEMLOCK=infinity\nLimitNOFILE=1048576\n",
        ),
    ]);
    let told = of_daemon(&changes);
    let [(memlock, found, remedy), (group, cores, choose)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(memlock, "locked memory of the daemon that runs (process 812)");
    assert_eq!(found, "8 MiB");
    assert!(remedy.contains("systemctl restart palisaded"), "{remedy}");
    assert_eq!(
        group,
        "cores in the control group of the daemon that runs (process 812)"
    );
    assert_eq!(cores, "0-2, without 3");
    assert!(
        choose.contains("among 0-2") && choose.contains("AllowedCPUs"),
        "{choose}"
    );
}

#[test]
fn of_a_daemon_that_does_not_run_its_unit_is_judged() {
    const UNIT: &str = include_str!("../../host/palisaded.service");
    let with = |more: &[(&'static str, &'static str)]| {
        let mut changes = LIMITED_SHELL.to_vec();
        changes.extend(more);
        of_daemon(&changes)
    };
    assert_eq!(with(&[("etc/systemd/system/palisaded.service", UNIT)]), []);
    let told = with(&[
        ("usr/lib/systemd/system/palisaded.service", UNIT),
        (
            "etc/systemd/system/palisaded.service.d/10-less.conf",
            "[Service]\nLimitNOFILE=1024:4096\nAllowedCPUs=0-1 3\n",
        ),
        (
            "etc/systemd/system/palisaded.service.d/20-more.conf",
            "[Service]\nLimitMEMLOCK=64M\n",
        ),
        (
            "etc/systemd/system/palisaded.service.d/99-off.conf.bak",
            "[Service]\nLimitNOFILE=9\n",
        ),
    ]);
    let told: Vec<(&str, &str)> = told
        .iter()
        .map(|(what, found, _)| (what.as_str(), found.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                "locked memory of the daemon, by its unit /usr/lib/systemd/system/palisaded.service",
                "64 MiB"
            ),
            (
                "open files of the daemon, by its unit /usr/lib/systemd/system/palisaded.service",
                "4096"
            ),
        ]
    );
}

/// One whose limits would be found wanting.
const LIMITED_SHELL: [(&str, &str); 1] = [(
    "proc/self/limits",
    "Max open files            1024                 1024                 files     \n",
)];
