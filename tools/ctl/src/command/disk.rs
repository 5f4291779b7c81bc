//! `palisade disk ...`.

use crate::args::{Disk as Command, DiskAdd, Wait};
use crate::client::{Client, segment};
use crate::command::{disk_preview, takeover};
use crate::consent;
use crate::failure::Failure;
use crate::show::{self, Output};
use crate::wait;
use palisade_api::{
    BlockMedium, Disk, DiskCondition, DiskCreate, DiskPatch, DiskPlace, DiskRelocate, DiskRelocated,
    DiskUsage, FileMedium, Medium, MemoryMedium, Node, NullMedium, RelocatedDisk, routes, size,
};
use serde_json::Value;

/// Does what the command says.
pub fn run(client: &Client, out: Output, command: Command) -> Result<(), Failure> {
    match command {
        Command::Add(add) if add.dry_run => disk_preview::run(client, out, &request(&add)),
        Command::Add(add) => {
            if add.force && !add.yes {
                disk_preview::ask(client, &request(&add))?;
            }
            let value = client.create(routes::DISKS, &request(&add))?;
            let value = wait::applied(
                client,
                add.wait,
                &path(&add.id),
                &format!("disk {}", add.id),
                value,
            )?;
            show(client, out, &value)
        }
        Command::List => list(client, out),
        Command::Show { id } => show(client, out, &client.get(&path(&id))?),
        Command::Grow {
            id,
            size,
            guard,
            wait,
        } => {
            let patch = DiskPatch {
                bytes: size,
                ..DiskPatch::default()
            };
            let value = client.change(&path(&id), &patch, guard.expect)?;
            let value = wait::applied(client, wait, &path(&id), &format!("disk {id}"), value)?;
            show(client, out, &value)
        }
        Command::Confirm {
            id,
            path: at,
            yes,
            dry_run,
            guard,
            wait,
        } => {
            if id.iter().all(|one| one.contains('=')) && at.is_none() && guard.expect.is_none() {
                let places = id.iter().filter_map(|one| one.split_once('='));
                let places = places.map(|(id, path)| DiskPlace {
                    id: id.to_owned(),
                    path: path.to_owned(),
                });
                let request = DiskRelocate {
                    places: places.collect(),
                    confirm: yes,
                    dry_run,
                    ..DiskRelocate::default()
                };
                return relocate(client, out, &request, wait);
            }
            let id = match <[String; 1]>::try_from(id) {
                Ok([id]) => id,
                Err(ids) if at.is_some() || yes || guard.expect.is_some() => {
                    return Err(Failure::Words {
                        what: format!(
                            "--path, --yes and --expect are for one disk, and {} are named",
                            ids.join(", ")
                        ),
                        remedy: "name one disk with them; several by themselves are recorded where their media say that they are",
                    });
                }
                Err(disks) => {
                    let request = DiskRelocate {
                        disks,
                        dry_run,
                        ..DiskRelocate::default()
                    };
                    return relocate(client, out, &request, wait);
                }
            };
            if let Some(path) = at.as_ref().filter(|_| dry_run) {
                let place = DiskPlace {
                    id,
                    path: path.clone(),
                };
                let request = DiskRelocate {
                    places: vec![place],
                    confirm: yes,
                    dry_run,
                    ..DiskRelocate::default()
                };
                return relocate(client, out, &request, wait);
            }
            if dry_run || at.is_none() && !yes {
                return unconfirmed(client, out, &id, wait.wait);
            }
            let mut decides = false;
            if at.is_none() && !out.json {
                decides = takeover::look(client, out, &id)?;
            }
            let patch = DiskPatch {
                path: at,
                confirm: yes,
                ..DiskPatch::default()
            };
            let value = client.change(&path(&id), &patch, guard.expect)?;
            let value = wait::applied(client, wait, &path(&id), &format!("disk {id}"), value)?;
            show(client, out, &value)?;
            if decides {
                out.line(format!(
                    "Which medium the disk is has been recorded. Whether what that carries or the database holds is not decided by \
                     that: palisade disk adopt {id}"
                ))?;
            }
            Ok(())
        }
        Command::Adopt(adopt) => takeover::adopt(client, out, &adopt),
        Command::Import(import) => takeover::import(client, out, &import),
        Command::Set {
            id,
            protection,
            guard,
        } => {
            let patch = DiskPatch {
                protected: protection.request(),
                ..DiskPatch::default()
            };
            show(client, out, &client.change(&path(&id), &patch, guard.expect)?)
        }
        Command::Remove {
            id,
            force,
            wait,
            guard,
            consent,
        } => {
            let request = consent::ToRemove {
                what: format!("disk {id}"),
                path: path(&id),
                options: if force { vec!["force=true"] } else { Vec::new() },
                expected: guard.expect,
                consent,
            };
            if !consent::take_away(client, out, request)? {
                return Ok(());
            }
            match wait::gone(client, wait, &path(&id), &format!("disk {id}"))? {
                true => out.deleted(&format!("Disk {id} is given up.")),
                false => out.deleted(&format!(
                    "Disk {id} is being given up: what is left of it here is erased, and then it is free."
                )),
            }
        }
    }
}

