//! The description of the interface is valid, and a client that a stock generator makes of it works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::appliance::Appliance;
use crate::failure::{Failure, Outcome, demand};
use crate::lab::{Lab, root};
use crate::scenarios::step;

/// What the generated client is used for: everything that a first afternoon with an appliance needs.
const PROGRAM: &str = include_str!("../../fixtures/generated_client.py");

pub fn run(lab: &Lab) -> Outcome {
    let appliance = Appliance::start(lab, &[0])?;
    let document = lab.path("openapi.json");
    write(&document, &appliance.rest().text("/openapi.json")?)?;

    tool(
        Command::new(program("openapi-spec-validator"))
            .args(["--subschema-errors", "all"])
            .arg(&document),
    )?;
    step("a validator has nothing to say against the description");

    let client = lab.path("client");
    tool(
        Command::new(program("openapi-python-client"))
            .args([
                "generate",
                "--overwrite",
                "--meta",
                "none",
                "--fail-on-warning",
                "--path",
            ])
            .arg(&document)
            .arg("--output-path")
            .arg(client.join("palisade_client")),
    )?;
    step("a client is generated from it without a warning");

    let script = lab.path("generated_client.py");
    write(&script, PROGRAM)?;
    let disk = lab.path("appliance/disks/generated.img");
    let token = lab.path("appliance/state/admin.token");
    let said = tool(
        Command::new(program("python"))
            .env("PYTHONPATH", &client)
            .arg(&script)
            .arg(appliance.rest().base())
            .args([&token, &disk]),
    )?;
    demand(
        said.contains("all as described"),
        format!("the client did not come to its end: {said}"),
    )?;
    step(
        "the generated client adds a disk, offers a volume, reads events and the node, and takes all away again",
    );
    Ok(())
}

/// A program of the tools that `ci/setup --full` has installed.
fn program(name: &str) -> PathBuf {
    root().join("target/tools/openapi/bin").join(name)
}

fn tool(command: &mut Command) -> Outcome<String> {
    let shown = format!(
        "{} (ci/setup --full installs it)",
        command.get_program().display()
    );
    // The generator lays its output out with a tool that it looks for in the path.
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = program("").display().to_string();
    let output = command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PATH", format!("{folder}:{path}"))
        .output()
        .map_err(|error| Failure::during(&shown, error))?;
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    demand(output.status.success(), format!("{shown}: {words}"))?;
    Ok(words)
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| Failure::during(path.display(), error))
}
