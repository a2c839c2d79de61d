//! The node's own tables.

use std::collections::BTreeMap;

use ipnet::IpNet;
use selvedge_datapath::firewall::{AGENT, GUARD, PLUGIN, PodNetwork, agent, guard, guarded, standalone};
use selvedge_model::IfName;
use selvedge_ruleset::shape::check;
use selvedge_ruleset::{Table, TableId};

use super::{in_namespace, make, towards};
use crate::NftSocket;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn every(owned: bool, bridge: Option<&IfName>) -> BTreeMap<TableId, Table> {
    let subnets = nets(&["10.244.1.0/24", "fd00:10:244:1::/64"]);
    let direct = nets(&["10.244.0.0/16", "172.30.0.11/32", "fd00:10:244::/48"]);
    let network = PodNetwork { subnets: &subnets, direct: &direct, masquerade: true, bridge };
    let port: IfName = "slvabcdefghijkl".parse().unwrap();
    let pod = nets(&["10.244.1.7/24", "fd00:10:244:1::7/64"]);
    BTreeMap::from([
        (AGENT, agent(network, owned)),
        (PLUGIN, standalone(&"my.net_1".parse().unwrap(), network)),
        (GUARD, guard([(&port, pod.as_slice())])),
    ])
}

#[test]
fn the_kernel_takes_every_table_of_ours_and_lists_it_as_it_is() {
    let bridge: IfName = "cni0".parse().unwrap();
    for bridge in [None, Some(&bridge)] {
        in_namespace(|| {
            let mut socket = NftSocket::open().unwrap();
            let owned = socket.features().unwrap().owned_tables;
            let desired = every(owned, bridge);
            for (id, table) in &desired {
                assert_eq!(check(id, table), Ok(()), "{id}");
            }
            let listed = make(&mut socket, &desired);
            assert!(towards(&desired, &listed).is_empty());
            assert_eq!(guarded(&listed[&GUARD]).len(), 2);
        });
    }
}
