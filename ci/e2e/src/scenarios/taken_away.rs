//! A volume is taken from a running machine: not without consent, not while it is protected, shown first, and then for
//! good: what is in flight is finished, and the machine's other disk goes on.

use std::time::Duration;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::process::wait_until;
use crate::scenarios::step;
use crate::vm::VmPlan;

/// How long a request may take that is to end.
const PATIENCE: Duration = Duration::from_secs(30);

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
    vm.run(READS)?;
    demand(
        vm.ask("test -e /tmp/ended", PATIENCE)?.status != 0,
        "a request in flight was to be finished, and no error invented",
    )?;
    vm.must_be_calm()?;
    step(
        "taken away under load with consent: what was in flight is finished, and the machine's other disk goes on",
    );

    // Its space and its name are free.
    appliance.volume("given", "given", 32 * MIB)?;
    appliance.settled("/v1/volumes/given")?;
    appliance.must_have_no_errors("kept")?;
    appliance.must_be_well()?;
    // Its program waits for a back end that is no more: the machine cannot be switched off in good order.
    vm.kill();
    appliance.stop()
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
