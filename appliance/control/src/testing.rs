//! What the tests of this crate share: a small cluster, and a machine that is driven by hand.

use crate::control::Control;
use crate::disk::SuperblockLook;
use crate::effect::{DoorChange, Effect, Work};
use crate::event::{NodeEvent, TaskEnd};
use crate::task::TaskId;
use palisade_block::Nanos;
use palisade_block::mailbox::ReactorChange;
use palisade_model::{
    AddDisk, Attachment, Cluster, Command, CreateAttachment, CreateVolume, InitCluster, Limits, Medium,
    MediumRecord, Usage,
};
use palisade_reconcile::SuperblockState;
use palisade_words::{AttachmentIndex, Generation, Name, ReactorIndex, Uuid};
use std::sync::Arc;

pub(crate) const SECTORS: u64 = 1 << 16;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|error| unreachable!("{text} is no name: {error}"))
}

/// An attachment of volume `v`.
pub(crate) fn attachment() -> Attachment {
    Attachment {
        uuid: Uuid(31),
        volume: name("v"),
        node: name("n"),
        socket: "/run/a.sock".into(),
        queues: 1,
        queue_size: 256,
        owner: None,
        group: None,
        mode: 0o660,
        read_only: false,
        serial: "s".into(),
        limits: Limits::default(),
        write_cache: true,
        created: Generation(1),
        revision: Generation(1),
    }
}

/// A machine of two reactors, the cluster that it sees, and the time.
pub(crate) struct Bench {
    pub control: Control,
    pub cluster: Arc<Cluster>,
    pub now: Nanos,
    /// All effects that were given and nobody has looked at yet.
    pub effects: Vec<Effect>,
}

impl Bench {
    /// With disk `d`, given whole.
    pub(crate) fn new() -> Bench {
        let mut bench = Bench {
            control: Control::new(name("n"), 2, Generation(0)),
            cluster: Arc::new(Cluster::empty()),
            now: Nanos::from_secs(1),
            effects: Vec::new(),
        };
        bench.apply(Command::InitCluster(InitCluster {
            id: Uuid(1),
            node: name("n"),
            node_uuid: Uuid(2),
        }));
        bench.add_disk("d", 10);
        bench
    }

    /// The same with volume `v` on it, which attachment `a` offers; all of it in force.
    pub(crate) fn serving() -> Bench {
        let mut bench = Bench::new();
        bench.apply(create_volume("v", 20));
        bench.attach("a");
        bench.settle();
        assert!(bench.control.observed.sockets.contains_key(&name("a")));
        bench
    }

    pub(crate) fn add_disk(&mut self, disk: &str, uuid: u128) {
        self.apply(Command::AddDisk(AddDisk {
            name: name(disk),
            uuid: Uuid(uuid),
            node: name("n"),
            medium: Medium::File {
                path: format!("/{disk}"),
                bytes: SECTORS * 512,
                created: true,
            },
            record: MediumRecord::default(),
            usage: Usage::Whole,
            block_bytes: 512,
            sectors: SECTORS,
            data_start: 0,
            data_end: SECTORS,
            superblock_pending: false,
        }));
    }

    pub(crate) fn attach(&mut self, attachment: &str) {
        self.apply(Command::CreateAttachment(CreateAttachment {
            name: name(attachment),
            uuid: Uuid(31),
            volume: name("v"),
            node: name("n"),
            socket: format!("/run/{attachment}.sock"),
            queues: 2,
            queue_size: 128,
            owner: None,
            group: None,
            mode: 0o660,
            read_only: false,
            serial: None,
            limits: Limits::default(),
            write_cache: true,
        }));
    }

    pub(crate) fn apply(&mut self, command: Command) {
        let applied = self.cluster.apply(&command);
        let (cluster, _) = applied.unwrap_or_else(|refusal| unreachable!("{command:?}: {refusal:?}"));
        self.cluster = Arc::new(cluster);
    }

    /// Tells the machine, and keeps what it answers.
    pub(crate) fn on(&mut self, event: NodeEvent) {
        let effects = self.control.on(event, &self.cluster, self.now);
        self.effects.extend(effects);
    }

    pub(crate) fn changed(&mut self) {
        self.on(NodeEvent::Changed);
    }

