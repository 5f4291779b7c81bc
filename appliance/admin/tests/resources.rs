//! What is shown over real sockets: pages, nodes, events, probes, metrics.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod stub;
mod wire;

use palisade_admin::metrics::{
    AttachmentSample, DiskSample, LatencySample, MemberSample, MetricsSnapshot, OperationSample,
    ReactorSample,
};
use palisade_admin::{AdminConfig, Server};
use palisade_api::{Finding, FindingKind, Severity};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stub::Stub;
use wire::{ask, connect};

fn serve(stub: &Arc<Stub>) -> Server {
    Server::start(AdminConfig::plain("127.0.0.1:0".parse().unwrap()), stub.clone()).unwrap()
}

#[test]
fn a_list_comes_in_pages_in_the_order_of_ids() {
    let stub = Arc::new(Stub::new());
    let server = serve(&stub);
    let address = server.address().unwrap();
    let wanted: Vec<String> = (0..25).map(|number| format!("disk-{number:02}")).collect();
    stub.disks.lock().unwrap().extend((0..25).rev());
    let mut found = Vec::new();
    let mut path = "/v1/disks?limit=10".to_owned();
    loop {
        let page = ask(address, "GET", &path, &[], "").json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 10);
        found.extend(items.iter().map(|disk| disk["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/disks?limit=10&after={next}"),
            None => break,
        }
    }
    assert_eq!(found, wanted);
    for bad in ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "page=3"] {
        let answer = ask(address, "GET", &format!("/v1/disks?{bad}"), &[], "");
        assert!(matches!(answer.status, 400 | 422), "{bad}: {answer:?}");
        answer.code();
    }
    assert_eq!(
        ask(address, "GET", "/v1/disks?limti=3", &[], "").json()["remedy"],
        "did you mean `limit`?"
    );
}

/// Reads a stream of events until `count` have come; gives (event name, id).
fn stream(address: SocketAddr, last_event_id: &str, count: usize) -> Vec<(String, String)> {
    stream_of(address, "/v1/events", Some(last_event_id), count)
}

fn stream_of(
    address: SocketAddr,
    path: &str,
    last_event_id: Option<&str>,
    count: usize,
) -> Vec<(String, String)> {
    let mut stream = connect(address);
    let seen = last_event_id.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{seen}\r\n").as_bytes())
        .unwrap();
    let (mut events, mut id, mut name) = (Vec::new(), String::new(), String::new());
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(text) = line.strip_prefix("id: ") {
            id = text.to_owned();
        } else if let Some(text) = line.strip_prefix("event: ") {
            name = text.to_owned();
        } else if line.is_empty() && !name.is_empty() {
            events.push((std::mem::take(&mut name), std::mem::take(&mut id)));
            if events.len() == count {
                break;
            }
        }
    }
    events
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed() {
    let stub = Arc::new(Stub::new());
    let server = serve(&stub);
    let address = server.address().unwrap();
    for number in 0..5 {
        stub.events
            .push(Severity::Info, "counted", "node", number.to_string());
    }
    let all = stream(address, "0", 5);
    let id = |number: u64| format!("{}:{number}", stub::NODE_ID);
    assert_eq!(all.first().unwrap(), &("counted".to_owned(), id(1001)));
    let pushed = stub.clone();
    let later = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(400));
        pushed
            .events
            .push(Severity::Error, "late", "node", "while somebody listened")
    });
    let missed = stream(address, &id(1003), 3);
    later.join().unwrap();
    let ids: Vec<&str> = missed.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(ids, [id(1004), id(1005), id(1006)]);
    for number in 0..100 {
        let subject = format!("disk/d{number}");
        stub.events
            .push(Severity::Info, "counted", subject, "more than are kept");
    }
    assert_eq!(stream(address, "1003", 1).first().unwrap().0, "lost");
    let of_another_history = stream(address, "99999999", 2);
    assert_eq!(
        of_another_history
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>(),
        ["lost", "late"],
        "an id that was never given is answered with all there is"
    );
    assert_eq!(
        ask(address, "GET", "/v1/events", &[("last-event-id", "x")], "").status,
        422
    );
}

