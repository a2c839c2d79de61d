//! How long the netlink part of a routed pod's ADD takes: its veth, the node's side and the pod's side.
//!
//! `cargo run --release -p selvedge-netlink --example routed_add [PODS]`, as root. Everything happens in namespaces
//! of its own, which go with the process.

#![expect(clippy::print_stdout, reason = "a measurement prints its result")]

use std::error::Error;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use selvedge_datapath::state::{Address, Route, RouteProtocol, Scope};
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_model::{IfName, MacAddr, Mtu};
use selvedge_netlink::RouteSocket;
use selvedge_netns::Namespace;

fn main() -> Result<(), Box<dyn Error>> {
    let pods = std::env::args().nth(1).map_or(Ok(200), |count| count.parse())?;
    let node = Namespace::create()?;
    let namespaces = (0..pods).map(|_| Namespace::create()).collect::<Result<Vec<_>, _>>()?;
    let mut host = RouteSocket::open_in(&node)?;
    let (mut adds, mut detaches) = (Vec::new(), Vec::new());
    for (i, pod) in (0u16..).zip(&namespaces) {
        let device: IfName = format!("slv{i}").parse()?;
        let start = Instant::now();
        add(&mut host, pod, &device, i)?;
        adds.push(start.elapsed());
    }
    for i in 0..pods {
        let start = Instant::now();
        host.detach(&format!("slv{i}").parse()?)?;
        detaches.push(start.elapsed());
    }
    let start = Instant::now();
    host.reap_group()?;
    println!(
        "{pods} pods: add {}; detach {}; reap {:?} in all",
        spread(adds),
        spread(detaches),
        start.elapsed()
    );
    Ok(())
}

/// What the plugin does for one pod.
fn add(host: &mut RouteSocket, pod: &Namespace, device: &IfName, i: u16) -> Result<(), Box<dyn Error>> {
    let [high, low] = i.to_be_bytes();
    let four: IpNet = format!("10.244.{high}.{low}/32").parse()?;
    let six: IpNet = format!("fd00:10:244::1:{i:x}/128").parse()?;
    let link = |net: &str| {
        Ok::<_, ipnet::AddrParseError>(Address { scope: Scope::Link, ..Address::global(net.parse()?) })
    };
    let eth0: IfName = "eth0".parse()?;
    let pair = VethPair {
        host: device.clone(),
        host_mac: MacAddr([0x0e, 0x58, 10, 244, high, low]),
        alias: format!("selvedge net c-{i}/eth0 {four},{six}"),
        master: None,
        pod: eth0.clone(),
        pod_mac: MacAddr([0x0a, 0x58, 10, 244, high, low]),
        mtu: Mtu::ETHERNET,
    };
    let on_host = [
        NetStep::CreateVeth(pair),
        NetStep::AddAddress { device: device.clone(), address: link("169.254.1.1/32")? },
        NetStep::AddAddress { device: device.clone(), address: link("fe80::1/64")? },
        NetStep::SetLink { name: device.clone(), change: LinkChange::Up },
        NetStep::ReplaceRoute(route(four, None, device)),
        NetStep::ReplaceRoute(route(six, None, device)),
    ];
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let in_pod = [
        NetStep::SetLink { name: "lo".parse()?, change: LinkChange::Up },
        NetStep::AddAddress { device: eth0.clone(), address: Address::global(four) },
        NetStep::AddAddress { device: eth0.clone(), address: Address::global(six) },
        NetStep::SetLink { name: eth0.clone(), change: LinkChange::Up },
        NetStep::ReplaceRoute(route(IpNet::from(std::net::IpAddr::from(gateway)), None, &eth0)),
        NetStep::ReplaceRoute(route("0.0.0.0/0".parse()?, Some("169.254.1.1"), &eth0)),
        NetStep::ReplaceRoute(route("::/0".parse()?, Some("fe80::1"), &eth0)),
    ];
    host.apply_until_failure(&on_host, Some(pod.as_fd()))?;
    pod.run(|| RouteSocket::open()?.apply_until_failure(&in_pod, None))??;
    Ok(())
}

fn route(destination: IpNet, via: Option<&str>, device: &IfName) -> Route {
    Route {
        destination,
        via: via.and_then(|via| via.parse().ok()),
        device: device.clone(),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(ROUTE_PROTOCOL),
    }
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| {
        times.get((times.len().saturating_sub(1)) * percent / 100).copied().unwrap_or_default()
    };
    format!("p10 {:?}, p50 {:?}, p99 {:?}", at(10), at(50), at(99))
}
