//! Nodes come, start, change and go.

use super::{exists, expect_revision, not_found, not_nil, require, room_for_one};
use crate::argument::{Field, Rule};
use crate::cluster::Cluster;
use crate::command::{AddNode, ChangeNode, NodeStarted, Outcome, RaiseFeatureLevel, RemoveNode};
use crate::feature::ATTACHMENT_IDS;
use crate::limits::ADDRESSES_PER_NODE_MAX;
use crate::node::{Membership, Node, NodeRole};
use crate::refusal::{Kind, Refusal};
use palisade_words::limits::NODES_MAX;
use palisade_words::{Incarnation, Name};
use std::net::SocketAddr;

impl Cluster {
    pub(super) fn add_node(&mut self, add: &AddNode) -> Result<Outcome, Refusal> {
        let (name, revision) = (&add.name, self.generation);
        if let Some(node) = self.nodes.get(name) {
            let same = [
                (Field::Uuid, node.uuid == add.uuid),
                (Field::Addresses, node.addresses == add.addresses),
                (Field::FailureDomain, node.failure_domain == add.failure_domain),
            ];
            return exists(Kind::Node, name, node.revision, &same);
        }
        not_nil(add.uuid, Kind::Node, name)?;
        if let Some((holder, _)) = self.node_by_id(add.uuid) {
            return Err(Refusal::UuidTaken {
                kind: Kind::Node,
                holder: holder.clone(),
            });
        }
        room_for_one(Kind::Node, self.nodes.len(), NODES_MAX)?;
        self.addresses_are_free(name, &add.addresses)?;
        let node = Node {
            membership: Membership::Joining,
            role: NodeRole::Learner,
            addresses: add.addresses.clone(),
            failure_domain: add.failure_domain.clone(),
            ..Node::of(add.uuid, revision)
        };
        self.nodes.insert(name.clone(), node);
        Ok(Outcome::Created { revision })
    }

    pub(super) fn node_started(&mut self, started: &NodeStarted) -> Result<Outcome, Refusal> {
        let revision = self.generation;
        let mut nodes = self.nodes.iter_mut();
        let found = nodes.find(|(_, node)| node.uuid == started.node);
        let (name, node) = found.ok_or(Refusal::NotAMember { id: started.node })?;
        let is_told = node.incarnation == started.incarnation
            && node.feature_level == started.feature_level
            && node.has_joined();
        if is_told && started.incarnation > Incarnation(0) {
            return Ok(Outcome::Unchanged {
                revision: node.revision,
            });
        }
        if started.feature_level < self.feature_level {
            return Err(Refusal::FeatureLevelTooLow {
                node: name.clone(),
                level: started.feature_level,
                needed: self.feature_level,
            });
        }
        if started.incarnation <= node.incarnation {
            return Err(Refusal::IncarnationNotLater {
                node: name.clone(),
                known: node.incarnation,
                told: started.incarnation,
            });
        }
        // One that was given up says so as well, and stays given up until it is heard.
        let becomes_member = node.membership == Membership::Joining;
        node.incarnation = started.incarnation;
        node.feature_level = started.feature_level;
        node.revision = revision;
        if becomes_member {
            node.membership = Membership::Active;
            self.epoch = self.epoch.next();
        }
        Ok(Outcome::Changed { revision })
    }

    pub(super) fn raise_feature_level(&mut self, raise: &RaiseFeatureLevel) -> Result<Outcome, Refusal> {
        let revision = self.generation;
        if raise.to <= self.feature_level {
            return Ok(Outcome::Unchanged { revision });
        }
        // One that joins is asked when it starts.
        let mut members = self.nodes.iter().filter(|(_, node)| node.has_joined());
        if let Some((name, node)) = members.find(|(_, node)| node.feature_level < raise.to) {
            return Err(Refusal::FeatureLevelTooLow {
                node: name.clone(),
                level: node.feature_level,
                needed: raise.to,
            });
        }
        self.feature_level = raise.to;
        if self.feature_level >= ATTACHMENT_IDS {
            self.give_attachments_ids();
        }
        Ok(Outcome::Changed { revision })
    }

