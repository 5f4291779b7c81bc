//! The links of a session: which are there, what each has been given, and which gets the next frame.

use crate::settings::SessionSettings;
use palisade_block::Nanos;
use palisade_words::LinkIndex;

/// How far a link has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// There is no connection.
    Absent,
    /// It was asked to be made.
    Dialing,
    /// It is there, and the other end has not said yet who it is.
    Greeting,
    /// It carries frames.
    Up,
    /// It was cut, and whoever holds the connection has not said yet that nothing of it is under way any more.
    Closing,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    state: LinkState,
    /// Given to it and not transmitted.
    queued_bytes: u64,
    /// Data that is to come by it: an answer comes by the link that its message went by.
    awaited_bytes: u64,
    /// When something was heard last; when it was made, if nothing was.
    heard: Nanos,
    /// A probe is under way since.
    probed: Option<Nanos>,
    /// When the other end was told last that its bytes arrive, of a frame that takes long; when the link was made, if never.
    encouraged: Nanos,
    /// When it came into its state.
    since: Nanos,
    /// The session's round that the other end was told in the greeting.
    told_round: u32,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Links {
    links: Box<[Link]>,
    up: u8,
    /// When the last one went, or the session was made.
    none_since: Nanos,
    /// Where the search for the next one begins, so that of equals each has its turn.
    turn: usize,
}

/// What a look at the clock has shown of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Overdue {
    /// Nothing was heard for too long.
    Lost(LinkIndex),
    /// It should be asked.
    Probe(LinkIndex),
    /// It should be made.
    Dial(LinkIndex),
}

impl Links {
    pub(crate) fn new(count: u8, now: Nanos) -> Links {
        let link = Link {
            state: LinkState::Absent,
            queued_bytes: 0,
            awaited_bytes: 0,
            heard: now,
            probed: None,
            encouraged: now,
            since: now,
            told_round: 0,
        };
        Links {
            links: vec![link; usize::from(count)].into(),
            up: 0,
            none_since: now,
            turn: 0,
        }
    }

    /// How far it is; `None` when there is none of that number.
    pub(crate) fn state(&self, link: LinkIndex) -> Option<LinkState> {
        self.links.get(link.usize()).map(|link| link.state)
    }

    /// How many carry frames.
    pub(crate) fn up(&self) -> u8 {
        self.up
    }

    /// Since when none does.
    pub(crate) fn none_since(&self) -> Option<Nanos> {
        (self.up == 0).then_some(self.none_since)
    }

    /// For how long none has.
    pub(crate) fn none_for(&self, now: Nanos) -> Option<Nanos> {
        self.none_since().map(|since| now.since(since))
    }

    pub(crate) fn set(&mut self, link: LinkIndex, state: LinkState, now: Nanos) {
        let Some(entry) = self.links.get_mut(link.usize()) else {
            return;
        };
        let (was, is) = (entry.state == LinkState::Up, state == LinkState::Up);
        *entry = Link {
            state,
            // What is still to be transmitted of a connection belongs to it alone.
            queued_bytes: match state {
                LinkState::Absent => 0,
                _ => entry.queued_bytes,
            },
            awaited_bytes: match state {
                LinkState::Absent => 0,
                _ => entry.awaited_bytes,
            },
            heard: now,
            probed: None,
            encouraged: now,
            since: now,
            told_round: entry.told_round,
        };
        self.up = self.up + u8::from(is) - u8::from(was);
        if was && self.up == 0 {
            self.none_since = now;
        }
    }

    /// The other end was greeted, and told this round.
    pub(crate) fn told(&mut self, link: LinkIndex, round: u32) {
        if let Some(entry) = self.links.get_mut(link.usize()) {
            entry.told_round = round;
        }
    }

    /// Which round it was told.
    pub(crate) fn told_round(&self, link: LinkIndex) -> u32 {
        self.links.get(link.usize()).map_or(0, |link| link.told_round)
    }

