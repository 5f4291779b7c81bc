//! Imports run down the storeys, and `unsafe` lives in the hands alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::workspace::{Crate, Workspace};

/// Every crate of ours starts with this.
const OURS: &str = "palisade-";
/// What a crate without `unsafe` says in its root file.
const FORBID: &str = "#![forbid(unsafe_code)]";
/// What one says that only declares something unsafe: each such declaration needs an exception of its own there.
const DENY: &str = "#![deny(unsafe_code)]";

/// The order of the house, as `ci/storeys.toml` writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    storey: Vec<Storey>,
    never_in_contracts_and_machines: Never,
    #[serde(default)]
    exception: Vec<Exception>,
    #[serde(default)]
    declares_unsafe: Vec<Declaration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Storey {
    name: String,
    // For readers of the file.
    #[serde(rename = "may")]
    _may: String,
    crates: Vec<String>,
    #[serde(default)]
    unsafe_code: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Never {
    crates: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    from: String,
    to: String,
    reason: String,
}

/// The one line of a crate outside the hands in which `unsafe` may stand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declaration {
    #[serde(rename = "crate")]
    of: String,
    line: String,
    reason: String,
}

impl Plan {
    /// Reads the plan.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let plan: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if let Some(hollow) = plan
            .exception
            .iter()
            .find(|exception| exception.reason.trim().len() < 10)
        {
            return Err(format!(
                "the exception {} -> {} gives no reason",
                hollow.from, hollow.to
            ));
        }
        if let Some(hollow) = plan
            .declares_unsafe
            .iter()
            .find(|one| one.reason.trim().len() < 10)
        {
            return Err(format!("what {} declares as unsafe has no reason", hollow.of));
        }
        Ok(plan)
    }

    /// Every fault of `workspace`, in words. None: all is well.
    pub fn check(&self, workspace: &Workspace) -> Vec<String> {
        let mut faults = Vec::new();
        let heights = self.heights(&mut faults);
        for name in heights
            .keys()
            .filter(|name| !workspace.crates.contains_key(**name))
        {
            faults.push(format!("{name} has a storey and is not in the workspace"));
        }
        for (name, its) in &workspace.crates {
            let Some(&height) = heights.get(name.as_str()) else {
                faults.push(format!("{name} has no storey in ci/storeys.toml"));
                continue;
            };
            self.check_edges(name, its, height, &heights, &mut faults);
            self.check_unsafe(name, its, height, &mut faults);
        }
        for stale in self
            .exception
            .iter()
            .filter(|exception| !imports(workspace, exception))
        {
            faults.push(format!(
                "the exception {} -> {} is not used",
                stale.from, stale.to
            ));
        }
        faults
    }

    fn heights(&self, faults: &mut Vec<String>) -> BTreeMap<&str, usize> {
        let mut heights = BTreeMap::new();
        for (height, storey) in self.storey.iter().enumerate() {
            for name in &storey.crates {
                if heights.insert(name.as_str(), height).is_some() {
                    faults.push(format!("{name} stands in two storeys"));
                }
            }
        }
        heights
    }

    fn check_edges(
        &self,
        name: &str,
        its: &Crate,
        height: usize,
        heights: &BTreeMap<&str, usize>,
        faults: &mut Vec<String>,
    ) {
        for (import, kind) in &its.imports {
            if !import.starts_with(OURS) {
                // The storeys below the hands decide; what they test with is their own affair.
                let barred = self.never_in_contracts_and_machines.crates.contains(import);
                if barred && height < self.hands() && *kind != "dev-dependencies" {
                    faults.push(format!("{name} ({}) imports {import}", self.name_of(height)));
                }
                continue;
            }
            let Some(&below) = heights.get(import.as_str()) else {
                continue;
            };
            let excepted = self
                .exception
                .iter()
                .any(|edge| edge.from == name && edge.to == *import);
            if below >= height && !excepted {
                let way = if below == height { "sideways" } else { "up" };
                faults.push(format!(
                    "{name} ({}) imports {import} ({}): {way}, in its {kind}",
                    self.name_of(height),
                    self.name_of(below)
                ));
            }
        }
    }

    fn check_unsafe(&self, name: &str, its: &Crate, height: usize, faults: &mut Vec<String>) {
        let allowed = self.storey.get(height).is_some_and(|storey| storey.unsafe_code);
        if allowed {
            return;
        }
        let declared = self.declares_unsafe.iter().find(|one| one.of == name);
        let needed = declared.map_or(FORBID, |_| DENY);
        if !its.root_text.lines().any(|line| line.trim() == needed) {
            faults.push(format!("{name} ({}) lacks {needed}", self.name_of(height)));
        }
        let Some(declared) = declared else { return };
        let others = its.unsafe_lines.iter().filter(|line| **line != declared.line);
        faults.extend(others.map(|line| {
            format!(
                "{name} ({}) may declare one thing as unsafe, and says: {line}",
                self.name_of(height)
            )
        }));
        if !its.unsafe_lines.contains(&declared.line) {
            faults.push(format!("{name} does not declare what it may: {}", declared.line));
        }
    }

    /// The lowest storey with `unsafe`: below it nothing touches the world.
    fn hands(&self) -> usize {
        self.storey
            .iter()
            .position(|storey| storey.unsafe_code)
            .unwrap_or(0)
    }

    fn name_of(&self, height: usize) -> &str {
        self.storey
            .get(height)
            .map_or("nowhere", |storey| storey.name.as_str())
    }
}

