use super::*;
use crate::plan::{Prune, Seen, plan};

fn attachment(mode: Mode) -> Attachment {
    Attachment {
        network: "mynet".parse().unwrap(),
        pod: None,
        key: AttachmentKey { container: "c1".parse().unwrap(), ifname: "eth0".parse().unwrap() },
        host: "slvabc".parse().unwrap(),
        mode,
        addresses: vec![
            PodAddress { net: "10.244.1.7/24".parse().unwrap(), gateway: "10.244.1.1".parse().ok() },
            PodAddress { net: "fd00::7/64".parse().unwrap(), gateway: "fd00::1".parse().ok() },
        ],
        mac: "0a:58:0a:f4:01:07".parse().unwrap(),
        mtu: Mtu::ETHERNET,
        routes: vec![],
        node_addresses: vec!["172.30.0.11".parse().unwrap()],
        bridge_netfilter: false,
        bandwidth: Bandwidth::default(),
        further: None,
    }
}

fn lines(desired: &DesiredNetwork, fresh: &ObservedNetwork) -> Vec<String> {
    let seen = Seen { network: fresh, sysctls: &BTreeMap::new() };
    plan(desired, seen, Prune::Nothing).steps.iter().map(ToString::to_string).collect()
}

#[test]
fn a_routed_pod_is_a_host_route_and_a_default_route_by_the_link_local_gateway() {
    let pod = attachment(Mode::Routed);
    assert_eq!(
        lines(&pod.host(), &pod.fresh_host()),
        [
            "ip addr add 169.254.1.1/32 scope link dev slvabc",
            "ip addr add fe80::1/64 scope link nodad dev slvabc",
            "ip link set slvabc up",
            "ip route add 10.244.1.7/32 dev slvabc proto 83 src 172.30.0.11",
            "ip route add fd00::7/128 dev slvabc proto 83",
        ]
    );
    assert_eq!(
        lines(&pod.pod(), &pod.fresh_pod()),
        [
            "ip addr add 10.244.1.7/32 dev eth0",
            "ip addr add fd00::7/128 nodad dev eth0",
            "ip link set eth0 up",
            "ip link set lo up",
            "ip route add 169.254.1.1/32 dev eth0 proto 83",
            "ip route add 0.0.0.0/0 via 169.254.1.1 dev eth0 proto 83",
            "ip route add ::/0 via fe80::1 dev eth0 proto 83",
        ]
    );
}

#[test]
fn with_br_netfilter_a_port_lets_through_what_was_translated_to_a_pod_of_the_same_bridge() {
    let mode = Mode::Bridge("cni0".parse().unwrap());
    let pod = Attachment { bridge_netfilter: true, ..attachment(mode) };
    assert_eq!(
        lines(&pod.host(), &pod.fresh_host()),
        ["ip link set slvabc type bridge_slave isolated off hairpin on", "ip link set slvabc up"]
    );
}

#[test]
fn br_netfilter_counts_only_if_it_is_in_force_for_both_families() {
    for (v4, v6, in_force) in [
        (Some("1"), Some("1"), true),
        (Some("1"), Some("0"), false),
        (Some("0"), Some("1"), false),
        (None, None, false),
    ] {
        let value = |key: &Sysctl| {
            let value = if *key == Sysctl::BridgeCall("iptables") { v4 } else { v6 };
            value.map(str::to_owned)
        };
        assert_eq!(bridge_netfilter(value), in_force, "{v4:?} {v6:?}");
    }
}

#[test]
fn a_bridged_pod_reaches_its_subnet_by_the_gateway() {
    let pod = attachment(Mode::Bridge("cni0".parse().unwrap()));
    assert_eq!(pod.veth().master.as_ref().map(IfName::as_str), Some("cni0"));
    assert_eq!(
        lines(&pod.host(), &pod.fresh_host()),
        ["ip link set slvabc type bridge_slave isolated on hairpin off", "ip link set slvabc up"]
    );
    assert_eq!(
        lines(&pod.pod(), &pod.fresh_pod()),
        [
            "ip addr add 10.244.1.7/24 noprefixroute dev eth0",
            "ip addr add fd00::7/64 nodad noprefixroute dev eth0",
            "ip link set eth0 up",
            "ip link set lo up",
            "ip route add 10.244.1.1/32 dev eth0 proto 83",
            "ip route add fd00::1/128 dev eth0 proto 83",
            "ip route add 0.0.0.0/0 via 10.244.1.1 dev eth0 proto 83",
            "ip route add ::/0 via fd00::1 dev eth0 proto 83",
        ]
    );
}

