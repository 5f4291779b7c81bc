//! What a command ends with when it did not work: a sentence, a remedy, an exit code.

use crate::client::{NO_JOIN_TOKEN, NO_TOKEN};
use crate::transport::NO_CERTIFICATE;
use palisade_api::Problem;
use palisade_consensus::BackupError;
use std::path::PathBuf;

/// How an appliance is told that was reached and said nothing.
pub const NO_ANSWER: &str = "it did not answer";

/// How an appliance is told of whose answer has not come wholly.
pub const ANSWER_BROKE_OFF: &str = "its answer broke off";

/// What is said where there is no socket.
pub const NO_SOCKET: &str = "there is no socket";

/// What is said where there is a socket and nobody behind it.
pub const NOBODY_LISTENS: &str =
    "its socket is there, and nobody listens on it: the daemon has ended without tidying up";

/// Why a command did not work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The appliance said no.
    #[error("{}{}", .0.message, field(.0))]
    Refused(Problem),
    /// Another node has to answer, and could not be asked.
    #[error("{}; asked at {url}, it did not do it: {why}", .problem.message)]
    NotFollowed {
        /// What the first one said.
        problem: Box<Problem>,
        /// Where the other one is.
        url: String,
        /// What came of asking it.
        why: Box<Failure>,
    },
    /// The appliance could not be asked.
    #[error("no appliance answers at {url}: {why}")]
    Unreachable {
        /// Where it was to be.
        url: String,
        /// Why.
        why: String,
    },
    /// The command was told how long to wait, and the appliance took longer to answer.
    #[error("the appliance at {url} did not answer within {seconds} s")]
    Late {
        /// Where it is.
        url: String,
        /// How long the answer was waited for.
        seconds: u64,
    },
    /// The appliance's certificate is not accepted.
    #[error("the certificate of the appliance at {url} is not accepted: {why}")]
    Certificate {
        /// Where.
        url: String,
        /// Why not.
        why: String,
    },
    /// Something answered that is no appliance of ours.
    #[error("what answers at {url} is no Palisade appliance: {why}")]
    Foreign {
        /// Where.
        url: String,
        /// What was wrong.
        why: String,
    },
    /// The address of the appliance is none.
    #[error("{given:?} is no address of an appliance: {why}")]
    Url {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What was typed makes no sense.
    #[error("{what}")]
    Words {
        /// Why.
        what: String,
        /// What would.
        remedy: &'static str,
    },
    /// What was agreed on is not in force in time.
    #[error("{what} is agreed on and not in force yet{}", reason(.blocked_on))]
    NotApplied {
        /// What, as "volume v1".
        what: String,
        /// What the node waits for.
        blocked_on: Option<String>,
    },
    /// Something was to be taken away, and nobody can be asked whether it really is to be.
    #[error("{what} was not touched, as there is no terminal to ask on: {}", .effects.join("; "))]
    NobodyToAsk {
        /// What, as "volume v1".
        what: String,
        /// What would happen.
        effects: Vec<String>,
        /// It takes a generation that must not have changed.
        guarded: bool,
    },
    /// Whoever was asked said no.
    #[error("{what} was not touched")]
    Declined {
        /// What was to be taken away.
        what: String,
    },
    /// A file named on the command line cannot be used.
    #[error("{path} cannot be used: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The profile that the machine is to be compared with is wrong in itself.
    #[error("profile {name} cannot be used: {why}")]
    Profile {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// A backup of the database could not be taken or restored.
    #[error("{error}")]
    State {
        /// Why.
        #[source]
        error: Box<BackupError>,
        /// What to do, where the error does not say it.
        remedy: Option<String>,
    },
    /// What was asked for is not well; everything has been said already.
    #[error("not everything is well")]
    Unwell,
    /// The terminal or pipe takes no more; nobody is left to tell.
    #[error("the output was cut off")]
    Output,
}

impl Failure {
    /// 2 when the command cannot be right as it is, 1 when the appliance or the way to it is in trouble.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::File { .. }
            | Failure::Profile { .. }
            | Failure::Url { .. }
            | Failure::Words { .. }
            | Failure::NobodyToAsk { .. } => 2,
            Failure::State { .. }
            | Failure::Refused(_)
            | Failure::NotFollowed { .. }
            | Failure::Unreachable { .. }
            | Failure::Late { .. }
            | Failure::Certificate { .. }
            | Failure::Foreign { .. }
            | Failure::NotApplied { .. }
            | Failure::Declined { .. }
            | Failure::Unwell
            | Failure::Output => 1,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Failure::Refused(problem) => Some(problem.remedy.clone()),
            Failure::NotFollowed { url, .. } => Some(format!(
                "ask that node itself, with its own token and certificate: --url {url} --token-file FILE --cacert FILE"
            )),
            Failure::Unreachable { why, .. } if why.contains("ermission denied") => Some(
                "ask as root (sudo palisade ...), or as a member of the group that admin.group in the daemon's configuration \
                 names; without one it is palisade, if there is such a group"
                    .to_owned(),
            ),
            Failure::Unreachable { why, .. }
                if why.starts_with(NO_ANSWER) || why.starts_with(ANSWER_BROKE_OFF) => Some(
                "see whether the daemon works (systemctl status palisaded, palisade health); what was asked for may be \
                 carried out all the same, so look before you ask again"
                    .to_owned(),
            ),
            Failure::Unreachable { why, .. } if why.starts_with(NO_SOCKET) => Some(
                "see whether the daemon runs (systemctl status palisaded). If it does not, start it (systemctl start \
                 palisaded); if it does, it makes a socket that was deleted anew within seconds, so ask again, or say where \
                 it is with --url or PALISADE_URL: its socket is api.socket in its run_dir, unless admin.socket names \
                 another"
                    .to_owned(),
            ),
            Failure::Unreachable { .. } => Some(
                "see whether the daemon runs (systemctl status palisaded) and start it if it does not (systemctl start \
                 palisaded), or say where it is with --url or PALISADE_URL"
                    .to_owned(),
            ),
            Failure::Late { .. } => Some(
                "it may be at work on what was asked for, and wait itself, for a file that another program has locked, say: \
                 palisade health tells whether it works. What was asked for may be carried out all the same, so look before you \
                 ask again; --wait-timeout gives it longer"
                    .to_owned(),
            ),
            Failure::Certificate { .. } => Some(
                "give the appliance's own certificate, or the one that signed it, with --cacert; with the latter, --url \
                 must have a name or address that the appliance's certificate was made for"
                    .to_owned(),
            ),
            Failure::Words { remedy, .. } => Some((*remedy).to_owned()),
            Failure::Url { .. } => Some(
                "give http://HOST:PORT, https://HOST:PORT or unix:/PATH, or leave --url and PALISADE_URL out on the \
                 appliance's own machine"
                    .to_owned(),
            ),
            Failure::Foreign { .. } => {
                Some("check --url; http and https differ, and the default port is 7780".to_owned())
            }
            Failure::NotApplied { .. } => Some(
                "it stays agreed on and will be carried out; palisade health tells what is in the way"
                    .to_owned(),
            ),
            Failure::NobodyToAsk { guarded: false, .. } => {
                Some("add --yes if that is what you want; --dry-run shows it".to_owned())
            }
            Failure::NobodyToAsk { guarded: true, .. } => Some(
                "add --yes if that is what you want; --dry-run shows it, and --expect guards against what has changed \
                 since"
                    .to_owned(),
            ),
            Failure::Declined { .. } => None,
            Failure::File { why, .. } if why == NO_TOKEN => Some(
                "give the file that admin.token_file or admin.read_token_file in the daemon's configuration names".to_owned(),
            ),
            Failure::File { why, .. } if why == NO_JOIN_TOKEN => Some(
                "give a file with the token alone, as `palisade cluster token create` has printed it on a node of the cluster"
                    .to_owned(),
            ),
            Failure::File { why, .. } if why.starts_with(NO_CERTIFICATE) => Some(
                "give a file with the certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----; one in DER form \
                 is converted by openssl"
                    .to_owned(),
            ),
            Failure::File { .. } => Some("give a file that can be read".to_owned()),
            Failure::Profile { .. } => Some("this is a fault of the program; please report it".to_owned()),
            Failure::State { remedy, .. } => remedy.clone(),
            Failure::Unwell | Failure::Output => None,
        }
    }

    /// The stable code of it, for programs.
    pub fn code(&self) -> &str {
        match self {
            Failure::Refused(problem) => &problem.code,
            Failure::NotFollowed { problem, .. } => &problem.code,
            Failure::Unreachable { .. } => "unreachable",
            Failure::Late { .. } => "late",
            Failure::Certificate { .. } => "certificate",
            Failure::Foreign { .. } => "foreign_answer",
            Failure::Url { .. } => "url_unusable",
            Failure::Words { .. } => "nonsense",
            Failure::NotApplied { .. } => "not_applied",
            Failure::NobodyToAsk { .. } => "consent_needed",
            Failure::Declined { .. } => "declined",
            Failure::File { .. } => "file_unusable",
            Failure::Profile { .. } => "profile_unusable",
            Failure::State { .. } => "state",
            Failure::Unwell => "unwell",
            Failure::Output => "output",
        }
    }
}

fn field(problem: &Problem) -> String {
    match &problem.field {
        Some(field) => format!(" (field {field})"),
        None => String::new(),
    }
}

fn reason(blocked_on: &Option<String>) -> String {
    match blocked_on {
        Some(why) => format!(": {why}"),
        None => String::new(),
    }
}

impl From<std::io::Error> for Failure {
    /// The only thing this program writes to is its output.
    fn from(_: std::io::Error) -> Failure {
        Failure::Output
    }
}
