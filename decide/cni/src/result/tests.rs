use proptest::prelude::*;
use serde_json::json;

use super::*;

fn dual_stack() -> AddResult {
    let sandbox = Some("/var/run/netns/x".to_owned());
    let host = Interface {
        name: "slvabc".into(),
        mac: "0e:58:0a:01:00:05".parse().ok(),
        sandbox: None,
        mtu: Some(1450),
    };
    let pod =
        Interface { name: "eth0".into(), mac: "0a:58:0a:01:00:05".parse().ok(), sandbox, mtu: Some(1450) };
    let ip = |address: &str, gateway: &str| Ip {
        interface: Some(1),
        address: address.parse().unwrap(),
        gateway: gateway.parse().ok(),
    };
    let route = |dst: &str, gw: &str| Route { dst: dst.parse().unwrap(), gw: gw.parse().ok() };
    AddResult {
        interfaces: vec![host, pod],
        ips: vec![ip("10.1.0.5/16", "10.1.0.1"), ip("fd00::5/64", ""), ip("10.2.0.5/16", "10.2.0.1")],
        routes: vec![route("::/0", "fe80::1"), route("0.0.0.0/0", "10.1.0.1"), route("10.9.0.0/16", "")],
        dns: Dns { nameservers: vec!["10.0.0.10".into()], ..Dns::default() },
    }
}

#[test]
fn versions_0_1_and_0_2_have_one_address_a_family_with_its_routes() {
    for version in [Version::V0_1_0, Version::V0_2_0] {
        let expected = json!({
            "cniVersion": version.as_str(),
            "ip4": {
                "ip": "10.1.0.5/16", "gateway": "10.1.0.1",
                "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.0.1" }, { "dst": "10.9.0.0/16" }]
            },
            "ip6": { "ip": "fd00::5/64", "routes": [{ "dst": "::/0", "gw": "fe80::1" }] },
            "dns": { "nameservers": ["10.0.0.10"] }
        });
        assert_eq!(dual_stack().render(version).unwrap(), expected);
    }
}

#[test]
fn routes_of_a_family_without_address_are_dropped_in_0_2() {
    let mut result = dual_stack();
    result.ips.remove(1);
    let rendered = result.render(Version::V0_2_0).unwrap();
    assert!(rendered.get("ip6").is_none() && !rendered.to_string().contains("fe80"));
}

#[test]
fn without_an_address_0_1_and_0_2_can_not_be_written_and_all_others_can() {
    for version in Version::ALL {
        let rendered = AddResult::default().render(version);
        assert_eq!(rendered.is_err(), version <= Version::V0_2_0);
        if let Err(error) = rendered {
            assert_eq!(error.code(), code::VERSION);
        }
    }
}

#[test]
fn versions_0_3_and_0_4_name_the_family_and_no_mtu() {
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
        let expected = json!({
            "cniVersion": version.as_str(),
            "interfaces": [
                { "name": "slvabc", "mac": "0e:58:0a:01:00:05" },
                { "name": "eth0", "mac": "0a:58:0a:01:00:05", "sandbox": "/var/run/netns/x" }
            ],
            "ips": [
                { "version": "4", "interface": 1, "address": "10.1.0.5/16", "gateway": "10.1.0.1" },
                { "version": "6", "interface": 1, "address": "fd00::5/64" },
                { "version": "4", "interface": 1, "address": "10.2.0.5/16", "gateway": "10.2.0.1" }
            ],
            "routes": [{ "dst": "::/0", "gw": "fe80::1" }, { "dst": "0.0.0.0/0", "gw": "10.1.0.1" }, { "dst": "10.9.0.0/16" }],
            "dns": { "nameservers": ["10.0.0.10"] }
        });
        assert_eq!(dual_stack().render(version).unwrap(), expected);
    }
}

#[test]
fn from_1_0_the_family_goes_unnamed_and_from_1_1_the_mtu_is_told() {
    let one = dual_stack().render(Version::V1_0_0).unwrap();
    assert_eq!(one["ips"][1], json!({ "interface": 1, "address": "fd00::5/64" }));
    assert_eq!(one["interfaces"][0], json!({ "name": "slvabc", "mac": "0e:58:0a:01:00:05" }));
    let current = dual_stack().render(Version::V1_1_0).unwrap();
    assert_eq!(
        current["interfaces"][0],
        json!({ "name": "slvabc", "mac": "0e:58:0a:01:00:05", "mtu": 1450 })
    );
    assert_eq!((&one["cniVersion"], &current["cniVersion"]), (&json!("1.0.0"), &json!("1.1.0")));
}

#[test]
fn a_result_of_containerds_spelling_is_understood() {
    let value = json!({ "CNIVersion": "1.0.0", "Interfaces": [{ "Name": "eth0", "Sandbox": "/n", "Mac": "" }],
                        "IPs": [{ "Interface": 0.0, "Address": "10.1.0.5/16" }], "DNS": {} });
    let result = AddResult::parse(&value, Version::V0_2_0).unwrap();
    assert_eq!(result.ips[0].interface, Some(0));
    assert_eq!(result.interfaces[0].mac, None);
}

