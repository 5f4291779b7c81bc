//! A file or block device, open in a process of its own.

use crate::disk_process::{DiskProcess, Inside};
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

/// An open file or block device.
#[derive(Debug)]
pub(crate) struct KernelDevice {
    process: DiskProcess,
    /// Its number.
    id: u32,
    /// Its descriptor there.
    inside: RawFd,
    /// A second one in the daemon, for reads and writes that do not wait; `None` where even those may block at
    /// submission, or the closing of one.
    direct: Option<File>,
}

impl KernelDevice {
    /// `inside` has been opened in the process, and is closed by its end.
    pub(super) fn new(process: DiskProcess, id: u32, inside: RawFd, direct: Option<File>) -> KernelDevice {
        KernelDevice {
            process,
            id,
            inside,
            direct,
        }
    }

    pub(crate) fn process(&self) -> &DiskProcess {
        &self.process
    }

    /// Where everybody may find the open file, whatever has become of its name.
    pub(super) fn in_proc(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", self.id, self.inside).into()
    }

    pub(crate) fn inside(&self) -> RawFd {
        self.inside
    }

    pub(crate) fn direct(&self) -> Option<RawFd> {
        self.direct.as_ref().map(File::as_raw_fd)
    }

    /// Asks something of the open file, where it may take as long as it likes.
    ///
    /// # Errors
    /// What the question says; `TimedOut`: too many other questions have not come back.
    pub(super) fn ask<'a, R: Send + 'a>(
        &self,
        question: impl FnOnce(&File) -> io::Result<R> + Send + 'a,
    ) -> io::Result<R> {
        let number = self.inside;
        self.process.call(move |_: &Inside| {
            // SAFETY: the descriptor is open in the process in which this runs until that ends; it is not closed here.
            let file = ManuallyDrop::new(unsafe { File::from_raw_fd(number) });
            question(&file)
        })?
    }

    /// The same, waiting for so long at most.
    ///
    /// # Errors
    /// `TimedOut`: the device, or an earlier question to it, has not come back.
    pub(super) fn ask_within<R: Send + 'static>(
        &self,
        time: Duration,
        question: impl FnOnce(&File) -> R + Send + 'static,
    ) -> io::Result<R> {
        let number = self.inside;
        self.process.call_within(time, move |_: &Inside| {
            // SAFETY: as above.
            let file = ManuallyDrop::new(unsafe { File::from_raw_fd(number) });
            question(&file)
        })
    }

    /// pread(2), once.
    pub(super) fn read(&self, to: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = to.len().min(1 << 30) as u32;
        let entry = opcode::Read::new(Fd(self.inside), to.as_mut_ptr(), bytes);
        // SAFETY: `to` is ours to write, and that many bytes long.
        unsafe { self.carry_out(entry.offset(offset).build()) }
    }

    /// pwrite(2), until all is written.
    pub(super) fn write_all(&self, mut from: &[u8], mut offset: u64) -> io::Result<()> {
        while !from.is_empty() {
            let bytes = from.len().min(1 << 30) as u32;
            let entry = opcode::Write::new(Fd(self.inside), from.as_ptr(), bytes);
            // SAFETY: `from` is there to be read, and that many bytes long.
            let written = unsafe { self.carry_out(entry.offset(offset).build()) }?;
            match from.get(written..) {
                Some(rest) if written > 0 => from = rest,
                _ => return Err(io::ErrorKind::WriteZero.into()),
            }
            offset += written as u64;
        }
        Ok(())
    }

    /// fdatasync(2).
    pub(super) fn sync(&self) -> io::Result<()> {
        let entry = opcode::Fsync::new(Fd(self.inside)).flags(FsyncFlags::DATASYNC);
        // SAFETY: it points to nothing.
        unsafe { self.carry_out(entry.build()) }.map(drop)
    }

    /// fallocate(2).
    pub(super) fn fallocate(&self, mode: i32, offset: u64, bytes: u64) -> io::Result<()> {
        let entry = opcode::Fallocate::new(Fd(self.inside), bytes);
        // SAFETY: it points to nothing.
        unsafe { self.carry_out(entry.offset(offset).mode(mode).build()) }.map(drop)
    }

    /// # Safety
    /// What the entry points to may be read and written as it says until this returns.
    unsafe fn carry_out(&self, entry: squeue::Entry) -> io::Result<usize> {
        // From a worker of the kernel's, so that the process itself goes on to hear what it is told.
        let entry = entry.flags(squeue::Flags::ASYNC);
        loop {
            // SAFETY: our caller promises the same.
            match unsafe { self.process.carry_out(entry.clone()) }? {
                result @ 0.. => return Ok(result as usize),
                error if -error == libc::EINTR || -error == libc::EAGAIN => {}
                error => return Err(io::Error::from_raw_os_error(-error)),
            }
        }
    }
}
