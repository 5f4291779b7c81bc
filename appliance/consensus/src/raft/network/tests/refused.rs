//! A member and a peer that says what may not be: it is refused with a sentence and counted, and the member goes on.

use super::*;
use crate::raft::member::{ClusterMember, MemberSettings};
use crate::raft::network::channel::{Channel, ChannelError};
use crate::raft::network::transport::{Dialing, VoterDial};
use crate::raft::voter_id::VoterId;
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};

const ME: VoterId = VoterId(Uuid(7));
const PEER: VoterId = VoterId(Uuid(8));

/// Reaches nobody.
#[derive(Debug)]
struct Nowhere;

impl VoterDial for Nowhere {
    fn connect(&self, _: VoterId) -> Dialing {
        Box::pin(ready(Err(io::ErrorKind::NotConnected.into())))
    }
}

struct Scene {
    member: ClusterMember,
    runtime: Runtime,
    _home: TempDir,
}

impl Scene {
    fn new() -> Scene {
        let home = tempfile::tempdir().unwrap();
        ClusterMember::create(home.path(), ME).unwrap();
        let settings = MemberSettings::of(ME, Uuid(1), Uuid(40));
        let member = ClusterMember::start(home.path(), settings, Arc::new(Nowhere)).unwrap();
        member.begin().unwrap();
        // Alone, it leads in the first term, and has applied what begins it a moment later: its members, and an empty entry.
        let until = Instant::now() + Duration::from_secs(20);
        while member.standing().applied < Some(1) {
            assert!(Instant::now() < until, "{:?}", member.standing());
            std::thread::sleep(Duration::from_millis(5));
        }
        Scene {
            member,
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            _home: home,
        }
    }

    fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(1 << 20);
        self.member.serve(Box::new(theirs), PEER);
        ours
    }

    /// What a question is answered by; an error when the connection is closed instead.
    fn ask(&self, message: &VoterMessage) -> Result<VoterContent, ChannelError> {
        let mut channel = Channel::over(Box::new(self.connect()));
        self.runtime.block_on(async {
            let number = channel.ask(&message.encode().unwrap()).await?;
            Ok(channel.answered(number).await?.content)
        })
    }

    fn bad_frames(&self) -> u64 {
        self.member.links().counts_of(PEER).bad_frames
    }

    fn why(&self) -> String {
        self.member.links().counts_of(PEER).latest.unwrap_or_default()
    }

    /// Waits until so many frames were counted.
    fn counted(&self, count: u64) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.bad_frames() < count {
            assert!(Instant::now() < until, "{}: {}", self.bad_frames(), self.why());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.bad_frames(), count, "{}", self.why());
    }
}