/// Regression: nobody answered for the gateway that the route named, and no packet got through.
#[test]
fn a_routed_pods_routes_go_by_its_next_hop_whatever_gateway_they_name() {
    let route = |destination: &str, via: &str| PodRoute {
        destination: destination.parse().unwrap(),
        via: via.parse().ok(),
    };
    let routes =
        vec![route("0.0.0.0/0", "10.244.1.1"), route("fd09::/64", "fd00::7"), route("10.9.0.0/16", "")];
    let by = |mode| -> Vec<String> {
        let pod = Attachment { routes: routes.clone(), ..attachment(mode) };
        pod.result_routes().iter().map(|r| format!("{} via {}", r.destination, r.via.unwrap())).collect()
    };
    assert_eq!(
        by(Mode::Routed),
        ["0.0.0.0/0 via 169.254.1.1", "fd09::/64 via fe80::1", "10.9.0.0/16 via 169.254.1.1"]
    );
    assert_eq!(
        by(Mode::Bridge("cni0".parse().unwrap())),
        ["0.0.0.0/0 via 10.244.1.1", "fd09::/64 via fd00::7", "10.9.0.0/16 via 10.244.1.1"]
    );
}

#[test]
fn the_mode_of_an_attachment_is_read_from_its_owner_record() {
    let bridge: IfName = "cni0".parse().unwrap();
    for mode in [Mode::Routed, Mode::Bridge(bridge.clone())] {
        assert_eq!(mode_of(&attachment(mode.clone()).owner(), &bridge), mode);
    }
}

#[test]
fn router_advertisements_are_kept_before_forwarding_goes_on() {
    let net: IpNet = "fd00::/64".parse().unwrap();
    let desired = forwarding([&net], &["eth0".parse().unwrap()]);
    let order: Vec<String> = desired.sysctls.keys().map(ToString::to_string).collect();
    assert_eq!(order, ["net/ipv6/conf/eth0/accept_ra", "net/ipv6/conf/all/forwarding"]);
}

#[test]
fn two_addresses_of_a_family_give_one_default_route() {
    let mut pod = attachment(Mode::Bridge("cni0".parse().unwrap()));
    pod.addresses[1] = PodAddress { net: "10.9.0.2/24".parse().unwrap(), gateway: "10.9.0.1".parse().ok() };
    assert_eq!(pod.result_routes().len(), 1);
}

#[test]
fn a_pod_that_is_limited_is_held_up_on_its_host_end_and_on_a_device_beside_it() {
    let limit = |rate: u64| {
        let burst = 100_000.try_into().ok();
        Some(RateLimit { rate: rate.try_into().unwrap(), burst })
    };
    let bandwidth = Bandwidth { ingress: limit(20_000_000), egress: limit(40_000_000) };
    let pod = Attachment { bandwidth, ..attachment(Mode::Bridge("cni0".parse().unwrap())) };
    let mac = MacAddr::of_device(&pod.owner().to_string());
    assert_eq!(
        lines(&pod.host(), &pod.fresh_host()),
        [
            format!("ip link add slbabc address {mac} mtu 1500 type ifb").as_str(),
            "tc qdisc replace dev slbabc root handle 1: tbf rate 5000000bps burst 100000b limit 250000b",
            "ip link set slbabc up",
            "tc qdisc replace dev slvabc root handle 1: tbf rate 2500000bps burst 100000b limit 125000b",
            "tc qdisc replace dev slvabc ingress; tc filter replace dev slvabc parent ffff: protocol all prio 1 \
             handle 800::800 u32 match u32 0 0 action mirred egress redirect dev slbabc",
            "ip link set slvabc type bridge_slave isolated on hairpin off",
            "ip link set slvabc up",
        ]
    );
}

#[test]
fn what_is_limited_one_way_is_not_limited_the_other() {
    let limit = RateLimit { rate: 8_000_000.try_into().unwrap(), burst: None };
    let only = |bandwidth| {
        let pod = Attachment { bandwidth, ..attachment(Mode::Routed) };
        lines(&pod.host(), &pod.fresh_host()).into_iter().filter(|line| line.contains("slb")).count()
    };
    assert_eq!(only(Bandwidth { ingress: Some(limit), egress: None }), 0);
    assert_eq!(only(Bandwidth { ingress: None, egress: Some(limit) }), 4);
}

