//! The configuration file while the daemon runs: whether the next start could take it as it is now.

use crate::{configuration, resolve_only};
use palisade_api::routes::CONFIG_FILE;
use palisade_assembly::config::{Config, Cores};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file that this start has read, and what the command line said beside it.
#[derive(Clone)]
pub struct NextStart {
    file: PathBuf,
    flags: Config,
    /// What the file looked like when it was last read, and what was wrong with it.
    seen: Option<(Stamp, Option<String>)>,
}

/// By what a file that has been changed is known: inode, size, and when it was changed.
type Stamp = (u64, u64, i64, i64);

impl NextStart {
    /// Of a start that has read the file named, or the default one; none when there was no file.
    pub fn of(named: Option<PathBuf>, flags: Config) -> Option<NextStart> {
        let default = || Some(PathBuf::from(CONFIG_FILE)).filter(|file| file.exists());
        Some(NextStart {
            file: named.or_else(default)?,
            flags,
            seen: None,
        })
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What keeps the file from being taken as it is now.
    pub fn wrong(&mut self, cores: &Cores) -> Option<String> {
        let shown = self.file.display();
        let stamp = match std::fs::metadata(&self.file) {
            Ok(about) => (about.ino(), about.size(), about.ctime(), about.ctime_nsec()),
            Err(error) => {
                self.seen = None;
                return Some(match error.kind() {
                    ErrorKind::NotFound => {
                        format!(
                            "{shown} has been deleted: the next start fails, or takes defaults for all it held"
                        )
                    }
                    _ => format!("{shown} cannot be looked at: {error}"),
                });
            }
        };
        if let Some((seen, wrong)) = &self.seen
            && *seen == stamp
        {
            return wrong.clone();
        }
        let read = configuration(Some(&self.file), self.flags.clone());
        let wrong = read.and_then(|given| resolve_only(given, cores)).err();
        let wrong = wrong.map(|why| format!("the next start would fail: {why}"));
        self.seen = Some((stamp, wrong.clone()));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_or_spoilt_is_told_until_it_is_right_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("palisade.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("node = \"n1\"\n");
        let cores = Cores {
            settable: vec![0],
            inherited: vec![0],
            isolated: Vec::new(),
        };
        let mut next = NextStart::of(Some(file.clone()), Config::default()).unwrap();
        assert_eq!(next.wrong(&cores), None);
        for (spoilt, says) in [
            ("nodde = 1\n", "nodde"),
            ("node = \"\"\n", "node"),
            ("[reactors]\ncores = [77]\n", "77"),
        ] {
            write(spoilt);
            let wrong = next.wrong(&cores).unwrap();
            assert!(wrong.contains(says) && wrong.contains("would fail"), "{wrong}");
            assert_eq!(next.wrong(&cores).as_ref(), Some(&wrong), "and again");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(next.wrong(&cores).unwrap().contains("has been deleted"));
        write("node = \"n2\"\n");
        assert_eq!(next.wrong(&cores), None);
    }
}
