//! Who may come in, and how far: the kernel's word about a local process, a token, and the guard against other sites'
//! pages in an operator's browser.

use crate::audit::{self, Commander};
use crate::crowd::Marks;
use crate::headers;
use crate::keys::{Keys, Role};
use crate::rest::{Answer, Door};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use palisade_api::{Actor, CommandSource, Entrance, Problem, ProblemKind, routes};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Where a request came in.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// By the Unix socket; the kernel has said who it is.
    Local {
        /// The user.
        user: u32,
        /// How far he may go; absent: not at all.
        role: Option<Role>,
    },
    /// By the TCP port.
    Remote {
        /// The client's end.
        peer: SocketAddr,
    },
}

/// What a request must show.
#[derive(Clone)]
pub(crate) struct Access {
    /// The keys of the TCP port; absent without one.
    pub(crate) keys: Option<Arc<Keys>>,
    /// Whether the metrics may be read without a token.
    pub(crate) metrics_open: bool,
    /// Path of the Unix socket, if there is one.
    pub(crate) socket: Option<Arc<str>>,
}

/// What the guard needs.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) access: Access,
    pub(crate) door: Door,
}

impl Access {
    /// Who asks, as far as that is known before anything is asked for.
    fn commander(&self, caller: &Caller) -> Commander {
        match caller {
            Caller::Local { user, .. } => Commander {
                actor: Actor::User {
                    uid: *user,
                    name: None,
                },
                source: CommandSource {
                    by: Entrance::Socket,
                    address: self.socket.as_deref().unwrap_or_default().to_owned(),
                },
            },
            Caller::Remote { peer } => Commander {
                actor: Actor::Unknown,
                source: CommandSource {
                    by: Entrance::Tcp,
                    address: peer.to_string(),
                },
            },
        }
    }

    /// Whether a request may go on; the name of the token that it has shown, if it had to.
    fn check(
        &self,
        caller: &Caller,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<&'static str>, Problem> {
        let reads = method == Method::GET || method == Method::HEAD;
        let probes = [routes::LIVE, routes::READY].contains(&uri.path());
        let (role, token) = match (caller, &self.keys) {
            (Caller::Local { .. }, _) if probes && reads => return Ok(None),
            (Caller::Local { role: Some(role), .. }, _) => (*role, None),
            (Caller::Local { user, role: None }, _) => {
                return Err(refused(
                    "user_refused",
                    format!("user {user} may not use this appliance"),
                    "ask as root (sudo palisade ...), or become a member of the group that the daemon's admin.group or \
                     admin.read_group names",
                ));
            }
            (Caller::Remote { .. }, Some(keys)) => {
                check_origin(headers)?;
                if keys.is_loopback() {
                    check_host(headers)?;
                }
                let is_open = probes || self.metrics_open && uri.path() == routes::METRICS;
                if is_open && reads {
                    return Ok(None);
                }
                match keys.ask_for_token() {
                    true => {
                        let role = role_by_token(keys, headers)?;
                        (role, Some(role.token()))
                    }
                    false => (Role::Admin, None),
                }
            }
            (Caller::Remote { .. }, None) => {
                return Err(refused(
                    "no_port",
                    "no port is open",
                    "use the Unix socket of this appliance",
                ));
            }
        };
        match role == Role::Admin || reads {
            true => Ok(token),
            false => Err(refused(
                "role_reads_only",
                "who asks may look at everything and change nothing",
                "ask as root or as a member of the daemon's admin.group; over TCP, show the token for changing things",
            )),
        }
    }
}