#[test]
fn what_belongs_to_a_node_is_answered_by_that_node_alone() {
    let stub = Arc::new(Stub::new());
    let server = serve(&stub);
    let address = server.address().unwrap();
    let get = |path: &str| ask(address, "GET", path, &[], "");
    let nodes = get("/v1/nodes").json();
    assert_eq!(nodes[0]["id"], stub::NODE_ID);
    assert_eq!(
        (nodes[0]["answers"].as_bool(), nodes[1]["answers"].as_bool()),
        (Some(true), Some(false))
    );
    assert_eq!(
        nodes[0]["member"],
        json!({
            "membership": "active", "role": "voter", "revision": 41, "incarnation": 7, "feature_level": 3,
            "peer_addresses": ["192.0.2.1:7781", "198.51.100.1:7781"], "failure_domain": "rack-3",
        })
    );
    assert_eq!(get("/v1/nodes/self").json()["member"], nodes[0]["member"]);
    for below in ["", "/reactors", "/health", "/state/backup"] {
        for node in ["self", "host-a", stub::NODE_ID] {
            assert_eq!(
                get(&format!("/v1/nodes/{node}{below}")).status,
                200,
                "{node}{below}"
            );
        }
        for node in ["host-b", stub::OTHER_NODE_ID] {
            let answer = get(&format!("/v1/nodes/{node}{below}"));
            assert_eq!((answer.status, answer.code().as_str()), (421, "node_elsewhere"));
            assert_eq!(
                answer.json()["remedy"],
                "ask node host-b itself: https://192.0.2.2:7780"
            );
        }
        let answer = get(&format!("/v1/nodes/host-c{below}"));
        assert_eq!((answer.status, answer.code().as_str()), (404, "node_not_found"));
    }
    let disk = r#"{"id":"d1","memory":{"bytes":1073741824}}"#;
    let preview = |node: &str| {
        ask(
            address,
            "POST",
            &format!("/v1/nodes/{node}/disk-preview"),
            &[],
            disk,
        )
    };
    let asked = "disk_not_found";
    assert_eq!(preview("self").code(), asked);
    assert_eq!(preview("host-b").status, 421);
    // Programs that were written before nodes had addresses are answered by the node that they ask.
    for (before, now) in [
        ("/v1/node", "/v1/nodes/self"),
        ("/v1/health", "/v1/nodes/self/health"),
        ("/v1/reactors", "/v1/nodes/self/reactors"),
        ("/v1/state/backup", "/v1/nodes/self/state/backup"),
    ] {
        let (before, now) = (get(before), get(now));
        assert_eq!((before.status, before.body), (200, now.body));
    }
    assert_eq!(ask(address, "POST", "/v1/disk-preview", &[], disk).code(), asked);
    let answer = ask(address, "DELETE", "/v1/health", &[], "");
    assert_eq!(answer.code(), "method_not_allowed");
}

#[test]
fn events_come_as_pages_too() {
    let stub = Arc::new(Stub::new());
    let server = serve(&stub);
    for number in 0..5 {
        stub.events
            .push(Severity::Warning, "counted", "node", number.to_string());
    }
    let page = ask(
        server.address().unwrap(),
        "GET",
        "/v1/events?format=json&after=1002&limit=2",
        &[],
        "",
    )
    .json();
    assert_eq!(page["items"][0]["id"], format!("{}:1003", stub::NODE_ID));
    assert_eq!(page["items"][0]["node"], "host-a");
    assert_eq!(
        (page["next"].as_str(), page["lost"].as_bool()),
        (Some(&*format!("{}:1004", stub::NODE_ID)), Some(false))
    );
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
}

#[test]
fn the_last_events_are_given_and_a_stream_goes_on_from_them() {
    let stub = Arc::new(Stub::new());
    let server = serve(&stub);
    let address = server.address().unwrap();
    for number in 0..5 {
        stub.events
            .push(Severity::Warning, "counted", "node", number.to_string());
    }
    let id = |number: u64| format!("{}:{number}", stub::NODE_ID);
    let get = |query: &str| ask(address, "GET", &format!("/v1/events?{query}"), &[], "");
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let page = get("format=json&last=2").json();
    assert_eq!(ids(&page), [id(1004), id(1005)]);
    assert_eq!(
        (page["next"].as_str(), page["lost"].as_bool()),
        (Some(&*id(1005)), Some(false))
    );
    assert_eq!(ids(&get("format=json&last=1000").json()).len(), 5);
    for bad in [
        "last=0",
        "last=1001",
        "last=x",
        "last=1&after=1",
        "last=1&limit=1",
    ] {
        let answer = get(&format!("format=json&{bad}"));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "query_invalid"),
            "{bad}"
        );
    }
    let pushed = stub.clone();
    let later = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(400));
        pushed
            .events
            .push(Severity::Error, "late", "node", "while somebody listened")
    });
    let streamed = stream_of(address, "/v1/events?last=2", None, 3);
    later.join().unwrap();
    let ids: Vec<String> = streamed.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [id(1004), id(1005), id(1006)]);
    // Who comes back by the same address gets what he missed, and nothing twice.
    let back = stream_of(address, "/v1/events?last=2", Some(&id(1005)), 1);
    assert_eq!(back[0].1, id(1006));
}

