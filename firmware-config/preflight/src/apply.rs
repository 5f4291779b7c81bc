//! Sets what can be set on a running machine, and looks whether it took.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::finding::PreflightFinding;

/// What became of one written value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// The profile's section.
    pub check: String,
    /// The file, as seen from the root.
    pub file: String,
    /// What was written.
    pub wanted: String,
    /// What is there afterwards; the reason when it could not be written.
    pub now: Result<String, String>,
}

impl Applied {
    /// Whether the machine now has what was written.
    ///
    /// The kernel grants fewer hugepages when memory is broken up, and lists the choices of a setting with the chosen
    /// one in brackets.
    pub fn took(&self) -> bool {
        let Ok(now) = &self.now else { return false };
        match (now.parse::<u64>(), self.wanted.parse::<u64>()) {
            (Ok(now), Ok(wanted)) => now == wanted,
            _ => *now == self.wanted || now.contains(&format!("[{}]", self.wanted)),
        }
    }
}

/// Writes what the findings offer below `root` and reads each value back. Findings without such an offer are left out.
/// What cannot be written is part of the answer.
pub fn apply(findings: &[PreflightFinding], root: &Path) -> Vec<Applied> {
    let mut done = Vec::new();
    for finding in findings {
        for step in &finding.apply {
            let path = root.join(&step.file);
            let now = set(&path, &step.value).map_err(|error| reason(&error));
            let file = format!("/{}", step.file.display());
            done.push(Applied {
                check: finding.check.clone(),
                file,
                wanted: step.value.clone(),
                now,
            });
        }
    }
    done
}

fn set(path: &Path, value: &str) -> io::Result<String> {
    // Opened without O_CREAT: a kernel's file exists or the setting does not.
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    io::Write::write_all(&mut file, value.as_bytes())?;
    drop(file);
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "needs root".to_owned(),
        io::ErrorKind::NotFound => "this kernel has no such setting".to_owned(),
        _ => error.to_string(),
    }
}
