//! Invariant 10: whatever an operator asks for, and wherever the process ends, the change is wholly there or wholly
//! absent: in the log, in the cluster that is made of it, and on the disks.
//!
//! ```text
//!   asked ─► applied ─► in the log ─► published ─► answered ─► steps: writes, flushes ─► told ─► as wanted
//!         x          x             x            x           x       x   x        x    x        x
//!                                        the end may come at any x, of the process or of the power
//! ```
//!
//! After each end a new process reads what is there: the log, and each disk by itself. A disk says what some generation
//! of the log says, all of it, and none that the log has not: an effect is never before its agreement. Asking again
//! does no harm, also where the answer was lost or another node leads; a refusal changes nothing, and in the end the disks are as
//! the cluster has it.

mod commands;
mod disks;
mod drive;
mod log;
mod node;
mod several;

use crate::finding::{Findings, Invariant};
use crate::plan::Break;
use crate::rng::{Rng, RunHash};
use commands::{OPENING, draw, draw_of_node, draw_one};
use disks::Disks;
use log::{Fate, Log};
use node::Node;
use palisade_block::Nanos;
use palisade_consensus::{Agreement, ProposeError};
use palisade_model::{Cluster, Command, FEATURE_LEVEL, NodeStarted, Outcome, check};
use palisade_wire::DecodeError;
use palisade_words::Name;
pub use several::run as run_several;
use std::sync::Arc;

/// Turns after which a node with nothing new to do must be at rest.
const TURNS_AT_REST: usize = 20_000;

/// Runs it.
pub fn run(mut rng: Rng, broken: Option<Break>, findings: &Findings) -> RunHash {
    let mut hash = RunHash::default();
    let mut operator = match Operator::new(&mut rng, broken) {
        Ok(operator) => operator,
        Err(what) => {
            findings.add(Invariant::AllOrNothing, Nanos(0), what);
            return hash;
        }
    };
    if let Err(what) = operator.life(&mut rng, &mut hash) {
        findings.add(Invariant::AllOrNothing, Nanos(0), what);
    }
    hash
}

/// What happens while a command is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fortune {
    /// What the log makes of it.
    fate: Fate,
    /// Whether the process ends then, before anybody is told.
    ends: bool,
}

impl Fortune {
    /// Nothing does.
    const GOOD: Fortune = Fortune {
        fate: Fate::Answered,
        ends: false,
    };
}

struct Operator {
    /// What is on stable storage.
    log: Log,
    /// Who answers and who does not: a row of chance of its own.
    answers: Rng,
    node: Node,
    disks: Disks,
    broken: Option<Break>,
}

impl Operator {
    fn new(rng: &mut Rng, broken: Option<Break>) -> Result<Operator, String> {
        let disks = Disks::new(rng)?;
        Ok(Operator {
            log: Log::new(broken),
            answers: rng.split("answers"),
            node: Node::new(name("node", 0)?, rng.split("node")),
            disks,
            broken,
        })
    }

    fn life(&mut self, rng: &mut Rng, hash: &mut RunHash) -> Result<(), String> {
        // A row of chance of its own: seeds that have found something go the way that they went.
        let mut of_nodes = rng.split("nodes");
        let opening = if rng.one_in(4) { 0 } else { OPENING.len() };
        for round in 0..rng.between(40, 90) as usize {
            let command = match OPENING.get(round).filter(|_| round < opening) {
                Some(kind) => draw_one(rng, *kind)?,
                None => draw(rng)?,
            };
            if self.is_let_in(&command) {
                let fortune = self.some_fortune(rng, 4);
                self.propose(&command, fortune, rng)?;
            }
            for _ in 0..[0, 3, 40, 400][rng.index(4)] {
                self.turn(rng)?;
            }
            if of_nodes.one_in(2) {
                let command = draw_of_node(&mut of_nodes, &self.log.cluster())?;
                self.propose(&command, Fortune::GOOD, rng)?;
            }
            if rng.one_in(6) {
                self.restart(rng)?;
                self.tell_of_start(rng)?;
            }
            hash.add([self.log.cluster().generation.0, rng.bits()]);
        }
        self.come_to_rest(rng)
    }

