//! CHECK, beyond the statements CHK-1 to CHK-7: each way to attach pods, each kind of damage.

use std::fs;

use selvedge_datapath::step::{LinkChange, NetStep};
use selvedge_tests::{Call, FakeIpam, Pod, Stage};
use serde_json::{Value, json};

use crate::config::{MODES, add, after, check, delegating, host_end, routed, tutorial, with};
use crate::hand::{add_address, change, delete_address, delete_link, delete_route, must_run, route, set};

const DRIFTED: u64 = 104;

/// A way to break an attachment, given its host end; undone by the steps that it returns.
type Breakage = (&'static str, fn(&Stage, &Pod, &str));

const INSIDE: &[Breakage] = &[
    ("eth0 is down", |_, pod, _| change(pod.namespace(), &[set("eth0", LinkChange::Down)])),
    ("eth0 is gone", |_, pod, _| change(pod.namespace(), &[delete_link("eth0")])),
    ("lo is down", |_, pod, _| change(pod.namespace(), &[set("lo", LinkChange::Down)])),
    ("the default route is gone", |_, pod, _| {
        delete_route(pod.namespace(), "0.0.0.0/0");
    }),
    ("the MAC is another", |_, pod, _| {
        change(pod.namespace(), &[set("eth0", LinkChange::Mac("02:00:00:00:00:07".parse().unwrap()))]);
    }),
    ("the host end is down", |stage, _, host| change(stage.node(), &[set(host, LinkChange::Down)])),
    ("the host end bears another's name", |stage, _, host| {
        let alias = "selvedge mynet other/eth0 10.244.1.9/24".to_owned();
        change(stage.node(), &[set(host, LinkChange::Alias(alias))]);
    }),
    ("the lease is gone", |stage, _, _| fs::remove_dir_all(stage.folder().join("ipam")).unwrap()),
    ("forwarding is off", |stage, _, _| {
        let off = || fs::write("/proc/sys/net/ipv4/ip_forward", "0");
        stage.node().run(off).unwrap().unwrap();
    }),
];

const BRIDGED: &[Breakage] = &[
    ("the address is gone", |_, pod, _| {
        change(pod.namespace(), &[delete_address("eth0", "10.244.1.2/24")]);
    }),
    ("the host end is out of the bridge", |stage, _, host| {
        change(stage.node(), &[set(host, LinkChange::Master(None))]);
    }),
    ("the port is neither isolated nor a hairpin", |stage, _, host| {
        let open = selvedge_datapath::state::Port::default();
        change(stage.node(), &[set(host, LinkChange::Port(open))]);
    }),
    ("the gateway's address is gone", |stage, _, _| {
        change(stage.node(), &[delete_address("cni0", "10.244.1.1/24")]);
    }),
];

const ROUTED: &[Breakage] = &[
    ("the address is gone", |_, pod, _| {
        change(pod.namespace(), &[delete_address("eth0", "10.244.1.2/32")]);
    }),
    ("the route to the pod is gone", |stage, _, _| {
        delete_route(stage.node(), "10.244.1.2/32");
    }),
    ("the gateway's address is gone", |stage, _, host| {
        change(stage.node(), &[delete_address(host, "169.254.1.1/32")]);
    }),
];

fn refuses_each(breakages: &[&[Breakage]], configured: fn(&Stage) -> Value) {
    for (what, break_it) in breakages.iter().copied().flatten() {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), configured(&stage));
        let result = add(&stage, &config, "web-0", &pod);
        let config = after(&config, &result);
        check(&stage, &config, "web-0", &pod).done();
        break_it(&stage, &pod, &host_end(&result));
        let answer = check(&stage, &config, "web-0", &pod);
        assert_ne!(answer.code, 0, "not noticed: {what}");
        assert_eq!(answer.refusal().0, DRIFTED, "{what}: {:?}", answer.stdout);
    }
}

#[test]
fn chk_2_whatever_is_broken_of_a_bridged_attachment_is_noticed() {
    refuses_each(&[INSIDE, BRIDGED], tutorial);
}

