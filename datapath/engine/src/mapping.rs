//! What a reactor knows of a volume's mapping, and how one mapping follows another (invariants 6 and 7).
//!
//! ```text
//!                    Suspend                      nothing active
//!      ┌───────────────────────────── running ◄──────────────────── switching
//!      │                               ▲  │                           ▲   ▲
//!      ▼                        Cancel │  │ Resume, EndVolume         │   │
//!  suspending ─────────────────────────┤  └───────────────────────────┘   │
//!      │   │                           │                                  │
//!      │   └── Resume, EndVolume ──────┼──────────────────────────────────┤
//!      │ nothing active                │                                  │
//!      ▼                               │                                  │
//!  suspended ──────────────────────────┴── Resume, EndVolume (at once) ───┘
//! ```
//!
//! `running` is also a volume without a route: one that has ended, or that nobody has told of; its requests fail. In all
//! other states nothing is started: the volume is *held*. A request in a slot is *active* or *parked*. It is parked when the
//! volume is held, no device has anything of it, and it is not done: so a drain, which waits until nothing is active, never
//! waits for what waits for its end.
//!
//! | wait | for what | who ends it |
//! |---|---|---|
//! | suspending, switching | devices that have operations of the volume | the devices; the stall watch names one that does not |
//! | suspended | whether the change is agreed on | who sent `Suspend`, with `Resume`, `EndVolume` or `Cancel` |
//! | a request parked while its volume is held | the decision about the change | the same |
//! | a request parked by a fault | whether somebody heals it, or finds another way | who hears `Parked`, with `Resume` or `Fail` |
//!
//! **Generations.** They are the cluster's, and only grow. The end of a route keeps its generation, so what is said late of
//! a volume that has ended changes nothing; a number that is given to another volume is given under a configuration that is
//! not older. A change that was cancelled has used its generation up: a late `Suspend` or `Resume` of it is refused, or one
//! node would go by a mapping that the others gave up. Where a change is announced before another was decided on here, what
//! came of that one is not known, and the route in force may be one that all others have left: `Cancel` then does not let
//! it go on, only `Resume` does.

use palisade_block::Route;
use palisade_words::{DeviceIndex, Generation};

/// A volume: where its requests go now, and what is known of where they will go.
#[derive(Default)]
pub(crate) struct Volume {
    pub(crate) route: Option<Route>,
    /// The configuration in force: of the route, or of its end.
    generation: Generation,
    /// The newest change that has been given up.
    cancelled: Generation,
    /// What comes into force when nothing is active.
    decided: Option<Decided>,
    /// A change about which nothing is decided yet. It is newer than what is in force or decided.
    change: Option<Change>,
    /// Nothing is started: one of these is there.
    held: bool,
    /// Faults are answered although the route says that they wait: somebody has decided that nobody heals them.
    is_failing: bool,
    /// Of which devices of the route it has been told that requests are parked, by their place in it.
    told: Box<[bool]>,
}

/// A mapping that is agreed on.
struct Decided {
    generation: Generation,
    /// `None`: the volume ends.
    route: Option<Route>,
    told: Box<[bool]>,
}

/// A change that is announced.
#[derive(Clone, Copy)]
struct Change {
    generation: Generation,
    /// Another was announced before, and nobody has told what came of it.
    has_overtaken: bool,
    /// That nothing is active has been told.
    is_told: bool,
}

/// What a drained volume comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Settled {
    /// This route is in use.
    InUse(Generation),
    /// It has ended.
    Ended(Generation),
    /// It is at rest until this change is decided on.
    Suspended(Generation),
}

/// What comes of giving a change up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cancelling {
    /// It was older than what is known.
    Stale,
    /// What is in force goes on, if nothing else holds it.
    Over,
    /// It is not known what is in force elsewhere.
    Unknown,
}

/// Whether two routes are of different volumes, or serve different ones' requests: what is parked by the one must not be sent
/// by the other.
fn is_of_another(before: Option<&Route>, after: Option<&Route>) -> bool {
    let whose = |route: &Route| (route.mapping().volume, route.mapping().is_forwarded);
    before
        .zip(after)
        .is_some_and(|(before, after)| whose(before) != whose(after))
}

