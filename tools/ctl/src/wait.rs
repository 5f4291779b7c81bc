//! Waiting until what was agreed on is in force, and showing what it waits for.

use crate::args::Wait;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::Output;
use indicatif::{ProgressBar, ProgressStyle};
use palisade_api::{ProblemKind, State};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How often to look.
const PERIOD: Duration = Duration::from_millis(100);

/// Waits, if asked to, and gives the resource as it is then. `what` names it, as "volume v1".
pub fn applied(client: &Client, wait: Wait, path: &str, what: &str, first: Value) -> Result<Value, Failure> {
    if !wait.wait {
        return Ok(first);
    }
    let limit = Duration::from_secs(wait.wait_timeout);
    let begun = Instant::now();
    let bar = bar(limit, what);
    let mut resource = first;
    loop {
        let state: State = client.typed(resource.get("state").unwrap_or(&Value::Null))?;
        if state.is_applied() {
            bar.finish_and_clear();
            return Ok(resource);
        }
        // It would wait for what it never sees.
        if let Some(nodes) = state.is_told_by() {
            bar.finish_and_clear();
            Output::aside(format!(
                "{what} is agreed on; how far that is in force, {nodes} alone can tell: ask there"
            ));
            return Ok(resource);
        }
        look_on(&bar, begun, limit, what, state)?;
        resource = look(client, path, begun, limit)?;
    }
}

/// Waits, if asked to, until what was taken away is gone: what was its own can be used by others then. It may be gone
/// before the first look. Whether it is known to be gone.
pub fn gone(client: &Client, wait: Wait, path: &str, what: &str) -> Result<bool, Failure> {
    if !wait.wait {
        return match client.get(path) {
            Err(failure) if is_not_there(&failure) => Ok(true),
            _ => Ok(false),
        };
    }
    let limit = Duration::from_secs(wait.wait_timeout);
    let begun = Instant::now();
    let bar = bar(limit, what);
    let mut known = None;
    loop {
        let resource = match look(client, path, begun, limit) {
            Err(failure) if is_not_there(&failure) => break,
            other => other?,
        };
        // Somebody may have given its name to another.
        let uuid = resource.get("uuid").cloned();
        if known.is_some() && known != Some(uuid.clone()) {
            break;
        }
        known = Some(uuid);
        let state: State = client.typed(resource.get("state").unwrap_or(&Value::Null))?;
        look_on(&bar, begun, limit, &format!("the removal of {what}"), state)?;
    }
    bar.finish_and_clear();
    Ok(true)
}

/// The resource as it is now, once the appliance answers again if it is restarting.
fn look(client: &Client, path: &str, begun: Instant, limit: Duration) -> Result<Value, Failure> {
    loop {
        match client.get(path) {
            Err(failure) if is_restarting(&failure) && begun.elapsed() < limit => std::thread::sleep(PERIOD),
            other => return other,
        }
    }
}

fn is_not_there(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(problem) if problem.kind == ProblemKind::NotFound)
}

/// Whether the appliance may answer again in a while, as after a restart.
pub fn is_restarting(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable { .. } => true,
        Failure::Refused(problem) => problem.kind == ProblemKind::Unavailable,
        _ => false,
    }
}

/// Shows how it is going, for one period.
fn look_on(
    bar: &ProgressBar,
    begun: Instant,
    limit: Duration,
    what: &str,
    state: State,
) -> Result<(), Failure> {
    if begun.elapsed() >= limit {
        bar.finish_and_clear();
        return Err(Failure::NotApplied {
            what: what.to_owned(),
            blocked_on: state.blocked_on(),
        });
    }
    bar.set_message(
        state
            .blocked_on()
            .unwrap_or_else(|| "is being carried out".to_owned()),
    );
    bar.set_position(begun.elapsed().as_millis() as u64);
    std::thread::sleep(PERIOD);
    Ok(())
}

fn bar(limit: Duration, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(limit.as_millis() as u64);
    let style = ProgressStyle::with_template("{spinner} {prefix} [{bar:24}] {elapsed}/{len_seconds} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .with_key(
            "len_seconds",
            move |_: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{}s", limit.as_secs());
            },
        );
    bar.set_style(style);
    bar.set_prefix(what.to_owned());
    bar
}
