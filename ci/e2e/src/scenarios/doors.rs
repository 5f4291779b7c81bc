//! Who may not come in, and what not even an operator may name.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;

/// A user that exists everywhere and may nothing.
const NOBODY: &str = "65534";

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.disk("d1", 64 * MIB)?;

    let token = lab.path("appliance/state/admin.token");
    let about = fs::metadata(&token).map_err(|error| Failure::during(token.display(), error))?;
    demand(
        about.permissions().mode() & 0o777 == 0o600,
        "the token is not its owner's alone",
    )?;

    // A copy that nobody's user can reach: the folder of the built programs may be closed to him.
    let cli = lab.path("palisade");
    fs::copy(lab.program("palisade")?, &cli).map_err(|error| Failure::during(cli.display(), error))?;
    for folder in ["", "appliance", "appliance/run"] {
        let path = lab.path(folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(|error| Failure::during(path.display(), error))?;
    }
    let socket = format!("unix:{}", lab.path("appliance/run/api.socket").display());
    for (url, words) in [
        (socket.as_str(), "ermission denied"),
        (appliance.rest().base(), "wants a token"),
    ] {
        for request in [&["node"][..], &["disk", "add", "d2", "--null", "64MiB"]] {
            let said = Command::new("setpriv")
                .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
                .arg(&cli)
                .args(["--url", url])
                .args(request)
                .output()
                .map_err(|error| Failure::during("setpriv", error))?;
            let text = String::from_utf8_lossy(&said.stderr).into_owned();
            demand(
                said.status.code() == Some(1) && text.contains(words),
                format!("{url} let another user in, or did not say \"{words}\": {text}"),
            )?;
        }
    }
    step("another user of the machine is let in by neither door");

    let secret = std::path::Path::new("/etc/palisade-e2e-secret");
    let link = lab.path("appliance/disks/link.img");
    symlink(secret, &link).map_err(|error| Failure::during(link.display(), error))?;
    for path in [
        secret,
        &lab.path("../../etc/passwd"),
        std::path::Path::new("/etc/passwd"),
    ] {
        let request = json!({ "id": "d2", "file": { "path": path, "bytes": 64 * MIB }, "force": true });
        let refused = appliance.rest().post("/v1/disks", &request);
        let said = refused
            .err()
            .map(|failure| failure.to_string())
            .unwrap_or_default();
        demand(
            said.contains("path_not_allowed"),
            format!("{} was not refused for where it lies: {said}", path.display()),
        )?;
    }
    let request = json!({ "id": "d2", "file": { "path": link, "bytes": 64 * MIB } });
    let refused = appliance.rest().post("/v1/disks", &request);
    demand(
        refused.is_err() && !secret.exists(),
        "a file was made where a link led",
    )?;
    step("an operator's paths end below the configured folders, or nowhere");

    appliance.must_be_well()?;
    appliance.stop()
}
