//! What is seen between two instructions, and how a child may end.

use super::*;
use crate::inflight::InflightRegion;
use std::io::Read;
use std::os::fd::AsRawFd;

#[test]
fn each_store_is_seen_by_itself_and_the_parent_keeps_its_own() {
    let (region, _file) = InflightRegion::create(1, 8).unwrap();
    let mut queue = region.queue(0).unwrap();
    let looked = region.queue(0).unwrap();
    let mut own = 0;
    let mut seen = vec![[false; 3]];
    let steps = step_through(
        || {
            own += 1;
            (0..3).for_each(|head| queue.begin(head));
        },
        || {
            let now = [0, 1, 2].map(|head| looked.is_in_flight(head));
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        },
    );
    assert!(steps.unwrap() > 6);
    let [n, y] = [false, true];
    assert_eq!(seen, [[n, n, n], [y, n, n], [y, y, n], [y, y, y]]);
    assert_eq!(own, 0, "a copy was counted up");
}

#[test]
fn a_child_that_ends_badly_or_not_at_all_is_an_error() {
    let panicked = step_through(|| std::panic::resume_unwind(Box::new(())), || {});
    assert_eq!(panicked.unwrap_err().to_string(), "the child has panicked");
    let dies = || {
        // SAFETY: a plain call.
        unsafe { libc::raise(libc::SIGKILL) };
    };
    let killed = step_through(dies, || {});
    assert_eq!(
        killed.unwrap_err().to_string(),
        "the child was killed by signal 9"
    );
    let endless = || loop {
        std::hint::spin_loop();
    };
    let mut looks = 0;
    let error = step_up_to(1000, endless, || looks += 1).unwrap_err();
    assert_eq!((error.kind(), looks), (io::ErrorKind::TimedOut, 1000));
}

/// Nobody traces the child yet when its parent is killed.
#[test]
fn a_child_whose_parent_is_killed_before_it_is_stepped_ends_too() {
    let (mut reader, writer) = io::pipe().unwrap();
    // SAFETY: the children make plain calls alone and leave by `_exit`; `parent` is waited for once.
    unsafe {
        match libc::fork() {
            0 => {
                let parent = libc::getpid();
                if libc::fork() == 0 {
                    carry_out(parent, || {});
                }
                libc::usleep(20_000);
                libc::_exit(0);
            }
            parent => assert_eq!(libc::waitpid(parent, std::ptr::null_mut(), 0), parent),
        }
    }
    drop(writer);
    let mut ready = libc::pollfd {
        fd: reader.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one place, which outlives the call.
    let ended = unsafe { libc::poll(&raw mut ready, 1, 10_000) };
    assert_eq!(ended, 1, "the pipe is held open");
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}
