//! Two nodes wired with iproute2 and iptables, as flannel's backends `host-gw`, `vxlan` and `wireguard` wire them: a bridge
//! with the pods' subnet on each, and one route, and with VXLAN one neighbour and one entry of the device's table, a peer.
//! Where the kernel has no WireGuard, wireguard-go encrypts.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ipnet::IpNet;
use selvedge_model::PublicKey;
use selvedge_netns::Namespace;
use selvedge_tests::{Cluster, within};
use selvedge_wireguard::SecretKey;

use super::pair::{Pods, Process, Transport};
use crate::error::BenchError;

/// The pod network of the lab's nodes.
const NETWORK: &str = "10.244.0.0/16";
/// What VXLAN over IPv4 adds to a packet.
const OVERHEAD: u16 = 50;
/// What WireGuard does.
const ENCRYPTED_OVERHEAD: u16 = 60;

/// One node as the other has to know it.
#[derive(Debug)]
struct Peer {
    address: IpAddr,
    pods: IpNet,
    /// Of its VXLAN device.
    mac: &'static str,
    /// The file of its WireGuard key.
    key: PathBuf,
    /// The public half.
    public: PublicKey,
    /// Its WireGuard device.
    device: &'static str,
}

/// Wires the first two nodes of a cluster and a pod on each; the pods, and their addresses.
pub(super) fn wire(cluster: &Cluster, transport: Transport) -> Result<(Pods, Vec<Process>), BenchError> {
    let peers = [
        peer(cluster, 0, ("02:00:00:00:00:0a", "flannel-wg-a"))?,
        peer(cluster, 1, ("02:00:00:00:00:0b", "flannel-wg-b"))?,
    ];
    let mut processes = Vec::new();
    let pods: [Result<_, BenchError>; 2] = [0, 1].map(|place: usize| {
        let (node, own, other) = (&cluster.nodes[place].namespace, &peers[place], &peers[1 - place]);
        let mtu = match transport {
            Transport::Direct => 1500,
            Transport::Vxlan => 1500 - OVERHEAD,
            Transport::Wireguard => 1500 - ENCRYPTED_OVERHEAD,
            Transport::Udp => {
                return Err(BenchError::system("forward in plain UDP by hand", io::ErrorKind::Unsupported));
            }
        };
        let pod = cluster.pod();
        let address = host(own, 2);
        run_all(node, &bridge(own, &pod.path(), mtu))?;
        run_all(pod.namespace(), &inside(own, address))?;
        node.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?
            .map_err(|source| BenchError::system("let a node forward", source))?;
        run_all(node, &rules(own))?;
        if transport == Transport::Wireguard {
            processes.extend(device(node, own.device)?);
        }
        run_all(node, &ways(transport, own, other))?;
        Ok((pod, address))
    });
    let [client, server] = pods;
    Ok(([client?, server?], processes))
}

fn peer(
    cluster: &Cluster,
    place: usize,
    (mac, device): (&'static str, &'static str),
) -> Result<Peer, BenchError> {
    let node = &cluster.nodes[place];
    let key = node.folder().join("flannel.key");
    let made = SecretKey::generate(&key);
    let public = made.map_err(|why| BenchError::system("make a key", io::Error::other(why)))?.public();
    let (address, pods) = (node.plan.addresses[0].addr(), node.plan.pod_cidrs[0]);
    Ok(Peer { address, pods, mac, key, public, device })
}

