//! Whether the places that a configuration names can be used: looked at before anything is made, and nothing is made.

use super::{Config, ConfigError, Settings, account};
use crate::accounts;
use palisade_model::limits::SOCKET_PATH_BYTES_MAX;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Rights by which others than the owner could put a database of their own in the place of ours.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Refuses a relative path: what it is relative to is another place with each start.
pub(super) fn absolute(key: &'static str, path: &Path) -> Result<(), ConfigError> {
    match path.is_absolute() {
        true => Ok(()),
        false => Err(ConfigError::Range {
            key,
            given: format!("{path:?}"),
            allowed: "an absolute path",
        }),
    }
}

/// Refuses a place that is too long for a socket; `key` is the setting that it follows from.
pub(super) fn fits_socket(key: &'static str, socket: &Path) -> Result<(), ConfigError> {
    let bytes = socket.as_os_str().len();
    match bytes <= SOCKET_PATH_BYTES_MAX {
        true => Ok(()),
        false => Err(ConfigError::Place {
            key,
            path: socket.to_owned(),
            why: format!("is a path of {bytes} bytes: a socket's takes {SOCKET_PATH_BYTES_MAX} at most"),
        }),
    }
}

impl Settings {
    /// Looks whether the directories can be used as a start would use them.
    ///
    /// # Errors
    /// The first that cannot.
    pub(super) fn look_at_places(&self) -> Result<(), ConfigError> {
        for (key, path) in [("state_dir", &self.state_dir), ("run_dir", &self.run_dir)] {
            directory(key, path)?;
        }
        private("state_dir", &self.state_dir)
    }

    /// What is in order and may all the same not be what was meant: names that nothing here has. Defaults are not meant
    /// by anybody.
    pub fn notes(&self) -> Vec<String> {
        let defaults = Config::defaults().allow;
        let mut notes = Vec::new();
        let folders = [
            (
                "allow.files",
                &self.allow.files,
                defaults.files.unwrap_or_default(),
            ),
            (
                "allow.devices",
                &self.allow.devices,
                defaults.devices.unwrap_or_default(),
            ),
            ("allow.sockets", &self.allow.sockets, vec![self.run_dir.clone()]),
        ];
        for (key, folders, usual) in folders {
            let absent = |folder: &&PathBuf| !usual.contains(folder) && !folder.is_dir();
            notes.extend(folders.iter().filter(absent).map(|folder| {
                format!(
                    "`{key}` names {}, and there is no such folder now",
                    folder.display()
                )
            }));
        }
        let usual = defaults.owners.unwrap_or_default();
        let is_nobody = |name: &&String| {
            let account = account(name);
            let known = accounts::user_id(&account).is_ok() || accounts::group_id(&account).is_ok();
            !usual.contains(name) && name.as_str() != "*" && !known
        };
        notes.extend(self.allow.owners.iter().filter(is_nobody).map(|name| {
            format!("`allow.owners` names {name}, and this machine has no such user or group: create it, or give its number")
        }));
        notes
    }
}

/// Whether there is a directory, or can be one.
fn directory(key: &'static str, path: &Path) -> Result<(), ConfigError> {
    let refused = |why: String| {
        Err(ConfigError::Place {
            key,
            path: path.to_owned(),
            why,
        })
    };
    for above in path.ancestors() {
        let is_it = above == path;
        match std::fs::metadata(above) {
            Ok(about) if about.is_dir() => return Ok(()),
            Ok(_) if is_it => return refused("is no directory".to_owned()),
            Ok(_) => return refused(format!("cannot be made: {} is no directory", above.display())),
            // Also below what is no directory: then it is found there.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => {
                return refused(format!(
                    "cannot be looked at: {} is in the way: {error}",
                    above.display()
                ));
            }
        }
    }
    refused("cannot be made".to_owned())
}