#[test]
fn probes_answer_yes_or_say_no_and_name_nobody() {
    let stub = Arc::new(Stub::new());
    let server = serve(&stub);
    let address = server.address().unwrap();
    let probe = |path| ask(address, "GET", path, &[], "");
    for path in ["/livez", "/readyz"] {
        let answer = probe(path);
        assert_eq!((answer.status, answer.json()), (200, json!({ "ok": true })));
    }
    let coming = Finding::new(FindingKind::ComingUp, "node", "disk d1 is not open");
    stub.findings.lock().unwrap().push(coming);
    assert_eq!(probe("/livez").status, 200);
    let answer = probe("/readyz");
    assert_eq!((answer.status, answer.code().as_str()), (503, "not_ready"));
    assert!(!answer.body.contains("d1"), "{}", answer.body);
    server.stop();
}

fn counted() -> MetricsSnapshot {
    let read = OperationSample {
        operation: "read",
        ok: 10,
        io_err: 1,
        unsupp: 0,
        bytes: 40960,
        latency: LatencySample {
            buckets: vec![(512, 1), (1024, 2), (2048, 3), (u64::MAX, 4)],
            sum_ns: 9000,
        },
    };
    MetricsSnapshot {
        reactors: vec![ReactorSample {
            turns: 7,
            ..ReactorSample::default()
        }],
        attachments: vec![AttachmentSample {
            attachment: "web1".to_owned(),
            volume: "v1".to_owned(),
            operations: vec![read],
            faults: vec![("media", 2)],
            ..AttachmentSample::default()
        }],
        disks: vec![DiskSample {
            disk: "d\"1".to_owned(),
            online: true,
            ..DiskSample::default()
        }],
        heartbeats: vec![("heard", 40), ("refused", 2)],
        node_refusals: vec![("join_refused", 3)],
        members: vec![MemberSample {
            member: "n2".to_owned(),
            active: true,
            heard: false,
            links: 2,
            age: Some(Duration::from_millis(1500)),
        }],
        ..MetricsSnapshot::default()
    }
}

#[test]
fn metrics_are_text_for_prometheus_with_histograms() {
    let stub = Arc::new(Stub::new());
    *stub.metrics.lock().unwrap() = counted();
    let server = serve(&stub);
    let address = server.address().unwrap();
    let answer = ask(address, "GET", "/metrics", &[], "");
    assert_eq!(
        answer.header("content-type").unwrap(),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let labels = r#"attachment="web1",volume="v1",operation="read""#;
    for line in [
        "palisade_health 0".to_owned(),
        "palisade_reactor_turns_total{reactor=\"0\"} 7".to_owned(),
        "palisade_disk_online{disk=\"d\\\"1\"} 1".to_owned(),
        "palisade_node_refusals_total{reason=\"join_refused\"} 3".to_owned(),
        "palisade_heartbeats_total{result=\"refused\"} 2".to_owned(),
        "palisade_member_active{member=\"n2\"} 1".to_owned(),
        "palisade_member_heard{member=\"n2\"} 0".to_owned(),
        "palisade_member_links{member=\"n2\"} 2".to_owned(),
        "palisade_member_heard_age_seconds{member=\"n2\"} 1.5".to_owned(),
        format!("palisade_requests_total{{{labels},status=\"io_err\"}} 1"),
        format!("palisade_request_bytes_total{{{labels}}} 40960"),
        format!("palisade_request_latency_seconds_sum{{{labels}}} 0.000009"),
        format!("palisade_request_latency_seconds_count{{{labels}}} 10"),
        format!("palisade_request_latency_seconds_bucket{{{labels},le=\"0.000001024\"}} 3"),
        format!("palisade_request_latency_seconds_bucket{{{labels},le=\"0.000002048\"}} 6"),
        format!("palisade_request_latency_seconds_bucket{{{labels},le=\"+Inf\"}} 10"),
    ] {
        assert!(
            answer.body.lines().any(|found| found == line),
            "no {line} in\n{}",
            answer.body
        );
    }
    every_sample_is_of_a_metric_that_is_described(&answer.body);
}

/// What `promtool check metrics` asks for, which a scenario runs as well: each metric has a type and a help of its own
/// before its first sample, types are those of the format, and counters alone end in `_total`.
fn every_sample_is_of_a_metric_that_is_described(page: &str) {
    let (mut kinds, mut helped) = (HashMap::new(), HashSet::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
        } else {
            let (name, _) = line.split_once(['{', ' ']).unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
                let family = name.strip_suffix(end)?;
                (kinds.get(family)? == "histogram").then_some(family)
            });
            let family = of_histogram.unwrap_or(name);
            assert!(kinds.contains_key(family) && helped.contains(family), "{line}");
        }
    }
    assert!(kinds.len() > 20, "{kinds:?}");
}

