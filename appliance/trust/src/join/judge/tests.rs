use super::*;
use crate::join::joiner::{JoinError, Joiner};
use crate::join::{JoinFrame, message};
use crate::node_key::NodeKey;
use crate::token::TokenText;
use palisade_model::{
    CreateToken, FEATURE_LEVEL, InitCluster, NodeStarted, RaiseFeatureLevel, RemoveNode, RevokeToken,
};
use palisade_words::{FeatureLevel, Incarnation, Name, Sha256Sum};
use std::net::SocketAddr;
use std::sync::Arc;

const NOW_S: u64 = 1_800_000_000;
const CLUSTER: Uuid = Uuid(0xc1);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn then(cluster: &Cluster, command: Command) -> Cluster {
    cluster.apply(&command).unwrap().0
}

/// A cluster of the node `n1` with an authority, and a token for a machine that is to be something.
fn site(admits: NodeRole) -> (Cluster, Authority, TokenText) {
    let authority = Authority::create(CLUSTER, NOW_S).unwrap();
    let token = TokenText::generate(authority.fingerprint()).unwrap();
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
            admits,
        }),
    ];
    let cluster = commands
        .into_iter()
        .fold(Cluster::empty(), |cluster, command| then(&cluster, command));
    (cluster, authority, token)
}

fn about(token: &TokenText) -> JoinRequest {
    JoinRequest {
        secret: token.secret().clone(),
        node: Uuid(2),
        name: name("n2"),
        addresses: vec![SocketAddr::from(([192, 0, 2, 2], 7000))],
        failure_domain: Some(name("rack2")),
        feature_level: FEATURE_LEVEL,
        certificate_request: Vec::new(),
        disks: 0,
        volumes: 0,
        attachments: 0,
    }
}

/// The machine 2 asks with a token.
fn asks(token: &TokenText, key: &Arc<NodeKey>) -> (Joiner, JoinRequest) {
    let (joiner, frame) = Joiner::begin(token.clone(), Arc::clone(key), about(token)).unwrap();
    let JoinFrame::Join(request) = frame else {
        panic!("it asks to be let in")
    };
    (joiner, request)
}

fn key() -> Arc<NodeKey> {
    Arc::new(NodeKey::generate().unwrap())
}

#[test]
fn a_machine_with_a_token_becomes_a_node_that_can_sign_for_others_if_it_is_to_vote() {
    for role in [NodeRole::Voter, NodeRole::Learner] {
        let (cluster, authority, token) = site(role);
        let (joiner, request) = asks(&token, &key());
        let command = judge(&request, &cluster, NOW_S + 5).unwrap();
        let cluster = then(&cluster, command);
        let grant = grant(&request, &cluster, &authority, NOW_S + 5).unwrap();
        assert_eq!(grant.authority_key.is_some(), role == NodeRole::Voter);
        let joined = joiner.answered(JoinFrame::Granted(grant)).unwrap();
        let identity = joined.credentials.identity();
        assert_eq!((identity.cluster, identity.node), (CLUSTER, Uuid(2)));
        assert_eq!(Some(identity.key), cluster.nodes["n2"].key);
        assert_eq!(joined.meant_for, role);
        let names: Vec<&str> = joined.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2"]);
        let signs = joined.authority.map(|authority| authority.fingerprint());
        assert_eq!(signs, (role == NodeRole::Voter).then(|| authority.fingerprint()));
    }
}

