//! In what a backup and a database differ: what a restore brings back, and what it does not know.

use palisade_model::Cluster;
use palisade_words::Name;
use std::collections::BTreeMap;

/// What each side knows alone, and what both know in other words; each named as "disk d1".
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// Only the backup has it.
    pub only_in_backup: Vec<String>,
    /// Only the database has it.
    pub only_in_database: Vec<String>,
    /// Both have it, and it was changed since one of the two was written.
    pub changed: Vec<String>,
}

impl Difference {
    /// Between the cluster of a backup and that of a database.
    pub fn between(backup: &Cluster, database: &Cluster) -> Difference {
        let mut difference = Difference::default();
        difference.compare("disk", &backup.disks, &database.disks);
        difference.compare("volume", &backup.volumes, &database.volumes);
        difference.compare("attachment", &backup.attachments, &database.attachments);
        difference
    }

    fn compare<T: PartialEq>(
        &mut self,
        kind: &str,
        backup: &BTreeMap<Name, T>,
        database: &BTreeMap<Name, T>,
    ) {
        for (name, one) in backup {
            let told = format!("{kind} {name}");
            match database.get(name) {
                None => self.only_in_backup.push(told),
                Some(other) if other != one => self.changed.push(told),
                Some(_) => {}
            }
        }
        let others = database.keys().filter(|&name| !backup.contains_key(name));
        self.only_in_database
            .extend(others.map(|name| format!("{kind} {name}")));
    }
}
