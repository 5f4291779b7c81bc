//! `rust-vmm-peer`, a program of this package: what the stock crates give.

use super::{Ground, Running, wait_for};
use crate::Failure;
use crate::process::Process;
use crate::row::Medium;
use std::process::Command;

pub(super) fn start(name: &str, medium: Medium, ground: &Ground) -> Result<Running, Failure> {
    let socket = ground.folder.join(format!("{name}.sock"));
    let _ = std::fs::remove_file(&socket);
    let log = ground.folder.join(format!("{name}.log"));
    let mut command = Command::new(ground.programs.join("rust-vmm-peer"));
    command
        .arg("--socket")
        .arg(&socket)
        .args(["--medium", &medium.to_string()])
        .args(["--bytes", &ground.disk_bytes.to_string()]);
    let mut process = Process::start(name, command, ground.core, &log)?;
    wait_for(name, "its socket", &mut process, &log, || socket.exists())?;
    Ok(Running::Server {
        process,
        socket,
        file: None,
    })
}
