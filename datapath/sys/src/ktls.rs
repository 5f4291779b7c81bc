//! TLS in the kernel (Documentation/networking/tls.rst): after the handshake, which somebody else has done, the socket encrypts
//! what is written to it and decrypts what is read.
//!
//! ```text
//!   attach                 TCP_ULP "tls": the socket goes on as before; whether the kernel has TLS at all is known now
//!   (the handshake, over the same socket; its last record is read to its end and not a byte further)
//!   switch_on Send         TLS_TX: what is written from now on is encrypted
//!   switch_on Receive      TLS_RX: what the socket has received and nobody has read yet is decrypted, too
//! ```
//!
//! So nothing is lost between the handshake and the switch, provided that the handshake reads record by record.
//!
//! A record that is no data, such as an alert, makes read(2) and a ring's receive fail with EIO and stays where it is;
//! [`receive`] says what it is. Keys are never updated: RFC 8446, 4.6.3 lets a peer ask for it at any time, and kernels before
//! 6.14 cannot; a link whose peer does so has ended. Such records are rare: AES-GCM allows 2^24.5 full records with one key
//! (RFC 8446, 5.5), and [`KEY_RECORDS_MAX`] of them are as many as a link may send before it is replaced by a new one.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

/// Records that one key may encrypt at most: 2^24.5 for AES-GCM (RFC 8446, 5.5), rounded down. With 16 KiB in each that is
/// 370 GiB; whoever owns the link opens a new one in time.
pub const KEY_RECORDS_MAX: u64 = 23_726_566;

/// Most bytes of plaintext in one record (RFC 8446, 5.1).
pub const RECORD_BYTES_MAX: usize = 1 << 14;

/// Longest record as it goes over the wire, without its header (RFC 8446, 5.2).
pub const RECORD_WIRE_BYTES_MAX: usize = RECORD_BYTES_MAX + 256;

/// How records are encrypted. Of each the key's length and the kernel's number (`uapi/linux/tls.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelCipher {
    /// AES-128-GCM, with a key of 16 bytes.
    Aes128Gcm,
    /// AES-256-GCM, with a key of 32 bytes.
    Aes256Gcm,
    /// ChaCha20-Poly1305, with a key of 32 bytes; from Linux 5.11 on.
    Chacha20Poly1305,
}

/// Which way a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyDirection {
    /// For what we send.
    Send,
    /// For what we receive.
    Receive,
}

/// The secrets of one direction (RFC 8446, 7.3).
#[derive(Clone, Copy)]
pub struct RecordKeys<'a> {
    /// The cipher.
    pub cipher: KernelCipher,
    /// The key, as long as the cipher wants it.
    pub key: &'a [u8],
    /// The static part of the nonce.
    pub iv: &'a [u8; 12],
    /// The number of the next record.
    pub sequence: u64,
}

