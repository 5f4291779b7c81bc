//! The real server in front of a stand-in for the appliance, and the real program run against it.

#[path = "../../../../appliance/admin/tests/fake/mod.rs"]
pub mod fake;

use fake::Fake;
use palisade_admin::{AdminConfig, Server};
use std::process::{Command, Output};
use std::sync::Arc;

/// A server on a port of its own, and what stands behind it.
pub struct Site {
    #[allow(
        dead_code,
        reason = "not every test that includes this file looks behind the server"
    )]
    pub fake: Arc<Fake>,
    pub server: Server,
}

impl Site {
    /// Without anything.
    pub fn new() -> Site {
        let fake = Arc::new(Fake::new());
        let config = AdminConfig::plain("127.0.0.1:0".parse().unwrap());
        let server = Server::start(config, fake.clone()).unwrap();
        Site { fake, server }
    }

    /// Its address.
    pub fn url(&self) -> String {
        url_of(&self.server)
    }

    /// Runs the program against it.
    pub fn palisade(&self, args: &str) -> Ran {
        run(&self.url(), args)
    }

    /// With a disk d1, a volume v1 and an attachment web1.
    #[allow(
        dead_code,
        reason = "not every test that includes this file attaches anything"
    )]
    pub fn with_attachment() -> Site {
        let site = Site::new();
        site.palisade("disk add d1 --memory 10GiB").ok();
        site.palisade("volume create v1 1GiB --disk d1").ok();
        site.palisade("attachment create web1 v1 --queues 4 --socket /run/vm,1/it's.sock")
            .ok();
        site
    }
}

/// The address of a server.
pub fn url_of(server: &Server) -> String {
    format!("http://{}", server.address().unwrap())
}

/// How a run has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// What it printed, when it ended well.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The same as JSON.
    #[allow(dead_code, reason = "not every test that includes this file asks for JSON")]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The program, pointed at a server and with nothing else in its environment.
pub fn program(url: &str, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
    command.args(args.split(' ')).env_clear().env("PALISADE_URL", url);
    command
}

/// Runs it.
pub fn run(url: &str, args: &str) -> Ran {
    program(url, args).output().unwrap().into()
}

/// The words of the line that begins with `first`.
#[allow(dead_code, reason = "not every test that includes this file reads tables")]
pub fn line<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let found = text
        .lines()
        .find(|line| line.split_whitespace().next() == Some(first));
    found
        .unwrap_or_else(|| panic!("no line {first} in\n{text}"))
        .split_whitespace()
        .collect()
}
