//! From a cluster and the node as observed to everything that is wanted of the node.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_cni::conflist::{self, AgentConflist, Served, Whose};
use selvedge_datapath::Prune;
use selvedge_datapath::attachment;
use selvedge_datapath::converge::{Desired, Forwarder, Observed};
use selvedge_datapath::foreign;
use selvedge_datapath::node::{
    self, Attach, DesiredNode, Facts, LocalNode, UdpSettings, VxlanSettings, WireguardSettings,
};
pub(crate) use selvedge_datapath::peers::Known as Ways;
use selvedge_datapath::peers::{self, Encrypting};
use selvedge_datapath::state::{ObservedLink, Sysctl};
use selvedge_model::{Cluster, IfName, Node, NodeName, PublicKey};
use selvedge_policy::{Netlog, Unknown};
use selvedge_reconcile::Decision;

use crate::config::{self, Config};
use crate::explaining::Decided;
use crate::publishing::Publisher;
use crate::reaching::{self, Reaching};
pub(crate) use policies::{Policed, Policies};
pub(crate) use tables::Tunnels;
use tables::sources;

mod policies;
mod tables;
mod wanted;

/// How long a first listing of the cluster may take before the node goes by what it was served by.
pub(crate) const GRACE: Duration = Duration::from_secs(3);

/// What stays the same as long as the agent runs.
#[derive(Debug)]
pub(crate) struct Setup {
    /// When it was started.
    pub(crate) started: Instant,
    /// The name of our Node.
    pub(crate) node: NodeName,
    /// The configuration.
    pub(crate) config: Config,
    /// The directory of the state.
    pub(crate) run_dir: PathBuf,
    /// The plugin, where the runtimes look for it.
    pub(crate) plugin: PathBuf,
    /// Whether we put it there.
    pub(crate) installs: bool,
    /// What stands for `/proc/sys`.
    pub(crate) sysctls: PathBuf,
    /// Whether the cluster's Pods tell their addresses.
    pub(crate) knows_pods: bool,
    /// Whether tables can be owned by us and outlive us.
    pub(crate) owns_tables: bool,
    /// The kernel's version.
    pub(crate) kernel: (u32, u32),
    /// The program that forwards over UDP; none where somebody else starts it.
    pub(crate) tunnel: Option<PathBuf>,
    /// Whether the kernel has VXLAN.
    pub(crate) has_vxlan: bool,
    /// Whether the kernel has WireGuard.
    pub(crate) has_wireguard: bool,
    /// Whether the kernel can tell of packets.
    pub(crate) netlog: Netlog,
    /// What policy wants, as it was last decided.
    pub(crate) policies: Policies,
    /// Who may speak to the ports of tunnels, as it was last decided.
    pub(crate) tunnels: Tunnels,
    /// The ways to other nodes, as they were last decided.
    pub(crate) ways: Ways,
    /// The same, and what was measured of them.
    pub(crate) reaching: Reaching,
    /// Who tells others our WireGuard key.
    pub(crate) publisher: Publisher,
    /// Who answers those who ask why.
    pub(crate) decided: Decided,
}

impl Setup {
    /// The agent's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    /// Everything that is wanted; the error says what is missing yet. Where no listing of the cluster was complete in
    /// time, a node that has served pods goes on as it did.
    pub(crate) fn decide(
        &mut self,
        known: Option<(&Arc<Cluster>, Prune)>,
        observed: &Observed,
    ) -> Result<Decision, String> {
        if let Some((cluster, prune)) = known {
            // Manifests that could never be read may hold policies; of the API's each is there, in its closed form at least.
            let whole = prune == Prune::Marked || self.knows_pods;
            let policies = whole.then_some(cluster);
            let mut decision = match self.decide_by(Known { cluster, prune, policies }, observed) {
                Err(waiting) => self.decide_as_before(waiting, policies, observed)?,
                Ok(decision) => decision,
            };
            if !whole {
                let kept = "policies and pods stay as the kernel has them: manifests that could never be read may say more";
                decision.problems.push(kept.to_owned());
            }
            return Ok(decision);
        }
        let unknown = "no complete listing of the cluster yet";
        if self.started.elapsed() < GRACE {
            return Err(unknown.to_owned());
        }
        self.decide_as_before(unknown.to_owned(), None, observed)
    }

