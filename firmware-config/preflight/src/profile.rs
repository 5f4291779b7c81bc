//! What is wanted of a machine: data, one section a check.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cpu_set::CpuSet;
use crate::finding::Severity;
use crate::release::Release;

/// The profiles that come with the program: name and text.
const BUILT_IN: &[(&str, &str)] = &[
    ("lab", include_str!("../../host/lab.toml")),
    ("bare-metal", include_str!("../../host/bare-metal.toml")),
];

/// The keys of a section.
const SECTION_KEYS: &[&str] = &["want", "severity", "why"];
/// The keys and sections of a profile.
const KEYS: &[&str] = &[
    "name",
    "about",
    "kernel_release",
    "io_uring",
    "hugepages_2m",
    "hugepages_1g",
    "memlock",
    "nofile",
    "isolated_cores",
    "numa_reactors",
    "governor",
    "transparent_hugepages",
    "swappiness",
    "watchdog",
    "clocksource",
];

/// One thing wanted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Want<T> {
    /// What is wanted; the check says how it compares.
    pub want: T,
    /// How much it matters.
    pub severity: Severity,
    /// Why it matters, for people.
    pub why: String,
}

/// What is wanted of a machine. A section that is missing is not checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// Lowest kernel release, `major.minor`.
    pub kernel_release: Option<Want<String>>,
    /// Whether io_uring must be open to the daemon.
    pub io_uring: Option<Want<bool>>,
    /// Least number of 2 MiB pages.
    pub hugepages_2m: Option<Want<u64>>,
    /// Least number of 1 GiB pages.
    pub hugepages_1g: Option<Want<u64>>,
    /// Least locked memory: `unlimited` or a size such as `64 MiB`.
    pub memlock: Option<Want<String>>,
    /// Least number of open files.
    pub nofile: Option<Want<u64>>,
    /// Whether the reactors' cores must be kept free of everything else.
    pub isolated_cores: Option<Want<bool>>,
    /// Whether each node of memory with a reactor must have its share of the 2 MiB pages.
    pub numa_reactors: Option<Want<bool>>,
    /// Frequency governor of the reactors' cores (of all, when no reactor was named).
    pub governor: Option<Want<String>>,
    /// Accepted settings of transparent hugepages; the first one is what is applied.
    pub transparent_hugepages: Option<Want<Vec<String>>>,
    /// Highest swappiness; of no matter when there is no swap.
    pub swappiness: Option<Want<u64>>,
    /// Whether `/dev/watchdog` must be there.
    pub watchdog: Option<Want<bool>>,
    /// Clock source of the kernel.
    pub clocksource: Option<Want<String>>,
    /// The reactors' cores, when they are known. Not part of the file.
    #[serde(skip)]
    pub reactor_cores: CpuSet,
}

impl Profile {
    /// The profile `name` of those that come with the program.
    ///
    /// # Errors
    /// [`ProfileError::UnknownName`] with the nearest known one.
    pub fn named(name: &str) -> Result<Self, ProfileError> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        let Some((_, text)) = found else {
            let known: Vec<&str> = Self::names().collect();
            return Err(ProfileError::UnknownName {
                name: name.to_owned(),
                nearest: nearest(name, &known),
            });
        };
        Self::parse(text)
    }

    /// Names of the profiles that come with the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// Reads a profile. Unknown keys are refused.
    ///
    /// # Errors
    /// Says which key or value is wrong.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| ProfileError::Syntax {
                text: error.to_string(),
            })?;
        for (key, value) in &table {
            known("", key, KEYS)?;
            let Some(section) = value.as_table() else { continue };
            for inner in section.keys() {
                known(key, inner, SECTION_KEYS)?;
            }
        }
        // From the text once more and not from the table, so that the message carries the line.
        let profile: Self = toml::from_str(text).map_err(|error| ProfileError::Syntax {
            text: error.to_string(),
        })?;
        profile.check_values()?;
        Ok(profile)
    }

    /// The same for reactors on `cores`.
    #[must_use]
    pub fn for_reactors(mut self, cores: impl IntoIterator<Item = u32>) -> Self {
        self.reactor_cores = cores.into_iter().collect();
        self
    }

    fn check_values(&self) -> Result<(), ProfileError> {
        let bad = |key: &str, value: &str, wanted: &'static str| ProfileError::BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            wanted,
        };
        if let Some(Want { want, .. }) = &self.kernel_release
            && Release::parse(want).is_none()
        {
            return Err(bad("kernel_release.want", want, "two numbers such as \"6.1\""));
        }
        if let Some(Want { want, .. }) = &self.memlock
            && Amount::parse(want).is_none()
        {
            return Err(bad(
                "memlock.want",
                want,
                "\"unlimited\" or a size such as \"64 MiB\"",
            ));
        }
        if let Some(Want { want, .. }) = &self.transparent_hugepages
            && (want.is_empty()
                || want
                    .iter()
                    .any(|one| !["always", "madvise", "never"].contains(&one.as_str())))
        {
            let value = want.join(", ");
            return Err(bad(
                "transparent_hugepages.want",
                &value,
                "some of \"always\", \"madvise\", \"never\"",
            ));
        }
        Ok(())
    }
}

