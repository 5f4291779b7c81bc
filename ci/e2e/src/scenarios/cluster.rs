//! Three appliances become a cluster while a guest is served, and a guest on one of them uses a disk of another. The node that
//! reaches the disk is killed under a verified load, and so is the one that leads: the guest notices a pause and nothing else.
//! Without a majority nothing is changed, and what is served goes on.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::fio::VerifyLoad;
use crate::lab::Lab;
use crate::process::wait_until;
use crate::scenarios::step;
use crate::vm::{Vm, VmPlan};

/// How long nodes may take to find each other on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one load may take, what is killed meanwhile included.
const LOAD_PATIENCE: Duration = Duration::from_secs(120);

/// A change that nobody can agree on is answered within this time.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);

/// Where each is reached by the others.
struct Node {
    appliance: Appliance,
    address: String,
}

pub fn run(lab: &Lab) -> Outcome {
    let mut nodes = Vec::new();
    for (name, core) in [("n1", 0), ("n2", 1), ("n3", 0)] {
        let appliance = Appliance::start_named(lab, name, &[core])?;
        let address = format!("127.0.0.1:{}", free_port()?);
        nodes.push(Node { appliance, address });
    }
    let [one, two, three] = &mut nodes[..] else {
        return Err(Failure::new("three nodes were started"));
    };

    // A guest of a single node, which becomes the first of several under its load.
    let own = one.appliance.offer("own", 32 * MIB, 1)?;
    let mut at_one = lab.boot(&VmPlan::with_disks("at-one", [&own]))?;
    let load = VerifyLoad::new("vda", 4).no_faster_than(2048);
    load.start(&mut at_one)?;
    let body = json!({ "addresses": [one.address.as_str()] });
    one.appliance.rest().post("/v1/cluster/init", &body)?;
    load.finish(&mut at_one, LOAD_PATIENCE)?;
    at_one.must_be_calm()?;
    one.appliance.must_have_no_errors("own")?;
    step("a single node became the first of a cluster under a guest's load, which noticed nothing");

    refused_tokens(one, two)?;
    for (id, node) in [("two", &*two), ("three", &*three)] {
        let token = made(one, id)?;
        let body =
            json!({ "peers": [one.address.as_str()], "token": token, "addresses": [node.address.as_str()] });
        node.appliance.rest().post("/v1/cluster/join", &body)?;
        let other = if id == "two" { &*three } else { &*two };
        let again = other.appliance.rest().post("/v1/cluster/join", &body);
        demand(again.is_err(), "a token lets in one node and no other")?;
    }
    votes(one, 3)?;
    votes(two, 3)?;
    step("two more have joined, each by a token of its own, and have a vote");

    // A disk of the first, used on the second.
    one.appliance.disk("shared", 160 * MIB)?;
    one.appliance.volume("far", "shared", 64 * MIB)?;
    wait_until("the second node to hear of the volume", PATIENCE, || {
        Ok(two.appliance.rest().get("/v1/volumes/far").is_ok())
    })?;
    let far = two.appliance.attach("far", json!({ "queues": 1 }))?;
    let second = one
        .appliance
        .rest()
        .post("/v1/attachments", &json!({ "id": "far-too", "volume": "far" }));
    demand(second.is_err(), "a volume has one writer in the whole cluster")?;
    let mut guest = lab.boot(&VmPlan::with_disks("at-two", [&far]))?;
    let load = VerifyLoad::new("vda", 8).no_faster_than(2048);
    load.start(&mut guest)?;
    load.finish(&mut guest, LOAD_PATIENCE)?;
    two.appliance.must_have_no_errors("far")?;
    step("a guest on the second node uses a disk of the first as if it were its own");

    under_load(
        &load,
        &mut guest,
        &mut one.appliance,
        "the node that reaches the disk",
    )?;
    two.appliance.must_have_no_errors("far")?;
    votes(two, 3)?;
    let status = two.appliance.rest().get("/v1/cluster")?;
    let leader = status.get("leader").and_then(Value::as_str).unwrap_or_default();
    let killed = match leader {
        "n1" => &mut one.appliance,
        "n3" => &mut three.appliance,
        other => {
            return Err(Failure::new(format!(
                "{other} leads, and its guest would be killed with it"
            )));
        }
    };
    under_load(&load, &mut guest, killed, "the node that leads")?;
    two.appliance.must_have_no_errors("far")?;
    guest.power_off()?;

    // Without a majority.
    votes(one, 3)?;
    two.appliance.kill();
    three.appliance.kill();
    wait_until("the last node to find itself alone", PATIENCE, || {
        let status = one.appliance.rest().get("/v1/cluster")?;
        Ok(status.get("has_majority") == Some(&json!(false)))
    })?;
    told(one, true)?;
    let asked = Instant::now();
    let volume = json!({ "id": "late", "disk": "shared", "bytes": MIB });
    let changed = one.appliance.rest().post("/v1/volumes", &volume);
    let took = asked.elapsed();
    demand(changed.is_err(), "a minority has changed something")?;
    demand(
        took < REFUSED_WITHIN,
        format!("a change that nobody can agree on was answered after {took:?}"),
    )?;
    let load = VerifyLoad::new("vda", 4).no_faster_than(2048);
    load.start(&mut at_one)?;
    load.finish(&mut at_one, LOAD_PATIENCE)?;
    step(format!(
        "alone, the first node changes nothing ({:.1} s until it says so) and serves its own disk",
        took.as_secs_f64()
    ));
    two.appliance.start_again()?;
    wait_until("a majority to answer again", PATIENCE, || {
        let status = one.appliance.rest().get("/v1/cluster")?;
        Ok(status.get("has_majority") == Some(&json!(true)))
    })?;
    three.appliance.start_again()?;
    votes(one, 3)?;
    told(one, false)?;
    // Those who were away may have been given up, and are taken back when they are heard.
    wait_until("all to be members again", PATIENCE, || {
        let health = one.appliance.rest().text("/v1/health")?;
        Ok(!health.contains("cluster_member"))
    })?;
    one.appliance.must_be_well()?;
    at_one.power_off()
}

