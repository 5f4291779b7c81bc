//! The port as whoever uses it sees it: one pipe, to one of several nodes, opened and closed by several users (specification
//! items 003-1, 2, 11 to 13, 26 to 33).
//!
//! ```text
//!                        register                initialize (targets in their agreed order)
//!             [ Idle ] ------------> [Registered] --------------> [Initialized]
//!                ^      unregister    |       ^                     |        ^
//!                '--------------------'       |             connect |        | close: the last, or at once
//!                          other end connects | it closes           v        |
//!                                     [ConnectedTo]            [Connecting]--+--------------------------.
//!                                                            up |    ^ down, and it switches by itself; |
//!                   connect: one user more; close: one less .-->v    | connect, reset                   |
//!                                                           '-[Connected]-- stop, down, close: last ->[Stopped]
//! ```
//!
//! The port has no session of its own: it says which is to be opened and closed, and is told how that went. Nor does it choose:
//! the targets come in the order that the cluster has agreed on, and it goes on to the next one only when somebody has proved
//! that nothing it has asked of the last one can still land there (invariant 4): that the disk refuses that node, that its next
//! run has shown what its last one did, or that an operator has confirmed it dead. Until then, and as long as the same target
//! may come back, it waits. A proof names the run and the round that it speaks of: one that comes late says nothing of what was
//! asked since, and is counted. A target that was left is not used again before it was admitted anew (003-28's open question).
//!
//! **What is decided where the specification leaves it open:** the last close of a connected port, or one at once, stops it, and
//! one more closes it; one that is connecting is closed by the first. A target that has closed in good order is not switched away from. A port that switches by
//! itself keeps what is not done and tells its users nothing before the last target is lost; one that does not gives everything
//! back at once.

use crate::message::DownCause;
use palisade_words::{Incarnation, Uuid};

/// Up to where something was asked of a target, or is proved to be over: the run of the target, and in it the round of the
/// session with it. They are ordered as they follow each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskedUntil {
    /// The run of the target's node.
    pub run: Incarnation,
    /// The session's round.
    pub round: u32,
}

impl AskedUntil {
    /// Everything that was asked of a run: what the run after it proves, or a disk that refuses the node.
    pub fn whole(run: Incarnation) -> AskedUntil {
        AskedUntil { run, round: u32::MAX }
    }
}

/// How far a port is (003-11).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PortState {
    /// It is made.
    Idle,
    /// Its users are known by name, here and to other nodes that connect to it.
    Registered,
    /// Another node has connected to it.
    ConnectedTo,
    /// Its targets are known.
    Initialized,
    /// It waits for a target.
    Connecting,
    /// Messages are taken.
    Connected,
    /// None are, until somebody says how to go on.
    Stopped,
}

/// What is asked of a port, or told to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortEvent {
    /// Its users are known.
    Register,
    /// They are not any more.
    Unregister,
    /// Other nodes that it may be connected to, in the order agreed on.
    Initialize(Vec<Uuid>),
    /// A user wants to use it; from `Stopped`, it is connected to the target that it had.
    Connect,
    /// The same, to another target of the list: by the operator's word, or the user's.
    ConnectTo(Uuid),
    /// A user is done with it.
    Close {
        /// Whatever other users want.
        at_once: bool,
    },
    /// Nothing more is sent.
    Stop,
    /// What was stopped goes on with the same target.
    Reset,
    /// The session with a target is up, in the round named.
    Up(Uuid, AskedUntil),
    /// It is down.
    Down(Uuid, DownCause),
    /// Nothing that was asked of a target in this round, and in those before, can land there any more. While the session with it
    /// is up in that round more may be asked: this is said again when it is down.
    Released(Uuid, AskedUntil),
    /// A target that was left may be used again.
    Admitted(Uuid),
    /// Another node has connected.
    PeerConnected,
    /// And has closed.
    PeerClosed,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortOrder {
    /// Open a session with this node; if there is one that is down, it comes up by itself.
    Open(Uuid),
    /// Stop the session with this node: what is not done comes back, or is kept if the port goes on with another.
    Stop(Uuid),
    /// Close it in good order.
    Close(Uuid),
    /// What was kept is sent to this node from now on.
    Resend(Uuid),
    /// What was kept is given back: there is no target left.
    GiveBack,
}

