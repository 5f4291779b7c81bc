//! A medium that carries less than it was last known to carry is an older copy, and nothing is written to it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by panicking"
)]

mod stand;

use palisade_model::{Cluster, Disk, SuperblockState};
use palisade_volume::{Forbidden, Known, Leaving, OnRecord, is_to_be_erased, renewal};
use palisade_words::Generation;
use stand::{
    Medium4k, SECTORS, at, begun, image_of, known, name, read, then, told_after, told_knowing, volume,
    written,
};
use std::convert::Infallible;

/// A crash leaves a medium at what is on record, or beyond it: what lies before it is an older copy.
#[test]
fn a_medium_before_what_it_was_last_known_to_carry_is_an_older_copy() {
    let then = then(&begun(3), volume("a"));
    let now = self::then(&then, volume("bb"));
    let wanted = self::then(&now, volume("ccc"));
    let generation = |cluster: &Cluster| image_of(cluster).superblock.generation;
    let (copy, last) = (written(&then), generation(&now));
    let older = Ok(SuperblockState::Older {
        generation: generation(&then),
        last: Some(last),
    });
    assert_eq!(told_after(&copy, &wanted, Some(last)), older);
    assert_eq!(told_after(&copy, &now, Some(last)), older);
    let ours = |cluster: &Cluster| {
        Ok(SuperblockState::Ours {
            generation: generation(cluster),
            flawed: false,
        })
    };
    // Agreed on and not written; written and not recorded; no record; both put back, the database and the medium.
    assert_eq!(told_after(&written(&now), &wanted, Some(last)), ours(&now));
    assert_eq!(told_after(&written(&wanted), &wanted, Some(last)), ours(&wanted));
    assert_eq!(told_after(&copy, &wanted, None), ours(&then));
    assert_eq!(told_after(&copy, &then, Some(last)), ours(&then));
    // What nobody has grown out of is that, whatever its number.
    let apart = self::then(&then, volume("dddd"));
    let told = told_after(&written(&apart), &wanted, Some(Generation(99)));
    assert_eq!(
        told,
        Ok(SuperblockState::Diverged {
            generation: generation(&apart)
        })
    );
    assert_eq!(
        told_after(&Medium4k::new(), &wanted, Some(last)),
        Ok(SuperblockState::Missing)
    );
}

/// Nothing is written to an older copy, and what is written otherwise does not depend on what is on record.
#[test]
fn an_older_copy_is_not_renewed_or_erased() {
    let then = then(&begun(3), volume("a"));
    let now = self::then(&then, volume("bb"));
    let wanted = image_of(&self::then(&now, volume("ccc")));
    let [before, last] = [&then, &now].map(|cluster| image_of(cluster).superblock.generation);
    let bare = || unreachable!("a superblock is there");
    let renewed = |medium: &Medium4k, last| renewal(&read(medium), &wanted, known(last), bare);
    let refused = renewed(&written(&then), Some(last));
    assert_eq!(
        refused,
        Err(Forbidden::Older {
            found: before,
            last: Some(last)
        })
    );
    assert!(renewed(&written(&then), Some(before)).is_ok());
    assert!(renewed(&written(&now), Some(last)).is_ok());
    assert!(renewed(&written(&then), None).is_ok());
    let disk = &now.disks[&name("d")];
    let leaving = Leaving::of(&now, &name("d"), disk, false);
    let erased = |medium: &Medium4k, last| {
        let at = |lba: palisade_words::Lba| Ok::<_, Infallible>(at(medium, lba.0));
        is_to_be_erased(
            &read(medium),
            &leaving.clone().held_against(known(last).last),
            SECTORS,
            at,
        )
    };
    assert_eq!(erased(&written(&then), Some(last)), Ok(false));
    assert_eq!(erased(&written(&then), Some(before)), Ok(true));
    assert_eq!(erased(&written(&then), None), Ok(true));
}

