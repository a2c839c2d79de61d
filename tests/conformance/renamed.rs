//! Host ends without the name or the owner record that ADD gave them: what they carry stays theirs until they are gone.

use std::fs;

use selvedge_datapath::step::LinkChange;
use selvedge_leases::Store;
use selvedge_tests::{Call, Stage, Traces};
use serde_json::{Value, json};

use crate::config::{MODES, add, address, after, check, del, host_end, must_be_back, routed, traces, with};
use crate::hand::{change, delete_link, look, must_run, name, set};

const NO_ADDRESS: u64 = 101;

/// What somebody does to a host end. What comes of it is not ours to say, but that nobody else gets the address.
type Change = fn(&Stage, &str);

/// Both of its marks, one at a time.
const CHANGES: [Change; 2] = [rename, overwrite];

/// The host end gets another name and keeps its record.
fn rename(stage: &Stage, host: &str) {
    for words in [["set", host, "down"].as_slice(), &["set", host, "name", "foo"], &["set", "foo", "up"]] {
        let arguments: Vec<&str> = ["link"].iter().chain(words).copied().collect();
        must_run(stage.node(), "ip", &arguments);
    }
}

/// The host end keeps its name and gets another alias.
fn overwrite(stage: &Stage, host: &str) {
    change(stage.node(), &[set(host, LinkChange::Alias("uplink of web-0".to_owned()))]);
}

/// A configuration of each way to attach pods, each with each change.
fn cases() -> impl Iterator<Item = (fn(&Stage) -> Value, Change)> {
    MODES.into_iter().flat_map(|mode| CHANGES.map(|change| (mode, change)))
}

/// The configuration with limits both ways.
fn limited(config: Value) -> Value {
    let rates = json!({"ingressRate": 8_000_000, "ingressBurst": 800_000,
        "egressRate": 8_000_000, "egressBurst": 800_000});
    with(config, json!({"runtimeConfig": {"bandwidth": rates}}))
}

fn gc(config: &Value, more: Value) -> Call {
    Call::new("GC", with(config.clone(), more))
}

#[test]
fn del_of_a_host_end_without_its_name_or_record_takes_the_very_link_before_it_frees_the_address() {
    for (configured, change) in cases() {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), configured(&stage));
        let before = traces(&stage);
        let result = add(&stage, &config, "web-0", &pod);
        change(&stage, &host_end(&result));
        del(&stage, &config, "web-0", &pod).done();
        assert!(!look(pod.namespace()).links.contains_key(&name("eth0")), "the pod has its interface still");
        must_be_back(&before, &stage);
    }
}

#[test]
fn del_without_a_namespace_or_a_journal_takes_a_renamed_host_end() {
    for configured in MODES {
        for lost in [false, true] {
            let Some(stage) = Stage::new() else { return };
            let (pod, config) = (stage.pod(), configured(&stage));
            let before = traces(&stage);
            rename(&stage, &host_end(&add(&stage, &config, "web-0", &pod)));
            if lost {
                fs::remove_file(stage.folder().join("ipam/mynet/journal")).unwrap();
            }
            Call::new("DEL", config).of("web-0", &pod).with("CNI_NETNS", "").run(stage.node()).done();
            must_be_back(&before, &stage);
        }
    }
}

#[test]
fn del_takes_the_shaper_of_a_renamed_host_end_too() {
    let Some(stage) = Stage::new() else { return };
    let config = limited(routed(&stage));
    let pod = stage.pod();
    let before = traces(&stage);
    rename(&stage, &host_end(&add(&stage, &config, "web-0", &pod)));
    assert_eq!(traces(&stage).with("link slb").len(), 1);
    del(&stage, &config, "web-0", &pod).done();
    must_be_back(&before, &stage);
}

#[test]
fn gc_of_a_host_end_without_its_name_or_record_takes_the_very_link_before_it_frees_the_address() {
    for (configured, change) in cases() {
        let Some(stage) = Stage::new() else { return };
        let (pod, kept, config) = (stage.pod(), stage.pod(), configured(&stage));
        let result = add(&stage, &config, "kept", &kept);
        let before = traces(&stage);
        change(&stage, &host_end(&add(&stage, &config, "web-0", &pod)));
        let valid = json!({"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]});
        gc(&config, valid).run(stage.node()).done();
        assert!(!look(pod.namespace()).links.contains_key(&name("eth0")), "the pod has its interface still");
        must_be_back(&before, &stage);
        check(&stage, &after(&config, &result), "kept", &kept).done();
    }
}

#[test]
fn gc_without_a_list_leaves_a_pod_whose_host_end_lost_its_name_or_record() {
    for (configured, change) in cases() {
        let Some(stage) = Stage::new() else { return };
        let (pod, config) = (stage.pod(), configured(&stage));
        change(&stage, &host_end(&add(&stage, &config, "web-0", &pod)));
        let (before, inside) = (traces(&stage), Traces::in_pod(pod.namespace()));
        gc(&config, json!({})).run(stage.node()).done();
        let now = traces(&stage);
        // The bridge's guard knows ports by their names.
        for word in ["lease mynet", " mtu ", "route 10."] {
            assert_eq!(now.with(word), before.with(word));
        }
        assert_eq!(Traces::in_pod(pod.namespace()), inside);
    }
}

#[test]
fn the_agents_sweep_leaves_the_lease_and_the_shaper_of_a_host_end_that_lost_its_name_or_record() {
    for (configured, change) in cases() {
        let Some(stage) = Stage::new() else { return };
        let (pod, gone, config) = (stage.pod(), stage.pod(), limited(configured(&stage)));
        let before = traces(&stage);
        change(&stage, &host_end(&add(&stage, &config, "web-0", &pod)));
        sweep_takes(&stage, &[]);
        let host = host_end(&add(&stage, &config, "web-1", &gone));
        crate::hand::change(stage.node(), &[delete_link(&host)]);
        sweep_takes(&stage, &["web-1/eth0"]);
        del(&stage, &config, "web-0", &pod).done();
        must_be_back(&before, &stage);
    }
}

/// Sweeps as the agent does: of these attachments the lease and the shaper go, and nothing else.
fn sweep_takes(stage: &Stage, gone: &[&str]) {
    let store = Store::new(stage.folder(), &"mynet".parse().unwrap());
    let sweep = || {
        let shapers = store.set_stray_shapers_aside().unwrap().len();
        (shapers, store.free_dead(|_| true).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let gone: Vec<String> = gone.iter().map(ToString::to_string).collect();
    assert_eq!(stage.node().run(sweep).unwrap(), (gone.len(), gone));
}

#[test]
fn an_add_without_a_free_address_takes_none_whose_host_end_lost_its_name_or_record() {
    for (configured, change) in cases() {
        let Some(stage) = Stage::new() else { return };
        // One address beside the gateway's.
        let config = with(configured(&stage), json!({"subnet": "10.244.1.0/30"}));
        let (pod, other) = (stage.pod(), stage.pod());
        let before = traces(&stage);
        let result = add(&stage, &config, "web-0", &pod);
        change(&stage, &host_end(&result));
        let answer = Call::new("ADD", config.clone()).of("web-1", &other).run(stage.node());
        assert_eq!(answer.refusal().0, NO_ADDRESS);
        del(&stage, &config, "web-0", &pod).done();
        assert_eq!(address(&add(&stage, &config, "web-1", &other)), address(&result));
        del(&stage, &config, "web-1", &other).done();
        must_be_back(&before, &stage);
    }
}
