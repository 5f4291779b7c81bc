//! The control planes of all nodes, as far as forwarding needs them: they make connections, agree on mappings, and tell what they
//! know to be true, each at its own time.

use super::World;
use super::network::{SimConnection, Wire};
use super::node::{NodeCommand, NodeNotice, SERVED, asking, serving};
use crate::finding::Invariant;
use palisade_block::Nanos;
use palisade_block::mailbox::{Notice, ReactorChange, ReactorCommand};
use palisade_forward::{PeerOrder, PeerReport, SessionPlace};
use palisade_port::SessionPhase;
use palisade_wire::{FrameHeader, FrameKind, Hello, payload_checksum};
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, LinkIndex, Sectors, VolumeIndex};

use super::node::Mapped;

/// What is on its way to a node.
#[derive(Debug)]
pub(super) enum Word {
    Dialled {
        session: SessionPlace,
        link: LinkIndex,
        wire: Option<usize>,
    },
    Suspend {
        volume: u16,
        generation: u64,
    },
    Cancel {
        volume: u16,
        generation: u64,
    },
    Mapped {
        volume: usize,
        is_served: bool,
        mapped: Mapped,
    },
    Serve {
        volume: usize,
        peer: usize,
        mapped: Mapped,
    },
    Epoch(u64),
}

#[derive(Debug)]
struct Sent {
    node: usize,
    at: Nanos,
    word: Word,
}

/// A change that is announced and not decided on.
#[derive(Debug)]
struct Change {
    volume: usize,
    generation: u64,
    /// Who has not said yet that the volume is at rest: nodes, and the numbers by which they call it.
    waits_for: Vec<(usize, u16)>,
    until: Nanos,
}

/// What the control planes know together.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) volumes: Vec<Mapped>,
    sent: Vec<Sent>,
    change: Option<Change>,
    /// The newest generation that was ever named.
    newest: u64,
    epoch: u64,
    /// Volumes with requests that are parked by a fault.
    parked: Vec<(usize, u16)>,
    pub(super) ended: usize,
}

impl Control {
    pub(super) fn new(volumes: usize) -> Control {
        let mapped = Mapped {
            generation: 1,
            epoch: 1,
            at: 0,
        };
        Control {
            volumes: vec![mapped; volumes],
            sent: Vec::new(),
            change: None,
            newest: 1,
            epoch: 1,
            parked: Vec::new(),
            ended: 0,
        }
    }

    /// A node has ended: what was on its way to it is lost, and what it was waited for is not waited for.
    pub(super) fn forget(&mut self, node: usize) {
        self.sent.retain(|sent| sent.node != node);
        self.parked.retain(|(on, _)| *on != node);
        self.give_up_change();
    }

    /// The change that is announced will not be.
    pub(super) fn give_up_change(&mut self) {
        if let Some(change) = &mut self.change {
            change.until = Nanos(0);
        }
    }

    /// Whether nothing of a change is under way.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_of_mapping = |sent: &Sent| !matches!(sent.word, Word::Dialled { .. });
        self.change.is_none() && !self.sent.iter().any(is_of_mapping)
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }
}

impl World {
    fn say(&mut self, node: usize, word: Word) {
        let within = if self.rng.one_in(8) { 3000 } else { 300 };
        let at = self.now.after(Nanos::from_micros(self.rng.below(within)));
        self.control.sent.push(Sent { node, at, word });
    }

    /// What has come to a node by now.
    pub(super) fn hears(&mut self, node: usize) {
        let now = self.now;
        let (homes, array) = (&self.layout.homes, self.nodes[node].array.borrow());
        // A mapping has what was parked sent again, and what is parked before it is in force: whoever says it knows that nothing of
        // the first try lands any more.
        let may_land = |sent: &Sent| match sent.word {
            Word::Mapped { volume, .. } => {
                homes[volume] == node && array.may_land_late(DeviceIndex(volume as u16))
            }
            _ => false,
        };
        let is_due = |sent: &mut Sent| sent.node == node && sent.at <= now && !may_land(sent);
        let due: Vec<Sent> = self.control.sent.extract_if(.., is_due).collect();
        drop(array);
        for sent in due {
            let command = self.command(node, sent.word);
            if let (Some(command), Some(core)) = (command, &mut self.nodes[node].core) {
                core.tell(command);
            }
        }
    }