fn why_refused(answer: Result<VoterContent, ChannelError>) -> String {
    match answer {
        Ok(VoterContent::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn candidacy(voted_for: u128) -> VoterContent {
    VoterContent::PreVote(CandidacyRecord {
        vote: vote(9, voted_for, false),
        last: None,
        is_handed_over: false,
    })
}

#[test]
fn who_claims_to_be_another_or_of_another_cluster_is_refused() {
    let scene = Scene::new();
    let good = message(candidacy(8));
    assert!(matches!(scene.ask(&good), Ok(VoterContent::Voted(_))));
    let mut cases = vec![good.clone(); 3];
    cases[0].from = Uuid(9);
    cases[1].to = Uuid(9);
    cases[2].cluster = Uuid(2);
    let sentences = [
        "node 00000000-0000-0000-0000-000000000009 has sent it",
        "it is for node",
        "it is of cluster",
    ];
    for (number, (case, sentence)) in (1..).zip(cases.iter().zip(sentences)) {
        let why = why_refused(scene.ask(case));
        assert!(why.contains(sentence), "{why}");
        scene.counted(number);
        assert!(scene.why().contains(sentence), "{}", scene.why());
    }
    // It speaks for itself, and wants a vote, or leads, in the name of another.
    let append = VoterContent::Append(AppendRecord {
        vote: vote(9, 9, true),
        previous: None,
        entries: Vec::new(),
        committed: None,
        has_majority: true,
    });
    for (number, content) in (4..).zip([candidacy(9), append, VoterContent::NotKnown]) {
        let why = why_refused(scene.ask(&message(content)));
        assert!(
            why.contains("it speaks for node") || why.contains("is no question"),
            "{why}"
        );
        scene.counted(number);
    }
    assert_eq!(scene.member.standing().term, 1);
    assert!(matches!(scene.ask(&good), Ok(VoterContent::Voted(_))));
}

#[test]
fn who_shows_less_than_before_is_refused_and_counted() {
    let scene = Scene::new();
    let good = message(candidacy(8));
    assert!(matches!(scene.ask(&good), Ok(VoterContent::Voted(_))));
    let mut forgetful = good.clone();
    forgetful.shown.incarnation = Incarnation(4);
    forgetful.shown.applied = Some(15);
    let why = why_refused(scene.ask(&forgetful));
    assert!(why.contains("join anew"), "{why}");
    let counts = scene.member.links().counts_of(PEER);
    assert_eq!((counts.not_counted, counts.bad_frames), (1, 0));
    // A second machine with a copy of the files.
    let mut twin = good.clone();
    twin.shown.run = Uuid(0x78);
    assert!(why_refused(scene.ask(&twin)).contains("a second run of number 3"));
    assert!(matches!(scene.ask(&good), Ok(VoterContent::Voted(_))));
}

#[test]
fn bytes_that_are_no_frames_end_the_connection_and_nothing_else() {
    let scene = Scene::new();
    let body = message(candidacy(8)).encode().unwrap();
    let frame = |kind, body_bytes| {
        VoterFrame {
            kind,
            number: 1,
            body_bytes,
        }
        .to_bytes()
        .to_vec()
    };
    let mut damaged = [frame(VoterFrameKind::Question, body.len()), body.clone()].concat();
    *damaged.last_mut().unwrap() ^= 1;
    let cases = [
        b"GET / HTTP/1.1\r\nHost: palisade\r\n\r\n".to_vec(),
        damaged,
        [frame(VoterFrameKind::Answer, body.len()), body.clone()].concat(),
        [frame(VoterFrameKind::Part, body.len()), body.clone()].concat(),
        frame(VoterFrameKind::Question, 0),
    ];
    for (number, bytes) in (1..).zip(cases) {
        let mut stream = scene.connect();
        scene.runtime.block_on(async {
            stream.write_all(&bytes).await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty());
        });
        scene.counted(number);
    }
    // One that is cut off is nobody's fault.
    drop(scene.connect());
    let mut stream = scene.connect();
    scene
        .runtime
        .block_on(async { stream.write_all(&body[..10]).await.unwrap() });
    drop(stream);
    assert!(matches!(
        scene.ask(&message(candidacy(8))),
        Ok(VoterContent::Voted(_))
    ));
    assert_eq!(scene.bad_frames(), 5);
}

#[test]
fn a_state_whose_parts_do_not_fit_is_not_taken() {
    let scene = Scene::new();
    let offer = |bytes| {
        message(VoterContent::State(StateOffer {
            vote: vote(9, 8, true),
            place: Some(place(8, 5)),
            members_since: None,
            members: MembersRecord {
                voters: Vec::new(),
                learners: Default::default(),
            },
            bytes,
        }))
    };
    let before = scene.member.standing();
    let why = why_refused(scene.ask(&offer(u64::MAX)));
    assert!(why.contains("longer than any may be"), "{why}");
    for (number, (offset, part)) in (2..).zip([(1, &b"abc"[..]), (0, b"abcdef"), (0, b"")]) {
        let mut channel = Channel::over(Box::new(scene.connect()));
        let answered = scene.runtime.block_on(async {
            let number = channel.ask(&offer(5).encode().unwrap()).await?;
            channel.send_part(number, offset, part).await?;
            channel.answered(number).await
        });
        assert!(matches!(answered, Err(ChannelError::Io(_))), "{answered:?}");
        scene.counted(number);
    }
    let now = scene.member.standing();
    assert_eq!((now.term, now.applied), (before.term, before.applied));
}

#[test]
fn a_peer_that_makes_ever_more_connections_has_so_many() {
    let scene = Scene::new();
    let kept: Vec<DuplexStream> = (0..40).map(|_| scene.connect()).collect();
    assert_eq!(scene.member.links().counts_of(PEER).too_many, 24);
    drop(kept);
    let until = Instant::now() + Duration::from_secs(20);
    while scene.ask(&message(candidacy(8))).is_err() {
        assert!(Instant::now() < until);
    }
}
