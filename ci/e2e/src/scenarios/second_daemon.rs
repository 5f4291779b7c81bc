//! A second daemon on the same state, the same port or the same disk is turned away, and the first goes on. No machine
//! is needed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::loop_device::LoopDevice;
use crate::process::Process;
use crate::scenarios::step;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let disk = appliance.disk("d1", 64 * MIB)?;
    appliance.volume("v1", "d1", MIB)?;
    appliance.attach("v1", json!({}))?;

    let own = lab.path("appliance/palisade.toml");
    let text = fs::read_to_string(&own).map_err(|error| Failure::during(own.display(), error))?;
    turned_away(lab, &text, "another daemon uses this state directory")?;
    step("the same state directory: refused");

    let other = text.replace("/state\"", "/state2\"");
    turned_away(lab, &other, "another process answers on")?;
    step("the same folder of sockets: refused");

    let other = other.replace("/run\"", "/run2\"");
    must_wait_for_port(lab, &other)?;
    step("the same port: served by the socket, and the port is said to be taken");

    let (own_rest, disk) = (appliance.rest().base().to_owned(), disk.display().to_string());
    let port = own_rest.rsplit(':').next().unwrap_or_default();
    let elsewhere = other
        .replace(&format!(":{port}"), ":0")
        .replace("[devices]\n", "[devices]\nlock_wait_s = 1\n");
    let mut ways = vec![json!({ "file": { "path": disk } })];
    let over = LoopDevice::over(Path::new(&disk));
    match &over {
        Some(over) => ways.push(json!({ "block": { "path": over.path } })),
        None => step("no loop device can be had here: they are left to the unit tests"),
    }
    must_not_share(lab, &elsewhere, &ways)?;
    drop(over);
    step(
        "the same disk file, by its path and under a loop device: refused, as a disk of any kind and for import",
    );

    appliance.settled("/v1/attachments/v1")?;
    appliance.must_be_well()?;
    appliance.stop()
}

/// A daemon with this configuration ends by itself and says why.
fn turned_away(lab: &Lab, config: &str, words: &str) -> Outcome {
    let mut process = launch(lab, config)?;
    let status = process.wait(Duration::from_secs(20))?;
    let said = process.last_words();
    demand(
        status.code() == Some(1) && said.contains(words),
        format!("a second daemon was to be turned away with \"{words}\": {status}: {said}"),
    )
}

/// A daemon of its own that finds its port in other hands.
fn must_wait_for_port(lab: &Lab, config: &str) -> Outcome {
    let mut process = launch(lab, config)?;
    let socket = lab.path("appliance/run2/api.socket");
    let mut said = String::new();
    crate::process::wait_until("the second daemon's health", Duration::from_secs(20), || {
        process.must_run()?;
        let health = Command::new(lab.program("palisade")?)
            .arg("--url")
            .arg(&socket)
            .args(["health", "--json"])
            .output();
        let health = health.map_err(|error| Failure::during("palisade health", error))?;
        said = String::from_utf8_lossy(&health.stdout).into_owned();
        Ok(said.contains("rest_port_taken"))
    })
    .map_err(|failure| Failure::new(format!("{failure}: {said}")))?;
    let status = process.terminate(Duration::from_secs(20))?;
    demand(
        status.success(),
        format!("the second daemon ended badly: {status}"),
    )
}

/// A daemon of its own that is asked for a disk of the first one, in several ways.
fn must_not_share(lab: &Lab, config: &str, ways: &[Value]) -> Outcome {
    let mut process = launch(lab, config)?;
    let mut port = None;
    crate::process::wait_until("the second daemon", Duration::from_secs(20), || {
        process.must_run()?;
        // It chose a free port and says which.
        let said = process.last_words();
        let after = said.split("rest: tcp=127.0.0.1:").nth(1);
        port = after.and_then(|rest| rest.split(' ').next()?.parse::<u16>().ok());
        Ok(port.is_some())
    })?;
    let rest = crate::rest::Rest::new(port.unwrap_or_default(), &lab.path("appliance/state2"));
    for way in ways {
        for usage in ["pooled", "whole"] {
            let mut request = json!({ "id": "stolen", "usage": usage, "force": true });
            if let (Some(request), Some(way)) = (request.as_object_mut(), way.as_object()) {
                request.extend(way.clone());
            }
            let Err(failure) = rest.post("/v1/disks", &request) else {
                return Err(Failure::new(format!("two daemons have one disk: {request}")));
            };
            demand(
                failure.to_string().contains("disk_locked"),
                format!("{request}: {failure}"),
            )?;
        }
        let import = json!({ "disks": [way] });
        demand(
            rest.post("/v1/import", &import).is_err(),
            format!("two daemons have one disk: {import}"),
        )?;
    }
    let status = process.terminate(Duration::from_secs(20))?;
    demand(
        status.success(),
        format!("the second daemon ended badly: {status}"),
    )
}

fn launch(lab: &Lab, config: &str) -> Outcome<Process> {
    let (file, log) = (lab.path("second.toml"), lab.path("second.log"));
    fs::write(&file, config).map_err(|error| Failure::during(file.display(), error))?;
    crate::process::remove_if_there(&log)?;
    let mut command = Command::new(lab.program("palisaded")?);
    command.arg("--config").arg(&file);
    Process::start("palisaded", &mut command, &log)
}
