//! Each kind of object that an agent looks after, broken by somebody else.

use std::fs;
use std::path::Path;
use std::process::Command;

use ipnet::IpNet;
use selvedge_datapath::attachment::{BRIDGE_NETFILTER, bridge_sysctls, port};
use selvedge_datapath::firewall::{AGENT, GUARD, GUARDED4};
use selvedge_datapath::state::{Address, Port, Route, RouteProtocol, Sysctl};
use selvedge_datapath::step::{LinkChange, NetStep};
use selvedge_lab::shape::Attach;
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_model::{MacAddr, Mtu};
use selvedge_netlink::RouteSocket;
use selvedge_nft::NftError;
use selvedge_ruleset::{
    Base, ChainName, Change, Elements, Family, Hook, Listed, Policy, TableId, TableName, priority,
};
use selvedge_tests::{Cluster, Echo, Node, knock, skipped, within};

use crate::site::{Site, alone, change_table, name, tables_are_owned};

/// The pods of the other node.
pub(crate) const PEER4: &str = "10.244.1.0/24";
/// The same.
pub(crate) const PEER6: &str = "fd00:10:244:1::/64";

#[test]
fn a_peers_route_comes_back_in_both_families() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    for peer in [PEER4, PEER6] {
        let step = format!("ip route add {peer} via ");
        site.must_be_repaired(("route", &step), || site.delete_route(peer));
    }
}

#[test]
fn a_route_that_bears_our_mark_and_leads_to_nobody_goes_and_others_stay() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let route = |protocol| Route {
        destination: "10.99.0.0/24".parse().unwrap(),
        via: Some("172.30.0.99".parse().unwrap()),
        device: name("eth0"),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(protocol),
    };
    site.must_be_repaired(("route", "ip route del 10.99.0.0/24"), || {
        site.change(&[NetStep::ReplaceRoute(route(ROUTE_PROTOCOL))]);
    });
    site.change(&[NetStep::ReplaceRoute(route(4))]);
    site.must_be_repaired(("route", PEER4), || site.delete_route(PEER4));
    assert!(site.node().picture().routes.contains(&route(4)), "the administrator's route stays");
}

#[test]
fn a_pods_host_route_comes_back_in_both_families() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let _echo = Echo::serve(site.pod.pod.namespace());
    for address in &site.pod.addresses {
        let step = format!("ip route add {address}/");
        let destination = IpNet::from(*address).to_string();
        site.must_be_repaired(("route", &step), || site.delete_route(&destination));
        knock(&site.node().namespace, *address).unwrap();
    }
}

#[test]
fn the_gateways_addresses_on_a_host_end_come_back() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    for gateway in ["169.254.1.1/32", "fe80::1/64"] {
        let step = format!("ip addr add {gateway}");
        site.must_be_repaired(("address", &step), || site.delete_address(&site.pod.host_end, gateway));
    }
}

#[test]
fn a_host_end_that_was_set_down_comes_up_with_its_addresses_and_routes() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let _echo = Echo::serve(site.pod.pod.namespace());
    let step = format!("ip link set {} up", site.pod.host_end);
    site.must_be_repaired(("link", &step), || site.set_link(&site.pod.host_end, LinkChange::Down));
    for address in &site.pod.addresses {
        knock(&site.node().namespace, *address).unwrap();
    }
}

#[test]
fn the_routes_that_went_with_the_uplink_without_a_word_come_back_with_it() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let node = site.node();
    let ours = |node: &Node| {
        let routes = node.picture().routes.into_iter();
        routes.filter(|route| route.protocol.0 == ROUTE_PROTOCOL).collect::<Vec<_>>()
    };
    let before = ours(node);
    for _ in 0..3 {
        site.set_link("eth0", LinkChange::Down);
        site.set_link("eth0", LinkChange::Up);
        // IPv6 addresses go when a link goes down; whoever configured them gives them anew.
        let addresses = node.plan.addresses.iter().filter(|net| net.addr().is_ipv6());
        let address =
            |net: &IpNet| NetStep::AddAddress { device: name("eth0"), address: Address::global(*net) };
        site.change(&addresses.map(address).collect::<Vec<_>>());
        within(1.0, "all routes of ours are back", || {
            let now = ours(node);
            if now == before { Ok(()) } else { Err(format!("{now:#?}\n{}", site.agent.log())) }
        });
    }
}

#[test]
fn forwarding_is_switched_on_again_in_both_families() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    for key in [Sysctl::Ipv4Forward, Sysctl::Ipv6Forward] {
        let step = format!("sysctl -w {key}=1");
        let off = [NetStep::SetSysctl { key, value: "0" }];
        // Twice: what is switched off again right after it was switched on must be noticed too.
        for _ in 0..2 {
            site.must_be_repaired(("sysctl", &step), || site.change(&off));
        }
    }
}

