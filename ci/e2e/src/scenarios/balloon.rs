//! Memory is taken from a running guest and given back, as a balloon does: its monitor punches holes into the memory's file,
//! and what the guest has there afterwards are other pages. What it writes from them is what the disk holds, and what it
//! reads arrives in them.

use std::time::Duration;

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

/// Memory of the guest, and what is left of it, in MiB.
const ALL: u64 = 256;
const LEFT: u64 = 96;
/// What is written and read with pages that have come back, in MiB.
const FILE_MIB: u64 = 24;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.disk("d1", 256 * MIB)?;
    appliance.volume("v", "d1", 128 * MIB)?;
    let socket = appliance.attach("v", json!({}))?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", [&socket]).with_balloon())?;
    let patience = Duration::from_secs(120);

    step("all of the guest's memory is in use, and has been read from and written to the disk");
    vm.run_within(
        "dd if=/dev/urandom of=/tmp/fill bs=1M count=80 && dd if=/tmp/fill of=/dev/vda bs=1M count=80 conv=fsync",
        patience,
    )?;
    // What may be kept of its memory is kept by then.
    vm.run("sleep 4; rm /tmp/fill; echo 3 >/proc/sys/vm/drop_caches")?;

    for round in 1..=3 {
        step(format!(
            "round {round}: {LEFT} of {ALL} MiB are left to it, and it gets all back"
        ));
        vm.set_memory(LEFT)?;
        vm.set_memory(ALL)?;
        vm.run_within(
            &format!(
                "dd if=/dev/urandom of=/tmp/new bs=1M count={FILE_MIB} && \
                 dd if=/tmp/new of=/dev/vda bs=1M conv=fsync,notrunc && echo 3 >/proc/sys/vm/drop_caches && \
                 if cmp -s -n $(({FILE_MIB} << 20)) /tmp/new /dev/vda; then rm /tmp/new; else echo what is read is not what was written; false; fi"
            ),
            patience,
        )?;
    }
    step("each byte was what the guest had written, on the disk and in its memory");
    vm.must_be_calm()?;
    appliance.must_be_well()?;
    vm.power_off()
}
