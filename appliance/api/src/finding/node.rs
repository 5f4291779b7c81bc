//! Kinds of findings of the node itself: steps that are held back, threads, limits, what it keeps of the cluster.

/// Puts the rows of this file behind those given, and hands all of them to the next macro of those named.
macro_rules! node_rows {
    ($next:ident $($later:ident)* { $($rows:tt)* }) => { $next! { $($later)* { $($rows)*
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
    StepOverdue {
        code: "step_overdue", severity: Degraded,
        means: "A step of a change lasts for longer than it should.",
        guest: "The change is not in force yet.",
        metric: "palisade_generation_applied",
        remedy: "look at what it waits for; nothing else is held up by it",
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
        remedy: "if it names attachments whose memory was waited for, look at their virtual machines: such a guest is cut off \
                 when it goes on. Else see what else runs on its core (`palisade reactors` names it; `palisade preflight --profile bare-metal --cores \
                 CORES` tells what to change so that it has the core for itself), and whether the machine itself was held up: a \
                 virtual one whose host is busy, or one that swaps (`vmstat 1`). It ends after a minute without such a turn",
        clears: Clears::WithItsCause,
    }
    ControlBusy {
        code: "control_busy", severity: Degraded,
        means: "The state of the node cannot be read just now; what is said here of disks and attachments is of a little while ago.",
        guest: "Nothing by itself: data goes its way without the control loop.",
        metric: "palisade_findings",
        remedy: "wait; when it lasts, another finding names the thread that is stuck",
        clears: Clears::WithItsCause,
    }
    HostShort {
        code: "host_short", severity: Degraded,
        means: "The host had no memory or other means for operations on a disk.",
        guest: "The requests concerned end with an I/O error.",
        metric: "palisade_disk_faults_total",
        remedy: "free memory on the host (`free -m`), or look at what a server below this disk lacks",
        clears: WORKS_AGAIN,
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
    PlainPages {
        code: "plain_pages", severity: Ok,
        means: "Buffers are made of plain pages; hugepages are faster.",
        guest: "A little more latency.",
        metric: "palisade_findings",
        remedy: "`palisade preflight --apply` sets hugepages aside; restart the daemon afterwards",
        clears: Clears::WithItsCause,
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
        means: "Files of the cluster database, what was known of media, or the state directory itself, were deleted, moved or replaced while in use.",
        guest: "Nothing until the daemon restarts; then its disk may be missing.",
        metric: "palisade_findings",
        remedy: "single files that were deleted are put back by themselves within a second. A directory or file that was moved: \
                 put it back, and move away what is in its place. A directory that was deleted: make an empty one, which is \
                 filled by itself. Do not stop the daemon before this is over; until then no changes are taken, and \
                 `palisade state backup FILE` keeps what it knows",
        clears: Clears::WhenTold,
    }
    StateSpaceLow {
        code: "state_space_low", severity: Degraded,
        means: "The file system of the state directory has too little room for the next changes.",
        guest: "Nothing: data goes its way. When it is full no changes are taken.",
        metric: "palisade_findings",
        remedy: "make room on the file system of the state directory (`df`): 64 MiB are enough, or a tenth of it where it is small",
        clears: Clears::WhenTold,
    }
    EventsNotKept {
        code: "events_not_kept", severity: Degraded,
        means: "What happens, and what operators do, cannot be written to the state directory: after a restart nobody knows of it.",
        guest: "Nothing: data goes its way.",
        metric: "palisade_findings",
        remedy: "make room on the file system of the state directory (`df`), or see why it cannot be written (`dmesg`): it is \
                 tried again each second. `palisade events` shows meanwhile what the daemon has in its memory",
        clears: Clears::WhenTold,
    }
    EventsDamaged {
        code: "events_damaged", severity: Degraded,
        means: "A file of events of before is damaged, was cut off or written to from outside, or is of another version. It was \
                set aside, and nothing of it was deleted.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "see whether something from outside cuts files of the state directory off or writes to them (logrotate with \
                 copytruncate, an editor, a backup brought back), or what is wrong with its storage (`dmesg`). What can be read of the file \
                 is among `palisade events` for as long as it lies where it is. Move it away when it is not wanted there any more",
        clears: Clears::WhenTold,
    }
    EventsLost {
        code: "events_lost", severity: Degraded,
        means: "A file of events of before was deleted, cut off or replaced, while the daemon ran or was stopped, and not by it: \
                events in it are lost, perhaps of what operators did. Where they were, the rest says that they are missing.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "find out who deletes or changes files of the state directory, and when: nobody but the daemon is to. If there is \
                 a copy of the file (a backup), put it in the place of the one that is named: what it holds is among \
                 `palisade events` again a second later. This ends a day after the last loss; the events of before tell of it for as long as \
                 they are kept",
        clears: Clears::AfterQuiet { seconds: 86_400 },
    }
    MediaRecordDamaged {
        code: "media_record_damaged", severity: Degraded,
        means: "What a disk was last known to carry was damaged in the state directory. It was set aside, and nothing of it was deleted.",
        guest: "Nothing, if the disk's medium is level with the database; one that is not is served to nobody until an operator has decided.",
        metric: "palisade_findings",
        remedy: "see what is wrong with the storage of the state directory (`dmesg`). It is treated as lost and made anew by itself; \
                 move the file away that is named, which ends with .damaged, when it is not wanted there any more",
        clears: Clears::WhenTold,
    }
    StateInMemory {
        code: "state_in_memory", severity: Degraded,
        means: "The cluster database lies where it does not outlast the machine, or the daemon: in memory, or in a folder that is \
                emptied.",
        guest: "Nothing until the machine restarts; then its disk is missing.",
        metric: "palisade_findings",
        remedy: "keep what it knows (`palisade state backup FILE`), name a folder on a lasting file system as state_dir in the \
                 configuration, stop the daemon, copy the directory there with all it holds, and start the daemon. Where the \
                 database is gone, `palisade disk import` brings back pooled disks with their volumes, and nothing else",
        clears: Clears::WhenTold,
    }
    MemoryLimited {
        code: "memory_limited", severity: Degraded,
        means: "Guests share more memory with the daemon than its control group may use.",
        guest: "Nothing until requests have touched more of its memory first than the limit leaves: then the kernel ends the daemon, \
                and all guests wait until it is started again.",
        metric: "palisade_findings",
        remedy: "raise the limit of the daemon's control group above the memory of all guests, or take it away (MemoryMax= of the \
                 unit); or bound what each guest may share (guests.memory_max_gib of the configuration). Memory in hugetlbfs does \
                 not count. Where the virtual machine monitors are trusted and touch all memory before they share it (QEMU: \
                 prealloc=on), it is charged to them, and this may stay",
        clears: Clears::WithItsCause,
    }
    ConfigUnusable {
        code: "config_unusable", severity: Degraded,
        means: "The configuration file is gone, or cannot be taken as it is now; the daemon goes on with what it read at its start.",
        guest: "Nothing until the daemon restarts; then its VMM may wait for the socket to come back.",
        metric: "palisade_findings",
        remedy: "put the file right, or back: `palisaded --check-config --config FILE` says whether it can be taken; what is in force now is \
                 what it held when the daemon started",
        clears: Clears::WhenTold,
    }
    } } };
}
