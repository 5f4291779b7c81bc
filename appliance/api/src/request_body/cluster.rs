//! What requests about the cluster must keep to: where nodes are, what they are called, and how a join token looks.

use super::{RequestBody, invalid, nothing_named};
use crate::cluster::{
    ClusterInit, ClusterJoin, JOIN_TOKEN_CHARS_MAX, JOIN_TOKEN_PREFIX, JoinTokenCreate, NODE_ADDRESSES_MAX,
    NodePatch, TOKEN_VALID_S_MAX, TOKEN_VALID_S_MIN,
};
use crate::problem::{Problem, ProblemKind};
use palisade_words::Name;
use std::net::{IpAddr, SocketAddr};

impl RequestBody for ClusterInit {
    fn check(&self) -> Result<(), Problem> {
        addresses("addresses", &self.addresses)?;
        optional_name("failure_domain", self.failure_domain.as_deref(), "rack-3")
    }
}

impl RequestBody for ClusterJoin {
    fn check(&self) -> Result<(), Problem> {
        addresses("peers", &self.peers)?;
        join_token(&self.token)?;
        addresses("addresses", &self.addresses)?;
        optional_name("name", self.name.as_deref(), "host-b")?;
        optional_name("failure_domain", self.failure_domain.as_deref(), "rack-3")
    }
}

impl RequestBody for JoinTokenCreate {
    fn check(&self) -> Result<(), Problem> {
        // The id is listed and recorded, where a token must never stand.
        if self.id.starts_with(JOIN_TOKEN_PREFIX) {
            let message = "an id that begins as the text of a token does would be taken for one";
            return Err(invalid("id", message, "choose another id, such as node-2"));
        }
        name("id", &self.id, "node-2")?;
        match self.valid_s {
            TOKEN_VALID_S_MIN..=TOKEN_VALID_S_MAX => Ok(()),
            seconds => {
                let message = format!("a token cannot be valid for {seconds} s");
                let remedy = format!(
                    "give from {TOKEN_VALID_S_MIN} (a minute) to {TOKEN_VALID_S_MAX} (30 days); nodes that join later get a token later"
                );
                Err(invalid("valid_s", &message, &remedy))
            }
        }
    }
}

impl RequestBody for NodePatch {
    fn check(&self) -> Result<(), Problem> {
        if *self == NodePatch::default() {
            return Err(nothing_named(
                "node",
                "`peer_addresses`, `failure_domain` or `role`",
            ));
        }
        if let Some(wanted) = &self.peer_addresses {
            addresses("peer_addresses", wanted)?;
        }
        optional_name("failure_domain", self.failure_domain.as_deref(), "rack-3")
    }
}

/// Refuses a text that the model would not take as a name.
fn name(field: &'static str, text: &str, example: &str) -> Result<(), Problem> {
    match Name::new(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Problem::new(
            ProblemKind::Invalid,
            "invalid_name",
            error.to_string(),
            format!("choose a name such as {example}"),
        )
        .about(field)),
    }
}

fn optional_name(field: &'static str, text: Option<&str>, example: &str) -> Result<(), Problem> {
    text.map_or(Ok(()), |text| name(field, text, example))
}

/// Refuses addresses at which no other node could ask: each is one IP address with a port, and none is there twice.
fn addresses(field: &'static str, texts: &[String]) -> Result<(), Problem> {
    if texts.is_empty() {
        return Err(invalid(field, "no address is named", ADDRESS_REMEDY));
    }
    if texts.len() > NODE_ADDRESSES_MAX {
        let message = format!("{} addresses are named", texts.len());
        let remedy = format!("name at most {NODE_ADDRESSES_MAX}");
        return Err(invalid(field, &message, &remedy));
    }
    let mut known: Vec<SocketAddr> = Vec::new();
    for text in texts {
        let address = address(field, text)?;
        if known.contains(&address) {
            let message = format!("{address} is named twice");
            return Err(invalid(field, &message, "name each address once"));
        }
        known.push(address);
    }
    Ok(())
}

const ADDRESS_REMEDY: &str = "give an IP address with a port, as 192.0.2.7:7781 or [2001:db8::7]:7781";

