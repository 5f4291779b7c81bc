//! What an operator may name over REST: paths below configured folders, and owners out of a configured list.
//!
//! Whoever may speak to REST is not root for that: without these bounds he could have the daemon overwrite any file of the
//! machine, or give a volume's socket to anybody. What has been agreed on before is not looked at again: a list that is
//! made narrower takes no disk from a guest.

use crate::accounts;
use crate::config::{AllowSettings, Settings, account};
use palisade_api as api;
use palisade_api::{Problem, ProblemKind};
use palisade_model::Account;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Rights by which everybody may connect to a socket.
const MODE_EVERYBODY: u32 = 0o002;

/// A sort of path, with its words.
struct Sort<'a> {
    field: &'static str,
    what: &'static str,
    key: &'static str,
    folders: &'a [PathBuf],
}

impl AllowSettings {
    /// Whether disks may lie in places that do not last, without being asked for there.
    pub fn takes_any_place(&self) -> bool {
        self.anything
    }

    /// The folders of disk files that do not hold a path: where else a file may be.
    pub fn folders_beside(&self, path: &Path) -> Vec<String> {
        let beside = self.files.iter().filter(|folder| !path.starts_with(folder));
        beside.map(|folder| folder.display().to_string()).collect()
    }

    /// Whether a medium may be a disk.
    ///
    /// # Errors
    /// `path_not_allowed`, with the folders that are.
    pub fn check_medium(&self, medium: &api::Medium) -> Result<(), Problem> {
        match medium {
            api::Medium::File(file) => self.check_disk_path(&file.path, false, "file.path"),
            api::Medium::Block(block) => self.check_disk_path(&block.path, true, "block.path"),
            api::Medium::Memory(_) | api::Medium::Null(_) => Ok(()),
        }
    }

    /// Whether a path may be that of a disk; `field` of the request names it.
    ///
    /// # Errors
    /// `path_not_allowed`, with the folders that are.
    pub fn check_disk_path(&self, path: &str, is_device: bool, field: &'static str) -> Result<(), Problem> {
        let (what, key, folders) = match is_device {
            false => ("disk files", "allow.files", &self.files),
            true => ("block devices", "allow.devices", &self.devices),
        };
        self.check_path(
            path,
            &Sort {
                field,
                what,
                key,
                folders,
            },
        )
    }

    /// Whether an attachment's socket may be there.
    ///
    /// # Errors
    /// `path_not_allowed`, with the folders that are.
    pub fn check_socket(&self, path: &str) -> Result<(), Problem> {
        self.check_path(
            path,
            &Sort {
                field: "socket",
                what: "attachments' sockets",
                key: "allow.sockets",
                folders: &self.sockets,
            },
        )
    }

