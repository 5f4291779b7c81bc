//! Deliberate faults by name. Each is put in at a border of the simulator, never in the code under test, and proves
//! that a checker can fail: the test runs seeds until it is found.

use crate::devices::Tampering;
use crate::disk::Lie;
use crate::finding::Invariant;
use crate::plan::Break;
use crate::source::Meddling;

/// A deliberate fault.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    /// Its name.
    pub name: &'static str,
    /// What is done.
    pub fault: Break,
    /// The scenario that must find it.
    pub scenario: &'static str,
    /// The checker that must: what it finds first is about this.
    pub finds: Invariant,
}

/// All of them.
pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "drop-answer",
        fault: Break::Source(Meddling::DropAnswer),
        scenario: "rings",
        finds: Invariant::OneAnswer,
    },
    Mutation {
        name: "answer-twice",
        fault: Break::Source(Meddling::AnswerTwice),
        scenario: "rings",
        finds: Invariant::OneAnswer,
    },
    Mutation {
        name: "hide-failure",
        fault: Break::Source(Meddling::HideFailure),
        scenario: "faults",
        finds: Invariant::WriteKept,
    },
    Mutation {
        name: "skip-flush",
        fault: Break::Source(Meddling::SkipFlush),
        scenario: "power",
        finds: Invariant::WriteKept,
    },
    Mutation {
        name: "swap-segments",
        fault: Break::Devices(Tampering::SwapSegments),
        scenario: "rings",
        finds: Invariant::WriteKept,
    },
    Mutation {
        name: "forget-durable",
        fault: Break::Devices(Tampering::ForgetDurable),
        scenario: "power",
        finds: Invariant::WriteKept,
    },
    Mutation {
        name: "lose-completion",
        fault: Break::Devices(Tampering::LoseCompletion),
        scenario: "rings",
        finds: Invariant::Isolation,
    },
    Mutation {
        name: "mapping-before",
        fault: Break::Devices(Tampering::MappingBefore),
        scenario: "remap",
        finds: Invariant::OneGeneration,
    },
    Mutation {
        name: "lying-flush",
        fault: Break::Disks(Lie::FlushDoesNothing),
        scenario: "power",
        finds: Invariant::WriteKept,
    },
    Mutation {
        name: "lost-write",
        fault: Break::Disks(Lie::WriteLost),
        scenario: "rings",
        finds: Invariant::WriteKept,
    },
    Mutation {
        name: "misplaced-write",
        fault: Break::Disks(Lie::WriteMisplaced),
        scenario: "rings",
        finds: Invariant::WriteKept,
    },
    Mutation {
        name: "turned-bit",
        fault: Break::Disks(Lie::BitTurned),
        scenario: "rings",
        finds: Invariant::WriteKept,
    },
    Mutation {
        name: "forget-inflight",
        fault: Break::ForgetInflight,
        scenario: "kill",
        finds: Invariant::OneAnswer,
    },
    Mutation {
        name: "lose-kicks",
        fault: Break::LoseKicks,
        scenario: "rings",
        finds: Invariant::OneAnswer,
    },
    Mutation {
        name: "limit-each-queue",
        fault: Break::LimitEachQueue,
        scenario: "rings",
        finds: Invariant::DataPath,
    },
    Mutation {
        name: "effects-first",
        fault: Break::EffectsBeforeTheLog,
        scenario: "operator",
        finds: Invariant::AllOrNothing,
    },
    Mutation {
        name: "acknowledge-unlogged",
        fault: Break::AcknowledgesUnlogged,
        scenario: "operator",
        finds: Invariant::AllOrNothing,
    },
    Mutation {
        name: "keep-refused",
        fault: Break::KeepsRefused,
        scenario: "lineage",
        finds: Invariant::Isolation,
    },
    Mutation {
        name: "voters-never-sync",
        fault: Break::VotersNeverSync,
        scenario: "raft",
        finds: Invariant::AllOrNothing,
    },
];

/// The deliberate fault of a name.
pub fn named(name: &str) -> Option<&'static Mutation> {
    MUTATIONS.iter().find(|mutation| mutation.name == name)
}
