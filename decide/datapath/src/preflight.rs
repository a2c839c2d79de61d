//! What stands in the way of serving pods, judged before anything is changed.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;
use selvedge_model::mark::{ROUTE_PROTOCOL, is_ours};
use selvedge_model::{IfName, NodeName};

use crate::foreign::{ForwardChain, Place};
use crate::node::Attach;
use crate::state::{LinkKind, ObservedNetwork, Route};

/// What a look at the node showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What the kernel can, each tried.
    pub features: Vec<Tried>,
    /// Links, addresses, routes.
    pub network: ObservedNetwork,
    /// Other people's forward chains that may drop.
    pub forward: Vec<ForwardChain>,
    /// Files and directories, each looked at.
    pub places: Vec<Looked>,
    /// The address for HTTP.
    pub listen: Looked,
    /// Other networks' configurations that runtimes take instead of ours.
    pub taken: Vec<String>,
    /// Those that they pass over.
    pub passed_over: Vec<String>,
    /// The pod CIDRs of the cluster's nodes; none if they have none, or if nobody told.
    pub pod_cidrs: BTreeSet<IpNet>,
    /// Why they aren't known, and how much that matters.
    pub no_cluster: Option<(Verdict, String)>,
    /// The Node that this is to be, if the cluster has none of that name.
    pub no_node: Option<NodeName>,
}

/// How the agent is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// How pods are attached.
    pub attach: Attach,
    /// The bridge's name.
    pub bridge: IfName,
    /// Whether accept rules are put into other people's chains.
    pub forward_accept: bool,
}

/// A feature of the kernel, or something on the disk, and what came of trying it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// What it is.
    pub what: &'static str,
    /// For whom it is needed.
    pub need: Need,
    /// The kernel's answer.
    pub answer: Answer,
}

/// For whom a feature is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Every pod.
    Always,
    /// Where pods are attached to a bridge.
    Bridge,
    /// Pods with IPv6 addresses.
    Ipv6,
    /// What it says: pods can be served without.
    Some(&'static str),
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is there.
    There,
    /// It isn't: the kernel's words.
    Missing(String),
    /// It couldn't be tried, for this reason.
    Untried(String),
}

/// A place, on the disk or to listen at, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What it is for, with its path; or an address.
    pub what: String,
    /// What is wrong; nothing if all is well.
    pub wrong: Option<(Verdict, String)>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// Nothing stands in the way; something is worth knowing.
    Note,
    /// Part of it would not work.
    Warning,
    /// Pods can't be served.
    Blocks,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fine => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Blocks => "BLOCKS",
        })
    }
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub verdict: Verdict,
    /// What it is about.
    pub about: &'static str,
    /// What was found.
    pub found: String,
}

/// The names by which other pod networks' interfaces are known.
const OTHER_NETWORKS: [(&str, &str); 9] = [
    ("cali", "Calico"),
    ("vxlan.calico", "Calico"),
    ("cilium", "Cilium"),
    ("flannel", "flannel"),
    ("weave", "Weave Net"),
    ("kube-bridge", "kube-router"),
    ("antrea-gw", "Antrea"),
    ("ovn-k8s", "OVN-Kubernetes"),
    ("cni", "a bridge of another plugin"),
];

/// What of other networks' interfaces is named, at most.
const NAMED: usize = 5;

/// Judges what was found: what blocks first.
pub fn judge(facts: &Facts, wishes: &Wishes) -> Vec<Finding> {
    let mut findings = features(facts, wishes);
    findings.extend(places(facts));
    findings.push(configurations(facts));
    findings.extend(links(facts, wishes));
    findings.extend(cidrs(facts));
    findings.extend(facts.no_node.iter().map(|node| {
        let text = format!("no Node of the cluster is named {node} yet: the agent waits for it");
        finding(Verdict::Note, "node", text)
    }));
    findings.extend(firewalls(facts, wishes));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    findings
}

