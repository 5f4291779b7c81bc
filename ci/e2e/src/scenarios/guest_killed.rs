//! A guest is killed at any moment, under load: the daemon stays well, another guest is not disturbed, and the disk of
//! the dead can be used by the next.

use std::thread;
use std::time::Duration;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Outcome, demand};
use crate::fio::VerifyLoad;
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let doomed_socket = appliance.offer("doomed", 64 * MIB, 1)?;
    let calm_socket = appliance.offer("calm", 64 * MIB, 1)?;
    let mut calm = lab.boot(&VmPlan::with_disks("calm", [&calm_socket]))?;
    let calm_load = VerifyLoad::new("vda", 24).no_faster_than(1024);
    calm_load.start(&mut calm)?;
    step("one guest writes slowly for 24 s while its neighbour is killed three times under load");
    for time in 1..=3_u64 {
        let mut doomed = lab.boot(&VmPlan::with_disks(&format!("doomed{time}"), [&doomed_socket]))?;
        VerifyLoad::new("vda", 32).start(&mut doomed)?;
        thread::sleep(Duration::from_millis(400 * time));
        doomed.kill();
        appliance.wait_connection("doomed", "listening")?;
        let found = appliance.attachment("doomed")?;
        demand(
            found.get("in_flight").and_then(serde_json::Value::as_u64) == Some(0),
            format!("the dead guest left requests behind: {found}"),
        )?;
        step(format!("killed {time} times; nothing is left in flight"));
    }
    calm_load.finish(&mut calm, Duration::from_secs(120))?;
    calm.must_be_calm()?;
    appliance.must_have_no_errors("calm")?;
    step("the neighbour's blocks are all right; the next guest takes over the disk");
    let mut next = lab.boot(&VmPlan::with_disks("next", [&doomed_socket]))?;
    VerifyLoad::new("vda", 4).run(&mut next, Duration::from_secs(60))?;
    next.must_be_calm()?;
    appliance.must_be_well()?;
    next.power_off()?;
    calm.power_off()
}
