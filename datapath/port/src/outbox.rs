//! What a session has to send: messages from when they are taken until they are done and answered.
//!
//! Each stream has its numbers. A message gets its number when it is taken; it is sent when the window of its stream has room;
//! it keeps its place until it is answered, since a link may take it with it. Then it is sent again, under the same number,
//! and the other end knows it by that.
//!
//! ```text
//!   stream:   answered | some answered ......... | waiting, in order
//!             ---------+-------------------------+----------------->
//!                    lowest                    next to be sent
//!                      '- at most a span of numbers, of which at most a window is unanswered
//! ```
//!
//! Nothing is allocated after the session was made.

use crate::message::{Completes, Completion, PortMessage};
use crate::settings::{SPAN_WINDOWS, SessionSettings};
use palisade_block::Nanos;
use palisade_words::{LinkIndex, StreamIndex};
use std::collections::VecDeque;

/// No place.
const NONE: u32 = u32::MAX;

/// A message that was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) message: PortMessage,
    pub(crate) sequence: u64,
    /// The client has been told that it is done; its payload is gone.
    pub(crate) is_told: bool,
    /// It was sent at least once, in this round or in one before.
    pub(crate) was_sent: bool,
    /// How often it was sent in this round, modulo 256.
    pub(crate) attempts: u8,
    /// The link it was sent by last, while that lives.
    pub(crate) link: Option<LinkIndex>,
    /// How often this place was taken and something sent from it, modulo 2^32.
    pub(crate) generation: u32,
    /// When it was sent last in this round.
    pub(crate) sent_at: Option<Nanos>,
    /// The next one that waits on its stream.
    next: u32,
    /// Nothing lies here.
    is_free: bool,
}

impl Taken {
    fn new(message: PortMessage, sequence: u64) -> Taken {
        Taken {
            message,
            sequence,
            is_told: false,
            was_sent: false,
            attempts: 0,
            generation: 0,
            link: None,
            sent_at: None,
            next: NONE,
            is_free: false,
        }
    }

    /// Its client was told that it is sent, and no more. One that was accepted has been delivered.
    fn may_be_lost(&self) -> bool {
        self.is_told && self.message.completes == Completes::Sent
    }

    /// An answer comes by the link that its message went by, or not at all: of all others that ever carried it, none is left.
    /// So no two bring data to where the client wants it.
    pub(crate) fn may_be_answered_by(&self, link: LinkIndex) -> bool {
        self.link == Some(link)
    }
}

#[derive(Debug)]
struct Stream {
    /// The number of the message that is taken next.
    next_taken: u64,
    /// And of the one that is sent next for the first time.
    next_sent: u64,
    /// All before it are answered.
    lowest: u64,
    /// Sent and not answered.
    in_flight: u16,
    /// Of these, those whose link is lost.
    again: u16,
    /// Those that were taken and not sent, as a list.
    first: u32,
    last: u32,
    /// Where those that were sent lie, by their number modulo the span.
    sent: Box<[u32]>,
    /// It is in the list of those that have something to send.
    is_ready: bool,
}

impl Stream {
    fn new(span: u64) -> Stream {
        Stream {
            next_taken: 0,
            next_sent: 0,
            lowest: 0,
            in_flight: 0,
            again: 0,
            first: NONE,
            last: NONE,
            sent: vec![NONE; span as usize].into(),
            is_ready: false,
        }
    }

    fn span(&self) -> u64 {
        self.sent.len() as u64
    }

    /// The place of a message that was sent.
    fn place(&self, sequence: u64) -> Option<u32> {
        if !(self.lowest..self.next_sent).contains(&sequence) {
            return None;
        }
        let place = *self.sent.get((sequence % self.span()) as usize)?;
        (place != NONE).then_some(place)
    }

    fn put(&mut self, sequence: u64, place: u32) {
        let span = self.span();
        if let Some(entry) = self.sent.get_mut((sequence % span) as usize) {
            *entry = place;
        }
    }

    /// Whether a message that was not sent yet may be.
    fn may_begin(&self, window: u16, span: u64) -> bool {
        self.first != NONE && self.in_flight < window && self.next_sent < self.lowest + span
    }

