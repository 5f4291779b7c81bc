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
        means: "Files of the cluster database, or the state directory itself, were deleted, moved or replaced while in use.",
        guest: "Nothing until the daemon restarts; then its disk may be missing.",
        metric: "palisade_findings",
        remedy: "single files that were deleted are put back by themselves within a second. A directory or file that was moved: \
                 put it back, and move away what is in its place. A directory that was deleted: make an empty one, which is \
                 filled by itself. Do not stop the daemon before this is over; until then no changes are taken, and \
                 `palisade state backup FILE` keeps what it knows",
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
    ConfigUnusable {
        code: "config_unusable", severity: Degraded,
        means: "The configuration file is gone, or cannot be taken as it is now; the daemon goes on with what it read at its start.",
        guest: "Nothing until the daemon restarts; then its VMM may wait for the socket to come back.",
        metric: "palisade_findings",
        remedy: "put the file right, or back: `palisaded --check-config` says whether it can be taken; what is in force now is \
                 what it held when the daemon started",
        clears: Clears::WhenTold,
    }
    } } };
}
