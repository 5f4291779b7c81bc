//! Who may take more of something scarce: the slots, parts and bounce buffers of a reactor, shared by its devices.
//!
//! Two rules keep a device that hangs from holding all of it (invariant 11). A device may hold three times as much as
//! is left free, so that one alone ends with three quarters; it is three times, because the guests of one device
//! share this among themselves by the same kind of rule. And the last pieces are kept for devices that hold none, one
//! each, so that however many hang, a healthy one goes on.

use palisade_block::DeviceIndex;

/// What a device may hold, as a multiple of what is left free.
const OF_FREE: u32 = 3;

/// The shares of all devices in one scarce thing.
#[derive(Debug)]
pub(crate) struct Shares {
    /// What each device holds; `None` for numbers not in use.
    held: Vec<Option<u32>>,
    /// Devices that hold nothing.
    idle: u32,
    /// At most this much is kept for idle devices: half of all.
    kept_max: u32,
}

impl Shares {
    pub(crate) fn new(total: u32) -> Shares {
        Shares {
            held: Vec::new(),
            idle: 0,
            kept_max: total / 2,
        }
    }

    /// A device comes into use, holding nothing, perhaps in place of another.
    pub(crate) fn open(&mut self, device: DeviceIndex) {
        if self.held.len() <= device.usize() {
            self.held.resize(device.usize() + 1, None);
        }
        if let Some(held) = self.held.get_mut(device.usize()) {
            if *held != Some(0) {
                self.idle += 1;
            }
            *held = Some(0);
        }
    }

    /// Whether a device may take one more while so many are free.
    #[inline]
    pub(crate) fn may_take(&self, device: DeviceIndex, free: u32) -> bool {
        match self.held.get(device.usize()).copied().flatten() {
            None => true,
            Some(0) => free > 0,
            Some(held) => held < free.saturating_mul(OF_FREE) && free > self.idle.min(self.kept_max),
        }
    }

    #[inline]
    pub(crate) fn take(&mut self, device: DeviceIndex) {
        if let Some(Some(held)) = self.held.get_mut(device.usize()) {
            self.idle -= u32::from(*held == 0);
            *held += 1;
        }
    }

    /// Gives one back. A device that came in another's place starts its books anew, so there may be nothing to give.
    #[inline]
    pub(crate) fn give(&mut self, device: DeviceIndex) {
        if let Some(Some(held @ 1..)) = self.held.get_mut(device.usize()) {
            *held -= 1;
            self.idle += u32::from(*held == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets each device in turn take all it may and keep it. What each ends with.
    fn hoard(total: u32, devices: u16) -> Vec<u32> {
        let mut shares = Shares::new(total);
        (0..devices).for_each(|device| shares.open(DeviceIndex(device)));
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
    fn many_idle_devices_do_not_keep_a_busy_one_from_working() {
        assert!(hoard(64, 200)[0] >= 32);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut shares = Shares::new(4);
        shares.open(DeviceIndex(0));
        shares.open(DeviceIndex(1));
        for _ in 0..5 {
            for free in [4, 3, 2] {
                assert!(shares.may_take(DeviceIndex(0), free));
                shares.take(DeviceIndex(0));
            }
            assert!(!shares.may_take(DeviceIndex(0), 1));
            assert!(shares.may_take(DeviceIndex(1), 1));
            (0..3).for_each(|_| shares.give(DeviceIndex(0)));
        }
        shares.give(DeviceIndex(0));
        assert!(
            shares.may_take(DeviceIndex(0), 1),
            "giving more than was taken changes nothing"
        );
    }
}
