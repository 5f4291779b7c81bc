//! The disk is pulled out of a running guest and plugged in again.

use std::time::Duration;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Outcome, demand};
use crate::fio::VerifyLoad;
use crate::lab::Lab;
use crate::process::wait_until;
use crate::scenarios::step;
use crate::vm::{Vm, VmPlan};

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let first = appliance.offer("first", 32 * MIB, 1)?;
    let second = appliance.offer("second", 32 * MIB, 1)?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", [&first, &second]))?;
    vm.run("seq 1 200000 | dd of=/dev/vdb bs=4k count=64 oflag=direct iflag=fullblock conv=notrunc")?;
    let before = digest(&mut vm)?;

    step("pulling the second disk out");
    vm.unplug(1)?;
    wait_until("the guest to let go of vdb", Duration::from_secs(20), || {
        Ok(vm.ask("test -e /sys/block/vdb", Duration::from_secs(20))?.status != 0)
    })?;
    VerifyLoad::new("vda", 4).run(&mut vm, Duration::from_secs(60))?;
    appliance.must_be_well()?;

    step("plugging it in again");
    vm.plug(1)?;
    wait_until("the guest to see vdb", Duration::from_secs(30), || {
        Ok(vm.ask("test -e /sys/block/vdb", Duration::from_secs(20))?.status == 0)
    })?;
    let after = digest(&mut vm)?;
    demand(before == after, format!("vdb held {before} and holds {after}"))?;
    vm.must_be_calm()?;
    appliance.must_be_well()?;
    vm.power_off()
}

/// SHA-256 of what was written to vdb.
fn digest(vm: &mut Vm) -> Outcome<String> {
    vm.last_line("dd if=/dev/vdb of=/tmp/held bs=4k count=64 iflag=direct && sha256sum < /tmp/held")
}
