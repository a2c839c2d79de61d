//! The node as a network without an agent needs it: forwarding, the bridge, masquerading, and a way through other
//! people's forward chains. All of it goes with the network's last pod, but for forwarding.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use ipnet::IpNet;
use selvedge_cni::{Attach, CniError, NetConf, code};
use selvedge_datapath::attachment::{self, BridgeSubnet};
use selvedge_datapath::firewall::{self, PLUGIN, PodNetwork};
use selvedge_datapath::foreign::{self, Accept, ForwardChain, Place};
use selvedge_datapath::state::{LinkKind, ObservedLink, ObservedNetwork, Sysctl};
use selvedge_datapath::step::{LinkChange, NetStep};
use selvedge_datapath::{DesiredNetwork, PodAddress, Prune, Seen, plan};
use selvedge_leases::{PATIENCE, Wait, lock_node};
use selvedge_model::mark::{self, REAP_GROUP};
use selvedge_model::{Gather, IfName, Mtu, NetworkName, Owner};
use selvedge_netlink::{RouteSocket, Sysctls};
use selvedge_nft::NftSocket;
use selvedge_ruleset::{Listed, Object, Scope, Table, Transaction, diff};

use crate::{failure, journal};

/// A network that no agent looks after, as one attachment shows it.
#[derive(Debug)]
pub(crate) struct Standalone<'a> {
    conf: &'a NetConf,
    /// The subnets that its pods' addresses are in.
    subnets: Vec<IpNet>,
    /// The gateways, with their subnet's prefix length.
    gateways: Vec<BridgeSubnet>,
    mtu: Mtu,
}

impl<'a> Standalone<'a> {
    /// The network of a configuration without an agent.
    pub(crate) fn new(conf: &'a NetConf, addresses: &[PodAddress], mtu: Mtu) -> Self {
        let subnets = match &conf.ipam {
            selvedge_cni::Ipam::BuiltIn(pools) => pools.ranges.iter().flatten().map(|r| r.subnet).collect(),
            selvedge_cni::Ipam::Delegated(_) => addresses.iter().map(|a| a.net.trunc()).collect(),
        };
        let gateway = |a: &PodAddress| IpNet::new(a.gateway?, a.net.prefix_len()).ok();
        let gateways = addresses.iter().filter_map(gateway).map(|gateway| BridgeSubnet { gateway }).collect();
        Self { conf, subnets, gateways, mtu }
    }

    fn bridge(&self) -> Option<&IfName> {
        match &self.conf.attach {
            Attach::Routed => None,
            Attach::Bridge { bridge } => Some(bridge),
        }
    }

    /// Makes the node as the network needs it. What is so already is left alone, and looked at without a lock: with a
    /// lease in the network nobody takes it away.
    pub(crate) fn prepare(
        &self,
        (route, nft): (&mut RouteSocket, &mut NftSocket),
        wait: &Wait,
    ) -> Result<(), CniError> {
        // One that can't be looked at in peace is looked at with the lock.
        if matches!(self.drift(route, nft), Ok(None)) {
            return Ok(());
        }
        let _lock = lock(&self.conf.run_dir, wait)?;
        let steps = self.net_steps(route)?;
        route
            .apply(&steps, None)
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(|e| failure::of_netlink(&e))?;
        nft.update_rules(&[PLUGIN], |listed| self.transaction(listed)).map_err(|e| failure::of_nft(&e))?;
        accept(nft, &self.conf.name, &self.accepted())
    }

    /// Fails where [`prepare`](Self::prepare) would because of the bridge's name. A link with an address of the network
    /// passes for its bridge: to look closer would be to wait for all links that are being made and deleted.
    pub(crate) fn can_be_prepared(&self, route: &mut RouteSocket) -> Result<(), CniError> {
        let Some(name) = self.bridge() else { return Ok(()) };
        if !route.has_link(name).map_err(|e| failure::of_netlink(&e))? {
            return Ok(());
        }
        if route.has_address_in(name, &self.subnets) {
            return Ok(());
        }
        let link = route.observe_link(name).map_err(|e| failure::of_netlink(&e))?;
        self.desired_bridge(name, link.as_ref()).map(drop)
    }

