//! Disks that REST names: the one that a repeated request means, and what is changed about one.

use super::{Rest, known};
use crate::disk_growth;
use crate::identify;
use crate::lost_end;
use crate::places;
use crate::problem;
use crate::removal;
use palisade_api as api;
use palisade_api::{Created, Problem, ProblemKind};
use palisade_model::{ChangeDisk, Command, GrowDisk, Medium, Refusal, Usage};
use palisade_wire::Geometry;
use palisade_words::{Generation, Name};
use std::sync::Arc;

impl Rest {
    /// The node that something new is to have: this one, when it is named or placement may choose. What another one would have
    /// to do is refused, since only that node can.
    pub(super) fn own_node(&self, asked: Option<&str>) -> Result<Name, Problem> {
        let own = &self.shared.name;
        let Some(asked) = asked else {
            return Ok(own.clone());
        };
        let name = self.node_called(asked).map_err(|problem| problem.about("node"))?;
        match name == *own {
            true => Ok(name),
            false => Err(Problem::elsewhere(name.as_str(), own.as_str(), &[]).about("node")),
        }
    }

    /// The disk that a repeated request means, if it means the same.
    pub(super) fn known_disk(
        &self,
        name: &Name,
        request: &api::DiskCreate,
    ) -> Option<Result<Created<api::Disk>, Problem>> {
        let cluster = self.shared.cluster();
        let disk = cluster.disks.get(name)?;
        if disk.leaving {
            // One that is asked for now is another, and has to wait.
            let disk = name.clone();
            return Some(Err(problem::of_refusal(&Refusal::DiskGoing { disk })));
        }
        let usage = match disk.usage {
            Usage::Pooled => api::DiskUsage::Pooled,
            Usage::Whole => api::DiskUsage::Whole,
        };
        let same_medium = match (&disk.medium, &request.medium) {
            (Medium::Null { bytes }, api::Medium::Null(request)) => *bytes == request.bytes,
            (Medium::Memory { bytes }, api::Medium::Memory(request)) => *bytes == request.bytes,
            (Medium::File { path, bytes, .. }, api::Medium::File(request)) => {
                *path == request.path && request.bytes.is_none_or(|asked| asked == *bytes)
            }
            (Medium::Block { path, .. }, api::Medium::Block(request)) => *path == request.path,
            _ => false,
        };
        let differs = if !same_medium {
            request.medium.name()
        } else if usage != request.usage {
            "usage"
        } else if request.block_bytes.is_some_and(|bytes| bytes != disk.block_bytes) {
            "block_bytes"
        } else {
            return Some(Ok(Created::Existing(self.view(|view| view.disk(name, disk)))));
        };
        Some(Err(Problem::exists("disk", name.as_str(), differs)))
    }

    /// Lets a disk grow, looks at its size again, records what its medium is or where it is found, or changes its protection.
    pub(super) fn change_disk(
        &self,
        id: &str,
        patch: &api::DiskPatch,
        expected: Option<u64>,
    ) -> Result<api::Disk, Problem> {
        let name = known("disk", id)?;
        let other = patch.bytes.is_some() || patch.path.is_some() || patch.confirm;
        removal::one_change("disk", other, patch.protected.is_some(), true)?;
        if let Some(protected) = patch.protected {
            let command = Command::ChangeDisk(ChangeDisk {
                name: name.clone(),
                protected: Some(protected),
                expected: expected.map(Generation),
            });
            return self.change(command, |view| {
                Some(view.disk(&name, view.cluster.disks.get(&name)?))
            });
        }
        let cluster = self.shared.cluster();
        let disk = cluster
            .disks
            .get(&name)
            .ok_or_else(|| Problem::not_found("disk", id))?;
        if let Some(path) = &patch.path {
            let allow = &self.shared.settings.allow;
            allow.check_disk_path(path, matches!(disk.medium, Medium::Block { .. }), "path")?;
            places::refuse_own(&self.shared, path)?;
        }
        if patch.confirm
            && patch.path.is_none()
            && lost_end::go_on_without(&self.shared, &name, disk, expected)?
        {
            return self.view(|view| {
                let disk = view.cluster.disks.get(&name);
                disk.map(|disk| view.disk(&name, disk))
                    .ok_or_else(|| Problem::not_found("disk", id))
            });
        }
        if patch.path.is_some() || patch.confirm {
            if patch.bytes.is_some() {
                let message = "a disk cannot be identified and made larger in one request".to_owned();
                let remedy = "ask for one after the other";
                return Err(
                    Problem::new(ProblemKind::Invalid, "invalid_argument", message, remedy).about("bytes"),
                );
            }
            let (identified, _hold) = identify::command_for(&self.shared, &name, disk, patch, expected)?;
            let command = Command::IdentifyDisk(identified.command);
            let changed = self.change(command, |view| {
                Some(view.disk(&name, view.cluster.disks.get(&name)?))
            })?;
            if let Some(why) = identified.other {
                let path = patch.path.as_deref().or(disk.medium.path());
                identify::tell_taken(&self.shared, &name, path.unwrap_or_default(), &why);
            }
            if patch.confirm {
                lost_end::go_on_with_the_rest(&self.shared, &name, disk);
                identify::confirmed(&self.shared, &name, disk)?;
            }
            return Ok(changed);
        }
        let opened = self
            .shared
            .seen()
            .disks
            .get(&name)
            .map(|open| Arc::clone(&open.opened));
        let opened = opened.ok_or_else(|| {
            let remedy = format!("repair it first: palisade disk show {id}");
            Problem::new(
                ProblemKind::Conflict,
                "disk_closed",
                format!("disk {id} is not open"),
                remedy,
            )
        })?;
        if let Some(expected) = expected.filter(|&expected| expected != disk.revision.0) {
            // Said before the medium is touched; the cluster would say it too, but only then.
            return Err(Problem::changed("disk", id, expected, disk.revision.0));
        }
        // Also before its size is only read again: what has become longer is not agreed on either.
        disk_growth::refuse_unlinked(&name, &opened)?;
        if let Some(bytes) = patch.bytes {
            disk_growth::enlarge(&name, disk, bytes, &opened)?;
        }
        let sectors = disk_growth::size(&name, &opened)?;
        let data_end = match disk.usage {
            Usage::Whole => sectors.0,
            Usage::Pooled => Geometry::of(sectors.0).map_or(disk.data_end, |geometry| geometry.data_end.0),
        };
        let expected = expected.map(Generation);
        let command = Command::GrowDisk(GrowDisk {
            name: name.clone(),
            sectors: sectors.0,
            data_end,
            expected,
        });
        self.change(command, |view| {
            Some(view.disk(&name, view.cluster.disks.get(&name)?))
        })
    }
}
