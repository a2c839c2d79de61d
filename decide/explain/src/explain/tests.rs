use std::collections::BTreeMap;
use std::net::IpAddr;

use selvedge_datapath::firewall::AGENT;
use selvedge_datapath::reach::Measured;
use selvedge_datapath::state::RouteProtocol;
use selvedge_model::transport::Transport;
use selvedge_model::{IfName, Labels, Listing, Namespace, NetworkName, Node, Owner, Pod, PodTag, Sorted};
use selvedge_policy::{Mode, Policy, PolicyKey, compile, read};
use selvedge_ruleset::after::after;
use selvedge_ruleset::{Scope, diff};
use serde_json::json;

use super::*;

/// Pods of `shop` on two nodes, one of which a policy closes; this is the second node.
pub(crate) struct Site {
    pub(crate) node: NodeName,
    pub(crate) cluster: Cluster,
    pub(crate) local: LocalNode,
    policy: Table,
    routes: Sorted<Route>,
    listed: Listed,
    there: Sorted<Route>,
    findings: Findings,
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// To the pods of the other node.
fn route_to_the_other() -> Route {
    Route {
        destination: "10.244.0.0/24".parse().unwrap(),
        via: Some(address("172.30.0.11")),
        device: "eth0".parse().unwrap(),
        source: None,
        mtu: None,
        onlink: false,
        protocol: RouteProtocol(83),
    }
}

impl Site {
    fn new() -> Self {
        Self::of(Namespace::default(), Mode::Enforced)
    }

    pub(crate) fn of(shop: Namespace, mode: Mode) -> Self {
        let mut listing = Listing::default();
        Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
        listing.namespace("shop", shop);
        for (name, ip, cidr) in
            [("node-a", "172.30.0.11", "10.244.0.0/24"), ("node-b", "172.30.0.12", "10.244.1.0/24")]
        {
            listing.node(Node::new(name.parse().unwrap(), vec![cidr.parse().unwrap()], vec![address(ip)]));
        }
        for (name, node, ip) in [("client", "node-a", "10.244.0.2"), ("web", "node-b", "10.244.1.2")] {
            listing.pod(Pod {
                key: format!("shop/{name}").parse().unwrap(),
                uid: None,
                mirror: None,
                node: Some(node.parse().unwrap()),
                labels: Labels::from_iter([("app".to_owned(), name.to_owned())]),
                addresses: vec![address(ip)],
                host_network: false,
                finished: false,
                ports: Vec::new(),
            });
        }
        let key = PolicyKey { namespace: "shop".to_owned(), name: "deny-all".to_owned() };
        let policy = read(key, &json!({"podSelector": {"matchLabels": {"app": "web"}}})).unwrap();
        listing.policy(Policy { mode, ..policy });
        let mut cluster = Cluster::new(&listing.finish().unwrap());
        let (node, network): (NodeName, NetworkName) =
            ("node-b".parse().unwrap(), "selvedge".parse().unwrap());
        // The second attachment is of a Pod that nobody has shown.
        let owners =
            [("slv1", "web", "10.244.1.2"), ("slv2", "new", "10.244.1.3")].map(|(host, name, ip)| {
                let owner: Owner = format!("selvedge selvedge c-{name}/eth0 {ip}/32").parse().unwrap();
                let tag = PodTag::new(&format!("shop/{name}").parse().unwrap(), None);
                (host.parse::<IfName>().unwrap(), owner.of_pod(Some(tag)))
            });
        let attached = owners.iter().map(|(host, owner)| (host, owner));
        let local = LocalNode::of(&mut cluster, (&node, &network), attached, None);
        let policy = compile(&cluster, &local);
        let made = diff(&BTreeMap::from([(AGENT, policy.clone())]), &Listed::new(), Scope::Whole);
        let listed = after(&Listed::new(), &made).unwrap();
        let routes = Sorted::from([route_to_the_other()]);
        Self {
            node,
            cluster,
            local,
            policy,
            there: routes.clone(),
            routes,
            listed,
            findings: Findings::default(),
        }
    }

