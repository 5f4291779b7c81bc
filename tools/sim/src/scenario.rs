//! The scenarios by name. Each is a function from a generator to a plan, so that every seed is another world.

use crate::daemon::Setup;
use crate::disk::Conduct;
use crate::finding::Findings;
use crate::guest::Habits;
use crate::plan::{Break, Chaos, DiskPlan, GuestPlan, Plan};
use crate::rng::{Rng, RunHash};
use crate::{backup, forward, leases, lineage, links, operator, raft, sensing, superblock};
use palisade_block::Nanos;
use palisade_engine::{IdlePolicy, ReactorConfig};

/// A scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What it does.
    pub run: Run,
}

/// What a scenario does with a seed.
#[derive(Clone, Copy)]
pub enum Run {
    /// Runs a world by the plan of the seed.
    World(fn(&mut Rng) -> Plan),
    /// Something smaller, that needs no world.
    Alone(fn(Rng, Option<Break>, &Findings) -> RunHash),
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "lists",
        about: "the engine alone: guests on plain lists, nothing goes wrong",
        run: Run::World(lists),
    },
    Scenario {
        name: "rings",
        about: "guests on real rings, nothing goes wrong",
        run: Run::World(rings),
    },
    Scenario {
        name: "kill",
        about: "kill -9 of the daemon under load, in the middle of turns too",
        run: Run::World(kill),
    },
    Scenario {
        name: "power",
        about: "power cuts with write-back and write-through volumes",
        run: Run::World(power),
    },
    Scenario {
        name: "faults",
        about: "disks that fail, hang, slow down or vanish beside disks that are well",
        run: Run::World(faults),
    },
    Scenario {
        name: "life",
        about: "guests that reset, reconnect and go; drained restarts, routes, growth",
        run: Run::World(life),
    },
    Scenario {
        name: "taken",
        about: "volumes taken away from guests that stay connected, and given to their successors",
        run: Run::World(taken),
    },
    Scenario {
        name: "remap",
        about: "volumes whose mapping changes under load, agreed on or given up, by words that are lost and late",
        run: Run::World(remap),
    },
    Scenario {
        name: "outage",
        about: "ways to disks that are lost and come back, of which no guest hears before somebody has decided",
        run: Run::World(outage),
    },
    Scenario {
        name: "peer",
        about: "disks behind another node whose answers are lost: what was carried out and not heard of by its deadline",
        run: Run::World(peer),
    },
    Scenario {
        name: "port",
        about: "one source of each reactor carries the volumes of all guests, which are suspended, moved and hung one by one",
        run: Run::World(port),
    },
    Scenario {
        name: "hostile",
        about: "a guest out to do harm beside guests that are not",
        run: Run::World(hostile),
    },
    Scenario {
        name: "storm",
        about: "everything at once",
        run: Run::World(storm),
    },
    Scenario {
        name: "superblock",
        about: "a disk's extent table rewritten under power cuts, torn writes and turned bits",
        run: Run::Alone(|rng, _, findings| superblock::run(rng, findings)),
    },
    Scenario {
        name: "operator",
        about: "operator commands down to the superblocks of two disks, cut off between any two effects",
        run: Run::Alone(operator::run),
    },
    Scenario {
        name: "nodes",
        about: "several nodes, each behind the others in what it has heard of; disks change hands, nodes end and are cut off",
        run: Run::Alone(operator::run_several),
    },
    Scenario {
        name: "lineage",
        about: "copies of the database, restored, lost and used in turn, on one disk (invariant 15)",
        run: Run::Alone(lineage::run),
    },
    Scenario {
        name: "unrecorded",
        about: "the same on a node that loses its record of the medium",
        run: Run::Alone(lineage::run_unrecorded),
    },
    Scenario {
        name: "backup",
        about: "a database put back from a backup, on disks that keep no record of what is to be cleared",
        run: Run::Alone(|rng, _, findings| backup::run(rng, findings)),
    },
    Scenario {
        name: "links",
        about: "a session of a data port over links that break, swallow and turn bits; ends that stand still or start anew",
        run: Run::Alone(|rng, _, findings| links::run(rng, findings)),
    },
    Scenario {
        name: "forward",
        about: "disks behind other nodes: links and nodes that are lost, mappings that change, disks that land late",
        run: Run::Alone(|rng, _, findings| forward::run(rng, findings)),
    },
    Scenario {
        name: "raft",
        about: "voters that end, start, and hear each other badly; what was acknowledged is there, on all, and they heal",
        run: Run::Alone(raft::run::run),
    },
    Scenario {
        name: "leases",
        about: "members, voters and leases that change, starts, clocks that break: who was given up has stopped, and no other (invariant 5)",
        run: Run::Alone(|rng, _, findings| leases::run(rng, findings)),
    },
    Scenario {
        name: "sensing",
        about: "nodes and links that die, stop, flap and are slow: one eviction is proposed by all who stay, and in time",
        run: Run::Alone(|rng, _, findings| sensing::run(rng, findings)),
    },
    Scenario {
        name: "scarce",
        about: "faults with few slots and buffers: guests of a hung disk leave some to all others (invariant 11)",
        run: Run::World(scarce),
    },
];

