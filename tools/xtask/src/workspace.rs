//! The crates of the workspace as their `Cargo.toml` files tell them: no build, no network.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;

/// One crate of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crate {
    /// Its folder.
    pub folder: PathBuf,
    /// What it imports and in which sense (`dependencies`, `dev-dependencies`, `build-dependencies`).
    pub imports: Vec<(String, &'static str)>,
    /// The text of its root file (`src/lib.rs` or `src/main.rs`).
    pub root_text: String,
    /// Lines of its sources in which the word `unsafe` stands, comments left out.
    pub unsafe_lines: Vec<String>,
}

/// All crates by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workspace {
    /// The crates.
    pub crates: BTreeMap<String, Crate>,
}

#[derive(Deserialize)]
struct Root {
    workspace: Members,
}

#[derive(Deserialize)]
struct Members {
    members: Vec<String>,
}

impl Workspace {
    /// Reads the manifests below `root`.
    ///
    /// # Errors
    /// Names the file that is missing or cannot be read.
    pub fn read(root: &Path) -> Result<Self, String> {
        let listed: Root = parse(&root.join("Cargo.toml"))?;
        let mut crates = BTreeMap::new();
        for member in listed.workspace.members {
            let folder = root.join(&member);
            let manifest: Table = parse(&folder.join("Cargo.toml"))?;
            let name = manifest
                .get("package")
                .and_then(|package| package.get("name"))
                .and_then(|name| name.as_str())
                .ok_or_else(|| format!("{member}/Cargo.toml has no package name"))?
                .to_owned();
            let root_text = ["src/lib.rs", "src/main.rs"]
                .iter()
                .find_map(|file| fs::read_to_string(folder.join(file)).ok())
                .ok_or_else(|| format!("{member} has neither src/lib.rs nor src/main.rs"))?;
            let mut unsafe_lines = Vec::new();
            collect_unsafe(&folder.join("src"), &mut unsafe_lines)?;
            crates.insert(
                name,
                Crate {
                    folder,
                    imports: imports(&manifest),
                    root_text,
                    unsafe_lines,
                },
            );
        }
        Ok(Self { crates })
    }
}

/// Adds the lines with `unsafe` of all sources below a folder.
fn collect_unsafe(folder: &Path, lines: &mut Vec<String>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            collect_unsafe(&path, lines)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).map_err(failed)?;
            lines.extend(
                text.lines()
                    .filter(|line| says_unsafe(line))
                    .map(|line| line.trim().to_owned()),
            );
        }
    }
    Ok(())
}

/// Whether the word stands in a line outside a comment. Names that only contain it, as the lint's, do not count.
fn says_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let letters = |char: char| !(char.is_alphanumeric() || char == '_');
    code.split(letters).any(|word| word == "unsafe")
}

/// All dependencies of a manifest, those of single targets included.
fn imports(manifest: &Table) -> Vec<(String, &'static str)> {
    let mut found = section(manifest);
    if let Some(targets) = manifest.get("target").and_then(|targets| targets.as_table()) {
        found.extend(
            targets
                .values()
                .filter_map(|target| target.as_table())
                .flat_map(section),
        );
    }
    found
}

fn section(table: &Table) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = table.get(kind).and_then(|value| value.as_table()) else {
            continue;
        };
        for (key, value) in dependencies {
            // A renamed import (`x = { package = "y" }`) is still an import of y.
            let real = value
                .get("package")
                .and_then(|package| package.as_str())
                .unwrap_or(key);
            found.push((real.to_owned(), kind));
        }
    }
    found
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_counts_and_neither_comments_nor_longer_names() {
        assert!(says_unsafe("pub unsafe trait Mapped {") && says_unsafe("    x(unsafe{y})"));
        assert!(
            !says_unsafe("    unsafe_code,")
                && !says_unsafe("let a = 1; // unsafe")
                && !says_unsafe("/// unsafe")
        );
    }

    #[test]
    fn imports_of_all_kinds_are_seen_under_their_real_names() {
        let manifest: Table = "[dependencies]\na = \"1\"\nalias = { package = \"b\", path = \"x\" }\n\
             [dev-dependencies]\nc.workspace = true\n[target.'cfg(unix)'.build-dependencies]\nd = \"1\""
            .parse()
            .unwrap();
        let found = imports(&manifest);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!(found[2].1, "dev-dependencies");
    }
}
