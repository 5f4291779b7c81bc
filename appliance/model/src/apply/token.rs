//! Tokens are made and taken back, and let nodes in.
//!
//! A token is used up in the step that lets its node in, so it lets in one, whoever proposes what at once. The entry stays
//! until it expires: a node that has heard no answer asks again, shows the same key, and is answered the same way. With
//! another key it could be anybody who has seen the token, and is refused.

use super::{exists, expect_revision, not_found, require, room_for_one};
use crate::argument::{Field, Rule};
use crate::cluster::Cluster;
use crate::command::{AddNode, AdmitNode, Outcome};
use crate::join_token::{CreateToken, JoinToken, RevokeToken};
use crate::limits::{TOKEN_LIFE_S_MAX, TOKENS_MAX};
use crate::node::{Membership, Node};
use crate::refusal::{Kind, Refusal};
use palisade_words::{Generation, Name, Sha256Sum, Uuid};

impl Cluster {
    pub(super) fn create_token(&mut self, create: &CreateToken) -> Result<Outcome, Refusal> {
        let (name, revision) = (&create.name, self.generation);
        self.forget_expired_tokens(create.now_s);
        if let Some(token) = self.tokens.get(name) {
            let same = [
                (Field::Hash, token.hash == create.hash),
                (Field::ExpiresAtS, token.expires_at_s == create.expires_at_s),
                (Field::Role, token.admits == create.admits),
            ];
            return exists(Kind::Token, name, token.revision, &same);
        }
        let rule = |holds, field, rule| require(holds, Kind::Token, name, field, rule);
        rule(!create.hash.is_nil(), Field::Hash, Rule::NotNil)?;
        let life_s = create.expires_at_s.checked_sub(create.now_s);
        let is_short = life_s.is_some_and(|life_s| (1..=TOKEN_LIFE_S_MAX).contains(&life_s));
        rule(is_short, Field::ExpiresAtS, Rule::TokenLife)?;
        let is_other = self.token_of(create.hash).is_none();
        rule(is_other, Field::Hash, Rule::NoOtherToken)?;
        room_for_one(Kind::Token, self.tokens.len(), TOKENS_MAX)?;
        let token = JoinToken {
            created: revision,
            revision,
            hash: create.hash,
            expires_at_s: create.expires_at_s,
            admits: create.admits,
            used_by: None,
        };
        self.tokens.insert(name.clone(), token);
        Ok(Outcome::Created { revision })
    }

    pub(super) fn revoke_token(&mut self, revoke: &RevokeToken) -> Result<Outcome, Refusal> {
        let (name, revision) = (&revoke.name, self.generation);
        let token = self
            .tokens
            .get(name)
            .ok_or_else(|| not_found(Kind::Token, name))?;
        expect_revision(Kind::Token, name, revoke.expected, token.revision)?;
        self.tokens.remove(name);
        Ok(Outcome::Removed { revision })
    }

    pub(super) fn admit_node(&mut self, admit: &AdmitNode) -> Result<Outcome, Refusal> {
        let revision = self.generation;
        let (name, token) = self.token_of(admit.token).ok_or(Refusal::TokenUnknown)?;
        let (name, token) = (name.clone(), token.clone());
        if token.has_expired(admit.now_s) {
            return Err(Refusal::TokenExpired {
                token: name,
                ago_s: admit.now_s.saturating_sub(token.expires_at_s),
            });
        }
        if let Some(user) = token.used_by {
            return self.admitted_already(name, user, admit);
        }
        let needed = self.feature_level;
        if admit.feature_level < needed {
            return Err(Refusal::FeatureLevelTooLow {
                node: admit.node.name.clone(),
                level: admit.feature_level,
                needed,
            });
        }
        let is_key = !admit.key.is_nil();
        require(is_key, Kind::Node, &admit.node.name, Field::Key, Rule::NotNil)?;
        self.key_is_free(admit)?;
        let outcome = match self.nodes.get(&admit.node.name) {
            Some(node) if node.uuid == admit.node.uuid => self.readmit(&admit.node, admit.key, revision)?,
            _ => self.add_node(&admit.node)?,
        };
        if let Some(node) = self.nodes.get_mut(&admit.node.name) {
            node.key = Some(admit.key);
            if let Outcome::Created { .. } = outcome {
                node.meant_for = token.admits;
            }
        }
        if let Some(token) = self.tokens.get_mut(&name) {
            token.used_by = Some(admit.node.uuid);
            token.revision = revision;
        }
        self.forget_expired_tokens(admit.now_s);
        Ok(outcome)
    }

    /// A node that is taken away is let in by no token of before.
    pub(super) fn forget_tokens_of(&mut self, node: Uuid) {
        self.tokens.retain(|_, token| token.used_by != Some(node));
    }

    fn forget_expired_tokens(&mut self, now_s: u64) {
        self.tokens.retain(|_, token| !token.has_expired(now_s));
    }

    /// Answers who shows a token that has let somebody in.
    fn admitted_already(&self, token: Name, user: Uuid, admit: &AdmitNode) -> Result<Outcome, Refusal> {
        let (node, known) = self.node_by_id(user).ok_or(Refusal::NotAMember { id: user })?;
        match known.uuid == admit.node.uuid && known.key == Some(admit.key) {
            true if *node == admit.node.name => Ok(Outcome::Unchanged {
                revision: known.revision,
            }),
            true => Err(Refusal::UuidTaken {
                kind: Kind::Node,
                holder: node.clone(),
            }),
            false => Err(Refusal::TokenUsed {
                token,
                node: node.clone(),
            }),
        }
    }

    /// A node that is in the cluster comes back: by the key that it is known by, or by its first one, if it has never begun.
    fn readmit(&mut self, add: &AddNode, key: Sha256Sum, revision: Generation) -> Result<Outcome, Refusal> {
        let name = &add.name;
        let now = self.nodes.get(name).ok_or_else(|| not_found(Kind::Node, name))?;
        let is_known = match now.key {
            Some(known) => known == key,
            None => now.membership == Membership::Joining,
        };
        if !is_known {
            return Err(Refusal::NodeKeyDiffers { node: name.clone() });
        }
        self.addresses_are_free(name, &add.addresses)?;
        let next = Node {
            addresses: add.addresses.clone(),
            failure_domain: add.failure_domain.clone().or(now.failure_domain.clone()),
            revision,
            ..now.clone()
        };
        self.nodes.insert(name.clone(), next);
        Ok(Outcome::Changed { revision })
    }

    fn key_is_free(&self, admit: &AdmitNode) -> Result<(), Refusal> {
        let mut nodes = self.nodes.iter();
        match nodes.find(|(_, node)| node.key == Some(admit.key) && node.uuid != admit.node.uuid) {
            None => Ok(()),
            Some((holder, _)) => Err(Refusal::KeyTaken {
                holder: holder.clone(),
            }),
        }
    }

    fn token_of(&self, hash: Sha256Sum) -> Option<(&Name, &JoinToken)> {
        self.tokens.iter().find(|(_, token)| token.hash == hash)
    }
}
