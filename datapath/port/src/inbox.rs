//! What a session has received: messages from when the first of their bytes came until the other end knows their answer.
//!
//! A message may come more than once, by any link, and in any order. Each is delivered in the order of its stream, and what
//! was done is not done twice: while the other end may still send it again, its answer is kept (003-15, 003-34).
//!
//! ```text
//!   stream:   settled  | given to the client, or answered | held until those before have come
//!             ---------+----------------------------------+----------------->
//!            all before are known                     next to be delivered
//!            to have their answer
//! ```

use crate::message::{BufferIndex, ClientWords, Violation};
use crate::settings::SessionSettings;
use palisade_wire::FrameHeader;
use palisade_words::{Epoch, LinkIndex, StreamIndex};
use std::collections::VecDeque;

/// By which link a message has come, and its answer goes: if that link is lost, the message comes once more by another one.
/// One that was delayed on a link of before changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bringer {
    link: Option<LinkIndex>,
    attempt: u8,
}

impl Bringer {
    /// Whether an attempt came after this one. They are counted modulo 256, and no more than a few are ever under way.
    fn is_before(&self, attempt: u8) -> bool {
        (attempt.wrapping_sub(self.attempt) as i8) > 0
    }

    fn comes_again(&mut self, by: Bringer) -> bool {
        let is_later = self.is_before(by.attempt);
        if is_later {
            *self = by;
        }
        is_later
    }
}

/// What is known of one number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    /// It has not come.
    Absent,
    /// It has come whole, and one before it has not.
    Held {
        client: u8,
        words: ClientWords,
        epoch: Epoch,
        buffer: Option<BufferIndex>,
        asks_accepted: bool,
        by: Bringer,
    },
    /// The client has it. If it was answered before, the other end may have that answer meanwhile.
    Given {
        client: u8,
        by: Bringer,
        was_answered: bool,
    },
    /// The client has answered it.
    Answered(Given),
}

/// An answer that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Given {
    by: Bringer,
    pub(crate) client: u8,
    pub(crate) words: ClientWords,
    pub(crate) payload_bytes: u32,
    pub(crate) key: u64,
    is_repeatable: bool,
    /// It waits to be sent.
    waits: bool,
}

#[derive(Debug)]
struct Stream {
    settled: u64,
    next: u64,
    /// Held, or with the client and never answered: of these the other end sends a window at most.
    open: u16,
    /// Settled, and with the client all the same: it was delivered again, and the other end has had its first answer after all.
    again: usize,
    entries: Box<[Entry]>,
}

impl Stream {
    fn at(&mut self, sequence: u64) -> Option<&mut Entry> {
        let span = self.entries.len() as u64;
        if !(self.settled..self.settled.saturating_add(span)).contains(&sequence) {
            return None;
        }
        self.entries.get_mut((sequence % span) as usize)
    }
}

impl Given {
    /// By which link it goes, if that is there.
    pub(crate) fn link(&self) -> Option<LinkIndex> {
        self.by.link
    }
}

/// What a message is that is arriving or has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// It was not here before.
    New,
    /// It was, and its answer, which was repeatable, is lost.
    Again,
    /// It was, and is with the client or has its answer, which comes or comes once more.
    Known,
}

/// A message that is due to its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Due {
    pub(crate) client: u8,
    pub(crate) stream: StreamIndex,
    pub(crate) sequence: u64,
    pub(crate) words: ClientWords,
    pub(crate) epoch: Epoch,
    pub(crate) buffer: Option<BufferIndex>,
    /// Its sender wants to know that it is with its client; by this link, if it is there.
    pub(crate) asks_accepted: Option<LinkIndex>,
}

/// All that was received.
#[derive(Debug)]
pub(crate) struct Inbox {
    window: u16,
    streams: Box<[Stream]>,
    /// With clients, of all streams.
    given: usize,
    /// Answers that wait to be sent, in order.
    answers: VecDeque<(StreamIndex, u64, Given)>,
}

impl Inbox {
    pub(crate) fn new(settings: &SessionSettings) -> Inbox {
        let stream = || Stream {
            settled: 0,
            next: 0,
            open: 0,
            again: 0,
            entries: vec![Entry::Absent; settings.span() as usize].into(),
        };
        Inbox {
            window: settings.window,
            streams: (0..settings.streams).map(|_| stream()).collect(),
            given: 0,
            answers: VecDeque::with_capacity(usize::from(settings.streams) * settings.span() as usize),
        }
    }

    /// How many messages clients have not answered.
    pub(crate) fn given(&self) -> usize {
        self.given
    }

