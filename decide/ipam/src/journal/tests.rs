use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::occupancy::Occupancy;
use crate::pool::{Pool, Range, RangeSpec};
use crate::table::{QUARANTINE_MS, Request};

fn header() -> Header {
    let boot_id = "6d1fe0d4-9d5b-4b4e-a3c8-0e2f6f9d7a11".to_owned();
    Header { network: "mynet".parse().unwrap(), boot_id, netns: 4_026_531_840, epoch: 1 }
}

fn pool() -> Pool {
    let range = |subnet: &str| {
        Range::new(RangeSpec { subnet: subnet.parse().unwrap(), start: None, end: None, gateway: None })
            .unwrap()
    };
    Pool::new(vec![vec![range("10.1.0.0/28")], vec![range("fd00::/64")]]).unwrap()
}

fn key(n: usize) -> AttachmentKey {
    AttachmentKey { container: format!("c{n}").parse().unwrap(), ifname: "eth0".parse().unwrap() }
}

/// A journal of leases made and freed, with the table after each line.
fn history(actions: &[(usize, bool)]) -> (String, Vec<LeaseTable>) {
    let (mut writer, mut text) = Writer::start(&header());
    let mut table = LeaseTable::default();
    let mut tables = vec![table.clone()];
    for (now, (n, attach)) in actions.iter().enumerate() {
        let now = u64::try_from(now).unwrap() * QUARANTINE_MS / 3;
        let operation = if *attach {
            let Ok(chosen) = table.choose(&pool(), Request { key: &key(*n), addresses: &[] }, now) else {
                continue;
            };
            let addresses = chosen.iter().map(|leased| leased.net).collect();
            Operation::Allocate(key(*n), Lease { addresses, veth: "slvx".parse().unwrap(), since_ms: now })
        } else {
            if table.lease(&key(*n)).is_none() {
                continue;
            }
            Operation::Free(key(*n), now)
        };
        table.apply(operation.clone()).unwrap();
        text.push_str(&writer.line(&operation));
        tables.push(table.clone());
    }
    (text, tables)
}

fn one_owner_each(table: &LeaseTable) {
    let mut owners = BTreeMap::new();
    for (key, lease) in table.leases() {
        for net in &lease.addresses {
            assert_eq!(owners.insert(net.addr(), key), None, "{net} has two owners");
        }
    }
}

/// Both ways of reading say the same, but for what a conflict is called.
fn read_alike(bytes: &[u8]) {
    let (known, taken) = (Replay::<LeaseTable>::of(bytes), Replay::<Occupancy>::of(bytes));
    let (Ok(known), Ok(taken)) = (known, taken) else { return assert!(replay(bytes).is_err()) };
    assert_eq!(
        (known.valid_len, known.records, &known.writer),
        (taken.valid_len, taken.records, &taken.writer)
    );
    let corrupt = |tail: &Tail| matches!(tail, Tail::Corrupt { .. });
    assert_eq!(
        (known.tail == Tail::Clean, corrupt(&known.tail)),
        (taken.tail == Tail::Clean, corrupt(&taken.tail))
    );
    assert_eq!(known.table.quarantine(), taken.table.resting().collect());
    assert_eq!(known.table.cursors(), taken.table.cursors());
    assert_eq!(known.table.leases().len(), taken.table.len());
    for (key, lease) in known.table.leases() {
        let line = usize::try_from(taken.table.line(key).unwrap()).unwrap();
        assert_eq!(lease_in(&bytes[line..]), Some((key.clone(), lease.clone())));
    }
    let nobody = key(99);
    let chosen = known.table.choose(&pool(), Request { key: &nobody, addresses: &[] }, QUARANTINE_MS);
    assert_eq!(chosen.ok(), taken.table.choose(&pool(), &[], QUARANTINE_MS).ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_prefix_of_a_journal_is_a_state_that_was(actions in prop::collection::vec((0..20usize, any::<bool>()), 1..60)) {
        let (text, tables) = history(&actions);
        for cut in 0..=text.len() {
            let Ok(replay) = replay(&text.as_bytes()[..cut]) else { continue };
            prop_assert_eq!(&replay.table, &tables[replay.records]);
            prop_assert_eq!(&text[..replay.valid_len].matches('\n').count(), &(replay.records + 1));
            let corrupt = matches!(replay.tail, Tail::Corrupt { .. });
            prop_assert!(!corrupt);
            one_owner_each(&replay.table);
            read_alike(&text.as_bytes()[..cut]);
        }
    }

    #[test]
    fn what_is_written_reads_back(actions in prop::collection::vec((0..20usize, any::<bool>()), 1..60)) {
        let (_, tables) = history(&actions);
        let table = tables.last().unwrap();
        let (writer, text) = write(&header(), table);
        let again = replay(text.as_bytes()).unwrap();
        prop_assert_eq!(&again.table, table);
        prop_assert_eq!(again.writer, writer);
        prop_assert_eq!(again.header, header());
    }

    #[test]
    fn piece_by_piece_a_journal_reads_as_at_once(
        actions in prop::collection::vec((0..20usize, any::<bool>()), 1..60), piece in 40..600usize,
    ) {
        let (text, tables) = history(&actions);
        let bytes = text.as_bytes();
        let mut replay = Replay::<LeaseTable>::begin(&bytes[..bytes.len().min(100)], bytes.len()).unwrap();
        for end in (0..bytes.len()).step_by(piece).chain([bytes.len()]) {
            replay.go_on(&bytes[replay.valid_len.min(end)..end]);
            prop_assert_eq!(&replay.table, &tables[replay.records]);
            prop_assert!(replay.ends_as(&bytes[replay.valid_len - Replay::<LeaseTable>::MARK..replay.valid_len]));
        }
        prop_assert_eq!(replay, Replay::of(bytes).unwrap());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut text, _) = history(&[(1, true), (2, true)]);
        text.push_str(&String::from_utf8_lossy(&bytes));
        drop(replay(&bytes));
        drop(replay(text.as_bytes()));
    }
}

