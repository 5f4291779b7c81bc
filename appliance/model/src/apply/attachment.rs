//! Volumes are offered to VMs, and no longer.
//!
//! A volume has one writable attachment and nothing beside it, or any number of read-only ones. A second writer would
//! destroy any file system that is not made for it; a reader beside a writer would see one that changes under its
//! cache. Both come with coherence between nodes, for guests that ask for it.

use super::clearing::not_going;
use super::text::{account_is_good, serial_is_good, socket_is_good};
use super::{exists, expect_revision, not_found, not_nil, require, room_for_one};
use crate::argument::{Field, Rule};
use crate::attachment::Attachment;
use crate::cluster::Cluster;
use crate::command::{ChangeAttachment, CreateAttachment, DeleteAttachment, Outcome};
use crate::feature::{ATTACHMENT_IDS, FORWARDING};
use crate::limits::{BURST_MS_MAX, QUEUE_SIZE_MIN, SERIAL_BYTES_MAX};
use crate::lineage::id_of_attachment;
use crate::refusal::{Kind, Refusal};
use crate::volume::Volume;
use palisade_words::limits::{ATTACHMENTS_MAX, QUEUE_SIZE_MAX, QUEUES_MAX};
use palisade_words::{Name, Uuid};

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
        self.is_member(&create.node)?;
        self.is_served_on(volume, &create.node)?;
        let revision = self.generation;
        // A member that does not know of it takes no notice either.
        let has_id = self.feature_level >= ATTACHMENT_IDS;
        let attachment = Attachment {
            uuid: if has_id { create.uuid } else { Uuid::NIL },
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
        if self.feature_level >= ATTACHMENT_IDS {
            not_nil(attachment.uuid, Kind::Attachment, name)?;
            self.id_is_free(&attachment)?;
        }
        rules_of_attachment(name, &attachment)?;
        room_for_one(Kind::Attachment, self.attachments.len(), ATTACHMENTS_MAX)?;
        self.socket_is_free(name, &attachment)?;
        self.one_writer_or_readers(name, &attachment)?;
        self.attachments.insert(name.clone(), attachment);
        Ok(Outcome::Created { revision })
    }

    /// Refuses a node that cannot serve a volume: before members could ask each other, each that does not reach all of it; since
    /// then, none.
    fn is_served_on(&self, volume: &Volume, node: &Name) -> Result<(), Refusal> {
        if self.feature_level >= FORWARDING {
            return Ok(());
        }
        let elsewhere = volume.all_extents().iter().find_map(|extent| {
            let disk = self.disks.get(&extent.disk).filter(|disk| disk.node != *node)?;
            Some(Refusal::DiskElsewhere {
                disk: extent.disk.clone(),
                disk_node: disk.node.clone(),
                node: node.clone(),
            })
        });
        elsewhere.map_or(Ok(()), Err)
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

    /// Those that were made before attachments had ids get one.
    pub(super) fn give_attachments_ids(&mut self) {
        let cluster = self.id;
        let without = |(_, attachment): &(&Name, &mut Attachment)| attachment.uuid.is_nil();
        for (name, attachment) in self.attachments.iter_mut().filter(without) {
            attachment.uuid = id_of_attachment(cluster, name, attachment.created);
        }
    }

    fn id_is_free(&self, wanted: &Attachment) -> Result<(), Refusal> {
        let mut others = self.attachments.iter();
        match others.find(|(_, other)| other.uuid == wanted.uuid) {
            None => Ok(()),
            Some((holder, _)) => Err(Refusal::UuidTaken {
                kind: Kind::Attachment,
                holder: holder.clone(),
            }),
        }
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

fn compare(now: &Attachment, create: &CreateAttachment) -> [(Field, bool); 12] {
    [
        (Field::Volume, now.volume == create.volume),
        (Field::Node, now.node == create.node),
        (Field::Socket, now.socket == create.socket),
        (Field::Queues, now.queues == create.queues),
        (Field::QueueSize, now.queue_size == create.queue_size),
        (Field::Owner, create.owner.is_none() || now.owner == create.owner),
        (Field::Group, create.group.is_none() || now.group == create.group),
        (Field::Mode, now.mode == create.mode),
        (Field::ReadOnly, now.read_only == create.read_only),
        (
            Field::Serial,
            create.serial.as_ref().is_none_or(|serial| *serial == now.serial),
        ),
        (Field::Limits, now.limits == create.limits),
        (Field::WriteCache, now.write_cache == create.write_cache),
    ]
}

fn rules_of_attachment(name: &Name, wanted: &Attachment) -> Result<(), Refusal> {
    let rule = |holds, field, rule| require(holds, Kind::Attachment, name, field, rule);
    let ring =
        wanted.queue_size.is_power_of_two() && (QUEUE_SIZE_MIN..=QUEUE_SIZE_MAX).contains(&wanted.queue_size);
    rule(socket_is_good(&wanted.socket), Field::Socket, Rule::Socket)?;
    rule(
        (1..=QUEUES_MAX).contains(&wanted.queues),
        Field::Queues,
        Rule::Queues,
    )?;
    rule(ring, Field::QueueSize, Rule::QueueSize)?;
    rule(
        wanted.owner.as_ref().is_none_or(account_is_good),
        Field::Owner,
        Rule::Account,
    )?;
    rule(
        wanted.group.as_ref().is_none_or(account_is_good),
        Field::Group,
        Rule::Account,
    )?;
    rule(wanted.mode <= 0o777, Field::Mode, Rule::Permissions)?;
    rule(serial_is_good(&wanted.serial), Field::Serial, Rule::Serial)?;
    rule(
        wanted.limits.burst_ms <= BURST_MS_MAX,
        Field::BurstMs,
        Rule::Burst,
    )
}

/// What a guest reads when no serial was chosen: enough of the uuid to tell any two volumes apart.
fn serial_of(volume: &Volume) -> String {
    let digits = format!("{:032x}", volume.uuid.0);
    digits.chars().take(SERIAL_BYTES_MAX).collect()
}
