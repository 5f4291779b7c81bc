//! Findings that follow from no variant of an error.

use palisade_api::{FindingKind, FindingKind as F};

/// Kinds that no list above leads to, and what does.
pub(super) const OTHERWISE: &[(FindingKind, &str)] = &[
    (F::NodeBlocked, "a step of the node itself"),
    (
        F::DrainOverdue,
        "a session's wait for requests in flight, over a minute",
    ),
    (
        F::DiskStalled,
        "an operation past its deadline (`devices.stall-s`)",
    ),
    (
        F::DiskUnusable,
        "a reactor that is given a disk and cannot take it",
    ),
    (
        F::DiskDiscardsSlow,
        "a discard or write of zeroes that keeps a disk for a tenth of a second",
    ),
    (
        F::DiskProcessStopped,
        "a look at the state of the processes of disks every two seconds",
    ),
    (F::DiskUnlinked, "a look at the file each second"),
    (F::DiskAstray, "a look at the path each second"),
    (F::DiskExchanged, "a look at the path each second"),
    (
        F::DiskAlike,
        "a look at the content of disks without an identity, each five seconds",
    ),
    (F::DiskSpaceLow, "a look at the file system each second"),
    (F::DiskCopiedOnWrite, "a look at the file system each second"),
    (F::DiskInUserSpace, "a look at the file system each second"),
    (F::DiskBuffered, "the opening of a disk without O_DIRECT"),
    (
        F::DiskOpenToQemu,
        "the opening of a disk on a file system without locks of open files",
    ),
    (F::PlainPages, "the start of a reactor without hugepages"),
    (
        F::MemoryLimited,
        "the limits of the daemon's control group, held against what guests share with it",
    ),
    (F::MemoryNotPinned, "the pinning of a guest's memory"),
    (
        F::WriteCacheNotKept,
        "a guest that switches its write cache, and a folder that cannot be written",
    ),
    (F::RequestsRefused, "the counters of requests that were none"),
    (
        F::RequestsParked,
        "five seconds in which requests of an attachment are parked; the first device and its fault are told by the reactor",
    ),
    (F::RestWithoutToken, "a setting of the daemon"),
    (
        F::RestPortTaken,
        "the opening of the TCP port, tried again until it works",
    ),
    (
        F::ClusterNoMajority,
        "each second's look at how the node's part of the agreement stands",
    ),
    (
        F::ClusterDoorShut,
        "the opening of the door for nodes, tried again until it works",
    ),
    (F::ClusterMemberStopped, "the same look, when it has stopped"),
    (
        F::ClusterMemberSilent,
        "heartbeats that do not come, or show that nobody hears this node",
    ),
    (
        F::ClusterMemberLimps,
        "heartbeats that come over some links only, late, or after a long way",
    ),
    (
        F::ClusterIdentityCopied,
        "heartbeats of another run of a node than the one that counts, for some seconds",
    ),
    (F::ClusterMemberEvicted, "what the cluster has agreed on"),
    (F::SuperblockDamaged, "the reading of a disk's two superblocks"),
    (
        F::VolumeIncomplete,
        "an import of disks of which some are missing",
    ),
    (F::QueueUntracked, "a queue larger than its in-flight region"),
    (F::FilesShort, "EMFILE and ENFILE"),
    (F::SocketLost, "a look at the socket's file each second"),
    (F::ApiSocketLost, "a look at the socket's file each second"),
    (
        F::KeysNotTaken,
        "a look at the files of tokens, certificate and key each second",
    ),
    (
        F::CertificateEnds,
        "a look at the certificate in force each second: two weeks are left, or a quarter of its time",
    ),
    (
        F::CertificateEndsSoon,
        "a look at the certificate in force each second: two days are left, or a twentieth of its time",
    ),
    (
        F::CertificateNotValid,
        "a look at the certificate in force each second, and at a start",
    ),
    (F::ConfigUnusable, "a look at the configuration file each second"),
    (F::FrontendSilent, "ten seconds without the end of a message"),
    (
        F::FrontendWaits,
        "five seconds in which a second front-end is connected to a socket",
    ),
    (
        F::FrontendStorms,
        "messages or connections that had to wait, within the last ten seconds",
    ),
    (F::GuestHangs, "ten seconds in one step of a session"),
    (F::SessionLeft, "a session that is there without its attachment"),
    (
        F::GuestMemoryStalls,
        "two waits or more, each of 100 ms or longer, in what reactors do for one attachment, half a second in ten together \
         (looked for when a turn has lasted more than 5 ms); `attachment_disconnected` says why",
    ),
    (
        F::GuestMemorySlow,
        "a tenth of a second in ten, of turns that took 2 ms and longer for one queue (looked for when a turn has lasted more \
         than 5 ms)",
    ),
    (
        F::InterruptsDear,
        "interrupts that take 1 ms and longer again and again, or a tenth of the time together",
    ),
    (
        F::DescriptorHangs,
        "ten seconds in the closing of a descriptor that was not let in",
    ),
    (
        F::ThreadStuck,
        "five seconds in one step, or asleep although work waits, of a thread that serves everybody; fifteen of another",
    ),
    (
        F::ReactorSlow,
        "a turn with work that lasts longer than 100 ms of wall time",
    ),
    (F::LimitInForce, "the limits of the process, at its start"),
    (
        F::StateSpaceLow,
        "a look at the file system of the state directory each second",
    ),
    (
        F::MediaRecordDamaged,
        "the reading of what a disk was last known to carry, and a look each second for what was set aside",
    ),
    (F::EventsNotKept, "the writing of events, tried again each second"),
    (
        F::EventsDamaged,
        "the reading of files of events at a start and before one makes room, and a look for those set aside every ten seconds",
    ),
    (
        F::EventsLost,
        "a look each second at where the files of events lie and how long they are, and the reading of them at a start",
    ),
    (
        F::StateInMemory,
        "a look at the file system of the state directory, at a start",
    ),
    (F::StepOverdue, "half a minute in one step of a change"),
    (
        F::ComingUp,
        "a disk, a volume's routes or a socket of before the start that is not there yet; one of later, after a second",
    ),
    (
        F::ControlBusy,
        "five seconds in which nobody could read the state of the node; a question for health tells it at once",
    ),
];
