//! Users and groups of this machine.

use palisade_model::Account;

/// Bytes of the longest name of a user (useradd(8) takes 32 characters; directories have longer ones).
const NAME_BYTES_MAX: usize = 256;

/// The number of a user of this machine.
pub fn user_id(account: &Account) -> Result<u32, String> {
    id_in("/etc/passwd", "user", account)
}

/// The name of a user of this machine, if it has one that is no longer than such names are.
pub fn user_name(id: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let named = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    named.filter(|name| name.len() <= NAME_BYTES_MAX)
}

/// The number of a group of this machine.
pub fn group_id(account: &Account) -> Result<u32, String> {
    id_in("/etc/group", "group", account)
}

/// Looks a name up in a file of the passwd family. Names from a directory service are given as numbers.
fn id_in(file: &str, kind: &str, account: &Account) -> Result<u32, String> {
    let name = match account {
        Account::Id(id) => return Ok(*id),
        Account::Name(name) => name,
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file} cannot be read: {error}"))?;
    let entry = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1))
            .flatten()?
            .parse()
            .ok()
    });
    entry.ok_or_else(|| format!("there is no {kind} {name} in {file}: create it, or give its number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_or_taken_as_numbers() {
        assert_eq!(user_id(&Account::Name("root".into())), Ok(0));
        assert_eq!(group_id(&Account::Id(77)), Ok(77));
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(u32::MAX - 7), None);
        let missing = user_id(&Account::Name("no-such-user-here".into())).unwrap_err();
        assert!(missing.contains("no user no-such-user-here"), "{missing}");
    }
}