    /// What isn't as the network needs it, if anything.
    pub(crate) fn drift(
        &self,
        route: &mut RouteSocket,
        nft: &mut NftSocket,
    ) -> Result<Option<String>, CniError> {
        if let Some(step) = self.net_steps(route)?.first() {
            return Ok(Some(step.to_string()));
        }
        let listed = nft.list(&[PLUGIN]).map_err(|e| failure::of_nft(&e))?;
        if let Some(command) = self.transaction(&listed).commands().first() {
            return Ok(Some(format!("nft {command}")));
        }
        let wanted = self.accepted();
        let chains = forward_chains(nft, &self.conf.name)?;
        let wrong = chains.into_iter().find(|chain| chain.ours != foreign::wanted_in(&chain.place, &wanted));
        Ok(wrong.map(|chain| format!("our accept rules at the head of {}", chain.place)))
    }

    fn accepted(&self) -> Vec<Accept> {
        foreign::accepting(&self.subnets)
    }

    fn net_steps(&self, route: &mut RouteSocket) -> Result<Vec<NetStep>, CniError> {
        let sysctls = Sysctls::current();
        let mut desired = attachment::forwarding(&self.subnets, &self.takes_ra(route, &sysctls)?);
        let mut observed = ObservedNetwork::default();
        if let Some(name) = self.bridge() {
            let link = route.observe_link(name).map_err(|e| failure::of_netlink(&e))?;
            desired.merge(self.desired_bridge(name, link.as_ref())?);
            observed.links.extend(link.map(|link| (name.clone(), link)));
        }
        let read = |key: &Sysctl| Some((key.clone(), sysctls.read(key).ok()?));
        let values: BTreeMap<Sysctl, String> = desired.sysctls.keys().filter_map(read).gather();
        Ok(plan(&desired, Seen { network: &observed, sysctls: &values }, Prune::Nothing).steps)
    }

    /// Another network of ours may share the bridge, and somebody else may have made it: it gets what it lacks, and
    /// only a bridge of ours gets anything.
    fn desired_bridge(&self, name: &IfName, link: Option<&ObservedLink>) -> Result<DesiredNetwork, CniError> {
        let mut desired = attachment::bridge(name, &self.conf.name, &self.gateways, self.mtu);
        let Some(wanted) = desired.links.get_mut(name) else { return Ok(desired) };
        wanted.exclusive = false;
        let Some(link) = link else { return Ok(desired) };
        (wanted.mac, wanted.mtu, wanted.alias) = (None, None, None);
        if link.kind != LinkKind::Bridge {
            let message = format!("bridge: {name} is there already and is no bridge");
            return Err(CniError::new(code::CONFIG, message));
        }
        let lacks = wanted.addresses.iter().find(|a| !link.addresses.iter().any(|have| have.net == a.net));
        if let (false, Some(address)) = (mark::is_ours(&link.alias), lacks) {
            let message = format!(
                "bridge: {name} was made by somebody else and lacks {}: add it, or name another bridge",
                address.net
            );
            return Err(CniError::new(code::CONFIG, message));
        }
        Ok(desired)
    }

    /// The interfaces that would stop taking router advertisements when IPv6 forwarding goes on.
    fn takes_ra(&self, route: &mut RouteSocket, sysctls: &Sysctls) -> Result<Vec<IfName>, CniError> {
        let v6 = self.subnets.iter().any(|net| matches!(net, IpNet::V6(_)));
        if !v6 || sysctls.read(&Sysctl::Ipv6Forward).is_ok_and(|on| on == "1") {
            return Ok(Vec::new());
        }
        let observed = route.observe().map_err(|e| failure::of_netlink(&e))?;
        let mut takes = Vec::new();
        for (name, _) in observed.links.into_iter().filter(|(_, link)| link.hears_routers()) {
            let key = Sysctl::Ipv6Conf(Some(name.clone()), "accept_ra");
            if value(sysctls, &key)?.is_some_and(|value| value == "1") {
                takes.push(name);
            }
        }
        Ok(takes)
    }

    fn transaction(&self, listed: &Listed) -> Transaction {
        let network = PodNetwork {
            subnets: &self.subnets,
            direct: &self.conf.network,
            masquerade: self.conf.ip_masq,
            bridge: self.bridge(),
        };
        let table = firewall::standalone(&self.conf.name, network);
        let desired =
            if table.chains.is_empty() { BTreeMap::new() } else { BTreeMap::from([(PLUGIN, table)]) };
        rules_of(&self.conf.name, &desired, listed)
    }
}

