//! A read-only attachment: the guest reads what was written through another one, and cannot write.

use std::time::Duration;

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let socket = appliance.offer("v", 32 * MIB, 1)?;
    let mut vm = lab.boot(&VmPlan::with_disks("writer", [&socket]))?;
    vm.run("mkfs.ext4 -q /dev/vda && mount -t ext4 /dev/vda /mnt && seq 1 5000 > /mnt/kept && umount /mnt")?;
    vm.power_off()?;
    appliance.wait_connection("v", "listening")?;
    appliance.rest().delete("/v1/attachments/v")?;
    let socket = appliance.attach("v", json!({ "read_only": true }))?;

    step("the same volume, read-only");
    let mut vm = lab.boot(&VmPlan::with_disks("reader", [&socket]))?;
    demand(
        vm.sys_block("vda", "ro")? == "1",
        "the guest knows that the disk is read-only",
    )?;
    vm.run("mount -t ext4 -o ro,noload /dev/vda /mnt && seq 1 5000 | cmp - /mnt/kept && umount /mnt")?;
    let write = "dd if=/dev/urandom of=/dev/vda bs=4k count=1 conv=notrunc,fsync";
    demand(
        vm.ask(write, Duration::from_secs(20))?.status != 0,
        "a write must fail",
    )?;
    vm.run("mount -t ext4 -o ro,noload /dev/vda /mnt && seq 1 5000 | cmp - /mnt/kept && umount /mnt")?;
    appliance.must_be_well()?;
    vm.power_off()
}
