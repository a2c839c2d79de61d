//! That small things stay cheap: by the number of commands and messages, since time itself is for the benchmark.

use std::collections::BTreeMap;
use std::time::Instant;

use selvedge_ruleset::{Set, SetName, Table};

use super::samples::INET;
use super::{in_namespace, make};
use crate::NftSocket;

#[test]
fn opening_and_a_small_change_are_far_below_a_millisecond() {
    in_namespace(|| {
        let address = |last: u32| std::net::Ipv4Addr::from_bits(last);
        let tables = |last| {
            BTreeMap::from([(INET, Table::new().set(SetName::literal("s"), Set::of((0..last).map(address))))])
        };
        make(&mut NftSocket::open().unwrap(), &tables(10));
        let mut best = std::time::Duration::MAX;
        for last in 11..40 {
            let transaction =
                super::towards(&tables(last), &NftSocket::open().unwrap().list(&[INET]).unwrap());
            let start = Instant::now();
            NftSocket::open().unwrap().apply(&transaction).unwrap();
            best = best.min(start.elapsed());
        }
        println!("open and apply: {best:?}");
        assert!(best.as_millis() < 1, "{best:?}");
    });
}
