//! What it does with volumes.

use super::Fake;
use super::answers::{guard, in_use, removal};
use palisade_api::{
    Created, Extent, Layout, Problem, ProblemKind, Removal, RemovalOptions, Volume, VolumeCreate, VolumePatch,
};

impl Fake {
    pub(super) fn create_volume(&self, request: VolumeCreate) -> Result<Created<Volume>, Problem> {
        let mut kept = self.kept();
        if let Some((before, volume)) = kept.volumes.get(&request.id) {
            return match *before == request {
                true => Ok(Created::Existing(volume.clone())),
                false => Err(Problem::exists("volume", &request.id, "bytes")),
            };
        }
        let wanted = request.disk.clone().or_else(|| kept.disks.keys().next().cloned());
        let Some((_, disk)) = wanted.and_then(|id| kept.disks.get_mut(&id)) else {
            return Err(Problem::not_found(
                "disk",
                request.disk.as_deref().unwrap_or("any"),
            ));
        };
        if disk.free_bytes < request.bytes {
            let message = format!(
                "disk {:?} has {} bytes free, {} are wanted",
                disk.id, disk.free_bytes, request.bytes
            );
            let remedy = "let the disk grow: palisade disk grow";
            return Err(Problem::new(ProblemKind::NoSpace, "no_space", message, remedy).about("bytes"));
        }
        let offset_bytes = disk.bytes - disk.free_bytes;
        disk.free_bytes -= request.bytes;
        disk.volumes.push(request.id.clone());
        let extent = Extent {
            disk: disk.id.clone(),
            offset_bytes,
            bytes: request.bytes,
        };
        let block_bytes = request.block_bytes.unwrap_or(disk.block_bytes);
        let volume = Volume {
            id: request.id.clone(),
            uuid: format!("00000000-0000-4000-9000-{:012}", kept.generation),
            node: "host-a".to_owned(),
            bytes: request.bytes,
            usable_bytes: request.bytes,
            clear: request.clear.unwrap_or_default(),
            clearing: None,
            protected: false,
            deleting: false,
            block_bytes,
            layout: Layout::Linear {
                extents: vec![extent],
            },
            attachments: vec![],
            state: kept.next(),
        };
        kept.volumes.insert(request.id.clone(), (request, volume.clone()));
        self.happened("volume_created", format!("volume/{}", volume.id));
        Ok(Created::New(volume))
    }

    pub(super) fn change_volume(
        &self,
        id: &str,
        patch: VolumePatch,
        expected: Option<u64>,
    ) -> Result<Volume, Problem> {
        let mut kept = self.kept();
        let present = kept
            .volumes
            .get(id)
            .ok_or_else(|| Problem::not_found("volume", id))?
            .1
            .clone();
        guard("volume", id, &present.state, expected)?;
        let bytes = patch.bytes.unwrap_or(present.bytes);
        if bytes < present.bytes {
            let message = format!(
                "volume {id:?} has {} bytes and cannot shrink to {bytes}",
                present.bytes
            );
            let problem = Problem::new(
                ProblemKind::Invalid,
                "cannot_shrink",
                message,
                "create a smaller volume",
            );
            return Err(problem.about("bytes"));
        }
        let state = kept.next();
        let (_, volume) = kept.volumes.get_mut(id).unwrap();
        (volume.bytes, volume.usable_bytes) = (bytes, bytes);
        volume.protected = patch.protected.unwrap_or(volume.protected);
        volume.clear = patch.clear.unwrap_or(volume.clear);
        volume.state = state;
        Ok(volume.clone())
    }

    pub(super) fn delete_volume(
        &self,
        id: &str,
        expected: Option<u64>,
        how: RemovalOptions,
    ) -> Result<Removal, Problem> {
        let mut kept = self.kept();
        let (_, volume) = kept
            .volumes
            .get_mut(id)
            .ok_or_else(|| Problem::not_found("volume", id))?;
        guard("volume", id, &volume.state, expected)?;
        if volume.protected {
            let message = format!("volume {id:?} is protected");
            return Err(Problem::new(
                ProblemKind::Conflict,
                "protected",
                message,
                "lift that first",
            ));
        }
        if let Some(attachment) = volume.attachments.first() {
            return Err(in_use("volume", id, &format!("attachment {attachment}")));
        }
        let mut removal = removal("volume", id, &volume.state);
        removal
            .effects
            .extend(how.clear.map(|clear| format!("cleared: {clear}")));
        if how.dry_run {
            return Ok(removal);
        }
        volume.deleting = true;
        if kept.reads_until_gone == 0 {
            kept.let_go();
        }
        self.happened("volume_deleted", format!("volume/{id}"));
        Ok(removal)
    }
}