/// Lets a request through, or answers it.
pub(crate) async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let access = &guard.access;
    let unknown = Caller::Remote {
        peer: SocketAddr::from(([0, 0, 0, 0], 0)),
    };
    let caller = request.extensions().get::<Caller>().unwrap_or(&unknown);
    let (method, uri, shown) = (request.method(), request.uri(), request.headers());
    let mut commander = access.commander(caller);
    let in_order = headers::check(request.version(), uri, shown);
    match in_order.and_then(|()| access.check(caller, method, uri, shown)) {
        Ok(token) => {
            if let Some(name) = token {
                commander.actor = Actor::Token {
                    name: name.to_owned(),
                };
            }
            request.extensions_mut().insert(commander);
            if let Some(marks) = request.extensions().get::<Arc<Marks>>() {
                marks.prove();
            }
            next.run(request).await
        }
        Err(problem) => {
            if let Some(event) = audit::refused_entry(commander, method, uri, &problem) {
                guard.door.record(event).await;
            }
            let unauthorized = problem.kind == ProblemKind::Unauthorized;
            let mut response = Answer::Problem(problem).into_response();
            if unauthorized {
                response
                    .headers_mut()
                    .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

fn refused(code: &'static str, message: impl Into<String>, remedy: &'static str) -> Problem {
    Problem::new(ProblemKind::Forbidden, code, message, remedy)
}

/// RFC 6750, section 2.1: `Authorization: Bearer TOKEN`.
fn role_by_token(keys: &Keys, headers: &HeaderMap) -> Result<Role, Problem> {
    let unauthorized =
        |code, message, remedy: &str| Err(Problem::new(ProblemKind::Unauthorized, code, message, remedy));
    let shown = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, shown)| shown.trim());
    match shown.map(|shown| keys.role_of(shown)) {
        Some(Some(role)) => Ok(role),
        Some(None) if keys.wrong().is_some() => unauthorized(
            "token_wrong",
            "the token is not one that is in force here: a file of tokens or certificates has been changed and cannot be \
             taken, so those of before stay in force",
            "ask on the machine itself what is wrong with the file (`palisade health`, finding keys_not_taken), or give the \
             token of before",
        ),
        Some(None) => unauthorized(
            "token_wrong",
            "the token is not one of this appliance",
            "give the content of the daemon's admin.token_file (made at first start as admin.token in its state_dir): \
             palisade --token-file FILE, or PALISADE_TOKEN",
        ),
        None => unauthorized(
            "token_missing",
            "over TCP this appliance wants a token, and the request shows none",
            "send Authorization: Bearer TOKEN (the daemon's admin.token_file; made at first start as admin.token in its \
             state_dir); with the command line, --token-file FILE or PALISADE_TOKEN; on the machine itself, use the Unix \
             socket by leaving out --url",
        ),
    }
}

/// Any page in an operator's browser could reach loopback under a name of its own that it lets point to 127.0.0.1. Such
/// a request carries that name as its Host.
fn check_host(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(HOST) else {
        return Ok(());
    };
    let authority = value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Authority>().ok());
    let allowed = authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
    });
    match allowed {
        true => Ok(()),
        false => Err(refused(
            "host_refused",
            "the request names a host under which this appliance is not known",
            "use http://127.0.0.1:PORT or http://localhost:PORT",
        )),
    }
}

