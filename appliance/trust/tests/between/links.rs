//! Connections between nodes: who is let in, who is not, and what is said of it.

use crate::site::{CLUSTER, Clock, DEADLINE, Known, NOW_S, authority, node, of_key};
use palisade_trust::link::{Accepted, Caller};
use palisade_trust::{Authority, Credentials, LinkError, NodeKey, PeerStanding, PeerVerdict, Purpose};
use palisade_words::Uuid;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const DAY_S: u64 = 86_400;

type Taken = Result<Accepted<DuplexStream>, LinkError>;

/// Node `caller` calls the node 2 for a purpose; what each end makes of it. The one that has called writes and reads, since
/// it hears of a refusal with that.
async fn call(
    (caller, of_caller, caller_now_s): (&Credentials, &Known, u64),
    (called, of_called, called_now_s): (&Credentials, &Known, u64),
    purpose: Purpose,
) -> (Result<Uuid, LinkError>, Taken) {
    let (near, far) = duplex(1 << 16);
    let connector = of_caller.connector(caller, caller_now_s);
    let served = [Purpose::Raft, Purpose::Port, Purpose::Heartbeat];
    let acceptor = of_called.acceptor(called, &served, called_now_s);
    let calls = async move {
        let (mut stream, peer) = connector.connect(near, Uuid(2), purpose, DEADLINE).await?;
        let said = async {
            stream.write_all(b"hello").await?;
            stream.read_exact(&mut [0; 2]).await
        };
        said.await.map_err(|error| LinkError::of_io(error, purpose))?;
        Ok(peer.node)
    };
    let takes = async move {
        let mut accepted = acceptor.accept(far, DEADLINE).await?;
        let mut heard = [0; 5];
        accepted.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        accepted.stream.write_all(b"ok").await.unwrap();
        Ok(accepted)
    };
    tokio::join!(calls, takes)
}

/// The verdict of one end.
fn verdict<T: std::fmt::Debug>(result: Result<T, LinkError>) -> PeerVerdict {
    match result {
        Err(LinkError::Peer(verdict)) => verdict,
        other => panic!("it says nothing of the peer: {other:?}"),
    }
}

