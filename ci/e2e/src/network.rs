//! A network of hosts on this machine: each a network namespace with an address in every subnet, each subnet a bridge that nothing
//! else is on. What is pulled out of its bridge is lost without a word, as behind a switch that has died.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Failure, Outcome, demand};

/// Hosts and subnets; gone when dropped.
#[derive(Debug)]
pub struct HostNetwork {
    /// What names of interfaces and namespaces begin with: at most 15 characters are allowed for all of it.
    prefix: String,
    hosts: usize,
    subnets: usize,
}

impl HostNetwork {
    /// So many hosts on so many subnets; both are numbered from 0.
    ///
    /// # Errors
    /// `ip` (iproute2) is not there, or this is not root.
    pub fn new(hosts: usize, subnets: usize) -> Outcome<HostNetwork> {
        let network = HostNetwork {
            prefix: format!("p{}", std::process::id()),
            hosts,
            subnets,
        };
        for subnet in 0..subnets {
            let bridge = network.bridge(subnet);
            ip(&format!("link add {bridge} type bridge"))?;
            ip(&format!("link set {bridge} up"))?;
        }
        for host in 0..hosts {
            let name = network.host(host);
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
            for subnet in 0..subnets {
                let (plug, inside) = (network.plug(host, subnet), format!("eth{subnet}"));
                ip(&format!(
                    "link add {plug} type veth peer name {inside} netns {name}"
                ))?;
                let address = network.address(host, subnet);
                ip(&format!("-n {name} address add {address}/24 dev {inside}"))?;
                ip(&format!("-n {name} link set {inside} up"))?;
                ip(&format!("link set {plug} up"))?;
                network.plug_in(host, subnet)?;
            }
        }
        Ok(network)
    }

    /// The name of a host's namespace.
    pub fn host(&self, host: usize) -> String {
        format!("{}n{host}", self.prefix)
    }

    /// The file that stands for it.
    pub fn namespace(&self, host: usize) -> PathBuf {
        PathBuf::from("/run/netns").join(self.host(host))
    }

    /// Its address in a subnet.
    pub fn address(&self, host: usize, subnet: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, subnet as u8, 1 + host as u8)
    }

    /// Pulls a host out of a subnet: its interface stays up, and what it sends is lost.
    ///
    /// # Errors
    /// The words of `ip`.
    pub fn cut(&self, host: usize, subnet: usize) -> Outcome {
        ip(&format!("link set {} nomaster", self.plug(host, subnet)))
    }

    /// Puts it back.
    ///
    /// # Errors
    /// The words of `ip`.
    pub fn plug_in(&self, host: usize, subnet: usize) -> Outcome {
        ip(&format!(
            "link set {} master {}",
            self.plug(host, subnet),
            self.bridge(subnet)
        ))
    }

    /// Pulls a host out of all subnets.
    ///
    /// # Errors
    /// The words of `ip`.
    pub fn isolate(&self, host: usize) -> Outcome {
        (0..self.subnets).try_for_each(|subnet| self.cut(host, subnet))
    }

    /// Puts it back into all of them.
    ///
    /// # Errors
    /// The words of `ip`.
    pub fn rejoin(&self, host: usize) -> Outcome {
        (0..self.subnets).try_for_each(|subnet| self.plug_in(host, subnet))
    }

    fn bridge(&self, subnet: usize) -> String {
        format!("{}b{subnet}", self.prefix)
    }

    fn plug(&self, host: usize, subnet: usize) -> String {
        format!("{}h{host}s{subnet}", self.prefix)
    }
}

impl Drop for HostNetwork {
    fn drop(&mut self) {
        // What ends with a namespace ends here; what is left is told by the next that wants the name.
        for host in 0..self.hosts {
            let _ = ip(&format!("netns del {}", self.host(host)));
        }
        for subnet in 0..self.subnets {
            let _ = ip(&format!("link del {}", self.bridge(subnet)));
        }
    }
}

/// Does something as a program of a host would: its connections are made there.
///
/// # Errors
/// The namespace cannot be entered.
pub fn within<T: Send>(namespace: &PathBuf, what: impl FnOnce() -> T + Send) -> Outcome<T> {
    let during = |error| Failure::during(namespace.display(), error);
    let file = File::open(namespace).map_err(during)?;
    // The thread is in the namespace until it ends, which is here.
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let network = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), network)?;
            Ok(what())
        });
        let done = done.join();
        done.map_err(|_| Failure::new("a thread in another namespace has panicked"))?
            .map_err(|error: rustix::io::Errno| during(error.into()))
    })
}

fn ip(arguments: &str) -> Outcome {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| Failure::during("ip", error))?;
    demand(
        output.status.success(),
        format!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    )
}
