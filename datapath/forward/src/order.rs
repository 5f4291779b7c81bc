//! What the control plane tells a reactor of other nodes, and what the reactor tells it.

use crate::exchange::Exchange;
use crate::links::LinkEnd;
use crate::links::LinkPlace;
use palisade_block::{DeviceLimits, Lease};
use palisade_port::{CutCause, DownCause, Ends, LINKS_MAX, SessionSettings};
use palisade_wire::{Hello, LinkRefusal, VolumeKey};
use palisade_words::{Epoch, Generation, LinkIndex, VolumeIndex};
use std::sync::Arc;

/// A session's place in a reactor's table: whoever begins it gives the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionPlace(pub u16);

/// Sessions of one reactor at most: two with each of 63 other nodes, and room for those that are ending.
pub const SESSIONS_MAX: u16 = 256;

/// Connections of one session that are being refused at a time. They have places of their own: that of the link may be in use.
pub(crate) const DOORWAY_PLACES: u16 = 4;

/// Places that a session has in the reactor's table of connections.
const PLACES: u16 = LINKS_MAX as u16 + DOORWAY_PLACES;

const _: () = assert!(SESSIONS_MAX as u32 * PLACES as u32 <= 1 << 16);

/// What a session has a connection for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkUser {
    /// It is this link.
    Link(LinkIndex),
    /// It is refused.
    Doorway(u16),
}

impl SessionPlace {
    /// The place of a link in the reactor's table of connections.
    pub(crate) fn link(self, link: LinkIndex) -> LinkPlace {
        LinkPlace(self.0 * PLACES + u16::from(link.0))
    }

    /// The place of a connection that is refused.
    pub(crate) fn doorway(self, at: u16) -> LinkPlace {
        LinkPlace(self.0 * PLACES + u16::from(LINKS_MAX) + at)
    }

    /// What a place is for.
    pub(crate) fn of(place: LinkPlace) -> (SessionPlace, LinkUser) {
        let at = place.0 % PLACES;
        let user = match at.checked_sub(u16::from(LINKS_MAX)) {
            None => LinkUser::Link(LinkIndex(at as u8)),
            Some(at) => LinkUser::Doorway(at),
        };
        (SessionPlace(place.0 / PLACES), user)
    }
}

/// Which end of a session this reactor is.
#[derive(Clone, Debug)]
pub enum SessionEnd {
    /// It asks, and makes the links. The memory is for the data of what it asks to be written.
    Asking(Lease),
    /// It is asked. What is asked comes out of the source that has the same exchange.
    Serving(Arc<Exchange>),
}

/// A disk that another node reaches.
#[derive(Clone, Copy, Debug)]
pub struct RemoteDisk {
    /// By which session it is asked for.
    pub session: SessionPlace,
    /// What it can, as the cluster knows it.
    pub limits: DeviceLimits,
}

/// A device that comes into use.
#[derive(Debug)]
pub enum NodeDevice<O> {
    /// One that this node reaches itself.
    Local(O),
    /// One that it asks another node for. Sectors on it are those of the volume that is asked for: where they lie is the other
    /// node's to know.
    Remote(RemoteDisk),
}

/// An order. `C` is an established connection.
#[derive(Debug)]
pub enum PeerOrder<C> {
    /// A session begins, in a place that is free. An asking end asks for its links to be made.
    Begin {
        /// Its place.
        session: SessionPlace,
        /// Who is at its ends.
        ends: Ends,
        /// Its bounds and times.
        settings: SessionSettings,
        /// Which end this is.
        end: SessionEnd,
    },
    /// A link that was [asked for](PeerReport::Dial) is there.
    Connected {
        /// Of which session.
        session: SessionPlace,
        /// Which.
        link: LinkIndex,
        /// The connection.
        connection: C,
    },
    /// It could not be made. It is asked for again.
    DialFailed {
        /// Of which session.
        session: SessionPlace,
        /// Which.
        link: LinkIndex,
    },
    /// Another node has made a link, and said this. Whether it may is judged here, and told to it.
    Accepted {
        /// Of which session.
        session: SessionPlace,
        /// What it has said.
        hello: Hello,
        /// The connection.
        connection: C,
    },
    /// Requests of another node for a volume are given to the engine from now on: those that name this mapping of it. Those that
    /// named a newer one than was known have waited for this. An order that is older than what is known changes nothing. Where two
    /// volumes have one key, neither is served: the node that is asked could not tell which one is meant.
    Serve {
        /// Of which session.
        session: SessionPlace,
        /// The volume, as the other node calls it.
        key: VolumeKey,
        /// The volume, as the engine calls it.
        volume: VolumeIndex,
        /// The mapping's generation.
        generation: Generation,
        /// The membership under which it is valid.
        epoch: Epoch,
        /// Whether the other node may change it.
        may_change: bool,
    },
    /// No longer.
    StopServing {
        /// Of which session.
        session: SessionPlace,
        /// The volume, as the other node calls it.
        key: VolumeKey,
        /// The volume, as the engine calls it.
        volume: VolumeIndex,
    },
    /// The membership that this node knows.
    Epoch(Epoch),
    /// Nothing that earlier runs of this node have submitted to its disks can land any more. Before this is said, no session that
    /// is asked comes up: what its coming up would prove is not so.
    EarlierRunsLanded,
    /// The other node has left the membership, or is not to be waited for any longer: links are given up, and what was asked and
    /// has no answer comes back, but for changes that may still be carried out. Without this what was asked waits, while there is
    /// no link, and goes on in its order once there is one.
    GiveBack {
        /// The session with it.
        session: SessionPlace,
    },
    /// Somebody who can has proved that nothing can reach a medium any more of what was asked of the other node and came back, or
    /// is kept: its disks refuse it, or an operator has said that it is off. At the end that is asked: of what this node has tried
    /// to carry out for the other one and could not say the end of ([`SessionStanding::doubts`](crate::SessionStanding)).
    NothingLands {
        /// The session with it.
        session: SessionPlace,
    },
    /// Nothing more is asked. [`PeerReport::Ended`] follows when all that was asked is done and proved.
    End {
        /// Which session.
        session: SessionPlace,
    },
}

/// A report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerReport {
    /// A link is to be made.
    Dial {
        /// Of which session.
        session: SessionPlace,
        /// Which.
        link: LinkIndex,
    },
    /// A session is up.
    Up {
        /// Which.
        session: SessionPlace,
    },
    /// It is not any more.
    Down {
        /// Which.
        session: SessionPlace,
        /// Why.
        cause: DownCause,
        /// What was asked and has no answer, and waits.
        waiting: u32,
    },
    /// A change came back that may still be carried out: its session was given up, or the other node has lost its own way to the
    /// disk. It waits for the proof that it is not: the session being up again, in another round, or [`PeerOrder::NothingLands`].
    Unsettled {
        /// Which session.
        session: SessionPlace,
        /// How many changes wait.
        unsettled: u32,
    },
    /// A link was given up by this end.
    LinkCut {
        /// Of which session.
        session: SessionPlace,
        /// Which.
        link: LinkIndex,
        /// Why.
        cause: CutCause,
    },
    /// A link has broken.
    LinkBroken {
        /// Of which session.
        session: SessionPlace,
        /// Which.
        link: LinkIndex,
        /// Why.
        end: LinkEnd,
    },
    /// Another node's link was refused, and it was told why.
    LinkRefused {
        /// Of which session.
        session: SessionPlace,
        /// Why.
        refusal: LinkRefusal,
    },
    /// A session is over, and its place free.
    Ended {
        /// Which.
        session: SessionPlace,
    },
}