/// What a port cannot do in the state that it is in. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PortError {
    /// It does not fit the state.
    #[error("the port is {state:?}, in which this cannot be done")]
    State {
        /// The state.
        state: PortState,
    },
    /// The node is no target of the port.
    #[error("node {node} is no target of this port")]
    NoTarget {
        /// Which one.
        node: Uuid,
    },
    /// The target was left, and was not admitted anew.
    #[error("node {node} was left by this port and has not been admitted anew")]
    Left {
        /// Which one.
        node: Uuid,
    },
    /// What was asked of the present target may still land there.
    #[error("what was asked of node {node} may still land there: it has to be proved first that it cannot")]
    MayLand {
        /// Which one.
        node: Uuid,
    },
}

#[derive(Clone, Copy, Debug)]
struct Target {
    node: Uuid,
    /// The port has gone on to another one.
    was_left: bool,
    /// Up to where something was asked of it of which nothing proves that it cannot land.
    may_land: Option<AskedUntil>,
}

/// One port.
#[derive(Debug)]
pub struct Port {
    state: PortState,
    /// It goes on to the next target by itself.
    switches: bool,
    users: u32,
    targets: Vec<Target>,
    /// The target in use, as a position.
    active: usize,
    late_proofs: u64,
}

impl Port {
    /// A port that goes on to its next target by itself, or leaves that to its users.
    pub fn new(switches: bool) -> Port {
        Port {
            state: PortState::Idle,
            switches,
            users: 0,
            targets: Vec::new(),
            active: 0,
            late_proofs: 0,
        }
    }

    /// How far it is.
    pub fn state(&self) -> PortState {
        self.state
    }

    /// How many users it has.
    pub fn users(&self) -> u32 {
        self.users
    }

    /// The target in use.
    pub fn target(&self) -> Option<Uuid> {
        self.targets.get(self.active).map(|target| target.node)
    }

    /// Proofs that spoke of less than was asked, and changed nothing.
    pub fn late_proofs(&self) -> u64 {
        self.late_proofs
    }

    /// Something is asked of it or told to it.
    ///
    /// # Errors
    /// It does not fit; nothing has changed.
    pub fn on(&mut self, event: PortEvent, orders: &mut Vec<PortOrder>) -> Result<(), PortError> {
        use PortState::{Connected, ConnectedTo, Connecting, Idle, Initialized, Registered, Stopped};
        match (self.state, event) {
            (Idle, PortEvent::Register) => self.state = Registered,
            (Registered, PortEvent::Unregister) => self.state = Idle,
            (Registered, PortEvent::PeerConnected) => self.state = ConnectedTo,
            (ConnectedTo, PortEvent::PeerClosed) => self.state = Registered,
            (Registered, PortEvent::Initialize(nodes)) => self.initialize(nodes),
            (Initialized, PortEvent::Connect) => {
                let node = self.target().ok_or(PortError::State { state: Initialized })?;
                self.may_use(node)?;
                self.users = 1;
                self.open(node, orders);
            }
            (Connected | Connecting, PortEvent::Connect) => self.users = self.users.saturating_add(1),
            (Stopped, PortEvent::Connect | PortEvent::Reset) => {
                let node = self.target().ok_or(PortError::State { state: Stopped })?;
                self.may_use(node)?;
                self.open(node, orders);
            }
            (Connected | Connecting | Stopped, PortEvent::ConnectTo(node)) => self.switch_to(node, orders)?,
            (Connected | Connecting | Stopped, PortEvent::Close { at_once }) => self.close(at_once, orders),
            (Connected | Connecting, PortEvent::Stop) => self.stop(orders),
            (_, PortEvent::Up(node, asked)) => self.up(node, asked),
            (_, PortEvent::Down(node, cause)) => self.down(node, cause, orders),
            (_, PortEvent::Released(node, proved)) => self.released(node, proved, orders),
            (_, PortEvent::Admitted(node)) => self.find(node)?.was_left = false,
            (state, _) => return Err(PortError::State { state }),
        }
        Ok(())
    }

    fn initialize(&mut self, nodes: Vec<Uuid>) {
        let target = |node| Target {
            node,
            was_left: false,
            may_land: None,
        };
        self.targets = nodes.into_iter().map(target).collect();
        self.active = 0;
        self.state = PortState::Initialized;
    }

    fn find(&mut self, node: Uuid) -> Result<&mut Target, PortError> {
        let target = self.targets.iter_mut().find(|target| target.node == node);
        target.ok_or(PortError::NoTarget { node })
    }

    fn may_use(&mut self, node: Uuid) -> Result<(), PortError> {
        match self.find(node)?.was_left {
            true => Err(PortError::Left { node }),
            false => Ok(()),
        }
    }

