//! Tests that bite: deliberate faults in the code itself, each of which has to be found by the very test or checker that
//! is meant to find it. They are listed in `ci/mutants.toml` as replacements of a piece of text; one whose text is gone
//! from the code is a fault of the list, so that the list stays true.
//!
//! The code is changed in a copy of the tree below `target/mutants`, with a target folder of its own: nobody's build is
//! disturbed, and one mutant costs what compiling one changed crate and running one test costs.

use crate::bed::Bed;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// One deliberate fault.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    /// Its name.
    name: String,
    /// The file it is in.
    file: PathBuf,
    /// The text that is there, exactly once.
    find: String,
    /// What is put in its place.
    replace: String,
    /// What cargo is asked for: the tests that have to find it.
    cargo: Vec<String>,
    /// What is in the output of those that find it: the name of a test, or of an invariant.
    found_by: Option<String>,
    /// Why nothing has to find it.
    survives: Option<String>,
    /// Part of the quick slice.
    #[serde(default)]
    quick: bool,
}

/// Which mutants.
#[derive(Debug)]
pub enum Slice {
    /// The quick ones.
    Quick,
    /// All of them.
    All,
    /// Those of these names.
    Named(Vec<String>),
}

/// Tries the mutants of a slice. Every one that is not found as it has to be, in words.
///
/// # Errors
/// The list or the tree cannot be read, or the tests fail without any mutant.
pub fn check(root: &Path, slice: &Slice) -> Result<Vec<String>, String> {
    let text = read(&root.join("ci/mutants.toml"))?;
    let list: List = toml::from_str(&text).map_err(|error| format!("ci/mutants.toml: {error}"))?;
    let chosen = choose(list, slice)?;
    let bed = Bed::new(root, "tree", |_, content| content)?;
    let mut faults = Vec::new();
    for mutant in &chosen {
        faults.extend(mutant.misplaced(&bed)?);
    }
    if !faults.is_empty() {
        return Ok(faults);
    }
    let commands: BTreeSet<&Vec<String>> = chosen.iter().map(|mutant| &mutant.cargo).collect();
    for command in commands {
        let (passed, output) = cargo(&bed, command)?;
        if !passed {
            return Err(format!(
                "`cargo {}` fails without any mutant:\n{output}",
                command.join(" ")
            ));
        }
    }
    for mutant in &chosen {
        let begun = Instant::now();
        let fault = mutant.judged(&bed)?;
        let verdict = match (&fault, &mutant.survives) {
            (None, None) => "found",
            (None, Some(_)) => "survives, as the list explains,",
            (Some(_), _) => "NOT AS THE LIST SAYS",
        };
        println!(
            "mutants: {} {verdict} in {} s",
            mutant.name,
            begun.elapsed().as_secs()
        );
        faults.extend(fault);
    }
    Ok(faults)
}

fn choose(list: List, slice: &Slice) -> Result<Vec<Mutant>, String> {
    let mut names = BTreeSet::new();
    if let Some(twice) = list
        .mutant
        .iter()
        .find(|mutant| !names.insert(mutant.name.clone()))
    {
        return Err(format!("ci/mutants.toml: {} is there twice", twice.name));
    }
    if let Slice::Named(wanted) = slice
        && let Some(unknown) = wanted.iter().find(|name| !names.contains(*name))
    {
        return Err(format!("ci/mutants.toml has no mutant {unknown}"));
    }
    let is_chosen = |mutant: &Mutant| match slice {
        Slice::Quick => mutant.quick,
        Slice::All => true,
        Slice::Named(names) => names.contains(&mutant.name),
    };
    Ok(list.mutant.into_iter().filter(is_chosen).collect())
}

impl Mutant {
    /// What is wrong with its place, if anything is.
    fn misplaced(&self, bed: &Bed) -> Result<Option<String>, String> {
        if self.found_by.is_some() == self.survives.is_some() {
            let name = &self.name;
            return Ok(Some(format!(
                "{name}: say either what finds it or why nothing has to"
            )));
        }
        let times = read(&bed.tree.join(&self.file))?.matches(&self.find).count();
        Ok((times != 1).then(|| {
            let (name, file) = (&self.name, self.file.display());
            format!("{name}: its text is {times} times in {file}, not once: the code has changed, bring the list up to date")
        }))
    }

    /// Puts it in, asks the tests, takes it out.
    fn judged(&self, bed: &Bed) -> Result<Option<String>, String> {
        let path = bed.tree.join(&self.file);
        let sound = read(&path)?;
        write(&path, &sound.replacen(&self.find, &self.replace, 1))?;
        let outcome = cargo(bed, &self.cargo);
        write(&path, &sound)?;
        let (passed, output) = outcome?;
        let name = &self.name;
        let tail: Vec<&str> = output.lines().rev().take(15).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Ok(match (&self.found_by, passed) {
            _ if output.contains("could not compile") => {
                Some(format!("{name}: does not compile:\n{}", tail.join("\n")))
            }
            (Some(_), true) => Some(format!(
                "{name}: no test of `cargo {}` minds",
                self.cargo.join(" ")
            )),
            (Some(by), false) if !output.contains(by.as_str()) => {
                Some(format!("{name}: found, but not by {by}:\n{}", tail.join("\n")))
            }
            (None, false) => Some(format!(
                "{name}: is listed as a survivor and found by now: say by what"
            )),
            _ => None,
        })
    }
}

/// Whether cargo is content, and what was said.
fn cargo(bed: &Bed, arguments: &[String]) -> Result<(bool, String), String> {
    let done = bed
        .cargo()
        .args(arguments)
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    let output = [done.stdout, done.stderr].concat();
    Ok((
        done.status.success(),
        String::from_utf8_lossy(&output).into_owned(),
    ))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list of this very tree fits it: each text is there once, whatever has been changed since.
    #[test]
    fn the_list_fits_the_code() {
        let root = crate::root();
        let list: List = toml::from_str(&read(&root.join("ci/mutants.toml")).unwrap()).unwrap();
        let bed = Bed {
            tree: root.clone(),
            target: root,
        };
        let chosen = choose(list, &Slice::All).unwrap();
        assert!(chosen.iter().any(|mutant| mutant.quick));
        for mutant in chosen {
            assert_eq!(mutant.misplaced(&bed).unwrap(), None);
        }
    }
}
