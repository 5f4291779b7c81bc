use super::*;
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, IntoRawFd};

#[test]
fn names_are_packed_and_unpacked() {
    let name = 0xdead_beef_0012_3456;
    let both = packed(63, name);
    assert_eq!(unpacked(both), (63, name));
    assert_eq!(both >> 32, name >> 32);
}

#[test]
fn it_runs_calls_jobs_and_passes_files_with_a_table_of_its_own() {
    let process = DiskProcess::start("test").unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"of the daemon").unwrap();
    // A number that nothing else is given.
    // SAFETY: F_DUPFD_CLOEXEC takes a number.
    let number = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 500) };
    assert!(number >= 500);
    let (own, id) = process
        .call(move |_| {
            let entries = std::fs::read_dir("/proc/thread-self/fd").unwrap();
            let numbers: Vec<i32> = entries
                .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
                .collect();
            (numbers.contains(&number), std::process::id())
        })
        .unwrap();
    assert!(!own, "the daemon's files are not there");
    assert_ne!(id, std::process::id(), "it is a process of its own");
    // SAFETY: it was made above.
    drop(unsafe { File::from_raw_fd(number) });

    let inner = process
        .call(|inside| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"of the process").unwrap();
            let number = file.into_raw_fd();
            inside.pass(number).unwrap();
            number
        })
        .unwrap();
    let passed = File::from(process.receive().unwrap());
    let mut text = [0; 14];
    std::os::unix::fs::FileExt::read_exact_at(&passed, &mut text, 0).unwrap();
    assert_eq!(&text, b"of the process");

    let mut back = [0; 14];
    let read = io_uring::opcode::Read::new(io_uring::types::Fd(inner), back.as_mut_ptr(), 14);
    // SAFETY: `back` has 14 bytes.
    assert_eq!(unsafe { process.carry_out(read.build()) }.unwrap(), 14);
    assert_eq!(&back, b"of the process");

    let port = Port::new(4).unwrap();
    let at = process.attach(&port).unwrap();
    let sync = io_uring::opcode::Fsync::new(io_uring::types::Fd(inner)).build();
    // SAFETY: it points to nothing, and this is the only thread.
    assert!(unsafe { process.push(at, sync, 7 << 32 | 3) });
    while port.is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(port.take(), Some((7 << 32 | 3, 0)));
    assert_ne!(port.signal().drain().unwrap(), 0);
    process.detach(at);
}

#[test]
fn a_port_of_any_size_comes_after_one_of_any_other() {
    let process = DiskProcess::start("sizes").unwrap();
    let attach = |jobs| {
        let port = Port::new(jobs).unwrap();
        let at = process.attach(&port).unwrap();
        (port, at)
    };
    let numbers = [1, 64, 1, 64, 65].map(|jobs| {
        let (port, at) = attach(jobs);
        // Every job that the port has room for, each with its cancellation.
        for job in 0..2 * jobs as u64 {
            let nop = io_uring::opcode::Nop::new().build();
            // SAFETY: it points to nothing, and this is the only thread.
            assert!(unsafe { process.push(at, nop, job) }, "job {job} of {jobs}");
            while port.is_empty() {
                std::thread::yield_now();
            }
            assert_eq!(port.take(), Some((job, 0)));
        }
        let number = at.0;
        process.detach(at);
        // The number is given back by the process.
        while process.shared.ports.load(SeqCst) != 0 {
            std::thread::yield_now();
        }
        number
    });
    assert_eq!(numbers, [0, 1, 0, 1, 2]);

    let held: Vec<_> = (0..PORTS - 2).map(|_| attach(65)).collect();
    assert_eq!(held.len(), 62, "the two smaller ones fit nobody");
    let refused = process.attach(&Port::new(65).unwrap()).map(|_| ());
    assert_eq!(
        refused.map_err(|error| error.kind()),
        Err(io::ErrorKind::ResourceBusy)
    );
    let at = process.attach(&Port::new(1).unwrap()).unwrap();
    assert_eq!(at.0, 0);
}

#[test]
fn it_ends_when_it_is_dropped() {
    let process = DiskProcess::start("short").unwrap();
    let id = process.call(|_| std::process::id()).unwrap();
    drop(process);
    let start = std::time::Instant::now();
    while std::path::Path::new(&format!("/proc/{id}")).exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "process {id} goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A disk that hangs under as many calls as there may be keeps nobody else waiting for ever.
#[test]
fn whoever_finds_no_place_to_wait_at_is_told_after_a_while() {
    let mut process = DiskProcess::start("full").unwrap();
    process.patience = Duration::from_millis(50);
    let released = Arc::new(AtomicBool::new(false));
    for _ in 0..CALLERS {
        let released = Arc::clone(&released);
        let hangs = move |_: &Inside| {
            while !released.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let waited = process.call_within(Duration::from_millis(1), hangs);
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
    let begin = Instant::now();
    let refused = process.call(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    assert!(refused.to_string().contains("64 calls"), "{refused}");
    let nothing = || io_uring::opcode::Nop::new().build();
    // SAFETY: it points to nothing.
    let refused = unsafe { process.carry_out(nothing()) }.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    assert!(begin.elapsed() >= 2 * process.patience);
    let refused = process.call_within(Duration::from_secs(60), |_| ()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    // What comes back makes room again.
    released.store(true, SeqCst);
    process.patience = PLACE_WAIT;
    assert_eq!(process.call(|_| 7).unwrap(), 7);
    // SAFETY: as above.
    assert_eq!(unsafe { process.carry_out(nothing()) }.unwrap(), 0);
}