    fn open(&mut self, node: Uuid, orders: &mut Vec<PortOrder>) {
        self.state = PortState::Connecting;
        orders.push(PortOrder::Open(node));
    }

    fn up(&mut self, node: Uuid, asked: AskedUntil) {
        if self.state != PortState::Connecting || self.target() != Some(node) {
            return;
        }
        self.state = PortState::Connected;
        // A session that is up has nothing under way of what was asked before; of what is asked from now on something may be.
        if let Ok(target) = self.find(node) {
            target.may_land = Some(asked);
        }
    }

    fn down(&mut self, node: Uuid, cause: DownCause, orders: &mut Vec<PortOrder>) {
        if self.target() != Some(node) || !matches!(self.state, PortState::Connected | PortState::Connecting)
        {
            return;
        }
        let in_good_order = matches!(cause, DownCause::PeerClosed | DownCause::Closed);
        if in_good_order || !self.switches {
            self.state = PortState::Stopped;
            return orders.push(PortOrder::GiveBack);
        }
        self.state = PortState::Connecting;
        // It may have been proved already: then there is nothing to wait for.
        if self
            .targets
            .get(self.active)
            .is_some_and(|target| target.may_land.is_none())
        {
            self.go_on(orders);
        }
    }

    /// Somebody has proved that nothing of what was asked of a target can land.
    fn released(&mut self, node: Uuid, proved: AskedUntil, orders: &mut Vec<PortOrder>) {
        let is_active = self.target() == Some(node);
        // More may be asked in this round yet.
        let is_in_use = is_active && self.state == PortState::Connected;
        let Ok(target) = self.find(node) else { return };
        if is_in_use || target.may_land.is_some_and(|asked| proved < asked) {
            self.late_proofs += 1;
            return;
        }
        target.may_land = None;
        if is_active && self.switches && self.state == PortState::Connecting {
            self.go_on(orders);
        }
    }

    /// Goes on to the next target that may be used; without one, everything is given back (003-13).
    fn go_on(&mut self, orders: &mut Vec<PortOrder>) {
        let next = (self.active + 1..self.targets.len())
            .find(|&at| self.targets.get(at).is_some_and(|target| !target.was_left));
        let before = self.target();
        if let Some(target) = self.targets.get_mut(self.active) {
            target.was_left = true;
        }
        orders.extend(before.map(PortOrder::Stop));
        match next {
            Some(next) => {
                self.active = next;
                let Some(node) = self.target() else { return };
                orders.push(PortOrder::Resend(node));
                self.open(node, orders);
            }
            None => {
                self.state = PortState::Stopped;
                orders.push(PortOrder::GiveBack);
            }
        }
    }

    fn switch_to(&mut self, node: Uuid, orders: &mut Vec<PortOrder>) -> Result<(), PortError> {
        self.may_use(node)?;
        let before = self.target();
        if before == Some(node) {
            if self.state == PortState::Stopped {
                self.open(node, orders);
            }
            return Ok(());
        }
        if let Some(before) = before
            && self.find(before)?.may_land.is_some()
        {
            return Err(PortError::MayLand { node: before });
        }
        let Some(at) = self.targets.iter().position(|target| target.node == node) else {
            return Err(PortError::NoTarget { node });
        };
        orders.extend(before.map(PortOrder::Stop));
        self.active = at;
        if self.switches {
            orders.push(PortOrder::Resend(node));
        }
        self.open(node, orders);
        Ok(())
    }

    fn stop(&mut self, orders: &mut Vec<PortOrder>) {
        self.state = PortState::Stopped;
        orders.extend(self.target().map(PortOrder::Stop));
        orders.push(PortOrder::GiveBack);
    }

    fn close(&mut self, at_once: bool, orders: &mut Vec<PortOrder>) {
        let ends = at_once || self.users <= 1;
        match self.state {
            // One user less changes nothing for the others, whether they are served, wait or have stopped it.
            _ if !ends => self.users -= 1,
            PortState::Connected if at_once => self.stop(orders),
            PortState::Connected => {
                self.state = PortState::Stopped;
                orders.extend(self.target().map(PortOrder::Close));
            }
            PortState::Connecting => {
                self.stop(orders);
                (self.state, self.users) = (PortState::Initialized, 0);
            }
            _ => (self.state, self.users) = (PortState::Initialized, 0),
        }
    }
}

#[cfg(test)]
mod tests;
