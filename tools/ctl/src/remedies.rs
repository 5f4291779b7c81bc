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

/// A source with each text on one line.
fn joined(source: &str) -> String {
    let lines = source.split("\\\n");
    let first_is_as_it_is = lines.enumerate().map(|(at, line)| match at {
        0 => line,
        _ => line.trim_start(),
    });
    first_is_as_it_is.collect()
}

/// The words of a command that a text goes on with, with what it leaves to be filled in filled in: as far as they are typed, and
/// not prose.
fn typed(text: &str) -> Vec<String> {
    let mut words = vec!["palisade".to_owned()];
    let (mut of_command, mut is_value) = (true, false);
    for word in text.split([' ', '\n']) {
        let bare = word.trim_end_matches([',', '.', ';', ':', ')', '`', '"', '?']);
        let is_option = bare.starts_with("--");
        let is_plain = bare.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !is_option;
        of_command &= is_plain && words.len() < 3;
        if bare.is_empty() || is_plain && !of_command && !is_value {
            break;
        }
        is_value = matches!(bare, "--take" | "--clear");
        words.push(match bare {
            "--{kind}" => "--file".to_owned(),
            "--size" => bare.to_owned(),
            "SIZE" | "BYTES" | "{size}" => "1GiB".to_owned(),
            _ if bare.contains('=') && !is_option => "name=/somewhere".to_owned(),
            _ if is_option || is_plain => bare.to_owned(),
            _ => "name".to_owned(),
        });
        if bare != word {
            break;
        }
    }
    words
}

/// What a command that is told to be typed lacks, if anything. One may be named by its name alone.
fn incomplete(text: &str) -> Option<String> {
    let words = typed(text);
    let is_named_only = words
        .iter()
        .skip(1)
        .all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && word != "name");
    let error = Cli::try_parse_from(&words).err().filter(|_| !is_named_only)?;
    (error.kind() == ErrorKind::MissingRequiredArgument).then(|| format!("`{}`: {error}", words.join(" ")))
}

#[test]
fn each_command_that_a_source_tells_to_type_has_all_that_it_needs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["appliance", "vhost", "datapath", "tools", "firmware-config"] {
        sources(&root.join(folder), &mut files);
    }
    let (mut looked, mut complaints) = (0, Vec::new());
    for path in files.iter().filter(|path| !path.ends_with("ctl/src/remedies.rs")) {
        let text = joined(&fs::read_to_string(path).unwrap());
        for told in text.split("palisade ").skip(1) {
            looked += usize::from(typed(told).len() > 3);
            complaints.extend(incomplete(told).map(|what| format!("{}: {what}", path.display())));
        }
    }
    assert!(looked > 100, "only {looked} commands with arguments were found");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    // What is wrong is seen.
    let wrong = "volume create NAME --disk DISK), which shows it";
    assert!(incomplete(wrong).is_some_and(|what| what.contains("<SIZE>")));
    assert_eq!(
        incomplete("volume create ID SIZE --disk DISK), which shows it"),
        None
    );
    assert_eq!(incomplete("disk import` takes them in"), None);
    assert!(incomplete("disk grow; then").is_none() && incomplete("disk set {name}; then").is_some());
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
