use super::*;
use crate::pool::{Range, RangeSpec};

fn range(subnet: &str) -> Range {
    Range::new(RangeSpec { subnet: subnet.parse().unwrap(), start: None, end: None, gateway: None }).unwrap()
}

fn pool(subnets: &[&str]) -> Pool {
    Pool::new(subnets.iter().map(|subnet| vec![range(subnet)]).collect()).unwrap()
}

fn key(n: usize) -> AttachmentKey {
    AttachmentKey { container: format!("c{n}").parse().unwrap(), ifname: "eth0".parse().unwrap() }
}

fn veth() -> IfName {
    "slvx".parse().unwrap()
}

fn attach(table: &mut LeaseTable, pool: &Pool, n: usize, now: u64) -> Result<String, ChooseError> {
    let chosen = table.choose(pool, Request { key: &key(n), addresses: &[] }, now)?;
    let addresses: Vec<IpNet> = chosen.iter().map(|leased| leased.net).collect();
    let text = addresses.iter().map(|net| net.addr().to_string()).collect::<Vec<_>>().join(" ");
    table.insert(key(n), Lease { addresses, veth: veth(), since_ms: now })?;
    Ok(text)
}

#[test]
fn the_first_address_is_the_gateways_and_the_last_nobodys() {
    let (mut table, pool) = (LeaseTable::default(), pool(&["10.1.0.0/29", "fd00::/64"]));
    assert_eq!(attach(&mut table, &pool, 1, 0).unwrap(), "10.1.0.2 fd00::2");
    for n in 2..=5 {
        attach(&mut table, &pool, n, 0).unwrap();
    }
    let full = attach(&mut table, &pool, 6, 0).unwrap_err();
    assert_eq!(full.to_string(), "pool 10.1.0.0/29 is full (5 of 5 leased)");
}

#[test]
fn a_freed_address_rests_while_others_are_free_and_the_longest_rested_goes_first() {
    let (mut table, pool) = (LeaseTable::default(), pool(&["10.1.0.0/29"]));
    for n in 1..=3 {
        attach(&mut table, &pool, n, 0).unwrap();
    }
    table.remove(&key(2), Some(1_000)).unwrap();
    table.remove(&key(1), Some(2_000)).unwrap();
    assert_eq!(attach(&mut table, &pool, 4, 3_000).unwrap(), "10.1.0.5");
    assert_eq!(attach(&mut table, &pool, 5, 3_000).unwrap(), "10.1.0.6");
    assert_eq!(attach(&mut table, &pool, 6, 3_000).unwrap(), "10.1.0.3");
    assert_eq!(attach(&mut table, &pool, 7, 3_000).unwrap(), "10.1.0.2");
}

#[test]
fn a_rested_address_is_as_good_as_new() {
    let (mut table, pool) = (LeaseTable::default(), pool(&["10.1.0.0/30"]));
    attach(&mut table, &pool, 1, 0).unwrap();
    table.remove(&key(1), Some(0)).unwrap();
    assert_eq!(attach(&mut table, &pool, 2, QUARANTINE_MS).unwrap(), "10.1.0.2");
}

#[test]
fn a_requested_address_is_given_even_while_it_rests() {
    let (mut table, pool) = (LeaseTable::default(), pool(&["10.1.0.0/24", "fd00::/64"]));
    attach(&mut table, &pool, 1, 0).unwrap();
    table.remove(&key(1), Some(0)).unwrap();
    let chosen =
        table.choose(&pool, Request { key: &key(1), addresses: &["10.1.0.2".parse().unwrap()] }, 1).unwrap();
    let texts: Vec<String> = chosen.iter().map(|leased| leased.net.to_string()).collect();
    assert_eq!(texts, ["10.1.0.2/24", "fd00::3/64"]);
}

#[test]
fn a_request_that_cannot_be_met_is_refused_by_name() {
    let (mut table, pool) = (LeaseTable::default(), pool(&["10.1.0.0/24"]));
    attach(&mut table, &pool, 1, 0).unwrap();
    let refused = |address: &[&str]| {
        let requested: Vec<IpAddr> = address.iter().map(|a| a.parse().unwrap()).collect();
        table.choose(&pool, Request { key: &key(2), addresses: &requested }, 0).unwrap_err().to_string()
    };
    assert_eq!(refused(&["10.1.0.2"]), "10.1.0.2 belongs to c1/eth0");
    assert!(refused(&["10.9.0.2"]).contains("10.9.0.2 is in no range"));
    assert!(refused(&["10.1.0.1"]).contains("or is a gateway"));
    assert!(refused(&["10.1.0.5", "10.1.0.6"]).contains("come from the same range set"));
}

#[test]
fn an_attachment_has_one_lease() {
    let (mut table, pool) = (LeaseTable::default(), pool(&["10.1.0.0/24"]));
    attach(&mut table, &pool, 1, 0).unwrap();
    let again = attach(&mut table, &pool, 1, 0).unwrap_err();
    assert_eq!(again.to_string(), "c1/eth0 already has the addresses 10.1.0.2/24");
}

#[test]
fn a_small_pool_serves_a_client_that_crashes_for_ever() {
    let (mut table, pool) = (LeaseTable::default(), pool(&["10.1.0.0/29"]));
    for n in 0..10_000u32 {
        attach(&mut table, &pool, 1, u64::from(n)).unwrap();
        table.remove(&key(1), Some(u64::from(n))).unwrap();
    }
    assert!(table.leases().is_empty());
    assert!(table.quarantine().len() <= 5);
}

#[test]
fn several_ranges_of_a_set_are_used_one_after_the_other() {
    let set = vec![range("10.1.0.0/30"), range("10.2.0.0/30")];
    let (mut table, pool) = (LeaseTable::default(), Pool::new(vec![set]).unwrap());
    assert_eq!(attach(&mut table, &pool, 1, 0).unwrap(), "10.1.0.2");
    assert_eq!(attach(&mut table, &pool, 2, 0).unwrap(), "10.2.0.2");
    assert!(attach(&mut table, &pool, 3, 0).is_err());
}

#[test]
fn each_range_of_a_set_goes_on_after_its_own_last_address() {
    let set = vec![range("10.1.0.0/30"), range("10.2.0.0/29")];
    let (mut table, pool) = (LeaseTable::default(), Pool::new(vec![set]).unwrap());
    for n in 1..=3 {
        attach(&mut table, &pool, n, 0).unwrap();
    }
    table.remove(&key(2), Some(0)).unwrap();
    // 10.2.0.2 has rested, yet it is not its turn.
    assert_eq!(attach(&mut table, &pool, 4, 2 * QUARANTINE_MS).unwrap(), "10.2.0.4");
}

#[test]
fn two_sets_share_a_subnet() {
    let part = |start: &str, end: &str| {
        let subnet = "10.1.0.0/24".parse().unwrap();
        Range::new(RangeSpec { subnet, start: start.parse().ok(), end: end.parse().ok(), gateway: None })
            .unwrap()
    };
    let sets = vec![vec![part("10.1.0.10", "10.1.0.12")], vec![part("10.1.0.30", "10.1.0.32")]];
    let (mut table, pool) = (LeaseTable::default(), Pool::new(sets).unwrap());
    for (n, expected) in
        ["10.1.0.10 10.1.0.30", "10.1.0.11 10.1.0.31", "10.1.0.12 10.1.0.32"].iter().enumerate()
    {
        assert_eq!(attach(&mut table, &pool, n, 0).unwrap(), *expected);
    }
    assert!(attach(&mut table, &pool, 4, 0).is_err());
}
