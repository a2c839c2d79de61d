//! The nftables tables that the node is to have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use selvedge_datapath::Prune;
use selvedge_datapath::converge::Observed;
use selvedge_datapath::firewall::{self, PodNetwork};
use selvedge_datapath::node::DesiredNode;
use selvedge_datapath::peers;
use selvedge_model::Sorted;
use selvedge_ruleset::{ListedTable, Table, TableId};

use super::{Known, Policed, Setup};
use crate::config::Encryption;

impl Setup {
    /// The tables. Where there may be more nodes than are known, what an earlier listing said of them holds on: their
    /// pods are not masqueraded to, and what goes to them stays encrypted. Where all are known, nobody else speaks to the
    /// ports of tunnels.
    pub(super) fn tables(
        &mut self,
        node: &DesiredNode,
        known: Known<'_>,
        (observed, policed): (&Observed, &Policed),
    ) -> BTreeMap<TableId, Table> {
        let earlier = observed.tables.get(&firewall::AGENT).filter(|_| known.prune == Prune::Nothing);
        let kept = earlier.map(firewall::direct).unwrap_or_default();
        let subnets = sources(node);
        let nodes = node.nodes.iter().copied().map(IpNet::from);
        let exclude = self.config.masquerade.exclude.iter().copied();
        let direct: Vec<IpNet> =
            node.cluster.iter().copied().chain(kept).chain(nodes).chain(exclude).collect();
        let network = PodNetwork {
            subnets: &subnets,
            direct: &direct,
            masquerade: self.config.masquerade.enabled,
            bridge: node.bridged.then_some(&self.config.bridge),
        };
        let mut agent = firewall::agent(network, self.owns_tables).with(&policed.table);
        if let Some(all) = all_nodes(node, known, observed) {
            let ports = [self.config.vxlan.port, self.config.udp.port];
            agent = agent.with(&self.tunnels.guarded(all, &ports, &subnets));
        }
        let encrypted = self.encrypted(node, earlier);
        if !encrypted.is_empty() {
            agent = agent.with(&firewall::encrypted(&encrypted, &peers::wireguard_device(), &subnets));
        }
        let mut tables = BTreeMap::from([(firewall::AGENT, agent)]);
        if node.bridged || !node.ports.is_empty() {
            let ports = node.ports.iter().map(|(name, nets)| (name, nets.as_slice()));
            tables.insert(firewall::GUARD, firewall::guard(ports));
        }
        tables
    }

    /// What nothing goes to in the clear: what is told so, and pods of nodes that may be there yet.
    fn encrypted(&self, node: &DesiredNode, earlier: Option<&ListedTable>) -> BTreeSet<IpNet> {
        if self.config.encryption == Encryption::None {
            return BTreeSet::new();
        }
        let earlier = earlier.map(firewall::kept).unwrap_or_default();
        let told = self.config.cluster_cidrs.iter().map(IpNet::trunc);
        node.encrypted.iter().copied().chain(earlier).chain(told).collect()
    }
}

/// The guard of tunnels as it was last made.
#[derive(Debug, Default)]
pub(crate) struct Tunnels(Option<(Sorted<IpAddr>, Vec<IpNet>, Table)>);

impl Tunnels {
    /// The guard for these nodes, made of the last one where only nodes have changed.
    fn guarded(&mut self, nodes: Sorted<IpAddr>, ports: &[u16], subnets: &[IpNet]) -> Table {
        let table = match self.0.take() {
            Some((then, same, table)) if same == subnets => firewall::tunnels_after(table, &then, &nodes),
            _ => firewall::tunnels(&nodes, ports, subnets),
        };
        self.0 = Some((nodes, subnets.to_vec(), table.clone()));
        table
    }
}

/// The addresses of all nodes; none where there may be more than the cluster and the agent's table know.
fn all_nodes(node: &DesiredNode, known: Known<'_>, observed: &Observed) -> Option<Sorted<IpAddr>> {
    let mut nodes = node.everyone.clone();
    if known.prune == Prune::Nothing {
        nodes.extend(observed.tables.get(&firewall::AGENT).and_then(firewall::nodes)?);
    }
    Some(nodes)
}

/// Where pods of this node send from: its pod CIDRs, and the addresses of pods that were attached under other ones.
pub(super) fn sources(node: &DesiredNode) -> Vec<IpNet> {
    let addresses = node.attachments.iter().flat_map(|(_, owner)| &owner.addresses).map(IpNet::addr);
    let outside = addresses.filter(|address| !node.pod_cidrs.iter().any(|cidr| cidr.contains(address)));
    let outside: BTreeSet<IpNet> = outside.map(IpNet::from).collect();
    node.pod_cidrs.iter().copied().chain(outside).collect()
}
