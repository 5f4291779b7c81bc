//! Talking to the appliance.

mod again;

use crate::args::Target;
use crate::failure::{ANSWER_BROKE_OFF, Failure, NO_ANSWER, NO_SOCKET, NOBODY_LISTENS};
use crate::place::Place;
use crate::transport::{self, Lookup, Way};
use palisade_api::{EventId, Problem, ProblemKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, Instant};
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::{Agent, Body, SendBody};

/// Time for one request. The appliance answers as soon as a change is agreed on, so this is long.
const REQUEST_WAIT: Duration = Duration::from_secs(60);

/// Time for a connection to come about.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// Longest token, certificate or configuration: /dev/zero named by mistake has no end.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is asked at the end of a wait may be answered so much later.
const LAST_ANSWER_WAIT: Duration = Duration::from_secs(2);

/// What is said of a file in which a token is looked for in vain.
pub(crate) const NO_TOKEN: &str = "it holds no token: one line of letters and digits";

/// What is said of a file in which the token of a cluster is looked for in vain.
pub(crate) const NO_JOIN_TOKEN: &str = "it holds no join token: one line that begins with palisade-join-";

/// How the TLS library begins what it says about an answer that is none.
const NO_TLS: &str = "received corrupt message";

/// Bytes of the longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// What is asked for.
#[derive(Debug)]
struct Asked<'a> {
    method: Method,
    path: &'a str,
    expected: Option<u64>,
    body: Option<Value>,
    /// It is about the node that is asked: done by another one it would be done to that one.
    is_of_this_node: bool,
}

/// A connection to one appliance.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    /// What it was made of.
    target: Target,
    place: Place,
    /// What addresses begin with.
    base: String,
    /// Where it is, for people.
    shown: String,
    token: Option<String>,
    /// Since when answers are waited for and when the last must have come, for a command that was told how long to wait.
    patience: Option<(Instant, Instant)>,
}

