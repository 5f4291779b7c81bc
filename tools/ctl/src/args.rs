//! The command line, defined once: help, completions and parsing follow from it.

mod cluster;
mod completion;
mod takeover;

pub use cluster::{ClusterCommand, Join, NodeCommand, NodePlace, TokenCommand};
pub use completion::{Kind, Shell};
pub use takeover::{DiskAdopt, DiskImport};

use crate::examples;
use clap::builder::PossibleValuesParser;
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use palisade_api::{EventId, Mode, size};
use std::path::PathBuf;
use std::time::Duration;

/// Looks at and changes a Palisade storage appliance.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, propagate_version = true, after_help = examples::FIRST)]
pub struct Cli {
    /// Which appliance and how to talk to it.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which appliance and how to talk to it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection and output")]
pub struct Target {
    /// Where the appliance is, as http://HOST:PORT, https://HOST:PORT or unix:/PATH. Without it, the socket of this
    /// machine's daemon: as /etc/palisade/palisade.toml has it, or /run/palisade/api.socket.
    #[arg(long, global = true, env = "PALISADE_URL")]
    pub url: Option<String>,
    /// The appliance's token. Others on this machine can see it in the process list: a file or PALISADE_TOKEN hides it.
    #[arg(long, global = true, env = "PALISADE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the token.
    #[arg(long, global = true, env = "PALISADE_TOKEN_FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the certificate that signed the appliance's, or with the appliance's own.
    #[arg(long, global = true, env = "PALISADE_CACERT")]
    pub cacert: Option<PathBuf>,
    /// Print the appliance's JSON instead of tables.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the node that is asked; change a node of the cluster or take one out.
    Node {
        /// What to do; without it, the node that is asked is shown.
        #[command(subcommand)]
        command: Option<NodeCommand>,
    },
    /// Show the reactors of the node.
    Reactors,
    /// Show what is wrong; exits with 1 unless everything is well.
    Health,
    /// Show what happened.
    #[command(after_help = examples::EVENTS)]
    Events(Events),
    /// Show what attachments are doing, again and again.
    Top(Top),
    /// Show the nodes of the cluster.
    Nodes,
    /// Show the cluster, form one of several nodes, and let nodes in.
    Cluster {
        /// What to do; without it, the cluster is shown.
        #[command(subcommand)]
        command: Option<ClusterCommand>,
    },
    /// Add, show, grow and take away disks: the media that volumes lie on.
    #[command(subcommand)]
    Disk(Disk),
    /// Create, show, grow and delete volumes: what guests see as disks.
    #[command(subcommand)]
    Volume(Volume),
    /// Offer volumes to virtual machines, and print what to paste there.
    #[command(subcommand)]
    Attachment(Attachment),
    /// Back up and restore the cluster database: which disks, volumes and attachments there are.
    #[command(subcommand)]
    State(State),
    /// Compare this machine with what it should be before it serves disks; needs no daemon.
    #[command(after_help = examples::PREFLIGHT)]
    Preflight(Preflight),
    /// Print the ids of what there is, for completion.
    #[command(hide = true)]
    Ids {
        /// Of which kind.
        kind: Kind,
    },
    /// Print a script that completes this command in a shell, ids too.
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// For which shell.
        shell: Shell,
    },
}

impl Command {
    /// How long it waits for what is agreed on to be in force, if it was told to.
    pub fn waits(&self) -> Option<Duration> {
        let wait = match self {
            Command::Disk(Disk::Add(add)) => add.wait,
            Command::Disk(Disk::Adopt(adopt)) => adopt.wait,
            Command::Attachment(Attachment::Create(create)) => create.wait,
            Command::Disk(
                Disk::Grow { wait, .. } | Disk::Confirm { wait, .. } | Disk::Remove { wait, .. },
            )
            | Command::Volume(
                Volume::Create { wait, .. }
                | Volume::Grow { wait, .. }
                | Volume::Set { wait, .. }
                | Volume::Delete { wait, .. },
            )
            | Command::Attachment(Attachment::Set { wait, .. }) => *wait,
            _ => return None,
        };
        wait.wait.then(|| Duration::from_secs(wait.wait_timeout))
    }
}

