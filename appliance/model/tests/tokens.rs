//! Tokens let nodes in: each one, once, for a time, and by the key that the node has shown.

#![cfg(test)]

mod lab;

use lab::{add_node, after, lab, lab_of_two_nodes, name, outcome, refusal, started, switched_on, then};
use palisade_model::limits::{TOKEN_LIFE_S_MAX, TOKENS_MAX};
use palisade_model::*;
use palisade_words::{FeatureLevel, Generation, Sha256Sum, Uuid};

/// When the token of [`token`] is made, and when it expires.
const MADE_S: u64 = 1_000;
const EXPIRES_S: u64 = 4_600;

fn sum(number: u8) -> Sha256Sum {
    Sha256Sum([number; 32])
}

fn token(text: &str, hash: u8) -> CreateToken {
    CreateToken {
        name: name(text),
        hash: sum(hash),
        now_s: MADE_S,
        expires_at_s: EXPIRES_S,
        admits: NodeRole::Voter,
    }
}

/// Node `k` of id 7 and key 70 shows the token of hash 1.
fn admit() -> AdmitNode {
    AdmitNode {
        token: sum(1),
        key: sum(70),
        now_s: MADE_S + 1,
        feature_level: FEATURE_LEVEL,
        node: AddNode {
            addresses: vec![([192, 0, 2, 7], 7000).into()],
            failure_domain: Some(name("rack7")),
            ..add_node("k", 7)
        },
    }
}

fn with_token() -> Cluster {
    then(&lab_of_two_nodes(), Command::CreateToken(token("t", 1)))
}

fn admitted() -> Cluster {
    then(&with_token(), Command::AdmitNode(admit()))
}

fn revoke(text: &str) -> Command {
    Command::RevokeToken(RevokeToken {
        name: name(text),
        expected: None,
    })
}

fn remove(text: &str) -> Command {
    Command::RemoveNode(RemoveNode {
        name: name(text),
        expected: None,
    })
}

#[test]
fn a_token_lets_a_node_in_and_is_used_up_in_the_same_step() {
    let cluster = admitted();
    let node = &cluster.nodes[&name("k")];
    assert_eq!(
        (node.membership, node.role),
        (Membership::Joining, NodeRole::Learner)
    );
    assert_eq!((node.meant_for, node.key), (NodeRole::Voter, Some(sum(70))));
    assert_eq!(node.addresses, admit().node.addresses);
    assert_eq!(node.failure_domain, Some(name("rack7")));
    let used = &cluster.tokens[&name("t")];
    assert_eq!((used.used_by, used.revision), (Some(Uuid(7)), cluster.generation));
    let only = CreateToken {
        admits: NodeRole::Learner,
        ..token("t", 1)
    };
    let learner = [Command::CreateToken(only), Command::AdmitNode(admit())];
    let cluster = after(&lab_of_two_nodes(), learner);
    assert_eq!(cluster.nodes[&name("k")].meant_for, NodeRole::Learner);
    // It begins as any that was let in.
    let begun = then(&cluster, Command::NodeStarted(started(7, 1)));
    assert!(begun.nodes[&name("k")].is_active());
    // No generation of a node's other changes loses its key.
    assert_eq!(begun.nodes[&name("k")].key, Some(sum(70)));
}

/// Whoever has heard no answer asks again; whoever has seen the token on its way does too.
#[test]
fn a_token_lets_in_one_node_however_often_it_is_shown() {
    let cluster = admitted();
    let again = |change: fn(&mut AdmitNode)| {
        let mut admit = admit();
        change(&mut admit);
        Command::AdmitNode(admit)
    };
    assert_eq!(outcome(&cluster, &again(|_| {})), "unchanged");
    assert_eq!(outcome(&cluster, &again(|admit| admit.now_s += 60)), "unchanged");
    let begun = then(&cluster, Command::NodeStarted(started(7, 1)));
    assert_eq!(outcome(&begun, &again(|_| {})), "unchanged");
    let used = Refusal::TokenUsed {
        token: name("t"),
        node: name("k"),
    };
    let another_key = again(|admit| admit.key = sum(71));
    assert_eq!(refusal(&cluster, another_key), used);
    let another_node = again(|admit| (admit.node.name, admit.node.uuid) = (name("l"), Uuid(8)));
    assert_eq!(refusal(&cluster, another_node), used);
    let both = again(|admit| {
        (admit.node.name, admit.node.uuid) = (name("l"), Uuid(8));
        admit.key = sum(80);
    });
    assert_eq!(refusal(&cluster, both), used);
    let another_name = again(|admit| admit.node.name = name("l"));
    assert_eq!(outcome(&cluster, &another_name), "uuid_taken");
    // A node that was taken away does not come back by the token of then.
    let gone = then(&cluster, remove("k"));
    assert_eq!(refusal(&gone, again(|_| {})), Refusal::TokenUnknown);
}

