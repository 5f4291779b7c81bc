//! The list of scenarios, in the order they run. The lab's own check comes first: when it fails, nothing below says
//! anything about our daemon.

mod balloon;
mod change_killed;
mod cleared;
mod cluster;
mod damaged_database;
mod damaged_superblock;
mod debian_qemu;
mod discard;
mod disk_contents;
mod doors;
mod earlier_version;
mod exchanged_paths;
mod filesystem;
mod findings;
mod generated_client;
mod giants;
mod grow;
mod guest_killed;
mod host_kernels;
mod idle_cpu;
mod import;
mod kill_under_load;
mod limits;
mod lost_state;
mod membership;
mod older_copy;
mod one_medium;
mod operator_errors;
mod other_medium;
mod own_tests;
mod peer_qsd;
mod places;
mod punched;
mod qemu_locks;
mod read_only;
mod renamed;
mod reset;
mod restart_under_load;
mod right_owner;
mod ring_shapes;
mod second_daemon;
mod serial;
mod systemd_unit;
mod taken_away;
mod two_guests;
mod two_queues;
mod unplug;
mod whole_disk;

use crate::failure::Outcome;
use crate::lab::{Depth, Lab};

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// The least depth at which it runs.
    pub depth: Depth,
    /// Does it.
    pub run: fn(&Lab) -> Outcome,
}

impl Scenario {
    /// Whether a run of `depth` includes it.
    pub fn runs_at(&self, depth: Depth) -> bool {
        self.depth == Depth::Quick || depth == Depth::Full
    }
}

