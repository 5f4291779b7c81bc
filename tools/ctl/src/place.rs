//! Where the appliance is: as the command line says, or where the daemon's configuration on this machine puts its socket.

use crate::client;
use crate::failure::Failure;
use palisade_api::routes::{CONFIG_FILE, RUN_DIR, SOCKET_NAME};
use std::path::{Path, PathBuf};

/// Where the appliance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At a Unix socket.
    Socket(PathBuf),
    /// At an address such as `https://10.0.0.1:7780`.
    Address(String),
}

impl Place {
    /// As given, or the socket of this machine's daemon.
    ///
    /// # Errors
    /// [`Failure::Url`]: what was given is no address.
    pub(crate) fn of(url: Option<&str>) -> Result<Place, Failure> {
        let Some(url) = url else {
            return Ok(Place::Socket(socket_of(&read_config(Path::new(CONFIG_FILE)))));
        };
        let wrong = |why: &'static str| Failure::Url {
            given: url.to_owned(),
            why,
        };
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.chars().next() {
                Some('/') => Ok(Place::Socket(path.into())),
                Some(_) => Err(wrong("the path of its socket does not begin with a slash")),
                None => Err(wrong("it names no socket")),
            };
        }
        if url.starts_with('/') {
            return Ok(Place::Socket(url.into()));
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("it does not say how to get there"));
        };
        if !matches!(scheme, "http" | "https") {
            return Err(wrong("it says neither http, https nor unix"));
        }
        let authority = rest.trim_end_matches('/');
        let parsed = authority.parse::<ureq::http::uri::Authority>();
        match parsed {
            Ok(parsed)
                if !parsed.host().is_empty()
                    && !authority.contains('@')
                    && (authority == parsed.host() || parsed.port_u16().is_some()) =>
            {
                Ok(Place::Address(format!("{scheme}://{authority}")))
            }
            _ => Err(wrong("what follows :// is not one host with a port")),
        }
    }

    /// As a person writes it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Place::Socket(path) => path.display().to_string(),
            Place::Address(address) => address.clone(),
        }
    }
}

/// The daemon's configuration. Without one that the daemon would take, its socket is where it is without any.
fn read_config(path: &Path) -> String {
    client::read(path).unwrap_or_default()
}

/// Where the daemon's configuration puts the socket of this interface.
fn socket_of(config: &str) -> PathBuf {
    let table: toml::Table = toml::from_str(config).unwrap_or_default();
    let admin = table.get("admin").and_then(|admin| admin.get("socket"));
    if let Some(socket) = admin.and_then(toml::Value::as_str) {
        return socket.into();
    }
    let run_dir = table.get("run_dir").and_then(toml::Value::as_str);
    Path::new(run_dir.unwrap_or(RUN_DIR)).join(SOCKET_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_where_the_daemons_configuration_puts_it() {
        let at = |text: &str| socket_of(text).display().to_string();
        assert_eq!(at(""), "/run/palisade/api.socket");
        assert_eq!(at("run_dir = '/tmp/run'\n"), "/tmp/run/api.socket");
        assert_eq!(at("run_dir = '/r'\n[admin]\nsocket = '/s'\n"), "/s");
        assert_eq!(at("this is = no toml ="), "/run/palisade/api.socket");
    }

    #[test]
    fn a_configuration_without_an_end_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("palisade.toml");
        let text = "run_dir = '/r'\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(read_config(&path), text);
        std::fs::write(&path, format!("{text}{}", "#".repeat(1 << 20))).unwrap();
        assert_eq!(read_config(&path), "", "the daemon refuses one longer than 1 MiB");
        assert_eq!(read_config(Path::new("/dev/zero")), "");
        assert_eq!(read_config(&folder.path().join("none")), "");
    }

    #[test]
    fn an_address_says_how_to_get_there() {
        let at = |url: &str| Place::of(Some(url));
        assert_eq!(at("unix:/run/x").unwrap(), Place::Socket("/run/x".into()));
        assert_eq!(at("unix:///run/x").unwrap(), Place::Socket("/run/x".into()));
        assert_eq!(at("/run/x").unwrap(), Place::Socket("/run/x".into()));
        let address = |text: &str| Place::Address(text.into());
        assert_eq!(
            at("http://localhost:7780/").unwrap(),
            address("http://localhost:7780")
        );
        assert_eq!(at("https://[::1]:7780").unwrap(), address("https://[::1]:7780"));
        for wrong in [
            "localhost:7780",
            "localhost",
            "",
            "ftp://x",
            "unix:",
            "unix:run/x",
            "http://",
            "http://user@host:1",
            "http://host:port",
            "http://host:1/v1",
        ] {
            assert!(matches!(at(wrong), Err(Failure::Url { .. })), "{wrong}");
        }
    }
}