    fn command(&mut self, node: usize, word: Word) -> Option<NodeCommand> {
        Some(match word {
            Word::Dialled { session, link, wire } => ReactorCommand::Peers(match wire {
                Some(wire) => PeerOrder::Connected {
                    session,
                    link,
                    connection: SimConnection { wire, end: 0 },
                },
                None => PeerOrder::DialFailed { session, link },
            }),
            Word::Suspend { volume, generation } => ReactorChange::Suspend {
                volume: VolumeIndex(volume),
                generation: Generation(generation),
            }
            .into(),
            Word::Cancel { volume, generation } => ReactorChange::Cancel {
                volume: VolumeIndex(volume),
                generation: Generation(generation),
            }
            .into(),
            Word::Mapped {
                volume,
                is_served,
                mapped,
            } => {
                let route = self.layout.route(node, volume, &mapped, is_served);
                let number = if is_served {
                    SERVED + volume as u16
                } else {
                    volume as u16
                };
                self.control.parked.retain(|parked| *parked != (node, number));
                let volume = VolumeIndex(number);
                ReactorChange::Resume { volume, route }.into()
            }
            Word::Serve { volume, peer, mapped } => {
                ReactorCommand::Peers(self.layout.serve(peer, volume, &mapped))
            }
            Word::Epoch(epoch) => ReactorCommand::Peers(PeerOrder::Epoch(Epoch(epoch))),
        })
    }

    /// What a node has told.
    pub(super) fn told(&mut self, node: usize, notice: NodeNotice) {
        match notice {
            Notice::QueueStopped { queue, .. } => self.leaves(node, queue.attachment.0.into()),
            Notice::Suspended { volume, generation } => {
                if let Some(change) = &mut self.control.change
                    && change.generation == generation.0
                {
                    change.waits_for.retain(|one| *one != (node, volume.0));
                }
            }
            Notice::Parked { volume, .. } => self.control.parked.push((node, volume.0)),
            Notice::Peers(report) => self.told_of_peers(node, report),
            Notice::DeviceUnusable { device, error } => {
                let what = format!("node {node} cannot use {device:?}: {error}");
                self.findings.add(Invariant::DataPath, self.now, what);
            }
            _ => {}
        }
    }

    fn told_of_peers(&mut self, node: usize, report: PeerReport) {
        match report {
            PeerReport::Dial { session, link } => self.dial(node, session, link),
            PeerReport::LinkCut {
                cause: palisade_port::CutCause::Violation(violation),
                ..
            } => {
                let what = format!("node {node} takes what another one does for wrong: {violation}");
                self.findings.add(Invariant::DataPath, self.now, what);
            }
            PeerReport::Ended { .. } => self.control.ended += 1,
            _ => {}
        }
    }

    /// A connection is made, or not; now and then two.
    fn dial(&mut self, node: usize, session: SessionPlace, link: LinkIndex) {
        let peer = usize::from(session.0 / 2);
        let times = if self.rng.one_in(12) { 2 } else { 1 };
        for _ in 0..times {
            let is_there = self.nodes[peer].core.is_some() && (!self.rng.one_in(10) || self.heals);
            let wire = is_there.then(|| {
                let mut network = self.network.borrow_mut();
                network.wires.push(Wire::new([node, peer], &mut self.rng));
                network.wires.len() - 1
            });
            self.say(node, Word::Dialled { session, link, wire });
        }
    }

