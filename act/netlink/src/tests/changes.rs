//! Steps applied and what is observed after them.

use std::collections::BTreeSet;

use selvedge_datapath::state::{LinkKind, ObservedNetwork, Port, Sysctl};
use selvedge_model::Sorted;

use super::*;
use crate::error::TakenEnd;

/// Everything a routed pod takes, on the node and in the pod.
fn routed() -> (Vec<NetStep>, Vec<NetStep>) {
    let host = vec![
        NetStep::CreateVeth(pair("slvtest", "eth0")),
        add("slvtest", link_address("169.254.1.1/32")),
        add("slvtest", link_address("fe80::1/64")),
        set("slvtest", LinkChange::Up),
        NetStep::ReplaceRoute(route("10.244.1.7/32", None, "slvtest")),
        NetStep::ReplaceRoute(route("fd00:10:244:1::7/128", None, "slvtest")),
    ];
    let gateway = route("169.254.1.1/32", None, "eth0");
    let pod = vec![
        set("lo", LinkChange::Up),
        add("eth0", address("10.244.1.7/32")),
        add("eth0", address("fd00:10:244:1::7/128")),
        set("eth0", LinkChange::Up),
        NetStep::ReplaceRoute(gateway),
        NetStep::ReplaceRoute(Route { mtu: Some(1400), ..route("0.0.0.0/0", Some("169.254.1.1"), "eth0") }),
        NetStep::ReplaceRoute(route("::/0", Some("fe80::1"), "eth0")),
    ];
    (host, pod)
}

fn routes_in(steps: &[NetStep]) -> Sorted<Route> {
    let routes = steps.iter().filter_map(|step| match step {
        NetStep::ReplaceRoute(route) => Some(route.clone()),
        _ => None,
    });
    routes.collect()
}

fn addresses_in(steps: &[NetStep]) -> BTreeSet<Address> {
    let addresses = steps.iter().filter_map(|step| match step {
        NetStep::AddAddress { address, .. } => Some(*address),
        _ => None,
    });
    addresses.collect()
}

#[test]
fn a_routed_pod_is_observed_as_it_was_asked_for() {
    let Some(mut wire) = Wire::new() else { return };
    let (host, pod) = routed();
    wire.on_host(&host);
    wire.in_pod(&pod);
    let wanted = pair("slvtest", "eth0");

    let on_host = wire.host_link("slvtest");
    assert_eq!((on_host.kind, on_host.mac, on_host.mtu), (LinkKind::Veth, Some(wanted.host_mac), 1450));
    assert_eq!(on_host.alias, wanted.alias);
    assert!(on_host.up && on_host.running, "{on_host:?}");
    assert!(on_host.addresses.is_superset(&addresses_in(&host)), "{:?}", on_host.addresses);
    let observed = wire.host.observe().unwrap();
    assert_eq!(observed.links[&name("slvtest")], on_host);
    assert_eq!(observed.links[&name("lo")].kind, LinkKind::Loopback);
    assert!(routes_in(&host).difference(&observed.routes).next().is_none(), "{:?}", observed.routes);
    assert_eq!(wire.host.observe_routes_of(&name("slvtest")).unwrap(), observed.routes);

    let in_pod = wire.pod.observe().unwrap();
    let eth0 = &in_pod.links[&name("eth0")];
    assert_eq!((eth0.mac, eth0.mtu, eth0.up), (Some(wanted.pod_mac), 1450, true));
    assert!(eth0.addresses.is_superset(&addresses_in(&pod)), "{:?}", eth0.addresses);
    assert!(routes_in(&pod).difference(&in_pod.routes).next().is_none(), "{:?}", in_pod.routes);
    assert!(in_pod.links[&name("lo")].up);
}