    /// What a message is whose header has come. The other end may have settled some before it.
    ///
    /// # Errors
    /// No program of ours sends such a message.
    pub(crate) fn judge(&mut self, header: &FrameHeader) -> Result<Arrival, Violation> {
        let window = self.window;
        let stream = self
            .streams
            .get_mut(header.stream.usize())
            .ok_or(Violation::NoStream)?;
        let lowest = header.sequence - u64::from(header.behind);
        while stream.settled < lowest {
            let settled = stream.settled;
            match stream.at(settled) {
                Some(entry @ Entry::Answered(_)) => *entry = Entry::Absent,
                Some(
                    entry @ Entry::Given {
                        was_answered: true, ..
                    },
                ) => {
                    *entry = Entry::Absent;
                    stream.again += 1;
                }
                _ => return Err(Violation::NeverAnswered),
            }
            stream.settled += 1;
        }
        if header.sequence < stream.settled {
            return Ok(Arrival::Known);
        }
        let open = stream.open;
        match stream.at(header.sequence) {
            None => Err(Violation::Window),
            Some(Entry::Absent) if open >= window => Err(Violation::Window),
            Some(Entry::Absent) => Ok(Arrival::New),
            Some(Entry::Answered(answer))
                if answer.is_repeatable && !answer.waits && answer.by.is_before(header.attempt) =>
            {
                Ok(Arrival::Again)
            }
            Some(_) => Ok(Arrival::Known),
        }
    }

    /// Whether a message whose header has come may be due to its client when the whole of it has: then its payload needs a
    /// buffer. While it is arriving, the answer that is known may have been given, sent and lost.
    pub(crate) fn may_be_delivered(&mut self, header: &FrameHeader) -> bool {
        let stream = self.streams.get_mut(header.stream.usize());
        match stream.and_then(|stream| stream.at(header.sequence)) {
            None => false,
            Some(Entry::Absent) => true,
            Some(Entry::Held { by, .. } | Entry::Given { by, .. }) => by.is_before(header.attempt),
            Some(Entry::Answered(answer)) => answer.is_repeatable && answer.by.is_before(header.attempt),
        }
    }

    /// A message has come whole, by this link. What lies in its buffer is wanted unless it is known.
    ///
    /// # Errors
    /// No program of ours sends such a message.
    pub(crate) fn arrive(
        &mut self,
        header: &FrameHeader,
        link: LinkIndex,
        buffer: Option<BufferIndex>,
    ) -> Result<Arrival, Violation> {
        let arrival = self.judge(header)?;
        let lacks_data = header.payload_bytes > 0 && buffer.is_none();
        if lacks_data && arrival != Arrival::Known {
            // Its header came when no message could come.
            return Err(Violation::OutOfPlace);
        }
        let index = header.stream;
        let by = Bringer {
            link: Some(link),
            attempt: header.attempt,
        };
        let stream = self.streams.get_mut(index.usize()).ok_or(Violation::NoStream)?;
        let Some(entry) = stream.at(header.sequence) else {
            return Ok(Arrival::Known);
        };
        match arrival {
            Arrival::New if header.is_void => {
                // There is nothing to be delivered, and its sender only wants its place back.
                let answer = Given {
                    by,
                    client: header.client,
                    words: [0; palisade_wire::CLIENT_WORDS_BYTES],
                    payload_bytes: 0,
                    key: 0,
                    is_repeatable: false,
                    waits: true,
                };
                *entry = Entry::Answered(answer);
                self.answers.push_back((index, header.sequence, answer));
            }
            Arrival::New => {
                *entry = Entry::Held {
                    client: header.client,
                    words: header.words,
                    epoch: header.epoch,
                    buffer,
                    asks_accepted: header.asks_accepted,
                    by,
                };
                stream.open += 1;
            }
            Arrival::Again => {
                *entry = Entry::Given {
                    client: header.client,
                    by,
                    was_answered: true,
                };
                self.given += 1;
            }
            Arrival::Known => match entry {
                Entry::Absent => {}
                Entry::Held { by: known, .. } | Entry::Given { by: known, .. } => {
                    known.comes_again(by);
                }
                Entry::Answered(answer) => {
                    if answer.by.comes_again(by) && !std::mem::replace(&mut answer.waits, true) {
                        self.answers.push_back((index, header.sequence, *answer));
                    }
                }
            },
        }
        Ok(arrival)
    }

    /// A link is gone: what came by it is answered when it comes again, by whichever, and not by a link that is made anew under
    /// the same number.
    pub(crate) fn lost(&mut self, link: LinkIndex) {
        for entry in self.streams.iter_mut().flat_map(|stream| &mut stream.entries) {
            let by = match entry {
                Entry::Absent => continue,
                Entry::Held { by, .. } | Entry::Given { by, .. } => by,
                Entry::Answered(answer) => &mut answer.by,
            };
            by.link = by.link.filter(|by| *by != link);
        }
    }

    /// Whether a message of this number was given to its client, or was void.
    pub(crate) fn has_delivered(&self, stream: StreamIndex, sequence: u64) -> bool {
        let stream = self.streams.get(stream.usize());
        stream.is_some_and(|stream| sequence < stream.next)
    }

