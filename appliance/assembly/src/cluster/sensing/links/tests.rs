use super::*;
use crate::cluster::sensing::Counters;
use palisade_block::Nanos;
use palisade_membership::{SensedMembers, Sensor, SensorIdentity, VoterSets};
use palisade_model::Node;
use palisade_words::{Epoch, Generation, Incarnation, Name};
use tokio::io::{DuplexStream, duplex};

const PEER: Uuid = Uuid(7);

fn heartbeat(node: Uuid, link: u8) -> Heartbeat {
    let me = SensorIdentity {
        node,
        incarnation: Incarnation(1),
        boot: Uuid(9),
        nonce: 1,
    };
    let members = SensedMembers {
        epoch: Epoch(1),
        weights: [(node, 1)].into(),
        voters: VoterSets::uniform(Default::default(), [node].into()),
    };
    let mut sensor = Sensor::new(me, LeaseTimes::default(), members, Nanos(0));
    assert!(sensor.beats(Nanos(0)));
    sensor.heartbeat(Uuid(1), LinkIndex(link), Nanos(0))
}

/// One end of a link, whose other end is what comes back; with how often something was no heartbeat.
struct Room {
    other: DuplexStream,
    events: Receiver<Event>,
    sensing: Arc<Sensing>,
}

fn room(link: Option<u8>) -> Room {
    let (own, other) = duplex(4096);
    let (sender, events) = channel(16);
    let sensing = Sensing::new();
    let exchange = Exchange {
        events: sender,
        sensing: Arc::clone(&sensing),
        times: LeaseTimes::default(),
    };
    tokio::spawn(async move { exchange.run(own, PEER, link.map(LinkIndex), 3).await });
    Room {
        other,
        events,
        sensing,
    }
}

impl Room {
    async fn says(&mut self, bytes: &[u8]) {
        self.other.write_all(bytes).await.unwrap();
    }

    async fn event(&mut self) -> Event {
        timeout(Duration::from_secs(5), self.events.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// The link is open, and stays so as long as somebody has what comes back.
    async fn opened(&mut self) -> Sender<Vec<u8>> {
        match self.event().await {
            Event::Opened(PEER, opening) => opening.frames,
            other => panic!("{other:?}"),
        }
    }

    fn nonsense(&self) -> u64 {
        let Counters { nonsense, .. } = &self.sensing.counters;
        nonsense.load(Ordering::Relaxed)
    }
}

/// Who was called hears with the first heartbeat which link it is, and sends over it from then on.
#[tokio::test]
async fn who_is_called_learns_which_link_it_is() {
    let mut room = room(None);
    let said = heartbeat(PEER, 2);
    // In pieces, as a network may bring it.
    let bytes = said.encode();
    room.says(&bytes[..50]).await;
    room.says(&bytes[50..]).await;
    let Event::Heard(arrived) = room.event().await else {
        panic!("the first heartbeat opens the way back")
    };
    assert_eq!(arrived.heartbeat, said);
    let opening = arrived.opens.unwrap();
    assert_eq!((opening.link, opening.connection), (LinkIndex(2), 3));
    let frames = opening.frames;
    room.says(&heartbeat(PEER, 2).encode()).await;
    let Event::Heard(second) = room.event().await else {
        panic!("it goes on")
    };
    assert!(second.opens.is_none());
    frames.send(b"tick".to_vec()).await.unwrap();
    let mut seen = [0; 4];
    room.other.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"tick");
    // The other end goes.
    drop(room.other);
    let ended = timeout(Duration::from_secs(5), room.events.recv()).await.unwrap();
    assert!(matches!(
        ended,
        Some(Event::Ended {
            peer: PEER,
            link: LinkIndex(2),
            connection: 3
        })
    ));
}

/// The thread runs before others: strangers must not keep it busy.
#[test]
fn so_many_callers_are_looked_at_in_a_second() {
    let (mut callers, now) = (Callers::default(), Instant::now());
    let may = |callers: &mut Callers, now| {
        (0..3 * CALLERS_PER_SECOND)
            .filter(|_| callers.may_come(now))
            .count()
    };
    assert_eq!(may(&mut callers, now), CALLERS_PER_SECOND as usize);
    assert_eq!(may(&mut callers, now + Duration::from_millis(999)), 0);
    assert_eq!(
        may(&mut callers, now + Duration::from_secs(1)),
        CALLERS_PER_SECOND as usize
    );
}

/// A link that is used anew has another connection: the one of before ends.
#[tokio::test]
async fn a_connection_ends_when_another_takes_its_place() {
    let mut room = room(Some(0));
    drop(room.opened().await);
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), room.other.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn what_is_no_heartbeat_of_that_node_ends_its_connection_and_is_counted() {
    let mut too_many = heartbeat(PEER, 0).encode();
    too_many[1] = 65;
    let mut turned = heartbeat(PEER, 0).encode();
    turned[40] ^= 1;
    for bytes in [
        too_many,
        turned,
        heartbeat(Uuid(8), 0).encode(),
        heartbeat(PEER, 1).encode(),
        heartbeat(PEER, 200).encode(),
        vec![0xff; 4000],
    ] {
        let mut room = room(Some(0));
        let _frames = room.opened().await;
        room.says(&bytes).await;
        let mut rest = Vec::new();
        timeout(Duration::from_secs(5), room.other.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(room.nonsense(), 1);
        assert!(room.events.recv().await.is_none(), "nothing of it counts");
    }
}

/// What a cut network holds back would come long after the first word behind it.
#[tokio::test]
async fn a_connection_over_which_nothing_comes_is_given_up() {
    let mut room = room(Some(0));
    let _frames = room.opened().await;
    let begun = tokio::time::Instant::now();
    let mut rest = Vec::new();
    room.other.read_to_end(&mut rest).await.unwrap();
    assert!(begun.elapsed() >= LeaseTimes::default().detection.duration());
    assert_eq!(room.nonsense(), 0);
}

#[test]
fn links_are_numbered_by_the_addresses_of_the_higher_id() {
    let mut cluster = Cluster::empty();
    for (name, uuid, addresses) in [("a", 1, 1u16), ("b", 2, 3), ("c", 3, 40)] {
        let addresses = (1..=addresses).map(|port| ([192, 0, 2, uuid], port).into());
        let node = Node {
            addresses: addresses.collect(),
            ..Node::of(Uuid(uuid.into()), Generation(1))
        };
        cluster.nodes.insert(Name::new(name).unwrap(), node);
    }
    let count = |one, other| between(&cluster, Uuid(one), Uuid(other));
    assert_eq!((count(1, 2), count(2, 1)), (3, 3));
    assert_eq!(usize::from(count(2, 3)), ADDRESSES_PER_NODE_MAX);
    assert_eq!(count(1, 9), 0, "one that has left");
}
