//! Every way in which something can end badly, and who sees what of it: the table that `appliance/FINDINGS.md` is printed
//! from. The matches have no arm for the rest, so what is new in one of these lists does not compile without a row.

mod otherwise;

use crate::config::ConfigError;
use crate::counted::{finding_of_attachment, finding_of_disk};
use crate::last_run::LastRun;
use crate::node::StartError;
use otherwise::OTHERWISE;
use palisade_admin as admin;
use palisade_api::{Clears, FindingKind, FindingKind as F};
use palisade_block::Fault;
use palisade_block::stats::{AttachmentStats, DeviceStats, ReactorStats};
use palisade_consensus::{IdentityError, ProposeError, RenewError, StoreError};
use palisade_frontend::codec::MessageProblem;
use palisade_frontend::{AttachError, BindError, SessionRefusal};
use palisade_memory::{InflightError, MapError};
use palisade_model as model;
use palisade_reconcile::{Action, Cause};
use palisade_sys::OpenError;
use palisade_virtio::Broken;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Who sees what of an ending.
#[derive(Clone, Copy)]
struct Seen {
    guest: &'static str,
    operator: Operator,
}

/// Where an operator sees it.
#[derive(Clone, Copy)]
enum Operator {
    /// In health, events, log and metrics, with a remedy, until it clears.
    Finding(FindingKind),
    /// The same, once it has happened again and again; each time in the log and in `connection.last_end`.
    Session(FindingKind),
    /// The answer to whoever asked for it says it, with a remedy; nothing has changed.
    Answer,
    /// The daemon does not start: on standard error and in the journal, with a remedy; the exit status is 1.
    Start,
    /// The same at a start; when keys are read again, it is a finding and those of before stay in force.
    Keys,
    /// An event and the log say it, once.
    Event(&'static str),
    /// Nothing is wrong.
    Nothing,
}

const fn seen(guest: &'static str, operator: Operator) -> Seen {
    Seen { guest, operator }
}

const fn finding(guest: &'static str, kind: FindingKind) -> Seen {
    seen(guest, Operator::Finding(kind))
}

const fn fault(kind: FindingKind) -> Seen {
    finding("VIRTIO_BLK_S_IOERR for the requests concerned", kind)
}

/// A message that is refused: told to a front-end that asked for an answer, else the session ends or goes on without.
const MESSAGE: Seen = seen(
    "No disk, or the queue does not start; a VMM that asked for an answer gets one that is not 0",
    Operator::Session(F::SessionsRefused),
);

const QUEUE: Seen = finding(
    "The queue does not start; the session goes on",
    F::QueueCannotStart,
);

const NO_DISK: Seen = finding("Its disk is not there yet, or goes on as it was", F::DiskBlocked);

const NO_SOCKET: Seen = finding(
    "Its VMM finds no socket, or the one of before",
    F::AttachmentBlocked,
);

const NO_VOLUME: Seen = finding(
    "Its disk is not there yet, or has the size of before",
    F::VolumeBlocked,
);

const NO_START: Seen = seen("Its VMM waits for the socket to come back", Operator::Start);

const KEYS: Seen = seen(
    "Its VMM waits for the socket to come back; nothing when keys are read again",
    Operator::Keys,
);

const RUN_AGAIN: &str = "A pause; what was in flight is carried out again";

const ANSWER: Seen = seen("Nothing", Operator::Answer);

macro_rules! endings {
    ($( $title:literal $function:ident($type:ty) { $( $pattern:pat => $seen:expr, )+ } )+) => {
        $(
            /// What is seen of it.
            #[allow(dead_code, reason = "that it compiles is what it is for")]
            fn $function(it: &$type) -> Seen {
                match it { $( $pattern => $seen, )+ }
            }
        )+

        /// All rows, list by list.
        const ENDINGS: &[(&str, &[(&str, Seen)])] = &[
            $( ($title, &[ $( (stringify!($pattern), $seen), )+ ]), )+
        ];
    };
}

endings! {
    "A request that a device could not do" of_fault(Fault) {
        Fault::Media => fault(F::DiskMedia),
        Fault::NoSpace => fault(F::DiskNoSpace),
        Fault::Gone => fault(F::DiskGone),
        Fault::Fenced => fault(F::DiskFenced),
        Fault::Unsupported => finding("VIRTIO_BLK_S_UNSUPP, or zeroes are written instead", F::DiskUnsupported),
        Fault::ReadOnly => fault(F::DiskReadOnly),
        Fault::TimedOut => fault(F::DiskTimedOut),
        Fault::GuestMemory => fault(F::GuestMemoryLost),
        Fault::Unreachable => fault(F::DiskUnreachable),
        Fault::BeyondEnd => fault(F::DiskShrunk),
        Fault::TooLarge => fault(F::DiskTooLarge),
        Fault::NoMemory => fault(F::HostShort),
        Fault::Denied => fault(F::DiskDenied),
        Fault::Rejected => fault(F::DiskRejects),
    }
    "A virtqueue that stops" of_broken(Broken) {
        Broken::AvailJumped { .. } => finding("Its requests are not answered; the error descriptor is signalled", F::QueueBroken),
        Broken::HeadOutside { .. } => finding("Its requests are not answered; the error descriptor is signalled", F::QueueBroken),
        Broken::NoPage => finding("Its requests are not answered; the error descriptor is signalled", F::QueueBroken),
        Broken::MemoryLost => finding("Its requests are not answered; the error descriptor is signalled", F::QueueBroken),
    }
    "A message that cannot be read" of_problem(MessageProblem) {
        MessageProblem::Header => MESSAGE,
        MessageProblem::Version { .. } => MESSAGE,
        MessageProblem::UnexpectedReply => MESSAGE,
        MessageProblem::PayloadTooLong { .. } => MESSAGE,
        MessageProblem::UnknownRequest => MESSAGE,
        MessageProblem::NotOffered => MESSAGE,
        MessageProblem::PayloadSize { .. } => MESSAGE,
        MessageProblem::Fds { .. } => MESSAGE,
        MessageProblem::Regions { .. } => MESSAGE,
        MessageProblem::ConfigSize { .. } => MESSAGE,
        MessageProblem::Flag { .. } => MESSAGE,
        MessageProblem::ReservedBits { .. } => MESSAGE,
    }
    "A message that is refused" of_refusal(SessionRefusal) {
        SessionRefusal::NoSuchQueue { .. } => MESSAGE,
        SessionRefusal::Features { .. } => QUEUE,
        SessionRefusal::ProtocolFeatures { .. } => MESSAGE,
        SessionRefusal::QueueSize { .. } => QUEUE,
        SessionRefusal::Base { .. } => QUEUE,
        SessionRefusal::Alignment { .. } => QUEUE,
        SessionRefusal::Memory(_) => MESSAGE,
        SessionRefusal::Log(_) => MESSAGE,
        SessionRefusal::Inflight(_) => MESSAGE,
        SessionRefusal::Config(_) => MESSAGE,
        SessionRefusal::Descriptor { .. } => MESSAGE,
        SessionRefusal::KeptOut { .. } => MESSAGE,
    }
    "Guest memory that cannot be had" of_map_error(MapError) {
        MapError::Extent { .. } => MESSAGE,
        MapError::Overlap { .. } => MESSAGE,
        MapError::TooMany { .. } => MESSAGE,
        MapError::FileTooShort { .. } => MESSAGE,
        MapError::Waits { .. } => MESSAGE,
        MapError::Share { .. } => MESSAGE,
        MapError::NoSuchRegion { .. } => MESSAGE,
        MapError::System { .. } => MESSAGE,
    }
    "An in-flight region that cannot be had" of_inflight_error(InflightError) {
        InflightError::Shape { .. } => MESSAGE,
        InflightError::TooSmall { .. } => MESSAGE,
        InflightError::Version { .. } => MESSAGE,
        InflightError::Misaligned { .. } => MESSAGE,
        InflightError::OfAnother => MESSAGE,
        InflightError::Map(_) => MESSAGE,
    }
    "An attachment that cannot be offered" of_attach_error(AttachError) {
        AttachError::Exists { .. } => NO_SOCKET,
        AttachError::Queues { .. } => NO_SOCKET,
        AttachError::Bind(_) => NO_SOCKET,
        AttachError::Watch(_) => NO_SOCKET,
        AttachError::Thread(_) => NO_SOCKET,
        AttachError::Hanging { .. } => NO_SOCKET,
        AttachError::Shut => NO_SOCKET,
    }
    "A socket that cannot be put in its place" of_bind_error(BindError) {
        BindError::PathTooLong { .. } => NO_SOCKET,
        BindError::Occupied { .. } => NO_SOCKET,
        BindError::InUse { .. } => NO_SOCKET,
        BindError::Step { .. } => NO_SOCKET,
    }
    "A disk that cannot be opened" of_open_error(OpenError) {
        OpenError::Open { .. } => NO_DISK,
        OpenError::NotFile { .. } => NO_DISK,
        OpenError::NotBlock { .. } => NO_DISK,
        OpenError::OtherMedium { .. } => NO_DISK,
        OpenError::InUse { .. } => NO_DISK,
        OpenError::Locked { .. } => NO_DISK,
        OpenError::HeldByQemu { .. } => NO_DISK,
        OpenError::Beneath { .. } => NO_DISK,
        OpenError::Create { .. } => ANSWER,
        OpenError::BlockTooSmall { .. } => NO_DISK,
        OpenError::BlockSize { .. } => ANSWER,
        OpenError::Empty { .. } => NO_DISK,
        OpenError::Inspect { .. } => NO_DISK,
        OpenError::Memory { .. } => NO_DISK,
        OpenError::Process { .. } => NO_DISK,
    }
    "A step of a change that fails; it is tried again by itself" of_action(Action) {
        Action::WithdrawSocket { .. } => NO_SOCKET,
        Action::ClearRoute { .. } => NO_VOLUME,
        Action::EraseSuperblock { .. } => NO_DISK,
        Action::CloseDisk { .. } => NO_DISK,
        Action::ReleaseDisk { .. } => NO_DISK,
        Action::OpenDisk { .. } => NO_DISK,
        Action::GrowDisk { .. } => NO_DISK,
        Action::WriteSuperblock { .. } => NO_DISK,
        Action::ExamineSuperblock { .. } => NO_DISK,
        Action::ConfirmSuperblock { .. } => NO_DISK,
        Action::ClearVolume { .. } => NO_VOLUME,
        Action::StopClearing { .. } => NO_VOLUME,
        Action::SetRoute { .. } => NO_VOLUME,
        Action::ResizeVolume { .. } => NO_SOCKET,
        Action::OfferSocket { .. } => NO_SOCKET,
        Action::ReopenSocket { .. } => NO_SOCKET,
        Action::ChangeSocketPermissions { .. } => NO_SOCKET,
        Action::ChangeLimits { .. } => NO_SOCKET,
    }
    "What keeps something from being as agreed" of_cause(Cause) {
        Cause::Failed { .. } => NO_DISK,
        Cause::On { .. } => seen("As the cause, which is a finding by itself", Operator::Nothing),
        Cause::ForeignSuperblock => NO_DISK,
        Cause::SuperblockOnWhole { .. } => NO_DISK,
        Cause::LostSuperblock => NO_DISK,
        Cause::NewerSuperblock { .. } => NO_DISK,
        Cause::Overtaken { .. } => NO_DISK,
        Cause::DamagedSuperblock => NO_DISK,
        Cause::DivergedSuperblock { .. } => NO_DISK,
        Cause::OlderSuperblock { .. } => NO_DISK,
        Cause::OccupiedMedium => NO_DISK,
        Cause::EndLost { .. } => NO_DISK,
        Cause::HeldClearing { .. } => NO_VOLUME,
        Cause::HeldDisk { .. } => NO_DISK,
    }
    "A change that is not taken" of_propose_error(ProposeError) {
        ProposeError::Refused(_) => ANSWER,
        ProposeError::NotLeader { .. } => ANSWER,
        ProposeError::OutcomeUnknown => ANSWER,
        ProposeError::Storage { .. } => finding("Nothing", F::DatabaseHalted),
        ProposeError::Halted => finding("Nothing", F::DatabaseHalted),
        ProposeError::Misplaced { .. } => finding("Nothing", F::StateMisplaced),
    }
    "A change that the cluster refuses" of_model_refusal(model::Refusal) {
        model::Refusal::NotInitialised => ANSWER,
        model::Refusal::AlreadyInitialised { .. } => ANSWER,
        model::Refusal::NotFound { .. } => ANSWER,
        model::Refusal::Exists { .. } => ANSWER,
        model::Refusal::RevisionMismatch { .. } => ANSWER,
        model::Refusal::Invalid { .. } => ANSWER,
        model::Refusal::TooMany { .. } => ANSWER,
        model::Refusal::UuidTaken { .. } => ANSWER,
        model::Refusal::NotAMember { .. } => ANSWER,
        model::Refusal::IncarnationNotLater { .. } => ANSWER,
        model::Refusal::FeatureLevelTooLow { .. } => ANSWER,
        model::Refusal::FeatureOff { .. } => ANSWER,
        model::Refusal::NodeJoining { .. } => ANSWER,
        model::Refusal::NodeEvicted { .. } => ANSWER,
        model::Refusal::OtherMembership { .. } => ANSWER,
        model::Refusal::OtherIncarnation { .. } => ANSWER,
        model::Refusal::NodeInUse { .. } => ANSWER,
        model::Refusal::LastVoter { .. } => ANSWER,
        model::Refusal::AddressTaken { .. } => ANSWER,
        model::Refusal::TokenUnknown => ANSWER,
        model::Refusal::TokenExpired { .. } => ANSWER,
        model::Refusal::TokenUsed { .. } => ANSWER,
        model::Refusal::NodeKeyDiffers { .. } => ANSWER,
        model::Refusal::KeyTaken { .. } => ANSWER,
        model::Refusal::MediumTaken { .. } => ANSWER,
        model::Refusal::DiskInUse { .. } => ANSWER,
        model::Refusal::DiskGoing { .. } => ANSWER,
        model::Refusal::DiskHoldsFragment { .. } => ANSWER,
        model::Refusal::SuperblockPending { .. } => ANSWER,
        model::Refusal::ClusterHasDisks { .. } => ANSWER,
        model::Refusal::ImportOverlaps { .. } => ANSWER,
        model::Refusal::VolumeInUse { .. } => ANSWER,
        model::Refusal::Protected { .. } => ANSWER,
        model::Refusal::VolumeGoing { .. } => ANSWER,
        model::Refusal::NoDisk { .. } => ANSWER,
        model::Refusal::NoSpace { .. } => ANSWER,
        model::Refusal::Fragmented { .. } => ANSWER,
        model::Refusal::DiskTaken { .. } => ANSWER,
        model::Refusal::CannotShrink { .. } => ANSWER,
        model::Refusal::BlockTooSmall { .. } => ANSWER,
        model::Refusal::DiskElsewhere { .. } => ANSWER,
        model::Refusal::SocketTaken { .. } => ANSWER,
        model::Refusal::HasWriter { .. } => ANSWER,
        model::Refusal::HasReaders { .. } => ANSWER,
    }
    "A database that cannot be opened" of_store_error(StoreError) {
        StoreError::Io { .. } => NO_START,
        StoreError::InUse { .. } => NO_START,
        StoreError::Damaged { .. } => NO_START,
        StoreError::TooNew { .. } => NO_START,
        StoreError::Unknown { .. } => NO_START,
        StoreError::Missing { .. } => NO_START,
        StoreError::Gap { .. } => NO_START,
        StoreError::Refused { .. } => NO_START,
        StoreError::Diverged { .. } => NO_START,
        StoreError::Broken { .. } => NO_START,
        StoreError::Vanished { .. } => NO_START,
        StoreError::UnfinishedRestore { .. } => NO_START,
    }
    "A state directory that does not say which node it is" of_identity_error(IdentityError) {
        IdentityError::Io { .. } => NO_START,
        IdentityError::Damaged { .. } => NO_START,
        IdentityError::TooNew { .. } => NO_START,
        IdentityError::Missing { .. } => NO_START,
        IdentityError::Stranger { .. } => NO_START,
    }
    "A database that cannot be written anew; it is tried again by itself" of_renew_error(RenewError) {
        RenewError::NotWritten { .. } => finding("Nothing", F::DatabaseHalted),
        RenewError::NotKept { .. } => finding("Nothing", F::DatabaseHalted),
        RenewError::Misplaced(_) => finding("Nothing", F::StateMisplaced),
    }
    "The end of the run before" of_last_run(LastRun) {
        LastRun::ShutDown => seen("A pause", Operator::Nothing),
        LastRun::Crashed { .. } => seen(RUN_AGAIN, Operator::Event("last_run_not_shut_down")),
        LastRun::MachineStopped => seen(RUN_AGAIN, Operator::Event("last_run_not_shut_down")),
    }
    "A daemon that cannot start" of_start_error(StartError) {
        StartError::Directory { .. } => NO_START,
        StartError::Name { .. } => NO_START,
        StartError::Cluster(_) => NO_START,
        StartError::Identity(_) => NO_START,
        StartError::Store(_) => NO_START,
        StartError::Propose(_) => NO_START,
        StartError::Reactor { .. } => NO_START,
        StartError::Thread { .. } => NO_START,
        StartError::Config(_) => NO_START,
        StartError::Admin(_) => NO_START,
    }
    "A configuration that cannot be taken" of_config_error(ConfigError) {
        ConfigError::Syntax { .. } => NO_START,
        ConfigError::UnknownKey { .. } => NO_START,
        ConfigError::Range { .. } => NO_START,
        ConfigError::Place { .. } => NO_START,
        ConfigError::Alone { .. } => NO_START,
        ConfigError::Cores { .. } => NO_START,
        ConfigError::WithoutToken { .. } => NO_START,
        ConfigError::Group { .. } => NO_START,
        ConfigError::Door(_) => NO_START,
    }
    "A door of REST that cannot be opened, or whose keys cannot be taken" of_admin_error(admin::AdminStartError) {
        admin::AdminStartError::Exposed { .. } => NO_START,
        admin::AdminStartError::SecretExposed { .. } => KEYS,
        admin::AdminStartError::TokenWeak { .. } => KEYS,
        admin::AdminStartError::TokensEqual { .. } => KEYS,
        admin::AdminStartError::FileRead { .. } => KEYS,
        admin::AdminStartError::TokenMake { .. } => NO_START,
        admin::AdminStartError::CertificateEmpty { .. } => KEYS,
        admin::AdminStartError::Certificate { .. } => KEYS,
        admin::AdminStartError::CertificateNotValid { .. } => finding("Nothing", F::KeysNotTaken),
        admin::AdminStartError::Listen { .. } => NO_START,
        admin::AdminStartError::SocketInUse { .. } => NO_START,
        admin::AdminStartError::Socket { .. } => NO_START,
        admin::AdminStartError::Runtime { .. } => NO_START,
    }
}

/// A counter that is added must be shown: these do not compile with one that is not named.
#[allow(dead_code, reason = "that it compiles is what it is for")]
fn every_counter_is_named(attachment: &AttachmentStats, device: &DeviceStats, reactor: &ReactorStats) {
    let AttachmentStats {
        answered: _,         // palisade_requests_total
        bytes: _,            // palisade_request_bytes_total
        latency: _,          // palisade_request_latency_seconds
        faults: _,           // palisade_attachment_faults_total
        written_at_fault: _, // when a finding ends
        refused: _,          // palisade_attachment_refused_total
        throttled: _,        // palisade_attachment_throttled_total
        bounced: _,          // palisade_attachment_bounced_total
        in_flight: _,        // palisade_attachment_in_flight
        parked: _,           // palisade_attachment_parked
        ranges_ns: _,        // palisade_attachment_discard_seconds_total
    } = attachment;
    let DeviceStats {
        finished: _,       // palisade_disk_operations_total
        faults: _,         // palisade_disk_faults_total
        sound_at_fault: _, // when a finding ends
        in_flight: _,      // palisade_disk_in_flight
        oldest_ns: _,      // palisade_disk_oldest_seconds
        stalls: _,         // palisade_disk_stalls_total
        slow_ranges: _,    // the finding that is about them
    } = device;
    let ReactorStats {
        turns: _,          // palisade_reactor_turns_total
        busy_turns: _,     // palisade_reactor_busy_turns_total
        sleeps: _,         // palisade_reactor_sleeps_total
        slots_used: _,     // palisade_reactor_slots_used
        slots_short: _,    // palisade_reactor_slots_short_total
        buffers_used: _,   // `hugepages.used_bytes` of the node
        pool_short: _,     // palisade_reactor_pool_short_total
        parked: _,         // palisade_reactor_parked
        fenced_devices: _, // palisade_reactor_fenced_devices_total
        stale_commands: _, // palisade_reactor_stale_commands_total
    } = reactor;
}

fn page() -> String {
    let mut page = String::from(
        "# What can go wrong, and who sees what\n\nPrinted by `cargo nextest run -p palisade-assembly endings` with \
         `PALISADE_WRITE_TABLE=1`; a test compares.\n\n## Findings\n\nEach is in `palisade health` while it stands, in \
         `/metrics` as `palisade_findings{code,subject}`, an event and a log line when it begins, and an event \
         `<code>_over` when it ends.\n\n| code | how bad | what it is | the guest sees | metric | remedy | ends |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for kind in FindingKind::ALL {
        let row = kind.row();
        let ends = match row.clears {
            Clears::WhenTold => "when it is over".to_owned(),
            Clears::AfterQuiet { seconds } => format!("{seconds} s after it was last seen"),
            Clears::WhenItWorksAgain { seconds } => {
                format!(
                    "when it works again for 2 s (longer each time it comes back), or is not seen for {seconds} s"
                )
            }
            Clears::WithItsCause => "with its cause".to_owned(),
        };
        let severity = format!("{:?}", row.severity).to_lowercase();
        let _ = writeln!(
            page,
            "| `{}` | {severity} | {} | {} | `{}` | {} | {ends} |",
            row.code, row.means, row.guest, row.metric, row.remedy
        );
    }
    page.push_str("\n## Ways to end badly\n");
    for (title, rows) in ENDINGS {
        let _ = write!(
            page,
            "\n### {title}\n\n| what | the guest sees | the operator sees |\n|---|---|---|\n"
        );
        for (pattern, seen) in *rows {
            let name = pattern.split([' ', '(', '{']).next().unwrap_or(pattern);
            let operator = match seen.operator {
                Operator::Finding(kind) => format!("`{}`", kind.row().code),
                Operator::Session(kind) => format!(
                    "log, `attachment_disconnected`, `connection.last_end`; again and again: `{}`",
                    kind.row().code
                ),
                Operator::Answer => "the answer to the client, with a remedy".to_owned(),
                Operator::Start => "standard error and journal, with a remedy; exit status 1".to_owned(),
                Operator::Keys => "the same; when keys are read again (SIGHUP, or a file changes): `keys_not_taken`, and the \
                                   keys of before stay in force"
                    .to_owned(),
                Operator::Event(kind) => format!("the event `{kind}` and the log, at the next start"),
                Operator::Nothing => "nothing more".to_owned(),
            };
            let _ = writeln!(page, "| `{name}` | {} | {operator} |", seen.guest);
        }
    }
    page.push_str("\n### What is seen otherwise\n\n| finding | comes from |\n|---|---|\n");
    for (kind, from) in OTHERWISE {
        let _ = writeln!(page, "| `{}` | {from} |", kind.row().code);
    }
    page
}

#[test]
fn the_printed_table_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../FINDINGS.md");
    let page = page();
    if std::env::var_os("PALISADE_WRITE_TABLE").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let printed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        printed == page,
        "appliance/FINDINGS.md is of another day: run this test with PALISADE_WRITE_TABLE=1"
    );
}

