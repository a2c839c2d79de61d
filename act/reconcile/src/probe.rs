//! What the kernel can, each feature tried in a network namespace that is thrown away: the node's own is left alone.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;

use ipnet::IpNet;
use selvedge_datapath::attachment::port;
use selvedge_datapath::firewall::{self, AGENT, GUARD, PLUGIN, PodNetwork};
use selvedge_datapath::preflight::{Answer, Need, Tried};
use selvedge_datapath::published::{PortOwner, PublishedPort, PublishedPorts};
use selvedge_datapath::shaping::TokenBucket;
use selvedge_datapath::state::Vxlan;
use selvedge_datapath::step::{LinkChange, NetStep, VethPair};
use selvedge_model::{AttachmentKey, ContainerId, IfName, MacAddr, Mtu, NetworkName, Transport, chain};
use selvedge_netlink::{NetlinkError, RouteSocket};
use selvedge_netns::Namespace;
use selvedge_nft::{Conntrack, NftSocket};
use selvedge_ruleset::{Listed, Scope, Table, TableId, diff};

type Outcome = Result<(), Box<dyn Error>>;

/// Tries everything; where no namespace can be made, nothing.
pub(crate) fn features() -> Vec<Tried> {
    let tried = Namespace::create().and_then(|node| {
        let pod = Namespace::create()?;
        node.run(|| {
            let mut tried = links(&pod);
            tried.extend(rules());
            tried
        })
    });
    let mut all = tried.unwrap_or_else(|error| {
        let why = format!("no namespace to try it in: {}", chain(&error));
        vec![Tried { what: "kernel features", need: Need::Always, answer: Answer::Untried(why) }]
    });
    all.push(ipv6());
    all
}

/// Whether this node, not one that is made, has IPv6.
fn ipv6() -> Tried {
    let ipv6 = match std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6") {
        Ok(disabled) if disabled.trim() == "0" => Ok(()),
        Ok(_) => Err("net.ipv6.conf.all.disable_ipv6 is 1".into()),
        Err(error) => Err(error.into()),
    };
    tried("IPv6", Need::Ipv6, ipv6)
}

fn tried(what: &'static str, need: Need, outcome: Outcome) -> Tried {
    let answer = match outcome {
        Ok(()) => Answer::There,
        Err(why) => Answer::Missing(chain(why.as_ref())),
    };
    Tried { what, need, answer }
}

/// Links and what is set on them, each as the plugin makes it.
fn links(pod: &Namespace) -> Vec<Tried> {
    let mut route = match RouteSocket::open() {
        Ok(route) => route,
        Err(error) => return vec![tried("rtnetlink", Need::Always, Err(error.into()))],
    };
    let wireguard = route.create_wireguard(&name("probe-wg"));
    let mut make = |steps: &[NetStep]| -> Outcome {
        Ok::<_, NetlinkError>(route.apply_until_failure(steps, Some(pod.as_fd()))?).map_err(Into::into)
    };
    let (host, bridge, ifb) = (name("probe-veth"), name("probe-bridge"), name("probe-ifb"));
    let set = |link: &IfName, change| NetStep::SetLink { name: link.clone(), change };
    let (mac, mtu, alias) = (MacAddr::of_device("probe"), Mtu::ETHERNET, String::new());
    let pair = VethPair {
        host: host.clone(),
        host_mac: mac,
        alias: alias.clone(),
        master: None,
        pod: name("eth0"),
        pod_mac: mac,
        mtu,
    };
    let bucket = TokenBucket { rate: 1_000_000, burst: 100_000, limit: 1_000_000 };
    let mut all = vec![
        tried("veth", Need::Always, make(&[NetStep::CreateVeth(pair)])),
        tried(
            "bridge",
            Need::Bridge,
            make(&[
                NetStep::CreateBridge { name: bridge.clone(), mac, mtu, alias: alias.clone() },
                set(&host, LinkChange::Master(Some(bridge))),
                set(&host, LinkChange::Port(port(false))),
            ]),
        ),
        tried("tbf", LIMITS, make(&[NetStep::SetBucket { device: host.clone(), bucket }])),
        tried(
            "VXLAN",
            Need::Some("peers on other segments are reached by native routes only"),
            make(&[vxlan(mac)]),
        ),
        tried("WireGuard", ENCRYPTED, wireguard.map_err(Into::into)),
    ];
    all.push(if Path::new("/sys/module/ifb").exists() {
        let made = NetStep::CreateIfb { name: ifb.clone(), mac, mtu, alias };
        tried("ifb", LIMITS, make(&[made, NetStep::Redirect { device: host, to: ifb }]))
    } else {
        let why = "its module isn't loaded, and loading it would make ifb0 and ifb1 on this node".to_owned();
        Tried { what: "ifb", need: LIMITS, answer: Answer::Untried(why) }
    });
    all
}

