//! Who stays together when not all hear each other: of all groups in which everybody hears everybody, the best one (issue 10, rule 11).

/// How many steps are taken at most to find it. Up to a dozen faults at once need fewer; beyond, what was found so far holds, the same
/// on all nodes, since all go the same way.
const STEPS_MAX: u32 = 20_000;

/// What makes a group better than another, the most important first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Worth {
    voters: u32,
    weight: u64,
    count: u32,
    /// The one with the lowest ids: places reversed, so that the first place counts most.
    lowest: u64,
}

/// Members by place, and who hears whom both ways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hearing<'a> {
    /// For each place the places that it hears and is heard by.
    pub both: &'a [u64; 64],
    /// Places of voters.
    pub voters: u64,
    /// The weight of each place.
    pub weights: &'a [u32; 64],
}

impl Hearing<'_> {
    /// The best group among some places. One that is better by any of the marks contains no worse one, so that whatever
    /// is left of a group is worth no more than the whole: that is what cuts the search short.
    pub fn best(&self, among: u64) -> u64 {
        let mut found = (self.worth(0), 0);
        let mut steps = 0;
        self.search(among, &mut found, &mut steps);
        found.1
    }

    fn worth(&self, set: u64) -> Worth {
        Worth {
            voters: (set & self.voters).count_ones(),
            weight: places(set)
                .filter_map(|place| self.weights.get(place))
                .map(|weight| u64::from(*weight))
                .sum(),
            count: set.count_ones(),
            lowest: set.reverse_bits(),
        }
    }

    /// Those of a set that a place does not hear.
    fn missing(&self, set: u64, place: usize) -> u64 {
        set & !self.both.get(place).copied().unwrap_or(0) & !bit(place)
    }

    fn search(&self, set: u64, found: &mut (Worth, u64), steps: &mut u32) {
        *steps += 1;
        let worth = self.worth(set);
        if worth <= found.0 || *steps > STEPS_MAX {
            return;
        }
        let missing = |place: &usize| self.missing(set, *place).count_ones();
        match places(set).max_by_key(|place| (missing(place), *place)) {
            Some(worst) if missing(&worst) > 0 => {
                self.search(set & !bit(worst), found, steps);
                self.search(set & !self.missing(set, worst), found, steps);
            }
            _ => *found = (worth, set),
        }
    }
}

pub(crate) fn bit(place: usize) -> u64 {
    1u64.checked_shl(place as u32).unwrap_or(0)
}

/// The places of a set.
pub(crate) fn places(set: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |place| set & bit(*place) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The best group of so many, all of them voters, when these pairs do not hear each other.
    fn best(count: usize, cuts: &[(usize, usize)], weights: [u32; 64]) -> Vec<usize> {
        let all = bit(count) - 1;
        let mut both = [0; 64];
        both[..count].fill(all);
        for (a, b) in cuts {
            both[*a] &= !bit(*b);
            both[*b] &= !bit(*a);
        }
        let hearing = Hearing {
            both: &both,
            voters: all,
            weights: &weights,
        };
        places(hearing.best(all)).collect()
    }

    #[test]
    fn all_stay_when_all_hear_each_other_and_else_as_many_as_can() {
        assert_eq!(best(5, &[], [1; 64]), [0, 1, 2, 3, 4]);
        assert_eq!(best(5, &[(0, 1), (0, 2), (0, 4)], [1; 64]), [1, 2, 3, 4]);
        assert_eq!(best(4, &[(0, 2), (0, 3), (1, 2), (1, 3)], [1; 64]), [0, 1]);
    }

    #[test]
    fn ties_go_to_the_weight_and_then_to_the_lowest_id() {
        assert_eq!(best(3, &[(0, 2)], [1; 64]), [0, 1]);
        let mut weights = [1; 64];
        weights[2] = 2;
        assert_eq!(best(3, &[(0, 2)], weights), [1, 2]);
        assert_eq!(best(5, &[(0, 1), (2, 3)], [1; 64]), [0, 2, 4]);
    }

    #[test]
    fn voters_count_before_weights() {
        let mut both = [0; 64];
        both[..4].fill(0b1111);
        (both[3], both[0]) = (0b1110, 0b0111);
        let mut weights = [1; 64];
        weights[3] = 99;
        let hearing = |voters| Hearing {
            both: &both,
            voters,
            weights: &weights,
        };
        assert_eq!(hearing(0b0111).best(0b1111), 0b0111);
        assert_eq!(hearing(0b1111).best(0b1111), 0b1110);
    }

    proptest! {
        /// Against a search through all groups.
        #[test]
        fn there_is_no_better_one(cuts in proptest::collection::vec((0usize..9, 0usize..9), 0..20),
                                  weights in proptest::array::uniform32(0u32..4), voters in 0u64..512) {
            let mut both = [0u64; 64];
            both[..9].fill(511);
            for (a, b) in cuts {
                both[a] &= !bit(b);
                both[b] &= !bit(a);
            }
            let mut all_weights = [0; 64];
            all_weights[..32].copy_from_slice(&weights);
            let hearing = Hearing { both: &both, voters, weights: &all_weights };
            let is_group = |set: &u64| places(*set).all(|place| hearing.missing(*set, place) == 0);
            let best = (0..512).filter(is_group).max_by_key(|set| hearing.worth(*set));
            prop_assert_eq!(Some(hearing.best(511)), best);
        }
    }
}
