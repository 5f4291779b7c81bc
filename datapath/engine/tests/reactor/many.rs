//! One source carries many volumes, as the serving end of a port does: what happens to one of them is nothing to the others.

use crate::bench_of::*;
use palisade_block::mailbox::{Notice, ReactorChange};
use palisade_block::*;
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, Sectors, Uuid, VolumeIndex};

const ONE: VolumeIndex = VolumeIndex(1);
const OTHER: VolumeIndex = VolumeIndex(2);

/// A source of two volumes: one on the first device, the other on the second.
struct Stand {
    bed: Bed,
    source: Script,
}

fn mapping(volume: VolumeIndex, generation: u64) -> MappingId {
    let uuid = Uuid(volume.0.into());
    MappingId::new(uuid, Generation(generation), Epoch(1)).forwarded()
}

impl Stand {
    fn new(slots: u32) -> Stand {
        let mut bed = Bed::new(slots, 2);
        let source = bed.attach(QUEUE, |settings| settings.volume = None);
        let mut stand = Stand { bed, source };
        stand.resume(ONE, 1);
        stand.resume(OTHER, 1);
        stand.bed.notices();
        stand
    }

    fn resume(&mut self, volume: VolumeIndex, generation: u64) {
        let run = Run {
            volume: Lba(0),
            sectors: Sectors(1000),
            device: DeviceIndex(volume.0 - 1),
            lba: Lba(0),
        };
        let route = Route::new(mapping(volume, generation), vec![run]).expect("one run");
        self.bed.reactor.apply(ReactorChange::Resume { volume, route });
    }

    fn suspend(&mut self, volume: VolumeIndex, generation: u64) {
        let generation = Generation(generation);
        self.bed
            .reactor
            .apply(ReactorChange::Suspend { volume, generation });
    }

    fn ask(&self, volume: VolumeIndex, head: u16) {
        self.source.0.borrow_mut().of.insert(head, volume);
        self.source.ask(head, Op::Write, u64::from(head) * 8, 8, data(8));
    }

    fn ask_all(&self, requests: &[(VolumeIndex, u16)]) {
        requests
            .iter()
            .for_each(|(volume, head)| self.ask(*volume, *head));
    }

    /// What is with the devices: which device, and under which mapping.
    fn seen(&mut self) -> Vec<(u16, MappingId)> {
        let seen = self.bed.devices().seen.iter();
        seen.map(|seen| (seen.device, seen.mapping)).collect()
    }

    /// The operations of one device end well.
    fn finish(&mut self, device: u16) {
        let devices = self.bed.devices();
        let ended = devices.seen.extract_if(.., |seen| seen.device == device);
        devices.finished.extend(ended.map(|seen| (seen.slot, Ok(()))));
        self.bed.turn();
    }

    fn heads(&self) -> Vec<u16> {
        let answers = self.source.answers();
        answers.iter().map(|(head, _)| *head).collect()
    }
}

#[test]
fn requests_of_all_volumes_are_taken_in_one_turn_each_under_its_own_mapping() {
    let mut stand = Stand::new(16);
    for head in 0..6 {
        stand.ask([ONE, OTHER][usize::from(head % 2)], head);
    }
    stand.bed.turn();
    let (one, other) = ((0, mapping(ONE, 1)), (1, mapping(OTHER, 1)));
    assert_eq!(stand.seen(), [one, one, one, other, other, other]);
    stand.finish(1);
    stand.finish(0);
    assert_eq!(stand.heads(), [1, 3, 5, 0, 2, 4]);
}

#[test]
fn one_volume_is_suspended_and_the_other_goes_on() {
    let mut stand = Stand::new(16);
    stand.ask_all(&[(ONE, 0), (OTHER, 1)]);
    stand.bed.turn();
    stand.suspend(ONE, 2);
    stand.ask_all(&[(ONE, 2), (OTHER, 3), (ONE, 4), (OTHER, 5)]);
    stand.bed.turn();
    let on = |device, stand: &mut Stand| stand.seen().iter().filter(|seen| seen.0 == device).count();
    assert_eq!((on(0, &mut stand), on(1, &mut stand)), (1, 3));
    assert!(stand.bed.notices().is_empty(), "one of it is still on its device");

    // The other's requests do not keep it from being at rest.
    stand.finish(0);
    assert_eq!(told(&mut stand.bed), ["suspended 2"]);
    stand.finish(1);
    assert_eq!(stand.heads(), [0, 1, 3, 5]);
    let waiting = stand.source.0.borrow().waiting.len();
    assert_eq!(
        (waiting, stand.bed.reactor.in_flight()),
        (2, 0),
        "nothing of it is taken"
    );

    stand.resume(ONE, 2);
    stand.bed.turn();
    assert_eq!(stand.seen(), [(0, mapping(ONE, 2)); 2]);
    stand.finish(0);
    assert_eq!(stand.heads(), [0, 1, 3, 5, 2, 4]);
}