#[test]
fn no_flipped_bit_gives_an_address_two_owners_or_a_state_that_never_was() {
    let actions: Vec<(usize, bool)> = (0..200).map(|i| (i * 7 % 23, i % 3 != 2)).collect();
    let (text, tables) = history(&actions);
    assert!(tables.len() > 60);
    for bit in 0..text.len() * 8 {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(replay) = replay(&bytes) else { continue };
        assert_ne!(replay.tail, Tail::Clean, "bit {bit} went unnoticed");
        assert_eq!(replay.table, tables[replay.records]);
        one_owner_each(&replay.table);
        if bit % 8 == bit / 8 % 8 {
            read_alike(&bytes);
        }
    }
}

#[test]
fn a_line_taken_out_is_corruption_and_a_half_line_at_the_end_is_torn() {
    let (text, _) = history(&[(1, true), (2, true), (3, true)]);
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines.remove(1);
    assert!(matches!(replay(lines.concat().as_bytes()).unwrap().tail, Tail::Corrupt { line: 2, .. }));
    let torn = replay(&text.as_bytes()[..text.len() - 5]).unwrap();
    assert_eq!((torn.tail, torn.records), (Tail::Torn, 2));
}

#[test]
fn format_1_reads_as_it_always_has() {
    let replay = replay(include_bytes!("format-1.journal")).unwrap();
    assert_eq!(replay.tail, Tail::Clean);
    let lease = replay.table.lease(&key(1)).unwrap();
    assert_eq!(lease.addresses, ["10.1.0.2/28".parse().unwrap(), "fd00::2/64".parse().unwrap()]);
    assert_eq!(replay.table.quarantine().len(), 2);
}

#[test]
fn format_1_is_written_as_it_always_was() {
    let (text, _) = history(&[(1, true), (2, true), (2, false)]);
    assert_eq!(text, include_str!("format-1.journal"));
}

#[test]
fn a_lease_without_addresses_reads_back() {
    let (mut writer, mut text) = Writer::start(&header());
    let lease = Lease { addresses: Vec::new(), veth: "slvx".parse().unwrap(), since_ms: 0 };
    text.push_str(&writer.line(&Operation::Allocate(key(1), lease.clone())));
    assert_eq!(replay(text.as_bytes()).unwrap().table.lease(&key(1)), Some(&lease));
    read_alike(text.as_bytes());
}

#[test]
fn a_lease_of_many_addresses_is_freed_as_a_whole() {
    let (mut writer, mut text) = Writer::start(&header());
    let addresses = (2..9).map(|n| format!("10.1.0.{n}/28").parse().unwrap()).collect();
    let lease = Lease { addresses, veth: "slvx".parse().unwrap(), since_ms: 0 };
    for operation in [Operation::Allocate(key(1), lease), Operation::Free(key(1), 7)] {
        text.push_str(&writer.line(&operation));
        read_alike(text.as_bytes());
    }
    assert_eq!(Replay::<Occupancy>::of(text.as_bytes()).unwrap().table.resting().count(), 7);
}