#[test]
fn asked_twice_with_the_same_key_the_answer_is_the_same() {
    let (before, authority, token) = site(NodeRole::Voter);
    let key = key();
    let (_, first) = asks(&token, &key);
    let cluster = then(&before, judge(&first, &before, NOW_S).unwrap());
    // The answer is lost, and the machine has started anew.
    let (joiner, again) = asks(&token, &key);
    let command = judge(&again, &cluster, NOW_S + 60).unwrap();
    let (after, _) = cluster.apply(&command).unwrap();
    assert_eq!(after, cluster);
    let grant = grant(&again, &after, &authority, NOW_S + 60).unwrap();
    assert!(joiner.answered(JoinFrame::Granted(grant)).is_ok());
    // Somebody who has seen the token has no such key.
    let (_, other) = asks(&token, &self::key());
    let refused = judge(&other, &cluster, NOW_S + 60).unwrap_err();
    assert_eq!(refused.code(), "token_used");
    let refused = super::grant(&other, &cluster, &authority, NOW_S + 60).unwrap_err();
    assert_eq!(refused.code(), "join_no_such_node");
}

#[test]
fn each_refusal_has_a_code_and_says_what_to_do() {
    let (cluster, _, token) = site(NodeRole::Voter);
    let (_, good) = asks(&token, &key());
    let counters = crate::RefusalCounters::default();
    let code = |cluster: &Cluster, now_s: u64, change: fn(&mut JoinRequest)| {
        let mut request = good.clone();
        change(&mut request);
        let verdict = judge(&request, cluster, now_s).unwrap_err();
        counters.count_join(&verdict);
        let told = verdict.told();
        assert_eq!(told.code, verdict.code());
        assert!(told.sentence.len() > 40, "{}", told.sentence);
        told.code
    };
    assert_eq!(code(&cluster, NOW_S + 3_600, |_| {}), "token_expired");
    let revoked = Command::RevokeToken(RevokeToken {
        name: name("t1"),
        expected: None,
    });
    assert_eq!(code(&then(&cluster, revoked), NOW_S, |_| {}), "token_unknown");
    // Who has no token hears nothing else.
    let nobody = |request: &mut JoinRequest| (request.secret.0[3], request.disks) = (0, 7);
    assert_eq!(code(&cluster, NOW_S, nobody), "token_unknown");
    assert_eq!(
        code(&cluster, NOW_S, |request| request.disks = 1),
        "join_not_empty"
    );
    assert_eq!(
        code(&cluster, NOW_S, |request| request.volumes = 1),
        "join_not_empty"
    );
    assert_eq!(
        code(&cluster, NOW_S, |request| request.attachments = 1),
        "join_not_empty"
    );
    assert_eq!(
        code(&cluster, NOW_S, |request| request.addresses.clear()),
        "join_no_address"
    );
    assert_eq!(
        code(&cluster, NOW_S, |request| request.addresses[0].set_port(0)),
        "invalid_argument"
    );
    assert_eq!(
        code(&cluster, NOW_S, |request| request.name = name("n1")),
        "node_exists"
    );
    assert_eq!(
        code(&cluster, NOW_S, |request| request.node = Uuid(1)),
        "uuid_taken"
    );
    let old = |request: &mut JoinRequest| request.feature_level = FeatureLevel(3);
    assert_eq!(code(&cluster, NOW_S, old), "feature_level_too_low");
    assert_eq!(
        code(&cluster, NOW_S, |request| request.certificate_request.clear()),
        "join_request_invalid"
    );
    let long = |request: &mut JoinRequest| request.certificate_request.resize(5_000, 0);
    assert_eq!(code(&cluster, NOW_S, long), "join_request_invalid");
    let counted: Vec<_> = counters.counted().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("join_refused", 13)]);
}

/// A request is signed by the key in it: who has seen another's public key cannot get a certificate for it.
#[test]
fn a_request_proves_that_who_asks_has_the_key() {
    let (cluster, authority, token) = site(NodeRole::Voter);
    let (_, mut request) = asks(&token, &key());
    let last = request.certificate_request.len() - 1;
    request.certificate_request[last] ^= 1;
    assert_eq!(
        judge(&request, &cluster, NOW_S).unwrap_err().code(),
        "join_request_invalid"
    );
    let signed = authority.sign(&request.certificate_request, Uuid(2), NOW_S);
    assert!(
        matches!(signed, Err(AuthorityError::Request { .. })),
        "{signed:?}"
    );
    // Another kind of key than ours.
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let other = rcgen::CertificateParams::default()
        .serialize_request(&other)
        .unwrap();
    let signed = authority.sign(other.der(), Uuid(2), NOW_S);
    assert!(
        matches!(signed, Err(AuthorityError::Request { .. })),
        "{signed:?}"
    );
}

