//! Kernel releases, compared as numbers: `6.1.0-56-cloud-amd64`.

use std::fmt;

/// Major and minor number of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl Release {
    /// Reads the two numbers at the head of `text`; `None` when there are none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?;
        let end = minor
            .find(|digit: char| !digit.is_ascii_digit())
            .unwrap_or(minor.len());
        Some(Self {
            major,
            minor: minor.get(..end)?.parse().ok()?,
        })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_as_numbers() {
        let of = |text| Release::parse(text).unwrap();
        assert!(of("6.10.2") > of("6.9"));
        assert!(of("6.1.0-56-cloud-amd64") == of("6.1"));
        assert!(of("6.18-rc2") < of("7.0"));
        assert_eq!(Release::parse("linux"), None);
        assert_eq!(Release::parse("6"), None);
    }
}
