//! The lab's own check: with a back end that is known to work all must be well, and with a disk that forgets the lab
//! must say so. Without the second half a lab that never looks would pass.

use std::time::Duration;

use crate::failure::{Outcome, demand};
use crate::fio::VerifyLoad;
use crate::lab::Lab;
use crate::peer::Peer;
use crate::scenarios::step;
use crate::vm::VmPlan;

const MIB: u64 = 1 << 20;

pub fn run(lab: &Lab) -> Outcome {
    let mut peer = Peer::start(lab, "peer", 64 * MIB)?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", [peer.socket()]).with_queues(2))?;
    step("guest is up on qemu-storage-daemon");
    demand(vm.size_bytes("vda")? == 64 * MIB, "vda has the size of the file")?;

    step("file system: make, write, unmount, check");
    vm.run("mkfs.ext4 -q /dev/vda && mount -t ext4 /dev/vda /mnt && seq 1 9999 > /mnt/x && umount /mnt")?;
    vm.run("e2fsck -fn /dev/vda")?;

    step("kill -9 of the peer under a verified load");
    let load = VerifyLoad::new("vda", 8).no_faster_than(2048);
    load.start(&mut vm)?;
    std::thread::sleep(Duration::from_millis(1500));
    peer.kill_and_restart()?;
    let survived = load.finish(&mut vm, Duration::from_secs(60));
    // qemu-storage-daemon keeps no in-flight region, so either ending is honest; a hanging guest is not.
    step(match survived {
        Ok(()) => "it came back and every block was right".to_owned(),
        Err(failure) => format!("it came back, and fio complained: {failure}"),
    });

    step("a block changed behind the guest's back must be noticed");
    let write = "fio --name=v --filename=/dev/vda --rw=write --bs=4k --size=1m --direct=1 --verify=crc32c --do_verify=0";
    let read = "fio --name=v --filename=/dev/vda --rw=read --bs=4k --size=1m --direct=1 --verify=crc32c --verify_fatal=1";
    vm.run(write)?;
    vm.run(read)?;
    vm.run("dd if=/dev/zero of=/dev/vda bs=4096 seek=100 count=1 oflag=direct conv=notrunc")?;
    let answer = vm.ask(read, Duration::from_secs(30))?;
    demand(
        answer.status != 0,
        "fio must refuse a block that was zeroed, and did not",
    )?;
    vm.must_be_calm()?;
    vm.power_off()
}
