//! The clients of one end: they send reads and writes with marks by which each is known, and answer the other end's.

use palisade_block::Nanos;
use palisade_port::{BufferIndex, ClientWords, Completes, Completion, MessageAnswer, PortMessage};
use palisade_words::{Epoch, StreamIndex};
use std::collections::BTreeMap;

/// What is read into memory that is not wanted any more, or written from it.
pub(super) const POISON: u8 = 0xee;

/// A message that a client has sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) message: PortMessage,
    /// What goes with it, until it is done.
    pub(super) payload: Vec<u8>,
    /// Where its answer's data goes, and what was written there.
    pub(super) answer: Vec<u8>,
    /// How often the other end's client had it, and answered it.
    pub(super) delivered: u32,
    pub(super) answered: u32,
    pub(super) completion: Option<Completion>,
    /// In what order it was sent on its stream.
    pub(super) count: u64,
}

impl Sent {
    pub(super) fn is_read(&self) -> bool {
        self.message.answer_bytes > 0
    }
}

/// A message that a client of this end is at work on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) round: u32,
    pub(super) stream: StreamIndex,
    pub(super) sequence: u64,
    pub(super) key: u64,
    pub(super) buffer: Option<BufferIndex>,
    /// When it lands, and is answered if the run that has it lives until then.
    pub(super) due: Nanos,
    /// How often its sender had been up when it was delivered.
    pub(super) sender_ups: u64,
}

/// The words of a message: its name, and its number on its stream.
pub(super) fn words(key: u64, count: u64) -> ClientWords {
    let mut words = [0; 22];
    words[..8].copy_from_slice(&key.to_le_bytes());
    words[8..16].copy_from_slice(&count.to_le_bytes());
    words
}

/// And back.
pub(super) fn named(words: &ClientWords) -> (u64, u64) {
    let number = |at: usize| {
        words[at..at + 8]
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    };
    (number(0), number(8))
}

/// The data that belongs to a message: that of a write, or what a read brings.
pub(super) fn data(key: u64, bytes: u32) -> Vec<u8> {
    (0..bytes)
        .map(|at| (key.wrapping_mul(31).wrapping_add(u64::from(at)) % 199) as u8)
        .collect()
}

/// What one end's clients know.
#[derive(Debug, Default)]
pub(super) struct Clients {
    pub(super) sent: BTreeMap<u64, Sent>,
    pub(super) works: Vec<Work>,
    /// What earlier runs have submitted and nobody answers: it lands all the same.
    pub(super) orphans: Vec<Work>,
    /// Data of answers that the port has, by name.
    pub(super) answers: BTreeMap<u64, Vec<u8>>,
    /// Messages sent on each stream.
    pub(super) counts: BTreeMap<StreamIndex, u64>,
    /// What came last on each stream, in which round: the count of its sender.
    pub(super) last: BTreeMap<StreamIndex, (u32, u64, u64)>,
}

impl Clients {
    /// A new message of a stream.
    pub(super) fn message(
        &mut self,
        key: u64,
        stream: StreamIndex,
        completes: Completes,
        (payload_bytes, answer_bytes): (u32, u32),
    ) -> PortMessage {
        let count = self.counts.entry(stream).or_default();
        let message = PortMessage {
            client: 1,
            stream,
            words: words(key, *count),
            payload_bytes,
            answer_bytes,
            epoch: Epoch(1),
            key,
            completes,
        };
        let sent = Sent {
            message,
            payload: data(key, payload_bytes),
            answer: vec![POISON; answer_bytes as usize],
            delivered: 0,
            answered: 0,
            completion: None,
            count: *count,
        };
        *count += 1;
        self.sent.insert(key, sent);
        message
    }

    /// The answer to what was worked on.
    pub(super) fn answer(&mut self, work: &Work, is_read: Option<u32>, name: u64) -> MessageAnswer {
        let payload_bytes = is_read.unwrap_or(0);
        if payload_bytes > 0 {
            self.answers.insert(name, data(work.key, payload_bytes));
        }
        MessageAnswer {
            round: work.round,
            stream: work.stream,
            sequence: work.sequence,
            words: words(work.key, !work.key),
            payload_bytes,
            key: name,
            is_repeatable: is_read.is_some(),
        }
    }

    /// The last message was not taken.
    pub(super) fn forget_last(&mut self, key: u64, stream: StreamIndex) {
        self.sent.remove(&key);
        self.counts.entry(stream).and_modify(|count| *count -= 1);
    }

    /// Those sent on a stream whose counts lie in a range.
    pub(super) fn of_stream(
        &self,
        stream: StreamIndex,
        counts: std::ops::Range<u64>,
    ) -> impl Iterator<Item = &Sent> + '_ {
        let is_meant = move |sent: &&Sent| sent.message.stream == stream && counts.contains(&sent.count);
        self.sent.values().filter(is_meant)
    }

    /// Messages that are not done.
    pub(super) fn outstanding(&self) -> usize {
        self.sent
            .values()
            .filter(|sent| sent.completion.is_none())
            .count()
    }
}