    /// Something has come by it.
    pub(crate) fn heard(&mut self, link: LinkIndex, now: Nanos) {
        if let Some(entry) = self.links.get_mut(link.usize()) {
            entry.heard = now;
            entry.probed = None;
        }
    }

    /// Bytes of a frame have come that is not whole yet. Whether the other end should be told, which may hear nothing else from
    /// here until all of it has come.
    pub(crate) fn hears(&mut self, link: LinkIndex, now: Nanos, probe_after: Nanos) -> bool {
        self.heard(link, now);
        let Some(entry) = self.links.get_mut(link.usize()) else {
            return false;
        };
        let is_due = entry.state == LinkState::Up && now.since(entry.encouraged) >= probe_after;
        if is_due {
            entry.encouraged = now;
        }
        is_due
    }

    /// A frame of so many bytes was given to it.
    pub(crate) fn give(&mut self, link: LinkIndex, bytes: u64) {
        if let Some(entry) = self.links.get_mut(link.usize()) {
            entry.queued_bytes += bytes;
        }
    }

    /// And has left.
    pub(crate) fn transmitted(&mut self, link: LinkIndex, bytes: u64) {
        if let Some(entry) = self.links.get_mut(link.usize()) {
            entry.queued_bytes = entry.queued_bytes.saturating_sub(bytes);
        }
    }

    /// An answer with so many bytes of data is to come by it.
    pub(crate) fn awaits(&mut self, link: LinkIndex, bytes: u32) {
        if let Some(entry) = self.links.get_mut(link.usize()) {
            entry.awaited_bytes += u64::from(bytes);
        }
    }

    /// And has come, by whichever.
    pub(crate) fn awaits_no_more(&mut self, link: LinkIndex, bytes: u32) {
        if let Some(entry) = self.links.get_mut(link.usize()) {
            entry.awaited_bytes = entry.awaited_bytes.saturating_sub(bytes.into());
        }
    }

    /// The link with the least outstanding of those that may be given more (003-14: a fast link comes by more often).
    pub(crate) fn for_frame(&mut self, ahead_bytes: u64) -> Option<LinkIndex> {
        let count = self.links.len();
        let in_turn = (self.turn..count).chain(0..self.turn);
        let best = in_turn
            .filter_map(|at| self.links.get(at).map(|link| (at, link)))
            .filter(|(_, link)| link.state == LinkState::Up && link.queued_bytes < ahead_bytes)
            .min_by_key(|(_, link)| link.queued_bytes + link.awaited_bytes)?;
        let at = best.0;
        self.turn = if at + 1 < count { at + 1 } else { 0 };
        Some(LinkIndex(at as u8))
    }

    /// Any that is up, for a frame that nothing waits behind.
    pub(crate) fn for_control(&mut self) -> Option<LinkIndex> {
        self.for_frame(u64::MAX)
    }

    /// What there is to be done by now; called again and again until there is nothing.
    pub(crate) fn overdue(&mut self, settings: &SessionSettings, dials: bool, now: Nanos) -> Option<Overdue> {
        for (at, link) in self.links.iter_mut().enumerate() {
            let index = LinkIndex(at as u8);
            let (silent, there) = (now.since(link.heard), now.since(link.since));
            match link.state {
                LinkState::Up if silent >= settings.lost_after => return Some(Overdue::Lost(index)),
                LinkState::Up if link.probed.is_none() && silent >= settings.probe_after => {
                    link.probed = Some(now);
                    return Some(Overdue::Probe(index));
                }
                LinkState::Dialing | LinkState::Greeting if there >= settings.lost_after => {
                    return Some(Overdue::Lost(index));
                }
                LinkState::Absent if dials && there >= settings.again_after => {
                    return Some(Overdue::Dial(index));
                }
                _ => {}
            }
        }
        None
    }

