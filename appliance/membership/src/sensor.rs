//! Who is there: judged by heartbeats over every link, and proposed for eviction when it is not (issue 10, "Sensing"; F14 to F23).
//!
//! There is no monitor (F14): each node tells all others whom it hears, with a row of bits, and passes on the latest rows of others. So all
//! that reach each other, if only by way of a third one, come to the same matrix; and from the same matrix to the same group
//! of those who stay, since that is found by a rule and not by chance ([`clique`](crate::clique)). It has the most voters, then
//! the most weight, then the most members, then the lowest ids. It is proposed that all others be evicted, when the group has a
//! majority of the voters, and nothing has changed for a while. The sensor proposes; agreement decides.
//!
//! ```text
//!   last sign of life -- silent_after --> a bit is gone -- spreads --> the same matrix on all -- held_for --> proposed
//! ```
//!
//! - One link that lives is enough to be heard (F23). A bit that is gone comes back only after an unbroken time, so that a node that
//!   comes and goes does not make the group come and go.
//! - A node that has started, or has stood still, says of nobody that it does not hear it before a lease has passed: others may have been
//!   evicted and have stopped meanwhile, or it is itself what was not there. It proposes nothing in that time.
//! - A node whose own heartbeats do not arrive learns that from the rows of the others (F18).

mod peer;

pub use peer::{Limp, PeerState};

use crate::clique::{Hearing, bit, places};
use crate::clock_watch::ClockReading;
use crate::times::LeaseTimes;
use crate::voter_sets::VoterSets;
use palisade_block::Nanos;
use palisade_wire::{HEARING_PLACES_MAX, HearingRow, Heartbeat};
use palisade_words::{Epoch, Incarnation, LinkIndex, Uuid};
use peer::SensedPeer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Heartbeats of our own of which it is known when they were sent: echoes of older ones say nothing.
const SENT_MAX: usize = 64;

/// Nodes that are heard and are no members, of which something is remembered.
const STRANGERS_MAX: usize = 64;

/// The members, as they were agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SensedMembers {
    /// The number of the membership.
    pub epoch: Epoch,
    /// Each member, and its weight: ties go to the side with more. At most 64; further ones are not looked at.
    pub weights: BTreeMap<Uuid, u32>,
    /// Of whom a majority is needed.
    pub voters: VoterSets,
}

/// Who a node is, in this run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SensorIdentity {
    /// Which node.
    pub node: Uuid,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// Which run of its machine.
    pub boot: Uuid,
    /// Drawn by chance at each start.
    pub nonce: u64,
}

/// These are to be evicted, in the judgement of this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evict {
    /// The membership of which that was judged: proposed for another one, it counts for nothing.
    pub epoch: Epoch,
    /// Who.
    pub nodes: BTreeSet<Uuid>,
}

/// A heartbeat counts for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeartbeatRefusal {
    /// It is of an earlier run of its node.
    #[error(
        "node {node} was heard as run {latest}, and this is run {incarnation}: it is late, or the program runs twice"
    )]
    EarlierRun {
        /// Whose.
        node: Uuid,
        /// Which run it is of.
        incarnation: Incarnation,
        /// The latest one known.
        latest: Incarnation,
    },
    /// Two programs say to be one run of one node.
    #[error(
        "node {node} is there twice, both times as run {incarnation}: its identity was copied. Stop one of them"
    )]
    Twice {
        /// Which node.
        node: Uuid,
        /// As which run.
        incarnation: Incarnation,
    },
    /// It came twice, or was overtaken.
    #[error("heartbeat {sequence} of node {node} is not later than the last one over its link")]
    NotNew {
        /// Whose.
        node: Uuid,
        /// Its number.
        sequence: u64,
    },
    /// More strangers than can be told apart.
    #[error("node {node} is no member, and too many others that are none are heard already")]
    TooManyStrangers {
        /// Whose.
        node: Uuid,
    },
}

/// What is known of whom a member hears.
#[derive(Clone, Copy, Debug)]
struct Known {
    row: HearingRow,
    /// When it was new.
    at: Nanos,
}

/// One node's judgement of all others. All times are of its own clock.
#[derive(Clone, Debug)]
pub struct Sensor {
    me: SensorIdentity,
    times: LeaseTimes,
    members: SensedMembers,
    /// The members by place.
    order: Vec<Uuid>,
    peers: BTreeMap<Uuid, SensedPeer>,
    rows: BTreeMap<u8, Known>,
    started: Nanos,
    /// When each member became one, of those that came since the start.
    came: BTreeMap<Uuid, Nanos>,
    /// Until then this node does not say whom it does not hear, and proposes nothing.
    settles: Nanos,
    /// When it was last told the time.
    told: Nanos,
    sequence: u64,
    sent: VecDeque<(u64, Nanos)>,
    next_beat: Nanos,
    /// What would be proposed, and since when it is that.
    held: Option<(Evict, Nanos)>,
}

