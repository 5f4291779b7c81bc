//! What a request must keep to by itself, whatever there is on the node. Each rule that does not need to know what is
//! there stands here and nowhere else: so it holds for every client, and not only for those of a certain program.

mod cluster;

use crate::problem::{Problem, ProblemKind};
use crate::{
    AttachmentCreate, AttachmentPatch, DiskAdopt, DiskCreate, DiskImport, DiskPatch, DiskRelocate, Limits,
    Medium, VolumeCreate, VolumePatch,
};

use std::collections::BTreeSet;

/// The body of a request.
pub trait RequestBody {
    /// Refuses one that makes no sense.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    fn check(&self) -> Result<(), Problem>;

    /// Whether it asks what would happen, and changes nothing.
    fn only_asks(&self) -> bool {
        false
    }
}

impl RequestBody for DiskCreate {
    fn check(&self) -> Result<(), Problem> {
        match &self.medium {
            Medium::File(file) => plain("file.path", Some(&file.path))?,
            Medium::Block(block) => plain("block.path", Some(&block.path))?,
            Medium::Memory(_) | Medium::Null(_) => {}
        }
        match &self.medium {
            Medium::File(file) => file.bytes.map_or(Ok(()), |bytes| size("file.bytes", bytes)),
            Medium::Memory(memory) => size("memory.bytes", memory.bytes),
            Medium::Null(null) => size("null.bytes", null.bytes),
            Medium::Block(_) => Ok(()),
        }
    }
}

impl RequestBody for DiskPatch {
    /// Without anything named, the size of the medium is read again.
    fn check(&self) -> Result<(), Problem> {
        plain("path", self.path.as_ref())?;
        self.bytes.map_or(Ok(()), |bytes| size("bytes", bytes))
    }
}

impl RequestBody for DiskAdopt {
    fn check(&self) -> Result<(), Problem> {
        match (self.take, &self.seen) {
            (Some(_), None) => Err(invalid(
                "seen",
                "a side is to be taken, and it is not said what was shown of both",
                "ask without `take` first, and give the `seen` of that answer",
            )),
            _ => Ok(()),
        }
    }

    fn only_asks(&self) -> bool {
        self.take.is_none()
    }
}

impl RequestBody for DiskImport {
    fn check(&self) -> Result<(), Problem> {
        if self.disks.is_empty() {
            return Err(invalid("disks", "no disk is named", "name at least one"));
        }
        self.disks.iter().try_for_each(|disk| {
            plain("disks", disk.file.as_ref().map(|file| &file.path))?;
            plain("disks", disk.block.as_ref().map(|block| &block.path))
        })
    }

    fn only_asks(&self) -> bool {
        self.dry_run
    }
}

impl RequestBody for DiskRelocate {
    fn check(&self) -> Result<(), Problem> {
        if !self.places.is_empty() && !self.disks.is_empty() {
            return Err(invalid(
                "places",
                "either `disks` or `places` is to be given",
                "name each disk with its path in `places`",
            ));
        }
        for place in &self.places {
            plain("places.path", Some(&place.path))?;
        }
        let places = self.places.iter().map(|place| &place.id);
        let all: Vec<&String> = self.disks.iter().chain(places).collect();
        let once: BTreeSet<&String> = all.iter().copied().collect();
        match all.len() {
            count if count == 0 || self.disks.len() == 1 => Err(invalid(
                "disks",
                "fewer than two disks cannot have exchanged their paths",
                "name all that have; one alone is recorded by PATCH of its `path`",
            )),
            count if once.len() < count => Err(invalid(
                "disks",
                "a disk is named twice",
                "name each of them once",
            )),
            _ => Ok(()),
        }
    }

    fn only_asks(&self) -> bool {
        self.dry_run
    }
}

impl RequestBody for VolumeCreate {
    fn check(&self) -> Result<(), Problem> {
        size("bytes", self.bytes)
    }
}

impl RequestBody for VolumePatch {
    fn check(&self) -> Result<(), Problem> {
        if *self == VolumePatch::default() {
            return Err(nothing_named(
                "volume",
                "`bytes`, `protected`, `clear` or `clear_held`",
            ));
        }
        let alone = VolumePatch {
            clear_held: true,
            ..VolumePatch::default()
        };
        if self.clear_held && *self != alone {
            let message = "a volume's space is zeroed by a request that changes nothing else of it";
            return Err(invalid("clear_held", message, "send two requests"));
        }
        self.bytes.map_or(Ok(()), |bytes| size("bytes", bytes))
    }
}

