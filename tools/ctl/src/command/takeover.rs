//! `palisade disk adopt` and `palisade disk import`: shown first, done with consent.

use crate::args::{DiskAdopt, DiskImport};
use crate::client::{Client, segment};
use crate::consent;
use crate::failure::Failure;
use crate::show::{self, Output};
use crate::wait;
use palisade_api::{
    BlockMedium, DiskAdoption, DiskImported, FileMedium, ImportMedium, ImportedVolume, Side, VolumePart,
    routes, size,
};
use std::collections::BTreeSet;

/// Shows what a disk and the database know of each other, and takes a side.
pub fn adopt(client: &Client, out: Output, wish: &DiskAdopt) -> Result<(), Failure> {
    let path = format!("{}/{}", routes::DISKS, segment(&wish.id));
    let address = format!("{path}/adopt");
    let look = palisade_api::DiskAdopt {
        force: wish.force,
        ..palisade_api::DiskAdopt::default()
    };
    let value = client.create(&address, &look)?;
    let adoption: DiskAdoption = client.typed(&value)?;
    let side = match wish.take.map(Side::from) {
        Some(side) if !wish.dry_run => side,
        _ if out.json => return Ok(out.value(&value)?),
        Some(side) => {
            known(out, &adoption)?;
            let side_taken = match side {
                Side::Database => format!(
                    "To take the side of the database writes what it says to disk {}.",
                    wish.id
                ),
                Side::Disk => format!(
                    "To take the side of the disk takes what disk {} says into the database.",
                    wish.id
                ),
            };
            return Ok(out.line(format!(
                "{side_taken} {}{} Nothing was changed.",
                brings(&adoption, side),
                refusal(&adoption, side)
            ))?);
        }
        None => {
            known(out, &adoption)?;
            return Ok(out.line(choices(&adoption))?);
        }
    };
    if !out.json {
        known(out, &adoption)?;
    }
    let question = match side {
        Side::Database => format!(
            "Write what the database says to disk {}? {}",
            wish.id,
            brings(&adoption, side)
        ),
        Side::Disk => format!(
            "Take what disk {} says into the database? {}",
            wish.id,
            brings(&adoption, side)
        ),
    };
    consent::ask(&format!("disk {}", wish.id), &question, wish.yes)?;
    let decision = palisade_api::DiskAdopt {
        take: Some(side),
        seen: Some(adoption.seen),
        force: wish.force,
    };
    let value = client.create(&address, &decision)?;
    if wish.wait.wait {
        let disk = client.get(&path)?;
        wait::applied(client, wish.wait, &path, &format!("disk {}", wish.id), disk)?;
    }
    match out.json {
        true => Ok(out.value(&value)?),
        false => Ok(out.line("Done.")?),
    }
}

/// Shows what the superblock says that lies under the path of a disk, beside the database, where one can be read.
pub fn look(client: &Client, out: Output, id: &str) -> Result<(), Failure> {
    let address = format!("{}/{}/adopt", routes::DISKS, segment(id));
    // A disk that keeps no superblock, and a path that leads nowhere, have nothing to show here.
    let Ok(value) = client.create(&address, &palisade_api::DiskAdopt::default()) else {
        return Ok(());
    };
    known(out, &client.typed(&value)?)
}

/// What becomes of volumes when a side is taken.
fn brings(adoption: &DiskAdoption, side: Side) -> String {
    let told = match side {
        Side::Database => {
            if let Some(holds) = &adoption.holds {
                return held(adoption, holds);
            }
            let lost = lost("the disk", &[&adoption.only_on_disk, &adoption.elsewhere]);
            format!("{lost}{}", emptied(adoption))
        }
        Side::Disk => lost("the database", &[&adoption.only_in_database, &adoption.elsewhere]),
    };
    // What is emptied holds nothing of the copy.
    let is_emptied = |part: &VolumePart| {
        let mut emptied = adoption
            .overwritten
            .iter()
            .filter(|overwritten| overwritten.kept_bytes == 0);
        side == Side::Database && emptied.any(|overwritten| overwritten.volume.uuid == part.uuid)
    };
    let kept: Vec<&str> = adoption
        .as_of_copy
        .iter()
        .filter(|part| !is_emptied(part))
        .map(|part| part.id.as_str())
        .collect();
    match kept.as_slice() {
        [] => told,
        names => format!(
            "{told} What guests have written since the copy was made is lost of these volumes, either way, and their content \
             is as of the copy: {}.",
            names.join(", ")
        ),
    }
}

