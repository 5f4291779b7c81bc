//! Tells when a start makes a new token of REST although there was a database before: after a restore, or where the state
//! directory was deleted. Clients that show the token of before are refused, and would not know why.

use crate::shared::Shared;
use palisade_admin::{TcpAccess, TcpDoor};
use palisade_api::Severity;

/// Says so, if it is about to be made. Before the server starts.
pub fn tell(shared: &Shared, is_new: bool) {
    if let Some(message) = about_to_be_made(shared.settings.admin.tcp.as_ref(), is_new) {
        log::warn!("rest: {message}");
        shared
            .events
            .push(Severity::Warning, "token_made", "node", message);
    }
}

fn about_to_be_made(door: Option<&TcpDoor>, is_new: bool) -> Option<String> {
    let TcpAccess::Tokens {
        admin, make: true, ..
    } = &door?.access
    else {
        return None;
    };
    // At the first start of all there was none before.
    (!is_new && !admin.exists()).then(|| {
        format!(
            "a new token is made in {}, since there was none: clients that ask over TCP with the token of before are refused and \
             need this one",
            admin.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_told_where_there_was_a_database() {
        let folder = tempfile::tempdir().unwrap();
        let admin = folder.path().join("admin.token");
        let door = |make| TcpDoor {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            access: TcpAccess::Tokens {
                admin: admin.clone(),
                make,
                read: None,
            },
        };
        let told = |make, is_new| about_to_be_made(Some(&door(make)), is_new).is_some();
        assert!(told(true, false));
        assert!(!told(true, true), "the first start");
        assert!(!told(false, false), "one that is named is not made");
        assert_eq!(about_to_be_made(None, false), None);
        std::fs::write(&admin, "x").unwrap();
        assert!(!told(true, false), "it is there");
    }
}
