//! Whatever happens to the store's files, while fifty pods live.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use selvedge_tests::{Answer, Call};
use serde_json::{Value, json};

use crate::herd::{Herd, addresses, key, say};
use crate::mounts::{mount, with_tmpfs};

const LIVING: usize = 50;

/// More than a disk of 64 KiB has room for when others have taken 48 of it.
const FULL: usize = 80;

/// Attached while the store is gone, or once it is back.
const MORE: usize = 10;

#[test]
fn a_store_that_is_deleted_under_fifty_pods_gives_no_address_twice() {
    let test = "store::a_store_that_is_deleted_under_fifty_pods_gives_no_address_twice";
    with_tmpfs(test, "4m", |folder| {
        let Some(fifty) = Fifty::attach(&folder.join("run")) else { return };
        fs::remove_dir_all(folder.join("run/ipam")).unwrap();
        fifty.go_on("deleted");
    });
}

#[test]
fn a_store_that_is_read_only_for_a_while_says_so_and_gives_no_address_twice() {
    let test = "store::a_store_that_is_read_only_for_a_while_says_so_and_gives_no_address_twice";
    with_tmpfs(test, "4m", |folder| {
        let run_dir = folder.join("run");
        let Some(fifty) = Fifty::attach(&run_dir) else { return };
        let path = run_dir.to_str().unwrap();
        mount(&["-o", "remount,ro", path]);
        fifty.refuses("Read-only file system");
        fifty.checks();
        mount(&["-o", "remount,rw", path]);
        fifty.go_on("read-only");
    });
}

#[test]
fn a_pod_leaves_the_network_though_the_store_is_read_only_and_one_more_del_frees_its_address() {
    let test =
        "store::a_pod_leaves_the_network_though_the_store_is_read_only_and_one_more_del_frees_its_address";
    with_tmpfs(test, "4m", |folder| {
        let run_dir = folder.join("run");
        let Some(herd) = Herd::new(&run_dir, 2, json!({"subnet": "10.244.1.0/26"})) else { return };
        (0..2).for_each(|pod| drop(herd.add(pod)));
        let path = run_dir.to_str().unwrap();
        mount(&["-o", "remount,ro", path]);
        let answer = herd.run(&herd.call("DEL", 0));
        let (code, message) = answer.refusal();
        assert!(code == 5 && message.contains("Read-only file system"), "{code} {message}");
        assert_eq!((herd.seen(0), herd.seen(1).is_empty()), ([].into(), false));
        assert_eq!(herd.store().read().unwrap().leases().len(), 2);
        mount(&["-o", "remount,rw", path]);
        herd.at_once("DEL", 0..2).iter().for_each(Answer::done);
        herd.must_be_back();
    });
}

#[test]
fn a_store_that_a_file_or_a_directory_took_the_place_of_says_so_and_gives_no_address_twice() {
    let test =
        "store::a_store_that_a_file_or_a_directory_took_the_place_of_says_so_and_gives_no_address_twice";
    with_tmpfs(test, "4m", |folder| {
        let run_dir = folder.join("run");
        let Some(fifty) = Fifty::attach(&run_dir) else { return };
        for (replaced, is_directory) in
            [("ipam/mynet/journal", true), ("ipam/mynet/lock", true), ("ipam/mynet", false)]
        {
            let (path, aside) = (run_dir.join(replaced), run_dir.join("aside"));
            fs::rename(&path, &aside).unwrap();
            if is_directory {
                fs::create_dir(&path).unwrap()
            } else {
                fs::write(&path, "").unwrap()
            }
            fifty.refuses(path.to_str().unwrap());
            if is_directory {
                fs::remove_dir(&path).unwrap()
            } else {
                fs::remove_file(&path).unwrap()
            }
            fs::rename(&aside, &path).unwrap();
        }
        fifty.go_on("replaced");
    });
}