#[test]
fn the_uplink_goes_on_taking_router_advertisements_unless_it_took_none_and_foreign_bridges_begin_no_such_thing()
 {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let accept_ra = |device: &str| Sysctl::Ipv6Conf(Some(name(device)), "accept_ra");
    let set = |device, value| site.change(&[NetStep::SetSysctl { key: accept_ra(device), value }]);
    let is = |device, value: &str| {
        within(20.0, "accept_ra is as wanted", || {
            let sysctls = site.node().picture().sysctls;
            let found = sysctls.get(&accept_ra(device));
            if found.is_some_and(|found| found == value) { Ok(()) } else { Err(format!("{found:?}")) }
        });
    };
    set("eth0", "2");
    is("eth0", "2");
    let step = format!("sysctl -w {}=2", accept_ra("eth0"));
    for _ in 0..2 {
        site.must_be_repaired(("sysctl", &step), || set("eth0", "1"));
    }
    let pass = || {
        site.delete_route(PEER6);
        within(20.0, "a pass was made", || {
            let peer = PEER6.parse().unwrap();
            let back = site.node().picture().routes.iter().any(|route| route.destination == peer);
            if back { Ok(()) } else { Err(site.agent.log()) }
        });
    };
    set("eth0", "0");
    pass();
    is("eth0", "0");
    let (mac, mtu) = (MacAddr::of_device("late0"), Mtu::ETHERNET);
    site.change(&[NetStep::CreateBridge { name: name("late0"), mac, mtu, alias: String::new() }]);
    pass();
    is("late0", "1");
}

#[test]
fn the_bridges_sysctls_are_as_they_were() {
    let Some(site) = Site::new(Attach::Bridge) else { return };
    for (key, _) in bridge_sysctls(&name("cni0")) {
        let step = format!("sysctl -w {key}=0");
        site.must_be_repaired(("sysctl", &step), || site.change(&[NetStep::SetSysctl { key, value: "1" }]));
    }
}

#[test]
fn the_conflist_comes_back_when_it_was_deleted_or_altered() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let path = site.node().conflist();
    // Twice: what is deleted again right after it was written must be noticed too.
    for _ in 0..2 {
        site.must_be_repaired(("conflist", "write the conflist"), || fs::remove_file(&path).unwrap());
    }
    site.must_be_repaired(("conflist", "write the conflist"), || fs::write(&path, "{}").unwrap());
}

#[test]
fn the_bridges_addresses_come_back() {
    let Some(site) = Site::new(Attach::Bridge) else { return };
    for gateway in ["10.244.0.1/24", "fd00:10:244::1/64"] {
        let step = format!("ip addr add {gateway}");
        site.must_be_repaired(("address", &step), || site.delete_address("cni0", gateway));
    }
}

#[test]
fn an_address_that_is_none_of_the_bridges_goes() {
    let Some(site) = Site::new(Attach::Bridge) else { return };
    site.must_be_repaired(("address", "ip addr del 10.98.0.1/24"), || {
        let address = Address::global("10.98.0.1/24".parse().unwrap());
        site.change(&[NetStep::AddAddress { device: name("cni0"), address }]);
    });
}

#[test]
fn a_bridge_that_was_deleted_is_back_with_its_ports_and_the_pod_is_reached() {
    let Some(site) = Site::new(Attach::Bridge) else { return };
    let _echo = Echo::serve(site.pod.pod.namespace());
    site.must_be_repaired(("link", "ip link add cni0"), || {
        site.change(&[NetStep::DeleteLink { name: name("cni0") }]);
    });
    for address in &site.pod.addresses {
        knock(&site.node().namespace, *address).unwrap();
    }
}

#[test]
fn a_bridge_that_was_set_down_or_given_another_mtu_is_as_before() {
    let Some(site) = Site::new(Attach::Bridge) else { return };
    site.must_be_repaired(("link", "ip link set cni0 up"), || site.set_link("cni0", LinkChange::Down));
    let mtu = LinkChange::Mtu(Mtu::new(1300).unwrap());
    site.must_be_repaired(("link", "ip link set cni0 mtu 1500"), || site.set_link("cni0", mtu));
}

#[test]
fn a_host_end_that_was_taken_out_of_the_bridge_or_let_loose_on_it_is_as_before() {
    let Some(site) = Site::new(Attach::Bridge) else { return };
    let host_end = &site.pod.host_end;
    let step = format!("ip link set {host_end} master cni0");
    site.must_be_repaired(("link", &step), || site.set_link(host_end, LinkChange::Master(None)));
    for in_force in ["1", "0"] {
        let Some(wanted) = with_bridge_netfilter(&site, in_force) else { continue };
        let step = format!("ip link set {host_end} {}", LinkChange::Port(wanted));
        let loose = LinkChange::Port(Port::default());
        site.must_be_repaired(("link", &step), || site.set_link(host_end, loose));
    }
}

/// Switches br_netfilter on or off on the node and waits until the pod's port is as that wants it. Without the module
/// only off is to be had.
fn with_bridge_netfilter(site: &Site, value: &'static str) -> Option<Port> {
    let there = || Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists();
    if site.node().namespace.run(there).unwrap() {
        site.change(&BRIDGE_NETFILTER.map(|key| NetStep::SetSysctl { key, value }));
    } else if value == "1" {
        skipped("br_netfilter is not in this kernel");
        return None;
    }
    let wanted = port(value == "1");
    within(20.0, "the port is as br_netfilter wants it", || {
        let links = RouteSocket::open_in(&site.node().namespace).unwrap().observe().unwrap().links;
        let found = links[&name(&site.pod.host_end)].port;
        if found == Some(wanted) { Ok(()) } else { Err(format!("{found:?}")) }
    });
    Some(wanted)
}