#[test]
fn every_kind_of_finding_comes_from_somewhere() {
    let mut reached: BTreeSet<FindingKind> = OTHERWISE.iter().map(|(kind, _)| *kind).collect();
    for (_, rows) in ENDINGS {
        for (_, seen) in *rows {
            if let Operator::Finding(kind) | Operator::Session(kind) = seen.operator {
                reached.insert(kind);
            }
        }
    }
    let all: BTreeSet<FindingKind> = FindingKind::ALL.iter().copied().collect();
    let lost: Vec<_> = all.difference(&reached).map(|kind| kind.row().code).collect();
    assert!(
        lost.is_empty(),
        "nobody raises {lost:?}, or the table does not say who"
    );
}

#[test]
fn a_fault_is_the_finding_that_the_table_says() {
    for fault in Fault::ALL {
        let kind = finding_of_disk(fault).or(finding_of_attachment(fault));
        match of_fault(&fault).operator {
            Operator::Finding(told) => assert_eq!(Some(told), kind, "{fault:?}"),
            _ => panic!("{fault:?} is no finding"),
        }
    }
}

#[test]
fn every_metric_that_is_named_is_written() {
    let sources = [
        include_str!("../../admin/src/exposition.rs"),
        include_str!("samples.rs"),
    ];
    for kind in FindingKind::ALL {
        let row = kind.row();
        let name = row
            .metric
            .trim_start_matches("palisade_")
            .trim_end_matches("_total");
        let written = format!("\"{name}\"");
        let found = sources.iter().any(|source| source.contains(&written));
        assert!(found, "{}: no metric {}", row.code, row.metric);
    }
}