/// Makes a WireGuard device; the process that encrypts, if the kernel can't.
fn device(node: &Namespace, name: &str) -> Result<Option<Process>, BenchError> {
    if run(node, &format!("ip link add {name} type wireguard")).is_ok() {
        return Ok(None);
    }
    let mut command = Command::new("wireguard-go");
    command.args(["--foreground", name]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = node.run(|| command.spawn())?;
    let process = started.map_err(|source| BenchError::system("run wireguard-go", source)).map(Process)?;
    within(10.0, "wireguard-go has its device", || {
        run(node, &format!("wg show {name}")).map(drop).map_err(|why| why.to_string())
    });
    Ok(Some(process))
}

/// An address of a node's pod network.
fn host(peer: &Peer, number: usize) -> IpAddr {
    peer.pods.hosts().nth(number - 1).unwrap_or_else(|| peer.pods.network())
}

fn bridge(own: &Peer, pod: &Path, mtu: u16) -> Vec<String> {
    let (gateway, length, pod) = (host(own, 1), own.pods.prefix_len(), pod.display());
    vec![
        "ip link add cni0 type bridge".to_owned(),
        format!("ip link set cni0 mtu {mtu} up"),
        format!("ip address add {gateway}/{length} dev cni0"),
        format!("ip link add veth0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {pod}"),
        "ip link set veth0 master cni0 up".to_owned(),
    ]
}

fn inside(own: &Peer, address: IpAddr) -> Vec<String> {
    vec![
        "ip link set lo up".to_owned(),
        "ip link set eth0 up".to_owned(),
        format!("ip address add {address}/{} dev eth0", own.pods.prefix_len()),
        format!("ip route add default via {}", host(own, 1)),
    ]
}

/// Masquerading, and leave to forward.
fn rules(own: &Peer) -> Vec<String> {
    let pods = own.pods;
    let rules = [
        "--table nat --new FLANNEL-POSTRTG".to_owned(),
        "--table nat --append POSTROUTING --jump FLANNEL-POSTRTG".to_owned(),
        format!(
            "--table nat --append FLANNEL-POSTRTG --source {NETWORK} --destination {NETWORK} --jump RETURN"
        ),
        format!(
            "--table nat --append FLANNEL-POSTRTG --source {NETWORK} ! --destination 224.0.0.0/4 --jump MASQUERADE --random-fully"
        ),
        format!(
            "--table nat --append FLANNEL-POSTRTG ! --source {NETWORK} --destination {pods} --jump RETURN"
        ),
        format!(
            "--table nat --append FLANNEL-POSTRTG ! --source {NETWORK} --destination {NETWORK} --jump MASQUERADE --random-fully"
        ),
        "--new FLANNEL-FWD".to_owned(),
        "--append FORWARD --jump FLANNEL-FWD".to_owned(),
        format!("--append FLANNEL-FWD --source {NETWORK} --jump ACCEPT"),
        format!("--append FLANNEL-FWD --destination {NETWORK} --jump ACCEPT"),
    ];
    rules.map(|rule| format!("iptables {rule}")).to_vec()
}

/// What leads to the other node's pods.
fn ways(transport: Transport, own: &Peer, other: &Peer) -> Vec<String> {
    let (address, pods, next) = (other.address, other.pods, other.pods.network());
    match transport {
        Transport::Direct => vec![format!("ip route add {pods} via {address} dev eth0")],
        Transport::Vxlan => vec![
            format!(
                "ip link add flannel.1 address {} mtu {} type vxlan id 1 local {} dev eth0 dstport 8472 nolearning",
                own.mac,
                1500 - OVERHEAD,
                own.address
            ),
            "ip link set flannel.1 up".to_owned(),
            format!("ip address add {}/32 dev flannel.1", own.pods.network()),
            format!("ip neighbour add {next} lladdr {} dev flannel.1 nud permanent", other.mac),
            format!("bridge fdb append {} dev flannel.1 dst {address}", other.mac),
            format!("ip route add {pods} via {next} dev flannel.1 onlink"),
        ],
        Transport::Wireguard => {
            let Peer { device, key, .. } = own;
            vec![
                format!("ip link set {device} mtu {} up", 1500 - ENCRYPTED_OVERHEAD),
                format!("ip address add {}/32 dev {device}", own.pods.network()),
                format!("wg set {device} listen-port 51820 private-key {}", key.display()),
                format!("wg set {device} peer {} endpoint {address}:51820 allowed-ips {pods}", other.public),
                format!("ip route add {pods} dev {device} scope link"),
            ]
        }
        Transport::Udp => Vec::new(),
    }
}

fn run_all(place: &Namespace, commands: &[String]) -> Result<(), BenchError> {
    commands.iter().try_for_each(|command| run(place, command).map(drop))
}

/// Runs a command, of words without spaces in them, in a namespace; what it printed.
pub(super) fn run(place: &Namespace, command: &str) -> Result<String, BenchError> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let ran = place.run(|| Command::new(program).args(words).output())?;
    let output = ran.map_err(|source| BenchError::system(format!("run {program}"), source))?;
    if !output.status.success() {
        return Err(BenchError::Setup { command: command.to_owned(), status: output.status });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
