//! fio in the guest: random writes that are read back and compared by their checksums.

use std::time::Duration;

use crate::failure::{Outcome, demand};
use crate::vm::Vm;

/// One verifying load on one disk.
#[derive(Clone, Debug)]
pub struct VerifyLoad {
    /// Block device in the guest.
    pub disk: String,
    /// MiB written, each block once, and read back.
    pub mebibytes: u32,
    /// Requests in flight.
    pub depth: u32,
    /// Bound on the writing speed in KiB/s, so that a load lasts long enough to be disturbed.
    pub rate_kib: Option<u32>,
}

impl VerifyLoad {
    /// `mebibytes` on `disk`, 16 requests in flight, as fast as it goes.
    pub fn new(disk: &str, mebibytes: u32) -> Self {
        Self {
            disk: disk.to_owned(),
            mebibytes,
            depth: 16,
            rate_kib: None,
        }
    }

    /// The same, writing no faster than `rate_kib` KiB/s.
    #[must_use]
    pub fn no_faster_than(mut self, rate_kib: u32) -> Self {
        self.rate_kib = Some(rate_kib);
        self
    }

    /// Starts it in the guest; [`VerifyLoad::finish`] waits for it.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn start(&self, vm: &mut Vm) -> Outcome {
        vm.start(&self.command())
    }

    /// Waits for its end and demands that each block read back is the block written.
    ///
    /// # Errors
    /// fio's complaint.
    pub fn finish(&self, vm: &mut Vm, patience: Duration) -> Outcome {
        let answer = vm.finish(&self.command(), patience)?;
        let clean = answer.status == 0 && answer.text.contains("err= 0");
        demand(
            clean,
            format!("fio ended with {}: {}", answer.status, answer.text),
        )
    }

    /// Both.
    ///
    /// # Errors
    /// As the two.
    pub fn run(&self, vm: &mut Vm, patience: Duration) -> Outcome {
        self.start(vm)?;
        self.finish(vm, patience)
    }

    fn command(&self) -> String {
        // Limits the writes alone: reading back may go as fast as it can.
        let rate = self
            .rate_kib
            .map_or(String::new(), |kib| format!(" --rate=,{kib}k"));
        format!(
            "fio --name=load --filename=/dev/{} --rw=randwrite --bs=4k --size={}m --direct=1 --ioengine=io_uring \
             --iodepth={} --verify=crc32c --verify_fatal=1 --randrepeat=0{rate} 2>&1",
            self.disk, self.mebibytes, self.depth
        )
    }
}
