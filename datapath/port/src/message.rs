//! What goes in and comes out of a session: messages and their answers, and what is to be done outside.

use palisade_wire::{CLIENT_WORDS_BYTES, FrameHeader, FrameKind, Hello, LinkRefusal};
use palisade_words::{Epoch, LinkIndex, StreamIndex};

/// A client's own bytes in a header.
pub type ClientWords = [u8; CLIENT_WORDS_BYTES];

/// When a client is told that its message is done (specification items 003-21 to 23). In each case it is told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completes {
    /// When its last byte has been given to the network. Whether it arrives is not promised.
    Sent,
    /// When the other end has given it to its client, in its order, whatever that does then: what only waits there for others
    /// before it would be lost with the session.
    Accepted,
    /// When the other end's client has answered it. What a block request needs.
    Answered,
}

/// What a client wants sent. Its payload belongs to the port from now on until its completion (003-24): it may be sent more
/// than once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortMessage {
    /// Which client, and for which one at the other end.
    pub client: u8,
    /// In which order.
    pub stream: StreamIndex,
    /// What the client has to say.
    pub words: ClientWords,
    /// Length of the payload in bytes.
    pub payload_bytes: u32,
    /// Length of the data that its answer will bring at most: so much room there is for it. Links are balanced by this.
    pub answer_bytes: u32,
    /// The membership under which it is sent.
    pub epoch: Epoch,
    /// The client's name for it: by this the payload is found, and the memory for what is answered.
    pub key: u64,
    /// When it is done.
    pub completes: Completes,
}

/// Why a message was not taken. Nothing of it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// The other end cannot be reached; there is no use in trying before the port is up again.
    #[error("the port is down")]
    Down,
    /// As many wait as the session keeps. It says when there is room again ([`PortEffect::Flow`]).
    #[error("the port has no room for another message now")]
    Full,
    /// There is no such stream.
    #[error("the port has no stream {}", .stream.0)]
    NoStream {
        /// Its number.
        stream: StreamIndex,
    },
    /// The payload does not fit one frame.
    #[error("a payload of {bytes} bytes does not fit one frame")]
    TooLong {
        /// Its length.
        bytes: u32,
    },
}

/// A client's answer to a message that was delivered to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageAnswer {
    /// The round in which the message was delivered.
    pub round: u32,
    /// The stream of the message.
    pub stream: StreamIndex,
    /// Its number there.
    pub sequence: u64,
    /// What the client has to say.
    pub words: ClientWords,
    /// Length of the data that goes with it. Such an answer is repeatable.
    pub payload_bytes: u32,
    /// The client's name for the data.
    pub key: u64,
    /// Should the answer be lost, the message is delivered once more and answered anew: a read. Otherwise the words are
    /// kept until the other end has them, and what was done is not done twice: a write.
    pub is_repeatable: bool,
}

/// What became of a message. Exactly one for each that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completion {
    /// It was given to the network ([`Completes::Sent`]).
    Sent,
    /// The other end has it ([`Completes::Accepted`]).
    Accepted,
    /// It was answered. Data that came with the answer lies where the client wanted it.
    Answered {
        /// What the other end's client had to say.
        words: ClientWords,
        /// Length of the data.
        payload_bytes: u32,
    },
    /// The port went down before, or was closed.
    Nack {
        /// Some of it may have been sent: what it asks for may have been done, or may be done yet, until the port is up
        /// again or somebody else has proved that it cannot be. Otherwise it never has been and never will be.
        may_land: bool,
    },
}

/// Why a port is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DownCause {
    /// It has never been up.
    NotYet,
    /// No link was left, for too long.
    NoLink,
    /// A message had no answer, for too long.
    NoAnswer,
    /// The membership says that the other end is gone.
    PeerLeft,
    /// The other end knows nothing of the session any more: it has been started anew, or has given it up itself.
    PeerForgot,
    /// The other end has closed it in good order.
    PeerClosed,
    /// It was stopped or closed at this end.
    Closed,
}

/// Why a link was cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CutCause {
    /// Nothing was heard on it for too long.
    Silent,
    /// The session has gone down, or was stopped.
    Down,
    /// The other end takes a round for being in force that is not: when the link is made anew, it learns of that.
    OtherRound,
    /// The session is closed in good order: what was given to the link before is sent first.
    Closed,
    /// The other end does what no program of ours does.
    Violation(Violation),
    /// The other end has refused us.
    RefusedByPeer(LinkRefusal),
    /// Whoever answers at the other end is refused by us.
    Refused(LinkRefusal),
}

