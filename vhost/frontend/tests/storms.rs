//! A front-end that does nothing but talk, or connect: it is slowed down and told, and takes nothing from its neighbour.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_frontend::codec::request;
use palisade_frontend::{DoorSettings, Rates, SessionReport};
use palisade_sys::EventFd;
use palisade_words::AttachmentIndex;
use stand::client::{Client, dup, longs};
use stand::{Entrance, spec, until};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// So few that a busy machine sends more than what may be saved up of them, too.
const RATES: Rates = Rates {
    messages_per_s: 50,
    connects_per_s: 5,
};

const STORM: u16 = 1;
const NEIGHBOUR: u16 = 2;

fn entrance() -> Entrance {
    let entrance = Entrance::with(
        STORM,
        DoorSettings {
            rates: RATES,
            ..DoorSettings::default()
        },
    );
    let handle = entrance.door.handle();
    let path = entrance.folder.path().join("neighbour.sock");
    handle.attach(spec(NEIGHBOUR, &path)).unwrap();
    entrance
}

fn report(entrance: &Entrance, index: u16) -> SessionReport {
    entrance.door.handle().report(AttachmentIndex(index)).unwrap()
}

/// The longest time that a new front-end of the neighbour's has waited for its features while the storm went on.
fn neighbour_waits(entrance: &Entrance, lasts: Duration) -> Duration {
    let path = entrance.folder.path().join("neighbour.sock");
    let (begin, mut longest) = (Instant::now(), Duration::ZERO);
    while begin.elapsed() < lasts {
        let asked = Instant::now();
        let client = Client::connect(&path);
        client.ask(request::GET_FEATURES, &[]);
        longest = longest.max(asked.elapsed());
        drop(client);
        std::thread::sleep(Duration::from_millis(250));
    }
    longest
}

/// Runs `storm` again and again beside `neighbour_waits`; how often, and how long the neighbour waited.
fn beside(entrance: &Entrance, lasts: Duration, storm: impl Fn() + Send + Sync) -> (u64, Duration) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let storming = scope.spawn(|| {
            let mut times = 0;
            while !over.load(Relaxed) {
                storm();
                times += 1;
            }
            times
        });
        let longest = neighbour_waits(entrance, lasts);
        over.store(true, Relaxed);
        (storming.join().unwrap(), longest)
    })
}

const LASTS: Duration = Duration::from_secs(5);

#[test]
fn a_storm_of_messages_is_slowed_down_to_its_rate() {
    let entrance = entrance();
    let client = Client::connect(&entrance.path);
    client.negotiate();
    let call = dup(&EventFd::new().unwrap());
    let begin = Instant::now();
    let (times, longest) = beside(&entrance, LASTS, || {
        let answer = client.order(request::SET_VRING_CALL, &longs(&[0]), &[&call]);
        assert_eq!(answer, 0);
    });
    let most = u64::from(RATES.messages_per_s) * (10 + begin.elapsed().as_secs() + 1);
    assert!(times <= most, "{times} messages, {most} at most");
    let storm = report(&entrance, STORM);
    assert!(storm.messages.held > 0 && storm.messages.held_last.is_some());
    assert!(
        longest < Duration::from_secs(2),
        "the neighbour waited {longest:?}"
    );
    assert_eq!(report(&entrance, NEIGHBOUR).messages.held, 0);
}

/// The default lets a thousand through at once, and so many a second after them: nobody beside it is to notice.
#[test]
fn a_storm_at_the_default_rate_keeps_no_neighbour_waiting() {
    let entrance = Entrance::with(STORM, DoorSettings::default());
    let path = entrance.folder.path().join("neighbour.sock");
    entrance.door.handle().attach(spec(NEIGHBOUR, &path)).unwrap();
    let alone = neighbour_waits(&entrance, Duration::from_secs(1));
    let (times, longest) = beside(&entrance, LASTS, || {
        if let Ok(stream) = UnixStream::connect(&entrance.path) {
            Client::over(stream).ask(request::GET_FEATURES, &[]);
        }
    });
    eprintln!("{times} connections; the neighbour waited {longest:?}, and {alone:?} without them");
    assert!(times > u64::from(Rates::DEFAULT.connects_per_s), "{times}");
    assert!(
        longest < Duration::from_secs(2),
        "the neighbour waited {longest:?}"
    );
    assert_eq!(report(&entrance, NEIGHBOUR).connects.held, 0);
}

/// As one does that is tried out, or whose guest is restarted by a script: each time it comes, asks and goes.
#[test]
fn an_honest_front_end_that_comes_again_and_again_is_never_held() {
    let entrance = Entrance::with(STORM, DoorSettings::default());
    for time in 1..=800 {
        let client = Client::connect(&entrance.path);
        client.negotiate();
        drop(client);
        let report = report(&entrance, STORM);
        assert_eq!(
            (report.connects.held, report.messages.held),
            (0, 0),
            "time {time}"
        );
    }
    // What is reported follows what is done by a turn of the door.
    until("all 800 to be counted", || {
        report(&entrance, STORM).connections == 800
    });
    let all = report(&entrance, STORM);
    assert_eq!((all.connects.held, all.messages.held), (0, 0));
}

#[test]
fn a_storm_of_connects_is_slowed_down_to_its_rate() {
    let entrance = entrance();
    let (times, longest) = beside(&entrance, 2 * LASTS, || {
        // One that is let in is told its features; one that waits does so in the backlog, which is short.
        let Ok(stream) = UnixStream::connect(&entrance.path) else {
            return;
        };
        let client = Client::over(stream);
        client.ask(request::GET_FEATURES, &[]);
    });
    assert!(times > 0);
    let storm = report(&entrance, STORM);
    let most = u64::from(RATES.connects_per_s) * (10 + 2 * LASTS.as_secs() + 2);
    assert!(storm.connections <= most, "{}, {most} at most", storm.connections);
    assert!(storm.connects.held > 0, "{:?}", storm.connects);
    assert!(
        longest < Duration::from_secs(2),
        "the neighbour waited {longest:?}"
    );
    assert_eq!(report(&entrance, NEIGHBOUR).connects.held, 0);
}
