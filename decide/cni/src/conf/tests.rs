use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::env::Environment;
use crate::request::Request;

const TUTORIAL: &str = r#"{"cniVersion":"0.3.1","name":"mynet","type":"selvedge","network":"10.244.0.0/16","subnet":"10.244.1.0/24"}"#;

fn parse(conf: &Value) -> Result<NetConf, CniError> {
    NetConf::parse(conf.to_string().as_bytes(), &["/opt/cni/bin".into()])
}

/// A minimal configuration with one key more.
fn with(key: &str, value: Value) -> Value {
    let mut conf = json!({ "cniVersion": "1.0.0", "name": "n", "type": "selvedge", "subnet": "10.1.0.0/16" });
    conf[key] = value;
    conf
}

fn pools(conf: NetConf) -> Pools {
    match conf.ipam {
        Ipam::BuiltIn(pools) => pools,
        Ipam::Delegated(other) => panic!("delegated to {other:?}"),
    }
}

#[test]
fn the_tutorials_configuration_means_a_bridge_without_an_agent() {
    let conf = NetConf::parse(TUTORIAL.as_bytes(), &[]).unwrap();
    assert_eq!(conf.version, Version::V0_3_1);
    assert_eq!(conf.name.as_str(), "mynet");
    assert_eq!(conf.attach, Attach::Bridge { bridge: "cni0".parse().unwrap() });
    assert_eq!(conf.network, ["10.244.0.0/16".parse().unwrap()]);
    assert!(conf.ip_masq && conf.agent.is_none() && conf.mtu.is_none());
    assert_eq!(conf.run_dir, Path::new("/run/selvedge"));
    let range = Range { subnet: "10.244.1.0/24".parse().unwrap(), start: None, end: None, gateway: None };
    assert_eq!(pools(conf), Pools { ranges: vec![vec![range]], routes: vec![] });
}

#[test]
fn every_key_is_read() {
    let conf = json!({
        "cniVersion": "1.1.0", "name": "n", "type": "selvedge", "attach": "routed", "bridge": "br7",
        "network": ["10.0.0.0/8", "fd00::/8"], "subnet": ["10.1.0.0/16", "fd00:1::/64"], "mtu": 1400.0,
        "ipMasq": true, "runDir": "/run/other", "agent": "/run/other/agent.sock", "logFile": "/var/log/x",
        "nodeAddresses": ["192.0.2.1", "2001:db8::1"], "dns": { "nameservers": ["10.0.0.10"] },
        "args": { "cni": { "ips": ["10.1.0.9"] }, "other": 1 }, "capabilities": { "ips": true, "mac": false },
        "whatever": [1, { "x": null }]
    });
    let conf = parse(&conf).unwrap();
    assert_eq!(conf.attach, Attach::Routed);
    assert_eq!(conf.network.len(), 2);
    assert_eq!(conf.mtu, Some(Mtu::new(1400).unwrap()));
    assert!(conf.ip_masq);
    assert_eq!(conf.run_dir, Path::new("/run/other"));
    assert_eq!(conf.agent.as_deref(), Some(Path::new("/run/other/agent.sock")));
    assert_eq!(conf.log_file.as_deref(), Some(Path::new("/var/log/x")));
    assert_eq!(conf.node_addresses.len(), 2);
    assert_eq!(conf.dns.nameservers, ["10.0.0.10"]);
    assert_eq!(conf.args.ips.len(), 1);
    assert_eq!(pools(conf).ranges.len(), 2);
}

#[test]
fn with_an_agent_the_plugin_does_not_masquerade() {
    assert!(!parse(&with("agent", json!("/run/a"))).unwrap().ip_masq);
    assert!(parse(&with("agent", json!(""))).unwrap().ip_masq);
    assert!(!parse(&with("ipMasq", json!(false))).unwrap().ip_masq);
}

#[test]
fn broken_json_is_code_6() {
    for stdin in ["", "{", "{} x", "[]", "null", "3", "{\"name\":\"\u{1}\"}"] {
        let error = NetConf::parse(stdin.as_bytes(), &[]).unwrap_err();
        assert_eq!(error.code(), code::DECODE, "{stdin}: {error}");
    }
    assert_eq!(NetConf::parse(b"{\"name\":\"\xff\"}", &[]).unwrap_err().code(), code::DECODE);
}

