//! What REST asks for, carried out: requests become commands of the model, answers come from the views.

mod cluster;
mod disks;

use crate::accounts;
use crate::config::account;
use crate::disk_growth;
use crate::exchanged;
use crate::new_disk;
use crate::problem;
use crate::recorder;
use crate::removal;
use crate::shared::Shared;
use crate::takeover;
use crate::views::{View, list, node_summary};
use palisade_admin::{Appliance, CertificateState, DoorTrouble, MetricsSnapshot};
use palisade_api as api;
use palisade_api::{Created, Problem, ProblemKind};
use palisade_consensus::Backup;
use palisade_frontend::HeldShut;
use palisade_model::{
    Account, ChangeAttachment, ChangeVolume, ClearHeld, Cluster, Command, CreateAttachment, CreateVolume,
    DeleteAttachment, DeleteVolume, Disk, GrowVolume, Limits, Outcome, RemoveDisk,
};
use palisade_reconcile::{Objection, objection};
use palisade_words::{Generation, Name, SECTOR_BYTES, Uuid};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Mode of a socket when none is asked for: its owner and group may connect.
const SOCKET_MODE: u32 = 0o660;

/// How long a question for health waits for the present state; after that it is told with what was known before.
const HEALTH_PATIENCE: Duration = Duration::from_millis(100);

/// How long a change waits for the state of the node, which is held for moments.
pub(crate) const STATE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a change waits for a look at the disks that it concerns, after a start.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// The node as REST sees it.
#[derive(Debug)]
pub struct Rest {
    shared: Arc<Shared>,
}

