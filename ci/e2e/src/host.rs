//! A users' machine as the host of the appliance: Debian's kernel in an emulated machine with NVMe disks, and our programs
//! inside (`ci/guest/hosts` builds what it boots).

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::failure::{Failure, Outcome, demand};
use crate::lab::{Lab, root};
use crate::process::ending;
use crate::vm::{Base, Vm, VmPlan};

/// Longest time for a command that waits for the appliance, on an emulated machine that others share.
const PATIENCE: Duration = Duration::from_secs(180);

/// One NVMe namespace: its size and its logical block.
#[derive(Clone, Copy, Debug)]
pub struct Namespace {
    pub mib: u64,
    pub block_bytes: u32,
}

/// What lies on the controller that can be pulled out.
const SECOND: [Namespace; 1] = [Namespace {
    mib: 64,
    block_bytes: 512,
}];

/// A host under trial.
#[derive(Debug)]
pub struct Host {
    pub vm: Vm,
    /// What it runs on, for the lines of a scenario.
    pub kernel: String,
}

impl Host {
    /// Boots Debian's kernel `version` with `disks` as /dev/nvme0n1, n2, …, one more of 64 MiB on a controller of its own as
    /// /dev/nvme1n1, and `programs` in /opt.
    ///
    /// # Errors
    /// When a part has not been built, or the machine does not come up.
    pub fn boot(lab: &Lab, version: &str, disks: &[Namespace], programs: &[PathBuf]) -> Outcome<Self> {
        let parts = [
            lab.guest().join("initramfs"),
            built(lab, &format!("{version}/modules"))?,
            built(lab, "tools")?,
            packed(lab, programs)?,
        ];
        let initrd = lab.path(&format!("host-{version}.initrd"));
        let mut all = Vec::new();
        for part in &parts {
            all.extend(fs::read(part).map_err(|error| Failure::during(part.display(), error))?);
        }
        fs::write(&initrd, all).map_err(|error| Failure::during(initrd.display(), error))?;
        let base = Base {
            program: None,
            kernel: built(lab, &format!("{version}/vmlinux"))?,
            initrd: Some(initrd),
            append: String::new(),
            devices: controller("nvme", &blank(lab, version, disks)?)
                .into_iter()
                .chain(controller(
                    "second",
                    &blank(lab, &format!("{version}-second"), &SECOND)?,
                ))
                .collect(),
        };
        let mut host = Self::started(lab, version, base)?;
        host.run("ifconfig lo 127.0.0.1 up && mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm")?;
        Ok(host)
    }

    /// Boots Debian 12 with systemd; its root is /dev/nvme0n1, the folder `brought` /dev/nvme0n2, and `disks` come behind
    /// them. What it writes to its root is gone with it.
    ///
    /// # Errors
    /// When a part has not been built, or the machine does not come up.
    pub fn boot_debian(lab: &Lab, brought: &Path, disks: &[Namespace]) -> Outcome<Self> {
        let root = built(lab, "debian/root")?;
        let image = lab.path("brought.img");
        let during = |error| Failure::during(image.display(), error);
        File::create(&image)
            .and_then(|file| file.set_len(256 << 20))
            .map_err(during)?;
        let made = Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-F", "-d"])
            .args([brought, &image])
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .status()
            .map_err(during)?;
        demand(made.success(), format!("mke2fs: {}", ending(made)))?;
        let mut all = vec![(root, 512, ",snapshot=on"), (image, 512, "")];
        all.extend(blank(lab, "debian", disks)?);
        let base = Base {
            program: None,
            kernel: built(lab, "6.1/vmlinux")?,
            initrd: None,
            append: "root=/dev/nvme0n1 rw init=/lib/systemd/systemd systemd.show_status=0".to_owned(),
            devices: controller("nvme", &all),
        };
        Self::started(lab, "6.1", base)
    }

    fn started(lab: &Lab, version: &str, base: Base) -> Outcome<Self> {
        let plan = VmPlan {
            name: format!("host-{version}"),
            processors: 2,
            memory_mib: Some(2048),
            disks: Vec::new(),
            devices: Vec::new(),
            base: Some(base),
        };
        let mut vm = lab.boot(&plan)?;
        let kernel = vm.run("uname -r")?.trim().to_owned();
        demand(
            kernel.starts_with(&format!("{version}.")),
            format!("Linux {version} was wanted, and {kernel} runs"),
        )?;
        Ok(Self { vm, kernel })
    }

    /// One command with patience for an emulated machine; what it wrote.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&mut self, command: &str) -> Outcome<String> {
        let kernel = &self.kernel;
        self.vm
            .run_within(command, PATIENCE)
            .map_err(|failure| Failure::new(format!("Linux {kernel}: {failure}")))
    }
}

/// A part that `ci/guest/hosts` builds.
///
/// # Errors
/// When it has not.
pub fn built(lab: &Lab, name: &str) -> Outcome<PathBuf> {
    let path = lab.guest().join("hosts").join(name);
    demand(
        path.exists(),
        format!("{} is not there; run ci/guest/hosts", path.display()),
    )?;
    Ok(path)
}

/// Our programs, and this one, which is the driver.
///
/// # Errors
/// When they have not been built.
pub fn programs(lab: &Lab) -> Outcome<Vec<PathBuf>> {
    let driver = env::current_exe().map_err(|error| Failure::during("this program", error))?;
    Ok(vec![lab.program("palisaded")?, lab.program("palisade")?, driver])
}

fn packed(lab: &Lab, programs: &[PathBuf]) -> Outcome<PathBuf> {
    let out = lab.path("programs");
    let status = Command::new(root().join("ci/guest/pack"))
        .arg(&out)
        .args(programs)
        .status()
        .map_err(|error| Failure::during("ci/guest/pack", error))?;
    demand(status.success(), format!("ci/guest/pack: {}", ending(status)))?;
    Ok(out)
}

/// Sparse files, each with its block and what QEMU is told besides.
fn blank(lab: &Lab, name: &str, disks: &[Namespace]) -> Outcome<Vec<(PathBuf, u32, &'static str)>> {
    let mut all = Vec::new();
    for (number, disk) in (1..).zip(disks) {
        let path = lab.path(&format!("host-{name}-{number}.img"));
        File::create(&path)
            .and_then(|file| file.set_len(disk.mib << 20))
            .map_err(|error| Failure::during(path.display(), error))?;
        all.push((path, disk.block_bytes, ",discard=unmap"));
    }
    Ok(all)
}

/// QEMU's arguments for an NVMe controller and its namespaces.
fn controller(id: &str, images: &[(PathBuf, u32, &'static str)]) -> Vec<String> {
    let mut arguments = vec!["-device".to_owned(), format!("nvme,id={id},serial=lab-{id}")];
    for (number, (path, block, more)) in (1..).zip(images) {
        let path = path.display();
        arguments.extend([
            "-drive".to_owned(),
            format!("file={path},if=none,id={id}-{number},format=raw{more}"),
            "-device".to_owned(),
            format!(
                "nvme-ns,bus={id},nsid={number},drive={id}-{number},logical_block_size={block},physical_block_size={block}"
            ),
        ]);
    }
    arguments
}
