//! # palisade: the command line
//!
//! Storey 6. Everything an operator does, through the REST interface and nothing else: every resource, tables for
//! people, JSON for programs, and what to paste to give a disk to a virtual machine.
//!
//! It must never know where or how the appliance keeps anything; but for `state restore`, and `state backup` of a daemon
//! that does not run, which hand a directory that the operator names to `palisade-consensus`.
//!
//! What must hold: answers go to standard output, everything else to standard error; an error is a sentence and a
//! remedy; the exit code is 0 when it worked, 1 when the appliance refused or is unwell, 2 when the command is wrong.
//!
//! Start reading at [`args`], then [`command`].

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

mod args;
mod client;
mod command;
mod completion;
mod consent;
mod examples;
mod failure;
mod numbers;
mod paste;
mod place;
#[cfg(test)]
mod remedies;
mod show;
mod transport;
mod wait;

use crate::args::{Cli, Command};
use crate::client::Client;
use crate::failure::Failure;
use crate::show::Output;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| numbers::explained(error).exit());
    let json = cli.target.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, json);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let out = Output {
        json: cli.target.json,
    };
    let command = match cli.command {
        Command::Preflight(args) => return command::preflight::preflight_command(out, &args),
        Command::Completions { shell } => return completion::script(shell),
        command => command,
    };
    let client = &Client::new(&cli.target)?.within(command.waits());
    match command {
        Command::Node { command } => command::node::run(client, out, command),
        Command::Reactors => command::node::reactors(client, out),
        Command::Health => command::health::health(client, out),
        Command::Nodes => command::node::nodes(client, out),
        Command::Cluster { command } => command::cluster::run(client, out, command),
        Command::Events(events) => command::events::events(client, out, &events),
        Command::Top(top) => command::top::top(client, out, &top),
        Command::Disk(disk) => command::disk::run(client, out, disk),
        Command::State(state) => command::state::run(client, out, state),
        Command::Volume(volume) => command::volume::run(client, out, volume),
        Command::Attachment(attachment) => command::attachment::run(client, out, attachment),
        Command::Ids { kind } => completion::ids(client, kind),
        // Done above, without an appliance.
        Command::Preflight(_) | Command::Completions { .. } => Ok(()),
    }
}

/// Says what went wrong: a sentence and a remedy, or for programs one object of the same shape as REST's problems.
fn report(failure: &Failure, json: bool) {
    match failure {
        Failure::Unwell | Failure::Output => {}
        failure if json => {
            let field = match failure {
                Failure::Refused(problem) => problem.field.clone(),
                _ => None,
            };
            let object = serde_json::json!({
                "code": failure.code(),
                "message": failure.to_string(),
                "field": field,
                "remedy": failure.remedy(),
            });
            Output::aside(object);
        }
        failure => {
            Output::aside(format_args!("palisade: {failure}"));
            if let Some(remedy) = failure.remedy() {
                Output::aside(format_args!("  remedy: {remedy}"));
            }
        }
    }
}