/// What no program of ours does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// A frame that does not belong where it came.
    #[error("a frame came that does not belong here")]
    OutOfPlace,
    /// A message of a stream that there is not.
    #[error("a message came on a stream that there is not")]
    NoStream,
    /// More messages than the window allows.
    #[error("more messages came than the window allows")]
    Window,
    /// A message is said to have its answer, which was never given.
    #[error("the other end takes a message for answered that is not")]
    NeverAnswered,
    /// The greeting names another session than this one.
    #[error("the greeting names another session")]
    OtherSession,
    /// An answer with more data than there is room for.
    #[error("an answer came with more data than was asked for")]
    TooMuchData,
    /// An answer to nothing.
    #[error("an answer came to a message that was never sent")]
    NeverAsked,
}

/// A place in which the whole of an arriving payload lies, by the number of whoever keeps such places.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BufferIndex(pub u32);

/// Whose bytes follow a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// There are none.
    None,
    /// Those of a message.
    Message {
        /// The session's place for it, to be given back with [`transmitted`](crate::PortSession::transmitted).
        place: u32,
        /// Which sending from that place it is: a place is used again, and so may a client's name be.
        generation: u32,
        /// The client's name for it.
        key: u64,
    },
    /// Those of an answer, by the client's name.
    Answer {
        /// The name.
        key: u64,
    },
    /// A greeting.
    Greeting(Hello),
}

/// Where the payload of a frame goes whose header has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landing {
    /// Into a buffer that is free.
    Buffer,
    /// To where the client wants the answer to its message.
    Answer {
        /// The client's name for the message.
        key: u64,
    },
    /// Nowhere: it is thrown away.
    Nowhere,
}

/// Where the payload of a frame lies that has come whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landed {
    /// Nowhere: there was none, or it was thrown away.
    Nowhere,
    /// In a buffer.
    Buffer(BufferIndex),
    /// Where the client wants the answer to its message.
    Answer,
}

impl Landed {
    pub(crate) fn buffer(self) -> Option<BufferIndex> {
        match self {
            Landed::Buffer(buffer) => Some(buffer),
            Landed::Nowhere | Landed::Answer => None,
        }
    }
}

/// Something to be done outside, in the order given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortEffect {
    /// A frame goes to a link. [`is_urgent`](PortEffect::is_urgent) ones go ahead of all others that no byte was sent of.
    Send {
        /// Which link.
        link: LinkIndex,
        /// All but the payload's checksum, which whoever sends the payload puts in.
        header: FrameHeader,
        /// What follows it.
        payload: Payload,
    },
    /// Make the link.
    Dial(LinkIndex),
    /// Close the link's connection, and [say](crate::PortSession::lost) when that is done: when nothing that comes by it can be
    /// written anywhere any more, and nothing is read that was to be sent by it.
    Cut {
        /// Which link.
        link: LinkIndex,
        /// Why.
        cause: CutCause,
    },
    /// A message for a client, in the order of its stream.
    Deliver {
        /// Which client.
        client: u8,
        /// The session's round, which the answer names.
        round: u32,
        /// The stream.
        stream: StreamIndex,
        /// The number, by which it is answered.
        sequence: u64,
        /// What the other end's client had to say.
        words: ClientWords,
        /// The membership under which it was sent.
        epoch: Epoch,
        /// Where its payload lies, if it has one. It belongs to the client now.
        buffer: Option<BufferIndex>,
        /// It was delivered before, and answered with a repeatable answer, which was lost.
        is_again: bool,
    },
    /// A message is done.
    Complete {
        /// The client.
        client: u8,
        /// The client's name for it.
        key: u64,
        /// What became of it.
        completion: Completion,
    },
    /// An answer's data is not needed any more.
    AnswerDone {
        /// The client's name for it.
        key: u64,
    },
    /// What lies in a buffer is not wanted.
    Release(BufferIndex),
    /// Messages are taken.
    Up,
    /// None are taken from now on; those that are not done come back, each once, after this (003-27). Said once after each
    /// [`Up`](PortEffect::Up).
    Down(DownCause),
    /// Whether a client should hold back (003-36): it begins when half of the session's places are taken, and ends when three
    /// quarters are free.
    Flow {
        /// Whether it should.
        holds_back: bool,
    },
}

impl PortEffect {
    /// Whether it is a frame that goes ahead of others: one that belongs to no stream, and is not the last one of its link.
    pub fn is_urgent(&self) -> bool {
        let PortEffect::Send { header, .. } = self else {
            return false;
        };
        !header.kind.is_of_a_stream() && header.kind != FrameKind::Close
    }
}
