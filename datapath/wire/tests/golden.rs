//! The bytes on disk and between nodes, held against files in the tree. When one differs, disks written by the last release
//! can no longer be read, or its nodes no longer be understood: change the version, not the file. `UPDATE_GOLDEN=1` writes files that are missing.

#![cfg(test)]

mod disk;

use disk::{DISK_SECTORS, extents, superblock};
use palisade_wire::{
    DATA_START_ROOMY, FrameHeader, FrameKind, HELLO_BYTES, HearingRow, Heartbeat, Hello, Lineage,
    LinkRefusal, ROOMY_SECTORS_MIN, StartNumber, Superblock, format, update,
};
use palisade_words::{
    Ancestor, Epoch, FeatureLevel, Generation, Incarnation, LineageId, LinkIndex, ReactorIndex, StreamIndex,
    Uuid,
};
use std::path::Path;

fn compare(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert_eq!(golden.len(), bytes.len(), "{name}");
    let first = golden.iter().zip(bytes).position(|(old, new)| old != new);
    assert_eq!(first, None, "first byte of {name} that differs");
}

#[test]
fn a_formatted_disks_sectors_are_those_of_the_golden_files() {
    let format = format(&superblock(DISK_SECTORS), &extents(2)).unwrap();
    let sector = |phase: usize, write: usize| &format.phases[phase].writes[write];
    assert_eq!((sector(3, 0).lba.0, sector(3, 1).lba.0), (0, 128));
    compare("superblock.bin", &sector(3, 0).bytes);
    let table = format.phases[1]
        .writes
        .iter()
        .find(|write| write.lba.0 == 1792)
        .unwrap();
    compare("extents.bin", &table.bytes);
}

/// The same with a lineage, as version 2 has it.
fn with_lineage() -> Superblock {
    let ancestor = |generation: u64| Ancestor {
        generation: Generation(generation),
        id: LineageId(0x1d00 << 64 | u128::from(generation)),
    };
    let lineage = Lineage {
        id: LineageId(0x1d00 << 64 | 10),
        ancestors: (1..9).rev().map(ancestor).collect(),
    };
    Superblock {
        lineage: Some(lineage),
        ..superblock(DISK_SECTORS)
    }
}

#[test]
fn a_superblock_with_its_lineage_is_that_of_the_golden_file() {
    let format = format(&with_lineage(), &extents(2)).unwrap();
    compare("superblock-2.bin", &format.phases[3].writes[0].bytes);
    let table = format.phases[1].writes.iter().find(|write| write.lba.0 == 1792);
    compare("extents-2.bin", &table.unwrap().bytes);
    let read = Superblock::from_sector(&format.phases[3].writes[0].bytes, palisade_words::Lba(0)).unwrap();
    assert_eq!(read, format.superblock);
    assert_eq!(read.lineage.unwrap().ancestors.len(), 8);
}

/// A disk of 8 GiB, as version 3 has it: its data begins at 68 MiB.
#[test]
fn a_superblock_that_places_its_data_is_that_of_the_golden_file() {
    let roomy = Superblock {
        lineage: with_lineage().lineage,
        ..superblock(ROOMY_SECTORS_MIN)
    };
    let format = format(&roomy, &[]).unwrap();
    let [sector] = [&format.phases.last().unwrap().writes[0]];
    compare("superblock-3.bin", &sector.bytes);
    let read = Superblock::from_sector(&sector.bytes, sector.lba).unwrap();
    assert_eq!(read, format.superblock);
    assert_eq!(
        (read.data_start, read.data_start.bytes()),
        (DATA_START_ROOMY, 68 << 20)
    );
}

#[test]
fn the_golden_superblock_says_what_it_said() {
    let bytes =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/superblock.bin")).unwrap();
    let read = Superblock::from_sector(&bytes.try_into().unwrap(), palisade_words::Lba(0)).unwrap();
    let written = format(&superblock(DISK_SECTORS), &extents(2)).unwrap().superblock;
    assert_eq!(read, written);
    assert_eq!(
        (read.generation, read.epoch, read.sequence),
        (Generation(10), Epoch(1), 1)
    );
    assert_eq!((read.data_start.0, read.data_end.0), (8192, 8192 * 23));
}

#[test]
fn an_update_turns_to_the_other_copies() {
    let first = format(&superblock(DISK_SECTORS), &extents(2)).unwrap().superblock;
    let second = update(
        &first,
        &Superblock {
            generation: Generation(11),
            ..first.clone()
        },
        &extents(1),
    )
    .unwrap();
    let lbas: Vec<Vec<u64>> = second
        .phases
        .iter()
        .map(|phase| phase.writes.iter().map(|write| write.lba.0).collect())
        .collect();
    let tail = DISK_SECTORS / 8 * 8 - 4096;
    assert_eq!(lbas, [vec![tail + 512, 512], vec![tail], vec![0]]);
    assert_eq!(second.superblock.sequence, 2);
}

/// A frame of each kind, and a greeting and a refusal.
#[test]
fn what_nodes_say_to_each_other_is_as_in_the_golden_files() {
    let headers: Vec<u8> = FrameKind::ALL
        .into_iter()
        .flat_map(|kind| {
            let payload_bytes = match kind {
                FrameKind::Hello | FrameKind::Welcome => HELLO_BYTES as u32,
                FrameKind::Refused => 32,
                FrameKind::Message | FrameKind::Answer => 4096,
                _ => 0,
            };
            let header = FrameHeader {
                client: 1,
                stream: StreamIndex(2),
                round: 3,
                sequence: 0x0102_0304_0506,
                behind: 4,
                epoch: Epoch(5),
                attempt: 6,
                payload_bytes,
                payload_crc: (kind != FrameKind::Answer).then_some(0xa1b2_c3d4),
                asks_accepted: kind == FrameKind::Message,
                words: *b"the words of a client.",
                ..FrameHeader::of(kind)
            };
            header.encode()
        })
        .collect();
    compare("frames.bin", &headers);
    let hello = Hello {
        cluster: Uuid(0x11 << 64 | 1),
        node: Uuid(0x22 << 64 | 2),
        peer: Uuid(0x33 << 64 | 3),
        incarnation: Incarnation(4),
        start: StartNumber::new(14).unwrap(),
        peer_incarnation: Some(Incarnation(5)),
        peer_start: StartNumber::new(15),
        feature_level: FeatureLevel(6),
        epoch: Epoch(7),
        round: 8,
        link: LinkIndex(9),
        versions: (1, 1),
        asking_reactor: ReactorIndex(10),
        serving_reactor: ReactorIndex(11),
        streams: 12,
        window: 13,
    };
    compare("hello.bin", &hello.encode());
    compare(
        "refusal.bin",
        &LinkRefusal::Version { least: 1, latest: 2 }.encode(),
    );
}

#[test]
fn a_heartbeat_is_as_in_the_golden_file() {
    let row = |place: u8, is_settled| HearingRow {
        place,
        is_settled,
        incarnation: Incarnation(0x30 + u64::from(place)),
        sequence: 0x40 + u64::from(place),
        heard: 0b1011,
    };
    let heartbeat = Heartbeat {
        link: LinkIndex(1),
        epoch: Epoch(7),
        node: Uuid(0x22 << 64 | 2),
        boot: Uuid(0x44 << 64 | 4),
        incarnation: Incarnation(5),
        nonce: 0x0102_0304_0506_0708,
        sequence: 9,
        sent_ns: 1_000_000_007,
        echo: Some((10, 11)),
        rows: vec![row(0, true), row(1, false), row(63, true)],
    };
    compare("heartbeat.bin", &heartbeat.encode());
}
