//! The appliance, set up through its own command line as an operator would.

use super::{Ground, Running, Scratch, wait_for};
use crate::Failure;
use crate::process::Process;
use crate::row::Medium;
use std::path::Path;
use std::process::Command;

/// What a disk needs beside the volume on it.
const SUPERBLOCK_ROOM_BYTES: u64 = 64 << 20;

pub(super) fn start(name: &str, mode: &str, medium: Medium, ground: &Ground) -> Result<Running, Failure> {
    let folder = ground.folder.join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(Failure::system(format!("make {}", folder.display())))?;
    let (socket, log) = (folder.join("vm.sock"), folder.join("log"));
    let mut daemon = Command::new(ground.programs.join("palisaded"));
    daemon
        .arg("--state-dir")
        .arg(folder.join("state"))
        .arg("--run-dir")
        .arg(folder.join("run"))
        .args(["--reactors-cores", &ground.core.to_string()])
        .args(["--reactors-mode", mode])
        .args(["--admin-listen", "off"])
        .arg("--allow-anything");
    let mut process = Process::start(name, daemon, ground.core, &log)?;
    let cli = Cli {
        name,
        ground,
        url: format!("unix:{}", folder.join("run/api.socket").display()),
    };
    wait_for(name, "an answer over REST", &mut process, &log, || {
        cli.run(&["node"]).is_ok()
    })?;

    let disk_bytes = (ground.disk_bytes + SUPERBLOCK_ROOM_BYTES).to_string();
    let file = (medium == Medium::File).then(|| Scratch::new(ground.disks.join(format!("{name}.img"))));
    match (&file, medium) {
        (Some(file), _) => {
            let path = file.path().display().to_string();
            cli.run(&[
                "disk",
                "add",
                "d1",
                "--file",
                &path,
                "--size",
                &disk_bytes,
                "--wait",
            ])?;
        }
        (None, Medium::Null) => cli.run(&["disk", "add", "d1", "--null", &disk_bytes, "--wait"])?,
        (None, _) => cli.run(&["disk", "add", "d1", "--memory", &disk_bytes, "--wait"])?,
    }
    let volume_bytes = ground.disk_bytes.to_string();
    cli.run(&["volume", "create", "v1", &volume_bytes, "--disk", "d1", "--wait"])?;
    let path = socket.display().to_string();
    cli.run(&[
        "attachment",
        "create",
        "a1",
        "v1",
        "--socket",
        &path,
        "--queue-size",
        "1024",
        "--wait",
    ])?;
    wait_for(name, "its socket", &mut process, &log, || Path::exists(&socket))?;
    Ok(Running::Server {
        process,
        socket,
        file,
    })
}

/// The command line client of one daemon.
struct Cli<'a> {
    name: &'a str,
    ground: &'a Ground,
    url: String,
}

impl Cli<'_> {
    fn run(&self, words: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new(self.ground.programs.join("palisade"));
        command.args(["--url", &self.url]).args(words);
        let output = command.output().map_err(Failure::system("start palisade"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::Target {
            target: self.name.to_owned(),
            problem: format!(
                "palisade {}: {}",
                words.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        })
    }
}
