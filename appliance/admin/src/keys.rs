//! The tokens and the certificate in force, and how they change while the server runs.

use crate::appliance::CertificateState;
use crate::config::{AdminStartError, TcpAccess, TcpDoor};
use crate::secret;
use crate::tls::{self, Certified};
use std::io::ErrorKind::NotFound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;
use subtle::ConstantTimeEq;
use tokio_rustls::TlsAcceptor;

/// How much who asks may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything.
    Read,
    /// Change everything.
    Admin,
}

impl Role {
    /// The token that opens so much, by its name in the daemon's configuration.
    pub(crate) fn token(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Admin => "admin",
        }
    }
}

/// The keys of a TCP port. Connections and requests take what is in force when they begin.
#[derive(Debug)]
pub(crate) struct Keys {
    door: TcpDoor,
    /// The folder of the token that we have made or would make.
    folder: Mutex<Option<Folder>>,
    now: RwLock<Arc<Loaded>>,
    /// What the files looked like when they were last read, taken or not: a file that is refused is refused once.
    seen: Mutex<Vec<Stamp>>,
    /// Why what is in the files now was not taken, and what to do.
    wrong: Mutex<Option<String>>,
}

struct Loaded {
    /// None: nothing is asked for.
    tokens: Option<Tokens>,
    tls: Option<Certified>,
}

struct Tokens {
    admin: Box<str>,
    read: Option<Box<str>>,
}

impl std::fmt::Debug for Loaded {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").finish_non_exhaustive()
    }
}

/// By what a folder that was made anew is known: device, inode, which it may have from the one before, and when it was made,
/// where the file system keeps that.
type Folder = (u64, u64, Option<SystemTime>);

/// By what a replaced file is known: inode, size, and when it was changed (seconds and nanoseconds).
type Stamp = Option<(u64, u64, i64, i64)>;

impl Keys {
    /// Reads all files of a port, and makes the token that is to be made.
    pub(crate) fn load(door: &TcpDoor) -> Result<Keys, AdminStartError> {
        if let TcpAccess::Tokens {
            admin, make: true, ..
        } = &door.access
            && !admin.exists()
        {
            secret::make_token(admin)?;
        }
        Ok(Keys {
            seen: Mutex::new(stamps(door)),
            folder: Mutex::new(own_token(door).and_then(folder_of)),
            wrong: Mutex::default(),
            now: RwLock::new(Arc::new(read_all(door)?)),
            door: door.clone(),
        })
    }

    /// Writes the token in force anew where its folder was deleted and made anew, without it. One that was deleted alone is
    /// gone because somebody wants another: that is made at the next start.
    ///
    /// # Errors
    /// It cannot be written; it is tried again at the next look.
    pub(crate) fn put_back(&self) -> Result<bool, AdminStartError> {
        let Some(path) = own_token(&self.door) else {
            return Ok(false);
        };
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(now) = folder_of(path) else {
            *folder = None;
            return Ok(false);
        };
        let is_missing = path
            .symlink_metadata()
            .is_err_and(|error| error.kind() == NotFound);
        let loaded = self.loaded();
        let lost = loaded
            .tokens
            .as_ref()
            .filter(|_| *folder != Some(now) && is_missing);
        if let Some(tokens) = lost {
            secret::write_token(path, &tokens.admin)?;
        }
        *folder = Some(now);
        Ok(lost.is_some())
    }

