//! What the looks at the superblocks of open disks have shown, which are taken now and then while nothing is written there.
//!
//! A copy that is damaged is written anew from the others, by the planner's own step. A disk that says it is another one, or
//! has lost or outgrown what the cluster knows, is no longer used: somebody else writes to its medium, under another name or
//! from another machine. That is believed when it is seen twice.

use crate::control::{Control, Turn};
use crate::disk::SuperblockLook;
use crate::effect::{Effect, LogEntry};
use palisade_model::Kind;
use palisade_reconcile::{StepOutcome, SuperblockState};
use palisade_words::{DeviceIndex, Name};

impl Control {
    /// A look that nobody waits for has brought this, where `known` was known before it.
    pub(crate) fn looked_at(
        &mut self,
        name: &Name,
        device: DeviceIndex,
        (known, found): (SuperblockState, Result<SuperblockLook, String>),
        turn: &mut Turn<'_>,
    ) {
        let target = (Kind::Disk, name);
        let mut steps = self.state.under_way.keys();
        let is_busy = steps.any(|action| action.target() == target);
        let disks = &mut self.state.disks;
        let (Some(open), Some(observed)) = (
            disks.get_mut(name).filter(|open| open.index == device),
            self.state.observed.disks.get_mut(name),
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
                return turn.effects.push(Effect::DeriveFindings);
            }
        };
        let is_ours = matches!(look.superblock, SuperblockState::Ours { .. });
        let differs = look.superblock != known;
        if differs && !is_ours && open.doubt != Some(look.superblock) {
            open.doubt = Some(look.superblock);
            let disk = name.clone();
            return turn.effects.push(Effect::LookSoon { disk });
        }
        open.doubt = None;
        open.superblock_damage = look.damage;
        open.sides = look.sides;
        if differs {
            observed.superblock = look.superblock;
            turn.log(LogEntry::SuperblockChanged {
                disk: name.clone(),
                before: known,
                now: look.superblock,
            });
        }
        // At once, so that none is mended too soon to be told.
        turn.effects.push(Effect::DeriveFindings);
    }

    /// Takes over what a step has seen of a superblock.
    pub(crate) fn looked(&mut self, name: &Name, look: SuperblockLook, turn: &mut Turn<'_>) -> StepOutcome {
        let known = self.state.refused.get(name).map(|last| last.damage.clone());
        if let Some(open) = self.state.disks.get_mut(name) {
            let known = known.unwrap_or_else(|| open.superblock_damage.clone());
            let new = look.damage.iter().filter(|damage| !known.contains(damage));
            for damage in new {
                let (disk, damage) = (name.clone(), damage.clone());
                turn.log(LogEntry::SuperblockDamaged { disk, damage });
            }
            open.superblock_damage = look.damage;
            open.sides = look.sides;
        }
        if !look.mended.is_empty() {
            let (disk, mended) = (name.clone(), look.mended);
            turn.log(LogEntry::SuperblockMended { disk, mended });
        }
        StepOutcome {
            superblock: look.superblock,
            ..StepOutcome::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NodeEvent;
    use crate::testing::{Bench, name};

    fn looked(
        bench: &mut Bench,
        known: SuperblockState,
        found: Result<SuperblockState, &str>,
    ) -> Vec<Effect> {
        bench.effects.clear();
        let look = |superblock| SuperblockLook {
            superblock,
            ..SuperblockLook::default()
        };
        bench.on(NodeEvent::Looked {
            disk: name("d"),
            device: DeviceIndex(0),
            known,
            found: found.map(look).map_err(str::to_owned),
        });
        std::mem::take(&mut bench.effects)
    }

    fn known(bench: &Bench) -> SuperblockState {
        bench.control.observed.disks[&name("d")].superblock
    }

    #[test]
    fn a_stranger_is_believed_when_he_is_seen_twice() {
        let mut bench = Bench::new();
        bench.settle();
        let told = looked(&mut bench, SuperblockState::Missing, Ok(SuperblockState::Foreign));
        assert!(matches!(told[..], [Effect::LookSoon { .. }]), "{told:?}");
        assert_eq!(known(&bench), SuperblockState::Missing);
        // In between it was as ever: no doubt is left.
        looked(&mut bench, SuperblockState::Missing, Ok(SuperblockState::Missing));
        looked(&mut bench, SuperblockState::Missing, Ok(SuperblockState::Foreign));
        assert_eq!(known(&bench), SuperblockState::Missing);
        looked(&mut bench, SuperblockState::Missing, Ok(SuperblockState::Foreign));
        assert_eq!(known(&bench), SuperblockState::Foreign);
    }

    #[test]
    fn a_look_from_before_a_change_shows_nothing() {
        let mut bench = Bench::new();
        bench.settle();
        let ours = SuperblockState::Ours {
            generation: palisade_words::Generation(3),
            flawed: false,
        };
        assert!(looked(&mut bench, ours, Err("EIO")).is_empty());
        let told = looked(&mut bench, SuperblockState::Missing, Err("EIO"));
        assert!(matches!(told[..], [Effect::DeriveFindings]), "{told:?}");
        let damage: Vec<_> = bench.control.superblock_damage().collect();
        assert_eq!(damage, [(&name("d"), &["EIO".to_owned()][..])]);
    }
}
