//! What is typed about the cluster, its nodes and the tokens that let nodes in.

use super::{Consent, Guard};
use crate::examples;
use clap::{ArgGroup, Args, Subcommand, ValueHint};
use palisade_api::{NodeRole, TOKEN_VALID_S};
use std::path::PathBuf;

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show who leads, whether a majority answers, and all nodes.
    Status,
    /// Make the node that is asked the first of a cluster of several.
    #[command(after_help = examples::INIT)]
    Init {
        #[command(flatten)]
        place: NodePlace,
    },
    /// Have the node that is asked join a cluster.
    #[command(after_help = examples::JOIN)]
    Join(Box<Join>),
    /// Make, list and take back tokens that let nodes in.
    #[command(subcommand)]
    Token(TokenCommand),
}

/// Where a node is.
#[derive(Debug, Args)]
pub struct NodePlace {
    /// Where other nodes reach it: an IP address of its machine with a port, as 192.0.2.7:7781 or [2001:db8::7]:7781. May be
    /// given several times, the preferred one first.
    #[arg(long, value_name = "IP:PORT", required = true)]
    pub address: Vec<String>,
    /// What it fails together with: a rack, a room, a supply.
    #[arg(long, value_name = "NAME")]
    pub failure_domain: Option<String>,
}

/// A node that joins. `--token` is the cluster's here; the appliance's own is given under another name, or before the command.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("letting_in").required(true).args(["join_token", "join_token_file"]))]
pub struct Join {
    /// Where a node of the cluster is reached, as IP:PORT. May be given several times; one that answers is enough.
    #[arg(long, value_name = "IP:PORT", required = true)]
    pub peer: Vec<String>,
    /// The token that the cluster has made. Others on this machine can see it in the process list: a file or
    /// PALISADE_JOIN_TOKEN hides it.
    #[arg(
        id = "join_token",
        long = "token",
        value_name = "TOKEN",
        env = "PALISADE_JOIN_TOKEN",
        hide_env_values = true
    )]
    pub join_token: Option<String>,
    /// File that holds that token.
    #[arg(id = "join_token_file", long = "token-file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub join_token_file: Option<PathBuf>,
    /// Its name in the cluster; without it, the one it has.
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub place: NodePlace,
    /// The appliance's own token, which --token is elsewhere. PALISADE_TOKEN is taken as well.
    #[arg(
        long = "appliance-token",
        value_name = "TOKEN",
        help_heading = "Connection and output"
    )]
    pub token: Option<String>,
    /// File that holds the appliance's own token.
    #[arg(
        long = "appliance-token-file",
        value_name = "FILE",
        conflicts_with = "token",
        help_heading = "Connection and output"
    )]
    pub token_file: Option<PathBuf>,
}

/// What to do with tokens that let nodes in.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token that lets one node in, and print what to run there.
    #[command(after_help = examples::TOKEN_CREATE)]
    Create {
        /// Its id, chosen by you: a-z, 0-9 and '-'. The name of the new node is a good one.
        id: String,
        /// Let the node in without a vote.
        #[arg(long)]
        learner: bool,
        /// For how long it lets somebody in: 90s, 30min, 1h or 7d.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = seconds)]
        valid: u64,
    },
    /// List all tokens, without their texts.
    #[command(visible_alias = "ls")]
    List,
    /// Take a token back; the node that it has let in stays.
    Revoke {
        /// Its id.
        id: String,
    },
}

/// What to do with nodes of the cluster.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Change where a node is, what it fails together with, or whether it has a vote.
    #[command(group = ArgGroup::new("change").required(true).multiple(true).args(["address", "failure_domain", "voter", "learner"]))]
    #[command(after_help = examples::NODE_SET)]
    Set {
        /// Its name, or its id.
        node: String,
        /// Where other nodes reach it, as IP:PORT. May be given several times, the preferred one first; those that are not given
        /// are given up.
        #[arg(long, value_name = "IP:PORT")]
        address: Vec<String>,
        /// What it fails together with: a rack, a room, a supply.
        #[arg(long, value_name = "NAME")]
        failure_domain: Option<String>,
        #[command(flatten)]
        vote: Vote,
        #[command(flatten)]
        guard: Guard,
    },
    /// Take a node out of the cluster that reaches no disk and offers no volume.
    #[command(visible_alias = "rm", after_help = examples::NODE_REMOVE)]
    Remove {
        /// Its name, or its id.
        node: String,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        consent: Consent,
    },
}