/// What the superblock was before is brought to light by the erasure of the later ones, also where a copy of these was lost.
/// An older copy of the medium has no such gap, whatever else has happened to it, and stays whole.
#[test]
fn an_older_copy_is_told_from_the_rest_of_an_erasure() {
    let then_was = then(&begun(3), volume("a"));
    let now = then(&then_was, volume("bb"));
    let mut medium = written(&then_was);
    let (before, last) = (read(&medium).unwrap(), image_of(&now));
    let bare = || unreachable!("a superblock is there");
    let renewed = renewal(&Ok(before), &last, Known::NOTHING, bare).unwrap();
    let later: Vec<_> = renewed.iter().flat_map(|phase| &phase.writes).collect();
    let put = |medium: &mut Medium4k, writes: &[&palisade_wire::SectorWrite]| {
        medium.extend(writes.iter().map(|write| (write.lba.0, write.bytes)));
    };
    let leaving = Leaving::of(&now, &name("d"), &now.disks[&name("d")], false);
    let leaving = leaving.held_against(OnRecord::At(last.superblock.generation));
    let goes = |medium: &Medium4k| {
        let at = |lba: palisade_words::Lba| Ok::<_, Infallible>(at(medium, lba.0));
        is_to_be_erased(&read(medium), &leaving, SECTORS, at).unwrap()
    };
    let is_older = |medium: &Medium4k| {
        read(medium).is_ok_and(|found| found.superblock.generation < last.superblock.generation)
    };

    // A copy, with a bit turned in each place; and with the beginning of a later write that was cut off.
    let copy = medium.clone();
    for place in copy.keys() {
        for at in [0, 200] {
            let mut copy = copy.clone();
            copy.get_mut(place).unwrap()[at] ^= 1;
            assert!(!goes(&copy), "a bit turned at {place}");
        }
    }
    let mut cut = copy.clone();
    put(&mut cut, &later[..1]);
    assert!(is_older(&cut) && !goes(&cut));
    // The first write of the disk, cut off before its last sector; and one end lost.
    let geometry = palisade_wire::Geometry::of(SECTORS).unwrap();
    let [mut first, mut ended] = [copy.clone(), copy.clone()];
    first.remove(&128);
    assert!(is_older(&first) && !goes(&first));
    first.remove(&0);
    assert!(is_older(&first) && !goes(&first));
    first.remove(&geometry.tail.0);
    assert!(is_older(&first) && !goes(&first));
    ended.retain(|place, _| *place < geometry.tail.0);
    assert!(is_older(&ended) && !goes(&ended));

    put(&mut medium, &later);
    let whole = medium.clone();
    let in_force = read(&whole).unwrap().superblock.table.slot;
    let phases = palisade_wire::erase(SECTORS).unwrap();
    let mut were_older = 0;
    for is_lost_at_the_head in [false, true] {
        for is_backwards in [false, true] {
            let mut medium = whole.clone();
            if is_lost_at_the_head {
                medium.get_mut(&[0, 128][in_force as usize]).unwrap()[200] ^= 1;
            }
            for phase in &phases {
                let mut writes: Vec<_> = phase.writes.iter().collect();
                if is_backwards {
                    writes.reverse();
                }
                for write in writes {
                    put(&mut medium, &[write]);
                    were_older += usize::from(is_older(&medium));
                    assert!(read(&medium).is_err() || goes(&medium), "after {}", write.lba.0);
                }
            }
        }
    }
    assert!(were_older >= 4, "{were_older}");
}

