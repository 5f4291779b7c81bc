//! The daemon on its users' kernels: NVMe of both block sizes, loop devices, files on ext4, xfs and btrfs, on Linux 6.1
//! (Debian 12) and 6.12. Kernels ask different things of a request's memory, and that of a build machine is none of
//! theirs. On each medium: segments cut in every odd way, flush, discard, zeroes, and a `kill -9` under load;
//! then devices come back under other names.

use std::time::Duration;

use crate::failure::{Failure, Outcome, demand};
use crate::host::{self, Host, Namespace};
use crate::lab::{Depth, Lab};
use crate::process::wait_until;
use crate::scenarios::{renamed, step};

/// The quick run has Debian 12's own, the full one that of its backports as well, which is Debian 13's.
const KERNELS: [(&str, Depth); 2] = [("6.1", Depth::Quick), ("6.12", Depth::Full)];

/// A medium: its name, the words of a shell that make it, and what the disk is added by. The shell prefers busybox' losetup,
/// which knows no block size.
const MEDIA: [(&str, &str, &str); 9] = [
    ("nvme-512", "true", "--block /dev/nvme0n1"),
    ("nvme-4096", "true", "--block /dev/nvme0n2"),
    (
        "ext4-512",
        "mkfs.ext4 -q /dev/nvme0n3 && mkdir -p /m/e && mount /dev/nvme0n3 /m/e",
        "--file /m/e/disk --size 48MiB",
    ),
    (
        "ext4-4096",
        "mkfs.ext4 -q /dev/nvme0n4 && mkdir -p /m/f && mount /dev/nvme0n4 /m/f",
        "--file /m/f/disk --size 48MiB",
    ),
    (
        "xfs-512",
        "modprobe xfs && mkfs.xfs -q /dev/nvme0n5 && mkdir -p /m/x && mount -t xfs /dev/nvme0n5 /m/x",
        "--file /m/x/disk --size 48MiB",
    ),
    (
        "xfs-4096",
        "mkfs.xfs -q /dev/nvme0n6 && mkdir -p /m/y && mount -t xfs /dev/nvme0n6 /m/y",
        "--file /m/y/disk --size 48MiB",
    ),
    (
        "btrfs",
        "modprobe btrfs && mkfs.btrfs -q /dev/nvme0n7 && mkdir -p /m/b && mount -t btrfs /dev/nvme0n7 /m/b",
        "--file /m/b/disk --size 48MiB",
    ),
    (
        "loop-512",
        "modprobe loop && truncate -s 48M /m/e/loop && /opt/losetup /dev/loop0 /m/e/loop",
        "--block /dev/loop0",
    ),
    (
        "loop-4096-direct",
        "truncate -s 48M /m/f/loop && /opt/losetup --sector-size 4096 --direct-io=on /dev/loop1 /m/f/loop",
        "--block /dev/loop1",
    ),
];

const NAMESPACES: [Namespace; 7] = [
    namespace(64, 512),
    namespace(64, 4096),
    namespace(160, 512),
    namespace(160, 4096),
    namespace(320, 512),
    namespace(320, 4096),
    namespace(256, 512),
];

const fn namespace(mib: u64, block_bytes: u32) -> Namespace {
    Namespace { mib, block_bytes }
}

const CONFIG: &str = "state_dir = \\\"/s\\\"\\nrun_dir = \\\"/r\\\"\\n[reactors]\\ncores = [0]\\n[allow]\\nfiles = [\\\"/m\\\"]\\nanything = true\\n";

pub fn run(lab: &Lab) -> Outcome {
    for (version, depth) in KERNELS {
        if depth == Depth::Quick || lab.depth() == Depth::Full {
            on(lab, version)?;
        }
    }
    Ok(())
}

fn on(lab: &Lab, version: &str) -> Outcome {
    let mut host = Host::boot(lab, version, &NAMESPACES, &host::programs(lab)?)?;
    host.run(&format!(
        "mkdir -p /s /r /m && chmod 700 /s && printf \"{CONFIG}\" >/etc/palisade.toml"
    ))?;
    start(&mut host)?;
    for (name, made, by) in MEDIA {
        let about = |failure| Failure::new(format!("{name}: {failure}"));
        host.run(made).map_err(about)?;
        host.run(&format!(
            "{CLI} disk add {name} {by} --wait && {CLI} volume create {name} 8MiB --disk {name} --wait && {CLI} attachment \
             create {name} {name} --wait"
        ))
        .map_err(about)?;
        let said = host
            .run(&format!("palisade-e2e drive shapes {name} /r/{name}.sock"))
            .map_err(about)?;
        step(format!("Linux {}, {}", host.kernel, said.trim()));
    }
    killed_under_load(&mut host)?;
    renamed::run(&mut host)?;
    let health = host.run(&format!("{CLI} health --json"))?;
    demand(
        health.contains("\"overall\":\"ok\"") || health.contains("\"overall\": \"ok\""),
        format!("Linux {}: the appliance is not well: {health}", host.kernel),
    )?;
    host.vm.must_be_calm()?;
    host.run("kill $(cat /d) && while kill -0 $(cat /d) 2>/dev/null; do sleep 0.2; done")?;
    Ok(())
}

pub const CLI: &str = "palisade --url /r/api.socket";

/// Starts the daemon.
pub fn start(host: &mut Host) -> Outcome {
    host.run(&format!(
        "palisaded --config /etc/palisade.toml >>/log 2>&1 & echo $! >/d; n=0; until {CLI} node >/dev/null 2>&1; do n=$((n + 1)); \
         [ $n -lt 60 ] || {{ tail -n 20 /log; exit 1; }}; sleep 0.5; done"
    ))
    .map(drop)
}

fn killed_under_load(host: &mut Host) -> Outcome {
    for (name, ..) in MEDIA {
        host.run(&format!(
            "(palisade-e2e drive load {name} /r/{name}.sock 1; echo \"@$?\") >/tmp/load.{name} 2>&1 &"
        ))?;
    }
    let all = MEDIA.len().to_string();
    let counted = |host: &mut Host, words: &str| {
        wait_until(words, Duration::from_secs(300), || {
            let count = host.run(&format!("cat /tmp/load.* | grep -c '{words}' || true"))?;
            Ok(count.trim() == all)
        })
    };
    counted(host, "under load")?;
    host.run("sleep 3; kill -9 $(cat /d)")?;
    start(host)?;
    let ended = counted(host, "^@");
    let said = host.run("cat /tmp/load.*")?;
    ended.map_err(|failure| Failure::new(format!("{failure}: {said}")))?;
    demand(
        said.matches("@0").count() == MEDIA.len(),
        format!("Linux {}: {said}", host.kernel),
    )?;
    for line in said.lines().filter(|line| line.contains("answered once")) {
        step(format!("Linux {}, {line}", host.kernel));
    }
    Ok(())
}