    /// Greetings that have come are judged by the node that they have come to.
    pub(super) fn accepts(&mut self) {
        let now = self.now;
        let mut come = Vec::new();
        {
            let mut network = self.network.borrow_mut();
            for (at, wire) in network.wires.iter_mut().enumerate() {
                if wire.is_greeted || !wire.is_held[1] {
                    continue;
                }
                let is_broken = wire.breaks[1].is_some_and(|at| at <= now);
                if self.nodes[wire.nodes[1]].core.is_none() || is_broken {
                    wire.let_go(1, now, &mut self.rng);
                    continue;
                }
                let Some(frame) = wire.to[1].frames.pop_front_if(|frame| frame.arrives.1 <= now) else {
                    continue;
                };
                wire.is_greeted = true;
                match hello_of(&frame.header, &frame.payload) {
                    Some(hello) => come.push((at, wire.nodes, hello)),
                    None => wire.let_go(1, now, &mut self.rng),
                }
            }
        }
        for (wire, [from, to], hello) in come {
            if let Some(core) = &mut self.nodes[to].core {
                core.tell(ReactorCommand::Peers(PeerOrder::Accepted {
                    session: serving(from),
                    hello,
                    connection: SimConnection { wire, end: 1 },
                }));
            }
        }
    }

    /// Changes are announced, agreed on and given up; what waits for a decision gets one when it is true.
    pub(super) fn decides(&mut self) {
        if self.control.is_at_rest() {
            if !self.heals && self.rng.one_in(120) {
                self.announce();
            }
        } else if let Some(change) = self.control.change.take() {
            self.decide(change);
        }
        if self.heals || self.rng.one_in(8) {
            self.release_parked();
        }
        if self.heals || self.rng.one_in(30) {
            self.prove();
        }
    }

    fn announce(&mut self) {
        self.control.newest += 1;
        let (volume, generation) = (self.rng.index(self.layout.homes.len()), self.control.newest);
        let home = self.layout.homes[volume];
        let living = self.nodes.iter().filter(|node| node.core.is_some());
        let mut waits_for: Vec<_> = living.map(|node| (node.number, volume as u16)).collect();
        if self.nodes[home].core.is_some() {
            waits_for.push((home, SERVED + volume as u16));
        }
        for &(node, number) in &waits_for {
            self.say(
                node,
                Word::Suspend {
                    volume: number,
                    generation,
                },
            );
        }
        let until = self.now.after(Nanos::from_micros(self.rng.between(500, 12_000)));
        self.control.change = Some(Change {
            volume,
            generation,
            waits_for,
            until,
        });
    }

    fn decide(&mut self, change: Change) {
        let Change {
            volume, generation, ..
        } = change;
        let home = self.layout.homes[volume];
        let device = DeviceIndex(volume as u16);
        let is_landing = self.nodes[home].array.borrow().is_landing(Some(device));
        if change.until <= self.now || self.nodes[home].core.is_none() {
            for node in 0..self.nodes.len() {
                self.say(
                    node,
                    Word::Cancel {
                        volume: volume as u16,
                        generation,
                    },
                );
            }
            let number = SERVED + volume as u16;
            return self.say(
                home,
                Word::Cancel {
                    volume: number,
                    generation,
                },
            );
        }
        if !change.waits_for.is_empty() || is_landing {
            self.control.change = Some(change);
            return;
        }
        let is_of_new_epoch = self.rng.one_in(3);
        if is_of_new_epoch {
            self.control.epoch += 1;
            let epoch = self.control.epoch;
            (0..self.nodes.len()).for_each(|node| self.say(node, Word::Epoch(epoch)));
        }
        let before = self.control.volumes[volume];
        let mapped = Mapped {
            generation,
            epoch: self.control.epoch,
            at: super::SECTORS - before.at,
        };
        self.control.volumes[volume] = mapped;
        let (from, to) = (Lba(before.at), Lba(mapped.at));
        let mut array = self.nodes[home].array.borrow_mut();
        array.relocate(device, from, to, Sectors(super::SECTORS));
        drop(array);
        for other in 0..self.layout.homes.len() {
            // All mappings are valid in the new membership, and are said to be.
            if other == volume || is_of_new_epoch {
                self.control.volumes[other].epoch = self.control.epoch;
                self.say_mapped(other);
            }
        }
    }

