//! The cluster database is damaged or incomplete: the daemon does not start, says which file it is and changes nothing.
//! No machine is needed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::process::Process;
use crate::scenarios::step;

/// What is done to a file.
type Harm = fn(&Path) -> std::io::Result<()>;

pub fn run(lab: &Lab) -> Outcome {
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.disk("d1", 64 * MIB)?;
    for number in 0..4 {
        appliance.volume(&format!("v{number}"), "d1", MIB)?;
    }
    appliance.stop()?;
    let state = lab.path("appliance/state");
    let harms: [(&str, Harm); 4] = [
        ("its header is overwritten", |path| overwrite(path, 0)),
        ("its pages are overwritten", |path| {
            let pages = fs::metadata(path)?.len() / 4096;
            (1..pages).try_for_each(|page| overwrite(path, page * 4096))
        }),
        ("it is cut short", |path| {
            fs::OpenOptions::new().write(true).open(path)?.set_len(8192)
        }),
        ("it is gone", |path| fs::remove_file(path)),
    ];
    for file in ["state.redb", "log.redb"] {
        let path = state.join(file);
        let whole = fs::read(&path).map_err(|error| Failure::during(path.display(), error))?;
        for (what, harm) in harms {
            harm(&path).map_err(|error| Failure::during(path.display(), error))?;
            let harmed = fs::read(&path).ok();
            must_refuse(lab, file, what)?;
            demand(
                fs::read(&path).ok() == harmed,
                format!("{file}: {what}, and the refusal changed it"),
            )?;
            fs::write(&path, &whole).map_err(|error| Failure::during(path.display(), error))?;
        }
    }
    step("two files, four kinds of damage: refused by name, nothing changed");
    appliance.start_again()?;
    let volumes = appliance.rest().get("/v1/volumes")?.to_string();
    demand(
        (0..4).all(|number| volumes.contains(&format!("\"v{number}\""))),
        format!("with the files back all volumes are there: {volumes}"),
    )?;
    appliance.must_be_well()?;
    appliance.stop()
}

/// The daemon ends by itself, with an error that names the file.
fn must_refuse(lab: &Lab, file: &str, what: &str) -> Outcome {
    let log = lab.path("refused.log");
    let mut command = Command::new(lab.program("palisaded")?);
    command.arg("--config").arg(lab.path("appliance/palisade.toml"));
    crate::process::remove_if_there(&log)?;
    let mut process = Process::start("palisaded", &mut command, &log)?;
    let status = process
        .wait(Duration::from_secs(20))
        .map_err(|failure| Failure::new(format!("{file}: {what}: {failure}")))?;
    let words = process.last_words();
    demand(
        status.code() == Some(1) && words.contains(file) && !words.contains("panicked"),
        format!("{file}: {what}: {status}: {words}"),
    )
}

fn overwrite(path: &Path, at: u64) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut bytes = [0; 64];
    file.read_exact_at(&mut bytes, at)?;
    bytes.iter_mut().for_each(|byte| *byte ^= 0x5a);
    file.write_all_at(&bytes, at)
}