#[test]
fn nobody_but_the_agent_can_change_its_table_and_before_linux_6_9_not_for_long() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let before = site.node().picture();
    let owned = tables_are_owned(site.node());
    let flush = Change::FlushChain(ChainName::listed("postrouting"));
    for (change, repair) in
        [(Change::DeleteTable, "nft add table inet selvedge"), (flush, "nft add rule inet selvedge")]
    {
        let change = || change_table(site.node(), &AGENT, |_| vec![change]);
        if owned {
            let refused = change().unwrap_err();
            assert!(matches!(refused, NftError::Owned { .. }), "{refused:?}");
        } else {
            site.must_be_repaired(("table", repair), || change().unwrap());
        }
    }
    assert_eq!(site.node().picture(), before);
}

#[test]
fn a_table_that_was_flushed_or_deleted_while_no_agent_ran_is_whole_once_one_does() {
    let _alone = alone();
    let Some(cluster) = Cluster::build(1, Attach::Routed) else { return };
    let node = &cluster.nodes[0];
    node.ready_agent().kill();
    let before = node.picture();
    let flush = Change::FlushChain(ChainName::listed("postrouting"));
    for change in [flush, Change::DeleteTable] {
        change_table(node, &AGENT, |_| vec![change]).unwrap();
        node.ready_agent().kill();
        assert_eq!(node.picture().tables[&AGENT].chains, before.tables[&AGENT].chains);
    }
}

#[test]
fn what_was_deleted_from_the_guard_of_the_bridges_ports_comes_back() {
    let Some(site) = Site::new(Attach::Bridge) else { return };
    let chain = ChainName::listed("prerouting");
    site.must_be_repaired(("table", "nft insert rule bridge selvedge-cni"), || {
        let first = |listed: &Listed| {
            vec![Change::DeleteRule(chain.clone(), listed[&GUARD].chains[&chain].rules[2].handle)]
        };
        change_table(site.node(), &GUARD, first).unwrap();
    });
    site.must_be_repaired(("table", "nft add rule bridge selvedge-cni"), || {
        change_table(site.node(), &GUARD, |_| vec![Change::FlushChain(chain.clone())]).unwrap();
    });
    site.must_be_repaired(("table", "nft add element bridge selvedge-cni"), || {
        let elements = |listed: &Listed| {
            let set = listed[&GUARD].sets[&GUARDED4].known().unwrap();
            let elements = set.elements().iter().map(|(key, element)| (key.clone(), element.clone()));
            let (set_type, elements) = (set.set_type().clone(), elements.collect());
            vec![Change::DeleteElements(Elements { set: GUARDED4, set_type, elements })]
        };
        change_table(site.node(), &GUARD, elements).unwrap();
    });
    site.must_be_repaired(("table", "nft add table bridge selvedge-cni"), || {
        change_table(site.node(), &GUARD, |_| vec![Change::DeleteTable]).unwrap();
    });
}

#[test]
fn our_rules_in_somebody_elses_forward_chain_come_back() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let table = TableId { family: Family::Ip, name: TableName::listed("filter") };
    let chain = ChainName::listed("FORWARD");
    let base = Base { policy: Policy::Drop, ..Base::filter(Hook::Forward, priority::FILTER) };
    let docker = vec![Change::AddTable { owned: false }, Change::AddChain(chain.clone(), Some(base))];
    change_table(site.node(), &table, |_| docker).unwrap();
    wait_for_our_rules(&site);
    site.must_be_repaired(("forward-chain", "nft ip filter FORWARD: -I FORWARD -s 10.244.0.0/24"), || {
        change_table(site.node(), &table, |_| vec![Change::FlushChain(chain)]).unwrap();
    });
}

#[test]
fn our_rules_in_the_legacy_forward_chain_come_back() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    for iptables in ["iptables-legacy", "ip6tables-legacy"] {
        let run = |arguments: &[&str]| {
            let command = || Command::new(iptables).arg("-w").args(arguments).output();
            site.node().namespace.run(command).unwrap()
        };
        match run(&["-P", "FORWARD", "DROP"]) {
            Ok(output) if output.status.success() => {}
            _ => return skipped("iptables-legacy is not installed, or not in the kernel"),
        }
        wait_for_our_rules(&site);
        site.must_be_repaired(("forward-chain", &format!("{iptables}: -I FORWARD -s ")), || {
            assert!(run(&["-F", "FORWARD"]).unwrap().status.success());
        });
    }
}

/// Waits until every foreign chain has two rules of ours or more.
fn wait_for_our_rules(site: &Site) {
    within(20.0, "our rules are in the foreign chain", || {
        let forward = site.node().picture().forward;
        let all = !forward.is_empty() && forward.iter().all(|chain| chain.ours.len() >= 2);
        if all { Ok(()) } else { Err(format!("{forward:?}\n{}", site.agent.log())) }
    });
}
