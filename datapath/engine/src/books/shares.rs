//! Who may take more of something scarce: the slots, parts and bounce buffers of a reactor, shared by its devices.
//!
//! Two rules keep a device that hangs from holding all of it (invariant 11). A device may hold three times as much as
//! is left free, so that one alone ends with three quarters; it is three times, because the guests of one device
//! share this among themselves by the same kind of rule. And the last pieces are kept for devices that hold none, one
//! each, so that however many hang, a healthy one goes on.

use palisade_block::ledger;
use palisade_words::DeviceIndex;
use std::collections::BTreeMap;

/// What a device may hold, as a multiple of what is left free.
const OF_FREE: u32 = 3;

/// The shares of all devices in one scarce thing.
#[derive(Debug)]
pub(super) struct Shares {
    /// What each device holds; `None` for numbers not in use.
    held: Vec<Option<u32>>,
    /// Devices that hold nothing.
    idle: u32,
    /// At most this much is kept for idle devices: half of all.
    kept_max: u32,
}

impl Shares {
    pub(super) fn new(total: u32) -> Shares {
        Shares {
            held: Vec::new(),
            idle: 0,
            kept_max: total / 2,
        }
    }

    /// A device comes into use, of which so many are held already, by requests that were sent to it when it was not
    /// there. One that comes in another's place goes on with its books: what the other's requests hold is given back by
    /// and by, and must not be counted as the new one's to give.
    pub(super) fn open(&mut self, device: DeviceIndex, found: u32) {
        if self.held.len() <= device.usize() {
            self.held.resize(device.usize() + 1, None);
        }
        if let Some(held @ None) = self.held.get_mut(device.usize()) {
            *held = Some(found);
            if found == 0 {
                ledger::enter(&mut self.idle, "devices that hold nothing");
            }
        }
    }

    /// Whether a device may take one more while so many are free.
    #[inline]
    pub(super) fn may_take(&self, device: DeviceIndex, free: u32) -> bool {
        self.room(device, free) > 0
    }

    /// How many a device may take one after the other, beginning while so many are free.
    #[inline]
    pub(super) fn room(&self, device: DeviceIndex, free: u32) -> u32 {
        let further = |held: u32, free: u32, idle: u32| {
            // Each one taken is one more held and one less free.
            let by_share = free
                .saturating_mul(OF_FREE)
                .saturating_sub(held)
                .div_ceil(OF_FREE + 1);
            by_share.min(free.saturating_sub(idle.min(self.kept_max)))
        };
        match self.held.get(device.usize()).copied().flatten() {
            None => free,
            Some(0) if free == 0 => 0,
            // The first is free for one that holds none, which then is idle no more.
            Some(0) => 1 + further(1, free - 1, self.idle - 1),
            Some(held) => further(held, free, self.idle),
        }
    }

    #[inline]
    pub(super) fn take(&mut self, device: DeviceIndex) {
        if let Some(Some(held)) = self.held.get_mut(device.usize()) {
            if *held == 0 {
                ledger::leave(&mut self.idle, "devices that hold nothing");
            }
            ledger::enter(held, "what a device holds");
        }
    }

    /// Gives one back. What is taken for a device that is not in use is in no books.
    #[inline]
    pub(super) fn give(&mut self, device: DeviceIndex) {
        if let Some(Some(held)) = self.held.get_mut(device.usize()) {
            ledger::leave(held, "what a device holds");
            if *held == 0 {
                ledger::enter(&mut self.idle, "devices that hold nothing");
            }
        }
    }

