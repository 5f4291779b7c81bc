//! Three appliances on hosts of their own, with two subnets between them: links that are cut, a node that stands still, one that is
//! killed, one that is cut off, all cut off from each other. Who is not heard is given up by a majority of the voters and by nobody
//! else, and taken back when it is heard; a guest on a disk of its own node notices nothing of any of it, and one whose disk lies behind
//! another node goes on over the other subnet.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::fio::VerifyLoad;
use crate::lab::Lab;
use crate::network::{HostNetwork, within};
use crate::process::{signal, wait_until};
use crate::scenarios::step;
use crate::vm::VmPlan;

/// How long anything may take on a busy machine. What it took is said.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one load may take.
const LOAD_PATIENCE: Duration = Duration::from_secs(120);

/// For so long nobody must be given up who is heard over one link.
const WATCHED: Duration = Duration::from_secs(4);

/// More than a node looks at at once.
const SILENT_CALLERS: usize = 200;

/// The port of every node.
const PORT: u16 = 7781;

/// The three.
const NAMES: [&str; 3] = ["n1", "n2", "n3"];

struct Nodes<'a> {
    network: &'a HostNetwork,
    all: Vec<Appliance>,
}

pub fn run(lab: &Lab) -> Outcome {
    let network = HostNetwork::new(NAMES.len(), 2)?;
    let mut nodes = Nodes {
        network: &network,
        all: Vec::new(),
    };
    for (host, name) in NAMES.iter().enumerate() {
        nodes.all.push(Appliance::start_on(
            lab,
            &network,
            host,
            name,
            &[host as u32 % 2],
        )?);
    }
    nodes.form()?;
    step("three nodes hear each other over two links each");

    // Guests that notice nothing: one on a disk of its own node, one whose disk lies behind another.
    let own = nodes.all[0].offer("own", 32 * MIB, 1)?;
    let mut at_one = lab.boot(&VmPlan::with_disks("at-one", [&own]))?;
    nodes.all[0].disk("shared", 160 * MIB)?;
    nodes.all[0].volume("far", "shared", 64 * MIB)?;
    wait_until("the second node to hear of the volume", PATIENCE, || {
        Ok(nodes.all[1].rest().get("/v1/volumes/far").is_ok())
    })?;
    let far = nodes.all[1].attach("far", json!({ "queues": 1 }))?;
    let mut at_two = lab.boot(&VmPlan::with_disks("at-two", [&far]))?;
    let load = VerifyLoad::new("vda", 8).no_faster_than(2048);

    // One subnet of the node that reaches the disk.
    load.start(&mut at_two)?;
    let epoch = nodes.epoch(1)?;
    network.cut(0, 1)?;
    nodes.wait_condition(1, 0, "limping")?;
    nodes.wait_condition(0, 2, "limping")?;
    let health = nodes.all[1].rest().text("/v1/health")?;
    let named = network.address(0, 1).to_string();
    demand(
        health.contains("cluster_member_limps")
            && (health.contains(&named) || health.contains(&network.address(1, 1).to_string())),
        format!("the link that is lost is not named: {health}"),
    )?;
    thread::sleep(WATCHED);
    demand(
        nodes.epoch(1)? == epoch,
        "a node was given up that is heard over one link",
    )?;
    network.plug_in(0, 1)?;
    nodes.all_well()?;
    load.finish(&mut at_two, LOAD_PATIENCE)
        .map_err(|failure| Failure::new(format!("one subnet was cut: {failure}")))?;
    at_two.must_be_calm()?;
    nodes.all[1].must_have_no_errors("far")?;
    step(
        "one of two links of a node was cut: it limps, is named and stays; a guest over it had every block right",
    );

    // Callers that say nothing, while a node has to connect anew.
    let epoch = nodes.epoch(0)?;
    let door = (network.address(0, 0), PORT);
    let silent = within(&network.namespace(2), || {
        let callers = (0..SILENT_CALLERS).map(|_| TcpStream::connect(door));
        callers.collect::<Result<Vec<_>, _>>()
    })?;
    let silent = silent.map_err(|error| Failure::during("a silent caller", error))?;
    network.cut(0, 0)?;
    nodes.wait_condition(1, 0, "limping")?;
    network.plug_in(0, 0)?;
    nodes.all_well()?;
    demand(
        nodes.epoch(0)? == epoch,
        "a node was given up as others kept its door busy",
    )?;
    drop(silent);
    step(format!(
        "{SILENT_CALLERS} callers that say nothing keep no node from another"
    ));

    // From here on the guest of the first node writes all the time.
    let own_load = VerifyLoad::new("vda", 4).no_faster_than(1024);
    own_load.start(&mut at_one)?;
    let took = nodes.evicted_after(2, |nodes| signal("STOP", nodes.all[2].process().id()))?;
    let back = nodes.back_after(2, |nodes| signal("CONT", nodes.all[2].process().id()))?;
    step(format!(
        "a node that stood still was given up after {} ms, and taken back {} ms after it went on",
        took.as_millis(),
        back.as_millis()
    ));

    let took = nodes.evicted_after(1, |nodes| {
        nodes.all[1].kill();
        Ok(())
    })?;
    let back = nodes.back_after(1, |nodes| nodes.all[1].start_again())?;
    step(format!(
        "a node that was killed was given up after {} ms, and taken back {} ms after its start",
        took.as_millis(),
        back.as_millis()
    ));

    let took = nodes.evicted_after(2, |nodes| nodes.network.isolate(2))?;
    wait_until("the node that is cut off to find itself alone", PATIENCE, || {
        let health = nodes.all[2].rest().text("/v1/health")?;
        Ok(health.contains("cluster_no_majority") && health.contains("cluster_member_silent"))
    })?;
    let back = nodes.back_after(2, |nodes| nodes.network.rejoin(2))?;
    step(format!(
        "a node that was cut off was given up after {} ms, and taken back {} ms after the cut had healed",
        took.as_millis(),
        back.as_millis()
    ));

    // Nobody has a majority: nobody gives anybody up.
    let epoch = nodes.epoch(0)?;
    (0..NAMES.len()).try_for_each(|host| network.isolate(host))?;
    thread::sleep(WATCHED);
    for node in 0..NAMES.len() {
        demand(
            nodes.epoch(node)? == epoch,
            "somebody was given up without a majority",
        )?;
    }
    own_load.finish(&mut at_one, LOAD_PATIENCE)?;
    at_one.must_be_calm()?;
    nodes.all[0].must_have_no_errors("own")?;
    (0..NAMES.len()).try_for_each(|host| network.rejoin(host))?;
    nodes.all_well()?;
    step(
        "all cut off from each other: nobody was given up, a guest on its own node's disk had every block right, and all is well again",
    );
    at_two.power_off()?;
    at_one.power_off()
}

