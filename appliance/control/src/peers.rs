//! Other nodes as devices of this one: a volume whose disks another node reaches has a route to that node, and what that node
//! does not do is asked again.
//!
//! A node that is asked may not have heard of a mapping yet that this one knows, or know a newer one; it may have lost its way to
//! the disk, or be gone. The requests concerned are parked with their reactors, of which none hears anything; they are sent again
//! by the route of that moment, soon at first and then less often. Until somebody says that they are to fail they wait, and that
//! they do is seen.

use crate::control::{Control, Turn};
use crate::effect::Effect;
use crate::state::NodeState;
use palisade_block::Nanos;
use palisade_model::Cluster;
use palisade_words::limits::{DEVICES_MAX, DISKS_MAX};
use palisade_words::{DeviceIndex, Epoch, Name, VolumeIndex};
use std::collections::BTreeSet;

/// What was parked is sent again after so long for the first time. Most often the other node has heard of the change by then.
const AGAIN_FIRST: Nanos = Nanos::from_millis(5);

/// And after so long at most.
const AGAIN_MOST: Nanos = Nanos::from_secs(1);

/// Without a fault for so long, the next one is the first again.
const CALM: Nanos = Nanos::from_secs(5);

/// When the parked requests of a volume are sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskedAgain {
    /// At this moment; `None`: they were, and nothing was parked since.
    due: Option<Nanos>,
    /// How long the wait was.
    wait: Nanos,
    /// When it was over, or will be.
    at: Nanos,
}

impl NodeState {
    /// The number of another node as a device, a new one if it has none. Numbers of nodes that have left the cluster are given to
    /// others: no route leads to such a node.
    pub(crate) fn peer_device(&mut self, node: &Name, cluster: &Cluster) -> Option<DeviceIndex> {
        self.peers.retain(|known, _| cluster.nodes.contains_key(known));
        if let Some(device) = self.peers.get(node) {
            return Some(*device);
        }
        let used: BTreeSet<u16> = self.peers.values().map(|device| device.0).collect();
        let free = (DISKS_MAX as u16..DEVICES_MAX as u16).find(|device| !used.contains(device))?;
        self.peers.insert(node.clone(), DeviceIndex(free));
        Some(DeviceIndex(free))
    }

    /// The node that a device is.
    pub fn peer_of(&self, device: DeviceIndex) -> Option<&Name> {
        let mut peers = self.peers.iter();
        peers.find(|(_, known)| **known == device).map(|(name, _)| name)
    }
}

impl Control {
    /// Requests of a volume are parked by another node's answer, or by the loss of it.
    pub(crate) fn parked_by_peer(&mut self, volume: VolumeIndex, now: Nanos) {
        let again = self.state.again.entry(volume).or_insert(AskedAgain {
            due: None,
            wait: Nanos(0),
            at: now,
        });
        if again.due.is_some() {
            return;
        }
        let is_first = again.wait == Nanos(0) || now.since(again.at) >= CALM;
        again.wait = match is_first {
            true => AGAIN_FIRST,
            false => Nanos(again.wait.0.saturating_mul(2).min(AGAIN_MOST.0)),
        };
        again.at = now.after(again.wait);
        again.due = Some(again.at);
    }

    /// Another node answers again: nobody waits any longer.
    pub(crate) fn peer_up(&mut self, node: &Name, turn: &Turn<'_>) {
        let routes = &self.state.observed.routes;
        let led_there = routes.values().filter(|route| route.reached_by == *node);
        for index in led_there.map(|route| VolumeIndex(route.index)) {
            if let Some(again) = self.state.again.get_mut(&index)
                && again.due.is_some()
            {
                again.due = Some(turn.now);
            }
        }
    }

    /// Has routes said anew whose time it is: what is parked is sent by them.
    pub(crate) fn ask_again(&mut self, now: Nanos) {
        let is_due = |again: &&mut AskedAgain| again.due.is_some_and(|due| due <= now);
        let due: Vec<VolumeIndex> = (self.state.again.iter_mut())
            .filter_map(|(volume, again)| {
                let again = Some(again).filter(is_due)?;
                again.due = None;
                Some(*volume)
            })
            .collect();
        for index in due {
            let mut routes = self.state.observed.routes.values_mut();
            if let Some(route) = routes.find(|route| route.index == index.0) {
                // As if it had been said in no membership: the next plan says it again.
                route.epoch = Epoch(0);
            }
        }
    }

    /// When that is next.
    pub(crate) fn asks_again_at(&self) -> Option<Nanos> {
        self.state.again.values().filter_map(|again| again.due).min()
    }

    /// The device of the node that reaches a volume's disks, which all reactors use from now on.
    pub(crate) fn use_peer(&mut self, node: &Name, turn: &mut Turn<'_>) -> Option<DeviceIndex> {
        let is_new = !self.state.peers.contains_key(node);
        let device = self.state.peer_device(node, turn.cluster)?;
        if is_new {
            turn.effects.push(Effect::UsePeer {
                node: node.clone(),
                device,
            });
        }
        Some(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, create_volume, name};
    use palisade_model::Node;
    use palisade_words::{Generation, Uuid};
    use std::sync::Arc;

    fn asked(bench: &mut Bench) -> Vec<Name> {
        let effects = std::mem::take(&mut bench.effects).into_iter();
        effects
            .filter_map(|effect| match effect {
                Effect::UsePeer { node, .. } => Some(node),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn nobody_is_asked_before_the_others_know_this_run() {
        let mut bench = Bench::new();
        bench.control.may_ask(false);
        bench.apply(create_volume("v", 20));
        bench.attach("a");
        let cluster = Arc::make_mut(&mut bench.cluster);
        cluster.nodes.insert(name("m"), Node::of(Uuid(3), Generation(1)));
        cluster.disks.get_mut(&name("d")).unwrap().node = name("m");
        bench.changed();
        assert_eq!(asked(&mut bench), Vec::new());
        assert!(!bench.control.observed.routes.contains_key(&name("v")));
        bench.control.may_ask(true);
        bench.now = Nanos(bench.now.0 + Nanos::from_secs(60).0);
        bench.changed();
        assert_eq!(asked(&mut bench), [name("m")]);
    }
}
