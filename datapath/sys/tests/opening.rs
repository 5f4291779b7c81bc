//! Opening: creation, the lock as a barrier, what is refused, superblock access.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_block::Op;
use palisade_sys::device::probe::{Content, probe};
use palisade_sys::device::{Create, DeviceMedium, DeviceSpec, Holder, Identity};
use palisade_sys::{OpenError, Opened};
use palisade_words::Sectors;
use rig::{Buffer, MIB, Rig};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn a_file_is_made_once_and_never_emptied() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 4096);
    assert!(opened.created());
    opened.write_at(4096, &[7; 4096]).unwrap();
    opened.sync().unwrap();
    drop(opened);
    let again = Opened::open(&rig::file_spec(&path, 2 * MIB, 4096), Duration::ZERO).unwrap();
    assert!(!again.created());
    assert_eq!(again.sectors(), Sectors(MIB / 512));
    let mut back = [0; 300];
    again.read_at(5000, &mut back).unwrap();
    assert_eq!(back, [7; 300]);
}

#[test]
fn space_is_taken_unless_sparse_is_asked_for() {
    let directory = rig::directory();
    let make = |name, sparse| {
        let path = directory.path().join(name);
        let medium = DeviceMedium::File {
            path: path.clone(),
            create: Some(Create {
                bytes: 8 * MIB,
                sparse,
            }),
        };
        rig::open(medium, 512);
        fs::metadata(path).unwrap().blocks() * 512
    };
    assert!(make("full", false) >= 8 * MIB);
    assert!(make("sparse", true) < MIB);
}

#[test]
fn a_file_that_cannot_be_made_leaves_nothing_behind() {
    let directory = rig::directory();
    let path = directory.path().join("huge");
    let error = Opened::open(&rig::file_spec(&path, 1 << 50, 4096), Duration::ZERO).unwrap_err();
    assert!(
        matches!(error, OpenError::Create { bytes, .. } if bytes == 1 << 50),
        "{error}"
    );
    assert!(!path.exists());
}

#[test]
fn the_lock_keeps_a_second_out_until_the_first_is_gone() {
    let directory = rig::directory();
    let (path, first) = rig::open_file(&directory, MIB, 4096);
    let spec = DeviceSpec {
        medium: DeviceMedium::File { path, create: None },
        block_bytes: 4096,
        read_only: false,
    };
    let start = Instant::now();
    let error = Opened::open(&spec, Duration::from_millis(150)).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(150));
    let OpenError::Locked { waited, holder, .. } = &error else {
        panic!("{error}");
    };
    assert!(*waited >= Duration::from_millis(150));
    assert_eq!(*holder, Some(Holder::Running(std::process::id())));
    assert!(
        error
            .to_string()
            .contains(&format!("for process {} to close it", std::process::id())),
        "{error}"
    );
    let second = std::thread::spawn(move || Opened::open(&spec, Duration::from_secs(10)));
    std::thread::sleep(Duration::from_millis(100));
    drop(first);
    assert!(second.join().unwrap().is_ok());
}

#[test]
fn readers_share() {
    let directory = rig::directory();
    let (path, writer) = rig::open_file(&directory, MIB, 4096);
    let medium = DeviceMedium::File { path, create: None };
    let spec = DeviceSpec {
        medium,
        block_bytes: 4096,
        read_only: true,
    };
    assert!(matches!(
        Opened::open(&spec, Duration::ZERO),
        Err(OpenError::Locked { .. })
    ));
    drop(writer);
    let readers = [(); 2].map(|()| Opened::open(&spec, Duration::ZERO).unwrap());
    assert!(
        readers
            .iter()
            .all(|reader| reader.write_at(0, &[0; 4096]).is_err())
    );
}

