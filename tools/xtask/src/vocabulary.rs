//! One vocabulary: a public name stands for one thing in the whole workspace. A type, trait or constant that two crates
//! define under one name is a fault, unless `ci/vocabulary.toml` allows it with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use serde::Deserialize;
use syn::{Attribute, Item, Meta, Visibility};

use crate::workspace::Workspace;

/// Names, and the crates that define each.
type Names = BTreeMap<String, BTreeSet<String>>;

/// What may stand for two things, as `ci/vocabulary.toml` writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    #[serde(default)]
    group: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    reason: String,
    names: Names,
}

impl Allowed {
    /// Reads the list.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let allowed: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        match allowed.group.iter().find(|group| group.reason.trim().len() < 10) {
            Some(hollow) => Err(format!(
                "a group gives no reason: {:?}",
                hollow.names.keys().collect::<Vec<_>>()
            )),
            None => Ok(allowed),
        }
    }

    /// Every fault of the names that are defined, in words. None: all is well.
    pub fn check(&self, defined: &Names) -> Vec<String> {
        let listed = self.listed();
        let none = BTreeSet::new();
        let mut faults = Vec::new();
        for (name, crates) in defined.iter().filter(|(_, crates)| crates.len() > 1) {
            let allowed = listed.get(name).unwrap_or(&none);
            if !crates.is_subset(allowed) {
                faults.push(format!(
                    "{name} is defined in {}: one name, one thing. Take one of them for all, rename one, or allow it in \
                     ci/vocabulary.toml with the reason",
                    list(crates)
                ));
            }
        }
        for (name, crates) in &listed {
            let gone: BTreeSet<String> = crates
                .difference(defined.get(name).unwrap_or(&none))
                .cloned()
                .collect();
            if !gone.is_empty() {
                faults.push(format!(
                    "ci/vocabulary.toml allows {name} in {}, which does not define it any more",
                    list(&gone)
                ));
            } else if crates.len() < 2 {
                faults.push(format!(
                    "ci/vocabulary.toml allows {name} in one crate: that is no double name"
                ));
            }
        }
        faults
    }

    /// All groups in one: a name may be in several of them, for one crate each.
    fn listed(&self) -> Names {
        let mut listed = Names::new();
        for (name, crates) in self.group.iter().flat_map(|group| &group.names) {
            let all = listed.entry(name.clone()).or_default();
            all.extend(crates.iter().cloned());
        }
        listed
    }
}

/// The public names of all crates. A crate is named without what all of ours begin with.
///
/// # Errors
/// Names a file that cannot be read or is no Rust.
pub fn defined(workspace: &Workspace) -> Result<Names, String> {
    let mut names = Names::new();
    for (of, its) in &workspace.crates {
        let of = of.strip_prefix("palisade-").unwrap_or(of);
        for name in names_below(&its.folder.join("src"))? {
            names.entry(name).or_default().insert(of.to_owned());
        }
    }
    Ok(names)
}

/// The names that the sources below a folder define, without those of tests.
fn names_below(folder: &Path) -> Result<BTreeSet<String>, String> {
    let mut sources = BTreeMap::new();
    collect(folder, &mut sources)?;
    let mut of_tests = Vec::new();
    for (path, file) in &sources {
        of_tests.extend(test_modules(path, file));
    }
    let is_of_tests = |path: &Path| {
        (of_tests.iter()).any(|module| path.starts_with(module) || path.with_extension("") == *module)
    };
    let mut names = BTreeSet::new();
    for (path, file) in &sources {
        if !is_of_tests(path) && !file.attrs.iter().any(is_for_tests) {
            add_names(&file.items, &mut names);
        }
    }
    Ok(names)
}

fn collect(folder: &Path, sources: &mut BTreeMap<PathBuf, syn::File>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).map_err(failed)?;
            let file = syn::parse_file(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            sources.insert(path, file);
        }
    }
    Ok(())
}

/// Where the modules of a file lie that are compiled for tests alone, without the ending of their files.
fn test_modules(path: &Path, file: &syn::File) -> Vec<PathBuf> {
    let is_root = |stem: &str| ["lib", "main", "mod"].contains(&stem);
    let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some(stem) if is_root(stem) => path.parent().unwrap_or(path).to_owned(),
        _ => path.with_extension(""),
    };
    let modules = file.items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_none() && module.attrs.iter().any(is_for_tests) => {
            Some(module)
        }
        _ => None,
    });
    modules
        .map(|module| folder.join(module.ident.to_string()))
        .collect()
}

fn add_names(items: &[Item], names: &mut BTreeSet<String>) {
    for item in items {
        let (attributes, visibility, name) = match item {
            Item::Struct(item) => (&item.attrs, &item.vis, &item.ident),
            Item::Enum(item) => (&item.attrs, &item.vis, &item.ident),
            Item::Union(item) => (&item.attrs, &item.vis, &item.ident),
            Item::Trait(item) => (&item.attrs, &item.vis, &item.ident),
            Item::Type(item) => (&item.attrs, &item.vis, &item.ident),
            Item::Const(item) => (&item.attrs, &item.vis, &item.ident),
            Item::Mod(module) if !module.attrs.iter().any(is_for_tests) => {
                let content = module.content.as_ref();
                add_names(content.map_or(&[], |(_, items)| items), names);
                continue;
            }
            Item::Macro(call) if call.ident.is_none() => {
                names.extend(first_type(call.mac.tokens.clone()));
                continue;
            }
            _ => continue,
        };
        if matches!(visibility, Visibility::Public(_)) && !attributes.iter().any(is_for_tests) {
            names.insert(name.to_string());
        }
    }
}

