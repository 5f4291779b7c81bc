//! What the two ends of a link tell each other before anything else, and why one may be sent away.
//!
//! ```text
//!   0  cluster u128             16  node u128 (who speaks)       32  peer u128 (whom it takes the other for)
//!  48  incarnation u64          56  the peer's incarnation u64, 0 when it knows of none
//!  64  feature level u64        72  epoch u64
//!  80  round u32                84  link u8    85  least version u8    86  latest version u8    87  zero
//!  88  asking reactor u16       90  serving reactor u16
//!  92  streams u16              94  window u16 (messages of one stream at once that are taken)
//!  96  start number u64        104  the peer's start number u64, 0 when it knows of none         112 ... 127 zero
//! ```
//!
//! Little-endian. A session is named by both nodes, the incarnation of each, and the pair of reactors; its links by their
//! numbers. The addresses are not in it: a node whose addresses have changed is the same node. Node and incarnation are copied
//! when a machine is; the start number is not, since each start draws its own.

use palisade_words::{Epoch, FeatureLevel, Incarnation, LinkIndex, ReactorIndex, Uuid};
use std::num::NonZeroU64;
use zerocopy::byteorder::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

/// Bytes of a greeting.
pub const HELLO_BYTES: usize = 128;

/// Bytes of a refusal.
pub const REFUSAL_BYTES: usize = 32;

/// A number drawn at random whenever a node's program starts. Two machines with one identity, both in the run that was copied,
/// differ in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StartNumber(pub NonZeroU64);