    fn explain(&self, from: &str, to: &str, port: Option<u16>) -> Result<Explanation, ExplainError> {
        let query = Query { from: from.to_owned(), to: to.to_owned(), port, protocol: None };
        let view = View {
            node: &self.node,
            cluster: &self.cluster,
            local: &self.local,
            policy: &self.policy,
            routes: &self.routes,
            listed: &self.listed,
            there: &self.there,
            findings: &self.findings,
        };
        explain(&query, view)
    }
}

fn stages(explanation: &Explanation) -> Vec<(Stage, Outcome, &Kernel)> {
    explanation.hops.iter().map(|hop| (hop.stage, hop.outcome, &hop.kernel)).collect()
}

#[test]
fn both_ends_are_judged_and_the_kernel_of_the_own_node_is_asked() {
    let explained = Site::new().explain("shop/client", "shop/web", Some(8080)).unwrap();
    assert!(!explained.allowed);
    let expected = [
        (Stage::Egress, Outcome::Allowed, &Kernel::NotAsked),
        (Stage::Ingress, Outcome::Denied, &Kernel::Agrees),
    ];
    assert_eq!(stages(&explained), expected);
    assert!(
        explained.hops[1].says.starts_with("selected by shop/deny-all; no rule of 1 policy admits client on")
    );
    assert_eq!(
        explained.advice.as_deref(),
        Some("allow from {app=client} of namespace shop on TCP/8080 in a policy that selects shop/web")
    );
    // Its own node and answers' way are open.
    assert!(Site::new().explain("node-b", "shop/web", None).unwrap().allowed);
    let back = Site::new().explain("shop/web", "10.244.0.2", Some(80)).unwrap();
    assert!(back.allowed && back.hops[1].stage == Stage::Route, "{back:?}");
    assert_eq!(back.destination.name, "shop/client");
}

#[test]
fn a_way_to_another_node_is_told_with_what_was_measured_of_it() {
    let mut site = Site::new();
    let mut says = |measured: &[Measured]| {
        for found in measured {
            site.findings.enter(&"node-a".parse().unwrap(), &[(Transport::Direct, *found)]);
        }
        let explained = site.explain("shop/web", "shop/client", Some(80)).unwrap();
        assert!(explained.allowed, "{explained:?}");
        explained.hops[1].says.clone()
    };
    let route = "10.244.0.0/24 via 172.30.0.11 dev eth0 proto 83";
    assert_eq!(says(&[]), route);
    assert_eq!(says(&[Measured::Through { mtu: 1400 }]), format!("{route} (direct, path MTU 1400)"));
    let silent = format!("{route} (direct; nothing comes back from node-a)");
    assert_eq!(says(&[Measured::Silent; 3]), silent);
}

#[test]
fn a_rule_or_a_route_that_somebody_deleted_is_named() {
    let mut site = Site::new();
    let table = site.listed.get_mut(&AGENT).unwrap();
    let (chain, rules) =
        table.chains.iter_mut().find(|(name, _)| name.as_str().starts_with("ingress-")).unwrap();
    let (chain, gone) = (chain.clone(), rules.rules.pop().unwrap());
    let explained = site.explain("shop/client", "shop/web", Some(8080)).unwrap();
    let Kernel::Differs(todo) = &explained.hops[1].kernel else { panic!("{explained:?}") };
    let [step] = &todo[..] else { panic!("{todo:?}") };
    assert!(step.contains(&format!("add rule inet selvedge {chain} {}", gone.rule)), "{step}");
    site.there = Sorted::default();
    let explained = site.explain("shop/web", "shop/client", None).unwrap();
    let Kernel::Differs(todo) = &explained.hops[1].kernel else { panic!("{explained:?}") };
    assert!(todo[0].starts_with("ip route add 10.244.0.0/24 via 172.30.0.11"), "{todo:?}");
}

#[test]
fn a_pod_that_nobody_has_shown_is_said_to_be_isolated() {
    let site = Site::new();
    for (from, to) in [("shop/client", "10.244.1.3"), ("10.244.1.3", "shop/client")] {
        let explained = site.explain(from, to, Some(80)).unwrap();
        let denied = explained.hops.iter().find(|hop| hop.outcome == Outcome::Denied).unwrap();
        assert!(denied.says.contains("isolated until one does") && denied.node == "node-b", "{explained:?}");
    }
    assert!(site.explain("node-b", "10.244.1.3", Some(80)).unwrap().allowed);
    assert!(!site.explain("node-a", "10.244.1.3", Some(80)).unwrap().allowed);
}

#[test]
fn who_is_not_known_is_said() {
    let site = Site::new();
    assert!(matches!(site.explain("shop/nobody", "shop/web", None), Err(ExplainError::Nobody { .. })));
    assert!(matches!(site.explain("shop/client", "fd00::9", None), Err(ExplainError::NoFamily { .. })));
}

#[test]
fn what_a_shadow_would_deny_passes_and_is_said() {
    let site = Site::of(Namespace::default(), Mode::Shadow);
    let explained = site.explain("shop/client", "shop/web", Some(8080)).unwrap();
    assert!(explained.allowed && explained.advice.is_none());
    assert_eq!(
        explained.hops[1].says,
        "no policy selects it (a shadow would deny it: selected by shop/deny-all; no rule of 1 policy admits client \
         on TCP/8080)"
    );
    assert_eq!(explained.hops[1].kernel, Kernel::Agrees);
}

#[test]
fn a_node_is_judged_by_the_address_that_it_sends_from() {
    let mut site = Site::new();
    let from = |site: &Site, from: &str, to: &str| site.explain(from, to, Some(80)).unwrap().source.address;
    assert_eq!(from(&site, "node-a", "shop/web"), "172.30.0.11");
    let mut route = site.routes.first().unwrap().clone();
    site.routes.remove(&route);
    (route.device, route.source) = ("selvedge-vx".parse().unwrap(), Some(address("10.244.1.0")));
    site.routes.insert(route);
    assert_eq!(from(&site, "node-a", "shop/web"), "10.244.0.0");
    assert_eq!(from(&site, "172.30.0.11", "shop/web"), "10.244.0.0");
    assert_eq!(from(&site, "node-b", "shop/client"), "10.244.1.0");
    assert_eq!(from(&site, "node-b", "shop/web"), "172.30.0.12");
}