/// Records where disks are that have exchanged their paths.
fn relocate(client: &Client, out: Output, request: &DiskRelocate, wait: Wait) -> Result<(), Failure> {
    let value = client.create(routes::RELOCATE, request)?;
    let relocated: DiskRelocated = client.typed(&value)?;
    // Of a disk that others have taken the path of, nothing can be applied before its medium is found.
    let is_named = |disk: &&RelocatedDisk| {
        let places = request.places.iter().map(|place| &place.id);
        request.disks.iter().chain(places).any(|id| *id == disk.id)
    };
    let unproved: Vec<String> = relocated
        .disks
        .iter()
        .filter(|disk| request.dry_run && disk.unproved && !request.confirm)
        .map(|disk| format!("{} is disk {}", disk.path, disk.id))
        .collect();
    let named = relocated.disks.iter().filter(is_named);
    for disk in named.filter(|_| !request.dry_run) {
        let now = client.get(&path(&disk.id))?;
        wait::applied(client, wait, &path(&disk.id), &format!("disk {}", disk.id), now)?;
    }
    // As much as asking for it would be.
    let refused = match unproved.is_empty() {
        true => Ok(()),
        false => Err(Failure::Unwell),
    };
    if out.json {
        out.value(&value)?;
        return refused;
    }
    let rows = relocated.disks.into_iter().map(|disk| {
        [
            disk.id,
            disk.before,
            disk.path,
            show::or_dash(disk.holds.as_ref()),
        ]
    });
    out.table(
        ["disk", "was recorded at", "is at", "what lies there"],
        rows.collect(),
        "There are no disks.",
    )?;
    match request.dry_run {
        true if unproved.is_empty() => out.line("Nothing was changed.")?,
        true => out.line(format!(
            "Nothing was changed. Nothing proves that {}: if you know that, the same with --yes in the place of --dry-run \
             records it",
            unproved.join(", and that ")
        ))?,
        false => {}
    }
    refused
}

/// Shows what would be confirmed.
fn unconfirmed(client: &Client, out: Output, id: &str, waits: bool) -> Result<(), Failure> {
    let value = client.get(&path(id))?;
    show(client, out, &value)?;
    let disk: Disk = client.typed(&value)?;
    if !out.json {
        if disk.state.blocked_on().is_some() {
            takeover::look(client, out, id)?;
        }
        out.line(not_confirmed(&disk))?;
    }
    let is_closed = matches!(disk.condition, DiskCondition::Closed | DiskCondition::Missing);
    let blocked_on = disk.state.blocked_on();
    // Whoever asks for a disk to be confirmed is not told that all is well while it is not.
    match (blocked_on, waits) {
        (None, _) if !is_closed => Ok(()),
        (_, false) => Err(Failure::Unwell),
        (blocked_on, true) => Err(Failure::NotApplied {
            what: format!("disk {id}"),
            blocked_on,
        }),
    }
}

/// What could be confirmed of a disk that stands so: only what would be taken.
fn not_confirmed(disk: &Disk) -> String {
    let id = &disk.id;
    let is_closed = matches!(disk.condition, DiskCondition::Closed | DiskCondition::Missing);
    match (disk.state.blocked_on(), disk.medium.path()) {
        (None, _) if is_closed => format!(
            "Nothing has been changed, and nothing confirmed. What lies at the path of disk {id} is being looked at, and what is \
             in the way is said when that is over: palisade disk show {id}"
        ),
        (Some(why), _) if why.contains(&format!("palisade disk adopt {id}")) => format!(
            "Nothing has been changed, and nothing confirmed. To confirm disk {id} does not decide whether what it carries or the \
             database holds: palisade disk adopt {id} shows both, and decides"
        ),
        (None, _) if disk.condition == DiskCondition::Failing => format!(
            "Nothing has been changed, and nothing confirmed. Disk {id} is in use, on the medium that was recorded, and fails: \
             `palisade health` says why. If it was cut off and is as long as before, this goes on with what is there: palisade \
             disk confirm {id} --yes"
        ),
        (None, _) => {
            format!("Disk {id} is in use, on the medium that was recorded: there is nothing to confirm.")
        }
        (Some(why), Some(_)) if is_closed => {
            // What lies there may be the medium of another disk, or nothing.
            let is_asked = why.contains(&format!("palisade disk confirm {id} --yes"));
            let here = match is_asked {
                true => format!(
                    ". If what lies there is the right medium all the same: palisade disk confirm {id} --yes"
                ),
                false => String::new(),
            };
            format!(
                "Nothing has been changed, and nothing confirmed. If the medium lies elsewhere: palisade disk confirm {id} --path \
                 PATH{here}"
            )
        }
        (Some(why), _) if why.contains("palisade disk confirm") => format!(
            "Nothing has been changed, and nothing confirmed. To go on with what is there: palisade disk confirm {id} --yes"
        ),
        (Some(_), _) => format!(
            "Nothing has been changed, and nothing confirmed: what disk {id} waits for is not the question which medium it \
             is. What is in the way is said above"
        ),
    }
}

