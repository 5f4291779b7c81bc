//! One difference between a machine and a profile.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::profile::Want;

/// How much a difference matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The daemon works, but worse.
    Should,
    /// The daemon cannot do its work.
    Must,
}

/// Something that can be set on a running machine without disturbing it: a value written to a file of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Apply {
    /// The file, relative to the root of the file system (`proc/sys/vm/nr_hugepages`).
    pub file: PathBuf,
    /// What is written.
    pub value: String,
}

/// One difference: what it is about, what was found, what is wanted, why, and how to repair it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PreflightFinding {
    /// The profile's section that it belongs to.
    pub check: String,
    /// What was looked at, in words.
    pub what: String,
    /// What was found, or "unknown".
    pub found: String,
    /// What the profile wants.
    pub wanted: String,
    /// Why it matters.
    pub why: String,
    /// What a person does about it.
    pub remedy: String,
    /// How much it matters.
    pub severity: Severity,
    /// What [`apply`](crate::apply()) would write; empty when a person has to act.
    pub apply: Vec<Apply>,
}

impl PreflightFinding {
    /// A finding of section `check` about `what`, with the profile's weight and reason. The methods below fill the
    /// rest.
    pub(crate) fn of<T>(check: &str, what: &str, want: &Want<T>) -> Self {
        Self {
            check: check.to_owned(),
            what: what.to_owned(),
            found: String::new(),
            wanted: String::new(),
            why: want.why.clone(),
            remedy: String::new(),
            severity: want.severity,
            apply: Vec::new(),
        }
    }

    /// What was found.
    pub(crate) fn seen(mut self, found: Option<impl ToString>) -> Self {
        self.found = found.map_or_else(|| "unknown".to_owned(), |found| found.to_string());
        self
    }

    /// What is wanted, and words that follow it.
    pub(crate) fn like(mut self, wanted: impl ToString, words: &str) -> Self {
        self.wanted = format!("{} {words}", wanted.to_string()).trim_end().to_owned();
        self
    }

    /// What a person does.
    pub(crate) fn fix(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// What may be written while running.
    pub(crate) fn write(mut self, file: &str, value: impl ToString) -> Self {
        self.apply.push(Apply {
            file: PathBuf::from(file),
            value: value.to_string(),
        });
        self
    }
}
