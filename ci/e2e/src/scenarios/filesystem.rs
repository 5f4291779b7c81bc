//! The main job: a file system on /dev/vda is made, written, unmounted, checked, and read back after the machine was
//! switched off and on and the daemon was restarted.

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.disk("d1", 256 * MIB)?;
    appliance.volume("web1", "d1", 128 * MIB)?;
    let socket = appliance.attach("web1", json!({}))?;
    step("daemon is up, volume web1 of 128 MiB is offered");

    let plan = VmPlan::with_disks("guest", [&socket]);
    let mut vm = lab.boot(&plan)?;
    demand(
        vm.size_bytes("vda")? == 128 * MIB,
        "vda must have the size of the volume",
    )?;
    step("file system: make, mount, write 8 MiB, sync, unmount, check");
    vm.run("mkfs.ext4 -q /dev/vda && mount -t ext4 /dev/vda /mnt")?;
    vm.run("dd if=/dev/urandom of=/mnt/random bs=1M count=8 && cp -r /etc /bin/busybox /mnt/ && sync")?;
    let sum = vm.run("sha256sum < /mnt/random")?;
    vm.run("umount /mnt && e2fsck -fn /dev/vda")?;
    vm.must_be_calm()?;
    vm.power_off()?;
    appliance.wait_connection("web1", "listening")?;

    step("machine off, daemon restarted, machine on: the same bytes");
    appliance.stop()?;
    appliance.start_again()?;
    appliance.settled("/v1/attachments/web1")?;
    let mut vm = lab.boot(&plan)?;
    vm.run("e2fsck -fn /dev/vda && mount -t ext4 /dev/vda /mnt")?;
    let again = vm.run("sha256sum < /mnt/random")?;
    demand(sum == again, format!("the file was {sum} and is {again}"))?;
    vm.run("cmp /bin/busybox /mnt/busybox && umount /mnt")?;
    vm.must_be_calm()?;
    demand(
        appliance.requests("web1")? > 0,
        "the guest's requests are counted",
    )?;
    appliance.must_have_no_errors("web1")?;
    appliance.must_be_well()?;
    step("the command line agrees");
    let shown = appliance.cli(&["attachment", "show", "web1", "--json"])?;
    demand(
        shown.contains("\"web1\""),
        format!("palisade attachment show: {shown}"),
    )?;
    let pasted = appliance.cli(&["attachment", "qemu-args", "web1"])?;
    demand(
        pasted.contains(&socket.display().to_string()),
        format!("palisade attachment qemu-args: {pasted}"),
    )?;
    demand(
        appliance.cli(&["volume", "show", "none"]).is_err(),
        "what is not there must be refused",
    )?;
    vm.power_off()?;
    appliance.stop()
}
