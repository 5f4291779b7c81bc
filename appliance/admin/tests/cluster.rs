//! The cluster over real sockets: how it is shown, formed and changed, and that nothing that lets a node in is written down.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod stub;
mod wire;

use palisade_admin::{AdminConfig, Server, SocketDoor, TcpAccess, TcpDoor};
use palisade_api::{NodeRole, Problem, ProblemKind};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use stub::Stub;
use stub::cluster::{Asked, TOKEN};
use wire::{Answer, ask};

struct Site {
    stub: Arc<Stub>,
    server: Server,
}

impl Site {
    fn start() -> Site {
        let stub = Arc::new(Stub::new());
        let config = AdminConfig::plain("127.0.0.1:0".parse().unwrap());
        let server = Server::start(config, stub.clone()).unwrap();
        Site { stub, server }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        ask(self.server.address().unwrap(), method, path, headers, body)
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], &body.to_string())
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.stub.asked.lock().unwrap())
    }

    /// All that is recorded of commands, as it is kept.
    fn recorded(&self) -> Vec<Value> {
        let recorded = std::mem::take(&mut *self.stub.recorded.lock().unwrap());
        recorded
            .iter()
            .map(|event| serde_json::to_value(event).unwrap())
            .collect()
    }
}

fn join() -> Value {
    json!({ "peers": ["192.0.2.1:7781"], "token": TOKEN, "addresses": ["192.0.2.9:7781"], "name": "host-c" })
}

#[test]
fn the_cluster_is_shown_with_its_nodes_by_name() {
    let site = Site::start();
    let shown = site.ask("GET", "/v1/cluster", &[], "").json();
    assert_eq!(
        (&shown["leader"], &shown["has_majority"]),
        (&json!("host-a"), &json!(true))
    );
    assert_eq!(
        (&shown["members"][0]["name"], &shown["members"][1]["heard_ms"]),
        (&json!("host-a"), &json!(40))
    );
    let near = site.ask("GET", "/v1/clustr", &[], "").json();
    assert_eq!(near["remedy"], "did you mean /v1/cluster?");
    let near = site.ask("GET", "/v1/cluster/token", &[], "").json();
    assert_eq!(near["remedy"], "did you mean /v1/cluster/tokens?");
}

#[test]
fn a_node_is_made_the_first_or_joins_by_requests_of_its_own() {
    let site = Site::start();
    let first = json!({ "addresses": ["192.0.2.1:7781"], "failure_domain": "rack-3" });
    let made = site.post("/v1/cluster/init", &first);
    assert_eq!((made.status, made.json()["id"].is_string()), (200, true));
    let joined = site.post("/v1/cluster/join", &join());
    assert_eq!((joined.status, &joined.json()["node"]), (200, &json!("host-c")));
    let asked = site.asked();
    let [Asked::Init(init), Asked::Join(join)] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(init.failure_domain.as_deref(), Some("rack-3"));
    assert_eq!(join.token, TOKEN, "it reaches the appliance as it is");
    for (path, body, code, field) in [
        (
            "/v1/cluster/init",
            json!({ "addresses": [] }),
            "invalid_argument",
            "addresses",
        ),
        (
            "/v1/cluster/init",
            json!({ "address": ["192.0.2.1:7781"] }),
            "field_unknown",
            "address",
        ),
        (
            "/v1/cluster/join",
            json!({ "peers": ["192.0.2.1:7781"] }),
            "field_missing",
            "token",
        ),
        (
            "/v1/cluster/join",
            json!({ "peers": ["192.0.2.1:7781"], "token": "x", "addresses": ["192.0.2.9:7781"] }),
            "invalid_argument",
            "token",
        ),
    ] {
        let refused = site.post(path, &body);
        assert_eq!((refused.status, refused.code().as_str()), (422, code), "{body}");
        assert_eq!(refused.json()["field"], field, "{body}");
    }
    // A dry run there is none of is not carried out instead.
    for path in ["/v1/cluster/init?dry_run=true", "/v1/cluster/join?dry_run=true"] {
        let refused = site.post(path, &join_or_init(path, &first));
        assert_eq!((refused.status, refused.code().as_str()), (422, "query_unknown"));
    }
    assert_eq!(site.asked(), []);
}

fn join_or_init(path: &str, first: &Value) -> Value {
    if path.contains("join") {
        join()
    } else {
        first.clone()
    }
}

