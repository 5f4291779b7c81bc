//! qemu-storage-daemon, with its export in the main loop. In an iothread, which polls by itself before it sleeps, a
//! request to its null device at depth 1 took 7.2 us (median) instead of 2.9, and at depth 32 nothing was gained.

use super::{Ground, Running, Scratch, wait_for};
use crate::Failure;
use crate::process::Process;
use crate::row::Medium;
use std::path::PathBuf;
use std::process::Command;

/// Where files in memory are.
const MEMORY_FOLDER: &str = "/dev/shm";

pub(super) fn start(name: &str, aio: &str, medium: Medium, ground: &Ground) -> Result<Running, Failure> {
    let socket = ground.folder.join(format!("{name}.sock"));
    let log = ground.folder.join(format!("{name}.log"));
    let _ = std::fs::remove_file(&socket);
    let file = match medium {
        Medium::Null => None,
        Medium::Memory => Some(PathBuf::from(MEMORY_FOLDER).join(format!("palisade-bench-{name}.img"))),
        Medium::File => Some(ground.disks.join(format!("{name}.img"))),
    };
    let file = file.map(Scratch::new);
    if let Some(file) = &file {
        let path = file.path().display();
        let made = std::fs::File::create(file.path()).map_err(Failure::system(format!("make {path}")))?;
        made.set_len(ground.disk_bytes)
            .map_err(Failure::system(format!("size {path}")))?;
    }
    let disk = match (&file, medium) {
        (Some(file), Medium::File) => {
            format!(
                "driver=file,node-name=disk,filename={},aio={aio},cache.direct=on",
                file.path().display()
            )
        }
        (Some(file), _) => format!(
            "driver=file,node-name=disk,filename={},aio={aio}",
            file.path().display()
        ),
        (None, _) => format!(
            "driver=null-co,node-name=disk,size={},read-zeroes=off",
            ground.disk_bytes
        ),
    };
    let export = format!(
        "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={},writable=on,num-queues=1,\
         logical-block-size=512",
        socket.display()
    );
    let mut command = Command::new(&ground.qemu);
    command.args(["--blockdev", &disk]).args(["--export", &export]);
    let mut process = Process::start(name, command, ground.core, &log)?;
    wait_for(name, "its socket", &mut process, &log, || socket.exists())?;
    Ok(Running::Server {
        process,
        socket,
        file,
    })
}