impl Nodes<'_> {
    /// The first makes a cluster, and the others join.
    fn form(&self) -> Outcome {
        let addresses = |host| -> Vec<String> {
            let of = |subnet| format!("{}:{PORT}", self.network.address(host, subnet));
            (0..2).map(of).collect()
        };
        let first = self.all[0].rest();
        first.post("/v1/cluster/init", &json!({ "addresses": addresses(0) }))?;
        for (host, name) in NAMES.iter().enumerate().skip(1) {
            let made = first.post("/v1/cluster/tokens", &json!({ "id": name }))?;
            let token = made.get("token").cloned().unwrap_or_default();
            let body = json!({ "peers": addresses(0), "token": token, "addresses": addresses(host) });
            self.all[host].rest().post("/v1/cluster/join", &body)?;
        }
        self.all_well()
    }

    /// Waits until every node is a member with a vote, and hears all others well.
    fn all_well(&self) -> Outcome {
        for (node, name) in NAMES.iter().enumerate() {
            let mut seen = Value::Null;
            let waited =
                wait_until("all to hear each other well", PATIENCE, || {
                    // A node that has joined starts anew.
                    seen = self.all[node].rest().get("/v1/cluster").unwrap_or_default();
                    let members = seen.get("members").and_then(Value::as_array);
                    let is_well = |member: &Value| {
                        let is_other = member.get("name") != Some(&json!(name));
                        member.get("membership") == Some(&json!("active"))
                            && member.get("votes") == Some(&json!(true))
                            && (!is_other || member.get("condition") == Some(&json!("alive")))
                    };
                    Ok(members
                        .is_some_and(|members| members.len() == NAMES.len() && members.iter().all(is_well)))
                });
            waited.map_err(|failure| Failure::new(format!("{name} says: {failure}: {seen}")))?;
        }
        Ok(())
    }

    fn epoch(&self, node: usize) -> Outcome<u64> {
        let status = self.all[node].rest().get("/v1/cluster")?;
        let epoch = status.get("epoch").and_then(Value::as_u64);
        epoch.ok_or_else(|| Failure::new(format!("no epoch in {status}")))
    }

    /// One node as another sees it.
    fn member(&self, asked: usize, node: usize) -> Outcome<Value> {
        let status = self.all[asked].rest().get("/v1/cluster")?;
        let members = status.get("members").and_then(Value::as_array);
        let mut found = members.into_iter().flatten();
        let found = found.find(|member| member.get("name") == Some(&json!(NAMES[node])));
        found
            .cloned()
            .ok_or_else(|| Failure::new(format!("no {} in {status}", NAMES[node])))
    }

    fn wait_condition(&self, asked: usize, node: usize, condition: &str) -> Outcome {
        wait_until(
            &format!("{} to find {} {condition}", NAMES[asked], NAMES[node]),
            PATIENCE,
            || Ok(self.member(asked, node)?.get("condition") == Some(&json!(condition))),
        )
    }

    /// Does something to a node, and waits until the first has heard that it is given up.
    fn evicted_after(&mut self, node: usize, what: impl FnOnce(&mut Self) -> Outcome) -> Outcome<Duration> {
        let epoch = self.epoch(0)?;
        self.until(node, what, "evicted")
            .and_then(|took| match self.epoch(0)? > epoch {
                true => Ok(took),
                false => Err(Failure::new("a node was given up without another epoch")),
            })
    }

    /// Does something to a node, and waits until the first has heard that it is taken back, and it is well.
    fn back_after(&mut self, node: usize, what: impl FnOnce(&mut Self) -> Outcome) -> Outcome<Duration> {
        let took = self.until(node, what, "active")?;
        self.all_well()?;
        Ok(took)
    }

    fn until(
        &mut self,
        node: usize,
        what: impl FnOnce(&mut Self) -> Outcome,
        membership: &str,
    ) -> Outcome<Duration> {
        let begun = Instant::now();
        what(self)?;
        wait_until(&format!("{} to be {membership}", NAMES[node]), PATIENCE, || {
            Ok(self.member(0, node)?.get("membership") == Some(&json!(membership)))
        })?;
        Ok(begun.elapsed())
    }
}
