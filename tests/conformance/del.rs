//! DEL, beyond the statements DEL-1 to DEL-7: each way to attach pods, each kind of loss.

use std::fs;

use selvedge_netns::Namespace;
use selvedge_tests::{Call, Stage};
use serde_json::json;

use crate::config::{MODES, add, after, del, host_end, must_be_back, traces, tutorial, with};
use crate::hand::{change, delete_link, look, must_run, name};

#[test]
fn del_1_succeeds_and_removes_everything_whatever_the_namespaces_path_means() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let before = traces(&stage);
        let file = stage.folder().join("file");
        fs::write(&file, "").unwrap();
        for path in ["", "/nowhere/at/all", file.to_str().unwrap(), "/proc/self/ns/mnt", "/proc/self/ns/net"]
        {
            let pod = stage.pod();
            add(&stage, &config, "web-0", &pod);
            let call = Call::new("DEL", config.clone()).of("web-0", &pod).with("CNI_NETNS", path);
            call.run(stage.node()).done();
            must_be_back(&before, &stage);
        }
    }
}

#[test]
fn del_1_succeeds_any_number_of_times() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), configured(&stage));
        let before = traces(&stage);
        add(&stage, &config, "web-0", &pod);
        for _ in 0..3 {
            del(&stage, &config, "web-0", &pod).done();
            must_be_back(&before, &stage);
        }
    }
}

/// What somebody did to an attachment, given the pod's namespace and the host end.
type Breakage = fn(&Stage, &Namespace, &str);

#[test]
fn del_1_succeeds_when_the_interface_the_lease_or_the_rules_are_gone() {
    let Some(stage) = Stage::new() else { return };
    let config = tutorial(&stage);
    let before = traces(&stage);
    let broken: [Breakage; 6] = [
        |_, pod, _| change(pod, &[delete_link("eth0")]),
        |stage, _, host| change(stage.node(), &[delete_link(host)]),
        |stage, _, _| change(stage.node(), &[delete_link("cni0")]),
        |stage, _, _| fs::remove_file(stage.folder().join("ipam/mynet/journal")).unwrap(),
        |stage, _, _| fs::remove_dir_all(stage.folder().join("ipam")).unwrap(),
        |stage, _, _| drop(must_run(stage.node(), "nft", &["flush", "ruleset"])),
    ];
    for (number, break_it) in broken.iter().enumerate() {
        let pod = stage.pod();
        let result = add(&stage, &config, "web-0", &pod);
        break_it(&stage, pod.namespace(), &host_end(&result));
        del(&stage, &config, "web-0", &pod).done();
        let left = traces(&stage);
        assert!(left.with("web-0").is_empty() && left.with("slv").is_empty(), "{number}: {left:?}");
        // A network whose leases somebody removed may keep its rules until the next last pod goes.
        let pod = stage.pod();
        add(&stage, &config, "web-1", &pod);
        del(&stage, &config, "web-1", &pod).done();
        must_be_back(&before, &stage);
    }
}

#[test]
fn del_2_of_what_was_never_added_succeeds_and_changes_nothing() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), configured(&stage));
        let empty = traces(&stage);
        del(&stage, &config, "never", &pod).done();
        must_be_back(&empty, &stage);
        add(&stage, &config, "web-0", &pod);
        let before = traces(&stage);
        for container in ["never", "web", "web-00"] {
            del(&stage, &config, container, &pod).done();
            must_be_back(&before, &stage);
        }
    }
}

#[test]
fn del_3_removes_everything_without_the_namespaces_path_while_the_namespace_lives() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), configured(&stage));
        let before = traces(&stage);
        add(&stage, &config, "web-0", &pod);
        let call = Call::new("DEL", config).of("web-0", &pod).with("CNI_NETNS", "");
        call.run(stage.node()).done();
        must_be_back(&before, &stage);
        assert!(!look(pod.namespace()).links.contains_key(&name("eth0")));
    }
}

#[test]
fn del_4_needs_no_earlier_result_and_takes_one() {
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let Some(stage) = Stage::new() else { return };
        let config = with(tutorial(&stage), json!({"cniVersion": version}));
        let before = traces(&stage);
        let pod = stage.pod();
        add(&stage, &config, "web-0", &pod);
        del(&stage, &config, "web-0", &pod).done();
        must_be_back(&before, &stage);
        let result = add(&stage, &config, "web-0", &pod);
        del(&stage, &after(&config, &result), "web-0", &pod).done();
        must_be_back(&before, &stage);
    }
}

#[test]
fn del_6_works_with_a_configuration_that_was_changed_after_add() {
    let changes = [
        json!({"subnet": "10.99.0.0/24", "network": "10.99.0.0/16"}),
        json!({"bridge": "br7"}),
        json!({"attach": "routed"}),
        json!({"attach": "bonded", "mtu": "much", "subnet": 7, "bridge": ["?"]}),
        json!({"ipMasq": false}),
    ];
    for change in changes {
        let Some(stage) = Stage::new() else { return };
        let pod = stage.pod();
        let before = traces(&stage);
        add(&stage, &tutorial(&stage), "web-0", &pod);
        del(&stage, &with(tutorial(&stage), change), "web-0", &pod).done();
        must_be_back(&before, &stage);
    }
}

#[test]
fn del_5_a_store_that_takes_no_lock_keeps_no_pod_in_the_network_and_one_del_later_frees_its_address() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), configured(&stage));
        let before = traces(&stage);
        add(&stage, &config, "web-0", &pod);
        let locks = stage.folder().join("ipam/mynet/att");
        fs::remove_dir(&locks).unwrap();
        fs::write(&locks, "").unwrap();
        let answer = del(&stage, &config, "web-0", &pod);
        let (code, message) = answer.refusal();
        assert!(code == 5 && message.contains("ipam/mynet/att"), "{code} {message}");
        assert!(!look(pod.namespace()).links.contains_key(&name("eth0")), "the pod has its interface still");
        assert_eq!(traces(&stage).with("lease mynet web-0/eth0").len(), 1);
        fs::remove_file(&locks).unwrap();
        del(&stage, &config, "web-0", &pod).done();
        must_be_back(&before, &stage);
    }
}
