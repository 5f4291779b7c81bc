//! DISCARD gives space back to the file below, and what was discarded reads as zeros afterwards.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::VmPlan;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let file = appliance.disk("d1", 128 * MIB)?;
    appliance.volume("v", "d1", 64 * MIB)?;
    let socket = appliance.attach("v", json!({}))?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", [&socket]))?;
    demand(
        vm.sys_block("vda", "queue/discard_max_bytes")? != "0",
        "the guest is offered DISCARD",
    )?;
    demand(
        vm.sys_block("vda", "queue/write_zeroes_max_bytes")? != "0",
        "the guest is offered WRITE_ZEROES",
    )?;

    vm.run("dd if=/dev/urandom of=/dev/vda bs=1M count=32 oflag=direct conv=notrunc && sync")?;
    let full = allocated(&file)?;
    vm.run("blkdiscard -o 4194304 -l 25165824 /dev/vda")?;
    let left = allocated(&file)?;
    step(format!(
        "24 of 32 MiB discarded: the file held {} MiB and holds {} MiB",
        full / MIB,
        left / MIB
    ));
    demand(
        full - left >= 20 * MIB,
        "the space must come back to the file system below",
    )?;
    vm.run("dd if=/dev/vda bs=1M skip=4 count=24 iflag=direct | cmp -n 25165824 - /dev/zero")?;
    let edge = vm.last_line(
        "dd if=/dev/vda of=/tmp/edge bs=1M skip=28 count=4 iflag=direct && tr -d '\\000' < /tmp/edge | wc -c",
    )?;
    let kept = edge.parse().unwrap_or(0);
    demand(
        kept > 4 * MIB * 9 / 10,
        "what was not discarded must still be there",
    )?;

    step("a trimmed file system");
    vm.run("mkfs.ext4 -q -E nodiscard /dev/vda && mount -t ext4 /dev/vda /mnt && dd if=/dev/urandom of=/mnt/x bs=1M count=20")?;
    vm.run("sync && rm /mnt/x && sync && fstrim /mnt && umount /mnt && e2fsck -fn /dev/vda")?;
    demand(
        allocated(&file)? < 16 * MIB,
        "fstrim must give the deleted file's space back",
    )?;
    step("zeroes written the cheap way");
    vm.run("dd if=/dev/urandom of=/dev/vda bs=1M count=8 oflag=direct conv=notrunc")?;
    vm.run("/opt/blkdiscard -z -l 8388608 /dev/vda && dd if=/dev/vda bs=1M count=8 iflag=direct | cmp -n 8388608 - /dev/zero")?;
    vm.must_be_calm()?;
    appliance.must_have_no_errors("v")?;
    appliance.must_be_well()?;
    vm.power_off()
}

/// Bytes the file really takes.
fn allocated(file: &Path) -> Outcome<u64> {
    let metadata = fs::metadata(file).map_err(|error| Failure::during(file.display(), error))?;
    // st_blocks counts 512 bytes whatever the file system's block is.
    Ok(metadata.blocks() * 512)
}