#[test]
fn a_token_is_told_once_and_listed_without_its_text() {
    let site = Site::start();
    for id in ["node-3", "node-2"] {
        let made = site.post("/v1/cluster/tokens", &json!({ "id": id, "role": "learner" }));
        assert_eq!((made.status, &made.json()["token"]), (201, &json!(TOKEN)));
        assert_eq!(made.header("cache-control"), Some("no-store"));
    }
    let Some(Asked::Token(request)) = site.asked().pop() else {
        panic!("no token was asked for")
    };
    assert_eq!((request.role, request.valid_s), (NodeRole::Learner, 3600));
    let again = site.post(
        "/v1/cluster/tokens",
        &json!({ "id": "node-2", "role": "learner" }),
    );
    assert_eq!((again.status, again.code().as_str()), (409, "join_token_exists"));
    let listed = site.ask("GET", "/v1/cluster/tokens?limit=1", &[], "");
    assert!(!listed.body.contains("palisade-join-"), "{}", listed.body);
    assert_eq!(
        listed.json(),
        json!({
            "items": [{ "id": "node-2", "role": "learner", "expires_unix_s": 1_800_000_000 }], "next": "node-2",
        })
    );
    let revoke = |id: &str| site.ask("DELETE", &format!("/v1/cluster/tokens/{id}"), &[], "");
    assert_eq!(revoke("node-2?dry_run=true").code(), "query_unknown");
    assert_eq!(
        (revoke("node-2").status, revoke("node-2").code().as_str()),
        (204, "join_token_not_found")
    );
    let refused = site.post("/v1/cluster/tokens", &json!({ "id": "node-4", "valid_s": 59 }));
    assert_eq!(
        (refused.status, &refused.json()["field"]),
        (422, &json!("valid_s"))
    );
}

