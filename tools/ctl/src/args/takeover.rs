//! What is typed about disks that carry more, or something else, than the database knows.

use super::Wait;
use clap::{ArgGroup, Args, ValueEnum};

/// A disk about which an operator decides.
#[derive(Debug, Args)]
pub struct DiskAdopt {
    /// Its id.
    pub id: String,
    /// Which side is to hold: what the disk says, or what the database says. Without it, only shows what each knows.
    #[arg(long, value_name = "SIDE", value_enum)]
    pub take: Option<Side>,
    /// Write the side of the database over what the medium holds, although nothing on it says that it is the disk.
    #[arg(long, requires = "take")]
    pub force: bool,
    /// Do not ask.
    #[arg(long, requires = "take")]
    pub yes: bool,
    /// Only show what would be lost.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: Wait,
}

/// Which side is to hold.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Side {
    /// What the disk says: the database takes it over.
    Disk,
    /// What the database says: it is written to the disk.
    Database,
}

impl From<Side> for palisade_api::Side {
    fn from(side: Side) -> palisade_api::Side {
        match side {
            Side::Disk => palisade_api::Side::Disk,
            Side::Database => palisade_api::Side::Database,
        }
    }
}

/// Disks to be taken in with their volumes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("media").required(true).multiple(true).args(["file", "block"]))]
pub struct DiskImport {
    /// A file, by absolute path. Give all disks of a volume together.
    #[arg(long, value_name = "PATH")]
    pub file: Vec<String>,
    /// A block device, by absolute path.
    #[arg(long, value_name = "PATH")]
    pub block: Vec<String>,
    /// The disk's id here, when one disk is given. Without it, its name as its superblock has it.
    #[arg(long)]
    pub id: Option<String>,
    /// Take disks of another cluster although this one has disks of its own. That cluster must not use them any more.
    #[arg(long)]
    pub from_other_cluster: bool,
    /// Take them also where they do not last: on a file system in memory, or made of memory.
    #[arg(long)]
    pub volatile: bool,
    /// Only show what was found.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}
