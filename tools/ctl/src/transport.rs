//! How bytes reach the appliance: a Unix socket, TCP, or TLS over it.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Makes connections to one appliance.
#[derive(Debug)]
pub(crate) struct Way {
    /// The Unix socket; without one, where the address says.
    pub(crate) socket: Option<PathBuf>,
    /// Whose certificates are accepted over https; absent: nobody's.
    pub(crate) trust: Option<Arc<ClientConfig>>,
}

impl Connector<()> for Way {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Connection>, Error> {
        let wait = details.timeout.not_zero().map(|wait| *wait);
        let stream = match &self.socket {
            Some(path) => Stream::Unix(UnixStream::connect(path)?),
            None => {
                let tcp = connect_any(&details.addrs, wait)?;
                tcp.set_nodelay(true)?;
                match details.needs_tls() {
                    false => Stream::Tcp(tcp),
                    true => Stream::Tls(Box::new(self.encrypt(details.uri, tcp, wait)?)),
                }
            }
        };
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Connection { stream, buffers }))
    }
}

impl Way {
    fn encrypt(
        &self,
        uri: &Uri,
        mut tcp: TcpStream,
        wait: Option<Duration>,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, Error> {
        let host = uri.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())
            .map_err(|_| Error::HostNotFound)?;
        let trust = match &self.trust {
            Some(trust) => Arc::clone(trust),
            None => trust(&[]).map_err(io::Error::other)?,
        };
        let mut session = ClientConnection::new(trust, name).map_err(io::Error::other)?;
        tcp.set_read_timeout(wait)?;
        tcp.set_write_timeout(wait)?;
        session.complete_io(&mut tcp)?;
        Ok(StreamOwned::new(session, tcp))
    }
}

fn connect_any(addresses: &ResolvedSocketAddrs, wait: Option<Duration>) -> Result<TcpStream, Error> {
    let mut failed = None;
    for address in addresses.iter() {
        let connected = match wait {
            Some(wait) => TcpStream::connect_timeout(address, wait),
            None => TcpStream::connect(address),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.map_or(Error::HostNotFound, Error::Io))
}

/// Says where a host is, and of a Unix socket that it need not be looked up.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// There is nothing to look up.
    pub(crate) local: bool,
}

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        if !self.local {
            return DefaultResolver::default().resolve(uri, config, timeout);
        }
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Ok(addresses)
    }
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A connection and its buffers.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    buffers: LazyBuffers,
}

impl Stream {
    fn set_waits(&self, wait: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => {
                stream.set_read_timeout(wait)?;
                stream.set_write_timeout(wait)
            }
            Stream::Tcp(stream) => {
                stream.set_read_timeout(wait)?;
                stream.set_write_timeout(wait)
            }
            Stream::Tls(stream) => {
                stream.sock.set_read_timeout(wait)?;
                stream.sock.set_write_timeout(wait)
            }
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Stream::Unix(stream) => stream.read(bytes),
                Stream::Tcp(stream) => stream.read(bytes),
                Stream::Tls(stream) => stream.read(bytes),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_waits(timeout.not_zero().map(|wait| *wait))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream
            .write_all(output)
            .map_err(|error| in_time(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_waits(timeout.not_zero().map(|wait| *wait))?;
        let room = self.buffers.input_append_buf();
        let read = self.stream.read(room).map_err(|error| in_time(error, timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// A connection is used for one request after another only within one command; one that has broken since is found out
    /// by the next.
    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

fn in_time(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

/// What is said of a file in which a certificate is looked for in vain.
pub(crate) const NO_CERTIFICATE: &str = "it holds no certificate in PEM form";

/// What the TLS library has against a certificate, in a sentence where it has a name only.
pub(crate) fn what_is_wrong(said: &str) -> String {
    const SENTENCES: [(&str, &str); 6] = [
        (
            "CaUsedAsEndEntity",
            "it is one that signs others, of an authority, and not the very one that was given with --cacert",
        ),
        ("UnknownIssuer", "none that is trusted here has signed it"),
        ("BadSignature", "the one that should have signed it has not"),
        ("NotValidForName", "it was made for another name or address"),
        ("InvalidPurpose", "it was made for something else than servers"),
        ("BadEncoding", "it is no X.509 certificate that can be read"),
    ];
    let known = SENTENCES.iter().find(|(name, _)| said.contains(name));
    match known {
        Some((_, sentence)) => (*sentence).to_owned(),
        None => said.to_owned(),
    }
}

/// Accepts the certificates in `pem`: what they have signed, and themselves. A certificate that is given exactly is
/// accepted whatever it says of its name and use: whoever holds its key is who the operator means.
///
/// # Errors
/// What is wrong with the file, in words.
pub(crate) fn trust_in(pem: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{NO_CERTIFICATE}: {error}"))?;
    match certificates.is_empty() {
        true => Err(NO_CERTIFICATE.to_owned()),
        false => trust(&certificates),
    }
}

fn trust(certificates: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    let signed = match roots.is_empty() {
        true => None,
        false => Some(
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| error.to_string())?,
        ),
    };
    let verifier = Arc::new(Given {
        certificates: certificates.to_vec(),
        signed,
        provider: Arc::clone(&provider),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Accepts what was given, and what it has signed.
#[derive(Debug)]
struct Given {
    certificates: Vec<CertificateDer<'static>>,
    signed: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Given {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self
            .certificates
            .iter()
            .any(|given| given.as_ref() == end_entity.as_ref())
        {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.signed {
            Some(signed) => {
                signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_has_against_a_certificate_is_told_in_sentences() {
        let said = |reason: &str| what_is_wrong(&format!("invalid peer certificate: {reason}"));
        assert!(said("Other(OtherError(CaUsedAsEndEntity))").starts_with("it is one that signs others"));
        assert_eq!(said("UnknownIssuer"), "none that is trusted here has signed it");
        // What has a sentence already is left as it is.
        let expired = "certificate expired: verification time 1 (UNIX)";
        assert!(said(expired).ends_with(expired));
        assert_eq!(trust_in(b"no PEM").unwrap_err(), NO_CERTIFICATE);
    }
}
