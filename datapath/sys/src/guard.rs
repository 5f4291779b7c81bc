//! Limits of the process that would stop a storage appliance: memory it may lock, files it may open.

use std::io;

/// How far a limit went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What it is now; `u64::MAX` for none.
    pub now: u64,
    /// What it was before; `u64::MAX` for none.
    pub before: u64,
}

/// Raises the memory that may be locked (RLIMIT_MEMLOCK) to no limit, or to the hard limit where we may not.
///
/// # Errors
/// What setrlimit(2) says.
pub fn raise_memlock() -> io::Result<Limit> {
    raise(libc::RLIMIT_MEMLOCK, libc::RLIM_INFINITY)
}

/// Raises the number of open files (RLIMIT_NOFILE) to `files`, or to the hard limit where we may not.
///
/// # Errors
/// What setrlimit(2) says.
pub fn raise_nofile(files: u64) -> io::Result<Limit> {
    raise(libc::RLIMIT_NOFILE, files)
}

/// A limit that a shell or a service manager may have set, and what happens to us at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// RLIMIT_FSIZE: a file may not grow beyond it.
    FileSize,
    /// RLIMIT_AS: no more can be mapped, guests' memory included.
    AddressSpace,
    /// RLIMIT_DATA: no more memory of our own.
    Data,
    /// RLIMIT_NPROC: no more threads and processes of our user.
    Processes,
    /// RLIMIT_CPU: the kernel ends a process that has used so many seconds.
    Processor,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 5] = [
        Resource::FileSize,
        Resource::AddressSpace,
        Resource::Data,
        Resource::Processes,
        Resource::Processor,
    ];

    /// What a limit in force means, and how the unit lifts it.
    pub fn meaning(self) -> &'static str {
        match self {
            Resource::FileSize => {
                "bytes: writes beyond it fail, also those of guests (LimitFSIZE=infinity lifts it)"
            }
            Resource::AddressSpace => {
                "bytes of address space: guests' memory may not find room (LimitAS=infinity lifts it)"
            }
            Resource::Data => {
                "bytes of memory: the daemon may be ended for lack of it (LimitDATA=infinity lifts it)"
            }
            Resource::Processes => {
                "threads and processes: each disk and each guest takes some (LimitNPROC=infinity lifts it)"
            }
            Resource::Processor => {
                "seconds of processor time: the kernel ends the daemon behind them (LimitCPU=infinity lifts it)"
            }
        }
    }

    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Resource::FileSize => libc::RLIMIT_FSIZE,
            Resource::AddressSpace => libc::RLIMIT_AS,
            Resource::Data => libc::RLIMIT_DATA,
            Resource::Processes => libc::RLIMIT_NPROC,
            Resource::Processor => libc::RLIMIT_CPU,
        }
    }
}

/// Raises a limit as far as whoever started us has allowed: to its hard limit, which is left as it is.
///
/// # Errors
/// What setrlimit(2) says.
pub fn raise_to_hard(which: Resource) -> io::Result<Limit> {
    let number = which.number();
    let before = limit(number)?;
    let whole = libc::rlimit {
        rlim_cur: before.rlim_max,
        rlim_max: before.rlim_max,
    };
    if before.rlim_cur != before.rlim_max {
        set_limit(number, &whole)?;
    }
    Ok(Limit {
        now: before.rlim_max,
        before: before.rlim_cur,
    })
}

fn raise(which: libc::__rlimit_resource_t, wanted: u64) -> io::Result<Limit> {
    let before = limit(which)?;
    if before.rlim_cur >= wanted {
        return Ok(Limit {
            now: before.rlim_cur,
            before: before.rlim_cur,
        });
    }
    let whole = libc::rlimit {
        rlim_cur: wanted,
        rlim_max: before.rlim_max.max(wanted),
    };
    let soft = libc::rlimit {
        rlim_cur: wanted.min(before.rlim_max),
        rlim_max: before.rlim_max,
    };
    set_limit(which, &whole).or_else(|_| set_limit(which, &soft))?;
    Ok(Limit {
        now: limit(which)?.rlim_cur,
        before: before.rlim_cur,
    })
}

fn limit(which: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to an rlimit of ours.
    match unsafe { libc::getrlimit(which, &mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_limit(which: libc::__rlimit_resource_t, limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: the pointer is to an rlimit of ours.
    match unsafe { libc::setrlimit(which, limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_only_grow() {
        let files = raise_nofile(64).unwrap();
        assert!(files.now >= files.before);
        let memory = raise_memlock().unwrap();
        assert!(memory.now >= memory.before);
        assert_eq!(raise_memlock().unwrap().before, memory.now);
    }
}
