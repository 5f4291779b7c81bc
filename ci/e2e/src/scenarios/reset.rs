//! The reset button under load: the guest is gone from one instruction to the next and comes up on the same disk.

use std::thread;
use std::time::Duration;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Outcome, demand};
use crate::fio::VerifyLoad;
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0, 1])?;
    let socket = appliance.offer("v", 64 * MIB, 2)?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", [&socket]).with_queues(2))?;
    vm.run("mkfs.ext4 -q /dev/vda && mount -t ext4 /dev/vda /mnt && seq 1 99999 > /mnt/kept && sync && umount /mnt")?;
    for time in 1..=2_u64 {
        vm.run("mount -t ext4 /dev/vda /mnt")?;
        vm.start("fio --name=l --filename=/mnt/load --size=16m --rw=randwrite --bs=4k --direct=1 --ioengine=io_uring --iodepth=16 --time_based --runtime=30")?;
        thread::sleep(Duration::from_millis(1500));
        vm.reset()?;
        vm.run("mount -t ext4 /dev/vda /mnt")?;
        let kept = vm.run("seq 1 99999 | cmp - /mnt/kept && echo same")?;
        demand(
            kept.trim() == "same",
            "what was synced before the reset must be there after it",
        )?;
        vm.run("umount /mnt && e2fsck -fn /dev/vda")?;
        vm.must_be_calm()?;
        step(format!(
            "reset {time}: up again, synced file unharmed, file system clean"
        ));
    }
    VerifyLoad::new("vda", 4).run(&mut vm, Duration::from_secs(60))?;
    appliance.must_have_no_errors("v")?;
    appliance.must_be_well()?;
    vm.power_off()
}