/// Why the kernel does not encrypt.
#[derive(Debug, thiserror::Error)]
pub enum KernelTlsError {
    /// The kernel has no TLS. The socket is as it was.
    #[error("this kernel has no TLS (load its module `tls`, or use one with CONFIG_TLS)")]
    Absent,
    /// It does not have this cipher. The socket still does not encrypt.
    #[error("this kernel's TLS has no {0:?}")]
    NoSuchCipher(KernelCipher),
    /// The key is not as long as the cipher wants it.
    #[error("a key for {0:?} is not as long as it should be")]
    KeyLength(KernelCipher),
    /// The kernel refuses otherwise; the socket is to be closed.
    #[error("the kernel does not {tried}: {source}")]
    Failed {
        /// What was tried.
        tried: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// What has been received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelRecord {
    /// So many bytes of data.
    Data(usize),
    /// The peer has closed its direction in good order (close_notify; RFC 8446, 6.1).
    Closed,
    /// The peer has ended the link, with the description of an alert (RFC 8446, 6.2).
    Alert(u8),
    /// The peer has updated its key, or has asked for ours to be updated: the link cannot go on (RFC 8446, 4.6.3).
    KeyUpdate,
    /// Another message of a handshake, by its type, which does not belong behind it.
    Handshake(u8),
    /// A record of a type that TLS 1.3 does not have there.
    Other(u8),
    /// The connection was cut off: the peer has not closed it.
    CutOff,
}

impl KernelRecord {
    /// Why a link has ended, in words; `None` for data.
    pub fn ending(self) -> Option<String> {
        Some(match self {
            KernelRecord::Data(_) => return None,
            KernelRecord::Closed => "the other node has closed the link".into(),
            KernelRecord::Alert(description) => {
                format!("the other node has ended the link with alert {description} of TLS; its own events say why")
            }
            KernelRecord::KeyUpdate => {
                "the other node has updated the key of a link that the kernel encrypts, which no node of ours does: the link is \
                 opened anew"
                    .into()
            }
            KernelRecord::Handshake(kind) => {
                format!("the other node has sent message {kind} of a handshake that is over")
            }
            KernelRecord::Other(kind) => format!("the other node has sent a record of type {kind}, which TLS 1.3 has not"),
            KernelRecord::CutOff => "the link was cut off without the other node having closed it".into(),
        })
    }
}

/// Content types (RFC 8446, 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// close_notify (RFC 8446, 6) and key_update (RFC 8446, 4).
const CLOSE_NOTIFY: u8 = 0;
const KEY_UPDATE: u8 = 24;

/// `uapi/linux/tls.h`
const TLS_SET_RECORD_TYPE: libc::c_int = 1;
const TLS_GET_RECORD_TYPE: libc::c_int = 2;
const TLS_1_3: u16 = 0x0304;

/// ENOTSUPP, which has no name outside the kernel.
const ENOTSUPP: i32 = 524;

/// Room for one control message with one byte, aligned as `cmsghdr` wants it: CMSG_SPACE(1).
#[repr(C, align(8))]
struct ControlRoom([u8; 24]);

// SAFETY: CMSG_SPACE computes with its argument alone.
const _: () = assert!(unsafe { libc::CMSG_SPACE(1) } as usize == size_of::<ControlRoom>());
const _: () = assert!(align_of::<ControlRoom>() >= align_of::<libc::cmsghdr>());

/// Makes a connected TCP socket one that can encrypt. It goes on as before until [`switch_on`].
///
/// # Errors
/// [`KernelTlsError::Absent`], [`KernelTlsError::Failed`].
pub fn attach(socket: impl AsFd) -> Result<(), KernelTlsError> {
    let set = set_option(socket, libc::SOL_TCP, libc::TCP_ULP, b"tls");
    set.map_err(|source| match source.raw_os_error() {
        // No module of the name; a kernel without upper-layer protocols.
        Some(libc::ENOENT | libc::ENOPROTOOPT | libc::EOPNOTSUPP) => KernelTlsError::Absent,
        _ => KernelTlsError::Failed {
            tried: "take the socket for TLS",
            source,
        },
    })
}

/// The ciphers that this kernel encrypts and decrypts with; none, if it has no TLS. They are tried out on a connection of this
/// machine to itself, since a kernel says so of its module and not of its ciphers, and a link whose keys the kernel then
/// refuses is lost.
///
/// # Errors
/// There is no connection to be had on this machine, or the kernel refuses otherwise.
pub fn available() -> Result<Vec<KernelCipher>, KernelTlsError> {
    let failed = |source| KernelTlsError::Failed {
        tried: "connect this machine to itself",
        source,
    };
    let mut ciphers = Vec::new();
    for cipher in [
        KernelCipher::Aes128Gcm,
        KernelCipher::Aes256Gcm,
        KernelCipher::Chacha20Poly1305,
    ] {
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let socket = TcpStream::connect(door.local_addr().map_err(failed)?).map_err(failed)?;
        let key = match cipher {
            KernelCipher::Aes128Gcm => &[0; 16][..],
            KernelCipher::Aes256Gcm | KernelCipher::Chacha20Poly1305 => &[0; 32][..],
        };
        let keys = RecordKeys {
            cipher,
            key,
            iv: &[0; 12],
            sequence: 0,
        };
        let tried = attach(&socket)
            .and_then(|()| switch_on(&socket, KeyDirection::Send, &keys))
            .and_then(|()| switch_on(&socket, KeyDirection::Receive, &keys));
        match tried {
            Ok(()) => ciphers.push(cipher),
            Err(KernelTlsError::Absent) => return Ok(Vec::new()),
            Err(KernelTlsError::NoSuchCipher(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ciphers)
}

/// Encrypts what is sent, or decrypts what is received, from now on.
///
/// # Errors
/// [`KernelTlsError`] except [`KernelTlsError::Absent`].
pub fn switch_on(
    socket: impl AsFd,
    direction: KeyDirection,
    keys: &RecordKeys<'_>,
) -> Result<(), KernelTlsError> {
    let option = match direction {
        KeyDirection::Send => libc::TLS_TX,
        KeyDirection::Receive => libc::TLS_RX,
    };
    let info = keys.info().ok_or(KernelTlsError::KeyLength(keys.cipher))?;
    let set = set_option(socket, libc::SOL_TLS, option, &info);
    set.map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP | ENOTSUPP) => {
            KernelTlsError::NoSuchCipher(keys.cipher)
        }
        _ => KernelTlsError::Failed {
            tried: match direction {
                KeyDirection::Send => "encrypt what is sent",
                KeyDirection::Receive => "decrypt what is received",
            },
            source,
        },
    })
}

impl RecordKeys<'_> {
    /// `struct tls12_crypto_info_*`, which serves TLS 1.3, too: version u16, cipher u16, iv, key, salt, record's number in the
    /// order of the wire. The salt is the beginning of the nonce.
    fn info(&self) -> Option<Vec<u8>> {
        let (number, key_bytes, salt_bytes): (u16, usize, usize) = match self.cipher {
            KernelCipher::Aes128Gcm => (51, 16, 4),
            KernelCipher::Aes256Gcm => (52, 32, 4),
            KernelCipher::Chacha20Poly1305 => (54, 32, 0),
        };
        let (salt, rest) = self.iv.split_at(salt_bytes);
        let mut info = [TLS_1_3.to_ne_bytes(), number.to_ne_bytes()].concat();
        info.extend(rest);
        info.extend(self.key);
        info.extend(salt);
        info.extend(self.sequence.to_be_bytes());
        (self.key.len() == key_bytes).then_some(info)
    }
}