/// What becomes of volumes when a superblock is written to a medium on which nothing says that it is the disk.
fn held(adoption: &DiskAdoption, holds: &str) -> String {
    let volumes: Vec<String> = adoption.only_in_database.iter().map(in_words).collect();
    match volumes.as_slice() {
        [] => format!("The medium holds {holds}. No volume lies on the disk."),
        volumes => format!(
            "The medium holds {holds}, and that is what the guests of all volumes of the disk get; what these held is lost: {}.",
            volumes.join(", ")
        ),
    }
}

/// A volume with its size, or with both of them.
fn in_words(part: &VolumePart) -> String {
    let here = size::human(part.bytes);
    match part.database_bytes {
        Some(bytes) => format!(
            "{} ({here} on the disk, {} in the database)",
            part.id,
            size::human(bytes)
        ),
        None => format!("{} ({here})", part.id),
    }
}

/// What keeps a side from being taken as things are.
fn refusal(adoption: &DiskAdoption, side: Side) -> String {
    adoption
        .refused
        .iter()
        .find(|refused| refused.side == side)
        .map_or_else(String::new, |refused| {
            format!(
                " As things are that is refused: {}; {}.",
                refused.message, refused.remedy
            )
        })
}

/// What can be decided about a disk that stands so: only what would be taken.
fn choices(adoption: &DiskAdoption) -> String {
    let id = &adoption.disk;
    let command = |side: &Side| format!("palisade disk adopt {id} --take {}", show::word(side));
    let commands: Vec<String> = adoption.choices.iter().map(command).collect();
    let what = match (commands.as_slice(), adoption.standing.as_str()) {
        ([], "foreign") => {
            "Nothing can be decided here: it is another disk. Bring the right medium back.".to_owned()
        }
        ([], "end_lost") => format!(
            "Neither side is to be chosen: they agree, and what is lost is on neither. To go on with what is there: palisade \
             disk confirm {id} --yes."
        ),
        ([], _) if adoption.refused.is_empty() => "There is nothing to decide.".to_owned(),
        ([], _) => "Neither side can be taken as it is.".to_owned(),
        (commands, _) => format!("To decide: {}.", commands.join(", or ")),
    };
    let mut said = vec![what];
    for refused in &adoption.refused {
        let side = show::word(&refused.side);
        said.push(format!("Not the side of the {side}: {}.", refused.message));
        // What the disk says is lost with the other side: how it could be taken has to be known before.
        if refused.side == Side::Disk && adoption.disk_generation.is_some() && !commands.is_empty() {
            said.push(format!("To take it all the same: {}.", refused.remedy));
        }
    }
    // With a side left to take, that is what to do.
    let remedies = adoption.refused.iter().map(|refused| &refused.remedy);
    let remedies: BTreeSet<&String> = remedies.filter(|_| commands.is_empty()).collect();
    said.extend(remedies.into_iter().map(|remedy| format!("To do: {remedy}.")));
    said.push("Nothing was changed.".to_owned());
    said.join(" ")
}

/// What becomes of volumes in whose place others have written.
fn emptied(adoption: &DiskAdoption) -> String {
    match overwritten(adoption) {
        names if names.is_empty() => String::new(),
        names => format!(
            " These volumes have space that others have written to, or may have written to, and are emptied from there on: {}.",
            names.join(", ")
        ),
    }
}