    /// Whether a socket may be given to these accounts, with this mode.
    ///
    /// # Errors
    /// `owner_not_allowed`, with the accounts that are.
    pub fn check_owners(
        &self,
        owner: Option<&Account>,
        group: Option<&Account>,
        mode: Option<u32>,
    ) -> Result<(), Problem> {
        if self.anything || self.owners.iter().any(|name| name == "*") {
            return Ok(());
        }
        let refused = |field: &'static str, message: String, remedy: String| {
            Err(Problem::new(ProblemKind::Forbidden, "owner_not_allowed", message, remedy).about(field))
        };
        type Number = fn(&Account) -> Result<u32, String>;
        let accounts: [(_, _, _, Number); 2] = [
            ("owner", "user", owner, accounts::user_id),
            ("group", "group", group, accounts::group_id),
        ];
        for (field, kind, wanted, number) in accounts {
            let Some(wanted) = wanted else { continue };
            let same = |name: &String| number(&account(name)).is_ok_and(|known| number(wanted) == Ok(known));
            if !self.owners.iter().any(same) {
                let remedy = format!(
                    "choose one of {}, or add it to allow.owners in the daemon's configuration and restart it; \"*\" there \
                     is everybody",
                    self.owners.join(", ")
                );
                return refused(
                    field,
                    format!("sockets may not be given to {kind} {wanted}"),
                    remedy,
                );
            }
        }
        match mode {
            Some(mode) if mode & MODE_EVERYBODY != 0 => refused(
                "mode",
                format!("mode {mode:04o} would let every user of this machine connect to the volume"),
                format!(
                    "choose one without rights for others, as {:04o}; where everybody may, put \"*\" into allow.owners in the \
                     daemon's configuration and restart it",
                    mode & !0o007
                ),
            ),
            _ => Ok(()),
        }
    }

    fn check_path(&self, text: &str, sort: &Sort<'_>) -> Result<(), Problem> {
        let path = Path::new(text);
        if self.anything || !path.is_absolute() {
            // The model says what is wrong with a path that is not absolute.
            return Ok(());
        }
        let Ok(end) = resolved(path) else {
            let message = format!("{text} cannot be followed to its end: a folder on the way is missing");
            let remedy = "correct the path, or make the folder";
            return Err(
                Problem::new(ProblemKind::Invalid, "path_leads_nowhere", message, remedy).about(sort.field),
            );
        };
        let below = |folder: &PathBuf| end.starts_with(resolved(folder).unwrap_or(lexical(folder)));
        if sort.folders.iter().any(below) {
            return Ok(());
        }
        let folders: Vec<_> = sort
            .folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        let leads = match end == path {
            true => format!("{text} does not lie"),
            false => format!("{text} leads to {}, which does not lie", end.display()),
        };
        let message = format!(
            "{leads} below a folder where {} may be ({})",
            sort.what,
            folders.join(", ")
        );
        let remedy = format!(
            "choose a path below one of them, or add the folder to {} in the daemon's configuration and restart it",
            sort.key
        );
        Err(Problem::new(ProblemKind::Forbidden, "path_not_allowed", message, remedy).about(sort.field))
    }
}

impl Settings {
    /// Makes the folder of disk files when it is one that is configured and not there yet.
    pub fn make_folder_of(&self, medium: &api::Medium) {
        if let api::Medium::File(file) = medium
            && let Some(folder) = Path::new(&file.path).parent()
            && self.makes_folder(folder)
        {
            use std::os::unix::fs::DirBuilderExt;
            let made = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder);
            if let Err(error) = made {
                log::warn!("{} cannot be made: {error}", folder.display());
            }
        }
    }

    /// Whether a folder is one of disk files that is configured and not there yet.
    pub fn makes_folder(&self, folder: &Path) -> bool {
        self.allow.files.iter().any(|allowed| allowed == folder) && !folder.exists()
    }
}

/// Where a path ends when every symbolic link and every `..` has been followed. Its last part need not be there yet, but
/// must not be a link that leads nowhere: what would be made at its end lies where nobody has looked.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if std::fs::symlink_metadata(path).is_ok() {
                return Err(error);
            }
            let (Some(folder), Some(Component::Normal(name))) =
                (path.parent(), path.components().next_back())
            else {
                return Err(error);
            };
            Ok(std::fs::canonicalize(folder)?.join(name))
        }
        other => other,
    }
}