fn finding(verdict: Verdict, about: &'static str, found: impl Into<String>) -> Finding {
    Finding { verdict, about, found: found.into() }
}

/// The features that are missing one by one, the others in one line.
fn features(facts: &Facts, wishes: &Wishes) -> Vec<Finding> {
    let asks_ipv6 = facts.pod_cidrs.iter().any(|cidr| matches!(cidr, IpNet::V6(_)));
    let mut findings = Vec::new();
    let mut there = Vec::new();
    for Tried { what, need, answer } in &facts.features {
        let (lacking, serves) = match need {
            Need::Always => (Verdict::Blocks, "pods need it"),
            Need::Bridge if wishes.attach == Attach::Bridge => (Verdict::Blocks, "pods on a bridge need it"),
            Need::Bridge => (Verdict::Note, "attach: bridge would need it"),
            Need::Ipv6 if asks_ipv6 => (Verdict::Blocks, "the pod CIDRs ask for it"),
            Need::Ipv6 => (Verdict::Note, "only IPv4 pods can be served"),
            Need::Some(what) => (Verdict::Warning, *what),
        };
        match answer {
            Answer::There => there.push(*what),
            Answer::Missing(why) => {
                findings.push(finding(lacking, "kernel", format!("no {what} ({why}): {serves}")));
            }
            Answer::Untried(why) => {
                findings.push(finding(Verdict::Note, "kernel", format!("{what} not tried: {why}")));
            }
        }
    }
    if !there.is_empty() {
        findings.push(finding(Verdict::Fine, "kernel", there.join(", ")));
    }
    findings
}

fn places(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts
        .places
        .iter()
        .map(|place| match &place.wrong {
            None => finding(Verdict::Fine, "disk", place.what.clone()),
            Some((verdict, why)) => finding(*verdict, "disk", format!("{}: {why}", place.what)),
        })
        .collect();
    let Looked { what, wrong } = &facts.listen;
    findings.push(match wrong {
        None => finding(Verdict::Fine, "port", what.clone()),
        Some((verdict, why)) => {
            finding(*verdict, "port", format!("{what}: {why}: name another with --listen"))
        }
    });
    findings
}

fn configurations(facts: &Facts) -> Finding {
    match (&facts.taken[..], &facts.passed_over[..]) {
        ([], []) => finding(Verdict::Fine, "CNI", "no other network's configuration"),
        ([], others) => {
            let text =
                format!("{} is there too; runtimes pass it over once ours is there", others.join(", "));
            finding(Verdict::Note, "CNI", text)
        }
        (others, _) => {
            let text = format!(
                "runtimes would take {} instead of ours: remove it, or choose an earlier conflistName",
                others.join(", ")
            );
            finding(Verdict::Blocks, "CNI", text)
        }
    }
}

/// The interfaces of other pod networks; the bridge, if its name is taken.
fn links(facts: &Facts, wishes: &Wishes) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (prefix, whose) in OTHER_NETWORKS {
        let named = |name: &&str| match name.strip_prefix(prefix) {
            // cni0 is one of a plugin's; cnifoo is anybody's.
            Some(rest) if prefix == "cni" => {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
            }
            Some(_) => true,
            None => false,
        };
        let others = facts.network.links.iter().filter(|(_, link)| !is_ours(&link.alias));
        let names: Vec<&str> = others.map(|(name, _)| name.as_str()).filter(named).collect();
        let is_bridge = names.contains(&wishes.bridge.as_str());
        if is_bridge && wishes.attach == Attach::Bridge {
            let text =
                format!("{} was made by somebody else: name another bridge, or remove it", wishes.bridge);
            findings.push(finding(Verdict::Blocks, "second CNI", text));
        } else if !names.is_empty() {
            let more = if names.len() > NAMED { " and more" } else { "" };
            let names = names[..names.len().min(NAMED)].join(", ");
            findings.push(finding(
                Verdict::Warning,
                "second CNI",
                format!("{names}{more}: {whose} is or was here"),
            ));
        }
    }
    let is_taken = facts.network.links.get(&wishes.bridge).is_some_and(|link| {
        let ours = is_ours(&link.alias) && link.kind == LinkKind::Bridge;
        !ours && wishes.attach == Attach::Bridge
    });
    let told = findings.iter().any(|finding| finding.verdict == Verdict::Blocks);
    if is_taken && !told {
        let text = format!("{} was made by somebody else: name another bridge, or remove it", wishes.bridge);
        findings.push(finding(Verdict::Blocks, "second CNI", text));
    }
    findings
}

