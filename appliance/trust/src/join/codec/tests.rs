use super::*;
use palisade_words::{Name, Uuid};
use proptest::prelude::*;
use std::net::SocketAddr;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn request() -> JoinRequest {
    JoinRequest {
        secret: TokenSecret(*b"0123456789abcdef"),
        node: Uuid(0xa1),
        name: name("node7"),
        addresses: vec![
            SocketAddr::from(([192, 0, 2, 7], 7000)),
            SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7], 7001)),
        ],
        failure_domain: Some(name("rack1")),
        feature_level: FeatureLevel(4),
        certificate_request: vec![0x30, 0x01, 0x02],
        disks: 1,
        volumes: 2,
        attachments: 3,
    }
}

/// One of each kind, as it is told.
fn frames() -> Vec<JoinFrame> {
    let grant = JoinGrant {
        cluster: Uuid(0xc1),
        meant_for: NodeRole::Learner,
        certificate: vec![1, 2],
        authority: vec![3],
        authority_key: Some(vec![4, 5, 6]),
        nodes: vec![
            KnownNode {
                node: Uuid(0xa1),
                name: name("node7"),
                key: Some(Sha256Sum([0x77; 32])),
                addresses: request().addresses,
            },
            KnownNode {
                node: Uuid(0xa2),
                name: name("n"),
                key: None,
                addresses: Vec::new(),
            },
        ],
    };
    let bare = JoinRequest {
        addresses: Vec::new(),
        failure_domain: None,
        ..request()
    };
    let voter = JoinGrant {
        meant_for: NodeRole::Voter,
        authority_key: None,
        nodes: Vec::new(),
        ..grant.clone()
    };
    vec![
        JoinFrame::Join(request()),
        JoinFrame::Join(bare),
        JoinFrame::Granted(grant),
        JoinFrame::Granted(voter),
        JoinFrame::Refused(JoinRefused {
            code: "token_used".into(),
            sentence: "it has let node n in".into(),
        }),
        JoinFrame::Renew(RenewRequest {
            certificate_request: vec![7, 8],
            wants_authority_key: true,
        }),
        JoinFrame::Renewed(RenewGrant {
            certificate: vec![9],
            authority_key: Some(vec![10]),
        }),
        JoinFrame::Renewed(RenewGrant {
            certificate: vec![9],
            authority_key: None,
        }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nodes of different versions tell each other: version 1 never changes.
#[test]
fn the_bytes_of_version_1_stay() {
    let golden = include_str!("../../../tests/golden/join-frames-1");
    let lines: Vec<&str> = golden.lines().collect();
    let written: Vec<String> = frames().iter().map(|frame| hex(&frame.encode())).collect();
    assert_eq!(written, lines);
    for (frame, line) in frames().into_iter().zip(lines) {
        let pairs = line
            .as_bytes()
            .chunks(2)
            .map(|pair| str::from_utf8(pair).unwrap());
        let bytes: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        assert_eq!(JoinFrame::decode(&bytes, ANSWER_FRAME_BYTES_MAX), Ok(frame));
    }
}

#[test]
fn what_is_cut_off_or_too_long_is_refused() {
    for frame in frames() {
        let whole = frame.encode();
        for end in 0..whole.len() {
            assert!(
                JoinFrame::decode(&whole[..end], ANSWER_FRAME_BYTES_MAX).is_err(),
                "{frame:?} {end}"
            );
        }
        // The same with a length that fits what is left.
        for end in JOIN_HEADER_BYTES..whole.len() {
            let mut cut = whole[..end].to_vec();
            cut[8..12].copy_from_slice(&((end - JOIN_HEADER_BYTES) as u32).to_le_bytes());
            let refused = JoinFrame::decode(&cut, ANSWER_FRAME_BYTES_MAX);
            assert!(
                matches!(refused, Err(CodecError::Field { .. })),
                "{frame:?} {end}: {refused:?}"
            );
        }
        let mut longer = whole.clone();
        longer.push(0);
        longer[8..12].copy_from_slice(&((whole.len() + 1 - JOIN_HEADER_BYTES) as u32).to_le_bytes());
        let refused = JoinFrame::decode(&longer, ANSWER_FRAME_BYTES_MAX);
        assert_eq!(refused, Err(CodecError::LeftOver { bytes: 1 }), "{frame:?}");
        let max = whole.len() - JOIN_HEADER_BYTES;
        assert_eq!(JoinFrame::decode(&whole, max).as_ref(), Ok(&frame));
        let too_long = CodecError::TooLong {
            bytes: max,
            max: max - 1,
        };
        assert_eq!(JoinFrame::decode(&whole, max - 1), Err(too_long));
    }
}

#[test]
fn another_version_is_told_and_its_refusal_is_read() {
    let of_version = |frame: &JoinFrame, version: u16| {
        let mut bytes = frame.encode();
        bytes[4..6].copy_from_slice(&version.to_le_bytes());
        JoinFrame::decode(&bytes, ANSWER_FRAME_BYTES_MAX)
    };
    for frame in frames() {
        match &frame {
            JoinFrame::Refused(_) => assert_eq!(of_version(&frame, 2).as_ref(), Ok(&frame)),
            _ => assert_eq!(of_version(&frame, 2), Err(CodecError::Version { version: 2 })),
        }
    }
    let mut bytes = frames()[0].encode();
    bytes[6] = 9;
    assert_eq!(JoinFrame::decode(&bytes, 4096), Err(CodecError::Kind { kind: 9 }));
    bytes[0] = b'X';
    assert_eq!(JoinFrame::decode(&bytes, 4096), Err(CodecError::Magic));
    let said = CodecError::Version { version: 2 }.to_string();
    assert!(said.contains("install the same version"), "{said}");
}

#[test]
fn impossible_values_are_refused() {
    let bytes = frames()[0].encode();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        JoinFrame::decode(&bytes, 4096)
    };
    let field = |field| Err(CodecError::Field { field });
    // Behind the header: the secret, the id, and the name behind its length.
    assert_eq!(with(28, &[0; 16]), field("node"));
    assert_eq!(with(46, b"No/e7"), field("name"));
    assert_eq!(with(44, &[0xff, 0xff]), field("name"));
    // Two addresses come then.
    assert_eq!(with(51, &[17, 0]), field("addresses"));
    assert_eq!(with(53, &[5]), field("addresses"));
    // A refusal is shown on a terminal.
    let refused = |sentence: &str| {
        let frame = JoinFrame::Refused(JoinRefused {
            code: "c".into(),
            sentence: sentence.into(),
        });
        JoinFrame::decode(&frame.encode(), 4096)
    };
    assert_eq!(refused("\u{1b}[2J"), field("sentence"));
    // And a long one is cut in whole characters.
    let Ok(JoinFrame::Refused(cut)) = refused(&"ä".repeat(2000)) else {
        panic!("it is read")
    };
    assert_eq!(cut.sentence, "ä".repeat(512));
}

/// As many nodes with as many addresses as there may be still fit.
#[test]
fn the_largest_answer_fits() {
    let node = KnownNode {
        node: Uuid(1),
        name: name(&"n".repeat(palisade_words::limits::NAME_BYTES_MAX)),
        key: Some(Sha256Sum([1; 32])),
        addresses: vec![SocketAddr::from(([1; 8], 1)); ADDRESSES_PER_NODE_MAX],
    };
    let Some(JoinFrame::Granted(mut grant)) = frames().into_iter().nth(2) else {
        panic!("a grant")
    };
    grant.nodes = vec![node; NODES_MAX];
    for part in [&mut grant.certificate, &mut grant.authority] {
        *part = vec![1; CERTIFICATE_BYTES_MAX];
    }
    grant.authority_key = Some(vec![1; CERTIFICATE_BYTES_MAX]);
    let frame = JoinFrame::Granted(grant);
    let bytes = frame.encode();
    assert!(bytes.len() - JOIN_HEADER_BYTES <= ANSWER_FRAME_BYTES_MAX);
    assert_eq!(JoinFrame::decode(&bytes, ANSWER_FRAME_BYTES_MAX), Ok(frame));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_is_written_the_same(
        kind in 0_u16..7,
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &kind.to_le_bytes()].concat();
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        if let Some(frame) = frames().get(usize::from(kind)) {
            bytes = frame.encode();
            for (at, value) in flips {
                let at = at % bytes.len();
                bytes[at] = value;
            }
        }
        if let Ok(frame) = JoinFrame::decode(&bytes, ANSWER_FRAME_BYTES_MAX) {
            let again = JoinFrame::decode(&frame.encode(), ANSWER_FRAME_BYTES_MAX);
            prop_assert_eq!(again, Ok(frame));
        }
    }
}
