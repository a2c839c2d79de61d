//! Two hundred at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use selvedge_leases::{Oracle, OracleError};
use selvedge_model::{IfName, Owner, host_veth_name};
use serde_json::json;

use crate::herd::{Herd, addresses, key, say};
use crate::mounts::with_tmpfs;

const AT_ONCE: usize = 200;

#[test]
fn two_hundred_adds_at_once_on_an_empty_store_give_everyone_an_address_of_its_own() {
    let test = "concurrent::two_hundred_adds_at_once_on_an_empty_store_give_everyone_an_address_of_its_own";
    with_tmpfs(test, "16m", |folder| two_hundred(&folder.join("run"), "bridge", 0));
}

#[test]
fn two_hundred_adds_at_once_on_a_store_of_four_thousand_give_everyone_an_address_of_its_own() {
    let test = "concurrent::two_hundred_adds_at_once_on_a_store_of_four_thousand_give_everyone_an_address_of_its_own";
    with_tmpfs(test, "16m", |folder| two_hundred(&folder.join("run"), "routed", 4_000));
}

/// How long a GC may take on a busy machine; leases that are freed one by one take a multiple of it.
const COLLECTED_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_gc_of_four_thousand_dead_leases_is_a_matter_of_seconds() {
    let test = "concurrent::a_gc_of_four_thousand_dead_leases_is_a_matter_of_seconds";
    with_tmpfs(test, "16m", |folder| {
        let Some(herd) = Herd::new(&folder.join("run"), 1, json!({"attach": "routed"})) else { return };
        herd.add(0);
        let stays = herd.store().read().unwrap();
        fill(&herd, 4_000);
        let began = Instant::now();
        herd.run(&herd.gc([0])).done();
        let took = began.elapsed();
        assert_eq!(herd.store().read().unwrap().leases(), stays.leases());
        assert!(took < COLLECTED_WITHIN, "it took {took:.1?}");
        herd.run(&herd.call("DEL", 0)).done();
        herd.must_be_back();
        say(&format!("a GC of 4000 dead leases: {took:.1?}, 0 leaks"));
    });
}

fn two_hundred(run_dir: &Path, attach: &str, leases: usize) {
    let Some(herd) = Herd::new(run_dir, AT_ONCE, json!({"attach": attach})) else { return };
    fill(&herd, leases);
    let (began, taken) = (Instant::now(), herd.store().read().unwrap());
    let added = herd.at_once("ADD", 0..AT_ONCE);
    let took = began.elapsed();
    let given: BTreeSet<String> = added.iter().flat_map(|answer| addresses(answer.result())).collect();
    assert_eq!(given.len(), AT_ONCE, "an address was given twice");
    for address in &given {
        assert_eq!(taken.owner(address.parse().unwrap()), None, "{address} had an owner");
    }
    assert_eq!(herd.store().read().unwrap().leases().len(), AT_ONCE + leases);
    let deleted = herd.at_once("DEL", 0..AT_ONCE);
    deleted.iter().for_each(|answer| answer.done());
    assert_eq!(herd.store().read().unwrap().leases(), taken.leases());
    // The network's rules go with the last lease; the others' are not what this is about.
    std::fs::remove_dir_all(run_dir.join("ipam")).unwrap();
    herd.add(0);
    herd.run(&herd.call("DEL", 0)).done();
    herd.must_be_back();
    say(&format!(
        "{AT_ONCE} ADDs at once with {leases} leases, {attach}: {took:.1?}, {AT_ONCE} addresses, 0 double owners, 0 leaks"
    ));
}

/// Leases of containers that are not there, whose host ends nobody has either.
fn fill(herd: &Herd, leases: usize) {
    struct NoLinks;
    impl Oracle for NoLinks {
        fn owners(&mut self) -> Result<Vec<(IfName, Owner)>, OracleError> {
            Ok(Vec::new())
        }
    }
    let store = herd.store();
    // The journal says whose namespace it is of.
    let fill = || {
        let mut locked = store.lock(&mut NoLinks).unwrap();
        for n in 0..leases {
            let key = key(1_000_000 + n);
            let address = format!("10.244.{}.{}/16", 100 + n / 200, n % 200 + 1).parse().unwrap();
            locked.record(&key, vec![address], &host_veth_name(store.network(), &key, 0)).unwrap();
        }
    };
    herd.stage.node().run(fill).unwrap();
}