fn path(id: &str) -> String {
    format!("{}/{}", routes::DISKS, segment(id))
}

fn request(add: &DiskAdd) -> DiskCreate {
    let medium = match (&add.file, &add.block, add.memory) {
        (Some(path), _, _) => Medium::File(FileMedium {
            path: path.clone(),
            bytes: add.size,
            sparse: add.sparse,
        }),
        (_, Some(path), _) => Medium::Block(BlockMedium { path: path.clone() }),
        (_, _, Some(bytes)) => Medium::Memory(MemoryMedium { bytes }),
        // The parser has seen to it that one of the four is there.
        _ => Medium::Null(NullMedium {
            bytes: add.null.unwrap_or(0),
        }),
    };
    DiskCreate {
        id: add.id.clone(),
        node: add.node.clone(),
        medium,
        usage: if add.whole {
            DiskUsage::Whole
        } else {
            DiskUsage::Pooled
        },
        block_bytes: add.block_bytes,
        force: add.force,
        volatile: add.volatile,
    }
}

fn list(client: &Client, out: Output) -> Result<(), Failure> {
    let values = client.list(routes::DISKS)?;
    if out.json {
        return Ok(out.value(&Value::Array(values))?);
    }
    let disks: Vec<Disk> = values
        .iter()
        .map(|value| client.typed(value))
        .collect::<Result<_, _>>()?;
    let rows = disks.into_iter().map(|disk| {
        [
            disk.id,
            medium(&disk.medium),
            show::word(&disk.usage),
            size::human(disk.bytes),
            size::human(disk.free_bytes),
            disk.volumes.len().to_string(),
            show::condition(disk.condition),
            show::state(&disk.state),
        ]
    });
    let empty = match values.is_empty() {
        true => how_to_add(
            &client
                .typed::<Node>(&client.get(&routes::at_node(routes::NODE, routes::SELF))?)?
                .disk_folders,
        ),
        false => String::new(),
    };
    out.table(
        [
            "disk",
            "medium",
            "usage",
            "size",
            "free",
            "volumes",
            "condition",
            "state",
        ],
        rows.collect(),
        &empty,
    )?;
    Ok(())
}

/// What to do when there are no disks: with a folder where a file may be.
fn how_to_add(folders: &[String]) -> String {
    let medium = match folders.first() {
        Some(folder) => format!("--file {}/d1.img --size 10GiB", folder.trim_end_matches('/')),
        None => "--block /dev/disk/by-id/ID".to_owned(),
    };
    format!(
        "There are no disks yet. Add one: palisade disk add d1 {medium}\nPooled disks that this node does not know (any more) \
         come back with their volumes: palisade disk import --help"
    )
}

fn show(client: &Client, out: Output, value: &Value) -> Result<(), Failure> {
    if out.json {
        return Ok(out.value(value)?);
    }
    let disk: Disk = client.typed(value)?;
    let faults: Vec<String> = disk
        .faults
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let in_flight = match disk.in_flight {
        0 => "0".to_owned(),
        count => format!("{count}, the oldest for {} ms", disk.oldest_ms),
    };
    out.facts(vec![
        ("Disk", disk.id),
        ("UUID", disk.uuid),
        ("Node", disk.node),
        ("Medium", medium(&disk.medium)),
        ("Usage", show::word(&disk.usage)),
        ("Size", show::bytes(disk.bytes)),
        ("Free", show::bytes(disk.free_bytes)),
        ("Logical block", format!("{} bytes", disk.block_bytes)),
        (
            "Known by",
            disk.identity.unwrap_or_else(|| "nothing of its own".into()),
        ),
        ("Taken", taken(disk.sparse, disk.allocated_bytes)),
        ("Condition", show::condition(disk.condition)),
        ("Volumes", show::list(&disk.volumes)),
        ("Protected", show::yes_or_no(disk.protected)),
        ("Leaving", show::yes_or_no(disk.leaving)),
        ("In flight", in_flight),
        ("Faults", show::list(&faults)),
        ("Generation", disk.state.generation.to_string()),
        ("State", show::state(&disk.state)),
    ])?;
    disk.notes
        .into_iter()
        .try_for_each(|note| out.line(format!("Note: {note}")))?;
    Ok(())
}

