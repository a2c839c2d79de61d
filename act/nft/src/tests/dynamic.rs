//! Sets whose elements come and go with packets.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::num::NonZeroU32;
use std::time::Duration;

use selvedge_ruleset::rule::{accept, update};
use selvedge_ruleset::set::SetKey;
use selvedge_ruleset::{
    Base, Chain, ChainName, Change, Data, Element, Elements, Family, Field, Hook, Listed, Seen, Set, SetName,
    Table, TableId, Transaction, matching, priority, rule,
};

use super::{in_namespace, installed, make, run, towards};
use crate::NftSocket;

const ID: TableId = TableId::literal(Family::Inet, "sample");
const SEEN: SetName = SetName::literal("seen");

/// What is sent from an address in the set stays there for an hour more.
fn tables() -> BTreeMap<TableId, Table> {
    let hour = Duration::from_secs(3600);
    let seen =
        rule![matching::in_set([Field::IpSaddr], &SEEN), update([Field::IpSaddr], &SEEN, hour), accept()];
    let chain = Chain::base(Base::filter(Hook::Output, priority::FILTER), [seen]);
    let set = Set::dynamic::<Ipv4Addr>(NonZeroU32::new(100).unwrap());
    BTreeMap::from([(ID, Table::new().set(SEEN, set).chain(ChainName::literal("output"), chain))])
}

fn of(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Elements {
    let element = Element { timeout: Some(Duration::from_secs(60)), ..Data::Nothing.into() };
    Elements {
        set: SEEN,
        set_type: tables()[&ID].sets[&SEEN].set_type().clone(),
        elements: addresses.into_iter().map(|address| (address.parts(), element.clone())).collect(),
    }
}

fn commit(socket: &mut NftSocket, changes: impl IntoIterator<Item = Change>) {
    let mut transaction = Transaction::default();
    changes.into_iter().for_each(|change| transaction.push(&ID, change));
    socket.apply(&transaction).unwrap();
}

/// The elements, each with how long it was to last at first or when it was last refreshed.
fn elements(listed: &Listed) -> Vec<(String, Option<Duration>)> {
    let Seen::Known(set) = &listed[&ID].sets[&SEEN] else { panic!("{listed:?}") };
    set.elements().iter().map(|(key, element)| (key[0].to_string(), element.timeout)).collect()
}

fn loopback(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

#[test]
fn elements_of_a_dynamic_set_are_the_kernels_own() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        make(&mut socket, &tables());
        commit(&mut socket, [Change::AddElements(of([loopback(1), loopback(2)]))]);
        let listed = socket.list(&[ID]).unwrap();
        let minute = Some(Duration::from_secs(60));
        assert_eq!(elements(&listed), [("127.0.0.1".to_owned(), minute), ("127.0.0.2".to_owned(), minute)]);
        // Nobody wants them, and nobody takes them away.
        assert_eq!(towards(&tables(), &listed).to_string(), "");
        // To be sure that one is gone, it is added first: it may have run out meanwhile.
        let gone = of([loopback(2), loopback(3)]);
        commit(&mut socket, [Change::AddElements(gone.clone()), Change::DeleteElements(gone)]);
        assert_eq!(elements(&socket.list(&[ID]).unwrap()), [("127.0.0.1".to_owned(), minute)]);
    });
}

#[test]
fn a_packet_refreshes_the_element_that_it_hits_and_adds_none() {
    if !installed("ip") {
        return;
    }
    in_namespace(|| {
        run("ip link set lo up", "");
        let mut socket = NftSocket::open().unwrap();
        make(&mut socket, &tables());
        commit(&mut socket, [Change::AddElements(of([loopback(1)]))]);
        for last in 1..=2 {
            let from = UdpSocket::bind((loopback(last), 0)).unwrap();
            from.send_to(b"x", (loopback(1), 9)).unwrap();
        }
        let listed = socket.list(&[ID]).unwrap();
        let Seen::Known(set) = &listed[&ID].sets[&SEEN] else { panic!("{listed:?}") };
        assert_eq!(set.elements().len(), 1);
        // What it would be added with stays as it was; how long it still has is now more than that.
        let nft = if installed("nft") { run(&format!("nft list set {ID} {SEEN}"), "") } else { return };
        assert!(nft.contains("expires 59m") || nft.contains("expires 1h"), "{nft}");
    });
}
