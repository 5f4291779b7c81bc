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
    /// Kept open because the front-end expects so; we have nothing to say on it.
    pub(super) error: Option<PeerEvent>,
    pub(super) run: Run,
}

impl Ring {
    /// Whether everything is there that the ring needs to run, as far as the front-end's word goes.
    pub(super) fn is_complete(&self) -> bool {
        self.run == Run::Stopped
            && self.enabled
            && self.size != 0
            && self.addresses.is_some()
            && self.kick.is_some()
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
