//! Members are given up, and taken back.
//!
//! ```text
//!   joining -- started --> active -- not heard --> evicted -- heard again --> active
//! ```
//!
//! Both are compare-and-set on the number of the membership: what was judged of another one says nothing of this one, and of
//! several that propose the same the first is right.

use super::not_found;
use crate::cluster::Cluster;
use crate::command::{EvictNodes, Outcome, ReadmitNode};
use crate::node::{Membership, Node};
use crate::refusal::{Kind, Refusal};
use palisade_words::{Epoch, Name, Uuid};

impl Cluster {
    pub(super) fn evict_nodes(&mut self, evict: &EvictNodes) -> Result<Outcome, Refusal> {
        let revision = self.generation;
        self.is_of_this_membership(evict.epoch)?;
        let mut first = None;
        for id in &evict.nodes {
            let (name, node) = self.named(*id)?;
            match node.membership {
                Membership::Active => {}
                Membership::Joining => return Err(Refusal::NodeJoining { node: name }),
                Membership::Evicted => return Err(Refusal::NodeEvicted { node: name }),
            }
            first.get_or_insert_with(|| name.clone());
            self.becomes(name, node, Membership::Evicted);
        }
        let Some(first) = first else {
            return Ok(Outcome::Unchanged { revision });
        };
        self.somebody_votes(&first)?;
        self.epoch = self.epoch.next();
        Ok(Outcome::Changed { revision })
    }

    pub(super) fn readmit_node(&mut self, readmit: &ReadmitNode) -> Result<Outcome, Refusal> {
        let revision = self.generation;
        let (name, node) = self.named(readmit.node)?;
        match node.membership {
            Membership::Evicted => {}
            Membership::Joining => return Err(Refusal::NodeJoining { node: name }),
            Membership::Active => {
                return Ok(Outcome::Unchanged {
                    revision: node.revision,
                });
            }
        }
        self.is_of_this_membership(readmit.epoch)?;
        if readmit.incarnation != node.incarnation {
            return Err(Refusal::OtherIncarnation {
                node: name,
                known: node.incarnation,
                told: readmit.incarnation,
            });
        }
        self.becomes(name, node, Membership::Active);
        self.epoch = self.epoch.next();
        Ok(Outcome::Changed { revision })
    }

    fn becomes(&mut self, name: Name, node: Node, membership: Membership) {
        let revision = self.generation;
        let node = Node {
            membership,
            revision,
            ..node
        };
        self.nodes.insert(name, node);
    }

    /// Refuses to give anything to a node that is not a member.
    pub(super) fn is_member(&self, name: &Name) -> Result<(), Refusal> {
        let node = self.nodes.get(name).ok_or_else(|| not_found(Kind::Node, name))?;
        match node.membership {
            Membership::Active => Ok(()),
            Membership::Joining => Err(Refusal::NodeJoining { node: name.clone() }),
            Membership::Evicted => Err(Refusal::NodeEvicted { node: name.clone() }),
        }
    }

    /// A cluster without a voter could never agree on anything again.
    pub(super) fn somebody_votes(&self, but: &Name) -> Result<(), Refusal> {
        match self.nodes.values().any(|node| node.is_active() && node.votes()) {
            true => Ok(()),
            false => Err(Refusal::LastVoter { node: but.clone() }),
        }
    }

    fn is_of_this_membership(&self, judged: Epoch) -> Result<(), Refusal> {
        match judged == self.epoch {
            true => Ok(()),
            false => Err(Refusal::OtherMembership {
                judged,
                now: self.epoch,
            }),
        }
    }

    fn named(&self, id: Uuid) -> Result<(Name, Node), Refusal> {
        let found = self.node_by_id(id);
        let (name, node) = found.ok_or(Refusal::NotAMember { id })?;
        Ok((name.clone(), node.clone()))
    }
}
