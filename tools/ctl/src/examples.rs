//! What is shown below the help of commands whose use is not obvious. Each line that begins with `palisade` is a command that
//! this program takes; a test tries them.

pub const FIRST: &str = "\
Begin here:
  palisade preflight                                     what this machine lacks
  palisade health                                        what is wrong, and what to do
  palisade disk add d1 --file /var/lib/palisade-disks/d1 --size 100GiB
  palisade volume create web1 40GiB
  palisade attachment create web1 web1
  palisade attachment qemu-args web1                     what to paste

More of a command: palisade help disk add, or --help behind it.";

pub const INIT: &str = "\
Examples:
  palisade cluster init --address 192.0.2.7:7781
  palisade cluster init --address 192.0.2.7:7781 --address 198.51.100.7:7781 --failure-domain rack-3

Nothing that it serves is interrupted. Then, for each node that is to join: palisade cluster token create ID";

pub const JOIN: &str = "\
Examples:
  palisade cluster join --peer 192.0.2.7:7781 --token-file /root/join-token --address 192.0.2.8:7781

It must have no disks, volumes or attachments of its own, and starts anew as a member of the cluster.";

pub const TOKEN_CREATE: &str = "\
Examples:
  palisade cluster token create node-2
  palisade cluster token create witness --learner --valid 7d";

pub const NODE_SET: &str = "\
Examples:
  palisade node set host-b --address 192.0.2.8:7781 --address 198.51.100.8:7781
  palisade node set host-b --failure-domain rack-4
  palisade node set host-b --learner";

pub const NODE_REMOVE: &str = "\
Examples:
  palisade node remove host-b --dry-run
  palisade node remove host-b

Before: delete the attachments that it offers, and remove the disks that it reaches.";

pub const EVENTS: &str = "\
Examples:
  palisade events --last 200
  palisade events --follow
  palisade events --commands --all
  palisade events --after 1730000000000000 --json";

pub const DISK_ADD: &str = "\
Examples:
  palisade disk add d1 --block /dev/disk/by-id/nvme-Example_1 --dry-run
  palisade disk add d1 --block /dev/disk/by-id/nvme-Example_1
  palisade disk add d2 --file /var/lib/palisade-disks/d2 --size 100GiB --sparse
  palisade disk add old --block /dev/disk/by-id/ata-Example_2 --whole";

pub const DISK_CONFIRM: &str = "\
Examples:
  palisade disk confirm d1 --path /mnt/new/d1            its file was moved there
  palisade disk confirm d1 d2                            the two have exchanged their paths
  palisade disk confirm d1=/srv/d2 d2=/srv/d1 --dry-run  shows what lies where
  palisade disk confirm d2=/srv/d1                       it lies where d1 was, which gets its path
  palisade disk confirm d1 --yes                         a copy brought back is the disk from now on

Says what a superblock there tells. Nothing is written to a medium by this; one whose superblock the database has grown out \
of is brought up to date afterwards, unless it is an older copy: that waits for `palisade disk adopt`.";

pub const DISK_GROW: &str = "\
Examples:
  palisade disk grow d1 200GiB                           its file becomes as long
  palisade disk grow d1                                  its device has grown: look at its size again";

pub const DISK_ADOPT: &str = "\
Examples:
  palisade disk adopt d1                                 shows what each side knows, and changes nothing
  palisade disk adopt d1 --take database
  palisade disk adopt d1 --take disk";

pub const DISK_IMPORT: &str = "\
Examples:
  palisade disk import --block /dev/disk/by-id/nvme-Example_1 --dry-run
  palisade disk import --file /var/lib/palisade-disks/d1

No data is lost. Attachments, protection and the choice of when a volume is cleared are not in a superblock, and are to be made \
anew.";

pub const STATE_BACKUP: &str = "\
Examples:
  palisade state backup /root/palisade-backup
  palisade state backup /root/palisade-backup --state-dir /var/lib/palisade";

pub const STATE_RESTORE: &str = "\
Examples:
  palisade state restore /root/palisade-backup --state-dir /var/lib/palisade --dry-run
  palisade state restore /root/palisade-backup --state-dir /var/lib/palisade

Before: systemctl stop palisaded, and move a directory that holds a database away. After: systemctl start palisaded.";

pub const VOLUME_CREATE: &str = "\
Examples:
  palisade volume create web1 40GiB
  palisade volume create db1 200GiB --disk d2 --clear on-delete";

