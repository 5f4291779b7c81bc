//! Kinds of findings of guests, their virtual machine monitors and their sessions.

/// Puts the rows of this file behind those given, and hands all of them to the next macro of those named.
macro_rules! guests_rows {
    ($next:ident $($later:ident)* { $($rows:tt)* }) => { $next! { $($later)* { $($rows)*
    GuestHangs {
        code: "guest_hangs", severity: Degraded,
        means: "A file or socket that a virtual machine monitor gave us does not answer; its session was cut off.",
        guest: "Its disk is gone until its monitor can connect again; no other guest notices anything.",
        metric: "palisade_attachment_connected",
        remedy: "end the virtual machine of {name}, and look at what its monitor gave us: the file system behind its memory, a \
                 socket that it sent. The attachment's socket comes back by itself when what hangs has ended, or at once after \
                 `palisade attachment delete {name}` and `palisade attachment create`",
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
    GuestMemoryStalls {
        code: "guest_memory_stalls", severity: Degraded,
        means: "A guest's memory has kept a reactor waiting for a tenth of a second again and again, and its session was cut off: \
                its virtual machine monitor punches gigabytes out of that memory while they are in use, it lies in hugepages \
                of 1 GiB that nobody has touched yet, or the host has swapped it out.",
        guest: "Its disk is gone until its monitor can connect again, after 5 s, and each further time twice as long, up to \
                ten minutes. All whom this reactor serves waited with it before, and are served now.",
        metric: "palisade_attachment_cut_off_total",
        remedy: "have the memory of {name} allocated before it starts (QEMU: prealloc=on) if it lies in hugepages of 1 GiB. Else look \
                 at the virtual machine and at its monitor: no honest one takes memory away in which requests are under way, \
                 though a guest with virtio-mem may make its own do so; end it if it goes on. If the host swaps (`vmstat 1`), \
                 give it more memory, or the guest memory that is locked (QEMU: -overcommit mem-lock=on). It ends ten minutes \
                 after the last such wait",
        clears: Clears::WithItsCause,
    }
    GuestMemorySlow {
        code: "guest_memory_slow", severity: Degraded,
        means: "What a reactor does for a guest takes long at a time, because pages of its memory, or of its disk in memory, have to \
                be found, cleared or waited for; so the guest's requests rest in between, where others are on that reactor.",
        guest: "Its disk is slow as long as that goes on; its neighbours have nine tenths of the reactor's time.",
        metric: "palisade_attachment_stalls_total",
        remedy: "nothing, if {name} has just been started on hugepages that nobody had touched: it ends when they are there, and \
                 does not come up with memory that is allocated before the start (QEMU: prealloc=on). Nor if it fills a disk in \
                 memory for the first time: that has its pages from the start where there are hugepages for it. Else look at what its \
                 monitor does to its memory, and whether the host swaps (`vmstat 1`). It ends a minute after the last time",
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
    GuestMemoryLost {
        code: "guest_memory_lost", severity: Degraded,
        means: "A guest's memory was not there when data was to be moved: its VMM has taken it away, or the host had no page for it.",
        guest: "The requests concerned end with an I/O error; no other guest is touched.",
        metric: "palisade_attachment_faults_total",
        remedy: "look at the VMM of attachment {name}: it truncated or unmapped the memory that it had shared; or that lies on a \
                 tmpfs or on hugepages with no room left for the pages that the guest touches first (`df`, `cat \
                 /proc/meminfo`): make room there",
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
    RequestsParked {
        code: "requests_parked", severity: Failed,
        means: "Requests of an attachment have been parked for more than 5 s: they are on no disk, and wait until a fault has healed \
                or a change of their volume is decided on.",
        guest: "The requests concerned wait, without an error; the others are answered.",
        metric: "palisade_attachment_parked",
        remedy: "where a disk is named, mend that as its own finding says; they are sent again with the next route of their volume. \
                 Where a change is named, its own finding (step_overdue, disk_stalled) says what that waits for. A guest that is \
                 not to wait gets an I/O error for each of them after `palisade attachment delete {name} --force`",
        clears: Clears::WhenTold,
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
        means: "A guest's driver has broken the ring of a virtqueue, or the memory that it lies in is gone: nothing more is taken from it.",
        guest: "Requests on this queue are not answered; the error descriptor of the queue is signalled.",
        metric: "palisade_attachment_ring_events_total",
        remedy: "look at the guest's driver, or at the file behind its memory if that is what is told; the queue works again when the guest resets the device or restarts",
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
    } } };
}
