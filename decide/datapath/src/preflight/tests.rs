use selvedge_model::{MacAddr, Mtu};
use selvedge_ruleset::{Family, IpVersion, TableId};

use super::*;
use crate::state::{Address, ObservedLink};

fn fine() -> Facts {
    Facts {
        features: vec![
            tried("veth", Need::Always, Answer::There),
            tried("bridge", Need::Bridge, Answer::There),
        ],
        network: ObservedNetwork::default(),
        forward: Vec::new(),
        places: vec![Looked { what: "state in /run/selvedge".to_owned(), wrong: None }],
        listen: Looked { what: "127.0.0.1:9763".to_owned(), wrong: None },
        taken: Vec::new(),
        passed_over: Vec::new(),
        pod_cidrs: ["10.244.1.0/24".parse().unwrap()].into(),
        no_cluster: None,
        no_node: None,
    }
}

fn tried(what: &'static str, need: Need, answer: Answer) -> Tried {
    Tried { what, need, answer }
}

fn wishes(attach: Attach) -> Wishes {
    Wishes { attach, bridge: "cni0".parse().unwrap(), forward_accept: true }
}

fn link(kind: LinkKind, alias: &str, addresses: &[&str]) -> ObservedLink {
    let mut link = ObservedLink::new(kind, MacAddr::of_device("x"), Mtu::ETHERNET, alias);
    link.addresses = addresses.iter().map(|net| Address::global(net.parse().unwrap())).collect();
    link
}

/// What is told beyond what is fine, as `VERDICT ABOUT: TEXT`.
fn told(facts: &Facts, wishes: &Wishes) -> Vec<String> {
    let findings = judge(facts, wishes).into_iter().filter(|finding| finding.verdict != Verdict::Fine);
    findings.map(|Finding { verdict, about, found }| format!("{verdict} {about}: {found}")).collect()
}

#[test]
fn a_node_that_has_everything_is_told_nothing_else() {
    assert_eq!(told(&fine(), &wishes(Attach::Bridge)), Vec::<String>::new());
    assert!(judge(&fine(), &wishes(Attach::Routed)).iter().any(|finding| finding.found == "veth, bridge"));
    assert!(judge(&fine(), &wishes(Attach::Routed)).iter().any(|finding| finding.about == "port"));
}

#[test]
fn a_feature_blocks_only_those_who_need_it() {
    let mut facts = fine();
    let missing = || Answer::Missing("Operation not supported".to_owned());
    facts.features = vec![
        tried("bridge", Need::Bridge, missing()),
        tried("IPv6", Need::Ipv6, missing()),
        tried("tbf", Need::Some("no limits"), missing()),
        tried("ifb", Need::Always, Answer::Untried("not loaded".to_owned())),
    ];
    let expected = [
        "warning kernel: no tbf (Operation not supported): no limits",
        "note kernel: no bridge (Operation not supported): attach: bridge would need it",
        "note kernel: no IPv6 (Operation not supported): only IPv4 pods can be served",
        "note kernel: ifb not tried: not loaded",
    ];
    assert_eq!(told(&facts, &wishes(Attach::Routed)), expected);
    facts.pod_cidrs.insert("fd00::/64".parse().unwrap());
    let blocked = told(&facts, &wishes(Attach::Bridge));
    assert_eq!(blocked.iter().filter(|line| line.starts_with("BLOCKS")).count(), 2, "{blocked:?}");
}

#[test]
fn a_pod_cidr_that_covers_what_the_node_has_blocks_and_what_is_ours_does_not() {
    let mut facts = fine();
    let links = [
        ("eth0", link(LinkKind::Other, "", &["10.244.1.7/16"])),
        ("cni0", link(LinkKind::Bridge, "selvedge net", &["10.244.1.1/24"])),
    ];
    facts.network.links = links.map(|(name, link)| (name.parse().unwrap(), link)).into();
    facts.network.routes = [
        Route::through("0.0.0.0/0", "eth0", 4),
        Route::through("10.0.0.0/8", "eth0", 4),
        Route::through("10.244.1.128/25", "eth0", ROUTE_PROTOCOL),
        Route::through("10.244.1.0/24", "cni0", 2),
        Route::through("192.168.0.0/16", "eth0", 4),
    ]
    .into();
    let expected = [
        "BLOCKS addresses: pod CIDR 10.244.1.0/24 covers 10.244.1.7 of eth0",
        "BLOCKS addresses: pod CIDR 10.244.1.0/24 overlaps the route 10.0.0.0/8 dev eth0 proto 4, which is not ours",
    ];
    assert_eq!(told(&facts, &wishes(Attach::Bridge)), expected);
}

