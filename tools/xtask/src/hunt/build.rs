//! Builds the tests of a copy in which all faults are woven, and takes out those that the compiler refuses.

use crate::bed::{self, Bed};
use crate::hunt::Quarry;
use crate::hunt::weave::{self, Numbered, Woven};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Builds until the compiler is content.
const ROUNDS_MAX: usize = 40;

/// A program that holds tests.
#[derive(Debug)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Where it is started, as cargo does.
    pub folder: PathBuf,
    /// Its name, for people.
    pub name: String,
}

/// What was built.
#[derive(Debug)]
pub struct Built {
    /// The programs with tests.
    pub programs: Vec<Program>,
    /// The faults that do not compile, and those that are left out.
    pub refused: BTreeSet<u32>,
    /// The functions that the compiler computes, whose faults cannot be switched.
    pub computed: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Line {
    reason: String,
    message: Option<Message>,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Debug, Deserialize)]
struct Message {
    level: String,
    message: String,
    #[serde(default)]
    code: Option<Code>,
    spans: Vec<Span>,
    rendered: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Code {
    code: String,
}

#[derive(Debug, Deserialize)]
struct Span {
    file_name: String,
    byte_start: usize,
    byte_end: usize,
    is_primary: bool,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

/// Weaves all but what is to be left out, builds, and weaves again without what was refused.
///
/// # Errors
/// The compiler complains about what is not ours.
pub fn build(bed: &Bed, quarry: &Quarry, package: &str, left_out: BTreeSet<u32>) -> Result<Built, String> {
    let mut built = Built {
        programs: Vec::new(),
        refused: left_out,
        computed: BTreeSet::new(),
    };
    for _ in 0..ROUNDS_MAX {
        let woven = put_in(bed, quarry, &built)?;
        let lines = compile(bed, package, "--tests")?;
        let errors: Vec<&Message> = lines
            .iter()
            .filter_map(|line| line.message.as_ref())
            .filter(|message| message.level == "error" && !message.spans.is_empty())
            .collect();
        if errors.is_empty() {
            built.programs = programs(&lines);
            return if built.programs.is_empty() {
                let said: Vec<&str> = lines
                    .iter()
                    .filter_map(|line| line.message.as_ref()?.rendered.as_deref())
                    .collect();
                Err(format!("no tests were built:\n{}", said.join("\n")))
            } else {
                Ok(built)
            };
        }
        let before = (built.refused.len(), built.computed.len());
        for error in &errors {
            blame(error, &woven, &mut built);
        }
        if before == (built.refused.len(), built.computed.len()) {
            let said: Vec<&str> = errors
                .iter()
                .filter_map(|error| error.rendered.as_deref())
                .take(5)
                .collect();
            return Err(format!(
                "the compiler minds what no fault explains:\n{}",
                said.join("\n")
            ));
        }
    }
    Err(format!("the compiler was not content after {ROUNDS_MAX} rounds"))
}

fn put_in(bed: &Bed, quarry: &Quarry, built: &Built) -> Result<BTreeMap<String, Woven>, String> {
    let mut all = BTreeMap::new();
    for file in &quarry.files {
        let numbered: Vec<Numbered<'_>> = file
            .places
            .iter()
            .map(|(first, place)| Numbered { place, first: *first })
            .collect();
        let mut woven = weave::weave(&file.text, &numbered, &built.refused, &built.computed);
        if file.is_root {
            woven.text.push_str(weave::SWITCH);
        }
        bed::put(&bed.tree.join(&file.name), woven.text.as_bytes())?;
        all.insert(file.name.clone(), woven);
    }
    Ok(all)
}

/// Notes whom a complaint of the compiler is about.
fn blame(error: &Message, woven: &BTreeMap<String, Woven>, built: &mut Built) {
    // What is computed while compiling cannot be switched: the function is named in the sentence.
    if error.code.as_ref().is_some_and(|code| code.code == "E0015") {
        let called = error.message.split('`').nth(1).unwrap_or_default();
        let name = called.rsplit("::").next().unwrap_or_default();
        if !name.is_empty() && name != "on" {
            built.computed.insert(name.to_owned());
            return;
        }
    }
    let mut spans: Vec<&Span> = error.spans.iter().collect();
    spans.sort_by_key(|span| !span.is_primary);
    for span in spans {
        let Some(file) = woven.get(&span.file_name) else {
            continue;
        };
        let range = span.byte_start..span.byte_end;
        let mut blamed = file.blamed(&range);
        if blamed.is_empty() {
            blamed = file.within(&range);
        }
        if !blamed.is_empty() {
            built.refused.extend(blamed);
            return;
        }
    }
}

/// The simulator, built with what is woven.
///
/// # Errors
/// It cannot be built.
pub fn simulator(bed: &Bed) -> Result<PathBuf, String> {
    let lines = compile(bed, "palisade-sim", "--bins")?;
    let program = lines
        .into_iter()
        .filter(|line| {
            line.target
                .as_ref()
                .is_some_and(|target| target.name == "palisade-sim")
        })
        .find_map(|line| line.executable);
    program.ok_or_else(|| "the simulator cannot be built".to_owned())
}

fn compile(bed: &Bed, package: &str, what: &str) -> Result<Vec<Line>, String> {
    let done = bed
        .cargo()
        .args(["build", what, "--keep-going", "--locked", "--message-format=json"])
        .args(["--package", package])
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    let lines = String::from_utf8_lossy(&done.stdout).into_owned();
    let parsed: Vec<Line> = lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    if parsed.is_empty() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    Ok(parsed)
}

fn programs(lines: &[Line]) -> Vec<Program> {
    let is_test = |line: &&Line| {
        line.reason == "compiler-artifact" && line.profile.as_ref().is_some_and(|profile| profile.test)
    };
    let program = |line: &Line| {
        Some(Program {
            path: line.executable.clone()?,
            folder: line.manifest_path.as_ref()?.parent()?.to_owned(),
            name: line.target.as_ref()?.name.clone(),
        })
    };
    lines.iter().filter(is_test).filter_map(program).collect()
}