    /// Reads all files again. What cannot be taken changes nothing; nor does a certificate that is not valid now, as long as
    /// the one in force is.
    pub(crate) fn reload(&self) -> Result<(), AdminStartError> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.door);
        let read = read_all(&self.door).and_then(|read| {
            let now = SystemTime::now();
            match (read.not_valid(now), self.loaded().not_valid(now)) {
                (Some(refused), None) => Err(refused),
                _ => Ok(read),
            }
        });
        let wrong = read.as_ref().err();
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) =
            wrong.map(|error| format!("{error}; {}", error.remedy()));
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read?);
        Ok(())
    }

    /// Why what is in the files now is not in force, if so.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a file has changed since it was last read.
    pub(crate) fn are_stale(&self) -> bool {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) != stamps(&self.door)
    }

    /// The certificate in force.
    pub(crate) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.loaded()
            .tls
            .as_ref()
            .map(|certified| certified.acceptor.clone())
    }

    /// What there is to say of the certificate in force.
    pub(crate) fn certificate(&self, now: SystemTime) -> Option<(CertificateState, String)> {
        self.loaded().said(now)
    }

    /// Whether a token must be shown.
    pub(crate) fn ask_for_token(&self) -> bool {
        self.loaded().tokens.is_some()
    }

    /// Whether only this machine reaches the port.
    pub(crate) fn is_loopback(&self) -> bool {
        self.door.is_loopback()
    }

    /// What a token opens. Both comparisons are made, and each takes the same time wherever it fails.
    pub(crate) fn role_of(&self, shown: &str) -> Option<Role> {
        let loaded = self.loaded();
        let tokens = loaded.tokens.as_ref()?;
        let is = |token: &str| bool::from(shown.as_bytes().ct_eq(token.as_bytes()));
        let read = tokens.read.as_deref().is_some_and(is);
        match is(&tokens.admin) {
            true => Some(Role::Admin),
            false => read.then_some(Role::Read),
        }
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Loaded {
    /// What there is to say of the certificate.
    fn said(&self, now: SystemTime) -> Option<(CertificateState, String)> {
        let Certified { validity, path, .. } = self.tls.as_ref()?;
        let (state, words) = validity.words(validity.at(now))?;
        Some((state, format!("the certificate {} {words}", path.display())))
    }

    /// Why no client would take the certificate now.
    fn not_valid(&self, now: SystemTime) -> Option<AdminStartError> {
        let Certified { validity, path, .. } = self.tls.as_ref()?;
        let stand = validity.at(now);
        let why = validity.words(stand).filter(|_| !stand.is_valid());
        why.map(|(_, why)| AdminStartError::CertificateNotValid {
            path: path.clone(),
            why,
        })
    }
}

/// The file of a token that we make ourselves.
fn own_token(door: &TcpDoor) -> Option<&Path> {
    match &door.access {
        TcpAccess::Tokens {
            admin, make: true, ..
        } => Some(admin),
        _ => None,
    }
}

/// The folder of a file.
fn folder_of(path: &Path) -> Option<Folder> {
    let about = std::fs::metadata(path.parent()?).ok()?;
    Some((about.dev(), about.ino(), about.created().ok()))
}

/// Reads all files of a port and makes none. What there is to say of its certificate all the same.
pub(crate) fn try_out(door: &TcpDoor) -> Result<Option<String>, AdminStartError> {
    let loaded = match &door.access {
        TcpAccess::Tokens {
            admin, make: true, ..
        } if !admin.exists() => Loaded {
            tokens: None,
            tls: door.tls.as_ref().map(tls::certified).transpose()?,
        },
        _ => read_all(door)?,
    };
    Ok(loaded.said(SystemTime::now()).map(|(_, said)| said))
}

fn read_all(door: &TcpDoor) -> Result<Loaded, AdminStartError> {
    let tokens = match &door.access {
        TcpAccess::Nothing => None,
        TcpAccess::Tokens { admin, read, .. } => {
            let tokens = Tokens {
                admin: secret::read_token(admin)?,
                read: read.as_deref().map(secret::read_token).transpose()?,
            };
            if let Some(path) = read
                && tokens.read.as_ref() == Some(&tokens.admin)
            {
                return Err(AdminStartError::TokensEqual { path: path.clone() });
            }
            Some(tokens)
        }
    };
    let tls = door.tls.as_ref().map(tls::certified).transpose()?;
    Ok(Loaded { tokens, tls })
}

fn stamps(door: &TcpDoor) -> Vec<Stamp> {
    let mut files: Vec<&PathBuf> = Vec::new();
    if let TcpAccess::Tokens { admin, read, .. } = &door.access {
        files.push(admin);
        files.extend(read);
    }
    files.extend(door.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]));
    files.into_iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.ino(), about.size(), about.ctime(), about.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_put_back_with_its_folder_and_not_alone() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("state");
        let path = folder.join("admin.token");
        fs::create_dir(&folder).unwrap();
        let keys = Keys::load(&TcpDoor {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            access: TcpAccess::Tokens {
                admin: path.clone(),
                make: true,
                read: None,
            },
        })
        .unwrap();
        let token = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(
            !keys.put_back().unwrap() && !path.exists(),
            "somebody wants another"
        );
        fs::remove_dir_all(&folder).unwrap();
        assert!(!keys.put_back().unwrap());
        // It may have the inode of the one before.
        fs::create_dir(&folder).unwrap();
        assert!(keys.put_back().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), token);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!keys.put_back().unwrap());
    }
}
