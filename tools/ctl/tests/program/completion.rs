//! Completion in shells: what the scripts hold, and what a real bash makes of its own.

use crate::site::{Ran, Site, run};
use std::path::Path;
use std::process::Command;

/// What a bash offers for the last of `words`, with the script that the program prints for it.
fn offered_by_bash(site: &Site, words: &[&str]) -> Vec<String> {
    const SCRIPT: &str = r#"
set -e
source <(palisade completions bash)
read -ra how <<< "$(complete -p palisade)"
for at in "${!how[@]}"; do [[ ${how[at]} != -F ]] || completer=${how[at+1]}; done
COMP_WORDS=(palisade "$@")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
COMP_LINE="${COMP_WORDS[*]}"
COMP_POINT=${#COMP_LINE}
"$completer" palisade "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" || true
printf '%s\n' "${COMPREPLY[@]}"
"#;
    let folder = Path::new(env!("CARGO_BIN_EXE_palisade")).parent().unwrap();
    let said = Command::new("bash")
        .args(["--norc", "--noprofile", "-c", SCRIPT, "bash"])
        .args(words)
        .env_clear()
        .env("PALISADE_URL", site.url())
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .output()
        .unwrap();
    let ran = Ran::from(said);
    assert_eq!(ran.err, "", "{words:?}");
    ran.ok()
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_bash_completes_ids_where_one_is_wanted() {
    let site = Site::with_attachment();
    site.palisade("disk add d2 --null 1GiB").ok();
    let ids = ["d1", "d2", "v1", "web1", "host-a"];
    for (words, wanted) in [
        (&["disk", "show", ""][..], &["d1", "d2"][..]),
        (&["disk", "show", "d2"], &["d2"]),
        (&["disk", "show", "x"], &[]),
        (&["--json", "disk", "grow", ""], &["d1", "d2"]),
        (&["disk", "rm", ""], &["d1", "d2"]),
        (&["disk", "list", ""], &[]),
        (&["disk", "add", ""], &[]),
        (&["volume", "set", ""], &["v1"]),
        (&["volume", "create", "v2", "1GiB", "--disk", ""], &["d1", "d2"]),
        (&["volume", "create", ""], &[]),
        (&["attachment", "show", ""], &["web1"]),
        (&["attachment", "qemu-args", "web1", ""], &["web1"]),
        (&["attachment", "create", ""], &[]),
        (&["attachment", "create", "web2", ""], &["v1"]),
        (&["attachment", "delete", "--force", ""], &["web1"]),
        (&["attachment", "set", "web1", "--iops", ""], &[]),
        (&["node", "set", ""], &["host-a"]),
        (&["node", "remove", ""], &["host-a"]),
        (&["node", "set", "host-a", "--address", ""], &[]),
        (&["cluster", "token", "create", ""], &[]),
        (&["cluster", "token", "list", ""], &[]),
        (&["health", ""], &[]),
    ] {
        let offered = offered_by_bash(&site, words);
        let found: Vec<&str> = offered
            .iter()
            .map(String::as_str)
            .filter(|word| ids.contains(word))
            .collect();
        assert_eq!(found, wanted, "{words:?}: {offered:?}");
    }
    let commands = offered_by_bash(&site, &["attachment", "qem"]);
    assert_eq!(commands, ["qemu-args"]);
    // Of the option that names a disk, its disks alone and no files.
    let disks = offered_by_bash(&site, &["volume", "create", "v2", "1GiB", "--disk", ""]);
    assert_eq!(disks, ["d1", "d2"]);
    let options = offered_by_bash(&site, &["disk", "show", "--js"]);
    assert_eq!(options, ["--json"]);
    for (words, values) in [
        (&["volume", "set", "v1", "--clear", "o"][..], &["on-delete"][..]),
        (&["disk", "adopt", "d1", "--take", "da"], &["database"]),
        (&["preflight", "--profile", "ba"], &["bare-metal"]),
        (&["completions", "z"], &["zsh"]),
    ] {
        assert_eq!(offered_by_bash(&site, words), values, "{words:?}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run("http://127.0.0.1:1", &format!("completions {shell}")).ok();
        assert!(
            script.contains("qemu-args") && script.contains("palisade ids"),
            "{shell}"
        );
    }
    let zsh = run("http://127.0.0.1:1", "completions zsh").ok();
    for (words, completer) in [
        ("volume -- The volume to offer", ":_palisade_volumes'"),
        ("'--disk=[", ":_palisade_disks'"),
        ("id -- Its id:", ":_palisade_ids'"),
        (":node -- Its name", ":_palisade_ids'"),
    ] {
        let line = zsh.lines().find(|line| line.contains(words));
        assert!(
            line.is_some_and(|line| line.contains(completer)),
            "{words}: {line:?}"
        );
    }
    let fish = run("http://127.0.0.1:1", "completions fish").ok();
    assert!(fish.contains("-l disk -x -a '(palisade ids disk"), "{fish}");
    let site = Site::with_attachment();
    assert_eq!(site.palisade("ids attachment").ok(), "web1\n");
    assert_eq!(site.palisade("ids disk").ok(), "d1\n");
}
