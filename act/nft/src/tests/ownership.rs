//! Owned tables.

use std::collections::BTreeMap;

use selvedge_ruleset::{Chain, ChainName, Ownership, Table, Verdict, rule};

use super::samples::INET;
use super::{in_namespace, installed, make, run, skip, towards};
use crate::{NftError, NftSocket};

fn owned() -> BTreeMap<selvedge_ruleset::TableId, Table> {
    let chain = Chain::regular([rule![Verdict::Drop]]);
    BTreeMap::from([(INET, Table::owned().chain(ChainName::literal("c"), chain))])
}

/// An open socket, where the kernel has persistent owned tables.
fn socket() -> Option<NftSocket> {
    let mut socket = NftSocket::open().unwrap();
    if !socket.features().unwrap().owned_tables {
        skip("this kernel has no persistent owned tables (Linux 6.9)");
        return None;
    }
    Some(socket)
}

#[test]
fn asking_for_features_leaves_nothing_behind() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        socket.features().unwrap();
        if installed("nft") {
            assert_eq!(run("nft list ruleset", ""), "");
        }
    });
}

#[test]
fn nobody_else_can_change_an_owned_table_and_the_owner_is_named() {
    in_namespace(|| {
        let Some(mut owner) = socket() else { return };
        assert_eq!(make(&mut owner, &owned())[&INET].ownership, Ownership::Mine);
        let mut other = NftSocket::open().unwrap();
        let observed = other.list(&[INET]).unwrap();
        let Ownership::Other { portid } = observed[&INET].ownership else { panic!("{observed:?}") };
        let plain = BTreeMap::from([(INET, Table::new())]);
        for transaction in
            [towards(&owned(), &observed), towards(&plain, &observed), towards(&BTreeMap::new(), &observed)]
        {
            let error = other.apply(&transaction).unwrap_err();
            assert!(matches!(error, NftError::Owned { portid: told, .. } if told == portid), "{error}");
        }
        assert!(towards(&owned(), &owner.list(&[INET]).unwrap()).is_empty());
    });
}

#[test]
fn a_flush_of_all_rules_leaves_an_owned_table() {
    if !installed("nft") {
        return;
    }
    in_namespace(|| {
        let Some(mut owner) = socket() else { return };
        make(&mut owner, &owned());
        run("nft flush ruleset", "");
        assert!(towards(&owned(), &owner.list(&[INET]).unwrap()).is_empty());
    });
}

#[test]
fn an_owned_table_outlives_its_owner_and_is_adopted() {
    in_namespace(|| {
        let Some(mut owner) = socket() else { return };
        make(&mut owner, &owned());
        drop(owner);
        let mut successor = NftSocket::open().unwrap();
        let orphan = successor.list(&[INET]).unwrap();
        assert_eq!(orphan[&INET].ownership, Ownership::Orphan);
        assert_eq!(towards(&owned(), &orphan).commands().len(), 1);
        assert_eq!(make(&mut successor, &owned())[&INET].ownership, Ownership::Mine);
    });
}

#[test]
fn a_shared_table_comes_to_be_owned() {
    in_namespace(|| {
        let Some(mut owner) = socket() else { return };
        make(&mut owner, &BTreeMap::from([(INET, Table::new())]));
        assert_eq!(make(&mut owner, &owned())[&INET].ownership, Ownership::Mine);
    });
}
