use selvedge_ruleset::after::after;
use selvedge_ruleset::shape;
use selvedge_ruleset::show::Listing;

use super::*;

fn owner(host: &str, container: &str) -> PortOwner {
    let key = AttachmentKey { container: container.parse().unwrap(), ifname: "eth0".parse().unwrap() };
    PortOwner::new(&host.parse().unwrap(), &"mynet".parse().unwrap(), &key)
}

fn mapping(transport: Transport, at: &str, (host, container): (u16, u16)) -> PortMapping {
    let host_ip = if at.is_empty() { HostIp::Any } else { HostIp::of(at.parse().unwrap()) };
    let [host_port, container_port] = [host, container].map(|port| port.try_into().unwrap());
    PortMapping { transport, host_ip, host_port, container_port }
}

fn pod() -> Vec<IpAddr> {
    ["10.244.1.2", "10.244.1.3", "fd00::2"].map(|ip| ip.parse().unwrap()).to_vec()
}

fn ports(rows: &[(&str, PortMapping)]) -> PublishedPorts {
    let of =
        |(host, mapping): &(&str, PortMapping)| PublishedPort::of(mapping, &pod(), &owner(host, "web-0"));
    PublishedPorts { ports: rows.iter().flat_map(of).collect(), loopback: BTreeSet::new() }
}

fn link(name: &str) -> IfName {
    name.parse().unwrap()
}

/// What there is after these have been made, one after the other.
fn made(steps: &[&PublishedPorts]) -> Listed {
    steps.iter().fold(Listed::new(), |listed, ports| after(&listed, &ports.transaction(&listed)).unwrap())
}

#[test]
fn a_mapping_is_at_the_first_address_of_each_family_that_it_asks_for() {
    let at = |place: &str| -> Vec<String> {
        let ports =
            PublishedPort::of(&mapping(Transport::Tcp, place, (8080, 80)), &pod(), &owner("slv1", "c"));
        ports.iter().map(|port| format!("{port}: {}", port.pod)).collect()
    };
    let (four, six) = ("tcp port 8080 at 0.0.0.0: 10.244.1.2:80", "tcp port 8080 at ::: [fd00::2]:80");
    assert_eq!(at(""), [four, six]);
    assert_eq!((at("0.0.0.0"), at("::")), (vec![four.to_owned()], vec![six.to_owned()]));
    assert_eq!(at("127.0.0.1"), ["tcp port 8080 at 127.0.0.1: 10.244.1.2:80"]);
    let only_v4 = [IpAddr::from([10, 244, 1, 2])];
    let v6 = mapping(Transport::Tcp, "fd00::7", (8080, 80));
    assert!(PublishedPort::of(&v6, &only_v4, &owner("slv1", "c")).is_empty());
}

#[test]
fn ports_are_rivals_where_both_would_lead_a_packet() {
    let [tcp, at, other, udp, v6] = [
        mapping(Transport::Tcp, "0.0.0.0", (80, 1)),
        mapping(Transport::Tcp, "10.0.0.1", (80, 2)),
        mapping(Transport::Tcp, "10.0.0.2", (80, 3)),
        mapping(Transport::Udp, "0.0.0.0", (80, 4)),
        mapping(Transport::Tcp, "::", (80, 5)),
    ]
    .map(|mapping| PublishedPort::of(&mapping, &pod(), &owner("slv1", "c")).remove(0));
    assert!(tcp.rivals(&tcp) && tcp.rivals(&at) && at.rivals(&tcp));
    assert!(!at.rivals(&other) && !tcp.rivals(&udp) && !tcp.rivals(&v6));
}

#[test]
fn the_table_is_as_nft_lists_it() {
    let mut all = ports(&[
        ("slv1", mapping(Transport::Tcp, "", (8080, 80))),
        ("slv2", mapping(Transport::Udp, "127.0.0.1", (53, 5353))),
        ("slv2", mapping(Transport::Sctp, "fd00:30::11", (80, 81))),
    ]);
    all.loopback = [link("cni0"), link("slv2")].into();
    let table = all.table();
    assert_eq!(shape::check(&PLUGIN, &table), Ok(()));
    assert_eq!(Listing(&PLUGIN, &table).to_string(), include_str!("table.txt"));
}

#[test]
fn what_is_made_reads_back_and_wants_no_change() {
    let mut all = ports(&[
        ("slv1", mapping(Transport::Tcp, "", (8080, 80))),
        ("slv2", mapping(Transport::Sctp, "fd00:30::11", (80, 81))),
    ]);
    all.loopback = [link("slv1")].into();
    let listed = made(&[&all]);
    assert_eq!(PublishedPorts::listed(&listed), all);
    assert!(all.transaction(&listed).is_empty());
}

#[test]
fn one_port_more_or_less_is_one_element_more_or_less() {
    let web = ("slv1", mapping(Transport::Tcp, "0.0.0.0", (8080, 80)));
    let dns = ("slv1", mapping(Transport::Udp, "0.0.0.0", (53, 53)));
    let (one, two) = (ports(&[web]), ports(&[web, dns]));
    let text = two.transaction(&made(&[&one])).to_string();
    let line = "element inet selvedge-cni published4 \
        { udp . 53 comment \"slv1 web-0/eth0 mynet\" : 10.244.1.2 . 53 }\n";
    assert_eq!(text, format!("add {line}"));
    assert_eq!(one.transaction(&made(&[&two])).to_string(), format!("delete {line}"));
}

