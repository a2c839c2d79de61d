use serde_json::{Value, json};

use super::*;

fn stated(conf: &Value) -> Result<Pools, CniError> {
    Pools::stated_in(&Object::root(conf).unwrap(), &[])
}

fn plain(subnet: &str) -> Range {
    Range { subnet: subnet.parse().unwrap(), start: None, end: None, gateway: None }
}

#[test]
fn the_subnets_of_each_family_are_one_set() {
    let conf = json!({ "subnet": ["10.1.0.0/16", "fd00::/64", "10.2.0.0/16"] });
    let expected = vec![vec![plain("10.1.0.0/16"), plain("10.2.0.0/16")], vec![plain("fd00::/64")]];
    assert_eq!(stated(&conf).unwrap().ranges, expected);
}

#[test]
fn ranges_and_routes_are_read_as_host_local_spells_them() {
    let conf = json!({ "ipam": {
        "ranges": [
            [
                { "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.20", "gateway": "10.1.0.254" },
                { "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.30" }
            ],
            [{ "subnet": "fd00::/64" }]
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "10.9.0.0/16", "gw": "10.1.0.253" }]
    } });
    let pools = stated(&conf).unwrap();
    let ip = |text: &str| Some(text.parse().unwrap());
    let first = Range {
        start: ip("10.1.0.10"),
        end: ip("10.1.0.20"),
        gateway: ip("10.1.0.254"),
        ..plain("10.1.0.0/24")
    };
    let second = Range { start: ip("10.1.0.30"), ..plain("10.1.0.0/24") };
    assert_eq!(pools.ranges, vec![vec![first, second], vec![plain("fd00::/64")]]);
    assert_eq!(pools.routes[0].gw, None);
    assert_eq!(pools.routes[1], Route { dst: "10.9.0.0/16".parse().unwrap(), gw: ip("10.1.0.253") });
}

#[test]
fn host_locals_short_form_is_the_first_set() {
    let conf = json!({ "ipam": { "subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.9", "ranges": [[{ "subnet": "fd00::/64" }]] } });
    let ranges = stated(&conf).unwrap().ranges;
    assert_eq!(ranges.len(), 2);
    assert_eq!(ranges[0][0].end, Some("10.1.0.9".parse().unwrap()));
}

#[test]
fn the_runtimes_ranges_come_first() {
    let runtime = [vec![plain("10.9.0.0/24")]];
    for conf in [json!({ "subnet": "10.1.0.0/24" }), json!({ "ipam": { "subnet": "10.1.0.0/24" } })] {
        let pools = Pools::stated_in(&Object::root(&conf).unwrap(), &runtime).unwrap();
        assert_eq!(pools.ranges, vec![vec![plain("10.9.0.0/24")], vec![plain("10.1.0.0/24")]]);
    }
    let none = json!({});
    assert!(Pools::stated_in(&Object::root(&none).unwrap(), &runtime).is_ok());
}

