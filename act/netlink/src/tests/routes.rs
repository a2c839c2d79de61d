//! Routes that are somebody's already: none is taken.

use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use selvedge_datapath::state::RouteProtocol;

use super::*;
use crate::observe::Taken;

const DESTINATIONS: [&str; 2] = ["10.244.1.7/32", "fd00:10:244:1::7/128"];

/// A link `slvtest` that is up, and another that is somebody's.
fn two_links() -> Option<Wire> {
    let mut wire = Wire::new()?;
    let foreign = VethPair { host_mac: mac(5), ..pair("foreign", "eth1") };
    wire.on_host(&[
        NetStep::CreateVeth(pair("slvtest", "eth0")),
        NetStep::CreateVeth(foreign),
        set("slvtest", LinkChange::Up),
        set("foreign", LinkChange::Up),
    ]);
    Some(wire)
}

fn foreign(destination: &str) -> Route {
    Route { protocol: RouteProtocol(4), ..route(destination, None, "foreign") }
}

/// Runs ip(8) on the host; false where there is none, which has been said.
fn ip(wire: &Wire, arguments: &str) -> bool {
    let run = || Command::new("ip").args(arguments.split(' ')).output();
    match wire.host_namespace.run(run).unwrap() {
        Ok(output) => assert!(output.status.success(), "ip {arguments}: {output:?}"),
        Err(error) => {
            println!("skipped: ip(8): {error}");
            assert!(std::env::var_os("CI").is_none(), "skipped under CI: ip(8): {error}");
            return false;
        }
    }
    true
}

#[test]
fn a_route_is_not_added_where_another_leads_and_the_other_is_named() {
    let Some(mut wire) = two_links() else { return };
    for destination in DESTINATIONS {
        for there in [foreign(destination), route(destination, None, "foreign")] {
            wire.on_host(&[NetStep::AddRoute(there.clone())]);
            let before = wire.host.observe().unwrap().routes;
            let steps = [NetStep::AddRoute(route(destination, None, "slvtest")), set("lo", LinkChange::Up)];
            let outcomes = wire.host.apply(&steps, None);
            let [Err(error @ NetlinkError::RouteTaken { .. }), Ok(())] = &outcomes[..] else {
                panic!("{outcomes:?}")
            };
            assert!(error.is_exists() && error.to_string().ends_with(&there.to_string()), "{error}");
            assert_eq!(wire.host.observe().unwrap().routes, before);
            // What is there is what was asked for: done already.
            wire.on_host(&[NetStep::AddRoute(there.clone())]);
            wire.on_host(&[NetStep::DeleteRoute(there)]);
        }
        wire.on_host(&[NetStep::AddRoute(route(destination, None, "slvtest"))]);
    }
}

#[test]
fn a_route_of_ours_is_deleted_and_one_of_others_beside_it_stays() {
    let Some(mut wire) = two_links() else { return };
    for destination in DESTINATIONS {
        if !ip(&wire, &format!("route add {destination} dev foreign proto 4 metric 2000")) {
            return;
        }
        let ours = route(destination, None, "slvtest");
        wire.on_host(&[NetStep::AddRoute(ours.clone())]);
        let there = |wire: &mut Wire| wire.host.routes_to(destination.parse().unwrap(), 254);
        assert_eq!(there(&mut wire).len(), 2);
        wire.on_host(&[NetStep::DeleteRoute(ours.clone()), NetStep::DeleteRoute(ours)]);
        assert_eq!(there(&mut wire), [foreign(destination)]);
    }
}

#[test]
fn an_address_is_held_by_the_node_or_by_whoever_a_route_to_it_alone_leads_to() {
    let Some(mut wire) = two_links() else { return };
    for destination in DESTINATIONS {
        let address = destination.parse::<IpNet>().unwrap().addr();
        assert_eq!(wire.host.holder(address).unwrap(), None, "no way at all");
        let network = if address.is_ipv4() { "10.244.1.0/24" } else { "fd00:10:244:1::/64" };
        wire.on_host(&[NetStep::AddRoute(foreign(network))]);
        assert_eq!(wire.host.holder(address).unwrap(), Some(Taken::Network));
        if !ip(&wire, &format!("route add {destination} dev foreign proto 4 metric 2000")) {
            return;
        }
        assert_eq!(wire.host.holder(address).unwrap(), Some(Taken::Route(foreign(destination))));
        wire.on_host(&[add("foreign", super::address(destination))]);
        // The kernel makes the local route of an IPv6 address in its own time; until then there is one to it alone.
        let held = Some(Taken::Node(Some(name("foreign"))));
        let mut tries = (0..1_000).inspect(|_| std::thread::sleep(Duration::from_millis(1)));
        assert!(tries.any(|_| wire.host.holder(address).unwrap() == held), "{:?}", wire.host.holder(address));
    }
    for kind in ["blackhole", "unreachable", "prohibit"] {
        for network in ["10.245.0.0/16", "fd00:10:245::/48"] {
            let family = if network.contains(':') { "-6" } else { "-4" };
            assert!(ip(&wire, &format!("{family} route replace {kind} {network}")));
        }
        for address in ["10.245.0.9", "fd00:10:245::9"] {
            assert_eq!(wire.host.holder(address.parse().unwrap()).unwrap(), None, "{kind} {address}");
        }
    }
}
