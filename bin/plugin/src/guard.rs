//! The guard of bridge ports: one element per address of each port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_cni::CniError;
use selvedge_datapath::firewall::{GUARD, guard, guarded};
use selvedge_datapath::state::ObservedLink;
use selvedge_model::mark::REAP_GROUP;
use selvedge_model::{IfName, Owner};
use selvedge_netlink::RouteSocket;
use selvedge_nft::NftSocket;
use selvedge_ruleset::{Listed, Scope, Table, Transaction, diff};

use crate::failure;

/// Lets a port send from its pod's addresses, and from no others; fails if another port does that. Called before the
/// port is up, with the node's lock held since before there was a link of that name.
pub(crate) fn admit(
    (route, nft): (&mut RouteSocket, &mut NftSocket),
    port: &IfName,
    addresses: &[IpNet],
) -> Result<(), CniError> {
    let mut taken = None;
    change(nft, |pairs| {
        pairs.retain(|(name, _)| name != port);
        taken = addresses.iter().find_map(|net| Some((net.addr(), port_with(route, pairs, net.addr())?)));
        if taken.is_none() {
            // Whoever had them before has left more than its name.
            pairs.retain(|(_, old)| !addresses.iter().any(|net| net.addr() == old.addr()));
            pairs.extend(addresses.iter().map(|net| (port.clone(), *net)));
        }
    })?;
    taken.map_or(Ok(()), |(address, holder)| Err(failure::of_taken(address, &holder)))
}

/// Who has an address on a bridge, in words.
pub(crate) fn holder(route: &mut RouteSocket, address: IpAddr) -> Result<Option<String>, CniError> {
    let listed = NftSocket::open().and_then(|mut nft| nft.list(&[GUARD])).map_err(|e| failure::of_nft(&e))?;
    let pairs = listed.get(&GUARD).map(guarded).unwrap_or_default();
    Ok(port_with(route, &pairs, address))
}

/// The port that has an address, in words. An element may be older than the link of its name, whose record tells; one
/// that was never given a record was never up.
fn port_with(route: &mut RouteSocket, pairs: &[(IfName, IpNet)], address: IpAddr) -> Option<String> {
    let mut has = |port: &IfName| match route.observe_link(port) {
        Ok(Some(ObservedLink { group: REAP_GROUP, .. }) | None) => false,
        Ok(Some(link)) => match link.alias.parse::<Owner>() {
            Ok(owner) => owner.addresses.iter().any(|net| net.addr() == address),
            Err(_) => !link.alias.is_empty(),
        },
        Err(_) => true,
    };
    let (port, _) = pairs.iter().find(|(port, net)| net.addr() == address && has(port))?;
    Some(format!("the pod of bridge port {port} has it"))
}

/// Forgets the ports that are no more; the guard goes with the last one. Not DEL's work but the reaper's: a process
/// that deleted elements waits for the kernel to free them when it ends. The caller holds the node's lock, so that no
/// port comes between the look and the change.
pub(crate) fn sweep(route: &mut RouteSocket, nft: &mut NftSocket) -> Result<(), CniError> {
    if nft.list(&[GUARD]).map_err(|e| failure::of_nft(&e))?.is_empty() {
        return Ok(());
    }
    let observed = route.observe().map_err(|e| failure::of_netlink(&e))?;
    let lives = |port: &IfName| observed.links.get(port).is_some_and(|link| link.group != REAP_GROUP);
    change(nft, |pairs| pairs.retain(|(port, _)| lives(port)))
}

/// True if the guard is whole and knows the port by exactly these addresses.
pub(crate) fn knows(nft: &mut NftSocket, port: &IfName, addresses: &[IpNet]) -> Result<bool, CniError> {
    let listed = nft.list(&[GUARD]).map_err(|e| failure::of_nft(&e))?;
    let transaction = towards(&listed, |pairs| {
        pairs.retain(|(name, _)| name != port);
        pairs.extend(addresses.iter().map(|net| (port.clone(), *net)));
    });
    Ok(transaction.is_empty())
}

fn change(nft: &mut NftSocket, mut edit: impl FnMut(&mut Vec<(IfName, IpNet)>)) -> Result<(), CniError> {
    let done = nft.update(&[GUARD], |listed| towards(listed, &mut edit));
    done.map(drop).map_err(|e| failure::of_nft(&e))
}

fn towards(listed: &Listed, edit: impl FnOnce(&mut Vec<(IfName, IpNet)>)) -> Transaction {
    let mut pairs = listed.get(&GUARD).map(guarded).unwrap_or_default();
    edit(&mut pairs);
    let ports = pairs.iter().map(|(port, net)| (port, std::slice::from_ref(net)));
    let wanted = || BTreeMap::from([(GUARD, guard(ports))]);
    let desired: BTreeMap<_, Table> = if pairs.is_empty() { BTreeMap::new() } else { wanted() };
    diff(&desired, listed, Scope::Whole)
}
