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