    /// The next message of a stream that may be delivered.
    pub(crate) fn due(&mut self, index: StreamIndex) -> Option<Due> {
        let stream = self.streams.get_mut(index.usize())?;
        loop {
            let sequence = stream.next;
            let entry = stream.at(sequence)?;
            match *entry {
                Entry::Absent => return None,
                Entry::Given { .. } | Entry::Answered(_) => stream.next += 1,
                Entry::Held {
                    client,
                    words,
                    epoch,
                    buffer,
                    asks_accepted,
                    by,
                } => {
                    *entry = Entry::Given {
                        client,
                        by,
                        was_answered: false,
                    };
                    stream.next += 1;
                    self.given += 1;
                    return Some(Due {
                        client,
                        stream: index,
                        sequence,
                        words,
                        epoch,
                        buffer,
                        asks_accepted: by.link.filter(|_| asks_accepted),
                    });
                }
            }
        }
    }

    /// A client answers. False when nobody waits for that: it was not asked, or the round is over.
    pub(crate) fn answer(&mut self, answer: &crate::MessageAnswer, is_over: bool) -> bool {
        let Some(stream) = self.streams.get_mut(answer.stream.usize()) else {
            return false;
        };
        if answer.sequence < stream.settled && stream.again > 0 {
            stream.again -= 1;
            self.given -= 1;
            return false;
        }
        let Some(entry) = stream.at(answer.sequence) else {
            return false;
        };
        let Entry::Given {
            client,
            by,
            was_answered,
        } = *entry
        else {
            return false;
        };
        let kept = Given {
            by,
            client,
            words: answer.words,
            payload_bytes: answer.payload_bytes,
            key: answer.key,
            is_repeatable: answer.is_repeatable,
            waits: true,
        };
        *entry = match is_over {
            true => Entry::Absent,
            false => Entry::Answered(kept),
        };
        stream.open -= u16::from(!was_answered);
        self.given -= 1;
        if !is_over {
            self.answers.push_back((answer.stream, answer.sequence, kept));
        }
        !is_over
    }

    /// The next answer that waits, and whether it is to be sent: one that was to be sent once more may not be wanted any more.
    pub(crate) fn next_answer(&mut self) -> Option<(StreamIndex, u64, Given, bool)> {
        let (index, sequence, waited) = self.answers.pop_front()?;
        let entry = self.streams.get_mut(index.usize())?.at(sequence);
        if let Some(Entry::Answered(answer)) = entry
            && std::mem::take(&mut answer.waits)
        {
            return Some((index, sequence, *answer, true));
        }
        Some((index, sequence, waited, false))
    }

    /// Whether answers wait to be sent.
    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// What clients do not have yet is thrown away, and so is what they have answered: buffers are given to `free`, the names of
    /// answers' data to `done`. What they have stays until they have answered it.
    pub(crate) fn discard(&mut self, mut free: impl FnMut(BufferIndex), mut done: impl FnMut(u64)) {
        for stream in &mut self.streams {
            for entry in &mut stream.entries {
                if let Entry::Held { buffer, .. } = *entry {
                    buffer.into_iter().for_each(&mut free);
                    *entry = Entry::Absent;
                    stream.open -= 1;
                }
            }
        }
        let waiting = self
            .answers
            .drain(..)
            .filter(|(_, _, answer)| answer.payload_bytes > 0);
        waiting.for_each(|(_, _, answer)| done(answer.key));
    }

    /// The numbers begin anew. Clients have nothing any more.
    pub(crate) fn begin_anew(&mut self) {
        debug_assert_eq!(self.given, 0, "a round begins when the one before it is over");
        for stream in &mut self.streams {
            stream.entries.fill(Entry::Absent);
            (stream.settled, stream.next, stream.open) = (0, 0, 0);
        }
        self.answers.clear();
    }

    /// Whether the books agree with themselves; what does not, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut given = 0;
        for (at, stream) in self.streams.iter().enumerate() {
            let of = |wanted: fn(&Entry) -> bool| stream.entries.iter().filter(|entry| wanted(entry)).count();
            let with_clients = of(|entry| matches!(entry, Entry::Given { .. }));
            let held = of(|entry| matches!(entry, Entry::Held { .. }));
            let first = of(|entry| {
                matches!(
                    entry,
                    Entry::Given {
                        was_answered: false,
                        ..
                    }
                )
            });
            let open = held + first;
            if open != usize::from(stream.open) {
                return Err(format!("stream {at} counts {} open, has {open}", stream.open));
            }
            given += with_clients + stream.again;
        }
        match given == self.given {
            true => Ok(()),
            false => Err(format!("{} counted with clients, {given} are", self.given)),
        }
    }
}

#[cfg(test)]
mod tests;