#[tokio::test]
async fn two_nodes_know_each_other_whatever_the_connection_is_for() {
    let authority = authority();
    let (one, two) = (node(&authority, 1), node(&authority, 2));
    let (of_one, of_two) = (Known::default(), Known::default());
    of_two
        .roster
        .replace(BTreeMap::from([(Uuid(1), Some(one.identity().key))]));
    for purpose in [Purpose::Raft, Purpose::Port, Purpose::Heartbeat] {
        let (called, taken) = call((&one, &of_one, NOW_S), (&two, &of_two, NOW_S), purpose).await;
        assert_eq!(called.unwrap(), Uuid(2));
        let taken = taken.unwrap();
        assert_eq!(taken.purpose, purpose);
        assert_eq!(taken.caller, Caller::Node(one.identity(), PeerStanding::Known));
        let (_, connection) = taken.stream.get_ref();
        assert_eq!(
            connection.protocol_version(),
            Some(rustls::ProtocolVersion::TLSv1_3)
        );
        assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    assert_eq!((of_one.counted(), of_two.counted()), (vec![], vec![]));
    // One of which this node has not heard is told from one that it knows, and is not sent away here.
    of_two.roster.replace(BTreeMap::new());
    let (_, taken) = call((&one, &of_one, NOW_S), (&two, &of_two, NOW_S), Purpose::Raft).await;
    assert_eq!(
        taken.unwrap().caller,
        Caller::Node(one.identity(), PeerStanding::Unknown)
    );
}

/// Its certificate may even be one that our authority has signed, before the cluster took over another id.
#[tokio::test]
async fn a_node_of_another_cluster_is_sent_away() {
    let authority = authority();
    let two = node(&authority, 2);
    let other = Authority::create(Uuid(0xc2), NOW_S).unwrap();
    let one = node(&other, 1);
    let (of_one, of_two) = (Known::default(), Known::default());
    let (called, taken) = call((&one, &of_one, NOW_S), (&two, &of_two, NOW_S), Purpose::Raft).await;
    let theirs = |theirs: u128, ours: u128, node: u128| PeerVerdict::OtherCluster {
        theirs: Uuid(theirs),
        ours: Uuid(ours),
        node: Uuid(node),
    };
    // Who calls sees it first.
    assert_eq!(verdict(called), theirs(0xc1, 0xc2, 2));
    assert!(matches!(taken, Err(LinkError::RefusedByPeer { .. })), "{taken:?}");
    let (called, taken) = stranger(&one, &two, &of_two).await;
    assert_eq!(verdict(taken), theirs(0xc2, 0xc1, 1));
    assert!(
        called.to_string().contains("does not take our certificate"),
        "{called}"
    );
    let counted = of_two.counted();
    assert_eq!(counted, [("peer_other_cluster", 1), ("refused_by_peer", 1)]);
    assert_eq!(of_one.counted(), [("peer_other_cluster", 1)]);
}

/// It says that it is one of ours, and our authority has not said so.
#[tokio::test]
async fn a_certificate_of_another_authority_is_foreign() {
    let authority = authority();
    let two = node(&authority, 2);
    // As somebody makes it who pretends, or as the authority of a cluster that was made anew with the same id.
    let one = node(&Authority::create(CLUSTER, NOW_S).unwrap(), 1);
    let (of_one, of_two) = (Known::default(), Known::default());
    let (called, _) = call((&one, &of_one, NOW_S), (&two, &of_two, NOW_S), Purpose::Port).await;
    assert_eq!(verdict(called), PeerVerdict::Foreign);
    let (_, taken) = stranger(&one, &two, &of_two).await;
    assert_eq!(verdict(taken), PeerVerdict::Foreign);
    // A node's certificate is none of an authority: what it signs counts for nothing.
    let ours = node(&authority, 3);
    let chain = vec![one.certificate().der().clone(), ours.certificate().der().clone()];
    let (_, taken) = stranger_with(chain, &one, &two, &of_two).await;
    assert_eq!(verdict(taken), PeerVerdict::Foreign);
    // And the certificate of the authority is none of a node.
    let key = NodeKey::generate().unwrap();
    let chain = vec![authority.certificate().clone()];
    let (_, taken) = stranger_with(chain, &of_key(&authority, 9, key), &two, &of_two).await;
    assert_eq!(verdict(taken), PeerVerdict::NamesNoNode);
}

#[tokio::test]
async fn a_certificate_is_good_for_a_year_and_for_clocks_that_differ_by_an_hour() {
    let authority = authority();
    let (one, two) = (node(&authority, 1), node(&authority, 2));
    let known = Known::default();
    let at = |caller_now_s, called_now_s| {
        call(
            (&one, &known, caller_now_s),
            (&two, &known, called_now_s),
            Purpose::Raft,
        )
    };
    let until_s = one.certificate().validity().until_s;
    assert_eq!(until_s, NOW_S + 365 * DAY_S);
    assert_eq!(one.certificate().validity().from_s, NOW_S - 3_600);
    assert_eq!(
        one.certificate().renew_when_s(),
        until_s - (365 * DAY_S + 3_600) / 3
    );
    for good in [NOW_S - 3_600, NOW_S, until_s] {
        assert!(at(good, good).await.0.is_ok(), "{good}");
    }
    let expired = |node, ago_s| PeerVerdict::Expired {
        node: Uuid(node),
        ago_s,
    };
    assert_eq!(verdict(at(until_s + 7, NOW_S).await.0), expired(2, 7));
    let (called, taken) = at(NOW_S, until_s + 9).await;
    assert_eq!(verdict(taken), expired(1, 9));
    assert!(
        matches!(called, Err(LinkError::RefusedByPeer { .. })),
        "{called:?}"
    );
    let early = |node, in_s| PeerVerdict::NotValidYet {
        node: Uuid(node),
        in_s,
    };
    assert_eq!(verdict(at(NOW_S - 3_660, NOW_S).await.0), early(2, 60));
    assert_eq!(verdict(at(NOW_S, NOW_S - 3_660).await.1), early(1, 60));
    let counted = known.counted();
    assert!(
        counted.contains(&("peer_expired", 2)) && counted.contains(&("peer_not_valid_yet", 2)),
        "{counted:?}"
    );
}

#[tokio::test]
async fn the_node_that_answers_is_the_one_that_was_called() {
    let authority = authority();
    let (one, three) = (node(&authority, 1), node(&authority, 3));
    let known = Known::default();
    let (called, _) = call((&one, &known, NOW_S), (&three, &known, NOW_S), Purpose::Port).await;
    let wrong = PeerVerdict::WrongNode {
        expected: Uuid(2),
        found: Uuid(3),
    };
    assert_eq!(verdict(called), wrong);
    assert!(known.counted().contains(&("peer_wrong_node", 1)));
}

/// Whoever has the authority's key can sign for any id: not with the key that the cluster knows the node by.
#[tokio::test]
async fn a_node_with_another_key_than_the_cluster_knows_is_sent_away_at_both_ends() {
    let authority = authority();
    let (one, two) = (node(&authority, 1), node(&authority, 2));
    let (of_one, of_two) = (Known::default(), Known::default());
    let (false_one, false_two) = (node(&authority, 1), node(&authority, 2));
    of_one
        .roster
        .replace(BTreeMap::from([(Uuid(2), Some(two.identity().key))]));
    of_two
        .roster
        .replace(BTreeMap::from([(Uuid(1), Some(one.identity().key))]));
    let good = call((&one, &of_one, NOW_S), (&two, &of_two, NOW_S), Purpose::Raft).await;
    assert!(good.0.is_ok() && good.1.is_ok());
    let (called, _) = call(
        (&one, &of_one, NOW_S),
        (&false_two, &of_two, NOW_S),
        Purpose::Raft,
    )
    .await;
    assert_eq!(verdict(called), PeerVerdict::OtherKey { node: Uuid(2) });
    let (_, taken) = call(
        (&false_one, &of_one, NOW_S),
        (&two, &of_two, NOW_S),
        Purpose::Raft,
    )
    .await;
    assert_eq!(verdict(taken), PeerVerdict::OtherKey { node: Uuid(1) });
    // A renewed certificate is of the same key.
    let request = one.certificate().clone();
    assert_eq!(
        of_two.roster.standing(Uuid(1), request.identity().key),
        PeerStanding::Known
    );
    // Of one whose key nobody has written down, such as the cluster's first node, any is taken.
    of_two.roster.replace(BTreeMap::from([(Uuid(1), None)]));
    let (called, _) = call(
        (&false_one, &of_one, NOW_S),
        (&two, &of_two, NOW_S),
        Purpose::Raft,
    )
    .await;
    assert!(called.is_ok(), "{called:?}");
}

#[tokio::test]
async fn without_a_certificate_nobody_comes_in_but_to_join() {
    let authority = authority();
    let two = node(&authority, 2);
    let known = Known::default();
    let config = nobody(&authority, Purpose::Raft);
    let (called, taken) = with_config(config, known.acceptor(&two, &Purpose::ALL, NOW_S)).await;
    assert_eq!(verdict(taken), PeerVerdict::NoCertificate);
    assert!(called.to_string().contains("join first"), "{called}");
    assert_eq!(known.counted(), [("peer_no_certificate", 1)]);
    // For joining it does, and is known to be nobody.
    let (near, far) = duplex(1 << 16);
    let acceptor = known.acceptor(&two, &Purpose::ALL, NOW_S);
    let joiner =
        palisade_trust::Connector::of_joiner(Arc::clone(&known.counters)).with_clock(Arc::new(Clock(NOW_S)));
    let (called, taken) = tokio::join!(
        joiner.connect_to_join(near, authority.fingerprint(), DEADLINE),
        acceptor.accept(far, DEADLINE)
    );
    assert_eq!(called.unwrap().1, two.identity());
    assert_eq!(taken.unwrap().caller, Caller::Joiner);
    // It knows the authority by its sum, before it has said a word.
    let (near, far) = duplex(1 << 16);
    let other = Authority::create(CLUSTER, NOW_S).unwrap();
    let (called, _) = tokio::join!(
        joiner.connect_to_join(near, other.fingerprint(), DEADLINE),
        acceptor.accept(far, DEADLINE)
    );
    assert_eq!(verdict(called), PeerVerdict::OtherAuthority);
    // A machine that joins has no way to any node but by a token.
    let (near, _far) = duplex(1 << 16);
    let called = joiner.connect(near, Uuid(2), Purpose::Raft, DEADLINE).await;
    assert_eq!(verdict(called), PeerVerdict::NoCertificate);
}

#[tokio::test]
async fn what_is_not_served_and_what_is_no_tls_1_3_is_refused() {
    let authority = authority();
    let (one, two) = (node(&authority, 1), node(&authority, 2));
    let known = Known::default();
    let (near, far) = duplex(1 << 16);
    let only_raft = known.acceptor(&two, &[Purpose::Raft], NOW_S);
    let connector = known.connector(&one, NOW_S);
    let (called, taken) = tokio::join!(
        connector.connect(near, Uuid(2), Purpose::Port, DEADLINE),
        only_raft.accept(far, DEADLINE)
    );
    assert!(
        matches!(
            called,
            Err(LinkError::Purpose {
                wanted: Purpose::Port
            })
        ),
        "{called:?}"
    );
    assert!(matches!(taken, Err(LinkError::Purpose { .. })), "{taken:?}");
    assert_eq!(known.counted(), [("purpose", 2)]);
    // One that says nothing of what it is for.
    let mut silent = nobody(&authority, Purpose::Join);
    silent.alpn_protocols.clear();
    let (_, taken) = with_config(silent, known.acceptor(&two, &Purpose::ALL, NOW_S)).await;
    assert!(
        matches!(taken, Err(LinkError::Peer(PeerVerdict::NoCertificate))),
        "{taken:?}"
    );
    // TLS 1.2, no TLS, and nothing at all.
    let mut old = nobody_of(&authority, &[&rustls::version::TLS12]);
    old.alpn_protocols = vec![Purpose::Raft.as_str().into()];
    let (called, taken) = with_config(old, known.acceptor(&two, &Purpose::ALL, NOW_S)).await;
    assert!(matches!(taken, Err(LinkError::Tls { .. })), "{taken:?}");
    assert!(called.to_string().contains("does not speak TLS 1.3"), "{called}");
    let (mut near, far) = duplex(1 << 16);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let taken = known
        .acceptor(&two, &Purpose::ALL, NOW_S)
        .accept(far, DEADLINE)
        .await;
    assert!(matches!(taken, Err(LinkError::Tls { .. })), "{taken:?}");
    let (_near, far) = duplex(1 << 16);
    let short = Duration::from_millis(50);
    let taken = known
        .acceptor(&two, &Purpose::ALL, NOW_S)
        .accept(far, short)
        .await;
    assert!(matches!(taken, Err(LinkError::TimedOut { .. })), "{taken:?}");
    let (near, _far) = duplex(1 << 16);
    let called = connector.connect(near, Uuid(2), Purpose::Raft, short).await;
    assert!(matches!(called, Err(LinkError::TimedOut { .. })), "{called:?}");
    let (near, _) = duplex(1 << 16);
    let called = connector.connect(near, Uuid(2), Purpose::Raft, DEADLINE).await;
    assert!(matches!(called, Err(LinkError::Io { .. })), "{called:?}");
}

/// A node that shows its certificate and takes any for the other end's: as one would that does not check.
async fn stranger(one: &Credentials, two: &Credentials, of_two: &Known) -> (LinkError, Taken) {
    stranger_with(vec![one.certificate().der().clone()], one, two, of_two).await
}

async fn stranger_with(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    one: &Credentials,
    two: &Credentials,
    of_two: &Known,
) -> (LinkError, Taken) {
    let _ = one;
    let key = rcgen::KeyPair::generate().unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signer = provider.key_provider.load_private_key(key.into()).unwrap();
    let resolver = Careless(Arc::new(rustls::sign::CertifiedKey::new(chain, signer)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_client_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![Purpose::Raft.as_str().into()];
    with_config(config, of_two.acceptor(two, &Purpose::ALL, NOW_S)).await
}

/// It takes the certificate for the authority's.
fn nobody(authority: &Authority, purpose: Purpose) -> ClientConfig {
    let mut config = nobody_of(authority, &[&rustls::version::TLS13]);
    config.alpn_protocols = vec![purpose.as_str().into()];
    config
}

fn nobody_of(authority: &Authority, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth()
}

/// What who calls hears at last, and what who is called makes of it.
async fn with_config(config: ClientConfig, acceptor: palisade_trust::Acceptor) -> (LinkError, Taken) {
    let (near, far) = duplex(1 << 16);
    let name = ServerName::try_from("node").unwrap();
    let calls = async move {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, near).await?;
        stream.write_all(b"hello").await?;
        stream.read_exact(&mut [0; 2]).await.map(|_| ())
    };
    let (called, taken) = tokio::join!(calls, acceptor.accept(far, DEADLINE));
    (LinkError::of_io(called.unwrap_err(), Purpose::Raft), taken)
}

#[derive(Debug)]
struct Careless(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Careless {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Credulous;

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}