/// How to look at the machine.
#[derive(Debug, Args)]
pub struct Preflight {
    /// What the machine is compared with.
    #[arg(long, default_value = "bare-metal", value_parser = PossibleValuesParser::new(palisade_preflight::Profile::names()))]
    pub profile: String,
    /// Cores that reactors are to run on, as 2,3,6 or 2-5. Without it, it is looked whether any
    /// are kept free.
    #[arg(long, value_parser = palisade_preflight::CpuSet::listed, allow_hyphen_values = true, value_name = "CORES")]
    pub cores: Option<palisade_preflight::CpuSet>,
    /// Set what can safely be set while the machine runs; it lasts until the next boot.
    #[arg(long)]
    pub apply: bool,
}

/// Which events.
#[derive(Debug, Args)]
pub struct Events {
    /// Go on as they happen, until interrupted.
    #[arg(long, short)]
    pub follow: bool,
    /// The last N of them: 50 when nothing is said, 10 with --follow.
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["after", "all"])]
    pub last: Option<u64>,
    /// All after the event of this id, or of this number on the node that is asked.
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    pub after: Option<EventId>,
    /// All that are kept.
    #[arg(long, short)]
    pub all: bool,
    /// Only what operators have commanded: the audit trail.
    #[arg(long, short)]
    pub commands: bool,
}

/// How to watch.
#[derive(Debug, Args)]
pub struct Top {
    /// Seconds between two looks.
    #[arg(long, short, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// Stop after this many tables.
    #[arg(long, short, value_name = "N")]
    pub count: Option<u64>,
}

/// Waiting for what was agreed on.
#[derive(Clone, Copy, Debug, Args)]
pub struct Wait {
    /// Wait until the change is in force on the node.
    #[arg(long)]
    pub wait: bool,
    /// Give up waiting after this many seconds; the change itself stays agreed on.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", requires = "wait")]
    pub wait_timeout: u64,
}

/// Guarding a change.
#[derive(Clone, Copy, Debug, Args)]
pub struct Guard {
    /// Change it only if it is still of this generation.
    #[arg(long, value_name = "GENERATION")]
    pub expect: Option<u64>,
}

/// Consent to taking something away.
#[derive(Clone, Copy, Debug, Args)]
pub struct Consent {
    /// Do it without asking. Without it the command says what will happen and asks, and does nothing where nobody can
    /// be asked.
    #[arg(long, short)]
    pub yes: bool,
    /// Only show what would happen, whether --yes is given or not.
    #[arg(long)]
    pub dry_run: bool,
}

/// Whether something may be taken away at all.
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub struct Protection {
    /// Refuse to take it away until this is lifted.
    #[arg(long)]
    pub protect: bool,
    /// Let it be taken away again.
    #[arg(long)]
    pub unprotect: bool,
}

impl Protection {
    /// As REST takes it.
    pub fn request(self) -> Option<bool> {
        (self.protect || self.unprotect).then_some(self.protect)
    }
}

/// When a volume's space is cleared, so that what its guest has not written reads as zeros.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Clear {
    /// Before a guest sees it.
    Now,
    /// Before a guest sees it, and again when the volume is deleted.
    OnDelete,
    /// Not at all: a guest may read what was there before.
    Never,
}

impl Clear {
    /// As REST takes it.
    pub fn request(self) -> palisade_api::Clear {
        match self {
            Clear::Now => palisade_api::Clear::Now,
            Clear::OnDelete => palisade_api::Clear::OnDelete,
            Clear::Never => palisade_api::Clear::Never,
        }
    }
}