#[test]
fn a_cluster_whose_nodes_have_no_pod_cidr_is_told_what_gives_them_one() {
    let facts = Facts { pod_cidrs: BTreeSet::new(), ..fine() };
    let told_of = told(&facts, &wishes(Attach::Routed));
    assert_eq!(told_of.len(), 1, "{told_of:?}");
    assert!(told_of[0].starts_with("warning addresses: no Node has a podCIDR"), "{told_of:?}");
    assert!(told_of[0].contains("--allocate-node-cidrs"), "{told_of:?}");
    let unknown = Facts { no_cluster: Some((Verdict::Note, "no --kubeconfig".to_owned())), ..facts };
    let told_of = told(&unknown, &wishes(Attach::Routed));
    assert_eq!(told_of, ["note addresses: no --kubeconfig: overlaps with pod CIDRs can't be told"]);
    let no_cluster = Some((Verdict::Blocks, "no kubeconfig".to_owned()));
    let told_of = told(&Facts { no_cluster, ..fine() }, &wishes(Attach::Routed));
    assert!(told_of[0].starts_with("BLOCKS addresses: no kubeconfig"), "{told_of:?}");
}

#[test]
fn other_networks_are_named_by_their_interfaces_and_configurations() {
    let mut facts = fine();
    let names = ["cni0", "cnifoo", "cali123", "flannel.1", "docker0"];
    let links = names.map(|name| (name.parse().unwrap(), link(LinkKind::Bridge, "", &[])));
    facts.network.links = links.into();
    (facts.taken, facts.passed_over) = (vec!["05-a.conf".to_owned()], vec!["99-b.conf".to_owned()]);
    let expected = [
        "BLOCKS CNI: runtimes would take 05-a.conf instead of ours: remove it, or choose an earlier conflistName",
        "warning second CNI: cali123: Calico is or was here",
        "warning second CNI: flannel.1: flannel is or was here",
        "warning second CNI: cni0: a bridge of another plugin is or was here",
    ];
    assert_eq!(told(&facts, &wishes(Attach::Routed)), expected);
    let taken =
        "BLOCKS second CNI: cni0 was made by somebody else: name another bridge, or remove it".to_owned();
    assert!(told(&facts, &wishes(Attach::Bridge)).contains(&taken));
    let other = Wishes { bridge: "docker0".parse().unwrap(), ..wishes(Attach::Bridge) };
    assert!(told(&facts, &other).iter().any(|line| line.starts_with("BLOCKS second CNI: docker0")));
}

#[test]
fn a_chain_that_drops_is_outvoted_where_we_may() {
    let mut facts = fine();
    let firewalld = TableId { family: Family::Inet, name: "firewalld".parse().unwrap() };
    let places = [Place::Legacy(IpVersion::V4), Place::Nft(firewalld, "filter_FORWARD".parse().unwrap())];
    facts.forward = places.map(|place| ForwardChain { place, ours: Vec::new() }).into();
    let by_us = told(&facts, &wishes(Attach::Routed));
    assert!(by_us[0].starts_with("warning firewall: nft inet firewalld filter_FORWARD"), "{by_us:?}");
    assert!(by_us[1].starts_with("note firewall: iptables-legacy may drop"), "{by_us:?}");
    let alone = told(&facts, &Wishes { forward_accept: false, ..wishes(Attach::Routed) });
    assert!(alone[0].starts_with("warning firewall: iptables-legacy may drop"), "{alone:?}");
}

#[test]
fn a_port_that_is_taken_and_a_directory_that_is_read_only_block() {
    let mut facts = fine();
    facts.listen.wrong = Some((Verdict::Blocks, "Address already in use".to_owned()));
    facts.places[0].wrong = Some((Verdict::Blocks, "not writable".to_owned()));
    let expected = [
        "BLOCKS disk: state in /run/selvedge: not writable",
        "BLOCKS port: 127.0.0.1:9763: Address already in use: name another with --listen",
    ];
    assert_eq!(told(&facts, &wishes(Attach::Routed)), expected);
}
