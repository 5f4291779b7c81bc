//! Real sockets of this machine. Where the kernel has no TLS, the socket comes back untouched and user space goes on with it,
//! and the handshake is tested up to the switch; with `PALISADE_KERNEL_TLS` set that is a failure (`ci/guest/ktls`).

use super::*;
use crate::authority::Authority;
use crate::buffered::BufferedTls;
use crate::counters::RefusalCounters;
use crate::credentials::Credentials;
use crate::node_key::NodeKey;
use crate::roster::Roster;
use palisade_sys::ktls::KernelRecord;
use std::net::TcpListener;
use std::thread;

const DEADLINE: Duration = Duration::from_secs(20);

struct Site {
    one: Connector,
    two: Acceptor,
    counters: Arc<RefusalCounters>,
}

/// Nodes 1 and `called`, of a cluster.
fn site(called: u128) -> Site {
    let now_s = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let authority = Authority::create(Uuid(0xc1), now_s).unwrap();
    let node = |id| {
        let key = NodeKey::generate().unwrap();
        let signed = authority.sign(&key.request().unwrap(), Uuid(id), now_s).unwrap();
        Credentials::new(Arc::new(key), signed, authority.certificate().clone()).unwrap()
    };
    let counters = Arc::<RefusalCounters>::default();
    let roster = Arc::<Roster>::default();
    Site {
        one: Connector::new(node(1), Arc::clone(&roster), Arc::clone(&counters)),
        two: Acceptor::new(node(called), &Purpose::ALL, roster, Arc::clone(&counters)),
        counters,
    }
}

fn connected() -> (TcpStream, TcpStream) {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(door.local_addr().unwrap()).unwrap();
    (near, door.accept().unwrap().0)
}

type Shaken = Result<(ExtractedSecrets, PeerIdentity), LinkError>;

/// The handshake alone, at both ends.
fn shaken(site: &Site, near: &TcpStream, far: &TcpStream) -> (Shaken, Shaken) {
    thread::scope(|scope| {
        let accepts =
            scope.spawn(|| shake_hands(far, HandshakeSide::Accept(&site.two), Purpose::Port, DEADLINE));
        let side = HandshakeSide::Connect(&site.one, Uuid(2));
        (
            shake_hands(near, side, Purpose::Port, DEADLINE),
            accepts.join().unwrap(),
        )
    })
}

fn parts(secrets: &(u64, ConnectionTrafficSecrets)) -> (u64, Vec<u8>, Vec<u8>) {
    match &secrets.1 {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            (secrets.0, key.as_ref().to_vec(), iv.as_ref().to_vec())
        }
        _ => panic!("a cipher that nobody has"),
    }
}

#[test]
fn both_ends_have_the_same_secrets_and_nothing_behind_the_handshake_has_been_read() {
    let site = site(2);
    let (near, far) = connected();
    let (mut near_end, mut far_end) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let (one, two) = shaken(&site, &near, &far);
    let ((one, peer_of_one), (two, peer_of_two)) = (one.unwrap(), two.unwrap());
    assert_eq!((peer_of_one.node, peer_of_two.node), (Uuid(2), Uuid(1)));
    assert_eq!(parts(&one.tx), parts(&two.rx));
    assert_eq!(parts(&two.tx), parts(&one.rx));
    assert_ne!(parts(&one.tx), parts(&one.rx));
    assert_eq!(
        (one.tx.0, one.rx.0),
        (0, 0),
        "the first record of data is the first of all"
    );
    // What is sent from here on is there whole, from its first byte.
    near_end.write_all(b"\x17first").unwrap();
    far_end.write_all(b"\x17other").unwrap();
    let (mut here, mut there) = ([0; 6], [0; 6]);
    near_end.read_exact(&mut here).unwrap();
    far_end.read_exact(&mut there).unwrap();
    assert_eq!((&here, &there), (b"\x17other", b"\x17first"));
}

/// The other end may send data in the same packet as the end of its handshake, as one does that encrypts in user space: not a
/// byte of it is taken.
#[test]
fn data_that_comes_with_the_end_of_the_handshake_stays_in_the_socket() {
    let site = site(2);
    let (near, mut far) = connected();
    let client = thread::scope(|scope| {
        let accepts =
            scope.spawn(|| shake_hands(&far, HandshakeSide::Accept(&site.two), Purpose::Port, DEADLINE));
        let mut tls = BufferedTls::connect(&site.one, Uuid(2), Purpose::Port).unwrap();
        let mut socket = &near;
        let mut bytes = vec![0; 1 << 16];
        while !tls.is_ready() {
            let pending = tls.pending().to_vec();
            socket.write_all(&pending).unwrap();
            tls.sent(pending.len());
            let read = socket.read(&mut bytes).unwrap();
            assert_eq!(tls.take_records(&bytes[..read]).unwrap(), read);
        }
        // Its last word of the handshake, and data right behind it.
        assert_eq!(tls.write_plain(b"greeting"), 8);
        let pending = tls.pending().to_vec();
        socket.write_all(&pending).unwrap();
        accepts.join().unwrap().unwrap();
        pending
    });
    // One record of data is the last that was sent: 8 bytes, the type of the content, and 16 to prove it.
    let record = RECORD_HEADER_BYTES + 8 + 1 + 16;
    let mut left = vec![0; record];
    far.read_exact(&mut left).unwrap();
    assert_eq!(left, client[client.len() - record..]);
    far.set_nonblocking(true).unwrap();
    assert_eq!(far.read(&mut left).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn who_is_refused_hears_why_and_it_is_counted() {
    let site = site(3);
    let (near, far) = connected();
    let (one, two) = shaken(&site, &near, &far);
    let wrong = PeerVerdict::WrongNode {
        expected: Uuid(2),
        found: Uuid(3),
    };
    assert!(matches!(one, Err(LinkError::Peer(verdict)) if verdict == wrong));
    assert!(matches!(two, Err(LinkError::RefusedByPeer { .. })));
    let counted: Vec<_> = site.counters.counted().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("peer_wrong_node", 1), ("refused_by_peer", 1)]);
}