impl StartNumber {
    /// The number drawn; 0 is none, and has to be drawn again.
    pub const fn new(drawn: u64) -> Option<StartNumber> {
        match NonZeroU64::new(drawn) {
            Some(drawn) => Some(StartNumber(drawn)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// A greeting, by whoever has made the link and, in answer, by whoever has taken it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The cluster that the speaker belongs to.
    pub cluster: Uuid,
    /// Who speaks.
    pub node: Uuid,
    /// Whom it takes the other end for.
    pub peer: Uuid,
    /// Which run of the speaking node it is.
    pub incarnation: Incarnation,
    /// What that run has drawn at its start.
    pub start: StartNumber,
    /// Which run of the other node the session is with; `None` while it has been with none.
    pub peer_incarnation: Option<Incarnation>,
    /// What that run has drawn.
    pub peer_start: Option<StartNumber>,
    /// What the speaker can.
    pub feature_level: FeatureLevel,
    /// The membership that the speaker knows.
    pub epoch: Epoch,
    /// The session's round, as the speaker has it; 0 when there was none yet.
    pub round: u32,
    /// The link's number in the session.
    pub link: LinkIndex,
    /// Versions of frames that the speaker understands, the first and the last.
    pub versions: (u8, u8),
    /// Whose link it is at the end that has made it.
    pub asking_reactor: ReactorIndex,
    /// And at the other.
    pub serving_reactor: ReactorIndex,
    /// How many streams the speaker takes messages on.
    pub streams: u16,
    /// How many messages of one stream it takes before it has answered one.
    pub window: u16,
}

/// Why bytes are no greeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("has an impossible value in `{field}`")]
pub struct HelloError {
    /// Which field.
    pub field: &'static str,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHello {
    cluster: U128,
    node: U128,
    peer: U128,
    incarnation: U64,
    peer_incarnation: U64,
    feature_level: U64,
    epoch: U64,
    round: U32,
    link: u8,
    version_least: u8,
    version_latest: u8,
    zero: u8,
    asking_reactor: U16,
    serving_reactor: U16,
    streams: U16,
    window: U16,
    start: U64,
    peer_start: U64,
    rest: [u8; 16],
}

const _: () = assert!(size_of::<RawHello>() == HELLO_BYTES);
const _: () = assert!(std::mem::offset_of!(RawHello, round) == 80);
const _: () = assert!(std::mem::offset_of!(RawHello, start) == 96);

impl Hello {
    /// As the payload of a frame.
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        transmute!(RawHello {
            cluster: U128::new(self.cluster.0),
            node: U128::new(self.node.0),
            peer: U128::new(self.peer.0),
            incarnation: U64::new(self.incarnation.0),
            peer_incarnation: U64::new(self.peer_incarnation.map_or(0, |incarnation| incarnation.0)),
            feature_level: U64::new(self.feature_level.0),
            epoch: U64::new(self.epoch.0),
            round: U32::new(self.round),
            link: self.link.0,
            version_least: self.versions.0,
            version_latest: self.versions.1,
            zero: 0,
            asking_reactor: U16::new(self.asking_reactor.0),
            serving_reactor: U16::new(self.serving_reactor.0),
            streams: U16::new(self.streams),
            window: U16::new(self.window),
            start: U64::new(self.start.0.get()),
            peer_start: U64::new(self.peer_start.map_or(0, |start| start.0.get())),
            rest: [0; 16],
        })
    }

    /// Reads a greeting. What it means is judged by others.
    ///
    /// # Errors
    /// A field has a value that no sender gives it. Room that is not used is not looked at, so that a later version can.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Hello, HelloError> {
        let raw: RawHello = transmute!(*bytes);
        let malformed = |field| Err(HelloError { field });
        if raw.incarnation.get() == 0 {
            return malformed("incarnation");
        }
        let Some(start) = StartNumber::new(raw.start.get()) else {
            return malformed("start");
        };
        if raw.version_least > raw.version_latest {
            return malformed("versions");
        }
        if raw.window.get() == 0 || raw.streams.get() == 0 {
            return malformed("window");
        }
        let peer_incarnation = raw.peer_incarnation.get();
        Ok(Hello {
            cluster: Uuid(raw.cluster.get()),
            node: Uuid(raw.node.get()),
            peer: Uuid(raw.peer.get()),
            incarnation: Incarnation(raw.incarnation.get()),
            start,
            peer_incarnation: (peer_incarnation != 0).then_some(Incarnation(peer_incarnation)),
            peer_start: StartNumber::new(raw.peer_start.get()),
            feature_level: FeatureLevel(raw.feature_level.get()),
            epoch: Epoch(raw.epoch.get()),
            round: raw.round.get(),
            link: LinkIndex(raw.link),
            versions: (raw.version_least, raw.version_latest),
            asking_reactor: ReactorIndex(raw.asking_reactor.get()),
            serving_reactor: ReactorIndex(raw.serving_reactor.get()),
            streams: raw.streams.get(),
            window: raw.window.get(),
        })
    }
}

/// Why a link is refused by whoever was asked for it: said to the other end, so that its operator reads the cause and not
/// "connection reset".
///
/// ```text
///   0  code u16     2 ... 7 zero     8  first number u64    16  second number u64    24 ... 31 zero
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkRefusal {
    /// It belongs to another cluster.
    #[error("the node asked belongs to another cluster: look at the address")]
    OtherCluster,
    /// The node asked is not the one that the other took it for.
    #[error("another node answers at this address: look at the addresses of both nodes")]
    OtherNode,
    /// Whoever asks is no member, as the node asked knows the cluster.
    #[error(
        "this node is not a member of the cluster in epoch {epoch}: it was removed, or has not joined yet. What it has \
         of the cluster's data is not touched"
    )]
    NotAMember {
        /// The membership by which that was judged.
        epoch: Epoch,
    },
    /// A later run of the asking node is known.
    #[error(
        "a later run of this node, number {latest}, has spoken already: the program runs twice, or with a copy of an \
         earlier state directory"
    )]
    EarlierIncarnation {
        /// The latest one known.
        latest: Incarnation,
    },
    /// What an earlier run of the asking node has asked for is still being worked on. It may come again.
    #[error(
        "what the run of this node before this one has asked for is not finished yet; asked again and again"
    )]
    Draining,
    /// There is no version that both understand.
    #[error(
        "the node asked speaks versions {least} to {latest} of the protocol: nodes may be one version apart"
    )]
    Version {
        /// The first that the node asked understands.
        least: u8,
        /// The last.
        latest: u8,
    },
    /// There is no such reactor, link or stream at the node asked.
    #[error("the node asked has no such reactor or link")]
    NoSuchPlace,
    /// The link is a second one by its number, and the first one lives.
    #[error("this link is there already")]
    LinkInUse,
    /// Two machines speak as one run of one node.
    #[error(
        "two machines speak as the same run of the same node: one is a copy of the other, and has to be set up as a node of \
         its own before it is started again"
    )]
    Cloned,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawRefusal {
    code: U16,
    zero: [u8; 6],
    first: U64,
    second: U64,
    rest: [u8; 8],
}

const _: () = assert!(size_of::<RawRefusal>() == REFUSAL_BYTES);

impl LinkRefusal {
    /// The numbers are on the wire and never change their meaning.
    fn numbers(self) -> (u16, u64, u64) {
        match self {
            LinkRefusal::OtherCluster => (1, 0, 0),
            LinkRefusal::OtherNode => (2, 0, 0),
            LinkRefusal::NotAMember { epoch } => (3, epoch.0, 0),
            LinkRefusal::EarlierIncarnation { latest } => (4, latest.0, 0),
            LinkRefusal::Draining => (5, 0, 0),
            LinkRefusal::Version { least, latest } => (6, least.into(), latest.into()),
            LinkRefusal::NoSuchPlace => (7, 0, 0),
            LinkRefusal::LinkInUse => (8, 0, 0),
            LinkRefusal::Cloned => (9, 0, 0),
        }
    }

