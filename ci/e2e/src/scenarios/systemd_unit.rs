//! The unit under Debian 12's systemd, installed as its comments say: it starts, every kind of disk is within reach of what
//! it may touch, group `palisade` comes in and nobody else, and a guest of our own sees only pauses, whichever way the
//! daemon is ended: restart, kill -9, a process that does not move any more, a disk that hangs.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::failure::{Failure, Outcome, demand};
use crate::host::{Host, Namespace};
use crate::lab::{Lab, root};
use crate::process::{ending, wait_until};
use crate::scenarios::step;

/// Media and what a disk on them is added by.
const MEDIA: [(&str, &str); 3] = [
    ("nvme", "--block /dev/nvme0n3"),
    ("loop", "--block /dev/loop0"),
    ("file", "--file /var/lib/palisade-disks/file.img --size 48MiB"),
];
/// One that can be made to hang, on a file system of its own.
const HANGING: (&str, &str) = ("hung", "--file /frozen/hung.img --size 48MiB");
/// The unit's TimeoutStopSec, and what an emulated machine may take besides.
const STOP_SECONDS: u64 = 45 + 15;
/// The unit's WatchdogSec, and what the end and the next start may take on an emulated machine.
const WATCHDOG_SECONDS: u64 = 20 + 40;

pub fn run(lab: &Lab) -> Outcome {
    let brought = brought(lab)?;
    let disk = Namespace {
        mib: 64,
        block_bytes: 4096,
    };
    let file_system = Namespace {
        mib: 160,
        block_bytes: 512,
    };
    let mut host = Host::boot_debian(lab, &brought, &[disk, file_system])?;
    install(&mut host)?;
    people(&mut host)?;
    disks(&mut host)?;
    let told = |host: &mut Host, failure: Failure| {
        let journal = host
            .run("journalctl -u palisaded -n 40 --no-pager -o cat")
            .unwrap_or_default();
        Failure::new(format!("{failure}\n{journal}"))
    };
    ends(&mut host).map_err(|failure| told(&mut host, failure))?;
    a_hung_disk(&mut host).map_err(|failure| told(&mut host, failure))?;
    clock(&mut host).map_err(|failure| told(&mut host, failure))
}

/// What an operator would carry to the machine.
fn brought(lab: &Lab) -> Outcome<std::path::PathBuf> {
    let folder = lab.path("brought");
    let during = |error| Failure::during(folder.display(), error);
    fs::create_dir(&folder).map_err(during)?;
    let driver = env::current_exe().map_err(during)?;
    let unit = root().join("firmware-config/host/palisaded.service");
    for path in [
        &lab.program("palisaded")?,
        &lab.program("palisade")?,
        &driver,
        &unit,
    ] {
        let to = folder.join(path.file_name().unwrap_or_default());
        fs::copy(path, &to).map_err(|error| Failure::during(path.display(), error))?;
        if path != &unit {
            strip(&to)?;
        }
    }
    Ok(folder)
}

fn strip(path: &Path) -> Outcome {
    let status = Command::new("strip").arg(path).status();
    let status = status.map_err(|error| Failure::during("strip", error))?;
    demand(
        status.success(),
        format!("strip {}: {}", path.display(), ending(status)),
    )
}

fn install(host: &mut Host) -> Outcome {
    let version = host.run("systemctl --version | head -n 1")?;
    demand(
        version.starts_with("systemd 252"),
        format!("Debian 12's systemd, not {version}"),
    )?;
    host.run(
        "mount /dev/nvme0n2 /mnt && install -m755 /mnt/palisaded /mnt/palisade /mnt/palisade-e2e /usr/bin/ && install -m644 \
         /mnt/palisaded.service /etc/systemd/system/ && umount /mnt",
    )?;
    host.run("groupadd palisade && groupadd palisade-read && useradd -G palisade anna && useradd -G palisade-read ben && useradd eve")?;
    host.run("systemctl daemon-reload && systemctl enable --now palisaded 2>&1")?;
    // What it calls a wrong line it ignores, and the journal alone says so.
    let ignored = host.run("journalctl -b --no-pager -o cat | grep 'palisaded.service:[0-9]' || true")?;
    demand(
        ignored.trim().is_empty(),
        format!("systemd does not take the unit whole: {ignored}"),
    )?;
    demand(
        host.run("systemctl is-active palisaded")?.trim() == "active",
        "it is not active",
    )?;
    step(format!(
        "{}: the unit starts and says that it is ready",
        version.trim()
    ));
    Ok(())
}

