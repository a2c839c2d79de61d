use super::*;

fn spec(subnet: &str) -> RangeSpec {
    RangeSpec { subnet: subnet.parse().unwrap(), start: None, end: None, gateway: None }
}

#[test]
fn the_tutorials_subnet_has_253_addresses_for_pods() {
    let range = Range::new(spec("10.244.1.0/24")).unwrap();
    assert_eq!((range.size(), range.gateway()), (253, "10.244.1.1".parse().unwrap()));
    assert!(!range.leases("10.244.1.0".parse().unwrap()));
    assert!(!range.leases("10.244.1.255".parse().unwrap()));
    assert!(range.leases("10.244.1.254".parse().unwrap()));
}

#[test]
fn a_gateway_outside_the_range_takes_no_address_from_it() {
    let start = "10.244.1.100".parse().ok();
    let range =
        Range::new(RangeSpec { start, end: "10.244.1.109".parse().ok(), ..spec("10.244.1.0/24") }).unwrap();
    assert_eq!(range.size(), 10);
}

#[test]
fn a_subnet_without_room_is_refused() {
    for small in ["10.1.0.1/32", "10.1.0.0/31", "fd00::1/128"] {
        assert!(matches!(Range::new(spec(small)), Err(PoolError::TooSmall { .. })), "{small}");
    }
}

#[test]
fn a_range_outside_its_subnet_is_refused_by_key() {
    let outside =
        Range::new(RangeSpec { start: "10.2.0.1".parse().ok(), ..spec("10.1.0.0/24") }).unwrap_err();
    assert_eq!(outside.to_string(), "rangeStart 10.2.0.1 is not in subnet 10.1.0.0/24");
    let end = "10.1.0.10".parse().ok();
    let order =
        Range::new(RangeSpec { start: "10.1.0.20".parse().ok(), end, ..spec("10.1.0.0/24") }).unwrap_err();
    assert_eq!(order.to_string(), "rangeStart 10.1.0.20 comes after rangeEnd 10.1.0.10");
}

#[test]
fn overlapping_and_mixed_ranges_make_no_pool() {
    let range = |subnet| Range::new(spec(subnet)).unwrap();
    let overlap = Pool::new(vec![vec![range("10.1.0.0/24")], vec![range("10.1.0.128/25")]]);
    assert!(matches!(overlap, Err(PoolError::Overlap { .. })));
    let mixed = Pool::new(vec![vec![range("10.1.0.0/24"), range("fd00::/64")]]);
    assert!(matches!(mixed, Err(PoolError::Mixed { .. })));
    assert_eq!(Pool::new(vec![]), Err(PoolError::Empty));
}

#[test]
fn the_last_address_of_all_is_too_small_a_subnet() {
    let small = Range::new(spec("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"));
    assert!(matches!(small, Err(PoolError::TooSmall { .. })));
}

#[test]
fn a_range_of_nobodys_addresses_is_refused_and_not_moved() {
    for nobodys in ["10.1.0.0", "10.1.0.1", "10.1.0.255"] {
        let address = nobodys.parse().ok();
        let refused = Range::new(RangeSpec { start: address, end: address, ..spec("10.1.0.0/24") });
        assert!(matches!(refused, Err(PoolError::NoAddress { .. })), "{nobodys} became {refused:?}");
    }
}
