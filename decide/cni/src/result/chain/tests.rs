use serde_json::json;

use super::*;
use crate::json::Object;
use crate::result::{Interface, Ip, Route};

fn prev(raw: Value, assumed: Version) -> Result<PrevResult, CniError> {
    let conf = json!({ "prevResult": raw });
    PrevResult::read(&Object::root(&conf).unwrap().need("prevResult")?, assumed)
}

fn ours() -> AddResult {
    AddResult {
        interfaces: vec![Interface { name: "eth0".into(), mac: None, sandbox: Some("/n".into()), mtu: None }],
        ips: vec![Ip { interface: Some(0), address: "10.1.0.5/16".parse().unwrap(), gateway: None }],
        routes: vec![Route { dst: "0.0.0.0/0".parse().unwrap(), gw: None }],
        ..AddResult::default()
    }
}

#[test]
fn fields_that_we_do_not_know_stay_and_indexes_move() {
    let raw = json!({
        "CNIVersion": "1.1.0", "Interfaces": [{ "name": "vhost0", "socketPath": "/s", "pciID": "0000:00:1f.6" }],
        "routes": [{ "dst": "10.0.0.0/8", "mtu": 1400, "table": 7 }], "ips": null,
        "dns": { "nameservers": ["10.0.0.10"] }, "x": { "y": [1] }
    });
    let extended = prev(raw, Version::V0_4_0).unwrap().extended(&ours(), Version::V1_0_0).unwrap();
    let expected = json!({
        "CNIVersion": "1.0.0",
        "Interfaces": [
            { "name": "vhost0", "socketPath": "/s", "pciID": "0000:00:1f.6" }, { "name": "eth0", "sandbox": "/n" }
        ],
        "routes": [{ "dst": "10.0.0.0/8", "mtu": 1400, "table": 7 }, { "dst": "0.0.0.0/0" }],
        "ips": [{ "interface": 1, "address": "10.1.0.5/16" }],
        "dns": { "nameservers": ["10.0.0.10"] }, "x": { "y": [1] }
    });
    assert_eq!(extended, expected);
}

#[test]
fn nothing_added_is_nothing_changed_but_the_version() {
    let raw =
        json!({ "ips": [{ "address": "10.1.0.5/16", "x": 1 }], "interfaces": [], "routes": [], "dns": {} });
    let prev = prev(raw.clone(), Version::V1_0_0).unwrap();
    assert_eq!(prev.raw(), &raw);
    let mut extended = prev.extended(&AddResult::default(), Version::V1_0_0).unwrap();
    assert_eq!(extended["cniVersion"], "1.0.0");
    extended.as_object_mut().unwrap().remove("cniVersion");
    assert_eq!(extended, raw);
}

#[test]
fn our_dns_takes_the_place_of_theirs_if_we_say_any() {
    let mut ours = ours();
    ours.dns.domain = Some("d".into());
    let raw = json!({ "cniVersion": "1.0.0", "dns": { "nameservers": ["10.0.0.10"] } });
    let extended = prev(raw, Version::V1_0_0).unwrap().extended(&ours, Version::V1_0_0).unwrap();
    assert_eq!(extended["dns"], json!({ "domain": "d" }));
}

#[test]
fn a_result_of_another_shape_is_converted() {
    let raw = json!({ "cniVersion": "0.2.0", "ip6": { "ip": "fd00::5/64" } });
    let extended = prev(raw, Version::V1_0_0).unwrap().extended(&ours(), Version::V0_4_0).unwrap();
    assert_eq!(extended["ips"][0], json!({ "version": "6", "address": "fd00::5/64" }));
    assert_eq!(extended["ips"][1], json!({ "version": "4", "interface": 0, "address": "10.1.0.5/16" }));
}

#[test]
fn a_malformed_previous_result_is_refused_by_its_key() {
    for raw in [json!(5), json!({ "ips": 5 }), json!({ "cniVersion": "8.0.0" })] {
        let error = prev(raw, Version::CURRENT).unwrap_err();
        assert!(error.message().starts_with("prevResult"), "{error}");
    }
}