#[test]
fn what_is_not_a_device_is_refused_by_name() {
    let directory = rig::directory();
    let open = |medium, block_bytes| {
        let spec = DeviceSpec {
            medium,
            block_bytes,
            read_only: false,
        };
        Opened::open(&spec, Duration::ZERO).unwrap_err()
    };
    let path = directory.path().join("none");
    assert!(matches!(
        open(
            DeviceMedium::File {
                path: path.clone(),
                create: None
            },
            512
        ),
        OpenError::Open { .. }
    ));
    assert!(matches!(
        open(DeviceMedium::Block { path: path.clone() }, 512),
        OpenError::Open { .. }
    ));
    fs::write(&path, [0; 100]).unwrap();
    assert!(matches!(
        open(DeviceMedium::Block { path: path.clone() }, 512),
        OpenError::NotBlock { .. }
    ));
    assert!(matches!(
        open(DeviceMedium::File { path, create: None }, 512),
        OpenError::Empty { .. }
    ));
    let null = DeviceMedium::File {
        path: "/dev/null".into(),
        create: None,
    };
    assert!(matches!(
        open(null, 512),
        OpenError::NotFile { .. } | OpenError::Open { .. }
    ));
    assert!(matches!(
        open(DeviceMedium::Null { bytes: 512 }, 1024),
        OpenError::BlockSize { asked: 1024 }
    ));
    assert!(matches!(
        open(DeviceMedium::Null { bytes: 511 }, 512),
        OpenError::Empty { path: None }
    ));
}

#[test]
fn a_file_system_without_direct_io_is_used_and_said() {
    let Ok(shared) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let (_, opened) = rig::open_file(&shared, MIB, 512);
    // tmpfs takes O_DIRECT since Linux 6.6 and ignores it; before, it was refused.
    let mut buffer = Buffer::new(8192);
    buffer.fill(0, 4096, 1);
    let mut rig = Rig::new(Arc::clone(&opened));
    rig.on(&buffer);
    assert_eq!(rig.write(512, &[buffer.segment(0, 4096)]), Ok(()));
    assert_eq!(rig.read(512, &[buffer.segment(4096, 4096)]), Ok(()));
    assert!(buffer.holds(4096, 4096, 1));
    assert!(!opened.limits().write_zeroes, "tmpfs has no zero range");
    assert_eq!(
        rig.run(Op::WriteZeroes { unmap: false }, 0, 4096, &[]),
        Err(palisade_block::Fault::Unsupported)
    );
    // And so nothing is done that would cost the file its space.
    assert_eq!(
        rig.run(Op::Discard, 0, 4096, &[]),
        Err(palisade_block::Fault::Unsupported)
    );
    assert!(rig.read(512, &[buffer.segment(4096, 4096)]).is_ok() && buffer.holds(4096, 4096, 1));
}

#[test]
fn superblocks_are_read_and_written_anywhere() {
    let directory = rig::directory();
    let (_, file) = rig::open_file(&directory, MIB, 512);
    for device in [file, rig::open(DeviceMedium::Memory { bytes: MIB }, 512)] {
        assert_eq!(probe(&device).unwrap(), Content::Blank);
        let mut sector = [0; 4096];
        sector[..8].copy_from_slice(b"PALISADE");
        device.write_at(0, &sector).unwrap();
        device.write_at(MIB - 4096, &sector).unwrap();
        device.sync().unwrap();
        assert_eq!(
            probe(&device).unwrap(),
            Content::Palisade {
                head: true,
                tail: true
            }
        );
        device.write_at(0, &[0; 512]).unwrap();
        assert_eq!(
            probe(&device).unwrap(),
            Content::Palisade {
                head: false,
                tail: true
            }
        );
        assert!(device.write_at(1, &sector).is_err());
        assert!(device.write_at(MIB, &sector).is_err());
        assert!(device.read_at(MIB - 1, &mut [0; 2]).is_err());
        assert!(device.read_at(MIB - 1, &mut [0; 1]).is_ok());
    }
}

#[test]
fn a_file_is_itself_by_any_name_and_its_copy_is_another() {
    let folder = rig::directory();
    let (path, moved) = (folder.path().join("a"), folder.path().join("b"));
    fs::write(&path, b"x").unwrap();
    let of = |path: &std::path::Path| Identity::of(&fs::File::open(path).unwrap()).unwrap();
    let before = of(&path);
    fs::rename(&path, &moved).unwrap();
    assert_eq!(of(&moved), before);
    fs::copy(&moved, &path).unwrap();
    assert_ne!(of(&path), before);
    // The number of a deleted file is given away again; its generation is not.
    fs::remove_file(&moved).unwrap();
    fs::write(&moved, b"x").unwrap();
    assert_ne!(of(&moved), before);
}

