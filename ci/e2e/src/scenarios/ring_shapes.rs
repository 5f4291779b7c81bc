//! Devices as people configure them and not as we expect them: rings longer and shorter than the attachment's own, without
//! indirect tables, and a driver from before VERSION_1. All work, and go on when the daemon is killed under them.

use std::time::Duration;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Outcome, demand};
use crate::fio::VerifyLoad;
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

/// The device's properties, the entries its ring then has, and whether its driver is a modern one.
const SHAPES: [(&str, u64, bool); 4] = [
    ("queue-size=1024", 1024, true),
    ("queue-size=16", 16, true),
    ("queue-size=512,indirect_desc=off", 512, true),
    ("queue-size=128,disable-legacy=off,disable-modern=on", 128, false),
];

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let names = ["long", "short", "direct", "legacy"];
    let mut sockets = Vec::new();
    for name in names {
        sockets.push(appliance.offer(name, 64 * MIB, 1)?);
    }
    let properties = SHAPES.map(|(properties, ..)| properties);
    let plan = VmPlan::with_disks("guest", &sockets).with_properties(&properties);
    let mut vm = lab.boot(&plan)?;
    let disks = ["vda", "vdb", "vdc", "vdd"];
    for round in 1..=2 {
        for ((disk, name), (_, entries, modern)) in disks.iter().zip(names).zip(SHAPES) {
            VerifyLoad::new(disk, 1).run(&mut vm, Duration::from_secs(60))?;
            // One request after the other, each as long as the driver makes them.
            vm.run(&format!(
                "dd if=/dev/urandom of=/tmp/x bs=1M count=8 2>/dev/null && dd if=/tmp/x of=/dev/{disk} bs=4M oflag=direct \
                 2>/dev/null && dd if=/dev/{disk} bs=4M count=2 iflag=direct 2>/dev/null | cmp - /tmp/x && rm /tmp/x"
            ))?;
            let seen = appliance.attachment(name)?;
            let queue = &seen["connection"]["queues"][0];
            demand(
                queue["size"] == entries && queue["in_flight_tracked"] == true,
                format!("{name}: a tracked ring of {entries} entries, not {queue}"),
            )?;
            let features = seen["connection"]["features"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            demand(
                features.iter().any(|name| name == "VERSION_1") == modern,
                format!("{name}: a driver of the kind that was asked for, not {features:?}"),
            )?;
            appliance.must_have_no_errors(name)?;
        }
        vm.must_be_calm()?;
        step(format!("round {round}: four shapes of ring, all verified"));
        if round == 1 {
            appliance.kill();
            appliance.start_again()?;
            for name in names {
                appliance.wait_connection(name, "running")?;
            }
        }
    }
    appliance.must_be_well()?;
    vm.power_off()
}