/// Waits until a node's health says that no majority answers, or says so no more.
fn told(node: &Node, is_alone: bool) -> Outcome {
    wait_until("the node's health to tell of the majority", PATIENCE, || {
        let health = node.appliance.rest().text("/v1/health")?;
        Ok(health.contains("cluster_no_majority") == is_alone)
    })
}

/// Kills a daemon under a verified load, and starts it again.
fn under_load(load: &VerifyLoad, guest: &mut Vm, killed: &mut Appliance, what: &str) -> Outcome {
    load.start(guest)?;
    thread::sleep(Duration::from_millis(1500));
    let gone = Instant::now();
    killed.kill();
    killed.start_again()?;
    let back = gone.elapsed();
    load.finish(guest, LOAD_PATIENCE)
        .map_err(|failure| Failure::new(format!("{what} was killed: {failure}")))?;
    guest.must_be_calm()?;
    step(format!(
        "{what} was killed under load and back after {:.2} s: every block right",
        back.as_secs_f64()
    ));
    Ok(())
}

/// What is shown instead of a token lets nobody in, and is not written down.
fn refused_tokens(one: &Node, two: &Node) -> Outcome {
    let join = |token: &str| {
        let body =
            json!({ "peers": [one.address.as_str()], "token": token, "addresses": [two.address.as_str()] });
        two.appliance.rest().post("/v1/cluster/join", &body).map(drop)
    };
    let token = made(one, "taken-back")?;
    one.appliance.rest().delete("/v1/cluster/tokens/taken-back")?;
    for (what, token) in [
        ("nonsense", "palisade-join-nonsense"),
        ("one that was taken back", &token),
    ] {
        let refused = join(token);
        demand(refused.is_err(), format!("a node was let in with {what}"))?;
    }
    for (node, named) in [(one, "the cluster's"), (two, "the other")] {
        let events = node.appliance.rest().text("/v1/events?format=json")?;
        let secret = token.trim_start_matches("palisade-join-");
        demand(
            !events.contains(secret),
            format!("{named} audit trail has the text of a token"),
        )?;
    }
    let alone = two.appliance.rest().get("/v1/cluster")?;
    demand(
        alone.get("part") == Some(&json!("alone")),
        format!("a node that was refused has changed: {alone}"),
    )?;
    let metrics = one.appliance.rest().text("/metrics")?;
    let counted = "palisade_node_refusals_total{reason=\"join_refused\"} ";
    let counted = metrics.lines().find_map(|line| line.strip_prefix(counted));
    demand(
        counted.and_then(|count| count.parse::<u64>().ok()) >= Some(1),
        format!("a token that was taken back was not counted: {counted:?}"),
    )?;
    step("nonsense and a token that was taken back let nobody in, and are counted");
    Ok(())
}

/// A new token.
fn made(node: &Node, id: &str) -> Outcome<String> {
    let made = node
        .appliance
        .rest()
        .post("/v1/cluster/tokens", &json!({ "id": id }))?;
    let token = made.get("token").and_then(Value::as_str);
    Ok(token
        .ok_or_else(|| Failure::new(format!("no token in {made}")))?
        .to_owned())
}

/// Waits until so many have a vote and a majority answers.
fn votes(node: &Node, count: usize) -> Outcome {
    let mut seen = Value::Null;
    let waited = wait_until("the nodes to have their votes", PATIENCE, || {
        // A node that has joined starts anew.
        let Ok(status) = node.appliance.rest().get("/v1/cluster") else {
            return Ok(false);
        };
        seen = status;
        let members = seen.get("members").and_then(Value::as_array);
        let votes = |member: &&Value| member.get("votes") == Some(&json!(true));
        let voting = members.map_or(0, |members| members.iter().filter(votes).count());
        Ok(voting == count && seen.get("has_majority") == Some(&json!(true)))
    });
    waited.map_err(|failure| Failure::new(format!("{failure}: {seen}")))
}

fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| Failure::during("a free port", error))?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::during("a free port", error))?;
    Ok(address.port())
}