#[test]
fn chk_2_whatever_is_broken_of_a_routed_attachment_is_noticed() {
    refuses_each(&[INSIDE, ROUTED], routed);
}

#[test]
fn chk_2_a_lease_that_is_another_attachments_is_noticed() {
    let Some(stage) = Stage::new() else { return };
    let (pod, other) = (stage.pod(), stage.pod());
    let config = tutorial(&stage);
    let first = add(&stage, &config, "web-0", &pod);
    let second = add(&stage, &config, "web-1", &other);
    let answer = check(&stage, &after(&config, &second), "web-0", &pod);
    assert_eq!(answer.refusal().0, DRIFTED);
    assert_eq!(check(&stage, &after(&config, &first), "never", &pod).refusal().0, DRIFTED);
}

#[test]
fn chk_2_missing_rules_are_noticed() {
    for (configured, table) in
        [(tutorial as fn(&Stage) -> Value, "bridge"), (tutorial, "inet"), (routed, "inet")]
    {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), configured(&stage));
        let result = add(&stage, &config, "web-0", &pod);
        if must_run(stage.node(), "nft", &["flush", "table", table, "selvedge-cni"]).is_none() {
            return;
        }
        assert_eq!(check(&stage, &after(&config, &result), "web-0", &pod).refusal().0, DRIFTED, "{table}");
    }
}

#[test]
fn chk_3_what_later_plugins_of_the_chain_add_and_change_is_allowed() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), configured(&stage));
        let mut result = add(&stage, &config, "web-0", &pod);
        let mac = "02:00:00:00:00:07";
        let steps = [
            add_address("eth0", "192.0.2.7/24"),
            NetStep::ReplaceRoute(route("198.51.100.0/24", Some("192.0.2.1"), "eth0")),
            set("eth0", LinkChange::Mac(mac.parse().unwrap())),
            set("eth0", LinkChange::Mtu(selvedge_model::Mtu::new(1400).unwrap())),
            crate::hand::new_link("net1"),
        ];
        change(pod.namespace(), &steps);
        let last = result["interfaces"].as_array_mut().unwrap().last_mut().unwrap();
        last["mac"] = json!(mac);
        check(&stage, &after(&config, &result), "web-0", &pod).done();
    }
}

/// What somebody says of an attachment that isn't so, and what the error names.
type Lie = (fn(&mut Value), &'static str);

const LIES: &[Lie] = &[
    (|said| said["interfaces"].as_array_mut().unwrap().last_mut().unwrap()["sandbox"] = json!("/n"), "/n"),
    (
        |said| {
            let list = said["interfaces"].as_array_mut().unwrap();
            list.last_mut().unwrap()["sandbox"] = json!("/proc/self/ns/net");
        },
        "/proc/self/ns/net",
    ),
    (
        |said| {
            let list = said["interfaces"].as_array_mut().unwrap();
            let host = list.len() - 2;
            list[host]["name"] = json!("slvnope");
        },
        "slv",
    ),
    (|said| said["ips"][0]["address"] = json!("10.244.1.99/24"), "10.244.1.99/24"),
    (|said| said["ips"][0]["address"] = json!("10.244.1.2/16"), "10.244.1.2/"),
    (|said| said["ips"] = json!([]), "10.244.1.2/"),
    (|said| said["ips"] = json!(null), "10.244.1.2/"),
    (|said| said["routes"][0]["gw"] = json!("10.244.1.200"), "10.244.1.200"),
    (|said| *said = json!({}), "interfaces"),
];

#[test]
fn chk_2_whatever_the_result_says_otherwise_of_ours_is_named() {
    for (configured, version) in MODES.iter().flat_map(|mode| ["0.4.0", "1.0.0", "1.1.0"].map(|v| (mode, v)))
    {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), with(configured(&stage), json!({"cniVersion": version})));
        let result = add(&stage, &config, "web-0", &pod);
        for (lie, named) in LIES {
            let mut said = result.clone();
            lie(&mut said);
            let answer = check(&stage, &after(&config, &said), "web-0", &pod);
            let (code, message) = answer.refusal();
            assert!(code == DRIFTED && message.contains(named), "{named}: {code} {message}");
        }
        check(&stage, &after(&config, &result), "web-0", &pod).done();
    }
}