    /// What a node says first: which of its runs this is. Nobody has heard of that run before.
    fn tell_of_start(&mut self, rng: &mut Rng) -> Result<(), String> {
        let own = name("node", 0)?;
        let Some(node) = self.log.cluster().nodes.get(&own).cloned() else {
            return Ok(());
        };
        let started = NodeStarted {
            node: node.uuid,
            incarnation: node.incarnation.next(),
            feature_level: FEATURE_LEVEL,
        };
        self.propose(&Command::NodeStarted(started), Fortune::GOOD, rng)?;
        let told = self.log.cluster();
        let told = told.nodes.get(&own).map(|node| node.incarnation);
        match told > Some(node.incarnation) {
            true => Ok(()),
            false => Err(format!("a new run is {told:?}, as one before")),
        }
    }

    fn some_fortune(&mut self, rng: &mut Rng, one_in: u64) -> Fortune {
        let lost = [Fate::Lost, Fate::Unheard][rng.index(2)];
        if rng.one_in(one_in) {
            return Fortune {
                fate: lost,
                ends: true,
            };
        }
        let fate = match self.answers.below(12) {
            0 => Fate::NotLeader,
            1 => Fate::Lost,
            2 => Fate::Unheard,
            _ => Fate::Answered,
        };
        Fortune { fate, ends: false }
    }

    /// What the daemon looks at before it proposes: a medium that carries a superblock is not added, and a disk that is
    /// still open as another is not either.
    fn is_let_in(&mut self, command: &Command) -> bool {
        let Command::AddDisk(add) = command else {
            return true;
        };
        if self.log.cluster().disks.contains_key(&add.name) || self.node.has_open(&add.name) {
            return true;
        }
        let Some(drive) = self.disks.drives.get_mut(&add.name) else {
            return false;
        };
        match drive.read() {
            Err(DecodeError::NotOurs) => {
                drive.take();
                true
            }
            _ => false,
        }
    }

    /// A change, from the question to its answer; the process may end on the way, or the answer be lost, or another node lead,
    /// and then the operator asks again.
    fn propose(&mut self, command: &Command, fortune: Fortune, rng: &mut Rng) -> Result<(), String> {
        let before = self.log.cluster();
        let (after, outcome) = match before.apply(command) {
            Ok(applied) => applied,
            Err(_) => return Ok(()),
        };
        check(&after).map_err(|broken| format!("after {command:?}: {broken:?}"))?;
        let is_unchanged = matches!(outcome, Outcome::Unchanged { .. });
        if is_unchanged != (after == *before) {
            return Err(format!(
                "{command:?}: {outcome:?}, and something else has come of it"
            ));
        }
        if is_unchanged || self.node.objects(&before, &after) {
            return Ok(());
        }
        if after.generation <= before.generation {
            return Err(format!("{command:?} changed the cluster and not its generation"));
        }
        if fortune.ends && fortune.fate == Fate::Lost && self.broken == Some(Break::EffectsBeforeTheLog) {
            // The deliberate fault: what is not in the log has effects already.
            let early = Arc::new(after.clone());
            for _ in 0..400 {
                self.node.turn(&early, &mut self.disks.drives, rng)?;
            }
        }
        self.log.next(fortune.fate);
        let answer = self.log.propose(command.clone());
        let is_agreed = matches!(fortune.fate, Fate::Answered | Fate::Unheard);
        if is_agreed {
            self.disks.note(&after);
        }
        match (fortune.fate, answer) {
            (Fate::Answered, Ok(told)) if told == outcome => return Ok(()),
            (Fate::NotLeader, Err(ProposeError::NotLeader { .. })) => {}
            (Fate::Lost | Fate::Unheard, Err(ProposeError::OutcomeUnknown)) => {}
            (_, answer) => return Err(format!("{command:?}: {fortune:?} was answered by {answer:?}")),
        }
        if fortune.ends {
            self.restart(rng)?;
        }
        let expected = if is_agreed { after } else { Cluster::clone(&before) };
        self.ask_again(command, &expected, rng)
    }

