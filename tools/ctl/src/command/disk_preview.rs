//! `palisade disk add --dry-run`: what is found on a medium and what adding it would do.

use crate::client::Client;
use crate::command::disk::medium;
use crate::consent;
use crate::failure::Failure;
use crate::show::{self, Output};
use palisade_api::{DiskCreate, DiskPreview, PooledFound, routes, size};

/// Shows it, and ends as the adding would.
pub fn run(client: &Client, out: Output, request: &DiskCreate) -> Result<(), Failure> {
    let value = client.create(&routes::at_node(routes::DISK_PREVIEW, routes::SELF), request)?;
    let preview: DiskPreview = client.typed(&value)?;
    match out.json {
        true => out.value(&value)?,
        false => tell(out, &preview)?,
    }
    match preview.refusal {
        Some(refusal) => Err(Failure::Refused(refusal)),
        None => Ok(()),
    }
}

/// Asks before volumes of Palisade's are lost with what a medium holds.
pub fn ask(client: &Client, request: &DiskCreate) -> Result<(), Failure> {
    let preview: DiskPreview =
        client.typed(&client.create(&routes::at_node(routes::DISK_PREVIEW, routes::SELF), request)?)?;
    let Some(pooled) = preview.palisade.filter(|_| preview.refusal.is_none()) else {
        return Ok(());
    };
    if pooled.volumes.is_empty() {
        return Ok(());
    }
    let facts = of_pooled(&pooled).into_iter().take(2);
    let facts = facts.map(|(fact, value)| format!("  {fact}: {value}"));
    let effects = preview.effects.iter().map(|effect| format!("  - {effect}"));
    let question = facts.chain(effects).collect::<Vec<_>>().join("\n");
    consent::ask(&format!("disk {}", request.id), &question, false)
}

fn tell(out: Output, preview: &DiskPreview) -> std::io::Result<()> {
    let mut facts = vec![
        ("Disk", preview.id.clone()),
        ("Medium", medium(&preview.medium)),
        ("Usage", show::word(&preview.usage)),
        ("Size", show::bytes(preview.bytes)),
        ("Logical block", format!("{} bytes", preview.block_bytes)),
        (
            "Known by",
            preview
                .identity
                .clone()
                .unwrap_or_else(|| "nothing of its own".into()),
        ),
        ("Found on it", show::list(&preview.found)),
    ];
    if let Some(pooled) = &preview.palisade {
        facts.extend(of_pooled(pooled));
    }
    out.facts(facts)?;
    if !preview.partitions.is_empty() {
        let rows = preview.partitions.iter().map(|one| {
            [
                one.number.to_string(),
                size::human(one.offset_bytes),
                size::human(one.bytes),
                show::or_dash(Some(&one.name).filter(|name| !name.is_empty())),
            ]
        });
        out.table(["partition", "begins at", "size", "name"], rows.collect(), "")?;
    }
    for effect in &preview.effects {
        out.line(format!("  - {effect}"))?;
    }
    for note in &preview.notes {
        out.line(format!("Note: {note}"))?;
    }
    out.line("Nothing was changed.")
}

fn of_pooled(pooled: &PooledFound) -> Vec<(&'static str, String)> {
    let volumes: Vec<String> = pooled
        .volumes
        .iter()
        .map(|volume| format!("{} ({})", volume.id, size::human(volume.bytes)))
        .collect();
    vec![
        (
            "It is",
            format!(
                "disk {} of cluster {}, generation {}",
                pooled.id, pooled.cluster, pooled.generation
            ),
        ),
        ("Volumes on it", show::list(&volumes)),
        ("Damage", show::list(&pooled.damage)),
    ]
}