#[test]
fn a_token_lets_nobody_in_once_it_has_expired_or_was_taken_back() {
    let at = |now_s| Command::AdmitNode(AdmitNode { now_s, ..admit() });
    let cluster = with_token();
    assert_eq!(outcome(&cluster, &at(EXPIRES_S - 1)), "created");
    let expired = |ago_s| Refusal::TokenExpired {
        token: name("t"),
        ago_s,
    };
    assert_eq!(refusal(&cluster, at(EXPIRES_S)), expired(0));
    assert_eq!(refusal(&cluster, at(EXPIRES_S + 9)), expired(9));
    // Not even the one that it has let in: a token that is found later is worth nothing.
    assert_eq!(refusal(&admitted(), at(EXPIRES_S)), expired(0));
    let revoked = then(&cluster, revoke("t"));
    assert_eq!(refusal(&revoked, at(MADE_S)), Refusal::TokenUnknown);
    assert_eq!(outcome(&revoked, &revoke("t")), "token_not_found");
    let late = Command::RevokeToken(RevokeToken {
        name: name("t"),
        expected: Some(Generation(1)),
    });
    assert_eq!(outcome(&cluster, &late), "revision_mismatch");
    // Who was let in stays.
    let after = then(&admitted(), revoke("t"));
    assert!(after.nodes.contains_key("k") && after.tokens.is_empty());
}

#[test]
fn a_token_is_made_once_and_for_a_week_at_most() {
    let cluster = with_token();
    let make = |change: fn(&mut CreateToken)| {
        let mut create = token("t", 1);
        change(&mut create);
        Command::CreateToken(create)
    };
    assert_eq!(outcome(&cluster, &make(|_| {})), "unchanged");
    assert_eq!(outcome(&cluster, &make(|create| create.now_s += 1)), "unchanged");
    assert_eq!(
        outcome(&cluster, &make(|create| create.hash = sum(2))),
        "token_exists"
    );
    assert_eq!(
        outcome(&cluster, &make(|create| create.expires_at_s += 1)),
        "token_exists"
    );
    let other_role = make(|create| create.admits = NodeRole::Learner);
    assert_eq!(outcome(&cluster, &other_role), "token_exists");
    assert_eq!(outcome(&cluster, &make(|create| create.name = name("u"))), "hash");
    let empty = lab_of_two_nodes();
    assert_eq!(outcome(&empty, &make(|create| create.hash = sum(0))), "hash");
    assert_eq!(
        outcome(&empty, &make(|create| create.expires_at_s = MADE_S)),
        "expires_at_s"
    );
    assert_eq!(
        outcome(&empty, &make(|create| create.expires_at_s = 0)),
        "expires_at_s"
    );
    let longest = make(|create| create.expires_at_s = MADE_S + TOKEN_LIFE_S_MAX);
    assert_eq!(outcome(&empty, &longest), "created");
    let longer = make(|create| create.expires_at_s = MADE_S + TOKEN_LIFE_S_MAX + 1);
    assert_eq!(outcome(&empty, &longer), "expires_at_s");
}

