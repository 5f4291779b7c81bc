//! Invariants 6 and 7 as devices see them: under which mapping each operation of a reactor is sent, and by when it is to be
//! back. A peer and a fence have nothing else to judge a request by.
//!
//! Each operation names a mapping that this reactor was given, and lies on a run of its route. Of one volume neither the
//! generation nor the epoch ever goes back, and none is older than the one that the reactor says is in use.

use crate::finding::{Findings, Invariant};
use palisade_block::mailbox::{ReactorChange, ReactorCommand};
use palisade_block::{Devices, Io, MappingId, Nanos, Op, Route};
use palisade_words::{DeviceIndex, Generation, SlotIndex, Uuid, VolumeIndex};
use std::collections::BTreeMap;

/// What one reactor has been told, and what it has made of it.
#[derive(Debug)]
pub struct Mappings {
    reactor: u16,
    findings: Findings,
    volumes: BTreeMap<Uuid, Known>,
    names: BTreeMap<VolumeIndex, Uuid>,
    deadlines: BTreeMap<DeviceIndex, Nanos>,
    /// By when what is in flight is to be back.
    in_flight: BTreeMap<SlotIndex, Nanos>,
}

/// What is known of one volume's mappings.
#[derive(Debug, Default)]
struct Known {
    given: Vec<Route>,
    in_use: Generation,
    newest: Option<MappingId>,
}

impl Mappings {
    /// Of the reactor of this number, which knows none.
    pub fn new(reactor: u16, findings: Findings) -> Mappings {
        Mappings {
            reactor,
            findings,
            volumes: BTreeMap::new(),
            names: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            in_flight: BTreeMap::new(),
        }
    }

    /// The reactor is told this.
    pub fn told<S, D: Devices>(&mut self, command: &ReactorCommand<S, D>) {
        match command {
            ReactorCommand::Change(ReactorChange::Resume { volume, route }) => {
                let name = route.mapping().volume;
                self.names.insert(*volume, name);
                let known = self.volumes.entry(name).or_default();
                if !known.given.contains(route) {
                    known.given.push(route.clone());
                }
            }
            ReactorCommand::AddDevice { device, deadline, .. } => {
                self.deadlines.insert(*device, *deadline);
            }
            _ => {}
        }
    }

    /// The reactor says that the mapping of this generation is in use.
    pub fn is_in_use(&mut self, volume: VolumeIndex, generation: Generation) {
        let known = self
            .names
            .get(&volume)
            .and_then(|name| self.volumes.get_mut(name));
        if let Some(known) = known {
            known.in_use = known.in_use.max(generation);
        }
    }

    /// The reactor starts an operation.
    pub fn start(&mut self, io: &Io<'_>, now: Nanos) {
        let mapping = *io.mapping;
        let Some(known) = self.volumes.get_mut(&mapping.volume) else {
            return self.find(now, format!("{mapping:?} is of a volume that it was not told of"));
        };
        let leads_there = |route: &Route| *route.mapping() == mapping && has(route, io);
        let newest = *known.newest.get_or_insert(mapping);
        let is_older =
            mapping.generation < newest.generation.max(known.in_use) || mapping.epoch < newest.epoch;
        let (is_given, in_use) = (known.given.iter().any(leads_there), known.in_use);
        known.newest = Some(mapping);
        if is_older {
            self.find(
                now,
                format!("{mapping:?} is older than {newest:?}, or than {in_use}, which is in use"),
            );
        } else if !is_given {
            self.find(
                now,
                format!("{mapping:?}, as it was given, does not lead to {io:?}"),
            );
        }
    }

    /// The device has taken it, and has not done it at once.
    pub fn begin(&mut self, io: &Io<'_>, now: Nanos) {
        self.in_flight.insert(io.slot, io.deadline);
        let expected = self.deadlines.get(&io.device).map(|span| now.after(*span));
        if expected != Some(io.deadline) {
            self.find(now, format!("{io:?} is to be back by {expected:?}"));
        }
    }

    /// The reactor asks for one back.
    pub fn cancel(&mut self, slot: SlotIndex, now: Nanos) {
        if let Some(&deadline) = self.in_flight.get(&slot)
            && now < deadline
        {
            self.find(now, format!("{slot:?} is asked back before {deadline:?}"));
        }
    }

    fn find(&self, now: Nanos, what: String) {
        let what = format!("reactor {}: {what}", self.reactor);
        self.findings.add(Invariant::OneGeneration, now, what);
    }
}

/// Whether an operation lies on one run of a route.
fn has(route: &Route, io: &Io<'_>) -> bool {
    if io.op == Op::Flush {
        return route.devices().contains(&io.device);
    }
    let (start, end) = (io.lba.0, io.lba.0 + io.sectors.0);
    let on = |run: &palisade_block::Run| {
        run.device == io.device && run.lba.0 <= start && end <= run.lba.0 + run.sectors.0
    };
    route.runs().iter().any(on)
}
