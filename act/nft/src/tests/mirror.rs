//! Tables that are not listed again.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;

use selvedge_ruleset::matching::in_set;
use selvedge_ruleset::rule::accept;
use selvedge_ruleset::{Chain, ChainName, Family, Field, Seen, Set, SetName, Table, TableId, rule};

use super::{in_namespace, make, towards};
use crate::{Mirror, NftSocket};

const ID: TableId = TableId::literal(Family::Inet, "sample");
const PEERS: SetName = SetName::literal("peers");
const DYNAMIC: SetName = SetName::literal("dynamic");
const CHAIN: ChainName = ChainName::literal("chain");

fn tables(addresses: impl IntoIterator<Item = u8>, rules: usize) -> BTreeMap<TableId, Table> {
    let addresses = addresses.into_iter().map(|last| Ipv4Addr::new(10, 0, 0, last));
    let rule = |number| rule![in_set([Field::IpSaddr], &PEERS), accept()].comment(format!("number {number}"));
    let chain = Chain::regular((0..rules).map(rule));
    let dynamic = Set::dynamic::<Ipv4Addr>(NonZeroU32::new(100).unwrap());
    let table = Table::new().set(PEERS, Set::of(addresses)).set(DYNAMIC, dynamic).chain(CHAIN, chain);
    BTreeMap::from([(ID, table)])
}

#[test]
fn what_is_reckoned_is_what_would_be_listed() {
    in_namespace(|| {
        let (mut socket, mut other) = (NftSocket::open().unwrap(), NftSocket::open().unwrap());
        let mut mirror = Mirror::new([ID]);
        assert!(mirror.list(&mut socket).unwrap().is_empty());
        let states = [(vec![1, 2], 3), (vec![2, 3], 3), (vec![2, 3], 1), (vec![], 4), (vec![9], 0)];
        for (addresses, rules) in states {
            let desired = tables(addresses, rules);
            let transaction = towards(&desired, &mirror.list(&mut socket).unwrap());
            mirror.apply(&mut socket, &transaction).unwrap();
            let reckoned = mirror.generation().is_some();
            assert!(reckoned, "an own transaction is followed");
            let listed = mirror.list(&mut socket).unwrap();
            assert_eq!(*listed, other.list(&[ID]).unwrap());
            mirror.share(&desired);
            let shared = mirror.list(&mut socket).unwrap();
            assert_eq!(shared, listed);
            let Seen::Known(set) = &shared[&ID].sets[&PEERS] else { panic!("{shared:?}") };
            assert!(set.shares(&desired[&ID].sets[&PEERS]));
            assert!(towards(&desired, &shared).is_empty());
        }
    });
}

#[test]
fn what_somebody_else_changes_is_seen() {
    in_namespace(|| {
        let (mut socket, mut other) = (NftSocket::open().unwrap(), NftSocket::open().unwrap());
        let mut mirror = Mirror::new([ID]);
        make(&mut socket, &tables([1], 1));
        let before = mirror.list(&mut socket).unwrap();
        assert!(Arc::ptr_eq(&before, &mirror.list(&mut socket).unwrap()), "nothing is listed again");
        make(&mut other, &tables([1, 2], 2));
        assert_eq!(mirror.unless_changed(&mut socket).unwrap(), None);
        let now = mirror.unless_changed(&mut socket).unwrap().unwrap();
        assert_eq!(*now, other.list(&[ID]).unwrap());
        assert_ne!(now, before);
        // Between a look and our own change.
        let transaction = towards(&tables([1, 2, 3], 2), &now);
        make(&mut other, &tables([2], 2));
        mirror.apply(&mut socket, &transaction).unwrap();
        assert_eq!(*mirror.list(&mut socket).unwrap(), other.list(&[ID]).unwrap());
        // A refusal changes nothing.
        let refused = towards(&BTreeMap::new(), &before);
        let gone = towards(&BTreeMap::new(), &other.list(&[ID]).unwrap());
        other.apply(&gone).unwrap();
        mirror.apply(&mut socket, &refused).unwrap_err();
        assert!(mirror.list(&mut socket).unwrap().is_empty());
    });
}