/// All of them.
pub static ALL: &[Scenario] = &[
    Scenario {
        name: "peer_qsd",
        about: "the lab itself: a guest works on qemu-storage-daemon, and the lab notices when a block is wrong",
        depth: Depth::Quick,
        run: peer_qsd::run,
    },
    Scenario {
        name: "filesystem",
        about: "a guest makes, fills and checks a file system; it is the same after switching everything off and on",
        depth: Depth::Quick,
        run: filesystem::run,
    },
    Scenario {
        name: "findings",
        about: "files, a file system, a socket and threads that go wrong: told with the cause, as finding, event and metric",
        depth: Depth::Quick,
        run: findings::run,
    },
    Scenario {
        name: "generated_client",
        about: "the description of the interface is valid, and a client that a stock generator makes of it works",
        depth: Depth::Full,
        run: generated_client::run,
    },
    Scenario {
        name: "two_queues",
        about: "one disk on two virtqueues and two reactors",
        depth: Depth::Quick,
        run: two_queues::run,
    },
    Scenario {
        name: "ring_shapes",
        about: "rings longer and shorter than ours, without indirect tables, and a driver from before VERSION_1",
        depth: Depth::Quick,
        run: ring_shapes::run,
    },
    Scenario {
        name: "grow",
        about: "a volume grows under a running guest",
        depth: Depth::Quick,
        run: grow::run,
    },
    Scenario {
        name: "balloon",
        about: "memory is taken from a running guest and given back: what it reads and writes is what it has there now",
        depth: Depth::Quick,
        run: balloon::run,
    },
    Scenario {
        name: "membership",
        about: "three nodes with two subnets: links that are cut, nodes that stand still, die and are cut off; who is given up, and taken back",
        depth: Depth::Quick,
        run: membership::run,
    },
    Scenario {
        name: "cluster",
        about: "three appliances form a cluster; a guest on one uses a disk of another through kill -9 of both and of the leader",
        depth: Depth::Quick,
        run: cluster::run,
    },
    Scenario {
        name: "kill_under_load",
        about: "kill -9 of the daemon under a verified load, again and again: a pause and nothing else",
        depth: Depth::Quick,
        run: kill_under_load::run,
    },
    Scenario {
        name: "restart_under_load",
        about: "a plain restart under load: drained, and the guest goes on",
        depth: Depth::Quick,
        run: restart_under_load::run,
    },
    Scenario {
        name: "guest_killed",
        about: "a guest is killed under load, again and again: its neighbour notices nothing",
        depth: Depth::Quick,
        run: guest_killed::run,
    },
    Scenario {
        name: "unplug",
        about: "a disk is pulled out of a running guest and plugged in again",
        depth: Depth::Quick,
        run: unplug::run,
    },
    Scenario {
        name: "taken_away",
        about: "a volume is taken from a running machine: not without consent, and its other disk goes on",
        depth: Depth::Quick,
        run: taken_away::run,
    },
    Scenario {
        name: "reset",
        about: "the reset button under load",
        depth: Depth::Quick,
        run: reset::run,
    },
    Scenario {
        name: "two_guests",
        about: "two guests on one disk, at the same time",
        depth: Depth::Quick,
        run: two_guests::run,
    },
    Scenario {
        name: "read_only",
        about: "a read-only attachment",
        depth: Depth::Quick,
        run: read_only::run,
    },
    Scenario {
        name: "discard",
        about: "discard, trim and cheap zeroes",
        depth: Depth::Quick,
        run: discard::run,
    },
    Scenario {
        name: "serial",
        about: "the serial number the guest reads",
        depth: Depth::Quick,
        run: serial::run,
    },
    Scenario {
        name: "idle_cpu",
        about: "ten idle volumes cost less than 1 % of a core",
        depth: Depth::Quick,
        run: idle_cpu::run,
    },
    Scenario {
        name: "change_killed",
        about: "kill -9 in the middle of an operator's changes: all or nothing",
        depth: Depth::Quick,
        run: change_killed::run,
    },
    Scenario {
        name: "limits",
        about: "an attachment limited to so many requests a second makes so many",
        depth: Depth::Quick,
        run: limits::run,
    },
    Scenario {
        name: "giants",
        about: "requests of gibibytes hold up no neighbour and no stop",
        depth: Depth::Quick,
        run: giants::run,
    },
    Scenario {
        name: "punched",
        about: "a guest whose memory is punched out from under its requests is cut off, its neighbour goes on",
        depth: Depth::Quick,
        run: punched::run,
    },
    Scenario {
        name: "doors",
        about: "no other user of the machine comes in, and paths have bounds",
        depth: Depth::Quick,
        run: doors::run,
    },
    Scenario {
        name: "operator_errors",
        about: "what an operator may not have is refused at once, in words",
        depth: Depth::Quick,
        run: operator_errors::run,
    },
    Scenario {
        name: "disk_contents",
        about: "a medium that holds data is not taken, unless forced",
        depth: Depth::Quick,
        run: disk_contents::run,
    },
    Scenario {
        name: "places",
        about: "memory, overlays over it and the daemon's own folders are no places for disks, whatever leads there",
        depth: Depth::Quick,
        run: places::run,
    },
    Scenario {
        name: "cleared",
        about: "what a guest has not written reads as zeros, whatever was there before and whenever the daemon is killed",
        depth: Depth::Quick,
        run: cleared::run,
    },
    Scenario {
        name: "earlier_version",
        about: "state and disks of an earlier version are served as they were, and stay readable to it",
        depth: Depth::Quick,
        run: earlier_version::run,
    },
    Scenario {
        name: "older_copy",
        about: "an older copy in a disk's place is written to by nobody and serves no guest until its operator chooses",
        depth: Depth::Quick,
        run: older_copy::run,
    },
    Scenario {
        name: "other_medium",
        about: "another medium under a disk's path is left alone until an operator says that it is the disk",
        depth: Depth::Quick,
        run: other_medium::run,
    },
    Scenario {
        name: "exchanged_paths",
        about: "two disks whose device names were exchanged are found by what they say, and recorded in one step",
        depth: Depth::Quick,
        run: exchanged_paths::run,
    },
    Scenario {
        name: "whole_disk",
        about: "a disk given whole carries nothing of ours",
        depth: Depth::Quick,
        run: whole_disk::run,
    },
    Scenario {
        name: "one_medium",
        about: "one medium is one disk, whatever path leads to it; and it is clean and free when it is given up",
        depth: Depth::Quick,
        run: one_medium::run,
    },
    Scenario {
        name: "damaged_superblock",
        about: "bits turn in superblocks: repaired, or left alone",
        depth: Depth::Quick,
        run: damaged_superblock::run,
    },
    Scenario {
        name: "lost_state",
        about: "the state directory is lost or old: volumes come back, and nothing is written over",
        depth: Depth::Quick,
        run: lost_state::run,
    },
    Scenario {
        name: "import",
        about: "disks of a cluster that is gone, with names that are taken: taken in, and what guests wrote is there",
        depth: Depth::Quick,
        run: import::run,
    },
    Scenario {
        name: "damaged_database",
        about: "a damaged or incomplete database: named, and not touched",
        depth: Depth::Quick,
        run: damaged_database::run,
    },
    Scenario {
        name: "second_daemon",
        about: "a second daemon on the same state, port or disk is turned away",
        depth: Depth::Quick,
        run: second_daemon::run,
    },
    Scenario {
        name: "right_owner",
        about: "a disk that one daemon refuses is not held by it: its owner's daemon opens it, and the right one is used again",
        depth: Depth::Quick,
        run: right_owner::run,
    },
    Scenario {
        name: "qemu_locks",
        about: "QEMU's tools keep off the disks of a running daemon, and the daemon off what they have open",
        depth: Depth::Quick,
        run: qemu_locks::run,
    },
    Scenario {
        name: "host_kernels",
        about: "the daemon on Debian's kernels: odd segments, discard, zeroes, kill -9 and new names on every kind of medium",
        depth: Depth::Quick,
        run: host_kernels::run,
    },
    Scenario {
        name: "own_tests",
        about: "our own tests of files, rings, sockets and guests' memory on Debian 12's kernel",
        depth: Depth::Full,
        run: own_tests::run,
    },
    Scenario {
        name: "debian_qemu",
        about: "what is printed for QEMU 7.2 and libvirt is taken by Debian 12's own",
        depth: Depth::Quick,
        run: debian_qemu::run,
    },
    Scenario {
        name: "systemd_unit",
        about: "the unit under Debian 12's systemd: sandbox, groups, restart, kill -9, watchdog, a disk that hangs",
        depth: Depth::Full,
        run: systemd_unit::run,
    },
];

/// Says what a scenario does at this moment.
pub fn step(what: impl AsRef<str>) {
    println!("  - {}", what.as_ref());
}
