//! The copies of the tree that faults are put into: below `target/mutants`, with a target folder of their own, so that
//! nobody's build is disturbed. Libraries of others that the tree's own target folder has are taken over from there.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the tree.
#[derive(Debug)]
pub struct Bed {
    /// Its root.
    pub tree: PathBuf,
    /// Where it is built.
    pub target: PathBuf,
}

impl Bed {
    /// Brings a copy up to date, its files changed by `change`. What has not changed keeps its time, so that it is not
    /// compiled again.
    ///
    /// # Errors
    /// The tree cannot be read, or the copy not written.
    pub fn new(root: &Path, name: &str, change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Result<Bed, String> {
        let folder = folder(root);
        let bed = Bed {
            tree: folder.join(name),
            target: folder.join("target"),
        };
        let mut known = BTreeSet::new();
        for name in sources(root)? {
            let (from, to) = (root.join(&name), bed.tree.join(&name));
            known.insert(to.clone());
            let content = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
            put(&to, &change(&name, content))?;
        }
        remove_others(&bed.tree, &known)?;
        if !bed.target.exists() {
            take_over(&crate::target(root).join("debug"), &bed.target.join("debug"));
        }
        Ok(bed)
    }

    /// Cargo, in the copy.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            // What is made wrong in one place is compiled again and again.
            .env("CARGO_INCREMENTAL", "1")
            .env("PROPTEST_FAILURE_PERSISTENCE", "off")
            .env("CARGO_TERM_COLOR", "never");
        command
    }
}

/// Where the copies are.
pub fn folder(root: &Path) -> PathBuf {
    crate::target(root).join("mutants")
}

/// Links what cargo has built of libraries that are not ours into another target folder. Cargo holds each against its
/// fingerprint before it is used, so nothing is lost by one that does not fit, or could not be linked: it is compiled.
fn take_over(from: &Path, to: &Path) {
    for part in ["deps", "build", ".fingerprint"] {
        let Ok(entries) = fs::read_dir(from.join(part)) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_ours = name
                .to_string_lossy()
                .trim_start_matches("lib")
                .starts_with("palisade");
            if !is_ours {
                link(&entry.path(), &to.join(part).join(name));
            }
        }
    }
}

/// Links a file, or all of a folder.
fn link(from: &Path, to: &Path) {
    if let Some(folder) = to.parent() {
        let _ = fs::create_dir_all(folder);
    }
    let Ok(entries) = fs::read_dir(from) else {
        let _ = fs::hard_link(from, to);
        return;
    };
    for entry in entries.flatten() {
        link(&entry.path(), &to.join(entry.file_name()));
    }
}

/// The files of a tree, as git knows them.
///
/// # Errors
/// Git cannot be asked.
pub fn sources(root: &Path) -> Result<Vec<String>, String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("git cannot be started: {error}"))?;
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    // Deleted, and still in the index; or a link to what is no source.
    let is_there = |name: &&str| {
        let path = root.join(name);
        !name.is_empty() && path.is_file() && !path.is_symlink()
    };
    Ok(names.split('\0').filter(is_there).map(str::to_owned).collect())
}

/// Writes a file unless that is what it says already.
///
/// # Errors
/// It cannot be written.
pub fn put(to: &Path, content: &[u8]) -> Result<(), String> {
    if fs::read(to).is_ok_and(|there| there == content) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::write(to, content).map_err(|error| format!("{}: {error}", to.display()))
}

/// Removes sources of the copy that are no longer in the tree.
fn remove_others(folder: &Path, known: &BTreeSet<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_others(&path, known)?;
        } else if !known.contains(&path) {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}