#[test]
fn what_a_device_was_too_busy_for_is_parked_with_its_own_volume_only() {
    let mut stand = Stand::new(16);
    stand.bed.devices().busy = true;
    stand.ask_all(&[(ONE, 0), (OTHER, 1)]);
    stand.bed.turn();
    stand.suspend(ONE, 2);
    assert_eq!(told(&mut stand.bed), ["suspended 2"]);
    assert_eq!(stand.bed.stats.parked.get(), 1);
    stand.bed.devices().busy = false;
    stand.bed.turn();
    assert_eq!(stand.seen(), [(1, mapping(OTHER, 1))]);
    stand.resume(ONE, 2);
    stand.bed.turn();
    assert_eq!(stand.seen()[1], (0, mapping(ONE, 2)));
    stand.finish(0);
    stand.finish(1);
    assert_eq!((stand.heads(), stand.bed.stats.parked.get()), (vec![0, 1], 0));
}

#[test]
fn a_volume_on_a_device_that_hangs_leaves_slots_to_the_other() {
    let mut stand = Stand::new(16);
    (0..40).for_each(|head| stand.ask(ONE, head));
    for _ in 0..20 {
        stand.bed.turn();
    }
    let hung = stand.seen().len();
    assert!(stand.bed.reactor.in_flight() < 16);
    stand.ask(OTHER, 50);
    stand.bed.turn();
    assert_eq!(stand.seen()[hung..], [(1, mapping(OTHER, 1))]);
    stand.finish(1);
    assert_eq!(stand.heads(), [50]);
    stand.source.0.borrow_mut().waiting.clear();
    stand.finish(0);
}

#[test]
fn a_volume_that_has_ended_answers_with_an_error_and_the_other_as_before() {
    let mut stand = Stand::new(16);
    stand.bed.devices().at_once = Some(Ok(()));
    stand.bed.reactor.apply(ReactorChange::EndVolume {
        volume: ONE,
        generation: Generation(2),
    });
    // Of the third this reactor has never been told.
    stand.ask_all(&[(ONE, 0), (OTHER, 1), (VolumeIndex(9), 2)]);
    stand.bed.turn();
    let mut answers = stand.source.answers();
    answers.sort_unstable_by_key(|(head, _)| *head);
    assert_eq!(answers, [(0, Status::IoErr), (1, Status::Ok), (2, Status::IoErr)]);
}

#[test]
fn what_waits_for_a_suspended_volume_does_not_keep_the_reactor_awake() {
    let mut stand = Stand::new(16);
    stand.suspend(ONE, 2);
    stand.ask(ONE, 0);
    stand.bed.turn();
    assert!(!stand.bed.reactor.arm());
    stand.ask(OTHER, 1);
    assert!(stand.bed.reactor.arm());
    stand.bed.reactor.disarm();
    stand.bed.turn();
    assert_eq!(stand.seen(), [(1, mapping(OTHER, 1))]);
    assert!(!stand.bed.reactor.arm());
    stand.finish(1);
}

#[test]
fn a_source_that_is_revoked_is_refused_for_all_its_volumes_the_suspended_too() {
    let mut stand = Stand::new(16);
    stand.suspend(ONE, 2);
    stand.bed.notices();
    stand.bed.reactor.apply(ReactorChange::Revoke {
        attachment: QUEUE.attachment,
    });
    stand.ask_all(&[(ONE, 0), (OTHER, 1)]);
    stand.bed.turn();
    assert_eq!(stand.source.answers(), [(0, Status::IoErr), (1, Status::IoErr)]);
    assert!(matches!(stand.bed.notices()[..], [Notice::Revoked { .. }]));
}

#[test]
fn a_batch_is_as_long_over_many_volumes_as_over_one() {
    let mut stand = Stand::new(256);
    stand.bed.devices().at_once = Some(Ok(()));
    for head in 0..80 {
        stand.ask([ONE, OTHER][usize::from(head % 2)], head);
    }
    stand.bed.turn();
    assert_eq!(stand.source.answers().len(), limits::PULL_BATCH);
}
