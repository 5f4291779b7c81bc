//! `palisade nodes`, `palisade node` and `palisade reactors`.

use crate::args::NodeCommand;
use crate::client::{Client, segment};
use crate::consent;
use crate::failure::Failure;
use crate::show::{self, Output};
use palisade_api::{Member, Membership, Node, NodePatch, NodeSummary, Reactor, routes, size};
use serde_json::Value;

/// Does what the command says.
pub fn run(client: &Client, out: Output, command: Option<NodeCommand>) -> Result<(), Failure> {
    match command {
        None => node(client, out),
        Some(NodeCommand::Set {
            node,
            address,
            failure_domain,
            vote,
            guard,
        }) => {
            let patch = NodePatch {
                peer_addresses: (!address.is_empty()).then_some(address),
                failure_domain,
                role: vote.request(),
            };
            let value = client.change(&path(&node), &patch, guard.expect)?;
            summary(client, out, &value)
        }
        Some(NodeCommand::Remove { node, guard, consent }) => {
            let request = consent::ToRemove {
                what: format!("node {node}"),
                path: path(&node),
                options: Vec::new(),
                expected: guard.expect,
                consent,
            };
            match consent::take_away(client, out, request)? {
                true => out.deleted(&format!("Node {node} is in the cluster no more.")),
                false => Ok(()),
            }
        }
    }
}

fn path(node: &str) -> String {
    routes::at_node(routes::NODE, &segment(node))
}

/// Shows what is agreed on of a node.
fn summary(client: &Client, out: Output, value: &Value) -> Result<(), Failure> {
    if out.json {
        return Ok(out.value(value)?);
    }
    let node: NodeSummary = client.typed(value)?;
    let member = membership(&node.member);
    out.facts(vec![
        ("Name", node.name),
        ("Id", node.id),
        ("Member", member),
        ("Fails with", show::or_dash(node.member.failure_domain)),
        ("Other nodes reach it at", show::list(&node.member.peer_addresses)),
        ("Incarnation", node.member.incarnation.to_string()),
        ("Feature level", node.member.feature_level.to_string()),
        ("Generation", node.member.revision.to_string()),
    ])?;
    Ok(())
}

/// Shows all nodes.
pub fn nodes(client: &Client, out: Output) -> Result<(), Failure> {
    let value = client.get(routes::NODES)?;
    if out.json {
        return Ok(out.value(&value)?);
    }
    let nodes: Vec<NodeSummary> = client.typed(&value)?;
    let rows = nodes.into_iter().map(|node| {
        let addresses = (!node.addresses.is_empty()).then(|| node.addresses.join(", "));
        [
            node.name,
            node.id,
            if node.answers { "this one" } else { "-" }.to_owned(),
            membership(&node.member),
            show::or_dash(node.member.failure_domain),
            show::or_dash(addresses),
        ]
    });
    out.table(
        ["name", "id", "asked", "member", "fails with", "reached at"],
        rows.collect(),
        "There are no nodes.",
    )?;
    Ok(())
}

/// Whether it is a member, and with a vote.
fn membership(member: &Member) -> String {
    let role = show::word(&member.role);
    match member.membership {
        Membership::Active => role,
        Membership::Joining => format!("joining as {role}"),
        Membership::Evicted => format!("evicted {role}"),
    }
}

/// Shows the node.
fn node(client: &Client, out: Output) -> Result<(), Failure> {
    let value = client.get(&routes::at_node(routes::NODE, routes::SELF))?;
    if out.json {
        return Ok(out.value(&value)?);
    }
    let node: Node = client.typed(&value)?;
    let pages = &node.hugepages;
    let pool = format!(
        "{} of {} in pages of {}",
        size::human(pages.used_bytes),
        size::human(pages.pool_bytes),
        size::human(pages.page_bytes)
    );
    let generation = match node.applied >= node.generation {
        true => format!("{} (applied)", node.generation),
        false => format!("{} ({} applied)", node.generation, node.applied),
    };
    let folders = (!node.disk_folders.is_empty()).then(|| format!("below {}", node.disk_folders.join(", ")));
    let peers = &node.member.peer_addresses;
    let peers = (!peers.is_empty()).then(|| peers.join(", "));
    out.facts(vec![
        ("Name", node.name),
        ("Id", node.id),
        ("Member", membership(&node.member)),
        ("Fails with", show::or_dash(node.member.failure_domain)),
        ("Other nodes reach it at", show::or_dash(peers)),
        ("Incarnation", node.member.incarnation.to_string()),
        ("Feature level", node.member.feature_level.to_string()),
        ("Version", node.version),
        ("Kernel", node.kernel),
        ("Epoch", node.epoch.to_string()),
        ("Generation", generation),
        ("Started", show::moment(node.started_unix_ms)),
        ("Process", node.pid.to_string()),
        ("Buffer pool", pool),
        ("Disk files", show::or_dash(folders)),
    ])?;
    Ok(())
}

/// Shows the reactors.
pub fn reactors(client: &Client, out: Output) -> Result<(), Failure> {
    let value = client.get(&routes::at_node(routes::REACTORS, routes::SELF))?;
    if out.json {
        return Ok(out.value(&value)?);
    }
    let reactors: Vec<Reactor> = client.typed(&value)?;
    let rows = reactors.into_iter().map(|reactor| {
        let busy = 100.0 * reactor.busy_turns as f64 / reactor.turns.max(1) as f64;
        [
            reactor.index.to_string(),
            show::or_dash(reactor.core),
            show::or_dash(reactor.numa_node),
            show::word(&reactor.poll_mode),
            if reactor.sleeping { "asleep" } else { "awake" }.to_owned(),
            reactor.queues.to_string(),
            format!("{}/{}", reactor.slots_used, reactor.slots),
            format!("{busy:.0} %"),
            reactor.sleeps.to_string(),
            reactor.slots_short.to_string(),
            reactor.pool_short.to_string(),
            reactor.slow_turns.to_string(),
        ]
    });
    let heads = [
        "reactor",
        "core",
        "numa",
        "mode",
        "now",
        "queues",
        "slots",
        "busy turns",
        "sleeps",
        "slots short",
        "pool short",
        "slow turns",
    ];
    out.table(heads, rows.collect(), "There are no reactors.")?;
    Ok(())
}
