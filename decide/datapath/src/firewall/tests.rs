use selvedge_model::Sorted;
use selvedge_ruleset::Seen;

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn rules(table: &Table, chain: &str) -> Vec<String> {
    let chain = table.chains.get(&ChainName::listed(chain)).expect("the chain is there");
    chain.rules.iter().map(ToString::to_string).collect()
}

#[test]
fn only_what_leaves_the_pod_network_is_masqueraded() {
    let subnets = nets(&["10.244.1.0/24"]);
    let direct = nets(&["10.244.0.0/16", "172.30.0.11/32"]);
    let table =
        agent(PodNetwork { subnets: &subnets, direct: &direct, masquerade: true, bridge: None }, true);
    assert!(table.owned);
    assert_eq!(
        rules(&table, "postrouting"),
        ["ip saddr 10.244.1.0/24 ip daddr != @direct4 ip daddr != 224.0.0.0/4 masquerade fully-random \
          comment \"leaves the pod network\""]
    );
    assert_eq!(table.sets[&DIRECT4].elements().len(), 2);
}

#[test]
fn what_is_not_masqueraded_now_can_be_read_from_the_table() {
    let direct = nets(&["10.244.0.0/23", "10.244.2.0/24", "172.30.0.11/32", "fd00:10:244::/63"]);
    let table = agent(PodNetwork { subnets: &[], direct: &direct, masquerade: true, bridge: None }, true);
    let listed = |set: &Set| Seen::Known(set.clone());
    let sets = table.sets.iter().map(|(name, set)| (name.clone(), listed(set))).collect();
    assert_eq!(super::direct(&ListedTable { sets, ..ListedTable::default() }), direct);
}

#[test]
fn an_address_that_no_pod_has_goes_nowhere() {
    let subnets = nets(&["10.244.1.0/24"]);
    let bridge: IfName = "cni0".parse().unwrap();
    let network = PodNetwork { subnets: &subnets, direct: &[], masquerade: false, bridge: Some(&bridge) };
    let table = agent(network, false);
    assert_eq!(
        rules(&table, "forward"),
        ["ip daddr 10.244.1.0/24 oifname != \"slv*\" oifname != \"cni0\" counter drop \
          comment \"no pod has this address\""]
    );
    assert_eq!(rules(&table, "postrouting"), Vec::<String>::new());
}

#[test]
fn a_standalone_bridge_masquerades_all_but_its_own_network_and_names_it_everywhere() {
    let name: NetworkName = "mynet".parse().unwrap();
    let bridge: IfName = "cni0".parse().unwrap();
    let subnets = nets(&["10.244.1.0/24"]);
    let direct = nets(&["10.244.0.0/16", "fd00::/48"]);
    let network = PodNetwork { subnets: &subnets, direct: &direct, masquerade: true, bridge: Some(&bridge) };
    let table = standalone(&name, network);
    assert_eq!(
        rules(&table, "postrouting-mynet"),
        [
            "ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return comment \"mynet\"",
            "ip saddr 10.244.1.0/24 ip daddr != 224.0.0.0/4 oifname != \"cni0\" masquerade fully-random \
             comment \"mynet\"",
        ]
    );
    assert!(table.chains.keys().all(|chain| is_chain_of(chain, &name)));
    assert!(!is_chain_of(&ChainName::listed("postrouting-mynet2"), &name));
}

#[test]
fn the_guard_knows_each_port_by_its_pods_addresses() {
    let port: IfName = "slvabc".parse().unwrap();
    let nets = nets(&["10.244.1.7/24", "fd00::7/64"]);
    let table = guard([(&port, nets.as_slice())]);
    assert_eq!(table.sets[&GUARDED4].elements().len(), 1);
    assert_eq!(table.sets[&GUARDED6].elements().len(), 1);
    let last = rules(&table, "prerouting").pop();
    assert_eq!(last.as_deref(), Some("counter drop comment \"source is not the pod's\""));
}

#[test]
fn what_is_to_be_encrypted_leaves_by_one_device_alone() {
    let device: IfName = "selvedge-wg".parse().unwrap();
    let remote = nets(&["10.244.2.0/24", "10.244.0.0/16", "fd00:10:244:2::/64"]).into_iter().collect();
    let table = encrypted(&remote, &device, &nets(&["10.244.1.0/24"]));
    assert_eq!(
        rules(&table, "encrypted"),
        [
            "ip daddr 10.244.1.0/24 return",
            "ip daddr @encrypted4 oifname != \"selvedge-wg\" counter drop comment \"not in the clear\"",
            "ip6 daddr @encrypted6 oifname != \"selvedge-wg\" counter drop comment \"not in the clear\"",
        ]
    );
    assert_eq!(table.sets.values().map(|set| set.elements().len()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn tunnels_are_spoken_to_by_nodes_alone() {
    let nodes_known: Sorted<IpAddr> = ["172.30.0.11", "fd00:30::11"].map(|ip| ip.parse().unwrap()).into();
    let table = tunnels(&nodes_known, &[4789], &nets(&["10.244.1.0/24", "fd00:10:244:1::/64"]));
    assert_eq!(
        rules(&table, "tunnels-input"),
        [
            "udp dport 4789 ip saddr != @nodes4 counter drop comment \"no node sends this\"",
            "udp dport 4789 ip6 saddr != @nodes6 counter drop comment \"no node sends this\"",
        ]
    );
    let forward = rules(&table, "tunnels-forward");
    let expected = "udp dport 4789 ip saddr 10.244.1.0/24 ip daddr @nodes4 counter drop comment \"tunnels are the nodes' alone\"";
    assert_eq!((forward.len(), forward[0].as_str()), (2, expected));
    assert_eq!(table.sets.values().map(|set| set.elements().len()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn the_guard_of_tunnels_for_other_nodes_is_what_it_would_be_for_them_alone() {
    let nodes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let (then, now) = (nodes(&["172.30.0.1", "172.30.0.2", "fd00::1"]), nodes(&["172.30.0.2", "fd00::2"]));
    let of = |nodes| tunnels(nodes, &[4789], &nets(&["10.244.0.0/24"]));
    assert_eq!(tunnels_after(of(&then), &then, &now), of(&now));
    let same = tunnels_after(of(&then), &then, &then);
    assert_eq!(same, of(&then));
}
