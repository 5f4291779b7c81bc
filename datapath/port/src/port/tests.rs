use super::*;
use PortState::{Connected, ConnectedTo, Connecting, Idle, Initialized, Registered, Stopped};
use proptest::prelude::*;

const FIRST: Uuid = Uuid(1);
const SECOND: Uuid = Uuid(2);
const THIRD: Uuid = Uuid(3);
const STRANGER: Uuid = Uuid(9);

fn on(port: &mut Port, event: PortEvent) -> Result<Vec<PortOrder>, PortError> {
    let mut orders = Vec::new();
    port.on(event, &mut orders).map(|()| orders)
}

fn all(port: &mut Port, events: impl IntoIterator<Item = PortEvent>) -> Vec<PortOrder> {
    let each = events.into_iter().map(|event| on(port, event).unwrap());
    each.collect::<Vec<_>>().concat()
}

/// Connected to the first of so many targets.
fn connected(switches: bool, targets: usize) -> Port {
    let mut port = Port::new(switches);
    let targets = [FIRST, SECOND, THIRD][..targets].to_vec();
    let begins = [
        PortEvent::Register,
        PortEvent::Initialize(targets),
        PortEvent::Connect,
        up(FIRST, 1),
    ];
    assert_eq!(all(&mut port, begins), [PortOrder::Open(FIRST)]);
    assert_eq!((port.state(), port.users()), (Connected, 1));
    port
}

const RUN: Incarnation = Incarnation(1);

fn up(node: Uuid, round: u32) -> PortEvent {
    PortEvent::Up(node, AskedUntil { run: RUN, round })
}

fn released(node: Uuid, round: u32) -> PortEvent {
    PortEvent::Released(node, AskedUntil { run: RUN, round })
}

const LOST: DownCause = DownCause::NoLink;
const CLOSE: PortEvent = PortEvent::Close { at_once: false };
const CLOSE_AT_ONCE: PortEvent = PortEvent::Close { at_once: true };

#[test]
fn each_arrow_of_the_table() {
    let mut port = Port::new(false);
    let step = |port: &mut Port, event: PortEvent, state, users| {
        on(port, event.clone()).unwrap();
        assert_eq!((port.state(), port.users()), (state, users), "after {event:?}");
    };
    step(&mut port, PortEvent::Register, Registered, 0);
    step(&mut port, PortEvent::PeerConnected, ConnectedTo, 0);
    step(&mut port, PortEvent::PeerClosed, Registered, 0);
    step(&mut port, PortEvent::Unregister, Idle, 0);
    step(&mut port, PortEvent::Register, Registered, 0);
    step(
        &mut port,
        PortEvent::Initialize(vec![FIRST, SECOND]),
        Initialized,
        0,
    );
    step(&mut port, PortEvent::Connect, Connecting, 1);
    step(&mut port, up(FIRST, 1), Connected, 1);
    step(&mut port, PortEvent::Connect, Connected, 2);
    step(&mut port, PortEvent::Connect, Connected, 3);
    step(&mut port, CLOSE, Connected, 2);
    step(&mut port, PortEvent::Stop, Stopped, 2);
    step(&mut port, PortEvent::Reset, Connecting, 2);
    step(&mut port, up(FIRST, 1), Connected, 2);
    step(&mut port, CLOSE_AT_ONCE, Stopped, 2);
    step(&mut port, CLOSE, Stopped, 1);
    step(&mut port, PortEvent::Connect, Connecting, 1);
    step(&mut port, up(FIRST, 1), Connected, 1);
    step(&mut port, CLOSE, Stopped, 1);
    step(&mut port, CLOSE, Initialized, 0);
    step(&mut port, PortEvent::Connect, Connecting, 1);
    step(&mut port, CLOSE, Initialized, 0);
}

#[test]
fn three_connects_need_three_closes_or_one_at_once() {
    let mut port = connected(false, 1);
    all(&mut port, [PortEvent::Connect, PortEvent::Connect]);
    assert_eq!(all(&mut port, [CLOSE, CLOSE]), []);
    assert_eq!(port.state(), Connected, "one user is left");
    assert_eq!(on(&mut port, CLOSE), Ok(vec![PortOrder::Close(FIRST)]));
    let mut port = connected(false, 1);
    all(&mut port, [PortEvent::Connect, PortEvent::Connect]);
    assert_eq!(
        on(&mut port, CLOSE_AT_ONCE),
        Ok(vec![PortOrder::Stop(FIRST), PortOrder::GiveBack])
    );
}