/// What a request says beyond its key, such as another name or that it is an authority, is not in the certificate.
#[test]
fn a_certificate_says_what_the_authority_says() {
    let (_, authority, _) = site(NodeRole::Voter);
    let own = rcgen::KeyPair::generate().unwrap();
    let mut greedy = rcgen::CertificateParams::default();
    greedy.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let uri = format!("palisade:cluster:{CLUSTER}:node:{}", Uuid(1));
    greedy.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
    let request = greedy.serialize_request(&own).unwrap();
    let certificate = authority.sign(request.der(), Uuid(2), NOW_S).unwrap();
    assert_eq!(certificate.identity().node, Uuid(2));
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
    assert!(!parsed.is_ca());
    // Two of one key have numbers of their own.
    let again = authority.sign(request.der(), Uuid(2), NOW_S).unwrap();
    let (_, again) = x509_parser::parse_x509_certificate(again.der()).unwrap();
    assert_ne!(parsed.raw_serial(), again.raw_serial());
}

#[test]
fn no_clock_leads_to_a_certificate_without_end() {
    let (_, authority, _) = site(NodeRole::Voter);
    let request = key().request().unwrap();
    for now_s in [0, 3_599, u64::MAX, 231 * 365 * 86_400] {
        let signed = authority.sign(&request, Uuid(2), now_s);
        assert!(
            matches!(signed, Err(AuthorityError::Clock { .. })),
            "{now_s}: {signed:?}"
        );
        assert!(matches!(
            Authority::create(CLUSTER, now_s),
            Err(AuthorityError::Clock { .. })
        ));
    }
    assert!(authority.sign(&request, Uuid(2), 230 * 365 * 86_400).is_ok());
}

#[test]
fn a_node_renews_its_own_certificate_and_no_other() {
    let (before, authority, token) = site(NodeRole::Learner);
    let own = key();
    let (_, request) = asks(&token, &own);
    let cluster = then(&before, judge(&request, &before, NOW_S).unwrap());
    let peer = |key: &NodeKey| PeerIdentity {
        cluster: CLUSTER,
        node: Uuid(2),
        key: key.sum(),
    };
    let ask = |key: &NodeKey| RenewRequest {
        certificate_request: key.request().unwrap(),
        wants_authority_key: true,
    };
    let later_s = NOW_S + 250 * 86_400;
    let granted = renew(&ask(&own), peer(&own), &cluster, &authority, later_s).unwrap();
    let certificate = crate::NodeCertificate::from_der(granted.certificate).unwrap();
    assert_eq!(certificate.validity().until_s, later_s + 365 * 86_400);
    assert_eq!(certificate.identity().key, own.sum());
    assert_eq!(granted.authority_key, None, "it is not to vote");
    let code = |request: &RenewRequest, peer: PeerIdentity, cluster: &Cluster, authority: &Authority| {
        renew(request, peer, cluster, authority, later_s)
            .unwrap_err()
            .code()
    };
    let other = key();
    assert_eq!(
        code(&ask(&other), peer(&own), &cluster, &authority),
        "join_no_such_node"
    );
    assert_eq!(
        code(&ask(&other), peer(&other), &cluster, &authority),
        "join_no_such_node"
    );
    let gone = then(
        &cluster,
        Command::RemoveNode(RemoveNode {
            name: name("n2"),
            expected: None,
        }),
    );
    assert_eq!(
        code(&ask(&own), peer(&own), &gone, &authority),
        "join_no_such_node"
    );
    let elsewhere = PeerIdentity {
        cluster: Uuid(0xc2),
        ..peer(&own)
    };
    assert_eq!(
        code(&ask(&own), elsewhere, &cluster, &authority),
        "join_no_such_node"
    );
    let of_other = Authority::create(Uuid(0xc2), NOW_S).unwrap();
    assert_eq!(
        code(&ask(&own), peer(&own), &cluster, &of_other),
        "join_cannot_sign"
    );
    // The first node, whose key nobody has written down, votes.
    let first = PeerIdentity {
        node: Uuid(1),
        ..peer(&other)
    };
    let code_of_another = code(&ask(&key()), first, &cluster, &authority);
    assert_eq!(
        code_of_another, "join_no_such_node",
        "it keeps the key of its connection"
    );
    let granted = renew(&ask(&other), first, &cluster, &authority, later_s).unwrap();
    assert_eq!(granted.authority_key, Some(authority.key_der()));
    let verdict = no_authority(&cluster);
    assert!(verdict.to_string().contains("(n1)"), "{verdict}");
}

