//! Scripts that complete this command in a shell: what is known when they are written (commands, options), and the ids of
//! what the appliance has, asked for when somebody presses the key.

use crate::args::{Cli, Kind, Shell};
use crate::client::Client;
use crate::failure::Failure;
use clap::CommandFactory;
use palisade_api::routes;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;

/// Commands that are followed by ids of things that are there.
const WITH_ID: &str = "show|grow|set|confirm|adopt|remove|rm|delete|revoke|qemu-args|libvirt-xml";

/// Prints a script.
pub fn script(shell: Shell) -> Result<(), Failure> {
    let generated = |shell: clap_complete::Shell| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "palisade", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    };
    let whole = match shell {
        Shell::Bash => format!("{}{}", generated(clap_complete::Shell::Bash), bash()),
        Shell::Zsh => zsh(&generated(clap_complete::Shell::Zsh)),
        Shell::Fish => format!("{}{}", generated(clap_complete::Shell::Fish), fish()),
    };
    Ok(std::io::stdout().write_all(whole.as_bytes())?)
}

/// Prints the ids of all resources of a kind, a line each.
pub fn ids(client: &Client, kind: Kind) -> Result<(), Failure> {
    let (all, called) = match kind {
        Kind::Disk => (client.list(routes::DISKS)?, "id"),
        Kind::Volume => (client.list(routes::VOLUMES)?, "id"),
        Kind::Attachment => (client.list(routes::ATTACHMENTS)?, "id"),
        Kind::Token => (client.list(routes::JOIN_TOKENS)?, "id"),
        // Not in pages; and people call them by their names.
        Kind::Node => (client.typed(&client.get(routes::NODES)?)?, "name"),
    };
    let mut text = String::new();
    for one in all {
        if let Some(id) = one.get(called).and_then(Value::as_str) {
            text.push_str(id);
            text.push('\n');
        }
    }
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Options that are followed by a value, which is no id, as a pattern of a shell. `--disk` names one.
fn with_value() -> String {
    fn collect(command: &clap::Command, found: &mut BTreeSet<String>) {
        for argument in command.get_arguments() {
            if argument.get_action().takes_values() {
                found.extend(argument.get_long().map(|long| format!("--{long}")));
                found.extend(argument.get_short().map(|short| format!("-{short}")));
            }
        }
        command.get_subcommands().for_each(|sub| collect(sub, found));
    }
    let mut found = BTreeSet::new();
    collect(&Cli::command(), &mut found);
    found.remove("--disk");
    let found: Vec<String> = found.into_iter().map(|option| option + ":*").collect();
    found.join("|")
}

fn bash() -> String {
    let with_value = with_value();
    format!(
        r#"
_palisade_with_ids() {{
    _palisade "$@"
    local kind= command= word current=${{COMP_WORDS[COMP_CWORD]}}
    [[ $current == -* ]] && return
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in
            disk|volume|attachment|node|token) [[ -n $kind ]] || kind=$word ;;
            create|{WITH_ID}) [[ -z $kind || -n $command ]] || command=$word ;;
        esac
    done
    case ${{COMP_WORDS[COMP_CWORD-1]}}:$kind:$command in
        --disk:*) kind=disk COMPREPLY=() ;;
        {with_value}) return ;;
        *:attachment:create) [[ ${{COMP_WORDS[COMP_CWORD-1]}} != create ]] || return; kind=volume ;;
        *:*:create|*:*:) return ;;
    esac
    COMPREPLY+=($(compgen -W "$(palisade ids "$kind" 2>/dev/null)" -- "$current"))
}}
complete -F _palisade_with_ids -o nosort -o bashdefault -o default palisade 2>/dev/null \
    || complete -F _palisade_with_ids -o bashdefault -o default palisade
"#
    )
}

fn zsh(generated: &str) -> String {
    let helper = r#"
_palisade_ids() {
    local word kind
    for word in ${(z)BUFFER}; do
        case $word in (disk|volume|attachment|node|token) kind=$word; break ;; esac
    done
    [[ -n $kind ]] && compadd -- ${(f)"$(palisade ids $kind 2>/dev/null)"}
}
_palisade_volumes() { compadd -- ${(f)"$(palisade ids volume 2>/dev/null)"} }
_palisade_disks() { compadd -- ${(f)"$(palisade ids disk 2>/dev/null)"} }
"#;
    // Every argument that names something that is there is called id or ids, with these words; but for the volume of a new
    // attachment, and the disk of a new volume.
    let with_ids: String = generated
        .lines()
        .map(|line| {
            let names_one = [":id -- Its id:", "ids -- Their ids", ":node -- Its name"]
                .iter()
                .any(|words| line.contains(words));
            let other = match names_one {
                true => "_palisade_ids",
                false if line.contains(":volume -- The volume to offer") => "_palisade_volumes",
                false if line.contains("'--disk=[") => "_palisade_disks",
                // As it is.
                false => "_default",
            };
            line.replace(":_default'", &format!(":{other}'")) + "\n"
        })
        .collect();
    // The first line must stay the first: it says what the file completes.
    match with_ids.split_once('\n') {
        Some((first, rest)) => format!("{first}\n{helper}{rest}"),
        None => with_ids,
    }
}

fn fish() -> String {
    let commands = WITH_ID.replace('|', " ");
    let line = |kind: &str| {
        format!(
            "complete -c palisade -n '__fish_seen_subcommand_from {kind}; and __fish_seen_subcommand_from {commands}' -f -a \
             '(palisade ids {kind} 2>/dev/null)'\n"
        )
    };
    let of_new = "complete -c palisade -n '__fish_seen_subcommand_from attachment; and __fish_seen_subcommand_from create' -f -a \
                  '(palisade ids volume 2>/dev/null)'\n\
                  complete -c palisade -n '__fish_seen_subcommand_from volume; and __fish_seen_subcommand_from create' -l disk -x \
                  -a '(palisade ids disk 2>/dev/null)'\n";
    ["disk", "volume", "attachment", "node", "token"]
        .map(line)
        .concat()
        + of_new
}
