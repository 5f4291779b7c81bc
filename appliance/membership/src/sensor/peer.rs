//! What is known of one other node: how it was heard over each link, and what it has heard of us.

use crate::times::LeaseTimes;
use palisade_block::Nanos;
use palisade_wire::Heartbeat;
use palisade_words::{Incarnation, LinkIndex};
use std::collections::{BTreeMap, BTreeSet};

/// Looks at how long answers take, and at how late heartbeats come, are taken over so many.
const LOOKS: u32 = 16;

/// How a peer seems to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// It hears and is heard, on all links.
    Alive,
    /// It hears and is heard, and something is wrong all the same.
    Limping(Limp),
    /// It is heard and does not hear us: the last that it has shown to have heard was sent then, if anything was.
    OneWay {
        /// When that was sent.
        since: Option<Nanos>,
    },
    /// Nothing was heard of it.
    Silent {
        /// Since when: the last time it was, or this node started.
        since: Nanos,
    },
}

/// What is wrong with a node that lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Limp {
    /// Nothing comes over these links, though it comes over others.
    LinksLost(Vec<LinkIndex>),
    /// Heartbeats come late on all of them; so long was the longest wait of late.
    Late {
        /// On the best link.
        gap: Nanos,
    },
    /// It takes long to answer, over each link.
    Slow {
        /// The shortest round trip of late.
        round_trip: Nanos,
    },
}

#[derive(Clone, Copy, Debug)]
struct Link {
    heard: Nanos,
    sequence: u64,
    /// Looks taken in this stretch and the one before: how many, the longest gap, the shortest round trip.
    now: Stretch,
    before: Stretch,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    looks: u32,
    gap: Nanos,
    round_trip: Nanos,
}

const FRESH: Stretch = Stretch {
    looks: 0,
    gap: Nanos(0),
    round_trip: Nanos(u64::MAX),
};

/// One other node.
#[derive(Clone, Debug)]
pub(crate) struct SensedPeer {
    pub incarnation: Incarnation,
    pub nonce: u64,
    links: BTreeMap<LinkIndex, Link>,
    /// There are at least so many links: over some nothing may ever have come.
    expected: u8,
    /// Since when there was no silence.
    unbroken: Nanos,
    was_silent: bool,
    /// When that of ours was sent which it has shown to have heard last.
    hears_us: Option<Nanos>,
}

impl SensedPeer {
    pub fn new(heartbeat: &Heartbeat, now: Nanos) -> SensedPeer {
        SensedPeer {
            incarnation: heartbeat.incarnation,
            nonce: heartbeat.nonce,
            links: BTreeMap::new(),
            expected: 0,
            unbroken: now,
            was_silent: false,
            hears_us: None,
        }
    }

    /// A heartbeat has come; `echoed` is when ours was sent that it shows to have been heard. Whether it is a new one.
    pub fn heard(
        &mut self,
        heartbeat: &Heartbeat,
        echoed: Option<Nanos>,
        times: &LeaseTimes,
        now: Nanos,
    ) -> bool {
        let silent_for = self.last_heard().map_or(Nanos(0), |last| now.since(last));
        let link = self.links.entry(heartbeat.link).or_insert(Link {
            heard: now,
            sequence: 0,
            now: FRESH,
            before: FRESH,
        });
        if heartbeat.sequence <= link.sequence {
            return false;
        }
        if silent_for > times.silent_after() {
            (self.unbroken, self.was_silent) = (now, true);
        }
        let gap = now.since(link.heard);
        (link.heard, link.sequence) = (now, heartbeat.sequence);
        let stretch = &mut link.now;
        stretch.looks += 1;
        stretch.gap = stretch.gap.max(gap);
        if let (Some(sent), Some((_, age))) = (echoed, heartbeat.echo) {
            stretch.round_trip = stretch.round_trip.min(now.since(sent).since(Nanos(age)));
            self.hears_us = self.hears_us.max(Some(sent));
        }
        if stretch.looks >= LOOKS {
            (link.before, link.now) = (link.now, FRESH);
        }
        true
    }

    pub fn links_are(&mut self, count: u8) {
        self.expected = count;
        self.links.retain(|index, _| index.0 < count);
    }

    pub fn last_heard(&self) -> Option<Nanos> {
        self.links.values().map(|link| link.heard).max()
    }

    /// The last heartbeat heard over a link, and when.
    pub fn echo(&self, link: LinkIndex) -> Option<(u64, Nanos)> {
        self.links.get(&link).map(|link| (link.sequence, link.heard))
    }

    /// Whether it counts as heard: one that was silent only once it has come again and again for as long as makes a silence.
    pub fn is_heard(&self, times: &LeaseTimes, now: Nanos) -> bool {
        let is_back = !self.was_silent || now.since(self.unbroken) >= times.silent_after();
        is_back
            && self
                .last_heard()
                .is_some_and(|last| now.since(last) <= times.silent_after())
    }

    /// Since when it is heard without a silence.
    pub fn unbroken_since(&self) -> Nanos {
        self.unbroken
    }

    /// This node has stood still for so long: nothing of that is held against others.
    pub fn stood_still(&mut self, span: Nanos) {
        for link in self.links.values_mut() {
            link.heard = link.heard.after(span);
        }
        self.hears_us = self.hears_us.map(|sent| sent.after(span));
    }

    pub fn state(&self, times: &LeaseTimes, now: Nanos) -> PeerState {
        let silent = times.silent_after();
        let is_silent = |link: &Link| now.since(link.heard) > silent;
        let last = self.last_heard().unwrap_or(self.unbroken);
        if now.since(last) > silent {
            return PeerState::Silent { since: last };
        }
        // What it has heard comes back with its next heartbeat.
        let one_way = silent.after(Nanos(2 * times.heartbeat_every().0));
        if now.since(self.hears_us.unwrap_or(self.unbroken)) > one_way {
            return PeerState::OneWay { since: self.hears_us };
        }
        let is_new = now.since(self.unbroken) <= silent;
        let never = (0..self.expected).map(LinkIndex);
        let never = never.filter(|index| !is_new && !self.links.contains_key(index));
        let lost = self.links.iter().filter(|(_, link)| is_silent(link));
        let lost: BTreeSet<LinkIndex> = lost.map(|(index, _)| *index).chain(never).collect();
        if !lost.is_empty() {
            return PeerState::Limping(Limp::LinksLost(lost.into_iter().collect()));
        }
        let best = |of: fn(&Stretch, &Stretch) -> Nanos| {
            let links = self.links.values().map(|link| of(&link.now, &link.before));
            links.min().unwrap_or(Nanos(0))
        };
        let gap = best(|now, before| now.gap.max(before.gap));
        if gap >= Nanos(2 * times.heartbeat_every().0) {
            return PeerState::Limping(Limp::Late { gap });
        }
        let round_trip = best(|now, before| now.round_trip.min(before.round_trip));
        if self.hears_us.is_some() && round_trip > times.heartbeat_every() {
            return PeerState::Limping(Limp::Slow { round_trip });
        }
        PeerState::Alive
    }
}
