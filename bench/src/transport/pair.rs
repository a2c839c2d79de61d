//! Two nodes with a pod on each, and what is between them.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Child;
use std::time::Duration;

use selvedge_lab::shape::Attach;
use selvedge_netns::Namespace;
use selvedge_tests::{Agent, Cluster, Pod, within};

use super::hand;
use super::stream::{self, Moved, Sink};
use crate::error::BenchError;
use crate::policy::traffic::{self, ADMITTED, Echo};

/// How packets reach another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    Direct,
    Vxlan,
    Udp,
    Wireguard,
}

/// Who has set the devices up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wirer {
    /// The agents and the plugin.
    Selvedge,
    /// iproute2.
    Hand,
}

/// A pod on each node, with its address.
pub(super) type Pods = [(Pod, IpAddr); 2];

/// The first pod sends to the second.
#[derive(Debug)]
pub(crate) struct Pair {
    pods: [Pod; 2],
    to: [u8; 4],
    _echo: Echo,
    _sink: Sink,
    _agents: Vec<Agent>,
    _others: Vec<Process>,
    _cluster: Cluster,
}

/// A process of somebody else's, which ends with this.
#[derive(Debug)]
pub(super) struct Process(pub(super) Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).map(drop).unwrap_or_default();
    }
}

/// How long the way between two pods may take to be there, in seconds.
const PATIENCE: f64 = 30.0;

impl Pair {
    pub(crate) fn new(wirer: Wirer, transport: Transport) -> Result<Self, BenchError> {
        let needs_root =
            || BenchError::system("make namespaces (this needs root)", io::ErrorKind::PermissionDenied);
        let cluster = Cluster::build(2, Attach::Routed).ok_or_else(needs_root)?;
        let (agents, (pods, others)) = match wirer {
            Wirer::Selvedge => {
                let (agents, pods) = by_agents(&cluster, transport)?;
                (agents, (pods, Vec::new()))
            }
            Wirer::Hand => (Vec::new(), hand::wire(&cluster, transport)?),
        };
        let [(client, _), (server, address)] = pods;
        let IpAddr::V4(to) = address else {
            return Err(BenchError::system("find a pod's IPv4 address", io::ErrorKind::NotFound));
        };
        let (echo, sink) = (Echo::serve(server.namespace())?, Sink::open(server.namespace())?);
        reach(client.namespace(), SocketAddr::from((to, ADMITTED)))?;
        // Figures of another way would be worth nothing.
        let taken = hand::run(&cluster.nodes[0].namespace, &format!("ip route get {to}"))?;
        let device = transport.device(wirer);
        if !taken.contains(&format!(" dev {device}")) {
            let what = format!("go by {device} to the other node; the route is {taken}");
            return Err(BenchError::system(what, io::ErrorKind::NotFound));
        }
        let pods = [client, server];
        Ok(Self {
            pods,
            to: to.octets(),
            _echo: echo,
            _sink: sink,
            _agents: agents,
            _others: others,
            _cluster: cluster,
        })
    }

    pub(crate) fn stream(&self, time: Duration) -> Result<Moved, BenchError> {
        stream::send(self.pods[0].namespace(), self.to, time)
    }

    /// A byte there and a byte back, again and again.
    pub(crate) fn exchanges(&self, time: Duration) -> Result<Vec<Duration>, BenchError> {
        traffic::exchanges(self.pods[0].namespace(), self.to, time)
    }
}

/// The wires of two agents and of the plugin.
fn by_agents(cluster: &Cluster, transport: Transport) -> Result<(Vec<Agent>, Pods), BenchError> {
    for node in &cluster.nodes {
        let path = node.folder().join("agent.yaml");
        let mut text = format!("attach: {}\ntransport: {transport}\n", Attach::Routed);
        if transport == Transport::Wireguard {
            let keys = cluster.nodes[0].folder().join("keys");
            text += &format!("encryption: strict\nwireguard: {{keys: {keys:?}}}\n");
        }
        fs::write(&path, text).map_err(|source| BenchError::file("write", &path, source))?;
    }
    let agents: Vec<Agent> = cluster.nodes.iter().map(selvedge_tests::Node::ready_agent).collect();
    let pods = [0, 1].map(|place: usize| {
        let attached = cluster.attach(&cluster.nodes[place], &format!("pod-{place}"));
        let address = attached.addresses[0];
        (attached.pod, address)
    });
    Ok((agents, pods))
}

/// Waits until one pod can connect to the other.
fn reach(from: &Namespace, to: SocketAddr) -> Result<(), BenchError> {
    let attempt = || from.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(500)).map(drop));
    within(PATIENCE, "one pod reaches the other", || match attempt() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    });
    Ok(())
}

impl Transport {
    pub(super) const ALL: [Self; 4] = [Self::Direct, Self::Vxlan, Self::Udp, Self::Wireguard];

    /// Who can set it up: nobody else has the forwarder of udp.
    pub(super) fn wirers(self) -> &'static [Wirer] {
        match self {
            Self::Direct | Self::Vxlan | Self::Wireguard => &[Wirer::Selvedge, Wirer::Hand],
            Self::Udp => &[Wirer::Selvedge],
        }
    }

    /// What its packets leave the node by.
    fn device(self, wirer: Wirer) -> &'static str {
        match (self, wirer) {
            (Self::Direct, _) => "eth0",
            (Self::Vxlan, Wirer::Selvedge) => "selvedge-vx",
            (Self::Vxlan, Wirer::Hand) => "flannel.1",
            (Self::Udp, _) => "selvedge-udp",
            (Self::Wireguard, Wirer::Selvedge) => "selvedge-wg",
            (Self::Wireguard, Wirer::Hand) => "flannel-wg",
        }
    }
}

impl Display for Transport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Vxlan => "vxlan",
            Self::Udp => "udp",
            Self::Wireguard => "wireguard",
        })
    }
}

impl Display for Wirer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Selvedge => "Selvedge",
            Self::Hand => "by hand",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wired_by_hand_carries_bytes() {
        for transport in [Transport::Direct, Transport::Vxlan, Transport::Wireguard] {
            let pair = match Pair::new(Wirer::Hand, transport) {
                Ok(pair) => pair,
                // Which has been told.
                Err(BenchError::System { source, .. })
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    return;
                }
                // Nobody but `make bench` needs those programs.
                Err(BenchError::System { source, .. })
                    if transport == Transport::Wireguard && source.kind() == io::ErrorKind::NotFound =>
                {
                    continue;
                }
                Err(error) => panic!("{transport}: {error}"),
            };
            assert!(pair.stream(Duration::from_millis(50)).unwrap().rate() > 0.0, "{transport}");
            assert!(!pair.exchanges(Duration::from_millis(50)).unwrap().is_empty(), "{transport}");
        }
    }
}