/// Whether br_netfilter is in force, as far as that matters to pods attached in this way.
pub(crate) fn bridge_netfilter(conf: &NetConf) -> Result<bool, CniError> {
    if !matches!(conf.attach, Attach::Bridge { .. }) {
        return Ok(false);
    }
    let mut values = BTreeMap::new();
    for key in attachment::BRIDGE_NETFILTER {
        values.extend(value(&Sysctls::current(), &key)?.map(|value| (key, value)));
    }
    Ok(attachment::bridge_netfilter(|key| values.get(key).cloned()))
}

/// What a sysctl says; `None` where there is none, which one that can't be read doesn't show.
fn value(sysctls: &Sysctls, key: &Sysctl) -> Result<Option<String>, CniError> {
    match sysctls.read(key) {
        Err(error) if error.is_gone() => Ok(None),
        value => value.map(Some).map_err(|e| failure::of_netlink(&e)),
    }
}

/// Takes away what [`Standalone::prepare`] made, under whatever name the configuration gives the bridge by now. The
/// caller holds the leases' lock and has seen that there are none.
pub(crate) fn dismantle(
    run_dir: &Path,
    network: &NetworkName,
    (route, nft): (&mut RouteSocket, &mut NftSocket),
) -> Result<(), CniError> {
    let _lock = lock(run_dir, &Wait::most(PATIENCE))?;
    nft.update_rules(&[PLUGIN], |listed| rules_of(network, &BTreeMap::new(), listed))
        .map_err(|e| failure::of_nft(&e))?;
    accept(nft, network, &[])?;
    let observed = route.observe().map_err(|e| failure::of_netlink(&e))?;
    let made = |l: &ObservedLink| l.kind == LinkKind::Bridge && l.alias == mark::device_alias(network);
    for (bridge, _) in observed.links.iter().filter(|(_, link)| made(link)) {
        leave_bridge(bridge, &observed, route)?;
    }
    Ok(())
}

/// Deletes a bridge, or hands it over to another network of ours that has a port in it.
fn leave_bridge(
    bridge: &IfName,
    observed: &ObservedNetwork,
    route: &mut RouteSocket,
) -> Result<(), CniError> {
    let in_use = |link: &&ObservedLink| link.master.as_ref() == Some(bridge) && link.group != REAP_GROUP;
    let ports: Vec<&ObservedLink> = observed.links.values().filter(in_use).collect();
    if ports.is_empty() {
        return route.detach(bridge).map(drop).map_err(|e| failure::of_netlink(&e));
    }
    let Some(owner) = ports.iter().find_map(|port| port.alias.parse::<Owner>().ok()) else { return Ok(()) };
    let change = LinkChange::Alias(mark::device_alias(&owner.network));
    let heir = NetStep::SetLink { name: bridge.clone(), change };
    route.apply_until_failure(&[heir], None).map_err(|e| failure::of_netlink(&e))
}

fn rules_of(
    name: &NetworkName,
    desired: &BTreeMap<selvedge_ruleset::TableId, Table>,
    listed: &Listed,
) -> Transaction {
    let ours = |object: Object<'_>| match object {
        Object::Chain(chain) => firewall::is_chain_of(chain, name),
        Object::Set(_) => false,
    };
    diff(desired, listed, Scope::Part(&ours))
}

/// Makes our rules in other people's forward chains exactly these.
fn accept(nft: &mut NftSocket, network: &NetworkName, rules: &[Accept]) -> Result<(), CniError> {
    for chain in forward_chains(nft, network)? {
        let wanted = foreign::wanted_in(&chain.place, rules);
        if chain.ours == wanted {
            continue;
        }
        match &chain.place {
            Place::Nft(table, name) => {
                nft.set_accept(table, name, network, &wanted).map_err(|e| failure::of_nft(&e))?;
            }
            Place::Legacy(version) => {
                selvedge_xtables::accept(*version, network, &wanted).map_err(|e| failure::of_xtables(&e))?;
            }
        }
    }
    Ok(())
}

/// The forward chains of both kinds of tables.
fn forward_chains(nft: &mut NftSocket, network: &NetworkName) -> Result<Vec<ForwardChain>, CniError> {
    let mut chains = nft.forward_chains(network).map_err(|e| failure::of_nft(&e))?;
    chains.extend(selvedge_xtables::forward_chains(network).map_err(|e| failure::of_xtables(&e))?);
    Ok(chains)
}

/// One process at a time prepares or dismantles the node, or changes who is guarded.
pub(crate) fn lock(run_dir: &Path, wait: &Wait) -> Result<File, CniError> {
    lock_node(run_dir, wait).map_err(|e| journal::failure(&e))
}