fn people(host: &mut Host) -> Outcome {
    let say = |who: &str, what: &str| format!("runuser -u {who} -- palisade {what} 2>&1");
    host.run(&say("anna", "disk add null --null 64MiB --wait"))?;
    host.run(&say("ben", "disk show null"))?;
    for (who, what) in [
        ("ben", "disk rm null --yes"),
        ("eve", "node"),
        ("eve", "disk show null"),
    ] {
        let answer = host.vm.ask(&say(who, what), Duration::from_secs(60))?;
        demand(
            answer.status != 0,
            format!("{who} may do `{what}`: {}", answer.text),
        )?;
    }
    host.run(&say("anna", "disk rm null --yes"))?;
    step("group palisade changes, group palisade-read looks, and nobody else comes in");
    Ok(())
}

fn disks(host: &mut Host) -> Outcome {
    host.run("modprobe loop && truncate -s 48M /var/loop.img && losetup /dev/loop0 /var/loop.img")?;
    host.run("mke2fs -q -t ext4 /dev/nvme0n4 && mkdir /frozen && mount /dev/nvme0n4 /frozen")?;
    // As the unit says of disks that are files elsewhere.
    host.run(
        "mkdir -p /etc/palisade /etc/systemd/system/palisaded.service.d && printf '[allow]\\nfiles = [\"/var/lib/palisade-disks\", \
         \"/frozen\"]\\n' >/etc/palisade/palisade.toml && printf '[Service]\\nReadWritePaths=/frozen\\n' \
         >/etc/systemd/system/palisaded.service.d/disks.conf && systemctl daemon-reload && systemctl restart palisaded",
    )?;
    for (name, by) in MEDIA.into_iter().chain([HANGING]) {
        host.run(&format!(
            "palisade disk add {name} {by} --wait && palisade volume create {name} 8MiB --disk {name} --wait && palisade \
             attachment create {name} {name} --wait"
        ))?;
        let said = host.run(&format!(
            "palisade-e2e drive shapes {name} /run/palisade/{name}.sock"
        ))?;
        step(said.trim());
    }
    Ok(())
}

/// Every way to end it, with a load on each disk.
fn ends(host: &mut Host) -> Outcome {
    // Restart, kill -9, watchdog.
    for (name, _) in MEDIA {
        load(host, name, 3)?;
    }
    everywhere(host, "under load", MEDIA.len())?;
    let before = pid(host)?;
    host.run("systemctl reload palisaded && sleep 2")?;
    demand(pid(host)? == before, "a reload has replaced the daemon")?;
    let heard =
        host.run("journalctl -u palisaded --no-pager -o cat | grep -ci 'SIGHUP\\|read again' || true")?;
    demand(heard.trim() != "0", "nothing in the journal tells of the reload")?;
    step("reload: the same process goes on");

    within(host, STOP_SECONDS, "systemctl restart palisaded")?;
    everywhere(host, "loss 1 survived", MEDIA.len())?;
    step("restart: a pause for three guests under load");

    let before = pid(host)?;
    host.run(&format!("kill -9 {before}"))?;
    everywhere(host, "loss 2 survived", MEDIA.len())?;
    step("kill -9: systemd starts it again");

    // What the watchdog is for: a process that is there and does not move.
    let before = pid(host)?;
    host.run(&format!(
        "sleep 25; test \"$(systemctl show -p MainPID --value palisaded)\" = {before}"
    ))?;
    host.run(&format!("kill -STOP {before}"))?;
    let stopped = std::time::Instant::now();
    everywhere(host, "loss 3 survived", MEDIA.len())?;
    let seconds = stopped.elapsed().as_secs();
    demand(
        seconds <= WATCHDOG_SECONDS,
        format!("a stopped daemon was back after {seconds} s"),
    )?;
    step(format!(
        "fed, the watchdog leaves it alone; stopped, it was ended and back after {seconds} s"
    ));
    everywhere(host, "^@", MEDIA.len())?;
    let said = host.run("cat /tmp/load.*; rm /tmp/load.*")?;
    demand(said.matches("@0").count() == MEDIA.len(), said.clone())?;
    for line in said.lines().filter(|line| line.contains("answered once")) {
        step(line);
    }
    Ok(())
}

