//! What may happen to the reactor of the model test, and how often.

use super::plan::{DEVICES, HEADS, SECTORS, WINDOW};
use palisade_block::*;
use proptest::prelude::*;

/// Lengths of segments, over and over: as devices like them, as they do not, and so short that many are needed.
pub const LENGTHS: [&[usize]; 8] = [
    &[WINDOW as usize * 512],
    &[4096],
    &[512],
    &[256],
    &[100, 412],
    &[1, 511, 4096],
    &[8192, 512, 3584],
    &[33],
];

pub const OPS: [Op; 6] = [
    Op::Read,
    Op::Write,
    Op::Flush,
    Op::Discard,
    Op::WriteZeroes { unmap: false },
    Op::WriteZeroes { unmap: true },
];

pub const FAULTS: [Fault; 4] = [Fault::Media, Fault::NoSpace, Fault::GuestMemory, Fault::TimedOut];

#[derive(Clone, Debug)]
pub enum Step {
    /// A request: head, queue, operation, first sector in its window and length, offset, gap and lengths of segments.
    Ask(u16, usize, usize, (u64, u64), (usize, usize, usize)),
    Turn,
    /// It would sleep if it may; then a turn.
    Sleep,
    /// A device ends one of its operations, with a fault if there is one.
    End(usize, Option<usize>),
    EndAll,
    Busy(usize, bool),
    AtOnce(usize, bool),
    /// The next operation of a device that answers at once fails.
    Fail(usize, usize),
    /// Another layout is agreed on, whether a change was announced or not.
    Route,
    /// A change is announced, the same once more if one is.
    Suspend,
    /// The change is given up; another is announced behind it before, so that what came of it is not known.
    Cancel,
    Overtake,
    /// Something older than what is known is said: a route, an announcement, that a change is given up, or a route of an
    /// older membership.
    Stale(usize),
    /// Stops a queue, or brings it back.
    Stop(usize),
    /// Time passes, more than an operation may take.
    Late,
    /// The second queue's volume is taken away.
    Revoke,
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = prop_oneof![
        6 => (0..12u64, 1..12u64).prop_map(|(at, blocks)| (8 * at, (8 * blocks).min(WINDOW - 8 * at))),
        1 => (0..90u64, 1..6u64),
        1 => Just((0, WINDOW)),
        1 => Just((SECTORS, 8)),
    ];
    let offset = prop_oneof![Just(0usize), Just(4), Just(512), Just(1)];
    let gap = prop_oneof![3 => Just(0usize), 1 => Just(4), 1 => Just(512)];
    let ask = (
        0..HEADS,
        0..2usize,
        0..OPS.len() + 4,
        range,
        (offset, gap, 0..LENGTHS.len()),
    );
    let fault = prop_oneof![4 => Just(None), 1 => (0..FAULTS.len()).prop_map(Some)];
    let step = prop_oneof![
        8 => ask.prop_map(|(head, queue, op, range, shape)| Step::Ask(head, queue, op, range, shape)),
        8 => Just(Step::Turn),
        3 => Just(Step::Sleep),
        6 => (any::<usize>(), fault).prop_map(|(which, fault)| Step::End(which, fault)),
        2 => Just(Step::EndAll),
        1 => (0..DEVICES, any::<bool>()).prop_map(|(device, busy)| Step::Busy(device, busy)),
        1 => (0..DEVICES, any::<bool>()).prop_map(|(device, at_once)| Step::AtOnce(device, at_once)),
        1 => (0..DEVICES, 0..FAULTS.len()).prop_map(|(device, fault)| Step::Fail(device, fault)),
        1 => Just(Step::Route),
        1 => Just(Step::Suspend),
        1 => Just(Step::Cancel),
        1 => prop_oneof![1 => Just(Step::Overtake), 3 => (0..4usize).prop_map(Step::Stale)],
        1 => (0..2usize).prop_map(Step::Stop),
        1 => Just(Step::Late),
        1 => Just(Step::Revoke),
    ];
    prop::collection::vec(step, 1..120)
}
