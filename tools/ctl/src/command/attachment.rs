//! `palisade attachment ...`.

use crate::args::{Attachment as Command, AttachmentCreate as Create};
use crate::client::{Client, segment};
use crate::consent;
use crate::failure::Failure;
use crate::paste::{self, QemuMemory, QemuVersion};
use crate::show::{self, Output};
use crate::wait;
use palisade_api::{Attachment, AttachmentCreate, AttachmentPatch, Connection, Limits, Share, routes, size};
use serde_json::Value;

/// Does what the command says.
pub fn run(client: &Client, out: Output, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(create) => {
            let (id, wait) = (create.id.clone(), create.wait);
            let value = client.create(routes::ATTACHMENTS, &request(*create))?;
            let value = wait::applied(client, wait, &path(&id), &format!("attachment {id}"), value)?;
            show(client, out, &value)
        }
        Command::List => list(client, out),
        Command::Show { id } => show(client, out, &client.get(&path(&id))?),
        Command::Set {
            id,
            rights,
            limits,
            no_limits,
            guard,
            wait,
        } => {
            // A limit that is not named stays: it is read first, and the change holds only if nobody else made one.
            let present: Attachment = client.typed(&client.get(&path(&id))?)?;
            let limits = match no_limits {
                true => Some(Limits::default()),
                false => limits.over(&present.limits),
            };
            let expect = guard
                .expect
                .or(limits.is_some().then_some(present.state.generation));
            let patch = AttachmentPatch {
                limits,
                owner: rights.owner,
                group: rights.group,
                mode: rights.mode,
            };
            let value = client.change(&path(&id), &patch, expect)?;
            let value = wait::applied(client, wait, &path(&id), &format!("attachment {id}"), value)?;
            show(client, out, &value)
        }
        Command::Delete {
            id,
            force,
            guard,
            consent,
        } => {
            let request = consent::ToRemove {
                what: format!("attachment {id}"),
                path: path(&id),
                options: if force { vec!["force=true"] } else { Vec::new() },
                expected: guard.expect,
                consent,
            };
            match consent::take_away(client, out, request)? {
                true => out.deleted(&format!("Attachment {id} is taken away.")),
                false => Ok(()),
            }
        }
        Command::QemuArgs {
            ids,
            memory,
            hugepages,
            no_memory,
            qemu_version,
        } => {
            let attachments = each(client, &ids)?;
            let memory = (!no_memory).then_some(QemuMemory {
                bytes: memory,
                hugepages,
            });
            let version = qemu_version.or_else(QemuVersion::installed);
            if let Some(version) = version.filter(|version| *version < QemuVersion::OLDEST) {
                return Err(Failure::Words {
                    what: format!("the QEMU that is installed here is {version}, which is too old"),
                    remedy: "QEMU 7.2 or newer is needed; for one elsewhere, name its version with --qemu-version",
                });
            }
            if version.is_none() {
                Output::aside(
                    "There is no QEMU here to ask for its version; these are for 9.2 or newer. For an older one: \
                     --qemu-version 7.2",
                );
            }
            if let Some(note) = paste::note_of_queues(&attachments) {
                Output::aside(&note);
            }
            Ok(out.line(paste::qemu_args(&attachments, memory, version))?)
        }
        Command::LibvirtXml {
            ids,
            target,
            memory,
            disk_only,
        } => {
            let attachments = each(client, &ids)?;
            let targets = paste::targets(&target, attachments.len());
            let memory = (!disk_only).then_some(memory);
            if let Some(note) = paste::note_of_queues(&attachments) {
                Output::aside(&note);
            }
            Ok(out.line(paste::libvirt_xml(&attachments, &targets, memory))?)
        }
    }
}

/// Attachments by their ids, each of which may be named once.
fn each(client: &Client, ids: &[String]) -> Result<Vec<Attachment>, Failure> {
    for (at, id) in ids.iter().enumerate() {
        if ids.iter().take(at).any(|other| other == id) {
            return Err(Failure::Words {
                what: format!(
                    "attachment {id} is named twice, and one attachment is one disk of one machine"
                ),
                remedy: "name each once",
            });
        }
    }
    ids.iter()
        .map(|id| client.typed(&client.get(&path(id))?))
        .collect()
}

fn path(id: &str) -> String {
    format!("{}/{}", routes::ATTACHMENTS, segment(id))
}

fn request(create: Create) -> AttachmentCreate {
    AttachmentCreate {
        limits: create.limits.over(&Limits::default()),
        id: create.id,
        volume: create.volume,
        node: create.node,
        socket: create.socket,
        queues: create.queues,
        queue_size: create.queue_size,
        owner: create.rights.owner,
        group: create.rights.group,
        mode: create.rights.mode,
        read_only: create.read_only,
        serial: create.serial,
        write_cache: create.write_through.then_some(false),
    }
}

