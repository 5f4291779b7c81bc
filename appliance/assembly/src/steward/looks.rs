//! What the looks at the superblocks of open disks have shown, which are taken now and then while nothing is written there.
//!
//! A copy that is damaged is written anew from the others, by the planner's own step. A disk that says it is another one, or
//! has lost or outgrown what the cluster knows, is no longer used: somebody else writes to its medium, under another name or
//! from another machine. That is believed when it is seen twice.

use super::Steward;
use crate::plant::Plant;
use crate::superblocks::Look;
use palisade_api::Severity;
use palisade_model::Kind;
use palisade_reconcile::{Opened as Found, Step, Superblock};
use palisade_words::{DeviceIndex, Name};
use std::time::Instant;

impl Steward {
    pub(super) fn looked_at(
        &self,
        name: &Name,
        device: DeviceIndex,
        known: Superblock,
        found: Result<Look, String>,
    ) {
        let mut plant = self.shared.plant();
        let plant = &mut *plant;
        let target = (Kind::Disk, name);
        let is_busy = plant.under_way.keys().any(|action| action.target() == target);
        let (Some(open), Some(observed)) = (
            plant.disks.get_mut(name).filter(|open| open.index == device),
            plant.observed.disks.get_mut(name),
        ) else {
            return;
        };
        // It was written to meanwhile, or is being so: what was read may be from before, or from in between.
        if is_busy || observed.superblock != known {
            return;
        }
        let look = match found {
            Ok(look) => look,
            Err(reason) => {
                open.superblock_damage = vec![reason];
                return self.shared.observe(&self.shared.cluster(), plant);
            }
        };
        let is_ours = matches!(look.superblock, Superblock::Ours { .. });
        let differs = look.superblock != known;
        if differs && !is_ours && open.sight.doubt != Some(look.superblock) {
            open.sight.doubt(look.superblock, Instant::now());
            return;
        }
        open.sight.doubt = None;
        open.superblock_damage = look.damage;
        open.sides = look.sides;
        if differs {
            log::warn!(
                "disk {name}: its superblock was {known:?} and is {:?}",
                look.superblock
            );
            observed.superblock = look.superblock;
        }
        // At once, so that none is mended too soon to be told.
        self.shared.observe(&self.shared.cluster(), plant);
    }

    /// Takes over what a look at a superblock has brought.
    pub(super) fn looked(&self, plant: &mut Plant, step: &Step, look: Look) -> Found {
        let (_, name) = step.action.target();
        let known = plant.refused.get(name).map(|last| last.damage.clone());
        if let Some(open) = plant.disks.get_mut(name) {
            let known = known.unwrap_or_else(|| open.superblock_damage.clone());
            let new = look.damage.iter().filter(|damage| !known.contains(damage));
            new.for_each(|damage| log::warn!("disk {name}: {damage}"));
            open.superblock_damage = look.damage;
            open.sides = look.sides;
        }
        if !look.mended.is_empty() {
            let message = format!(
                "disk {name}: written anew from sound copies: {}",
                look.mended.join("; ")
            );
            log::warn!("{message}");
            let subject = format!("disk/{name}");
            self.shared
                .events
                .push(Severity::Warning, "superblock_mended", subject, message);
        }
        Found {
            superblock: look.superblock,
            ..Found::default()
        }
    }
}