#[test]
fn a_peer_that_is_silent_or_speaks_no_tls_is_given_up() {
    let site = site(2);
    let side = HandshakeSide::Accept(&site.two);
    let (_near, far) = connected();
    let short = Duration::from_millis(60);
    let silent = shake_hands(&far, side, Purpose::Port, short);
    assert!(matches!(silent, Err(LinkError::TimedOut { .. })));
    let (mut near, far) = connected();
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let other = shake_hands(&far, side, Purpose::Port, DEADLINE);
    assert!(matches!(other, Err(LinkError::Io { .. })));
    let (near, far) = connected();
    drop(near);
    let gone = shake_hands(&far, side, Purpose::Port, DEADLINE);
    assert!(matches!(gone, Err(LinkError::Io { .. })));
}

/// A link whose ends the kernel encrypts, or none where it cannot.
fn linked(site: &Site) -> Option<(KernelLink, KernelLink)> {
    let (near, far) = connected();
    let (one, two) = thread::scope(|scope| {
        let accepts =
            scope.spawn(|| handshake(far, HandshakeSide::Accept(&site.two), Purpose::Port, DEADLINE));
        let side = HandshakeSide::Connect(&site.one, Uuid(2));
        (
            handshake(near, side, Purpose::Port, DEADLINE),
            accepts.join().unwrap(),
        )
    });
    match (one.unwrap(), two.unwrap()) {
        (KernelHandshake::Done(one), KernelHandshake::Done(two)) => Some((one, two)),
        (KernelHandshake::Absent(mut near), KernelHandshake::Absent(mut far)) => {
            eprintln!("this kernel has no TLS: the socket comes back as it was, and that is what is tested");
            assert!(
                std::env::var_os("PALISADE_KERNEL_TLS").is_none(),
                "it was to have it"
            );
            near.write_all(b"as it was").unwrap();
            let mut read = [0; 9];
            far.read_exact(&mut read).unwrap();
            assert_eq!(&read, b"as it was");
            None
        }
        other => panic!("one end alone: {other:?}"),
    }
}

#[test]
fn the_kernel_encrypts_both_ways_from_the_first_byte_to_close_notify() {
    let site = site(2);
    let Some((one, two)) = linked(&site) else { return };
    assert_eq!((one.peer.node, two.peer.node), (Uuid(2), Uuid(1)));
    assert_eq!((one.purpose, two.purpose), (Purpose::Port, Purpose::Port));
    const BYTES: usize = 4 << 20;
    let content = |seed: usize| {
        (0..BYTES)
            .map(move |at| (at.wrapping_mul(seed) >> 9) as u8)
            .collect::<Vec<u8>>()
    };
    let read = |mut socket: &TcpStream, seed| {
        let mut all = vec![0; BYTES];
        socket.read_exact(&mut all).unwrap();
        assert!(all == content(seed));
    };
    thread::scope(|scope| {
        scope.spawn(|| (&one.socket).write_all(&content(31)).unwrap());
        scope.spawn(|| (&two.socket).write_all(&content(97)).unwrap());
        scope.spawn(|| read(&two.socket, 31));
        read(&one.socket, 97);
    });
    ktls::close(&one.socket).unwrap();
    assert_eq!(
        ktls::receive(&two.socket, &mut [0; 8]).unwrap(),
        KernelRecord::Closed
    );
}

/// One end in the kernel, the other in user space: on the wire there is no difference. The one in user space updates its key.
#[test]
fn a_key_update_ends_a_link_that_the_kernel_encrypts() {
    let site = site(2);
    if linked(&site).is_none() {
        return;
    }
    let (mut near, far) = connected();
    let mut config = site.one.config(Some(Uuid(2)), None, Purpose::Port).unwrap();
    config.enable_secret_extraction = false;
    let mut tls = rustls::ClientConnection::new(Arc::new(config), no_name()).unwrap();
    let far = thread::scope(|scope| {
        let accepts =
            scope.spawn(|| handshake(far, HandshakeSide::Accept(&site.two), Purpose::Port, DEADLINE));
        while tls.is_handshaking() {
            tls.complete_io(&mut near).unwrap();
        }
        // Data right behind the handshake.
        tls.writer().write_all(b"before").unwrap();
        tls.complete_io(&mut near).unwrap();
        match accepts.join().unwrap().unwrap() {
            KernelHandshake::Done(link) => link.socket,
            other => panic!("{other:?}"),
        }
    });
    let mut heard = [0; 6];
    (&far).read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"before");
    (&far).write_all(b"answer").unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut near);
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"answer");
    tls.refresh_traffic_keys().unwrap();
    tls.writer().write_all(b"behind").unwrap();
    while tls.wants_write() {
        tls.write_tls(&mut near).unwrap();
    }
    assert_eq!(
        (&far).read(&mut heard).unwrap_err().raw_os_error(),
        Some(5),
        "EIO"
    );
    let record = ktls::receive(&far, &mut heard).unwrap();
    assert_eq!(record, KernelRecord::KeyUpdate);
    assert!(record.ending().unwrap().contains("opened anew"));
}