fn list(client: &Client, out: Output) -> Result<(), Failure> {
    let values = client.list(routes::ATTACHMENTS)?;
    if out.json {
        return Ok(out.value(&Value::Array(values))?);
    }
    let attachments: Vec<Attachment> = values
        .iter()
        .map(|value| client.typed(value))
        .collect::<Result<_, _>>()?;
    let rows = attachments.into_iter().map(|attachment| {
        [
            attachment.id,
            attachment.volume,
            show::word(&attachment.connection.state),
            format!("{}/{}", attachment.connection.queues_running, attachment.queues),
            attachment.in_flight.to_string(),
            attachment
                .operations
                .iter()
                .map(|one| one.errors)
                .sum::<u64>()
                .to_string(),
            attachment.socket,
            show::state(&attachment.state),
        ]
    });
    let heads = [
        "attachment",
        "volume",
        "guest",
        "queues",
        "in flight",
        "errors",
        "socket",
        "state",
    ];
    let empty = "There are no attachments yet. Offer a volume to a virtual machine: palisade attachment create web1 v1";
    out.table(heads, rows.collect(), empty)?;
    Ok(())
}

/// What keeps queues from being served, or from being served whole.
fn queue_troubles(connection: &Connection) -> String {
    let of_queues = connection.queues.iter().filter_map(|queue| {
        let trouble = match (&queue.broken, &queue.cannot_start) {
            (Some(broken), _) => broken.as_str(),
            (None, Some(sentence)) => sentence.as_str(),
            (None, None) if queue.running && !queue.in_flight_tracked => {
                "its requests in flight are not tracked"
            }
            (None, None) => return None,
        };
        Some(format!("queue {}: {trouble}", queue.index))
    });
    let refused = connection
        .first_refusal
        .as_ref()
        .map(|cause| match connection.refused_sessions {
            0 | 1 => format!("the last session was refused: {cause}"),
            sessions => format!("{sessions} sessions in a row were refused: {cause}"),
        });
    let all: Vec<_> = refused.into_iter().chain(of_queues).collect();
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join("; "),
    }
}

fn show(client: &Client, out: Output, value: &Value) -> Result<(), Failure> {
    if out.json {
        return Ok(out.value(value)?);
    }
    let attachment: Attachment = client.typed(value)?;
    let connection = &attachment.connection;
    let accounts = format!(
        "{} owner {} group {}",
        attachment.mode,
        attachment.owner.as_deref().unwrap_or("of the daemon"),
        attachment.group.as_deref().unwrap_or("of the daemon")
    );
    out.facts(vec![
        ("Attachment", attachment.id.clone()),
        ("Volume", attachment.volume.clone()),
        ("Node", attachment.node.clone()),
        ("Socket", attachment.socket.clone()),
        ("Rights", accounts),
        (
            "Queues",
            format!("{} of {} entries", attachment.queues, attachment.queue_size),
        ),
        ("Serial", attachment.serial.clone()),
        (
            "Access",
            if attachment.read_only {
                "read only"
            } else {
                "read and write"
            }
            .to_owned(),
        ),
        (
            "Write cache",
            if attachment.write_cache {
                "offered"
            } else {
                "not offered"
            }
            .to_owned(),
        ),
        ("Limits", limits(&attachment.limits)),
        ("Guest", show::word(&connection.state)),
        ("Sessions", connection.sessions.to_string()),
        ("Last session ended", show::or_dash(connection.last_end.as_ref())),
        ("Queue troubles", queue_troubles(connection)),
        ("Guest memory", size::human(connection.memory_bytes)),
        ("Pinned of it", size::human(connection.memory_pinned_bytes)),
        ("Shares", shares(connection)),
        ("Features", show::list(&connection.features)),
        ("Protocol features", show::list(&connection.protocol_features)),
        ("In flight", attachment.in_flight.to_string()),
        ("Refused", attachment.refused.to_string()),
        ("Throttled", attachment.throttled.to_string()),
        ("Generation", attachment.state.generation.to_string()),
        ("State", show::state(&attachment.state)),
    ])?;
    let rows: Vec<_> = attachment
        .operations
        .iter()
        .map(|one| {
            [
                one.operation.clone(),
                one.requests.to_string(),
                one.errors.to_string(),
                size::human(one.bytes),
                show::nanoseconds(one.latency_ns_p50),
                show::nanoseconds(one.latency_ns_p99),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.line("")?;
        out.table(
            ["operation", "requests", "errors", "moved", "p50", "p99"],
            rows,
            "",
        )?;
    }
    Ok(())
}

/// "8 GiB of 4 TiB mapped bytes, ...".
fn shares(connection: &Connection) -> String {
    let number = |of: &str, value: u64| match of.ends_with("_bytes") {
        true => size::human(value),
        false => value.to_string(),
    };
    let one = |share: &Share| {
        let of = share.of.as_str();
        let words = of.trim_end_matches("_bytes").replace('_', " ");
        format!(
            "{words} {} of {}",
            number(of, share.used),
            number(of, share.limit)
        )
    };
    let all: Vec<_> = connection.shares.iter().map(one).collect();
    match all.is_empty() {
        true => "-".to_owned(),
        false => all.join(", "),
    }
}

fn limits(limits: &Limits) -> String {
    let mut parts = Vec::new();
    if let Some(iops) = limits.iops {
        parts.push(format!("{iops} requests/s"));
    }
    if let Some(bytes) = limits.bytes_per_second {
        parts.push(format!("{}/s", size::human(bytes)));
    }
    if let (Some(burst), false) = (limits.burst_ms, parts.is_empty()) {
        parts.push(format!("bursts of {burst} ms"));
    }
    show::list(&parts)
}
