//! A machine joins over a connection, and the node that it has become talks to the others.

use crate::site::{CLUSTER, Clock, DEADLINE, Known, NOW_S, authority, node};
use palisade_model::{
    Cluster, Command, CreateToken, FEATURE_LEVEL, InitCluster, NodeRole, NodeStarted, RaiseFeatureLevel,
};
use palisade_trust::join::codec::REQUEST_FRAME_BYTES_MAX;
use palisade_trust::join::{
    CodecError, ConversationError, JoinFrame, JoinRequest, Joiner, ask, grant, judge, read_frame, write_frame,
};
use palisade_trust::{Caller, Connector, KeyDirectory, Purpose, TokenText};
use palisade_words::{Incarnation, Name, Uuid};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, duplex};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn cluster(token: &TokenText) -> Cluster {
    let commands = [
        Command::InitCluster(InitCluster {
            id: CLUSTER,
            node: name("n1"),
            node_uuid: Uuid(1),
        }),
        Command::NodeStarted(NodeStarted {
            node: Uuid(1),
            incarnation: Incarnation(1),
            feature_level: FEATURE_LEVEL,
        }),
        Command::RaiseFeatureLevel(RaiseFeatureLevel { to: FEATURE_LEVEL }),
        Command::CreateToken(CreateToken {
            name: name("t1"),
            hash: token.secret().hash(),
            now_s: NOW_S,
            expires_at_s: NOW_S + 3_600,
            admits: NodeRole::Voter,
        }),
    ];
    let mut cluster = Cluster::empty();
    for command in commands {
        cluster = cluster.apply(&command).unwrap().0;
    }
    cluster
}

/// From an empty state directory to a connection for Raft with the node that has let it in.
#[tokio::test]
async fn a_machine_joins_and_is_a_node_from_then_on() {
    let authority = authority();
    let first = node(&authority, 1);
    let text = TokenText::generate(authority.fingerprint()).unwrap().to_string();
    let token: TokenText = text.parse().unwrap();
    let (of_first, of_machine) = (Known::default(), Known::default());
    let (near, far) = duplex(1 << 16);
    let acceptor = of_first.acceptor(&first, &Purpose::ALL, NOW_S);
    let before = cluster(&token);
    let admits = async {
        let mut accepted = acceptor.accept(far, DEADLINE).await.unwrap();
        assert_eq!(
            (accepted.caller, accepted.purpose),
            (Caller::Joiner, Purpose::Join)
        );
        let heard = read_frame(&mut accepted.stream, REQUEST_FRAME_BYTES_MAX, DEADLINE).await;
        let JoinFrame::Join(request) = heard.unwrap() else {
            panic!("it asks")
        };
        let command = judge(&request, &before, NOW_S).unwrap();
        let (after, _) = before.apply(&command).unwrap();
        let answer = JoinFrame::Granted(grant(&request, &after, &authority, NOW_S).unwrap());
        write_frame(&mut accepted.stream, &answer, DEADLINE)
            .await
            .unwrap();
        after
    };
    let state = tempfile::tempdir().unwrap();
    let keys = KeyDirectory::open(state.path()).unwrap();
    let joins = async {
        let connector =
            Connector::of_joiner(Arc::clone(&of_machine.counters)).with_clock(Arc::new(Clock(NOW_S)));
        let connected = connector.connect_to_join(near, token.authority(), DEADLINE).await;
        let (mut stream, peer) = connected.unwrap();
        assert_eq!(peer.node, Uuid(1));
        let about = JoinRequest {
            secret: token.secret().clone(),
            node: Uuid(2),
            name: name("n2"),
            addresses: vec![([192, 0, 2, 2], 7000).into()],
            failure_domain: None,
            feature_level: FEATURE_LEVEL,
            certificate_request: Vec::new(),
            disks: 0,
            volumes: 0,
            attachments: 0,
        };
        let key = Arc::new(keys.node_key().unwrap());
        let (joiner, frame) = Joiner::begin(token.clone(), key, about).unwrap();
        joiner
            .answered(ask(&mut stream, &frame, DEADLINE).await.unwrap())
            .unwrap()
    };
    let (after, joined) = tokio::join!(admits, joins);
    keys.keep_authority(&joined.authority.unwrap()).unwrap();
    keys.keep_certificate(joined.credentials.certificate()).unwrap();
    // It starts anew, knows whom it was told of, and is known.
    let own = keys.credentials(CLUSTER, Uuid(2)).unwrap().unwrap();
    let told = joined.nodes.iter().map(|node| (node.node, node.key)).collect();
    of_machine.roster.replace(told);
    of_first.roster.update(&after);
    let (near, far) = duplex(1 << 16);
    let connector = of_machine.connector(&own, NOW_S);
    let (called, taken) = tokio::join!(
        connector.connect(near, Uuid(1), Purpose::Raft, DEADLINE),
        acceptor.accept(far, DEADLINE)
    );
    assert_eq!(called.unwrap().1.node, Uuid(1));
    let known = Caller::Node(own.identity(), palisade_trust::PeerStanding::Known);
    assert_eq!(taken.unwrap().caller, known);
    // To renew it comes for the same purpose as to join, and is known there.
    let (near, far) = duplex(1 << 16);
    let (called, taken) = tokio::join!(
        connector.connect(near, Uuid(1), Purpose::Join, DEADLINE),
        acceptor.accept(far, DEADLINE)
    );
    assert!(called.is_ok());
    assert_eq!(taken.unwrap().caller, known);
    assert_eq!((of_first.counted(), of_machine.counted()), (vec![], vec![]));
    // Both can sign for the next.
    let signs = keys.authority(CLUSTER).unwrap().unwrap();
    assert_eq!(signs.fingerprint(), authority.fingerprint());
}

/// A peer that sends what it likes costs a bounded time and bounded memory.
#[tokio::test]
async fn what_is_no_frame_or_does_not_end_is_given_up() {
    let short = Duration::from_millis(50);
    let hear = |bytes: Vec<u8>| async move {
        let (mut near, mut far) = duplex(1 << 16);
        near.write_all(&bytes).await.unwrap();
        let heard = read_frame(&mut far, REQUEST_FRAME_BYTES_MAX, short).await;
        heard.unwrap_err()
    };
    let codec = |error| match error {
        ConversationError::Codec(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(
        codec(hear(b"GET / HTTP/1.1\r\n".to_vec()).await),
        CodecError::Magic
    );
    let header = |kind: u16, length: u32| {
        let mut bytes = b"PALJ\x01\x00".to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes
    };
    let too_long = CodecError::TooLong {
        bytes: u32::MAX as usize,
        max: REQUEST_FRAME_BYTES_MAX,
    };
    assert_eq!(codec(hear(header(1, u32::MAX)).await), too_long);
    let silent = hear(header(1, 100)).await;
    assert!(matches!(silent, ConversationError::TimedOut { .. }), "{silent}");
    let (mut near, _far) = duplex(1 << 16);
    let refused = JoinFrame::Refused(palisade_trust::join::JoinRefused {
        code: "c".into(),
        sentence: "s".into(),
    });
    let error = ask(&mut near, &refused, short).await.unwrap_err();
    assert!(error.to_string().contains("the token stays good"), "{error}");
}
