//! A set of processors as the kernel writes it: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt;

/// No machine we know has more; a list that claims more is garbage.
const CPU_MAX: u32 = 8192;

/// A set of processor numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// Parses the kernel's list format (cpuset(7), "List format"). Words such as `domain` that stand before the list
    /// in `isolcpus=` are skipped. `None` when a part is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for part in text
            .trim()
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            if part == "(null)" || part.starts_with(|first: char| first.is_ascii_lowercase()) {
                continue;
            }
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last > CPU_MAX {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(Self(cpus))
    }

    /// Parses what an operator writes: numbers and ranges with commas between them, and nothing else.
    ///
    /// # Errors
    /// What is wrong, in a sentence that names the part.
    pub fn listed(text: &str) -> Result<Self, String> {
        let mut cpus = BTreeSet::new();
        for part in text.split(',').map(str::trim) {
            if part.is_empty() {
                return Err(match text.trim().is_empty() {
                    true => "it names no core; give numbers and ranges, as 2,3 or 2-5".to_owned(),
                    false => {
                        "a number is missing between two commas or at an end; write 2,3 or 2-5".to_owned()
                    }
                });
            }
            let number = |text: &str| {
                let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let known = text
                    .parse::<u32>()
                    .ok()
                    .filter(|number| is_number && *number <= CPU_MAX);
                known.ok_or_else(|| match is_number {
                    true => format!("no machine has a core {text}"),
                    false => format!("{part:?} is no core and no range of cores; write 2,3 or 2-5"),
                })
            };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("{part} runs backwards: write {last}-{first}"));
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }

    /// Whether `cpu` is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of this set that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// The processors in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let mut parts: Vec<(u32, u32)> = Vec::new();
        for cpu in self.iter() {
            match parts.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => parts.push((cpu, cpu)),
            }
        }
        for (index, (first, last)) in parts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?
            } else {
                write!(f, "{comma}{first}-{last}")?
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read_and_written_back() {
        for text in ["0-3,8", "1", "0,2,4-7"] {
            assert_eq!(CpuSet::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            CpuSet::parse("managed_irq,domain,2-3").unwrap().to_string(),
            "2-3"
        );
        assert!(CpuSet::parse("\n").unwrap().is_empty());
        assert!(CpuSet::parse("(null)").unwrap().is_empty());
    }

    #[test]
    fn what_an_operator_lists_is_read_and_nonsense_is_named() {
        for (text, cores) in [("2,3", "2-3"), ("2-5,9", "2-5,9"), (" 1 , 1", "1"), ("0", "0")] {
            assert_eq!(CpuSet::listed(text).unwrap().to_string(), cores);
        }
        for (text, says) in [
            ("", "names no core"),
            (" ", "names no core"),
            ("2,,3", "a number is missing"),
            ("2,", "a number is missing"),
            ("5-2", "5-2 runs backwards: write 2-5"),
            ("two", "\"two\" is no core"),
            ("1-", "\"1-\" is no core"),
            ("-1", "\"-1\" is no core"),
            ("+1", "\"+1\" is no core"),
            ("1-2-3", "\"1-2-3\" is no core"),
            ("domain,2", "\"domain\" is no core"),
            ("9000", "no machine has a core 9000"),
            ("0-99999999999", "no machine has a core 99999999999"),
        ] {
            let said = CpuSet::listed(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn garbage_is_none_and_bounded() {
        for text in ["3-1", "1-", "0-4000000000", "-", "1;2"] {
            assert_eq!(CpuSet::parse(text), None, "{text}");
        }
    }
}
