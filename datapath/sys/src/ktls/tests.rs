//! Two sockets of this machine that encrypt with keys that the test makes up. Where the kernel has no TLS, that is what the
//! tests find, and that the socket goes on as before: `ci/guest/ktls` runs them under kernels that have it.

use super::*;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

fn connected() -> (TcpStream, TcpStream) {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(door.local_addr().unwrap()).unwrap();
    let far = door.accept().unwrap().0;
    for socket in [&near, &far] {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    (near, far)
}

/// Two ends that encrypt; none where the kernel cannot.
fn encrypted(cipher: KernelCipher) -> Option<(TcpStream, TcpStream)> {
    let (near, far) = connected();
    if let Err(KernelTlsError::Absent) = attach(&near) {
        eprintln!("this kernel has no TLS: what it would do is not tested here");
        assert!(
            std::env::var_os("PALISADE_KERNEL_TLS").is_none(),
            "it was to have it"
        );
        goes_on_as_before(near, far);
        return None;
    }
    attach(&far).unwrap();
    let key = match cipher {
        KernelCipher::Aes128Gcm => &[7; 16][..],
        _ => &[7; 32][..],
    };
    let keys = |iv| RecordKeys {
        cipher,
        key,
        iv,
        sequence: 0,
    };
    let (to_far, to_near) = (keys(&[1; 12]), keys(&[2; 12]));
    switch_on(&near, KeyDirection::Send, &to_far).unwrap();
    switch_on(&far, KeyDirection::Receive, &to_far).unwrap();
    switch_on(&far, KeyDirection::Send, &to_near).unwrap();
    switch_on(&near, KeyDirection::Receive, &to_near).unwrap();
    Some((near, far))
}

fn goes_on_as_before(mut near: TcpStream, mut far: TcpStream) {
    near.write_all(b"plain").unwrap();
    let mut read = [0; 5];
    far.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"plain");
}

const CIPHERS: [KernelCipher; 3] = [
    KernelCipher::Aes128Gcm,
    KernelCipher::Aes256Gcm,
    KernelCipher::Chacha20Poly1305,
];

#[test]
fn what_is_written_is_read_at_the_other_end_both_ways() {
    match std::env::var_os("PALISADE_KERNEL_TLS") {
        Some(_) => assert_eq!(available().unwrap(), CIPHERS),
        None => assert!(available().is_ok()),
    }
    for cipher in CIPHERS {
        let Some((near, far)) = encrypted(cipher) else {
            return;
        };
        const BYTES: usize = 2 << 20;
        let content = |seed: usize| {
            (0..BYTES)
                .map(move |at| (at.wrapping_mul(seed) >> 7) as u8)
                .collect::<Vec<u8>>()
        };
        let write = |mut socket: &TcpStream, seed| socket.write_all(&content(seed)).unwrap();
        let read = |mut socket: &TcpStream, seed| {
            let mut all = vec![0; BYTES];
            socket.read_exact(&mut all).unwrap();
            assert!(all == content(seed), "{cipher:?}");
        };
        thread::scope(|scope| {
            scope.spawn(|| write(&near, 31));
            scope.spawn(|| write(&far, 97));
            scope.spawn(|| read(&far, 31));
            read(&near, 97);
        });
        let mut more = [0; 8];
        (&near).write_all(b"last").unwrap();
        assert_eq!(receive(&far, &mut more).unwrap(), KernelRecord::Data(4));
        close(&near).unwrap();
        assert_eq!(receive(&far, &mut more).unwrap(), KernelRecord::Closed);
    }
}

