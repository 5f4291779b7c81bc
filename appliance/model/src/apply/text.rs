//! Rules for texts that reach a file system or a guest.

use crate::attachment::Account;
use crate::limits::{
    ACCOUNT_BYTES_MAX, PATH_BYTES_MAX, SERIAL_BYTES_MAX, SOCKET_PATH_BYTES_MAX, WWID_BYTES_MAX,
};

/// Whether a path means the same place to everyone who reads it: two paths that are different texts are then
/// different entries (links aside).
pub(crate) fn path_is_good(path: &str) -> bool {
    let Some(below_root) = path.strip_prefix('/') else {
        return false;
    };
    path.len() <= PATH_BYTES_MAX
        && !path.chars().any(char::is_control)
        && below_root.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

pub(super) fn socket_is_good(path: &str) -> bool {
    path_is_good(path) && path.len() <= SOCKET_PATH_BYTES_MAX
}

pub(super) fn serial_is_good(serial: &str) -> bool {
    serial.len() <= SERIAL_BYTES_MAX && serial.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

pub(super) fn wwid_is_good(wwid: &str) -> bool {
    (1..=WWID_BYTES_MAX).contains(&wwid.len()) && wwid.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// chown(2) takes the highest id for "leave it".
pub(super) fn account_is_good(account: &Account) -> bool {
    match account {
        Account::Id(id) => *id != u32::MAX,
        Account::Name(name) => {
            (1..=ACCOUNT_BYTES_MAX).contains(&name.len())
                && !name
                    .chars()
                    .any(|c| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_plain() {
        for good in ["/a", "/dev/sda", "/run/palisade/web 1.sock", "/a/..b"] {
            assert!(path_is_good(good), "{good}");
        }
        for bad in [
            "", "/", "a", "./a", "/a/", "/a//b", "/a/../b", "/./a", "/a\0b", "/a\nb",
        ] {
            assert!(!path_is_good(bad), "{bad}");
        }
        assert!(socket_is_good(&format!("/{}", "x".repeat(106))));
        assert!(!socket_is_good(&format!("/{}", "x".repeat(107))));
    }

    #[test]
    fn texts_are_as_long_as_they_may_be_and_no_longer() {
        let long = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
        assert!(path_is_good(&long(PATH_BYTES_MAX)) && !path_is_good(&long(PATH_BYTES_MAX + 1)));
        assert!(
            socket_is_good(&long(SOCKET_PATH_BYTES_MAX)) && !socket_is_good(&long(SOCKET_PATH_BYTES_MAX + 1))
        );
        assert!(!socket_is_good("run/x") && !socket_is_good("/run//x"));
        let wwid = |bytes| wwid_is_good(&"x".repeat(bytes));
        assert!(!wwid(0) && wwid(1) && wwid(WWID_BYTES_MAX) && !wwid(WWID_BYTES_MAX + 1));
        let account = |bytes| account_is_good(&Account::Name("x".repeat(bytes)));
        assert!(!account(0) && account(1) && account(ACCOUNT_BYTES_MAX) && !account(ACCOUNT_BYTES_MAX + 1));
        for (text, good) in [
            (" ", true),
            ("~", true),
            ("\u{1f}", false),
            ("\u{7f}", false),
            ("a\u{e9}", false),
        ] {
            assert_eq!(
                (wwid_is_good(text), serial_is_good(text)),
                (good, good),
                "{text:?}"
            );
        }
        for bad in ["a b", "a\tb", "a:b", "a/b", "a\u{1}", "\u{a0}"] {
            assert!(!account_is_good(&Account::Name(bad.into())), "{bad:?}");
        }
    }

    #[test]
    fn serials_and_accounts() {
        assert!(serial_is_good("") && serial_is_good("12345678901234567890"));
        assert!(!serial_is_good("123456789012345678901") && !serial_is_good("é") && !serial_is_good("a\n"));
        assert!(account_is_good(&Account::Id(0)) && account_is_good(&Account::Name("libvirt-qemu".into())));
        assert!(!account_is_good(&Account::Id(u32::MAX)) && !account_is_good(&Account::Name("a:b".into())));
    }
}