/// Whether nobody but us and root can change what is in a directory, if it is there.
fn private(key: &'static str, path: &Path) -> Result<(), ConfigError> {
    // The owner of what /proc says of us is who we are.
    let (Ok(about), Ok(own)) = (std::fs::metadata(path), std::fs::metadata("/proc/self")) else {
        return Ok(());
    };
    let (mode, owner) = (about.mode() & 0o7777, about.uid());
    let shown = path.display();
    let why = if owner != own.uid() && owner != 0 {
        format!(
            "belongs to the user of number {owner}, who could put another database there: chown {} {shown}",
            own.uid()
        )
    } else if mode & WRITABLE_BY_OTHERS != 0 {
        format!("has mode {mode:04o}, by which others could put another database there: chmod go-w {shown}")
    } else {
        return Ok(());
    };
    Err(ConfigError::Place {
        key,
        path: path.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Cores;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn resolved(text: &str) -> Result<Settings, String> {
        let config = Config::parse(text).map_err(|error| error.to_string())?;
        let settings = config
            .resolve(&Cores::plain(&[0]))
            .map_err(|error| error.to_string())?;
        settings.look_at_places().map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn what_a_start_could_not_use_is_refused_by_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::write(at("file"), b"f").unwrap();
        let long = "d".repeat(120);
        let cases = [
            (
                "state_dir = 'state'".to_owned(),
                "`state_dir` is \"state\", but must be an absolute path",
            ),
            (
                "run_dir = 'run'".to_owned(),
                "`run_dir` is \"run\", but must be an absolute path",
            ),
            ("[admin]\nsocket = 'api.socket'".to_owned(), "`admin.socket` is"),
            (format!("run_dir = '/tmp/{long}'"), "`run_dir` is /tmp/ddd"),
            (
                format!("[admin]\nsocket = '/tmp/{long}'"),
                "`admin.socket` is /tmp/ddd",
            ),
            (format!("state_dir = '{}'", at("file")), "is no directory"),
            (format!("state_dir = '{}'", at("file/state")), "cannot be made"),
            (format!("run_dir = '{}'", at("file/a/b")), "cannot be made"),
        ];
        for (text, says) in cases {
            let said = resolved(&text).unwrap_err();
            assert!(said.contains(says) && !said.contains("allow."), "{text}: {said}");
        }
        let good = format!("state_dir = '{}'\nrun_dir = '{}'", at("s/t"), at("r"));
        resolved(&good).unwrap();
        assert!(!Path::new(&at("s")).exists(), "looking makes nothing");
        // A socket elsewhere does not care how long the run_dir is.
        let elsewhere = format!("run_dir = '{}'\n[admin]\nsocket = '{}'", at(&long), at("api"));
        resolved(&elsewhere).unwrap();
    }

    #[test]
    fn a_state_directory_that_others_can_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        let text = format!("state_dir = '{0}'\nrun_dir = '{0}/run'", state.display());
        for (mode, refused) in [
            (0o700, false),
            (0o750, false),
            (0o755, false),
            (0o770, true),
            (0o777, true),
        ] {
            fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
            let said = resolved(&text).err().unwrap_or_default();
            assert_eq!(said.contains("chmod go-w"), refused, "{mode:o}: {said}");
        }
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        // Only root can give a directory away.
        if std::os::unix::fs::chown(&state, Some(12_345), None).is_ok() {
            let said = resolved(&text).unwrap_err();
            assert!(said.contains("belongs to the user of number 12345"), "{said}");
        }
    }

    #[test]
    fn names_that_nothing_has_are_told_and_defaults_are_not() {
        let notes = |text: &str| resolved(text).unwrap().notes();
        assert_eq!(notes(""), Vec::<String>::new());
        let said = notes(
            "[allow]\nfiles = ['/no/such/folder', '/']\nowners = ['root', '*', '77', 'nobody-of-this-name']",
        );
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].contains("`allow.files` names /no/such/folder"),
            "{said:?}"
        );
        assert!(said[1].contains("names nobody-of-this-name"), "{said:?}");
    }
}
