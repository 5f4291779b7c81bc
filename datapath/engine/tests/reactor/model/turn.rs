//! What happened in a turn, against what the reactor says of it.

/// What happens in a turn.
#[derive(Clone, Default, Debug)]
pub struct Turn {
    /// Operations that have ended, requests taken, and operations started that had found their device busy before.
    pub done: usize,
    /// Operations handed over for the first time, whether there was room for them or not.
    pub handed_over: usize,
    pub answered: usize,
}

impl Turn {
    /// Holds the work a turn says it has done against this. A request that waited for a part or a buffer and got it is work
    /// as well, and so is one of those that have failed, whose last parts alone it waits for from then on; and each that was
    /// parked is when it is sent again.
    pub fn hold_against(&self, work: usize, failed: usize, sent_again: usize) {
        let most = self.done + self.handed_over + self.answered;
        assert!(
            (self.done..=most + failed + sent_again).contains(&work),
            "{work}, {self:?}"
        );
        assert!(work > 0 || most == 0, "{self:?}");
    }
}
