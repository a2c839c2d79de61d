//! What the scripts of the tutorials got wrong, each under its own name.

use std::collections::BTreeSet;

use selvedge_datapath::step::NetStep;
use selvedge_model::{AttachmentKey, host_veth_name};
use selvedge_tests::{Call, Running, Stage};
use serde_json::json;

use crate::config::{MODES, add, address, after, check, del, host_end, must_be_back, traces, tutorial, with};
use crate::hand::{look, new_link};

#[test]
fn two_hundred_adds_at_once_give_two_hundred_addresses_and_as_many_dels_take_them_back() {
    let Some(stage) = Stage::new() else { return };
    let before = traces(&stage);
    let config = tutorial(&stage);
    let pods: Vec<_> = (0..200).map(|number| (format!("web-{number}"), stage.pod())).collect();
    let all = |verb| -> Vec<Running> {
        let call = |(id, pod): &(String, _)| Call::new(verb, config.clone()).of(id, pod).start(stage.node());
        pods.iter().map(call).collect()
    };
    let answers = all("ADD").into_iter().map(|running| address(running.answer().result()));
    let addresses: BTreeSet<String> = answers.collect();
    assert_eq!(addresses.len(), 200);
    assert_eq!(traces(&stage).with("link slv").len(), 200);
    all("DEL").into_iter().for_each(|running| running.answer().done());
    must_be_back(&before, &stage);
}

#[test]
fn deleting_the_pod_of_2_does_not_free_20_to_29() {
    let Some(stage) = Stage::new() else { return };
    let config = tutorial(&stage);
    let at =
        |number: u8| with(config.clone(), json!({"runtimeConfig": {"ips": [format!("10.244.1.{number}")]}}));
    let pods: Vec<_> = (20..=29).map(|number| (number, stage.pod())).collect();
    let results: Vec<_> =
        pods.iter().map(|(number, pod)| add(&stage, &at(*number), &format!("web-{number}"), pod)).collect();
    let before = traces(&stage);
    let pod = stage.pod();
    add(&stage, &at(2), "web-2", &pod);
    del(&stage, &at(2), "web-2", &pod).done();
    must_be_back(&before, &stage);
    for ((number, pod), result) in pods.iter().zip(&results) {
        check(&stage, &after(&config, result), &format!("web-{number}"), pod).done();
    }
}

#[test]
fn a_pod_whose_namespace_is_gone_leaks_no_address() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let before = traces(&stage);
        // Five addresses, and four times as many pods.
        let config = with(configured(&stage), json!({"subnet": "10.244.1.0/29"}));
        for number in 0..20 {
            let pod = stage.pod();
            let call = Call::new("DEL", config.clone()).of("web-0", &pod);
            add(&stage, &config, "web-0", &pod);
            drop(pod);
            assert_eq!(call.run(stage.node()).code, 0, "round {number}");
        }
        must_be_back(&before, &stage);
    }
}

#[test]
fn a_host_end_whose_name_somebody_has_gets_another_and_the_other_link_is_left_alone() {
    let Some(stage) = Stage::new() else { return };
    let (pod, config) = (stage.pod(), tutorial(&stage));
    let key = AttachmentKey { container: "web-0".parse().unwrap(), ifname: "eth0".parse().unwrap() };
    let NetStep::CreateVeth(mut pair) = new_link("foreign") else { return };
    pair.host = host_veth_name(&"mynet".parse().unwrap(), &key, 0);
    pair.alias = "somebody's".to_owned();
    crate::hand::change(stage.node(), &[NetStep::CreateVeth(pair.clone())]);
    let before = traces(&stage);
    let result = add(&stage, &config, "web-0", &pod);
    assert_ne!(host_end(&result), pair.host.to_string());
    check(&stage, &after(&config, &result), "web-0", &pod).done();
    del(&stage, &config, "web-0", &pod).done();
    must_be_back(&before, &stage);
    assert!(look(stage.node()).links.contains_key(&pair.host));
}

#[test]
fn an_add_that_fails_after_the_reservation_leaves_no_lease_and_the_next_gets_its_address() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let before = traces(&stage);
        let config = with(configured(&stage), json!({"subnet": ["10.244.1.0/24", "fd00:10:244:1::/64"]}));
        let pod = stage.pod();
        let refuse = || std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        pod.namespace().run(refuse).unwrap().unwrap();
        for _ in 0..3 {
            assert_ne!(Call::new("ADD", config.clone()).of("web-0", &pod).run(stage.node()).code, 0);
            must_be_back(&before, &stage);
        }
        assert!(!look(pod.namespace()).links.contains_key(&"eth0".parse().unwrap()));
        add(&stage, &config, "web-0", &stage.pod());
    }
}

#[test]
fn the_result_names_the_interface_that_was_asked_for_and_not_eth0() {
    let Some(stage) = Stage::new() else { return };
    let pod = stage.pod();
    let call = Call::new("ADD", tutorial(&stage)).of("web-0", &pod).with("CNI_IFNAME", "net7");
    assert_eq!(call.run(stage.node()).result()["interfaces"][2]["name"], "net7");
    let links = look(pod.namespace()).links;
    assert!(links.contains_key(&"net7".parse().unwrap()) && !links.contains_key(&"eth0".parse().unwrap()));
}

#[test]
fn rules_do_not_pile_up_over_repeated_adds() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let (resident, config) = (stage.pod(), configured(&stage));
        add(&stage, &config, "resident", &resident);
        let one = traces(&stage);
        for _ in 0..3 {
            let pods: Vec<_> = (0..3).map(|number| (format!("web-{number}"), stage.pod())).collect();
            for (container, pod) in &pods {
                add(&stage, &config, container, pod);
            }
            let rules = |traces: &selvedge_tests::Traces| traces.with("masquerade").len();
            assert_eq!(rules(&traces(&stage)), rules(&one));
            for (container, pod) in &pods {
                del(&stage, &config, container, pod).done();
            }
            must_be_back(&one, &stage);
        }
    }
}

#[test]
fn the_gateway_of_a_subnet_that_does_not_end_in_0_is_its_first_address() {
    let Some(stage) = Stage::new() else { return };
    for (name, subnet, gateway, pod) in [
        ("small", "10.244.1.16/28", "10.244.1.17", "10.244.1.18/28"),
        ("wide", "10.9.4.0/22", "10.9.4.1", "10.9.4.2/22"),
        ("late", "10.8.0.64/26", "10.8.0.65", "10.8.0.66/26"),
    ] {
        let config = with(tutorial(&stage), json!({"name": name, "bridge": name, "subnet": subnet}));
        let result = add(&stage, &config, "web-0", &stage.pod());
        let ip = &result["ips"][0];
        assert_eq!((&ip["gateway"], &ip["address"]), (&json!(gateway), &json!(pod)));
    }
}