/// What the reactor's ring sees of such a record is EIO; who asks then hears what it was.
#[test]
fn a_record_that_is_no_data_ends_the_link_and_says_what_it_is() {
    let cases: [(u8, &[u8], KernelRecord); 6] = [
        (ALERT, &[1, 0], KernelRecord::Closed),
        (ALERT, &[2, 48], KernelRecord::Alert(48)),
        (HANDSHAKE, &[24, 0, 0, 1, 0], KernelRecord::KeyUpdate),
        (HANDSHAKE, &[24, 0, 0, 1, 1], KernelRecord::KeyUpdate),
        (HANDSHAKE, &[4, 0, 0, 0], KernelRecord::Handshake(4)),
        (ALERT, &[2], KernelRecord::Other(ALERT)),
    ];
    for (kind, content, expected) in cases {
        let Some((near, far)) = encrypted(KernelCipher::Aes128Gcm) else {
            return;
        };
        (&near).write_all(b"before").unwrap();
        send_record(&near, kind, content).unwrap();
        let mut all = [0; 16];
        let read = (&far).read(&mut all).unwrap();
        assert_eq!(&all[..read], b"before");
        let error = (&far).read(&mut all).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
        let record = receive(&far, &mut all).unwrap();
        assert_eq!(record, expected);
        assert!(record.ending().unwrap().contains("the other node"));
    }
    let Some((near, far)) = encrypted(KernelCipher::Aes128Gcm) else {
        return;
    };
    drop(near);
    assert_eq!(receive(&far, &mut [0; 16]).unwrap(), KernelRecord::CutOff);
}

/// Between the end of the handshake and the switch the peer's first records may have come: they are in the socket still.
#[test]
fn what_came_before_the_switch_is_decrypted_by_it() {
    let (near, far) = connected();
    if let Err(KernelTlsError::Absent) = attach(&near) {
        return goes_on_as_before(near, far);
    }
    attach(&far).unwrap();
    let keys = RecordKeys {
        cipher: KernelCipher::Aes256Gcm,
        key: &[9; 32],
        iv: &[3; 12],
        sequence: 5,
    };
    switch_on(&near, KeyDirection::Send, &keys).unwrap();
    (&near).write_all(b"early").unwrap();
    thread::sleep(Duration::from_millis(50));
    switch_on(&far, KeyDirection::Receive, &keys).unwrap();
    let mut read = [0; 5];
    (&far).read_exact(&mut read).unwrap();
    assert_eq!(&read, b"early");
}

/// Another key, or another number of the next record: nothing of it is taken for data.
#[test]
fn what_was_not_encrypted_with_the_key_is_refused() {
    for (key, sequence) in [([8; 16], 0), ([7; 16], 1)] {
        let Some((near, far)) = encrypted(KernelCipher::Aes128Gcm) else {
            return;
        };
        drop(near);
        drop(far);
        let (near, far) = connected();
        attach(&near).unwrap();
        attach(&far).unwrap();
        let keys = |key, sequence| RecordKeys {
            cipher: KernelCipher::Aes128Gcm,
            key,
            iv: &[1; 12],
            sequence,
        };
        switch_on(&near, KeyDirection::Send, &keys(&[7; 16], 0)).unwrap();
        switch_on(&far, KeyDirection::Receive, &keys(&key, sequence)).unwrap();
        (&near).write_all(b"secret").unwrap();
        let error = receive(&far, &mut [0; 16]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADMSG), "{error}");
    }
}

/// `struct tls12_crypto_info_aes_gcm_128` and the others, as the kernel's header has them.
#[test]
fn keys_are_laid_out_as_the_kernel_wants_them() {
    let iv = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    let info = |cipher, key: &[u8]| {
        let keys = RecordKeys {
            cipher,
            key,
            iv: &iv,
            sequence: 0x0102,
        };
        keys.info()
    };
    let number = |cipher: u16| [0x0304_u16.to_ne_bytes(), cipher.to_ne_bytes()].concat();
    let sequence = [0, 0, 0, 0, 0, 0, 1, 2];
    let parts: [&[u8]; 5] = [&number(51), &iv[4..], &[7; 16], &iv[..4], &sequence];
    assert_eq!(info(KernelCipher::Aes128Gcm, &[7; 16]), Some(parts.concat()));
    let parts: [&[u8]; 5] = [&number(52), &iv[4..], &[7; 32], &iv[..4], &sequence];
    assert_eq!(info(KernelCipher::Aes256Gcm, &[7; 32]), Some(parts.concat()));
    let parts: [&[u8]; 4] = [&number(54), &iv, &[7; 32], &sequence];
    assert_eq!(
        info(KernelCipher::Chacha20Poly1305, &[7; 32]),
        Some(parts.concat())
    );
    for (cipher, bytes) in [(KernelCipher::Aes128Gcm, 32), (KernelCipher::Aes256Gcm, 16)] {
        assert_eq!(info(cipher, &vec![7; bytes]), None);
    }
}
