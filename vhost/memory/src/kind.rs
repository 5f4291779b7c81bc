//! What kind of file memory is given by: an access to a mapping waits for whoever has to bring its page, and so does
//! looking at its size. Memory, tmpfs and hugetlbfs are the kernel's own and wait for nobody; behind a FUSE or network
//! file system there may be somebody who never answers.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether a file's pages are the kernel's own: a memfd, or a file of tmpfs or hugetlbfs. The question itself asks no
/// file system: `F_GET_SEALS` is answered from the inode of such files, and refused for all others.
pub(crate) fn waits_for_nobody(file: BorrowedFd<'_>) -> bool {
    // SAFETY: a plain call on an open descriptor.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) >= 0 }
}

/// How the kernel names a file, for a sentence. It asks no file system either.
pub(crate) fn name(file: BorrowedFd<'_>) -> String {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_or_else(|error| error.to_string(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn files_of_disks_pipes_and_sockets_are_not_the_kernels_own() {
        let disk = tempfile_in("/var/tmp");
        let (pipe, _end) = std::io::pipe().unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let process = std::fs::File::open("/proc/self/status").unwrap();
        for other in [disk.as_fd(), pipe.as_fd(), socket.as_fd(), process.as_fd()] {
            assert!(!waits_for_nobody(other), "{}", name(other));
        }
        assert!(waits_for_nobody(tempfile_in("/dev/shm").as_fd()));
        for flags in [0, libc::MFD_ALLOW_SEALING, libc::MFD_HUGETLB] {
            // SAFETY: the name is a C string.
            let fd = unsafe { libc::memfd_create(c"kind".as_ptr(), flags | libc::MFD_CLOEXEC) };
            if fd >= 0 {
                // SAFETY: it has just been made, and nobody else owns it.
                let memory = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
                assert!(waits_for_nobody(memory.as_fd()), "{flags:#x}");
            }
        }
    }

    fn tempfile_in(folder: &str) -> std::fs::File {
        let path = format!("{folder}/palisade-kind-{}", std::process::id());
        let file = std::fs::File::create(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }
}