impl Sensor {
    /// A node that has just started.
    pub fn new(me: SensorIdentity, times: LeaseTimes, members: SensedMembers, now: Nanos) -> Sensor {
        Sensor {
            me,
            times,
            order: order(&members),
            members,
            peers: BTreeMap::new(),
            rows: BTreeMap::new(),
            started: now,
            came: BTreeMap::new(),
            settles: now.after(times.ended_after()),
            told: now,
            sequence: 0,
            sent: VecDeque::new(),
            next_beat: now,
            held: None,
        }
    }

    /// Others are members now. Who was there a moment ago is still: whom it hears by the new order is learnt from its next
    /// heartbeat, and until then nothing is held against it. Nor is anything against one that has only come: it may not have
    /// said its first word yet.
    pub fn members_are(&mut self, members: SensedMembers) {
        if members == self.members {
            return;
        }
        let before = std::mem::replace(&mut self.order, order(&members));
        self.members = members;
        self.held = None;
        self.came.retain(|node, _| self.order.binary_search(node).is_ok());
        for node in self.order.iter().filter(|node| !before.contains(node)) {
            self.came.insert(*node, self.told);
        }
        for (place, known) in std::mem::take(&mut self.rows) {
            let node = before.get(usize::from(place));
            if let Some(place) = node.and_then(|node| self.place(*node)) {
                let row = unknown_row(place, known.row.incarnation, known.row.sequence);
                self.rows.insert(place, Known { row, at: known.at });
            }
        }
    }

    /// These are configured, members or not: of others nothing is remembered.
    pub fn configured_are(&mut self, nodes: &BTreeSet<Uuid>) {
        self.peers.retain(|node, _| nodes.contains(node));
    }

