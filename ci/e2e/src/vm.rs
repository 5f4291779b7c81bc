//! A virtual machine: QEMU with the lab's guest in it.

use std::fs;
use std::io::ErrorKind::{ConnectionRefused, NotFound};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::agent::{Agent, Answer};
use crate::failure::{Failure, Outcome, demand};
use crate::process::{Process, wait_until};
use crate::qmp::Qmp;

/// How long the emulated guest may take to boot on a busy machine. Alone it takes three seconds, and Debian with systemd
/// fifteen.
const BOOT_PATIENCE: Duration = Duration::from_secs(240);
/// How long an ordinary command may take in the guest.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);
/// What every machine's kernel is told.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off";
/// What QEMU waits between two tries to reach a back end that has gone.
const RECONNECT_MS: u32 = 100;
/// Kernel messages that say that a request failed or never came back.
const TROUBLE: &str = "I/O error|blk_update_request|Buffer I/O|lost async page write|blocked for more than|timed out|EXT4-fs error";

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct VmPlan {
    /// Name used for its files.
    pub name: String,
    /// Emulated processors.
    pub processors: u32,
    /// Memory in MiB, shared; none when the base brings it along.
    pub memory_mib: Option<u32>,
    /// vhost-user-blk back ends, in the order `vda`, `vdb`, …
    pub disks: Vec<DiskPlan>,
    /// More arguments of QEMU, for other devices.
    pub devices: Vec<String>,
    /// Boots this instead of the lab's guest.
    pub base: Option<Base>,
}

/// What a machine boots that is not the lab's guest.
#[derive(Clone, Debug)]
pub struct Base {
    /// QEMU; none: the installed one.
    pub program: Option<PathBuf>,
    /// An uncompressed kernel.
    pub kernel: PathBuf,
    /// Its initial file system.
    pub initrd: Option<PathBuf>,
    /// More arguments of the kernel.
    pub append: String,
    /// More arguments of QEMU.
    pub devices: Vec<String>,
}

/// One vhost-user-blk device of a machine.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// Socket of the back end.
    pub socket: PathBuf,
    /// Virtqueues.
    pub queues: u32,
    /// More properties of the device, as QEMU's command line writes them.
    pub properties: &'static str,
}

impl VmPlan {
    /// One processor, 256 MiB, and `sockets` with one virtqueue each.
    pub fn with_disks<P: AsRef<Path>>(name: &str, sockets: impl IntoIterator<Item = P>) -> Self {
        let disks = sockets
            .into_iter()
            .map(|socket| DiskPlan {
                socket: socket.as_ref().to_owned(),
                queues: 1,
                properties: "",
            })
            .collect();
        Self {
            name: name.to_owned(),
            processors: 1,
            memory_mib: Some(256),
            disks,
            devices: Vec::new(),
            base: None,
        }
    }

    /// The same with a balloon, by which memory can be taken from the guest and given back.
    #[must_use]
    pub fn with_balloon(mut self) -> Self {
        self.devices
            .extend(["-device", "virtio-balloon-pci,id=balloon"].map(str::to_owned));
        self
    }

    /// The same with `queues` virtqueues a disk and as many processors.
    #[must_use]
    pub fn with_queues(mut self, queues: u32) -> Self {
        self.processors = queues;
        for disk in &mut self.disks {
            disk.queues = queues;
        }
        self
    }