impl Rest {
    /// Of a node.
    pub fn new(shared: Arc<Shared>) -> Rest {
        Rest { shared }
    }

    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        self.shared.cluster()
    }

    pub(crate) fn view<T>(&self, look: impl FnOnce(View<'_>) -> T) -> T {
        let cluster = self.shared.cluster();
        let state = self.shared.seen();
        look(View::new(&self.shared, &cluster, &state))
    }

    /// Keeps virtual machines from connecting to an attachment; `None` when one is connected.
    pub(crate) fn hold_shut(&self, attachment: &Name) -> Option<HeldShut> {
        self.shared.door().hold_shut(attachment.as_str())
    }

    pub(crate) fn propose(&self, command: Command) -> Result<Outcome, Problem> {
        self.refuse_change_of_disk_that_knows_more(&command)?;
        self.shared
            .propose(command)
            .map_err(|error| problem::of_proposal(&error))
    }

    /// Proposes a creation and shows what is there then.
    fn create<T>(
        &self,
        command: Command,
        look: impl FnOnce(View<'_>) -> Option<T>,
    ) -> Result<Created<T>, Problem> {
        let outcome = self.propose(command)?;
        let made = self.view(look).ok_or_else(gone_again)?;
        Ok(if matches!(outcome, Outcome::Unchanged { .. }) {
            Created::Existing(made)
        } else {
            Created::New(made)
        })
    }

    /// Proposes a change and shows what is there then.
    fn change<T>(&self, command: Command, look: impl FnOnce(View<'_>) -> Option<T>) -> Result<T, Problem> {
        self.propose(command)?;
        self.view(look).ok_or_else(gone_again)
    }
}

impl Rest {
    /// Refuses a change of a disk whose medium knows more than the database, before it is agreed on. A disk that has
    /// not been looked at since the start is waited for a moment.
    fn refuse_change_of_disk_that_knows_more(&self, command: &Command) -> Result<(), Problem> {
        let deadline = Instant::now() + LOOK_PATIENCE;
        loop {
            let cluster = self.shared.cluster();
            let Ok((after, _)) = cluster.apply(command) else {
                // Refused anyway, in the model's own words.
                return Ok(());
            };
            // What was seen a moment ago would not do here: the look at the disk may have come since.
            let state = self.shared.state_within(STATE_PATIENCE);
            let state = state.ok_or_else(problem::of_busy_control)?;
            let found = objection(&cluster, &after, &self.shared.name, &state.control.observed);
            drop(state);
            match found {
                None => return Ok(()),
                Some(Objection::Disk { disk, superblock }) => {
                    return Err(problem::of_disk_that_knows_more(&disk, superblock));
                }
                Some(Objection::NotLookedAt { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Some(Objection::NotLookedAt { disk }) => return Err(problem::of_disk_not_looked_at(&disk)),
            }
        }
    }
}

/// Has disks that are not used looked at again when what an operator asks about them has been answered, well or not.
struct LooksAgain<'a, F: Fn(&Name, &Disk) -> bool>(&'a Shared, F);

impl<F: Fn(&Name, &Disk) -> bool> Drop for LooksAgain<'_, F> {
    fn drop(&mut self) {
        self.0.look_again(&self.1);
    }
}

impl Appliance for Rest {
    fn nodes(&self) -> Vec<api::NodeSummary> {
        let own = &self.shared.name;
        list(&self.shared.cluster().nodes, |name, node| {
            node_summary(name, node, name == own)
        })
    }

    fn node(&self) -> api::Node {
        self.view(|view| view.node())
    }

    fn reactors(&self) -> Vec<api::Reactor> {
        self.view(|view| view.reactors())
    }

    fn health(&self) -> api::Health {
        let fresh = self.shared.derive_findings(HEALTH_PATIENCE);
        let mut findings = self.shared.findings.list();
        // It is a finding of its own once it lasts.
        if !fresh && !self.shared.findings.stands(api::FindingKind::ControlBusy, "node") {
            let message = "the control loop holds the state of the node and has not let go of it yet";
            findings.push(api::Finding::new(api::FindingKind::ControlBusy, "node", message));
        }
        api::Health::of(findings)
    }

    fn doors_seen(&self, wrong: &[DoorTrouble]) {
        const KINDS: [api::FindingKind; 5] = [
            api::FindingKind::ApiSocketLost,
            api::FindingKind::KeysNotTaken,
            api::FindingKind::CertificateEnds,
            api::FindingKind::CertificateEndsSoon,
            api::FindingKind::CertificateNotValid,
        ];
        let told = wrong.iter().map(|wrong| match wrong {
            DoorTrouble::Socket { message } => (api::FindingKind::ApiSocketLost, message),
            DoorTrouble::Keys { message } => (api::FindingKind::KeysNotTaken, message),
            DoorTrouble::Certificate { state, message } => match state {
                CertificateState::Ends => (api::FindingKind::CertificateEnds, message),
                CertificateState::EndsSoon => (api::FindingKind::CertificateEndsSoon, message),
                CertificateState::NotValid => (api::FindingKind::CertificateNotValid, message),
            },
        });
        let told: Vec<_> = told.collect();
        for kind in KINDS {
            match told.iter().find(|(of, _)| *of == kind) {
                Some((_, message)) => self.shared.findings.restate(kind, "node", message.as_str()),
                None => self.shared.findings.clear(kind, "node"),
            }
        }
    }

    fn cluster(&self) -> api::ClusterStatus {
        self.cluster_status()
    }

    fn cluster_init(&self, request: api::ClusterInit) -> Result<api::ClusterStatus, Problem> {
        self.begin_cluster(&request)
    }

    fn cluster_join(&self, request: api::ClusterJoin) -> Result<api::ClusterJoined, Problem> {
        self.join_cluster(&request)
    }

    fn join_tokens(&self) -> Vec<api::JoinTokenSummary> {
        self.tokens()
    }

    fn join_token_create(&self, request: api::JoinTokenCreate) -> Result<api::JoinTokenMade, Problem> {
        self.make_token(&request)
    }

    fn join_token_revoke(&self, id: &str) -> Result<(), Problem> {
        self.revoke_token(id)
    }

    fn node_change(
        &self,
        node: &str,
        patch: api::NodePatch,
        expected: Option<u64>,
    ) -> Result<api::NodeSummary, Problem> {
        self.change_node(node, &patch, expected)
    }

    fn node_remove(
        &self,
        node: &str,
        expected: Option<u64>,
        how: api::RemovalOptions,
    ) -> Result<api::Removal, Problem> {
        self.remove_node(node, expected, how)
    }

    fn disks(&self) -> Vec<api::Disk> {
        self.view(|view| list(&view.cluster.disks, |name, disk| view.disk(name, disk)))
    }

    fn disk_add(&self, request: api::DiskCreate) -> Result<Created<api::Disk>, Problem> {
        let name = name("id", &request.id)?;
        self.own_node(request.node.as_deref())?;
        let path = request.medium.path().map(str::to_owned);
        let is_about = |one: &Name, disk: &Disk| {
            *one == name || (path.is_some() && disk.path_of(&self.shared.name) == path.as_deref())
        };
        let _look = LooksAgain(&self.shared, is_about);
        if let Some(answer) = self.known_disk(&name, &request) {
            return answer;
        }
        let settings = &self.shared.settings;
        settings.allow.check_medium(&request.medium)?;
        settings.make_folder_of(&request.medium);
        let (command, notes) = new_disk::command_for(&self.shared, &name, &request, chance())?;
        self.shared.last_seen.place(command.uuid);
        self.create(Command::AddDisk(command), |view| {
            let mut disk = view.disk(&name, view.cluster.disks.get(&name)?);
            // Said now, while the disk is not open yet; later it is seen by looking at it.
            let new: Vec<String> = notes
                .into_iter()
                .filter(|note| !disk.notes.contains(note))
                .collect();
            disk.notes.extend(new);
            Some(disk)
        })
    }

    fn disk_preview(&self, request: api::DiskCreate) -> Result<api::DiskPreview, Problem> {
        let name = name("id", &request.id)?;
        self.own_node(request.node.as_deref())?;
        if let Some(answer) = self.known_disk(&name, &request) {
            let (Created::Existing(disk) | Created::New(disk)) = answer?;
            return Ok(new_disk::of_known(disk));
        }
        self.shared.settings.allow.check_medium(&request.medium)?;
        new_disk::preview(&self.shared, &name, &request, chance())
    }

    fn disk_change(
        &self,
        id: &str,
        patch: api::DiskPatch,
        expected: Option<u64>,
    ) -> Result<api::Disk, Problem> {
        let _look = LooksAgain(&self.shared, |name: &Name, _: &Disk| name.as_str() == id);
        self.change_disk(id, &patch, expected)
    }

    fn disk_remove(
        &self,
        id: &str,
        expected: Option<u64>,
        how: api::RemovalOptions,
    ) -> Result<api::Removal, Problem> {
        let name = known("disk", id)?;
        let _look = LooksAgain(&self.shared, |one: &Name, _: &Disk| *one == name);
        let command = Command::RemoveDisk(RemoveDisk {
            name: name.clone(),
            expected: expected.map(Generation),
            releases: !how.force,
        });
        self.remove_disk(&name, command, how)
    }

    fn disks_relocate(&self, request: api::DiskRelocate) -> Result<api::DiskRelocated, Problem> {
        // Others than those that are named may have got another path.
        let _look = LooksAgain(&self.shared, |_: &Name, _: &Disk| true);
        exchanged::relocate(&self.shared, &request)
    }

    fn disk_adopt(&self, id: &str, request: api::DiskAdopt) -> Result<api::DiskAdoption, Problem> {
        takeover::adopt(&self.shared, id, &request)
    }

    fn disk_import(&self, request: api::DiskImport) -> Result<api::DiskImported, Problem> {
        let lies_there = |_: &Name, disk: &Disk| {
            let path = disk.path_of(&self.shared.name);
            path.is_some() && request.disks.iter().any(|one| one.path() == path)
        };
        let _look = LooksAgain(&self.shared, lies_there);
        takeover::import(&self.shared, &request)
    }

    fn state_backup(&self) -> api::StateBackup {
        let backup = Backup::of(Cluster::clone(&self.shared.cluster()));
        api::StateBackup {
            taken_unix_s: backup.taken_unix_s,
            generation: backup.cluster.generation.0,
            lineage: backup.cluster.lineage.to_string(),
            file: backup.to_text(),
        }
    }

    fn volumes(&self) -> Vec<api::Volume> {
        self.view(|view| list(&view.cluster.volumes, |name, volume| view.volume(name, volume)))
    }

    fn volume_create(&self, request: api::VolumeCreate) -> Result<Created<api::Volume>, Problem> {
        let id = name("id", &request.id)?;
        let node = self.own_node(request.node.as_deref())?;
        let disk = request
            .disk
            .as_deref()
            .map(|disk| name("disk", disk))
            .transpose()?;
        new_disk::await_superblocks(&self.shared, disk.as_ref());
        let command = Command::CreateVolume(CreateVolume {
            name: id.clone(),
            uuid: chance(),
            node,
            disk,
            sectors: Some(sectors(request.bytes)?),
            block_bytes: request.block_bytes,
            clear: request.clear.map(removal::clear),
            clears: true,
            clears_reused: true,
            clears_unknown_past: true,
        });
        disk_growth::refuse_more_on_unlinked(&self.shared, &command, &id)?;
        self.create(command, |view| {
            Some(view.volume(&id, view.cluster.volumes.get(&id)?))
        })
    }

    fn volume_change(
        &self,
        id: &str,
        patch: api::VolumePatch,
        expected: Option<u64>,
    ) -> Result<api::Volume, Problem> {
        let name = known("volume", id)?;
        let expected = expected.map(Generation);
        if patch.clear_held {
            let command = Command::ClearHeld(ClearHeld {
                name: name.clone(),
                expected,
            });
            return self.change(command, |view| {
                Some(view.volume(&name, view.cluster.volumes.get(&name)?))
            });
        }
        let treats = patch.protected.is_some() || patch.clear.is_some();
        removal::one_change("volume", patch.bytes.is_some(), treats, false)?;
        let command = match patch.bytes {
            Some(bytes) => Command::GrowVolume(GrowVolume {
                name: name.clone(),
                sectors: sectors(bytes)?,
                disk: None,
                expected,
                clears: true,
            }),
            None => Command::ChangeVolume(ChangeVolume {
                name: name.clone(),
                protected: patch.protected,
                clear: patch.clear.map(removal::clear),
                expected,
            }),
        };
        if patch.bytes.is_some() {
            disk_growth::refuse_more_on_unlinked(&self.shared, &command, &name)?;
        }
        self.change(command, |view| {
            Some(view.volume(&name, view.cluster.volumes.get(&name)?))
        })
    }

    fn volume_delete(
        &self,
        id: &str,
        expected: Option<u64>,
        how: api::RemovalOptions,
    ) -> Result<api::Removal, Problem> {
        let is_whole = Name::new(id).is_ok_and(|name| self.cluster().volumes.contains_key(&name));
        if !is_whole && let Some(removed) = self.remove_fragment(id, how) {
            return removed;
        }
        let name = known("volume", id)?;
        let command = Command::DeleteVolume(DeleteVolume {
            name: name.clone(),
            expected: expected.map(Generation),
            clear: how.clear,
            detaches: how.force,
        });
        self.remove_volume(&name, command, how)
    }

    fn attachments(&self) -> Vec<api::Attachment> {
        self.view(|view| {
            list(&view.cluster.attachments, |name, attachment| {
                view.attachment(name, attachment)
            })
        })
    }

    fn attachment_create(&self, request: api::AttachmentCreate) -> Result<Created<api::Attachment>, Problem> {
        let id = name("id", &request.id)?;
        let node = self.own_node(request.node.as_deref())?;
        let socket = request.socket.unwrap_or_else(|| {
            self.shared
                .settings
                .run_dir
                .join(format!("{id}.sock"))
                .to_string_lossy()
                .into_owned()
        });
        let (owner, group) = (
            request.owner.as_deref().map(account),
            request.group.as_deref().map(account),
        );
        if !self.shared.cluster().attachments.contains_key(&id) {
            accounts_exist(owner.as_ref(), group.as_ref())?;
            let allow = &self.shared.settings.allow;
            allow.check_owners(owner.as_ref(), group.as_ref(), request.mode.map(api::Mode::bits))?;
            allow.check_socket(&socket)?;
            if std::path::Path::new(&socket) == self.shared.settings.admin.socket {
                let message = format!("{socket} is the socket by which REST is reached");
                let remedy = "choose another path, or leave it out";
                return Err(
                    Problem::new(ProblemKind::Conflict, "socket_in_use", message, remedy).about("socket"),
                );
            }
        }
        let command = Command::CreateAttachment(CreateAttachment {
            name: id.clone(),
            uuid: chance(),
            volume: name("volume", &request.volume)?,
            node,
            socket,
            queues: request.queues.unwrap_or(1),
            queue_size: request
                .queue_size
                .unwrap_or(palisade_model::limits::QUEUE_SIZE_DEFAULT),
            owner,
            group,
            mode: request.mode.map_or(SOCKET_MODE, api::Mode::bits),
            read_only: request.read_only,
            serial: request.serial,
            limits: limits(request.limits.unwrap_or_default(), Limits::default()),
            write_cache: request.write_cache.unwrap_or(true),
        });
        self.create(command, |view| {
            Some(view.attachment(&id, view.cluster.attachments.get(&id)?))
        })
    }

    fn attachment_change(
        &self,
        id: &str,
        patch: api::AttachmentPatch,
        expected: Option<u64>,
    ) -> Result<api::Attachment, Problem> {
        let name = known("attachment", id)?;
        let (owner, group) = (
            patch.owner.as_deref().map(account),
            patch.group.as_deref().map(account),
        );
        accounts_exist(owner.as_ref(), group.as_ref())?;
        self.shared.settings.allow.check_owners(
            owner.as_ref(),
            group.as_ref(),
            patch.mode.map(api::Mode::bits),
        )?;
        let command = Command::ChangeAttachment(ChangeAttachment {
            owner,
            group,
            mode: patch.mode.map(api::Mode::bits),
            limits: patch.limits.map(|request| limits(request, Limits::default())),
            expected: expected.map(Generation),
            ..ChangeAttachment::of(name.clone())
        });
        self.change(command, |view| {
            Some(view.attachment(&name, view.cluster.attachments.get(&name)?))
        })
    }

    fn attachment_delete(
        &self,
        id: &str,
        expected: Option<u64>,
        how: api::RemovalOptions,
    ) -> Result<api::Removal, Problem> {
        let name = known("attachment", id)?;
        let command = Command::DeleteAttachment(DeleteAttachment {
            name: name.clone(),
            expected: expected.map(Generation),
        });
        self.remove_attachment(&name, command, how)
    }

    fn events_after(&self, after: &api::EventId, limit: usize) -> api::EventPage {
        self.shared.records.after(&self.shared.events, after, limit)
    }

    fn events_last(&self, count: usize) -> api::EventPage {
        self.shared.records.last(&self.shared.events, count)
    }

    fn command_ended(&self, mut event: api::Event) {
        if let api::Actor::User { uid, name } = &mut event.actor {
            *name = accounts::user_name(*uid);
        }
        recorder::keep_command(&self.shared.events, event);
    }

    fn metrics(&self) -> MetricsSnapshot {
        let cluster = self.shared.cluster();
        let state = self.shared.seen();
        MetricsSnapshot {
            state_age: state.age(),
            ..View::new(&self.shared, &cluster, &state).metrics()
        }
    }
}

fn chance() -> Uuid {
    Uuid(uuid::Uuid::new_v4().as_u128())
}

/// A name the client has chosen.
fn name(field: &'static str, text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|error| problem::of_name(field, error))
}

/// The name of something that should be there: what is no name is not there.
fn known(resource: &str, id: &str) -> Result<Name, Problem> {
    Name::new(id).map_err(|_| Problem::not_found(resource, id))
}

fn sectors(bytes: u64) -> Result<u64, Problem> {
    let refused = |message: String, remedy: String| {
        Err(Problem::new(ProblemKind::Invalid, "invalid_argument", message, remedy).about("bytes"))
    };
    if bytes == 0 {
        return refused(
            "a size of 0 holds nothing".into(),
            "give one such as 10GiB".into(),
        );
    }
    if !bytes.is_multiple_of(SECTOR_BYTES) {
        let message = format!("{bytes} bytes are not a whole number of 512-byte sectors");
        return refused(message, problem::round(bytes));
    }
    Ok(bytes / SECTOR_BYTES)
}

/// Refuses a user or group that this machine does not know: no socket could be given to it.
fn accounts_exist(owner: Option<&Account>, group: Option<&Account>) -> Result<(), Problem> {
    let unknown = |field: &'static str| {
        move |message: String| {
            let (message, remedy) = message.split_once(": ").unwrap_or((&message, "give its number"));
            Problem::new(ProblemKind::Invalid, "account_unknown", message, remedy).about(field)
        }
    };
    owner
        .map(accounts::user_id)
        .transpose()
        .map_err(unknown("owner"))?;
    group
        .map(accounts::group_id)
        .transpose()
        .map_err(unknown("group"))?;
    Ok(())
}

/// Limits as asked; what is left out is as in `otherwise`.
fn limits(request: api::Limits, otherwise: Limits) -> Limits {
    Limits {
        iops: request.iops.unwrap_or(otherwise.iops),
        bytes_per_second: request.bytes_per_second.unwrap_or(otherwise.bytes_per_second),
        burst_ms: request.burst_ms.unwrap_or(otherwise.burst_ms),
    }
}

fn gone_again() -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "gone_again",
        "it was made, and removed again at once by another client",
        "look again",
    )
}

#[cfg(test)]
pub(crate) mod tests;
