//! Where the lab finds its parts: the guest, our programs, and a scratch folder for one scenario.

use std::env;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::failure::{Failure, Outcome, demand};
use crate::vm::{Vm, VmPlan};

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What every change must pass.
    Quick,
    /// Everything, for as long as it takes.
    Full,
}

/// The parts one scenario works with. Its scratch folder goes with it.
#[derive(Debug)]
pub struct Lab {
    depth: Depth,
    guest: PathBuf,
    programs: PathBuf,
    scratch: TempDir,
}

impl Lab {
    /// A lab whose programs lie in `programs` (`palisaded`, `palisade`) and whose guest was built by `ci/guest/build`.
    ///
    /// # Errors
    /// When the guest has not been built.
    pub fn new(depth: Depth, programs: &Path) -> Outcome<Self> {
        let guest = root().join("target/guest");
        demand(
            guest.join("initramfs").exists(),
            format!("{} holds no guest; run ci/guest/build", guest.display()),
        )?;
        // Unix socket paths are bounded to 107 bytes: the scratch folder lies high up.
        let scratch = tempfile::Builder::new()
            .prefix("palisade-e2e-")
            .tempdir()
            .map_err(|error| Failure::during("scratch folder", error))?;
        Ok(Self {
            depth,
            guest,
            programs: programs.to_owned(),
            scratch,
        })
    }

    /// How thorough this run is.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// A path in the scratch folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Where `ci/guest/build` puts what it builds.
    pub fn guest(&self) -> &Path {
        &self.guest
    }

    /// One of our programs.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn program(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.programs.join(name);
        demand(
            path.exists(),
            format!("{} is not there; build it first", path.display()),
        )?;
        Ok(path)
    }

    /// Boots a machine.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot(&self, plan: &VmPlan) -> Outcome<Vm> {
        Vm::boot(plan, &self.guest, self.scratch.path())
    }

    /// Leaves the scratch folder behind for a person to look at, and says where.
    pub fn keep(self) -> PathBuf {
        self.scratch.keep()
    }
}

/// The root of the source tree.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