/// 003-13: who goes on to whom, with and without switching, with 0 to 2 targets in reserve, and each number of them dead.
#[test]
fn the_matrix_of_switching() {
    for (switches, targets, dead) in (0..18).map(|cell| (cell % 2 == 1, 1 + cell / 2 % 3, 1 + cell / 6)) {
        if dead > targets {
            continue;
        }
        let mut port = connected(switches, targets);
        let mut orders = Vec::new();
        for node in [FIRST, SECOND, THIRD].into_iter().take(dead) {
            let state = port.state();
            if port.target() != Some(node) || state == Stopped {
                break;
            }
            orders.extend(all(&mut port, [PortEvent::Down(node, LOST)]));
            if switches && state == Connected {
                assert_eq!(port.state(), Connecting);
                assert!(!orders.contains(&PortOrder::Stop(node)), "nothing is proved yet");
            }
            orders.extend(all(&mut port, [released(node, 1)]));
            let next = port.target().filter(|next| *next != node);
            orders.extend(next.map(|next| all(&mut port, [up(next, 1)])).unwrap_or_default());
        }
        let survives = switches && dead < targets;
        let expected = if survives { Connected } else { Stopped };
        assert_eq!(
            port.state(),
            expected,
            "switches {switches}, {targets} targets, {dead} dead"
        );
        assert_eq!(orders.contains(&PortOrder::GiveBack), !survives);
        if survives {
            assert_eq!(port.target(), [FIRST, SECOND, THIRD].get(dead).copied());
        }
    }
}

#[test]
fn a_target_that_comes_back_before_anything_is_proved_is_gone_on_with() {
    let mut port = connected(true, 2);
    assert_eq!(on(&mut port, PortEvent::Down(FIRST, LOST)), Ok(vec![]));
    assert_eq!(on(&mut port, up(FIRST, 1)), Ok(vec![]));
    assert_eq!((port.state(), port.target()), (Connected, Some(FIRST)));
    // What was asked since may land again.
    let refused = on(&mut port, PortEvent::ConnectTo(SECOND));
    assert_eq!(refused, Err(PortError::MayLand { node: FIRST }));
}

#[test]
fn a_proof_that_comes_late_is_none_of_what_was_asked_since() {
    let mut port = connected(true, 2);
    let again = [PortEvent::Down(FIRST, LOST), up(FIRST, 2)];
    all(&mut port, again);
    // Before and after the target has gone a second time.
    assert_eq!(on(&mut port, released(FIRST, 1)), Ok(vec![]));
    assert_eq!(on(&mut port, PortEvent::Down(FIRST, LOST)), Ok(vec![]));
    assert_eq!(on(&mut port, released(FIRST, 1)), Ok(vec![]));
    let of_the_run_before = PortEvent::Released(FIRST, AskedUntil::whole(Incarnation(0)));
    assert_eq!(on(&mut port, of_the_run_before), Ok(vec![]));
    assert_eq!((port.state(), port.target()), (Connecting, Some(FIRST)));
    assert_eq!(port.late_proofs(), 3);
    // The target's next run proves that everything of this one has landed.
    let orders = on(&mut port, PortEvent::Released(FIRST, AskedUntil::whole(RUN)));
    assert_eq!(
        orders.map(|orders| orders.last().copied()),
        Ok(Some(PortOrder::Open(SECOND)))
    );
    assert_eq!(port.late_proofs(), 3);
}

/// More may be asked in the round as long as it is in force.
#[test]
fn a_proof_of_a_round_in_force_is_none() {
    let mut port = connected(true, 2);
    assert_eq!(on(&mut port, released(FIRST, 1)), Ok(vec![]));
    assert_eq!(on(&mut port, PortEvent::Down(FIRST, LOST)), Ok(vec![]));
    assert_eq!((port.state(), port.late_proofs()), (Connecting, 1));
    assert!(on(&mut port, released(FIRST, 1)).is_ok_and(|orders| orders.contains(&PortOrder::Open(SECOND))));
}

