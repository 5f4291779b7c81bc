//! A volume grows under a running guest, which sees the new size without a reboot and can use it.

use std::time::Duration;

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Outcome, demand};
use crate::lab::Lab;
use crate::process::wait_until;
use crate::scenarios::step;
use crate::vm::VmPlan;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.disk("d1", 256 * MIB)?;
    appliance.volume("v", "d1", 32 * MIB)?;
    let socket = appliance.attach("v", json!({}))?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", [&socket]))?;
    demand(vm.size_bytes("vda")? == 32 * MIB, "the old size")?;
    let beyond = "dd if=/dev/urandom of=/dev/vda bs=1M seek=60 count=1 oflag=direct conv=notrunc";
    demand(
        vm.ask(beyond, Duration::from_secs(20))?.status != 0,
        "nothing can be written beyond the end",
    )?;

    step("growing from 32 to 64 MiB");
    appliance
        .rest()
        .patch("/v1/volumes/v", &json!({ "bytes": 64 * MIB }))?;
    wait_until("the guest to see the new size", Duration::from_secs(20), || {
        Ok(vm.size_bytes("vda")? == 64 * MIB)
    })?;
    step("the guest sees it; writing in the new part");
    vm.run("dd if=/dev/urandom of=/tmp/block bs=1M count=1 && dd if=/tmp/block of=/dev/vda bs=1M seek=60 oflag=direct conv=notrunc")?;
    vm.run("dd if=/dev/vda bs=1M skip=60 count=1 iflag=direct | cmp - /tmp/block")?;

    let smaller = appliance
        .rest()
        .patch("/v1/volumes/v", &json!({ "bytes": 16 * MIB }));
    demand(smaller.is_err(), "a volume must not shrink under its guest")?;
    demand(vm.size_bytes("vda")? == 64 * MIB, "and has not")?;
    vm.must_be_calm_but("beyond end of device")?;
    appliance.must_be_well()?;
    vm.power_off()
}