pub const VOLUME_SET: &str = "\
Examples:
  palisade volume set web1 --protect
  palisade volume set web1 --clear on-delete";

pub const ATTACHMENT_CREATE: &str = "\
Examples:
  palisade attachment create web1 web1
  palisade attachment create web1 web1 --queues 4 --owner libvirt-qemu --iops 20000 --bandwidth 200MiB";

pub const ATTACHMENT_SET: &str = "\
Examples:
  palisade attachment set web1 --iops 5000 --bandwidth 100MiB
  palisade attachment set web1 --no-limits
  palisade attachment set web1 --owner libvirt-qemu --mode 0660";

pub const QEMU_ARGS: &str = "\
Examples:
  palisade attachment qemu-args web1 data1
  palisade attachment qemu-args web1 --memory 4GiB --hugepages --qemu-version 10.0";

pub const LIBVIRT_XML: &str = "\
Examples:
  palisade attachment libvirt-xml web1 data1
  palisade attachment libvirt-xml data1 --target vdb --disk-only";

pub const PREFLIGHT: &str = "\
Examples:
  palisade preflight
  palisade preflight --profile bare-metal --cores 2-5
  palisade preflight --apply";

pub const COMPLETIONS: &str = "\
Examples:
  palisade completions bash > /etc/bash_completion.d/palisade
  palisade completions zsh > /usr/local/share/zsh/site-functions/_palisade
  palisade completions fish > /etc/fish/completions/palisade.fish";

#[cfg(test)]
mod tests {
    use crate::args::Cli;
    use clap::{Command, CommandFactory, Parser};

    /// Every command that people see, with the words that lead to it.
    fn all(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
        found.push((words.to_owned(), command.clone()));
        let shown = command
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
        for sub in shown {
            all(sub, &format!("{words} {}", sub.get_name()), found);
        }
    }

    fn commands() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        all(&Cli::command(), "palisade", &mut found);
        found
    }

    #[test]
    fn every_command_and_option_is_described_in_a_line() {
        let commands = commands();
        assert!(commands.len() > 25, "{}", commands.len());
        for (words, command) in commands {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.len() >= 8, "{words}: {about:?}");
            assert!(
                about.len() <= 100,
                "{words}: what is in a list of commands is short: {about}"
            );
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.len() >= 6, "{words} {}: {help:?}", argument.get_id());
            }
        }
    }

    #[test]
    fn every_example_is_a_command_that_is_taken_and_of_the_command_it_stands_under() {
        let mut tried = 0;
        for (words, command) in commands() {
            let shown = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            for line in shown.lines().filter_map(|line| line.strip_prefix("  ")) {
                // What follows two blanks is a remark, and a redirection is the shell's.
                let line = line.split("  ").next().unwrap_or_default();
                let line = line.split(" >").next().unwrap_or_default();
                assert!(line.starts_with(&words), "{words}: {line}");
                let taken = Cli::try_parse_from(line.split_whitespace());
                assert!(taken.is_ok(), "{line}: {}", taken.unwrap_err());
                tried += 1;
            }
        }
        assert!(tried > 30, "{tried}");
    }

    #[test]
    fn a_slip_of_the_pen_is_answered_with_what_was_meant() {
        for (typed, meant) in [
            ("disk shwo d1", "'show'"),
            ("voluem list", "'volume'"),
            ("attachment delete web1 --forse", "'--force'"),
            ("volume create v1 1GiB --clear on-delet", "'on-delete'"),
            ("clustr status", "'cluster'"),
            ("cluster tokn list", "'token'"),
            ("node set host-b --failure-domian r", "'--failure-domain'"),
            ("preflight --profile bare-meta", "'bare-metal'"),
        ] {
            let words = ["palisade"].into_iter().chain(typed.split_whitespace());
            let said = Cli::try_parse_from(words).unwrap_err().to_string();
            assert!(said.contains(meant), "{typed}: {said}");
        }
    }

    #[test]
    fn help_of_a_command_is_had_by_either_way() {
        let said = |typed: &str| {
            Cli::try_parse_from(typed.split_whitespace())
                .unwrap_err()
                .to_string()
        };
        let help = said("palisade help disk confirm");
        assert!(
            help.contains("--path") && help.contains("palisade disk confirm d1 d2"),
            "{help}"
        );
        assert_eq!(help, said("palisade disk confirm --help"));
    }
}
