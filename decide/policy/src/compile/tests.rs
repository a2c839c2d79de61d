mod changes;
mod counted;
mod differential;
mod revoked;

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use selvedge_model::{ContainerPort, IfName, Labels, NodeName, PodKey, Transport};
use selvedge_ruleset::after::after;
use selvedge_ruleset::matching::CtStates;
use selvedge_ruleset::show::Listing;
use selvedge_ruleset::{Family, L4Proto, Listed, Packet, Scope, TableId, TcpFlags, diff, shape, trace};
use serde_json::{Value, json};

use super::*;
use crate::judge::{Flow, Protocol, Source};
use crate::read::read;
use crate::testing::attached;
use selvedge_model::policy::{Mode, Policy, PolicyKey};

pub(crate) const ID: TableId = TableId::literal(Family::Inet, "selvedge");

fn packet(flow: &Flow) -> Packet {
    let (proto, ports) = match flow.protocol {
        Protocol::Port(transport, port) => (peers::proto_of(transport), Some((40_000, port))),
        Protocol::Other(number) => (L4Proto(number), None),
    };
    let (source, destination) = (flow.source.address(), flow.destination);
    let tcp = (proto == L4Proto::TCP).then_some(TcpFlags::SYN);
    Packet { iif: None, oif: None, source, destination, proto, ports, icmp: None, tcp, state: CtStates::NEW }
}

/// Two pods of x on the first node, one of them isolated, and one of y on the second.
pub(crate) fn small(policies: &[(&str, Value)]) -> Cluster {
    of(policies.iter().map(policy))
}

fn policy((key, spec): &(&str, Value)) -> Policy {
    let (namespace, name) = key.split_once('/').unwrap();
    read(PolicyKey { namespace: namespace.to_owned(), name: name.to_owned() }, spec).unwrap()
}

/// The same pods with these policies.
fn of(policies: impl IntoIterator<Item = Policy>) -> Cluster {
    let mut listing = selvedge_model::Listing::default();
    selvedge_model::Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
    for (key, node, address) in [
        ("x/web", "node-1", ["10.244.1.2", "fd00:244:1::2"]),
        ("x/db", "node-1", ["10.244.1.3", "fd00:244:1::3"]),
        ("y/web", "node-2", ["10.244.2.2", "fd00:244:2::2"]),
    ] {
        let key: PodKey = key.parse().unwrap();
        listing.pod(Pod {
            labels: Labels::from_iter([("app".to_owned(), key.name.clone())]),
            key,
            uid: None,
            mirror: None,
            node: Some(node.parse().unwrap()),
            addresses: address.map(|text| text.parse().unwrap()).to_vec(),
            host_network: false,
            finished: false,
            ports: vec![ContainerPort {
                name: "http".into(),
                transport: Transport::Tcp,
                number: NonZeroU16::MIN,
            }],
        });
    }
    ["x", "y"].into_iter().for_each(|name| listing.namespace(name, Labels::default()));
    policies.into_iter().for_each(|policy| listing.policy(policy));
    Cluster::new(&listing.finish().unwrap())
}

fn is(pod: &LocalPod, key: &str) -> bool {
    pod.whose == Whose::Pod(key.parse().unwrap())
}

pub(crate) fn node_1() -> NodeName {
    "node-1".parse().unwrap()
}

fn policies() -> [(&'static str, Value); 2] {
    let block = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.0.0/16"]}});
    let ports = json!([{"port": 80}, {"port": 81, "endPort": 90}, {"protocol": "UDP"}, {"port": "http"}]);
    let ingress = json!([{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}]},
        {"from": [block], "ports": ports}]);
    [
        ("x/in", json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": ingress})),
        (
            "x/out",
            json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": {}}], "ports": [{"port": "http"}]}]}),
        ),
    ]
}

/// `table.txt` is what `nft list table` would print.
#[test]
fn the_compiled_table_reads_well() {
    let cluster = small(&policies());
    let table = compile(&cluster, &attached(&cluster, &node_1()));
    shape::check(&ID, &table).unwrap();
    assert!(table.sets.keys().all(|set| table.uses(set)));
    assert_eq!(Listing(&ID, &table).to_string(), include_str!("tests/table.txt"));
}