/// A browser names the page that asks (RFC 6454, section 7; Fetch, section 3.1): it must be a page of this very server.
/// A page of another port of the same host is another origin.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let own = headers.get(HOST).map(text).unwrap_or_default();
    let foreign = headers.get_all(ORIGIN).iter().any(|value| {
        let origin = text(value);
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        !authority.is_some_and(|authority| !own.is_empty() && authority.eq_ignore_ascii_case(&own))
    });
    let site = headers.get("sec-fetch-site").map(text);
    let foreign_site = site.is_some_and(|site| !matches!(site.as_str(), "same-origin" | "none"));
    match foreign || foreign_site {
        false => Ok(()),
        true => Err(refused(
            "origin_refused",
            "the request comes from a page of another origin in a browser",
            "open the appliance's own page, or ask from a program",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TcpAccess, TcpDoor};
    use std::os::unix::fs::PermissionsExt;

    const ADMIN: &str = "0123456789abcdef0123456789abcdef";
    const READ: &str = "fedcba9876543210fedcba9876543210";

    const REMOTE: Caller = Caller::Remote {
        peer: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40112),
    };

    struct Rig {
        _folder: tempfile::TempDir,
        access: Access,
    }

    fn rig(with_tokens: bool) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let access = match with_tokens {
            false => TcpAccess::Nothing,
            true => TcpAccess::Tokens {
                admin: file("a", ADMIN),
                make: false,
                read: Some(file("r", READ)),
            },
        };
        let door = TcpDoor {
            listen: "127.0.0.1:7780".parse().unwrap(),
            tls: None,
            access,
        };
        Rig {
            _folder: folder,
            access: Access {
                keys: Some(Arc::new(Keys::load(&door).unwrap())),
                metrics_open: false,
                socket: None,
            },
        }
    }

    impl Rig {
        /// The code of the refusal, or "" when the request goes on.
        fn ask(&self, caller: &Caller, method: Method, path: &str, headers: &[(&str, &str)]) -> String {
            let headers = headers
                .iter()
                .map(|(name, value)| {
                    (
                        axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                        HeaderValue::from_str(value).unwrap(),
                    )
                })
                .collect();
            let uri: Uri = path.parse().unwrap();
            match self.access.check(caller, &method, &uri, &headers) {
                Ok(_) => String::new(),
                Err(problem) => problem.code.into_owned(),
            }
        }

        fn remote(&self, method: Method, headers: &[(&str, &str)]) -> String {
            self.ask(&REMOTE, method, "/v1/disks", headers)
        }
    }

    #[test]
    fn the_token_must_be_the_whole_token_and_opens_as_much_as_it_may() {
        let rig = rig(true);
        let with = |value: &str, method: Method| rig.remote(method, &[("authorization", value)]);
        assert_eq!(with(&format!("Bearer {ADMIN}"), Method::POST), "");
        assert_eq!(with(&format!("bearer  {ADMIN}"), Method::DELETE), "");
        assert_eq!(with(&format!("Bearer {READ}"), Method::GET), "");
        for method in [Method::POST, Method::PATCH, Method::DELETE, Method::PUT] {
            assert_eq!(with(&format!("Bearer {READ}"), method), "role_reads_only");
        }
        assert_eq!(
            with("Bearer 0123456789abcdef0123456789abcde", Method::GET),
            "token_wrong"
        );
        assert_eq!(with("Bearer ", Method::GET), "token_wrong");
        assert_eq!(with(&format!("Basic {ADMIN}"), Method::GET), "token_missing");
        assert_eq!(rig.remote(Method::GET, &[]), "token_missing");
    }

    #[test]
    fn a_local_process_needs_no_token_and_has_its_role() {
        let rig = rig(true);
        let ask = |role, method| {
            let caller = Caller::Local { user: 1000, role };
            rig.ask(&caller, method, "/v1/disks", &[("host", "anything")])
        };
        assert_eq!(ask(Some(Role::Admin), Method::POST), "");
        assert_eq!(ask(Some(Role::Read), Method::GET), "");
        assert_eq!(ask(Some(Role::Read), Method::POST), "role_reads_only");
        assert_eq!(ask(None, Method::GET), "user_refused");
    }

    #[test]
    fn another_sites_name_is_no_name_of_ours() {
        for rig in [rig(false), rig(true)] {
            let token = format!("Bearer {ADMIN}");
            let ask = |host: &str| rig.remote(Method::GET, &[("authorization", &token), ("host", host)]);
            for good in ["127.0.0.1:7780", "localhost:7780", "[::1]:7780", "127.0.0.1"] {
                assert_eq!(ask(good), "", "{good}");
            }
            for bad in [
                "evil.example:7780",
                "localhost.evil.example",
                "",
                "127.0.0.1.evil.example",
            ] {
                assert_eq!(ask(bad), "host_refused", "{bad}");
            }
        }
    }

    #[test]
    fn a_page_of_another_origin_is_refused_whatever_it_shows() {
        for rig in [rig(false), rig(true)] {
            let token = format!("Bearer {ADMIN}");
            let ask = |name: &str, value: &str| {
                let headers = [
                    ("authorization", token.as_str()),
                    ("host", "127.0.0.1:7780"),
                    (name, value),
                ];
                rig.remote(Method::POST, &headers)
            };
            assert_eq!(ask("origin", "http://127.0.0.1:7780"), "");
            assert_eq!(ask("sec-fetch-site", "same-origin"), "");
            assert_eq!(ask("sec-fetch-site", "none"), "");
            for bad in [
                "http://evil.example",
                "http://127.0.0.1:8080",
                "http://localhost:7780",
                "null",
                "",
            ] {
                assert_eq!(ask("origin", bad), "origin_refused", "{bad}");
            }
            assert_eq!(ask("sec-fetch-site", "cross-site"), "origin_refused");
            assert_eq!(ask("sec-fetch-site", "same-site"), "origin_refused");
        }
    }

    #[test]
    fn metrics_are_open_only_by_choice_and_only_to_read() {
        let mut rig = rig(true);
        let ask = |rig: &Rig, method| rig.ask(&REMOTE, method, "/metrics", &[]);
        assert_eq!(ask(&rig, Method::GET), "token_missing");
        rig.access.metrics_open = true;
        assert_eq!(ask(&rig, Method::GET), "");
        assert_eq!(ask(&rig, Method::POST), "token_missing");
        assert_eq!(rig.remote(Method::GET, &[]), "token_missing");
    }

    #[test]
    fn probes_need_no_token_and_change_nothing() {
        let rig = rig(true);
        let nobody = Caller::Local {
            user: 65534,
            role: None,
        };
        for path in ["/livez", "/readyz"] {
            for caller in [&nobody, &REMOTE] {
                assert_eq!(rig.ask(caller, Method::GET, path, &[]), "", "{path}");
            }
            assert_eq!(rig.ask(&nobody, Method::POST, path, &[]), "user_refused");
            assert_eq!(rig.ask(&REMOTE, Method::DELETE, path, &[]), "token_missing");
            let elsewhere = [("origin", "http://elsewhere.example")];
            assert_eq!(rig.ask(&REMOTE, Method::GET, path, &elsewhere), "origin_refused");
        }
        assert_eq!(
            rig.ask(&REMOTE, Method::GET, "/v1/nodes/self/health", &[]),
            "token_missing"
        );
    }
}