#[test]
fn every_step_but_the_making_of_a_pair_succeeds_a_second_time() {
    let Some(mut wire) = Wire::new() else { return };
    let bridge = NetStep::CreateBridge {
        name: name("cni0"),
        mac: mac(9),
        mtu: Mtu::ETHERNET,
        alias: "selvedge net".to_owned(),
    };
    let (mut host, pod) = routed();
    wire.on_host(&[bridge.clone(), host.remove(0)]);
    let rename = NetStep::SetLink { name: name("slvtest"), change: LinkChange::Rename(name("slvother")) };
    let deletions = [
        NetStep::DeleteRoute(route("10.244.1.7/32", None, "slvtest")),
        NetStep::DeleteRoute(route("fd00:10:244:1::7/128", None, "slvtest")),
        NetStep::DeleteAddress { device: name("slvtest"), address: link_address("169.254.1.1/32") },
        NetStep::DeleteAddress { device: name("slvtest"), address: link_address("fe80::1/64") },
    ];
    let changes = [
        LinkChange::Mac(mac(3)),
        LinkChange::Mtu(Mtu::ETHERNET),
        LinkChange::Alias("other".to_owned()),
        LinkChange::Alias(String::new()),
        LinkChange::Group(7),
        LinkChange::Master(Some(name("cni0"))),
        LinkChange::Port(Port { isolated: true, hairpin: false }),
        LinkChange::Master(None),
        LinkChange::Down,
    ];
    let sysctl = NetStep::SetSysctl { key: Sysctl::Ipv4Conf(Some(name("slvtest")), "rp_filter"), value: "0" };
    let changes = changes.map(|change| set("slvtest", change));
    let last = [rename, NetStep::DeleteLink { name: name("slvother") }];
    let steps = [host, vec![bridge, sysctl], deletions.into(), changes.into(), last.into()].concat();
    for step in &steps {
        wire.on_host(std::slice::from_ref(step));
        wire.on_host(std::slice::from_ref(step));
    }
    assert_eq!(wire.host.observe().unwrap().links.len(), 2, "lo and cni0 stay");
    let everything = [steps, vec![NetStep::DeleteLink { name: name("slvtest") }]].concat();
    let first_gone = wire.host.apply(&everything, None).iter().filter(|outcome| outcome.is_err()).count();
    assert!(first_gone > 0, "changes of a link that is gone are failures");
    drop(pod);
}

#[test]
fn steps_sent_together_and_one_by_one_have_the_same_effect() {
    let (Some(mut together), Some(mut singly)) = (Wire::new(), Wire::new()) else { return };
    let (host, pod) = routed();
    together.on_host(&host);
    together.in_pod(&pod);
    singly.host.apply_until_failure(&host, Some(singly.pod_namespace.as_fd())).unwrap();
    singly.pod.apply_until_failure(&pod, None).unwrap();
    assert_eq!(asked_for(&mut together.host), asked_for(&mut singly.host));
    assert_eq!(asked_for(&mut together.pod), asked_for(&mut singly.pod));
}

/// What is there without what the kernel adds in its own time: carrier, and link-local addresses.
fn asked_for(socket: &mut RouteSocket) -> ObservedNetwork {
    let mut observed = socket.observe().unwrap();
    for link in observed.links.values_mut() {
        link.running = false;
        link.addresses.retain(|a| a.nodad || a.scope != Scope::Link || a.net.addr().is_ipv4());
    }
    observed
}

#[test]
fn a_failing_step_stops_only_where_that_is_asked_for() {
    let Some(mut wire) = Wire::new() else { return };
    let (up, missing) = (set("lo", LinkChange::Up), add("none", address("10.0.0.1/32")));
    let steps = [missing.clone(), up.clone(), missing, add("lo", address("10.0.0.2/32"))];
    let error = wire.host.apply_until_failure(&steps, None).unwrap_err();
    assert!(
        error.is_no_such_device() && error.to_string().contains("ip addr add 10.0.0.1/32 dev none"),
        "{error}"
    );
    assert!(!wire.host_link("lo").up);
    let outcomes: Vec<bool> = wire.host.apply(&steps, None).iter().map(Result::is_ok).collect();
    assert_eq!(outcomes, [false, true, false, true]);
    assert!(wire.host_link("lo").addresses.contains(&address("10.0.0.2/32")));
}

#[test]
fn refusals_carry_the_kernels_own_words() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[set("lo", LinkChange::Up)]);
    let unreachable = NetStep::ReplaceRoute(route("10.9.0.0/16", Some("192.0.2.1"), "lo"));
    let error = wire.host.apply_until_failure(&[unreachable], None).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("Nexthop has invalid gateway"), "{error}: {source}");
}

