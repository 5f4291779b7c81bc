//! The daemon is killed while an operator changes things: what was acknowledged is there afterwards, and what is there is
//! whole (invariant 10). No machine is needed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::failure::{Failure, Outcome, demand};
use crate::lab::{Depth, Lab};
use crate::rest::Rest;
use crate::scenarios::step;

pub fn run(lab: &Lab) -> Outcome {
    let rounds = if lab.depth() == Depth::Full { 20_u64 } else { 5 };
    let mut appliance = Appliance::start(lab, &[0])?;
    appliance.disk("d1", 1024 * MIB)?;
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 1..=rounds {
        let stop = AtomicBool::new(false);
        let rest = appliance.rest().twin();
        let made = thread::scope(|scope| {
            let client = scope.spawn(|| create_until(&rest, round, &stop));
            thread::sleep(Duration::from_millis(20 + (round * 37) % 200));
            appliance.kill();
            stop.store(true, Ordering::Relaxed);
            client.join()
        });
        acknowledged.extend(made.map_err(|_| Failure::new("the client thread ended badly"))?);
        appliance.start_again()?;
        must_hold(&appliance, &acknowledged)?;
    }
    step(format!(
        "{rounds} kills in the middle of changes: all {} acknowledged volumes are there",
        acknowledged.len()
    ));
    demand(
        !acknowledged.is_empty(),
        "some change must have been acknowledged for this to say anything",
    )?;
    appliance.must_be_well()?;
    appliance.stop()
}

/// Creates volumes until the daemon is gone; returns the ids whose creation was acknowledged.
fn create_until(rest: &Rest, round: u64, stop: &AtomicBool) -> Vec<String> {
    let mut made = Vec::new();
    for number in 0..10 {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("v{round}-{number}");
        let request = json!({ "id": id, "disk": "d1", "bytes": MIB });
        match rest.post("/v1/volumes", &request) {
            Ok(_) => made.push(id),
            Err(_) => break,
        }
    }
    made
}

/// Every acknowledged volume is listed, and every listed one has the size that was asked for.
fn must_hold(appliance: &Appliance, acknowledged: &[String]) -> Outcome {
    let answer = appliance.rest().get("/v1/volumes?limit=1000")?;
    let items = answer
        .get("items")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let has = |id: &String| {
        items
            .iter()
            .any(|one| one.get("id").and_then(Value::as_str) == Some(id.as_str()))
    };
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !has(id)).collect();
    demand(lost.is_empty(), format!("acknowledged and lost: {lost:?}"))?;
    let whole = |one: &Value| {
        let extents = one
            .pointer("/layout/extents")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let mapped: u64 = extents
            .iter()
            .filter_map(|one| one.get("bytes").and_then(Value::as_u64))
            .sum();
        one.get("bytes").and_then(Value::as_u64) == Some(MIB) && mapped >= MIB
    };
    let torn: Vec<&Value> = items.iter().filter(|one| !whole(one)).collect();
    demand(torn.is_empty(), format!("half a change: {torn:?}"))
}