#[test]
fn line_ends_and_their_absence_do_not_matter() {
    for stdin in [TUTORIAL.replace(',', ",\r\n"), format!("{TUTORIAL}\n"), format!("\r\n{TUTORIAL}\r\n")] {
        assert!(NetConf::parse(stdin.as_bytes(), &[]).is_ok());
    }
}

#[test]
fn a_missing_or_malformed_name_is_code_7() {
    for name in [json!(null), json!(""), json!("a/b"), json!("-a"), json!(5)] {
        let error = parse(&with("name", name)).unwrap_err();
        assert_eq!(error.code(), code::CONFIG);
        assert!(error.message().starts_with("name"), "{error}");
    }
}

#[test]
fn an_unsupported_version_is_code_1_even_if_more_is_wrong() {
    let mut conf = with("cniVersion", json!("2.0.0"));
    conf["mtu"] = json!(3);
    assert_eq!(parse(&conf).unwrap_err().code(), code::VERSION);
    assert_eq!(parse(&with("cniVersion", json!(1.0))).unwrap_err().code(), code::CONFIG);
    assert_eq!(parse(&with("cniVersion", json!(null))).unwrap().version, Version::V0_1_0);
}

#[test]
fn an_unsupported_value_is_code_2_with_key_and_value() {
    let error = parse(&with("attach", json!("macvlan"))).unwrap_err();
    assert_eq!(error.code(), code::UNSUPPORTED_FIELD);
    assert!(error.message().starts_with("attach \"macvlan\": "), "{error}");
}

#[test]
fn malformed_values_are_code_7_and_named() {
    let rows = [
        ("attach", json!(1)),
        ("name", json!("n".repeat(201))),
        ("bridge", json!("a/b")),
        ("bridge", json!("slv0")),
        ("network", json!("0.0.0.0/0")),
        ("network", json!(["10.0.0.0/8", "::/0"])),
        ("subnet", json!("0.0.0.0/0")),
        ("subnet", json!("127.0.0.0/24")),
        ("subnet", json!("0.0.0.0/1")),
        ("subnet", json!("169.254.7.0/24")),
        ("subnet", json!("224.1.0.0/16")),
        ("subnet", json!(["10.1.0.0/16", "::/64"])),
        ("subnet", json!("fe80::/64")),
        ("subnet", json!("ff02::/64")),
        ("runtimeConfig", json!({ "ipRanges": [[{ "subnet": "127.0.0.0/24" }]] })),
        ("type", json!("../selvedge")),
        ("network", json!("10.0.0.1/8")),
        ("network", json!([5])),
        ("network", json!({})),
        ("subnet", json!("10.0.0.0")),
        ("subnet", json!("10.0.0.0/33")),
        ("ipam", json!([])),
        ("ipam", json!({ "type": "../../bin/sh" })),
        ("ipam", json!({ "type": 3 })),
        ("ipam", json!({ "type": ".." })),
        ("mtu", json!(1279)),
        ("mtu", json!(65536)),
        ("mtu", json!(1e12)),
        ("mtu", json!(-1)),
        ("mtu", json!("1500")),
        ("ipMasq", json!("true")),
        ("runDir", json!("run")),
        ("agent", json!("agent.sock")),
        ("logFile", json!(7)),
        ("nodeAddresses", json!(["192.0.2.1/24"])),
        ("dns", json!({ "search": "x" })),
        ("args", json!([])),
        ("args", json!({ "cni": { "ips": ["x"] } })),
        ("args", json!({ "cni": { "mac": "x" } })),
        ("runtimeConfig", json!("x")),
    ];
    for (key, value) in rows {
        let error = parse(&with(key, value.clone())).unwrap_err();
        assert_eq!(error.code(), code::CONFIG, "{key} {value}: {error}");
        assert!(error.message().starts_with(key), "{key} {value}: {error}");
    }
}