impl Volume {
    /// The devices that its requests go to.
    #[inline(always)]
    pub(crate) fn devices(&self) -> &[DeviceIndex] {
        self.route.as_ref().map_or(&[], Route::devices)
    }

    /// The configuration in force.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether nothing of it is started just now.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// The newest configuration that is in force or decided on.
    fn agreed(&self) -> Generation {
        let decided = self.decided.as_ref().map(|decided| decided.generation);
        self.generation.max(decided.unwrap_or_default())
    }

    /// Whether what is said of a mapping is older than what is known. What is in force may be said again, with another
    /// route: devices of this node come and go without the others' agreement.
    fn is_stale(&self, generation: Generation) -> bool {
        let announced = self.change.map(|change| change.generation);
        generation < self.agreed().max(announced.unwrap_or_default())
            || (generation <= self.cancelled && generation != self.generation)
    }

    fn hold(&mut self) {
        self.held = self.change.is_some() || self.decided.is_some();
    }

    /// A change is announced; false when that is older than what is known.
    pub(crate) fn suspend(&mut self, generation: Generation) -> bool {
        if self.is_stale(generation) || generation <= self.agreed() {
            return false;
        }
        let has_overtaken = |before: Change| before.has_overtaken || before.generation != generation;
        self.change = Some(Change {
            generation,
            has_overtaken: self.change.is_some_and(has_overtaken),
            is_told: false,
        });
        self.hold();
        true
    }

    /// A mapping is agreed on; false when that is older than what is known.
    pub(crate) fn decide(&mut self, generation: Generation, route: Option<Route>) -> bool {
        if self.is_stale(generation) {
            return false;
        }
        // It is not older than the change announced, so it says what came of that.
        self.change = None;
        self.is_failing = false;
        let devices = route.as_ref().map_or(0, |route| route.devices().len());
        self.decided = Some(Decided {
            generation,
            route,
            told: vec![false; devices].into(),
        });
        self.hold();
        true
    }

    /// A change is given up.
    pub(crate) fn cancel(&mut self, generation: Generation) -> Cancelling {
        let agreed = self.agreed();
        match &mut self.change {
            Some(change) if generation < change.generation => return Cancelling::Stale,
            Some(change) if change.has_overtaken || generation > change.generation => {
                change.generation = generation;
                (change.has_overtaken, change.is_told) = (true, false);
                self.cancelled = generation;
                return Cancelling::Unknown;
            }
            // Said twice, it is true twice.
            None if generation == self.cancelled => return Cancelling::Over,
            None if generation <= agreed.max(self.cancelled) => return Cancelling::Stale,
            _ => {}
        }
        self.cancelled = generation;
        self.change = None;
        self.hold();
        Cancelling::Over
    }

    /// Nobody heals the faults of its devices; false when that was decided in an older configuration than the one in force.
    pub(crate) fn fail(&mut self, generation: Generation) -> bool {
        let is_heard = generation >= self.agreed();
        self.is_failing |= is_heard;
        is_heard
    }

    /// Whether faults that may heal wait for a decision.
    pub(crate) fn parks_faults(&self) -> bool {
        !self.is_failing && self.route.as_ref().is_some_and(Route::parks_faults)
    }

    /// Whether it is to be told that requests are parked by a fault of this device: the first time.
    pub(crate) fn tells_parked(&mut self, device: DeviceIndex) -> bool {
        let place = self.devices().iter().position(|on| *on == device);
        let told = place.and_then(|place| self.told.get_mut(place));
        told.is_some_and(|told| !std::mem::replace(told, true))
    }

    /// Notices of parked requests that there may be, now or when what is decided on is in force.
    pub(crate) fn tellings(&self) -> usize {
        let decided = self.decided.as_ref().map_or(0, |decided| decided.told.len());
        self.told.len() + decided
    }