    /// The numbers that are sent and not answered, and where they lie.
    fn unanswered(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        (self.lowest..self.next_sent).filter_map(|sequence| Some((sequence, self.place(sequence)?)))
    }
}

/// All messages of a session.
#[derive(Debug)]
pub(crate) struct Outbox {
    window: u16,
    /// Numbers between the oldest message of a stream without an answer and the newest that is sent.
    span: u64,
    streams: Box<[Stream]>,
    places: Box<[Taken]>,
    free: Vec<u32>,
    /// Streams that have something to send, in turn.
    ready: VecDeque<StreamIndex>,
    holds_back: bool,
}

impl Outbox {
    pub(crate) fn new(settings: &SessionSettings) -> Outbox {
        let nothing = PortMessage {
            client: 0,
            stream: StreamIndex(0),
            words: [0; palisade_wire::CLIENT_WORDS_BYTES],
            payload_bytes: 0,
            answer_bytes: 0,
            epoch: palisade_words::Epoch(0),
            key: 0,
            completes: Completes::Answered,
        };
        let free = Taken {
            is_free: true,
            ..Taken::new(nothing, 0)
        };
        Outbox {
            window: settings.window,
            span: settings.span(),
            streams: (0..settings.streams)
                .map(|_| Stream::new(settings.span()))
                .collect(),
            places: vec![free; settings.messages as usize].into(),
            free: (0..settings.messages).rev().collect(),
            ready: VecDeque::with_capacity(settings.streams.into()),
            holds_back: false,
        }
    }