#[test]
fn chk_3_a_namespace_may_be_named_in_another_way_than_at_add() {
    let Some(stage) = Stage::new() else { return };
    let (pod, config) = (stage.pod(), tutorial(&stage));
    let result = add(&stage, &config, "web-0", &pod);
    let link = stage.folder().join("netns");
    std::os::unix::fs::symlink(pod.path(), &link).unwrap();
    let call = Call::new("CHECK", after(&config, &result)).of("web-0", &pod);
    call.with("CNI_NETNS", link.to_str().unwrap()).run(stage.node()).done();
}

#[test]
fn chk_4_an_earlier_plugins_address_of_no_interface_is_not_taken_for_ours() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), configured(&stage));
        let earlier = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.1.1.1/24"}]});
        let result = add(&stage, &after(&config, &earlier), "web-0", &pod);
        check(&stage, &after(&config, &result), "web-0", &pod).done();
    }
}

#[test]
fn chk_4_succeeds_right_after_add() {
    let dual = json!({"subnet": ["10.244.1.0/24", "fd00:10:244:1::/64"]});
    let variants = [
        json!({}),
        dual,
        json!({"mtu": 1400}),
        json!({"ipMasq": false}),
        json!({"nodeAddresses": ["172.30.0.11"]}),
        json!({"ipam": {"routes": [{"dst": "10.0.0.0/8"}, {"dst": "192.0.2.0/24", "gw": "10.244.1.1"}]}}),
        // A route to the gateway itself.
        json!({"ipam": {"routes": [{"dst": "10.244.1.1/32", "gw": "10.244.1.1"}, {"dst": "0.0.0.0/0"}]}}),
        json!({"runtimeConfig": {"mac": "02:00:00:00:00:42", "ips": ["10.244.1.77"]}}),
        json!({"cniVersion": "0.4.0"}),
    ];
    for (configured, more) in MODES.iter().flat_map(|mode| variants.iter().map(move |more| (mode, more))) {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), with(configured(&stage), more.clone()));
        change(stage.node(), &[set("lo", LinkChange::Up), add_address("lo", "172.30.0.11/32")]);
        let result = add(&stage, &config, "web-0", &pod);
        let answer = check(&stage, &after(&config, &result), "web-0", &pod);
        assert_eq!(answer.code, 0, "{more}: {:?}", answer.stdout);
    }
}

#[test]
fn chk_5_the_delegate_is_asked_and_its_error_passed_on() {
    let Some(stage) = Stage::new() else { return };
    let ipam = FakeIpam::new(&stage, IPAM_THAT_LOSES);
    let pod = stage.pod();
    let config = delegating(&stage, FakeIpam::TYPE);
    let call = |verb, config: &Value| {
        Call::new(verb, config.clone()).of("web-0", &pod).with("CNI_PATH", &ipam.path()).run(stage.node())
    };
    let result = call("ADD", &config).result().clone();
    let config = after(&config, &result);
    call("CHECK", &config).done();
    assert_eq!(ipam.calls(), ["ADD", "CHECK"]);
    assert_eq!(serde_json::from_str::<Value>(&ipam.stdin()).unwrap(), config);
    fs::write(stage.folder().join("lost"), "").unwrap();
    assert_eq!(call("CHECK", &config).refusal(), (121, "no such lease"));
}

/// Its CHECK fails as soon as there is a file `lost` beside its folder.
const IPAM_THAT_LOSES: &str = r#"
    case $CNI_COMMAND in
    ADD) echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}]}' ;;
    CHECK) if [ -e "$(dirname "$0")/../lost" ]; then
            echo '{"cniVersion": "1.1.0", "code": 121, "msg": "no such lease"}'
            exit 1
         fi ;;
    esac"#;