/// The scenario of a name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

fn lists(rng: &mut Rng) -> Plan {
    Plan {
        rings: false,
        ..base(rng)
    }
}

fn rings(rng: &mut Rng) -> Plan {
    base(rng)
}

fn kill(rng: &mut Rng) -> Plan {
    let mut plan = base(rng);
    plan.chaos = vec![Chaos::Kill; rng.between(1, 6) as usize];
    plan
}

fn power(rng: &mut Rng) -> Plan {
    let mut plan = base(rng);
    plan.chaos = some_of(rng, &[Chaos::PowerCut], 4);
    if rng.one_in(3) {
        plan.chaos
            .extend(some_of(rng, &[Chaos::WriteCache, Chaos::PowerCut], 4));
    }
    for guest in &mut plan.guests {
        guest.habits.weights = [20, 50, 12, 4, 8, 1];
    }
    plan
}

fn faults(rng: &mut Rng) -> Plan {
    with_room_for_all(scarce(rng))
}

fn scarce(rng: &mut Rng) -> Plan {
    let mut plan = base(rng);
    plan.chaos = some_of(rng, &[Chaos::Hang, Chaos::Fail, Chaos::Slow], 4);
    if rng.one_in(5) {
        plan.chaos.push(Chaos::Gone);
    }
    // One guest more, on a disk of its own that stays well unless it is drawn.
    plan.disks.push(disk(rng));
    plan.guests.push(guest(rng, vec![plan.disks.len() - 1]));
    // With less than this the engine cannot keep one of each for every disk while others take some.
    let least = 2 * plan.disks.len();
    let config = &mut plan.setup.config;
    config.slots = config.slots.max(least as u32);
    config.parts = config.parts.max(least as u32);
    plan.setup.buffers = plan.setup.buffers.max(least);
    plan
}

fn life(rng: &mut Rng) -> Plan {
    let mut plan = base(rng);
    let kinds = [
        Chaos::Reset,
        Chaos::Reset,
        Chaos::Restart,
        Chaos::Reroute,
        Chaos::Grow,
        Chaos::WriteCache,
    ];
    plan.chaos = some_of(rng, &kinds, 8);
    // A request beyond the end is a foolish one only while the end stands still.
    plan.guests
        .iter_mut()
        .for_each(|guest| guest.habits.foolish_permille = 0);
    plan
}

fn taken(rng: &mut Rng) -> Plan {
    let mut plan = life(rng);
    let kinds = [
        Chaos::TakeAway,
        Chaos::TakeAway,
        Chaos::Reset,
        Chaos::Restart,
        Chaos::Reroute,
        Chaos::WriteCache,
    ];
    plan.chaos = some_of(rng, &kinds, 8);
    plan.chaos.push(Chaos::TakeAway);
    plan
}