#[test]
fn a_taken_name_is_told_by_its_end_and_nothing_is_changed() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[NetStep::CreateVeth(pair("slvfirst", "eth0"))]);
    let before = (wire.host.observe().unwrap(), wire.pod.observe().unwrap());
    for (host, pod, expected, taken) in
        [("slvfirst", "eth1", TakenEnd::Host, "slvfirst"), ("slvnext", "eth0", TakenEnd::Pod, "eth0")]
    {
        let mut pair = pair(host, pod);
        pair.alias = "another".to_owned();
        let outcomes = wire.host.apply(&[NetStep::CreateVeth(pair)], Some(wire.pod_namespace.as_fd()));
        match &outcomes[..] {
            [Err(error @ NetlinkError::NameTaken { end, name, .. })] => {
                assert!(error.is_exists());
                assert_eq!((*end, name.as_str()), (expected, taken));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!((wire.host.observe().unwrap(), wire.pod.observe().unwrap()), before);
    }
}

#[test]
fn a_bridge_and_its_isolated_port_are_observed_as_they_were_asked_for() {
    let Some(mut wire) = Wire::new() else { return };
    let alias = "selvedge net".to_owned();
    let bridge = NetStep::CreateBridge { name: name("cni0"), mac: mac(9), mtu: Mtu::ETHERNET, alias };
    let veth = VethPair { master: Some(name("cni0")), ..pair("slvtest", "eth0") };
    let isolated = Port { isolated: true, hairpin: true };
    wire.on_host(&[bridge, NetStep::CreateVeth(veth), set("slvtest", LinkChange::Port(isolated))]);
    let bridge = wire.host_link("cni0");
    assert_eq!(
        (bridge.kind, bridge.mac, bridge.alias.as_str()),
        (LinkKind::Bridge, Some(mac(9)), "selvedge net")
    );
    let snooping = wire
        .host_namespace
        .run(|| std::process::Command::new("ip").args(["-d", "link", "show", "cni0"]).output());
    match snooping.unwrap() {
        Ok(output) => {
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("mcast_snooping 0"), "{text}");
            assert!(!text.contains("vlan_filtering 1"), "{text}");
        }
        Err(error) => println!("skipped: ip(8): {error}"),
    }
    let port = wire.host_link("slvtest");
    assert_eq!((port.master, port.port), (Some(name("cni0")), Some(isolated)));
    wire.on_host(&[set("slvtest", LinkChange::Master(None))]);
    assert_eq!((wire.host_link("slvtest").master, wire.host_link("slvtest").port), (None, None));
}

#[test]
fn a_link_is_known_by_its_addresses_without_a_look_at_it() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[NetStep::CreateVeth(pair("slvtest", "eth0")), add("slvtest", address("10.7.0.1/24"))]);
    let has = |wire: &mut Wire, device, subnets: &[&str]| {
        let subnets: Vec<_> = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
        wire.host.has_address_in(&name(device), &subnets)
    };
    assert!(has(&mut wire, "slvtest", &["fd00::/64", "10.7.0.0/24"]));
    assert!(!has(&mut wire, "slvtest", &["10.8.0.0/24", "fd00::/64"]));
    assert!(!has(&mut wire, "slvnone", &["10.7.0.0/24"]));
    assert!(!has(&mut wire, "slvtest", &[]));
}

#[test]
fn a_bridges_mtu_outlasts_its_ports() {
    let Some(mut wire) = Wire::new() else { return };
    let mtu = Mtu::new(1400).unwrap();
    let bridge = NetStep::CreateBridge { name: name("cni0"), mac: mac(9), mtu, alias: String::new() };
    let veth = VethPair { master: Some(name("cni0")), mtu, ..pair("slvtest", "eth0") };
    wire.on_host(&[bridge, NetStep::CreateVeth(veth), NetStep::DeleteLink { name: name("slvtest") }]);
    assert_eq!(wire.host_link("cni0").mtu, 1400);
}

#[test]
fn a_bridge_is_not_made_out_of_another_link() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[NetStep::CreateVeth(pair("cni0", "eth0"))]);
    let before = wire.host_link("cni0");
    let bridge =
        NetStep::CreateBridge { name: name("cni0"), mac: mac(9), mtu: Mtu::ETHERNET, alias: String::new() };
    assert!(wire.host.apply(&[bridge], None)[0].is_err());
    assert_eq!(wire.host_link("cni0"), before);
}

#[test]
fn flags_of_addresses_read_back_and_noprefixroute_keeps_the_prefix_route_away() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[NetStep::CreateVeth(pair("slvtest", "eth0"))]);
    let bare = |net| Address { noprefixroute: true, ..address(net) };
    let mut host_scope = address("10.8.0.1/32");
    host_scope.scope = Scope::Host;
    let addresses = [bare("10.244.1.7/24"), bare("fd00:10:244:1::7/64"), address("10.7.0.1/24"), host_scope];
    let steps = addresses.map(|address| add("slvtest", address));
    wire.on_host(&[set("slvtest", LinkChange::Up)]);
    wire.on_host(&steps);
    assert!(wire.host_link("slvtest").addresses.is_superset(&addresses.into()));
    let prefixes = wire.host.observe_routes_of(&name("slvtest")).unwrap();
    let prefixes: BTreeSet<String> = prefixes.iter().map(|route| route.destination.to_string()).collect();
    assert!(prefixes.contains("10.7.0.0/24"), "{prefixes:?}");
    assert!(!prefixes.contains("10.244.1.0/24") && !prefixes.contains("fd00:10:244:1::/64"), "{prefixes:?}");
}