    fn say_mapped(&mut self, volume: usize) {
        let (home, mapped) = (self.layout.homes[volume], self.control.volumes[volume]);
        for node in 0..self.nodes.len() {
            let is_served = false;
            self.say(
                node,
                Word::Mapped {
                    volume,
                    is_served,
                    mapped,
                },
            );
        }
        let is_served = true;
        self.say(
            home,
            Word::Mapped {
                volume,
                is_served,
                mapped,
            },
        );
        for peer in self.layout.peers(home) {
            self.say(home, Word::Serve { volume, peer, mapped });
        }
    }

    /// What a fault has parked goes on, once nothing of it can land any more. Where a disk is behind another node, it has ended
    /// when that was so.
    fn release_parked(&mut self) {
        let parked = self.control.parked.clone();
        for (node, number) in parked {
            let volume = usize::from(number % SERVED);
            let is_of_change = self
                .control
                .change
                .as_ref()
                .is_some_and(|change| change.volume == volume);
            let is_on_its_way = self.control.sent.iter().any(|sent| sent.node == node);
            let device = DeviceIndex(volume as u16);
            let is_home = self.layout.homes[volume] == node;
            let is_landing = is_home && self.nodes[node].array.borrow().may_land_late(device);
            if is_of_change || is_on_its_way || is_landing {
                continue;
            }
            let mapped = self.control.volumes[volume];
            let is_served = number >= SERVED;
            let command = self.command(
                node,
                Word::Mapped {
                    volume,
                    is_served,
                    mapped,
                },
            );
            if let (Some(command), Some(core)) = (command, &mut self.nodes[node].core) {
                core.tell(command);
            }
        }
    }

    /// Nodes are told that nothing lands any more, where that is so.
    fn prove(&mut self) {
        for node in 0..self.nodes.len() {
            for peer in self.layout.peers(node) {
                if self.rng.one_in(2) && self.nothing_lands(node, peer) {
                    self.order(
                        node,
                        PeerOrder::NothingLands {
                            session: asking(peer),
                        },
                    );
                }
                if self.rng.one_in(2) && !self.nodes[node].array.borrow().is_landing(None) {
                    self.order(
                        node,
                        PeerOrder::NothingLands {
                            session: serving(peer),
                        },
                    );
                }
            }
        }
    }

    pub(super) fn order(&mut self, node: usize, order: PeerOrder<SimConnection>) {
        if let Some(core) = &mut self.nodes[node].core {
            core.tell(ReactorCommand::Peers(order));
        }
    }

    /// Whether nothing that a node has asked another for, and has no answer to or an answer that says nothing, can reach a disk.
    fn nothing_lands(&self, node: usize, peer: usize) -> bool {
        if self.nodes[peer].array.borrow().is_landing(None) {
            return false;
        }
        let is_up = |standing: &palisade_forward::SessionStanding| standing.phase == SessionPhase::Up;
        let mine = self.nodes[node].standing(asking(peer));
        match self.nodes[peer].standing(serving(node)) {
            // It is not there, and its next run is not yet.
            None => true,
            // Both go on with one round: what came back of the one before is over, and what was answered has been carried out.
            Some(theirs) if mine.as_ref().is_some_and(is_up) => is_up(&theirs),
            Some(theirs) => {
                let sinks = matches!(theirs.phase, SessionPhase::Up | SessionPhase::Sinking(_));
                !sinks && theirs.unanswered == 0
            }
        }
    }
}

fn hello_of(header: &[u8; palisade_wire::FRAME_HEADER_BYTES], payload: &[u8]) -> Option<Hello> {
    let header = FrameHeader::decode(header).ok()?;
    let is_sound = header.kind == FrameKind::Hello && header.payload_crc == Some(payload_checksum([payload]));
    let body = payload.try_into().ok()?;
    is_sound.then(|| Hello::decode(body).ok()).flatten()
}