fn set_option(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: setsockopt(2) reads `length` bytes from the pointer, which are those of `value`; the descriptor is borrowed.
    match unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Receives from a socket that decrypts: data, at most as many bytes as there is room for, or what else has come. Waits as
/// the socket does.
///
/// # Errors
/// What recvmsg(2) says; `EBADMSG`: a record was changed on its way, the link is to be closed.
pub fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<KernelRecord> {
    let mut control = ControlRoom([0; 24]);
    let mut part = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: a msghdr is made of integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<ControlRoom>();
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: recvmsg(2) writes into the one part, which is `into`, and into `control`, with the lengths told; all live until
    // it returns.
    let received = unsafe { libc::recvmsg(fd, &mut message, 0) };
    let received = match usize::try_from(received) {
        Ok(received) => received,
        Err(_) => return Err(io::Error::last_os_error()),
    };
    // SAFETY: `message` is as recvmsg has left it: its control messages lie in `control`, with the length that it says.
    let first = unsafe { libc::CMSG_FIRSTHDR(&message).as_ref() };
    let kind = first
        .filter(|header| (header.cmsg_level, header.cmsg_type) == (libc::SOL_TLS, TLS_GET_RECORD_TYPE))
        // SAFETY: the kernel puts one byte behind the header of such a message; it lies in `control`.
        .map(|header| unsafe { *libc::CMSG_DATA(header) });
    let content = into.get(..received).unwrap_or_default();
    Ok(match (kind, content) {
        (None | Some(DATA), []) if !into.is_empty() => KernelRecord::CutOff,
        (None | Some(DATA), _) => KernelRecord::Data(received),
        (Some(ALERT), [_, CLOSE_NOTIFY]) => KernelRecord::Closed,
        (Some(ALERT), [_, description]) => KernelRecord::Alert(*description),
        (Some(HANDSHAKE), [KEY_UPDATE, ..]) => KernelRecord::KeyUpdate,
        (Some(HANDSHAKE), [kind, ..]) => KernelRecord::Handshake(*kind),
        (Some(kind), _) => KernelRecord::Other(kind),
    })
}

/// Closes our direction in good order (close_notify; RFC 8446, 6.1). What was written before is sent before it.
///
/// # Errors
/// What sendmsg(2) says.
pub fn close(socket: impl AsFd) -> io::Result<()> {
    /// Its level, a warning, and its description.
    const ALERT_CLOSE: [u8; 2] = [1, CLOSE_NOTIFY];
    send_record(socket, ALERT, &ALERT_CLOSE)
}

/// Sends a record of another type than data.
fn send_record(socket: impl AsFd, kind: u8, content: &[u8]) -> io::Result<()> {
    let mut control = ControlRoom([0; 24]);
    let mut part = libc::iovec {
        iov_base: content.as_ptr().cast_mut().cast(),
        iov_len: content.len(),
    };
    // SAFETY: a msghdr is made of integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<ControlRoom>();
    // SAFETY: `control` has room for the header and one byte behind it, is aligned for a header, and `message` says so.
    if let Some(header) = unsafe { libc::CMSG_FIRSTHDR(&message).as_mut() } {
        header.cmsg_level = libc::SOL_TLS;
        header.cmsg_type = TLS_SET_RECORD_TYPE;
        // SAFETY: CMSG_LEN computes with its argument alone.
        header.cmsg_len = unsafe { libc::CMSG_LEN(1) } as usize;
        // SAFETY: one byte behind the header lies in `control`.
        unsafe { *libc::CMSG_DATA(header) = kind };
    }
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: sendmsg(2) reads the one part, which is `content`, and `control`, with the lengths told; it writes to neither.
    let sent = unsafe { libc::sendmsg(fd, &message, libc::MSG_NOSIGNAL) };
    match usize::try_from(sent) {
        Ok(sent) if sent == content.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
