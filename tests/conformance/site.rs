//! Nodes without an agent on a segment, with a router and a host beyond it: pods that can be probed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use selvedge_lab::matrix::{Outcome, Probe};
use selvedge_lab::path::{Addresses, Path, PathKind, Protocol};
use selvedge_lab::patience::patience;
use selvedge_lab::plan::{Place, Plan, outside};
use selvedge_lab::probe::{Timing, probe};
use selvedge_lab::shape::{Attach, Count, Family, FamilyChoice, Shape};
use selvedge_lab::topology::Topology;
use selvedge_model::PodKey;
use selvedge_netns::Namespace;
use selvedge_tests::{Answer, Call, Pod, Stage, Traces};
use serde_json::{Value, json};

use crate::config::{after, with};

/// The machines, and the pods on them.
pub(crate) struct Site {
    stage: Stage,
    plan: Plan,
    spaces: BTreeMap<Place, Namespace>,
    addresses: Addresses,
    attached: BTreeMap<Place, Attached>,
    _between: Vec<Namespace>,
}

struct Attached {
    node: usize,
    pod: Pod,
    config: Value,
}

impl Site {
    /// A site of so many nodes, in these families; `None` where none can be made.
    pub(crate) fn new(nodes: u8, family: FamilyChoice) -> Option<Self> {
        let stage = Stage::new()?;
        let (nodes, pods) = (Count::new(nodes).unwrap(), Count::new(0).unwrap());
        let plan = Plan::new(Shape::new(nodes, pods, Attach::Bridge, family));
        let Topology { segments, router, places } = Topology::build(&plan).unwrap();
        let mut addresses: Addresses = plan
            .nodes
            .iter()
            .map(|node| {
                (Place::Node(node.name.clone()), node.addresses.iter().map(|net| net.addr()).collect())
            })
            .collect();
        addresses.insert(Place::Outside, family.families().iter().map(|f| outside(*f).addr()).collect());
        let site = Self {
            stage,
            plan,
            spaces: places,
            addresses,
            attached: BTreeMap::new(),
            _between: segments.into_values().chain([router]).collect(),
        };
        Some(site)
    }

    /// A node as a place.
    pub(crate) fn node(&self, number: usize) -> Place {
        Place::Node(self.plan.nodes[number].name.clone())
    }

    /// The namespace of a place.
    pub(crate) fn space(&self, place: &Place) -> &Namespace {
        &self.spaces[place]
    }

    /// The first address of a place.
    pub(crate) fn address(&self, place: &Place) -> String {
        self.addresses[place][0].to_string()
    }

    /// The addresses of a place, one a family.
    pub(crate) fn addresses(&self, place: &Place) -> Vec<IpAddr> {
        self.addresses[place].clone()
    }

    /// Attaches a pod to a node's network; its place.
    pub(crate) fn attach(&mut self, node: usize, name: &str, config: &Value) -> Place {
        let place = pod(name);
        let config = with(config.clone(), json!({"runDir": self.run_dir(node)}));
        let pod = self.stage.pod();
        let call = Call::new("ADD", config.clone()).of(name, &pod);
        let answer = call.run(self.space(&self.node(node)));
        let result = answer.result().clone();
        let ips = result["ips"].as_array().unwrap().iter().map(|ip| {
            let net: ipnet::IpNet = ip["address"].as_str().unwrap().parse().unwrap();
            net.addr()
        });
        self.addresses.insert(place.clone(), ips.collect());
        self.spaces.insert(place.clone(), pod.namespace().try_clone().unwrap());
        let config = after(&config, &result);
        self.attached.insert(place.clone(), Attached { node, pod, config });
        place
    }

    /// Detaches a pod.
    pub(crate) fn detach(&mut self, place: &Place) {
        self.call("DEL", place).done();
        self.attached.remove(place);
        self.spaces.remove(place);
    }

    /// A call for a pod that is attached.
    pub(crate) fn call(&self, verb: &str, place: &Place) -> Answer {
        let Attached { node, pod, config } = &self.attached[place];
        let Place::Pod(key) = place else { panic!("{place} is no pod") };
        Call::new(verb, config.clone()).of(&key.name, pod).run(self.space(&self.node(*node)))
    }

    /// What is on a node now.
    pub(crate) fn traces(&self, node: usize) -> Traces {
        Traces::on(self.space(&self.node(node)), &self.run_dir(node))
    }

    /// Fails unless a node is as it was.
    pub(crate) fn must_be_back(&self, before: &Traces, node: usize) {
        before.must_be_back_on(self.space(&self.node(node)), &self.run_dir(node));
    }

    /// Fails unless each of these is reached, in every family, by ICMP and TCP, and sees the third's address.
    pub(crate) fn must_reach(&self, paths: &[[&Place; 3]]) {
        self.must_reach_within(paths, Timing::patient());
    }

    /// The same in such a time.
    pub(crate) fn must_reach_within(&self, paths: &[[&Place; 3]], timing: Timing) {
        for Probe { path, expected_source, outcome } in self.probe(paths, timing) {
            let seen = match &outcome {
                Outcome::Reached { seen_source } => Some(*seen_source),
                Outcome::Failed(_) => None,
            };
            assert!(
                seen.is_some() && seen == expected_source,
                "{path}: {outcome:?}, not {expected_source:?}"
            );
        }
    }

    /// Fails if anything of one place reaches the other.
    pub(crate) fn must_not_reach(&self, from: &Place, to: &Place) {
        let timing = Timing { wait: patience(Duration::from_millis(300)), tries: 1 };
        for Probe { path, outcome, .. } in self.probe(&[[from, to, from]], timing) {
            assert!(matches!(outcome, Outcome::Failed(_)), "{path}: {outcome:?}");
        }
    }

    fn probe(&self, paths: &[[&Place; 3]], timing: Timing) -> Vec<Probe> {
        let families: &[Family] = self.plan.shape.family.families();
        let mut all = Vec::new();
        for [from, to, seen_as] in paths {
            let of = |family, protocol| Path {
                pod: PodKey { namespace: "default".to_owned(), name: "any".to_owned() },
                node: self.plan.nodes[0].name.clone(),
                from: (*from).clone(),
                to: (*to).clone(),
                kind: PathKind::Itself,
                family,
                protocol,
                seen_as: (*seen_as).clone(),
            };
            all.extend(
                families.iter().flat_map(|family| [Protocol::Icmp, Protocol::Tcp].map(|p| of(*family, p))),
            );
        }
        probe(&self.spaces, &self.addresses, all, timing).unwrap().cells
    }

    fn run_dir(&self, node: usize) -> PathBuf {
        self.stage.folder().join(format!("node-{node}"))
    }

    /// Names an address that a place has besides, as which others may see it.
    pub(crate) fn also_at(&mut self, name: &str, addresses: &[&str]) -> Place {
        let place = pod(name);
        self.addresses.insert(place.clone(), addresses.iter().map(|a| a.parse().unwrap()).collect());
        place
    }
}

fn pod(name: &str) -> Place {
    Place::Pod(PodKey { namespace: "default".to_owned(), name: name.to_owned() })
}
