//! Somebody else's back end: QEMU's storage daemon. It shows that the lab itself works, and what it sees when a
//! back end does not.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::failure::{Failure, Outcome};
use crate::lab::Lab;
use crate::process::{Process, remove_if_there, wait_until};

/// A running qemu-storage-daemon with one exported file.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    image: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Peer {
    /// Creates a file of `bytes` and serves it with two virtqueues.
    ///
    /// # Errors
    /// When qemu-storage-daemon does not come up.
    pub fn start(lab: &Lab, name: &str, bytes: u64) -> Outcome<Self> {
        let image = lab.path(&format!("{name}.img"));
        let socket = lab.path(&format!("{name}.sock"));
        let log = lab.path(&format!("{name}.log"));
        File::create(&image)
            .and_then(|file| file.set_len(bytes))
            .map_err(|error| Failure::during(image.display(), error))?;
        let process = serve(&image, &socket, &log)?;
        Ok(Self {
            process,
            image,
            socket,
            log,
        })
    }

    /// Where a machine connects.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `kill -9`, and started again.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn kill_and_restart(&mut self) -> Outcome {
        self.process.kill();
        remove_if_there(&self.socket)?;
        self.process = serve(&self.image, &self.socket, &self.log)?;
        Ok(())
    }
}

/// Serves an image to be written to.
///
/// # Errors
/// When qemu-storage-daemon does not come up.
pub fn serve(image: &Path, socket: &Path, log: &Path) -> Outcome<Process> {
    let mut command = Command::new("qemu-storage-daemon");
    command
        .arg("--blockdev")
        .arg(format!("driver=file,node-name=disk,filename={}", image.display()));
    command.arg("--export").arg(format!(
        "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={},writable=on,num-queues=2",
        socket.display()
    ));
    let mut process = Process::start("qemu-storage-daemon", &mut command, log)?;
    wait_until(
        "the socket of qemu-storage-daemon",
        Duration::from_secs(20),
        || {
            process.must_run()?;
            Ok(socket.exists())
        },
    )?;
    Ok(process)
}