#[test]
fn zero_null_and_empty_count_as_absent() {
    let rows = [
        ("mtu", json!(0)),
        ("mtu", json!(null)),
        ("attach", json!("")),
        ("bridge", json!("")),
        ("network", json!("")),
        ("runDir", json!("")),
        ("logFile", json!("")),
        ("dns", json!({})),
        ("args", json!({ "cni": null })),
        ("runtimeConfig", json!({ "mac": "", "ips": null, "deviceID": "" })),
        ("ipam", json!({})),
        ("ipam", json!({ "type": "", "routes": null })),
        ("ipam", json!({ "type": "selvedge" })),
    ];
    let plain = parse(&with("unknown", json!(1))).unwrap();
    for (key, value) in rows {
        assert_eq!(parse(&with(key, value.clone())).unwrap(), plain, "{key} {value}");
    }
}

#[test]
fn another_ipam_type_is_delegated_to_with_stdin_unchanged() {
    let stdin =
        br#"{ "name":"n", "cniVersion":"1.0.0",  "ipam":{"type":"host-local","ranges":"its own affair"}}"#;
    let conf = NetConf::parse(stdin, &["/a".into(), "/b".into()]).unwrap();
    let Ipam::Delegated(delegate) = conf.ipam else { panic!("not delegated") };
    assert_eq!(delegate.stdin(), stdin);
    assert_eq!(delegate.candidates(), [PathBuf::from("/a/host-local"), PathBuf::from("/b/host-local")]);
}

#[test]
fn delegation_needs_cni_path_and_nothing_else_does() {
    let stdin = br#"{"name":"n","ipam":{"type":"host-local"}}"#;
    let error = NetConf::parse(stdin, &[]).unwrap_err();
    assert_eq!((error.code(), error.message()), (4, "required env variables [CNI_PATH] missing"));
}

#[test]
fn runtime_and_conf_addresses_take_the_place_of_those_in_cni_args() {
    let mut conf =
        with("runtimeConfig", json!({ "ips": ["10.1.0.7/16", "10.1.0.8"], "mac": "0a:00:00:00:00:01" }));
    conf["args"] = json!({ "cni": { "ips": ["10.1.0.8", "10.1.0.9"], "mac": "0a:00:00:00:00:02" } });
    let args = CniArgs::parse("IP=10.1.0.5;MAC=0a:00:00:00:00:03").unwrap();
    let texts = |r: &Requested| r.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");

    let requested = parse(&conf).unwrap().requested(&args);
    assert_eq!(texts(&requested), "10.1.0.7/16 10.1.0.8 10.1.0.9");
    assert_eq!(requested.mac.unwrap().to_string(), "0a:00:00:00:00:01");

    conf["runtimeConfig"] = json!(null);
    let requested = parse(&conf).unwrap().requested(&args);
    assert_eq!(texts(&requested), "10.1.0.8 10.1.0.9");
    assert_eq!(requested.mac.unwrap().to_string(), "0a:00:00:00:00:02");

    conf["args"] = json!(null);
    assert_eq!(parse(&conf).unwrap().requested(&args), args.requested);
}

#[test]
fn the_runtimes_dns_comes_before_the_configurations_and_that_before_ipams() {
    let ipam = Dns { nameservers: vec!["ipam".into()], ..Dns::default() };
    let mut conf = with("dns", json!({ "nameservers": ["conf"] }));
    conf["runtimeConfig"] = json!({ "dns": { "Servers": ["runtime"], "Searches": ["s"], "Options": ["o"] } });
    let dns = parse(&conf).unwrap().result_dns(ipam.clone());
    assert_eq!(
        (dns.nameservers, dns.search, dns.options),
        (vec!["runtime".into()], vec!["s".into()], vec!["o".into()])
    );
    conf["runtimeConfig"] = json!({ "dns": {} });
    assert_eq!(parse(&conf).unwrap().result_dns(ipam.clone()).nameservers, ["conf"]);
    conf["dns"] = json!({});
    assert_eq!(parse(&conf).unwrap().result_dns(ipam.clone()), ipam);
}

