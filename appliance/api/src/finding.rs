//! What can be wrong: one row for each kind of finding, from which health, events and the printed table are made.
//!
//! Whoever sees the cause of something raises a finding of a kind below; what is said of it in general (how bad it is,
//! what the guest sees meanwhile, the remedy, when it ends) stands in the row and nowhere else.

use crate::health::Overall;

/// When a finding ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clears {
    /// When whoever raised it says so.
    WhenTold,
    /// When it has not been raised again for so many seconds, or when whoever raised it says so.
    AfterQuiet {
        /// How long.
        seconds: u64,
    },
    /// When what had failed has been done well again and the fault has not come back for some seconds; or, when nothing
    /// of the kind is done any more, when it has not been raised again for so many seconds.
    WhenItWorksAgain {
        /// How long, in the latter case.
        seconds: u64,
    },
    /// It is worked out from the present state at each look, and ends with its cause.
    WithItsCause,
}

/// All that is said of a kind of finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FindingRow {
    /// Stable name in snake_case, for programs. An event of this kind is sent when it begins, and one of kind
    /// `<code>_over` when it ends.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Overall,
    /// What is the matter, in a sentence.
    pub means: &'static str,
    /// What the guest sees.
    pub guest: &'static str,
    /// The metric in which it shows, besides `palisade_findings`.
    pub metric: &'static str,
    /// What to do about it. `{name}` stands for the name of the subject. Commands in backquotes exist, and none of them
    /// loses data.
    pub remedy: &'static str,
    /// When it ends.
    pub clears: Clears,
}

impl FindingRow {
    /// The remedy for a subject such as `disk/d1`.
    pub fn remedy_for(&self, subject: &str) -> String {
        let name = subject.split_once('/').map_or(subject, |(_, name)| name);
        self.remedy.replace("{name}", name)
    }
}

macro_rules! findings {
    ($( $(#[$doc:meta])* $kind:ident {
        code: $code:literal, severity: $severity:ident,
        means: $means:literal, guest: $guest:literal, metric: $metric:literal,
        remedy: $remedy:literal, clears: $clears:expr $(,)?
    } )*) => {
        /// A kind of finding.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum FindingKind {
            $( $(#[$doc])* #[doc = $means] $kind, )*
        }

        impl FindingKind {
            /// All of them.
            pub const ALL: &[FindingKind] = &[ $( FindingKind::$kind, )* ];

            /// All that is said of it.
            pub const fn row(self) -> &'static FindingRow {
                match self {
                    $( FindingKind::$kind => &FindingRow {
                        code: $code, severity: Overall::$severity, means: $means, guest: $guest, metric: $metric,
                        remedy: $remedy, clears: $clears,
                    }, )*
                }
            }
        }
    };
}

/// Of faults of disks.
const WORKS_AGAIN: Clears = Clears::WhenItWorksAgain { seconds: 600 };