fn overwritten(adoption: &DiskAdoption) -> Vec<String> {
    let shown = adoption.overwritten.iter().map(|overwritten| {
        let volume = &overwritten.volume;
        let kept = match overwritten.kept_bytes {
            0 => "all of it is emptied".to_owned(),
            bytes => format!(
                "its first {} stay as the disk has them, and the rest is emptied",
                size::human(bytes)
            ),
        };
        format!(
            "{} ({} of it by {}; {kept})",
            volume.id,
            size::human(volume.bytes),
            overwritten.by
        )
    });
    shown.collect()
}

fn lost(side: &str, parts: &[&Vec<VolumePart>]) -> String {
    let names: Vec<String> = parts
        .iter()
        .flat_map(|parts| parts.iter())
        .map(in_words)
        .collect();
    match names.as_slice() {
        [] => format!("No volume of {side} is lost."),
        names => format!(
            "What {side} knows of these volumes is lost: {}.",
            names.join(", ")
        ),
    }
}

fn known(out: Output, adoption: &DiskAdoption) -> Result<(), Failure> {
    let parts = |parts: &[VolumePart]| {
        let parts: Vec<String> = parts.iter().map(in_words).collect();
        show::list(&parts)
    };
    let on_disk = adoption.disk_generation.map_or_else(
        || "nothing that can be used".to_owned(),
        |generation| {
            format!(
                "generation {generation} ({})",
                show::or_dash(adoption.disk_lineage.as_ref())
            )
        },
    );
    let mut facts = vec![
        ("Disk", adoption.disk.clone()),
        ("Standing", format!("{}: {}", adoption.standing, adoption.message)),
        ("The disk carries", on_disk),
        (
            "The database has",
            format!(
                "generation {} ({})",
                adoption.database_generation, adoption.database_lineage
            ),
        ),
        ("Only the disk knows", parts(&adoption.only_on_disk)),
        ("Only the database knows", parts(&adoption.only_in_database)),
        ("Both, in other places", parts(&adoption.elsewhere)),
        ("Overwritten by others", show::list(&overwritten(adoption))),
    ];
    // Where there is no copy, nothing is as of one: guests may have written to both sides.
    if adoption.standing == "older_copy" {
        facts.push(("As of the copy", parts(&adoption.as_of_copy)));
    }
    out.facts(facts)?;
    Ok(())
}

/// Shows what disks bring with them, and takes them in.
pub fn import(client: &Client, out: Output, wish: &DiskImport) -> Result<(), Failure> {
    if wish.id.is_some() && wish.file.len() + wish.block.len() > 1 {
        return Err(Failure::Words {
            what: "--id names one disk, and several are given".to_owned(),
            remedy: "take them in one after the other, each with its own --id: a volume that lies on several comes with \
                     the last of them",
        });
    }
    let file = |path: &String| ImportMedium {
        file: Some(FileMedium {
            path: path.clone(),
            bytes: None,
            sparse: false,
        }),
        block: None,
        id: wish.id.clone(),
    };
    let block = |path: &String| ImportMedium {
        file: None,
        block: Some(BlockMedium { path: path.clone() }),
        id: wish.id.clone(),
    };
    let mut request = palisade_api::DiskImport {
        disks: wish
            .file
            .iter()
            .map(file)
            .chain(wish.block.iter().map(block))
            .collect(),
        dry_run: true,
        other_cluster: wish.from_other_cluster,
        volatile: wish.volatile,
    };
    let value = client.create(routes::IMPORT, &request)?;
    let found: DiskImported = client.typed(&value)?;
    if wish.dry_run && out.json {
        return Ok(out.value(&value)?);
    }
    if !out.json {
        shown(out, &found)?;
    }
    if wish.dry_run {
        return Ok(out.line("Nothing was changed.")?);
    }
    consent::ask(
        "the cluster",
        "These disks are taken in; nothing on them is lost. A superblock does not carry attachments, protection and when a \
         volume is cleared: those come back as they are for something new.",
        wish.yes,
    )?;
    request.dry_run = false;
    let value = client.create(routes::IMPORT, &request)?;
    match out.json {
        true => Ok(out.value(&value)?),
        false => Ok(out.line(
            "Taken in. Attach the volumes again: palisade attachment create ID VOLUME. What was protected, and what was to \
             be cleared when it is deleted, is to be set again: palisade volume set ID --protect --clear on-delete, palisade \
             disk set ID --protect",
        )?),
    }
}

