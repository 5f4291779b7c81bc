//! Which keys there are, taken from the definition itself.

use super::{AdminSection, AllowSection, Config, ConfigError, ReactorsConfig};
use std::path::PathBuf;

/// Settings without a default of their own, each with its section and what it may look like: they go by the machine, or by
/// another setting.
const UNSET: [(&str, &str, &str); 9] = [
    ("reactors", "cores", "[1]"),
    ("admin", "socket", "\"/run/palisade/api.socket\""),
    ("admin", "group", "\"palisade\""),
    ("admin", "read_group", "\"palisade-read\""),
    ("admin", "token_file", "\"/var/lib/palisade/admin.token\""),
    ("admin", "read_token_file", "\"/etc/palisade/read.token\""),
    ("admin", "certificate", "\"/etc/palisade/cert.pem\""),
    ("admin", "key", "\"/etc/palisade/key.pem\""),
    ("allow", "sockets", "[\"/run/palisade\"]"),
];

/// A configuration as text, with comments for the settings that it leaves out and that have no default.
pub(super) fn with_unset(text: &str) -> String {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let is_set = |section: &str, key: &str| {
        let section = table.get(section).and_then(toml::Value::as_table);
        section.is_some_and(|section| section.contains_key(key))
    };
    let mut text = text.to_owned();
    for (section, key, example) in UNSET.into_iter().rev().filter(|(of, key, _)| !is_set(of, key)) {
        let header = format!("[{section}]\n");
        if !text.contains(&header) {
            text.push_str(&format!("\n{header}"));
        }
        text = text.replacen(&header, &format!("{header}# {key} = {example}\n"), 1);
    }
    text
}

/// Every key there is, with its section, taken from the definition itself.
pub(super) fn known_keys() -> Vec<String> {
    let path = || Some(PathBuf::from("x"));
    let full = Config {
        reactors: ReactorsConfig {
            cores: Some(vec![0]),
            ..Config::defaults().reactors
        },
        admin: AdminSection {
            socket: path(),
            group: Some("x".into()),
            read_group: Some("x".into()),
            token_file: path(),
            read_token_file: path(),
            certificate: path(),
            key: path(),
            ..Config::defaults().admin
        },
        allow: AllowSection {
            sockets: Some(vec![]),
            ..Config::defaults().allow
        },
        ..Config::defaults()
    };
    let mut keys = Vec::new();
    if let Ok(table) = toml::Table::try_from(full) {
        collect_keys(&table, "", &mut keys);
    }
    keys
}

fn collect_keys(table: &toml::Table, section: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        let name = format!("{section}{key}");
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => {
                collect_keys(inner, &format!("{name}."), keys);
            }
            _ => keys.push(name),
        }
    }
}

/// Refuses a key that does not exist, by its name and the nearest one that does.
pub(super) fn refuse_unknown(table: &toml::Table) -> Result<(), ConfigError> {
    let mut known = known_keys();
    let sections: Vec<_> = known
        .iter()
        .filter_map(|key| Some(key.split_once('.')?.0.to_owned()))
        .collect();
    known.extend(sections);
    let mut given = Vec::new();
    collect_keys(table, "", &mut given);
    let Some(key) = given.into_iter().find(|key| !known.contains(key)) else {
        return Ok(());
    };
    let distance = |name: &&String| strsim::damerau_levenshtein(name, &key);
    let nearest = known
        .iter()
        .min_by_key(distance)
        .filter(|name| distance(name) <= key.len() / 2 + 1)
        .cloned();
    Err(ConfigError::UnknownKey { key, nearest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    #[test]
    fn each_flag_has_its_key() {
        let known = known_keys();
        let flags = Config::augment_args(clap::Command::new("x"));
        let longs: Vec<String> = flags
            .get_arguments()
            .filter_map(|arg| arg.get_long())
            .map(str::to_owned)
            .collect();
        for flag in &longs {
            let key = flag.replace('-', "_");
            let in_section = key.replacen('_', ".", 1);
            assert!(
                known.contains(&key) || known.contains(&in_section),
                "{flag} has no key among {known:?}"
            );
        }
        assert_eq!(longs.len(), known.len());
    }
}
