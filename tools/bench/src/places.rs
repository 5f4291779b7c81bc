//! What both programs of this package are told alike: which cores, which folders.

use crate::Failure;
use palisade_sys::affinity::allowed_cpus;
use serde::Serialize;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Flags about cores and folders.
#[derive(clap::Args, Clone, Debug)]
pub struct Locations {
    /// Folder for the pages that are written
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub out: PathBuf,
    /// Core of the targets [default: the last this process may use]
    #[arg(long, value_name = "CORE")]
    target_core: Option<usize>,
    /// Core of the client [default: the first]
    #[arg(long, value_name = "CORE")]
    client_core: Option<usize>,
    /// Folder of palisaded and palisade [default: that of this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

impl Locations {
    /// The targets' core and the client's.
    pub fn cores(&self) -> Result<(usize, usize), Failure> {
        let cores = allowed_cpus().map_err(Failure::system("ask for my cores"))?;
        let client = self.client_core.or(cores.first().copied());
        let target = self.target_core.or(cores.last().copied());
        match target.zip(client) {
            Some((target, client)) if target != client => Ok((target, client)),
            _ => Err(Failure::asked("the client and the targets need a core each")),
        }
    }

    /// Where our programs are.
    pub fn programs(&self) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.programs {
            return Ok(folder.clone());
        }
        let program = std::env::current_exe().map_err(Failure::system("find myself"))?;
        Ok(program.parent().map(Path::to_path_buf).unwrap_or_default())
    }

    /// Writes pages `NAME.KIND` and prints the first of them.
    pub fn write(&self, name: &str, pages: &[(&str, String)]) -> Result<(), Failure> {
        let out = made(&self.out)?;
        for (kind, page) in pages {
            let path = out.join(format!("{name}.{kind}"));
            std::fs::write(&path, page).map_err(Failure::system(format!("write {}", path.display())))?;
        }
        if let Some((_, page)) = pages.first() {
            print!("{page}");
        }
        let kinds: Vec<&str> = pages.iter().map(|(kind, _)| *kind).collect();
        eprintln!("\nwritten: {name}.{{{}}} in {}", kinds.join(","), out.display());
        Ok(())
    }
}

/// Figures for programs.
pub fn json(report: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(report)
        .map_err(|error| Failure::asked(format!("the figures cannot be written: {error}")))
}

/// A folder by its absolute path, made when it is not there.
pub fn made(folder: &Path) -> Result<PathBuf, Failure> {
    let action = format!("make {}", folder.display());
    std::fs::create_dir_all(folder).map_err(Failure::system(action.clone()))?;
    folder.canonicalize().map_err(Failure::system(action))
}

/// A folder for sockets, logs and state, which goes when it is dropped. A UNIX socket's path may have 107 bytes, and the
/// folder for the pages may lie deep.
pub fn short_folder() -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix("palisade-bench-").tempdir();
    made.map_err(Failure::system("make a folder for what is only needed now"))
}
