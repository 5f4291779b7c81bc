use super::*;
use crate::EventFd;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(10);

fn send(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
}

fn memfd() -> OwnedFd {
    // SAFETY: the name is a C string, and nobody else owns the new descriptor.
    unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"filter".as_ptr(), libc::MFD_CLOEXEC)) }
}

fn name(fd: &OwnedFd) -> String {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    link.unwrap().display().to_string()
}

#[test]
fn what_waits_for_nobody_is_passed_on_with_its_bytes() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut filter = FdFilter::start("test", ours.as_fd()).unwrap();
    let mut buffer = [0; 64];
    let nothing = filter.receive(&mut buffer, PATIENCE).unwrap();
    assert_eq!((nothing.state, nothing.fds.len()), (Received::Nothing, 0));
    let (event, memory) = (OwnedFd::from(EventFd::new().unwrap()), memfd());
    let socket = OwnedFd::from(UnixStream::pair().unwrap().0);
    send(
        &theirs,
        b"abcdef",
        &[event.as_fd(), memory.as_fd(), socket.as_fd()],
    );
    let some = filter.receive(&mut buffer[..4], PATIENCE).unwrap();
    assert_eq!((some.state, &buffer[..4]), (Received::Bytes(4), &b"abcd"[..]));
    assert_eq!(some.kept_out, None);
    let names: Vec<_> = some.fds.iter().map(name).collect();
    assert_eq!(names, [name(&event), name(&memory), name(&socket)]);
    let rest = filter.receive(&mut buffer, PATIENCE).unwrap();
    assert_eq!((rest.state, rest.fds.len()), (Received::Bytes(2), 0));
    drop(theirs);
    assert_eq!(
        filter.receive(&mut buffer, PATIENCE).unwrap().state,
        Received::Closed
    );
}

#[test]
fn what_may_wait_is_named_and_never_here() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut filter = FdFilter::start("test", ours.as_fd()).unwrap();
    let open = |path: &str| OwnedFd::from(File::open(path).unwrap());
    let (pipe, _end) = std::io::pipe().unwrap();
    let datagrams = OwnedFd::from(std::os::unix::net::UnixDatagram::unbound().unwrap());
    let listener = OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = folder.path().join("anon_inode:[eventfd]");
    std::fs::write(&path, "x").unwrap();
    let file = OwnedFd::from(File::open(&path).unwrap());
    // SAFETY: none of the calls takes a pointer; each descriptor is new.
    let (epoll, timer, process) = unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) as i32;
        let timer = libc::timerfd_create(libc::CLOCK_MONOTONIC, 0);
        let both = (libc::epoll_create1(0), timer);
        (
            OwnedFd::from_raw_fd(both.0),
            OwnedFd::from_raw_fd(both.1),
            OwnedFd::from_raw_fd(process),
        )
    };
    let path_only = {
        let flags = rustix::fs::OFlags::PATH;
        rustix::fs::open("/dev/shm", flags, rustix::fs::Mode::empty()).unwrap()
    };
    for (fd, told) in [
        (OwnedFd::from(pipe), "pipe:["),
        (open("/dev/null"), "/dev/null"),
        (open("/proc/self/mem"), "/proc/"),
        (datagrams, "socket:["),
        (listener, "socket:["),
        (file, "/var/tmp/"),
        (epoll, "anon_inode:[eventpoll]"),
        (timer, "anon_inode:[timerfd]"),
        (process, ""),
        (path_only, "/dev/shm"),
    ] {
        send(&theirs, b"m", &[memfd().as_fd(), fd.as_fd()]);
        let mut byte = [0];
        let receipt = filter.receive(&mut byte, PATIENCE).unwrap();
        assert_eq!(
            (receipt.state, receipt.fds.len()),
            (Received::Bytes(1), 0),
            "{}",
            name(&fd)
        );
        let kept_out = receipt.kept_out.unwrap();
        assert!(kept_out.starts_with(told) && kept_out.len() > 1, "{kept_out}");
    }
    let end = Instant::now() + PATIENCE;
    while filter.closing().is_some() {
        assert!(Instant::now() < end);
    }
}

#[test]
fn more_than_fit_are_all_let_go() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut filter = FdFilter::start("test", ours.as_fd()).unwrap();
    let memory = memfd();
    let mut byte = [0];
    send(&theirs, b"m", &[memory.as_fd(); 253]);
    let receipt = filter.receive(&mut byte, PATIENCE).unwrap();
    assert_eq!((receipt.state, receipt.fds.len()), (Received::TooManyFds, 0));
    send(&theirs, b"m", &[memory.as_fd(); RECEIPT_FDS_MAX]);
    let receipt = filter.receive(&mut byte, PATIENCE).unwrap();
    assert_eq!(
        (receipt.state, receipt.fds.len()),
        (Received::Bytes(1), RECEIPT_FDS_MAX)
    );
}

#[test]
fn the_process_ends_when_it_is_let_go() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let filter = FdFilter::start("test", ours.as_fd()).unwrap();
    let shared = Arc::clone(&filter.shared);
    drop((filter, ours));
    let end = Instant::now() + PATIENCE;
    while !shared.ended.load(SeqCst) {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0];
    let left = io::Read::read(&mut &theirs, &mut byte).unwrap();
    assert_eq!(left, 0, "and with it its hold on the connection");
}
