//! From any state towards any other, planning comes to an end at what is wanted, and every state on the way is a
//! good one: the simulated node stops the test otherwise.

mod node;

use node::{Node, apply, begin, name};
use palisade_model::Cluster;
use palisade_reconcile::{Action, Step, plan, waits};
use palisade_words::Generation;
use proptest::prelude::*;

/// An operator's command, as [`apply`] takes it; mostly such as meet each other: few names, coming and going.
fn command() -> impl Strategy<Value = (u8, u8, u8, u8, bool)> {
    let kind = prop_oneof![2 => 0u8..2, 3 => Just(2u8), 2 => Just(3u8), 3 => 4u8..7, 3 => Just(7u8), 4 => 8u8..10, 2 => Just(10u8), 4 => Just(11u8)];
    (kind, 0u8..3, 0u8..3, 0u8..6, any::<bool>())
}

/// Which steps fail in a round: some at random, or all of a kind, as when a drain hangs or a disk is full.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    Random(u32),
    Away,
    Kind(&'static str),
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let kinds = [
        "withdraw_socket",
        "clear_route",
        "close_disk",
        "write_superblock",
        "grow_disk",
        "reopen_socket",
    ];
    prop_oneof![
        3 => Just(Trouble::None),
        2 => any::<u32>().prop_map(Trouble::Random),
        1 => Just(Trouble::Away),
        2 => proptest::sample::select(kinds.to_vec()).prop_map(Trouble::Kind),
    ]
}

impl Trouble {
    fn meets(&mut self, step: &Step) -> bool {
        match self {
            Trouble::None => false,
            Trouble::Random(bits) => {
                *bits = bits.rotate_left(3);
                bits.is_multiple_of(4)
            }
            Trouble::Away => matches!(
                step.action,
                Action::WithdrawSocket { .. } | Action::ClearRoute { .. } | Action::CloseDisk { .. }
            ),
            Trouble::Kind(kind) => step.action.as_str() == *kind,
        }
    }
}

/// A cluster with something to meet: a pooled file, pooled memory (which has no superblock) and a whole disk, a volume
/// on each, attached.
fn furnished() -> Cluster {
    let disks = [(0, 0, 0, 1, true), (0, 1, 0, 2, true), (0, 2, 0, 4, false)];
    let volumes = [(4, 0, 0, 1, true), (4, 1, 1, 1, true), (4, 2, 2, 1, true)];
    let attachments = [(8, 0, 0, 0, false), (8, 1, 1, 1, false), (8, 2, 2, 2, false)];
    let commands = disks.into_iter().chain(volumes).chain(attachments);
    let cluster = commands.enumerate().fold(begin(), |cluster, (serial, command)| {
        apply(&cluster, 10 + serial as u128, command)
    });
    assert_eq!(cluster.attachments.len(), 3);
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Rounds, restarts and failures in between, at random; in the end the node is as wanted.
    #[test]
    fn a_node_becomes_as_wanted(
        acts in proptest::collection::vec((command(), 0u8..12, trouble(), any::<usize>()), 1..100),
    ) {
        let mut cluster = furnished();
        let mut node = Node::default();
        node.settle(&cluster);
        for (serial, (command, act, mut trouble, turn)) in acts.into_iter().enumerate() {
            cluster = apply(&cluster, 100 + serial as u128, command);
            match act {
                0..3 => {}
                3..10 => {
                    for round in 0..act as usize - 2 {
                        node.observed.now_ms += turn as u64 % 400;
                        node.round(&cluster, turn.wrapping_add(round), &mut |step| trouble.meets(step));
                    }
                }
                10 => node.settle(&cluster),
                // The daemon ends wherever it is, with whatever is under way.
                _ => node.restart(),
            }
        }
        node.settle(&cluster);
        node.is_as_wanted(&cluster);
        prop_assert_eq!(waits(&cluster, &name("n", 0), &node.observed), vec![]);
    }

    /// A node that looks only when it has done something, or at the moment it was told, misses nothing: what is planned
    /// does not change while it sleeps, and it becomes as wanted once steps no longer fail.
    #[test]
    fn a_node_may_sleep_until_a_failed_step_is_due(
        acts in proptest::collection::vec((command(), trouble(), 1usize..6, any::<usize>()), 1..30),
    ) {
        let mut cluster = furnished();
        let mut node = Node::default();
        let last = acts.len() - 1;
        for (serial, (command, mut trouble, looks, turn)) in acts.into_iter().enumerate() {
            cluster = apply(&cluster, 100 + serial as u128, command);
            if serial == last {
                trouble = Trouble::None;
            }
            let looks = if serial == last { 500 } else { looks };
            for look in 0..looks {
                while node.round(&cluster, turn.wrapping_add(look), &mut |step| trouble.meets(step)) {}
                let due_ms = node.observed.next_retry_ms();
                let mut before = node.observed.clone();
                before.now_ms = due_ms.map_or(u64::MAX, |due_ms| due_ms - 1);
                prop_assert!(before.now_ms >= node.observed.now_ms);
                prop_assert_eq!(plan(&cluster, &name("n", 0), &before), vec![]);
                let Some(due_ms) = due_ms else { break };
                node.observed.now_ms = due_ms;
            }
        }
        prop_assert_eq!(node.observed.next_retry_ms(), None);
        node.is_as_wanted(&cluster);
    }

    /// What has been overtaken changes nothing.
    #[test]
    fn an_older_cluster_is_not_planned_for(commands in proptest::collection::vec(command(), 2..40)) {
        let mut clusters = vec![begin()];
        for (serial, command) in commands.into_iter().enumerate() {
            clusters.push(apply(&clusters[serial], 100 + serial as u128, command));
        }
        let latest: &Cluster = &clusters[clusters.len() - 1];
        let mut node = Node::default();
        node.settle(latest);
        let reached: Generation = node.observed.generation;
        for older in clusters.iter().filter(|older| older.generation < reached) {
            prop_assert_eq!(plan(older, &name("n", 0), &node.observed), vec![]);
            prop_assert!(!waits(older, &name("n", 0), &node.observed).is_empty());
        }
    }
}
