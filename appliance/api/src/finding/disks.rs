//! Kinds of findings of disks and of what is kept on them.

/// Puts the rows of this file behind those given, and hands all of them to the next macro of those named.
macro_rules! disks_rows {
    ($next:ident $($later:ident)* { $($rows:tt)* }) => { $next! { $($later)* { $($rows)*
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
    DiskStalled {
        code: "disk_stalled", severity: Failed,
        means: "A disk does not answer: an operation is in flight for longer than it may be.",
        guest: "Requests to this disk wait; nobody else's do.",
        metric: "palisade_disk_stalls_total",
        remedy: "look at the device and at what it stands on (`dmesg`, its path, its file system); its requests are \
                 answered when it answers, those that lasted longer than `devices.stall_s` with an I/O error where they could \
                 still be taken back. A process of the disk (io: and its file's name) that was stopped is told as \
                 disk_process_stopped",
        clears: Clears::WithItsCause,
    }
    DiskDiscardsSlow {
        code: "disk_discards_slow", severity: Degraded,
        means: "Discards or writes of zeroes of the attachment named keep a disk for long: its space there lies in many pieces, \
                or the file system is slow in giving it back.",
        guest: "Reads and writes on this disk, of all attachments, wait meanwhile; of the time such operations get half at most.",
        metric: "palisade_attachment_discard_seconds_total",
        remedy: "it ends with the discards: a guest's `fstrim`, or one that empties its disk. When it comes again and again, put \
                 that volume on a disk of its own, or mount the file system below without the option discard and run `fstrim` on it \
                 at a quiet time",
        clears: Clears::AfterQuiet { seconds: 60 },
    }
    DiskProcessStopped {
        code: "disk_process_stopped", severity: Failed,
        means: "The process of a disk has been stopped from outside, by a signal or a debugger.",
        guest: "Requests to this disk wait, flushes first; what has waited for longer than `devices.stall_s` may end with an I/O \
                error when it goes on. Nobody else's do.",
        metric: "palisade_findings",
        remedy: "let it go on by the command above (`kill -CONT` with its number), and see who has stopped it; its requests are \
                 answered then: those that were to be taken back meanwhile, because they lasted longer than `devices.stall_s`, \
                 with an I/O error unless they were carried out first. Do not kill it: that ends the daemon",
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
        remedy: "find out who holds the reservation before anything is changed: it may be another node that writes now. Once nobody \
                 else writes there and the reservation is gone, restart the daemon: before that, this node gives the disk nothing \
                 more, whatever becomes of the reservation",
        clears: WORKS_AGAIN,
    }
    DiskUnusable {
        code: "disk_unusable", severity: Failed,
        means: "A reactor could not take a disk into use.",
        guest: "Requests to this disk end with an I/O error where this reactor carries them out; those of queues on other \
                reactors are answered.",
        metric: "palisade_disk_faults_total",
        remedy: "mend what is named above (memory of the host, a limit of the process: `palisade health` shows what else is \
                 short), then `systemctl restart palisaded`: guests see a pause",
        clears: Clears::WithItsCause,
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
    DiskShrunk {
        code: "disk_shrunk", severity: Failed,
        means: "The medium of a disk is, or was, shorter than the disk is.",
        guest: "Requests behind the least size that was seen fail, also when it is as long as before; what was there is gone.",
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
    DiskAlike {
        code: "disk_alike", severity: Degraded,
        means: "Two disks without an identity of their own hold the same wherever they are looked at: nothing tells them apart.",
        guest: "Nothing now. After a restart its disk is not served before an operator has said which of the two is which.",
        metric: "palisade_findings",
        remedy: "give such disks a WWID or a serial number, or different data, such as a partition table of its own on each",
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
    } } };
}
