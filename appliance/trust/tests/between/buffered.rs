//! TLS as bytes in and bytes out, with the bytes carried by the test.

use crate::site::{Known, NOW_S, authority, node};
use palisade_trust::buffered::SENDING_BYTES_MAX;
use palisade_trust::{BufferedError, BufferedTls, Credentials, LinkError, PeerVerdict, Purpose};
use palisade_words::Uuid;
use proptest::prelude::*;

/// Carries what one end has to send to the other, in pieces of at most so many bytes; whether there was something.
fn carry(from: &mut BufferedTls, to: &mut BufferedTls, piece: usize) -> Result<bool, BufferedError> {
    let pending = from.pending();
    let bytes = pending
        .get(..piece.min(pending.len()))
        .unwrap_or_default()
        .to_vec();
    let taken = to.take_records(&bytes);
    from.sent(*taken.as_ref().unwrap_or(&bytes.len()));
    taken.map(|taken| taken > 0)
}

fn ends(one: &Credentials, two: &Credentials, known: &Known) -> (BufferedTls, BufferedTls) {
    let connector = known.connector(one, NOW_S);
    let acceptor = known.acceptor(two, &[Purpose::Port, Purpose::Raft], NOW_S);
    (
        BufferedTls::connect(&connector, Uuid(2), Purpose::Port).unwrap(),
        BufferedTls::accept(&acceptor, Purpose::Port).unwrap(),
    )
}

/// Carries both ways until nothing moves.
fn settle(near: &mut BufferedTls, far: &mut BufferedTls, piece: usize) -> Result<(), BufferedError> {
    while carry(near, far, piece)? | carry(far, near, piece)? {}
    Ok(())
}

fn read_all(end: &mut BufferedTls) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), [0; 1000]);
    loop {
        match end.read_plain(&mut part) {
            0 => return all,
            read => all.extend_from_slice(&part[..read]),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However the socket cuts the bytes, all of them come, in order, both ways.
    #[test]
    fn what_goes_in_at_one_end_comes_out_at_the_other(
        piece in 1_usize..5_000,
        sizes in proptest::collection::vec(1_usize..40_000, 1..6),
    ) {
        let authority = authority();
        let (one, two) = (node(&authority, 1), node(&authority, 2));
        let known = Known::default();
        let (mut near, mut far) = ends(&one, &two, &known);
        // Nothing of ours goes out before both ends know each other.
        prop_assert_eq!(near.write_plain(b"too early"), 0);
        settle(&mut near, &mut far, piece).unwrap();
        prop_assert!(near.is_ready() && far.is_ready());
        prop_assert_eq!(near.peer().unwrap(), two.identity());
        prop_assert_eq!(far.peer().unwrap(), one.identity());
        for (seed, size) in sizes.into_iter().enumerate() {
            let content: Vec<u8> = (0..size).map(|at| ((at * (seed + 3)) >> 2) as u8).collect();
            for _ in 0..2 {
                let (mut given, mut heard) = (0, Vec::new());
                while heard.len() < size {
                    given += near.write_plain(&content[given..]);
                    carry(&mut near, &mut far, piece).unwrap();
                    heard.extend(read_all(&mut far));
                }
                prop_assert!(heard == content);
                std::mem::swap(&mut near, &mut far);
            }
        }
        near.close();
        settle(&mut near, &mut far, piece).unwrap();
        prop_assert!(far.is_closed() && far.take_end().is_ok());
        prop_assert!(!near.is_closed());
        prop_assert!(matches!(near.take_end(), Err(BufferedError::CutOff)));
    }
}

/// Who writes and is not read is told so, and holds a bounded number of bytes.
#[test]
fn what_is_held_is_bounded_both_ways() {
    let authority = authority();
    let known = Known::default();
    let (mut near, mut far) = ends(&node(&authority, 1), &node(&authority, 2), &known);
    settle(&mut near, &mut far, 1 << 20).unwrap();
    let much = vec![7; 16 << 20];
    let mut given = 0;
    loop {
        match near.write_plain(&much[given..]) {
            0 => break,
            taken => given += taken,
        }
    }
    assert!(
        (SENDING_BYTES_MAX..4 * SENDING_BYTES_MAX).contains(&given),
        "{given}"
    );
    assert!(near.pending().len() < 4 * SENDING_BYTES_MAX);
    // Nobody reads at the other end.
    let mut carried = 0;
    while carry(&mut near, &mut far, 1 << 20).unwrap() {
        given += near.write_plain(&much[given..]);
        carried += 1;
        assert!(carried < 100, "what the other end takes has no bound");
    }
    assert!(given < 1 << 20, "{given}");
    let mut heard = 0;
    loop {
        heard += read_all(&mut far).len();
        if !carry(&mut near, &mut far, 1 << 20).unwrap() {
            break;
        }
    }
    heard += read_all(&mut far).len();
    assert_eq!(heard, given);
}

#[test]
fn who_is_refused_hears_so_and_a_changed_byte_ends_the_link() {
    let authority = authority();
    let (one, two, three) = (node(&authority, 1), node(&authority, 2), node(&authority, 3));
    let known = Known::default();
    let (mut near, mut far) = ends(&one, &three, &known);
    let refused = settle(&mut near, &mut far, 700).unwrap_err();
    let wrong = PeerVerdict::WrongNode {
        expected: Uuid(2),
        found: Uuid(3),
    };
    assert!(matches!(refused, BufferedError::Link(LinkError::Peer(verdict)) if verdict == wrong));
    let told = carry(&mut near, &mut far, 1 << 16).unwrap_err();
    assert!(
        matches!(told, BufferedError::Link(LinkError::RefusedByPeer { .. })),
        "{told}"
    );
    let (mut near, mut far) = ends(&one, &two, &known);
    settle(&mut near, &mut far, 1 << 16).unwrap();
    near.write_plain(b"exactly this");
    let mut bytes = near.pending().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let error = far.take_records(&bytes).unwrap_err();
    assert!(
        matches!(error, BufferedError::Link(LinkError::Tls { .. })),
        "{error}"
    );
    assert_eq!(read_all(&mut far), b"");
}