/// A disk that hangs holds up neither the stop beyond its bound nor the others' return.
fn a_hung_disk(host: &mut Host) -> Outcome {
    load(host, "nvme", 1)?;
    load(host, HANGING.0, 1)?;
    everywhere(host, "under load", 2)?;
    host.run("fsfreeze -f /frozen && sleep 2")?;
    let took = within(host, STOP_SECONDS, "systemctl restart palisaded")?;
    everywhere(host, "loss 1 survived", 1)?;
    let healthy = host.run("grep -l 'loss 1' /tmp/load.*")?;
    demand(
        healthy.trim() == "/tmp/load.nvme",
        format!("the healthy disk is to be back, not {healthy}"),
    )?;
    named(host, HANGING.0)?;
    step(format!(
        "a disk that hangs: restarted in {took} s, the healthy one is back, the other is named"
    ));
    host.run("fsfreeze -u /frozen")?;
    everywhere(host, "^@0", 2)?;
    step("it answers again, and its guest has lost nothing");
    host.run("rm /tmp/load.*")?;
    let took = within(host, STOP_SECONDS, "systemctl stop palisaded")?;
    let left = host.run("systemctl show -p Result --value palisaded; pgrep -c palisade || true")?;
    demand(
        left.trim() == "success\n0",
        format!("stopped, and this is left: {left}"),
    )?;
    step(format!("stop: done in {took} s, and no process is left"));
    Ok(())
}

/// What the unit says of ProtectClock: with this systemd it shuts out no disk.
fn clock(host: &mut Host) -> Outcome {
    host.run(
        "printf '[Service]\\nProtectClock=yes\\n' >/etc/systemd/system/palisaded.service.d/clock.conf && systemctl \
         daemon-reload && systemctl start palisaded",
    )?;
    for (name, _) in MEDIA {
        host.run(&format!(
            "palisade-e2e drive shapes {name} /run/palisade/{name}.sock"
        ))?;
    }
    step("with ProtectClock=yes in a drop-in every disk is within reach as well");
    Ok(())
}

/// Waits until health speaks of `what`.
fn named(host: &mut Host, what: &str) -> Outcome {
    let mut said = String::new();
    let waited = wait_until(what, Duration::from_secs(60), || {
        said = host.vm.ask("palisade health", Duration::from_secs(60))?.text;
        Ok(said.contains(what))
    });
    waited.map_err(|_| Failure::new(format!("{what} is not named in health: {said}")))
}

fn load(host: &mut Host, name: &str, kills: u32) -> Outcome {
    host.run(&format!(
        "(palisade-e2e drive load {name} /run/palisade/{name}.sock {kills}; echo \"@$?\") >/tmp/load.{name} 2>&1 &"
    ))
    .map(drop)
}

/// Waits until so many loads have said `words`.
fn everywhere(host: &mut Host, words: &str, count: usize) -> Outcome {
    let waited = wait_until(words, Duration::from_secs(180), || {
        let found = host.run(&format!("cat /tmp/load.* | grep -c '{words}' || true"))?;
        Ok(found.trim() == count.to_string())
    });
    waited.map_err(|failure| {
        let said = host.run("cat /tmp/load.*").unwrap_or_default();
        Failure::new(format!("{failure}: {said}"))
    })
}

fn pid(host: &mut Host) -> Outcome<String> {
    Ok(host
        .run("systemctl show -p MainPID --value palisaded")?
        .trim()
        .to_owned())
}

/// Seconds that a command took in the machine, which must be few enough.
fn within(host: &mut Host, most: u64, command: &str) -> Outcome<u64> {
    let said = host.run(&format!(
        "s=$(date +%s); {command} || exit 1; echo $(($(date +%s) - s))"
    ))?;
    let took = said.trim().lines().last().and_then(|line| line.parse().ok());
    let took = took.ok_or_else(|| Failure::new(format!("`{command}`: {said}")))?;
    demand(took <= most, format!("`{command}` took {took} s"))?;
    Ok(took)
}