/// What to do with disks.
#[derive(Debug, Subcommand)]
pub enum Disk {
    /// Add a disk: a file, a block device, or memory for tests.
    #[command(after_help = examples::DISK_ADD)]
    Add(Box<DiskAdd>),
    /// List all disks.
    #[command(visible_alias = "ls")]
    List,
    /// Show one disk.
    Show {
        /// Its id.
        id: String,
    },
    /// Let a disk grow, or look at its size again.
    #[command(after_help = examples::DISK_GROW)]
    Grow {
        /// Its id.
        id: String,
        /// New size of a file, as 20GiB. Without it, the size of the medium is read again.
        #[arg(value_parser = size::parse_some, allow_hyphen_values = true)]
        size: Option<u64>,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        wait: Wait,
    },
    /// Say where a disk's medium is found now, or that what lies there is the disk.
    #[command(after_help = examples::DISK_CONFIRM)]
    Confirm {
        /// Its id; or the ids of all disks that have exchanged their paths, to record in one step where each of them is. Where
        /// nothing tells them apart beyond doubt, say where each is: w1=/dev/loop2 w2=/dev/loop1. One alone may take the path of
        /// another whose medium is not there: w2=/srv/w1.
        #[arg(required = true, num_args = 1.., value_name = "ID[=PATH]")]
        id: Vec<String>,
        /// Where the medium of one disk is found from now on, by absolute path.
        #[arg(long, value_hint = ValueHint::AnyPath)]
        path: Option<String>,
        /// What lies there is the disk. Without it, only the recorded medium is taken, and what speaks against another
        /// one is shown.
        #[arg(long)]
        yes: bool,
        /// Only show what lies where; with --yes, what would be taken by that.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        wait: Wait,
    },
    /// Protect a disk against being taken away, or lift that.
    #[command(group = ArgGroup::new("change").required(true).args(["protect", "unprotect"]))]
    Set {
        /// Its id.
        id: String,
        #[command(flatten)]
        protection: Protection,
        #[command(flatten)]
        guard: Guard,
    },
    /// Decide about a disk whose superblock and the database differ; first shows what would be lost.
    #[command(after_help = examples::DISK_ADOPT)]
    Adopt(DiskAdopt),
    /// Take disks in with the volumes that their superblocks tell of; first shows what was found.
    #[command(after_help = examples::DISK_IMPORT)]
    Import(DiskImport),
    /// Give a disk up that holds no volume.
    ///
    /// A pooled disk loses its superblock; a whole disk keeps its content.
    #[command(visible_alias = "rm")]
    Remove {
        /// Its id.
        id: String,
        /// Take it away at once, although its medium cannot be reached: what the medium carries stays there.
        #[arg(long, conflicts_with = "wait")]
        force: bool,
        #[command(flatten)]
        wait: Wait,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        consent: Consent,
    },
}