#[test]
fn a_further_attachments_routes_are_in_a_table_of_its_own() {
    let mut pod = attachment(Mode::Routed);
    pod.key.ifname = "eth1".parse().unwrap();
    let networks = ["10.244.0.0/16".parse().unwrap()];
    pod.further = Some(Further { networks: networks.to_vec(), taken: vec![] });
    let table = Further::table(&pod.key.ifname);
    let lines = lines(&pod.pod(), &pod.fresh_pod());
    let lines: Vec<_> = lines.iter().map(|line| line.replace(&table.to_string(), "T")).collect();
    assert_eq!(
        lines[4..],
        [
            "ip route add 169.254.1.1/32 dev eth1 proto 83 table T",
            "ip route add 0.0.0.0/0 via 169.254.1.1 dev eth1 proto 83 table T",
            "ip route add 10.244.0.0/16 via 169.254.1.1 dev eth1 proto 83 table T",
            "ip route add 10.244.1.0/24 via 169.254.1.1 dev eth1 proto 83 table T",
            "ip route add ::/0 via fe80::1 dev eth1 proto 83 table T",
            "ip route add fd00::/64 via fe80::1 dev eth1 proto 83 table T",
            "ip -4 rule add priority 83 from 10.244.1.7/32 proto 83 lookup T",
            "ip -6 rule add priority 83 from fd00::7/128 proto 83 lookup T",
            "ip -4 rule add priority 84 from 0.0.0.0 to 10.244.0.0/16 proto 83 lookup T",
            "ip -4 rule add priority 84 from 0.0.0.0 to 10.244.1.0/24 proto 83 lookup T",
            "ip -6 rule add priority 84 from fd00::7 to fd00::/64 proto 83 lookup T",
            "ip -4 rule add priority 33083 from 0.0.0.0/0 proto 83 lookup T",
            "ip -6 rule add priority 33083 from ::/0 proto 83 lookup T",
        ]
    );
}

#[test]
fn a_further_attachments_plan_is_empty_once_it_is_carried_out() {
    let mut pod = attachment(Mode::Bridge("cni0".parse().unwrap()));
    pod.further = Some(Further::default());
    pod.routes = vec![PodRoute { destination: "10.9.0.0/16".parse().unwrap(), via: None }];
    let (desired, mut now) = (pod.pod(), pod.fresh_pod());
    let sysctls = BTreeMap::new();
    let steps = plan(&desired, Seen { network: &now, sysctls: &sysctls }, Prune::Nothing).steps;
    for step in &steps {
        now.apply(step, &mut BTreeMap::new());
    }
    assert!(plan(&desired, Seen { network: &now, sysctls: &sysctls }, Prune::Nothing).is_empty());
    assert!(now.routes.is_empty(), "{:?}", now.routes);
}

#[test]
fn an_attachment_is_beside_others_that_have_a_default_route_or_one_of_its_own() {
    let mut pod = attachment(Mode::Routed);
    let beside = |pod: &Attachment, there: &[&str]| {
        pod.is_beside(&there.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>())
    };
    assert!(!beside(&pod, &[]));
    assert!(!beside(&pod, &["10.9.0.0/16", "fe80::/64"]));
    assert!(beside(&pod, &["10.9.0.0/16", "::/0"]));
    assert!(beside(&pod, &["169.254.1.1/32"]), "the way to its gateway");
    pod.routes = vec![PodRoute { destination: "10.9.0.7/16".parse().unwrap(), via: None }];
    assert!(beside(&pod, &["10.9.0.0/16"]));
    assert!(!beside(&pod, &["10.9.0.0/17"]));
}

#[test]
fn a_network_that_another_interface_is_in_leads_to_a_further_attachment_only_after_all_others() {
    let mut pod = attachment(Mode::Routed);
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let further = Further {
        networks: nets(&["10.244.0.0/16"]),
        taken: nets(&["10.244.0.9/32", "0.0.0.0/0", "fe80::1/128"]),
    };
    pod.further = Some(further.clone());
    let pick = |pod: &Attachment| {
        let wanted = lines(&pod.pod(), &pod.fresh_pod()).into_iter();
        let rules = wanted.filter(|line| line.contains("rule add") && line.contains(" to "));
        rules.map(|line| line.split(" proto").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected = [
        "ip -4 rule add priority 84 from 0.0.0.0 to 10.244.1.0/24",
        "ip -6 rule add priority 84 from fd00::7 to fd00::/64",
        "ip -4 rule add priority 33083 from 0.0.0.0 to 10.244.0.0/16",
    ];
    assert_eq!(pick(&pod), expected);
    let rules = pod.pod().tables.into_values().next().unwrap().rules;
    pod.further = Some(Further::found(further.networks, &rules));
    assert_eq!(pick(&pod), expected, "what was made tells what was found");
}

#[test]
fn of_two_routes_to_one_destination_inside_a_pod_the_first_is_made() {
    let mut pod = attachment(Mode::Bridge("cni0".parse().unwrap()));
    let route = |destination: &str, via: Option<&str>| PodRoute {
        destination: destination.parse().unwrap(),
        via: via.map(|via| via.parse().unwrap()),
    };
    pod.routes = vec![
        route("10.9.0.0/16", Some("10.244.1.8")),
        route("10.9.0.1/16", None),
        route("10.244.1.8/32", None),
    ];
    let wanted = lines(&pod.pod(), &pod.fresh_pod());
    let routes: Vec<_> = wanted.iter().filter(|line| line.starts_with("ip route")).collect();
    assert_eq!(
        routes,
        [
            "ip route add 10.244.1.1/32 dev eth0 proto 83",
            "ip route add 10.244.1.8/32 dev eth0 proto 83",
            "ip route add 10.9.0.0/16 via 10.244.1.8 dev eth0 proto 83",
        ]
    );
}
