//! The cluster on the command line, against the real server in front of an appliance that says what a test has put there.

#[path = "../../../../appliance/admin/tests/stub/mod.rs"]
mod stub;

use crate::site::{Ran, line, program, run};
use palisade_admin::{AdminConfig, Server};
use palisade_api::{ClusterInit, ClusterJoin, JoinTokenCreate, NodePatch, NodeRole, Problem, ProblemKind};
use serde_json::{Value, json};
use std::sync::Arc;
use stub::Stub;
use stub::cluster::{Asked, TOKEN};

struct Cluster {
    stub: Arc<Stub>,
    server: Server,
}

impl Cluster {
    fn start() -> Cluster {
        let stub = Arc::new(Stub::new());
        let server = Server::start(AdminConfig::plain("127.0.0.1:0".parse().unwrap()), stub.clone());
        Cluster {
            stub,
            server: server.unwrap(),
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.address().unwrap())
    }

    fn palisade(&self, args: &str) -> Ran {
        run(&self.url(), args)
    }

    /// What was asked for since the last look.
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.stub.asked.lock().unwrap())
    }

    fn refuse(&self, problem: Problem) {
        *self.stub.refusal.lock().unwrap() = Some(problem);
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn the_cluster_is_told_in_sentences_and_then_node_by_node() {
    let cluster = Cluster::start();
    let shown = cluster.palisade("cluster status").ok();
    assert!(
        shown.starts_with(
            "Node host-a leads, and a majority of the voters answers.\n2 nodes have a vote, and none of them may fail"
        ),
        "{shown}"
    );
    assert_eq!(
        line(&shown, "host-a")[..4],
        ["host-a", "voter", "leads", "answers"]
    );
    assert_eq!(
        line(&shown, "host-b")[..6],
        ["host-b", "voter", "yes", "limps", "0", "changes"]
    );
    let unwell = "Node host-b is slow to answer: 90 ms at best.";
    assert!(shown.lines().any(|line| line == unwell), "{shown}");
    assert_eq!(
        cluster.palisade("cluster").ok(),
        shown,
        "without a word, that is what is meant"
    );
    let value = cluster.palisade("cluster --json").json();
    assert_eq!(value["members"][1]["heard_ms"], 40);
    {
        let mut status = cluster.stub.cluster.lock().unwrap();
        status.has_majority = false;
        status.leader = None;
    }
    let shown = cluster.palisade("cluster status").ok();
    assert!(shown.starts_with("No majority of the voters answers"), "{shown}");
}

#[test]
fn a_cluster_is_formed_and_a_node_joins_it() {
    let cluster = Cluster::start();
    let shown = cluster
        .palisade(
            "cluster init --address 192.0.2.7:7781 --address [2001:db8::7]:7781 --failure-domain rack-3",
        )
        .ok();
    assert!(shown.contains("palisade cluster token create"), "{shown}");
    let init = ClusterInit {
        addresses: texts(&["192.0.2.7:7781", "[2001:db8::7]:7781"]),
        failure_domain: Some("rack-3".to_owned()),
    };
    assert_eq!(cluster.asked(), [Asked::Init(init)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let join =
        "cluster join --peer 192.0.2.7:7781 --peer 192.0.2.6:7781 --address 192.0.2.8:7781 --name host-c";
    let by_variable = program(&cluster.url(), join)
        .env("PALISADE_JOIN_TOKEN", TOKEN)
        .output()
        .unwrap()
        .into();
    for ran in [
        cluster.palisade(&format!("{join} --token {TOKEN}")),
        cluster.palisade(&format!("{join} --token-file {}", file.display())),
        by_variable,
    ] {
        let shown = Ran::ok(ran);
        assert!(
            shown.contains("as node host-c.\nit starts anew as a member"),
            "{shown}"
        );
    }
    let wanted = Asked::Join(ClusterJoin {
        peers: texts(&["192.0.2.7:7781", "192.0.2.6:7781"]),
        token: TOKEN.to_owned(),
        addresses: texts(&["192.0.2.8:7781"]),
        name: Some("host-c".to_owned()),
        failure_domain: None,
    });
    assert_eq!(cluster.asked(), [wanted.clone(), wanted.clone(), wanted]);
    std::fs::write(&file, "two words").unwrap();
    let wrong = cluster.palisade(&format!("{join} --token-file {}", file.display()));
    assert!(
        wrong.code == 2 && wrong.err.contains("no join token"),
        "{wrong:?}"
    );
    assert!(wrong.err.contains("palisade cluster token create"), "{wrong:?}");
    let misshapen = cluster.palisade(&format!("{join} --token 0123456789abcdef"));
    assert!(
        misshapen.code == 1 && misshapen.err.contains("(field token)"),
        "{misshapen:?}"
    );
    assert!(!misshapen.err.contains("0123456789abcdef"), "{misshapen:?}");
    assert_eq!(cluster.asked(), []);
    assert_eq!(cluster.palisade(join).code, 2, "a token is needed");
}

/// Done by the node that is named instead, it would be that one that joins.
#[test]
fn what_makes_a_node_part_of_a_cluster_is_asked_of_no_other() {
    let (asked, other) = (Cluster::start(), Cluster::start());
    let leads = Problem::not_leader("host-b", &[other.url()]);
    for args in [
        "cluster init --address 192.0.2.7:7781".to_owned(),
        format!("cluster join --peer 192.0.2.7:7781 --address 192.0.2.8:7781 --token {TOKEN}"),
    ] {
        asked.refuse(leads.clone());
        let ran = asked.palisade(&args);
        assert!(ran.code == 1 && ran.err.contains("host-b leads"), "{ran:?}");
        assert_eq!(other.asked(), []);
    }
    // Everything else goes to who can do it.
    asked.refuse(leads);
    asked.palisade("cluster token create node-2").ok();
    assert_eq!(other.asked().len(), 1);
}

#[test]
fn a_token_is_made_listed_and_taken_back() {
    let cluster = Cluster::start();
    let empty = cluster.palisade("cluster token list").ok();
    assert!(empty.contains("palisade cluster token create"), "{empty}");
    let told = cluster.palisade("cluster token create node-2").ok();
    let paste = told
        .lines()
        .find(|line| line.contains("cluster join"))
        .unwrap()
        .trim();
    assert_eq!(
        paste,
        format!(
            "palisade cluster join --peer 192.0.2.1:7781 --peer '[2001:db8::1]:7781' --token {TOKEN} --address IP:PORT"
        )
    );
    let made = cluster
        .palisade("cluster token create witness --learner --valid 30min --json")
        .json();
    assert_eq!(
        (&made["token"], &made["role"]),
        (&json!(TOKEN), &json!("learner"))
    );
    let token = |id: &str, role, valid_s| {
        Asked::Token(JoinTokenCreate {
            id: id.to_owned(),
            role,
            valid_s,
        })
    };
    assert_eq!(
        cluster.asked(),
        [
            token("node-2", NodeRole::Voter, 3600),
            token("witness", NodeRole::Learner, 1800)
        ]
    );
    let listed = cluster.palisade("cluster token list").ok();
    assert_eq!(
        line(&listed, "witness"),
        ["witness", "learner", "2027-01-15T08:00:00Z", "-"]
    );
    assert!(!listed.contains("palisade-join-"), "{listed}");
    let again = cluster.palisade("cluster token create node-2");
    assert!(
        again.code == 1 && again.err.contains("palisade cluster token revoke node-2"),
        "{again:?}"
    );
    let short = cluster.palisade("cluster token create node-3 --valid 30s");
    assert!(
        short.code == 1 && short.err.contains("60 (a minute)"),
        "{short:?}"
    );
    assert_eq!(
        cluster.palisade("cluster token create node-3 --valid soon").code,
        2
    );
    assert_eq!(cluster.palisade("ids token").ok(), "node-2\nwitness\n");
    let gone = cluster.palisade("cluster token revoke node-2").ok();
    assert_eq!(gone, "Join token node-2 lets nobody in any more.\n");
    assert_eq!(cluster.palisade("cluster token revoke witness --json").ok(), "");
    let none = cluster.palisade("cluster token revoke node-2");
    assert_eq!(
        none.err,
        "palisade: there is no join token \"node-2\"\n  remedy: see what there is: palisade cluster token list\n"
    );
}

#[test]
fn a_node_is_changed() {
    let cluster = Cluster::start();
    let shown = cluster
        .palisade("node set host-b --address 192.0.2.9:7781 --failure-domain rack-4 --learner --expect 41")
        .ok();
    assert_eq!(line(&shown, "Member:"), ["Member:", "learner"]);
    assert_eq!(line(&shown, "Generation:"), ["Generation:", "42"]);
    assert!(
        shown.contains("Other nodes reach it at:  192.0.2.9:7781"),
        "{shown}"
    );
    let value = cluster.palisade("node set host-b --voter --json").json();
    assert_eq!(value["member"]["role"], "voter");
    let whole = NodePatch {
        peer_addresses: Some(texts(&["192.0.2.9:7781"])),
        failure_domain: Some("rack-4".to_owned()),
        role: Some(NodeRole::Learner),
    };
    let vote = NodePatch {
        role: Some(NodeRole::Voter),
        ..NodePatch::default()
    };
    let change = |patch, expected| Asked::Change("host-b".to_owned(), patch, expected);
    assert_eq!(cluster.asked(), [change(whole, Some(41)), change(vote, None)]);
    let late = cluster.palisade("node set host-b --learner --expect 40");
    assert!(late.code == 1 && late.err.contains("was not touched"), "{late:?}");
    let own = cluster.palisade("node set self --learner");
    assert!(
        own.code == 1 && own.err.contains("the node that was asked is host-a"),
        "{own:?}"
    );
    let none = cluster.palisade("node set host-x --learner");
    assert!(none.err.contains("palisade nodes"), "{none:?}");
    assert_eq!(cluster.palisade("ids node").ok(), "host-a\nhost-b\n");
    // What was there before nodes could be changed.
    assert_eq!(line(&cluster.palisade("node").ok(), "Name:"), ["Name:", "host-a"]);
    assert!(cluster.palisade("nodes").ok().contains("host-b"));
}

#[test]
fn no_node_is_taken_out_without_consent() {
    let cluster = Cluster::start();
    let shown = cluster.palisade("node remove host-b --dry-run").ok();
    assert_eq!(
        shown,
        "Without node host-b from now on:\n  - node host-b is a member no more\n"
    );
    let asked = cluster.palisade("node remove host-b");
    assert!(asked.code == 2 && asked.err.contains("--yes"), "{asked:?}");
    assert_eq!(cluster.asked(), []);
    let gone = cluster.palisade("node rm host-b --yes").ok();
    assert_eq!(gone, "Node host-b is in the cluster no more.\n");
    assert_eq!(cluster.asked(), [Asked::Remove("host-b".to_owned(), None)]);
    let used = Problem::new(
        ProblemKind::Conflict,
        "node_in_use",
        "disk d1 is on node host-b",
        "remove it first: palisade disk remove d1",
    );
    cluster.refuse(used);
    let refused = cluster.palisade("node remove host-b --yes --json");
    let said: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!((refused.code, &said["code"]), (1, &json!("node_in_use")));
}