#[test]
fn a_disk_that_is_full_refuses_pods_keeps_none_from_leaving_and_serves_again_once_there_is_room() {
    let test =
        "store::a_disk_that_is_full_refuses_pods_keeps_none_from_leaving_and_serves_again_once_there_is_room";
    with_tmpfs(test, "64k", |folder| {
        let run_dir = folder.join("run");
        let Some(herd) = Herd::new(&run_dir, FULL, json!({"subnet": "10.244.1.0/24"})) else { return };
        // A journal asks for more room than it needs, as long as there is some.
        fs::write(run_dir.join("others"), [0; 48 << 10]).unwrap();
        let mut given: Vec<BTreeSet<String>> = (0..LIVING / 2).map(|pod| addresses(&herd.add(pod))).collect();
        fill(&run_dir);
        let status = || herd.run(&Call::new("STATUS", herd.config.clone()));
        status().done();
        let refusal = (LIVING / 2..FULL).find_map(|pod| {
            let answer = herd.run(&herd.call("ADD", pod));
            let attached = answer.code == 0;
            given.extend(attached.then(|| addresses(answer.result())));
            (!attached).then_some(answer)
        });
        let (living, refusal) = (given.len(), refusal.expect("there was room for everybody"));
        let (code, message) = refusal.refusal();
        assert!(code == 5 && message.contains("No space left on device"), "{code} {message}");
        assert_eq!(status().refusal().0, 50);
        assert_eq!(
            given.iter().flatten().collect::<BTreeSet<_>>().len(),
            living,
            "an address was given twice"
        );
        assert_eq!((herd.store().read().unwrap().leases().len(), herd.seen(living)), (living, [].into()));
        for pod in 0..living / 2 {
            herd.run(&herd.call("DEL", pod)).done();
        }
        fill(&run_dir);
        herd.run(&herd.gc([])).done();
        assert!(herd.store().read().unwrap().leases().is_empty());
        fs::remove_file(run_dir.join("others")).unwrap();
        let again: BTreeSet<String> = (0..FULL).flat_map(|pod| addresses(&herd.add(pod))).collect();
        assert_eq!(again.len(), FULL);
        herd.at_once("DEL", 0..FULL).iter().for_each(Answer::done);
        herd.must_be_back();
        say(&format!("full disk, {living} pods: 0 kept from leaving, 0 double owners, 0 leaks"));
    });
}

/// Takes every byte that is left on a run directory's disk.
fn fill(run_dir: &Path) {
    let mut others = fs::File::options().create(true).append(true).open(run_dir.join("others")).unwrap();
    while others.write_all(&[0; 256]).is_ok() {}
}

/// Pods that live, with what ADD answered, and some that are attached later.
struct Fifty {
    herd: Herd,
    results: Vec<Value>,
}

impl Fifty {
    fn attach(run_dir: &Path) -> Option<Self> {
        let herd = Herd::new(run_dir, LIVING + MORE, json!({"subnet": "10.244.1.0/26"}))?;
        let results = (0..LIVING).map(|pod| herd.add(pod)).collect();
        Some(Self { herd, results })
    }

    /// ADD fails with an error of the system's that names what is wrong, and leaves nothing.
    fn refuses(&self, why: &str) {
        let answer = self.herd.run(&self.herd.call("ADD", LIVING));
        let (code, message) = answer.refusal();
        assert!(code == 5 && message.contains(why), "{code} {message}");
        assert_eq!(self.herd.seen(LIVING), [].into());
    }

    fn checks(&self) {
        for (pod, result) in self.results.iter().enumerate() {
            self.herd.run(&self.herd.call_after("CHECK", pod, result)).done();
        }
    }

    /// More are attached at once; nobody has anybody's address; all are detached, and nothing is left.
    fn go_on(&self, what: &str) {
        let all = LIVING + MORE;
        let more = self.herd.at_once("ADD", LIVING..all);
        let results = self.results.iter().chain(more.iter().map(Answer::result));
        let given: BTreeSet<String> = results.flat_map(addresses).collect();
        assert_eq!(given.len(), all, "an address was given twice");
        let leases = self.herd.store().read().unwrap();
        assert!((0..all).all(|pod| leases.lease(&key(pod)).is_some()), "a pod has lost its lease");
        self.checks();
        self.herd.run(&Call::new("STATUS", self.herd.config.clone())).done();
        self.herd.at_once("DEL", 0..all).iter().for_each(Answer::done);
        self.herd.must_be_back();
        say(&format!("store {what} under {LIVING} pods: 0 double owners, 0 leaks"));
    }
}
