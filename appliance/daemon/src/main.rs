//! # palisaded: the daemon
//!
//! Storey 6. Reads the configuration, starts the appliance, tells the service manager, waits for a signal, drains,
//! stops. Everything else is below.

#![forbid(unsafe_code)]

use clap::Parser;
use palisade_assembly::config::{Config, ConfigError, Settings};
use palisade_assembly::{Condition, Node};
use palisade_sys::affinity::allowed_cpus;
use palisade_sys::signals::{Signal, Signals};
use sd_notify::NotifyState;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Serves virtual disks to virtual machines over vhost-user-blk.
#[derive(Parser, Debug)]
#[command(name = "palisaded", version, about)]
struct Flags {
    /// Configuration file in TOML; what flags say wins over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and stop
    #[arg(long)]
    check_config: bool,
    /// Print the configuration in force as TOML and stop
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: Config,
}

/// How often the main thread looks whether the node is alive, and says so to the service manager.
const PULSE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_target(false)
        .init();
    let flags = Flags::parse();
    let given = match configuration(flags.config.as_deref(), flags.settings) {
        Ok(given) => given,
        Err(message) => return refuse(&message),
    };
    if flags.print_config {
        print!("{}", given.clone().or(Config::defaults()).to_toml());
        return ExitCode::SUCCESS;
    }
    let settings = match resolve(given) {
        Ok(settings) => settings,
        Err(message) => return refuse(&message),
    };
    if flags.check_config {
        println!("the configuration is valid");
        return ExitCode::SUCCESS;
    }
    match serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => refuse(&message),
    }
}

/// File and flags together.
fn configuration(file: Option<&Path>, flags: Config) -> Result<Config, String> {
    let Some(file) = file else { return Ok(flags) };
    let in_file = |error: String| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| in_file(error.to_string()))?;
    let read = Config::parse(&text).map_err(|error: ConfigError| in_file(error.to_string()))?;
    Ok(flags.or(read))
}

fn resolve(given: Config) -> Result<Settings, String> {
    let allowed =
        allowed_cpus().map_err(|error| format!("the cores of this process cannot be read: {error}"))?;
    let settings = given.resolve(&allowed).map_err(|error| error.to_string())?;
    settings.look_at_files().map_err(|error| error.to_string())?;
    Ok(settings)
}

fn serve(settings: Settings) -> Result<(), String> {
    let signals = Signals::block().map_err(|error| format!("signals cannot be blocked: {error}"))?;
    let mut node = Node::start(settings).map_err(|error| error.to_string())?;
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let mut stuck = None;
    loop {
        match signals.wait(PULSE) {
            Some(Signal::Stop) => break,
            Some(Signal::Reload) => log::info!("nothing to reload: change the node over REST, or restart it"),
            None => match node.condition() {
                Condition::Moving => {
                    if stuck.take().is_some() {
                        tell(&[NotifyState::Status("serving")]);
                    }
                    tell(&[NotifyState::Watchdog]);
                }
                // Not fed any more, the service manager's watchdog ends the process; without a service manager it
                // goes on as well as it can.
                Condition::Stuck(why) => {
                    if stuck.as_ref() != Some(&why) {
                        log::error!("the watchdog is no longer fed: {why}");
                        tell(&[NotifyState::Status(&why)]);
                        stuck = Some(why);
                    }
                }
                Condition::Ended(why) => return Err(format!("{why}; restarting is the remedy")),
            },
        }
    }
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    node.stop();
    Ok(())
}

/// Tells the service manager, where there is one.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("the service manager was not told: {error}");
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("palisaded: {message}");
    ExitCode::FAILURE
}
