//! Whatever operators send, in whatever order, the cluster stays in order.

mod made;

use made::commands;
use palisade_model::*;
use palisade_words::Name;
use proptest::prelude::*;

/// Who agrees: the members, and whether they have a vote.
fn members(cluster: &Cluster) -> Vec<(&Name, bool)> {
    let members = cluster.nodes.iter().filter(|(_, node)| node.is_active());
    members.map(|(name, node)| (name, node.votes())).collect()
}

fn run(commands: &[Command]) -> (Cluster, Vec<Result<Outcome, Refusal>>) {
    let mut cluster = Cluster::empty();
    let mut outcomes = Vec::new();
    for command in commands {
        match cluster.apply(command) {
            Ok((next, outcome)) => {
                cluster = next;
                outcomes.push(Ok(outcome));
            }
            Err(refusal) => outcomes.push(Err(refusal)),
        }
    }
    (cluster, outcomes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_cluster_stays_in_order_and_its_generation_grows_by_one(commands in commands()) {
        let mut cluster = Cluster::empty();
        for command in &commands {
            let before = cluster.clone();
            let Ok((next, outcome)) = cluster.apply(command) else {
                prop_assert_eq!(&cluster, &before);
                continue;
            };
            prop_assert_eq!(check(&next), Ok(()));
            if let Outcome::Unchanged { .. } = outcome {
                prop_assert_eq!(&next, &before);
            } else {
                prop_assert_eq!(next.generation, before.generation.next());
                prop_assert_eq!(outcome.revision(), next.generation);
            }
            prop_assert!(next.epoch >= before.epoch);
            prop_assert!(next.feature_level >= before.feature_level);
            prop_assert!(next.feature_level <= next.common_feature_level());
            for (name, node) in &before.nodes {
                let after = next.nodes.get(name).filter(|after| after.uuid == node.uuid);
                let Some(after) = after else { continue };
                // Whoever has heard of a run never takes an earlier one for it.
                let is_told = after.feature_level != node.feature_level || after.has_joined() != node.has_joined();
                prop_assert!(after.incarnation > node.incarnation || (after.incarnation == node.incarnation && !is_told));
                prop_assert!(after.has_joined() || !node.has_joined());
                prop_assert_eq!(next.epoch > before.epoch, members(&next) != members(&before));
            }
            // What a token has let in, nobody else comes in by, and no node gets another key.
            for token in before.tokens.values().filter(|token| token.used_by.is_some()) {
                let after = next.tokens.values().find(|after| after.hash == token.hash);
                prop_assert!(after.is_none_or(|after| after.used_by == token.used_by || after.created > token.created));
            }
            for (name, node) in before.nodes.iter().filter(|(_, node)| node.key.is_some()) {
                let after = next.nodes.get(name).filter(|after| after.uuid == node.uuid);
                prop_assert!(after.is_none_or(|after| after.key == node.key));
            }
            for (name, volume) in &before.volumes {
                let after = next.volumes.get(name).filter(|after| after.uuid == volume.uuid);
                let Some(after) = after else { continue };
                prop_assert!(after.usable_sectors() >= volume.usable_sectors() || after.deleting);
                prop_assert!(after.route_generation() >= volume.route_generation());
                // A route is compiled anew only when something changes for guests.
                if after.usable_sectors() != volume.usable_sectors() {
                    prop_assert_eq!(after.route_generation(), next.generation);
                }
            }
            for (name, attachment) in &next.attachments {
                let was = before.attachments.get(name).filter(|was| was.created == attachment.created);
                let keeps = was.is_none_or(|was| was.uuid == attachment.uuid || was.uuid.is_nil());
                prop_assert!(keeps, "the permanent id of {} has changed", name);
            }
            for (name, disk) in &before.disks {
                if let Some(after) = next.disks.get(name) {
                    prop_assert!(after.sectors >= disk.sectors && after.revision >= disk.revision);
                    prop_assert!(after.extents_revision >= disk.extents_revision);
                }
            }
            for (name, volume) in &before.volumes {
                let Some(after) = next.volumes.get(name) else { continue };
                prop_assert!(after.sectors >= volume.sectors);
                // What a guest has written stays where it is: growth adds behind, and never moves.
                let (old, new) = (volume.all_extents(), after.all_extents());
                let last = old.len() - 1;
                prop_assert_eq!(&old[..last], &new[..last]);
                prop_assert_eq!((&old[last].disk, old[last].disk_lba), (&new[last].disk, new[last].disk_lba));
                prop_assert!(new[last].sectors >= old[last].sectors);
            }
            cluster = next;
        }
    }

    /// A replica that has heard of every command by its text, and starts anew from the text of its cluster between any
    /// two: nothing of what decides may be outside the cluster and the command, or be lost on the way.
    #[test]
    fn the_same_commands_give_the_same_cluster_everywhere(commands in commands(), restarts in any::<u64>()) {
        let (mut here, mut there) = (Cluster::empty(), Cluster::empty());
        for (number, command) in commands.iter().enumerate() {
            let heard: Command = serde_json::from_str(&serde_json::to_string(command).unwrap()).unwrap();
            let (mine, theirs) = (here.apply(command), there.apply(&heard));
            prop_assert_eq!(mine.as_ref().err(), theirs.as_ref().err());
            if let (Ok((mine, outcome)), Ok((theirs, other))) = (mine, theirs) {
                prop_assert_eq!(outcome, other);
                (here, there) = (mine, theirs);
            }
            if restarts.rotate_right(number as u32).is_multiple_of(2) {
                there = serde_json::from_str(&serde_json::to_string(&there).unwrap()).unwrap();
            }
            prop_assert_eq!(serde_json::to_string(&here).unwrap(), serde_json::to_string(&there).unwrap());
        }
    }

    #[test]
    fn refused_commands_leave_no_trace(commands in commands()) {
        let (cluster, outcomes) = run(&commands);
        let accepted: Vec<_> =
            commands.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(c, _)| c.clone()).collect();
        prop_assert_eq!(run(&accepted).0, cluster);
    }

    #[test]
    fn every_refusal_has_a_code_and_a_sentence(commands in commands()) {
        for refusal in run(&commands).1.into_iter().filter_map(Result::err) {
            let code = refusal.code();
            prop_assert!(!code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            prop_assert!(refusal.to_string().len() > 10, "{}", refusal);
        }
    }

    #[test]
    fn clusters_and_commands_survive_json(commands in commands()) {
        let (cluster, _) = run(&commands);
        let text = serde_json::to_string(&cluster).unwrap();
        prop_assert_eq!(serde_json::from_str::<Cluster>(&text).unwrap(), cluster);
        let text = serde_json::to_string(&commands).unwrap();
        prop_assert_eq!(serde_json::from_str::<Vec<Command>>(&text).unwrap(), commands);
    }

    #[test]
    fn free_space_is_what_no_volume_has(commands in commands()) {
        use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
        let (cluster, _) = run(&commands);
        for (name, disk) in cluster.disks.iter().filter(|(_, disk)| disk.usage == Usage::Pooled) {
            let units = (disk.data_end - disk.data_start) / UNIT;
            let used: u64 = cluster.extents_on(name).map(|(_, _, e)| e.sectors.div_ceil(UNIT)).sum();
            prop_assert_eq!(allocation::free_sectors(&cluster, name), (units - used) * UNIT);
        }
    }
}
