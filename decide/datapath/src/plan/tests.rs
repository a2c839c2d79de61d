use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;

use super::*;
use crate::shaping::Shaping;
use crate::state::RouteProtocol;

const DEVICES: [&str; 3] = ["cni0", "eth0", "slvaaaa"];

fn device() -> impl Strategy<Value = IfName> {
    prop::sample::select(&DEVICES[..]).prop_map(|name| name.parse().unwrap())
}

fn address() -> impl Strategy<Value = Address> {
    (1..5u8, prop::bool::ANY).prop_map(|(n, six)| {
        let text = if six { format!("fd00::{n}/64") } else { format!("10.0.0.{n}/24") };
        Address::global(text.parse().unwrap())
    })
}

fn route() -> impl Strategy<Value = Route> {
    (1..4u8, device(), prop::option::of(5..7u8), prop::bool::ANY, prop::bool::ANY).prop_map(
        |(n, device, via, six, ours)| {
            let text = |n: u8| if six { format!("fd0{n}::") } else { format!("10.{n}.0.0") };
            let length = if six { 64 } else { 24 };
            Route {
                destination: format!("{}/{length}", text(n)).parse().unwrap(),
                via: via.map(|v| text(v).parse().unwrap()),
                device,
                source: None,
                mtu: None,
                onlink: false,
                protocol: RouteProtocol(if ours { ROUTE_PROTOCOL } else { 3 }),
            }
        },
    )
}

fn our_route() -> impl Strategy<Value = Route> {
    route().prop_map(|r| Route { protocol: RouteProtocol(ROUTE_PROTOCOL), ..r })
}

/// Routes of which no two have the same key, as in every kernel and every desired state.
fn routes(of: impl Strategy<Value = Route>) -> impl Strategy<Value = BTreeSet<Route>> {
    btree_set(of, 0..6).prop_map(|routes| {
        let keyed: BTreeMap<_, _> = routes.iter().map(|r| (r.key(), r)).collect();
        keyed.into_values().cloned().collect()
    })
}

fn kind() -> impl Strategy<Value = DeviceKind> {
    prop_oneof![Just(DeviceKind::Bridge), Just(DeviceKind::Ifb), vxlan().prop_map(DeviceKind::Vxlan)]
}

fn vxlan() -> impl Strategy<Value = Vxlan> {
    (1..3u32, prop::sample::select(&["172.30.0.1", "172.30.0.2", "fd00:30::1"][..]))
        .prop_map(|(vni, local)| Vxlan { vni, port: 4789, local: local.parse().unwrap(), learning: false })
}

/// Entries of which no two are about the same.
fn overlay() -> impl Strategy<Value = (BTreeSet<FdbEntry>, BTreeSet<Neighbour>)> {
    let entry = (device(), 1..4u8, 1..3u8);
    btree_set(entry, 0..5).prop_map(|entries| {
        let keyed: BTreeMap<_, _> = entries.into_iter().map(|(device, n, to)| ((device, n), to)).collect();
        let mac = |n: u8| MacAddr([2, 0, 0, 0, 0, n]);
        let address = |n: u8| format!("10.0.{n}.0").parse().unwrap();
        let fdb = keyed.iter().map(|((device, n), to)| FdbEntry {
            device: device.clone(),
            mac: mac(*n),
            remote: address(*to),
        });
        let neighbours = keyed.iter().map(|((device, n), to)| Neighbour {
            device: device.clone(),
            address: address(*n),
            mac: mac(*to),
        });
        (fdb.collect(), neighbours.collect())
    })
}

fn bucket() -> impl Strategy<Value = TokenBucket> {
    let rates = prop::sample::select(&[1_250_000, 5_000_000_000][..]);
    (rates, 1..3_u32).prop_map(|(rate, n)| TokenBucket { rate, burst: n * 100_000, limit: 125_000 })
}

fn shaping() -> impl Strategy<Value = Shaping> {
    (prop::option::of(bucket()), prop::option::of(device()))
        .prop_map(|(bucket, redirect)| Shaping { bucket: bucket.map(|bucket| bucket.shown()), redirect })
}

