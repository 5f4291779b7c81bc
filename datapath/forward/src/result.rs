//! What a request between two nodes is, and what becomes of it, in the words of each side.

use palisade_block::{Fault, Op, Status};
use palisade_wire::{ForwardedOp, ForwardedResult};

/// An engine's operation as it is sent.
pub(crate) fn asked(op: Op) -> ForwardedOp {
    match op {
        Op::Read => ForwardedOp::Read,
        Op::Write => ForwardedOp::Write,
        Op::Flush => ForwardedOp::Flush,
        Op::Discard => ForwardedOp::Discard,
        Op::WriteZeroes { unmap } => ForwardedOp::WriteZeroes { unmap },
    }
}

/// What was sent, as an engine's operation.
pub(crate) fn given(op: ForwardedOp) -> Op {
    match op {
        ForwardedOp::Read => Op::Read,
        ForwardedOp::Write => Op::Write,
        ForwardedOp::Flush => Op::Flush,
        ForwardedOp::Discard => Op::Discard,
        ForwardedOp::WriteZeroes { unmap } => Op::WriteZeroes { unmap },
    }
}

/// How an engine has ended a request, as it is answered.
pub(crate) fn answered(status: Status, fault: Option<Fault>) -> ForwardedResult {
    match (status, fault) {
        (Status::Ok, _) => ForwardedResult::Done,
        (Status::Unsupp, _) => ForwardedResult::Unsupported,
        // Refused by the engine itself: it does not fit the volume.
        (Status::IoErr, None) => ForwardedResult::Rejected,
        (Status::IoErr, Some(fault)) => match fault {
            Fault::Media => ForwardedResult::Media,
            Fault::NoSpace => ForwardedResult::NoSpace,
            Fault::Gone => ForwardedResult::Gone,
            Fault::Fenced => ForwardedResult::Fenced,
            Fault::Unsupported => ForwardedResult::Unsupported,
            Fault::ReadOnly => ForwardedResult::ReadOnly,
            Fault::TimedOut => ForwardedResult::TimedOut,
            Fault::Unreachable => ForwardedResult::Unreachable,
            Fault::BeyondEnd => ForwardedResult::BeyondEnd,
            Fault::TooLarge => ForwardedResult::TooLarge,
            Fault::NoMemory => ForwardedResult::NoMemory,
            Fault::Denied => ForwardedResult::Denied,
            // The memory of a request of another node is this node's own.
            Fault::GuestMemory | Fault::Rejected => ForwardedResult::Rejected,
        },
    }
}

/// What an answer means to the engine that has asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// It is done.
    Done,
    /// It was not, and never will be; or it was, and has met a fault of the medium.
    Definite(Fault),
    /// The other node has lost its way to the disk: a change may still be carried out there, and is no answer before it is proved
    /// that it is not. "Path lost", "timed out" and "aborted" say nothing of a write.
    MayLand,
}

/// What an answer means.
pub(crate) fn meaning(result: ForwardedResult) -> Meaning {
    match result {
        ForwardedResult::Done => Meaning::Done,
        // None of these was begun there. Another node, or the same one under another mapping, may do it.
        ForwardedResult::Stale | ForwardedResult::NotServed | ForwardedResult::Fenced => {
            Meaning::Definite(Fault::Unreachable)
        }
        ForwardedResult::Gone | ForwardedResult::TimedOut | ForwardedResult::Unreachable => Meaning::MayLand,
        ForwardedResult::ReadOnly => Meaning::Definite(Fault::ReadOnly),
        ForwardedResult::Media => Meaning::Definite(Fault::Media),
        ForwardedResult::NoSpace => Meaning::Definite(Fault::NoSpace),
        ForwardedResult::Unsupported => Meaning::Definite(Fault::Unsupported),
        ForwardedResult::BeyondEnd => Meaning::Definite(Fault::BeyondEnd),
        ForwardedResult::TooLarge => Meaning::Definite(Fault::TooLarge),
        ForwardedResult::NoMemory => Meaning::Definite(Fault::NoMemory),
        ForwardedResult::Denied => Meaning::Definite(Fault::Denied),
        ForwardedResult::Rejected => Meaning::Definite(Fault::Rejected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_the_same_at_both_ends() {
        let zeroes = [true, false].map(|unmap| Op::WriteZeroes { unmap });
        for op in [Op::Read, Op::Write, Op::Flush, Op::Discard]
            .into_iter()
            .chain(zeroes)
        {
            assert_eq!(given(asked(op)), op);
        }
    }

    #[test]
    fn only_what_is_settled_at_the_other_node_is_an_answer_for_a_change() {
        let of = |fault| meaning(answered(Status::IoErr, Some(fault)));
        for fault in [Fault::Gone, Fault::TimedOut, Fault::Unreachable] {
            assert_eq!(of(fault), Meaning::MayLand);
        }
        // That node was refused, not this one.
        assert_eq!(of(Fault::Fenced), Meaning::Definite(Fault::Unreachable));
        for fault in [
            Fault::Media,
            Fault::NoSpace,
            Fault::ReadOnly,
            Fault::BeyondEnd,
            Fault::Denied,
        ] {
            assert_eq!(of(fault), Meaning::Definite(fault));
        }
        assert_eq!(meaning(answered(Status::Ok, None)), Meaning::Done);
        assert_eq!(
            meaning(answered(Status::IoErr, None)),
            Meaning::Definite(Fault::Rejected)
        );
        let stale = meaning(ForwardedResult::Stale);
        assert_eq!(
            stale,
            Meaning::Definite(Fault::Unreachable),
            "asked again by another mapping"
        );
    }
}
