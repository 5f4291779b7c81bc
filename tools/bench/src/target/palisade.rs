//! The appliance, set up through its own command line as an operator would.

use super::{Ground, Running, file_in, wait_for};
use crate::Failure;
use crate::process::Process;
use crate::row::Medium;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a disk needs beside the volumes on it.
const SUPERBLOCK_ROOM_BYTES: u64 = 64 << 20;

/// One appliance with one disk.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub process: Process,
    folder: PathBuf,
    cli: Cli,
}

/// The command line client of one appliance.
#[derive(Debug)]
struct Cli {
    name: String,
    program: PathBuf,
    url: String,
}

pub(super) fn start(name: &str, mode: &str, medium: Medium, ground: &Ground) -> Result<Running, Failure> {
    let mut appliance = Daemon::start(name, mode, &[ground.core], ground)?;
    let file = (medium == Medium::File)
        .then(|| file_in(&ground.disks))
        .transpose()?;
    let path = file.as_ref().map(|(_, path)| path.as_path());
    appliance.add_disk(medium, ground.disk_bytes, path)?;
    let socket = appliance.attach("1", ground.disk_bytes)?;
    Ok(Running::Server {
        process: appliance.process,
        socket,
        file: file.map(|(folder, _)| folder),
    })
}

impl Daemon {
    /// Starts one with a reactor on each of these cores; the whole process stays on them.
    pub fn start(name: &str, mode: &str, cores: &[usize], ground: &Ground) -> Result<Daemon, Failure> {
        let folder = ground.folder.join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map_err(Failure::system(format!("make {}", folder.display())))?;
        let list: Vec<String> = cores.iter().map(usize::to_string).collect();
        let mut daemon = Command::new(ground.programs.join("palisaded"));
        daemon
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--run-dir")
            .arg(folder.join("run"))
            .args(["--reactors-cores", &list.join(",")])
            .args(["--reactors-mode", mode])
            .args(["--admin-listen", "off"])
            .arg("--allow-anything");
        let log = folder.join("log");
        let mut process = Process::start(name, daemon, cores, &log)?;
        let cli = Cli {
            name: name.to_owned(),
            program: ground.programs.join("palisade"),
            url: format!("unix:{}", folder.join("run/api.socket").display()),
        };
        wait_for(name, "an answer over REST", &mut process, &log, || {
            cli.run(&["node"]).is_ok()
        })?;
        Ok(Daemon { process, folder, cli })
    }

    /// Adds the disk, with room for volumes of so many bytes; a file disk is made at `file`.
    pub fn add_disk(&self, medium: Medium, bytes: u64, file: Option<&Path>) -> Result<(), Failure> {
        let bytes = (bytes + SUPERBLOCK_ROOM_BYTES).to_string();
        let path = file.unwrap_or(Path::new("")).display().to_string();
        let what: &[&str] = match medium {
            Medium::Null => &["--null", &bytes],
            Medium::Memory => &["--memory", &bytes],
            Medium::File => &["--file", &path, "--size", &bytes],
        };
        self.cli
            .run(&[&["disk", "add", "d1"], what, &["--wait"]].concat())
    }

    /// Creates a volume of so many bytes, attaches it and gives the socket, on which a guest is waited for.
    pub fn attach(&mut self, number: &str, bytes: u64) -> Result<PathBuf, Failure> {
        let (volume, attachment) = (format!("v{number}"), format!("a{number}"));
        let socket = self.folder.join(format!("{number}.sock"));
        let (path, bytes) = (socket.display().to_string(), bytes.to_string());
        self.cli
            .run(&["volume", "create", &volume, &bytes, "--disk", "d1"])?;
        let named = ["attachment", "create", &attachment, &volume];
        self.cli
            .run(&[&named[..], &["--socket", &path, "--queue-size", "1024"]].concat())?;
        // It appears when the attachment is in force.
        let log = self.folder.join("log");
        wait_for(&self.cli.name, "a socket", &mut self.process, &log, || {
            socket.exists()
        })?;
        Ok(socket)
    }

    /// Takes a volume and its attachment away, with the guest that may be connected still.
    pub fn detach(&self, number: &str) -> Result<(), Failure> {
        self.cli
            .run(&["attachment", "delete", &format!("a{number}"), "--force", "--yes"])?;
        self.cli
            .run(&["volume", "delete", &format!("v{number}"), "--yes", "--wait"])
    }
}

impl Cli {
    fn run(&self, words: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        let output = command.args(["--url", &self.url]).args(words).output();
        let output = output.map_err(Failure::system("start palisade"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let problem = format!("palisade {}: {}", words.join(" "), said.trim());
        Err(Failure::target(&self.name, problem))
    }
}