/// One address. A name of a host would have to be looked up wherever it is told, and be another address there; a zone, as in
/// `fe80::1%2`, is a number of one machine's own.
fn address(field: &'static str, text: &str) -> Result<SocketAddr, Problem> {
    let refused = |why: &str| {
        let message = format!("{} {why}", quoted(text));
        Err(invalid(field, &message, ADDRESS_REMEDY))
    };
    let Ok(address) = text.parse::<SocketAddr>() else {
        return refused("is no IP address with a port");
    };
    if text.contains('%') {
        return refused("has a zone, which means something on one machine alone");
    }
    // An IPv4 address may be written as an IPv6 one.
    let ip = address.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    match address.port() {
        0 => refused("has port 0, which is none"),
        _ if ip.is_unspecified() => {
            refused("names all addresses of a machine, and not one that others can reach")
        }
        _ if ip.is_multicast() || is_broadcast => refused("names many machines, and not one"),
        port => Ok(SocketAddr::new(ip, port)),
    }
}

/// A text of the client's, in a sentence: not all of it where it is long, and nothing of it where it looks like a token.
fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    if text.contains(JOIN_TOKEN_PREFIX) {
        return "a join token".to_owned();
    }
    let short: String = text.chars().take(CHARS_MAX).collect();
    match short.len() < text.len() {
        true => format!("\"{}...\"", short.escape_debug()),
        false => format!("\"{}\"", short.escape_debug()),
    }
}