findings! {
    DiskBlocked {
        code: "disk_blocked", severity: Failed,
        means: "A step that a disk needs is held back or has failed.",
        guest: "Its requests wait, or its disk has not appeared.",
        metric: "palisade_disk_online",
        remedy: "remove the cause named above; `palisade disk show {name}` tells when it is over",
        clears: Clears::WithItsCause,
    }
    VolumeBlocked {
        code: "volume_blocked", severity: Failed,
        means: "A step that a volume needs is held back or has failed.",
        guest: "Its requests wait, or its disk has not appeared.",
        metric: "palisade_generation_applied",
        remedy: "remove the cause named above; `palisade volume show {name}` tells when it is over",
        clears: Clears::WithItsCause,
    }
    AttachmentBlocked {
        code: "attachment_blocked", severity: Failed,
        means: "A step that an attachment needs is held back or has failed.",
        guest: "Its VMM cannot connect, or goes on with the settings of before.",
        metric: "palisade_attachment_connected",
        remedy: "remove the cause named above; `palisade attachment show {name}` tells when it is over",
        clears: Clears::WithItsCause,
    }
    NodeBlocked {
        code: "node_blocked", severity: Failed,
        means: "A step that the node itself needs is held back or has failed.",
        guest: "Nothing by itself.",
        metric: "palisade_generation_applied",
        remedy: "remove the cause named above; `palisade node` shows the node",
        clears: Clears::WithItsCause,
    }
    ComingUp {
        code: "coming_up", severity: Degraded,
        means: "What was agreed on is being brought up, as after a start: disks, routes and sockets follow one another.",
        guest: "Its disk has not appeared yet.",
        metric: "palisade_generation_applied",
        remedy: "wait a moment; what fails is named as that, and `palisade disk list` shows what each disk waits for",
        clears: Clears::WithItsCause,
    }
    GuestHangs {
        code: "guest_hangs", severity: Degraded,
        means: "A file or socket that a virtual machine monitor gave us does not answer; its session was cut off.",
        guest: "Its disk is gone until its monitor can connect again; no other guest notices anything.",
        metric: "palisade_attachment_connected",
        remedy: "end the virtual machine of {name}, and look at the file system behind its memory; the socket comes \
                 back by itself when what hangs has ended, or at once after `palisade attachment delete {name}` and \
                 `palisade attachment create`",
        clears: Clears::WhenTold,
    }
    SessionLeft {
        code: "session_left", severity: Ok,
        means: "A virtual machine is still connected to an attachment that was taken away by force.",
        guest: "Each request to that disk ends with an I/O error; its other disks go on, and no other guest notices anything.",
        metric: "palisade_findings",
        remedy: "take the disk from the virtual machine that had {name} with its own monitor (`device_del` and then \
                 `chardev-remove` in QEMU, `virsh detach-disk`), or end it; nothing of it reaches a volume, and an attachment \
                 that has the name by now is not concerned. Do so before the daemon restarts: afterwards its monitor finds no \
                 socket, the guest waits without an error, and nothing here can tell that it does",
        clears: Clears::WithItsCause,
    }
    DescriptorHangs {
        code: "descriptor_hangs", severity: Degraded,
        means: "A file that a virtual machine monitor sent, of a kind that is not taken, does not let itself be closed.",
        guest: "After some of them no descriptor of its monitor is received, so that its disk cannot start; no other guest \
                notices anything.",
        metric: "palisade_findings",
        remedy: "look at the file system that the file named above lies on, and at the virtual machine of {name}: it sends \
                 what no honest one does. The process fd:{name} that waits ends by itself when the file system \
                 answers or is taken away (`umount -f`)",
        clears: Clears::WithItsCause,
    }
    InterruptsDear {
        code: "interrupts_dear", severity: Degraded,
        means: "Giving a guest's interrupts takes long: very many watch the event that its virtual machine monitor gave.",
        guest: "Its interrupts come later, given by its attachment's own thread; no other guest notices anything.",
        metric: "palisade_findings",
        remedy: "look at the virtual machine of {name} and at what else watches its events: no honest monitor has thousands \
                 of watches on one; it clears when a thousand interrupts have been cheap again",
        clears: Clears::WithItsCause,
    }
    SuperblockDamaged {
        code: "superblock_damaged", severity: Degraded,
        means: "A copy of a disk's superblock or of its table of extents is damaged, or has the number of the one in force \
                and says something else.",
        guest: "Nothing by itself. Its disk is not served while two copies contradict each other and nothing tells which is right.",
        metric: "palisade_findings",
        remedy: "it is written anew by itself from those that are shown to be right, by checksum or lineage; where nothing \
                 shows it nothing is written, and `palisade disk adopt {name}` says what each side knows. When it stays, \
                 `palisade-inspect` shows which copy, and the disk should be replaced soon",
        clears: Clears::WithItsCause,
    }
    VolumeIncomplete {
        code: "volume_incomplete", severity: Degraded,
        means: "Part of a volume is here, and the rest on disks that are not in the cluster.",
        guest: "Its disk cannot be offered.",
        metric: "palisade_findings",
        remedy: "bring the disks with the rest and take them in with `palisade disk import`; what is here is kept until then. If \
                 they are gone for good, give it up: `palisade volume delete {name}`",
        clears: Clears::WithItsCause,
    }
    DrainOverdue {
        code: "drain_overdue", severity: Degraded,
        means: "A session waits for requests in flight for longer than it should.",
        guest: "Its VMM waits for the answer to a message.",
        metric: "palisade_disk_oldest_seconds",
        remedy: "look at the disks of its volume: `palisade disk list`",
        clears: Clears::WithItsCause,
    }
    DiskStalled {
        code: "disk_stalled", severity: Failed,
        means: "A disk does not answer: an operation is in flight for longer than it may be.",
        guest: "Requests to this disk wait; nobody else's do.",
        metric: "palisade_disk_stalls_total",
        remedy: "look at the device and at what it stands on (`dmesg`, its path, its file system); its requests go on by \
                 themselves when it answers. A process of the disk (io: and its file's name) that was stopped is told as \
                 disk_process_stopped",
        clears: Clears::WithItsCause,
    }
    DiskProcessStopped {
        code: "disk_process_stopped", severity: Failed,
        means: "The process of a disk has been stopped from outside, by a signal or a debugger.",
        guest: "Requests to this disk wait, flushes first; nobody else's do.",
        metric: "palisade_findings",
        remedy: "let it go on by the command above (`kill -CONT` with its number), and see who has stopped it; its requests are \
                 answered then. Do not kill it: that ends the daemon",
        clears: Clears::WhenTold,
    }
    DiskGone {
        code: "disk_gone", severity: Failed,
        means: "A disk has vanished under the daemon.",
        guest: "Requests to this disk end with an I/O error.",
        metric: "palisade_disk_faults_total",
        remedy: "bring the device back under its path; `palisade disk show {name}` shows the path",
        clears: WORKS_AGAIN,
    }
    DiskMedia {
        code: "disk_media", severity: Degraded,
        means: "A disk has answered operations with an I/O error.",
        guest: "The requests concerned end with an I/O error.",
        metric: "palisade_disk_faults_total",
        remedy: "look into the kernel log (`dmesg`) for what the device says of itself; replace it when this comes again",
        clears: WORKS_AGAIN,
    }
    DiskNoSpace {
        code: "disk_no_space", severity: Failed,
        means: "The file system or thin pool below a disk has no space left.",
        guest: "Writes to places not written before end with an I/O error; reads are answered.",
        metric: "palisade_disk_faults_total",
        remedy: "make room on the file system or in the pool that holds it (`df`); guests' writes succeed again at once",
        clears: WORKS_AGAIN,
    }
    DiskFenced {
        code: "disk_fenced", severity: Failed,
        means: "A disk refuses this node because of a reservation.",
        guest: "Requests to this disk end with an I/O error.",
        metric: "palisade_disk_faults_total",
        remedy: "find out who holds the reservation before anything is changed: it may be another node that writes now",
        clears: WORKS_AGAIN,
    }
    DiskReadOnly {
        code: "disk_read_only", severity: Failed,
        means: "A disk may no longer be written.",
        guest: "Writes end with an I/O error; reads are answered.",
        metric: "palisade_disk_faults_total",
        remedy: "see in the kernel log (`dmesg`) why its file system was mounted read-only, check it and mount it writable \
                 again; a device that was set so is let be written to by `blockdev --setrw PATH`",
        clears: WORKS_AGAIN,
    }
    DiskTimedOut {
        code: "disk_timed_out", severity: Degraded,
        means: "Operations on a disk were taken back because they lasted too long.",
        guest: "The requests concerned end with an I/O error.",
        metric: "palisade_disk_faults_total",
        remedy: "look at the device and at what it stands on: it answers too slowly (`dmesg`)",
        clears: WORKS_AGAIN,
    }
    DiskUnsupported {
        code: "disk_unsupported", severity: Degraded,
        means: "A disk does not offer an operation that it was asked for.",
        guest: "Discards or writes of zeroes end as unsupported; reads and writes are answered.",
        metric: "palisade_disk_faults_total",
        remedy: "nothing is lost; a disk that says at open what it can do is offered accordingly: restart the daemon when \
                 its abilities have changed",
        clears: WORKS_AGAIN,
    }
    DiskUnreachable {
        code: "disk_unreachable", severity: Failed,
        means: "The way to a disk is broken or too slow: link, network or server.",
        guest: "Requests to this disk end with an I/O error.",
        metric: "palisade_disk_faults_total",
        remedy: "look at the network or link and at the server behind it (`dmesg`); requests succeed again when it is back",
        clears: WORKS_AGAIN,
    }
    DiskTooLarge {
        code: "disk_too_large", severity: Failed,
        means: "A disk's file may not become as large as was agreed on.",
        guest: "Writes behind the limit end with an I/O error; the others are answered.",
        metric: "palisade_disk_faults_total",
        remedy: "raise the limit of the daemon (LimitFSIZE=infinity in the unit) or move the file to a file system that takes \
                 files of this size",
        clears: WORKS_AGAIN,
    }
    DiskDenied {
        code: "disk_denied", severity: Failed,
        means: "The host forbids the daemon what it does on a disk.",
        guest: "The requests concerned end with an I/O error.",
        metric: "palisade_disk_faults_total",
        remedy: "look for an immutable file (`lsattr`), a seal, a lost key of an encrypted file, or a security module's rule \
                 (`journalctl -k`), and undo it",
        clears: WORKS_AGAIN,
    }
    DiskRejects {
        code: "disk_rejects", severity: Failed,
        means: "The kernel takes operations on a disk for malformed.",
        guest: "The requests concerned end with an I/O error.",
        metric: "palisade_disk_faults_total",
        remedy: "this is a fault of Palisade or of what the device says of itself, not of the device's health: restart the \
                 daemon, which asks the device anew what it wants, and report it with `palisade --json disk show {name}`",
        clears: WORKS_AGAIN,
    }
    HostShort {
        code: "host_short", severity: Degraded,
        means: "The host had no memory or other means for operations on a disk.",
        guest: "The requests concerned end with an I/O error.",
        metric: "palisade_disk_faults_total",
        remedy: "free memory on the host (`free -m`), or look at what a server below this disk lacks",
        clears: WORKS_AGAIN,
    }
    GuestMemoryLost {
        code: "guest_memory_lost", severity: Degraded,
        means: "A guest's memory was not there when data was to be moved: its VMM has taken it away.",
        guest: "The requests concerned end with an I/O error; no other guest is touched.",
        metric: "palisade_attachment_faults_total",
        remedy: "look at the VMM of attachment {name}: it truncated or unmapped the memory that it had shared",
        clears: Clears::AfterQuiet { seconds: 60 },
    }
    RequestsRefused {
        code: "requests_refused", severity: Ok,
        means: "A guest asks for what it may not have: outside its disk, misaligned, or a write to a disk that it may only read.",
        guest: "The requests concerned end with an I/O error.",
        metric: "palisade_attachment_refused_total",
        remedy: "look at the guest's driver; `palisade attachment show {name}` tells what it was offered",
        clears: Clears::AfterQuiet { seconds: 60 },
    }
    DiskShrunk {
        code: "disk_shrunk", severity: Failed,
        means: "The medium of a disk has become shorter than the disk is.",
        guest: "Requests behind its new end fail, and what was there is gone.",
        metric: "palisade_disk_faults_total",
        remedy: "find out what has cut it off, and end its guests. What was cut off is lost: making the file as long as before \
                 brings zeros back, not data. So stop the daemon and put a copy of the whole medium in its place (`palisade disk \
                 show {name}` tells how long it is); without one, make it as long as before and, once the daemon runs again, see \
                 what may be lost and go on with `palisade disk confirm {name} --yes`, then restore its volumes from backups",
        clears: WORKS_AGAIN,
    }
    DiskUnlinked {
        code: "disk_unlinked", severity: Failed,
        means: "The file of a disk, or the file under its loop device, has been deleted while it is in use.",
        guest: "Nothing yet: its data is there for as long as the daemon runs or the loop device is there, and gone after that.",
        metric: "palisade_findings",
        remedy: "do not stop the daemon: stop the guest and copy the file while it is open (`cp --sparse=always \
                 /proc/PID/fd/N PATH`, with the process that `palisade node` shows for PID, and N from `ls -l \
                 /proc/PID/fd`), then restart the daemon and say that the copy is the disk (`palisade disk confirm {name} \
                 --yes`). Where the file lies under a loop device, copy that device (`cp --sparse=always /dev/loopN PATH`) in place of \
                 /proc/PID/fd/N, and make a loop device of the copy. Or save its data from within the guest",
        clears: Clears::WithItsCause,
    }
    DiskAstray {
        code: "disk_astray", severity: Degraded,
        means: "The path of a disk in use leads elsewhere.",
        guest: "Nothing until the daemon restarts; then its disk is missing.",
        metric: "palisade_findings",
        remedy: "do what is said above; `palisade disk confirm {name} --path PATH` records where it is now, and the disk goes on \
                 being served meanwhile",
        clears: Clears::WithItsCause,
    }
    DiskExchanged {
        code: "disk_exchanged", severity: Degraded,
        means: "Disks without an identity of their own have exchanged their paths, and were found by their superblocks.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "record where they are now by the command above, or give them paths that stay as they are",
        clears: Clears::WithItsCause,
    }
    DiskSpaceLow {
        code: "disk_space_low", severity: Degraded,
        means: "The file system under disks with holes is nearly full.",
        guest: "Nothing yet; when it is full, writes to places not written before fail.",
        metric: "palisade_findings",
        remedy: "make room on the file system that holds it (`df`), or have guests discard what they do not need (`fstrim`)",
        clears: Clears::WithItsCause,
    }
    DiskCopiedOnWrite {
        code: "disk_copied_on_write", severity: Degraded,
        means: "The file of a disk lies on btrfs with checksums and is copied on write.",
        guest: "A sector that it changes while it is written may not be readable any more; all writes are slower.",
        metric: "palisade_findings",
        remedy: "make an empty file with `chattr +C`, copy the disk's file into it with the daemon stopped, put it in its place \
                 and confirm it: `palisade disk confirm {name} --yes`",
        clears: Clears::WithItsCause,
    }
    DiskInUserSpace {
        code: "disk_in_user_space", severity: Ok,
        means: "The file of a disk lies on a file system that a program answers for, as FUSE: the kernel may mistake an answer of a part.",
        guest: "Nothing as long as whole requests are carried out; else data may get to the wrong place, and all is said to be well.",
        metric: "palisade_findings",
        remedy: "stop the daemon, copy the file to a file system of the kernel's own (ext4, xfs), and confirm where it is: \
                 `palisade disk confirm {name} --path PATH --yes`",
        clears: Clears::WithItsCause,
    }
    DiskBuffered {
        code: "disk_buffered", severity: Ok,
        means: "A disk lies on a file system without O_DIRECT: I/O goes through the host's page cache.",
        guest: "More latency under memory pressure; what FLUSH has acknowledged stays all the same.",
        metric: "palisade_disk_online",
        remedy: "use a file system with O_DIRECT (ext4, xfs), or a block device",
        clears: Clears::WhenTold,
    }
    DiskOpenToQemu {
        code: "disk_open_to_qemu", severity: Ok,
        means: "A disk lies on a file system without locks of open files: QEMU and its tools do not see that it is in use, and \
                we do not see when they use it.",
        guest: "Nothing, unless such a program is given the disk's file as well: what it writes damages the disk.",
        metric: "palisade_findings",
        remedy: "give the file of disk {name} to no virtual machine and no tool of QEMU's; a file system with such locks (ext4, \
                 xfs, NFS with its lock service) or a block device keeps them off",
        clears: Clears::WhenTold,
    }
    RestWithoutToken {
        code: "rest_without_token", severity: Ok,
        means: "Every user of this machine may change everything, over a loopback port that asks for no token.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "for anything but a lab, take `admin.loopback_without_token` out of the configuration and restart the daemon",
        clears: Clears::WithItsCause,
    }
    RestPortTaken {
        code: "rest_port_taken", severity: Degraded,
        means: "The TCP port of REST cannot be had: another process holds it, or the machine has not got its address (yet). The \
                Unix socket works.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "see who holds it (`ss -ltnp`) and stop it, or whether its address is there (`ip address`): it is tried again \
                 each second and needs no restart. Or set another `admin.listen` and restart the daemon",
        clears: Clears::WhenTold,
    }
    PlainPages {
        code: "plain_pages", severity: Ok,
        means: "Buffers are made of plain pages; hugepages are faster.",
        guest: "A little more latency.",
        metric: "palisade_findings",
        remedy: "`palisade preflight --apply` sets hugepages aside; restart the daemon afterwards",
        clears: Clears::WithItsCause,
    }
    MemoryNotPinned {
        code: "memory_not_pinned", severity: Ok,
        means: "A guest's memory cannot be pinned in whole.",
        guest: "Its I/O is a little slower.",
        metric: "palisade_attachment_bounced_total",
        remedy: "raise the limit on locked memory (LimitMEMLOCK=infinity in the unit)",
        clears: Clears::WhenTold,
    }
    WriteCacheNotKept {
        code: "write_cache_not_kept", severity: Degraded,
        means: "The state of a guest's write cache cannot be kept: a restart would forget it.",
        guest: "Nothing until the daemon restarts.",
        metric: "palisade_findings",
        remedy: "make room in the folder of the sockets, or see why it cannot be written; it is tried again at the next change",
        clears: Clears::WhenTold,
    }
    SessionsRefused {
        code: "sessions_refused", severity: Degraded,
        means: "A front-end is refused again and again, and comes back each time.",
        guest: "It has no disk, or hangs in its firmware.",
        metric: "palisade_attachment_messages_refused_total",
        remedy: "the message above says what its VMM asked for; `palisade attachment qemu-args {name}` shows what fits",
        clears: Clears::AfterQuiet { seconds: 30 },
    }
    QueueBroken {
        code: "queue_broken", severity: Degraded,
        means: "A guest's driver has broken the ring of a virtqueue: nothing more is taken from it.",
        guest: "Requests on this queue are not answered; the error descriptor of the queue is signalled.",
        metric: "palisade_attachment_ring_events_total",
        remedy: "look at the guest's driver; the queue works again when the guest resets the device or restarts",
        clears: Clears::WithItsCause,
    }
    QueueCannotStart {
        code: "queue_cannot_start", severity: Degraded,
        means: "A virtqueue that the VMM has enabled cannot start.",
        guest: "Requests on this queue are not answered.",
        metric: "palisade_attachment_connected",
        remedy: "the message above says what is missing; `palisade attachment show {name}` shows all queues",
        clears: Clears::WhenTold,
    }
    QueueUntracked {
        code: "queue_untracked", severity: Degraded,
        means: "A virtqueue runs without in-flight tracking.",
        guest: "Nothing, unless the daemon crashes: requests in flight then may not be answered.",
        metric: "palisade_attachment_connected",
        remedy: "give the attachment as many entries as the VMM asks for: `palisade attachment show {name}` shows both",
        clears: Clears::WithItsCause,
    }
    FilesShort {
        code: "files_short", severity: Failed,
        means: "The daemon has as many files open as it may.",
        guest: "VMMs cannot connect, or their sessions end; sessions that run go on.",
        metric: "palisade_findings",
        remedy: "raise the limit (LimitNOFILE in the unit, then `systemctl restart palisaded`: guests see a pause), or take \
                 attachments away that nobody uses: `palisade attachment list`",
        clears: Clears::AfterQuiet { seconds: 30 },
    }
    SocketLost {
        code: "socket_lost", severity: Degraded,
        means: "The file of an attachment's socket is not in its place: somebody has deleted or replaced it.",
        guest: "A VMM that is connected goes on; one that comes, or comes back, finds nobody.",
        metric: "palisade_findings",
        remedy: "it is put back by itself within seconds, unless something else is in its place (move that away) or its folder \
                 is gone too (make it, if it is not the daemon's own run_dir); `palisade attachment show {name}` \
                 shows the path. See what cleans up in this folder",
        clears: Clears::WhenTold,
    }
    ApiSocketLost {
        code: "api_socket_lost", severity: Degraded,
        means: "The file of the Unix socket by which operators come in is not in its place: somebody has deleted or replaced it.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "it is made anew by itself within seconds, with the same owner and mode, unless something else is in its place: \
                 move that away. See what cleans up in this folder",
        clears: Clears::WhenTold,
    }
    KeysNotTaken {
        code: "keys_not_taken", severity: Degraded,
        means: "A token, certificate or key of REST was changed, deleted or opened to others, and cannot be taken as it is now.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "do what is said above: those of before stay in force as long as the daemon runs, and it does not start again \
                 with a file that it cannot take (an `admin.token` of its own that is gone it makes anew then); once a file \
                 can be taken, that is noticed within seconds",
        clears: Clears::WhenTold,
    }
    CertificateEnds {
        code: "certificate_ends", severity: Ok,
        means: "The certificate of REST ends within two weeks, or within a quarter of its time where that is less.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "have it renewed, and put the new one in its place with its key: it is taken within seconds, without a restart",
        clears: Clears::WhenTold,
    }
    CertificateEndsSoon {
        code: "certificate_ends_soon", severity: Degraded,
        means: "The certificate of REST ends within two days, or within a twentieth of its time where that is less.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "have it renewed now, and put the new one in its place with its key: it is taken within seconds, without a \
                 restart. What renews it by itself should have done so: see why not",
        clears: Clears::WhenTold,
    }
    CertificateNotValid {
        code: "certificate_not_valid", severity: Degraded,
        means: "The certificate of REST has expired, or is not valid yet: clients do not take it.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "put a valid one in its place with its key: it is taken within seconds, without a restart. If it should be valid, \
                 see whether the clock of this machine is right (`timedatectl`). The Unix socket works meanwhile",
        clears: Clears::WhenTold,
    }
    ConfigUnusable {
        code: "config_unusable", severity: Degraded,
        means: "The configuration file is gone, or cannot be taken as it is now; the daemon goes on with what it read at its start.",
        guest: "Nothing until the daemon restarts; then its VMM may wait for the socket to come back.",
        metric: "palisade_findings",
        remedy: "put the file right, or back: `palisaded --check-config` says whether it can be taken; what is in force now is \
                 what it held when the daemon started",
        clears: Clears::WhenTold,
    }
    FrontendSilent {
        code: "frontend_silent", severity: Degraded,
        means: "A front-end is connected and has stopped in the middle of a message, or never begun one.",
        guest: "It has no disk. Nobody else can connect to this socket meanwhile.",
        metric: "palisade_attachment_connected",
        remedy: "end the program that is connected to the socket of {name} (`ss -xp` shows it); a VMM that was stopped goes on by \
                 itself when it is continued",
        clears: Clears::WithItsCause,
    }
    FrontendWaits {
        code: "frontend_waits", severity: Degraded,
        means: "A front-end has connected to an attachment's socket and waits, because another one is connected to it.",
        guest: "The one that waits has no disk; the one that is connected goes on.",
        metric: "palisade_findings",
        remedy: "an attachment serves one virtual machine at a time, and the one that waits goes on by itself when the other goes: \
                 end the one that should not have {name} (`ss -xp` shows who is connected to its socket, which `palisade \
                 attachment show {name}` names), or give each an attachment of its own",
        clears: Clears::WithItsCause,
    }
    FrontendStorms {
        code: "frontend_storms", severity: Degraded,
        means: "A front-end connects or sends messages faster than it may, again and again; it is slowed down.",
        guest: "Its disk starts or changes more slowly; requests that are in the rings are not slowed down, nor is any other guest.",
        metric: "palisade_attachment_held_total",
        remedy: "look at the virtual machine monitor of {name}: no honest one goes on like this (`palisade attachment show \
                 {name}` shows the rate and its limit); if it is one, raise `guests.messages_per_s` or `guests.connects_per_s`",
        clears: Clears::WithItsCause,
    }
    ThreadStuck {
        code: "thread_stuck", severity: Failed,
        means: "A thread of the daemon makes no progress.",
        guest: "Those whom this thread serves wait.",
        metric: "palisade_findings",
        remedy: "keep what the kernel says of it: `cat /proc/PID/task/*/stack`, with the process that `palisade node` \
                 shows for PID; when the daemon cannot help itself, it is restarted by its service manager, and guests \
                 see a pause",
        clears: Clears::WithItsCause,
    }
    ReactorSlow {
        code: "reactor_slow", severity: Ok,
        means: "A turn of a reactor that had work lasted longer than a tenth of a second, within the last minute.",
        guest: "All whom this reactor serves waited for that long, once; nothing is lost.",
        metric: "palisade_reactor_slow_turns_total",
        remedy: "see what else runs on its core (`palisade reactors` names it; `palisade preflight --profile bare-metal --cores \
                 CORES` tells what to change so that it has the core for itself), and whether the machine itself was held up: a \
                 virtual one whose host is busy, or one that swaps (`vmstat 1`). It ends after a minute without such a turn",
        clears: Clears::WithItsCause,
    }
    StepOverdue {
        code: "step_overdue", severity: Degraded,
        means: "A step of a change lasts for longer than it should.",
        guest: "The change is not in force yet.",
        metric: "palisade_generation_applied",
        remedy: "look at what it waits for; nothing else is held up by it",
        clears: Clears::WithItsCause,
    }
    DatabaseHalted {
        code: "database_halted", severity: Degraded,
        means: "A change could not be written to the cluster database, so no more are taken until it has been written anew.",
        guest: "Nothing: data goes its way.",
        metric: "palisade_findings",
        remedy: "make room on the file system of the state directory (`df`), or see why it cannot be written (`dmesg`): it is \
                 tried again by itself, at least twice a minute, and changes are taken then. The change that failed is not in \
                 it then: ask for it again. After a restart before that, see whether it is there",
        clears: Clears::WhenTold,
    }
    StateMisplaced {
        code: "state_misplaced", severity: Failed,
        means: "Files of the cluster database, or the state directory itself, were deleted, moved or replaced while in use.",
        guest: "Nothing until the daemon restarts; then its disk may be missing.",
        metric: "palisade_findings",
        remedy: "single files that were deleted are put back by themselves within a second. A directory or file that was moved: \
                 put it back, and move away what is in its place. A directory that was deleted: make an empty one, which is \
                 filled by itself. Do not stop the daemon before this is over; until then no changes are taken, and \
                 `palisade state backup FILE` keeps what it knows",
        clears: Clears::WhenTold,
    }
    LimitInForce {
        code: "limit_in_force", severity: Degraded,
        means: "The process runs under a limit that can keep it from serving guests.",
        guest: "Nothing until the limit is met: then its session may be refused, or its requests end with an I/O error.",
        metric: "palisade_findings",
        remedy: "lift the limit named above where it is set (the unit, or the shell that started the daemon), then \
                 `systemctl restart palisaded`: guests see a pause",
        clears: Clears::WhenTold,
    }
    ControlBusy {
        code: "control_busy", severity: Degraded,
        means: "The state of the node cannot be read just now; what is said here of disks and attachments is of a little while ago.",
        guest: "Nothing by itself: data goes its way without the control loop.",
        metric: "palisade_findings",
        remedy: "wait; when it lasts, another finding names the thread that is stuck",
        clears: Clears::WithItsCause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_whole_and_its_code_is_its_own() {
        let mut codes = BTreeSet::new();
        for kind in FindingKind::ALL {
            let row = kind.row();
            assert!(codes.insert(row.code), "{} is there twice", row.code);
            let snake = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(row.code.chars().all(snake), "{}", row.code);
            for text in [row.means, row.guest, row.metric, row.remedy] {
                assert!(!text.trim().is_empty(), "{} leaves something out", row.code);
            }
            assert!(
                row.means.ends_with('.') && row.guest.ends_with('.'),
                "{}",
                row.code
            );
            assert!(row.metric.starts_with("palisade_"), "{}", row.code);
        }
    }

    #[test]
    fn a_remedy_names_the_subject() {
        let row = FindingKind::DiskBlocked.row();
        assert!(row.remedy_for("disk/d1").contains("`palisade disk show d1`"));
    }
}
