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
pub fn adopt(client: &Client, out: Output, arguments: &DiskAdopt) -> Result<(), Failure> {
    let path = format!("{}/{}", routes::DISKS, segment(&arguments.id));
    let address = format!("{path}/adopt");
    let look = palisade_api::DiskAdopt {
        force: arguments.force,
        ..palisade_api::DiskAdopt::default()
    };
    let value = client.create(&address, &look)?;
    let adoption: DiskAdoption = client.typed(&value)?;
    let side = match arguments.take.map(Side::from) {
        Some(side) if !arguments.dry_run => side,
        _ if out.json => return Ok(out.value(&value)?),
        Some(side) => {
            known(out, &adoption)?;
            let side_taken = match side {
                Side::Database => format!(
                    "To take the side of the database writes what it says to disk {}.",
                    arguments.id
                ),
                Side::Disk => format!(
                    "To take the side of the disk takes what disk {} says into the database.",
                    arguments.id
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
            arguments.id,
            brings(&adoption, side)
        ),
        Side::Disk => format!(
            "Take what disk {} says into the database? {}",
            arguments.id,
            brings(&adoption, side)
        ),
    };
    consent::ask(&format!("disk {}", arguments.id), &question, arguments.yes)?;
    let decision = palisade_api::DiskAdopt {
        take: Some(side),
        seen: Some(adoption.seen),
        force: arguments.force,
    };
    let value = client.create(&address, &decision)?;
    if arguments.wait.wait {
        let disk = client.get(&path)?;
        wait::applied(
            client,
            arguments.wait,
            &path,
            &format!("disk {}", arguments.id),
            disk,
        )?;
    }
    match out.json {
        true => Ok(out.value(&value)?),
        false if arguments.wait.wait => Ok(out.line("Done.")?),
        false => Ok(out.line(format!(
            "Agreed on, and being done: `palisade disk show {}` tells when it is in force, and --wait waits for that.",
            arguments.id
        ))?),
    }
}

/// Shows what the superblock says that lies under the path of a disk, beside the database, where one can be read. Whether
/// which of the two holds is to be decided.
pub fn look(client: &Client, out: Output, id: &str) -> Result<bool, Failure> {
    let address = format!("{}/{}/adopt", routes::DISKS, segment(id));
    // A disk that keeps no superblock, and a path that leads nowhere, have nothing to show here.
    let Ok(value) = client.create(&address, &palisade_api::DiskAdopt::default()) else {
        return Ok(false);
    };
    let adoption: DiskAdoption = client.typed(&value)?;
    known(out, &adoption)?;
    Ok(matches!(
        adoption.standing.as_str(),
        "older_copy" | "newer" | "diverged" | "damaged"
    ))
}

/// What becomes of volumes when a side is taken, in sentences.
fn brings(adoption: &DiskAdoption, side: Side) -> String {
    let mut clauses = losses(adoption, side);
    if side == Side::Database && adoption.standing == "newer" {
        clauses.insert(
            0,
            "the disk is the newer side, and its guests may have written since".to_owned(),
        );
    }
    let told: Vec<String> = clauses.iter().map(|clause| sentence(clause)).collect();
    let told = told.join(" ");
    // A medium on which nothing says that it is the disk is no copy of it.
    if side == Side::Database && adoption.holds.is_some() {
        return told;
    }
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

/// What is lost when a side is taken, in clauses.
fn losses(adoption: &DiskAdoption, side: Side) -> Vec<String> {
    match (side, &adoption.holds) {
        (Side::Database, Some(holds)) => held(adoption, holds),
        (Side::Database, None) => {
            let lost = lost("the disk", &[&adoption.only_on_disk, &adoption.elsewhere]);
            std::iter::once(lost).chain(emptied(adoption)).collect()
        }
        (Side::Disk, _) => vec![lost(
            "the database",
            &[&adoption.only_in_database, &adoption.elsewhere],
        )],
    }
}

/// A clause as a sentence of its own.
fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

/// What becomes of volumes when a superblock is written to a medium on which nothing says that it is the disk.
fn held(adoption: &DiskAdoption, holds: &str) -> Vec<String> {
    let volumes: Vec<String> = adoption.only_in_database.iter().map(in_words).collect();
    match volumes.as_slice() {
        [] => vec![
            format!("the medium holds {holds}"),
            "no volume lies on the disk".to_owned(),
        ],
        volumes => vec![format!(
            "the medium holds {holds}, and that is what the guests of all volumes of the disk get; what these held is lost: {}",
            volumes.join(", ")
        )],
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

/// What can be decided about a disk that stands so, each side with what it loses. Where the disk is the newer one, its side
/// comes first, with what has to be done for it, and the one that loses its data comes last; else neither is recommended.
fn choices(adoption: &DiskAdoption) -> String {
    let id = &adoption.disk;
    let mut said = Vec::new();
    match (adoption.choices.as_slice(), adoption.standing.as_str()) {
        ([], "foreign") => said.push(
            "Nothing can be decided here: it is another disk. Bring the right medium back.".to_owned(),
        ),
        ([], "end_lost") => said.push(format!(
            "Neither side is to be chosen: they agree, and what is lost is on neither. To go on with what is there: palisade \
             disk confirm {id} --yes."
        )),
        ([], _) if adoption.refused.is_empty() => said.push("There is nothing to decide.".to_owned()),
        ([], _) => said.push("Neither side can be taken as it is.".to_owned()),
        (_, standing) => {
            said.push(match standing {
                "newer" => "The disk is newer, and its side is the one to take.".to_owned(),
                "diverged" => "Neither side is newer, and each has what the other lacks.".to_owned(),
                _ => "To decide:".to_owned(),
            });
            said.extend([Side::Disk, Side::Database].map(|side| offered(adoption, side)));
        }
    }
    if adoption.choices.is_empty() {
        for refused in &adoption.refused {
            said.push(not_taken(refused.side, &refused.message));
        }
        let remedies: BTreeSet<&String> = adoption.refused.iter().map(|refused| &refused.remedy).collect();
        said.extend(remedies.into_iter().map(|remedy| format!("To do: {remedy}.")));
    }
    said.push("Nothing was changed.".to_owned());
    said.join(" ")
}

fn not_taken(side: Side, why: &str) -> String {
    format!("Not the side of the {}: {why}.", show::word(&side))
}

/// How a side is taken, and what is lost by it, where one of the two can be taken.
fn offered(adoption: &DiskAdoption, side: Side) -> String {
    let lost = losses(adoption, side).join("; ");
    let word = show::word(&side);
    let is_newer = adoption.standing == "newer";
    let refused = adoption.refused.iter().find(|refused| refused.side == side);
    match refused {
        None => {
            let command = format!("palisade disk adopt {} --take {word}", adoption.disk);
            match (side, is_newer) {
                (Side::Database, true) => format!(
                    "Only if what the disk has is not to be kept: {command}, whereby what is newer is gone for good: {lost}."
                ),
                _ => format!("The side of the {word} ({command}): {lost}."),
            }
        }
        // What the disk says is lost with the other side: how it can be taken has to be known before.
        Some(refused) if side == Side::Disk && adoption.disk_generation.is_some() => format!(
            "For the side of the {word}, {}; this is because {}. By it, {lost}.",
            refused.remedy, refused.message
        ),
        Some(refused) => not_taken(side, &refused.message),
    }
}

/// What becomes of volumes in whose place others have written.
fn emptied(adoption: &DiskAdoption) -> Option<String> {
    match overwritten(adoption) {
        names if names.is_empty() => None,
        names => Some(format!(
            "these volumes have space that others have written to, or may have written to, and are emptied from there on: {}",
            names.join(", ")
        )),
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
        [] => format!("no volume of {side} is lost"),
        names => format!("what {side} knows of these volumes is lost: {}", names.join(", ")),
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
pub fn import(client: &Client, out: Output, arguments: &DiskImport) -> Result<(), Failure> {
    if arguments.id.is_some() && arguments.file.len() + arguments.block.len() > 1 {
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
        id: arguments.id.clone(),
    };
    let block = |path: &String| ImportMedium {
        file: None,
        block: Some(BlockMedium { path: path.clone() }),
        id: arguments.id.clone(),
    };
    let mut request = palisade_api::DiskImport {
        disks: arguments
            .file
            .iter()
            .map(file)
            .chain(arguments.block.iter().map(block))
            .collect(),
        dry_run: true,
        other_cluster: arguments.from_other_cluster,
        volatile: arguments.volatile,
    };
    let value = client.create(routes::IMPORT, &request)?;
    let found: DiskImported = client.typed(&value)?;
    if arguments.dry_run && out.json {
        return Ok(out.value(&value)?);
    }
    if !out.json {
        shown(out, &found)?;
    }
    if arguments.dry_run {
        return Ok(out.line("Nothing was changed.")?);
    }
    consent::ask(
        "the cluster",
        "These disks are taken in; nothing on them is lost. A superblock does not carry attachments, protection and when a \
         volume is cleared: those come back as they are for something new.",
        arguments.yes,
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

    fn part(id: &str) -> VolumePart {
        VolumePart {
            id: id.into(),
            uuid: id.into(),
            bytes: 16 << 20,
            database_bytes: None,
        }
    }

    /// What stands in the way of the newer side must not leave the other one as the only thing to do.
    #[test]
    fn the_newer_side_comes_first_and_the_one_that_loses_data_last_with_what_it_loses() {
        let remedy = "take that attachment away first (palisade attachment rm v1), and then the side of the disk (palisade disk \
                      adopt d1 --take disk)";
        let newer = |choices: &[Side], refused: &[Side]| {
            let mut newer = DiskAdoption {
                disk_generation: Some(9),
                only_on_disk: vec![part("vx")],
                only_in_database: vec![part("v1")],
                ..adoption("newer", choices, refused)
            };
            newer
                .refused
                .iter_mut()
                .for_each(|one| one.remedy = remedy.into());
            newer
        };
        for (adoption, first) in [
            (
                newer(&[Side::Database], &[Side::Disk]),
                "palisade attachment rm v1",
            ),
            (
                newer(&[Side::Disk, Side::Database], &[]),
                "palisade disk adopt d1 --take disk",
            ),
        ] {
            let said = choices(&adoption);
            assert!(
                said.starts_with("The disk is newer, and its side is the one to take."),
                "{said}"
            );
            assert!(!said.contains("Not the side of the disk"), "{said}");
            let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words}: {said}"));
            let (disk, database) = (at("--take disk"), at("--take database"));
            assert!(at(first) <= disk && disk < database, "{said}");
            let (before, after) = said.split_at(database);
            let last = after.split(". ").next().unwrap();
            assert!(
                last.contains("vx (16 MiB)"),
                "what it loses is in one sentence with it: {said}"
            );
            assert!(before.contains("v1 (16 MiB)"), "{said}");
            assert!(brings(&adoption, Side::Database).starts_with("The disk is the newer side"));
        }
    }

    #[test]
    fn of_two_sides_that_went_apart_neither_is_recommended_and_both_tell_their_losses() {
        for refused in [&[][..], &[Side::Disk]] {
            let both = [Side::Disk, Side::Database];
            let open: Vec<Side> = both.into_iter().filter(|side| !refused.contains(side)).collect();
            let adoption = DiskAdoption {
                disk_generation: Some(9),
                only_on_disk: vec![part("vx")],
                only_in_database: vec![part("v1")],
                ..adoption("diverged", &open, refused)
            };
            let said = choices(&adoption);
            assert!(said.starts_with("Neither side is newer"), "{said}");
            let of = |words: &str| said.split(". ").find(|one| one.contains(words)).unwrap_or("");
            assert!(of("--take database").contains("vx (16 MiB)"), "{said}");
            match refused {
                [] => assert!(of("--take disk").contains("v1 (16 MiB)"), "{said}"),
                _ => assert!(
                    said.contains("instead of Disk") && of("By it").contains("v1 (16 MiB)"),
                    "{said}"
                ),
            }
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