/// Refuses what cannot be a join token, without a word of it: whether it lets anybody in, the cluster says.
fn join_token(text: &str) -> Result<(), Problem> {
    let refused = |message: &str| {
        let remedy =
            "give the whole line that `palisade cluster token create` has printed on a node of the cluster";
        Err(invalid("token", message, remedy))
    };
    let Some(rest) = text.strip_prefix(JOIN_TOKEN_PREFIX) else {
        return refused(&format!(
            "a join token begins with {JOIN_TOKEN_PREFIX}, and this does not"
        ));
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match text.len() {
        _ if rest.is_empty() => refused("nothing follows what every join token begins with"),
        _ if !text.chars().all(allowed) => refused(
            "a join token consists of letters, digits, '-' and '_', and this has something else in it",
        ),
        length if length > JOIN_TOKEN_CHARS_MAX => refused(&format!(
            "a join token has at most {JOIN_TOKEN_CHARS_MAX} characters, and this has {length}"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeRole;

    fn said(checked: Result<(), Problem>) -> Option<(String, String)> {
        checked
            .err()
            .map(|problem| (problem.field.unwrap_or_default(), problem.message))
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn init(addresses: &[&str]) -> ClusterInit {
        ClusterInit {
            addresses: texts(addresses),
            failure_domain: None,
        }
    }

    const TOKEN: &str = "palisade-join-aeydcmrtgq2tmnzyhfqwey3emvtkljnf";

    fn join() -> ClusterJoin {
        ClusterJoin {
            peers: texts(&["192.0.2.7:7781"]),
            token: TOKEN.to_owned(),
            addresses: texts(&["192.0.2.8:7781"]),
            name: Some("host-b".to_owned()),
            failure_domain: Some("rack-3".to_owned()),
        }
    }

    #[test]
    fn an_address_is_one_that_another_node_can_ask_at() {
        for good in [
            &["192.0.2.7:7781"][..],
            &["127.0.0.1:1"],
            &["[::1]:7781"],
            &["[2001:db8::7]:65535", "192.0.2.7:7781", "192.0.2.7:7782"],
            &[
                "10.0.0.1:1",
                "10.0.0.2:1",
                "10.0.0.3:1",
                "10.0.0.4:1",
                "10.0.0.5:1",
                "10.0.0.6:1",
                "10.0.0.7:1",
                "10.0.0.8:1",
            ],
        ] {
            assert_eq!(said(init(good).check()), None, "{good:?}");
        }
        for (bad, part) in [
            (&[][..], "no address is named"),
            (&["host-b:7781"], "\"host-b:7781\" is no IP address with a port"),
            (&["192.0.2.7"], "is no IP address"),
            (&["2001:db8::7:7781"], "is no IP address"),
            (&[" 192.0.2.7:7781"], "is no IP address"),
            (&["192.0.2.7:0"], "port 0"),
            (&["192.0.2.7:70000"], "is no IP address"),
            (&["0.0.0.0:7781"], "all addresses of a machine"),
            (&["[::]:7781"], "all addresses of a machine"),
            (&["[::ffff:0.0.0.0]:7781"], "all addresses of a machine"),
            (&["224.0.0.1:7781"], "many machines"),
            (&["[ff02::1]:7781"], "many machines"),
            (&["255.255.255.255:7781"], "many machines"),
            (&["[fe80::1%2]:7781"], "zone"),
            (&["192.0.2.7:7781", "192.0.2.7:7781"], "named twice"),
            (
                &["192.0.2.7:7781", "[::ffff:192.0.2.7]:7781"],
                "192.0.2.7:7781 is named twice",
            ),
            (&["10.0.0.1:1"; 9], "9 addresses"),
        ] {
            let (field, message) = said(init(bad).check()).unwrap();
            assert!(
                field == "addresses" && message.contains(part),
                "{bad:?}: {field}: {message}"
            );
        }
        let long = "x".repeat(60_000);
        assert!(said(init(&[&long]).check()).unwrap().1.len() < 200);
    }

    #[test]
    fn each_list_of_addresses_is_looked_at() {
        let (peers, own) = (
            ClusterJoin {
                peers: texts(&["host-a:7781"]),
                ..join()
            },
            ClusterJoin {
                addresses: vec![],
                ..join()
            },
        );
        let patch = NodePatch {
            peer_addresses: Some(vec![]),
            ..NodePatch::default()
        };
        assert_eq!(said(join().check()), None);
        for (checked, field) in [
            (peers.check(), "peers"),
            (own.check(), "addresses"),
            (patch.check(), "peer_addresses"),
        ] {
            assert_eq!(said(checked).unwrap().0, field);
        }
    }

    #[test]
    fn a_token_is_looked_at_and_never_repeated() {
        let longest = format!(
            "{JOIN_TOKEN_PREFIX}{}",
            "a".repeat(JOIN_TOKEN_CHARS_MAX - JOIN_TOKEN_PREFIX.len())
        );
        let with = |token: &str| ClusterJoin {
            token: token.to_owned(),
            ..join()
        };
        assert_eq!(said(with(&longest).check()), None);
        for (bad, part) in [
            ("", "begins with palisade-join-"),
            ("secretsecretsecret", "begins with palisade-join-"),
            ("palisade-join-", "nothing follows"),
            ("palisade-join-secret secret", "something else"),
            ("palisade-join-secret\n", "something else"),
            ("palisade-join-sécret", "something else"),
            (&format!("{longest}a"), "at most 512"),
        ] {
            let (field, message) = said(with(bad).check()).unwrap();
            assert!(field == "token" && message.contains(part), "{bad}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
        // Nor where it was put by mistake.
        let misplaced = ClusterJoin {
            peers: texts(&[TOKEN]),
            ..join()
        };
        let (_, message) = said(misplaced.check()).unwrap();
        assert!(message.starts_with("a join token is no IP address"), "{message}");
        let shown = format!("{:?}", join());
        assert!(
            !shown.contains(TOKEN) && shown.contains("192.0.2.8:7781"),
            "{shown}"
        );
    }

    #[test]
    fn names_are_those_that_the_model_takes() {
        for bad in ["", "Rack", "3", "a-", "a b", &"x".repeat(64)] {
            let field = |checked| said(checked).map(|(field, _)| field);
            let some = || Some(bad.to_owned());
            let token = JoinTokenCreate {
                id: bad.to_owned(),
                role: NodeRole::Voter,
                valid_s: 60,
            };
            let patch = NodePatch {
                failure_domain: some(),
                ..NodePatch::default()
            };
            let first = ClusterInit {
                failure_domain: some(),
                ..init(&["192.0.2.7:7781"])
            };
            let named = ClusterJoin {
                name: some(),
                ..join()
            };
            let placed = ClusterJoin {
                failure_domain: some(),
                ..join()
            };
            for (checked, about) in [
                (token.check(), "id"),
                (patch.check(), "failure_domain"),
                (first.check(), "failure_domain"),
                (named.check(), "name"),
                (placed.check(), "failure_domain"),
            ] {
                assert_eq!(field(checked).as_deref(), Some(about), "{bad}");
            }
        }
    }

    #[test]
    fn a_token_is_valid_for_a_minute_to_a_month_and_is_not_called_as_one_looks() {
        let token = |id: &str, valid_s| JoinTokenCreate {
            id: id.to_owned(),
            role: NodeRole::Learner,
            valid_s,
        };
        for (request, field) in [
            (token("node-2", 59), Some("valid_s")),
            (token("node-2", 60), None),
            (token("node-2", 2_592_000), None),
            (token("node-2", 2_592_001), Some("valid_s")),
            (token("node-2", u64::MAX), Some("valid_s")),
            (token("palisade-join-x", 60), Some("id")),
        ] {
            let about = said(request.check()).map(|(field, _)| field);
            assert_eq!(about.as_deref(), field, "{request:?}");
        }
    }

    #[test]
    fn a_change_of_nothing_is_refused() {
        assert!(NodePatch::default().check().is_err());
        let role = NodePatch {
            role: Some(NodeRole::Learner),
            ..NodePatch::default()
        };
        assert_eq!(said(role.check()), None);
    }
}
