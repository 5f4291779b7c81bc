//! What people paste: the arguments that are printed for QEMU 7.2 boot a guest on Debian 12's own QEMU, and libvirt's XML is
//! what the schema of Debian 12's libvirt takes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::fio::VerifyLoad;
use crate::host::built;
use crate::lab::Lab;
use crate::scenarios::step;
use crate::vm::{Base, VmPlan};

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.offer("a", 64 * MIB, 2)?;
    appliance.disk("b", 128 * MIB)?;
    appliance.volume("b", "b", 64 * MIB)?;
    appliance.attach("b", json!({ "queues": 1, "queue_size": 256, "read_only": true }))?;
    taken_by_libvirt(lab, &appliance)?;
    taken_by_qemu(lab, &mut appliance)?;
    appliance.must_be_well()?;
    appliance.stop()
}

fn taken_by_qemu(lab: &Lab, appliance: &mut Appliance) -> Outcome {
    let program = built(lab, "qemu/usr/bin/qemu-system-x86_64")?;
    let version = said(Command::new(&program).arg("--version"))?;
    demand(
        version.contains("version 7.2."),
        format!("QEMU 7.2 was wanted: {version}"),
    )?;
    let printed = appliance.cli(&[
        "attachment",
        "qemu-args",
        "a",
        "b",
        "--memory",
        "256MiB",
        "--qemu-version",
        "7.2",
    ])?;
    // As a shell reads it: the paths of the lab need no quotes.
    let words = printed.replace("\\\n", " ");
    let mut devices: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    for folder in ["qemu/usr/share/qemu", "qemu/usr/share/seabios"] {
        devices.extend(["-L".to_owned(), built(lab, folder)?.display().to_string()]);
    }
    let plan = VmPlan {
        name: "old".to_owned(),
        processors: 2,
        memory_mib: None,
        disks: Vec::new(),
        devices: Vec::new(),
        base: Some(Base {
            program: Some(program),
            kernel: lab.guest().join("vmlinux"),
            initrd: Some(lab.guest().join("initramfs")),
            append: String::new(),
            devices,
        }),
    };
    let mut vm = lab.boot(&plan)?;
    VerifyLoad::new("vda", 1).run(&mut vm, Duration::from_secs(60))?;
    demand(
        vm.sys_block("vdb", "ro")? == "1",
        "the second disk is to be read-only",
    )?;
    step("QEMU 7.2 takes the printed arguments, and its guest works on both disks");

    appliance.stop()?;
    appliance.start_again()?;
    for name in ["a", "b"] {
        appliance.wait_connection(name, "running")?;
    }
    VerifyLoad::new("vda", 1).run(&mut vm, Duration::from_secs(60))?;
    vm.must_be_calm()?;
    step("it connects again after a restart");
    vm.power_off()
}

fn taken_by_libvirt(lab: &Lab, appliance: &Appliance) -> Outcome {
    let schema = built(lab, "libvirt/usr/share/libvirt/schemas/domain.rng")?;
    let whole = appliance.cli(&["attachment", "libvirt-xml", "a", "b", "--memory", "256MiB"])?;
    let one = appliance.cli(&["attachment", "libvirt-xml", "b", "--target", "vdc", "--disk-only"])?;
    // An element alone is for a domain that is there already.
    let within = whole.replacen("</devices>", &format!("{one}</devices>"), 1);
    for (name, text) in [("whole", &whole), ("within", &within)] {
        let path = write(lab, name, text)?;
        let schema = schema.display().to_string();
        said(
            Command::new("xmllint")
                .args(["--noout", "--relaxng", &schema])
                .arg(&path),
        )?;
    }
    // The schema is held against something that it must refuse.
    let wrong = write(
        lab,
        "wrong",
        &whole.replacen("type='vhostuser'", "type='vhost'", 1),
    )?;
    let refused = Command::new("xmllint")
        .args(["--noout", "--relaxng"])
        .args([&schema, &wrong])
        .output()
        .map_err(|error| Failure::during("xmllint", error))?;
    demand(!refused.status.success(), "libvirt's schema takes anything")?;
    step("libvirt 9.0's schema takes the printed XML");
    Ok(())
}

fn write(lab: &Lab, name: &str, text: &str) -> Outcome<PathBuf> {
    let path = lab.path(&format!("{name}.xml"));
    fs::write(&path, text).map_err(|error| Failure::during(path.display(), error))?;
    Ok(path)
}

/// What a program writes, which must end well.
fn said(command: &mut Command) -> Outcome<String> {
    let output = command
        .output()
        .map_err(|error| Failure::during(format!("{command:?} (ci/setup --tests installs it)"), error))?;
    let words = String::from_utf8_lossy(&output.stderr);
    demand(output.status.success(), format!("{command:?}: {words}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