fn desired_link() -> impl Strategy<Value = DesiredLink> {
    let shaping = (prop::option::of(bucket()), prop::option::of(device()));
    (prop::option::of(kind()), btree_set(address(), 0..4), prop::bool::ANY, prop::bool::ANY, shaping)
        .prop_map(|(create, addresses, exclusive, port, (bucket, redirect))| DesiredLink {
            create: create.map(|kind| NewDevice {
                kind,
                mac: MacAddr::of_device("x"),
                mtu: Mtu::ETHERNET,
                alias: "selvedge mynet".to_owned(),
            }),
            mac: port.then(|| MacAddr::of_device("x")),
            mtu: Some(Mtu::new(1400).unwrap()),
            alias: Some("selvedge mynet".to_owned()),
            port: port.then(|| ("cni0".parse().unwrap(), Port { isolated: true, hairpin: false })),
            addresses,
            exclusive,
            bucket,
            redirect,
            ..DesiredLink::default()
        })
}

fn desired() -> impl Strategy<Value = DesiredNetwork> {
    (btree_map(device(), desired_link(), 0..3), routes(our_route()), overlay()).prop_map(
        |(links, routes, (mut fdb, mut neighbours))| {
            fdb.retain(|entry| links.contains_key(&entry.device));
            neighbours.retain(|neighbour| links.contains_key(&neighbour.device));
            DesiredNetwork {
                links,
                routes: routes.into_iter().collect(),
                sysctls: BTreeMap::from([(Sysctl::Ipv4Forward, "1")]),
                fdb: fdb.into_iter().collect(),
                neighbours: neighbours.into_iter().collect(),
                ..DesiredNetwork::default()
            }
        },
    )
}

fn observed_link() -> impl Strategy<Value = ObservedLink> {
    (btree_set(address(), 0..4), prop::bool::ANY, prop::bool::ANY, shaping(), prop::option::of(vxlan()))
        .prop_map(|(addresses, up, ours, shaping, vxlan)| ObservedLink {
            addresses,
            up,
            shaping,
            vxlan,
            ..ObservedLink::new(
                if vxlan.is_some() { LinkKind::Vxlan } else { LinkKind::Bridge },
                MacAddr::of_device("y"),
                Mtu::ETHERNET,
                if ours { "selvedge old" } else { "somebody else's" },
            )
        })
}

fn observed() -> impl Strategy<Value = ObservedNetwork> {
    (btree_map(device(), observed_link(), 0..3), routes(route()), overlay()).prop_map(
        |(links, mut routes, entries)| {
            let (mut fdb, mut neighbours) = entries;
            fdb.retain(|entry| links.contains_key(&entry.device));
            neighbours.retain(|neighbour| links.contains_key(&neighbour.device));
            routes.retain(|r| links.contains_key(&r.device));
            let mut links = links;
            let names: BTreeSet<IfName> = links.keys().cloned().collect();
            for link in links.values_mut() {
                link.shaping.redirect.take_if(|to| !names.contains(to));
            }
            ObservedNetwork {
                links,
                routes: routes.into_iter().collect(),
                fdb: fdb.into_iter().collect(),
                neighbours: neighbours.into_iter().collect(),
                ..ObservedNetwork::default()
            }
        },
    )
}

/// True if there is a route that isn't ours to a route's destination.
fn foreign_to(route: &Route, network: &ObservedNetwork) -> bool {
    network.routes.iter().any(|have| have.key() == route.key() && have.protocol.0 != ROUTE_PROTOCOL)
}

fn run(
    desired: &DesiredNetwork,
    network: &mut ObservedNetwork,
    sysctls: &mut BTreeMap<Sysctl, String>,
    most: usize,
) {
    let steps = plan(desired, Seen { network, sysctls }, Prune::Marked).steps;
    for step in steps.iter().take(most) {
        network.apply(step, sysctls);
    }
}