/// There are never more than so many, and those that are worth nothing make room.
#[test]
fn expired_tokens_go_when_another_is_made_or_used() {
    let many = (0..TOKENS_MAX as u8).map(|number| token(&format!("t{number}"), number + 1));
    let full = after(&lab_of_two_nodes(), many.map(Command::CreateToken));
    assert_eq!(full.tokens.len(), TOKENS_MAX);
    assert_eq!(outcome(&full, &Command::CreateToken(token("u", 200))), "too_many");
    let later = CreateToken {
        now_s: EXPIRES_S,
        expires_at_s: EXPIRES_S + 60,
        ..token("u", 200)
    };
    let next = then(&full, Command::CreateToken(later.clone()));
    assert_eq!(next.tokens.keys().collect::<Vec<_>>(), [&name("u")]);
    let long = CreateToken {
        expires_at_s: EXPIRES_S + 60,
        ..token("u", 200)
    };
    let both = after(&with_token(), [Command::CreateToken(long)]);
    let admit = AdmitNode {
        token: sum(200),
        now_s: EXPIRES_S,
        ..admit()
    };
    let used = then(&both, Command::AdmitNode(admit));
    assert_eq!(used.tokens.keys().collect::<Vec<_>>(), [&name("u")]);
}

/// After a long absence its certificate is not worth anything, and its key still is.
#[test]
fn a_node_comes_back_by_a_new_token_and_its_old_key() {
    let begun = then(&admitted(), Command::NodeStarted(started(7, 1)));
    let cluster = then(&begun, Command::CreateToken(token("u", 2)));
    let mut back = AdmitNode {
        token: sum(2),
        ..admit()
    };
    back.node.addresses = vec![([192, 0, 2, 9], 7000).into()];
    back.node.failure_domain = None;
    let next = then(&cluster, Command::AdmitNode(back.clone()));
    let node = &next.nodes[&name("k")];
    assert_eq!(node.addresses, back.node.addresses);
    assert_eq!(node.failure_domain, Some(name("rack7")));
    assert!(node.is_active());
    assert_eq!(next.epoch, cluster.epoch, "the members are the same");
    assert_eq!(next.tokens[&name("u")].used_by, Some(Uuid(7)));
    // Another key is another node, and so is one that has never shown any.
    let differs = |node: &str| Refusal::NodeKeyDiffers { node: name(node) };
    let other = AdmitNode {
        key: sum(71),
        ..back.clone()
    };
    assert_eq!(refusal(&cluster, Command::AdmitNode(other)), differs("k"));
    let as_m = AdmitNode {
        node: add_node("m", 3),
        key: sum(33),
        ..back.clone()
    };
    assert_eq!(refusal(&cluster, Command::AdmitNode(as_m)), differs("m"));
    // One that an operator has named before, and that has not begun, may.
    let named = then(&cluster, Command::AddNode(add_node("l", 8)));
    let as_l = AdmitNode {
        node: add_node("l", 8),
        key: sum(88),
        ..back.clone()
    };
    let named = then(&named, Command::AdmitNode(as_l));
    assert_eq!(named.nodes[&name("l")].key, Some(sum(88)));
    // Two nodes never have one key, and a name has one id.
    let copy = AdmitNode {
        node: add_node("l", 8),
        ..back.clone()
    };
    let taken = Refusal::KeyTaken { holder: name("k") };
    assert_eq!(refusal(&cluster, Command::AdmitNode(copy)), taken);
    let replaced = AdmitNode {
        node: add_node("k", 8),
        key: sum(88),
        ..back.clone()
    };
    assert_eq!(outcome(&cluster, &Command::AdmitNode(replaced)), "node_exists");
    let nil = AdmitNode { key: sum(0), ..back };
    assert_eq!(outcome(&cluster, &Command::AdmitNode(nil)), "key");
}