/// Whether a node has a vote.
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub struct Vote {
    /// Give it a vote.
    #[arg(long)]
    pub voter: bool,
    /// Take its vote away; it is still told what is agreed on.
    #[arg(long)]
    pub learner: bool,
}

impl Vote {
    /// As REST takes it.
    pub fn request(self) -> Option<NodeRole> {
        match (self.voter, self.learner) {
            (true, _) => Some(NodeRole::Voter),
            (_, true) => Some(NodeRole::Learner),
            _ => None,
        }
    }
}

/// A length of time as people write it, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let unit_s = match unit.trim_start() {
        "s" => 1,
        "min" | "m" => 60,
        "h" => TOKEN_VALID_S,
        "d" => 24 * 3600,
        _ => {
            return Err(
                "a length of time is a whole number with s, min, h or d behind it, as 30min or 7d".to_owned(),
            );
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a length of time begins with a whole number, as 30min or 7d".to_owned())?;
    number
        .checked_mul(unit_s)
        .ok_or_else(|| "that is longer than can be counted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    #[test]
    fn a_length_of_time_is_read_as_people_write_it() {
        for (text, wanted) in [
            ("90s", Some(90)),
            ("1m", Some(60)),
            ("30min", Some(1800)),
            ("1h", Some(3600)),
            ("7 d", Some(604_800)),
            ("3600", None),
            ("h", None),
            ("1.5h", None),
            ("-1h", None),
            ("1w", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("", None),
        ] {
            assert_eq!(seconds(text).ok(), wanted, "{text}");
        }
    }

    fn join(typed: &str) -> Result<(Cli, Join), String> {
        let words = ["palisade"].into_iter().chain(typed.split_whitespace());
        let mut cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match std::mem::replace(&mut cli.command, Command::Health) {
            Command::Cluster {
                command: Some(ClusterCommand::Join(join)),
            } => Ok((cli, *join)),
            other => Err(format!("{other:?}")),
        }
    }

    /// The two kinds of tokens are never taken for each other.
    #[test]
    fn the_token_of_a_join_is_the_clusters() {
        let join_words = "cluster join --peer 192.0.2.7:7781 --address 192.0.2.8:7781";
        for (typed, cluster, appliance) in [
            (format!("{join_words} --token J"), "J", None),
            (format!("--token A {join_words} --token J"), "J", Some("A")),
            (
                format!("{join_words} --token J --appliance-token A"),
                "J",
                Some("A"),
            ),
            (
                format!("--token X {join_words} --token J --appliance-token A"),
                "J",
                Some("A"),
            ),
        ] {
            let (cli, join) = join(&typed).unwrap();
            assert_eq!(join.join_token.as_deref(), Some(cluster), "{typed}");
            assert_eq!(cli.target.token.as_deref(), appliance, "{typed}");
        }
        let (cli, files) = join(&format!("--token-file a {join_words} --token-file j")).unwrap();
        assert_eq!(files.join_token_file, Some("j".into()));
        assert_eq!(cli.target.token_file, Some("a".into()));
        for wrong in [
            join_words.to_owned(),
            format!("--token A {join_words}"),
            format!("{join_words} --token J --token-file j"),
            "cluster join --peer 192.0.2.7:7781 --token J".to_owned(),
            "cluster join --address 192.0.2.7:7781 --token J".to_owned(),
        ] {
            assert!(join(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_there_before_is_taken_as_before() {
        let parsed = |typed: &str| {
            let words = ["palisade"].into_iter().chain(typed.split_whitespace());
            Cli::try_parse_from(words).map(|cli| cli.command)
        };
        assert!(matches!(parsed("node"), Ok(Command::Node { command: None })));
        assert!(matches!(
            parsed("node --json"),
            Ok(Command::Node { command: None })
        ));
        assert!(matches!(parsed("nodes"), Ok(Command::Nodes)));
        assert!(matches!(
            parsed("cluster"),
            Ok(Command::Cluster { command: None })
        ));
        assert!(parsed("node set host-b").is_err(), "nothing is to be changed");
        assert!(parsed("node set host-b --voter --learner").is_err());
    }
}