#[test]
fn a_target_that_was_left_is_not_used_before_it_is_admitted_anew() {
    let mut port = connected(true, 2);
    let orders = all(&mut port, [PortEvent::Down(FIRST, LOST), released(FIRST, 1)]);
    assert_eq!(
        orders,
        [
            PortOrder::Stop(FIRST),
            PortOrder::Resend(SECOND),
            PortOrder::Open(SECOND)
        ]
    );
    all(&mut port, [up(FIRST, 1)]);
    assert_eq!(
        port.state(),
        Connecting,
        "its session is none of the port's any more"
    );
    all(&mut port, [up(SECOND, 1), PortEvent::Stop, released(SECOND, 1)]);
    assert_eq!(
        on(&mut port, PortEvent::ConnectTo(FIRST)),
        Err(PortError::Left { node: FIRST })
    );
    let back = all(
        &mut port,
        [PortEvent::Admitted(FIRST), PortEvent::ConnectTo(FIRST)],
    );
    assert_eq!(
        back,
        [
            PortOrder::Stop(SECOND),
            PortOrder::Resend(FIRST),
            PortOrder::Open(FIRST)
        ]
    );
}

#[test]
fn a_target_that_closes_in_good_order_is_not_switched_away_from() {
    let mut port = connected(true, 2);
    assert_eq!(
        on(&mut port, PortEvent::Down(FIRST, DownCause::PeerClosed)),
        Ok(vec![PortOrder::GiveBack])
    );
    assert_eq!((port.state(), port.target()), (Stopped, Some(FIRST)));
}

#[test]
fn a_user_orders_the_switch_when_the_port_does_not() {
    let mut port = connected(false, 3);
    assert_eq!(
        on(&mut port, PortEvent::Down(FIRST, LOST)),
        Ok(vec![PortOrder::GiveBack])
    );
    assert_eq!(
        on(&mut port, PortEvent::ConnectTo(THIRD)),
        Err(PortError::MayLand { node: FIRST })
    );
    let orders = all(&mut port, [released(FIRST, 1), PortEvent::ConnectTo(THIRD)]);
    assert_eq!(orders, [PortOrder::Stop(FIRST), PortOrder::Open(THIRD)]);
    assert_eq!(
        on(&mut port, PortEvent::ConnectTo(STRANGER)),
        Err(PortError::NoTarget { node: STRANGER })
    );
}

fn asked() -> impl Strategy<Value = AskedUntil> {
    (1..3u64, 1..4u32).prop_map(|(run, round)| AskedUntil {
        run: Incarnation(run),
        round,
    })
}

fn event() -> impl Strategy<Value = PortEvent> {
    let node = prop::sample::select(vec![FIRST, SECOND, THIRD, STRANGER]);
    prop_oneof![
        prop::sample::select(vec![
            PortEvent::Register,
            PortEvent::Unregister,
            PortEvent::Initialize(vec![FIRST, SECOND, THIRD]),
            PortEvent::Connect,
            PortEvent::Stop,
            PortEvent::Reset,
            PortEvent::PeerConnected,
            PortEvent::PeerClosed,
            CLOSE,
            CLOSE_AT_ONCE,
        ]),
        node.clone().prop_map(PortEvent::ConnectTo),
        (node.clone(), asked()).prop_map(|(node, asked)| PortEvent::Up(node, asked)),
        (node.clone(), asked()).prop_map(|(node, asked)| PortEvent::Released(node, asked)),
        node.clone().prop_map(PortEvent::Admitted),
        (node, prop::bool::ANY).prop_map(|(node, closed)| {
            PortEvent::Down(node, if closed { DownCause::PeerClosed } else { LOST })
        }),
    ]
}

proptest! {
    /// Whatever comes: what is refused changes nothing, and no target is opened while the one before may still carry something
    /// out, unless it is the same.
    #[test]
    fn nothing_goes_elsewhere_while_it_may_land(events in prop::collection::vec(event(), 1..80), switches: bool) {
        let mut port = Port::new(switches);
        let mut may_land: Option<(Uuid, AskedUntil)> = None;
        for event in events {
            let before = (port.state(), port.users(), port.target());
            match event {
                PortEvent::Released(node, proved)
                    if before.0 != Connected && may_land.is_some_and(|(of, asked)| of == node && asked <= proved) =>
                {
                    may_land = None;
                }
                PortEvent::Up(node, asked) if before.0 == Connecting && before.2 == Some(node) => {
                    may_land = Some((node, asked));
                }
                _ => {}
            }
            match on(&mut port, event) {
                Err(_) => prop_assert_eq!((port.state(), port.users(), port.target()), before),
                Ok(orders) => {
                    for order in orders {
                        if let PortOrder::Open(node) = order {
                            prop_assert!(may_land.is_none_or(|(before, _)| before == node), "{may_land:?}, then {node}");
                        }
                    }
                }
            }
            let is_used = matches!(port.state(), Connected | Connecting | Stopped);
            prop_assert_eq!(port.users() > 0, is_used);
        }
    }
}