/// Whoever could answer in the cluster's name has its authority; what does not fit is not kept all the same.
#[test]
fn a_machine_keeps_no_answer_that_does_not_fit() {
    let (before, authority, token) = site(NodeRole::Voter);
    let own = key();
    let (_, request) = asks(&token, &own);
    let cluster = then(&before, judge(&request, &before, NOW_S).unwrap());
    let good = grant(&request, &cluster, &authority, NOW_S).unwrap();
    let answered = |change: &dyn Fn(&mut JoinGrant)| {
        let mut answer = good.clone();
        change(&mut answer);
        let (joiner, _) = asks(&token, &own);
        joiner.answered(JoinFrame::Granted(answer))
    };
    assert!(answered(&|_| {}).is_ok());
    let other = Authority::create(CLUSTER, NOW_S).unwrap();
    let signed = |node, key: &NodeKey| {
        let signed = authority.sign(&key.request().unwrap(), node, NOW_S).unwrap();
        signed.der().to_vec()
    };
    let of_other_node = signed(Uuid(3), &own);
    let of_other_key = signed(Uuid(2), &key());
    let by_other = other
        .sign(&request.certificate_request, Uuid(2), NOW_S)
        .unwrap()
        .der()
        .to_vec();
    let changes: [&dyn Fn(&mut JoinGrant); 8] = [
        // All of it fits, and is another authority's than the token's.
        &|answer| {
            answer.authority = other.certificate().to_vec();
            answer.certificate = by_other.clone();
            answer.authority_key = None;
        },
        &|answer| answer.authority = other.certificate().to_vec(),
        &|answer| answer.certificate = of_other_node.clone(),
        &|answer| answer.certificate = of_other_key.clone(),
        &|answer| answer.certificate = by_other.clone(),
        &|answer| answer.certificate.truncate(100),
        &|answer| answer.cluster = Uuid(0xc2),
        &|answer| answer.authority_key = Some(other.key_der()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let refused = answered(change).unwrap_err();
        assert!(
            !matches!(refused, JoinError::Refused(_) | JoinError::Unexpected),
            "{number}: {refused}"
        );
    }
    let refused = message::JoinRefused {
        code: "token_used".into(),
        sentence: "say so".into(),
    };
    let (joiner, _) = asks(&token, &own);
    let error = joiner.answered(JoinFrame::Refused(refused)).unwrap_err();
    assert_eq!(error.to_string(), "say so");
    let (joiner, frame) = Joiner::begin(token.clone(), own.clone(), about(&token)).unwrap();
    assert!(matches!(joiner.answered(frame), Err(JoinError::Unexpected)));
    assert!(!format!("{good:?} {own:?}").contains("PRIVATE"));
    let nil = Sha256Sum::default();
    assert_ne!(own.sum(), nil);
}
