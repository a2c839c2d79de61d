//! What the nodes' kernels hold.

use std::collections::BTreeMap;

use selvedge_nft::NftSocket;
use selvedge_ruleset::{Family, Scope, Table, TableId, Transaction, diff};

use crate::ground::Ground;

const ID: TableId = TableId::literal(Family::Inet, "selvedge");

/// The table of each node.
pub(crate) struct Tables(Vec<NftSocket>);

impl Tables {
    pub(crate) fn new(ground: &Ground) -> Self {
        let open = |node: &crate::ground::NodePlace| node.place.namespace.run(NftSocket::open);
        Self(ground.nodes.iter().map(|node| open(node).unwrap().unwrap()).collect())
    }

    /// Has a node's kernel go from what it holds to a table, in one transaction of what differs; what was done.
    pub(crate) fn bring_to(&mut self, node: usize, desired: Table) -> Transaction {
        let desired = BTreeMap::from([(ID, desired)]);
        let socket = &mut self.0[node];
        let done = socket.update(&[ID], |listed| diff(&desired, listed, Scope::Whole)).unwrap();
        let left = diff(&desired, &socket.list(&[ID]).unwrap(), Scope::Whole);
        assert!(left.is_empty(), "the table is not what it was to become: {left}");
        done
    }

    /// Takes a node's table away.
    pub(crate) fn clear(&mut self, node: usize) {
        self.0[node].update(&[ID], |listed| diff(&BTreeMap::new(), listed, Scope::Whole)).unwrap();
    }
}
