//! From a volume's layout to a reactor's route.

use palisade_block::{MappingId, Route, RouteError, Run};
use palisade_model::{Extent, Layout, Volume};
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, Name, Sectors};

/// Why a volume has no route on this node.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompileError {
    /// No device is open for a disk of the volume.
    #[error("disk {disk} is not open on this node")]
    NoDevice {
        /// Which disk.
        disk: Name,
    },
    /// None of the volume's space is known to be clear.
    #[error("the volume's space is still to be cleared")]
    Uncleared,
    /// The extents are together longer or shorter than the volume. In sectors.
    #[error("the extents hold {extents} sectors, the volume has {volume}")]
    Length {
        /// Length of all extents.
        extents: u64,
        /// Size of the volume.
        volume: u64,
    },
    /// The extents do not follow each other.
    #[error("{0}")]
    Route(#[source] RouteError),
}

/// The route to what guests may use of a volume, in a configuration and a membership: what is still to be cleared has none.
/// `device_of` names the device that is open for a disk.
///
/// # Errors
/// There is none.
pub fn compile(
    volume: &Volume,
    (generation, epoch): (Generation, Epoch),
    device_of: impl FnMut(&Name) -> Option<DeviceIndex>,
) -> Result<Route, CompileError> {
    if volume.clearing.is_some() && volume.usable_sectors() == 0 {
        return Err(CompileError::Uncleared);
    }
    let runs = match &volume.layout {
        Layout::Linear { .. } => linear(&volume.usable_extents(), device_of)?,
    };
    let route = Route::new(mapping(volume, (generation, epoch)), runs).map_err(CompileError::Route)?;
    let (extents, volume) = (route.sectors().0, volume.usable_sectors());
    if extents != volume {
        return Err(CompileError::Length { extents, volume });
    }
    Ok(route)
}

/// The route to the same by another node, which is asked for the volume's own sectors: where they lie is its to know. `device` is
/// that node. Who may heal its faults has them parked.
///
/// # Errors
/// There is none.
pub fn compile_remote(
    volume: &Volume,
    (generation, epoch): (Generation, Epoch),
    device: DeviceIndex,
) -> Result<Route, CompileError> {
    let sectors = volume.usable_sectors();
    if volume.clearing.is_some() && sectors == 0 {
        return Err(CompileError::Uncleared);
    }
    let whole = Run {
        volume: Lba(0),
        sectors: Sectors(sectors),
        device,
        lba: Lba(0),
    };
    let route = Route::new(mapping(volume, (generation, epoch)), vec![whole]);
    route.map(Route::parking_faults).map_err(CompileError::Route)
}

/// What the mapping is called: by all nodes alike, whenever each has heard of it.
fn mapping(volume: &Volume, (generation, epoch): (Generation, Epoch)) -> MappingId {
    MappingId::new(volume.uuid, generation, epoch).unchanged_since(volume.route_generation())
}