/// An answer of ours to which everything applies, after another plugin's interface.
fn answered() -> (AddResult, Value) {
    let on_host = |name: &str| Interface { name: name.into(), mac: None, sandbox: None, mtu: None };
    let mut ours = ours();
    ours.interfaces.splice(0..0, [on_host("cni0"), on_host("slv0")]);
    ours.ips[0].interface = Some(2);
    ours.routes[0].gw = "10.1.0.1".parse().ok();
    let earlier =
        json!({ "interfaces": [{ "name": "lo", "sandbox": "/n" }], "ips": [{ "address": "127.0.0.1/8" }] });
    let listed = prev(earlier, Version::V1_0_0).unwrap().extended(&ours, Version::V1_0_0).unwrap();
    (ours, listed)
}

#[test]
fn what_others_of_the_chain_have_made_contradicts_nothing() {
    let (ours, mut listed) = answered();
    listed["interfaces"].as_array_mut().unwrap().extend([
        json!({ "name": "ifb0" }),
        json!({ "name": "eth0" }),
        json!({ "name": "net1", "sandbox": "/n" }),
    ]);
    listed["interfaces"][3]["mac"] = json!("02:00:00:00:00:07");
    let addresses =
        [json!({ "address": "10.9.0.5/16", "interface": 6 }), json!({ "address": "10.9.0.6/16" })];
    listed["ips"].as_array_mut().unwrap().extend(addresses);
    let routes =
        [json!({ "dst": "10.9.0.0/16", "gw": "10.1.0.9" }), json!({ "dst": "0.0.0.0/0", "gw": "10.9.0.1" })];
    listed["routes"].as_array_mut().unwrap().extend(routes);
    assert_eq!(prev(listed, Version::V1_0_0).unwrap().contradiction(&ours), None);
}

#[test]
fn whatever_is_said_otherwise_of_ours_is_named() {
    type Lie = fn(&mut Value);
    let lies: [(Lie, &str); 10] = [
        (|said| said["interfaces"][3]["sandbox"] = json!("/m"), "interfaces: eth0 is in /m, not in /n"),
        (|said| said["interfaces"][3]["sandbox"] = json!(""), "interfaces: eth0 in /n is missing"),
        (|said| said["interfaces"][2]["name"] = json!("slv1"), "interfaces: slv0 on the host is missing"),
        (|said| said["interfaces"][1]["sandbox"] = json!("/n"), "interfaces: cni0 on the host is missing"),
        (|said| said["ips"] = json!(null), "ips: 10.1.0.5/16 of eth0 is missing"),
        (|said| said["ips"][1]["address"] = json!("10.1.0.5/24"), "ips: 10.1.0.5/16 of eth0 is missing"),
        (|said| said["ips"][1]["interface"] = json!(0), "ips: 10.1.0.5/16 of eth0 is missing"),
        (|said| said["ips"][0]["interface"] = json!(3), "ips: 127.0.0.1/8 is not leased to it"),
        (
            |said| said["routes"][0]["gw"] = json!("10.1.0.9"),
            "routes: 0.0.0.0/0 is by way of 10.1.0.9, not of 10.1.0.1",
        ),
        (|said| *said = json!({}), "interfaces: cni0 on the host is missing"),
    ];
    for (lie, named) in lies {
        let (ours, mut said) = answered();
        assert_eq!(prev(said.clone(), Version::V1_0_0).unwrap().contradiction(&ours), None);
        lie(&mut said);
        let contradiction = prev(said, Version::V1_0_0).unwrap().contradiction(&ours);
        assert_eq!(contradiction.as_deref(), Some(named));
    }
}

#[test]
fn a_result_without_interfaces_must_have_our_addresses_and_no_others() {
    let (ours, _) = answered();
    for (address, named) in
        [("10.1.0.5/16", None), ("10.1.0.6/16", Some("ips: 10.1.0.6/16 is not leased to it"))]
    {
        let raw = json!({ "cniVersion": "0.2.0", "ip4": { "ip": address } });
        assert_eq!(prev(raw, Version::V0_4_0).unwrap().contradiction(&ours).as_deref(), named);
    }
}
