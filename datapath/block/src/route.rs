//! A reactor's private copy of "where do requests for this range go now". Compiled from a volume's layout by
//! `datapath/volume`; replaced whole, never edited.

use palisade_words::{DeviceIndex, Epoch, Generation, Lba, Sectors, Uuid};

/// A contiguous range of a volume that lies contiguously on one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// First sector on the volume.
    pub volume: Lba,
    /// Length, never zero.
    pub sectors: Sectors,
    /// Where: the device.
    pub device: DeviceIndex,
    /// Where: its first sector.
    pub lba: Lba,
}

/// Which mapping of which volume it is: by this a peer or a fence judges what is asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MappingId {
    /// The volume, as all nodes know it.
    pub volume: Uuid,
    /// The configuration that the mapping is of. Each node takes it into use when it has heard of it, so that the same mapping is
    /// of one configuration here and of a later one there.
    pub generation: Generation,
    /// The configuration in which what the mapping says has last changed: by this all nodes call it.
    pub revision: Generation,
    /// The membership under which it is valid.
    pub epoch: Epoch,
    /// It serves what other nodes have forwarded. That is carried out on this node or nowhere: what is forwarded twice may
    /// travel in circles.
    pub is_forwarded: bool,
}

impl MappingId {
    /// Of a mapping that serves this node's own guests, and is new in its configuration.
    pub const fn new(volume: Uuid, generation: Generation, epoch: Epoch) -> MappingId {
        MappingId {
            volume,
            generation,
            revision: generation,
            epoch,
            is_forwarded: false,
        }
    }

    /// The same of one that is older than its configuration.
    pub const fn unchanged_since(self, revision: Generation) -> MappingId {
        MappingId { revision, ..self }
    }

    /// The same for what other nodes have forwarded.
    pub const fn forwarded(self) -> MappingId {
        MappingId {
            is_forwarded: true,
            ..self
        }
    }
}

/// Why runs do not make a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RouteError {
    /// Run `index` does not begin where the run before it ended.
    #[error("run {index} does not begin where the one before it ends")]
    Gap {
        /// Position in the list.
        index: usize,
    },
    /// Run `index` is empty or reaches past the end of the address space.
    #[error("run {index} is empty or too long")]
    Extent {
        /// Position in the list.
        index: usize,
    },
}

/// Where a volume's sectors lie, gapless from sector 0, by one mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    mapping: MappingId,
    runs: Box<[Run]>,
    devices: Box<[DeviceIndex]>,
    sectors: Sectors,
    parks_faults: bool,
}

impl Route {
    /// Makes a route of runs that follow each other without a gap from sector 0.
    pub fn new(mapping: MappingId, runs: Vec<Run>) -> Result<Route, RouteError> {
        let mut end = Lba(0);
        let mut devices = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            if run.volume != end {
                return Err(RouteError::Gap { index });
            }
            if run.sectors == Sectors::ZERO || run.lba.checked_add(run.sectors).is_none() {
                return Err(RouteError::Extent { index });
            }
            end = end.checked_add(run.sectors).ok_or(RouteError::Extent { index })?;
            if !devices.contains(&run.device) {
                devices.push(run.device);
            }
        }
        let sectors = end.since(Lba(0));
        Ok(Route {
            mapping,
            runs: runs.into(),
            devices: devices.into(),
            sectors,
            parks_faults: false,
        })
    }

    /// The same for a volume that has another way, or somebody who may heal the one it has: a fault that [may
    /// heal](crate::Fault::may_heal) is not answered before somebody has decided.
    pub fn parking_faults(self) -> Route {
        Route {
            parks_faults: true,
            ..self
        }
    }

    /// Whether faults that may heal wait for a decision.
    pub fn parks_faults(&self) -> bool {
        self.parks_faults
    }

    /// The mapping it was made from.
    #[inline]
    pub fn mapping(&self) -> &MappingId {
        &self.mapping
    }

    /// The configuration the route was compiled from.
    pub fn generation(&self) -> Generation {
        self.mapping.generation
    }

    /// The membership under which the route is valid.
    pub fn epoch(&self) -> Epoch {
        self.mapping.epoch
    }

    /// The volume's size.
    #[inline]
    pub fn sectors(&self) -> Sectors {
        self.sectors
    }

    /// All runs in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Every device the volume lies on, each once: a flush goes to all of them.
    #[inline]
    pub fn devices(&self) -> &[DeviceIndex] {
        &self.devices
    }

    /// The run that holds a sector; `None` beyond the end.
    #[inline]
    pub fn run_at(&self, lba: Lba) -> Option<&Run> {
        if let [only] = &*self.runs {
            return (lba.0 < self.sectors.0).then_some(only);
        }
        let after = self.runs.partition_point(|run| run.volume <= lba);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (lba.0 < self.sectors.0).then_some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(volume: u64, sectors: u64, device: u16, lba: u64) -> Run {
        Run {
            volume: Lba(volume),
            sectors: Sectors(sectors),
            device: DeviceIndex(device),
            lba: Lba(lba),
        }
    }

    fn route(runs: Vec<Run>) -> Result<Route, RouteError> {
        Route::new(MappingId::new(Uuid(1), Generation(1), Epoch(1)), runs)
    }

    #[test]
    fn finds_the_run_of_every_sector_and_none_beyond() {
        let route = route(vec![run(0, 8, 1, 100), run(8, 8, 2, 0), run(16, 4, 1, 300)]).unwrap();
        assert_eq!(route.sectors(), Sectors(20));
        assert_eq!(route.devices(), [DeviceIndex(1), DeviceIndex(2)]);
        let lbas: Vec<_> = [0, 7, 8, 15, 16, 19]
            .map(|at| route.run_at(Lba(at)).unwrap().lba.0)
            .into();
        assert_eq!(lbas, [100, 100, 0, 0, 300, 300]);
        assert_eq!(route.run_at(Lba(20)), None);
        assert_eq!(route.run_at(Lba(u64::MAX)), None);
    }

    #[test]
    fn refuses_gaps_overlaps_and_empty_runs() {
        assert_eq!(route(vec![run(1, 8, 0, 0)]), Err(RouteError::Gap { index: 0 }));
        assert_eq!(
            route(vec![run(0, 8, 0, 0), run(4, 8, 0, 0)]),
            Err(RouteError::Gap { index: 1 })
        );
        assert_eq!(route(vec![run(0, 0, 0, 0)]), Err(RouteError::Extent { index: 0 }));
        assert_eq!(
            route(vec![run(0, 2, 0, u64::MAX)]),
            Err(RouteError::Extent { index: 0 })
        );
    }
}
