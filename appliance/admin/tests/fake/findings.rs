//! What is wrong with it.

#![allow(dead_code, reason = "not every test that includes this file has findings")]

use super::Fake;
use palisade_api::{Finding, Overall};

impl Fake {
    /// This is found from now on.
    pub fn found(&self, finding: Finding) {
        self.kept().findings.push(finding);
    }

    /// Something is.
    pub fn find(&self, severity: Overall, subject: &str, message: &str) {
        self.kept().findings.push(Finding {
            severity,
            code: "test_finding".to_owned(),
            subject: subject.to_owned(),
            message: message.to_owned(),
            remedy: "look at it".to_owned(),
            since_unix_ms: 1,
            count: 1,
            last: None,
        });
    }
}
