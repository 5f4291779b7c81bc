//! How much memory the control group of this process may use. The kernel charges a page to the group of whoever touches it first,
//! also one of a guest's memory, and ends a process of a group that has used up its limit.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the control groups of version 2 and of version 1 are mounted.
const ROOTS: [(&str, &str); 2] = [
    ("sys/fs/cgroup", "memory.max"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
];

/// Limits from here on are none: version 1 writes the largest number of pages.
const NONE_FROM: u64 = 1 << 62;

/// A limit that is in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryLimit {
    /// In bytes.
    pub bytes: u64,
    /// The file in which it stands.
    pub file: PathBuf,
}

impl MemoryLimit {
    /// The lowest limit of the control groups that this process is in; `None` without one.
    pub fn of_this_process() -> Option<MemoryLimit> {
        MemoryLimit::below(Path::new("/"))
    }

    /// The same in another tree than the machine's, for tests.
    fn below(root: &Path) -> Option<MemoryLimit> {
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        // As `0::/a/b`, or `4:memory:/a/b` in version 1.
        let fields = groups.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?.trim_start_matches('/')))
        });
        let limits = fields.filter_map(|(controllers, group)| {
            let (mount, file) = match controllers {
                "" => ROOTS[0],
                _ if controllers.split(',').any(|one| one == "memory") => ROOTS[1],
                _ => return None,
            };
            lowest(&root.join(mount), group, file)
        });
        limits.min_by_key(|limit| limit.bytes)
    }
}

/// The lowest limit from a group up to the root.
fn lowest(mount: &Path, group: &str, file: &str) -> Option<MemoryLimit> {
    let groups = Path::new(group).ancestors();
    let limits = groups.filter_map(|group| {
        let file = mount.join(group).join(file);
        let bytes = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        (bytes < NONE_FROM).then_some(MemoryLimit { bytes, file })
    });
    limits.min_by_key(|limit| limit.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn limit(files: &[(&str, &str)]) -> Option<(u64, String)> {
        let root = tree(files);
        let limit = MemoryLimit::below(root.path())?;
        let file = limit.file.strip_prefix(root.path()).unwrap();
        Some((limit.bytes, file.display().to_string()))
    }

    #[test]
    fn the_lowest_limit_from_the_group_to_the_root_is_in_force() {
        let group = ("proc/self/cgroup", "0::/system.slice/palisaded.service\n");
        let own = "sys/fs/cgroup/system.slice/palisaded.service/memory.max";
        let above = "sys/fs/cgroup/system.slice/memory.max";
        assert_eq!(limit(&[group, (own, "max\n"), (above, "max\n")]), None);
        assert_eq!(
            limit(&[group, (own, "4096\n"), (above, "max\n")]),
            Some((4096, own.into()))
        );
        assert_eq!(
            limit(&[group, (own, "8192\n"), (above, "4096\n")]),
            Some((4096, above.into()))
        );
        // In a container its own group is the root.
        let group = ("proc/self/cgroup", "0::/\n");
        let root = "sys/fs/cgroup/memory.max";
        assert_eq!(limit(&[group, (root, "4096\n")]), Some((4096, root.into())));
    }

    #[test]
    fn version_1_has_a_hierarchy_for_memory_alone() {
        let group = (
            "proc/self/cgroup",
            "9:name=systemd:/\n4:memory:/a/b\n3:cpuset:/c\n0::/\n",
        );
        let own = "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes";
        assert_eq!(limit(&[group, (own, "9223372036854771712\n")]), None);
        assert_eq!(
            limit(&[group, (own, "629145600\n")]),
            Some((629_145_600, own.into()))
        );
        let both = ("proc/self/cgroup", "4:cpu,memory:/a/b\n");
        assert_eq!(
            limit(&[both, (own, "629145600\n")]),
            Some((629_145_600, own.into()))
        );
    }

    #[test]
    fn without_control_groups_there_is_no_limit() {
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[("proc/self/cgroup", "")]), None);
    }
}
