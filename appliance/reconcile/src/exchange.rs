//! Disks whose paths lead to each other's media. Names of block devices without an identity are given away anew at each
//! boot, and two disks then lie in each other's place. Each is found again by what its medium says; but only when all that
//! have changed places are there, each once: a copy of a disk in the place of another looks the same, and is found out by
//! the one that is missing then.
//!
//! ```text
//!   disk      a        b        c            a is under the path of c, b under that of a, c under that of b:
//!             |path    |path    |path        one ring, in which each medium lies under the path of the one before
//!   medium    b        c        a
//! ```

use palisade_words::Name;

/// Disks that lie in each other's place: the medium of each is under the path of the one before it, that of the first under
/// the path of the last. Never of one disk alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring(Vec<Name>);

impl Ring {
    /// Those that have changed places, beginning with the one that was asked about.
    pub fn disks(&self) -> &[Name] {
        &self.0
    }

    /// The disk under whose path the medium of another of them lies.
    pub fn place_of(&self, disk: &Name) -> Option<&Name> {
        let at = self.0.iter().position(|one| one == disk)?;
        match at.checked_sub(1) {
            Some(before) => self.0.get(before),
            None => self.0.last(),
        }
    }
}

/// Where the search for a disk that is not under its path has led.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Search {
    /// It is where it belongs.
    InPlace,
    /// It has changed places with others, and all of them are there.
    Exchanged(Ring),
    /// It was not found so. What lies under its path, and under the path of each next one: the last of them leads nowhere,
    /// to something unknown, or to one that was found under another path already.
    NotFound(Vec<Name>),
}

/// Looks for a disk from path to path. `under` looks whose medium lies under the path of a disk: one, and no other, of those
/// that may change places. It is asked once for each.
pub fn search(disk: &Name, mut under: impl FnMut(&Name) -> Option<Name>) -> Search {
    let mut found = vec![disk.clone()];
    loop {
        let Some(next) = found.last().and_then(&mut under) else {
            found.remove(0);
            return Search::NotFound(found);
        };
        match (next == *disk, found.len()) {
            (true, 1) => return Search::InPlace,
            (true, _) => return Search::Exchanged(Ring(found)),
            _ if found.contains(&next) => {
                found.remove(0);
                return Search::NotFound(found);
            }
            _ => found.push(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn name(number: usize) -> Name {
        Name::new(format!("d{number}")).unwrap()
    }

    /// Searches among disks of which it is said whose medium lies under the path of each.
    fn among(under: &[Option<usize>], disk: usize) -> Search {
        let under: BTreeMap<Name, Option<Name>> = under
            .iter()
            .enumerate()
            .map(|(disk, medium)| (name(disk), medium.map(name)))
            .collect();
        let mut asked = Vec::new();
        search(&name(disk), |disk| {
            assert!(!asked.contains(disk), "asked twice about {disk}");
            asked.push(disk.clone());
            under.get(disk).cloned().flatten()
        })
    }

    fn names(numbers: &[usize]) -> Vec<Name> {
        numbers.iter().copied().map(name).collect()
    }

    #[test]
    fn two_and_three_in_each_others_place_are_found() {
        let Search::Exchanged(two) = among(&[Some(1), Some(0), Some(2)], 0) else {
            panic!("not found")
        };
        assert_eq!(two.disks(), names(&[0, 1]));
        assert_eq!(two.place_of(&name(0)), Some(&name(1)));
        assert_eq!(two.place_of(&name(1)), Some(&name(0)));
        assert_eq!(two.place_of(&name(2)), None);
        let Search::Exchanged(three) = among(&[Some(1), Some(2), Some(0)], 1) else {
            panic!("not found")
        };
        assert_eq!(three.disks(), names(&[1, 2, 0]));
        assert_eq!(three.place_of(&name(1)), Some(&name(0)));
        assert_eq!(three.place_of(&name(0)), Some(&name(2)));
    }

    #[test]
    fn without_all_of_them_nothing_is_taken_for_an_exchange() {
        assert_eq!(among(&[Some(0), Some(1)], 0), Search::InPlace);
        // The medium of the other one is nowhere: what is under its path may be a copy.
        assert_eq!(among(&[Some(1), None], 0), Search::NotFound(names(&[1])));
        assert_eq!(among(&[None, Some(0)], 0), Search::NotFound(Vec::new()));
        // Its path leads to one that is in its place as well, so one of the two is a copy.
        assert_eq!(among(&[Some(1), Some(1)], 0), Search::NotFound(names(&[1])));
        // A ring of others.
        assert_eq!(
            among(&[Some(1), Some(2), Some(1)], 0),
            Search::NotFound(names(&[1, 2]))
        );
    }

    /// Whatever lies under four paths: a disk is said to be found only under a path that its medium is under, and then the
    /// paths of all that are in the ring are given to their media, each to one.
    #[test]
    fn a_ring_gives_each_path_to_one_medium() {
        let mut rings = 0;
        for code in 0..5_usize.pow(4) {
            let digit = |at: u32| code / 5_usize.pow(at) % 5;
            let under: Vec<Option<usize>> = (0..4)
                .map(|at| Some(digit(at)).filter(|disk| *disk < 4))
                .collect();
            for disk in 0..4 {
                let Search::Exchanged(ring) = among(&under, disk) else {
                    continue;
                };
                rings += 1;
                assert!(ring.disks().len() >= 2 && ring.disks().first() == Some(&name(disk)));
                let mut places: Vec<&Name> = Vec::new();
                for one in ring.disks() {
                    let place = ring.place_of(one).unwrap();
                    let at: usize = place.as_str().trim_start_matches('d').parse().unwrap();
                    assert_eq!(under[at].map(name).as_ref(), Some(one), "{under:?}");
                    places.push(place);
                }
                places.sort();
                places.dedup();
                assert_eq!(places.len(), ring.disks().len());
            }
        }
        assert!(rings > 100, "{rings}");
    }
}