/// A folder that is not there, without its `.` and `..`.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn allow(folder: &Path) -> AllowSettings {
        AllowSettings {
            files: vec![folder.join("disks")],
            devices: vec!["/dev".into()],
            sockets: vec![folder.join("run")],
            owners: vec!["root".into(), "77".into()],
            anything: false,
        }
    }

    fn file(path: &Path) -> api::Medium {
        api::Medium::File(api::FileMedium {
            path: path.display().to_string(),
            bytes: None,
            sparse: false,
        })
    }

    fn block(path: &str) -> api::Medium {
        api::Medium::Block(api::BlockMedium { path: path.into() })
    }

    fn code(checked: Result<(), Problem>) -> String {
        checked
            .err()
            .map(|problem| problem.code.into_owned())
            .unwrap_or_default()
    }

    #[test]
    fn a_path_counts_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["disks", "disks/deep", "secret", "disks-of-others"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("secret/shadow"), b"s").unwrap();
        std::fs::write(at("disks/own.img"), b"o").unwrap();
        symlink(at("secret/shadow"), at("disks/to-file")).unwrap();
        symlink(at("secret"), at("disks/to-folder")).unwrap();
        symlink(at("secret/not-there"), at("disks/to-nothing")).unwrap();
        symlink(at("disks/own.img"), at("secret/to-own")).unwrap();
        let allow = allow(folder.path());
        let said = |name: &str| code(allow.check_medium(&file(&at(name))));
        for good in [
            "disks/own.img",
            "disks/new.img",
            "disks/deep/new.img",
            "disks/deep/../own.img",
            "secret/to-own",
            "secret/../disks/new.img",
        ] {
            assert_eq!(said(good), "", "{good}");
        }
        for bad in [
            "secret/shadow",
            "secret/new",
            "disks/to-file",
            "disks/to-folder/shadow",
            "disks/to-folder/new",
            "disks/../secret/new",
            "disks/deep/../../secret/shadow",
            "disks-of-others/new",
            "disks/..",
        ] {
            assert_eq!(said(bad), "path_not_allowed", "{bad}");
        }
        for nowhere in [
            "disks/to-nothing",
            "disks/absent/new",
            "disks/absent/../../secret/shadow",
        ] {
            assert_eq!(said(nowhere), "path_leads_nowhere", "{nowhere}");
        }
        let message = allow
            .check_medium(&file(&at("disks/to-file")))
            .unwrap_err()
            .message;
        assert!(
            message.contains("leads to") && message.contains("secret/shadow"),
            "{message}"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_yet_allows_what_will_be_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut allow = allow(folder.path());
        allow.files = vec![folder.path().join("run/../disks")];
        std::fs::create_dir(folder.path().join("disks")).unwrap();
        assert_eq!(
            code(allow.check_medium(&file(&folder.path().join("disks/x")))),
            ""
        );
    }

    #[test]
    fn devices_lie_in_dev() {
        let allow = allow(Path::new("/nowhere"));
        assert_eq!(code(allow.check_medium(&block("/dev/null"))), "");
        for bad in ["/etc/passwd", "/proc/self/mem", "/dev/../etc/passwd"] {
            assert_ne!(code(allow.check_medium(&block(bad))), "", "{bad}");
        }
    }

    #[test]
    fn sockets_lie_in_their_folders_and_belong_to_whom_they_may() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        let mut allow = allow(folder.path());
        let socket = |name: &str| folder.path().join(name).display().to_string();
        assert_eq!(code(allow.check_socket(&socket("run/web.sock"))), "");
        assert_eq!(code(allow.check_socket(&socket("web.sock"))), "path_not_allowed");
        let id = |number| Some(Account::Id(number));
        let own = |allow: &AllowSettings, owner: Option<Account>, group: Option<Account>, mode| {
            code(allow.check_owners(owner.as_ref(), group.as_ref(), mode))
        };
        assert_eq!(own(&allow, id(0), id(77), Some(0o660)), "");
        assert_eq!(own(&allow, Some(Account::Name("root".into())), None, None), "");
        assert_eq!(own(&allow, id(1000), None, None), "owner_not_allowed");
        assert_eq!(own(&allow, None, id(1000), None), "owner_not_allowed");
        assert_eq!(own(&allow, None, None, Some(0o666)), "owner_not_allowed");
        // What is to be done about a mode is another mode, and not another owner.
        let remedy = |owner: Option<Account>, mode| {
            let refused = allow.check_owners(owner.as_ref(), None, mode).unwrap_err();
            (refused.field.unwrap(), refused.remedy)
        };
        let (field, said) = remedy(None, Some(0o666));
        assert!(
            field == "mode" && said.contains("as 0660") && !said.contains("root"),
            "{said}"
        );
        let (field, said) = remedy(id(1000), Some(0o660));
        assert!(
            field == "owner" && said.contains("choose one of root, 77"),
            "{said}"
        );
        allow.owners = vec!["*".into()];
        assert_eq!(own(&allow, id(1000), id(1000), Some(0o666)), "");
        allow.owners.clear();
        assert!(!allow.takes_any_place());
        allow.anything = true;
        assert!(allow.takes_any_place());
        assert_eq!(own(&allow, id(1000), None, Some(0o666)), "");
        assert_eq!(code(allow.check_socket("/etc/x")), "");
    }
}