/// What to do with the cluster database.
#[derive(Debug, Subcommand)]
pub enum State {
    /// Write the cluster database to a file.
    ///
    /// Asks the daemon; with --state-dir, reads the directory of a daemon that does not run.
    #[command(after_help = examples::STATE_BACKUP)]
    Backup {
        /// The file to be made, which must not exist.
        file: PathBuf,
        /// State directory of a daemon that does not run.
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Make a state directory of a backup.
    ///
    /// The daemon must not run, and the directory must hold no database: --dry-run says whether that is so.
    #[command(after_help = examples::STATE_RESTORE)]
    Restore {
        /// The file that `palisade state backup` has made.
        file: PathBuf,
        /// The state directory (`state_dir` in the daemon's configuration); made if it is not there.
        #[arg(long, value_name = "DIR")]
        state_dir: PathBuf,
        /// Only show what the file holds and in what a database in the directory differs from it.
        #[arg(long)]
        dry_run: bool,
    },
}

/// A disk to be added.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("medium").required(true).args(["file", "block", "memory", "null"]))]
pub struct DiskAdd {
    /// Its id, chosen by you: a-z, 0-9 and '-'.
    pub id: String,
    /// The node that reaches it.
    #[arg(long)]
    pub node: Option<String>,
    /// A file, by absolute path; created when it does not exist and --size is given.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub file: Option<String>,
    /// A block device, by absolute path.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub block: Option<String>,
    /// Memory of this size, for tests: content is gone when the daemon ends.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_some, allow_hyphen_values = true)]
    pub memory: Option<u64>,
    /// A disk of this size that keeps nothing, for measuring.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_some, allow_hyphen_values = true)]
    pub null: Option<u64>,
    /// Size of the file, as 10GiB.
    #[arg(long, value_parser = size::parse_some, allow_hyphen_values = true, requires = "file")]
    pub size: Option<u64>,
    /// Let the file have holes instead of reserving its space.
    #[arg(long, requires = "file")]
    pub sparse: bool,
    /// Give the disk to one volume untouched, instead of sharing it between volumes. A volume that comes after another
    /// on it does not see what that held.
    #[arg(long)]
    pub whole: bool,
    /// Logical block in bytes: 512 or 4096.
    #[arg(long, value_name = "BYTES")]
    pub block_bytes: Option<u32>,
    /// Take the disk although it holds something. What a pooled disk holds is lost for good; a whole disk is left as it is,
    /// and its volume shows it.
    #[arg(long)]
    pub force: bool,
    /// Do not ask, with --force, about volumes of Palisade's that are lost.
    #[arg(long, short, requires = "force")]
    pub yes: bool,
    /// Take a disk in a place that is emptied when the machine or the daemon stops, as /dev/shm.
    #[arg(long)]
    pub volatile: bool,
    /// Only show what is found on it, what would be wiped and what would be lost.
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: Wait,
}

/// What to do with volumes.
#[derive(Debug, Subcommand)]
pub enum Volume {
    /// Create a volume.
    #[command(after_help = examples::VOLUME_CREATE)]
    Create {
        /// Its id, chosen by you: a-z, 0-9 and '-'.
        id: String,
        /// Its size, as 10GiB.
        #[arg(value_parser = size::parse_some, allow_hyphen_values = true)]
        size: u64,
        /// The node on whose disks it is to lie.
        #[arg(long)]
        node: Option<String>,
        /// The disk to lie on; one with enough room is chosen without it.
        #[arg(long)]
        disk: Option<String>,
        /// Logical block in bytes: 512 or 4096.
        #[arg(long, value_name = "BYTES")]
        block_bytes: Option<u32>,
        /// When its space is cleared; without it before a guest sees it, and never for the first volume of a disk given
        /// whole, which shows what the disk holds, unless the database was put back from a copy since.
        #[arg(long, value_enum, value_name = "WHEN")]
        clear: Option<Clear>,
        #[command(flatten)]
        wait: Wait,
    },
    /// List all volumes.
    #[command(visible_alias = "ls")]
    List,
    /// Show one volume.
    Show {
        /// Its id.
        id: String,
    },
    /// Let a volume grow; its guest sees the new size at once.
    Grow {
        /// Its id.
        id: String,
        /// New size, as 20GiB.
        #[arg(value_parser = size::parse_some, allow_hyphen_values = true)]
        size: u64,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        wait: Wait,
    },
    /// Protect a volume, or choose when its space is cleared.
    #[command(group = ArgGroup::new("change").required(true).multiple(true).args(["protect", "unprotect", "clear", "clear_held"]))]
    #[command(after_help = examples::VOLUME_SET)]
    Set {
        /// Its id.
        id: String,
        #[command(flatten)]
        protection: Protection,
        /// When its space is cleared. `never` also gives guests what is not clear yet.
        #[arg(long, value_enum, value_name = "WHEN")]
        clear: Option<Clear>,
        /// Zero its space, whatever lies there, where its clearing is held since the database was restored. To keep what lies
        /// there instead: --clear never.
        #[arg(long, conflicts_with_all = ["protect", "unprotect", "clear"])]
        clear_held: bool,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        wait: Wait,
    },
    /// Delete a volume and what it holds.
    #[command(visible_alias = "rm")]
    Delete {
        /// Its id.
        id: String,
        /// Take its attachments away with it, although virtual machines are connected to them.
        #[arg(long)]
        force: bool,
        /// Clear its space before anybody else gets it.
        #[arg(long)]
        clear: bool,
        /// Give its space up as it is, and end the clearing of a volume that is being deleted.
        #[arg(long, conflicts_with = "clear")]
        no_clear: bool,
        #[command(flatten)]
        wait: Wait,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        consent: Consent,
    },
}

/// What to do with attachments.
#[derive(Debug, Subcommand)]
pub enum Attachment {
    /// Offer a volume to a virtual machine.
    #[command(after_help = examples::ATTACHMENT_CREATE)]
    Create(Box<AttachmentCreate>),
    /// List all attachments.
    #[command(visible_alias = "ls")]
    List,
    /// Show one attachment.
    Show {
        /// Its id.
        id: String,
    },
    /// Change limits or the socket's rights while the guest runs.
    #[command(group = ArgGroup::new("change").required(true).multiple(true).args([
        "owner", "group", "mode", "iops", "bandwidth", "burst_ms", "no_limits",
    ]))]
    #[command(after_help = examples::ATTACHMENT_SET)]
    Set {
        /// Its id.
        id: String,
        #[command(flatten)]
        rights: Rights,
        #[command(flatten)]
        limits: Limits,
        /// Take all limits away.
        #[arg(long, action = ArgAction::SetTrue, conflicts_with_all = ["iops", "bandwidth", "burst_ms"])]
        no_limits: bool,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        wait: Wait,
    },
    /// Take an attachment away.
    #[command(visible_alias = "rm")]
    Delete {
        /// Its id.
        id: String,
        /// Take it away although a virtual machine is connected to it.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        guard: Guard,
        #[command(flatten)]
        consent: Consent,
    },
    /// Print the arguments that give disks to one QEMU virtual machine.
    #[command(after_help = examples::QEMU_ARGS)]
    QemuArgs {
        /// Their ids: all disks of the machine.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Memory of the virtual machine, which must be shared with the daemon; printed once.
        #[arg(long, value_parser = machine_memory, default_value = "1GiB")]
        memory: u64,
        /// Back the memory with hugepages.
        #[arg(long)]
        hugepages: bool,
        /// Leave the memory out: for a machine whose shared memory is given already.
        #[arg(long, conflicts_with_all = ["memory", "hugepages"])]
        no_memory: bool,
        /// Version of QEMU that takes the arguments, as 7.2; without it, that of the one installed here.
        #[arg(long, value_name = "VERSION", value_parser = crate::paste::QemuVersion::parse)]
        qemu_version: Option<crate::paste::QemuVersion>,
    },
    /// Print a libvirt domain with disks, ready for `virsh define`.
    #[command(after_help = examples::LIBVIRT_XML)]
    LibvirtXml {
        /// Their ids: all disks of the domain.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Name of the first disk in the domain; the others are named on from there.
        #[arg(long, default_value = "vda", value_parser = target_name)]
        target: String,
        /// Memory of the domain.
        #[arg(long, value_parser = machine_memory, default_value = "1GiB")]
        memory: u64,
        /// Print the <disk> elements alone, for `virsh attach-device` or a domain that has shared memory already.
        #[arg(long, conflicts_with = "memory")]
        disk_only: bool,
    },
}

