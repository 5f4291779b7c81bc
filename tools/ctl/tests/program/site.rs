//! A whole node behind its real server, and the real program run against it.

#[path = "../../../../appliance/assembly/tests/node/mod.rs"]
pub mod node;

use node::TestNode;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A node of its own.
pub struct Site {
    pub node: TestNode,
}

impl Site {
    /// Without anything.
    pub fn new() -> Site {
        Site::of(TestNode::new())
    }

    /// With this one.
    pub fn of(node: TestNode) -> Site {
        Site { node }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.node.address())
    }

    /// A command line, in which `@` stands for the folder of the node.
    pub fn words(&self, args: &str) -> String {
        args.replace('@', &self.node.text(""))
    }

    /// Runs the program against it, with a command line as [`Site::words`] takes them.
    pub fn palisade(&self, args: &str) -> Ran {
        run(&self.url(), &self.words(args))
    }

    /// The program, to be run likewise.
    pub fn program(&self, args: &str) -> Command {
        program(&self.url(), &self.words(args))
    }

    /// With a disk d1, a volume v1 and an attachment web1, all of them in force.
    pub fn with_attachment() -> Site {
        let site = Site::new();
        site.palisade("disk add d1 --memory 64MiB").ok();
        site.palisade("volume create v1 16MiB --disk d1").ok();
        std::fs::create_dir(site.node.path("vm,1")).unwrap();
        site.palisade("attachment create web1 v1 --queues 4 --socket @vm,1/it's.sock --wait")
            .ok();
        site
    }

    /// A virtual machine connects to web1, and leaves when what this gives is dropped.
    pub fn machine(&self) -> UnixStream {
        let machine = UnixStream::connect(self.node.path("vm,1/it's.sock")).unwrap();
        self.until("attachment show web1 --json", |ran| {
            ran.json()["connection"]["state"] == "connected"
        });
        machine
    }

    /// Runs it again and again until it ends as it should.
    pub fn until(&self, args: &str, is: impl Fn(&Ran) -> bool) -> Ran {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let ran = self.palisade(args);
            if is(&ran) {
                return ran;
            }
            assert!(Instant::now() < deadline, "{args}: {ran:?}");
        }
    }

    /// Asks the server itself, over its Unix socket and one connection for all: many requests take a moment.
    pub fn post_all(&self, path: &str, bodies: impl Iterator<Item = String>) {
        let stream = UnixStream::connect(self.node.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut answers = BufReader::new(&stream);
        for body in bodies {
            let length = body.len();
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: palisade\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{body}"
            );
            (&stream).write_all(request.as_bytes()).unwrap();
            let head: Vec<String> = answers
                .by_ref()
                .lines()
                .map(Result::unwrap)
                .take_while(|line| !line.is_empty())
                .collect();
            let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
            let mut answer = vec![0; length.unwrap().parse().unwrap()];
            answers.read_exact(&mut answer).unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(head[0], "HTTP/1.1 201 Created", "{body}: {answer}");
        }
    }
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
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
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
pub fn line<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let found = text
        .lines()
        .find(|line| line.split_whitespace().next() == Some(first));
    found
        .unwrap_or_else(|| panic!("no line {first} in\n{text}"))
        .split_whitespace()
        .collect()
}
