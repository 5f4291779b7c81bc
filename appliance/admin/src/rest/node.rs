//! The nodes, and what each of them alone can answer.

use super::openapi::{AnyProblem, BodyProblem, ChangeProblem, GuardProblem, NodeProblem, OneProblem};
use super::query::{NoQuery, NodeRemoval, RemovalQuery};
use super::request::{Expected, IfMatch, Json, MemberInAddress, NodeInAddress};
use super::{Answer, Door};
use crate::appliance::Appliance;
use axum::extract::State;
use palisade_api::{Node, NodePatch, NodeSummary, Problem, ProblemKind, Reactor, Removal, routes};

/// All nodes of the cluster, in the order of their names.
#[utoipa::path(get, operation_id = "list_nodes", path = routes::NODES, tag = "nodes", responses(
    (status = 200, description = "All nodes.", body = Vec<NodeSummary>),
    AnyProblem,
))]
pub(super) async fn list(State(door): State<Door>) -> Answer {
    let asked = door
        .call(|appliance| {
            let mut nodes = appliance.nodes();
            nodes.sort_by(|one, other| one.name.cmp(&other.name));
            Answer::json(&nodes)
        })
        .await;
    asked.into()
}

/// One node, by its id or name, or `self` for the one that is asked.
#[utoipa::path(get, operation_id = "show_node", path = routes::NODE, tag = "nodes", params(NodeInAddress), responses(
    (status = 200, description = "The node.", body = Node, headers(("ETag" = String))),
    AnyProblem, NodeProblem,
))]
pub(super) async fn show(State(door): State<Door>, node: NodeInAddress) -> Answer {
    let asked = door.call(move |appliance| {
        node.is_here(appliance)?;
        let node = appliance.node();
        Ok(Answer::tagged(&node, node.member.revision))
    });
    asked.await.flatten().into()
}

/// Changes where other nodes reach a node, what it fails together with, or whether it has a vote.
#[utoipa::path(patch, operation_id = "change_node", path = routes::NODE, tag = "nodes", request_body = NodePatch,
    params(MemberInAddress, IfMatch), responses(
    (status = 200, description = "The node as agreed on.", body = NodeSummary, headers(("ETag" = String))),
    AnyProblem, ChangeProblem, OneProblem, BodyProblem, GuardProblem,
))]
pub(super) async fn change(
    State(door): State<Door>,
    member: MemberInAddress,
    Expected(expected): Expected,
    _: NoQuery,
    Json(patch): Json<NodePatch>,
) -> Answer {
    let changed = door.call(move |appliance| {
        let name = member.name(appliance)?;
        appliance.node_change(&name, patch, expected)
    });
    let changed = changed.await.flatten();
    changed
        .map(|node| Answer::tagged(&node, node.member.revision))
        .into()
}

/// Takes a node out of the cluster. It must reach no disk and offer no volume.
#[utoipa::path(delete, operation_id = "remove_node", path = routes::NODE, tag = "nodes",
    params(MemberInAddress, IfMatch, NodeRemoval), responses(
    (status = 200, description = "With `dry_run`: what would happen. Nothing has.", body = Removal),
    (status = 204, description = "It is a member no more."),
    AnyProblem, ChangeProblem, OneProblem, GuardProblem,
))]
pub(super) async fn remove(
    State(door): State<Door>,
    member: MemberInAddress,
    Expected(expected): Expected,
    RemovalQuery(how): RemovalQuery,
) -> Answer {
    let removed = door.call(move |appliance| {
        let name = member.name(appliance)?;
        appliance.node_remove(&name, expected, how)
    });
    let removed = removed.await.flatten();
    removed.map(|removal| Answer::removed(how, &removal)).into()
}

/// The reactors of a node, in the order of their numbers.
#[utoipa::path(get, operation_id = "list_reactors", path = routes::REACTORS, tag = "nodes", params(NodeInAddress), responses(
    (status = 200, description = "All reactors.", body = Vec<Reactor>),
    AnyProblem, NodeProblem,
))]
pub(super) async fn reactors(State(door): State<Door>, node: NodeInAddress) -> Answer {
    let asked = door.call(move |appliance| {
        node.is_here(appliance)?;
        Ok(Answer::json(&appliance.reactors()))
    });
    asked.await.flatten().into()
}

impl MemberInAddress {
    /// The node's name. One that is not known here is told to the appliance as it is: who leads the cluster may know it.
    ///
    /// # Errors
    /// It is `self`, which is another node wherever the request is sent on.
    fn name(self, appliance: &dyn Appliance) -> Result<String, Problem> {
        let nodes = appliance.nodes();
        if self.node == routes::SELF {
            let own = nodes.into_iter().find(|node| node.answers);
            let own = own.map_or_else(|| "its name".to_owned(), |node| node.name);
            return Err(Problem::new(
                ProblemKind::Invalid,
                "node_not_named",
                "a node is changed or taken out by its name: `self` is another one where the request is sent on to the leader",
                format!("name it: the node that was asked is {own}"),
            )
            .about("node"));
        }
        let known = nodes.into_iter().find(|node| node.id == self.node);
        Ok(known.map_or(self.node, |node| node.name))
    }
}

impl NodeInAddress {
    /// Refuses what another node would have to answer.
    pub(super) fn is_here(&self, appliance: &dyn Appliance) -> Result<(), Problem> {
        let asked = self.node.as_str();
        if asked == routes::SELF {
            return Ok(());
        }
        let nodes = appliance.nodes();
        let found = nodes.iter().find(|node| node.id == asked || node.name == asked);
        match found {
            None => Err(Problem::not_found("node", &super::shown(asked))),
            Some(node) if node.answers => Ok(()),
            Some(node) => {
                let here = nodes.iter().find(|node| node.answers);
                let here = here.map_or("another", |node| &node.name);
                Err(Problem::elsewhere(&node.name, here, &node.addresses))
            }
        }
    }
}
