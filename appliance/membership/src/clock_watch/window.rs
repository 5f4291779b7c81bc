//! The comparison of one's own clock with another over a while.

use crate::times::with_drift;
use palisade_block::Nanos;

/// One look at another node's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Between these of one's own the other one was read.
    pub own: (Nanos, Nanos),
    /// What it was.
    pub other: Nanos,
}

impl Look {
    /// How long it took: so much is not known about it.
    fn took(&self) -> Nanos {
        self.own.1.since(self.own.0)
    }
}

/// A comparison over a while, and then over the next one, so that a bad hour of the past does not count for ever.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    length: Nanos,
    /// When it began, by one's own clock and by the other.
    began: Look,
    /// What is compared with: the one that tells most of those in the first quarter.
    first: Look,
    /// What was found last: the rates differ by more than they may, or a whole window had nothing against that; `None` while there
    /// was neither.
    has_found: Option<bool>,
}

impl Window {
    /// One that begins with a look.
    pub fn new(length: Nanos, look: Look) -> Window {
        Window {
            length,
            began: look,
            first: look,
            has_found: None,
        }
    }

    /// One more look.
    pub fn look(&mut self, look: Look, drift_ppm: u32) {
        let other = look.other.since(self.first.other);
        // What has passed on one's own clock between the two readings of the other is between these.
        let (least, most) = (
            look.own.0.since(self.first.own.1),
            look.own.1.since(self.first.own.0),
        );
        if other > with_drift(most, drift_ppm) || with_drift(other, drift_ppm) < least {
            self.has_found = Some(false);
            (self.began, self.first) = (look, look);
            return;
        }
        let passed = look.own.0.since(self.began.own.1);
        // One that took long would hide a jump of one's own clock that fell into it: the window lasts until a better one.
        if passed >= self.length && look.took().0 <= self.length.0 / 8 {
            self.has_found = Some(true);
            (self.began, self.first) = (look, look);
        } else if passed.0 < self.length.0 / 4 && look.took() < self.first.took() {
            self.first = look;
        }
    }

    /// Some time before `now` the other clock was read.
    pub fn overtaken(&mut self, other: Nanos, now: Nanos, drift_ppm: u32) {
        let most = now.since(self.first.own.0);
        if other.since(self.first.other) > with_drift(most, drift_ppm) {
            self.has_found = Some(false);
        }
    }

    /// It was found that the clocks differ by more than they may.
    pub fn is_against(&self) -> bool {
        self.has_found == Some(false)
    }

    /// A whole window had nothing against it.
    pub fn is_for(&self) -> bool {
        self.has_found == Some(true)
    }
}