#[test]
fn contradictions_are_code_7_and_named() {
    let range = |range: Value| json!({ "ipam": { "ranges": [[range]] } });
    let rows = [
        (json!({}), "subnet is missing"),
        (json!({ "ipam": { "ranges": [] } }), "subnet is missing"),
        (json!({ "ipam": { "ranges": [[]] } }), "ipam.ranges[0] []: "),
        (json!({ "ipam": { "ranges": [{}] } }), "ipam.ranges[0] {}: is no list"),
        (range(json!({})), "ipam.ranges[0][0].subnet is missing"),
        (range(json!({ "subnet": "10.1.0.5/24" })), "ipam.ranges[0][0].subnet \"10.1.0.5/24\": "),
        (
            range(json!({ "subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1" })),
            "ipam.ranges[0][0].rangeStart \"10.2.0.1\": is not in 10.1.0.0/24",
        ),
        (
            range(json!({ "subnet": "10.1.0.0/24", "rangeEnd": "fd00::1" })),
            "ipam.ranges[0][0].rangeEnd \"fd00::1\": is not in 10.1.0.0/24",
        ),
        (
            range(json!({ "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8" })),
            "ipam.ranges[0][0].rangeStart \"10.1.0.9\": comes after rangeEnd 10.1.0.8",
        ),
        (
            range(json!({ "subnet": "10.1.0.0/24", "gateway": "fd00::1" })),
            "ipam.ranges[0][0].gateway \"fd00::1\": is not of the family",
        ),
        (
            json!({ "ipam": { "ranges": [[{ "subnet": "10.1.0.0/24" }, { "subnet": "fd00::/64" }]] } }),
            "ipam.ranges[0] ",
        ),
        (
            json!({ "subnet": ["10.1.0.0/16", "10.1.2.0/24"] }),
            "ranges overlap: 10.1.0.0-10.1.255.255 (10.1.0.0/16) and ",
        ),
        (
            json!({ "subnet": "10.1.0.0/16", "ipam": { "subnet": "10.2.0.0/16" } }),
            "subnet \"10.1.0.0/16\": contradicts",
        ),
        (
            json!({ "subnet": "10.1.0.0/16", "ipam": { "routes": [{ "dst": "fd00::/8", "gw": "10.1.0.1" }] } }),
            "ipam.routes[0] ",
        ),
        (json!({ "subnet": "10.1.0.0/16", "ipam": { "routes": [{}] } }), "ipam.routes[0].dst is missing"),
    ];
    for (conf, message) in rows {
        let error = stated(&conf).unwrap_err();
        assert_eq!(error.code(), code::CONFIG, "{conf}");
        assert!(error.message().starts_with(message), "{conf}: {error}");
    }
}

#[test]
fn ranges_side_by_side_in_one_subnet_do_not_overlap() {
    let conf = json!({ "ipam": { "ranges": [
        [{ "subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.99" }], [{ "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.100" }]
    ] } });
    assert!(stated(&conf).is_ok());
}

#[test]
fn a_route_that_wants_more_than_a_gateway_is_refused_and_not_installed_without_it() {
    for (key, value) in [
        ("mtu", json!(1300)),
        ("advmss", json!(1200)),
        ("priority", json!(-3)),
        ("table", json!(99)),
        ("scope", json!(253)),
    ] {
        let with = |value: &Value| json!({ "subnet": "10.1.0.0/16", "ipam": { "routes": [{ "dst": "10.9.0.0/16", key: value }] } });
        let error = stated(&with(&value)).unwrap_err();
        assert_eq!(error.code(), code::UNSUPPORTED_FIELD);
        assert!(error.message().starts_with(&format!("ipam.routes[0].{key} {value}: ")), "{error}");
        // What programs write that mean nothing.
        assert_eq!(stated(&with(&json!(0))).unwrap().routes.len(), 1);
        assert_eq!(stated(&with(&Value::Null)).unwrap().routes.len(), 1);
    }
}

#[test]
fn a_gateway_that_can_be_nobodys_address_is_refused_by_its_field() {
    for (subnet, gateway) in
        [("10.1.0.0/24", "10.1.0.255"), ("10.1.0.0/24", "10.1.0.0"), ("fd00::/64", "fd00::")]
    {
        let conf = json!({ "ipam": { "subnet": subnet, "gateway": gateway } });
        let error = stated(&conf).unwrap_err();
        let message =
            format!("ipam.gateway \"{gateway}\": is the address of {subnet} itself or of all in it");
        assert_eq!(error.code(), code::CONFIG);
        assert!(error.message().starts_with(&message), "{error}");
    }
    // IPv6 knows no broadcast, and a gateway may be elsewhere.
    for gateway in ["fd00::ffff:ffff:ffff:ffff", "fe80::1"] {
        assert!(stated(&json!({ "ipam": { "subnet": "fd00::/64", "gateway": gateway } })).is_ok());
    }
}
