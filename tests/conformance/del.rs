//! DEL-1 to DEL-7.

use std::fs;

use selvedge_netns::Namespace;
use selvedge_tests::{Call, FakeIpam, Stage};
use serde_json::json;

use crate::config::{
    MODES, add, address, after, del, delegating, host_end, must_be_back, traces, tutorial, with,
};
use crate::hand::{change, delete_link, look, must_run, name};
use crate::process::wait_for;

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
fn del_5_goes_on_after_a_failure_and_reports_it_in_words_that_no_runtime_takes_for_success() {
    let Some(stage) = Stage::new() else { return };
    let ipam = FakeIpam::new(&stage, IPAM_THAT_KEEPS);
    let config = delegating(&stage, FakeIpam::TYPE);
    let pod = stage.pod();
    let call = |verb| Call::new(verb, config.clone()).of("web-0", &pod).with("CNI_PATH", &ipam.path());
    let before = traces(&stage);
    call("ADD").run(stage.node()).result();
    fs::write(stage.folder().join("broken"), "").unwrap();
    let answer = call("DEL").run(stage.node());
    let (code, message) = answer.refusal();
    assert_eq!(code, 120);
    assert!(!message.contains("not found") && !message.to_lowercase().contains("no such file"), "{message}");
    assert!(!look(pod.namespace()).links.contains_key(&name("eth0")), "the interface is still there");
    fs::remove_file(stage.folder().join("broken")).unwrap();
    call("DEL").run(stage.node()).done();
    must_be_back(&before, &stage);
}

/// Its DEL fails as long as there is a file `broken` beside its folder.
const IPAM_THAT_KEEPS: &str = r#"
    case $CNI_COMMAND in
    ADD) echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}]}' ;;
    DEL) if [ -e "$(dirname "$0")/../broken" ]; then
            echo '{"cniVersion": "1.1.0", "code": 120, "msg": "lease Not Found: no such file or directory"}'
            exit 1
         fi ;;
    esac"#;

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
fn del_7_waits_for_the_add_of_a_runtime_that_gave_up_and_then_leaves_nothing() {
    let Some(stage) = Stage::new() else { return };
    let ipam = FakeIpam::new(&stage, SLOW_IPAM);
    let config = delegating(&stage, FakeIpam::TYPE);
    let pod = stage.pod();
    let call = |verb| Call::new(verb, config.clone()).of("web-0", &pod).with("CNI_PATH", &ipam.path());
    let before = traces(&stage);
    let orphan = call("ADD").start(stage.node());
    wait_for(|| ipam.calls() == ["ADD"]);
    let del = call("DEL").start(stage.node());
    let other = Call::new("ADD", with(tutorial(&stage), json!({"name": "other"}))).of("web-1", &pod);
    other.with("CNI_IFNAME", "net1").run(stage.node()).result();
    let other = Call::new("DEL", with(tutorial(&stage), json!({"name": "other"}))).of("web-1", &pod);
    other.with("CNI_IFNAME", "net1").run(stage.node()).done();
    fs::write(stage.folder().join("go"), "").unwrap();
    assert_eq!(address(orphan.answer().result()), "10.9.0.2");
    del.answer().done();
    must_be_back(&before, &stage);
}

/// Its ADD takes as long as there is no file `go` beside its folder.
pub(crate) const SLOW_IPAM: &str = r#"
    case $CNI_COMMAND in
    ADD) while [ ! -e "$(dirname "$0")/../go" ]; do sleep 0.01; done
         echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}]}' ;;
    esac"#;