#[test]
fn who_it_is_is_asked_before_anything_is_done_to_it() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 4096);
    let known = opened.identity().unwrap().clone();
    let spec = DeviceSpec {
        medium: DeviceMedium::File {
            path: path.clone(),
            create: None,
        },
        block_bytes: 4096,
        read_only: false,
    };
    let accept = |found: &Identity| match *found == known {
        true => Ok(()),
        false => Err("its inode is another".to_owned()),
    };
    // The other one is still locked: a refusal does not wait for that.
    let other = directory.path().join("other");
    fs::copy(&path, &other).unwrap();
    fs::rename(&other, &path).unwrap();
    let before = fs::metadata(&path).unwrap();
    let error = Opened::open_checked(&spec, Duration::from_secs(9), &accept).unwrap_err();
    assert!(matches!(&error, OpenError::OtherMedium { .. }), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("another medium: its inode is another"),
        "{error}"
    );
    let after = fs::metadata(&path).unwrap();
    assert_eq!(
        (before.ctime_nsec(), before.blocks()),
        (after.ctime_nsec(), after.blocks())
    );
}

#[test]
fn a_file_that_was_there_and_empty_survives_a_failed_creation() {
    let directory = rig::directory();
    let path = directory.path().join("empty");
    fs::write(&path, b"").unwrap();
    let error = Opened::open(&rig::file_spec(&path, 1 << 50, 4096), Duration::ZERO).unwrap_err();
    let OpenError::Create { source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    let left = fs::metadata(&path).unwrap();
    assert_eq!((left.len(), left.blocks()), (0, 0));
}

#[test]
fn neither_a_fifo_nor_a_terminal_nor_a_dangling_link_is_opened() {
    let directory = rig::directory();
    let fifo = directory.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path().join("nowhere"), &link).unwrap();
    for create in [
        None,
        Some(Create {
            bytes: MIB,
            sparse: true,
        }),
    ] {
        let open = |path: &std::path::Path| {
            let spec = DeviceSpec {
                medium: DeviceMedium::File {
                    path: path.into(),
                    create,
                },
                block_bytes: 512,
                read_only: false,
            };
            Opened::open(&spec, Duration::ZERO).unwrap_err()
        };
        let start = Instant::now();
        assert!(matches!(open(&fifo), OpenError::NotFile { is: "a FIFO", .. }));
        let terminal = open("/dev/ptmx".as_ref());
        assert!(
            matches!(
                terminal,
                OpenError::NotFile {
                    is: "a character device",
                    ..
                }
            ),
            "{terminal}"
        );
        assert!(matches!(
            open(directory.path()),
            OpenError::NotFile {
                is: "a directory",
                ..
            }
        ));
        assert!(matches!(open(&link), OpenError::Open { .. }));
        // A FIFO that nobody writes to is waited for without end.
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    assert!(!directory.path().join("nowhere").exists());
    let block = DeviceSpec {
        medium: DeviceMedium::Block { path: fifo },
        block_bytes: 512,
        read_only: false,
    };
    let error = Opened::open(&block, Duration::ZERO).unwrap_err();
    assert!(
        matches!(error, OpenError::NotBlock { is: "a FIFO", .. }),
        "{error}"
    );
}

/// An open file is inherited, and its lock with it: who took the lock need not be who has it.
#[test]
fn the_holder_of_a_lock_is_named_and_not_who_took_it() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 512);
    drop(opened);
    let mut holder = std::process::Command::new("sh")
        .args(["-c", "exec 9<>\"$0\"; flock -x 9; echo held; exec sleep 60"])
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = std::io::BufReader::new(holder.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut said).unwrap();
    let spec = rig::file_spec(&path, MIB, 512);
    let error = Opened::open(&spec, Duration::from_millis(100)).unwrap_err();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let OpenError::Locked { holder: named, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*named, Some(Holder::Running(holder.id())), "{error}");
    assert!(!error.to_string().contains("daemon"), "{error}");
    drop(Opened::open(&spec, Duration::from_secs(5)).unwrap());
}

#[test]
fn a_file_that_has_been_deleted_is_found_where_it_is_open() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 512);
    opened.write_at(4096, &[9; 512]).unwrap();
    std::fs::remove_file(&path).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("--sparse=always")
        .arg(opened.in_proc().unwrap())
        .arg(&path)
        .status();
    assert!(copied.unwrap().success());
    drop(opened);
    let copy = Opened::open(&rig::file_spec(&path, MIB, 512), Duration::ZERO).unwrap();
    let mut found = [0; 512];
    copy.read_at(4096, &mut found).unwrap();
    assert_eq!((found, copy.sectors()), ([9; 512], Sectors(MIB / 512)));
    assert_eq!(rig::open(DeviceMedium::Null { bytes: MIB }, 512).in_proc(), None);
}
