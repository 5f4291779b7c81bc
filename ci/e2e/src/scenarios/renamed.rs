//! A device that comes back under another name, on a host of its own: one with an identity is served again by itself, in
//! use and across a restart; one without is named, and served again when it is where it was.

use std::time::Duration;

use crate::failure::{Failure, Outcome, demand};
use crate::host::Host;
use crate::process::wait_until;
use crate::scenarios::host_kernels::{CLI, start};
use crate::scenarios::step;

/// The emulated host needs some seconds for each look.
const PATIENCE: Duration = Duration::from_secs(120);

/// The controller that nothing else lies on.
const CONTROLLER: &str = "nvme1";

pub fn run(host: &mut Host) -> Outcome {
    host.run("truncate -s 48M /m/e/nameless && /opt/losetup /dev/loop4 /m/e/nameless")?;
    for (name, block) in [("moved", "/dev/nvme1n1"), ("nameless", "/dev/loop4")] {
        host.run(&format!(
            "{CLI} disk add {name} --block {block} --wait && {CLI} volume create {name} 4MiB --disk {name} --wait && {CLI} \
             attachment create {name} {name} --wait && palisade-e2e drive put {name} /r/{name}.sock"
        ))?;
    }

    // Pulled out while it is in use. The daemon holds the dead device, so that its name is not free.
    host.run(&format!("echo 1 >/sys/class/nvme/{CONTROLLER}/device/remove"))?;
    told(host, "disk_gone")?;
    host.run("echo 1 >/sys/bus/pci/rescan; n=0; until ls /dev/nvme[1-9]n[0-9] >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 50 ] || exit 1; sleep 0.2; done")?;
    wait_until("the disk to be served again", PATIENCE, || {
        Ok(!health(host)?.contains("disk_gone"))
    })?;
    let name = host.run("ls /dev/nvme[1-9]n[0-9]")?.trim().to_owned();
    host.run("palisade-e2e drive check moved /r/moved.sock")?;
    demand(
        name != "/dev/nvme1n1",
        "the dead device's name has been given away again",
    )?;
    // Its path is looked at each second.
    wait_until("the new name to be shown", PATIENCE, || {
        Ok(host.run(&format!("{CLI} disk show moved"))?.contains(&name))
    })?;

    // And the other one at a moment when nobody looks.
    host.run("kill $(cat /d) && while kill -0 $(cat /d) 2>/dev/null; do sleep 0.2; done")?;
    host.run("/opt/losetup -d /dev/loop4 && /opt/losetup /dev/loop5 /m/e/nameless")?;
    start(host)?;
    told(host, "disk/nameless")?;
    served(host, "moved")?;
    let now = host.run("ls /dev/nvme[1-9]n[0-9]")?.trim().to_owned();
    demand(
        !host.run("test -e /r/nameless.sock; echo $?")?.starts_with('0'),
        "a device without a name of its own was taken for the disk under another name",
    )?;
    host.run("/opt/losetup -d /dev/loop5 && /opt/losetup /dev/loop4 /m/e/nameless")?;
    served(host, "nameless")?;
    wait_until("everything to be well", PATIENCE, || {
        Ok(host.vm.ask(&format!("{CLI} health"), PATIENCE)?.status == 0)
    })?;
    step(format!(
        "Linux {}: pulled out as /dev/nvme1n1 and back as {name}: served again, and after a restart as {now}; a loop device \
         under another number: named, and served again when it is back",
        host.kernel
    ));
    Ok(())
}

fn health(host: &mut Host) -> Outcome<String> {
    Ok(host.vm.ask(&format!("{CLI} health --json"), PATIENCE)?.text)
}

fn told(host: &mut Host, words: &str) -> Outcome {
    let mut said = String::new();
    let found = wait_until(words, PATIENCE, || {
        said = health(host)?;
        Ok(said.contains(words))
    });
    found.map_err(|failure| Failure::new(format!("{failure}: {said}")))
}

fn served(host: &mut Host, name: &str) -> Outcome {
    let check = format!("palisade-e2e drive check {name} /r/{name}.sock");
    let mut said = String::new();
    let found = wait_until(&format!("disk {name} to be served again"), PATIENCE, || {
        let answer = host.vm.ask(&check, PATIENCE)?;
        said = answer.text;
        Ok(answer.status == 0)
    });
    found.map_err(|failure| Failure::new(format!("{failure}: {said}")))
}
