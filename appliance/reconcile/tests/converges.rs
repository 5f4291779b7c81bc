//! From any state towards any other, planning comes to an end at what is wanted, and every state on the way is a
//! good one: the simulated node stops the test otherwise.

mod node;

use node::{Node, apply, begin, name};
use palisade_model::{Cluster, Generation};
use palisade_reconcile::{plan, waits};
use proptest::prelude::*;

/// An operator's wish, as [`apply`] takes it.
fn wish() -> impl Strategy<Value = (u8, u8, u8, u8, bool)> {
    (0u8..12, 0u8..3, 0u8..4, 0u8..6, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Rounds, restarts and failures in between, at random; in the end the node is as wanted.
    #[test]
    fn a_node_becomes_as_wanted(
        acts in proptest::collection::vec((wish(), 0u8..10, any::<u32>()), 1..60),
    ) {
        let mut cluster = begin();
        let mut node = Node::default();
        for (serial, (wish, act, chance)) in acts.into_iter().enumerate() {
            cluster = apply(&cluster, 100 + serial as u128, wish);
            let turn = chance as usize;
            match act {
                0..4 => {}
                4..8 => {
                    let mut bits = chance;
                    let mut fails = |_: &_| {
                        bits = bits.rotate_left(3);
                        bits.is_multiple_of(4)
                    };
                    node.observed.now_ms += u64::from(chance % 400);
                    node.round(&cluster, turn, &mut fails);
                }
                8 => node.settle(&cluster),
                _ => {
                    // Before it stops, what it had agreed to is on record: a medium is not blank by then.
                    node.settle(&cluster);
                    node.restart(&cluster);
                }
            }
        }
        node.settle(&cluster);
        node.is_as_wanted(&cluster);
        prop_assert_eq!(waits(&cluster, &name("n", 0), &node.observed), vec![]);
    }

    /// What has been overtaken changes nothing.
    #[test]
    fn an_older_cluster_is_not_planned_for(wishes in proptest::collection::vec(wish(), 2..40)) {
        let mut clusters = vec![begin()];
        for (serial, wish) in wishes.into_iter().enumerate() {
            clusters.push(apply(&clusters[serial], 100 + serial as u128, wish));
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