/// What a file has taken of its file system.
fn taken(sparse: bool, allocated: Option<u64>) -> String {
    match (allocated, sparse) {
        (Some(bytes), true) => format!("{}, with holes", size::human(bytes)),
        (Some(bytes), false) => size::human(bytes),
        (None, true) => "as it is written to".into(),
        (None, false) => "all".into(),
    }
}

/// "file /srv/d1.img".
pub fn medium(medium: &Medium) -> String {
    match medium.path() {
        Some(path) => format!("{} {path}", medium.name()),
        None => medium.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(condition: DiskCondition, blocked_on: Option<&str>, medium: Medium) -> Disk {
        let text = serde_json::json!({
            "id": "d1", "uuid": "u", "usage": "pooled", "bytes": 0, "free_bytes": 0, "block_bytes": 512,
            "condition": condition, "volumes": [], "faults": {}, "in_flight": 0, "oldest_ms": 0,
            "state": { "generation": 1, "applied": { "n": { "generation": blocked_on.is_none().then_some(1), "blocked_on": blocked_on } } },
        });
        let (mut disk, medium) = (text, serde_json::to_value(medium).unwrap());
        let (fields, more) = (disk.as_object_mut().unwrap(), medium.as_object().unwrap());
        fields.extend(more.clone());
        serde_json::from_value(disk).unwrap()
    }

    #[test]
    fn a_medium_is_to_be_confirmed_where_that_would_be_taken() {
        let file = || {
            Medium::File(FileMedium {
                path: "/d1".into(),
                bytes: None,
                sparse: false,
            })
        };
        let null = || Medium::Null(NullMedium { bytes: 1 << 20 });
        let asked = Some("another medium. If it is the right one: palisade disk confirm d1 --yes");
        // The medium of another disk is nobody's to confirm.
        let anothers = Some("the medium of disk d2: palisade disk confirm d2=/d1");
        for (condition, blocked_on, medium, moves, confirms) in [
            (DiskCondition::Missing, asked, file(), true, true),
            (DiskCondition::Closed, asked, file(), true, true),
            (DiskCondition::Closed, anothers, file(), true, false),
            (DiskCondition::Missing, Some("No such file"), file(), true, false),
            // It is open, and its superblock is in the way.
            (
                DiskCondition::Online,
                Some("a newer superblock"),
                file(),
                false,
                false,
            ),
            (DiskCondition::Missing, Some("no memory"), null(), false, false),
            (DiskCondition::Online, None, file(), false, false),
            // It is being looked at, and is not in use.
            (DiskCondition::Missing, None, file(), false, false),
        ] {
            let said = not_confirmed(&disk(condition, blocked_on, medium));
            assert_eq!(
                said.contains("palisade disk confirm d1 --yes"),
                confirms,
                "{said}"
            );
            assert_eq!(said.contains("palisade disk confirm d1 --path"), moves, "{said}");
        }
        let said = not_confirmed(&disk(DiskCondition::Missing, None, file()));
        assert!(
            !said.contains("in use") && said.contains("being looked at"),
            "{said}"
        );
        let undecided = Some("an older copy; see with `palisade disk adopt d1` what each side knows");
        let said = not_confirmed(&disk(DiskCondition::Closed, undecided, file()));
        assert!(
            said.contains("palisade disk adopt d1") && !said.contains("confirm d1 --"),
            "{said}"
        );
        let said = not_confirmed(&disk(DiskCondition::Failing, None, file()));
        assert!(
            said.contains("cut off") && said.contains("palisade disk confirm d1 --yes"),
            "{said}"
        );
    }
    #[test]
    fn the_advice_is_what_is_allowed() {
        let said = |folders: &[&str]| {
            let folders: Vec<String> = folders.iter().map(|&folder| folder.to_owned()).collect();
            how_to_add(&folders)
        };
        assert!(said(&["/srv/a", "/srv/b"]).contains("disk add d1 --file /srv/a/d1.img --size"));
        assert!(said(&["/"]).contains("--file /d1.img"));
        assert!(said(&[]).contains("disk add d1 --block /dev/disk/by-id/") && !said(&[]).contains("--file"));
    }
}
