//! Veths set aside and deleted.

use std::time::Instant;

use selvedge_datapath::state::LinkKind;
use selvedge_model::mark::REAP_GROUP;

use super::*;

fn pod_steps() -> [NetStep; 4] {
    [
        add("eth0", address("10.244.1.7/32")),
        add("eth0", address("fd00:10:244:1::7/128")),
        set("eth0", LinkChange::Up),
        NetStep::ReplaceRoute(route("169.254.1.1/32", None, "eth0")),
    ]
}

#[test]
fn a_detached_pair_owns_nothing_and_its_names_are_free_at_once() {
    let Some(mut wire) = Wire::new() else { return };
    let host_steps = [
        NetStep::CreateVeth(pair("slvtest", "eth0")),
        add("slvtest", link_address("169.254.1.1/32")),
        add("slvtest", link_address("fe80::1/64")),
        set("slvtest", LinkChange::Up),
        NetStep::ReplaceRoute(route("10.244.1.7/32", None, "slvtest")),
        NetStep::ReplaceRoute(route("fd00:10:244:1::7/128", None, "slvtest")),
    ];
    for _ in 0..3 {
        wire.on_host(&host_steps);
        wire.in_pod(&pod_steps());
        for socket in [&mut wire.host, &mut wire.pod] {
            let device = if socket.index_of(&name("slvtest")).is_ok() { "slvtest" } else { "eth0" };
            let reaped = socket.detach(&name(device)).unwrap().unwrap();
            let link = socket.observe_link(&reaped).unwrap().unwrap();
            assert_eq!((link.up, link.group, link.alias.as_str()), (false, REAP_GROUP, ""));
            assert!(link.addresses.is_empty(), "{:?}", link.addresses);
            assert!(socket.observe().unwrap().routes.is_empty());
            assert_eq!(socket.detach(&name(device)).unwrap(), None);
        }
    }
    assert!(wire.host.reap_group().unwrap());
    for socket in [&mut wire.host, &mut wire.pod] {
        let left: Vec<IfName> = socket.observe().unwrap().links.into_keys().collect();
        assert_eq!(left, [name("lo")]);
    }
}

#[test]
fn sixty_detached_veths_go_in_one_request_and_others_stay() {
    let Some(mut wire) = Wire::new() else { return };
    let pairs = (0..60).map(|i| NetStep::CreateVeth(pair(&format!("slv{i}"), &format!("eth{i}"))));
    wire.on_host(&pairs.collect::<Vec<_>>());
    wire.on_host(&[NetStep::CreateVeth(pair("slvkept", "kept"))]);
    wire.on_host(&(0..60).map(|i| set(&format!("slv{i}"), LinkChange::Up)).collect::<Vec<_>>());
    let start = Instant::now();
    for i in 0..60 {
        wire.host.detach(&name(&format!("slv{i}"))).unwrap().unwrap();
    }
    let detached = start.elapsed();
    assert!(wire.host.reap_group().unwrap());
    println!("60 veths: detached in {detached:?}, reaped in {:?}", start.elapsed() - detached);
    assert!(!wire.host.reap_group().unwrap(), "the group is empty");
    let left: Vec<IfName> = wire.host.observe().unwrap().links.into_keys().collect();
    assert_eq!(left, [name("lo"), name("slvkept")]);
}

#[test]
fn whoever_looks_while_links_are_set_aside_sees_each_whole_or_in_the_reap_group() {
    let Some(mut wire) = Wire::new() else { return };
    let names: Vec<String> = (0..60).map(|i| format!("slv{i}")).collect();
    let pairs = (0..60).map(|i| NetStep::CreateVeth(pair(&format!("slv{i}"), &format!("eth{i}"))));
    wire.on_host(&pairs.collect::<Vec<_>>());
    for host_end in &names {
        wire.on_host(&[add(host_end, link_address("fe80::1/64")), set(host_end, LinkChange::Up)]);
    }
    let mut other = RouteSocket::open_in(&wire.host_namespace).unwrap();
    std::thread::scope(|scope| {
        let detaching = scope.spawn(|| {
            names.iter().for_each(|host_end| drop(wire.host.detach(&name(host_end)).unwrap().unwrap()));
        });
        while !detaching.is_finished() {
            let links = other.observe().unwrap().links;
            let stays = |link: &ObservedLink| link.kind == LinkKind::Veth && link.group != REAP_GROUP;
            for (name, link) in links.iter().filter(|(_, link)| stays(link)) {
                let own = link.addresses.iter().any(|have| have.net == link_address("fe80::1/64").net);
                assert!(link.up && own, "{name} {link:?}");
            }
        }
    });
}

#[test]
fn a_link_that_is_gone_is_not_there_to_be_detached() {
    let Some(mut wire) = Wire::new() else { return };
    assert_eq!(wire.host.detach(&name("none")).unwrap(), None);
}