#[test]
fn the_table_goes_with_the_last_port_unless_a_network_uses_it() {
    let all = ports(&[("slv1", mapping(Transport::Tcp, "", (8080, 80)))]);
    let none = PublishedPorts::default();
    assert!(made(&[&all, &none]).is_empty());
    let chain = ChainName::listed("postrouting-mynet");
    let network = BTreeMap::from([(PLUGIN, Table::new().chain(chain.clone(), Chain::default()))]);
    let listed = after(&Listed::new(), &diff(&network, &Listed::new(), Scope::Whole)).unwrap();
    let both = after(&listed, &all.transaction(&listed)).unwrap();
    let left = after(&both, &none.transaction(&both)).unwrap();
    assert_eq!(left[&PLUGIN].chains.keys().collect::<Vec<_>>(), [&chain]);
    assert!(left[&PLUGIN].sets.is_empty());
}

#[test]
fn a_link_carries_the_loopback_for_as_long_as_it_is_needed() {
    let all = || PublishedPorts {
        loopback: ["slv1", "slv2", "cni0"].map(link).into(),
        ..ports(&[
            ("slv1", mapping(Transport::Tcp, "0.0.0.0", (8080, 80))),
            ("slv2", mapping(Transport::Tcp, "127.0.0.1", (8081, 80))),
            ("slv3", mapping(Transport::Tcp, "10.0.0.1", (8082, 80))),
        ])
    };
    let without = |gone: &[&str]| {
        let mut left = all();
        left.retain(|owner| !gone.iter().any(|host| owner.has(&link(host))));
        left
    };
    assert_eq!(without(&[]), all());
    let left = without(&["slv1"]);
    assert_eq!(left.loopback, ["slv2", "cni0"].map(link).into());
    assert_eq!(left.released(&all()).count(), 0);
    let left = without(&["slv1", "slv2"]);
    assert!(left.loopback.is_empty() && left.ports.len() == 1);
    assert_eq!(left.released(&all()).collect::<Vec<_>>(), [&link("cni0")]);
}

#[test]
fn an_owner_is_told_by_its_host_end() {
    let long = PortOwner::new(
        &link("slvabcdefghijkl"),
        &"n".repeat(200).parse().unwrap(),
        &AttachmentKey { container: "c".repeat(64).parse().unwrap(), ifname: "eth0".parse().unwrap() },
    );
    assert!(long.has(&link("slvabcdefghijkl")) && !long.has(&link("slvabcdefghijk")));
    assert!(long.to_string().ends_with(&format!("n {}/eth0", "c".repeat(64))));
    assert_eq!(owner("slv1", "web-0").to_string(), "mynet web-0/eth0");
    assert_eq!(owner("slv1", "web-0").host(), Some(link("slv1")));
}

#[test]
fn attachments_of_one_container_are_told_from_others() {
    let further = |container: &str, ifname: &str| {
        let key = AttachmentKey { container: container.parse().unwrap(), ifname: ifname.parse().unwrap() };
        PortOwner::new(&link("slv7"), &"n".repeat(200).parse().unwrap(), &key)
    };
    let web = owner("slv1", "web-0");
    assert!(web.is_of_same_container(&further("web-0", "eth1")));
    assert!(!web.is_of_same_container(&further("web-1", "eth0")));
    let long = "c".repeat(64);
    assert!(further(&long, "eth0").is_of_same_container(&further(&long, "eth1")));
    let odd = PortOwner(Comment::new("somebody"));
    assert!(!odd.is_of_same_container(&odd) && odd.host().is_some());
}

#[test]
fn of_a_containers_ports_by_two_networks_one_leads_and_the_other_waits_for_it_to_go() {
    let pods = ["10.244.1.2", "10.99.1.2", "fd00::2", "fd00:99::2"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let mappings =
        [mapping(Transport::Tcp, "", (8080, 80)), mapping(Transport::Udp, "127.0.0.1", (53, 5353))];
    let key = |ifname: &str| AttachmentKey { container: "web-0".parse().unwrap(), ifname: link(ifname) };
    let owners = [
        PortOwner::further(&link("slv1"), &"mynet".parse().unwrap(), &key("eth1")),
        PortOwner::new(&link("slv2"), &"other".parse().unwrap(), &key("eth0")),
    ];
    assert_eq!(owners.each_ref().map(ToString::to_string), ["mynet web-0/eth1", "other web-0/eth0"]);
    let of = |owner: &PortOwner, pods: &[IpAddr]| -> BTreeSet<PublishedPort> {
        mappings.iter().flat_map(|mapping| PublishedPort::of(mapping, pods, owner)).collect()
    };
    let [one, two] = [of(&owners[0], &[pods[0], pods[2]]), of(&owners[1], &[pods[1], pods[3]])];
    let [leading, waiting] = waiting::elected(&one.union(&two).cloned().collect());
    assert_eq!((&leading, &waiting), (&two, &one), "the container's first attachment leads");
    let alone =
        |ports: &BTreeSet<PublishedPort>| PublishedPorts { ports: ports.clone(), ..Default::default() };
    let both = PublishedPorts { ports: one.union(&two).cloned().collect(), ..Default::default() };
    assert_eq!(shape::check(&PLUGIN, &both.table()), Ok(()));
    let listed = made(&[&alone(&one), &both]);
    assert_eq!(PublishedPorts::listed(&listed), both, "what waits is known");
    assert!(both.transaction(&listed).is_empty());
    for (gone, left) in [("slv1", &two), ("slv2", &one)] {
        let mut ports = PublishedPorts::listed(&listed);
        ports.retain(|owner| !owner.has(&link(gone)));
        assert_eq!(ports, alone(left));
        let after = after(&listed, &ports.transaction(&listed)).unwrap();
        assert_eq!(after, made(&[&alone(left)]), "nothing is left of {gone}");
    }
}
