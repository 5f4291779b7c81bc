//! The tests of what asks the kernel for something, on the users' kernel: files and block devices, rings, sleeping and
//! waking, hanging disks and descriptors, sockets and guests' memory. What a build machine's kernel grants says nothing
//! of Debian 12's 6.1.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::failure::{Failure, Outcome, demand};
use crate::host::{Host, Namespace};
use crate::lab::{Lab, root};
use crate::scenarios::step;

const KERNEL: &str = "6.1";

/// The crates that ask the kernel.
const PACKAGES: [&str; 4] = [
    "palisade-memory",
    "palisade-virtio",
    "palisade-sys",
    "palisade-frontend",
];

/// Tests whose judge is `wipefs`, which the host has not: what they are about is bytes on a disk.
const LEFT_OUT: [&str; 2] = [
    "what_lies_at_the_end_is_found_and_wiped",
    "what_others_make_is_found_and_wiped_as_util_linux_sees_it",
];

/// For one program of tests on an emulated machine that others share.
const PATIENCE: Duration = Duration::from_secs(900);

/// For the tests' files: O_DIRECT needs a file system on a disk.
const DISK: Namespace = Namespace {
    mib: 4096,
    block_bytes: 512,
};

pub fn run(lab: &Lab) -> Outcome {
    let programs = built_tests()?;
    demand(
        programs.len() > PACKAGES.len(),
        "cargo names fewer programs of tests than crates",
    )?;
    let mut host = Host::boot(lab, KERNEL, &[DISK], &programs)?;
    // The disk lies where the tree does: tests keep files where cargo has told them to, and beside themselves.
    let (tree, sys) = (root(), root().join("datapath/sys"));
    let (tree, sys) = (tree.display(), sys.display());
    let files = programs
        .iter()
        .find_map(|program| Some(program.parent()?.parent()?.parent()?.join("tmp")))
        .ok_or_else(|| Failure::new("no program of tests lies in a target folder"))?;
    let files = files.display();
    host.run(&format!(
        "mkfs.ext4 -q /dev/nvme0n1 && mkdir -p {tree} /var/tmp && mount /dev/nvme0n1 {tree} && mkdir -p {files} {sys} \
         {tree}/run {tree}/var && mount -o bind {tree}/var /var/tmp && chmod 1777 /var/tmp /tmp && modprobe loop"
    ))?;
    step(format!(
        "left out, as no kernel has a part in them: {}",
        LEFT_OUT.join(", ")
    ));
    let skipped: String = LEFT_OUT.iter().map(|test| format!(" --skip {test}")).collect();
    let mut failed = Vec::new();
    for program in &programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let command = format!(
            "cp /opt/{name} {tree}/run/ && cd {files} && TMPDIR={files} {tree}/run/{name} --test-threads 2{skipped} \
             >/tmp/said 2>&1"
        );
        let answer = host.vm.ask(&command, PATIENCE)?;
        let result = host.run("grep '^test result' /tmp/said || tail -n 5 /tmp/said")?;
        step(format!("Linux {}, {name}: {}", host.kernel, result.trim()));
        host.run(&format!("rm -f {tree}/run/{name}"))?;
        if answer.status != 0 {
            let said = host.run("grep -v '\\.\\.\\. ok$' /tmp/said | tail -n 60")?;
            failed.push(format!("{name}: {said}"));
        }
    }
    demand(
        failed.is_empty(),
        format!("Linux {}: {}", host.kernel, failed.join("\n")),
    )
}

/// Builds the programs of tests, and says where they are.
fn built_tests() -> Outcome<Vec<PathBuf>> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(root())
        .args(["test", "--no-run", "--locked", "--quiet", "--message-format=json"]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    let built = cargo
        .output()
        .map_err(|error| Failure::during("cargo test --no-run", error))?;
    demand(
        built.status.success(),
        format!("cargo test --no-run: {}", String::from_utf8_lossy(&built.stderr)),
    )?;
    let programs = String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|said| said["profile"]["test"] == Value::Bool(true))
        .filter_map(|said| said["executable"].as_str().map(PathBuf::from))
        .collect();
    Ok(programs)
}
