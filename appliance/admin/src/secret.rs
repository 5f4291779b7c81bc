//! Files that hold secrets: read only when nobody else can read or change them, and made so.

use crate::start_error::{AdminStartError, token_weakness};
use palisade_sys::stable_file;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of the longest file that is read as a secret: a chain of certificates takes a few KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Rights of group and others that a token's file must not give.
pub(crate) const OWNER_ONLY: u32 = 0o077;

/// The same for a private key, which Debian's group ssl-cert may read.
pub(crate) const NOT_FOR_OTHERS: u32 = 0o037;

/// Reads a file that may be public.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, AdminStartError> {
    open(path)
        .and_then(|file| content(&file))
        .map_err(|source| failed(path, source))
}

/// Reads a file that holds a secret, if `forbidden` rights are not given and it belongs to root or to the daemon.
pub(crate) fn read_private(
    path: &Path,
    what: &'static str,
    forbidden: u32,
) -> Result<Vec<u8>, AdminStartError> {
    let file = open(path).map_err(|source| failed(path, source))?;
    let about = file.metadata().map_err(|source| failed(path, source))?;
    let exposed = |why: String| AdminStartError::SecretExposed {
        path: path.to_owned(),
        what,
        why,
    };
    if about.mode() & forbidden != 0 {
        return Err(exposed(format!("its mode is {:04o}", about.mode() & 0o7777)));
    }
    let own = std::fs::metadata("/proc/self").map(|about| about.uid());
    if about.uid() != 0 && own.is_ok_and(|own| own != about.uid()) {
        return Err(exposed(format!("it belongs to user {}", about.uid())));
    }
    content(&file).map_err(|source| failed(path, source))
}

/// The token in a file, without white space around it.
pub(crate) fn read_token(path: &Path) -> Result<Box<str>, AdminStartError> {
    let bytes = read_private(path, "token", OWNER_ONLY)?;
    let text = String::from_utf8_lossy(&bytes);
    let token = text.trim();
    match token_weakness(token) {
        None => Ok(token.into()),
        Some(why) => Err(AdminStartError::TokenWeak {
            path: path.to_owned(),
            why,
        }),
    }
}

/// Makes a token of 256 random bits in a file that is not there yet. It appears whole or not at all.
pub(crate) fn make_token(path: &Path) -> Result<(), AdminStartError> {
    let mut random = [0_u8; 32];
    let filled = rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| io::Error::other("the kernel gives no random numbers"));
    filled.map_err(|source| AdminStartError::TokenMake {
        path: path.to_owned(),
        source,
    })?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    write_token(path, &token)
}

/// Writes a token to a file that is not there. It appears whole or not at all.
pub(crate) fn write_token(path: &Path, token: &str) -> Result<(), AdminStartError> {
    let new = path.with_added_extension("new");
    let written = stable_file::replace(path, &new, format!("{token}\n").as_bytes());
    written.map_err(|source| AdminStartError::TokenMake {
        path: path.to_owned(),
        source,
    })
}

/// Opens without waiting: a FIFO in the place of a file must not stop the daemon.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// open(2), on Linux for every architecture this runs on.
const O_NONBLOCK: i32 = 0o4000;

fn content(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn failed(path: &Path, source: io::Error) -> AdminStartError {
    AdminStartError::FileRead {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_that_is_made_is_long_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        make_token(&path).unwrap();
        let about = std::fs::metadata(&path).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        let token = read_token(&path).unwrap();
        assert_eq!(token.len(), 64);
        make_token(&path).unwrap();
        assert_ne!(read_token(&path).unwrap(), token);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_token_that_is_weak_or_not_private_is_named_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        let said = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_token(&path).map_err(|error| error.to_string())
        };
        let good = "0123456789abcdef0123456789abcdef";
        assert_eq!(said(&format!("{good}\n"), 0o600).as_deref(), Ok(good));
        assert_eq!(said(good, 0o400).as_deref(), Ok(good));
        for (text, mode, part) in [
            ("short", 0o600, "has 5 characters"),
            ("", 0o600, "has 0 characters"),
            (&"ä".repeat(40), 0o600, "beyond ASCII"),
            (&"0".repeat(64), 0o600, "can be guessed"),
            (&format!("{good}\n{good}"), 0o600, "line breaks"),
            (&"0123456789abcdef".repeat(400), 0o600, "are enough"),
            (good, 0o640, "its mode is 0640"),
            (good, 0o604, "its mode is 0604"),
            (good, 0o620, "its mode is 0620"),
        ] {
            let error = said(text, mode).unwrap_err();
            assert!(error.contains(part) && error.contains("/t"), "{error}");
        }
        let error = read_token(folder.path()).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}