fn imports(workspace: &Workspace, edge: &Exception) -> bool {
    let from = workspace.crates.get(&edge.from);
    from.is_some_and(|its| its.imports.iter().any(|(import, _)| *import == edge.to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "[[storey]]\nname = \"ground\"\nmay = \"\"\ncrates = [\"palisade-a\", \"palisade-b\"]\n\
        [[storey]]\nname = \"hands\"\nmay = \"\"\ncrates = [\"palisade-h\"]\nunsafe_code = true\n\
        [[storey]]\nname = \"top\"\nmay = \"\"\ncrates = [\"palisade-t\"]\n\
        [never_in_contracts_and_machines]\ncrates = [\"libc\"]\n";

    /// The four crates of `PLAN`, well, with imports of `from` added.
    fn workspace(edges: &[(&str, &str, &'static str)]) -> Workspace {
        let mut workspace = Workspace::default();
        for name in ["palisade-a", "palisade-b", "palisade-h", "palisade-t"] {
            let root_text = if name == "palisade-h" {
                String::new()
            } else {
                format!("//! x\n{FORBID}\n")
            };
            workspace.crates.insert(
                name.to_owned(),
                Crate {
                    root_text,
                    ..Crate::default()
                },
            );
        }
        for (from, to, kind) in edges {
            workspace
                .crates
                .get_mut(*from)
                .unwrap()
                .imports
                .push(((*to).to_owned(), kind));
        }
        workspace
    }

    fn faults(plan: &str, edges: &[(&str, &str, &'static str)]) -> Vec<String> {
        Plan::parse(plan).unwrap().check(&workspace(edges))
    }

    #[test]
    fn downward_is_well() {
        let edges = [
            ("palisade-t", "palisade-h", "dependencies"),
            ("palisade-t", "palisade-a", "dev-dependencies"),
            ("palisade-h", "libc", "dependencies"),
            ("palisade-a", "serde", "dependencies"),
            ("palisade-a", "libc", "dev-dependencies"),
        ];
        assert_eq!(faults(PLAN, &edges), Vec::<String>::new());
    }

    #[test]
    fn upward_and_sideways_are_found_in_every_kind_of_import() {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let up = faults(PLAN, &[("palisade-a", "palisade-t", kind)]);
            assert!(
                up.len() == 1 && up[0].contains("up") && up[0].contains(kind),
                "{up:?}"
            );
            let sideways = faults(PLAN, &[("palisade-a", "palisade-b", kind)]);
            assert!(
                sideways.len() == 1 && sideways[0].contains("sideways"),
                "{sideways:?}"
            );
        }
    }

    #[test]
    fn the_world_is_barred_from_below_the_hands() {
        let found = faults(PLAN, &[("palisade-a", "libc", "dependencies")]);
        assert!(found.len() == 1 && found[0].contains("imports libc"), "{found:?}");
    }

    #[test]
    fn a_crate_without_a_storey_and_a_storey_without_a_crate_are_found() {
        let mut workspace = workspace(&[]);
        let moved = workspace.crates.remove("palisade-b").unwrap();
        workspace.crates.insert("palisade-new".to_owned(), moved);
        let found = Plan::parse(PLAN).unwrap().check(&workspace);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn unsafe_code_is_barred_outside_the_hands() {
        let mut workspace = workspace(&[]);
        workspace.crates.get_mut("palisade-t").unwrap().root_text = format!("// {FORBID}\n");
        let found = Plan::parse(PLAN).unwrap().check(&workspace);
        assert!(found.len() == 1 && found[0].contains("palisade-t"), "{found:?}");
    }

    #[test]
    fn a_declaration_is_the_only_unsafe_line_of_its_crate() {
        let plan = format!(
            "{PLAN}[[declares_unsafe]]\ncrate = \"palisade-a\"\nline = \"pub unsafe trait T {{\"\nreason = \"hands meet there\"\n"
        );
        let with = |root: &str, lines: &[&str]| {
            let mut workspace = workspace(&[]);
            let its = workspace.crates.get_mut("palisade-a").unwrap();
            its.root_text = format!("{root}\n");
            its.unsafe_lines = lines.iter().map(|&line| line.to_owned()).collect();
            Plan::parse(&plan).unwrap().check(&workspace)
        };
        let line = "pub unsafe trait T {";
        assert_eq!(with(DENY, &[line]), Vec::<String>::new());
        assert_eq!(with(FORBID, &[line]).len(), 1);
        assert_eq!(with(DENY, &[line, "unsafe { }"]).len(), 1);
        assert_eq!(with(DENY, &[]).len(), 1);
        assert!(Plan::parse(&plan.replace("hands meet there", "")).is_err());
    }

    #[test]
    fn an_exception_holds_while_it_is_used_and_has_a_reason() {
        let exception = |reason: &str| {
            format!(
                "{PLAN}[[exception]]\nfrom = \"palisade-a\"\nto = \"palisade-t\"\nreason = \"{reason}\"\n"
            )
        };
        let good = exception("its test needs the top");
        assert_eq!(
            faults(&good, &[("palisade-a", "palisade-t", "dev-dependencies")]),
            Vec::<String>::new()
        );
        assert_eq!(
            faults(&good, &[]).len(),
            1,
            "an exception nobody needs is a fault"
        );
        assert!(Plan::parse(&exception("")).is_err());
    }

    #[test]
    fn the_plan_of_this_tree_can_be_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/storeys.toml");
        assert_eq!(Plan::read(&path).unwrap().storey.len(), 9);
    }
}
