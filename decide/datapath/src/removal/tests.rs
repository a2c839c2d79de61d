use selvedge_model::{MacAddr, Mtu};
use selvedge_ruleset::{IpVersion, ListedTable};

use super::*;
use crate::firewall::{AGENT, PLUGIN};
use crate::foreign::{Accept, Direction};

fn link(kind: LinkKind, alias: &str) -> ObservedLink {
    ObservedLink::new(kind, MacAddr::of_device("x"), Mtu::ETHERNET, alias)
}

/// A node with something of every kind, of ours and of others.
fn node() -> Marked {
    let mut marked = Marked::default();
    let pod = "selvedge net c1/eth0 10.244.1.2/32,fd00::2/128";
    let aside = ObservedLink { group: REAP_GROUP, ..link(LinkKind::Veth, "") };
    let links = [
        ("eth0", link(LinkKind::Other, "uplink")),
        ("cni0", link(LinkKind::Bridge, "selvedge net")),
        ("docker0", link(LinkKind::Bridge, "")),
        ("veth1", link(LinkKind::Veth, "selvedges of somebody")),
        ("slv1", link(LinkKind::Veth, pod)),
        ("slb1", link(LinkKind::Ifb, pod)),
        ("ifb0", link(LinkKind::Ifb, "")),
        ("slvr1", aside),
    ];
    marked.network.links = links.map(|(name, link)| (name.parse().unwrap(), link)).into();
    marked.network.routes = [
        Route::through("10.244.2.0/24", "eth0", ROUTE_PROTOCOL),
        Route::through("10.244.1.2/32", "slv1", ROUTE_PROTOCOL),
        Route::through("10.244.3.0/24", "eth0", 4),
    ]
    .into();
    marked.tables = [(AGENT, ListedTable::default()), (PLUGIN, ListedTable::default())].into();
    let accept = Accept { cidr: "10.244.1.0/24".parse().unwrap(), direction: Direction::From };
    let chain = |version, ours| ForwardChain { place: Place::Legacy(version), ours };
    let chains = vec![chain(IpVersion::V4, vec![accept]), chain(IpVersion::V6, Vec::new())];
    marked.forward = [("net".parse().unwrap(), chains)].into();
    marked.conflists = ["/etc/cni/net.d/10-selvedge.conflist".to_owned()].into();
    marked.state = ["/run/selvedge/ipam".to_owned()].into();
    marked.plugin = Some("/opt/cni/bin/selvedge".to_owned());
    marked.drafts = ["/opt/cni/bin/.selvedge.new-7".to_owned()].into();
    marked
}

#[test]
fn what_bears_a_mark_goes_in_an_order_that_leaves_no_pod_half_served_and_nothing_else_goes() {
    let steps: Vec<String> = node().removal().iter().map(ToString::to_string).collect();
    let expected = [
        "rm -r /etc/cni/net.d/10-selvedge.conflist",
        "ip link del slb1",
        "ip link del slv1",
        "ip link del slvr1",
        "conntrack -D -s 10.244.1.2; conntrack -D -d 10.244.1.2",
        "conntrack -D -s fd00::2; conntrack -D -d fd00::2",
        "ip route del 10.244.2.0/24 dev eth0 proto 83",
        "ip link del cni0",
        "iptables-legacy: no rule with the comment \"selvedge net\"",
        "nft delete table inet selvedge",
        "nft delete table inet selvedge-cni",
        "rm -r /run/selvedge/ipam",
        "rm -r /opt/cni/bin/.selvedge.new-7",
        "rm -r /opt/cni/bin/selvedge",
    ];
    assert_eq!(steps, expected);
    assert_eq!(node().plugin_stays(), None);
}

#[test]
fn the_plugin_stays_where_somebody_elses_configuration_has_it_called_and_that_is_told() {
    let callers = BTreeSet::from(["/etc/cni/net.d/50-mine.conflist".to_owned()]);
    let called = Marked { callers, ..node() };
    let without: Vec<Removal> = node().removal().into_iter().rev().skip(1).rev().collect();
    assert_eq!(called.removal(), without);
    let told = "/opt/cni/bin/selvedge stays: /etc/cni/net.d/50-mine.conflist, not the agent's, has it called";
    assert_eq!(called.plugin_stays().as_deref(), Some(told));
    assert_eq!(Marked { plugin: None, ..called }.plugin_stays(), None);
}

#[test]
fn whoever_has_a_host_end_is_attached_whatever_else_bears_his_record() {
    let node = node();
    let attached: Vec<&str> = node.attachments().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(attached, ["slv1"]);
    assert_eq!(node.networks(), ["net".parse().unwrap()].into());
}

#[test]
fn of_a_node_without_anything_of_ours_nothing_is_taken() {
    assert_eq!(Marked::default().removal(), []);
}