fn remap(rng: &mut Rng) -> Plan {
    let mut plan = base(rng);
    let kinds = [
        Chaos::Remap,
        Chaos::Remap,
        Chaos::Remap,
        Chaos::Reroute,
        Chaos::Reset,
        Chaos::Restart,
        Chaos::Kill,
        Chaos::TakeAway,
    ];
    plan.chaos = some_of(rng, &kinds, 12);
    plan.chaos.push(Chaos::Remap);
    plan
}

fn outage(rng: &mut Rng) -> Plan {
    let mut plan = remap(rng);
    plan.guests.iter_mut().for_each(|guest| {
        guest.parks_faults = true;
        // Each error that a guest sees is one that somebody has decided on.
        guest.habits.foolish_permille = 0;
    });
    let kinds = [
        Chaos::Unreachable,
        Chaos::Unreachable,
        Chaos::Fenced,
        Chaos::Fenced,
        Chaos::Remap,
        Chaos::Reset,
        Chaos::Restart,
        Chaos::TakeAway,
    ];
    plan.chaos = some_of(rng, &kinds, 10);
    plan.chaos.push(Chaos::Unreachable);
    // What no remapping is in is told all the same.
    plan.chaos.push(Chaos::Remap);
    plan
}

fn peer(rng: &mut Rng) -> Plan {
    let mut plan = outage(rng);
    let kinds = [
        Chaos::Unheard,
        Chaos::Unheard,
        Chaos::Slow,
        Chaos::Remap,
        Chaos::Kill,
        Chaos::Restart,
    ];
    plan.chaos = some_of(rng, &kinds, 10);
    plan.chaos.extend([Chaos::Unheard, Chaos::Remap]);
    plan.disks.iter_mut().for_each(|disk| disk.synchronous = false);
    plan
}

fn port(rng: &mut Rng) -> Plan {
    let mut plan = scarce(rng);
    (plan.rings, plan.by_port) = (false, true);
    let kinds = [
        Chaos::Remap,
        Chaos::Remap,
        Chaos::Reroute,
        Chaos::Hang,
        Chaos::Slow,
        Chaos::Fail,
        Chaos::Kill,
    ];
    plan.chaos = some_of(rng, &kinds, 10);
    plan.chaos.push(Chaos::Remap);
    for guest in &mut plan.guests {
        // What is asked for more than a port does is refused by whoever asks.
        (guest.habits.read_only, guest.habits.foolish_permille) = (false, 0);
        (guest.write_through, guest.iops) = (true, 0);
    }
    with_room_for_all(plan)
}

fn hostile(rng: &mut Rng) -> Plan {
    let mut plan = base(rng);
    let on = rng.index(plan.disks.len());
    let mut one = guest(rng, vec![on]);
    one.hostile = true;
    one.requests = rng.between(200, 1500);
    plan.guests.push(one);
    plan.chaos = vec![Chaos::Reset; rng.index(12)];
    plan
}

fn storm(rng: &mut Rng) -> Plan {
    let mut plan = base(rng);
    let kinds = [
        Chaos::Kill,
        Chaos::PowerCut,
        Chaos::Hang,
        Chaos::Fail,
        Chaos::Slow,
        Chaos::Reset,
        Chaos::Restart,
        Chaos::Reroute,
        Chaos::WriteCache,
    ];
    plan.chaos = some_of(rng, &kinds, 8);
    with_room_for_all(plan)
}

