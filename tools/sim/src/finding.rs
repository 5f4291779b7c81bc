//! What a run found: each finding names the invariant that does not hold.

use palisade_block::Nanos;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// Which of the house's invariants a finding is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Invariant {
    /// 1: every request gets exactly one answer.
    OneAnswer,
    /// 2: an acknowledged write is never lost and never undone.
    WriteKept,
    /// 5: who cannot prove its membership has stopped before others count on it.
    MinorityStops,
    /// 7: no request straddles two generations of its volume's mapping.
    OneGeneration,
    /// 10: an operator's change is wholly there or wholly absent.
    AllOrNothing,
    /// 11: damage stops what depends on it and nothing else.
    Isolation,
    /// 12: every wait has a deadline and shows up when it is past it.
    BoundedWaiting,
    /// 13: when faults stop, all is well again with nobody's help.
    Heals,
    /// 14: foreign bytes cannot hurt.
    ForeignBytes,
    /// 15: a configuration that has grown on elsewhere is recognised, and not written over unasked.
    OneLineage,
    /// A turn neither allocates nor panics, and what it hands to a device keeps that device's contract.
    DataPath,
}

impl Invariant {
    /// Its number in the list of invariants; 0 for the data path's own rules.
    pub fn number(self) -> u8 {
        match self {
            Invariant::OneAnswer => 1,
            Invariant::WriteKept => 2,
            Invariant::MinorityStops => 5,
            Invariant::OneGeneration => 7,
            Invariant::AllOrNothing => 10,
            Invariant::Isolation => 11,
            Invariant::BoundedWaiting => 12,
            Invariant::Heals => 13,
            Invariant::ForeignBytes => 14,
            Invariant::OneLineage => 15,
            Invariant::DataPath => 0,
        }
    }
}

/// One thing that must not have happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What does not hold.
    pub invariant: Invariant,
    /// When, in virtual time.
    pub at: Nanos,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.invariant.number();
        write!(
            f,
            "[{number} {:?}] at {} us: {}",
            self.invariant,
            self.at.0 / 1000,
            self.what
        )
    }
}

/// Where the parts of a world report what they found.
#[derive(Clone, Debug, Default)]
pub struct Findings(Rc<RefCell<Vec<Finding>>>);

impl Findings {
    /// Adds one. After the first few the rest would only be echoes.
    pub fn add(&self, invariant: Invariant, at: Nanos, what: impl Into<String>) {
        let mut list = self.0.borrow_mut();
        if list.len() < 8 {
            list.push(Finding {
                invariant,
                at,
                what: what.into(),
            });
        }
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// All of them.
    pub fn list(&self) -> Vec<Finding> {
        self.0.borrow().clone()
    }
}
