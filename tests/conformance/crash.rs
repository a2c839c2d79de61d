//! Whatever kills a call, one DEL leaves nothing; what no DEL comes for, GC removes; and no address has two owners.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use selvedge_tests::{Call, FakeIpam, Stage};
use serde_json::json;

use crate::config::{
    MODES, add, address, after, check, del, delegating, must_be_back, traces, tutorial, with,
};
use crate::hand::look;
use crate::machine::Machine;
use crate::process::wait_for;
use crate::statements::del::SLOW_IPAM;

/// How many calls are killed, each a little later than the one before.
const KILLS: u32 = 30;

#[test]
fn add_7_a_signal_to_end_is_answered_with_an_error_and_nothing_is_left() {
    for signal in ["-TERM", "-INT"] {
        let Some(stage) = Stage::new() else { return };
        let ipam = FakeIpam::giving(&stage, SLOW_IPAM);
        let pod = stage.pod();
        let before = traces(&stage);
        let call = Call::new("ADD", delegating(&stage, FakeIpam::TYPE)).with("CNI_PATH", &ipam.path());
        let add = call.of("web-0", &pod).start(stage.node());
        wait_for(|| ipam.calls() == ["ADD"]);
        assert!(Command::new("kill").args([signal, &add.id().to_string()]).status().unwrap().success());
        fs::write(stage.folder().join("go"), "").unwrap();
        assert_eq!(add.answer().refusal().0, 11);
        assert_eq!(ipam.calls(), ["ADD", "DEL"]);
        must_be_back(&before, &stage);
    }
}

/// How long an undisturbed call takes here and now.
fn duration_of(call: &Call, stage: &Stage) -> Duration {
    let begun = Instant::now();
    assert_eq!(call.run(stage.node()).code, 0);
    begun.elapsed()
}

#[test]
fn after_an_add_that_was_killed_at_any_moment_one_del_leaves_nothing() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let before = traces(&stage);
        let pod = stage.pod();
        let call = |verb| Call::new(verb, config.clone()).of("web-0", &pod);
        let whole = duration_of(&call("ADD"), &stage);
        call("DEL").run(stage.node()).done();
        for kill in 0..KILLS {
            let add = call("ADD").start(stage.node());
            thread::sleep(whole * kill / KILLS);
            add.kill();
            call("DEL").run(stage.node()).done();
            must_be_back(&before, &stage);
            assert!(!look(pod.namespace()).links.contains_key(&"eth0".parse().unwrap()), "kill {kill}");
        }
    }
}

#[test]
fn after_adds_that_were_killed_nobody_gets_an_address_twice_and_gc_leaves_nothing() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let before = traces(&stage);
        let pods: Vec<_> = (0..KILLS).map(|number| (format!("web-{number}"), stage.pod())).collect();
        let call = |verb, number: usize| Call::new(verb, config.clone()).of(&pods[number].0, &pods[number].1);
        let whole = duration_of(&call("ADD", 0), &stage);
        for (number, kill) in (1..pods.len()).zip(1..) {
            let add = call("ADD", number).start(stage.node());
            thread::sleep(whole * kill / KILLS);
            add.kill();
        }
        let survivor = stage.pod();
        let survivors = address(&add(&stage, &config, "survivor", &survivor));
        for (container, pod) in &pods {
            let inside = selvedge_tests::Traces::in_pod(pod.namespace());
            let same = format!("address {survivors}/");
            assert!(inside.with(&same).is_empty(), "{container} has the survivor's address too: {inside:?}");
        }
        Call::new("GC", with(config, json!({"cni.dev/valid-attachments": []}))).run(stage.node()).done();
        must_be_back(&before, &stage);
    }
}

#[test]
fn after_a_del_that_was_killed_at_any_moment_another_del_leaves_nothing() {
    for configured in MODES {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let before = traces(&stage);
        let pod = stage.pod();
        let call = |verb| Call::new(verb, config.clone()).of("web-0", &pod);
        call("ADD").run(stage.node()).result();
        let whole = duration_of(&call("DEL"), &stage);
        for kill in 0..KILLS {
            call("ADD").run(stage.node()).result();
            let del = call("DEL").start(stage.node());
            thread::sleep(whole * kill / KILLS);
            del.kill();
            call("DEL").run(stage.node()).done();
            must_be_back(&before, &stage);
        }
    }
}

#[test]
fn a_reboot_voids_every_lease_and_the_addresses_are_there_again() {
    let Some(stage) = Stage::new() else { return };
    let Some(machine) = Machine::new(&stage) else { return };
    // Five addresses, all given.
    let text = with(tutorial(&stage), json!({"subnet": "10.244.1.0/29"})).to_string();
    let adds = |containers: std::ops::Range<u8>| -> BTreeSet<String> {
        let add = |number| {
            let pod = stage.pod();
            let call = machine.call("ADD").saying(text.as_bytes()).of(&format!("web-{number}"), &pod);
            address(call.run(stage.node()).result())
        };
        containers.map(add).collect()
    };
    assert_eq!(adds(0..5).len(), 5);
    // A machine that boots has no links of pods any more.
    wait_for(|| traces(&stage).with("link slv").is_empty());
    machine.boot(2);
    assert_eq!(adds(0..5).len(), 5, "the same containers' names are free again too");
}

#[test]
fn a_journal_that_is_deleted_or_damaged_while_pods_live_gives_no_address_twice() {
    type Ruin = fn(&std::path::Path);
    let ruins: [Ruin; 4] = [
        |ipam| fs::remove_dir_all(ipam).unwrap(),
        |ipam| fs::remove_file(ipam.join("mynet/journal")).unwrap(),
        |ipam| fs::write(ipam.join("mynet/journal"), "").unwrap(),
        |ipam| {
            let path = ipam.join("mynet/journal");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("10.244.1.3", "10.244.1.9")).unwrap();
        },
    ];
    for (configured, ruin) in MODES.iter().flat_map(|mode| ruins.map(|ruin| (mode, ruin))) {
        let Some(stage) = Stage::new() else { return };
        let config = configured(&stage);
        let pods: Vec<_> = (0..6).map(|number| (format!("web-{number}"), stage.pod())).collect();
        let attach = |(container, pod): &(String, _)| add(&stage, &config, container, pod);
        let mut results: Vec<_> = pods[..3].iter().map(attach).collect();
        ruin(&stage.folder().join("ipam"));
        results.extend(pods[3..].iter().map(attach));
        let addresses: BTreeSet<String> = results.iter().map(address).collect();
        assert_eq!(addresses.len(), 6, "{addresses:?}");
        for ((container, pod), result) in pods.iter().zip(&results) {
            check(&stage, &after(&config, result), container, pod).done();
            del(&stage, &config, container, pod).done();
        }
        assert!(traces(&stage).with("lease").is_empty());
    }
}
