//! Machines that boot, and clocks that jump.

use std::collections::BTreeSet;
use std::fs;

use selvedge_tests::{Answer, program};
use serde_json::json;

use crate::herd::{Herd, addresses, say};
use crate::mounts::{has_clocks, later, mount, with_tmpfs};

/// The pods that there is room for.
const PODS: usize = 13;

#[test]
fn a_boot_voids_every_lease_of_the_pods_that_it_took_away() {
    let test = "reboot::a_boot_voids_every_lease_of_the_pods_that_it_took_away";
    with_tmpfs(test, "4m", |folder| {
        let boot_id = folder.join("boot_id");
        fs::write(&boot_id, "00000000-0000-4000-8000-000000000001\n").unwrap();
        mount(&["--bind", boot_id.to_str().unwrap(), "/proc/sys/kernel/random/boot_id"]);
        let run_dir = folder.join("run");
        for boot in 2..6 {
            // The namespaces of the boot before are gone, its files are still there.
            let Some(herd) = Herd::new(&run_dir, PODS, json!({"subnet": "10.244.1.0/28"})) else { return };
            let added = herd.at_once("ADD", 0..PODS);
            let given: BTreeSet<String> =
                added.iter().flat_map(|answer| addresses(answer.result())).collect();
            assert_eq!(given.len(), PODS, "boot {boot}: the leases of the last one count");
            fs::write(&boot_id, format!("00000000-0000-4000-8000-00000000000{boot}\n")).unwrap();
        }
        // A boot at which pods live after all, as the kernel shows: they keep what they have.
        fs::remove_dir_all(run_dir.join("ipam")).unwrap();
        let Some(herd) = Herd::new(&run_dir, PODS, json!({"subnet": "10.244.1.0/28"})) else { return };
        let mut given: BTreeSet<String> = (0..6).flat_map(|pod| addresses(&herd.add(pod))).collect();
        fs::write(&boot_id, "00000000-0000-4000-8000-000000000009\n").unwrap();
        given.extend((6..PODS).flat_map(|pod| addresses(&herd.add(pod))));
        assert_eq!(given.len(), PODS, "an address was given twice");
        herd.at_once("DEL", 0..PODS).iter().for_each(Answer::done);
        herd.must_be_back();
        say("5 boots: 0 double owners, 0 leaks");
    });
}

#[test]
fn clocks_that_jump_shorten_no_rest_and_give_no_address_twice() {
    let test = "reboot::clocks_that_jump_shorten_no_rest_and_give_no_address_twice";
    with_tmpfs(test, "4m", |folder| {
        if !has_clocks() {
            return selvedge_tests::skipped("time namespaces need root and a kernel that has them");
        }
        let config = json!({"subnet": "10.244.1.0/28"});
        let Some(herd) = Herd::new(&folder.join("run"), PODS + 1, config) else { return };
        let plugin = program("selvedge");
        let ahead = later(folder, "ahead", 100_000, &plugin);
        let behind = later(folder, "behind", -50, &plugin);
        let by = |clock: &std::path::Path, verb, pod| herd.run(&herd.call(verb, pod).by(clock));
        // Freed in the future: the address rests, now and at any time before that moment.
        let rested = addresses(by(&ahead, "ADD", 0).result());
        by(&ahead, "DEL", 0).done();
        let mut given = BTreeSet::new();
        for pod in 0..PODS - 1 {
            let clock = [&plugin, &behind][pod % 2];
            given.extend(addresses(by(clock, "ADD", pod).result()));
        }
        assert_eq!(given.len(), PODS - 1);
        assert!(given.is_disjoint(&rested), "{rested:?} did not rest");
        // It is the last one that is free, and so it is given nevertheless.
        assert_eq!(addresses(by(&behind, "ADD", PODS - 1).result()), rested);
        assert_eq!(by(&ahead, "ADD", PODS).refusal().0, 101);
        for pod in 0..PODS {
            by([&plugin, &ahead, &behind][pod % 3], "DEL", pod).done();
        }
        herd.must_be_back();
        say("clocks that jump: 0 double owners, 0 leaks");
    });
}
