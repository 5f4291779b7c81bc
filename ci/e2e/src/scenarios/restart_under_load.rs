//! A plain restart (SIGTERM, as systemd does it on an upgrade) under load: the daemon drains and ends with status 0, and
//! the guest goes on when it is back.

use std::thread;
use std::time::Duration;

use crate::appliance::{Appliance, MIB};
use crate::failure::Outcome;
use crate::fio::VerifyLoad;
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0, 1])?;
    let socket = appliance.offer("v", 64 * MIB, 2)?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", [&socket]).with_queues(2))?;
    let load = VerifyLoad::new("vda", 8).no_faster_than(2048);
    for time in 1..=2_u64 {
        load.start(&mut vm)?;
        thread::sleep(Duration::from_millis(700 * time));
        appliance.stop()?;
        // Long enough for the guest to run out of free slots: it must wait, not fail.
        thread::sleep(Duration::from_secs(1));
        appliance.start_again()?;
        load.finish(&mut vm, Duration::from_secs(90))?;
        vm.must_be_calm()?;
        step(format!(
            "restart {time}: drained, ended with status 0, every block right"
        ));
    }
    appliance.must_have_no_errors("v")?;
    appliance.must_be_well()?;
    vm.power_off()
}