    /// What a node wants of which the cluster doesn't say what it is to have: what it served pods with, by the policies
    /// that are known. The error is the reason, where it has never served any.
    fn decide_as_before(
        &mut self,
        reason: String,
        policies: Option<&Arc<Cluster>>,
        observed: &Observed,
    ) -> Result<Decision, String> {
        let conflist = observed.conflist.as_deref();
        let served = conflist.and_then(|text| conflist::served(text, &self.config.network));
        let Some(served) = served else { return Err(reason) };
        let known = Known { cluster: &self.adopted(served), prune: Prune::Nothing, policies };
        let mut decision = self.decide_by(known, observed)?;
        decision.problems.push(format!("{reason}: the node serves its pods as it did before"));
        // What it says of the node's addresses may not be there yet after a boot.
        decision.desired.conflist = None;
        Ok(decision)
    }

    /// A cluster of this node alone.
    fn adopted(&self, served: Served) -> Cluster {
        let Served { subnets: pod_cidrs, node_addresses: addresses } = served;
        Cluster::of(Node::new(self.node.clone(), pod_cidrs, addresses))
    }

    fn decide_by(&mut self, known: Known<'_>, observed: &Observed) -> Result<Decision, String> {
        let Known { cluster, prune, policies } = known;
        let local = self.local(observed);
        let takes_ra = takes_ra(cluster, &self.node, observed);
        let bridge_netfilter = attachment::bridge_netfilter(|key| observed.sysctls.get(key).cloned());
        let findings = self.reaching.findings();
        let facts =
            Facts { network: &observed.network, takes_ra: &takes_ra, bridge_netfilter, findings: &findings };
        let node = node::desired_after(&mut self.ways, cluster, (&local, facts));
        let node = node.map_err(|why| why.to_string())?;
        let executable = self.installs || self.plugin.is_file();
        let blocking = node.problems.iter().find(|problem| problem.blocks());
        let missing = (!executable).then(|| format!("the plugin {} isn't there", self.plugin.display()));
        let blocked = missing.or_else(|| blocking.map(ToString::to_string));
        let policed = self.policed(policies, &node, observed);
        let desired = Desired {
            tables: self.tables(&node, known, (observed, &policed)),
            accept: if self.config.forward_accept { foreign::accepting(&sources(&node)) } else { Vec::new() },
            plugin: self.installs,
            conflist: blocked.is_none().then(|| self.conflist(&node)),
            superseded: self.superseded(observed),
            network: node.network.clone(),
            forwarding: node.forwarding.clone(),
            encryption: node.encryption.clone(),
            prune,
        };
        self.reaching.want(&node);
        if let Some(key) = key_to_publish(&desired, observed) {
            self.publisher.publish(key);
        }
        self.decided.put(Arc::clone(&policed), desired.network.routes.clone());
        let problems = node.problems.iter().map(ToString::to_string);
        let (taken, passed_over) = self.rivals(observed, &desired.superseded);
        Ok(Decision {
            wanted: wanted::of(&self.config, &node, &desired),
            problems: problems.chain(taken).collect(),
            notes: passed_over
                .into_iter()
                .chain(reaching::notes(&node.peers, &self.config))
                .chain(self.config.leaves_open())
                .collect(),
            without_pod: if self.knows_pods && prune == Prune::Marked {
                policed.without_pod.clone()
            } else {
                Vec::new()
            },
            admitted: policed.admitted.clone(),
            desired,
            revoker: policies.map(|_| policed.revoker(observed)),
            blocked,
        })
    }

    /// Our node as its owner wants it.
    fn local(&self, observed: &Observed) -> LocalNode {
        LocalNode {
            name: self.node.clone(),
            network: self.config.network.clone(),
            attach: self.config.attach,
            bridge: self.config.bridge.clone(),
            mtu: self.config.mtu,
            transport: self.config.transport,
            vxlan: VxlanSettings {
                vni: self.config.vxlan.vni,
                port: self.config.vxlan.port,
                there: self.has_vxlan,
                offloads: self.kernel >= (5, 8),
            },
            udp: UdpSettings {
                port: self.config.udp.port,
                there: observed.forwarder != Forwarder::Missing
                    || self.tunnel.as_ref().is_some_and(|program| program.is_file()),
            },
            wireguard: WireguardSettings {
                port: self.config.wireguard.port,
                there: self.has_wireguard
                    || observed.wireguard != Forwarder::Missing
                    || self.tunnel.as_ref().is_some_and(|program| program.is_file()),
                key: observed.key.clone(),
                strict: self.config.encryption == config::Encryption::Strict,
            },
        }
    }

    /// What policy wants, and the attachments that are in force with it.
    fn policed(
        &mut self,
        known: Option<&Arc<Cluster>>,
        node: &DesiredNode,
        observed: &Observed,
    ) -> Arc<Policed> {
        let of = policies::Node {
            name: &self.node,
            network: &self.config.network,
            bridge: node.bridged.then_some(&self.config.bridge),
            unknown: self.config.policy.when_agent_down,
            netlog: self.netlog,
        };
        self.policies.decide(known, of, observed)
    }

