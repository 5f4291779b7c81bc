//! What a shell, a terminal, a service manager or another program may do to the daemon: signals, closed and full streams,
//! limits. None of it ends the process, and it goes on to answer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod site;

use site::{Daemon, PROGRAM};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn no_signal_ends_it_but_those_that_ask_for_it() {
    let daemon = Daemon::start(&["env"], Stdio::null());
    for signal in [
        "HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "STKFLT", "TSTP", "TTIN", "TTOU",
        "PIPE", "XFSZ", "XCPU", "CHLD", "WINCH", "URG", "CONT", "34", "39", "64",
    ] {
        daemon.send(signal);
        daemon.answers(signal);
    }
    for signal in ["QUIT", "INT"] {
        let again = Daemon::start(&["env"], Stdio::null());
        again.send(signal);
        assert!(again.end().success(), "{signal} stops it in good order");
    }
    daemon.send("TERM");
    assert!(daemon.end().success());
}

#[test]
fn signals_one_after_the_other_do_not_keep_it_from_its_work() {
    let daemon = Daemon::start(&["env"], Stdio::null());
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        daemon.send("USR1");
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.answers("a flood of signals");
    daemon.send("TERM");
    assert!(daemon.end().success());
}

#[test]
fn closed_full_and_unread_streams_do_not_end_it() {
    for streams in ["<&- >&- 2>&-", ">/dev/full 2>/dev/full", "2>&-", "0<&- 1>&-"] {
        let script = format!("exec \"$0\" \"$@\" {streams}");
        let daemon = Daemon::start(&["sh", "-c", &script], Stdio::null());
        daemon.answers(streams);
        daemon.send("TERM");
        assert!(daemon.end().success(), "{streams}");
    }
    // A reader that has gone.
    let script = "exec \"$0\" \"$@\" 2>&1 >/dev/null | true";
    let daemon = Daemon::start(&["sh", "-c", script], Stdio::null());
    daemon.answers("a reader that has gone");
    drop(daemon);
    // A reader that does not read: more is logged than the pipe holds.
    let daemon = Daemon::start(&["env", "RUST_LOG=trace"], Stdio::piped());
    for _ in 0..200 {
        daemon.answers("a reader that does not read");
    }
    daemon.send("TERM");
    assert!(daemon.end().success());
}

#[test]
fn a_configuration_without_an_end_is_refused() {
    let script = "ulimit -v 4194304; exec \"$0\" --check-config --config /dev/zero";
    let ended = Command::new("sh").args(["-c", script, PROGRAM]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("/dev/zero: it is longer than 1 MiB"), "{said}");
    assert_eq!(ended.status.code(), Some(1), "{said}");
}

#[test]
fn what_cannot_be_printed_is_a_failure_and_no_crash() {
    for argument in ["--check-config", "--print-config"] {
        let script = format!("exec \"$0\" {argument} >/dev/full 2>&-");
        let status = Command::new("sh")
            .args(["-c", &script, PROGRAM])
            .status()
            .unwrap();
        assert_eq!((status.code(), status.signal()), (Some(1), None), "{argument}");
    }
}

#[test]
fn a_limit_that_can_keep_guests_from_being_served_is_a_finding() {
    for (limit, told) in [
        ("--as=68719476736:68719476736", "LimitAS"),
        ("--fsize=104857600:104857600", "LimitFSIZE"),
    ] {
        let daemon = Daemon::start(&["prlimit", limit, "--"], Stdio::null());
        let health = daemon.ask("GET", "/v1/nodes/self/health", "").unwrap();
        let found = health.contains("\"limit_in_force\"") && health.contains(told);
        assert!(found && health.contains("\"degraded\""), "{limit}: {health}");
        daemon.send("TERM");
        assert!(daemon.end().success(), "{limit}");
    }
}

#[test]
fn limits_of_a_shell_do_not_end_it() {
    for limit in [
        "--fsize=104857600:104857600",
        "--fsize=104857600:unlimited",
        "--stack=unlimited",
        // Unoptimised as it is here, it takes somewhat more than the 256 KiB that do for the program as it is released.
        "--stack=393216",
        "--core=0",
        "--cpu=100000:100000",
        "--nofile=256:256",
        "--sigpending=0",
        "--msgqueue=0",
        "--locks=0",
    ] {
        let daemon = Daemon::start(&["prlimit", limit, "--"], Stdio::null());
        daemon.answers(limit);
        daemon.send("TERM");
        assert!(daemon.end().success(), "{limit}");
    }
}