    /// Holds what each device has against what it is found to have.
    ///
    /// # Panics
    /// When that is not the same: our own bug.
    pub(super) fn check(&self, what: &str, found: &BTreeMap<DeviceIndex, u32>) {
        for (device, held) in (0..).map(DeviceIndex).zip(&self.held) {
            let found = found.get(&device).copied().unwrap_or(0);
            assert!(
                held.is_none_or(|held| held == found),
                "{device:?} has {found} {what}: {self:?}"
            );
        }
        let idle = self.held.iter().filter(|held| **held == Some(0)).count();
        assert!(
            idle == self.idle as usize,
            "{idle} devices have no {what}: {self:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets each device in turn take all it may and keep it. What each ends with.
    fn hoard(total: u32, devices: u16) -> Vec<u32> {
        let mut shares = Shares::new(total);
        (0..devices).for_each(|device| shares.open(DeviceIndex(device), 0));
        let mut free = total;
        let mut all = |device| {
            let mut held = 0;
            while shares.may_take(DeviceIndex(device), free) {
                shares.take(DeviceIndex(device));
                free -= 1;
                held += 1;
            }
            held
        };
        (0..devices).map(&mut all).collect()
    }

    #[test]
    fn one_hoarder_ends_with_three_quarters_and_every_other_device_finds_some() {
        assert_eq!(hoard(64, 1), [48]);
        assert_eq!(hoard(64, 2), [48, 12]);
        for devices in 1..=16 {
            let held = hoard(64, devices);
            assert!(held.iter().all(|held| *held > 0), "{held:?}");
        }
    }

    #[test]
    fn room_is_what_may_be_taken_one_by_one() {
        let cases = (0..20).flat_map(|total| (1..9).map(move |devices| (total, devices)));
        for (total, devices) in cases.chain([(64, 3), (64, 40), (33, 2), (200, 1)]) {
            let mut shares = Shares::new(total);
            (0..devices).for_each(|device| shares.open(DeviceIndex(device), 0));
            // The last of them is in no books.
            for before in 0..=total {
                for device in (0..=devices).map(DeviceIndex) {
                    let free = total - before;
                    let taken = one_by_one(&shares, device, free);
                    let room = shares.room(device, free);
                    assert_eq!(
                        room, taken,
                        "{total} pieces, {before} held by the first of {devices}: {device:?}"
                    );
                    assert_eq!(shares.may_take(device, free), taken > 0);
                }
                if before < total {
                    shares.take(DeviceIndex(0));
                }
            }
        }
    }

    fn one_by_one(shares: &Shares, device: DeviceIndex, free: u32) -> u32 {
        let mut shares = Shares {
            held: shares.held.clone(),
            ..*shares
        };
        let mut taken = 0;
        while taken < free && one_more(&shares, device, free - taken) {
            shares.take(device);
            taken += 1;
        }
        taken
    }

    /// The two rules as they are told at the top of this file.
    fn one_more(shares: &Shares, device: DeviceIndex, free: u32) -> bool {
        match shares.held.get(device.usize()).copied().flatten() {
            Some(0) => free > 0,
            Some(held) => held < free * OF_FREE && free > shares.idle.min(shares.kept_max),
            None => true,
        }
    }

    #[test]
    fn many_idle_devices_do_not_keep_a_busy_one_from_working() {
        assert!(hoard(64, 200)[0] >= 32);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut shares = Shares::new(4);
        shares.open(DeviceIndex(0), 0);
        shares.open(DeviceIndex(1), 0);
        for _ in 0..5 {
            for free in [4, 3, 2] {
                assert!(shares.may_take(DeviceIndex(0), free));
                shares.take(DeviceIndex(0));
            }
            assert!(!shares.may_take(DeviceIndex(0), 1));
            assert!(shares.may_take(DeviceIndex(1), 1));
            (0..3).for_each(|_| shares.give(DeviceIndex(0)));
        }
    }

    #[test]
    #[should_panic(expected = "of what a device holds, one ends and none was begun")]
    fn no_more_is_given_back_than_was_taken() {
        let mut shares = Shares::new(4);
        shares.open(DeviceIndex(0), 1);
        shares.give(DeviceIndex(0));
        shares.give(DeviceIndex(0));
    }

    #[test]
    fn what_was_taken_before_a_device_came_is_held_by_it() {
        let mut shares = Shares::new(4);
        let device = DeviceIndex(0);
        shares.take(device);
        shares.give(device);
        shares.take(device);
        shares.open(device, 1);
        assert_eq!((shares.held[0], shares.idle), (Some(1), 0));
        shares.give(device);
        assert_eq!((shares.held[0], shares.idle), (Some(0), 1));
    }

    #[test]
    fn what_was_held_when_another_came_in_a_devices_place_is_given_back_to_the_same_books() {
        let mut shares = Shares::new(8);
        let device = DeviceIndex(0);
        shares.open(device, 0);
        (0..3).for_each(|_| shares.take(device));
        shares.open(device, 0);
        shares.take(device);
        assert_eq!((shares.held[0], shares.idle), (Some(4), 0));
        (0..4).for_each(|_| shares.give(device));
        assert_eq!((shares.held[0], shares.idle), (Some(0), 1));
    }
}