    /// The files that the conflist was before it got its name.
    fn superseded(&self, observed: &Observed) -> BTreeSet<String> {
        conflist::superseded(&observed.texts, self.config.conflist_name.as_str(), &self.run_dir)
    }

    /// What there is to say of the other configurations: of those that runtimes take, and of those that they pass over.
    fn rivals(&self, observed: &Observed, superseded: &BTreeSet<String>) -> (Vec<String>, Vec<String>) {
        let conflist = self.config.conflist_name.as_str();
        let others = observed.configurations.iter().filter(|name| !superseded.contains(*name));
        let rivals = conflist::rivals(others.map(String::as_str), conflist);
        let is_edited = |name: &String| {
            let text = observed.texts.get(name);
            text.is_some_and(|text| conflist::whose(text, &self.run_dir) == Whose::Agents)
        };
        let taken = rivals.before.iter().map(|name| match is_edited(name) {
            true => format!(
                "runtimes take {name} instead of {conflist}: it is an earlier one of this agent's that was edited; \
                 delete it, or name it by conflistName"
            ),
            false => format!(
                "runtimes take {name} instead of {conflist}, whose name comes later: pods get another network"
            ),
        });
        let passed_over = rivals.after.iter().map(|name| match is_edited(name) {
            true => format!(
                "{name} is an earlier configuration of this agent's that was edited; runtimes pass it over while \
                 {conflist} is there: delete it"
            ),
            false => format!(
                "{name} is another network's configuration; runtimes pass it over while {conflist} is there"
            ),
        });
        (taken.collect(), passed_over.collect())
    }

    fn conflist(&self, node: &DesiredNode) -> String {
        let attach = match self.config.attach {
            Attach::Routed => selvedge_cni::Attach::Routed,
            Attach::Bridge => selvedge_cni::Attach::Bridge { bridge: self.config.bridge.clone() },
        };
        conflist::render(&AgentConflist {
            name: self.config.network.clone(),
            attach,
            subnets: node.pod_cidrs.clone(),
            mtu: node.mtu,
            run_dir: self.run_dir.display().to_string(),
            agent: self.socket().display().to_string(),
            node_addresses: node.addresses.clone(),
            log_file: self.config.log_file.as_ref().map(|path| path.display().to_string()),
            without_agent: self.config.policy.when_agent_down == Unknown::Open,
        })
    }
}

/// What a decision is made by.
#[derive(Clone, Copy)]
struct Known<'a> {
    cluster: &'a Cluster,
    prune: Prune,
    /// The same if its policies are known too.
    policies: Option<&'a Arc<Cluster>>,
}

/// The key by which others are to send to us from now on, or that there is none. Nothing where there will be one as soon
/// as its device holds it: what others know holds on until then, for without a key they may send in the clear.
fn key_to_publish(desired: &Desired, observed: &Observed) -> Option<Option<PublicKey>> {
    let link = observed.network.links.get(&peers::wireguard_device());
    match (&desired.encryption, &observed.wireguard) {
        (None, _) => Some(None),
        (Some(Encrypting::Device(told)), Forwarder::There(Some(_))) if link.is_some_and(|link| link.up) => {
            Some(Some(told.key))
        }
        (Some(_), _) => None,
    }
}

/// The interfaces whose `accept_ra` is wanted 2: those with an address of the node's own, since with forwarding on 1
/// means to ignore router advertisements, and while it is off all that take them, since switching it on would end that.
/// An interface that comes later is left alone: what containers behind somebody's bridge advertise is nobody's wish. 0
/// is a decision and stays.
fn takes_ra(cluster: &Cluster, node: &NodeName, observed: &Observed) -> Vec<IfName> {
    let own = cluster.nodes().get(node).map_or(&[][..], |node| &node.addresses);
    let forwards = observed.sysctls.get(&Sysctl::Ipv6Forward).is_some_and(|on| on == "1");
    let is_uplink = |link: &ObservedLink| link.addresses.iter().any(|a| own.contains(&a.net.addr()));
    let takes = |(key, value): (&Sysctl, &String)| {
        let Sysctl::Ipv6Conf(Some(device), "accept_ra") = key else { return None };
        let link = observed.network.links.get(device).filter(|link| link.hears_routers())?;
        let wanted = if is_uplink(link) { value != "0" } else { value == "1" && !forwards };
        wanted.then(|| device.clone())
    };
    observed.sysctls.iter().filter_map(takes).collect()
}

#[cfg(test)]
mod tests;
