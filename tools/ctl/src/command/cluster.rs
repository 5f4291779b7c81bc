//! `palisade cluster ...`: forming a cluster of several nodes, and the tokens that let nodes in.

use super::cluster_status;
use crate::args::{ClusterCommand, Join, NodePlace, TokenCommand};
use crate::client::{Client, read_join_token, segment};
use crate::failure::Failure;
use crate::paste::quoted;
use crate::show::{self, Output};
use palisade_api::{
    ClusterInit, ClusterJoin, ClusterJoined, JoinTokenCreate, JoinTokenMade, JoinTokenSummary, NodeRole,
    routes,
};
use serde_json::Value;

/// Does what the command says.
pub fn run(client: &Client, out: Output, command: Option<ClusterCommand>) -> Result<(), Failure> {
    match command {
        None | Some(ClusterCommand::Status) => {
            cluster_status::show(client, out, &client.get(routes::CLUSTER)?)
        }
        Some(ClusterCommand::Init { place }) => init(client, out, place),
        Some(ClusterCommand::Join(request)) => join(client, out, *request),
        Some(ClusterCommand::Token(command)) => token(client, out, command),
    }
}

fn init(client: &Client, out: Output, place: NodePlace) -> Result<(), Failure> {
    let request = ClusterInit {
        addresses: place.address,
        failure_domain: place.failure_domain,
    };
    let value = client.command_here(routes::CLUSTER_INIT, &request)?;
    cluster_status::show(client, out, &value)?;
    match out.json {
        true => Ok(()),
        false => Ok(out.line("\nTo let another node in: palisade cluster token create ID")?),
    }
}

fn join(client: &Client, out: Output, join: Join) -> Result<(), Failure> {
    let token = match (join.join_token, join.join_token_file) {
        (Some(token), _) => token,
        (None, Some(file)) => read_join_token(&file)?,
        // The parser has seen to it that one of the two is there.
        (None, None) => String::new(),
    };
    let request = ClusterJoin {
        peers: join.peer,
        token,
        addresses: join.place.address,
        name: join.name,
        failure_domain: join.place.failure_domain,
    };
    let value = client.command_here(routes::CLUSTER_JOIN, &request)?;
    if out.json {
        return Ok(out.value(&value)?);
    }
    let joined: ClusterJoined = client.typed(&value)?;
    out.line(format!(
        "It has been let into cluster {} as node {}.",
        joined.cluster, joined.node
    ))?;
    Ok(out.line(joined.next)?)
}

fn token(client: &Client, out: Output, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { id, learner, valid } => {
            let request = JoinTokenCreate {
                id,
                role: match learner {
                    true => NodeRole::Learner,
                    false => NodeRole::Voter,
                },
                valid_s: valid,
            };
            let value = client.create(routes::JOIN_TOKENS, &request)?;
            if out.json {
                return Ok(out.value(&value)?);
            }
            Ok(out.line(told(&client.typed(&value)?))?)
        }
        TokenCommand::List => tokens(client, out),
        TokenCommand::Revoke { id } => {
            client.delete(&format!("{}/{}", routes::JOIN_TOKENS, segment(&id)), None)?;
            out.deleted(&format!("Join token {id} lets nobody in any more."))
        }
    }
}

/// A new token, with what is to be run on the node that it is for.
fn told(token: &JoinTokenMade) -> String {
    let peers: String = match &token.peers[..] {
        [] => " --peer IP:PORT".to_owned(),
        peers => peers
            .iter()
            .map(|peer| format!(" --peer {}", quoted(peer)))
            .collect(),
    };
    format!(
        "Join token {} lets one node in as a {}, until {}. Its text is told this once.\n\n\
         Run this on the new node, with the address at which the others reach that one for IP:PORT:\n\n  \
         palisade cluster join{peers} --token {} --address IP:PORT\n\n\
         While it runs, others on that machine can see the token in the process list: PALISADE_JOIN_TOKEN or --token-file hides it.",
        token.id,
        show::word(&token.role),
        show::second(token.expires_unix_s),
        quoted(&token.token),
    )
}

fn tokens(client: &Client, out: Output) -> Result<(), Failure> {
    let values = client.list(routes::JOIN_TOKENS)?;
    if out.json {
        return Ok(out.value(&Value::Array(values))?);
    }
    let tokens: Vec<JoinTokenSummary> = values
        .iter()
        .map(|value| client.typed(value))
        .collect::<Result<_, _>>()?;
    let rows = tokens.into_iter().map(|token| {
        [
            token.id,
            show::word(&token.role),
            show::second(token.expires_unix_s),
            show::or_dash(token.used_by),
        ]
    });
    out.table(
        ["token", "lets in as", "until", "has let in"],
        rows.collect(),
        "There are no join tokens. Make one: palisade cluster token create ID",
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    /// What is pasted is a whole command; an address of the sixth version would be a pattern for a shell.
    #[test]
    fn what_is_told_of_a_new_token_can_be_pasted() {
        let token = JoinTokenMade {
            id: "node-2".to_owned(),
            token: "palisade-join-aeydcm".to_owned(),
            role: NodeRole::Voter,
            expires_unix_s: 1_800_000_000,
            peers: vec!["192.0.2.7:7781".to_owned(), "[2001:db8::7]:7781".to_owned()],
        };
        let text = told(&token);
        assert!(text.contains("as a voter, until 2027-01-15T08:00:00Z"), "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix("  ")).unwrap();
        assert_eq!(
            line,
            "palisade cluster join --peer 192.0.2.7:7781 --peer '[2001:db8::7]:7781' --token palisade-join-aeydcm --address IP:PORT"
        );
        let parsed = Cli::try_parse_from(line.split(' ')).unwrap();
        assert!(matches!(
            parsed.command,
            Command::Cluster {
                command: Some(ClusterCommand::Join(_))
            }
        ));
        let nowhere = JoinTokenMade {
            peers: vec![],
            ..token
        };
        assert!(told(&nowhere).contains("join --peer IP:PORT --token"));
    }
}