#[test]
fn a_node_is_changed_by_its_name_or_id_and_guarded_by_what_was_seen() {
    let site = Site::start();
    let patch = |node: &str, headers: &[(&str, &str)]| {
        site.ask(
            "PATCH",
            &format!("/v1/nodes/{node}"),
            headers,
            r#"{"role":"learner"}"#,
        )
    };
    let shown = site.ask("GET", "/v1/nodes/self", &[], "");
    let tag = shown.header("etag").unwrap().to_owned();
    assert_eq!(tag, "\"41\"");
    let changed = patch("host-b", &[("if-match", &tag)]);
    assert_eq!(
        (
            changed.status,
            changed.header("etag"),
            &changed.json()["member"]["role"]
        ),
        (200, Some("\"42\""), &json!("learner"))
    );
    assert_eq!(patch("host-b", &[("if-match", "\"40\"")]).status, 412);
    // Whichever way it is named, the appliance is told its name; one that is not known here may be known where changes are taken.
    assert_eq!(patch(stub::OTHER_NODE_ID, &[]).status, 200);
    assert_eq!(patch("host-x", &[]).code(), "node_not_found");
    let names: Vec<String> = site
        .asked()
        .into_iter()
        .map(|asked| match asked {
            Asked::Change(name, ..) => name,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["host-b", "host-b", "host-b", "host-x"]);
    let nothing = site.ask("PATCH", "/v1/nodes/host-b", &[], "{}");
    assert_eq!(
        (nothing.status, nothing.code().as_str()),
        (422, "invalid_argument")
    );
    assert_eq!(site.asked(), []);
}

#[test]
fn a_node_is_taken_out_only_by_name() {
    let site = Site::start();
    let remove = |rest: &str| site.ask("DELETE", &format!("/v1/nodes/{rest}"), &[], "");
    let told = remove("host-b?dry_run=true");
    assert_eq!((told.status, &told.json()["generation"]), (200, &json!(41)));
    assert_eq!(site.asked(), []);
    assert_eq!(remove("host-b").status, 204);
    assert_eq!(site.asked(), [Asked::Remove("host-b".to_owned(), None)]);
    // Sent on to the leader, it would be the leader that goes.
    let own = remove("self");
    assert_eq!((own.status, own.code().as_str()), (422, "node_not_named"));
    assert_eq!(own.json()["remedy"], "name it: the node that was asked is host-a");
    let own = site.ask("PATCH", "/v1/nodes/self", &[], r#"{"role":"learner"}"#);
    assert_eq!(own.code(), "node_not_named");
    assert_eq!(remove("host-b?force=true").code(), "query_unknown");
    assert_eq!(site.asked(), []);
    // A leader elsewhere is named, and nothing is done.
    let leader = Problem::not_leader("host-b", &["https://192.0.2.2:7780".to_owned()]);
    *site.stub.refusal.lock().unwrap() = Some(leader);
    let elsewhere = remove("host-b");
    assert_eq!(
        (elsewhere.status, &elsewhere.json()["ask"]["node"]),
        (421, &json!("host-b"))
    );
}

/// Wherever an operator puts one, by mistake too.
#[test]
fn no_token_is_written_down() {
    let site = Site::start();
    let secret = TOKEN.strip_prefix("palisade-join-").unwrap();
    let misplaced = |field: &str| {
        let mut body = join();
        body[field] = json!([TOKEN]);
        body
    };
    let tokens = format!("/v1/cluster/tokens/{TOKEN}");
    let busy = Problem::new(
        ProblemKind::Unavailable,
        "busy",
        format!("no answer to {TOKEN}"),
        "try again",
    );
    for (method, path, body, refusal) in [
        ("POST", "/v1/cluster/join", join(), None),
        ("POST", "/v1/cluster/join", join(), Some(busy)),
        ("POST", "/v1/cluster/join", misplaced("peers"), None),
        ("POST", "/v1/cluster/join", misplaced("token"), None),
        ("POST", "/v1/cluster/tokens", json!({ "id": "node-2" }), None),
        ("POST", "/v1/cluster/tokens", json!({ "id": TOKEN }), None),
        ("POST", &format!("/v1/cluster/join?token={secret}"), join(), None),
        ("DELETE", &tokens, Value::Null, None),
        ("DELETE", &tokens.replace('-', "%2D"), Value::Null, None),
        (
            "PATCH",
            &format!("/v1/nodes/{TOKEN}"),
            json!({ "failure_domain": TOKEN }),
            None,
        ),
    ] {
        *site.stub.refusal.lock().unwrap() = refusal;
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = site.ask(method, path, &[], &text);
        let recorded = site.recorded();
        let [event] = &recorded[..] else {
            panic!("{path}: {recorded:?}")
        };
        let kept = event.to_string();
        assert!(!kept.contains(secret), "{path} {body}: {answer:?}: {kept}");
    }
}

#[test]
fn what_was_commanded_is_recorded_in_the_words_of_the_command_line() {
    let site = Site::start();
    let recorded = |method: &str, path: &str, body: &Value| {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        site.ask(method, path, &[], &text);
        let event = site.recorded().pop().unwrap();
        ["kind", "subject", "message"].map(|field| event[field].as_str().unwrap().to_owned())
    };
    let first = json!({ "addresses": ["192.0.2.1:7781"] });
    let learner = json!({ "role": "learner" });
    for (method, path, body, words) in [
        (
            "POST",
            "/v1/cluster/init",
            &first,
            ["cluster_init", "cluster", "cluster init: done"],
        ),
        (
            "POST",
            "/v1/cluster/join",
            &join(),
            ["cluster_join", "cluster", "cluster join: done"],
        ),
        (
            "POST",
            "/v1/cluster/tokens",
            &json!({ "id": "n2" }),
            ["join_token_create", "join_token/n2", "join token create n2: done"],
        ),
        (
            "DELETE",
            "/v1/cluster/tokens/n2",
            &Value::Null,
            ["join_token_revoke", "join_token/n2", "join token revoke n2: done"],
        ),
        (
            "PATCH",
            "/v1/nodes/host-b",
            &learner,
            ["node_change", "node/host-b", "node change host-b: done"],
        ),
        (
            "DELETE",
            "/v1/nodes/host-b",
            &Value::Null,
            ["node_remove", "node/host-b", "node remove host-b: done"],
        ),
    ] {
        assert_eq!(recorded(method, path, body), words);
    }
    // What only asks is no command.
    site.ask("DELETE", "/v1/nodes/host-b?dry_run=true", &[], "");
    assert!(site.recorded().is_empty());
}

#[test]
fn who_may_only_look_sees_the_cluster_and_changes_nothing() {
    const ADMIN: &str = "0123456789abcdef0123456789abcdef";
    const READ: &str = "fedcba9876543210fedcba9876543210";
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, token: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let config = AdminConfig {
        socket: None::<SocketDoor>,
        tcp: Some(TcpDoor {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            access: TcpAccess::Tokens {
                admin: file("admin", ADMIN),
                make: false,
                read: Some(file("read", READ)),
            },
        }),
        metrics_open: false,
    };
    let stub = Arc::new(Stub::new());
    let server = Server::start(config, stub.clone()).unwrap();
    let bearer = format!("Bearer {READ}");
    let ask = |method: &str, path: &str, body: &str| {
        ask(
            server.address().unwrap(),
            method,
            path,
            &[("authorization", &bearer)],
            body,
        )
    };
    for path in ["/v1/cluster", "/v1/cluster/tokens"] {
        assert_eq!(ask("GET", path, "").status, 200, "{path}");
    }
    for (method, path, body) in [
        ("POST", "/v1/cluster/init", r#"{"addresses":["192.0.2.1:7781"]}"#),
        ("POST", "/v1/cluster/join", &join().to_string()),
        ("POST", "/v1/cluster/tokens", r#"{"id":"node-2"}"#),
        ("DELETE", "/v1/cluster/tokens/node-2", ""),
        ("PATCH", "/v1/nodes/host-b", r#"{"role":"learner"}"#),
        ("DELETE", "/v1/nodes/host-b", ""),
    ] {
        let refused = ask(method, path, body);
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (403, "role_reads_only"),
            "{path}"
        );
    }
    assert_eq!(*stub.asked.lock().unwrap(), []);
}
