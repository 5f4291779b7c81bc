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
