//! The survivors: `ci/survivors.toml`. Each is explained, or is one that a crate's own tests let through and the simulator
//! finds. One that is not there, and one there that does not survive or that the code no longer has a place for, is a
//! fault.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Where the list is.
pub const PATH: &str = "ci/survivors.toml";

/// What names a fault across changes of the code around it: no line, no number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name {
    /// The file.
    pub file: String,
    /// The function.
    pub function: String,
    /// What it does, with a number where the function has more of the same.
    pub what: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    crates: BTreeSet<String>,
    #[serde(default)]
    survivor: Vec<Survivor>,
    #[serde(default)]
    simulated: Vec<Group>,
    #[serde(default)]
    open: Vec<Group>,
}

/// Faults of one function that survive for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Survivor {
    file: String,
    function: String,
    what: Vec<String>,
    why: String,
}

/// Faults of one function of which nothing more is said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    file: String,
    function: String,
    what: Vec<String>,
}

/// What the list says of a fault that a crate's own tests let through.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Entry {
    /// It does no harm that a test could see, for this reason.
    Explained(String),
    /// The simulator finds it.
    Simulated,
    /// Nobody has looked at it yet: to be killed by a test, or explained.
    Open,
}

/// What is known of survivors.
#[derive(Debug, Default)]
pub struct Listed {
    /// The crates that were hunted through as a whole: of others nothing is known yet.
    pub crates: BTreeSet<String>,
    /// Their survivors.
    pub entries: BTreeMap<Name, Entry>,
}

/// The list.
///
/// # Errors
/// It cannot be read, names one twice, or gives no reason.
pub fn read(root: &Path) -> Result<Listed, String> {
    let text = fs::read_to_string(root.join(PATH)).map_err(|error| format!("{PATH}: {error}"))?;
    let list: List = toml::from_str(&text).map_err(|error| format!("{PATH}: {error}"))?;
    let crates = list.crates;
    let explained = list.survivor.into_iter().map(|group| {
        let entry = Entry::Explained(group.why);
        (group.file, group.function, group.what, entry)
    });
    let of = |groups: Vec<Group>, entry: Entry| {
        let with = move |group: Group| (group.file, group.function, group.what, entry.clone());
        groups.into_iter().map(with)
    };
    let (simulated, open) = (of(list.simulated, Entry::Simulated), of(list.open, Entry::Open));
    let mut entries = BTreeMap::new();
    for (file, function, whats, entry) in explained.chain(simulated).chain(open) {
        if matches!(&entry, Entry::Explained(why) if why.trim().is_empty()) {
            return Err(format!("{PATH}: {file}, {function} has no reason"));
        }
        for what in whats {
            let (file, function) = (file.clone(), function.clone());
            let name = Name { file, function, what };
            if entries.insert(name.clone(), entry.clone()).is_some() {
                return Err(format!("{PATH}: {name} is there twice"));
            }
        }
    }
    Ok(Listed { crates, entries })
}

/// Writes the list.
///
/// # Errors
/// It cannot be written.
pub fn write(root: &Path, listed: &Listed) -> Result<(), String> {
    let mut groups: BTreeMap<(&Entry, &str, &str), Vec<&str>> = BTreeMap::new();
    for (name, entry) in &listed.entries {
        let whats = groups.entry((entry, &name.file, &name.function)).or_default();
        whats.push(&name.what);
    }
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let crates: Vec<String> = listed.crates.iter().map(|name| quoted(name)).collect();
    let mut text = format!("{HEAD}crates = [{}]\n", crates.join(", "));
    for ((entry, file, function), whats) in groups {
        let kind = match entry {
            Entry::Explained(_) => "survivor",
            Entry::Simulated => "simulated",
            Entry::Open => "open",
        };
        text += &format!(
            "\n[[{kind}]]\nfile = {}\nfunction = {}\n",
            quoted(file),
            quoted(function)
        );
        if let Entry::Explained(why) = entry {
            text += &format!("why = {}\n", quoted(why));
        }
        text += "what = [\n";
        for what in whats {
            text += &format!("    {},\n", quoted(what));
        }
        text += "]\n";
    }
    fs::write(root.join(PATH), text).map_err(|error| format!("{PATH}: {error}"))
}

/// What the list begins with.
const HEAD: &str = "\
# Faults that the tests of their own crate let through, as `cargo xtask hunt` puts them in, one at a time.
#
#   survivor   why no test has to find them
#   simulated  found by the simulator
#   open       nobody has looked at them yet: each is to be killed by a test, or explained. This part only shrinks
#
# `crates` are those that were hunted through as a whole: in these, what survives and is not here fails, and so does what is here and
# does not survive. `cargo xtask hunt CRATE --update` hunts through a crate and writes the last two parts anew; reasons are
# written by hand.
";

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}: {}", self.file, self.function, self.what)
    }
}