#[test]
fn the_description_and_the_pages_come_without_other_hosts() {
    let server = serve(&Arc::new(Stub::new()));
    let address = server.address().unwrap();
    let document = ask(address, "GET", "/openapi.json", &[], "").json();
    assert_eq!(document["openapi"], "3.1.0");
    for (method, status) in [
        ("patch", "412"),
        ("patch", "409"),
        ("delete", "404"),
        ("get", "401"),
    ] {
        assert!(
            document["paths"]["/v1/volumes/{id}"][method]["responses"][status].is_object(),
            "{method} {status}"
        );
    }
    for path in [
        "/",
        "/style.css",
        "/overview.js",
        "/docs/",
        "/docs/swagger-ui.css",
        "/docs/swagger-ui-bundle.js",
    ] {
        let answer = ask(address, "GET", path, &[], "");
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.len() > 100, "{path}");
    }
    let page = ask(address, "GET", "/", &[], "");
    assert!(!page.body.contains("http://") && !page.body.contains("https://"));
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'self'")
    );
}

/// What stands between `before` and the next quote, wherever it is.
fn after<'a>(text: &'a str, before: &str) -> HashSet<&'a str> {
    let parts = text.split(before).skip(1);
    parts.filter_map(|part| part.split('\'').next()).collect()
}

/// A script is looked at by no compiler: each part of the page that it fills is there, and each address that it asks answers.
#[test]
fn the_page_has_what_its_script_fills_and_asks_what_is_there() {
    let server = serve(&Arc::new(Stub::new()));
    let get = |path: &str| ask(server.address().unwrap(), "GET", path, &[], "");
    let (page, script) = (get("/").body, get("/overview.js").body);
    let filled = &after(&script, "at('") | &after(&script, "fill('");
    for id in ["cluster-says", "nodes", "attachments", "findings"] {
        assert!(filled.contains(id), "{filled:?}");
    }
    for id in filled {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id} is not on the page");
    }
    let asked = &after(&script, "ask('") | &after(&script, "askAll('");
    assert!(asked.contains("/v1/cluster") && asked.len() >= 7, "{asked:?}");
    for path in asked {
        let path = match path.split_once('?') {
            Some((path, _)) => format!("{path}?format=json"),
            None => path.to_owned(),
        };
        assert_eq!(get(&path).status, 200, "{path}");
    }
}

#[test]
fn stopping_ends_streams_and_frees_the_address() {
    let stub = Arc::new(Stub::new());
    let server = serve(&stub);
    let address = server.address().unwrap();
    stub.events.push(Severity::Info, "counted", "node", "one");
    let listener = std::thread::spawn(move || stream(address, "0", 2));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let begun = std::time::Instant::now();
    server.stop();
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(listener.join().unwrap().len(), 1);
    let again = Server::start(AdminConfig::plain(address), stub).unwrap();
    assert_eq!(
        ask(again.address().unwrap(), "GET", "/v1/nodes/self", &[], "").status,
        200
    );
}