fn shown(out: Output, found: &DiskImported) -> Result<(), Failure> {
    let disks = found.disks.iter().map(|disk| {
        [
            disk.id.clone(),
            disk.path.clone(),
            disk.cluster.clone(),
            disk.generation.to_string(),
            match disk.damage.len() {
                0 => "sound".to_owned(),
                count => format!(
                    "{} damaged, mended when it is taken in",
                    size::counted(count as u64, "record")
                ),
            },
        ]
    });
    out.table(
        ["disk", "path", "cluster", "generation", "superblock"],
        disks.collect(),
        "There are no disks.",
    )?;
    let volumes = found
        .volumes
        .iter()
        .map(|volume| [volume.id.clone(), size::human(volume.bytes), state(volume)]);
    out.table(
        ["volume", "size", "state"],
        volumes.collect(),
        "No volume lies on them.",
    )?;
    Ok(())
}

fn state(volume: &ImportedVolume) -> String {
    if volume.present_bytes < volume.bytes {
        let here = size::human(volume.present_bytes);
        return format!("not whole: {here} are here, the rest on disks that are missing");
    }
    match volume.id == volume.name {
        true => "whole".to_owned(),
        false => format!("whole; its name on the disk, {}, is taken", volume.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_api::SideRefused;

    fn adoption(standing: &str, choices: &[Side], refused: &[Side]) -> DiskAdoption {
        let refused = refused.iter().map(|side| SideRefused {
            side: *side,
            message: format!("not {side:?}"),
            remedy: format!("instead of {side:?}"),
        });
        DiskAdoption {
            disk: "d1".into(),
            standing: standing.into(),
            message: String::new(),
            disk_generation: None,
            disk_lineage: None,
            database_generation: 1,
            database_lineage: String::new(),
            only_on_disk: vec![],
            only_in_database: vec![],
            elsewhere: vec![],
            overwritten: vec![],
            as_of_copy: vec![],
            holds: None,
            seen: String::new(),
            taken: None,
            choices: choices.to_vec(),
            refused: refused.collect(),
        }
    }

    #[test]
    fn only_what_can_be_decided_is_named() {
        use palisade_api::Side::{Database, Disk};
        let (disk, database) = ("--take disk", "--take database");
        for (adoption, named, not_named) in [
            (
                adoption("newer", &[Disk, Database], &[]),
                vec![disk, database],
                vec!["Not the"],
            ),
            (
                adoption("lost", &[Database], &[Disk]),
                vec![database, "Not the side of the disk: not Disk."],
                vec![disk, "instead of"],
            ),
            (
                adoption("lost", &[], &[Disk, Database]),
                vec![
                    "Neither side",
                    "not Disk.",
                    "instead of Disk.",
                    "not Database.",
                    "instead of Database.",
                ],
                vec![disk, database],
            ),
            (
                adoption("foreign", &[], &[]),
                vec!["another disk"],
                vec![disk, database],
            ),
            (
                adoption("in_force", &[], &[]),
                vec!["nothing to decide"],
                vec![disk, database],
            ),
        ] {
            let said = choices(&adoption);
            assert!(named.iter().all(|words| said.contains(words)), "{said}");
            assert!(!not_named.iter().any(|words| said.contains(words)), "{said}");
            assert!(said.ends_with("Nothing was changed."), "{said}");
            for side in [Side::Disk, Side::Database] {
                let is_refused = adoption
                    .refused
                    .iter()
                    .any(|one| format!("{:?}", one.side) == format!("{side:?}"));
                let told = format!("refused: not {side:?}; instead of {side:?}.");
                assert_eq!(refusal(&adoption, side).contains(&told), is_refused, "{side:?}");
            }
        }
    }
}