    /// The same with more properties for each disk, in their order.
    #[must_use]
    pub fn with_properties(mut self, properties: &[&'static str]) -> Self {
        for (disk, properties) in self.disks.iter_mut().zip(properties) {
            disk.properties = properties;
        }
        self
    }

    fn arguments(&self, guest: &Path, serial: &Path, monitor: &Path, console: &Path) -> Vec<String> {
        let mut all: Vec<String> = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut add = |flag: &str, value: String| all.extend([flag.to_owned(), value]);
        add("-smp", self.processors.to_string());
        if let Some(memory) = self.memory_mib {
            add("-m", format!("{memory}M"));
            add(
                "-object",
                format!("memory-backend-memfd,id=mem,size={memory}M,share=on"),
            );
            add("-machine", "memory-backend=mem".to_owned());
        }
        let own = || Base {
            program: None,
            kernel: guest.join("vmlinux"),
            initrd: Some(guest.join("initramfs")),
            append: String::new(),
            devices: Vec::new(),
        };
        let base = self.base.clone().unwrap_or_else(own);
        add("-kernel", base.kernel.display().to_string());
        if let Some(initrd) = base.initrd {
            add("-initrd", initrd.display().to_string());
        }
        add("-append", format!("{KERNEL_ARGUMENTS} {}", base.append));
        add("-serial", format!("file:{}", console.display()));
        add(
            "-chardev",
            format!("socket,id=agent,path={},server=on,wait=off", serial.display()),
        );
        add("-serial", "chardev:agent".to_owned());
        add("-qmp", format!("unix:{},server=on,wait=off", monitor.display()));
        for (index, disk) in self.disks.iter().enumerate() {
            let path = disk.socket.display();
            // Each device sits behind a port of its own: only there q35 can plug and unplug under power.
            add(
                "-device",
                format!("pcie-root-port,id=port{index},chassis={}", index + 1),
            );
            add(
                "-chardev",
                format!("socket,id=back{index},path={path},reconnect-ms={RECONNECT_MS}"),
            );
            let more = match disk.properties {
                "" => String::new(),
                properties => format!(",{properties}"),
            };
            add(
                "-device",
                format!(
                    "vhost-user-blk-pci,id=disk{index},bus=port{index},chardev=back{index},num-queues={}{more}",
                    disk.queues
                ),
            );
        }
        all.extend(self.devices.iter().cloned());
        all.extend(base.devices);
        all
    }
}

/// Connects to a socket of QEMU's, once it listens there: it refuses between the moment at which the file appears (`bind`) and
/// that at which it listens.
fn connect(path: &Path, qemu: &mut Process) -> Outcome<UnixStream> {
    let mut stream = None;
    wait_until(&format!("QEMU at {}", path.display()), BOOT_PATIENCE, || {
        qemu.must_run()?;
        match UnixStream::connect(path) {
            Ok(connected) => stream = Some(connected),
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => {}
            Err(error) => return Err(Failure::during(path.display(), error)),
        }
        Ok(stream.is_some())
    })?;
    stream.ok_or_else(|| Failure::new(format!("no connection to {}", path.display())))
}

/// A booted machine. Dropped, it is switched off the hard way.
#[derive(Debug)]
pub struct Vm {
    name: String,
    agent: Agent,
    qmp: Qmp,
    process: Process,
    console: PathBuf,
}

impl Vm {
    /// Starts QEMU and waits until the guest obeys.
    ///
    /// # Errors
    /// When QEMU refuses or the guest does not come up; the text carries their last words.
    pub fn boot(plan: &VmPlan, guest: &Path, scratch: &Path) -> Outcome<Self> {
        let name = plan.name.clone();
        let serial = scratch.join(format!("{name}.agent"));
        let monitor = scratch.join(format!("{name}.qmp"));
        let console = scratch.join(format!("{name}.console"));
        let program = plan.base.as_ref().and_then(|base| base.program.clone());
        let mut command = Command::new(program.unwrap_or_else(|| "qemu-system-x86_64".into()));
        command.args(plan.arguments(guest, &serial, &monitor, &console));
        let mut process = Process::start(&name, &mut command, &scratch.join(format!("{name}.qemu")))?;
        let mut agent = Agent::new(connect(&serial, &mut process)?)?;
        let qmp = Qmp::new(connect(&monitor, &mut process)?)?;
        if let Err(failure) = agent.wait_ready(BOOT_PATIENCE) {
            let said = fs::read_to_string(&console).unwrap_or_default();
            return Err(Failure::new(format!(
                "{failure}\n    console: {said}\n    QEMU: {}",
                process.last_words()
            )));
        }
        Ok(Self {
            name,
            agent,
            qmp,
            process,
            console,
        })
    }

    /// Runs one shell command in the guest; a status other than 0 is a failure. Returns what it wrote.
    ///
    /// # Errors
    /// When the command fails or does not end within a minute.
    pub fn run(&mut self, command: &str) -> Outcome<String> {
        self.run_within(command, COMMAND_PATIENCE)
    }

    /// Runs one shell command in the guest and returns the last line that it wrote, to either output. Programs of one
    /// pipe end in no order, so that the one whose line counts must be alone or come after `&&`.
    ///
    /// # Errors
    /// When the command fails, says nothing or does not end within a minute.
    pub fn last_line(&mut self, command: &str) -> Outcome<String> {
        let text = self.run(command)?;
        let line = text.lines().last().map(str::trim).unwrap_or_default();
        demand(
            !line.is_empty(),
            format!("{}: `{command}` said nothing", self.name),
        )?;
        Ok(line.to_owned())
    }

    /// The same as [`Vm::run`] with its own deadline.
    ///
    /// # Errors
    /// When the command fails or does not end in time.
    pub fn run_within(&mut self, command: &str, patience: Duration) -> Outcome<String> {
        let answer = self.ask(command, patience)?;
        demand(
            answer.status == 0,
            format!(
                "{}: `{command}` ended with {}: {}",
                self.name,
                answer.status,
                answer.text.trim_end()
            ),
        )?;
        Ok(answer.text)
    }