impl Client {
    /// To the appliance named on the command line. Nothing is sent yet.
    pub fn new(target: &Target) -> Result<Client, Failure> {
        let place = Place::of(target.url.as_deref())?;
        let token = match &target.token_file {
            Some(path) => Some(read_token(path)?),
            None => target.token.clone(),
        };
        let trust = match &target.cacert {
            Some(path) => Some(
                transport::trust_in(read(path)?.as_bytes()).map_err(|why| Failure::File {
                    path: path.clone(),
                    why,
                })?,
            ),
            None => None,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_WAIT))
            .build();
        let (socket, base) = match &place {
            Place::Socket(path) => (Some(path.clone()), "http://localhost".to_owned()),
            Place::Address(address) => (None, address.clone()),
        };
        let lookup = Lookup {
            local: socket.is_some(),
        };
        Ok(Client {
            target: target.clone(),
            agent: Agent::with_parts(config, Way { socket, trust }, lookup),
            base,
            shown: place.shown(),
            place,
            token,
            patience: None,
        })
    }

    /// Bounds all that is asked from now on: a command that waits for so long ends soon after, whatever happens.
    pub fn within(self, patience: Option<Duration>) -> Client {
        Client {
            patience: patience.map(|patience| {
                let begun = Instant::now();
                (begun, begun + patience + LAST_ANSWER_WAIT)
            }),
            ..self
        }
    }

    /// Reads something.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, None, None)
    }

    /// Reads all of a list, page after page.
    pub fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        let mut address = format!("{path}?limit=1000");
        loop {
            let mut page = self.get(&address)?;
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => all.extend(items),
                _ => return Err(self.foreign("a list has no items")),
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => address = format!("{path}?limit=1000&after={}", segment(next)),
                None => return Ok(all),
            }
        }
    }

    /// Creates something; asking again is harmless.
    pub fn create(&self, path: &str, request: &impl Serialize) -> Result<Value, Failure> {
        self.ask(Method::POST, path, None, Some(self.body(request)?))
    }

    /// Has the node that is asked do something that is about that node alone: no other is asked in its place.
    pub fn command_here(&self, path: &str, request: &impl Serialize) -> Result<Value, Failure> {
        self.ask_until_decided(&Asked {
            method: Method::POST,
            path,
            expected: None,
            body: Some(self.body(request)?),
            is_of_this_node: true,
        })
    }

    /// Changes something.
    pub fn change(
        &self,
        path: &str,
        patch: &impl Serialize,
        expected: Option<u64>,
    ) -> Result<Value, Failure> {
        self.ask(Method::PATCH, path, expected, Some(self.body(patch)?))
    }

    /// Takes something away.
    pub fn delete(&self, path: &str, expected: Option<u64>) -> Result<(), Failure> {
        self.ask(Method::DELETE, path, expected, None).map(drop)
    }

    /// What taking something away would do; `path` asks for a dry run.
    pub fn preview(&self, path: &str, expected: Option<u64>) -> Result<Value, Failure> {
        self.ask(Method::DELETE, path, expected, None)
    }

    /// A stream that goes on until the appliance ends it.
    pub fn stream(&self, path: &str, after: &EventId) -> Result<impl Read + use<>, Failure> {
        let request = self
            .request(Method::GET, path, None)
            .header("last-event-id", after.to_string());
        let response = self.send(request, SendBody::none(), None)?;
        let response = self.judge(response)?;
        Ok(response.into_body().into_reader())
    }

    /// Turns an answer into the type it should be.
    pub fn typed<T: DeserializeOwned>(&self, value: &Value) -> Result<T, Failure> {
        T::deserialize(value).map_err(|error| self.foreign(&error.to_string()))
    }

    /// One request and its answer.
    fn ask_once(&self, asked: &Asked<'_>) -> Result<Value, Failure> {
        let request = self.request(asked.method.clone(), asked.path, asked.expected);
        let body = match asked.body {
            Some(ref body) => SendBody::from_json(body).map_err(|error| self.foreign(&error.to_string()))?,
            None => SendBody::none(),
        };
        let response = self.judge(self.send(request, body, Some(REQUEST_WAIT))?)?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let bytes = self.read(response)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| self.foreign(&format!("its answer is not JSON: {error}")))
    }

    fn request(&self, method: Method, path: &str, expected: Option<u64>) -> ureq::http::request::Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(generation) = expected {
            request = request.header("if-match", format!("\"{generation}\""));
        }
        request
    }

    fn send(
        &self,
        request: ureq::http::request::Builder,
        body: SendBody<'_>,
        wait: Option<Duration>,
    ) -> Result<Response<Body>, Failure> {
        let unreachable = |why: String| Failure::Unreachable {
            url: self.shown.clone(),
            why,
        };
        let request = request
            .body(body)
            .map_err(|error| unreachable(error.to_string()))?;
        let left = self.patience.map(|(_, deadline)| {
            let left = deadline.saturating_duration_since(Instant::now());
            left.max(Duration::from_millis(1))
        });
        let wait = wait.into_iter().chain(left).min();
        let request = self.agent.configure_request(request).timeout_global(wait).build();
        self.agent.run(request).map_err(|error| match error {
            // Nobody has accepted what was sent: whether somebody is at work is not known.
            ureq::Error::Timeout(ureq::Timeout::Connect) => unreachable(format!("{NO_ANSWER} in time")),
            ureq::Error::Timeout(_) => match self.patience {
                Some((begun, deadline)) if Instant::now() >= deadline => Failure::Late {
                    url: self.shown.clone(),
                    seconds: begun.elapsed().as_secs(),
                },
                _ => unreachable(format!("{NO_ANSWER} in time")),
            },
            // What was sent was no HTTP: TLS, where the address says http.
            ureq::Error::Protocol(why) => self.foreign(&why.to_string()),
            ureq::Error::Io(error) if self.is_local() && error.kind() == ErrorKind::NotFound => {
                unreachable(NO_SOCKET.to_owned())
            }
            ureq::Error::Io(error) if self.is_local() && error.kind() == ErrorKind::ConnectionRefused => {
                unreachable(NOBODY_LISTENS.to_owned())
            }
            // It was sent, or a part of it: what was asked for may be carried out.
            ureq::Error::Io(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
                ) =>
            {
                unreachable(format!("{NO_ANSWER}: the connection was cut off ({error})"))
            }
            error => match error.to_string() {
                why if why.contains(NO_TLS) => {
                    self.foreign("what comes from there is not TLS: the port speaks http, or something else")
                }
                why if why.contains("invalid peer certificate") => Failure::Certificate {
                    url: self.shown.clone(),
                    why: transport::what_is_wrong(&why),
                },
                why => unreachable(why),
            },
        })
    }

    /// Lets a success through and turns everything else into a failure.
    fn judge(&self, response: Response<Body>) -> Result<Response<Body>, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.read(response)?;
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(Failure::Refused(Problem {
                kind: ProblemKind::of_status(status.as_u16()).unwrap_or_default(),
                ..problem
            })),
            Err(_) => Err(self.foreign(&format!("it answers {status}"))),
        }
    }

    fn read(&self, mut response: Response<Body>) -> Result<Vec<u8>, Failure> {
        let reader = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        reader.read_to_vec().map_err(|error| Failure::Unreachable {
            url: self.shown.clone(),
            why: format!("{ANSWER_BROKE_OFF}: {error}"),
        })
    }

    fn body(&self, value: &impl Serialize) -> Result<Value, Failure> {
        serde_json::to_value(value).map_err(|error| self.foreign(&error.to_string()))
    }

    /// Whether it is reached by its Unix socket.
    fn is_local(&self) -> bool {
        matches!(self.place, Place::Socket(_))
    }

    fn foreign(&self, why: &str) -> Failure {
        Failure::Foreign {
            url: self.shown.clone(),
            why: why.to_owned(),
        }
    }
}

/// An id as a part of an address: everything but plain characters is escaped (RFC 3986, section 2.1).
pub fn segment(id: &str) -> String {
    id.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// The appliance's token in a file.
fn read_token(path: &Path) -> Result<String, Failure> {
    token_in(path, NO_TOKEN)
}

/// The token in a file that lets a node into a cluster.
pub fn read_join_token(path: &Path) -> Result<String, Failure> {
    token_in(path, NO_JOIN_TOKEN)
}

/// The token in a file, which must hold one that can be sent.
fn token_in(path: &Path, otherwise: &str) -> Result<String, Failure> {
    let text = read(path)?;
    let token = text.trim();
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(Failure::File {
            path: path.to_owned(),
            why: otherwise.to_owned(),
        }),
    }
}

/// A file that the daemon or an operator has written: a token, a certificate, a configuration.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let failed = |why| Failure::File {
        path: path.to_owned(),
        why,
    };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => Err(failed("it is longer than 1 MiB".to_owned())),
        Ok(_) => Ok(text),
        Err(error) => Err(failed(error.to_string())),
    }
}
