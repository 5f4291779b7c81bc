//! Where a medium ends, if that is before where it should.

use super::Sight;
use palisade_sys::Opened;
use palisade_sys::device::Look;

impl Sight {
    /// Notes how long a medium was seen that is `agreed` bytes long. A guest may have `met_end` before it was looked at, and it
    /// may have been `written` to since the look before.
    pub(super) fn saw_end(
        &mut self,
        opened: &Opened,
        look: Option<&Look>,
        agreed: u64,
        (met_end, written): (bool, bool),
    ) {
        let Some(look) = look.filter(|look| !look.gone) else {
            return;
        };
        let shorter = least(look, agreed, (self.shortest, opened.cut()), written);
        match shorter {
            // A block device of no size has lost its medium, and comes back whole.
            Some(0) if look.file.is_none() => {}
            Some(bytes) => opened.ends_at(bytes),
            // It is as long as before already, and nobody has seen how short it was.
            None if met_end && self.shortest.is_none() => opened.ends_at(0),
            None => {}
        }
        self.shortest = opened.cut().or(shorter);
    }
}

/// The least size in bytes that a medium may have had, if that is seen to be less than `agreed`. A write behind the end of a file
/// makes it longer again: where the file has become shorter than was `known` by the look before, by what this one sees or
/// by what a request has met since (`cut`), and may have been `written` to meanwhile, nobody has seen how short it was, and it
/// is taken for 0.
pub(super) fn least(
    look: &Look,
    agreed: u64,
    (known, cut): (Option<u64>, Option<u64>),
    written: bool,
) -> Option<u64> {
    if look.gone || look.bytes >= agreed {
        return None;
    }
    let was_met = known.is_none() && cut.is_some();
    let is_news = was_met || look.bytes < cut.unwrap_or(agreed);
    match look.file.is_some() && is_news && written {
        true => Some(0),
        false => Some(look.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opening;
    use crate::sight::LOOK;
    use std::path::Path;

    #[test]
    fn what_was_cut_off_of_a_file_is_remembered_when_it_is_as_long_as_before() {
        const MIB: u64 = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d1");
        std::fs::write(&path, vec![7; 4 * MIB as usize]).unwrap();
        let length = |bytes| {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(bytes).unwrap();
        };
        let opened = open(&path, 4 * MIB);
        let mut sight = Sight::default();
        let mut seen = |bytes, met_end| {
            length(bytes);
            let look = opened.look().unwrap().unwrap();
            sight.saw_end(&opened, Some(&look), 4 * MIB, (met_end, false));
            (sight.shortest, opened.cut())
        };
        assert_eq!(seen(4 * MIB, false), (None, None));
        assert_eq!(seen(2 * MIB, false), (Some(2 * MIB), Some(2 * MIB)));
        // The end that a guest has met meanwhile is told by the look, or was further behind.
        for bytes in [4 * MIB, 3 * MIB, 4 * MIB] {
            assert_eq!(seen(bytes, true), (Some(2 * MIB), Some(2 * MIB)));
        }
        assert_eq!(seen(MIB, true), (Some(MIB), Some(MIB)));
        // A guest has met the end, and nobody has seen where that was.
        opened.go_on_without_what_was_cut();
        sight.shortest = None;
        opened.ends_at(3 * MIB);
        let look = opened.look().unwrap().unwrap();
        length(4 * MIB);
        sight.saw_end(
            &opened,
            Some(&Look {
                bytes: 4 * MIB,
                ..look
            }),
            4 * MIB,
            (true, false),
        );
        assert_eq!((sight.shortest, opened.cut()), (Some(0), Some(0)));
        // Of a block device without its medium nothing was cut off.
        opened.go_on_without_what_was_cut();
        let device = |bytes| Look {
            bytes,
            file: None,
            ..look
        };
        sight.shortest = None;
        for (bytes, shortest) in [
            (0, Some(0)),
            (4 * MIB, None),
            (MIB, Some(MIB)),
            (4 * MIB, Some(MIB)),
        ] {
            sight.saw_end(&opened, Some(&device(bytes)), 4 * MIB, (false, true));
            assert_eq!(sight.shortest, shortest, "{bytes}");
        }
    }

    /// A guest that writes behind the end makes a file that was cut off longer again, before anybody has looked.
    #[test]
    fn how_short_a_file_was_is_unknown_where_it_may_have_been_written_to_since() {
        let file = |bytes| Look { bytes, ..file_look() };
        let nothing = (None, None);
        for (bytes, (known, cut), written, expected) in [
            (100, nothing, true, None),
            (99, nothing, false, Some(99)),
            (99, nothing, true, Some(0)),
            // What was known already is no news.
            (99, (Some(99), Some(99)), true, Some(99)),
            (99, (Some(50), Some(50)), true, Some(99)),
            (98, (Some(99), Some(99)), true, Some(0)),
            // A request has met an end since, which may have been another one before.
            (99, (None, Some(50)), false, Some(99)),
            (99, (None, Some(50)), true, Some(0)),
        ] {
            assert_eq!(
                least(&file(bytes), 100, (known, cut), written),
                expected,
                "{bytes} {known:?} {cut:?} {written}"
            );
        }
        let device = Look {
            file: None,
            ..file(99)
        };
        assert_eq!(
            least(&device, 100, nothing, true),
            Some(99),
            "a device does not grow by being written to"
        );
        let gone = Look {
            gone: true,
            ..file(99)
        };
        assert_eq!(least(&gone, 100, nothing, true), None);
    }

    fn file_look() -> Look {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d1");
        std::fs::write(&path, [0; 512]).unwrap();
        open(&path, 512).look().unwrap().unwrap()
    }

    fn open(path: &Path, bytes: u64) -> Opened {
        let medium = palisade_model::Medium::File {
            path: path.display().to_string(),
            bytes,
            created: true,
        };
        Opened::open(&opening::spec(&medium, 512), LOOK).unwrap()
    }
}
