//! The daemon is killed (SIGKILL) under a verified load and started again: the guest notices a pause and nothing else.
//! Again and again, each time at another moment of the load.

use std::thread;
use std::time::{Duration, Instant};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome};
use crate::fio::VerifyLoad;
use crate::lab::{Depth, Lab};
use crate::scenarios::step;
use crate::vm::VmPlan;

/// How long one load may take, the restart and a busy machine included.
const LOAD_PATIENCE: Duration = Duration::from_secs(90);

pub fn run(lab: &Lab) -> Outcome {
    let times = if lab.depth() == Depth::Full { 20 } else { 3 };
    let mut appliance = Appliance::start(lab, &[0, 1])?;
    let socket = appliance.offer("v", 64 * MIB, 2)?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", [&socket]).with_queues(2))?;
    let load = VerifyLoad::new("vda", 8).no_faster_than(2048);
    for time in 1..=times {
        load.start(&mut vm)?;
        // Four seconds of writing and half a second of reading back: every part is hit.
        let moment = Duration::from_millis(300 + (time * 1370) % 4300);
        thread::sleep(moment);
        let killed = Instant::now();
        appliance.kill();
        appliance.start_again()?;
        let back = killed.elapsed();
        load.finish(&mut vm, LOAD_PATIENCE).map_err(|failure| {
            Failure::new(format!(
                "kill {time} of {times}, {moment:?} into the load: {failure}"
            ))
        })?;
        vm.must_be_calm()?;
        appliance.must_have_no_errors("v")?;
        step(format!(
            "kill {time} of {times}, {:.1} s into the load: back after {:.2} s, every block right",
            moment.as_secs_f64(),
            back.as_secs_f64()
        ));
    }
    appliance.must_be_well()?;
    vm.power_off()
}