proptest! {
    #[test]
    fn a_plan_after_its_own_steps_is_empty(desired in desired(), seen in observed()) {
        let (mut network, mut sysctls) = (seen.clone(), BTreeMap::new());
        run(&desired, &mut network, &mut sysctls, usize::MAX);
        let again = plan(&desired, Seen { network: &network, sysctls: &sysctls }, Prune::Marked).steps;
        // Somebody else's route in the way is told each time, until the link that it is on goes.
        let in_the_way = |step: &NetStep| match step {
            NetStep::AddRoute(wanted) => foreign_to(wanted, &seen),
            _ => false,
        };
        prop_assert!(again.iter().all(in_the_way), "{again:?}");
    }

    #[test]
    fn every_prefix_of_a_plan_converges_when_planned_again(desired in desired(), network in observed(), cut in 0..12usize) {
        let (mut whole, mut whole_sysctls) = (network.clone(), BTreeMap::new());
        // Twice: with the link that somebody else's route is on goes what was in the way.
        run(&desired, &mut whole, &mut whole_sysctls, usize::MAX);
        run(&desired, &mut whole, &mut whole_sysctls, usize::MAX);
        let (mut broken, mut sysctls) = (network, BTreeMap::new());
        run(&desired, &mut broken, &mut sysctls, cut);
        run(&desired, &mut broken, &mut sysctls, usize::MAX);
        run(&desired, &mut broken, &mut sysctls, usize::MAX);
        prop_assert_eq!(broken, whole);
    }

    #[test]
    fn nothing_without_our_mark_is_deleted_or_replaced(desired in desired(), network in observed()) {
        for step in plan(&desired, Seen { network: &network, sysctls: &BTreeMap::new() }, Prune::Marked).steps {
            match step {
                NetStep::DeleteRoute(route) => prop_assert_eq!(route.protocol.0, ROUTE_PROTOCOL),
                NetStep::ReplaceRoute(route) => prop_assert!(!foreign_to(&route, &network)),
                NetStep::DeleteLink { name } => prop_assert!(mark::is_ours(&network.links[&name].alias)),
                NetStep::DeleteAddress { device, .. } => prop_assert!(desired.links[&device].exclusive),
                _ => {}
            }
        }
    }

    #[test]
    fn a_part_of_the_desired_state_prunes_nothing(desired in desired(), network in observed()) {
        for step in plan(&desired, Seen { network: &network, sysctls: &BTreeMap::new() }, Prune::Nothing).steps {
            let stale = |route: &Route| desired.routes.iter().any(|wanted| wanted.key() == route.key());
            match &step {
                NetStep::DeleteRoute(route) => prop_assert!(stale(route), "{}", step),
                NetStep::DeleteLink { name } => {
                    let replaced = desired.links.get(name).is_some_and(|link| link.create.is_some());
                    prop_assert!(replaced, "{}", step);
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_to_be_held_up_is_before_the_link_comes_up(desired in desired(), network in observed()) {
        let steps = plan(&desired, Seen { network: &network, sysctls: &BTreeMap::new() }, Prune::Nothing).steps;
        let mut up = BTreeSet::new();
        for step in &steps {
            match step {
                NetStep::SetLink { name, change: LinkChange::Up } => drop(up.insert(name)),
                NetStep::SetBucket { device, .. } | NetStep::Redirect { device, .. } => {
                    prop_assert!(!up.contains(device), "{}", step);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_missing_veth_is_reported_and_never_made() {
    let mut desired = DesiredNetwork::default();
    desired.links.insert("slvaaaa".parse().unwrap(), DesiredLink::default());
    let seen = Seen { network: &ObservedNetwork::default(), sysctls: &BTreeMap::new() };
    let plan = plan(&desired, seen, Prune::Marked);
    assert_eq!((plan.steps.len(), plan.missing.len()), (0, 1));
}

#[test]
fn a_route_is_added_replaced_or_exchanged_by_whose_leads_there() {
    let route = |via: &str, protocol| Route {
        destination: "10.1.0.0/24".parse().unwrap(),
        via: Some(via.parse().unwrap()),
        device: "eth0".parse().unwrap(),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(protocol),
    };
    let wanted = route("192.0.2.1", ROUTE_PROTOCOL);
    let (stale, foreign) = (route("192.0.2.2", ROUTE_PROTOCOL), route("192.0.2.3", 4));
    let mut desired = DesiredNetwork { routes: [wanted].into(), ..DesiredNetwork::default() };
    let eth0 = DesiredLink {
        create: Some(NewDevice {
            kind: DeviceKind::Bridge,
            mac: MacAddr::of_device("x"),
            mtu: Mtu::ETHERNET,
            alias: String::new(),
        }),
        ..DesiredLink::default()
    };
    desired.links.insert("eth0".parse().unwrap(), eth0);
    for (there, expected) in [
        (vec![], &["add 10.1.0.0/24 via 192.0.2.1"][..]),
        (vec![&stale], &["replace 10.1.0.0/24 via 192.0.2.1"]),
        (vec![&foreign], &["add 10.1.0.0/24 via 192.0.2.1"]),
        (vec![&stale, &foreign], &["del 10.1.0.0/24 via 192.0.2.2", "add 10.1.0.0/24 via 192.0.2.1"]),
    ] {
        let network =
            ObservedNetwork { routes: there.into_iter().cloned().collect(), ..ObservedNetwork::default() };
        let steps =
            plan(&desired, Seen { network: &network, sysctls: &BTreeMap::new() }, Prune::Nothing).steps;
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        let routes = steps.iter().filter_map(|step| step.strip_prefix("ip route "));
        let routes: Vec<&str> = routes.map(|step| step.split(" dev").next().unwrap()).collect();
        assert_eq!(routes, expected);
    }
}