    /// When to look again at the latest.
    pub(crate) fn next_look(&self, settings: &SessionSettings, dials: bool) -> Option<Nanos> {
        let looks = self.links.iter().filter_map(|link| match link.state {
            LinkState::Up if link.probed.is_none() => Some(link.heard.after(settings.probe_after)),
            LinkState::Up => Some(link.heard.after(settings.lost_after)),
            LinkState::Dialing | LinkState::Greeting => Some(link.since.after(settings.lost_after)),
            LinkState::Absent => dials.then(|| link.since.after(settings.again_after)),
            LinkState::Closing => None,
        });
        looks.min()
    }

    /// All that have a connection, or will have one.
    pub(crate) fn all_made(&self) -> impl Iterator<Item = LinkIndex> + use<> {
        let made: u16 = self
            .links
            .iter()
            .enumerate()
            .filter(|(_, link)| link.state != LinkState::Absent)
            .fold(0, |set, (at, _)| set | 1 << at);
        (0..u16::BITS as u8)
            .filter(move |at| made & 1 << at != 0)
            .map(LinkIndex)
    }
}

const _: () = assert!(crate::settings::LINKS_MAX as u32 <= u16::BITS);

#[cfg(test)]
mod tests {
    use super::*;

    fn with_up(count: u8, up: &[u8]) -> Links {
        let mut links = Links::new(count, Nanos(0));
        for &link in up {
            links.set(LinkIndex(link), LinkState::Up, Nanos(0));
        }
        links
    }

    #[test]
    fn the_one_with_the_least_outstanding_gets_the_next_frame_and_equals_take_turns() {
        let mut links = with_up(4, &[0, 2, 3]);
        let picks: Vec<_> = (0..6)
            .map(|_| {
                let link = links.for_frame(1000).unwrap();
                links.give(link, 100);
                link.0
            })
            .collect();
        assert_eq!(picks, [0, 2, 3, 0, 2, 3]);
        links.transmitted(LinkIndex(2), 200);
        assert_eq!(links.for_frame(1000), Some(LinkIndex(2)));
        for link in [0, 2, 3] {
            links.give(LinkIndex(link), 1000);
        }
        assert_eq!(links.for_frame(1000), None, "none may be given more");
        assert_eq!(
            links.for_control(),
            Some(LinkIndex(2)),
            "what is urgent goes all the same"
        );
    }

    #[test]
    fn what_was_given_to_a_connection_is_forgotten_with_it() {
        let mut links = with_up(1, &[0]);
        links.give(LinkIndex(0), 1000);
        links.set(LinkIndex(0), LinkState::Absent, Nanos(5));
        assert_eq!((links.up(), links.none_for(Nanos(9))), (0, Some(Nanos(4))));
        links.set(LinkIndex(0), LinkState::Up, Nanos(10));
        assert_eq!(
            (links.for_frame(1), links.none_for(Nanos(11))),
            (Some(LinkIndex(0)), None)
        );
    }

    #[test]
    fn a_silent_link_is_asked_and_then_given_up() {
        let settings = SessionSettings::default();
        let (probe, lost) = (settings.probe_after, settings.lost_after);
        let mut links = with_up(1, &[0]);
        let link = LinkIndex(0);
        assert_eq!(links.overdue(&settings, true, Nanos(probe.0 - 1)), None);
        assert_eq!(links.next_look(&settings, true), Some(probe));
        assert_eq!(links.overdue(&settings, true, probe), Some(Overdue::Probe(link)));
        assert_eq!(links.overdue(&settings, true, probe), None, "one probe at a time");
        assert_eq!(links.next_look(&settings, true), Some(lost));
        links.heard(link, Nanos(probe.0 + 1));
        assert_eq!(links.overdue(&settings, true, lost), Some(Overdue::Probe(link)));
        assert_eq!(
            links.overdue(&settings, true, Nanos(probe.0 + 1 + lost.0)),
            Some(Overdue::Lost(link))
        );
        links.set(link, LinkState::Absent, Nanos(0));
        assert_eq!(
            links.overdue(&settings, true, settings.again_after),
            Some(Overdue::Dial(link))
        );
        assert_eq!(
            links.overdue(&settings, false, settings.again_after),
            None,
            "the other end makes it"
        );
    }
}