    /// So many messages of one stream are sent at once from now on. Not while any is.
    pub(crate) fn set_window(&mut self, window: u16) {
        (self.window, self.span) = (window, u64::from(window) * u64::from(SPAN_WINDOWS));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn has_stream(&self, stream: StreamIndex) -> bool {
        stream.usize() < self.streams.len()
    }

    /// Takes a message; false when there is no room for it.
    pub(crate) fn take(&mut self, message: PortMessage) -> bool {
        let Some(place) = self.free.pop() else {
            return false;
        };
        self.enqueue(place, message);
        true
    }

    fn enqueue(&mut self, place: u32, message: PortMessage) {
        let Some(stream) = self.streams.get_mut(message.stream.usize()) else {
            return;
        };
        let taken = Taken::new(message, stream.next_taken);
        stream.next_taken += 1;
        let last = std::mem::replace(&mut stream.last, place);
        if last == NONE {
            stream.first = place;
        }
        if let Some(last) = self.places.get_mut(last as usize) {
            last.next = place;
        }
        if let Some(entry) = self.places.get_mut(place as usize) {
            *entry = Taken {
                generation: entry.generation.wrapping_add(1),
                ..taken
            };
        }
        self.look_ready(message.stream);
    }

    /// Puts a stream into the list if it has something that may be sent.
    fn look_ready(&mut self, index: StreamIndex) {
        let Some(stream) = self.streams.get_mut(index.usize()) else {
            return;
        };
        if !stream.is_ready && (stream.again > 0 || stream.may_begin(self.window, self.span)) {
            stream.is_ready = true;
            self.ready.push_back(index);
        }
    }

    /// Whether there is something to send.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next message to be sent, its place and how many numbers it lies behind the oldest one without an answer. What was
    /// lost with a link comes before what is new.
    pub(crate) fn next(&mut self, link: LinkIndex, now: Nanos) -> Option<(u32, Taken, u16)> {
        while let Some(index) = self.ready.pop_front() {
            let next = self.next_of(index, link, now);
            self.look_ready(index);
            if next.is_some() {
                return next;
            }
        }
        None
    }

    fn next_of(&mut self, index: StreamIndex, link: LinkIndex, now: Nanos) -> Option<(u32, Taken, u16)> {
        let stream = self.streams.get_mut(index.usize())?;
        stream.is_ready = false;
        let place = if stream.again > 0 {
            let places = &self.places;
            let is_lost = |place: u32| {
                places
                    .get(place as usize)
                    .is_some_and(|taken| taken.link.is_none())
            };
            let lost = stream.unanswered().find(|&(_, place)| is_lost(place));
            stream.again -= 1;
            lost?.1
        } else if stream.may_begin(self.window, self.span) {
            let place = stream.first;
            let taken = self.places.get(place as usize)?;
            stream.first = taken.next;
            if taken.next == NONE {
                stream.last = NONE;
            }
            let sequence = taken.sequence;
            stream.next_sent = sequence + 1;
            stream.in_flight += 1;
            stream.put(sequence, place);
            place
        } else {
            return None;
        };
        let lowest = stream.lowest;
        let taken = self.places.get_mut(place as usize)?;
        taken.link = Some(link);
        taken.was_sent = true;
        taken.sent_at = Some(now);
        taken.generation = taken.generation.wrapping_add(1);
        let now_sent = *taken;
        taken.attempts = taken.attempts.wrapping_add(1);
        Some((place, now_sent, (now_sent.sequence - lowest) as u16))
    }

    /// A message that was sent, by its number.
    pub(crate) fn sent(&mut self, stream: StreamIndex, sequence: u64) -> Option<&mut Taken> {
        let place = self.streams.get(stream.usize())?.place(sequence)?;
        self.places.get_mut(place as usize)
    }

    /// Whether a message of this number was ever sent in this round.
    pub(crate) fn was_sent(&self, stream: StreamIndex, sequence: u64) -> bool {
        let stream = self.streams.get(stream.usize());
        stream.is_some_and(|stream| sequence < stream.next_sent)
    }

    /// A message that lies in a place, if that was what was sent from there then.
    pub(crate) fn at(&mut self, place: u32, generation: u32) -> Option<&mut Taken> {
        let taken = self.places.get_mut(place as usize)?;
        (!taken.is_free && taken.generation == generation).then_some(taken)
    }

    /// The answer to a message has come: its place is free. Returns what it was; `None` when there was none.
    pub(crate) fn answered(&mut self, index: StreamIndex, sequence: u64) -> Option<Taken> {
        let stream = self.streams.get_mut(index.usize())?;
        let place = stream.place(sequence)?;
        stream.put(sequence, NONE);
        stream.in_flight -= 1;
        while stream.lowest < stream.next_sent && stream.place(stream.lowest).is_none() {
            stream.lowest += 1;
        }
        let taken = *self.places.get(place as usize)?;
        if taken.link.is_none() {
            stream.again -= 1;
        }
        self.release(place);
        self.look_ready(index);
        Some(taken)
    }

    /// A link is gone: what was sent by it is sent again. Returns how many.
    pub(crate) fn lost(&mut self, link: LinkIndex) -> usize {
        let mut count = 0;
        for at in 0..self.streams.len() {
            let Some(stream) = self.streams.get_mut(at) else {
                break;
            };
            let mut again = 0;
            for sequence in stream.lowest..stream.next_sent {
                let Some(taken) = stream
                    .place(sequence)
                    .and_then(|place| self.places.get_mut(place as usize))
                else {
                    continue;
                };
                if taken.link == Some(link) {
                    taken.link = None;
                    again += 1;
                }
            }
            stream.again += again;
            count += usize::from(again);
            self.look_ready(StreamIndex(at as u16));
        }
        count
    }

    /// The oldest moment at which a message was sent that has no answer.
    pub(crate) fn oldest_sent(&self) -> Option<Nanos> {
        let taken = self.places.iter().filter(|taken| !taken.is_free);
        taken.filter_map(|taken| taken.sent_at).min()
    }

    /// Everything goes, stream by stream in order; each message that its client has not been told of is given to `gone`. The
    /// numbers begin anew. Returns how many may be lost now though their clients were told that they are sent.
    pub(crate) fn clear(&mut self, mut gone: impl FnMut(&PortMessage, Completion)) -> u64 {
        let mut lost = 0;
        for stream in &mut self.streams {
            let mut end = |place: u32, places: &mut [Taken], free: &mut Vec<u32>| {
                let taken = places.get_mut(place as usize)?;
                taken.is_free = true;
                free.push(place);
                match taken.is_told {
                    true => lost += u64::from(taken.may_be_lost()),
                    false => {
                        let may_land = taken.was_sent;
                        gone(&taken.message, Completion::Nack { may_land });
                    }
                }
                Some(taken.next)
            };
            for sequence in stream.lowest..stream.next_sent {
                if let Some(place) = stream.place(sequence) {
                    let _ = end(place, &mut self.places, &mut self.free);
                }
            }
            let mut place = stream.first;
            while let Some(next) = end(place, &mut self.places, &mut self.free) {
                place = next;
            }
            *stream = Stream {
                sent: std::mem::take(&mut stream.sent),
                ..Stream::new(0)
            };
            stream.sent.fill(NONE);
        }
        debug_assert!(self.is_empty(), "each message is in one list");
        self.ready.clear();
        lost
    }

    /// All that clients have not been told of is to be sent anew, in order and with new numbers. Returns how many may be lost now
    /// though their clients were told that they are sent.
    pub(crate) fn begin_anew(&mut self) -> u64 {
        let mut lost = 0;
        self.ready.clear();
        for at in 0..self.streams.len() {
            let Some(stream) = self.streams.get_mut(at) else {
                break;
            };
            let span = stream.span();
            let before = std::mem::replace(stream, Stream::new(0));
            stream.sent = before.sent;
            let mut keep = |outbox: &mut Outbox, place: u32| {
                let taken = *outbox.places.get(place as usize)?;
                match taken.is_told {
                    true => {
                        lost += u64::from(taken.may_be_lost());
                        outbox.release(place);
                    }
                    false => {
                        outbox.enqueue(place, taken.message);
                        if let Some(anew) = outbox.places.get_mut(place as usize) {
                            anew.was_sent = taken.was_sent;
                        }
                    }
                }
                Some(taken.next)
            };
            for sequence in before.lowest..before.next_sent {
                let entry = self
                    .streams
                    .get_mut(at)
                    .and_then(|stream| stream.sent.get_mut((sequence % span) as usize));
                let place = entry.map_or(NONE, |entry| std::mem::replace(entry, NONE));
                let _ = keep(self, place);
            }
            let mut place = before.first;
            while let Some(next) = keep(self, place) {
                place = next;
            }
        }
        lost
    }

    fn release(&mut self, place: u32) {
        if let Some(entry) = self.places.get_mut(place as usize) {
            entry.is_free = true;
            self.free.push(place);
        }
    }

    /// Whether clients should hold back, when that has changed.
    pub(crate) fn flow(&mut self) -> Option<bool> {
        let (taken, all) = (self.len(), self.places.len());
        let holds_back = if self.holds_back {
            taken * 4 > all
        } else {
            taken * 2 >= all.max(2)
        };
        let has_changed = holds_back != self.holds_back;
        self.holds_back = holds_back;
        has_changed.then_some(holds_back)
    }

    /// Whether the books agree with themselves; what does not, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut in_lists = 0;
        for (at, stream) in self.streams.iter().enumerate() {
            let unanswered = stream.unanswered().count();
            let lost = stream
                .unanswered()
                .filter(|&(_, place)| {
                    self.places
                        .get(place as usize)
                        .is_some_and(|taken| taken.link.is_none())
                })
                .count();
            let mut waiting = 0;
            let mut place = stream.first;
            while let Some(taken) = self.places.get(place as usize) {
                if taken.sequence != stream.next_sent + waiting {
                    return Err(format!(
                        "stream {at} has number {} in place {waiting}",
                        taken.sequence
                    ));
                }
                waiting += 1;
                place = taken.next;
            }
            if unanswered != usize::from(stream.in_flight) || lost != usize::from(stream.again) {
                return Err(format!(
                    "stream {at} counts {} in flight and {} lost, has {unanswered} and {lost}",
                    stream.in_flight, stream.again
                ));
            }
            if stream.next_sent + waiting != stream.next_taken || stream.in_flight > self.window {
                return Err(format!("stream {at}: numbers or window are wrong"));
            }
            in_lists += unanswered + waiting as usize;
        }
        match in_lists == self.len() {
            true => Ok(()),
            false => Err(format!(
                "{in_lists} messages in lists, {} places taken",
                self.len()
            )),
        }
    }
}

#[cfg(test)]
mod tests;
