//! Two guests, two volumes on one disk, written at the same time: no block of one shows up at the other.

use std::time::Duration;

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::Outcome;
use crate::fio::VerifyLoad;
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.disk("d1", 256 * MIB)?;
    let mut sockets = Vec::new();
    for id in ["a", "b"] {
        appliance.volume(id, "d1", 32 * MIB)?;
        sockets.push(appliance.attach(id, json!({}))?);
    }
    let mut machines = Vec::new();
    for (name, socket) in ["a", "b"].iter().zip(&sockets) {
        machines.push(lab.boot(&VmPlan::with_disks(name, [socket]))?);
    }
    step("both write all of their volume at once");
    let load = VerifyLoad::new("vda", 16);
    for vm in &mut machines {
        load.start(vm)?;
    }
    for vm in &mut machines {
        load.finish(vm, Duration::from_secs(120))?;
    }
    step("each fills its volume with its own letter and reads it back");
    for (vm, letter) in machines.iter_mut().zip(["a", "b"]) {
        vm.run(&format!(
            "yes {letter} | dd of=/dev/vda bs=1M count=32 iflag=fullblock oflag=direct conv=notrunc"
        ))?;
    }
    for (vm, letter) in machines.iter_mut().zip(["a", "b"]) {
        vm.run(&format!(
            "yes {letter} | head -c 33554432 > /tmp/want; dd if=/dev/vda bs=1M iflag=direct | cmp - /tmp/want"
        ))?;
        vm.must_be_calm()?;
    }
    appliance.must_be_well()?;
    machines.into_iter().try_for_each(crate::vm::Vm::power_off)
}
