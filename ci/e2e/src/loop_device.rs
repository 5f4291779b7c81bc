//! A loop device over a file, for scenarios that want a block device.

use std::path::Path;
use std::process::Command;

/// A loop device, let go when dropped.
pub struct LoopDevice {
    /// Where it is, below /dev.
    pub path: String,
}

impl LoopDevice {
    /// Over a file; `None` where none can be had.
    pub fn over(file: &Path) -> Option<LoopDevice> {
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .ok()?;
        let path = String::from_utf8(made.stdout).ok()?.trim().to_owned();
        (made.status.success() && !path.is_empty()).then_some(LoopDevice { path })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Nobody is left to tell; the next run takes another one.
        let _ = Command::new("losetup").args(["--detach", &self.path]).status();
    }
}
