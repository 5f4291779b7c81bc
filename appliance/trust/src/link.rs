//! Connections between nodes: TLS 1.3, both ends known, nothing resumed and nothing early.
//!
//! One port serves every [`Purpose`]. Each connection makes a whole handshake: there are few of them and they last, and a
//! resumed one would go on to trust a certificate that has ended meanwhile.

use crate::certificate::identity_of;
use crate::counters::RefusalCounters;
use crate::credentials::Credentials;
use crate::identity::PeerIdentity;
use crate::link_error::{LinkError, PeerVerdict};
use crate::purpose::Purpose;
use crate::roster::{PeerStanding, Roster};
use crate::verifier::{NodeVerifier, Trusted};
use palisade_words::{Sha256Sum, Uuid};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::TLS13;
use rustls::{CipherSuite, ClientConfig, CommonState, ServerConfig};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

/// Who opens connections: as this node to another, or as a machine that joins.
#[derive(Clone, Debug)]
pub struct Connector {
    setup: Setup,
}

/// Who takes connections.
#[derive(Clone, Debug)]
pub struct Acceptor {
    setup: Setup,
    credentials: Credentials,
    served: Vec<Purpose>,
}

/// What both need.
#[derive(Clone, Debug)]
struct Setup {
    /// None: a machine that joins.
    credentials: Option<Credentials>,
    roster: Arc<Roster>,
    counters: Arc<RefusalCounters>,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn TimeProvider>,
}

/// A connection that somebody has made to this node.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The bytes.
    pub stream: server::TlsStream<S>,
    /// What it is for.
    pub purpose: Purpose,
    /// Who it is.
    pub caller: Caller,
}

/// Who has called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// A node of the cluster, and what this node knows of it: [`PeerStanding::Unknown`] is one that has come or gone without this
    /// node having heard of it.
    Node(PeerIdentity, PeerStanding),
    /// A machine without a certificate, for [`Purpose::Join`] alone. Nothing it says counts before its token.
    Joiner,
}

impl Setup {
    fn new(credentials: Option<Credentials>, roster: Arc<Roster>, counters: Arc<RefusalCounters>) -> Setup {
        Setup {
            credentials,
            roster,
            counters,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            clock: Arc::new(DefaultTimeProvider),
        }
    }

    /// With no other cipher suites than these.
    fn limited_to(&mut self, suites: &[CipherSuite]) {
        let mut provider = CryptoProvider::clone(&self.provider);
        provider
            .cipher_suites
            .retain(|known| suites.contains(&known.suite()));
        self.provider = Arc::new(provider);
    }

    fn verifier(&self, trusted: Trusted, expected: Option<Uuid>, may_be_nobody: bool) -> Arc<NodeVerifier> {
        Arc::new(NodeVerifier {
            trusted,
            cluster: self.credentials.as_ref().map(|own| own.identity().cluster),
            expected,
            roster: Arc::clone(&self.roster),
            may_be_nobody,
            algorithms: self.provider.signature_verification_algorithms,
        })
    }
}

impl Connector {
    /// Of this node. `counters` counts what is refused.
    pub fn new(credentials: Credentials, roster: Arc<Roster>, counters: Arc<RefusalCounters>) -> Connector {
        Connector {
            setup: Setup::new(Some(credentials), roster, counters),
        }
    }

    /// Of a machine that joins and has no certificate.
    pub fn of_joiner(counters: Arc<RefusalCounters>) -> Connector {
        Connector {
            setup: Setup::new(None, Arc::default(), counters),
        }
    }

