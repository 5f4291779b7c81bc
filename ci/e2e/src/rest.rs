//! The daemon's REST port, as any program would use it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use ureq::typestate::{WithBody, WithoutBody};
use ureq::{Agent, RequestBuilder};

use crate::failure::{Failure, Outcome};
use crate::network;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of one daemon.
#[derive(Debug)]
pub struct Rest {
    base: String,
    /// Where the daemon keeps the token that its port asks for.
    token_file: PathBuf,
    agent: Agent,
    /// The network that it is asked from; this machine's own when there is none.
    namespace: Option<PathBuf>,
}

impl Rest {
    /// Of the daemon that listens on `port` of this machine and has made its token in `state_dir`.
    pub fn new(port: u16, state_dir: &Path) -> Self {
        // An error answer carries a sentence: it is read, not thrown away.
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build();
        Self {
            base: format!("http://127.0.0.1:{port}"),
            token_file: state_dir.join("admin.token"),
            agent: config.new_agent(),
            namespace: None,
        }
    }

    /// The same, of a daemon in another network.
    #[must_use]
    pub fn within(mut self, namespace: PathBuf) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Another client of the same daemon.
    pub fn twin(&self) -> Self {
        Self {
            base: self.base.clone(),
            token_file: self.token_file.clone(),
            agent: self.agent.clone(),
            namespace: self.namespace.clone(),
        }
    }

    /// The address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What the port asks for. A daemon that has never run has none yet.
    fn bearer(&self) -> String {
        let token = std::fs::read_to_string(&self.token_file).unwrap_or_default();
        format!("Bearer {}", token.trim())
    }

    /// Asks without a body, where the daemon is.
    fn bare(
        &self,
        verb: impl FnOnce(&Agent, String) -> RequestBuilder<WithoutBody> + Send,
        path: &str,
    ) -> Outcome<Response> {
        self.there(|| self.begun(verb, path).call())
    }

    /// Asks with a body, where the daemon is.
    fn full(
        &self,
        verb: impl FnOnce(&Agent, String) -> RequestBuilder<WithBody> + Send,
        path: &str,
        body: &Value,
    ) -> Outcome<Response> {
        self.there(|| self.begun(verb, path).send_json(body))
    }

    fn begun<B>(
        &self,
        verb: impl FnOnce(&Agent, String) -> RequestBuilder<B>,
        path: &str,
    ) -> RequestBuilder<B> {
        verb(&self.agent, format!("{}{path}", self.base)).header("authorization", self.bearer())
    }

    fn there(&self, how: impl FnOnce() -> Response + Send) -> Outcome<Response> {
        match &self.namespace {
            None => Ok(how()),
            Some(namespace) => network::within(namespace, how),
        }
    }

    /// GET.
    ///
    /// # Errors
    /// When nobody answers, or with an error.
    pub fn get(&self, path: &str) -> Outcome<Value> {
        answer("GET", path, self.bare(|agent, at| agent.get(at), path)?)
    }

    /// GET of what is not JSON, as `/metrics`.
    ///
    /// # Errors
    /// When nobody answers, or with an error.
    pub fn text(&self, path: &str) -> Outcome<String> {
        text("GET", path, self.bare(|agent, at| agent.get(at), path)?)
    }

    /// POST.
    ///
    /// # Errors
    /// When nobody answers, or with an error.
    pub fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        answer("POST", path, self.full(|agent, at| agent.post(at), path, body)?)
    }

    /// PATCH.
    ///
    /// # Errors
    /// When nobody answers, or with an error.
    pub fn patch(&self, path: &str, body: &Value) -> Outcome<Value> {
        answer("PATCH", path, self.full(|agent, at| agent.patch(at), path, body)?)
    }

    /// DELETE.
    ///
    /// # Errors
    /// When nobody answers, or with an error.
    pub fn delete(&self, path: &str) -> Outcome {
        answer("DELETE", path, self.bare(|agent, at| agent.delete(at), path)?).map(drop)
    }
}

type Response = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

fn answer(verb: &str, path: &str, response: Response) -> Outcome<Value> {
    let text = text(verb, path, response)?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).map_err(|error| Failure::during(format!("{verb} {path}: {text}"), error))
}

fn text(verb: &str, path: &str, response: Response) -> Outcome<String> {
    let mut response = response.map_err(|error| Failure::during(format!("{verb} {path}"), error))?;
    let status = response.status();
    let text = response
        .body_mut()
        .read_to_string()
        .map_err(|error| Failure::during(format!("{verb} {path}"), error))?;
    if !status.is_success() {
        return Err(Failure::new(format!(
            "{verb} {path} was answered with {status}: {text}"
        )));
    }
    Ok(text)
}
