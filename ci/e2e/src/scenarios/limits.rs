//! An attachment that may make so many requests a second makes so many, and more when it is told it may.

use std::time::Instant;

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::{Vm, VmPlan};

/// The limit: far below what an emulated guest can do.
const IOPS: u32 = 200;
const REQUESTS: u32 = 1200;
/// How far the measured rate may be off, as a share of the limit.
const TOLERANCE: f64 = 0.1;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.disk("d1", 64 * MIB)?;
    appliance.volume("v1", "d1", 16 * MIB)?;
    let socket = appliance.attach("v1", json!({ "limits": { "iops": IOPS, "burst_ms": 100 } }))?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", &[socket]))?;
    let limited = rate(&mut vm)?;
    step(format!(
        "{IOPS} requests a second are allowed: {limited:.0} were made"
    ));
    demand(
        (limited / f64::from(IOPS) - 1.0).abs() < TOLERANCE,
        format!("{limited:.1} requests a second at a limit of {IOPS}"),
    )?;
    appliance
        .rest()
        .patch("/v1/attachments/v1", &json!({ "limits": {} }))?;
    appliance.settled("/v1/attachments/v1")?;
    let free = rate(&mut vm)?;
    step(format!("without a limit: {free:.0}"));
    demand(
        free > 1.5 * f64::from(IOPS),
        format!("the limit was taken away and {free:.0} requests a second were made"),
    )?;
    appliance.must_have_no_errors("v1")?;
    appliance.must_be_well()?;
    vm.power_off()
}

/// Reads one block after the other past every cache; requests a second.
fn rate(vm: &mut Vm) -> Outcome<f64> {
    let start = Instant::now();
    vm.run(&format!(
        "dd if=/dev/vda of=/dev/null bs=4k count={REQUESTS} iflag=direct"
    ))?;
    Ok(f64::from(REQUESTS) / start.elapsed().as_secs_f64())
}
