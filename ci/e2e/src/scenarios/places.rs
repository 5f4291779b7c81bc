//! Places that are none for a disk, whatever path leads there: memory, what is emptied, the daemon's own. Each is refused
//! with its reason, and nothing is made. No machine is needed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::process::wait_until;
use crate::scenarios::step;

/// The media of open disks are looked at once a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Mounted there, until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(place: PathBuf, arguments: &[&str]) -> Outcome<Mounted> {
        folder(&place)?;
        let status = Command::new("mount").args(arguments).arg(&place).status();
        let status = status.map_err(|error| Failure::during("mount", error))?;
        demand(status.success(), format!("mount {arguments:?} has failed"))?;
        Ok(Mounted(place))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nothing else can be done about it here.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    let memory = Mounted::at(
        lab.path("tmpfs"),
        &["-t", "tmpfs", "-o", "size=80m", "palisade-e2e"],
    )?;
    let ram = Mounted::at(lab.path("ramfs"), &["-t", "ramfs", "palisade-e2e"])?;
    let inside = memory.0.join("inside");
    folder(&inside)?;
    let bound = Mounted::at(lab.path("bound"), &["--bind", &inside.display().to_string()])?;
    for name in ["lower", "tmpfs/upper", "tmpfs/work", "upper", "work"] {
        folder(&lab.path(name))?;
    }
    let overlay = |place: &str, layers: &str, more: &str| {
        let options = format!(
            "lowerdir={0}/lower,upperdir={0}{layers}/upper,workdir={0}{layers}/work{more}",
            lab.path("").display().to_string().trim_end_matches('/')
        );
        Mounted::at(
            lab.path(place),
            &["-t", "overlay", "-o", &options, "palisade-e2e"],
        )
    };
    let in_memory = overlay("over", "/tmpfs", "")?;
    let volatile = overlay("volatile", "", ",volatile")?;
    let own = lab.path("appliance/state");
    for (link, to) in [
        ("to-memory", &memory.0),
        ("to-bound", &bound.0),
        ("to-state", &own),
        ("to-run", &lab.path("appliance/run")),
    ] {
        symlink(to, lab.path(link)).map_err(|error| Failure::during(link, error))?;
    }
    let places = [
        (memory.0.clone(), "disk_volatile_place", "which is memory"),
        (ram.0.clone(), "disk_volatile_place", "which is memory"),
        (bound.0.clone(), "disk_volatile_place", "which is memory"),
        (in_memory.0.clone(), "disk_volatile_place", "overlay"),
        (volatile.0.clone(), "disk_volatile_place", "volatile overlay"),
        (lab.path("to-memory"), "disk_volatile_place", "which is memory"),
        (lab.path("to-bound"), "disk_volatile_place", "which is memory"),
        ("/dev/shm".into(), "disk_volatile_place", "/dev/shm"),
        (own, "disk_place", "state directory"),
        (lab.path("to-state"), "disk_place", "state directory"),
        (lab.path("to-run"), "disk_place", "directory of sockets"),
    ];
    for (place, code, words) in &places {
        let path = place.join("palisade-e2e.img");
        refused(&appliance, &path, code, words)?;
        demand(!path.exists(), format!("{} was made", path.display()))?;
    }
    step(
        "memory, overlays over it, the daemon's own folders, and what leads there: refused, and nothing made",
    );

    let request = json!({ "id": "fast", "volatile": true,
        "file": { "path": memory.0.join("fast.img"), "bytes": 64 * MIB, "sparse": true } });
    appliance.rest().post("/v1/disks", &request)?;
    appliance.settled("/v1/disks/fast")?;
    // It is seen at the next look at the medium.
    wait_until("it to be said that the disk lies in memory", PATIENCE, || {
        let disk = appliance.rest().get("/v1/disks/fast")?;
        Ok(disk.to_string().contains("lies in memory"))
    })?;
    appliance.stop()?;
    step("taken when that is what is wanted, and said for as long as it is there");
    Ok(())
}

fn refused(appliance: &Appliance, path: &Path, code: &str, words: &str) -> Outcome {
    let request = json!({ "id": "x", "file": { "path": path, "bytes": 64 * MIB, "sparse": true } });
    for asked in ["/v1/nodes/self/disk-preview", "/v1/disks"] {
        let said = match appliance.rest().post(asked, &request) {
            Ok(taken) => {
                return Err(Failure::new(format!(
                    "{asked}: {} was taken: {taken}",
                    path.display()
                )));
            }
            Err(failure) => failure.to_string(),
        };
        demand(
            said.contains(&format!("\"code\":\"{code}\"")) && said.contains(words),
            format!(
                "{asked}: {} was to be refused by {code}, {words}: {said}",
                path.display()
            ),
        )?;
    }
    Ok(())
}

fn folder(path: &Path) -> Outcome {
    fs::create_dir_all(path).map_err(|error| Failure::during(path.display(), error))
}
