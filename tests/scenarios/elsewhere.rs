//! Peers' routes that lead elsewhere: ours are led back, and those of others left alone.

use selvedge_datapath::state::{Route, RouteProtocol};
use selvedge_datapath::step::NetStep;
use selvedge_lab::shape::Attach;
use selvedge_model::mark::ROUTE_PROTOCOL;
use selvedge_tests::within;

use crate::drift::{PEER4, PEER6};
use crate::site::{Site, name};

/// Routes to both peers' pods by somewhere else.
fn elsewhere(protocol: u8) -> [Route; 2] {
    [(PEER4, "172.30.0.99"), (PEER6, "fd00:30::99")].map(|(destination, via)| Route {
        destination: destination.parse().unwrap(),
        via: Some(via.parse().unwrap()),
        device: name("eth0"),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(protocol),
    })
}

#[test]
fn a_peers_route_that_was_led_elsewhere_is_led_back() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    for route in elsewhere(ROUTE_PROTOCOL) {
        let step = format!("ip route replace {} via ", route.destination);
        site.must_be_repaired(("route", &step), || site.change(&[NetStep::ReplaceRoute(route)]));
    }
}

#[test]
fn a_route_of_somebody_elses_in_a_peers_place_was_replaced_and_went_with_the_peer() {
    let Some(site) = Site::new(Attach::Routed) else { return };
    let routes = elsewhere(4);
    let stays = || {
        let there = site.node().picture().routes;
        assert!(routes.iter().all(|route| there.contains(route)), "{there:?}");
    };
    let take_over = || {
        let replaced = routes.clone().map(NetStep::ReplaceRoute);
        site.change(&replaced);
        within(20.0, "the agent tells what is in its way", || {
            let state = format!("{:?}", site.agent.status().state);
            let told = |route: &Route| state.contains(&format!("there is a route already: {route}"));
            if routes.iter().all(told) { Ok(()) } else { Err(state) }
        });
        stays();
    };
    take_over();
    // Out of the way, the peers' routes come back.
    site.change(&routes.clone().map(NetStep::DeleteRoute));
    let back = || {
        site.node().picture().routes.into_iter().filter(|route| {
            let ours = route.protocol.0 == ROUTE_PROTOCOL;
            ours && routes.iter().any(|theirs| theirs.destination == route.destination)
        })
    };
    within(30.0, "both are back", || {
        let ready = site.agent.status().state.serves();
        if ready && back().count() == 2 { Ok(()) } else { Err(site.agent.log()) }
    });
    take_over();
    site.cluster.remove(&site.cluster.nodes[1]);
    within(30.0, "the peer is forgotten", || {
        let status = site.agent.status();
        if status.state.serves() { Ok(()) } else { Err(format!("{:?}", status.state)) }
    });
    stays();
}