#[test]
fn a_pod_that_comes_changes_the_elements_that_it_is_in_and_nothing_else() {
    let mut policies = policies();
    let before = small(&policies);
    let node = attached(&before, &node_1());
    let listed = listed(&compile(&before, &node));
    let mut fewer = node.clone();
    fewer.pods.retain(|pod| !is(pod, "x/web"));
    let changed = |cluster: &Cluster, node: &LocalNode| {
        let desired = BTreeMap::from([(ID, compile(cluster, node))]);
        let transaction = diff(&desired, &listed, Scope::Whole);
        transaction.commands().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(changed(&before, &node), [""; 0]);
    let gone = changed(&before, &fewer);
    // Out of both maps, the pairs of its own and the gates, in both families.
    assert_eq!(gone.len(), 8, "{gone:#?}");
    assert!(gone.iter().all(|command| command.starts_with("delete element inet selvedge ")), "{gone:#?}");
    // Its policy changes: its chain's rules do, and no map does.
    policies[1].1["egress"] = json!([]);
    let stricter = changed(&small(&policies), &node);
    assert!(stricter.iter().any(|command| command.starts_with("delete rule ")), "{stricter:#?}");
    assert!(!stricter.iter().any(|command| command.contains("egress4 ")), "{stricter:#?}");
}

/// A table as a kernel would list it.
pub(crate) fn listed(table: &Table) -> Listed {
    let transaction = diff(&BTreeMap::from([(ID, table.clone())]), &Listed::new(), Scope::Whole);
    after(&Listed::new(), &transaction).unwrap()
}

#[test]
fn equal_selectors_share_a_set_and_pods_of_the_same_policies_a_chain() {
    let all = |name| (name, json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}));
    let cluster = small(&[all("x/one"), all("x/two"), all("y/three")]);
    let table = compile(&cluster, &attached(&cluster, &node_1()));
    let count = |prefix: &str| table.sets.keys().filter(|name| name.as_str().starts_with(prefix)).count();
    assert_eq!((count("peers4-"), count("peers6-")), (1, 1));
    assert_eq!(table.chains.keys().filter(|name| name.as_str().starts_with("ingress-")).count(), 1);
}

/// Whether a packet of the pod's passes the hook.
fn passes(table: &Table, hook: Hook, (iif, oif): (Option<&str>, Option<&str>), ends: (&str, &str)) -> bool {
    let [iif, oif] = [iif, oif].map(|name| name.map(|name| name.parse().unwrap()));
    let flow = Flow {
        source: Source::Address(ends.0.parse().unwrap()),
        destination: ends.1.parse().unwrap(),
        protocol: Protocol::Port(Transport::Tcp, 80),
    };
    trace(table, hook, &Packet { iif, oif, ..packet(&flow) }).unwrap().verdict
        == selvedge_ruleset::Policy::Accept
}

#[test]
fn a_pod_is_closed_until_its_addresses_are_known_to_its_own_node_too() {
    let cluster = small(&[]);
    let mut node = attached(&cluster, &node_1());
    let table = compile(&cluster, &node);
    let (pod, address, other) = ("slv-x-web", "10.244.1.2", "10.244.1.3");
    let open = |table: &Table, address: &str| {
        [
            passes(table, Hook::Prerouting, (Some(pod), None), (address, "172.30.0.1")),
            passes(table, Hook::Forward, (Some(pod), Some("eth0")), (address, "192.0.2.9")),
            passes(table, Hook::Forward, (Some("eth0"), Some(pod)), ("192.0.2.9", address)),
            passes(table, Hook::Output, (None, Some(pod)), ("172.30.0.1", address)),
        ]
    };
    assert_eq!(open(&table, address), [true; 4]);
    // Another pod's address is none of its own. What has passed the gate in prerouting isn't asked again.
    assert_eq!(open(&table, other), [false, true, false, false]);
    node.pods.retain(|pod| !is(pod, "x/web"));
    assert_eq!(open(&compile(&cluster, &node), address), [false; 4]);
    node.bridge = Some("cni0".parse().unwrap());
    let bridged = compile(&cluster, &node);
    assert!(!passes(&bridged, Hook::Prerouting, (Some("cni0"), None), (address, "172.30.0.1")));
}

