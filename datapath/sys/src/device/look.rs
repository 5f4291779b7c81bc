//! A look at an open device from the outside, for whoever watches over it: is it still there, still as long, and does
//! its file system have room? None of this is asked on the data path, and all of it may wait as long as the device does.

use super::mount::Mount;
use super::{Media, Opened, geometry, loops};
use crate::filesystem::{self, FileSystem};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// What an open file or block device looks like at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Size in bytes.
    pub bytes: u64,
    /// Its kernel device has been taken away. A descriptor of it stays open and answers with errors for ever.
    pub gone: bool,
    /// It is a block device that takes no writes at present.
    pub read_only: bool,
    /// What it lies on is a loop device whose file has been deleted (`losetup` shows it as such).
    pub on_deleted: bool,
    /// What else is known of a file.
    pub file: Option<FileLook>,
}

/// What a file looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileLook {
    /// Bytes that it has taken of its file system.
    pub allocated: u64,
    /// Names that lead to it: with none, its space is given back when it is closed.
    pub links: u64,
    /// Where it lies.
    pub filesystem: FileSystem,
    /// Which file system, valid while that is mounted: two files with the same share its room.
    pub device: u64,
    /// On btrfs, whether it is written in place and without checksums.
    pub nocow: Option<bool>,
}

/// How long a look may take.
const LOOK_WAIT: Duration = Duration::from_secs(5);

impl Look {
    /// Whether a file that its data lies in has been deleted, so that the data is gone once that is closed.
    pub fn is_unlinked(&self) -> bool {
        self.on_deleted || self.file.is_some_and(|file| file.links == 0)
    }
}

impl Opened {
    /// Looks at the device; `None` for one that has no place.
    ///
    /// # Errors
    /// What the kernel says of a descriptor whose file system has gone (ENOTCONN, ESTALE, EIO); `TimedOut` when it has
    /// not answered for some seconds.
    pub fn look(&self) -> io::Result<Option<Look>> {
        match self.media() {
            Media::Kernel(device) => device.ask_within(LOOK_WAIT, look_at)?.map(Some),
            Media::Null | Media::Memory(_) => Ok(None),
        }
    }

    /// Whether a path leads to this very file or device now.
    ///
    /// # Errors
    /// It leads nowhere, or the descriptor cannot be asked.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        match self.media() {
            Media::Kernel(device) => {
                let path = path.to_path_buf();
                device.ask_within(LOOK_WAIT, move |file| leads_to(&path, file))?
            }
            Media::Null | Media::Memory(_) => fs::metadata(path).map(|_| false),
        }
    }
}

fn look_at(file: &File) -> io::Result<Look> {
    let meta = file.metadata()?;
    if meta.file_type().is_block_device() {
        let number = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        // The number is not given away again while the descriptor is open.
        let gone = !Path::new(&format!("/sys/dev/block/{}:{}", number.0, number.1)).exists();
        let bytes = if gone { 0 } else { geometry::bytes(file)? };
        return Ok(Look {
            bytes,
            gone,
            read_only: !gone && geometry::is_read_only(file).unwrap_or(false),
            on_deleted: loops::stands_on_deleted(meta.rdev()),
            file: None,
        });
    }
    let filesystem = FileSystem::of(file)?;
    Ok(Look {
        bytes: meta.len(),
        gone: false,
        read_only: false,
        on_deleted: loops::stands_on_deleted(meta.dev()),
        file: Some(FileLook {
            allocated: meta.blocks().saturating_mul(512),
            links: meta.nlink(),
            filesystem,
            device: match filesystem.is_btrfs() {
                // Each subvolume has a number of its own there, and its room is that of all.
                true => Mount::of(file).map_or_else(|| meta.dev(), |mount| mount.number()),
                false => meta.dev(),
            },
            nocow: filesystem
                .is_btrfs()
                .then(|| filesystem::is_nocow(file))
                .flatten(),
        }),
    })
}

fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let there = fs::metadata(path)?;
    let own = file.metadata()?;
    let blocks = (
        own.file_type().is_block_device(),
        there.file_type().is_block_device(),
    );
    Ok(match blocks {
        (true, true) => own.rdev() == there.rdev(),
        (false, false) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
        _ => false,
    })
}