/// A configuration in which every object has only keys whose case doesn't matter.
fn elaborate() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "n", "type": "selvedge", "attach": "bridge", "bridge": "br7",
        "network": "10.0.0.0/8", "mtu": 1400, "ipMasq": false, "runDir": "/r", "agent": "/a", "logFile": "/l", "whenAgentDown": "open",
        "nodeAddresses": ["192.0.2.1"], "dns": { "nameservers": ["a"], "domain": "d", "search": ["s"], "options": ["o"] },
        "ipam": {
            "type": "selvedge", "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.0.1" }],
            "ranges": [[{ "subnet": "10.1.0.0/16", "rangeStart": "10.1.0.5", "rangeEnd": "10.1.0.9", "gateway": "10.1.0.1" }]]
        },
        "args": { "cni": { "ips": ["10.1.0.7"], "mac": "0a:00:00:00:00:02" } },
        "runtimeConfig": {
            "ips": ["10.1.0.8/16"], "mac": "0a:00:00:00:00:01", "cgroupPath": "/c", "aliases": ["x"],
            "ipRanges": [[{ "subnet": "10.2.0.0/16" }]], "dns": { "servers": ["a"], "searches": ["b"], "options": ["c"] },
            "portMappings": [{ "hostPort": 0, "containerPort": 80, "protocol": "TCP", "hostIP": "" }],
            "bandwidth": { "ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0 }
        }
    })
}

/// The value with the letters of every key in the case that `upper` says.
fn recased(value: &Value, upper: &mut dyn FnMut() -> bool) -> Value {
    match value {
        Value::Object(map) => {
            let mut letter = |c: char| if upper() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            let keys: Vec<String> = map.keys().map(|key| key.chars().map(&mut letter).collect()).collect();
            keys.into_iter().zip(map.values()).map(|(key, inner)| (key, recased(inner, upper))).collect()
        }
        Value::Array(items) => items.iter().map(|item| recased(item, upper)).collect(),
        other => other.clone(),
    }
}

/// Keys that mean something somewhere.
const KEYS: &str = "cniVersion name type attach bridge network subnet ipam ranges rangeStart rangeEnd gateway routes \
    dst gw mtu ipMasq runDir agent nodeAddresses dns args cni ips mac runtimeConfig ipRanges \
    portMappings hostPort bandwidth aliases ingressRate prevResult interfaces address interface ip4 \
    ip Servers nameservers cni.dev/attachments containerID";

/// JSON of keys that mean something, though not always where they stand.
fn any_conf() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "10\\.[0-9]{1,3}\\.0\\.[0-9]{1,3}(/[0-9]{1,2})?".prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let key = prop::sample::select(KEYS.split_whitespace().collect::<Vec<_>>());
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn the_case_of_keys_changes_nothing(bits in prop::collection::vec(any::<bool>(), 1..200)) {
        let mut bits = bits.into_iter().cycle();
        let conf = recased(&elaborate(), &mut || bits.next().unwrap_or_default());
        prop_assert_eq!(parse(&conf).unwrap(), parse(&elaborate()).unwrap());
    }

    #[test]
    fn no_bytes_make_the_parser_panic(stdin in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(NetConf::parse(&stdin, &[]).is_err());
    }

    #[test]
    fn no_json_makes_the_parser_panic_and_errors_are_one_line(extra in any_conf()) {
        let mut conf = json!({ "cniVersion": "1.1.0", "name": "n", "subnet": "10.1.0.0/16" });
        if let (Some(conf), Some(extra)) = (conf.as_object_mut(), extra.as_object()) {
            conf.extend(extra.clone());
        }
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let variables = [("CNI_CONTAINERID", "c"), ("CNI_NETNS", "/n"), ("CNI_IFNAME", "eth0"), ("CNI_PATH", "/b")];
            let environment = Environment::new(variables.into_iter().chain([("CNI_COMMAND", verb)]));
            if let Err(error) = Request::parse(&environment, conf.to_string().as_bytes()) {
                prop_assert!(error.code() > 0 && !error.message().contains(char::is_control));
            }
        }
    }
}