/// A limit in bytes, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// No limit. Greater than any number.
    Unlimited,
}

impl Amount {
    /// Reads `unlimited`, `65536`, `64 KiB`, `64 MiB` or `64 GiB`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "unlimited" {
            return Some(Self::Unlimited);
        }
        let end = text
            .find(|digit: char| !digit.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let scale: u64 = match unit.trim() {
            "" | "bytes" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(scale).map(Self::Bytes)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::Bytes(bytes) if bytes >= 1 << 20 => write!(f, "{} MiB", bytes >> 20),
            Self::Bytes(bytes) if bytes >= 1 << 10 => write!(f, "{} KiB", bytes >> 10),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

/// Why a profile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// There is no profile of this name.
    #[error("there is no profile `{name}`; did you mean `{nearest}`?")]
    UnknownName {
        /// The name asked for.
        name: String,
        /// The nearest known one.
        nearest: String,
    },
    /// A key that is not known.
    #[error("unknown key `{key}` in {}the profile; did you mean `{nearest}`?", section_of(.section))]
    UnknownKey {
        /// The section it stands in; empty at the top.
        section: String,
        /// The key.
        key: String,
        /// The nearest known one.
        nearest: String,
    },
    /// A value of the right type that means nothing.
    #[error("`{key}` of the profile is `{value}`; it must be {wanted}")]
    BadValue {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is accepted.
        wanted: &'static str,
    },
    /// Not TOML, a value of the wrong type, or something missing.
    #[error("the profile cannot be read: {text}")]
    Syntax {
        /// The parser's words, with line and column.
        text: String,
    },
}

fn section_of(section: &str) -> String {
    match section {
        "" => String::new(),
        section => format!("section [{section}] of "),
    }
}

fn known(section: &str, key: &str, all: &[&str]) -> Result<(), ProfileError> {
    if all.contains(&key) {
        return Ok(());
    }
    Err(ProfileError::UnknownKey {
        section: section.to_owned(),
        key: key.to_owned(),
        nearest: nearest(key, all),
    })
}

fn nearest(name: &str, all: &[&str]) -> String {
    let best = all.iter().min_by_key(|known| strsim::levenshtein(name, known));
    best.map(|known| (*known).to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_that_come_with_the_program_are_sound() {
        for name in Profile::names() {
            let profile = Profile::named(name).unwrap();
            assert_eq!(profile.name, name);
            assert!(profile.io_uring.is_some());
        }
    }

    #[test]
    fn keys_listed_are_the_fields() {
        let mut text = String::from("name = \"n\"\nabout = \"a\"\n");
        for key in KEYS.iter().skip(2) {
            let want = match *key {
                "kernel_release" => "\"6.1\"",
                "memlock" => "\"1 MiB\"",
                "governor" | "clocksource" => "\"x\"",
                "transparent_hugepages" => "[\"never\"]",
                "hugepages_2m" | "hugepages_1g" | "nofile" | "swappiness" => "1",
                _ => "true",
            };
            text += &format!("[{key}]\nwant = {want}\nseverity = \"must\"\nwhy = \"w\"\n");
        }
        Profile::parse(&text).unwrap();
    }

    #[test]
    fn unknown_names_get_the_nearest_known_one() {
        let error = Profile::named("baremetal").unwrap_err();
        assert!(error.to_string().contains("`bare-metal`"), "{error}");
        let error = Profile::parse("name = \"x\"\nabout = \"\"\n[hugepage_2m]\nwant = 1").unwrap_err();
        assert!(error.to_string().contains("`hugepages_2m`"), "{error}");
        let error = Profile::parse("name = \"x\"\nabout = \"\"\n[nofile]\nwnat = 1").unwrap_err();
        assert!(
            error.to_string().contains("[nofile]") && error.to_string().contains("`want`"),
            "{error}"
        );
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        let of = |section: &str, want: &str| {
            Profile::parse(&format!(
                "name = \"x\"\nabout = \"\"\n[{section}]\nwant = {want}\nseverity = \"must\"\nwhy = \"\""
            ))
        };
        assert!(matches!(
            of("memlock", "\"64 MB\""),
            Err(ProfileError::BadValue { .. })
        ));
        assert!(matches!(
            of("kernel_release", "\"new\""),
            Err(ProfileError::BadValue { .. })
        ));
        assert!(matches!(
            of("transparent_hugepages", "[\"off\"]"),
            Err(ProfileError::BadValue { .. })
        ));
        assert!(matches!(
            of("nofile", "\"many\""),
            Err(ProfileError::Syntax { .. })
        ));
        assert!(of("memlock", "\"1 GiB\"").is_ok());
    }

    #[test]
    fn no_limit_is_more_than_any() {
        assert!(Amount::Unlimited > Amount::Bytes(u64::MAX));
        assert_eq!(Amount::parse("99999999999999 GiB"), None);
    }
}
