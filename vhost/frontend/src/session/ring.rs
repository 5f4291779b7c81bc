//! One ring as the front-end has described it so far.

use crate::call::CallSlot;
use crate::codec::VringAddresses;
use palisade_sys::PeerEvent;

/// Whether the engine has the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Run {
    /// It does not.
    #[default]
    Stopped,
    /// It serves it.
    Running,
    /// It has been told to give it back.
    Stopping,
}

/// How the guest announces requests.
#[derive(Debug)]
pub(super) enum Kick {
    /// By this eventfd.
    Event(PeerEvent),
    /// Not at all: the front-end asks for polling.
    Polling,
}

/// One ring.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) size: u16,
    pub(super) addresses: Option<VringAddresses>,
    /// Where the engine begins: the position in the available ring.
    pub(super) base: u16,
    pub(super) enabled: bool,
    /// Given by SET_VRING_KICK, taken away by GET_VRING_BASE: "started" in the protocol's words.
    pub(super) kick: Option<Kick>,
    pub(super) call: CallSlot,
    /// Signalled when the ring is found broken, or cannot start.
    pub(super) error: CallSlot,
    pub(super) run: Run,
    /// What was refused of its setup, and why: it does not start before that message comes again and makes sense.
    pub(super) refused: Option<(u32, String)>,
    /// Why it did not start when it was complete.
    pub(super) cannot_start: Option<String>,
    /// It runs without in-flight tracking, because the front-end's region has no room for it.
    pub(super) untracked: bool,
}

impl Ring {
    /// Whether everything is there that the ring needs to run, as far as the front-end's word goes.
    pub(super) fn is_complete(&self) -> bool {
        self.run == Run::Stopped
            && self.refused.is_none()
            && self.enabled
            && self.size != 0
            && self.addresses.is_some()
            && self.kick.is_some()
    }

    /// Notes that a message of its setup was refused, and the front-end does not hear so, or that it was taken.
    pub(super) fn note(&mut self, request: u32, refused: Option<String>) {
        let of_this = |(refused, _): &(u32, String)| *refused == request;
        match refused {
            Some(sentence) => self.refused = Some((request, sentence)),
            None if self.refused.as_ref().is_some_and(of_this) => self.refused = None,
            None => {}
        }
    }

    /// Forgets all but the way to interrupt the guest, which belongs to the front-end and not to the guest's driver.
    pub(super) fn reset(&mut self) {
        let Ring { call, error, run, .. } = std::mem::take(self);
        *self = Ring {
            call,
            error,
            run,
            ..Ring::default()
        };
    }
}