/// Where the pod CIDRs overlap what the node has already.
fn cidrs(facts: &Facts) -> Vec<Finding> {
    if let Some((verdict, why)) = &facts.no_cluster {
        let text = format!("{why}: overlaps with pod CIDRs can't be told");
        return vec![finding(*verdict, "addresses", text)];
    }
    if facts.pod_cidrs.is_empty() {
        let text = "no Node has a podCIDR: pods get no addresses before kube-controller-manager runs with \
                    --allocate-node-cidrs and --cluster-cidr";
        return vec![finding(Verdict::Warning, "addresses", text)];
    }
    let mut findings = Vec::new();
    for cidr in &facts.pod_cidrs {
        let links = facts.network.links.iter().filter(|(_, link)| !is_ours(&link.alias));
        for (name, link) in links {
            let within = link.addresses.iter().find(|address| cidr.contains(&address.net.addr()));
            if let Some(address) = within {
                let text = format!("pod CIDR {cidr} covers {} of {name}", address.net.addr());
                findings.push(finding(Verdict::Blocks, "addresses", text));
            }
        }
        let routes = facts.network.routes.iter().filter(|route| is_in_the_way(route, cidr, &facts.network));
        findings.extend(routes.map(|route| {
            let text = format!("pod CIDR {cidr} overlaps the route {route}, which is not ours");
            finding(Verdict::Blocks, "addresses", text)
        }));
    }
    if findings.is_empty() {
        let cidrs: Vec<String> = facts.pod_cidrs.iter().take(NAMED).map(ToString::to_string).collect();
        let more = facts.pod_cidrs.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        findings.push(finding(
            Verdict::Fine,
            "addresses",
            format!("nothing overlaps {}{more}", cidrs.join(", ")),
        ));
    }
    findings
}

fn is_in_the_way(route: &Route, cidr: &IpNet, network: &ObservedNetwork) -> bool {
    let by_ours = network.links.get(&route.device).is_some_and(|link| is_ours(&link.alias));
    let overlaps = cidr.contains(&route.destination) || route.destination.contains(cidr);
    route.protocol.0 != ROUTE_PROTOCOL && !by_ours && route.destination.prefix_len() > 0 && overlaps
}

/// The chains that may drop what is forwarded.
fn firewalls(facts: &Facts, wishes: &Wishes) -> Vec<Finding> {
    let is_firewalld = |chain: &ForwardChain| matches!(&chain.place, Place::Nft(table, _) if table.name.as_str() == "firewalld");
    let judged = facts.forward.iter().map(|chain| {
        let place = &chain.place;
        if is_firewalld(chain) {
            let text = format!(
                "{place}: add the pod network to firewalld's trusted zone, whose drops nobody outvotes"
            );
            return finding(Verdict::Warning, "firewall", text);
        }
        if wishes.forward_accept {
            let text =
                format!("{place} may drop forwarded packets: accept rules for pods will be put at its head");
            return finding(Verdict::Note, "firewall", text);
        }
        let text = format!("{place} may drop forwarded packets, and forwardAccept is false");
        finding(Verdict::Warning, "firewall", text)
    });
    let judged: Vec<Finding> = judged.collect();
    if judged.is_empty() {
        return vec![finding(Verdict::Fine, "firewall", "nobody drops forwarded packets")];
    }
    judged
}

#[cfg(test)]
mod tests;