/// An operator has chosen one of several media: no other than that is taken for the disk's before it is written to.
#[test]
fn a_chosen_medium_is_that_one_or_has_been_written_since() {
    let then_was = then(&begun(3), volume("a"));
    let between = then(&then_was, volume("bb"));
    let now = then(&between, volume("ccc"));
    let next = then(&now, volume("dddd"));
    let generation = |cluster: &Cluster| image_of(cluster).superblock.generation;
    let known = Known {
        last: OnRecord::Chosen {
            carries: generation(&then_was),
            over: generation(&now),
        },
        ..Known::NOTHING
    };
    let told = |on_it: &Cluster| told_knowing(&written(on_it), &next, known);
    for chosen_or_later in [&then_was, &next] {
        let ours = SuperblockState::Ours {
            generation: generation(chosen_or_later),
            flawed: false,
        };
        assert_eq!(told(chosen_or_later), Ok(ours));
    }
    for given_up in [&between, &now] {
        let older = SuperblockState::Older {
            generation: generation(given_up),
            last: None,
        };
        assert_eq!(told(given_up), Ok(older));
    }
    // Chosen although it had gone on elsewhere, or further: what it was before is an older copy all the same.
    let known = Known {
        last: OnRecord::Chosen {
            carries: generation(&now),
            over: generation(&then_was),
        },
        ..Known::NOTHING
    };
    let older = SuperblockState::Older {
        generation: generation(&between),
        last: None,
    };
    assert_eq!(told_knowing(&written(&between), &next, known), Ok(older));

    let [then_was, next] = [generation(&then_was), generation(&next)];
    assert_eq!(known.last.then(generation(&now)), known.last);
    assert_eq!(known.last.then(next), OnRecord::At(next));
    assert_eq!(OnRecord::At(next).then(then_was), OnRecord::At(then_was));
}

/// What another database of the disk has recorded on this node, or a record that a crash kept from being written: the cluster
/// knows itself how far the medium was when it took it.
#[test]
fn a_record_from_before_the_medium_was_taken_counts_for_nothing() {
    let cluster = then(&begun(3), volume("a"));
    let taken_at = |taken_at: Option<u64>| Disk {
        taken_at: taken_at.map(Generation),
        ..cluster.disks[&name("d")].clone()
    };
    let at = |generation| OnRecord::At(Generation(generation));
    let chosen = |carries, over| OnRecord::Chosen {
        carries: Generation(carries),
        over: Generation(over),
    };
    for (kept, taken, counts) in [
        (Some(at(16)), Some(22), at(22)),
        (Some(at(22)), Some(22), at(22)),
        (Some(at(23)), Some(22), at(23)),
        (Some(at(16)), None, at(16)),
        (Some(chosen(10, 21)), Some(22), at(22)),
        (Some(chosen(21, 10)), Some(22), at(22)),
        (Some(chosen(10, 23)), Some(22), at(22)),
        (Some(chosen(22, 10)), Some(22), chosen(22, 10)),
        (Some(chosen(10, 22)), Some(10), chosen(10, 22)),
        (None, Some(22), OnRecord::Nothing),
    ] {
        assert_eq!(
            OnRecord::of(&taken_at(taken), kept),
            counts,
            "{kept:?}, {taken:?}"
        );
    }
}

/// Both copies of the last write are there and have lost their tables: the medium has been where it was last known to be.
#[test]
fn a_table_that_was_lost_makes_no_copy() {
    let then_was = then(&begun(3), volume("a"));
    let now = then(&then_was, volume("bb"));
    let mut medium = written(&then_was);
    let (before, image) = (read(&medium).unwrap(), image_of(&now));
    let phases = renewal(&Ok(before), &image, Known::NOTHING, || {
        unreachable!("a superblock is there")
    })
    .unwrap();
    let tables = phases[0].writes.iter().map(|write| write.lba.0);
    let tables: Vec<u64> = tables.collect();
    for write in phases.iter().flat_map(|phase| &phase.writes) {
        medium.insert(write.lba.0, write.bytes);
    }
    let last = image.superblock.generation;
    let ours = |generation, flawed| Ok(SuperblockState::Ours { generation, flawed });
    assert_eq!(told_after(&medium, &now, Some(last)), ours(last, false));
    for table in tables {
        medium.get_mut(&table).unwrap()[200] ^= 1;
    }
    let generation = image_of(&then_was).superblock.generation;
    assert_eq!(told_after(&medium, &now, Some(last)), ours(generation, true));
}

/// As after a state directory was restored.
const NOTHING_ON_RECORD: Known = Known {
    last: OnRecord::Nothing,
    end_excused: false,
};

