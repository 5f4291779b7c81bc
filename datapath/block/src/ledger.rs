//! Counts of what is under way. A count that ran over would let a slot, a buffer or a whole device out twice and tell
//! nobody, so these are checked in release builds as well: one that does not balance is a broken invariant of our own,
//! and the node stops (others take over).

/// One more.
///
/// # Panics
/// When there is no number for so many.
#[inline]
pub fn enter(count: &mut u32, what: &str) {
    match count.checked_add(1) {
        Some(more) => *count = more,
        None => broken(what, "more than can be counted are under way"),
    }
}

/// One less.
///
/// # Panics
/// When there was none.
#[inline]
pub fn leave(count: &mut u32, what: &str) {
    match count.checked_sub(1) {
        Some(less) => *count = less,
        None => broken(what, "one ends and none was begun"),
    }
}

#[cold]
#[inline(never)]
#[expect(
    clippy::panic,
    reason = "a broken invariant of our own stops the node; others take over"
)]
fn broken(what: &str, how: &str) -> ! {
    panic!("a ledger does not balance: of {what}, {how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_enters_leaves() {
        let mut count = 0;
        (0..3).for_each(|_| enter(&mut count, "things"));
        (0..2).for_each(|_| leave(&mut count, "things"));
        assert_eq!(count, 1);
    }

    #[test]
    #[should_panic(expected = "of things, one ends and none was begun")]
    fn none_leaves_twice() {
        leave(&mut 0, "things");
    }

    #[test]
    #[should_panic(expected = "more than can be counted")]
    fn no_count_runs_over() {
        enter(&mut { u32::MAX }, "things");
    }
}
