//! A voter whose files are put back from a copy (issue 10, rule 10): whoever has heard more of it lets nothing count that it says,
//! until it has its own files again.
//!
//! That is all that peers can do. So a copy is put back only where each of the others has heard more, and has it on its medium:
//! what nobody has heard of, nobody can miss.

use crate::raft::cluster::{FileCopies, Nodes};
use crate::raft::history::History;
use crate::raft::network::{Network, id_of};
use crate::raft::runtime::Virtual;
use crate::raft::tasks::locked;
use crate::rng::Rng;
use std::sync::{Arc, Mutex};

/// The copies that were taken, and the node that has one of them.
#[derive(Debug, Default)]
pub struct Forgetting {
    /// The latest copy of each node.
    copies: Vec<Option<FileCopies>>,
    /// Who has an older copy, and its own files.
    forgetful: Option<(usize, FileCopies)>,
}

impl Forgetting {
    /// Takes a copy of a node's files as they are when it ends, and starts it again.
    pub fn take_copy(&mut self, node: usize, nodes: &Nodes, rng: &mut Rng) {
        self.copies.resize(nodes.count(), None);
        if self.has_forgotten(node) {
            return;
        }
        nodes.end(node, rng);
        self.copies[node] = Some(nodes.copy(node));
        nodes.start(node);
    }

    /// Puts the copy of a node in the place of its files, if all others would notice. Whether that was done.
    pub async fn put_back(
        &mut self,
        nodes: &Nodes,
        network: &Network,
        history: &Arc<Mutex<History>>,
        rng: &mut Rng,
    ) -> bool {
        if self.forgetful.is_some() {
            return false;
        }
        let copies = self.copies.iter_mut().enumerate();
        let Some((node, copy)) = copies
            .into_iter()
            .find_map(|(node, copy)| Some((node, copy.take()?)))
        else {
            return false;
        };
        for other in (0..nodes.count()).filter(|other| *other != node) {
            let Some(voter) = network.voter(other) else {
                return false;
            };
            if voter.peers.keep::<Virtual>().await.is_err() {
                return false;
            }
        }
        let Some(shown) = nodes.would_show(node, &copy) else {
            return false;
        };
        let is_noticed = |other: usize| {
            let voter = network.voter(other);
            voter.is_some_and(|voter| voter.peers.check(id_of(node), shown).is_err())
        };
        if !(0..nodes.count()).filter(|other| *other != node).all(is_noticed) {
            return false;
        }
        nodes.end(node, rng);
        self.forgetful = Some((node, nodes.copy(node)));
        nodes.put_back(node, copy);
        locked(history).forgets(node, nodes.latest_run());
        nodes.start(node);
        true
    }

    /// The node that has forgotten gets its own files again. It does not run then.
    pub fn end(&mut self, nodes: &Nodes, history: &Arc<Mutex<History>>, rng: &mut Rng) {
        if let Some((node, own)) = self.forgetful.take() {
            nodes.end(node, rng);
            nodes.put_back(node, own);
            locked(history).recalls();
        }
    }

    fn has_forgotten(&self, node: usize) -> bool {
        self.forgetful.as_ref().is_some_and(|(other, _)| *other == node)
    }
}
