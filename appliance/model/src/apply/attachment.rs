//! Volumes are offered to VMs, and no longer.
//!
//! A volume has one writable attachment and nothing beside it, or any number of read-only ones. A second writer would
//! destroy any file system that is not made for it; a reader beside a writer would see one that changes under its
//! cache. Both come with coherence between nodes, for guests that ask for it.

use super::clearing::not_going;
use super::text::{ACCOUNT_RULE, SERIAL_RULE, SOCKET_RULE, account_is_good, serial_is_good, socket_is_good};
use super::{exists, expect_revision, not_found, require, room_for_one};
use crate::attachment::Attachment;
use crate::cluster::Cluster;
use crate::command::{ChangeAttachment, CreateAttachment, DeleteAttachment, Outcome};
use crate::limits::{BURST_MS_MAX, QUEUE_SIZE_MIN, SERIAL_BYTES_MAX};
use crate::refusal::{Kind, Refusal};
use crate::volume::Volume;
use palisade_words::Name;
use palisade_words::limits::{ATTACHMENTS_MAX, QUEUE_SIZE_MAX, QUEUES_MAX};

impl Cluster {
    pub(super) fn create_attachment(&mut self, create: &CreateAttachment) -> Result<Outcome, Refusal> {
        let name = &create.name;
        if let Some(now) = self.attachments.get(name) {
            return exists(Kind::Attachment, name, now.revision, &compare(now, create));
        }
        let volume = self
            .volumes
            .get(&create.volume)
            .ok_or_else(|| not_found(Kind::Volume, &create.volume))?;
        not_going(&create.volume, volume)?;
        if !self.nodes.contains_key(&create.node) {
            return Err(not_found(Kind::Node, &create.node));
        }
        for extent in volume.extents() {
            if let Some(disk) = self
                .disks
                .get(&extent.disk)
                .filter(|disk| disk.node != create.node)
            {
                return Err(Refusal::DiskElsewhere {
                    disk: extent.disk.clone(),
                    disk_node: disk.node.clone(),
                    node: create.node.clone(),
                });
            }
        }
        let revision = self.generation;
        let attachment = Attachment {
            volume: create.volume.clone(),
            node: create.node.clone(),
            socket: create.socket.clone(),
            queues: create.queues,
            queue_size: create.queue_size,
            owner: create.owner.clone(),
            group: create.group.clone(),
            mode: create.mode,
            read_only: create.read_only,
            serial: create.serial.clone().unwrap_or_else(|| serial_of(volume)),
            limits: create.limits,
            write_cache: create.write_cache,
            created: revision,
            revision,
        };
        rules_of_attachment(name, &attachment)?;
        room_for_one(Kind::Attachment, self.attachments.len(), ATTACHMENTS_MAX)?;
        self.socket_is_free(name, &attachment)?;
        self.one_writer_or_readers(name, &attachment)?;
        self.attachments.insert(name.clone(), attachment);
        Ok(Outcome::Created { revision })
    }

    pub(super) fn change_attachment(&mut self, change: &ChangeAttachment) -> Result<Outcome, Refusal> {
        let name = &change.name;
        let now = self
            .attachments
            .get(name)
            .ok_or_else(|| not_found(Kind::Attachment, name))?;
        expect_revision(Kind::Attachment, name, change.expected, now.revision)?;
        let mut next = Attachment {
            queues: change.queues.unwrap_or(now.queues),
            queue_size: change.queue_size.unwrap_or(now.queue_size),
            owner: change.owner.clone().or_else(|| now.owner.clone()),
            group: change.group.clone().or_else(|| now.group.clone()),
            mode: change.mode.unwrap_or(now.mode),
            read_only: change.read_only.unwrap_or(now.read_only),
            serial: change.serial.clone().unwrap_or_else(|| now.serial.clone()),
            limits: change.limits.unwrap_or(now.limits),
            write_cache: change.write_cache.unwrap_or(now.write_cache),
            ..now.clone()
        };
        if next == *now {
            return Ok(Outcome::Unchanged {
                revision: now.revision,
            });
        }
        rules_of_attachment(name, &next)?;
        self.one_writer_or_readers(name, &next)?;
        next.revision = self.generation;
        self.attachments.insert(name.clone(), next);
        Ok(Outcome::Changed {
            revision: self.generation,
        })
    }

