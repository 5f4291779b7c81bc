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
    fn garbage_is_none_and_bounded() {
        for text in ["3-1", "1-", "0-4000000000", "-", "1;2"] {
            assert_eq!(CpuSet::parse(text), None, "{text}");
        }
    }
}