/// A world in which nothing goes wrong.
fn base(rng: &mut Rng) -> Plan {
    let disks: Vec<DiskPlan> = (0..rng.between(1, 3)).map(|_| disk(rng)).collect();
    let guests = (0..rng.between(1, 3)).map(|_| {
        let first = rng.index(disks.len());
        // The runs of a volume lie on disks of one block size.
        let same = |other: &usize| *other != first && disks[*other].block_bytes == disks[first].block_bytes;
        let mut on = vec![first];
        if rng.one_in(2) {
            on.extend((0..disks.len()).filter(same));
        }
        if rng.one_in(4) {
            on.push(first);
        }
        guest(rng, on)
    });
    let guests = guests.collect();
    let idle = if rng.one_in(3) {
        IdlePolicy::AlwaysPoll
    } else {
        IdlePolicy::Adaptive {
            after: Nanos(rng.between(0, 40_000)),
        }
    };
    Plan {
        setup: Setup {
            reactors: rng.between(1, 3) as u16,
            config: ReactorConfig {
                slots: [8, 64, 256][rng.index(3)],
                parts: rng.between(2, 32) as u32,
                long: 4,
                watch_every: Nanos::from_millis(2),
            },
            buffers: rng.between(1, 4) as usize,
            idle,
        },
        disks,
        guests,
        chaos: Vec::new(),
        chaos_every: 800,
        rings: true,
        by_port: false,
        deadline: Nanos::from_millis(20),
        broken: None,
    }
}

fn disk(rng: &mut Rng) -> DiskPlan {
    let block_bytes = if rng.one_in(3) { 4096 } else { 512 };
    let memory_alignment = [1, 4, 512][rng.index(3)];
    DiskPlan {
        block_bytes,
        memory_alignment,
        length_alignment: if rng.one_in(2) {
            memory_alignment
        } else {
            block_bytes
        },
        io_bytes_max: [4096, 8192, 65536, 1 << 20][rng.index(4)],
        discard: !rng.one_in(3),
        write_zeroes: !rng.one_in(3),
        zeroes_refused: rng.one_in(4),
        synchronous: rng.one_in(5),
        conduct: Conduct {
            latency_ns: [(1_000, 30_000), (20_000, 400_000)][rng.index(2)],
            busy_permille: [0, 0, 20, 300][rng.index(4)],
            ..Conduct::HEALTHY
        },
    }
}

fn guest(rng: &mut Rng, disks: Vec<usize>) -> GuestPlan {
    let long = rng.one_in(12);
    let habits = Habits {
        queues: rng.between(1, 3) as u16,
        queue_size: match [16, 64, 128][rng.index(3)] {
            _ if long => 512,
            entries => entries,
        },
        depth: if long { 2 } else { rng.between(1, 16) as usize },
        // Now and then one request needs more than one bounce buffer.
        sectors_max: if long { 704 } else { [8, 32, 64][rng.index(3)] },
        // And more buffers than a driver may use that has taken SEG_MAX.
        pieces_max: if long { 400 } else { Habits::EVERYDAY.pieces_max },
        hot_sectors: [16, 64, 256][rng.index(3)],
        misaligned_permille: [0, 100, 500][rng.index(3)],
        foolish_permille: [0, 10, 40][rng.index(3)],
        read_only: rng.one_in(20),
        ..Habits::EVERYDAY
    };
    GuestPlan {
        habits,
        sectors: if long { 1024 } else { rng.between(4, 64) * 8 },
        disks,
        requests: rng.between(100, 500),
        write_through: rng.one_in(3),
        iops: if rng.one_in(8) {
            rng.between(2_000, 50_000)
        } else {
            0
        },
        parks_faults: false,
        hostile: false,
    }
}

/// Room for every request that guests may have in flight, so that nobody waits for anything but a disk; [`scarce`]
/// is the other case.
fn with_room_for_all(mut plan: Plan) -> Plan {
    let all = plan.requests_in_flight_max() as u32;
    // A queue may hold as many slots as are left free.
    plan.setup.config.slots = 2 * all + plan.guests.len() as u32;
    plan.setup.config.parts = 16 * all;
    plan.setup.buffers = 16 * all as usize;
    plan
}

/// One to `most` events, drawn from a list.
fn some_of(rng: &mut Rng, kinds: &[Chaos], most: u64) -> Vec<Chaos> {
    (0..rng.between(1, most))
        .map(|_| kinds[rng.index(kinds.len())])
        .collect()
}