    /// There are so many links to a node, numbered from 0: those over which nothing comes are lost, if ever anything did or not, and
    /// others are none.
    pub fn links_are(&mut self, node: Uuid, count: u8) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.links_are(count);
        }
    }

    /// Other times hold.
    pub fn times_are(&mut self, times: LeaseTimes, now: Nanos) {
        self.times = times;
        self.next_beat = self.next_beat.min(now.after(times.heartbeat_every()));
    }

    /// Each input tells the time. A node that was not told it for long has stood still: it has not looked, and what came meanwhile waits
    /// to be taken.
    fn told(&mut self, now: Nanos) {
        let span = now.since(self.told);
        if span.0 > self.times.silent_after().0 / 2 {
            self.peers.values_mut().for_each(|peer| peer.stood_still(span));
            self.rows
                .values_mut()
                .for_each(|known| known.at = known.at.after(span));
            self.settles = now.after(self.times.ended_after());
            self.held = None;
        }
        self.told = self.told.max(now);
    }

    /// Whether it is time for heartbeats: one is then to be sent over each link to each node that is configured, member or not.
    pub fn beats(&mut self, now: Nanos) -> bool {
        self.told(now);
        if now < self.next_beat {
            return false;
        }
        self.next_beat = now.after(self.times.heartbeat_every());
        self.sequence += 1;
        self.sent.push_back((self.sequence, now));
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
        if let Some(place) = self.place(self.me.node) {
            let row = HearingRow {
                place,
                is_settled: now >= self.settles,
                incarnation: self.me.incarnation,
                sequence: self.sequence,
                heard: self.heard_places(now),
            };
            self.rows.insert(place, Known { row, at: now });
        }
        true
    }

    /// The heartbeat for one link to one node, after [`beats`](Sensor::beats) has said so.
    pub fn heartbeat(&self, peer: Uuid, link: LinkIndex, now: Nanos) -> Heartbeat {
        let echo = self.peers.get(&peer).and_then(|peer| peer.echo(link));
        let is_fresh = |known: &&Known| self.is_fresh(known, now);
        Heartbeat {
            link,
            epoch: self.members.epoch,
            node: self.me.node,
            boot: self.me.boot,
            incarnation: self.me.incarnation,
            nonce: self.me.nonce,
            sequence: self.sequence,
            sent_ns: now.0,
            echo: echo.map(|(sequence, at)| (sequence, now.since(at).0)),
            rows: self
                .rows
                .values()
                .filter(is_fresh)
                .map(|known| known.row)
                .collect(),
        }
    }

    /// A heartbeat has come. What comes back is a reading of its sender's clock, for
    /// [`LeaseHolder::clock_heard`](crate::LeaseHolder::clock_heard).
    ///
    /// # Errors
    /// It counts for nothing.
    pub fn heard(&mut self, heartbeat: &Heartbeat, now: Nanos) -> Result<ClockReading, HeartbeatRefusal> {
        self.told(now);
        let (node, incarnation) = (heartbeat.node, heartbeat.incarnation);
        if node == self.me.node {
            return Err(HeartbeatRefusal::Twice { node, incarnation });
        }
        self.admit(heartbeat, now)?;
        let echo = heartbeat.echo.map(|(sequence, _)| sequence);
        let echoed = self.sent.iter().find(|(sequence, _)| Some(*sequence) == echo);
        let echoed = echoed.map(|(_, at)| *at);
        let times = self.times;
        let is_new = self.peers.get_mut(&node).is_some_and(|peer| {
            // A run that has only just started may echo nothing yet.
            peer.heard(heartbeat, echoed, &times, now)
        });
        if !is_new {
            let sequence = heartbeat.sequence;
            return Err(HeartbeatRefusal::NotNew { node, sequence });
        }
        if heartbeat.epoch == self.members.epoch {
            for row in &heartbeat.rows {
                self.learn(row, now);
            }
        } else if let Some(place) = self.place(node) {
            // It counts places by another membership: that it is there is all that it says.
            self.learn(&unknown_row(place, incarnation, heartbeat.sequence), now);
        }
        Ok(ClockReading {
            node,
            boot: heartbeat.boot,
            clock: Nanos(heartbeat.sent_ns),
        })
    }

    /// Whether it is the latest run of its node, and the only one.
    fn admit(&mut self, heartbeat: &Heartbeat, now: Nanos) -> Result<(), HeartbeatRefusal> {
        let (node, incarnation) = (heartbeat.node, heartbeat.incarnation);
        match self.peers.get(&node) {
            Some(known) if incarnation < known.incarnation => {
                return Err(HeartbeatRefusal::EarlierRun {
                    node,
                    incarnation,
                    latest: known.incarnation,
                });
            }
            Some(known) if incarnation == known.incarnation => {
                return match heartbeat.nonce == known.nonce {
                    true => Ok(()),
                    false => Err(HeartbeatRefusal::Twice { node, incarnation }),
                };
            }
            _ => {}
        }
        let strangers = self
            .peers
            .keys()
            .filter(|node| self.place(**node).is_none())
            .count();
        if strangers >= STRANGERS_MAX && self.place(node).is_none() {
            return Err(HeartbeatRefusal::TooManyStrangers { node });
        }
        self.peers.insert(node, SensedPeer::new(heartbeat, now));
        Ok(())
    }

    fn learn(&mut self, row: &HearingRow, now: Nanos) {
        let is_later = self.rows.get(&row.place).is_none_or(|known| {
            (row.incarnation, row.sequence) > (known.row.incarnation, known.row.sequence)
        });
        let is_mine = self.place(self.me.node) == Some(row.place);
        if is_later && !is_mine && usize::from(row.place) < self.order.len() {
            self.rows.insert(row.place, Known { row: *row, at: now });
        }
    }

    /// How a node seems to be; one that was never heard is silent since this node has started.
    pub fn state(&self, node: Uuid, now: Nanos) -> PeerState {
        match self.peers.get(&node) {
            Some(peer) => peer.state(&self.times, now),
            None => PeerState::Silent { since: self.started },
        }
    }

    /// Since when a node is heard without a silence, for whoever takes back who was evicted; `None` when it is not heard.
    pub fn unbroken_since(&self, node: Uuid, now: Nanos) -> Option<Nanos> {
        let peer = self.peers.get(&node)?;
        peer.is_heard(&self.times, now).then(|| peer.unbroken_since())
    }

    /// When a node was last heard; `None` when it never was.
    pub fn last_heard(&self, node: Uuid) -> Option<Nanos> {
        self.peers.get(&node)?.last_heard()
    }

    /// The latest run of a node that was heard.
    pub fn run_of(&self, node: Uuid) -> Option<Incarnation> {
        self.peers.get(&node).map(|peer| peer.incarnation)
    }

    /// Whether this node has been there for long enough to say whom it does not hear.
    pub fn is_settled(&self, now: Nanos) -> bool {
        now >= self.settles
    }

    /// Whether the others stay together without this node: it has a row of nobody that hears it.
    pub fn is_left_out(&self, now: Nanos) -> bool {
        let Some(me) = self.place(self.me.node) else {
            return true;
        };
        let mut others = self
            .rows
            .iter()
            .filter(|(place, known)| **place != me && self.is_fresh(known, now));
        let hears_me = |known: &Known| !known.row.is_settled || known.row.heard & bit(me.into()) != 0;
        self.order.len() > 1 && !others.any(|(_, known)| hears_me(known))
    }

    /// Who is to be evicted, when this node is one of those who stay, they have a majority of the voters, and that has not changed for
    /// a while. Asked each time that something has come, and at [`next`](Sensor::next).
    pub fn proposal(&mut self, now: Nanos) -> Option<Evict> {
        self.told(now);
        let wanted = match now >= self.settles {
            true => self.wanted(now),
            false => None,
        };
        let Some(wanted) = wanted else {
            self.held = None;
            return None;
        };
        let since = match &self.held {
            Some((held, since)) if *held == wanted => *since,
            _ => now,
        };
        self.held = Some((wanted.clone(), since));
        (now.since(since) >= self.times.held_for()).then_some(wanted)
    }

    fn wanted(&self, now: Nanos) -> Option<Evict> {
        let stays = self.group(now);
        let has = |node: Uuid| {
            self.place(node)
                .is_some_and(|place| stays & bit(place.into()) != 0)
        };
        if !has(self.me.node) || !self.members.voters.has_majority(has) {
            return None;
        }
        let grace = self.times.ended_after().after(self.times.silent_after());
        let has_come = |node: &Uuid| self.came.get(node).is_some_and(|came| now.since(*came) < grace);
        let order = self.order.iter().copied();
        let nodes: BTreeSet<Uuid> = order.filter(|node| !has(*node) && !has_come(node)).collect();
        (!nodes.is_empty()).then_some(Evict {
            epoch: self.members.epoch,
            nodes,
        })
    }

    /// Those who stay, by the rows that are known.
    fn group(&self, now: Nanos) -> u64 {
        let mut heard = [0u64; HEARING_PLACES_MAX];
        let mut among = 0;
        for known in self.rows.values().filter(|known| self.is_fresh(known, now)) {
            let place = usize::from(known.row.place);
            among |= bit(place);
            if let Some(heard) = heard.get_mut(place) {
                *heard = if known.row.is_settled {
                    known.row.heard
                } else {
                    u64::MAX
                };
            }
        }
        let mine = self.place(self.me.node).map(usize::from);
        if let Some(heard) = mine.and_then(|mine| heard.get_mut(mine)) {
            *heard = self.heard_places(now);
        }
        let hears = |from: usize, to: usize| heard.get(from).is_some_and(|heard| heard & bit(to) != 0);
        let both = std::array::from_fn(|place| {
            let both = places(among).filter(|other| hears(place, *other) && hears(*other, place));
            both.fold(0, |set, other| set | bit(other))
        });
        let mut weights = [0; HEARING_PLACES_MAX];
        let mut voters = 0;
        for (place, node) in self.order.iter().enumerate() {
            if let (Some(weight), Some(given)) = (weights.get_mut(place), self.members.weights.get(node)) {
                *weight = *given;
            }
            if self.members.voters.contains(*node) {
                voters |= bit(place);
            }
        }
        let hearing = Hearing {
            both: &both,
            voters,
            weights: &weights,
        };
        hearing.best(among)
    }

    /// Whether its node was there not long ago, as far as anybody knows.
    fn is_fresh(&self, known: &Known, now: Nanos) -> bool {
        now.since(known.at) <= self.times.silent_after()
    }

    /// The places of those who are heard, this node among them.
    fn heard_places(&self, now: Nanos) -> u64 {
        let is_heard = |node: &Uuid| {
            let peer = self.peers.get(node);
            *node == self.me.node || peer.is_some_and(|peer| peer.is_heard(&self.times, now))
        };
        let heard = self.order.iter().enumerate().filter(|(_, node)| is_heard(node));
        heard.fold(0, |set, (place, _)| set | bit(place))
    }

    fn place(&self, node: Uuid) -> Option<u8> {
        self.order.binary_search(&node).ok().map(|place| place as u8)
    }

    /// When to ask again, if nothing comes before.
    pub fn next(&self) -> Nanos {
        let due = self
            .held
            .as_ref()
            .map(|(_, since)| since.after(self.times.held_for()));
        // What is proposed already is proposed again with the next heartbeat.
        due.filter(|due| *due > self.told)
            .map_or(self.next_beat, |due| due.min(self.next_beat))
    }
}

/// The row of a node that is there, and of which it is not known whom it hears.
fn unknown_row(place: u8, incarnation: Incarnation, sequence: u64) -> HearingRow {
    HearingRow {
        place,
        is_settled: false,
        incarnation,
        sequence,
        heard: 0,
    }
}

fn order(members: &SensedMembers) -> Vec<Uuid> {
    members.weights.keys().copied().take(HEARING_PLACES_MAX).collect()
}

#[cfg(test)]
mod tests;
