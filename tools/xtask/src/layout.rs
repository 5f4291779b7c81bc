//! Names and lengths of source files: a reader finds a concept by its name, and a file shows what it holds.

use std::fs;
use std::path::{Path, PathBuf};

/// Beyond this a file hides something.
const LINES_MAX: usize = 700;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "misc", "types", "manager",
];
/// Folders that hold no source of ours.
const SKIPPED: &[&str] = &["target", ".git", ".run", "node_modules"];

/// Every fault below `root`, in words.
///
/// # Errors
/// Names a folder or file that cannot be read.
pub fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut faults = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                if !SKIPPED.contains(&name) {
                    folders.push(path);
                }
                continue;
            }
            if path.extension().is_some_and(|extension| extension == "rs") {
                check_file(root, &path, &mut faults)?;
            }
        }
    }
    faults.sort();
    Ok(faults)
}

fn check_file(root: &Path, path: &Path, faults: &mut Vec<String>) -> Result<(), String> {
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    let parts = path.strip_prefix(root).unwrap_or(path).components();
    let empty = parts
        .filter_map(|part| Path::new(part.as_os_str()).file_stem()?.to_str())
        .find(|stem| EMPTY_NAMES.contains(stem));
    if let Some(name) = empty {
        faults.push(format!(
            "{shown}: the name `{name}` says nothing; name the concept"
        ));
    }
    // Below tests/ cargo takes every other file for a test program of its own.
    let tests = path
        .ancestors()
        .nth(2)
        .and_then(Path::file_name)
        .is_some_and(|name| name == "tests");
    if !tests && path.file_name().is_some_and(|name| name == "mod.rs") {
        faults.push(format!(
            "{shown}: modules lie beside their folder (foo.rs and foo/), not in mod.rs"
        ));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    faults.extend(gaps(&text).map(|line| {
        format!("{shown}:{line}: a text for people has blanks in a row: end the line before with a backslash")
    }));
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!(
            "{shown}: {lines} lines, of {LINES_MAX} at most; which concept wants its own file?"
        ));
    }
    Ok(())
}

/// Lines, from 1, with a run of blanks within a sentence of a string: what is left of a line end without its backslash.
/// Tables are set with a few blanks, or with capitals at their heads.
fn gaps(text: &str) -> impl Iterator<Item = usize> {
    const BLANKS: &str = "         ";
    let has_gap = |line: &str| {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once(BLANKS).filter(|_| !code.starts_with("//")) else {
            return false;
        };
        let next = after.trim_start().chars().next();
        let in_string = before.matches('"').count() % 2 == 1;
        in_string
            && !before.ends_with(['"', '\\'])
            && next.is_some_and(|next| next.is_lowercase() || "`{(".contains(next))
    };
    let lines = text.lines().zip(1..);
    lines
        .filter(move |(line, _)| has_gap(line))
        .map(|(_, number)| number)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let listed = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(listed.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(files: &[(&str, usize)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (file, lines) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "//\n".repeat(*lines)).unwrap();
        }
        check(root.path()).unwrap()
    }

    #[test]
    fn a_good_tree_has_no_fault() {
        assert_eq!(
            faults(&[
                ("a/src/lib.rs", 700),
                ("a/src/ring.rs", 3),
                ("target/util.rs", 9000)
            ]),
            [""; 0]
        );
    }

    #[test]
    fn long_files_are_found() {
        let found = faults(&[("a/src/lib.rs", 701)]);
        assert!(found.len() == 1 && found[0].contains("701 lines"), "{found:?}");
    }

    #[test]
    fn names_that_say_nothing_are_found_in_files_and_folders() {
        let found = faults(&[
            ("a/src/util.rs", 1),
            ("b/src/common/x.rs", 1),
            ("c/src/x/mod.rs", 1),
        ]);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_sentence_with_a_gap_is_found_and_a_table_is_none() {
        let sentence = |gap: &str| format!("let told = \"it keeps no{gap}record of its own\";");
        let table = "\"Limit                Soft Limit\"; x();              y(\"z\");";
        let text = [
            &sentence(&" ".repeat(22)),
            &sentence(" "),
            table,
            "// \"no          record\"",
        ]
        .join("\n");
        assert_eq!(gaps(&text).collect::<Vec<_>>(), [1]);
    }
}
