//! Who may talk to whom: the two ends of a session, and what each says to the other when a link is made.

use crate::settings::SessionSettings;
use palisade_wire::{FRAME_VERSION, Hello, LinkRefusal, StartNumber};
use palisade_words::{Epoch, FeatureLevel, Incarnation, LinkIndex, ReactorIndex, Uuid};

/// The two ends of a session. Nodes are named by their permanent ids, never by addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// The cluster of both.
    pub cluster: Uuid,
    /// This node.
    pub node: Uuid,
    /// The other.
    pub peer: Uuid,
    /// Which run of this node it is.
    pub incarnation: Incarnation,
    /// What this run has drawn at its start, once for all its sessions: by this a copy of the whole machine is known.
    pub start: StartNumber,
    /// What this node's program can.
    pub feature_level: FeatureLevel,
    /// The reactor at the end that makes the links.
    pub asking_reactor: ReactorIndex,
    /// The reactor at the other end.
    pub serving_reactor: ReactorIndex,
}

/// One run of one machine, as its greetings name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GreetingRun {
    pub(crate) incarnation: Incarnation,
    start: StartNumber,
}

/// How a run that greets stands to the one that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// None was known, or it is the same.
    Same,
    /// It has begun after the one that is known.
    Later,
    /// It is over.
    Earlier { latest: Incarnation },
    /// Another machine with the same identity.
    Cloned,
}

impl GreetingRun {
    pub(crate) fn of(hello: &Hello) -> GreetingRun {
        GreetingRun {
            incarnation: hello.incarnation,
            start: hello.start,
        }
    }

    /// How it stands to the one that is known.
    pub(crate) fn standing(self, known: Option<GreetingRun>) -> Standing {
        match known {
            Some(known) if self.incarnation < known.incarnation => Standing::Earlier {
                latest: known.incarnation,
            },
            Some(known) if self.incarnation > known.incarnation => Standing::Later,
            Some(known) if self.start != known.start => Standing::Cloned,
            Some(_) | None => Standing::Same,
        }
    }
}

impl Ends {
    /// What this end says when a link is made.
    pub(crate) fn hello(
        &self,
        settings: &SessionSettings,
        link: LinkIndex,
        (round, epoch): (u32, Epoch),
        peer: Option<GreetingRun>,
    ) -> Hello {
        Hello {
            cluster: self.cluster,
            node: self.node,
            peer: self.peer,
            incarnation: self.incarnation,
            start: self.start,
            peer_incarnation: peer.map(|peer| peer.incarnation),
            peer_start: peer.map(|peer| peer.start),
            feature_level: self.feature_level,
            epoch,
            round,
            link,
            versions: (FRAME_VERSION, FRAME_VERSION),
            asking_reactor: self.asking_reactor,
            serving_reactor: self.serving_reactor,
            streams: settings.streams,
            window: settings.window,
        }
    }

    /// Whether a greeting is one of this session's other end.
    ///
    /// # Errors
    /// It is not, and why: to be told to it.
    pub fn judge(&self, hello: &Hello, settings: &SessionSettings) -> Result<(), LinkRefusal> {
        if hello.cluster != self.cluster {
            return Err(LinkRefusal::OtherCluster);
        }
        if hello.peer != self.node || hello.node != self.peer {
            return Err(LinkRefusal::OtherNode);
        }
        // The other end has talked to this very run, and it was not this machine.
        let took_another_for_this = hello.peer_start.is_some_and(|start| start != self.start);
        if hello.peer_incarnation == Some(self.incarnation) && took_another_for_this {
            return Err(LinkRefusal::Cloned);
        }
        if !(hello.versions.0..=hello.versions.1).contains(&FRAME_VERSION) {
            return Err(LinkRefusal::Version {
                least: FRAME_VERSION,
                latest: FRAME_VERSION,
            });
        }
        let reactors = (hello.asking_reactor, hello.serving_reactor);
        let has_streams = hello.streams >= settings.streams;
        if reactors != (self.asking_reactor, self.serving_reactor)
            || hello.link.0 >= settings.links
            || !has_streams
        {
            return Err(LinkRefusal::NoSuchPlace);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn start(drawn: u64) -> StartNumber {
        StartNumber::new(drawn).unwrap()
    }

    pub(crate) fn ends(node: u128, peer: u128) -> Ends {
        Ends {
            cluster: Uuid(1),
            node: Uuid(node),
            peer: Uuid(peer),
            incarnation: Incarnation(1),
            start: start(node as u64),
            feature_level: FeatureLevel(0),
            asking_reactor: ReactorIndex(0),
            serving_reactor: ReactorIndex(1),
        }
    }

    #[test]
    fn only_the_other_end_of_this_session_is_let_in() {
        let (asking, serving, settings) = (ends(2, 3), ends(3, 2), SessionSettings::default());
        let hello = asking.hello(&settings, LinkIndex(0), (0, Epoch(1)), None);
        assert_eq!(serving.judge(&hello, &settings), Ok(()));
        let refusal = |change: fn(&mut Hello)| {
            let mut hello = hello;
            change(&mut hello);
            serving.judge(&hello, &settings).unwrap_err()
        };
        assert_eq!(
            refusal(|hello| hello.cluster = Uuid(9)),
            LinkRefusal::OtherCluster
        );
        assert_eq!(refusal(|hello| hello.peer = Uuid(9)), LinkRefusal::OtherNode);
        assert_eq!(refusal(|hello| hello.node = Uuid(9)), LinkRefusal::OtherNode);
        let cloned = |hello: &mut Hello| {
            (hello.peer_incarnation, hello.peer_start) = (Some(Incarnation(1)), Some(start(4)));
        };
        assert_eq!(refusal(cloned), LinkRefusal::Cloned);
        for run in [1, 2] {
            // This machine itself, and a run of it that nobody knows any more.
            let known = GreetingRun {
                incarnation: Incarnation(run),
                start: start(if run == 1 { 3 } else { 4 }),
            };
            let hello = asking.hello(&settings, LinkIndex(0), (0, Epoch(1)), Some(known));
            assert_eq!(serving.judge(&hello, &settings), Ok(()));
        }
        let version = LinkRefusal::Version { least: 1, latest: 1 };
        assert_eq!(refusal(|hello| hello.versions = (2, 3)), version);
        assert_eq!(
            refusal(|hello| hello.link = LinkIndex(4)),
            LinkRefusal::NoSuchPlace
        );
        assert_eq!(refusal(|hello| hello.streams = 15), LinkRefusal::NoSuchPlace);
        assert_eq!(
            refusal(|hello| hello.asking_reactor = ReactorIndex(7)),
            LinkRefusal::NoSuchPlace
        );
        assert_eq!(
            refusal(|hello| hello.serving_reactor = ReactorIndex(7)),
            LinkRefusal::NoSuchPlace
        );
    }
}
