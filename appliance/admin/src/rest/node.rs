//! The nodes, and what each of them alone can answer.

use super::openapi::{AnyProblem, NodeProblem};
use super::request::NodeInAddress;
use super::{Answer, Door};
use crate::appliance::Appliance;
use axum::extract::State;
use palisade_api::{Node, NodeSummary, Problem, Reactor, routes};

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
    (status = 200, description = "The node.", body = Node),
    AnyProblem, NodeProblem,
))]
pub(super) async fn show(State(door): State<Door>, node: NodeInAddress) -> Answer {
    let asked = door.call(move |appliance| {
        node.is_here(appliance)?;
        Ok(Answer::json(&appliance.node()))
    });
    asked.await.flatten().into()
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
