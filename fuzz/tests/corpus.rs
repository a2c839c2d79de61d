//! Every input that a reader was ever given is given to it again.
#![cfg(test)]

use std::fs;
use std::path::Path;

fn all(target: &str, take: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{folder:?} is empty");
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        assert!(std::panic::catch_unwind(|| take(&bytes)).is_ok(), "{input:?}");
    }
}

#[test]
fn environments_and_configurations_are_understood_or_refused() {
    all("configuration", selvedge_fuzz::configuration);
}

#[test]
fn journals_say_the_same_when_written_anew() {
    all("journal", selvedge_fuzz::journal);
}

#[test]
fn operations_with_whole_checksums_say_the_same_when_written_anew() {
    all("operations", selvedge_fuzz::operations);
}

#[test]
fn datagrams_of_rtnetlink_are_read() {
    all("rtnetlink", selvedge_fuzz::rtnetlink);
}

#[test]
fn datagrams_of_nfnetlink_are_read() {
    all("nfnetlink", selvedge_fuzz::nfnetlink);
}

#[test]
fn packets_say_nothing_else_when_less_of_them_is_there() {
    all("headers", selvedge_fuzz::headers);
}

#[test]
fn manifests_say_the_same_twice() {
    all("manifests", selvedge_fuzz::manifests);
}

#[test]
fn what_a_kernel_sent_is_understood() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let say = |read: fn(&[u8]) -> Vec<Option<String>>, name: &str, word: &str| {
        let said = read(&fs::read(corpus.join(name)).unwrap());
        assert!(said.iter().flatten().any(|said| said.contains(word)), "{name}: {said:?}");
    };
    say(selvedge_netlink::recorded, "rtnetlink/links-1", "slvabc");
    say(selvedge_netlink::recorded, "rtnetlink/addresses-0", "169.254.1.1/32");
    say(selvedge_netlink::recorded, "rtnetlink/routes-0", "10.1.0.0/16");
    say(selvedge_nft::recorded, "nfnetlink/rules-0", "fib saddr . iif oif missing drop");
    say(selvedge_nft::recorded, "nfnetlink/set-ports", "10.0.0.2");
    say(selvedge_nft::recorded, "nfnetlink/tracked-0", "10.0.0.1");
    say(selvedge_nft::recorded, "nfnetlink/logged-0", "denied by shop/web: ");
    say(selvedge_nft::recorded, "nfnetlink/logged-0", "ports: Some((40001, 80))");
}