    /// Takes the time from another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn TimeProvider>) -> Connector {
        self.setup.clock = clock;
        self
    }

    pub(crate) fn limited_to(mut self, suites: &[CipherSuite]) -> Connector {
        self.setup.limited_to(suites);
        self
    }

    /// Makes a connection to a node over a stream, within a time.
    ///
    /// # Errors
    /// [`LinkError`]; it has been counted. That the other refuses *us* is heard with the first read
    /// ([`LinkError::of_io`]).
    pub async fn connect<S>(
        &self,
        stream: S,
        node: Uuid,
        purpose: Purpose,
        deadline: Duration,
    ) -> Result<(client::TlsStream<S>, PeerIdentity), LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connected = match self.config(Some(node), None, purpose) {
            Ok(config) => handshake(config, stream, purpose, deadline).await,
            Err(error) => Err(error),
        };
        connected.inspect_err(|error| self.setup.counters.count(error))
    }

    /// Makes a connection to any node of the cluster whose authority has a certificate of this sum, as a token says.
    ///
    /// # Errors
    /// As [`Connector::connect`]; [`PeerVerdict::OtherAuthority`].
    pub async fn connect_to_join<S>(
        &self,
        stream: S,
        authority: Sha256Sum,
        deadline: Duration,
    ) -> Result<(client::TlsStream<S>, PeerIdentity), LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connected = match self.config(None, Some(authority), Purpose::Join) {
            Ok(config) => handshake(config, stream, Purpose::Join, deadline).await,
            Err(error) => Err(error),
        };
        connected.inspect_err(|error| self.setup.counters.count(error))
    }

    pub(crate) fn counters(&self) -> &RefusalCounters {
        &self.setup.counters
    }

    /// What rustls is told.
    ///
    /// # Errors
    /// [`LinkError::Setup`]; [`LinkError::Peer`] with [`PeerVerdict::NoCertificate`] if there is neither a certificate nor an
    /// authority to know the other by.
    pub(crate) fn config(
        &self,
        expected: Option<Uuid>,
        authority: Option<Sha256Sum>,
        purpose: Purpose,
    ) -> Result<ClientConfig, LinkError> {
        let Setup {
            credentials,
            provider,
            clock,
            ..
        } = &self.setup;
        let trusted = match (authority, credentials) {
            (Some(sum), _) => Trusted::Fingerprint(sum),
            (None, Some(own)) => Trusted::Authority(own.authority.clone()),
            (None, None) => return Err(LinkError::Peer(PeerVerdict::NoCertificate)),
        };
        let setup = |source| LinkError::Setup { source };
        let verifier = self.setup.verifier(trusted, expected, false);
        let builder = ClientConfig::builder_with_details(Arc::clone(provider), Arc::clone(clock))
            .with_protocol_versions(&[&TLS13])
            .map_err(setup)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match credentials {
            Some(own) => {
                let chain = vec![own.certificate.der().clone()];
                builder
                    .with_client_auth_cert(chain, own.key.private())
                    .map_err(setup)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![purpose.as_str().into()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(config)
    }
}

impl Acceptor {
    /// Of this node, for these purposes. `counters` counts what is refused.
    pub fn new(
        credentials: Credentials,
        served: &[Purpose],
        roster: Arc<Roster>,
        counters: Arc<RefusalCounters>,
    ) -> Acceptor {
        Acceptor {
            setup: Setup::new(Some(credentials.clone()), roster, counters),
            credentials,
            served: served.to_vec(),
        }
    }

    /// Takes the time from another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn TimeProvider>) -> Acceptor {
        self.setup.clock = clock;
        self
    }

    pub(crate) fn limited_to(mut self, suites: &[CipherSuite]) -> Acceptor {
        self.setup.limited_to(suites);
        self
    }

    /// Takes a connection over a stream, within a time.
    ///
    /// # Errors
    /// [`LinkError`]; it has been counted, and the other end has been told in one word.
    pub async fn accept<S>(&self, stream: S, deadline: Duration) -> Result<Accepted<S>, LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = match timeout(deadline, self.take(stream)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(LinkError::TimedOut { deadline }),
        };
        accepted.inspect_err(|error| self.setup.counters.count(error))
    }

    async fn take<S>(&self, stream: S) -> Result<Accepted<S>, LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let first = self.first_served();
        let failed = |error| LinkError::of_io(error, first);
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
        let start = start.await.map_err(failed)?;
        let offered = start.client_hello().alpn().and_then(|mut names| names.next());
        let offered = offered.and_then(Purpose::of);
        // Without a purpose the handshake goes on with all that are served: so the other hears that none of its own is.
        let config = Arc::new(self.config(offered)?);
        let stream = start.into_stream(config).await.map_err(failed)?;
        let (_, connection) = stream.get_ref();
        let purpose = purpose_of(connection, first)?;
        let caller = match peer_of(connection)? {
            Some(peer) => Caller::Node(peer, self.setup.roster.standing(peer.node, peer.key)),
            None if purpose == Purpose::Join => Caller::Joiner,
            None => return Err(LinkError::Peer(PeerVerdict::NoCertificate)),
        };
        Ok(Accepted {
            stream,
            purpose,
            caller,
        })
    }

    pub(crate) fn counters(&self) -> &RefusalCounters {
        &self.setup.counters
    }

    pub(crate) fn first_served(&self) -> Purpose {
        self.served.first().copied().unwrap_or(Purpose::Join)
    }

    /// What rustls is told of a connection that is offered for a purpose. Who joins may show nothing, and is shown the
    /// authority, which it knows by its sum alone.
    ///
    /// # Errors
    /// [`LinkError::Setup`].
    pub(crate) fn config(&self, offered: Option<Purpose>) -> Result<ServerConfig, LinkError> {
        let Setup { provider, clock, .. } = &self.setup;
        let own = &self.credentials;
        let agreed = offered.filter(|purpose| self.served.contains(purpose));
        let joins = agreed == Some(Purpose::Join);
        let setup = |source| LinkError::Setup { source };
        let trusted = Trusted::Authority(own.authority.clone());
        let verifier = self.setup.verifier(trusted, None, joins);
        let mut chain: Vec<CertificateDer<'static>> = vec![own.certificate.der().clone()];
        chain.extend(joins.then(|| own.authority.clone()));
        let mut config = ServerConfig::builder_with_details(Arc::clone(provider), Arc::clone(clock))
            .with_protocol_versions(&[&TLS13])
            .map_err(setup)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, own.key.private())
            .map_err(setup)?;
        // One alone, or all, of which none is what the other wants: an empty list would be no check at all.
        let names = agreed.map_or(self.served.clone(), |purpose| vec![purpose]);
        config.alpn_protocols = names.iter().map(|purpose| purpose.as_str().into()).collect();
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![self.first_served().as_str().into()];
        }
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }
}

