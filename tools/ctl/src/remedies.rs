//! Whatever is printed anywhere as a command to type exists: walked through the table of findings and the sources.

use crate::args::Cli;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use palisade_api::FindingKind;
use std::fs;
use std::path::{Path, PathBuf};

/// Programs of a Linux machine that remedies may name.
const OTHERS: [&str; 24] = [
    "blockdev",
    "palisade-inspect",
    "palisaded",
    "ss",
    "dmesg",
    "df",
    "free",
    "lsattr",
    "chattr",
    "fstrim",
    "journalctl",
    "cat",
    "cp",
    "systemctl",
    "lsblk",
    "umount",
    "ls",
    "timedatectl",
    "ip",
    "kill",
    "vmstat",
    // QEMU's monitor, and libvirt's.
    "device_del",
    "chardev-remove",
    "virsh",
];

/// Words that end with something a person fills in.
fn filled_in(command: &str) -> Vec<String> {
    let words = command.replace("{name}", "name").replace("{}", "name");
    words
        .split_whitespace()
        .map(|word| match word {
            "PATH" | "FILE" => "/somewhere".to_owned(),
            "CORES" => "2,3".to_owned(),
            "SIZE" | "BYTES" => "1GiB".to_owned(),
            "NAME" | "ID" | "DISK" | "VOLUME" | "ATTACHMENT" => "name".to_owned(),
            word => word.to_owned(),
        })
        .collect()
}

fn in_backquotes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn each_remedy_of_a_finding_names_commands_that_exist() {
    for kind in FindingKind::ALL {
        let row = kind.row();
        assert_eq!(row.remedy.matches('`').count() % 2, 0, "{}", row.code);
        for command in in_backquotes(row.remedy) {
            // A setting, as `admin.listen`.
            if command.contains('.') && !command.contains(' ') {
                continue;
            }
            let words = filled_in(command);
            let program = words.first().map_or("", String::as_str);
            if program == "palisade" {
                // A command may be named without all that it needs, but not by a name or an option that it does not have.
                if let Err(error) = Cli::try_parse_from(&words) {
                    let lacks = error.kind() == ErrorKind::MissingRequiredArgument;
                    assert!(lacks, "{}: `{command}`: {error}", row.code);
                }
            } else {
                assert!(
                    OTHERS.contains(&program),
                    "{}: `{command}` is no command",
                    row.code
                );
            }
        }
    }
}

/// All Rust sources outside of tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().map_or("", |name| name.to_str().unwrap_or(""));
        if path.is_dir() && !["tests", "target", "examples", "fuzz"].contains(&name) {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// What is wrong with a mention of our command in a line, if anything.
fn wrong(root: &clap::Command, line: &str) -> Option<String> {
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("palisade ") {
        rest = after;
        // What is filled in at run time is not known here.
        if rest.starts_with('{') {
            continue;
        }
        let typed = before.ends_with('`');
        // What is typed ends with its quote.
        let text = match typed {
            true => rest.split('`').next().unwrap_or(rest),
            false => rest,
        };
        let mut words = text
            .split(|c: char| !(c.is_ascii_lowercase() || c == '-'))
            .filter(|word| !word.is_empty());
        let Some(first) = words.find(|word| !word.starts_with('-')) else {
            continue;
        };
        match root.find_subcommand(first) {
            None if typed && !rest.starts_with('-') => return Some(format!("`palisade {first}`")),
            None => {}
            Some(command) if command.has_subcommands() => {
                let second = words.next().unwrap_or("");
                // A whole group may be meant: "palisade disk ...".
                if !second.is_empty() && command.find_subcommand(second).is_none() {
                    return Some(format!("`palisade {first} {second}`"));
                }
            }
            Some(_) => {}
        }
    }
    None
}

#[test]
fn each_command_that_a_source_tells_to_type_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["appliance", "vhost", "datapath", "tools", "firmware-config"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100, "only {} sources were found", files.len());
    let (commands, mut complaints) = (Cli::command(), Vec::new());
    for path in files.iter().filter(|path| !path.ends_with("ctl/src/remedies.rs")) {
        let text = fs::read_to_string(path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if let Some(what) = wrong(&commands, line) {
                complaints.push(format!(
                    "{}:{}: {what} does not exist",
                    path.display(),
                    number + 1
                ));
            }
            let units = line
                .split("systemctl ")
                .skip(1)
                .chain(line.split("journalctl -u ").skip(1));
            for unit in units {
                let words: Vec<&str> = unit
                    .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
                    .collect();
                let unit = words.iter().find(|word| word.starts_with("palisade"));
                let known = |unit: &&str| {
                    let file = root.join(format!("firmware-config/host/{unit}.service"));
                    file.exists()
                };
                if let Some(unit) = unit.filter(|unit| !known(unit)) {
                    complaints.push(format!(
                        "{}:{}: there is no unit {unit}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_command_that_does_not_exist_is_seen() {
    let root = Cli::command();
    let wrong = |line| wrong(&root, line);
    assert!(wrong("`palisade disk mend d1`").is_some());
    assert!(wrong("try `palisade repair` then").is_some());
    assert!(wrong("palisade disk mend d1").is_some());
    assert_eq!(wrong("`palisade disk show d1`, then palisade health tells"), None);
    assert_eq!(wrong("palisade serves disks"), None);
}