/// Memory of a virtual machine, which QEMU counts in MiB.
fn machine_memory(text: &str) -> Result<u64, String> {
    let bytes = size::parse_some(text).map_err(|error| error.to_string())?;
    match bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) {
        true => Ok(bytes),
        false => Err("the memory of a machine is given in whole MiB, as 512MiB or 4GiB".to_owned()),
    }
}

/// A name of a disk in a domain, as libvirt counts them.
fn target_name(text: &str) -> Result<String, String> {
    let letters = text.strip_prefix("vd").unwrap_or_default();
    match !letters.is_empty() && letters.bytes().all(|byte| byte.is_ascii_lowercase()) {
        true => Ok(text.to_owned()),
        false => Err("a disk of bus virtio is called vda, vdb and so on".to_owned()),
    }
}

/// An attachment to be created.
#[derive(Debug, Args)]
pub struct AttachmentCreate {
    /// Its id, chosen by you: a-z, 0-9 and '-'.
    pub id: String,
    /// The volume to offer.
    pub volume: String,
    /// The node to offer it on.
    #[arg(long)]
    pub node: Option<String>,
    /// Absolute path of the socket; without it, the id and .sock in the daemon's run_dir.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<String>,
    /// Virtqueues; each is served by one reactor.
    #[arg(long)]
    pub queues: Option<u16>,
    /// Entries of one virtqueue, a power of two.
    #[arg(long)]
    pub queue_size: Option<u16>,
    /// Let the guest read only.
    #[arg(long)]
    pub read_only: bool,
    /// What the guest reads as the disk's serial number.
    #[arg(long)]
    pub serial: Option<String>,
    /// Offer no volatile write cache: every write is stable when it is answered.
    #[arg(long)]
    pub write_through: bool,
    #[command(flatten)]
    pub rights: Rights,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub wait: Wait,
}

/// Who may use a socket.
#[derive(Debug, Args)]
pub struct Rights {
    /// User that owns the socket, by name or number.
    #[arg(long)]
    pub owner: Option<String>,
    /// Group of the socket, by name or number.
    #[arg(long)]
    pub group: Option<String>,
    /// Access rights of the socket, as 0660.
    #[arg(long)]
    pub mode: Option<Mode>,
}

/// How fast an attachment may go.
#[derive(Debug, Args)]
pub struct Limits {
    /// Requests a second.
    #[arg(long)]
    pub iops: Option<u64>,
    /// Bytes a second, as 200MiB; at least 4KiB.
    #[arg(long, value_parser = size::parse_some, allow_hyphen_values = true)]
    pub bandwidth: Option<u64>,
    /// Milliseconds' worth of the limits that may be used up at once after a rest: 0 for none, else no less than one request
    /// takes; of no use without a limit.
    #[arg(long, value_name = "MS")]
    pub burst_ms: Option<u32>,
}

impl Limits {
    /// As REST takes them, on top of those there are; none when nothing is given.
    pub fn over(&self, present: &palisade_api::Limits) -> Option<palisade_api::Limits> {
        let given = (self.iops, self.bandwidth, self.burst_ms) != (None, None, None);
        given.then_some(palisade_api::Limits {
            iops: self.iops.or(present.iops),
            bytes_per_second: self.bandwidth.or(present.bytes_per_second),
            burst_ms: self.burst_ms.or(present.burst_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