    pub(super) fn change_node(&mut self, change: &ChangeNode) -> Result<Outcome, Refusal> {
        let (name, revision) = (&change.name, self.generation);
        let now = self.nodes.get(name).ok_or_else(|| not_found(Kind::Node, name))?;
        expect_revision(Kind::Node, name, change.expected, now.revision)?;
        let next = Node {
            addresses: change.addresses.clone().unwrap_or_else(|| now.addresses.clone()),
            failure_domain: change
                .failure_domain
                .clone()
                .or_else(|| now.failure_domain.clone()),
            role: change.role.unwrap_or(now.role),
            ..now.clone()
        };
        if next == *now {
            return Ok(Outcome::Unchanged {
                revision: now.revision,
            });
        }
        self.addresses_are_free(name, &next.addresses)?;
        if next.role == NodeRole::Voter && now.role == NodeRole::Learner {
            let rule = Rule::MemberVotes;
            require(now.is_active(), Kind::Node, name, Field::Role, rule)?;
        }
        // What an evicted node was to have changes nothing about who is a member.
        let changes_votes = next.role != now.role && now.is_active();
        self.nodes.insert(name.clone(), Node { revision, ..next });
        self.somebody_votes(name)?;
        if changes_votes {
            self.epoch = self.epoch.next();
        }
        Ok(Outcome::Changed { revision })
    }

    pub(super) fn remove_node(&mut self, remove: &RemoveNode) -> Result<Outcome, Refusal> {
        let (name, revision) = (&remove.name, self.generation);
        let node = self.nodes.get(name).ok_or_else(|| not_found(Kind::Node, name))?;
        expect_revision(Kind::Node, name, remove.expected, node.revision)?;
        let was_member = node.is_active();
        let disk = self.disks.iter().find(|(_, disk)| disk.is_reached_by(name));
        let mut attachments = self.attachments.iter();
        let attachment = attachments.find(|(_, attachment)| attachment.node == *name);
        let disk = disk.map(|(disk, _)| (Kind::Disk, disk));
        let holder = disk.or(attachment.map(|(attachment, _)| (Kind::Attachment, attachment)));
        if let Some((kind, holder)) = holder {
            return Err(Refusal::NodeInUse {
                node: name.clone(),
                kind,
                holder: holder.clone(),
            });
        }
        let uuid = node.uuid;
        self.nodes.remove(name);
        self.forget_tokens_of(uuid);
        self.somebody_votes(name)?;
        if was_member {
            self.epoch = self.epoch.next();
        }
        Ok(Outcome::Removed { revision })
    }

    pub(super) fn addresses_are_free(&self, name: &Name, wanted: &[SocketAddr]) -> Result<(), Refusal> {
        require(
            addresses_are_good(wanted),
            Kind::Node,
            name,
            Field::Addresses,
            Rule::Addresses,
        )?;
        let others = || self.nodes.iter().filter(|(other, _)| *other != name);
        let taken = |address: &SocketAddr| {
            let holder = others().find(|(_, node)| node.addresses.contains(address))?;
            Some((*address, holder.0.clone()))
        };
        match wanted.iter().find_map(taken) {
            None => Ok(()),
            Some((address, holder)) => Err(Refusal::AddressTaken { address, holder }),
        }
    }
}

/// Whether other nodes can ask for each of them, and none is there twice.
pub(crate) fn addresses_are_good(addresses: &[SocketAddr]) -> bool {
    let good = |(at, address): (usize, &SocketAddr)| {
        let before = addresses.get(..at).unwrap_or_default();
        let is_some_host = !address.ip().is_unspecified() && !address.ip().is_multicast();
        is_some_host && address.port() > 0 && !before.contains(address)
    };
    addresses.len() <= ADDRESSES_PER_NODE_MAX && addresses.iter().enumerate().all(good)
}