    /// Runs one shell command in the guest and returns its status as well.
    ///
    /// # Errors
    /// When the command does not end in time.
    pub fn ask(&mut self, command: &str, patience: Duration) -> Outcome<Answer> {
        self.start(command)?;
        self.finish(command, patience)
    }

    /// Starts one shell command and does not wait for it; [`Vm::finish`] does.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn start(&mut self, command: &str) -> Outcome {
        self.process.must_run()?;
        self.agent.send(command)
    }

    /// Waits for the command that [`Vm::start`] started.
    ///
    /// # Errors
    /// When it does not end in time; the text carries the end of the console.
    pub fn finish(&mut self, command: &str, patience: Duration) -> Outcome<Answer> {
        self.agent.finish(command, patience).map_err(|failure| {
            let console = fs::read_to_string(&self.console).unwrap_or_default();
            let words: Vec<&str> = console.lines().rev().take(8).collect();
            Failure::new(format!(
                "{}: {failure}\n    console, newest first: {}",
                self.name,
                words.join("\n    ")
            ))
        })
    }

    /// Fails when the guest's kernel has complained about a disk.
    ///
    /// # Errors
    /// The lines of the complaint.
    pub fn must_be_calm(&mut self) -> Outcome {
        self.must_be_calm_but("nothing is excepted")
    }

    /// The same, leaving out lines with `expected`: trouble that the scenario itself asked for.
    ///
    /// # Errors
    /// The lines of the complaint.
    pub fn must_be_calm_but(&mut self, expected: &str) -> Outcome {
        let found = self.run(&format!(
            "dmesg | grep -E '{TROUBLE}' | grep -v '{expected}' || true"
        ))?;
        demand(
            found.trim().is_empty(),
            format!(
                "{}: the guest's kernel complains:\n    {}",
                self.name,
                found.trim()
            ),
        )
    }

    /// The first line of a file in the guest's `/sys/block/DISK`.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn sys_block(&mut self, disk: &str, file: &str) -> Outcome<String> {
        Ok(self
            // Some of these files do not end their line.
            .run(&format!("cat /sys/block/{disk}/{file} && echo"))?
            .trim()
            .to_owned())
    }

    /// Capacity of `disk` as the guest sees it, in bytes.
    ///
    /// # Errors
    /// When there is no such disk.
    pub fn size_bytes(&mut self, disk: &str) -> Outcome<u64> {
        let sectors = self.sys_block(disk, "size")?;
        // /sys/block/*/size counts 512-byte sectors whatever the block size.
        sectors
            .parse::<u64>()
            .map(|count| count * 512)
            .map_err(|error| Failure::during(sectors, error))
    }

    /// QEMU's `device_del` of disk number `index`, waiting until the guest has let go.
    ///
    /// # Errors
    /// When the guest does not let go within 30 s.
    pub fn unplug(&mut self, index: usize) -> Outcome {
        self.qmp
            .execute("device_del", json!({ "id": format!("disk{index}") }))?;
        self.qmp.wait_event("DEVICE_DELETED", Duration::from_secs(30))
    }

    /// Plugs disk number `index` in again; its back end has stayed connected to QEMU.
    ///
    /// # Errors
    /// QEMU's refusal.
    pub fn plug(&mut self, index: usize) -> Outcome {
        let device = json!({
            "driver": "vhost-user-blk-pci",
            "id": format!("disk{index}"),
            "bus": format!("port{index}"),
            "chardev": format!("back{index}"),
        });
        self.qmp.execute("device_add", device).map(drop)
    }

    /// Presses the reset button and waits until the guest obeys again.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn reset(&mut self) -> Outcome {
        self.qmp.execute("system_reset", json!({}))?;
        self.agent.wait_ready(BOOT_PATIENCE)
    }

    /// Takes memory from a machine with a balloon, or gives it back, until it has `mib` MiB.
    ///
    /// # Errors
    /// When the guest's driver does not follow within a minute.
    pub fn set_memory(&mut self, mib: u64) -> Outcome {
        let bytes = mib << 20;
        self.qmp.execute("balloon", json!({ "value": bytes }))?;
        let qmp = &mut self.qmp;
        wait_until("the balloon to have its size", COMMAND_PATIENCE, || {
            let told = qmp.execute("query-balloon", json!({}))?;
            Ok(told["actual"].as_u64() == Some(bytes))
        })
    }

    /// SIGKILL to QEMU: the machine is gone from one instruction to the next.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Switches the guest off in good order.
    ///
    /// # Errors
    /// When QEMU does not end.
    pub fn power_off(mut self) -> Outcome {
        self.agent.send("sync; poweroff -f")?;
        self.process.wait(COMMAND_PATIENCE).map(drop)
    }
}