impl RequestBody for AttachmentCreate {
    fn check(&self) -> Result<(), Problem> {
        plain("socket", self.socket.as_ref())?;
        plain("owner", self.owner.as_ref())?;
        plain("group", self.group.as_ref())?;
        self.limits.as_ref().map_or(Ok(()), RequestBody::check)
    }
}

impl RequestBody for AttachmentPatch {
    fn check(&self) -> Result<(), Problem> {
        if *self == AttachmentPatch::default() {
            return Err(nothing_named(
                "attachment",
                "`limits`, `owner`, `group` or `mode`",
            ));
        }
        plain("owner", self.owner.as_ref())?;
        plain("group", self.group.as_ref())?;
        self.limits.as_ref().map_or(Ok(()), RequestBody::check)
    }
}

impl RequestBody for Limits {
    fn check(&self) -> Result<(), Problem> {
        for (field, limit) in [
            ("limits.iops", self.iops),
            ("limits.bytes_per_second", self.bytes_per_second),
        ] {
            if limit == Some(0) {
                return Err(invalid(
                    field,
                    "a limit of 0 would let nothing through",
                    "give at least 1; who names no limits when an attachment is made has none, and `attachment set --no-limits` lifts \
                     those that there are",
                ));
            }
        }
        if let Some(bytes) = self
            .bytes_per_second
            .filter(|&bytes| bytes < LEAST_BYTES_PER_SECOND)
        {
            let message = format!(
                "{bytes} bytes a second are less than one block: a request of a guest would take minutes, and its kernel would report it as \
                 hung"
            );
            let remedy = format!(
                "give at least {LEAST_BYTES_PER_SECOND} (4KiB), one block a second; 1MiB and more are what guests can live with"
            );
            return Err(invalid("limits.bytes_per_second", &message, &remedy));
        }
        self.check_burst()?;
        match (self.iops, self.bytes_per_second, self.burst_ms) {
            (None, None, Some(_)) => Err(invalid(
                "limits.burst_ms",
                "the burst says how much of a limit may be used up at once, and there is no limit",
                "give a limit as well, of requests or of bytes a second",
            )),
            _ => Ok(()),
        }
    }
}

/// The least limit on bytes that is taken: one block of the larger kind a second.
const LEAST_BYTES_PER_SECOND: u64 = 4096;

/// The burst that there is when none is asked for, in milliseconds.
const BURST_MS_DEFAULT: u32 = 100;