async fn handshake<S>(
    config: ClientConfig,
    stream: S,
    purpose: Purpose,
    deadline: Duration,
) -> Result<(client::TlsStream<S>, PeerIdentity), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connecting = TlsConnector::from(Arc::new(config)).connect(no_name(), stream);
    let stream = match timeout(deadline, connecting).await {
        Ok(connected) => connected.map_err(|error| LinkError::of_io(error, purpose))?,
        Err(_) => return Err(LinkError::TimedOut { deadline }),
    };
    let (_, connection) = stream.get_ref();
    purpose_of(connection, purpose)?;
    let peer = peer_of(connection)?.ok_or(LinkError::Peer(PeerVerdict::NoCertificate))?;
    Ok((stream, peer))
}

/// TLS wants a name of the server. Nodes have none: an address that nobody has is neither sent nor looked at.
pub(crate) fn no_name() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
}

/// What both ends have agreed that the connection is for.
pub(crate) fn purpose_of(connection: &CommonState, wanted: Purpose) -> Result<Purpose, LinkError> {
    let agreed = connection.alpn_protocol().and_then(Purpose::of);
    agreed.ok_or(LinkError::Purpose { wanted })
}

/// Who is at the other end, if it has shown a certificate; it has been verified.
pub(crate) fn peer_of(connection: &CommonState) -> Result<Option<PeerIdentity>, LinkError> {
    let shown = connection.peer_certificates().and_then(|chain| chain.first());
    let identity = shown.map(identity_of).transpose();
    identity.map_err(|_| LinkError::Peer(PeerVerdict::NamesNoNode))
}
