//! A volume is taken from a running machine: not without consent, not while it is protected, shown first, and then for
//! good: what is in flight is finished, everything after that ends with an I/O error, and the machine's other disk goes on.
//! Its space, its name and its socket are another volume's meanwhile, which nothing of the old machine reaches.

use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::process::wait_until;
use crate::scenarios::step;
use crate::vm::{Vm, VmPlan};

/// How long a request may take that is to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one that is to fail at once may take.
const SOON: Duration = Duration::from_secs(10);

const READS: &str = "dd if=/dev/vda of=/dev/null bs=64k count=16 iflag=direct";

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let kept = appliance.offer("kept", 32 * MIB, 1)?;
    let given = appliance.offer("given", 32 * MIB, 1)?;
    let mut vm = lab.boot(&VmPlan::with_disks("guest", [&kept, &given]))?;
    vm.run("dd if=/dev/zero of=/dev/vdb bs=64k count=16 oflag=direct")?;

    let volume = ["volume", "delete", "given"];
    let attachment = ["attachment", "delete", "given"];
    for (command, part) in [
        (with(&volume, &["--yes"]), "is attached as given"),
        (with(&attachment, &["--yes"]), "a virtual machine is connected"),
        // Nobody can be asked: there is no terminal.
        (with(&volume, &["--force"]), "was not touched"),
        (with(&attachment, &["--force"]), "was not touched"),
        (vec!["disk", "remove", "given", "--yes"], "volume given"),
    ] {
        refused(&appliance, &command, part)?;
    }
    appliance.cli(&["volume", "set", "given", "--protect"])?;
    let forced = with(&volume, &["--force", "--yes"]);
    refused(&appliance, &forced, "protected")?;
    refused(&appliance, &with(&volume, &["--force", "--dry-run"]), "protected")?;
    appliance.cli(&["volume", "set", "given", "--unprotect"])?;
    let shown = appliance.cli(&with(&volume, &["--force", "--dry-run"]))?;
    demand(
        shown.contains("loses its disk") && shown.contains("lost"),
        format!("what a deletion takes is to be shown: {shown}"),
    )?;
    vm.run("dd if=/dev/vdb of=/dev/null bs=64k count=16 iflag=direct")?;
    appliance.must_have_no_errors("given")?;
    step("refused while it is used or protected or nobody has agreed; a dry run shows it and takes nothing");

    // Writes go on while it is taken away.
    vm.run(
        "(n=0; while dd if=/dev/zero of=/dev/vdb bs=64k count=16 oflag=direct 2>/dev/null; do n=$((n + 1)); done; echo $n >/tmp/ended) >/dev/null 2>&1 &",
    )?;
    let before = appliance.requests("given")?;
    wait_until("the guest to write", PATIENCE, || {
        Ok(appliance.requests("given")? > before + 32)
    })?;
    appliance.must_have_no_errors("given")?;
    appliance.cli(&forced)?;
    wait_until("the volume to be gone", PATIENCE, || {
        Ok(appliance.rest().get("/v1/attachments/given").is_err()
            && appliance.rest().get("/v1/volumes/given").is_err()
            && !given.exists())
    })?;
    must_fail(&mut vm)?;
    wait_until("the guest's own writer to have its error", PATIENCE, || {
        Ok(vm.ask("test -e /tmp/ended", PATIENCE)?.status == 0)
    })?;
    vm.run(READS)?;
    vm.must_be_calm_but("vdb")?;
    told(&appliance, "attachment/given", true)?;
    appliance.must_be_well()?;
    step(
        "taken away under load with consent: what was in flight is finished, what is asked after that fails at once",
    );

    // Its space, its name and its socket are free.
    appliance.volume("given", "given", 32 * MIB)?;
    let again = appliance.attach("given", json!({}))?;
    demand(
        again == given,
        "the new one was to have the socket of the old one",
    )?;
    let mut heir = lab.boot(&VmPlan::with_disks("heir", [&again]))?;
    heir.run(
        "yes inherited | head -c 1048576 >/tmp/data && dd if=/tmp/data of=/dev/vda bs=64k oflag=direct",
    )?;
    must_fail(&mut vm)?;
    vm.reset()?;
    step("the machine starts again beside its disk's successor");
    must_fail(&mut vm)?;
    vm.run(READS)?;
    heir.run(
        "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=64k count=16 iflag=direct | cmp - /tmp/data",
    )?;
    heir.must_be_calm()?;
    appliance.must_have_no_errors("given")?;
    appliance.must_have_no_errors("kept")?;
    let unforced = with(&attachment, &["--yes"]);
    refused(&appliance, &unforced, "a virtual machine is connected")?;
    heir.power_off()?;
    appliance.wait_connection("given", "listening")?;
    appliance.cli(&unforced)?;
    step("another volume has its space, its name and its socket, and nothing of the old machine reaches it");

    told(&appliance, "attachment/given", true)?;
    vm.power_off()?;
    told(&appliance, "attachment/given", false)?;
    appliance.must_be_well()?;
    appliance.stop()
}

/// Whatever the guest asks of its second disk ends with an error, and soon.
fn must_fail(vm: &mut Vm) -> Outcome {
    for command in [
        "dd if=/dev/vdb of=/dev/null bs=4k count=1 iflag=direct",
        "dd if=/dev/zero of=/dev/vdb bs=4k count=1 oflag=direct",
        "dd if=/dev/zero of=/dev/vdb bs=64k count=16 oflag=direct",
    ] {
        let answer = vm.ask(&format!("{command} 2>&1"), SOON)?;
        demand(
            answer.status != 0 && answer.text.contains("rror"),
            format!("{command}: an I/O error was to come of it: {answer:?}"),
        )?;
    }
    Ok(())
}

/// Whether the operator is told of a session that is left, for a subject.
fn told(appliance: &Appliance, subject: &str, due: bool) -> Outcome {
    wait_until(
        "the session that is left to be told, or no longer",
        PATIENCE,
        || {
            let health = appliance.rest().get("/v1/nodes/self/health")?;
            let findings = health.get("findings").and_then(Value::as_array);
            let is_it = |finding: &Value| {
                let is = |field, text| finding.get(field).and_then(Value::as_str) == Some(text);
                is("code", "session_left") && is("subject", subject)
            };
            Ok(findings.is_some_and(|all| all.iter().any(is_it)) == due)
        },
    )
}

fn with<'a>(words: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    words.iter().chain(more).copied().collect()
}

fn refused(appliance: &Appliance, command: &[&str], part: &str) -> Outcome {
    match appliance.cli(command) {
        Ok(done) => Err(Failure::new(format!("{command:?} was to be refused: {done}"))),
        Err(failure) => {
            let said = failure.to_string();
            demand(said.contains(part), format!("{command:?}: no {part} in {said}"))
        }
    }
}