    pub(super) fn delete_attachment(&mut self, delete: &DeleteAttachment) -> Result<Outcome, Refusal> {
        let name = &delete.name;
        let now = self
            .attachments
            .get(name)
            .ok_or_else(|| not_found(Kind::Attachment, name))?;
        expect_revision(Kind::Attachment, name, delete.expected, now.revision)?;
        self.attachments.remove(name);
        Ok(Outcome::Removed {
            revision: self.generation,
        })
    }

    fn socket_is_free(&self, name: &Name, wanted: &Attachment) -> Result<(), Refusal> {
        let taken = |(other, there): &(&Name, &Attachment)| {
            *other != name && there.node == wanted.node && there.socket == wanted.socket
        };
        match self.attachments.iter().find(taken) {
            None => Ok(()),
            Some((holder, _)) => Err(Refusal::SocketTaken {
                socket: wanted.socket.clone(),
                attachment: holder.clone(),
            }),
        }
    }

    fn one_writer_or_readers(&self, name: &Name, wanted: &Attachment) -> Result<(), Refusal> {
        let others = || {
            self.attachments_of(&wanted.volume)
                .filter(|(other, _)| *other != name)
        };
        let volume = wanted.volume.clone();
        if let Some((writer, _)) = others().find(|(_, other)| !other.read_only) {
            let attachment = writer.clone();
            return Err(Refusal::HasWriter { volume, attachment });
        }
        match others().next() {
            Some((reader, _)) if !wanted.read_only => {
                let attachment = reader.clone();
                Err(Refusal::HasReaders { volume, attachment })
            }
            _ => Ok(()),
        }
    }
}

fn compare(now: &Attachment, create: &CreateAttachment) -> [(&'static str, bool); 12] {
    [
        ("volume", now.volume == create.volume),
        ("node", now.node == create.node),
        ("socket", now.socket == create.socket),
        ("queues", now.queues == create.queues),
        ("queue_size", now.queue_size == create.queue_size),
        ("owner", create.owner.is_none() || now.owner == create.owner),
        ("group", create.group.is_none() || now.group == create.group),
        ("mode", now.mode == create.mode),
        ("read_only", now.read_only == create.read_only),
        (
            "serial",
            create.serial.as_ref().is_none_or(|serial| *serial == now.serial),
        ),
        ("limits", now.limits == create.limits),
        ("write_cache", now.write_cache == create.write_cache),
    ]
}

fn rules_of_attachment(name: &Name, wanted: &Attachment) -> Result<(), Refusal> {
    let rule = |holds, field, rule| require(holds, Kind::Attachment, name, field, rule);
    let ring =
        wanted.queue_size.is_power_of_two() && (QUEUE_SIZE_MIN..=QUEUE_SIZE_MAX).contains(&wanted.queue_size);
    rule(socket_is_good(&wanted.socket), "socket", SOCKET_RULE)?;
    rule(
        (1..=QUEUES_MAX).contains(&wanted.queues),
        "queues",
        "must be 1 to 64",
    )?;
    rule(ring, "queue_size", "must be a power of two from 2 to 32768")?;
    rule(
        wanted.owner.as_ref().is_none_or(account_is_good),
        "owner",
        ACCOUNT_RULE,
    )?;
    rule(
        wanted.group.as_ref().is_none_or(account_is_good),
        "group",
        ACCOUNT_RULE,
    )?;
    rule(
        wanted.mode <= 0o777,
        "mode",
        "must be permission bits from 0 to 777 (octal)",
    )?;
    rule(serial_is_good(&wanted.serial), "serial", SERIAL_RULE)?;
    rule(
        wanted.limits.burst_ms <= BURST_MS_MAX,
        "burst_ms",
        "must be at most 60000",
    )
}

/// What a guest reads when no serial was chosen: enough of the uuid to tell any two volumes apart.
fn serial_of(volume: &Volume) -> String {
    let digits = format!("{:032x}", volume.uuid.0);
    digits.chars().take(SERIAL_BYTES_MAX).collect()
}
