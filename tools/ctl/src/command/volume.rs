//! `palisade volume ...`.

use crate::args::{Clear, Volume as Command};
use crate::client::{Client, segment};
use crate::consent;
use crate::failure::Failure;
use crate::show::{self, Output};
use crate::wait;
use palisade_api::{Layout, Volume, VolumeCreate, VolumePatch, routes, size};
use serde_json::Value;

/// Does what the command says.
pub fn run(client: &Client, out: Output, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create {
            id,
            size,
            node,
            disk,
            block_bytes,
            clear,
            wait,
        } => {
            let request = VolumeCreate {
                id: id.clone(),
                node,
                bytes: size,
                disk,
                block_bytes,
                clear: clear.map(Clear::request),
            };
            let value = client.create(routes::VOLUMES, &request)?;
            let value = wait::applied(client, wait, &path(&id), &format!("volume {id}"), value)?;
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
            let patch = VolumePatch {
                bytes: Some(size),
                ..VolumePatch::default()
            };
            let value = client.change(&path(&id), &patch, guard.expect)?;
            let value = wait::applied(client, wait, &path(&id), &format!("volume {id}"), value)?;
            show(client, out, &value)
        }
        Command::Set {
            id,
            protection,
            clear,
            clear_held,
            guard,
            wait,
        } => {
            let patch = VolumePatch {
                protected: protection.request(),
                clear: clear.map(Clear::request),
                clear_held,
                ..VolumePatch::default()
            };
            let value = client.change(&path(&id), &patch, guard.expect)?;
            let value = wait::applied(client, wait, &path(&id), &format!("volume {id}"), value)?;
            show(client, out, &value)
        }
        Command::Delete {
            id,
            force,
            clear,
            no_clear,
            wait,
            guard,
            consent,
        } => {
            let given = [
                (force, "force=true"),
                (clear, "clear=true"),
                (no_clear, "clear=false"),
            ];
            let request = consent::ToRemove {
                what: format!("volume {id}"),
                path: path(&id),
                options: given
                    .iter()
                    .filter(|(given, _)| *given)
                    .map(|(_, option)| *option)
                    .collect(),
                expected: guard.expect,
                consent,
            };
            if !consent::take_away(client, out, request)? {
                return Ok(());
            }
            match wait::gone(client, wait, &path(&id), &format!("volume {id}"))? {
                true => out.deleted(&format!("Volume {id} is deleted.")),
                false => out.deleted(&format!("Volume {id} is being deleted.")),
            }
        }
    }
}

fn path(id: &str) -> String {
    format!("{}/{}", routes::VOLUMES, segment(id))
}

fn list(client: &Client, out: Output) -> Result<(), Failure> {
    let values = client.list(routes::VOLUMES)?;
    if out.json {
        return Ok(out.value(&Value::Array(values))?);
    }
    let volumes: Vec<Volume> = values
        .iter()
        .map(|value| client.typed(value))
        .collect::<Result<_, _>>()?;
    let rows = volumes.into_iter().map(|volume| {
        [
            volume.id,
            size::human(volume.bytes),
            volume.block_bytes.to_string(),
            show::list(&disks(&volume.layout)),
            show::list(&volume.attachments),
            show::state(&volume.state),
        ]
    });
    let empty = "There are no volumes yet. Create one: palisade volume create v1 10GiB";
    out.table(
        ["volume", "size", "block", "disks", "attachments", "state"],
        rows.collect(),
        empty,
    )?;
    Ok(())
}

fn show(client: &Client, out: Output, value: &Value) -> Result<(), Failure> {
    if out.json {
        return Ok(out.value(value)?);
    }
    let volume: Volume = client.typed(value)?;
    let cleared = cleared(&volume);
    let Layout::Linear { extents } = &volume.layout;
    let extents: Vec<String> = extents
        .iter()
        .map(|extent| {
            format!(
                "{} of disk {} at {}",
                size::human(extent.bytes),
                extent.disk,
                extent.offset_bytes
            )
        })
        .collect();
    out.facts(vec![
        ("Volume", volume.id),
        ("UUID", volume.uuid),
        ("Node", volume.node),
        ("Size", show::bytes(volume.bytes)),
        ("Guests see", show::bytes(volume.usable_bytes)),
        ("Cleared", cleared),
        ("Protected", show::yes_or_no(volume.protected)),
        ("Logical block", format!("{} bytes", volume.block_bytes)),
        ("Layout", format!("linear: {}", show::list(&extents))),
        ("Attachments", show::list(&volume.attachments)),
        ("Generation", volume.state.generation.to_string()),
        ("State", show::state(&volume.state)),
    ])?;
    Ok(())
}

/// When its space is cleared, and how far that has come.
fn cleared(volume: &Volume) -> String {
    let when = match volume.clear {
        palisade_api::Clear::Now => "before use",
        palisade_api::Clear::OnDelete => "before use and on deletion",
        palisade_api::Clear::Never => "never",
    };
    match &volume.clearing {
        None => when.to_owned(),
        Some(clearing) => format!(
            "{when}; {} of {} done{}",
            size::human(clearing.cleared_bytes),
            size::human(clearing.bytes),
            if volume.deleting { ", then it is gone" } else { "" }
        ),
    }
}

/// The disks that a volume lies on, each once.
fn disks(layout: &Layout) -> Vec<String> {
    let Layout::Linear { extents } = layout;
    let mut disks: Vec<String> = extents.iter().map(|extent| extent.disk.clone()).collect();
    disks.sort();
    disks.dedup();
    disks
}