#[test]
fn a_result_without_version_is_read_in_the_assumed_one() {
    let value = json!({ "ips": [{ "address": "10.1.0.5/16" }], "ip4": { "ip": "10.3.0.5/16" } });
    let addresses = |assumed| AddResult::parse(&value, assumed).unwrap().ips[0].address.to_string();
    assert_eq!(
        (addresses(Version::V0_4_0), addresses(Version::V0_2_0)),
        ("10.1.0.5/16".into(), "10.3.0.5/16".into())
    );
    assert_eq!(AddResult::parse(&Value::Null, Version::CURRENT).unwrap(), AddResult::default());
}

#[test]
fn the_loopback_plugins_result_is_understood() {
    let value = json!({ "cniVersion": "0.3.1", "interfaces": [{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": "/n" }],
                        "ips": [{ "version": "4", "interface": 0, "address": "127.0.0.1/8" }], "dns": {} });
    assert_eq!(AddResult::parse(&value, Version::CURRENT).unwrap().interfaces[0].mac, None);
}

#[test]
fn malformed_results_are_refused_by_key() {
    let rows = [
        (json!("x"), "a result must be"),
        (json!({ "cniVersion": "3.0.0" }), "cniVersion \"3.0.0\""),
        (json!({ "ips": {} }), "ips {}"),
        (json!({ "ips": [null] }), "ips[0] null"),
        (json!({ "ips": [{ "address": "10.1.0.5" }] }), "ips[0].address \"10.1.0.5\""),
        (
            json!({ "ips": [{ "address": "10.1.0.5/16", "interface": 0 }] }),
            "ips: the interface of 10.1.0.5/16",
        ),
        (json!({ "ips": [{ "address": "10.1.0.5/16", "interface": -1 }] }), "ips[0].interface -1"),
        (json!({ "routes": [{ "dst": "x" }] }), "routes[0].dst \"x\""),
        (json!({ "interfaces": [5] }), "interfaces[0] 5"),
    ];
    for (value, message) in rows {
        let error = AddResult::parse(&value, Version::CURRENT).unwrap_err();
        assert!(error.message().starts_with(message), "{value}: {error}");
    }
}

fn any_address(v4: bool) -> BoxedStrategy<IpNet> {
    if v4 {
        (any::<u32>(), 0u8..=32).prop_map(|(a, p)| IpNet::new(IpAddr::V4(a.into()), p).unwrap()).boxed()
    } else {
        // Group addresses only: mapped ones read back as IPv4, as they do in Go.
        (any::<u64>(), 0u8..=128)
            .prop_map(|(a, p)| IpNet::new(IpAddr::V6(((0xfd << 120) | u128::from(a)).into()), p).unwrap())
            .boxed()
    }
}

fn any_result() -> impl Strategy<Value = AddResult> {
    let net = || any::<bool>().prop_flat_map(any_address);
    let gateway = || prop::option::of(net().prop_map(|n| n.addr()));
    let interface =
        ("[a-z]{1,15}", prop::option::of("/[a-z]{1,9}"), prop::option::of(1u32..65536), any::<[u8; 5]>());
    let interface = interface.prop_map(|(name, sandbox, mtu, tail)| {
        let mac = MacAddr([2, tail[0], tail[1], tail[2], tail[3], tail[4]]);
        Interface { name, sandbox, mtu, mac: Some(mac) }
    });
    let ip = (prop::option::of(0usize..2), net(), gateway());
    let ip = ip.prop_map(|(interface, address, gateway)| Ip { interface, address, gateway });
    let route = (net(), gateway()).prop_map(|(dst, gw)| Route { dst, gw });
    let texts = || prop::collection::vec("[a-z]{1,5}", 0..3);
    let dns = (texts(), prop::option::of("[a-z]{1,5}"), texts(), texts())
        .prop_map(|(nameservers, domain, search, options)| Dns { nameservers, domain, search, options });
    let parts = (
        prop::collection::vec(interface, 2..4),
        prop::collection::vec(ip, 0..5),
        prop::collection::vec(route, 0..5),
        dns,
    );
    parts.prop_map(|(interfaces, ips, routes, dns)| AddResult { interfaces, ips, routes, dns })
}

/// What of a result a version can say.
fn sayable(result: &AddResult, version: Version) -> AddResult {
    let mut said = result.clone();
    if version < Version::V1_1_0 {
        said.interfaces.iter_mut().for_each(|interface| interface.mtu = None);
    }
    if version <= Version::V0_2_0 {
        said.interfaces.clear();
        said.ips.clear();
        said.routes.clear();
        for v4 in [true, false] {
            if let Some(ip) = result.ips.iter().find(|ip| ip.address.addr().is_ipv4() == v4) {
                said.ips.push(Ip { interface: None, ..ip.clone() });
                said.routes.extend(result.routes.iter().filter(|route| route.dst.addr().is_ipv4() == v4));
            }
        }
    }
    said
}

proptest! {
    #[test]
    fn what_a_version_can_say_reads_back(result in any_result()) {
        for version in Version::ALL {
            match result.render(version) {
                Ok(json) => prop_assert_eq!(AddResult::parse(&json, Version::V0_1_0).unwrap(), sayable(&result, version)),
                Err(_) => prop_assert!(result.ips.is_empty() && version <= Version::V0_2_0),
            }
        }
    }
}