    /// Nothing is active, as the books say: what is decided on comes into force, and what is announced may be told. What has
    /// happened, in order.
    pub(crate) fn settle(&mut self) -> [Option<Settled>; 2] {
        let in_force = self.decided.take().map(|decided| {
            let Decided {
                generation,
                route,
                told,
            } = decided;
            assert!(generation >= self.generation, "a mapping goes back");
            assert!(
                !is_of_another(self.route.as_ref(), route.as_ref()),
                "a volume takes the place of another that has not ended"
            );
            let settled = match &route {
                Some(_) => Settled::InUse(generation),
                None => Settled::Ended(generation),
            };
            (self.generation, self.route) = (generation, route);
            self.told = told;
            settled
        });
        self.hold();
        let suspended = self.change.as_mut().filter(|change| !change.is_told);
        let suspended = suspended.map(|change| {
            change.is_told = true;
            Settled::Suspended(change.generation)
        });
        [in_force, suspended]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_block::{MappingId, Run};
    use palisade_words::{Epoch, Lba, Sectors, Uuid};

    fn route(generation: u64) -> Route {
        let run = Run {
            volume: Lba(0),
            sectors: Sectors(8),
            device: DeviceIndex(3),
            lba: Lba(0),
        };
        let mapping = MappingId::new(Uuid(1), Generation(generation), Epoch(1));
        let route = Route::new(mapping, vec![run]);
        route.expect("one run").parking_faults()
    }

    /// A volume with a route of generation 1 in force.
    fn volume() -> Volume {
        let mut volume = Volume::default();
        assert!(volume.decide(Generation(1), Some(route(1))));
        volume.settle();
        volume
    }

    #[test]
    fn a_change_announced_again_has_still_overtaken_the_one_before() {
        let mut volume = volume();
        for generation in [2, 3, 3] {
            assert!(volume.suspend(Generation(generation)));
        }
        assert_eq!(volume.cancel(Generation(3)), Cancelling::Unknown);
        let mut again = self::volume();
        assert!(again.suspend(Generation(3)) && again.suspend(Generation(3)));
        assert_eq!(again.cancel(Generation(3)), Cancelling::Over);
    }

    #[test]
    fn a_generation_that_was_given_up_is_used_up_whatever_holds_the_volume() {
        let mut volume = volume();
        assert!(volume.suspend(Generation(2)) && volume.suspend(Generation(3)));
        assert_eq!(volume.cancel(Generation(3)), Cancelling::Unknown);
        assert!(!volume.decide(Generation(3), Some(route(3))));
        assert!(!volume.suspend(Generation(3)) && volume.is_held());
        assert!(volume.decide(Generation(4), Some(route(4))));
        let mut idle = self::volume();
        assert_eq!(idle.cancel(Generation(4)), Cancelling::Over);
        assert_eq!(idle.cancel(Generation(3)), Cancelling::Stale);
        assert_eq!(idle.cancel(Generation(4)), Cancelling::Over, "said twice");
    }

    #[test]
    fn nothing_is_told_of_a_volume_twice() {
        let mut volume = volume();
        assert!(volume.suspend(Generation(2)));
        assert_eq!(volume.settle(), [None, Some(Settled::Suspended(Generation(2)))]);
        assert_eq!(volume.settle(), [None, None]);
        assert!(volume.tells_parked(DeviceIndex(3)));
        assert!(!volume.tells_parked(DeviceIndex(3)));
        assert!(!volume.tells_parked(DeviceIndex(4)), "it is not of the route");
    }

    #[test]
    fn there_is_room_for_a_notice_of_each_device_of_both_routes() {
        let mut volume = Volume::default();
        assert_eq!(volume.tellings(), 0);
        assert!(volume.decide(Generation(1), Some(route(1))));
        assert_eq!(volume.tellings(), 1);
        volume.settle();
        assert_eq!(volume.tellings(), 1);
        assert!(volume.decide(Generation(2), Some(route(2))));
        assert_eq!(volume.tellings(), 2);
    }

    #[test]
    fn who_decides_about_faults_knows_the_newest_configuration() {
        let mut volume = volume();
        assert!(volume.decide(Generation(2), Some(route(2))));
        assert!(!volume.fail(Generation(1)) && volume.parks_faults());
        assert!(volume.fail(Generation(2)) && !volume.parks_faults());
        assert!(
            !volume.fail(Generation(1)) && !volume.parks_faults(),
            "it is said late"
        );
        volume.settle();
        assert!(
            !volume.parks_faults(),
            "it was said of the route that is in force now"
        );
        assert!(volume.decide(Generation(2), Some(route(2))) && volume.parks_faults());
    }
}
