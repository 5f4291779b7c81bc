//! A machine that was served one volume is never served another one in its place, though the same name or socket leads there
//! now: its kernel would write what it believes to be on its disk. It is known by the in-flight region that its front-end
//! keeps for as long as the machine runs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_frontend::AttachmentSpec;
use palisade_frontend::codec::request;
use palisade_words::AttachmentIndex;
use stand::client::{Client, longs, words};
use stand::{Entrance, spec, until};

/// Two queues of 128 entries.
fn shape() -> Vec<u8> {
    let mut shape = longs(&[0, 0]);
    shape.extend(words(&[2 | 128 << 16, 0]));
    shape
}

#[test]
fn a_machine_is_served_its_own_volume_or_none() {
    let entrance = Entrance::new(7);
    let handle = entrance.door.handle();
    let machine = Client::connect(&entrance.path);
    machine.negotiate();
    let mut inflight = machine.ask(request::GET_INFLIGHT_FD, &shape());
    let file = inflight.fds.pop().unwrap();
    machine.tell(request::SET_INFLIGHT_FD, &inflight.payload, &[&file]);
    // The answer to the next message: the one before has been taken.
    machine.ask(request::GET_QUEUE_NUM, &[]);
    drop(machine);
    handle.detach(AttachmentIndex(7));
    until("the end of the attachment", || {
        handle.report(AttachmentIndex(7)).is_none()
    });

    // The same socket, another volume; then the first one again, under another number.
    for (index, volume, is_served) in [(8, 8, false), (9, 7, true)] {
        let offered = AttachmentSpec {
            volume,
            ..spec(index, &entrance.path)
        };
        handle.attach(offered).unwrap();
        let again = Client::connect(&entrance.path);
        again.negotiate();
        again.tell(request::SET_INFLIGHT_FD, &inflight.payload, &[&file]);
        let index = AttachmentIndex(index);
        match is_served {
            true => assert_eq!(again.ask(request::GET_QUEUE_NUM, &[]).number(), 2),
            false => {
                again.wait_for_end();
                until("the report", || {
                    let report = handle.report(index).unwrap();
                    report
                        .last_disconnect
                        .is_some_and(|reason| reason.contains("served another volume until now"))
                });
                // Who is started anew brings nothing along.
                let new = Client::connect(&entrance.path);
                new.negotiate();
                let mut own = new.ask(request::GET_INFLIGHT_FD, &shape());
                let own_file = own.fds.pop().unwrap();
                new.tell(request::SET_INFLIGHT_FD, &own.payload, &[&own_file]);
                assert_eq!(new.ask(request::GET_QUEUE_NUM, &[]).number(), 2);
            }
        }
        handle.detach(index);
        until("the end of the attachment", || handle.report(index).is_none());
    }
}
