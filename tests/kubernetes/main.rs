//! Selvedge in a real cluster: etcd, a control plane and three nodes with containerd and kubelets, on this machine, in
//! namespaces of its own. `make kubernetes` builds and unpacks what that takes, and runs these tests one by one.
//!
//! - `cluster`, `control`, `node`, `images`, `names`: the cluster; what starts its programs is `selvedge_tests::kubernetes`
//! - `install`, `table`, `pods`: Selvedge as a user installs it, the tutorials' connectivity table, what nodes have
//! - the others: one scenario each
#![cfg(test)]

mod away;
mod cluster;
mod control;
mod e2e;
mod forwarders;
mod images;
mod install;
mod names;
mod node;
mod pods;
mod reboot;
mod roll;
mod scale;
mod table;
mod tutorial;
