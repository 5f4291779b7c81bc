//! # palisaded: the daemon
//!
//! Storey 6. Reads the configuration, starts the appliance, tells the service manager, waits for a signal, drains,
//! stops. Everything else is below.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

mod logging;
mod next_start;
mod stream;
mod watchdog;

use clap::Parser;
use next_start::NextStart;
use palisade_api::routes::CONFIG_FILE;
use palisade_assembly::config::{Config, ConfigError, Cores, Settings};
use palisade_assembly::{Condition, RunningNode};
use palisade_sys::affinity::{allowed_cpus, isolated_cpus, set_cpus, settable_cpus};
use palisade_sys::signals::{Signal, Signals};
use sd_notify::NotifyState;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use watchdog::{Say, Watchdog};

/// Serves virtual disks to virtual machines over vhost-user-blk.
#[derive(Parser, Debug)]
#[command(name = "palisaded", version, about)]
struct Flags {
    /// Configuration file in TOML; what flags say wins over it [default: /etc/palisade/palisade.toml, if it is there]
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
    // Before any thread, and before anything that a signal could interrupt.
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => return refuse(&format!("signals cannot be blocked: {error}")),
    };
    let end = run(signals);
    stream::finish();
    end
}

fn run(signals: Signals) -> ExitCode {
    logging::start();
    let flags = Flags::parse();
    let given = match configuration(flags.config.as_deref(), flags.settings.clone()) {
        Ok(given) => given,
        Err(message) => return refuse(&message),
    };
    let next = NextStart::of(flags.config, flags.settings);
    if flags.print_config {
        return say(&given.clone().or(Config::defaults()).to_toml());
    }
    let resolved = cores_of_this_machine().and_then(|cores| Ok((resolve(given, &cores)?, cores)));
    let ((settings, notes), cores) = match resolved {
        Ok(resolved) => resolved,
        Err(message) => return refuse(&message),
    };
    if flags.check_config {
        let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
        let of = match &next {
            Some(next) => format!("that of {}", next.file().display()),
            None => {
                format!("there is no {CONFIG_FILE}, so it is the defaults and what the command line says")
            }
        };
        return say(&format!("{notes}the configuration is valid: {of}\n"));
    }
    notes.iter().for_each(|note| log::warn!("{note}"));
    match serve(settings, &cores, next, &signals) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => refuse(&message),
    }
}

/// File and flags together.
fn configuration(file: Option<&Path>, flags: Config) -> Result<Config, String> {
    let default = Path::new(CONFIG_FILE);
    let text = match file {
        Some(file) => content(file),
        None => match content(default) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(flags),
            read => read,
        },
    };
    let in_file = |error: String| format!("{}: {error}", file.unwrap_or(default).display());
    let read = Config::parse(&text.map_err(|error| in_file(error.to_string()))?)
        .map_err(|error: ConfigError| in_file(error.to_string()))?;
    Ok(flags.or(read))
}

/// Longest configuration: /dev/zero named by mistake has no end.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

fn content(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(file)?
        .take(CONFIG_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    match read as u64 > CONFIG_BYTES_MAX {
        true => Err(io::Error::other("it is longer than 1 MiB")),
        false => Ok(text),
    }
}

fn resolve_only(given: Config, cores: &Cores) -> Result<Settings, String> {
    given.resolve(cores).map_err(|error| error.to_string())
}

/// The settings, and what is to be known of them.
fn resolve(given: Config, cores: &Cores) -> Result<(Settings, Vec<String>), String> {
    let settings = resolve_only(given, cores)?;
    let mut notes = settings.notes();
    notes.extend(settings.look_at_files().map_err(|error| error.to_string())?);
    Ok((settings, notes))
}

/// The cores that the kernel lets us use, and which of them it has kept clear for such as us.
fn cores_of_this_machine() -> Result<Cores, String> {
    let unreadable = |error| format!("the cores of this process cannot be read: {error}");
    let settable = settable_cpus().map_err(unreadable)?;
    let inherited = allowed_cpus().map_err(unreadable)?;
    let mut isolated = isolated_cpus();
    isolated.retain(|core| settable.contains(core));
    Ok(Cores {
        settable,
        inherited,
        isolated,
    })
}

fn serve(
    settings: Settings,
    cores: &Cores,
    next: Option<NextStart>,
    signals: &Signals,
) -> Result<(), String> {
    // Every thread that is started from here on begins where this one is; reactors then go to their own cores.
    let of_control = cores.of_control(&settings.cores);
    if let Err(error) = set_cpus(&of_control) {
        log::warn!("threads of the control plane stay where they are, cores={of_control:?}: {error}");
    }
    let mut node = start(settings.clone(), cores, next.clone())?;
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let (mut watchdog, mut looked) = (Watchdog::default(), Instant::now());
    loop {
        logging::settle();
        match signals.wait(PULSE) {
            Some(Signal::Stop) => break,
            Some(Signal::Reload) => node.reload(),
            Some(Signal::Other(number)) => log::info!("signal {number} asks for nothing here"),
            None => {}
        }
        // By the time and not by the silence: signals that come one after the other must not keep the watchdog hungry.
        if looked.elapsed() < PULSE {
            continue;
        }
        looked = Instant::now();
        let stuck = match node.condition() {
            Condition::Moving => None,
            Condition::Stuck(stuck) => Some(stuck),
            Condition::Ended(why) => return Err(format!("{why}; restarting is the remedy")),
            Condition::Joined => {
                tell(&[NotifyState::Status("starting anew as a node of a cluster")]);
                node.stop();
                node = start(settings.clone(), cores, next.clone())?;
                tell(&[NotifyState::Status("serving")]);
                None
            }
        };
        match &stuck {
            None => tell(&[NotifyState::Watchdog]),
            // Not fed any more, the service manager's watchdog ends the process; without a service manager it goes on
            // as well as it can.
            Some(stuck) => tell(&[NotifyState::Status(&stuck.message)]),
        }
        match watchdog.look(stuck.as_ref(), looked) {
            None => {}
            Some(Say::Error(text)) => log::error!("{text}"),
            Some(Say::Info(text)) => {
                log::info!("{text}");
                tell(&[NotifyState::Status("serving")]);
            }
        }
    }
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    node.stop();
    Ok(())
}

fn start(settings: Settings, cores: &Cores, next: Option<NextStart>) -> Result<RunningNode, String> {
    let node = RunningNode::start(settings).map_err(|error| error.to_string())?;
    if let Some(mut next) = next {
        let cores = cores.clone();
        let watched = node.watch_configuration(move || next.wrong(&cores));
        watched.map_err(|error| format!("the configuration thread cannot start: {error}"))?;
    }
    Ok(node)
}

/// Tells the service manager, where there is one.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("the service manager was not told: {error}");
    }
}

/// Prints what was asked for.
fn say(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&format!("nothing could be printed: {error}")),
    }
}

fn refuse(message: &str) -> ExitCode {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "palisaded: {message}");
    ExitCode::FAILURE
}