#[test]
fn neighbour_discovery_passes_before_an_address_is_known() {
    let table = compile(&small(&[]), &LocalNode::default());
    let flow = Flow {
        source: Source::Address("fe80::1".parse().unwrap()),
        destination: "ff02::1:ff00:2".parse().unwrap(),
        protocol: Protocol::ICMPV6,
    };
    for (kind, expected) in [(135, true), (136, true), (128, false), (133, false), (134, false), (137, false)]
    {
        let packet = Packet { iif: Some("slv1".parse().unwrap()), icmp: Some(kind), ..packet(&flow) };
        let traced = trace(&table, Hook::Prerouting, &packet).unwrap();
        assert_eq!(traced.verdict == selvedge_ruleset::Policy::Accept, expected, "{kind}");
    }
}

/// It would refuse the whole table.
#[test]
fn a_kernel_without_the_netfilter_log_gets_the_same_rules_but_those_that_tell() {
    let cluster = small(&policies());
    let node = attached(&cluster, &node_1());
    let mute = compile(&cluster, &LocalNode { netlog: Netlog::Missing, ..node.clone() });
    shape::check(&ID, &mute).unwrap();
    assert!(mute.sets.keys().all(|set| mute.uses(set)));
    let listed = Listing(&ID, &compile(&cluster, &node)).to_string();
    let rest = |text: &str| text.lines().filter(|line| !line.contains("log prefix")).count();
    let rules = |table: &Table| table.chains.values().map(|chain| chain.rules.len()).sum::<usize>();
    assert!(!Listing(&ID, &mute).to_string().contains("log prefix"));
    assert_eq!(rules(&compile(&cluster, &node)) - rules(&mute), listed.lines().count() - rest(&listed));
    let db = (Some("eth0"), Some("slv-x-db"));
    assert!(!passes(&mute, Hook::Forward, db, ("192.0.2.9", "10.244.1.3")));
    assert!(passes(&mute, Hook::Forward, db, ("10.1.2.3", "10.244.1.3")));
}

/// Its labels aren't known, so any policy of its namespace might select it.
#[test]
fn a_pod_that_no_source_has_shown_is_isolated_where_its_namespace_has_policies_or_is_not_known() {
    let cluster = small(&policies());
    unseen(&cluster, [("x/new", false), ("y/new", true), ("z/new", false)]);
}

#[test]
fn a_shadow_isolates_no_pod_that_no_source_has_shown() {
    let shadow = Policy { mode: Mode::Shadow, ..policy(&policies()[0]) };
    unseen(&of([shadow]), [("x/new", true), ("y/new", true), ("z/new", false)]);
}

/// Compiles each pod `NAMESPACE/NAME` as one that only its attachment tells of: it speaks with the world, or not.
fn unseen(cluster: &Cluster, pods: [(&str, bool); 3]) {
    for (key, expected) in pods {
        let address = "10.244.1.9";
        let namespace = key.split('/').next().unwrap();
        let namespace = cluster.namespaces().contains_key(namespace).then(|| namespace.to_owned());
        let pod = LocalPod {
            whose: Whose::Unseen(namespace),
            interface: "slv-new".parse().unwrap(),
            addresses: vec![address.parse().unwrap()],
        };
        let table = compile(cluster, &LocalNode { pods: vec![pod], ..LocalNode::default() });
        let at = Some("slv-new");
        assert_eq!(
            passes(&table, Hook::Forward, (at, Some("eth0")), (address, "192.0.2.9")),
            expected,
            "{key}"
        );
        assert_eq!(
            passes(&table, Hook::Forward, (Some("eth0"), at), ("192.0.2.9", address)),
            expected,
            "{key}"
        );
    }
}