    /// As the payload of a frame.
    pub fn encode(self) -> [u8; REFUSAL_BYTES] {
        let (code, first, second) = self.numbers();
        transmute!(RawRefusal {
            code: U16::new(code),
            zero: [0; 6],
            first: U64::new(first),
            second: U64::new(second),
            rest: [0; 8],
        })
    }

    /// Reads a refusal.
    ///
    /// # Errors
    /// The code is none that this program knows.
    pub fn decode(bytes: &[u8; REFUSAL_BYTES]) -> Result<LinkRefusal, HelloError> {
        let raw: RawRefusal = transmute!(*bytes);
        let (first, second) = (raw.first.get(), raw.second.get());
        let version = |number| u8::try_from(number).map_err(|_| HelloError { field: "version" });
        Ok(match raw.code.get() {
            1 => LinkRefusal::OtherCluster,
            2 => LinkRefusal::OtherNode,
            3 => LinkRefusal::NotAMember { epoch: Epoch(first) },
            4 => LinkRefusal::EarlierIncarnation {
                latest: Incarnation(first),
            },
            5 => LinkRefusal::Draining,
            6 => LinkRefusal::Version {
                least: version(first)?,
                latest: version(second)?,
            },
            7 => LinkRefusal::NoSuchPlace,
            8 => LinkRefusal::LinkInUse,
            9 => LinkRefusal::Cloned,
            _ => return Err(HelloError { field: "refusal" }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Hello {
        Hello {
            cluster: Uuid(1),
            node: Uuid(2),
            peer: Uuid(3),
            incarnation: Incarnation(4),
            start: StartNumber::new(13).unwrap(),
            peer_incarnation: None,
            peer_start: None,
            feature_level: FeatureLevel(5),
            epoch: Epoch(6),
            round: 7,
            link: LinkIndex(8),
            versions: (1, 2),
            asking_reactor: ReactorIndex(9),
            serving_reactor: ReactorIndex(10),
            streams: 11,
            window: 12,
        }
    }

    #[test]
    fn a_start_has_a_number_that_is_not_zero() {
        assert_eq!(StartNumber::new(13).map(StartNumber::get), Some(13));
        assert_eq!(StartNumber::new(0), None);
    }

    #[test]
    fn a_greeting_is_read_as_it_was_written() {
        for peer_incarnation in [None, Some(Incarnation(u64::MAX))] {
            let hello = Hello {
                peer_incarnation,
                peer_start: peer_incarnation.and(StartNumber::new(u64::MAX)),
                ..hello()
            };
            assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }
    }

    #[test]
    fn what_no_sender_says_is_named() {
        let with = |change: fn(&mut Hello)| {
            let mut hello = hello();
            change(&mut hello);
            Hello::decode(&hello.encode()).map_err(|error| error.field)
        };
        assert_eq!(
            with(|hello| hello.incarnation = Incarnation(0)),
            Err("incarnation")
        );
        let mut without = hello().encode();
        without[96..104].fill(0);
        assert_eq!(Hello::decode(&without), Err(HelloError { field: "start" }));
        assert_eq!(with(|hello| hello.versions = (3, 2)), Err("versions"));
        assert_eq!(
            with(|hello| hello.versions = (2, 2)).map(|hello| hello.versions),
            Ok((2, 2))
        );
        assert_eq!(with(|hello| hello.window = 0), Err("window"));
        assert_eq!(with(|hello| hello.streams = 0), Err("window"));
    }

    #[test]
    fn each_refusal_has_a_number_of_its_own() {
        let all = [
            LinkRefusal::OtherCluster,
            LinkRefusal::OtherNode,
            LinkRefusal::NotAMember { epoch: Epoch(7) },
            LinkRefusal::EarlierIncarnation {
                latest: Incarnation(8),
            },
            LinkRefusal::Draining,
            LinkRefusal::Version { least: 1, latest: 2 },
            LinkRefusal::NoSuchPlace,
            LinkRefusal::LinkInUse,
            LinkRefusal::Cloned,
        ];
        for (position, refusal) in all.into_iter().enumerate() {
            assert_eq!(usize::from(refusal.numbers().0), position + 1);
            assert_eq!(LinkRefusal::decode(&refusal.encode()), Ok(refusal));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_lead_to_a_panic(hello in any::<[u8; HELLO_BYTES]>(), refusal in any::<[u8; REFUSAL_BYTES]>()) {
            if let Ok(read) = Hello::decode(&hello) {
                prop_assert_eq!(Hello::decode(&read.encode()), Ok(read));
            }
            if let Ok(read) = LinkRefusal::decode(&refusal) {
                prop_assert_eq!(LinkRefusal::decode(&read.encode()), Ok(read));
            }
        }
    }
}
