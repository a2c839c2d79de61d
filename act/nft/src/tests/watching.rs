//! Who changed what.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_ruleset::Table;

use super::samples::{self, BRIDGE, INET};
use super::{in_namespace, installed, make, run};
use crate::{Event, Monitor, NftSocket};

#[test]
fn a_transaction_is_told_once_with_its_tables_and_its_author() {
    in_namespace(|| {
        let mut monitor = Monitor::open().unwrap();
        assert_eq!(monitor.next_event().unwrap(), None);
        let mut socket = NftSocket::open().unwrap();
        make(&mut socket, &BTreeMap::from([(INET, Table::new()), (BRIDGE, Table::new())]));
        let Some(Event::Changed { tables, by, .. }) = monitor.next_event().unwrap() else {
            panic!("no event")
        };
        assert_eq!(tables, BTreeSet::from([INET, BRIDGE]));
        assert!(by.pid > 0 && !by.name.is_empty());
        assert_eq!(monitor.next_event().unwrap(), None);
    });
}

#[test]
fn nft_is_named_as_the_one_who_flushed() {
    if !installed("nft") {
        return;
    }
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        make(&mut socket, &BTreeMap::from([(INET, Table::new())]));
        let mut monitor = Monitor::open().unwrap();
        run("nft flush ruleset", "");
        let event = monitor.next_event().unwrap().unwrap();
        assert!(event.to_string().starts_with("nft (pid "), "{event}");
        assert!(event.to_string().ends_with(" changed table inet sample"), "{event}");
    });
}

#[test]
fn an_overflow_is_told_as_a_loss_and_what_comes_after_is_heard() {
    in_namespace(|| {
        let mut monitor = Monitor::open().unwrap();
        monitor.limit_buffer();
        let mut socket = NftSocket::open().unwrap();
        for _ in 0..5 {
            make(&mut socket, &samples::all());
            make(&mut socket, &BTreeMap::from([(INET, Table::new()), (BRIDGE, Table::new())]));
        }
        let mut events = Vec::new();
        while let Some(event) = monitor.next_event().unwrap() {
            events.push(event);
        }
        assert!(events.contains(&Event::Lost));
        make(&mut socket, &BTreeMap::from([(samples::IP, Table::new())]));
        assert!(matches!(monitor.next_event().unwrap(), Some(Event::Changed { .. })));
    });
}