#[test]
fn a_node_whose_program_cannot_what_is_switched_on_is_not_let_in() {
    let old = AdmitNode {
        feature_level: FeatureLevel(3),
        ..admit()
    };
    let too_low = Refusal::FeatureLevelTooLow {
        node: name("k"),
        level: FeatureLevel(3),
        needed: FEATURE_LEVEL,
    };
    assert_eq!(refusal(&with_token(), Command::AdmitNode(old)), too_low);
    let unknown = AdmitNode {
        token: sum(9),
        ..admit()
    };
    assert_eq!(
        refusal(&with_token(), Command::AdmitNode(unknown)),
        Refusal::TokenUnknown
    );
    let off = Refusal::FeatureOff {
        needed: FeatureLevel(4),
        level: FeatureLevel(0),
    };
    assert_eq!(refusal(&lab(), Command::CreateToken(token("t", 1))), off);
    assert_eq!(refusal(&lab(), Command::AdmitNode(admit())), off);
    assert_eq!(refusal(&lab(), revoke("t")), off);
}

/// A cluster without tokens is written as before there were any.
#[test]
fn what_has_no_token_says_nothing_of_tokens() {
    let text = serde_json::to_string(&switched_on(&lab())).unwrap();
    for word in ["tokens", "meant_for", "\"key\""] {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

/// Members of different versions tell each other, and logs keep it: these texts never change.
#[test]
fn the_commands_have_the_texts_that_logs_keep() {
    let learner = CreateToken {
        admits: NodeRole::Learner,
        ..token("u", 2)
    };
    let admit = || AdmitNode {
        feature_level: FeatureLevel(4),
        ..admit()
    };
    let bare = AdmitNode {
        node: add_node("l", 8),
        ..admit()
    };
    let commands = [
        Command::CreateToken(token("t", 1)),
        Command::CreateToken(learner),
        Command::AdmitNode(admit()),
        Command::AdmitNode(bare),
        revoke("u"),
    ];
    let golden = include_str!("golden/token-commands.jsonl");
    let mut lines = golden.lines();
    let mut cluster = lab_of_two_nodes();
    cluster.feature_level = FeatureLevel(4);
    for command in commands {
        let line = lines.next().unwrap_or_default();
        assert_eq!(serde_json::to_string(&command).unwrap(), line);
        assert_eq!(serde_json::from_str::<Command>(line).unwrap(), command);
        cluster = cluster.apply(&command).map_or(cluster, |(next, _)| next);
    }
    // And what the database then has of it.
    let kept = serde_json::to_string(&(&cluster.tokens, &cluster.nodes[&name("k")])).unwrap();
    assert_eq!(kept, lines.next().unwrap_or_default());
    assert_eq!(lines.next(), None);
}

#[test]
fn a_token_out_of_order_is_seen() {
    let bad = Some(BrokenRule::Token { token: name("t") });
    type Change = fn(&mut Cluster);
    let changes: [(Option<BrokenRule>, Change); 8] = [
        (bad.clone(), |all| of(all, "t").used_by = Some(Uuid(99))),
        (bad.clone(), |all| of(all, "t").used_by = Some(Uuid(3))),
        (bad, |all| of(all, "t").hash = sum(0)),
        (Some(BrokenRule::Token { token: name("u") }), |all| {
            let copy = of(all, "t").clone();
            all.tokens.insert(name("u"), copy);
        }),
        (Some(BrokenRule::Node { node: name("n") }), |all| {
            all.nodes.get_mut("n").unwrap().key = Some(sum(70));
        }),
        (Some(BrokenRule::Count { kind: Kind::Token }), |all| {
            for number in 0..TOKENS_MAX as u8 {
                let mut copy = of(all, "t").clone();
                copy.hash = sum(number + 100);
                all.tokens.insert(name(&format!("t{number}")), copy);
            }
        }),
        (
            Some(BrokenRule::Revision {
                kind: Kind::Token,
                name: name("t"),
            }),
            |all| of(all, "t").revision = all.generation.next(),
        ),
        (None, |all| of(all, "t").used_by = None),
    ];
    assert_eq!(check(&admitted()), Ok(()));
    for (number, (expected, change)) in changes.into_iter().enumerate() {
        let mut cluster = admitted();
        change(&mut cluster);
        assert_ne!(cluster, admitted(), "case {number} changes nothing");
        assert_eq!(check(&cluster).err(), expected, "case {number}");
    }
}

fn of<'a>(cluster: &'a mut Cluster, text: &str) -> &'a mut JoinToken {
    cluster.tokens.get_mut(text).unwrap()
}