#[test]
fn a_replaced_route_takes_the_place_of_the_old_one() {
    let Some(mut wire) = Wire::new() else { return };
    let (mut host, _) = routed();
    host.push(NetStep::CreateVeth(VethPair { host_mac: mac(5), ..pair("slvnew", "eth1") }));
    host.push(set("slvnew", LinkChange::Up));
    host.push(add("lo", address("172.30.0.1/32")));
    host.push(add("lo", address("fd00::1/128")));
    wire.on_host(&host);
    let source = |text: &str| Some(text.parse().unwrap());
    let four =
        Route { source: source("172.30.0.1"), mtu: Some(1300), ..route("10.244.1.7/32", None, "slvnew") };
    let six =
        Route { source: source("fd00::1"), mtu: Some(1300), ..route("fd00:10:244:1::7/128", None, "slvnew") };
    wire.on_host(&[NetStep::ReplaceRoute(four.clone()), NetStep::ReplaceRoute(six.clone())]);
    let ours = |route: &Route| route.protocol.0 == ROUTE_PROTOCOL;
    let routes: Sorted<Route> = wire.host.observe().unwrap().routes.into_iter().filter(ours).collect();
    assert_eq!(routes, [four, six].into());
}

#[test]
fn a_thousand_routes_are_written_and_observed() {
    let Some(mut wire) = Wire::new() else { return };
    let (host, _) = routed();
    wire.on_host(&host);
    let four = (0..500).map(|i| route(&format!("10.{}.{}.0/24", 100 + i / 256, i % 256), None, "slvtest"));
    let six = (0..500).map(|i| route(&format!("fd00:9:{i:x}::/64"), None, "slvtest"));
    let routes: Sorted<Route> = four.chain(six).collect();
    let steps: Vec<NetStep> = routes.iter().cloned().map(NetStep::ReplaceRoute).collect();
    wire.on_host(&steps);
    let all = [wire.host.observe().unwrap().routes, wire.host.observe_routes_of(&name("slvtest")).unwrap()];
    assert!(all.iter().all(|there| routes.difference(there).next().is_none()));
    assert!(wire.host.observe_routes_of(&name("lo")).unwrap().is_empty());
    let steps: Vec<NetStep> = routes.iter().cloned().map(NetStep::DeleteRoute).collect();
    wire.on_host(&steps);
    let left = wire.host.observe().unwrap().routes;
    assert!(routes.iter().all(|route| !left.contains(route)));
}

#[test]
fn more_refusals_than_fit_a_receive_buffer_are_all_told() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[set("lo", LinkChange::Up)]);
    let bad = |i: u32| NetStep::ReplaceRoute(route(&format!("10.9.{}.0/24", i), Some("192.0.2.1"), "lo"));
    let steps: Vec<NetStep> = (0..250).cycle().take(2_000).map(bad).collect();
    let outcomes = wire.host.apply(&steps, None);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 2_000);
    wire.on_host(&[set("lo", LinkChange::Down)]);
}

#[test]
fn what_is_not_there_is_observed_as_nothing() {
    let Some(mut wire) = Wire::new() else { return };
    assert_eq!(wire.host.observe_link(&name("none")).unwrap(), None);
    assert!(wire.host.observe_routes_of(&name("none")).unwrap().is_empty());
    assert!(wire.host.observe().unwrap().routes.is_empty());
}

#[test]
fn sysctls_are_those_of_the_sockets_namespace() {
    let Some(mut wire) = Wire::new() else { return };
    wire.on_host(&[NetStep::SetSysctl { key: Sysctl::Ipv4Forward, value: "1" }]);
    assert_eq!(wire.host.sysctls.read(&Sysctl::Ipv4Forward).unwrap(), "1");
    assert_eq!(wire.pod.sysctls.read(&Sysctl::Ipv4Forward).unwrap(), "0");
    let missing = Sysctl::Ipv4Conf(Some(name("none")), "rp_filter");
    assert!(wire.host.sysctls.read(&missing).unwrap_err().is_gone());
    assert!(wire.host.sysctls.write(&missing, "0").unwrap_err().is_gone());
    let dotted = [
        NetStep::CreateVeth(pair("slv.5", "eth0")),
        NetStep::SetSysctl { key: Sysctl::Ipv4Conf(Some(name("slv.5")), "rp_filter"), value: "0" },
    ];
    wire.on_host(&dotted);
}

#[test]
fn sysctls_are_found_below_another_directory_and_never_made_there() {
    let directory = std::env::temp_dir().join(format!("selvedge-sysctls-{}", std::process::id()));
    let file = directory.join(Sysctl::Ipv4Forward.path());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let sysctls = crate::Sysctls::at(directory.clone());
    assert!(sysctls.write(&Sysctl::Ipv4Forward, "1").unwrap_err().is_gone());
    std::fs::write(&file, "0\n").unwrap();
    assert_eq!(sysctls.read(&Sysctl::Ipv4Forward).unwrap(), "0");
    sysctls.write(&Sysctl::Ipv4Forward, "1").unwrap();
    assert_eq!(sysctls.read(&Sysctl::Ipv4Forward).unwrap(), "1");
    std::fs::remove_dir_all(directory).unwrap();
}