/// One run for each extent; neighbours that continue each other on the same device become one.
fn linear(
    extents: &[Extent],
    mut device_of: impl FnMut(&Name) -> Option<DeviceIndex>,
) -> Result<Vec<Run>, CompileError> {
    let mut runs: Vec<Run> = Vec::with_capacity(extents.len());
    let mut end = Lba(0);
    for (index, extent) in extents.iter().enumerate() {
        let disk = &extent.disk;
        let device = device_of(disk).ok_or_else(|| CompileError::NoDevice { disk: disk.clone() })?;
        let (lba, sectors) = (Lba(extent.disk_lba), Sectors(extent.sectors));
        let too_long = CompileError::Route(RouteError::Extent { index });
        match runs.last_mut() {
            Some(last) if last.device == device && last.lba.checked_add(last.sectors) == Some(lba) => {
                last.sectors = Sectors(last.sectors.0.checked_add(sectors.0).ok_or(too_long.clone())?);
            }
            _ => runs.push(Run {
                volume: end,
                sectors,
                device,
                lba,
            }),
        }
        end = end.checked_add(sectors).ok_or(too_long)?;
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn volume(sectors: u64, extents: &[(&str, u64, u64)]) -> Volume {
        let extents = extents.iter().map(|&(disk, disk_lba, sectors)| Extent {
            disk: name(disk),
            disk_lba,
            sectors,
        });
        Volume {
            uuid: palisade_words::Uuid(7),
            sectors,
            block_bytes: 512,
            layout: Layout::Linear {
                extents: extents.collect(),
            },
            created: palisade_words::Generation(1),
            revision: palisade_words::Generation(4),
            layout_revision: None,
            clear: None,
            clearing: None,
            deleting: false,
            protected: false,
        }
    }

    fn device_of(disk: &Name) -> Option<DeviceIndex> {
        disk.as_str().strip_prefix('d')?.parse().ok().map(DeviceIndex)
    }

    #[test]
    fn extents_become_runs_and_neighbours_one_run() {
        let volume = volume(
            40,
            &[
                ("d1", 8192, 16),
                ("d1", 8208, 8),
                ("d2", 8216, 8),
                ("d1", 100_000, 8),
            ],
        );
        let route = compile(&volume, (Generation(7), Epoch(9)), device_of).unwrap();
        assert_eq!(
            (route.generation(), route.epoch(), route.sectors()),
            (Generation(7), Epoch(9), Sectors(40))
        );
        let runs: Vec<_> = route
            .runs()
            .iter()
            .map(|run| (run.volume.0, run.sectors.0, run.device.0, run.lba.0))
            .collect();
        assert_eq!(runs, [(0, 24, 1, 8192), (24, 8, 2, 8216), (32, 8, 1, 100_000)]);
    }

    #[test]
    fn another_node_is_asked_for_the_volumes_own_sectors_by_a_name_that_it_knows() {
        let volume = volume(40, &[("d1", 8192, 16), ("d2", 8216, 24)]);
        let remote = compile_remote(&volume, (Generation(7), Epoch(9)), DeviceIndex(70)).unwrap();
        let runs: Vec<_> = remote
            .runs()
            .iter()
            .map(|run| (run.volume.0, run.sectors.0, run.device.0, run.lba.0))
            .collect();
        assert_eq!(runs, [(0, 40, 70, 0)]);
        assert!(remote.parks_faults(), "somebody may find another way");
        // The node asked may have heard of other changes since.
        let there = compile(&volume, (Generation(12), Epoch(9)), device_of).unwrap();
        assert!(!there.parks_faults());
        let name = |route: &Route| (route.mapping().volume, route.mapping().revision);
        assert_eq!(name(&remote), (palisade_words::Uuid(7), Generation(4)));
        assert_eq!(name(&there), name(&remote));
        assert_ne!(there.generation(), remote.generation());
    }

    #[test]
    fn what_is_still_to_be_cleared_has_no_route() {
        let mut volume = volume(40, &[("d1", 8192, 16), ("d2", 0, 24)]);
        volume.layout_revision = Some(palisade_words::Generation(3));
        volume.clearing = Some(palisade_model::Clearing {
            from: 24,
            cleared: 32,
            since: palisade_words::Generation(4),
            held: false,
            withheld: false,
        });
        let route = compile(&volume, (Generation(7), Epoch(9)), device_of).unwrap();
        assert_eq!(
            (route.generation(), route.sectors()),
            (Generation(7), Sectors(24))
        );
        assert_eq!(route.runs().last().map(|run| run.sectors), Some(Sectors(8)));
        let remote = |volume: &Volume| compile_remote(volume, (Generation(7), Epoch(9)), DeviceIndex(70));
        assert_eq!(remote(&volume).map(|route| route.sectors()), Ok(Sectors(24)));
        volume.clearing = volume
            .clearing
            .map(|clearing| palisade_model::Clearing { from: 0, ..clearing });
        assert_eq!(
            compile(&volume, (Generation(7), Epoch(9)), device_of),
            Err(CompileError::Uncleared)
        );
        assert_eq!(remote(&volume), Err(CompileError::Uncleared));
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let compiled = |volume| compile(&volume, (Generation(7), Epoch(1)), device_of);
        assert_eq!(
            compiled(volume(8, &[("x", 0, 8)])),
            Err(CompileError::NoDevice { disk: name("x") })
        );
        assert_eq!(
            compiled(volume(9, &[("d1", 0, 8)])),
            Err(CompileError::Length {
                extents: 8,
                volume: 9
            })
        );
        assert_eq!(
            compiled(volume(8, &[])),
            Err(CompileError::Length {
                extents: 0,
                volume: 8
            })
        );
        let extent = |index| Err(CompileError::Route(RouteError::Extent { index }));
        assert_eq!(compiled(volume(0, &[("d1", 0, 0)])), extent(0));
        assert_eq!(compiled(volume(8, &[("d1", u64::MAX, 8)])), extent(0));
        assert_eq!(
            compiled(volume(8, &[("d1", 0, u64::MAX), ("d2", 0, 2)])),
            extent(1)
        );
    }

    proptest! {
        #[test]
        fn every_sector_goes_where_its_extent_lies(extents in proptest::collection::vec((0u16..3, 0u64..1000, 1u64..50), 1..20)) {
            let named: Vec<_> = extents.iter().map(|&(disk, lba, sectors)| (["d0", "d1", "d2"][disk as usize], lba, sectors)).collect();
            let total = extents.iter().map(|extent| extent.2).sum();
            let route = compile(&volume(total, &named), (Generation(7), Epoch(1)), device_of).unwrap();
            let places = extents.iter().flat_map(|&(disk, lba, sectors)| (lba..lba + sectors).map(move |lba| (disk, lba)));
            for (at, (disk, lba)) in places.enumerate() {
                let run = route.run_at(Lba(at as u64)).unwrap();
                prop_assert_eq!((run.device.0, run.lba.0 + at as u64 - run.volume.0), (disk, lba));
            }
        }
    }
}
