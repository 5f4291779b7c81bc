//! One disk on two virtqueues and two reactors, both used at once.

use std::time::Duration;

use serde_json::Value;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0, 1])?;
    let socket = appliance.offer("v", 64 * MIB, 2)?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", [&socket]).with_queues(2))?;
    step("the guest has two virtqueues");
    let queues = vm.run("ls /sys/block/vda/mq | wc -l")?;
    demand(
        queues.trim() == "2",
        format!("the guest sees {} queues", queues.trim()),
    )?;
    let attachment = appliance.attachment("v")?;
    let running = attachment
        .pointer("/connection/queues_running")
        .and_then(Value::as_u64);
    demand(
        running == Some(2),
        format!("the daemon runs both queues: {attachment}"),
    )?;

    step("a load from each processor at once");
    let before = busy_turns(&appliance)?;
    let one = |cpu: u32| {
        format!(
            "fio --name=load{cpu} --filename=/dev/vda --offset={0}m --size=16m --io_size=8m --rw=randwrite --bs=4k \
             --direct=1 --ioengine=io_uring --iodepth=16 --verify=crc32c --verify_fatal=1 --cpus_allowed={cpu} \
             >/tmp/load{cpu} 2>&1",
            cpu * 32
        )
    };
    let both = format!(
        "({}) & other=$!; {}; a=$?; wait $other && test $a = 0 || cat /tmp/load0 /tmp/load1",
        one(0),
        one(1)
    );
    let text = vm.run_within(&both, Duration::from_secs(120))?;
    demand(text.trim().is_empty(), format!("both loads are verified: {text}"))?;
    let after = busy_turns(&appliance)?;
    demand(before.len() == 2, "there are two reactors")?;
    let both_worked = before.iter().zip(&after).all(|(before, after)| after > before);
    demand(
        both_worked,
        format!("both reactors did some of the work: turns {before:?}, then {after:?}"),
    )?;
    vm.must_be_calm()?;
    appliance.must_have_no_errors("v")?;
    appliance.must_be_well()?;
    vm.power_off()
}

/// Turns that found work, reactor by reactor.
fn busy_turns(appliance: &Appliance) -> Outcome<Vec<u64>> {
    let answer = appliance.rest().get("/v1/nodes/self/reactors")?;
    let items = answer.get("items").unwrap_or(&answer).as_array().cloned();
    let items = items.ok_or_else(|| Failure::new(format!("no list of reactors: {answer}")))?;
    Ok(items
        .iter()
        .filter_map(|one| one.get("busy_turns").and_then(Value::as_u64))
        .collect())
}
