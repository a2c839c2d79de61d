//! Routing tables beside the main one, and the rules that lead to them.

use std::collections::BTreeMap;

use ipnet::IpNet;
use selvedge_datapath::state::{ObservedNetwork, RoutingTable, Rule, Selector};

use super::*;

#[test]
fn rules_lead_to_a_table_until_they_are_deleted_and_those_of_others_are_not_ours() {
    let Some(mut wire) = Wire::new() else { return };
    let table = 0x5312_3456;
    let rule = |priority, selector| NetStep::AddRule { table, rule: Rule { priority, selector } };
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let steps = [
        set("slvtest", LinkChange::Up),
        NetStep::AddRouteIn { table, route: route("10.9.0.0/16", None, "slvtest") },
        NetStep::AddRouteIn { table, route: route("fd00:9::/64", None, "slvtest") },
        rule(83, Selector::From(net("10.9.0.7/32"))),
        rule(83, Selector::From(net("fd00:9::7/128"))),
        rule(84, Selector::Unsourced { to: net("10.9.0.0/16"), from: ip("0.0.0.0") }),
        rule(84, Selector::Unsourced { to: net("fd00:9::/64"), from: ip("fd00:9::7") }),
        rule(33_083, Selector::From(net("0.0.0.0/0"))),
        rule(33_083, Selector::From(net("::/0"))),
    ];
    wire.on_host(&[NetStep::CreateVeth(pair("slvtest", "eth0"))]);
    // Twice: what is there already is no failure.
    wire.on_host(&steps);
    wire.on_host(&steps);
    let mut model = ObservedNetwork::default();
    steps.iter().for_each(|step| model.apply(step, &mut BTreeMap::new()));
    assert_eq!(wire.host.observe_table(table).unwrap(), model.tables[&table]);
    assert_eq!(wire.host.observe_table(table + 1).unwrap(), RoutingTable::default());
    assert!(wire.host.observe().unwrap().routes.iter().all(|route| route.destination != net("10.9.0.0/16")));
    for rule in wire.host.observe_rules(table).unwrap() {
        wire.on_host(&[NetStep::DeleteRule { table, rule }, NetStep::DeleteRule { table, rule }]);
    }
    assert!(wire.host.observe_rules(table).unwrap().is_empty());
}