/// The type that a macro call between items defines, when its arguments begin with one, as `index!(Lba(u16))`.
fn first_type(tokens: TokenStream) -> Option<String> {
    let first = tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(name) => Some(name.to_string()),
        _ => None,
    });
    first.filter(|name| name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase))
}

fn is_for_tests(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    }
}

fn list(crates: &BTreeSet<String>) -> String {
    let crates: Vec<&str> = crates.iter().map(String::as_str).collect();
    match crates.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        one => one.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Crate;

    /// What is wrong with crates of these sources (crate, file, text) under this list.
    fn faults(list: &str, sources: &[(&str, &str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let mut workspace = Workspace::default();
        for (of, file, text) in sources {
            let folder = root.path().join(of);
            let path = folder.join("src").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            let its = Crate {
                folder,
                ..Crate::default()
            };
            workspace.crates.insert(format!("palisade-{of}"), its);
        }
        Allowed::parse(list).unwrap().check(&defined(&workspace).unwrap())
    }

    const REASON: &str = "[[group]]\nreason = \"two views of one thing\"\n[group.names]\n";

    #[test]
    fn a_name_of_two_crates_is_found_and_tells_of_both() {
        for (one, other) in [
            ("pub struct Lba(pub u64);", "pub struct Lba;"),
            ("pub enum Lba { A }", "pub type Lba = u64;"),
            ("pub mod units { pub trait Lba {} }", "pub const Lba: u64 = 1;"),
            ("index!(\n /// One.\n Lba(u16));", "pub union Lba { a: u8 }"),
        ] {
            let found = faults("", &[("a", "lib.rs", one), ("b", "deep/x.rs", other)]);
            assert!(
                found.len() == 1 && found[0].contains("Lba is defined in a and b"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_is_not_public_or_for_tests_alone_is_no_name() {
        let public = ("a", "lib.rs", "pub struct Lba;");
        for (file, other) in [
            ("lib.rs", "struct Lba;"),
            ("lib.rs", "pub(crate) struct Lba;"),
            ("lib.rs", "pub use a::Lba;"),
            ("lib.rs", "#[cfg(test)] pub struct Lba;"),
            ("lib.rs", "#[cfg(test)] mod tests { pub struct Lba; }"),
            ("lib.rs", "impl X { pub const Lba: u8 = 1; }"),
            ("lib.rs", "thread_local! { static A: Lba = Lba; }"),
            ("lib.rs", "macro_rules! lba { () => { pub struct Lba; } }"),
            ("driver.rs", "#![cfg(test)]\npub struct Lba;"),
        ] {
            let found = faults("", &[public, ("b", file, other)]);
            assert!(found.is_empty(), "{other}: {found:?}");
        }
        for (parent, child) in [
            ("lib.rs", "bed.rs"),
            ("lib.rs", "bed/deep.rs"),
            ("x.rs", "x/bed.rs"),
        ] {
            let found = faults(
                "",
                &[
                    public,
                    ("b", parent, "#[cfg(test)]\nmod bed;"),
                    ("b", child, public.2),
                ],
            );
            assert!(found.is_empty(), "{parent}, {child}: {found:?}");
        }
    }

    #[test]
    fn an_allowed_one_is_well_for_the_crates_of_the_list_only() {
        let two = [
            ("a", "lib.rs", "pub struct Disk;"),
            ("b", "lib.rs", "pub struct Disk;"),
        ];
        let allowed = format!("{REASON}Disk = [\"a\", \"b\"]\n");
        assert_eq!(faults(&allowed, &two), [""; 0]);
        let three = [two[0], two[1], ("c", "lib.rs", "pub struct Disk;")];
        let found = faults(&allowed, &three);
        assert!(found.len() == 1 && found[0].contains("a, b and c"), "{found:?}");
        let in_two_groups = format!("{allowed}{REASON}Disk = [\"c\"]\n");
        assert_eq!(faults(&in_two_groups, &three), [""; 0]);
    }

    #[test]
    fn an_entry_that_is_no_longer_double_is_told() {
        let one = [
            ("a", "lib.rs", "pub struct Disk;"),
            ("b", "lib.rs", "pub struct Other;"),
        ];
        for stale in ["Disk = [\"a\", \"b\"]", "Disk = [\"a\"]", "Gone = [\"a\", \"b\"]"] {
            let found = faults(&format!("{REASON}{stale}\n"), &one);
            assert!(
                found.len() == 1 && found[0].contains("ci/vocabulary.toml allows"),
                "{stale}: {found:?}"
            );
        }
    }

    #[test]
    fn a_group_has_a_reason() {
        assert!(Allowed::parse("[[group]]\nreason = \"\"\n[group.names]\nDisk = [\"a\"]\n").is_err());
    }

    #[test]
    fn the_vocabulary_of_this_tree_is_seen() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let names = defined(&Workspace::read(&root).unwrap()).unwrap();
        for word in ["Lba", "DeviceIndex", "Generation", "Uuid", "Name", "SECTOR_BYTES"] {
            assert!(names[word].contains("words"), "{word}");
        }
    }
}
