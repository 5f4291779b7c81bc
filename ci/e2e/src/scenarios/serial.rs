//! The guest reads the serial number of its disk (GET_ID), by which its udev names it.

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.disk("d1", 128 * MIB)?;
    let mut sockets = Vec::new();
    for (id, serial) in [("first", "PAL-0001"), ("second", "twenty-bytes-exactly")] {
        appliance.volume(id, "d1", 8 * MIB)?;
        sockets.push(appliance.attach(id, json!({ "serial": serial }))?);
    }
    let mut vm = lab.boot(&VmPlan::with_disks("guest", &sockets))?;
    for (disk, serial) in [("vda", "PAL-0001"), ("vdb", "twenty-bytes-exactly")] {
        let found = vm.sys_block(disk, "serial")?;
        step(format!("{disk} is {found}"));
        demand(found == serial, format!("{disk} must be {serial} and is {found}"))?;
    }
    appliance.must_be_well()?;
    vm.power_off()
}