impl Limits {
    /// Refuses a burst of less than one request or one block: it would be none. One of 0 says so, and the default is what it
    /// is under any limit; the command line sends it along when a limit is changed.
    fn check_burst(&self) -> Result<(), Problem> {
        let Some(burst) = self
            .burst_ms
            .filter(|&burst| burst != 0 && burst != BURST_MS_DEFAULT)
        else {
            return Ok(());
        };
        // The time that one request, or one block, takes under a limit, in milliseconds.
        let least = |amount: u64, per_second: u64| (amount * 1000).div_ceil(per_second.max(1));
        let requests = self.iops.map(|iops| (least(1, iops), "request"));
        let blocks = self
            .bytes_per_second
            .map(|bytes| (least(LEAST_BYTES_PER_SECOND, bytes), "block of 4 KiB"));
        let longest = requests.into_iter().chain(blocks).max_by_key(|(least, _)| *least);
        match longest {
            Some((least, what)) if u64::from(burst) < least => {
                let message = format!(
                    "{burst} ms' worth of the limits is less than one {what}, so that nothing could ever go at once"
                );
                let remedy = format!("give at least {least}, or 0 to have no burst; or leave it out");
                Err(invalid("limits.burst_ms", &message, &remedy))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a text with characters that people cannot see, or that break or turn round the line in which it is told: a path
/// with one of them looks like another in a log, a list and a sentence. Said here and not in the model: what was agreed on
/// before stays.
fn plain(field: &'static str, text: Option<&String>) -> Result<(), Problem> {
    let breaks = |c: &char| {
        c.is_control()
            || matches!(
                c,
                '\u{061C}'
                    | '\u{200B}'
                    | '\u{200E}'
                    | '\u{200F}'
                    | '\u{2028}'..='\u{202E}'
                    | '\u{2060}'..='\u{206F}'
                    | '\u{FEFF}'
                    | '\u{FFF9}'..='\u{FFFB}'
                    | '\u{E0000}'..='\u{E007F}'
            )
    };
    let Some(found) = text.and_then(|text| text.chars().find(breaks)) else {
        return Ok(());
    };
    let message = format!(
        "it has a character that cannot be seen, or breaks the line: U+{:04X}",
        u32::from(found)
    );
    let remedy = "leave it out; a file that has one in its name is given another name first";
    Err(invalid(field, &message, remedy))
}

fn size(field: &'static str, bytes: u64) -> Result<(), Problem> {
    match bytes {
        0 => Err(invalid(
            field,
            "a size of 0 holds nothing",
            "give one such as 10GiB (10737418240)",
        )),
        _ => Ok(()),
    }
}

fn nothing_named(resource: &str, fields: &str) -> Problem {
    let message = format!("nothing was said that should change about the {resource}");
    Problem::new(
        ProblemKind::Invalid,
        "invalid_argument",
        message,
        format!("name what is to be changed: {fields}"),
    )
}

fn invalid(field: &'static str, message: &str, remedy: &str) -> Problem {
    Problem::new(ProblemKind::Invalid, "invalid_argument", message, remedy).about(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockMedium, DiskUsage, FileMedium, ImportMedium, MemoryMedium, NullMedium, Side};

    fn about(checked: Result<(), Problem>) -> Option<String> {
        checked.err().map(|problem| problem.field.unwrap_or_default())
    }

    #[test]
    fn a_burst_without_a_limit_and_a_limit_of_nothing_are_refused() {
        let limits = |iops, bytes_per_second, burst_ms| Limits {
            iops,
            bytes_per_second,
            burst_ms,
        };
        for (limits, field) in [
            (limits(None, None, None), None),
            (limits(Some(1), None, Some(1000)), None),
            (limits(Some(1), None, Some(999)), Some("limits.burst_ms")),
            (limits(Some(3), None, Some(334)), None),
            (limits(Some(3), None, Some(333)), Some("limits.burst_ms")),
            // None at all, and what there is by default.
            (limits(Some(1), None, Some(0)), None),
            (limits(Some(1), Some(4096), Some(100)), None),
            (limits(None, Some(4096), Some(1000)), None),
            (limits(None, Some(4096), Some(999)), Some("limits.burst_ms")),
            (limits(Some(1000), Some(4096), Some(999)), Some("limits.burst_ms")),
            (limits(Some(200), Some(200 << 20), Some(5)), None),
            (limits(None, Some(1), None), Some("limits.bytes_per_second")),
            (limits(None, Some(4095), None), Some("limits.bytes_per_second")),
            (limits(None, Some(4096), None), None),
            (limits(Some(u64::MAX), Some(u64::MAX), Some(u32::MAX)), None),
            (limits(None, None, Some(5)), Some("limits.burst_ms")),
            (limits(Some(0), Some(4096), None), Some("limits.iops")),
            (limits(Some(1), Some(0), None), Some("limits.bytes_per_second")),
        ] {
            let patch = AttachmentPatch {
                limits: Some(limits),
                ..AttachmentPatch::default()
            };
            let create = AttachmentCreate {
                node: None,
                id: "a".into(),
                volume: "v".into(),
                socket: None,
                queues: None,
                queue_size: None,
                owner: None,
                group: None,
                mode: None,
                read_only: false,
                serial: None,
                write_cache: None,
                limits: Some(limits),
            };
            assert_eq!(about(patch.check()).as_deref(), field, "{limits:?}");
            assert_eq!(about(create.check()).as_deref(), field, "{limits:?}");
        }
    }

    #[test]
    fn the_least_that_makes_sense_is_named() {
        let remedy = |bytes_per_second, iops, burst_ms| {
            let limits = Limits {
                iops,
                bytes_per_second,
                burst_ms,
            };
            limits.check().unwrap_err().remedy
        };
        assert!(remedy(Some(1), None, None).contains("at least 4096 (4KiB)"));
        assert!(remedy(None, Some(10), Some(20)).contains("at least 100, or 0"));
        assert!(remedy(Some(8192), Some(1000), Some(20)).contains("at least 500, or 0"));
    }

    #[test]
    fn a_change_of_nothing_is_refused_except_where_it_has_a_meaning() {
        assert!(AttachmentPatch::default().check().is_err());
        assert!(VolumePatch::default().check().is_err());
        assert!(DiskPatch::default().check().is_ok(), "its size is read again");
    }

    #[test]
    fn what_has_no_size_is_refused() {
        let disk = |medium| DiskCreate {
            node: None,
            id: "d".into(),
            medium,
            usage: DiskUsage::Pooled,
            block_bytes: None,
            force: false,
            volatile: false,
        };
        let file = |bytes| {
            disk(Medium::File(FileMedium {
                path: "/f".into(),
                bytes,
                sparse: false,
            }))
        };
        for (request, field) in [
            (
                disk(Medium::Memory(MemoryMedium { bytes: 0 })),
                Some("memory.bytes"),
            ),
            (disk(Medium::Null(NullMedium { bytes: 0 })), Some("null.bytes")),
            (disk(Medium::Null(NullMedium { bytes: 1 })), None),
            (file(Some(0)), Some("file.bytes")),
            (file(None), None),
        ] {
            assert_eq!(about(request.check()).as_deref(), field, "{request:?}");
        }
        let grown = DiskPatch {
            bytes: Some(0),
            ..DiskPatch::default()
        };
        assert_eq!(about(grown.check()).as_deref(), Some("bytes"));
    }

    /// A name that looks like another, or breaks the line in which it is told, is refused wherever one can be given.
    #[test]
    fn texts_that_cannot_be_seen_are_refused() {
        let disk = |medium| DiskCreate {
            node: None,
            id: "d".into(),
            medium,
            usage: DiskUsage::Whole,
            block_bytes: None,
            force: false,
            volatile: false,
        };
        let file = |path: &str| FileMedium {
            path: path.into(),
            bytes: None,
            sparse: false,
        };
        let block = |path: &str| BlockMedium { path: path.into() };
        for odd in [
            "\n",
            "\u{1b}[2J",
            "\u{85}",
            "\u{2028}",
            "\u{2029}",
            "\u{202e}",
            "\u{200b}",
            "\u{feff}",
        ] {
            let text = format!("/srv/d{odd}1");
            let import = |file: Option<FileMedium>, block: Option<BlockMedium>| DiskImport {
                disks: vec![ImportMedium {
                    file,
                    block,
                    id: None,
                }],
                dry_run: true,
                other_cluster: false,
                volatile: false,
            };
            let moved = DiskPatch {
                path: Some(text.clone()),
                ..DiskPatch::default()
            };
            let owned = AttachmentPatch {
                group: Some(text.clone()),
                ..AttachmentPatch::default()
            };
            for (refused, field) in [
                (disk(Medium::File(file(&text))).check(), "file.path"),
                (disk(Medium::Block(block(&text))).check(), "block.path"),
                (moved.check(), "path"),
                (owned.check(), "group"),
                (import(Some(file(&text)), None).check(), "disks"),
                (import(None, Some(block(&text))).check(), "disks"),
            ] {
                let problem = refused.expect_err("it should be refused");
                assert_eq!(problem.field.as_deref(), Some(field), "{odd:?}");
                assert!(problem.message.contains("U+"), "{}", problem.message);
            }
        }
        for good in ["/srv/d 1.img", "/srv/diskette/ä/名前", "/dev/disk/by-id/x"] {
            assert!(disk(Medium::File(file(good))).check().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_side_is_taken_only_by_who_has_seen_both() {
        let blind = DiskAdopt {
            take: Some(Side::Disk),
            seen: None,
            force: false,
        };
        assert_eq!(about(blind.check()).as_deref(), Some("seen"));
        assert!(DiskAdopt::default().check().is_ok());
        let nothing = DiskImport {
            disks: Vec::new(),
            dry_run: true,
            other_cluster: false,
            volatile: false,
        };
        assert_eq!(about(nothing.check()).as_deref(), Some("disks"));
    }
}