    pub(crate) fn finish(&mut self, task: TaskId, result: Result<TaskEnd, String>) {
        self.on(NodeEvent::Finished { task, result });
    }

    pub(crate) fn acknowledge(&mut self, task: TaskId, reactor: u16) {
        let reactor = ReactorIndex(reactor);
        self.on(NodeEvent::Acknowledged { task, reactor });
    }

    /// Takes out the work that was begun.
    pub(crate) fn works(&mut self) -> Vec<(TaskId, Work)> {
        let is_work = |effect: &mut Effect| matches!(effect, Effect::Start { .. });
        let works = self.effects.extract_if(.., is_work);
        let work = |effect| match effect {
            Effect::Start { task, work, .. } => Some((task, work)),
            _ => None,
        };
        works.filter_map(work).collect()
    }

    /// The one work that was begun.
    pub(crate) fn work(&mut self) -> (TaskId, Work) {
        let mut works = self.works();
        assert_eq!(works.len(), 1, "{works:?}");
        works.remove(0)
    }

    /// Takes out what the reactors were told.
    pub(crate) fn told(&mut self) -> Vec<(ReactorIndex, Option<TaskId>, ReactorChange)> {
        let is_told = |effect: &mut Effect| matches!(effect, Effect::Tell { .. });
        let told = self.effects.extract_if(.., is_told);
        let change = |effect| match effect {
            Effect::Tell {
                reactor,
                task,
                change,
            } => Some((reactor, task, change)),
            _ => None,
        };
        told.filter_map(change).collect()
    }

    /// The one task that both reactors were told to acknowledge.
    pub(crate) fn asked(&mut self) -> TaskId {
        let told = self.told();
        let asked: Vec<_> = told.iter().filter_map(|(_, task, _)| *task).collect();
        assert!(asked.len() == 2 && asked[0] == asked[1], "{told:?}");
        asked[0]
    }

    /// Takes out what the door was told.
    pub(crate) fn door(&mut self) -> Vec<DoorChange> {
        let is_told = |effect: &mut Effect| matches!(effect, Effect::TellDoor(_));
        let told = self.effects.extract_if(.., is_told);
        let change = |effect| match effect {
            Effect::TellDoor(change) => Some(change),
            _ => None,
        };
        told.filter_map(change).collect()
    }

    /// The task that has offered an attachment.
    pub(crate) fn offering(&self, attachment: &str) -> TaskId {
        self.control.attachments[&name(attachment)].offering
    }

    pub(crate) fn index(&self, attachment: &str) -> AttachmentIndex {
        self.control.attachments[&name(attachment)].index
    }

    /// Carries everything out at once, until there is nothing left to do.
    pub(crate) fn settle(&mut self) {
        self.changed();
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Start { task, work, .. } => {
                if let Work::Propose { command } = &work {
                    self.apply(Command::clone(command));
                }
                self.finish(task, Ok(ended(&work)));
            }
            Effect::Tell {
                reactor,
                task: Some(task),
                ..
            } => self.on(NodeEvent::Acknowledged { task, reactor }),
            Effect::TellDoor(DoorChange::Detach { attachment } | DoorChange::GiveUp { attachment }) => {
                let offering = self.control.offering_of(attachment);
                if let Some(offering) = offering {
                    self.on(NodeEvent::Detached { offering });
                }
            }
            _ => {}
        }
    }
}

/// How work ends when all is well.
pub(crate) fn ended(work: &Work) -> TaskEnd {
    match work {
        Work::OpenDisk { .. } => opened(SuperblockState::Missing),
        _ => TaskEnd::Done,
    }
}

pub(crate) fn opened(superblock: SuperblockState) -> TaskEnd {
    let look = SuperblockLook {
        superblock,
        ..SuperblockLook::default()
    };
    TaskEnd::Opened {
        look,
        is_agreed: true,
    }
}

pub(crate) fn create_volume(volume: &str, uuid: u128) -> Command {
    Command::CreateVolume(CreateVolume {
        name: name(volume),
        uuid: Uuid(uuid),
        node: name("n"),
        disk: Some(name("d")),
        sectors: Some(SECTORS / 2),
        block_bytes: None,
        clear: Some(palisade_model::Clear::Never),
        clears: true,
        clears_reused: true,
        clears_unknown_past: true,
    })
}
