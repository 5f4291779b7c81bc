//! What an operator may not have is refused at once, in words that say what to do, and leaves nothing behind. No
//! machine is needed.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::scenarios::step;

/// A refusal waits for nothing and nobody.
const AT_ONCE: Duration = Duration::from_secs(3);

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let disk = appliance.disk("d1", 128 * MIB)?;
    appliance.volume("v1", "d1", 16 * MIB)?;
    appliance.attach("v1", json!({}))?;

    step("disks");
    let alias = lab.path("alias.img");
    std::os::unix::fs::symlink(&disk, &alias).map_err(|error| Failure::during(alias.display(), error))?;
    let (new, folder) = (lab.path("new.img"), lab.path("no/such/folder.img"));
    let file = |path, bytes: u64| json!({ "id": "d2", "file": { "path": path, "bytes": bytes } });
    for (request, code) in [
        (file(&disk, 64 * MIB), "medium_taken"),
        (json!({ "id": "d2", "file": { "path": alias } }), "medium_taken"),
        (file(&new, 4096), "disk_too_small"),
        (file(&new, 64 * MIB + 1), "invalid_argument"),
        (file(&new, 1 << 62), "disk_not_created"),
        (
            json!({ "id": "d2", "file": { "path": "here.img", "bytes": 64 * MIB } }),
            "invalid_argument",
        ),
        (
            json!({ "id": "d2", "file": { "path": new } }),
            "disk_not_readable",
        ),
        (file(&folder, 64 * MIB), "path_leads_nowhere"),
        (json!({ "id": "d2", "block": { "path": disk } }), "medium_taken"),
        (
            json!({ "id": "d2", "file": { "path": "/dev/null" } }),
            "disk_volatile_place",
        ),
        (
            json!({ "id": "d2", "memory": { "bytes": 1_u64 << 50 } }),
            "no_memory",
        ),
        (
            json!({ "id": "d1", "file": { "path": new, "bytes": 64 * MIB } }),
            "disk_exists",
        ),
    ] {
        refused(&appliance, "/v1/disks", &request, code)?;
    }
    demand(!new.exists(), "a refused request has left a file behind")?;
    let length = || fs::metadata(&disk).map(|found| found.len()).unwrap_or(0);
    changed_not(
        &appliance,
        "/v1/disks/d1",
        &json!({ "bytes": 64 * MIB }),
        "cannot_shrink",
    )?;
    demand(length() == 128 * MIB, "a refused growth has changed the file")?;

    step("volumes");
    for (request, code) in [
        (
            json!({ "id": "v2", "disk": "d1", "bytes": 1024 * MIB }),
            "no_space",
        ),
        (
            json!({ "id": "v2", "disk": "d9", "bytes": MIB }),
            "disk_not_found",
        ),
        (
            json!({ "id": "v2", "disk": "d1", "bytes": 0 }),
            "invalid_argument",
        ),
        (
            json!({ "id": "v2", "disk": "d1", "bytes": 1000 }),
            "invalid_argument",
        ),
        (json!({ "id": "V 2", "disk": "d1", "bytes": MIB }), "invalid_name"),
        (
            json!({ "id": "v1", "disk": "d1", "bytes": 32 * MIB }),
            "volume_exists",
        ),
    ] {
        refused(&appliance, "/v1/volumes", &request, code)?;
    }
    changed_not(
        &appliance,
        "/v1/volumes/v1",
        &json!({ "bytes": MIB }),
        "cannot_shrink",
    )?;

    step("attachments");
    let attachment = |extra: Value| {
        let mut request = json!({ "id": "a2", "volume": "v2" });
        if let (Some(request), Value::Object(extra)) = (request.as_object_mut(), extra) {
            request.extend(extra);
        }
        request
    };
    appliance.volume("v2", "d1", 16 * MIB)?;
    for (request, code) in [
        (attachment(json!({ "volume": "v1" })), "volume_has_writer"),
        (attachment(json!({ "volume": "v9" })), "volume_not_found"),
        (attachment(json!({ "owner": "no-such-user" })), "account_unknown"),
        (attachment(json!({ "group": "no-such-group" })), "account_unknown"),
        (attachment(json!({ "queues": 0 })), "invalid_argument"),
        (attachment(json!({ "queue_size": 100 })), "invalid_argument"),
        (attachment(json!({ "socket": "here.sock" })), "invalid_argument"),
        (
            attachment(json!({ "serial": "far too long for a serial number" })),
            "invalid_argument",
        ),
    ] {
        refused(&appliance, "/v1/attachments", &request, code)?;
    }

    step("the wrong order");
    for path in ["/v1/disks/d1", "/v1/volumes/v1"] {
        let Err(failure) = appliance.rest().delete(path) else {
            return Err(Failure::new(format!("{path} was removed while it is in use")));
        };
        demand(failure.to_string().contains("in_use"), failure.to_string())?;
    }
    appliance.rest().delete("/v1/attachments/v1")?;
    appliance.rest().delete("/v1/volumes/v1")?;
    appliance.rest().delete("/v1/volumes/v2")?;
    appliance.rest().delete("/v1/disks/d1")?;
    appliance.must_be_well()?;
    appliance.stop()
}

/// Creating `request` is refused at once with `code`, a message and a remedy.
fn refused(appliance: &Appliance, path: &str, request: &Value, code: &str) -> Outcome {
    let start = Instant::now();
    let answer = appliance.rest().post(path, request);
    in_words(answer, request, code, start.elapsed())
}

/// The same of a change.
fn changed_not(appliance: &Appliance, path: &str, patch: &Value, code: &str) -> Outcome {
    let start = Instant::now();
    let answer = appliance.rest().patch(path, patch);
    in_words(answer, patch, code, start.elapsed())
}

fn in_words(answer: Outcome<Value>, asked: &Value, code: &str, took: Duration) -> Outcome {
    let Err(failure) = answer else {
        return Err(Failure::new(format!("{asked} was to be refused with {code}")));
    };
    let said = failure.to_string();
    demand(
        said.contains(&format!("\"code\":\"{code}\"")) && said.contains("\"remedy\":\""),
        format!("{asked} was to be refused with {code}: {said}"),
    )?;
    demand(
        took < AT_ONCE,
        format!("{asked} was refused only after {took:?}: {said}"),
    )
}