    fn ask_again(&mut self, command: &Command, expected: &Cluster, rng: &mut Rng) -> Result<(), String> {
        let cluster = self.log.cluster();
        if *cluster != *expected {
            return Err(format!(
                "after {command:?} without an answer the cluster is neither what it was nor what it was to become"
            ));
        }
        let was_in_the_log = self.log.last().as_ref() == Some(command);
        if was_in_the_log
            && let Ok((again, _)) = cluster.apply(command)
            && again != *cluster
            && !matches!(command, Command::RecordCleared(_))
        {
            return Err(format!("{command:?} asked again is done twice"));
        }
        if self.is_let_in(command) {
            return self.propose(command, Fortune::GOOD, rng);
        }
        Ok(())
    }

    /// One turn of the node, with what it tells the cluster.
    fn turn(&mut self, rng: &mut Rng) -> Result<(), String> {
        let cluster = self.log.cluster();
        for (command, task) in self.node.turn(&cluster, &mut self.disks.drives, rng)? {
            let fortune = self.some_fortune(rng, 8);
            self.propose(&command, fortune, rng)?;
            if fortune.ends {
                return Ok(());
            }
            self.node.done(task);
        }
        Ok(())
    }

    /// The process ends, and another begins with what is there.
    fn restart(&mut self, rng: &mut Rng) -> Result<(), String> {
        let power = rng.one_in(2);
        for drive in self.disks.drives.values_mut() {
            if power {
                drive.medium.power_cut(rng);
            }
        }
        self.log.read_again()?;
        self.node.restart(self.log.cluster().generation);
        self.disks.check(&self.log.cluster())
    }

    /// When nothing more happens the disks say what the cluster says.
    fn come_to_rest(&mut self, rng: &mut Rng) -> Result<(), String> {
        self.restart(rng)?;
        let mut turns = 0;
        while !self.node.is_at_rest(&self.log.cluster()) {
            turns += 1;
            if turns > TURNS_AT_REST {
                return Err("the node does not come to rest".into());
            }
            let cluster = self.log.cluster();
            for (command, task) in self.node.turn(&cluster, &mut self.disks.drives, rng)? {
                self.propose(&command, Fortune::GOOD, rng)?;
                self.node.done(task);
            }
        }
        self.disks.are_as_wanted(&self.log.cluster())
    }
}

fn name(kind: &str, number: u64) -> Result<Name, String> {
    Name::new(format!("{kind}-{number}")).map_err(|error| format!("{error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A scenario whose commands are all refused would prove nothing, nor one whose disks never carry anything.
    #[test]
    fn changes_of_every_kind_happen_often_and_reach_the_disks() {
        let mut done = BTreeMap::new();
        let (mut extents, mut told_twice) = (0, 0);
        for seed in 0..100 {
            let mut rng = Rng::new(seed);
            let mut operator = Operator::new(&mut rng, None).unwrap();
            operator.life(&mut rng, &mut RunHash::default()).unwrap();
            for command in &operator.log.entries() {
                let kind = std::mem::discriminant(command);
                *done.entry(format!("{kind:?}")).or_insert(0) += 1;
            }
            told_twice += operator.node.told_twice();
            let tables = operator
                .disks
                .drives
                .values()
                .filter_map(|drive| drive.read().ok());
            extents += tables.map(|found| found.extents.len()).sum::<usize>();
        }
        assert_eq!(done.len(), 21, "{done:?}");
        assert!(done.values().all(|times| *times >= 10), "{done:?}");
        assert!(extents > 25 && told_twice > 300, "{extents}, {told_twice}");
    }
}