fn vxlan(mac: MacAddr) -> NetStep {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let vxlan = Vxlan { vni: 1, port: 4789, local, learning: false };
    let mtu = Mtu::ETHERNET;
    NetStep::CreateVxlan { name: name("probe-vxlan"), mac, mtu, alias: "probe".to_owned(), vxlan }
}

const ENCRYPTED: Need = Need::Some("nodes that reach each other encrypted need a process that does it");

const LIMITS: Need = Need::Some("pods with bandwidth limits are refused");

/// Tables as the agent and the plugin write them, chain by chain.
fn rules() -> Vec<Tried> {
    let mut nft = match NftSocket::open() {
        Ok(nft) => nft,
        Err(error) => return vec![tried("nftables", Need::Always, Err(error.into()))],
    };
    let subnets: [IpNet; 2] = [net("10.0.0.0/24"), net("fd00::/64")];
    let pods = PodNetwork { subnets: &subnets, direct: &subnets, masquerade: true, bridge: None };
    let agent = firewall::agent(pods, false);
    let bare = Table { chains: BTreeMap::new(), ..agent.clone() };
    let mut all =
        vec![tried("nftables with sets of networks", Need::Always, replaced(&mut nft, AGENT, &bare))];
    for (chain, rules) in &agent.chains {
        let what = match chain.as_str() {
            "prerouting" => "nftables fib",
            "postrouting" => "nftables masquerade",
            _ => "nftables forward hook",
        };
        let with = bare.clone().chain(chain.clone(), rules.clone());
        all.push(tried(what, Need::Always, replaced(&mut nft, AGENT, &with)));
    }
    let (port, ports) = (name("probe-veth"), [net("10.0.0.2/32"), net("fd00::2/128")]);
    let guard = firewall::guard([(&port, &ports[..])]);
    all.push(tried("nftables bridge family", Need::Bridge, replaced(&mut nft, GUARD, &guard)));
    all.push(tried(
        "nftables DNAT by map",
        Need::Some("pods can't publish ports"),
        published(&mut nft, &port),
    ));
    let owned = match nft.features() {
        Ok(features) if features.owned_tables => Ok(()),
        Ok(_) => Err("before Linux 6.9".into()),
        Err(error) => Err(error.into()),
    };
    let unowned = Need::Some("anybody can change the agent's table, which is mended then");
    all.push(tried("nftables owned tables", unowned, owned));
    let flushed = Conntrack::open().and_then(|mut conntrack| conntrack.flush_address(ports[0].addr()));
    all.push(tried("conntrack", Need::Always, flushed.map_err(Into::into)));
    all
}

/// Makes a table from nothing, and takes it away.
fn replaced(nft: &mut NftSocket, id: TableId, table: &Table) -> Outcome {
    let wanted = [(id.clone(), table.clone())].into();
    nft.apply(&diff(&wanted, &Listed::new(), Scope::Whole))?;
    let there = nft.list(&[id])?;
    Ok(nft.apply(&diff(&BTreeMap::new(), &there, Scope::Whole))?)
}

fn published(nft: &mut NftSocket, host: &IfName) -> Outcome {
    let container: ContainerId = "probe".parse()?;
    let key = AttachmentKey { container, ifname: name("eth0") };
    let network: NetworkName = "probe".parse()?;
    let owner = PortOwner::new(host, &network, &key);
    let pods = ["10.0.0.2:80", "[fd00::2]:80"].into_iter().filter_map(|pod| pod.parse().ok());
    let ports = pods.map(|pod| PublishedPort {
        transport: Transport::Tcp,
        at: None,
        port: 8080,
        pod,
        owner: owner.clone(),
    });
    let ports = PublishedPorts { ports: ports.collect(), ..PublishedPorts::default() };
    let there = nft.list(&[PLUGIN])?;
    Ok(nft.apply(&ports.transaction(&there))?)
}

fn name(text: &str) -> IfName {
    text.parse().expect("is a valid name")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("is a network")
}
