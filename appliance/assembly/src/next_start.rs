//! Looks at what the next start will read, while there is somebody to tell: a configuration file that has been deleted or
//! spoilt is otherwise found out at the restart, with all guests waiting.

use crate::shared::Shared;
use crate::watch::PendingWork;
use palisade_api::FindingKind;
use palisade_block::{Doing, Whom};
use std::time::Duration;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks again and again, until the watch is told to stop.
pub fn run(shared: &Shared, mut wrong: impl FnMut() -> Option<String>) {
    let watched = shared.watch.enrol(
        "node/configuration",
        "the thread that looks at the configuration file",
        PendingWork::nothing(),
    );
    let kind = FindingKind::ConfigUnusable;
    while !shared.watch.is_stopping() {
        watched.progress.asleep_for(Some(LOOK));
        std::thread::sleep(LOOK);
        watched.progress.mark(Doing::Event, Whom::Nobody);
        match wrong() {
            None => shared.findings.clear(kind, "node"),
            Some(what) => shared.findings.restate(kind, "node", what),
        }
    }
}
