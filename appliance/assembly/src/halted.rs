//! Looks for processes of disks that somebody has stopped: a finding that names the process, what waits and what lets it go
//! on, since nothing of the device tells why it does not answer.

use crate::shared::Shared;
use palisade_api::FindingKind;
use palisade_sys::device::{Halted, halted};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(2);

/// What was told at the last look.
#[derive(Debug, Default)]
pub struct Looks {
    due: Option<Instant>,
    told: BTreeSet<String>,
}

impl Looks {
    /// Looks, if it is time.
    pub fn look(&mut self, shared: &Shared, now: Instant) {
        if self.due.is_some_and(|due| now < due) {
            return;
        }
        self.due = Some(now + LOOK);
        let found = halted();
        if found.is_empty() && self.told.is_empty() {
            return;
        }
        let state = shared.seen();
        let mut told = BTreeSet::new();
        for one in &found {
            let mut disks = state.disks.iter().filter(|(_, open)| {
                let path = open.opened.path();
                path.is_some_and(|path| one.may_serve(path))
            });
            // One that is just being opened is nobody's yet, and the names of several files may begin alike.
            let disk = disks
                .next()
                .filter(|_| disks.next().is_none())
                .map(|(name, _)| name.as_str());
            let subject = disk.map_or_else(|| "node".to_owned(), |name| format!("disk/{name}"));
            if told.insert(subject.clone()) && !self.told.contains(&subject) {
                shared
                    .findings
                    .raise(FindingKind::DiskProcessStopped, subject, sentence(one, disk));
            }
        }
        for subject in self.told.difference(&told) {
            shared.findings.clear(FindingKind::DiskProcessStopped, subject);
        }
        self.told = told;
    }
}

fn sentence(one: &Halted, disk: Option<&str>) -> String {
    let (program, process) = (&one.program, one.program.process);
    let whose = disk.map_or_else(|| "a disk".to_owned(), |disk| format!("disk {disk}"));
    format!(
        "{program}, which does for {whose} all that may have to wait for the device, has been stopped by a \
         signal or a debugger: flushes, discards, and reads and writes that cannot be answered at once wait for it. It goes on \
         with: kill -CONT {process}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_sys::device::Program;

    #[test]
    fn the_sentence_names_the_process_what_waits_and_what_helps() {
        let one = Halted {
            program: Program {
                process: 4711,
                name: "io:d1.img".into(),
            },
        };
        let said = sentence(&one, Some("d1"));
        for part in [
            "process 4711 (io:d1.img)",
            "disk d1",
            "flushes",
            "kill -CONT 4711",
        ] {
            assert!(said.contains(part), "no {part} in {said}");
        }
        assert!(sentence(&one, None).contains("for a disk "));
    }
}