/// The record was lost, with the state directory or by itself: a medium that is not level with the database may be a copy from
/// before a volume was made, whose place on it is somebody else's.
#[test]
fn without_a_record_only_a_medium_that_is_level_with_the_database_is_the_present_one() {
    let then = then(&begun(3), volume("a"));
    let now = self::then(&then, volume("bb"));
    let generation = |cluster: &Cluster| image_of(cluster).superblock.generation;
    let found = generation(&then);
    let told = |cluster| told_knowing(&written(&then), cluster, NOTHING_ON_RECORD);
    let older = SuperblockState::Older {
        generation: found,
        last: None,
    };
    assert_eq!(told(&now), Ok(older));
    let ours = SuperblockState::Ours {
        generation: found,
        flawed: false,
    };
    assert_eq!(told(&then), Ok(ours));
    let bare = || unreachable!("a superblock is there");
    let renewed =
        |medium: &Medium4k, wanted| renewal(&read(medium), &image_of(wanted), NOTHING_ON_RECORD, bare);
    let refused = Forbidden::Older { found, last: None };
    assert_eq!(renewed(&written(&then), &now), Err(refused));
    assert!(renewed(&written(&now), &now).is_ok());
    // One that knows more than the database is that, whatever is on record.
    let newer = SuperblockState::Newer {
        generation: generation(&now),
    };
    assert_eq!(told_knowing(&written(&now), &then, NOTHING_ON_RECORD), Ok(newer));

    let leaving = Leaving::of(&now, &name("d"), &now.disks[&name("d")], false);
    let leaving = leaving.held_against(OnRecord::Nothing);
    let erased = |medium: &Medium4k| {
        let at = |lba: palisade_words::Lba| Ok::<_, Infallible>(at(medium, lba.0));
        is_to_be_erased(&read(medium), &leaving, SECTORS, at)
    };
    assert_eq!(
        (erased(&written(&then)), erased(&written(&now))),
        (Ok(false), Ok(true))
    );
}

/// Nothing lies on a disk that waits for its first superblock: nothing of what was on it last can be missing.
#[test]
fn nothing_is_held_against_a_medium_whose_first_superblock_is_to_come() {
    let cluster = then(&begun(3), volume("a"));
    let mut disk = cluster.disks[&name("d")].clone();
    assert_eq!(OnRecord::of(&disk, None), OnRecord::Nothing);
    disk.first_superblock = palisade_model::FirstSuperblock::Pending;
    assert_eq!(OnRecord::of(&disk, None), OnRecord::Waived);
    let at = OnRecord::At(Generation(7));
    assert_eq!(OnRecord::of(&disk, Some(at)), at);
}

/// A medium with a damaged copy has come as far as it says, and may have been further.
#[test]
fn a_damaged_copy_makes_a_record_later_and_never_earlier() {
    let [before, last, later, level] = [4, 5, 6, 9].map(Generation);
    let at = |found, flawed| OnRecord::is_outdated_by(Some(OnRecord::At(last)), found, flawed, level);
    assert!(at(before, false) && !at(before, true));
    assert!(!at(last, true) && at(later, true) && at(level, true));
    assert!(
        OnRecord::is_outdated_by(Some(OnRecord::At(level)), last, true, last),
        "put back with the database"
    );
    assert!(OnRecord::is_outdated_by(None, before, true, level));
    let chosen = OnRecord::Chosen {
        carries: before,
        over: last,
    };
    let of_chosen = |found| OnRecord::is_outdated_by(Some(chosen), found, true, level);
    assert!(!of_chosen(before) && !of_chosen(last) && of_chosen(later));
}

#[test]
fn what_is_told_of_an_older_copy_names_what_was_known() {
    let told = |last| {
        let found = Generation(4);
        Forbidden::Older { found, last }.to_string()
    };
    assert!(told(Some(Generation(7))).contains("was last known to carry 7"));
    assert!(told(None).contains("nothing is known of what it carried last"));
}
